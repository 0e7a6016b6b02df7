"""Links and what hangs on them: who reaches whom over wires that are there, whatever anybody routes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from l3net.model import Address, Prefix
from world.routers import Router, RouterSide
from world.sessions import Session


@dataclass
class Segment:
    """A link that two or more share. `down`: whose port has no carrier; `deaf`: whose port hears nothing.
    `holes`: which sender's frames to which receiver are lost on the way."""

    name: str
    subnets: tuple[Prefix, ...]
    members: dict[str, tuple[Address, ...]] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    holes: set[tuple[str, str]] = field(default_factory=set)

    def carries(self, sender: str, receiver: str) -> bool:
        """Whether a frame of one reaches the other."""
        there = sender not in self.down and receiver not in self.down and receiver not in self.deaf
        return there and (sender, receiver) not in self.holes


class Fabric:
    """Routers, segments and sessions. `alive` says whether a machine that is no router has power."""

    def __init__(self, alive: Callable[[str], bool]) -> None:
        self.routers: dict[str, Router] = {}
        self.segments: dict[str, Segment] = {}
        self.sessions: list[Session] = []
        self.owners: dict[Address, tuple[str, Segment]] = {}
        self.of: dict[str, list[Segment]] = {}
        self._gateways: list[tuple[Segment, tuple[Address, ...]]] = []
        self._alive = alive
        self._reached: dict[str, frozenset[str]] = {}

    def segment(self, name: str, *subnets: str) -> Segment:
        found = Segment(name, tuple(map(ip_network, subnets)))
        self.segments[name] = found
        return found

    def attach(self, device: str, segment: Segment, *addresses: str) -> None:
        found = tuple(map(ip_address, addresses))
        segment.members[device] = found
        self.of.setdefault(device, []).append(segment)
        for address in found:
            self.owners[address] = device, segment

    def add_gateway(self, segment: Segment, *addresses: str) -> None:
        """Addresses that the first living router of a link has."""
        self._gateways.append((segment, tuple(map(ip_address, addresses))))

    def router(self, router: Router) -> Router:
        self.routers[router.name] = router
        return router

    def link_routers(self, one: Router, other: Router, segment: Segment, hold: float) -> None:
        """An eBGP session of each family."""
        for first in segment.members[one.name]:
            second = next(each for each in segment.members[other.name] if each.version == first.version)
            session = Session(
                f"{one.name}-{other.name}-{first.version}",
                lambda: self.adjacent(one.name, other.name, segment),
                hold,
            )
            left = RouterSide(one, session, first, restart=120)
            right = RouterSide(other, session, second, restart=120)
            session.sides = left, right
            one.sides.append(left)
            other.sides.append(right)
            self.sessions.append(session)

    # --- who reaches whom --------------------------------------------------------------------------------

    def alive(self, device: str) -> bool:
        router = self.routers.get(device)
        return router.alive if router is not None else self._alive(device)

    def adjacent(self, one: str, other: str, segment: Segment) -> bool:
        """Whether frames pass both ways."""
        return (
            self.alive(one)
            and self.alive(other)
            and segment.carries(one, other)
            and segment.carries(other, one)
        )

    def reaches(self, one: str, other: str) -> bool:
        """Whether there is a way over living links and routers."""
        found = self._reached.get(one)
        if found is None:
            found = self._reached[one] = frozenset(self._spread(one))
        return other in found

    def _spread(self, begin: str) -> Iterator[str]:
        if not self.alive(begin):
            return
        seen, edge = {begin}, [begin]
        while edge:
            at = edge.pop()
            yield at
            router = self.routers.get(at)
            if at != begin and (router is None or not router.forwards):
                continue  # nodes carry nobody's packets
            for segment in self.of.get(at, ()):
                for other in segment.members:
                    if other not in seen and other != at and self.adjacent(at, other, segment):
                        seen.add(other)
                        edge.append(other)

    def _serves_as_gateway(self, name: str, segment: Segment) -> tuple[bool, bool, int]:
        """Routers watch what they are a gateway for: the one that forwards and reaches most is it."""
        whole = not any(name in hole for hole in segment.holes)
        return self.routers[name].forwards, whole, sum(self.reaches(name, other) for other in self.routers)

    def changed(self) -> None:
        """Wires, power or processes."""
        self._reached.clear()
        for segment, addresses in self._gateways:
            members = [name for name in segment.members if name in self.routers and name not in segment.down]
            if members:
                best = max(members, key=lambda name: self._serves_as_gateway(name, segment))
                self.owners.update(dict.fromkeys(addresses, (best, segment)))
        for session in self.sessions:
            session.look()

    def connected(self, device: str) -> Iterable[Segment]:
        """The links of a device that have a carrier."""
        return (each for each in self.of.get(device, ()) if device not in each.down)
