"""The connections that a simulated kernel tracks: by the ends of both directions, with their translation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from l3net.model import Address, Stale, Tracked
from packets.packet import ACK, ECHO, FIN, ICMP, ICMPV6, PORTED, RST, SYN, TCP, UDP, Packet
from packets.values import DNAT, SNAT

SEEN_REPLY, ASSURED, CONFIRMED = 2, 4, 8
#: Seconds without a packet after which an entry goes (nf_conntrack_*_timeout): unanswered, answered, closed.
TIMEOUTS = {TCP: (120, 432000, 10), UDP: (30, 120, 30)}
OTHER_TIMEOUTS = (30, 210, 30)
#: From here on another source port is looked for where one is taken.
FIRST_PORT, LAST_PORT = 1024, 65535


class Ends(NamedTuple):
    """Both ends of one direction, as numbers. Of an echo, `sport` is its identifier and `dport` its type."""

    version: int
    protocol: int
    source: int
    sport: int
    destination: int
    dport: int

    def turned(self) -> Ends:
        """Of an answer."""
        if self.protocol in (ICMP, ICMPV6):
            asked, answered = ECHO[self.version]
            kind = answered if self.dport == asked else asked
            return Ends(self.version, self.protocol, self.destination, self.sport, self.source, kind)
        return Ends(self.version, self.protocol, self.destination, self.dport, self.source, self.sport)


@dataclass(eq=False, slots=True)
class Flow:
    """A connection. `reply` is what its answers bear before they are translated back. `opening`: it began
    with a SYN that nobody has answered, and its sender has nothing else to say (nf_conntrack_proto_tcp)."""

    original: Ends
    reply: Ends
    status: int = 0
    mark: int = 0
    expires: float = 0.0
    closed: bool = False
    opening: bool = False

    @property
    def answered(self) -> bool:
        return bool(self.status & SEEN_REPLY)

    def forth(self) -> Ends:
        """What its packets bear behind all translation."""
        return self.reply.turned()

    def back(self) -> Ends:
        """The same of its answers."""
        return self.original.turned()

    def __str__(self) -> str:
        return f"{_text(self.original)}, answered as {_text(self.reply)}"


def _text(ends: Ends) -> str:
    made = IPv4Address if ends.version == 4 else IPv6Address
    return f"{made(ends.source)}:{ends.sport} > {made(ends.destination)}:{ends.dport} ({ends.protocol})"


def ends_of(packet: Packet) -> Ends:
    dport = packet.dport if packet.protocol in PORTED else packet.icmp
    sport = packet.sport
    return Ends(
        packet.source.version, packet.protocol, int(packet.source), sport, int(packet.destination), dport
    )


@dataclass(frozen=True, slots=True)
class Noted:
    """What a packet that got through does to the table of connections: a new one is noted down, in place of
    one that was over, or one goes on (`forward`, or by an answer)."""

    flow: Flow
    new: bool
    forward: bool
    flags: int
    replaces: Flow | None = None


@dataclass(slots=True)
class Conntrack:
    """All connections of a node. `now` is handed in by whoever asks."""

    flows: dict[Ends, Flow] = field(default_factory=dict)  # by both directions

    def __len__(self) -> int:
        return sum(1 for ends, flow in self.flows.items() if ends == flow.original)

    def __iter__(self) -> Iterator[Flow]:
        """Each once, in the order in which they came."""
        return (flow for ends, flow in self.flows.items() if ends == flow.original)

    def find(self, ends: Ends, now: float) -> tuple[Flow, bool] | None:
        """The connection of a packet, and whether it goes the way of its first one."""
        flow = self.flows.get(ends)
        if flow is None:
            return None
        if flow.expires <= now:
            self.remove(flow)
            return None
        return flow, ends == flow.original

    def begins(self, ends: Ends, flags: int) -> bool:
        """Whether a packet that belongs to nothing may begin a connection; otherwise it is invalid."""
        if ends.protocol == TCP:
            return not flags & (RST | FIN) and bool(flags & (SYN | ACK)) and flags & (SYN | ACK) != SYN | ACK
        if ends.protocol in (ICMP, ICMPV6):
            return ends.dport == ECHO[ends.version][0]
        return True

    def taken(self, reply: Ends, now: float) -> bool:
        """Whether the answers of another connection bear these ends already."""
        return self.find(reply, now) is not None

    def free(
        self,
        flow: Flow,
        now: float,
        *,
        source: int | None,
        to: tuple[int, int] | None,
        anew: bool = False,
        drawn: int = 0,
    ) -> Flow:
        """A new connection with another source, or led to another end; with a free port of the source, if
        that is to be had: its own, unless (`anew`) it is to be another. `drawn`: that which chance draws."""
        forth = flow.forth()
        status = flow.status
        if to is not None:
            new = forth._replace(destination=to[0], dport=to[1])
            status |= DNAT if new != forth else 0
            return replace(flow, reply=new.turned(), status=status)
        new = forth if source is None else forth._replace(source=source)
        if new.protocol in PORTED or new.protocol in (ICMP, ICMPV6):
            if anew or (drawn and self.taken(new.turned(), now)):
                new = new._replace(sport=_drawn(new, drawn))
            wanted, at = new, FIRST_PORT
            while self.taken(new.turned(), now) and at <= LAST_PORT:
                new, at = wanted._replace(sport=at), at + 1
        status |= SNAT if new != forth else 0
        return replace(flow, reply=new.turned(), status=status)

    def note(self, noted: Noted, now: float) -> None:
        """A packet has got through."""
        flow = noted.flow
        if noted.replaces is not None:
            self.remove(noted.replaces)
        if noted.new:
            if self.taken(flow.original, now) or self.taken(flow.reply, now):
                return  # another was quicker; its packet is dropped
            flow.status |= CONFIRMED
            flow.opening = flow.original.protocol == TCP and bool(noted.flags & SYN)
            self.flows[flow.original] = self.flows[flow.reply] = flow
        elif not noted.forward:
            flow.status |= SEEN_REPLY
            flow.opening = False
        unanswered, answered, closed = TIMEOUTS.get(flow.original.protocol, OTHER_TIMEOUTS)
        if flow.original.protocol == TCP and noted.flags & (RST | FIN):
            flow.closed = True
        if flow.closed:
            flow.expires = now + closed
        else:
            flow.expires = now + (answered if flow.answered else unanswered)

    def remove(self, flow: Flow) -> None:
        for ends in (flow.original, flow.reply):
            if self.flows.get(ends) is flow:
                del self.flows[ends]

    def expire(self, now: float) -> None:
        for flow in [flow for flow in self if flow.expires <= now]:
            self.remove(flow)

    def clear(self) -> None:
        self.flows.clear()

    # --- ports.Connections -------------------------------------------------------------------------------

    def forget(self, stale: Iterable[Stale], local: Collection[Address]) -> int:
        """See ports.Connections; `local` are the host's addresses. How many there were."""
        kinds = list(stale)
        gone = [flow for flow in self if any(_is_stale(each, flow, local) for each in kinds)]
        for flow in gone:
            self.remove(flow)
        return len(gone)

    def forget_floating(self, holders: Mapping[Address, Address | None]) -> int:
        """See ports.Connections. How many there were."""
        held = {
            (address.version, int(address)): None if pod is None else int(pod)
            for address, pod in holders.items()
        }
        gone = []
        for flow in self:
            version, to, back = flow.original.version, flow.original.destination, flow.reply.destination
            came = (version, to) in held and flow.reply.source != held[version, to]
            left = (version, back) in held and flow.original.source not in (held[version, back], back)
            if left or (came and (held[version, to] is not None or flow.reply.source != to)):
                gone.append(flow)
        for flow in gone:
            self.remove(flow)
        return len(gone)

    def of(self, addresses: Collection[Address], local: Collection[Address]) -> list[Tracked]:
        """See ports.Connections."""
        found = (tracked(flow) for flow in self)
        return [
            each
            for each in found
            if each.source not in local and (each.source in addresses or each.destination in addresses)
        ]

    def seen_as(self, addresses: Collection[Address]) -> list[Tracked]:
        """See ports.Connections."""
        return [each for each in map(tracked, self) if each.seen_as in addresses]

    def end(self, connections: Iterable[Tracked]) -> None:
        """See ports.Connections."""
        ended = set(connections)
        for flow in [flow for flow in self if tracked(flow) in ended]:
            self.remove(flow)


