"""Routers: eBGP with everybody, multipath, graceful restart as one who helps and as one who restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import ip_network

from l3net.model import Address, Prefix
from world.sessions import End, Path, Session

GRACEFUL_SHUTDOWN = "65535:0"
#: Seconds that a router that restarted waits for its peers' End-of-RIB at most.
DEFERRED = 60.0


class RouterSide:
    """A router's end of a session."""

    def __init__(self, router: Router, session: Session, address: Address, *, restart: int) -> None:
        self.router, self.session = router, session
        self.address = address  # of the router on this session
        self.restart = restart  # seconds that the other side's routes are kept; 0: it does not ask for it
        self.learned: dict[Prefix, Path] = {}
        self.said: dict[Prefix, Path] = {}
        self._swept: asyncio.TimerHandle | None = None
        self.waiting = False  # for its End-of-RIB
        self.told: Callable[[RouterSide, Prefix, Path | None], None] = lambda *_: None  # before it is taken
        self.began: Callable[[RouterSide], None] = lambda _: None
        self.swept: Callable[[RouterSide, list[Prefix]], None] = lambda *_: None

    @property
    def name(self) -> str:
        return self.router.name

    @property
    def far(self) -> str:
        """The name of the other end."""
        return next(side.name for side in self.session.sides if side is not self)

    @property
    def ready(self) -> bool:
        return self.router.running

    @property
    def bfd(self) -> bool:
        return self.router.bfd

    @property
    def bfd_closes(self) -> bool:
        return self.bfd

    def opened(self) -> None:
        self.said.clear()
        self.began(self)
        self.router.opened(self)

    def closed(self, how: End) -> None:
        if how is End.LOST and self.restart and self.router.helps:
            self.learned = {prefix: _stale(path) for prefix, path in self.learned.items()}
            if self._swept is None:
                self._swept = asyncio.get_running_loop().call_later(self.restart, self._sweep, None)
        else:
            self._forget(list(self.learned))
        self.waiting = False
        self.router.look_whether_settled()

    def _sweep(self, version: int | None) -> None:
        """Stale routes go, of one family or all."""
        if version is None:
            self._swept = None
        gone = [
            prefix
            for prefix, path in self.learned.items()
            if path.stale and version in (None, prefix.version)
        ]
        self._forget(gone)

    def _forget(self, prefixes: list[Prefix]) -> None:
        for prefix in prefixes:
            self.learned.pop(prefix, None)
        self.router.changed(prefixes)

    def hears(self, prefix: Prefix, path: Path | None) -> None:
        self.told(self, prefix, path)
        if path is None or self.router.as_number in path.as_path:
            self.learned.pop(prefix, None)
        else:
            self.learned[prefix] = path
        self.router.changed([prefix])

    def hears_end(self, version: int) -> None:
        of_family = [prefix for prefix in self.learned if prefix.version == version]
        self.swept(self, [prefix for prefix in of_family if self.learned[prefix].stale])
        self._sweep(version)
        if not any(path.stale for path in self.learned.values()):
            if self._swept is not None:
                self._swept.cancel()
            self._swept = None
        self.waiting = False
        self.router.look_whether_settled()

    def path_is(self, *, up: bool) -> None:
        """The path to a peer that restarts fails: it is more than that (RFC 5882 section 4.3.2)."""
        if not up and self.router.running and not self.session.up:
            self._forget([prefix for prefix, path in self.learned.items() if path.stale])

    def tell(self, prefix: Prefix, path: Path | None) -> None:
        """Announce or withdraw, if that is news."""
        if not self.session.up:
            return
        if path is None:
            if self.said.pop(prefix, None) is not None:
                self.session.says(self, prefix, None)
        elif self.said.get(prefix) != path:
            self.said[prefix] = path
            self.session.says(self, prefix, path)


def _stale(path: Path) -> Path:
    return replace(path, stale=True)


