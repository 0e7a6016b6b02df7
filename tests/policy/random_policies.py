"""Random clusters out of a seed: namespaces, pods, policies of all tiers, and packets at their edges.

The pods stand at places (addresses and nodes) that a test may hand in, as those that it has made. All that is
drawn can be declared: a manifest says it. About half of the packets are denied.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from l3net.addresses import host_prefix
from l3net.model import (
    EVERYTHING,
    ClusterState,
    Direction,
    IpBlock,
    Namespace,
    Node,
    NodeSelection,
    ObjectName,
    Pod,
    PodPort,
    PodSelection,
    Policy,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Prefix,
    Requirement,
    Rule,
    Selector,
    Tier,
)
from l3net.policy.known_state import KnownState
from l3net.policy.verdict import Packet, verdict

Address = IPv4Address | IPv6Address
PROTOCOLS = ("tcp", "udp", "sctp")
NAMESPACES = ("x", "y", "z")
LABELS = {"app": ("a", "b", "c"), "tier": ("1", "2")}
NAMESPACE_LABELS = {"team": ("red", "blue"), "env": ("prod", "test")}
NODE_LABELS = {"zone": ("east", "west")}
PORT_NAMES = ("web", "dns", "msg")
PORTS = (53, 80, 81, 8080, 9000, 9005, 9010)


@dataclass(frozen=True)
class Place:
    """Where a pod stands: its node, and its addresses, one of each family."""

    node: str
    addresses: tuple[Address, ...]


def _default_places(count: int) -> tuple[Place, ...]:
    return tuple(
        Place(
            f"n{place % 2 + 1}",
            (
                ip_address(f"10.244.{place % 2 + 1}.{place + 2}"),
                ip_address(f"fd00:244:{place % 2 + 1}::{place + 2:x}"),
            ),
        )
        for place in range(count)
    )


NODES = (
    Place("n1", (ip_address("192.0.2.1"), ip_address("2001:db8::1"))),
    Place("n2", (ip_address("192.0.2.2"), ip_address("2001:db8::2"))),
)
OUTSIDE = (ip_address("198.51.100.1"), ip_address("2001:db8:ffff::1"))


@dataclass(frozen=True)
class RandomCluster:
    """What a seed has given. `packets` are of pods of the network, of nodes and from outside."""

    seed: int
    state: ClusterState
    packets: tuple[Packet, ...]


def cluster(
    seed: int,
    *,
    places: Sequence[Place] | None = None,
    nodes: Sequence[Place] = NODES,
    outside: Sequence[Address] = OUTSIDE,
    packets: int = 60,
    protocols: Sequence[str] = PROTOCOLS,
) -> RandomCluster:
    """The same for the same arguments. `protocols` are those that packets are of."""
    draw = _Draw(random.Random(seed), tuple(places or _default_places(10)), tuple(nodes), tuple(outside))
    state = draw.state()
    return RandomCluster(seed, state, tuple(draw.packets(state, packets, tuple(protocols))))


class _Draw:
    def __init__(
        self,
        chance: random.Random,
        places: tuple[Place, ...],
        nodes: tuple[Place, ...],
        outside: tuple[Address, ...],
    ) -> None:
        self.chance = chance
        self.places = places
        self.nodes = nodes
        self.outside = outside

    def often(self, share: float) -> bool:
        return self.chance.random() < share

    # --- what is there -------------------------------------------------------------------------------------

    def state(self) -> ClusterState:
        state = ClusterState()
        for node in self.nodes:
            state.nodes[node.node] = Node(node.node, node.addresses, labels=self.labels(NODE_LABELS, 1.0))
        for name in NAMESPACES:
            own = {"kubernetes.io/metadata.name": name}
            state.namespaces[name] = Namespace(name, {**own, **self.labels(NAMESPACE_LABELS, 0.7)})
        for pod in self.pods():
            state.pods[pod.name] = pod
        for place in range(self.chance.randint(1, 7)):
            policy = self.policy(place)
            if policy.tier is Tier.NETWORK_POLICY:
                state.policies[policy.name] = policy
            else:
                state.cluster_policies[policy.name.name] = policy
        return state

    def pods(self) -> list[Pod]:
        found = []
        for number, place in enumerate(self.places):
            name = ObjectName(self.chance.choice(NAMESPACES), f"p{number}")
            found.append(Pod(name, self.labels(LABELS, 0.8), place.addresses, place.node, ports=self.ports()))
        # Pods whose addresses are others' by now, and one whose address is its node's.
        for number in range(self.chance.randint(0, 2)):
            place = self.chance.choice(self.places)
            name = ObjectName(self.chance.choice(NAMESPACES), f"done{number}")
            labels = self.labels(LABELS, 0.8)
            found.append(Pod(name, labels, place.addresses, place.node, finished=True, ports=self.ports()))
        if self.nodes and self.often(0.5):
            node = self.chance.choice(self.nodes)
            name = ObjectName(self.chance.choice(NAMESPACES), "on-host")
            labels = self.labels(LABELS, 0.8)
            found.append(Pod(name, labels, node.addresses, node.node, host_network=True))
        return found

    def labels(self, known: dict[str, tuple[str, ...]], share: float) -> dict[str, str]:
        return {key: self.chance.choice(values) for key, values in known.items() if self.often(share)}

    def ports(self) -> tuple[PodPort, ...]:
        names = [name for name in PORT_NAMES if self.often(0.6)]
        return tuple(
            PodPort(name, self.chance.choice(PROTOCOLS), self.chance.choice(PORTS[:4])) for name in names
        )

    # --- policies ------------------------------------------------------------------------------------------

    def policy(self, place: int) -> Policy:
        tier = self.chance.choices(tuple(Tier), (2, 4, 2))[0]
        sides = self.chance.choice(([Direction.INGRESS], [Direction.EGRESS], list(Direction)))
        if tier is Tier.NETWORK_POLICY:
            namespace = self.chance.choice(NAMESPACES)
            subject = PodSelection(namespace, self.selector(LABELS, 0.5))
            name = ObjectName(namespace, f"policy{place}")
        else:
            name = ObjectName("", f"policy{place}")
            subject = PodSelection(self.selector(NAMESPACE_LABELS, 0.5), self.selector(LABELS, 0.7))
        rules = {
            side: tuple(self.rule(tier, side, name) for _ in range(self.chance.randint(1, 3)))
            for side in sides
        }
        if tier is Tier.NETWORK_POLICY and self.often(0.2):
            rules = dict.fromkeys(sides, ())
        return Policy(
            name,
            tier,
            subject,
            rules.get(Direction.INGRESS),
            rules.get(Direction.EGRESS),
            0 if tier is Tier.NETWORK_POLICY else self.chance.choice((0, 10, 10, 1000)),
            self.often(0.2),
        )

    def rule(self, tier: Tier, side: Direction, policy: ObjectName) -> PolicyRule:
        ports: tuple[PolicyPort, ...] | None = None
        if self.often(0.6):
            ports = tuple(self.port(tier) for _ in range(self.chance.randint(1, 3)))
        if tier is Tier.NETWORK_POLICY:
            peers: tuple[PolicyPeer, ...] | None = None
            if self.often(0.8):
                peers = tuple(self.network_peer(policy.namespace) for _ in range(self.chance.randint(1, 3)))
            return PolicyRule(Rule.ACCEPT, peers, ports)
        peers = tuple(self.cluster_peer(side) for _ in range(self.chance.randint(1, 2)))
        action = self.chance.choices(tuple(Rule), (3, 4, 2))[0]
        return PolicyRule(action, peers, ports, self.chance.choice(("", "a rule", "other")))

    def port(self, tier: Tier) -> PolicyPort:
        protocol = self.chance.choice(PROTOCOLS)
        network = tier is Tier.NETWORK_POLICY
        kind = self.chance.choice(("number", "range", "name", "all" if network else "range"))
        if kind == "name":
            return PolicyPort(protocol if network else "", name=self.chance.choice((*PORT_NAMES, "none")))
        if kind == "all":
            return PolicyPort(protocol)
        first = self.chance.choice(PORTS)
        return PolicyPort(protocol, first, first + self.chance.choice((1, 5, 900)) * (kind == "range"))

    def network_peer(self, namespace: str) -> PolicyPeer:
        kind = self.chance.choice(("own", "namespaces", "both", "block"))
        if kind == "block":
            return self.block(holes=True)
        if kind == "own":
            return PodSelection(namespace, self.selector(LABELS, 0.2))
        pods = self.selector(LABELS, 0.2) if kind == "both" else EVERYTHING
        return PodSelection(self.selector(NAMESPACE_LABELS, 0.3), pods)

    def cluster_peer(self, side: Direction) -> PolicyPeer:
        kinds = ("namespaces", "pods", *(("nodes", "block") if side is Direction.EGRESS else ()))
        kind = self.chance.choice(kinds)
        if kind == "nodes":
            return NodeSelection(self.selector(NODE_LABELS, 0.3))
        if kind == "block":
            return self.block(holes=False)
        pods = self.selector(LABELS, 0.1) if kind == "pods" else EVERYTHING
        return PodSelection(self.selector(NAMESPACE_LABELS, 0.3), pods)

    def block(self, *, holes: bool) -> IpBlock:
        """Around an address that somebody has; a hole is around another one in it, often."""
        address = self.chance.choice(self.all_addresses())
        bits = address.max_prefixlen
        length = bits - self.chance.choice((0, 1, 2, 4, 8, 16, bits))
        cidr = around(address, length)
        inside = [each for each in self.all_addresses() if each in cidr]
        found: list[Prefix] = []
        if holes and length < bits and self.often(0.6):
            for _ in range(self.chance.randint(1, 2)):
                least = self.chance.choice((bits, bits - 1, bits - 2, bits - 4))
                hole = around(self.chance.choice(inside), max(least, length + 1))
                found += [hole] if hole not in found else []
        return IpBlock(cidr, tuple(found))

    def all_addresses(self) -> list[Address]:
        places = [*self.places, *self.places, *self.nodes]
        return [*(address for each in places for address in each.addresses), *self.outside]

    def selector(self, known: dict[str, tuple[str, ...]], empty: float) -> Selector:
        if self.often(empty):
            return EVERYTHING
        found = []
        for key in self.chance.sample(sorted(known), self.chance.randint(1, len(known))):
            operator = self.chance.choices(("In", "NotIn", "Exists", "DoesNotExist"), (6, 3, 2, 1))[0]
            values: tuple[str, ...] = ()
            if operator in ("In", "NotIn"):
                several = self.chance.sample(known[key], self.chance.randint(1, len(known[key])))
                values = tuple(sorted(several))
            found.append(Requirement(key, operator, values))
        return Selector(tuple(found))

    # --- packets -------------------------------------------------------------------------------------------

    def packets(self, state: ClusterState, count: int, protocols: tuple[str, ...]) -> list[Packet]:
        """As many that are denied as that are allowed, as far as they are found in twenty times as many."""
        known = KnownState(state)
        edges = sorted({port for policy in _policies(state) for port in _edges(policy)} | {*PORTS[:3]})
        kept: dict[bool, list[Packet]] = {True: [], False: []}
        for _ in range(20 * count):
            packet = self.packet(edges, protocols)
            kept[verdict(known, packet).allowed].append(packet)
        most = {answer: max(count - count // 2, count - len(kept[not answer])) for answer in (True, False)}
        found = [packet for answer, packets in kept.items() for packet in packets[: most[answer]]]
        self.chance.shuffle(found)
        return found[:count]

    def packet(self, edges: Sequence[int], protocols: tuple[str, ...]) -> Packet:
        family = self.chance.choice((0, 1))
        place = self.chance.choice(self.places)
        other: Place | None = self.chance.choice(self.places)
        if self.nodes and self.often(0.1):
            other = self.chance.choice(self.nodes)
        elif self.outside and self.often(0.15):
            other = None
        if other is None:
            version = place.addresses[family].version
            there = self.chance.choice([each for each in self.outside if each.version == version])
        else:
            there = other.addresses[family]
        inward = self.often(0.5)
        source, destination = (there, place.addresses[family]) if inward else (place.addresses[family], there)
        node = inward and other is not None and other in self.nodes and other.node == place.node
        protocol, port = self.chance.choice(protocols), self.chance.choice(edges)
        return Packet(source, destination, protocol, port, from_node=node)


def around(address: Address, length: int) -> Prefix:
    """The prefix of a length that holds an address."""
    return ip_network(f"{host_prefix(address).network_address}/{length}", strict=False)


def _policies(state: ClusterState) -> list[Policy]:
    return [*state.policies.values(), *state.cluster_policies.values()]


def _edges(policy: Policy) -> list[int]:
    """The ports just inside and just outside of those that a policy names."""
    ports = [
        port
        for side in Direction
        for rule in policy.rules(side) or ()
        for port in rule.ports or ()
        if port.first
    ]
    return [edge for port in ports for edge in (port.first - 1, port.first, port.last, port.last + 1)]
