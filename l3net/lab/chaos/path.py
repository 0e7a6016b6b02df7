"""What is probed: from where, to what, and whom it passes. Values, made from a topology and the pods there
are."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from l3net.lab.chaos.fault import Allowance, Which
from l3net.lab.topology import Topology
from l3net.model import Address

#: Where echoes answer, UDP and TCP.
ECHO_PORT = 7777
#: Where a service's ports lead to it.
SERVICE_PORT = 77


class Kind(enum.Enum):
    """How a path is probed."""

    UDP = "udp"
    ICMP = "icmp"
    HELD = "held"  # a TCP connection that stays open
    CONNECT = "connect"  # a TCP connection a time
    FORBIDDEN = "forbidden"  # UDP that must never be answered


@dataclass(frozen=True, slots=True)
class ProbePath:
    """`ends` are the hosts that may answer, `translators` those that may translate; `pod` sends, else the
    host.

    `masked`: an end may answer to the address of a translator's link. To those nodes have static default
    routes alone, which know nothing of what is cut elsewhere.
    """

    name: str
    kind: Kind
    source: str
    pod: str | None
    address: Address
    port: int
    ends: tuple[str, ...]
    translators: tuple[str, ...] = ()
    masked: bool = False

    @property
    def crossing(self) -> bool:
        return any(host != self.source for host in (*self.ends, *self.translators))

    def allowed_by(self, allowance: Allowance) -> bool:
        """Whether an allowance is for this path."""
        if (self.kind is Kind.FORBIDDEN) != (allowance.which is Which.FORBIDDEN):
            return False
        match allowance.which:
            case Which.NODE | Which.FORBIDDEN:
                return allowance.host in (self.source, *self.ends, *self.translators)
            case Which.LOCAL:
                return allowance.host == self.source or (not self.translators and allowance.host in self.ends)
            case Which.SERVICES:
                return allowance.host in self.translators
            case Which.STREAMS:
                return self.kind is Kind.UDP and bool(self.translators) and allowance.host in self.ends
            case Which.CROSSING:
                return self.crossing


@dataclass(frozen=True, slots=True)
class Place:
    """A pod as it is: its name, host and addresses."""

    pod: str
    host: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Declared:
    """What is declared for the probes: services by name, their addresses and the places behind each."""

    cluster: tuple[Address, ...]
    balanced: tuple[Address, ...]
    endpoints: tuple[Place, ...]
    closed: tuple[Place, ...]  # open to clients, closed to pods
    tenants: tuple[Place, ...]  # each of another tenant


def paths(topology: Topology, places: Mapping[str, Place], declared: Declared) -> tuple[ProbePath, ...]:
    """Everything that is probed: from each client, from a pod of each node, and what is forbidden."""
    found: list[ProbePath] = []
    firsts = [places[node.pods[0]] for node in topology.nodes if node.pods]
    for client in topology.clients:
        for place in (*firsts, *declared.closed):
            found += _to_pod(client.name, None, place, (Kind.UDP,))
        for place in firsts:
            found += _to_pod(client.name, None, place, (Kind.ICMP, Kind.HELD))
        found += _to_services(topology, client.name, None, declared)
    for index, place in enumerate(firsts):
        # The next node's pod, around the ring, and a neighbour on the same node.
        others = [firsts[(index + 1) % len(firsts)]] if len(firsts) > 1 else []
        node = topology.pods[place.pod]
        others += [places[name] for name in node.pods[1:2]]
        for other in others:
            found += _to_pod(place.host, place.pod, other, (Kind.UDP, Kind.HELD))
        found += _to_services(topology, place.host, place.pod, declared)
        for closed in declared.closed:
            found += _to_pod(place.host, place.pod, closed, (Kind.FORBIDDEN,))
    for place in declared.tenants:
        for other in declared.tenants:
            if other != place:
                found += _to_pod(place.host, place.pod, other, (Kind.FORBIDDEN,))
    return tuple(found)


def _to_pod(source: str, pod: str | None, there: Place, kinds: Iterable[Kind]) -> list[ProbePath]:
    return [
        ProbePath(
            f"{pod or source} > {there.pod} {kind.value} IPv{address.version}",
            kind,
            source,
            pod,
            address,
            ECHO_PORT,
            (there.host,),
        )
        for kind in kinds
        for address in there.addresses
    ]


def _to_services(topology: Topology, source: str, pod: str | None, declared: Declared) -> list[ProbePath]:
    ends = tuple(sorted({place.host for place in declared.endpoints}))
    outside = pod is None
    translators = tuple(node.name for node in topology.nodes) if outside else (source,)
    asked = [("cluster", declared.cluster), *([("balanced", declared.balanced)] if outside else [])]
    kinds = (Kind.UDP, Kind.CONNECT) if outside else (Kind.UDP, Kind.CONNECT, Kind.HELD)
    return [
        ProbePath(
            f"{pod or source} > {name} {kind.value} IPv{address.version}",
            kind,
            source,
            pod,
            address,
            SERVICE_PORT,
            ends,
            translators,
            # Another node's endpoint answers the address of the link by which the node sent.
            masked=outside and name == "cluster",
        )
        for name, addresses in asked
        for kind in kinds
        for address in addresses
    ]
