"""Keeps the guard of the pods' ports: what each may send from is in the kernel before its port is, and is put
back when somebody takes it away."""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from l3net.cni.guard import Allowed, Element, GuardedPort, closed, elements, of_port
from l3net.cni.guardrules import script
from l3net.errors import KernelError, RefusedError
from l3net.shell.threads import REAL, Threads

if TYPE_CHECKING:
    from l3net.shell.kernel.nftguard import Shape

log = logging.getLogger(__name__)

#: How often the table is replaced until nobody else's transaction came between.
_TRIES: Final = 3
#: Its name in the status.
PART: Final = "anti-spoofing"


class GuardTable(Protocol):
    """The table in the kernel (shell.kernel.nftguard)."""

    @property
    def port(self) -> int: ...

    def run(self, script: str) -> None: ...

    def change(self, put: Collection[Element], delete: Collection[Element] = ()) -> None: ...

    def elements(self) -> frozenset[Element] | None: ...

    def shape(self) -> Shape | None: ...

    def generation(self) -> int: ...

    def has_link(self, name: str) -> bool: ...

    def close(self) -> None: ...


class Guard:
    """Thread-safe. What is wanted is known here; the kernel is brought to it.

    A port that goes is closed before it is forgotten: as long as there is such a link, nothing passes it.
    """

    def __init__(self, table: GuardTable, threads: Threads = REAL) -> None:
        self._table = table
        self._lock = threads.lock()
        self._ports: dict[str, GuardedPort] = {}
        self._closed: set[str] = set()
        #: Whether the ports that were there before are known: without them the table is left as it is.
        self.begun = False
        self._allowed = Allowed()
        self._generation = -1  # the kernel's count of transactions at the last look
        self._shape: Shape | None = None  # as made; None: not known to be as wanted
        self.unguarded: tuple[str, ...] = ()  # pods' ports of which not enough is known

    def close(self) -> None:
        self._table.close()

    @property
    def port(self) -> int:
        """The netlink port by which this process's own changes of elements are told from others'."""
        return self._table.port

    def start(self, ports: Iterable[GuardedPort], unguarded: Iterable[str] = ()) -> None:
        """Guard what is attached: the table with all of it, in one transaction. Raises KernelError.

        A table that an agent before has left keeps its sets, so that what passes does so all the while.
        """
        with self._lock:
            self._ports = {each.name: each for each in ports}
            self.unguarded, self.begun = tuple(unguarded), True
            shape = self._table.shape()
            self._replace(anew=shape is None or not shape.ours)

    def know(self, ports: Iterable[GuardedPort], unguarded: Iterable[str]) -> None:
        """Ports of which the MAC could not be told before, and those of which it still cannot."""
        for each in ports:
            with self._lock:
                if each.name in self._ports or each.name in self._closed:
                    continue
                self._put(each)
            if not self._table.has_link(each.name):  # it went meanwhile
                self.forget(each.name)
        self.unguarded = tuple(unguarded)

    def put(self, port: GuardedPort) -> None:
        """Guard a port, there or to come. On an error nothing has changed. Raises KernelError."""
        with self._lock:
            if not self.begun:
                raise KernelError("which pods' ports there are is not known yet", errno.EAGAIN)
            self._put(port)

    def close_port(self, name: str) -> None:
        """Let nothing pass a port that goes, until `sweep` finds it gone. Raises KernelError."""
        with self._lock:
            port = self._ports.pop(name, None)
            if port is not None:
                self._closed.add(name)
                self._delete(self._of(port) - {closed(name)})

    def forget(self, name: str) -> None:
        """Forget a port whose link is gone. Raises KernelError."""
        with self._lock:
            port = self._ports.pop(name, None)
            if port is not None or name in self._closed:
                self._closed.discard(name)
                self._delete(self._of(port) if port is not None else frozenset({closed(name)}))

    def lose(self, names: Iterable[str]) -> None:
        """Have ports forgotten by `sweep` when their links are gone; till then nothing passes them."""
        for name in names:
            self.close_port(name)

    def _delete(self, gone: frozenset[Element]) -> None:
        """What is not there is none the worse: then whoever took it away is undone by `mend`."""
        try:
            self._change((), gone)
        except KernelError as err:
            if err.code != errno.ENOENT:
                raise
            self._mend_elements()

    def sweep(self) -> None:
        """Forget the closed ports whose links are gone. In a thread of the namespace. Raises KernelError."""
        with self._lock:
            gone = {name for name in self._closed if not self._table.has_link(name)}
            self._closed -= gone
            if gone:
                self._delete(frozenset(map(closed, gone)))

    def allow(self, allowed: Allowed) -> None:
        """Exchange what pods may send from beside their own addresses, as a whole. Raises KernelError."""
        with self._lock:
            if allowed == self._allowed:
                return
            before = self._wanted()
            self._allowed = allowed
            now = self._wanted()
            if self._shape is not None and now != before:
                try:
                    self._change(now - before, before - now)
                except KernelError:  # the next look brings it there
                    self._mend()

    def mend(self) -> bool:
        """Look whether all is in the kernel as wanted, and put it back; whether it was not. KernelError.

        Nothing is looked at while there was no transaction at all.
        """
        with self._lock:
            now = self._table.generation()
            if now == self._generation and self._shape is not None:
                return False
            mended = self._mend()
            self._generation = -1 if mended else now  # somebody may have been there at once
            return mended

    def _mend(self) -> bool:
        shape = self._table.shape()
        if shape is None or shape != self._shape:
            log.warning("the nftables table of %s is not as it was left; it is put back", PART)
            self._replace(anew=True)
            return True
        return self._mend_elements()

    def _mend_elements(self) -> bool:
        seen, wanted = self._table.elements(), self._wanted()
        if seen is None:
            self._replace(anew=True)
        elif seen != wanted:
            log.warning("elements of %s are not as they were left; they are put back", PART)
            self._change(wanted - seen, seen - wanted)
        return seen != wanted

    def missing(self, port: GuardedPort) -> list[str]:
        """What a port lacks in the kernel, in words. Raises KernelError."""
        with self._lock:
            seen, wanted = self._table.elements(), elements(port, self._allowed.of(port))
        if seen is None:
            return [f"the table of {PART} is missing"]
        lacking = wanted - of_port(seen, port.name)
        return [f"{PART}: {len(lacking)} elements of {port.name} are missing"] if lacking else []

    @property
    def ports(self) -> Mapping[str, GuardedPort]:
        return dict(self._ports)

    # --- under the lock ----------------------------------------------------------------------------------

    def _put(self, port: GuardedPort) -> None:
        before, wanted = self._ports.get(port.name), self._of(port)
        if self._shape is not None:
            try:
                self._change(wanted, self._of(before) - wanted if before is not None else ())
            except KernelError as err:
                if err.code != errno.ENOENT:
                    raise
                log.warning("the nftables table of %s is gone; it is put back", PART)
                self._shape = None
        self._ports[port.name] = port
        self._closed.discard(port.name)
        if self._shape is None:
            try:
                self._replace(anew=True)
            except KernelError:
                del self._ports[port.name]
                if before is not None:
                    self._ports[port.name] = before
                raise

    def _change(self, put: Collection[Element], delete: Collection[Element] = ()) -> None:
        """One transaction of elements. One that fails may have been carried out: the next look tells."""
        try:
            self._table.change(put, delete)
        except KernelError:
            self._generation = -1
            raise

    def _of(self, port: GuardedPort) -> frozenset[Element]:
        return elements(port, self._allowed.of(port))

    def _wanted(self) -> frozenset[Element]:
        found = {closed(name) for name in self._closed}
        for port in self._ports.values():
            found |= self._of(port)
        return frozenset(found)

    def _replace(self, *, anew: bool) -> None:
        """The table with all elements, in one transaction."""
        self._shape, wanted = None, self._wanted()
        for _ in range(_TRIES):
            before = self._table.generation()
            try:
                self._table.run(script(wanted, anew=anew))
            except RefusedError:  # of another release, its sets are of another kind
                if anew:
                    raise
                self._table.run(script(wanted, anew=True))
            shape = self._table.shape()
            if self._table.generation() == before + 1:
                break  # otherwise it may be what somebody else has made of it meanwhile
        self._shape = shape
        if seen := self._table.elements():
            self._change((), seen - wanted)
