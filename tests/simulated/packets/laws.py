"""What users are promised of a node's packets (docs/services.md, security.md, dataplane.md), as laws over all
that may become of one: they look at what is declared and at the packet, and at no rule of nftables.

Packets are new: the node knows no connection of before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from l3net.firewall.facts import FirewallPlan
from l3net.model import Address, Prefix, VirtualServer
from l3net.naming import BRIDGE, ENVELOPE
from packets.outcomes import Delivered, Dropped, Forwarded, Lost, Outcome, Rejected
from packets.packet import ACK, FIN, ICMPV6, NUMBERS, PORTED, RST, SCTP, SYN, TCP, Packet
from packets.random_nodes import CLIENTS, GATEWAY, LATER, LATER_GATEWAY, OWN, PODS

NAMES = {number: name for name, number in NUMBERS.items()}
#: What stands on the node's links (kernel_node.ADDRESSES).
STANDING = frozenset(ip_address(each) for own in (*OWN, GATEWAY, LATER_GATEWAY) for each in own.values())
LIVING = {ip_address(address): f"pod {address}" for each in (*PODS, *LATER) for address in each.values()}
_OUTSIDE = frozenset(ip_address(each) for client in CLIENTS for each in client.values())
#: Types of ICMPv6: router advertisement, redirect (RFC 4861).
ADVERT, REDIRECT = 134, 137
#: UDP for BFD (RFC 5881, 5883) and for the envelope; TCP for BGP (RFC 4271).
_ALWAYS = frozenset({("tcp", 179), ("udp", 3784), ("udp", 3785), ("udp", 4784), ("udp", 6109)})


@dataclass(frozen=True)
class Met:
    """A new packet that comes in by a link (empty: from the host itself), and all that may become of it."""

    plan: FirewallPlan
    sent: Packet
    link: str
    outcomes: tuple[Outcome, ...]

    @property
    def of_pod_here(self) -> bool:
        return self.link == BRIDGE

    @property
    def of_any_pod(self) -> bool:
        return self.of_pod_here or (bool(self.link) and _within(self.sent.source, self.plan.pod_ranges))

    @property
    def own_source(self) -> bool:
        """Whether whoever sends it may send from there."""
        if not self.of_pod_here:
            return True
        return _within(self.sent.source, (*self.plan.blocks, *self.plan.allowed_sources))

    @property
    def begins(self) -> bool:
        sent = self.sent
        if sent.protocol == TCP:
            return sent.flags & (SYN | ACK | RST | FIN) == SYN
        return sent.protocol in PORTED

    @property
    def kind(self) -> tuple[str, int]:
        return NAMES[self.sent.protocol], self.sent.dport

    @property
    def shut(self) -> frozenset[tuple[str, int]]:
        """What the node answers, and not to pods."""
        relay = {("udp", self.plan.error_port)} if self.plan.error_port else set()
        return _ALWAYS | relay | self.plan.closed_ports

    def peering(self, to: Address, kind: tuple[str, int]) -> bool:
        """Whether it is what nodes or routers keep for their peers."""
        if to in self.plan.node_addresses and kind in self.shut:
            return True
        by_tcp = {("tcp", port) for known, port in self.plan.routers if known in (None, to)}
        return kind in by_tcp or (bool(by_tcp) and kind[0] == "udp" and kind[1] in (3784, 3785, 4784))

    @property
    def ordinary(self) -> bool:
        """No martian, no link-local address, hops enough, by no link that has ways of its own, and from no
        pod of this node by an uplink."""
        source = self.sent.source
        strange = bool(self.link) and source in STANDING
        strange = strange or (bool(self.link) and not self.of_pod_here and _within(source, self.plan.blocks))
        return not (strange or source.is_link_local or self.sent.ttl < 3 or self.link == ENVELOPE)

    def server(self) -> VirtualServer | None:
        """The service that it is for, by address or (address 0) by NodePort."""
        by_key = {each.key: each for each in self.plan.servers}
        to, kind = self.sent.destination, self.kind
        found = by_key.get((to, *kind))
        if found is None and self.on_node and kind not in self.shut | self.plan.open_ports:
            found = by_key.get((type(to)(0), *kind))
        return found

    @property
    def on_node(self) -> bool:
        """Whether NodePorts are on the address that it goes to."""
        to = self.sent.destination
        return to in STANDING and _within(to, self.plan.ports_on)

    def of_service(self) -> bool:
        return any(each.address == self.sent.destination for each in self.plan.servers)


def _within(address: Address, prefixes: Iterable[Prefix]) -> bool:
    return any(address.version == each.version and address in each for each in prefixes)


def _arrives(outcome: Outcome) -> bool:
    """At a pod, or at the host, or on its way to another."""
    return isinstance(outcome, Delivered | Forwarded) or (
        isinstance(outcome, Lost) and outcome.why == "no pod has this address"
    )


def _own_addresses(met: Met) -> Iterator[Outcome]:
    """A pod sends from its node's blocks and what is allowed beside; its link-local address and `::` are for
    its link (RFC 4291)."""
    sent = met.sent
    near = sent.source.version == 6 and (
        sent.source.is_link_local or (sent.source.is_unspecified and sent.protocol == ICMPV6)
    )
    if met.of_pod_here and not met.own_source and not near:
        yield from (each for each in met.outcomes if not isinstance(each, Dropped) or each.copies)


def _may_send(met: Met) -> Iterator[Outcome]:
    """From these it reaches whom no policy forbids and nobody keeps for himself."""
    to, sent = met.sent.destination, met.sent
    kept = met.of_service() or met.on_node or (to in STANDING and met.kind in met.shut)
    if not (met.of_pod_here and met.own_source and met.ordinary and met.begins) or kept:
        return
    free = not met.plan.policy.chains and not met.peering(to, met.kind)
    if free and (to in LIVING or to in STANDING or to in _OUTSIDE) and to != sent.source:
        yield from (each for each in met.outcomes if isinstance(each, Dropped))


def _link_local(met: Met) -> Iterator[Outcome]:
    """A pod's link-local address goes to the node and to nobody else."""
    if met.of_pod_here and met.sent.source.is_link_local:
        for each in met.outcomes:
            if _arrives(each) and not (isinstance(each, Delivered) and not each.to):
                yield each