def _drawn(ends: Ends, port: int) -> int:
    """What a port, or an echo's identifier, may become by chance (nf_nat_l4proto_unique_tuple): this one, if
    it may, else one of them."""
    if ends.protocol in (ICMP, ICMPV6):
        room = range(65536)
    elif ends.sport < 512:
        room = range(1, 512)
    else:
        room = range(600, 1024) if ends.sport < FIRST_PORT else range(FIRST_PORT, LAST_PORT + 1)
    return port if port in room else room[(ends.sport * 7919 + 4099) % len(room)]


def tracked(flow: Flow) -> Tracked:
    original = flow.original
    made = IPv4Address if original.version == 4 else IPv6Address
    return Tracked(
        original.protocol,
        made(original.source),
        original.sport,
        made(flow.reply.source),
        flow.reply.sport,
        seen_as=made(flow.reply.destination),
    )


def _is_stale(stale: Stale, flow: Flow, local: Collection[Address]) -> bool:
    original, reply = flow.original, flow.reply
    made = IPv4Address if original.version == 4 else IPv6Address
    destination, answers = made(original.destination), made(reply.source)
    if stale.protocol != original.protocol or (stale.port and stale.port != original.dport):
        return False
    if stale.untouched and flow.status & (DNAT | SNAT | SEEN_REPLY):
        return False
    if stale.destinations and destination not in stale.destinations:
        return False
    own = stale.own_in is None or (
        destination in local and any(destination in prefix for prefix in stale.own_in)
    )
    if not own or (stale.answered_by is not None and stale.answered_by != answers):
        return False
    return not any(answers == address and port in (0, reply.sport) for address, port in stale.kept)
