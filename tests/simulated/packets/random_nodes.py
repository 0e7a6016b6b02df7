"""What a node has to put in its tables, and packets at the edges of that, out of a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

from random_policies import Place, cluster

from l3net.cni.extras import Extras, PublishedPort, put_script
from l3net.fib.envelope import envelope
from l3net.firewall.facts import FirewallPlan
from l3net.model import Address, Backend, Node, ObjectName, Placed, Prefix, Spread, VirtualServer
from l3net.model.servers import NODE_PORTS
from l3net.naming import BRIDGE, ENVELOPE, LABEL_TENANT
from l3net.policy.attached import Attached
from l3net.policy.book import PolicyBook
from packets.packet import ACK, FIN, ICMP, ICMPV6, NUMBERS, RST, SYN, TCP, Packet

PROTOCOLS = ("tcp", "udp", "sctp")
BOTH = (4, 6)
ME, OTHER, THIRD = "n1", "n2", "n3"


def _addresses(four: str, six: str, numbers: Sequence[int]) -> list[dict[int, str]]:
    return [{4: f"{four}.{each}", 6: f"{six}{each:x}"} for each in numbers]


PODS = _addresses("10.1.1", "fd00:1:1::", range(2, 7))
REMOTE = _addresses("10.1.2", "fd00:1:2::", range(2, 5))
#: Whom nodes speak BGP with.
ROUTERS = _addresses("198.51.100", "2001:db8:e::", (1, 2))
#: In a block that the node has from time to time.
LATER = _addresses("10.1.4", "fd00:1:4::", (2, 3))
OWN = [{4: "192.0.2.1", 6: "2001:db8:c::1"}, {4: "192.0.3.1", 6: "2001:db8:d::1"}]
GATEWAY = {4: "10.1.1.1", 6: "fd00:1:1::1"}
LATER_GATEWAY = {4: "10.1.4.1", 6: "fd00:1:4::1"}
LINK_LOCAL = {4: "169.254.7.7", 6: "fe80::7"}
NODES = {
    ME: OWN[1],
    OTHER: {4: "192.0.3.2", 6: "2001:db8:d::2"},
    THIRD: {4: "192.0.3.3", 6: "2001:db8:d::3"},
}
CLIENTS = _addresses("192.0.2", "2001:db8:c::", (9, 10, 11)) + _addresses("198.51.100", "2001:db8:e::", (7,))
NOBODY = _addresses("203.0.113", "2001:db8:f::", (5,)) + _addresses("100.64.0", "3fff::", (9,))
VIPS = _addresses("10.96.0", "fd00:96::", range(10, 22))
SERVICES = (ip_network("10.96.0.0/16"), ip_network("fd00:96::/112"))
BLOCKS = {
    ME: (ip_network("10.1.1.0/24"), ip_network("fd00:1:1::/120")),
    OTHER: (ip_network("10.1.2.0/24"), ip_network("fd00:1:2::/120")),
}
LATE_BLOCKS = (ip_network("10.1.4.0/24"), ip_network("fd00:1:4::/120"))
RANGES = ("192.0.2.0/28", "192.0.2.9/32", "198.51.100.0/24", "10.1.0.0/16", "2001:db8:c::/64", "fd00:1::/32")
#: Ports of the host that pods publish.
PUBLISHED = 8500
PORTS, TARGETS = (80, 443, 53), (8080, 8081)
#: Some of what a node answers itself (docs/security.md), and what it may be told to answer beside.
CLOSED, OPEN = ("tcp", 9179), ("udp", 30053)
OWN_PORTS = (("tcp", 179), ("udp", 3784), ("udp", 6108), CLOSED, OPEN)


class RandomNode:
    """`plan` is what is wanted by now; `change` has it another."""

    def __init__(self, seed: int, kinds: str = "") -> None:
        self.chance = random.Random(f"{kinds}{seed}")
        self._seed = seed
        self._chooses = random.Random(f"snat{kinds}{seed}")
        self.spread = self._often(0.35)
        self.book = PolicyBook()
        self.policed, self._declared = self._often(0.6), False
        self.servers: dict[object, VirtualServer] = {}
        if self.policed:
            self._police(seed)
        for _ in range(self.chance.randint(1, 10)):
            self._serve()
        self.plan = self._plan()

    def _often(self, share: float) -> bool:
        return self.chance.random() < share

    # --- what is wanted ----------------------------------------------------------------------------------

    def _plan(self) -> FirewallPlan:
        chance = self.chance
        own = frozenset(ip_address(each[version]) for each in OWN for version in BOTH)
        others = frozenset(ip_address(NODES[node][version]) for node in (OTHER, THIRD) for version in BOTH)
        if self._often(0.3):  # an address that is a service's and a node's
            shared = chance.sample(VIPS, 3)
            others |= {ip_address(each[version]) for each in shared for version in BOTH}
        mine = (*BLOCKS[ME], *LATE_BLOCKS) if self._often(0.5) else BLOCKS[ME]
        inside = [*BLOCKS[ME], *BLOCKS[OTHER], *SERVICES, *mine[2:], *map(ip_network, own | others)]
        pools = (ip_network("10.1.0.0/16"), ip_network("fd00:1::/32"))
        excepts = frozenset()
        if self._often(0.3):
            excepts = frozenset(
                zip(pools, map(ip_network, ("198.51.100.0/24", "2001:db8:e::/64")), strict=True)
            )
        bare = FirewallPlan(
            servers=frozenset(self.servers.values()),
            blocks=frozenset(mine),
            nat_sources=frozenset(pools if chance.random() < 0.6 else ()),
            nat_excepts=excepts,
            inside=frozenset(inside if self._often(0.8) else inside[:2] + inside[6:]),
            node_addresses=own | others,
            error_port=chance.choice((0, 6108)),
            service_cidrs=frozenset(SERVICES if self._often(0.7) else ()),
            ports_on=frozenset(self._ports_on()),
            policy=self.book.contents,
            closed_ports=frozenset({CLOSED} if self._often(0.5) else ()),
            open_ports=frozenset({OPEN} if self._often(0.3) else ()),
            pod_ranges=frozenset((*mine, *BLOCKS[OTHER])),
            routers=frozenset(self._routers()),
            allowed_sources=frozenset({ip_network("203.0.113.5/32")} if self._often(0.3) else ()),
            snat_addresses=tuple(self._snat_addresses()),
        )
        if not self.spread:
            return bare
        nodes = {
            name: Node(name, tuple(map(ip_address, addresses.values())), BLOCKS.get(name, ()), ready=True)
            for name, addresses in NODES.items()
        }
        made = envelope(nodes, ME, 1500)
        assert made is not None
        return replace(bare, envelope=replace(made, index=40))

    def _snat_addresses(self) -> list[Address]:
        """By a chance of its own, so that all else of a seed stays."""
        own = [ip_address(each[version]) for each in OWN for version in BOTH]
        return [each for each in own if self._chooses.random() < 0.3]

    def _routers(self) -> list[tuple[Address | None, int]]:
        if self._often(0.1):
            return [(None, 179)]
        return [(ip_address(each[version]), 179) for each in ROUTERS for version in BOTH if self._often(0.7)]

    def _ports_on(self) -> list[Prefix]:
        wanted: list[Prefix] = []
        for each in OWN:
            if self._often(0.7):
                wanted += (ip_network(each[version]) for version in BOTH)
        return wanted

    def _serve(self) -> None:
        """One more server."""
        chance, version = self.chance, self.chance.choice(BOTH)
        on_node = self._often(0.3)
        address = NODE_PORTS[version] if on_node else ip_address(chance.choice(VIPS)[version])
        port = chance.randrange(30050, 30058) if on_node else chance.choice(PORTS)
        protocol = chance.choice(PROTOCOLS)
        if on_node and self._often(0.25):
            protocol, port = chance.choice(OWN_PORTS)
        backends = self._backends(version)
        external = backends
        if self._often(0.3):
            external = tuple(
                each for each in backends if str(each.address).startswith(("10.1.1.", "fd00:1:1:"))
            )
        internal = external if self._often(0.15) else backends
        sources = None
        if not on_node and self._often(0.2):
            sources = tuple(
                sorted(
                    ip_network(each)
                    for each in RANGES
                    if (":" in each) == (version == 6) and self._often(0.7)
                )
            )
            if self._often(0.2) and version == 4:
                sources = tuple(ip_network(f"192.0.2.{each}/32") for each in range(6, 18))
        affinity = chance.choice((0, 0, 0, 10800))
        spread = self._spread(version) if self.spread and not on_node and self._often(0.5) else None
        made = VirtualServer(address, protocol, port, internal, external, affinity, sources, spread=spread)
        self.servers[made.key] = made

    def _other_backends(self, server: VirtualServer) -> None:
        version = server.address.version
        found = self._backends(version)
        spread = self._spread(version) if server.spread else None
        self.servers[server.key] = replace(server, internal=found, external=found, spread=spread)

    def _backends(self, version: int) -> tuple[Backend, ...]:
        chance = self.chance
        places = [each[version] for each in (*PODS, *PODS, *LATER, *REMOTE, CLIENTS[3], OWN[1], NODES[OTHER])]
        found = {
            Backend(ip_address(chance.choice(places)), chance.choice(TARGETS))
            for _ in range(chance.choice((0, 1, 1, 2, 3, 5)))
        }
        if self._often(0.1):  # what another node keeps for its peers
            found.add(Backend(ip_address(NODES[OTHER][version]), chance.choice((179, 9179, 3784))))
        return tuple(sorted(found))

    def _spread(self, version: int) -> Spread:
        chance = self.chance
        ready = [
            Placed(Backend(ip_address(each[version]), chance.choice(TARGETS)), node)
            for node, places in ((ME, PODS), (OTHER, REMOTE))
            for each in chance.sample(places, chance.randint(0, 2))
        ] or [Placed(Backend(ip_address(REMOTE[0][version]), 8080), OTHER)]
        return Spread(tuple(sorted(ready)))

    def _police(self, seed: int) -> None:
        """Policies and tenants of a random cluster, whose pods stand here and elsewhere; again: others."""
        places = [Place(ME, _both(each)) for each in PODS] + [Place(OTHER, _both(each)) for each in REMOTE]
        nodes = [Place(ME, _both(OWN[1])), Place(OTHER, _both(NODES[OTHER]))]
        state = cluster(seed, places=places, nodes=nodes, outside=_both(CLIENTS[3]), packets=0).state
        book = self.book
        known, self._declared = self._declared, True
        for name, namespace in state.namespaces.items():
            tenant = {LABEL_TENANT: self.chance.choice("ab")} if self._often(0.3) else {}
            book.put_namespace(name, {**namespace.labels, **tenant})
        for name, node in state.nodes.items():
            book.put_node(name, node)
        for pod_name, pod in state.pods.items() if not known else ():
            book.put_pod(pod_name, pod)
            if pod.node == ME and not pod.host_network and not pod.finished:
                book.attach(str(pod_name), Attached(pod_name, pod.addresses))
        for policy_name, policy in state.policies.items():
            book.put_policy((True, policy_name), policy)
        for cluster_name, policy in state.cluster_policies.items():
            book.put_policy((False, ObjectName("", cluster_name)), policy)
        book.settle()

    def change(self) -> FirewallPlan:
        """Servers come, go and change; sometimes the node's own facts do."""
        for _ in range(self.chance.randint(1, 4)):
            if self.servers and self._often(0.3):
                del self.servers[self.chance.choice(sorted(self.servers, key=str))]
            elif self.servers and self._often(0.5):
                self._other_backends(self.servers[self.chance.choice(sorted(self.servers, key=str))])
            else:
                self._serve()
        if self.policed and self._often(0.5):
            self._police(self.chance.randrange(1 << 16))
        if self._often(0.4):
            self.plan = self._plan()
        else:
            self.plan = self.plan.serving(self.servers.values())
        return self.plan

    def extras(self) -> str:
        """What some pods publish and have masqueraded, in the table of the CNI server."""
        text = ""
        for number, pod in enumerate(self.chance.sample(PODS, self.chance.randint(0, 2))):
            at = self.chance.choice(("", "", OWN[0][4], OWN[0][6]))
            port = PublishedPort(self.chance.choice(PROTOCOLS), PUBLISHED + number, 8080, at)
            ports = (port,) if self._often(0.8) else ()
            masquerade = self._often(0.3)
            text += put_script(Extras(BRIDGE, "", tuple(pod.values()), ports, masquerade=masquerade))
        return text

    # --- packets -----------------------------------------------------------------------------------------

    def packet(self, sport: int) -> tuple[Packet, str]:
        """One, and the link it comes in by; empty: the host sends it."""
        chance, version = self.chance, self.chance.choice(BOTH)
        links = {
            BRIDGE: [*PODS, *PODS, *PODS, *LATER, CLIENTS[0], NOBODY[0], LINK_LOCAL],
            "up0": [*CLIENTS, *CLIENTS, *REMOTE, PODS[0], OWN[0], NOBODY[1], NODES[OTHER], LINK_LOCAL],
            "up1": [*REMOTE, *REMOTE, *REMOTE, CLIENTS[0], NODES[OTHER], NODES[OTHER]],
            "": [*OWN, *OWN, GATEWAY],
        }
        if self.spread:
            links[ENVELOPE] = [*CLIENTS, *CLIENTS, PODS[0], PODS[1], OWN[1]]
        link = chance.choice(sorted(links))
        source = chance.choice(links[link])[version]
        odd = link == BRIDGE and source in (LINK_LOCAL[version], NOBODY[0][version])
        to, port, protocol = self._aim(version, to_node=0.35 if odd else 0.08)
        number = NUMBERS[protocol]
        if self._often(0.05):
            kind = (ICMP, 8) if version == 4 else (ICMPV6, 128)
            if version == 6 and link in ("", BRIDGE) and self._often(0.5):
                kind = (ICMPV6, chance.choice((134, 137)))
            return Packet(ip_address(source), to, kind[0], sport, icmp=kind[1]), link
        flags = 0
        if number == TCP:
            flags = chance.choice((SYN, SYN, SYN, SYN, SYN, SYN, ACK, RST, SYN | ACK, FIN | ACK, RST | ACK))
        ttl = chance.choice((64, 64, 64, 64, 20, 2, 1))
        mss = 1460 if flags & SYN and self._often(0.3) else 0
        return Packet(ip_address(source), to, number, sport, port, flags, ttl, mss=mss), link

    def _aim(self, version: int, to_node: float) -> tuple[Address, int, str]:
        """Address, port and protocol: of a server, of somebody, or beside."""
        chance = self.chance
        mine = [each for each in self.servers.values() if each.address.version == version]
        protocol, port = (
            chance.choice(PROTOCOLS),
            chance.choice((*PORTS, *TARGETS, 179, 9179, 6108, 9005, 9010)),
        )
        own = ip_address(chance.choice((*OWN, GATEWAY))[version])
        if self._often(0.06):
            return own, PUBLISHED + chance.randrange(3), protocol
        if self._often(to_node):
            protocol, port = chance.choice(OWN_PORTS)
            to = chance.choice((own, own, ip_address(chance.choice(ROUTERS)[version])))
            return to, port, protocol
        if mine and self._often(0.65):
            server = chance.choice(sorted(mine, key=lambda each: str(each.key)))
            address = server.address
            if server.on_node:
                address = own
            if self._often(0.1):
                return address, port, server.protocol
            if self._often(0.1):
                return address, server.port, protocol
            return address, server.port, server.protocol
        groups = (PODS, PODS, PODS, LATER, REMOTE, OWN, [GATEWAY], CLIENTS, NOBODY, VIPS, [NODES[OTHER]])
        return ip_address(chance.choice(chance.choice(groups))[version]), port, protocol


def _both(addresses: dict[int, str]) -> tuple[Address, ...]:
    return tuple(ip_address(addresses[version]) for version in BOTH)
