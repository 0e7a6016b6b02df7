"""Other processes of a node, its files, and who is asked before a pod is wired."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Protocol

from l3net.bgp.drain import DrainRecord
from l3net.history.entry import Entry
from l3net.model import Route
from l3net.policy.attached import Attached
from l3net.ports.kernel import RouteKey


class Stream(Protocol):
    """A connection to another process of this node, made again whenever it ends."""

    @property
    def up(self) -> bool: ...

    def send(self, data: bytes) -> None:
        """Queue bytes; dropped without a connection: `connected` says all anew."""
        ...

    def send_line(self, line: str) -> None:
        """Queue a line of ASCII."""
        ...

    async def run(self) -> None:
        """Until cancelled."""
        ...


class Connect(Protocol):
    """Makes a Stream: `connected` is called with each new connection, `received` with bytes, `lost` when it
    ends."""

    def __call__(
        self, connected: Callable[[], None], received: Callable[[bytes], None], lost: Callable[[], None]
    ) -> Stream: ...


class SpeakerFiles(Protocol):
    """ExaBGP's configuration on disk, and its sign of life."""

    @property
    def relay(self) -> Sequence[str]:
        """The relay as ExaBGP runs it."""
        ...

    @property
    def unconfirmed(self) -> bool:
        """Whether the file was replaced and ExaBGP has not been seen to take it."""
        ...

    def confirm(self) -> None: ...

    def alive(self) -> bool:
        """Whether a speaker of this release has ever answered."""
        ...

    def current(self) -> str | None:
        """Raises ConfigError."""
        ...

    async def refused(self, head: str, blocks: Sequence[str]) -> frozenset[str]:
        """Which blocks ExaBGP itself refuses to read. Raises SpeakerError."""
        ...

    async def replace(self, text: str) -> None:
        """Whole or not at all. Raises SpeakerError."""
        ...


class DrainMemory(Protocol):
    """Who wants the node to leave, and how far it has come: kept over an agent's restart."""

    def now(self) -> float:
        """Seconds since boot, time asleep included."""
        ...

    def asked(self) -> bool:
        """Whether somebody wants the node to leave."""
        ...

    async def touched(self) -> None:
        """Until somebody may want something else. Who looks by `asked` just before misses nothing."""
        ...

    def read(self) -> DrainRecord | None: ...

    def write(self, record: DrainRecord | None) -> None:
        """Raises L3netError."""
        ...


class RouteMemory(Protocol):
    """The routes that the last agent of this boot wanted in the kernel."""

    def read(self) -> Mapping[RouteKey, Route]: ...

    def write(self, routes: Mapping[RouteKey, Route]) -> None:
        """Raises L3netError."""
        ...


class HistoryMemory(Protocol):
    """What was decided on the node, kept over an agent's restart, and the clock it is dated by."""

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    def read(self) -> Sequence[Entry]:
        """The oldest first; nothing if it cannot be read."""
        ...

    def append(self, entries: Iterable[Entry]) -> None:
        """Raises L3netError."""
        ...


class Process(Protocol):
    """What the kernel says of this process: bytes and seconds."""

    @property
    def pid(self) -> int: ...

    def peak_memory(self) -> int:
        """The most that was resident at once."""
        ...

    def resident(self) -> int:
        """Now."""
        ...

    def cpu_seconds(self) -> float: ...

    def uptime(self) -> float: ...

    def started_at(self) -> float:
        """In seconds since 1970."""
        ...


class Admission(Protocol):
    """Who has a say before a pod is wired: the policies for it. From any thread."""

    def admit(self, key: str, attached: Attached, uid: str) -> Future[str] | None:
        """An attachment that is about to be made; `uid` is the pod's, empty if the runtime does not say.

        None: there is nothing to wait for. The future's result says why it may not be made, empty if all
        that is for it is in force.
        """
        ...

    def release(self, key: str) -> None:
        """An attachment that is gone; unknown is well."""
        ...
