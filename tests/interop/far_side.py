"""What every far side of a session shares: its description, what is seen in its RIB, its daemons."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from l3net.lab.host import Host

ROUTER_ID = "10.90.0.2"


@dataclass(frozen=True, slots=True)
class FarSession:
    """One session as the far side has it: `local` is the far side's address, `remote` the node's."""

    local: str
    remote: str
    local_as: int = 65002
    remote_as: int = 65001
    versions: tuple[int, ...] = ()  # IP versions carried; empty: that of the addresses
    password: str = ""
    gtsm: bool = False
    dials: bool = True
    remote_port: int = 179
    multihop: int | None = None
    restart_time: int = 120  # graceful restart, in seconds; 0 for none
    preserves: bool = True  # its forwarding state over a restart (the F bit); BIRD and GoBGP always
    extended: bool = False  # RFC 8950: IPv4 prefixes with IPv6 next hops
    long_lived: int = 0  # GoBGP: long-lived graceful restart (RFC 9494), in seconds; 0 for none
    prepend: int = 0  # BIRD: its AS number this often before the AS_PATH

    @property
    def version(self) -> int:
        return 6 if ":" in self.remote else 4

    @property
    def carried(self) -> tuple[int, ...]:
        return self.versions or (self.version,)


@dataclass(frozen=True, slots=True)
class Originated:
    """A prefix the far side announces. `next_hop` is for a family that is not the session's own.

    `extended`: extended communities in l3net's words, which each far side's configuration has in its own.
    GoBGP gives those of the last one to all that have any.
    """

    prefix: str
    community: str = ""
    next_hop: str = ""
    extended: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        return 6 if ":" in self.prefix else 4


@dataclass(frozen=True, slots=True)
class Seen:
    """A path as it stands in the far side's RIB."""

    next_hop: str
    as_path: tuple[int, ...]
    communities: frozenset[str]
    med: int | None
    local_preference: int | None
    extended: frozenset[str] = frozenset()  # in l3net's words, as far as the far side tells them apart


@dataclass(slots=True)
class FarSide:
    """What all share: the host, the network namespace in it, the daemons started."""

    host: Host
    pod: str | None = None
    daemons: list[str] = field(default_factory=list)

    def spawn(self, name: str, argv: list[str]) -> None:
        self.host.spawn(name, argv, pod=self.pod)
        self.daemons.append(name)

    def run(self, argv: list[str], *, check: bool = True) -> str:
        return self.host.run(argv, pod=self.pod, check=check).stdout

    def kill(self) -> None:
        """As a crash: nothing is said to the peer but what its kernel says."""
        for name in self.daemons:
            self.host.kill(name, signal.SIGKILL)
        self._reap()

    def _reap(self) -> None:
        for name in self.daemons:
            self.wait(lambda name=name: not self.host.alive(name), f"{name} to die")  # type: ignore[misc]
        self.daemons.clear()

    def write(self, name: str, text: str) -> str:
        path = self.host.directory / name
        path.write_text(text)
        path.chmod(0o644)
        return str(path)

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(f"{name}:\n{self.host.log_tail(name)}" for name in self.daemons)
                raise AssertionError(f"waited {seconds:g} s in vain for {what}\n{logs}")
            time.sleep(0.02)

    def path(self, inside: str) -> Path:
        """A path of the host's as this process sees it."""
        return Path(f"/proc/{self.host.pid}/root{inside}")


class Router(Protocol):
    """What the tests do with a far side."""

    kind: str

    def start(
        self,
        sessions: Iterable[FarSession],
        originated: Iterable[Originated],
        *,
        port: int = 179,
        again: bool = False,
    ) -> None:
        """Run it. `again`: after a crash, with the restart bit set in its OPEN (RFC 4724 section 3)."""

    def seen(self, prefix: str) -> Seen | None:
        """The node's path to a prefix, as received."""

    def stale(self, prefix: str) -> bool:
        """Whether the path is one kept for a node that restarts."""

    def notify(self, remote: str) -> None:
        """Reset the session with a NOTIFICATION (Cease)."""

    def kill(self) -> None: ...