class Router:
    """`own`: what it announces of itself. `fib`: prefix to next hops, beside its links."""

    def __init__(self, name: str, as_number: int, *, helps: bool = True, bfd: bool = False) -> None:
        self.name, self.as_number = name, as_number
        self.helps, self.bfd = helps, bfd
        self.running = True  # its BGP
        self.alive = True  # the machine
        self.sides: list[RouterSide] = []
        self.own: set[Prefix] = set()
        self.fib: dict[Prefix, frozenset[Address]] = {}
        self.deferring = False  # it has restarted, and forwards by what it had
        self.slow = 0.0  # seconds until it says to a session that came up what it has
        self.changes = 0  # of what it forwards by
        self.kept_waiting: Callable[[list[RouterSide]], None] = lambda _: (
            None
        )  # by these, until it was too long

    @property
    def forwards(self) -> bool:
        return self.alive and (self.running or self.deferring)

    # --- restarts ----------------------------------------------------------------------------------------

    def stop(self, *, gracefully: bool) -> None:
        """Its BGP ends; `gracefully`: its routes stay in its forwarding table, and it asks for the same."""
        self.running = False
        for side in self.sides:
            side.learned.clear()
            side.session.close(End.LOST if gracefully else End.NOTIFIED, by=side)
        if not gracefully:
            self.fib.clear()
            self.changes += 1
        self.deferring = gracefully

    def start(self) -> None:
        self.running = True
        if self.deferring:
            for side in self.sides:
                side.waiting = True
            asyncio.get_running_loop().call_later(DEFERRED, self._settles)
        for side in self.sides:
            side.session.look()

    def look_whether_settled(self) -> None:
        if self.deferring and self.running and not any(side.waiting for side in self.sides):
            self._settles()

    def _settles(self) -> None:
        if self.deferring and self.running:
            self.deferring = False
            self.kept_waiting([side for side in self.sides if side.waiting and side.session.up])
            for side in self.sides:
                side.waiting = False
            self.changed({*self.fib, *self.own, *(each for side in self.sides for each in side.learned)})
            for side in self.sides:
                self._end(side)

    # --- decisions ---------------------------------------------------------------------------------------

    def opened(self, side: RouterSide) -> None:
        if self.deferring:
            side.waiting = True
        elif self.slow:
            asyncio.get_running_loop().call_later(self.slow, self._says_all, side)
        else:
            self._says_all(side)

    def _says_all(self, side: RouterSide) -> None:
        if self.deferring or not self.running:
            return
        for prefix in sorted({*self.own, *self.fib}, key=str):
            self._tell(side, prefix)
        self._end(side)

    @staticmethod
    def _end(side: RouterSide) -> None:
        if side.session.up:
            for version in (4, 6):
                side.session.ends(side, version)

    def announce(self, prefix: str, *, gone: bool = False) -> None:
        """A network of its own, from now on or no longer."""
        found = ip_network(prefix)
        (self.own.discard if gone else self.own.add)(found)
        self.changed([found])

    def changed(self, prefixes: Iterable[Prefix]) -> None:
        """What was learned of these may be other than before."""
        if self.deferring or not self.running:
            return
        for prefix in prefixes:
            best = self.best(prefix)
            hops = frozenset(path.hop for _, path in best)
            if hops != self.fib.get(prefix, frozenset()):
                if hops:
                    self.fib[prefix] = hops
                else:
                    del self.fib[prefix]
                self.changes += 1
            for side in self.sides:
                self._tell(side, prefix)

    def best(self, prefix: Prefix) -> list[tuple[RouterSide, Path]]:
        """The paths that share the traffic, the first of which is told on."""
        found = [(side, side.learned[prefix]) for side in self.sides if prefix in side.learned]
        if not found or prefix in self.own:
            return []

        def rank(path: Path) -> tuple[int, int]:
            return (0 if GRACEFUL_SHUTDOWN in path.communities else path.preference, -len(path.as_path))

        highest = max(rank(path) for _, path in found)
        return [(side, path) for side, path in found if rank(path) == highest]

    def _tell(self, side: RouterSide, prefix: Prefix) -> None:
        if prefix.version != side.address.version:
            return
        if prefix in self.own:
            side.tell(prefix, Path(side.address, (self.as_number,)))
            return
        best = self.best(prefix)
        if not best or any(each is side for each, _ in best):
            side.tell(prefix, None)
            return
        path = best[0][1]
        side.tell(prefix, Path(side.address, (self.as_number, *path.as_path), 100, path.communities))
