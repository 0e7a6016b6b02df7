"""What is looked at all the while: routers' RIBs and sessions, and the nodes' kernels."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from l3net.errors import L3netError
from l3net.lab.chaos.busy import Busy
from l3net.lab.chaos.fault import Cut, Ribs
from l3net.lab.chaos.ground import Ground
from l3net.lab.chaos.kernel import leases, look, twice, wrong
from l3net.lab.chaos.losses import Happened
from l3net.lab.chaos.step import hosts_of
from l3net.lab.chaos.ways import left
from l3net.lab.expected import difference, expected_ribs
from l3net.lab.ribs import SessionSeen, read_rib, read_sessions, same
from l3net.lab.up import each

#: Seconds after the last change in which routers must hold what is declared, and a node what it should; of a
#: machine that is not busy.
CONVERGE = 20.0
HEAL = 6.0
#: Seconds between looks.
EVERY = 1.0
_NODES_EVERY, _SESSIONS_EVERY = 2.0, 2.0
#: How long after a fault's end a session may still go down by it.
TOUCHED = 20.0


@dataclass(frozen=True, slots=True)
class Flap:
    """A session of a router that is another than it was, seen at `at`, last seen whole at `before`."""

    router: str
    far: str
    before: float
    at: float
    what: str


@dataclass
class Watch:
    """A thread that looks. `active` and `ended` are of whoever carries out the schedule; times are of the
    run."""

    ground: Ground
    clock: Callable[[], float]
    failed: Callable[[float, str], None]
    busy: Busy = field(default_factory=Busy)
    active: dict[int, Happened] = field(default_factory=dict)
    ended: list[Happened] = field(default_factory=list)
    converged: dict[str, list[float]] = field(default_factory=dict)
    flaps: list[Flap] = field(default_factory=list)
    foreign: dict[str, list[str]] = field(default_factory=dict)
    _waiting: list[tuple[str, float]] = field(default_factory=list)
    _changed: float = 0.0
    _told: bool = False
    _sick: dict[str, tuple[float, list[str]]] = field(default_factory=dict)
    _sessions: dict[str, tuple[float, dict[IPv4Address | IPv6Address, SessionSeen]]] = field(
        default_factory=dict
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    def begun(self, number: int, happened: Happened) -> None:
        with self._lock:
            self.active[number] = happened
            self._changed = self.clock()

    def over(self, number: int, happened: Happened) -> None:
        with self._lock:
            self.active.pop(number, None)
            self.ended.append(happened)
            self._changed = self.clock()
            self._waiting.append((happened.fault.name, self._changed))

    def run(self) -> None:
        """Looks until `stop`."""
        next_nodes = next_sessions = 0.0
        while not self._stop.wait(EVERY):
            now = self.clock()
            try:
                self._ribs(now)
                if now >= next_sessions:
                    next_sessions = now + _SESSIONS_EVERY
                    self._look_at_sessions()
                if now >= next_nodes:
                    next_nodes = now + _NODES_EVERY
                    self._look_at_nodes(now)
            except L3netError as err:  # a host in the middle of something
                self._note(f"looking: {err}", now)

    def stop(self) -> None:
        self._stop.set()

    def _note(self, what: str, now: float) -> None:
        """Something that cannot be read is a failure only if it stays so."""
        since, _ = self._sick.setdefault("", (now, [what]))
        if self.busy.elapsed(since, now) > CONVERGE:
            self.failed(now, what)
            self._sick.pop("")

    # --- routers -----------------------------------------------------------------------------------------

    def _ribs(self, now: float) -> None:
        with self._lock:
            active = list(self.active.values())
            changed, waiting = self._changed, list(self._waiting)
        if any(self._unsure(happened, now) for happened in active):
            with self._lock:
                self._changed = max(self._changed, now)
                self._waiting.clear()  # how long those took is not to be told from this one
            return
        differences = self.unlike(active)
        with self._lock:
            if self._changed != changed:
                return  # it was another state that was looked for
            if not differences:
                self._told = False
                self._waiting = [entry for entry in self._waiting if entry not in waiting]
                for name, since in waiting:
                    self.converged.setdefault(name, []).append(max(0.0, now - since))
                return
        if self.busy.elapsed(changed, now) > CONVERGE and not self._told:
            self._told = True
            said = "; ".join(differences[:4])
            self.failed(
                now, f"routers do not have the declared routes, {CONVERGE:g} s after the last change: {said}"
            )

    def _unsure(self, happened: Happened, now: float) -> bool:
        match happened.fault.ribs:
            case Ribs.SAME:
                return False
            case Ribs.ANY:
                return True
            case Ribs.CUT | Ribs.LEFT:
                return self.busy.elapsed(happened.began, now) < happened.fault.noticed

    def unlike(self, active: Iterable[Happened]) -> list[str]:
        """How routers' RIBs differ from what is declared, but for what is cut."""
        topology = self.ground.topology
        cuts: list[Cut] = []
        gone: list[str] = []
        off: set[str] = set()
        for happened in active:
            if happened.fault.ribs is Ribs.LEFT:
                gone.append(happened.step.target)
            elif happened.fault.ribs is Ribs.CUT:
                found = happened.fault.cuts(topology, happened.step.target)
                cuts += found
                off |= {cut.host for cut in found if not cut.far}
        expected = expected_ribs(left(topology, cuts), gone)
        lines: list[str] = []

        def compare(router: str) -> None:
            try:
                seen = read_rib(topology, self.ground.host(router))
            except L3netError as err:
                lines.append(str(err))
                return
            lines.extend(f"{router}: {line}" for line in difference(expected[router], seen))

        each(compare, [router for router in expected if router not in off])
        return sorted(lines)

    def _look_at_sessions(self) -> None:
        topology = self.ground.topology
        for router in topology.routers:
            now = self.clock()
            try:
                seen = read_sessions(topology, self.ground.host(router.name))
            except L3netError:  # it is down: its neighbours tell
                continue
            before, old = self._sessions.get(router.name, (now, {}))
            self._sessions[router.name] = (now, seen)
            now = self.clock()  # what began while it answered may be what it tells of
            hosts = {session.remote: session.remote_host for session in topology.sessions(router.name)}
            self.flaps += [
                Flap(router.name, hosts[far], before, now, f"{old[far].since} > {session.since}")
                for far, session in seen.items()
                if far in old and not same(session, old[far])
            ]

    # --- nodes -------------------------------------------------------------------------------------------

    def _at_work(self, now: float) -> set[str]:
        """Hosts that a fault is at, or was a moment ago."""
        with self._lock:
            ended = self.ended[-12:]
            late = [each_ for each_ in ended if self.busy.elapsed(each_.ended, now) < HEAL]
            found = {host for each_ in (*self.active.values(), *late) for host in hosts_of(each_.step.target)}
        if "declared" in found:
            found |= {node.name for node in self.ground.topology.nodes}
        return found

    def _look_at_nodes(self, now: float) -> None:
        at_work = self._at_work(now)
        for node in self.ground.topology.nodes:
            if node.name in at_work:
                self._sick.pop(node.name, None)
                continue
            found = self.sick(node.name)
            if not found:
                self._sick.pop(node.name, None)
                continue
            since, before = self._sick.get(node.name, (now, found))
            self._sick[node.name] = (since, found)
            lasting = [what for what in found if what in before]
            if lasting and now - since > 0:
                self._sick[node.name] = (now + CONVERGE, found)  # told once in a while
                self.failed(now, f"{node.name}: {'; '.join(lasting[:4])}")

    def sick(self, name: str) -> list[str]:
        """What of the laws does not hold on a node now."""
        node = self.ground.topology.node(name)
        assert node is not None  # noqa: S101 - the caller's names are nodes
        host = self.ground.host(name)
        return wrong(host, look(host), node.blocks, self.foreign.get(name, []))

    def at_end(self, patience: float = CONVERGE) -> None:
        """Everything once more, when all faults are over."""
        began = self.clock()
        while True:
            found = [
                *self.unlike([]),
                *(
                    f"{node.name}: {line}"
                    for node in self.ground.topology.nodes
                    for line in self.sick(node.name)
                ),
                *twice(
                    {node.name: leases(self.ground.host(node.name)) for node in self.ground.topology.nodes}
                ),
            ]
            if not found:
                return
            if self.busy.elapsed(began, self.clock()) > patience:
                self.failed(self.clock(), f"at the end: {'; '.join(found[:6])}")
                return
            time.sleep(EVERY)


def untouched(flaps: Iterable[Flap], happened: Iterable[Happened]) -> list[Flap]:
    """Sessions that went down by no fault that may have."""
    all_ = [each_ for each_ in happened if each_.fault.touches]
    return [
        flap
        for flap in flaps
        if not any(
            each_.began <= flap.at
            and flap.before <= each_.ended + TOUCHED
            and _concerns(hosts_of(each_.step.target), flap)
            for each_ in all_
        )
    ]


def _concerns(hosts: tuple[str, ...], flap: Flap) -> bool:
    pair = {flap.router, flap.far}
    return set(hosts) <= pair if len(hosts) > 1 else bool(pair & set(hosts))
