"""The network stack of a simulated node, as a packet meets it: hooks, tracking, translation, routes, pods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from sim_node import SimKernel, SimNode

from l3net.model import Address, EgressWay
from l3net.naming import BRIDGE, EGRESS_MARKS, ENVELOPE
from packets import choices as chance
from packets.chains import chain_verdict
from packets.conntrack import Conntrack, Noted
from packets.meeting import Meeting
from packets.outcomes import Delivered, Dropped, Effects, Forwarded, Lost, Outcome, Rejected
from packets.packet import Packet
from packets.routes import Fib, FoundRoute, Hop, address
from packets.statements import REJECT
from packets.table import CHAIN, TRACKING, SimTable
from packets.tracking import track, translate
from packets.values import RELATED, UNTRACKED

Made = TypeVar("Made", bound=Outcome)
#: The hooks where sources are translated.
_AFTER = ("input", "postrouting")


class SimStack:
    """A node's stack. `receive` and `send` tell what may become of a packet and change nothing; `take` has
    one of these happen. `exact`: hashes are calculated, not left open. `pods`: the key of each by address;
    `ways`: those of packets with a mark. `drawn`: the port that chance draws for a source (0: any)."""

    def __init__(
        self,
        kernel: SimKernel,
        tables: Callable[[], SimTable],
        pods: Callable[[], Mapping[Address, str]],
        *,
        ways: Callable[[], Collection[EgressWay]] = frozenset,
        tracking: Callable[[], Conntrack] | None = None,
        now: Callable[[], float] = lambda: 0.0,
        exact: bool = False,
    ) -> None:
        self._kernel, self._tables, self._pods, self._now = kernel, tables, pods, now
        self._ways = ways
        self.drawn = 0
        own = Conntrack()
        self._tracking = tracking or (lambda: own)
        self.exact = exact
        self.counted: Callable[[str], None] = lambda _name: None
        self._fib: Fib | None = None
        self._fib_of: tuple[Any, ...] = ()

    @staticmethod
    def of(node: SimNode, *, exact: bool = False) -> SimStack:
        """That of a simulated node, by its clock."""

        def pods() -> dict[Address, str]:
            wired = node.pods.wired
            return {each: key for key in wired for each in wired[key].addresses}

        def counted(name: str) -> None:
            node.firewall.counted[name] = node.firewall.counted.get(name, 0) + 1

        made = SimStack(
            node.kernel,
            lambda: node.firewall.table,
            pods,
            ways=lambda: node.egress_ways.ways,
            tracking=lambda: node.firewall.tracking,
            now=lambda: asyncio.get_running_loop().time(),
            exact=exact,
        )
        made.counted = counted
        return made

    @property
    def tracking(self) -> Conntrack:
        """The connections; a node that lost its power has others."""
        return self._tracking()

    @property
    def fib(self) -> Fib:
        """The routes as they are by now."""
        kernel = self._kernel
        state = (kernel.others.version, kernel.ours.version, kernel.bridge, list(kernel.addresses))
        if self._fib is None or state != self._fib_of:
            self._fib, self._fib_of = Fib(kernel, self._fib), state
        return self._fib

    # --- what may become of a packet ---------------------------------------------------------------------

    def receive(self, packet: Packet, interface: str) -> tuple[Outcome, ...]:
        """It comes in by a link; what a pod of this node sends comes in by the bridge."""
        return self._outcomes(lambda choices: self._arrived(self._met(packet, choices, interface)))

    def from_pod(self, packet: Packet) -> tuple[Outcome, ...]:
        return self.receive(packet, BRIDGE)

    def send(self, packet: Packet) -> tuple[Outcome, ...]:
        """A process of the host sends it; from the unspecified address: the route has it choose."""
        return self._outcomes(lambda choices: self._sent(packet, choices))

    def take(self, outcome: Outcome) -> Outcome:
        """It has happened so: connections, clients, counters."""
        now = self._now()
        for each in outcome.everywhere():
            effects = each.effects
            if effects.noted is not None:
                self.tracking.note(effects.noted, now)
            for held, key, timeout in effects.filled:
                held.fill(key, timeout, now)
            for name in effects.counted:
                self.counted(name)
        return outcome

    def _outcomes(self, walk: Callable[[chance.Choices], Outcome]) -> tuple[Outcome, ...]:
        found: dict[tuple[Outcome, tuple[Any, ...]], Outcome] = {}
        for choices in chance.lines(exact=self.exact):
            outcome = walk(choices)
            filled = tuple((id(held), key) for held, key, _ in outcome.effects.filled)
            found.setdefault((outcome, filled), outcome)
        return tuple(found.values())

    # --- the way -----------------------------------------------------------------------------------------

    def _met(self, packet: Packet, choices: chance.Choices, arrived: str = "") -> Meeting:
        return Meeting(packet, self.fib, choices, self._now(), arrived, drawn=self.drawn)

    def _arrived(self, met: Meeting) -> Outcome:
        if (end := self._hook(met, "prerouting")) is not None:
            return end
        fib = met.fib
        route = self._way(met) or fib.route_to(met.version, met.destination)
        if met.arrived != "lo" and (why := _martian(met)):
            return self._end(met, Dropped, by=("route", why))
        if route is not None and route.local:
            if (end := self._hook(met, "input")) is not None:
                return end
            return self._end(met, Delivered, through=True)
        return self._forwarded(met, route)

    def _way(self, met: Meeting) -> FoundRoute | None:
        """That of its mark, for what comes from a pod and is not for the host: rules are looked at behind the
        addresses of the host, and before all other routes."""
        mark = met.mark & EGRESS_MARKS
        if met.arrived != BRIDGE or not mark or met.fib.type_of(met.version, met.destination) != "unicast":
            return None
        for way in self._ways():
            if way.mark == mark and way.version == met.version:
                return FoundRoute(f"the way of mark {mark:#x}", (Hop(ENVELOPE, way.gateway),))
        return None

    def _forwarded(self, met: Meeting, route: FoundRoute | None) -> Outcome:
        kind = met.fib.type_of(met.version, met.destination)
        if kind != "unicast":
            return self._end(met, Lost, why=f"{kind} is not forwarded")
        if route is None:
            return self._end(met, Lost, why="no route")
        if route.discards:
            return self._end(met, Dropped, by=("route", str(route)))
        if met.ttl <= 1:
            return self._end(met, Rejected, how="time-exceeded", by=("route", "hop limit"))
        met.ttl -= 1
        hop = _hop(met, route)
        if met.version == 6 and met.source >> 118 == 0x3FA and met.leaves != met.arrived:
            by = ("route", "a link-local source stays on its link")
            return self._end(met, Rejected, how="beyond-scope", by=by)
        if (end := self._hook(met, "forward")) is not None:
            return end
        return self._leaves(met, hop)

    def _leaves(self, met: Meeting, hop: Hop) -> Outcome:
        met.hop_to = None if met.version == 6 or hop.gateway is None else int(hop.gateway)
        if (end := self._hook(met, "postrouting")) is not None:
            return end
        if hop.interface == BRIDGE and hop.gateway is None:
            to = self._pods().get(address(met.version, met.destination))
            if to is None:
                return self._end(met, Lost, through=True, why="no pod has this address")
            return self._end(met, Delivered, through=True, to=to)
        return self._end(met, Forwarded, through=True, interface=hop.interface, gateway=hop.gateway)

    def _sent(self, packet: Packet, choices: chance.Choices) -> Outcome:
        met = self._met(packet, choices)
        route = met.fib.route_to(met.version, met.destination)
        if route is None or route.discards:
            why = "no route" if route is None else str(route)
            return self._end(met, Lost, why=why)
        hop = _hop(met, route)
        if not met.source:
            found = met.destination
            if not route.local:
                found = met.fib.source_for(met.version, met.leaves, met.destination, route) or 0
            met.packet = packet = replace(packet, source=address(met.version, found))
            met.source = found
        before = met.destination
        if (end := self._hook(met, "output")) is not None:
            return end
        if met.destination != before:
            route = met.fib.route_to(met.version, met.destination)
            if route is None or route.discards:
                return self._end(met, Lost, why="no route after translation")
            hop = _hop(met, route)
        if not route.local:
            return self._leaves(met, hop)
        if (end := self._hook(met, "postrouting")) is not None:
            return end
        met.arrived, met.leaves = "lo", ""
        return self._arrived(met)

    def _copied(self, of: Meeting, packet: Packet, gateway: int, link: str) -> Outcome:
        """What is sent by `dup`: nobody tracks it."""
        met = self._met(packet, of.choices)
        met.state, met.leaves = UNTRACKED, link
        if (end := self._hook(met, "output")) is not None:
            return end
        return self._leaves(met, Hop(link, address(met.version, gateway)))

    # --- hooks -------------------------------------------------------------------------------------------

    def _hook(self, met: Meeting, where: str) -> Outcome | None:
        """How it ends there; None: it goes on."""
        tables = self._tables()
        for stage in tables.stages(met.version, where):
            found = None
            if stage.kind == CHAIN:
                found = chain_verdict(met, tables, stage)
            elif stage.kind == TRACKING:
                track(met, self.tracking)
            elif met.flow is not None:
                found = translate(met, self.tracking, tables, stage, of_source=where in _AFTER)
            if met.copies and isinstance(met.copies[-1], tuple):
                less = where in ("prerouting", "input")
                self._send_copies(met, less=less)
            if found is not None:
                verdict, by = found
                if verdict.kind == REJECT:
                    return self._end(met, Rejected, how=verdict.to, by=by)
                return self._end(met, Dropped, by=by)
        return None

    def _send_copies(self, met: Meeting, *, less: bool) -> None:
        for at, copy in enumerate(met.copies):
            if isinstance(copy, tuple):
                packet, gateway, link = copy
                sent = replace(packet, ttl=packet.ttl - 1 if less else packet.ttl, group=False)
                met.copies[at] = self._copied(met, sent, gateway, link)

    def _end(self, met: Meeting, kind: type[Made], *, through: bool = False, **more: Any) -> Made:
        """`through`: a connection that it begins is noted down."""
        noted = None
        if (through or not met.new) and met.flow is not None and met.state != RELATED:
            noted = Noted(met.flow, met.new, not met.backward, met.flags, met.replaces)
        effects = Effects(noted, tuple(met.counted), tuple(met.logged), tuple(met.filled))
        return kind(
            packet=met.as_packet(),
            copies=tuple(met.copies),
            chosen=met.choices.said(),
            steps=tuple(met.steps),
            effects=effects,
            **more,
        )


def _hop(met: Meeting, route: FoundRoute) -> Hop:
    """One of those of a route; it is the one that the packet leaves by."""
    hop = met.choices.of(f"route {route}", route.hops)
    met.leaves = hop.interface
    return hop


def _martian(met: Meeting) -> str:
    """Why IPv4, or either family for loopback, does not take it."""
    if met.version == 4:
        if met.fib.is_local(4, met.source):
            return "martian source"
        return "martian destination" if met.destination >> 24 == 127 else ""
    return "loopback from outside" if 1 in (met.source, met.destination) else ""