def _shut(met: Met) -> Iterator[Outcome]:
    """What the node answers to its peers is closed to the pods of every node, whatever they send from."""
    if met.of_any_pod and met.link != ENVELOPE:
        for each in met.outcomes:
            packet = each.packet
            kind = NAMES.get(packet.protocol, ""), packet.dport
            if isinstance(each, Delivered) and not each.to and kind in met.shut:
                yield each


def _own_ports(met: Met) -> Iterator[Outcome]:
    """What the node itself answers is no service's, and what no service has at an address of its links is the
    node's: it arrives there as it is."""
    free = met.ordinary and met.own_source and met.begins and not (met.of_any_pod and met.plan.policy.chains)
    closed = met.of_any_pod and met.kind in met.shut
    if free and not closed and met.sent.destination in STANDING and met.server() is None:
        for each in met.outcomes:
            if not isinstance(each, Delivered) or each.to or each.packet.dport != met.sent.dport:
                yield each


def _invalid(met: Met) -> Iterator[Outcome]:
    """The end of a connection that nobody knows, to a NodePort: the node answers by no reset."""
    sent = met.sent
    by_key = {each.key for each in met.plan.servers}
    if met.link and met.on_node and sent.protocol == TCP and sent.flags & (RST | FIN):
        node_port = (type(sent.destination)(0), *met.kind) in by_key
        if node_port and met.kind not in met.shut | met.plan.open_ports:
            yield from (each for each in met.outcomes if not isinstance(each, Dropped))


def _in_our_name(met: Met) -> Iterator[Outcome]:
    """Nobody speaks to what another node, or a router, keeps for its peers with the address of this one."""
    for each in met.outcomes if met.link else ():
        packet = each.packet
        kind = NAMES.get(packet.protocol, ""), packet.dport
        if (
            isinstance(each, Forwarded)
            and packet.source in STANDING
            and met.peering(packet.destination, kind)
        ):
            yield each


def _discovery(met: Met) -> Iterator[Outcome]:
    """No pod is told of shorter ways, and none plays a router: what goes from pod to pod goes by the node."""
    sent = met.sent
    kinds = {"": (REDIRECT,), BRIDGE: (ADVERT, REDIRECT)}.get(met.link, ())
    if sent.version == 6 and sent.protocol == ICMPV6 and sent.icmp in kinds:
        for each in met.outcomes:
            if met.of_pod_here or (_arrives(each) and each.packet.destination in LIVING):
                yield from () if isinstance(each, Dropped) else (each,)


def _handed_on(met: Met) -> Iterator[Outcome]:
    """What other nodes hand on is for services that all answer alike, and from nobody of this node."""
    spread = {
        each.key for each in met.plan.servers if each.spread and each.address not in met.plan.node_addresses
    }
    if met.link != ENVELOPE or not spread:
        return
    source, to = met.sent.source, met.sent.destination
    if (to, *met.kind) not in spread or source in STANDING or source in LIVING:
        yield from (each for each in met.outcomes if _arrives(each) or each.copies)


def _meets_itself(met: Met) -> Iterator[Outcome]:
    """A pod that calls its own service is called from another address, or it would answer itself."""
    for each in met.outcomes if met.of_pod_here else ():
        source, to = each.packet.source, each.packet.destination
        if _arrives(each) and to != met.sent.destination and source == to and to in LIVING:
            yield each


def _refused(met: Met) -> Iterator[Outcome]:
    """A service's address leads nowhere by a port that is not served: whoever asks is told at once. What is
    the end of something that nobody knows is not answered. An address of a node is that node's."""
    if not met.of_service() or met.server() is not None:
        return
    to = met.sent.destination
    here, there = to in STANDING, to in met.plan.node_addresses
    told = [each for each in met.outcomes if isinstance(each, Rejected) and each.how != "time-exceeded"]
    if not here and not there:
        yield from (each for each in met.outcomes if _arrives(each))
        if met.ordinary and met.own_source and met.begins:
            yield from (each for each in met.outcomes if not isinstance(each, Rejected))
    elif met.ordinary and met.begins and not met.plan.policy.chains:
        yield from told
    if met.sent.protocol == TCP and met.sent.flags & (RST | FIN):
        yield from told


def _served(met: Met) -> Iterator[Outcome]:
    """Whoever calls a service reaches any of the endpoints that are for him, and nobody else; without one he
    is refused; whom the service is not for hears nothing."""
    server = met.server()
    if server is None or not (met.ordinary and met.own_source and met.begins):
        return
    if server.spread is not None and met.link not in (BRIDGE, ""):
        return  # it may be another node's to judge: see consistent.py
    if server.sources is not None and not _within(met.sent.source, server.sources):
        yield from (each for each in met.outcomes if not isinstance(each, Dropped))
        return
    if met.plan.policy.chains:
        return
    ends = server.internal if met.link in (BRIDGE, "") else server.external
    wanted = {(each.address, each.port) for each in ends}
    if not wanted:
        # Where the address is a node's as well, that node answers.
        if server.on_node or met.sent.destination not in STANDING | met.plan.node_addresses:
            yield from (each for each in met.outcomes if not isinstance(each, Rejected))
        return
    # In this node's name nobody speaks to its peers; and a pod neither to the node, nor with another's name.
    kept = {(to, port) for to, port in wanted if met.peering(to, (server.protocol, port))}
    reached = {(each.packet.destination, each.packet.dport) for each in met.outcomes if _arrives(each)}
    if not wanted - kept <= reached <= wanted:
        yield from met.outcomes


def _masqueraded(met: Met) -> Iterator[Outcome]:
    """Pods of pools with natOutgoing are seen with the node's address outside, with a chosen one if there is
    one, and with their own inside, as all other pods are everywhere. Who calls from outside what another node
    has is seen with the node's address, since the answer has to come back; a pod here sees the client's own.
    SCTP keeps its port."""
    plan, sent = met.plan, met.sent
    if not (met.link and met.ordinary and met.own_source and met.begins):
        return
    for each in met.outcomes:
        packet = each.packet
        if not _arrives(each):
            continue
        moved = packet.destination != sent.destination or packet.dport != sent.dport
        outward = _within(sent.source, plan.nat_sources) and not _within(packet.destination, plan.inside)
        outward = outward and not any(
            sent.source in source and packet.destination in destination
            for source, destination in plan.nat_excepts
        )
        if met.of_pod_here:
            hidden = outward or (moved and packet.destination == sent.source)
        else:
            called = moved and met.server() is not None
            hidden = outward or (called and not _within(packet.destination, plan.blocks))
        if isinstance(each, Delivered) and not each.to:
            hidden = False  # the host itself
        chosen = {own for own in plan.snat_addresses if own.version == packet.version}
        if hidden and outward and not moved and chosen and packet.source not in chosen:
            yield each
        moved_port = packet.protocol == SCTP and packet.sport != sent.sport
        if moved_port or hidden is not (packet.source in STANDING):
            yield each


LAWS: dict[str, Callable[[Met], Iterator[Outcome]]] = {
    "a pod sends from its own addresses only": _own_addresses,
    "a pod's own packets are not dropped": _may_send,
    "a link-local address goes no further than the node": _link_local,
    "pods do not reach what the node keeps for its peers": _shut,
    "what the node answers itself is no service's": _own_ports,
    "the end of what nobody knows is not answered": _invalid,
    "nobody speaks to another node's peers in this one's name": _in_our_name,
    "pods are told of no other ways": _discovery,
    "what nodes hand on is for few services and from others": _handed_on,
    "a pod that meets itself is called from elsewhere": _meets_itself,
    "a service's address leads nowhere but to the service": _refused,
    "a service leads to its endpoints": _served,
    "who is seen with the node's address is as declared": _masqueraded,
}


def broken(met: Met, laws: Sequence[str] = tuple(LAWS)) -> Iterator[tuple[str, str]]:
    """The laws that are broken, and how."""
    for law in laws:
        found = next(LAWS[law](met), None)
        if found is not None:
            by = met.link or "the host"
            yield law, f"{met.sent} by {by}: {found}"
