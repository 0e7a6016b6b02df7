"""Random services: what l3net decides, and what the kernel does with packets, is what Kubernetes' documents
say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from firewall_net import CLIENT, IMPATIENCE, NODE, PATIENCE, POD, PODS, REMOTE, UPLINK, Net, inside
from random_services import TARGETS, Maker, Spot
from service_reference import Answer, Document, Fate, Origin, Packet, answer

from l3net.firewall.facts import plan
from l3net.kube.registry import KINDS
from l3net.kube.translate import translate
from l3net.model import ClusterState, ServerKey, VirtualServer
from l3net.model.servers import NODE_PORTS
from l3net.services.servers import virtual_servers

ME, ELSEWHERE = "node", "other"
BOTH = (4, 6)
#: Who may be an endpoint: pods of the node, the node itself, another node's pod.
SPOTS = {
    **{pod: Spot(POD[pod], ME) for pod in PODS},
    "node": Spot(NODE, ME),
    "other": Spot(REMOTE, ELSEWHERE),
}
SOURCES = {
    Origin.OUTSIDE: ("client", CLIENT),
    Origin.POD: ("pod1", POD["pod1"]),
    Origin.NODE: ("node", UPLINK),
}
RANGES = (
    "192.0.2.0/24", "10.1.1.0/24", "192.0.3.1/32", "203.0.113.0/24",
    "2001:db8:c::/64", "fd00:1:1::/120", "2001:db8:d::/64", "2001:db8:f::/64",
)  # fmt: skip
#: A packet that no endpoint of a set has answered is tried so often; each is met by chance.
TRIES = 200
#: Packets more, once all that were expected have answered: one that must not may answer these.
FURTHER = 4


def cluster() -> list[Document]:
    """What is declared beside the services: two nodes, and that every external address is allowed."""
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": ME, "labels": {"topology.kubernetes.io/zone": "east"}},
        "spec": {"podCIDRs": ["10.1.1.0/24", "fd00:1:1::/120"]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": UPLINK[version]} for version in BOTH],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    other = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": ELSEWHERE, "labels": {"topology.kubernetes.io/zone": "west"}},
        "spec": {"podCIDRs": ["10.1.2.0/24", "fd00:1:2::/120"]},
        "status": {"addresses": [], "conditions": [{"type": "Ready", "status": "True"}]},
    }
    allowed = {"enabled": True, "cidrs": ["198.18.0.0/15", "fd00:18::/64", "fd00:19::/64"]}
    configuration = {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "BGPConfiguration",
        "metadata": {"name": "default"},
        "spec": {"advertise": {"externalIPs": allowed, "loadBalancerIPs": allowed}},
    }
    return [node, other, configuration]


def declared(documents: Sequence[Document]) -> ClusterState:
    state = ClusterState()
    for document in documents:
        found = translate(document)
        if found is not None:
            kind, name, fact = found
            KINDS[kind].put(state, name, fact)
    return state


def packets(services: Sequence[Document]) -> Iterator[Packet]:
    """To every address and port of every service, from everywhere, and to a port beside."""
    for service in services:
        if service["kind"] != "Service":
            continue
        spec = service["spec"]
        ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress", ())
        addresses = [each for each in spec["clusterIPs"] if each != "None"]
        addresses += [*spec.get("externalIPs", ()), *(each["ip"] for each in ingress)]
        for port in spec["ports"]:
            targets = [(address, port["port"]) for address in addresses]
            if "nodePort" in port:
                targets += [(UPLINK[version], port["nodePort"]) for version in BOTH]
            for address, number in targets:
                for origin, (_, sources) in SOURCES.items():
                    source = sources[6 if ":" in address else 4]
                    yield Packet(origin, source, address, port["protocol"], number)


def made(batch: int, count: int) -> list[Document]:
    maker = Maker(f"services {batch}", tuple(SPOTS.values()), (ME, ELSEWHERE), RANGES)
    return [document for _ in range(count) for document in maker.service()]


def decided(servers: Mapping[ServerKey, VirtualServer], packet: Packet) -> Answer:
    """What the virtual servers of this node say of a packet."""
    address, protocol = ip_address(packet.address), packet.protocol.lower()
    server = servers.get((address, protocol, packet.port))
    if server is None and packet.address in UPLINK.values():
        server = servers.get((NODE_PORTS[address.version], protocol, packet.port))
    if server is None:
        return Fate.NO_SERVICE
    if server.sources is not None and not any(ip_address(packet.source) in each for each in server.sources):
        return Fate.DROPPED
    backends = server.external if packet.origin is Origin.OUTSIDE else server.internal
    return frozenset((str(each.address), each.port) for each in backends) or Fate.REFUSED


@pytest.mark.parametrize(
    "batch", [*range(4), *(pytest.param(each, marks=pytest.mark.soak) for each in range(4, 100))]
)
def test_what_is_decided_is_what_the_documents_say(batch: int) -> None:
    services = made(batch, 100)
    node, state = cluster()[0], declared([*cluster(), *services])
    servers = {server.key: server for server in virtual_servers(state, ME)}
    fates = set[Any]()
    for packet in packets(services):
        expected = answer(services, node, packet)
        assert decided(servers, packet) == expected, packet
        fates.add(expected if isinstance(expected, Fate) else len(expected))
    assert fates >= {*Fate, 1, 2, 3}  # all of them occur


@pytest.fixture
def net() -> Iterator[Net]:
    made = Net()
    try:
        with inside(made.names["node"]):  # each refusal is heard, though there are many in a second
            for key in ("ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"):
                Path("/proc/sys/net", key).write_text("0")
        yield made
    finally:
        made.close()


def met(net: Net, packet: Packet, expected: Answer) -> Answer:
    """What packets like this one meet, asked until all that is expected has been met, and a little longer."""
    role, version = SOURCES[packet.origin][0], ip_address(packet.address).version
    ask = net.ask if packet.protocol == "TCP" else net.ask_udp
    found = set[tuple[str, int]]()
    wait = PATIENCE if isinstance(expected, frozenset) else IMPATIENCE
    more = FURTHER
    for _ in range(TRIES):
        try:
            name, port, _ = ask(role, version, packet.address, packet.port, wait)
        except ConnectionRefusedError:
            return Fate.REFUSED
        except PermissionError:  # all that a process hears of its own datagram, whichever it is
            return expected if isinstance(expected, Fate) else Fate.REFUSED
        except TimeoutError:
            return Fate.DROPPED
        found.add((SPOTS[name].addresses[version], int(port)))
        if found == expected:
            more -= 1
            if not more:
                break
    return frozenset(found)


@pytest.mark.netns
@pytest.mark.parametrize("batch", [0, *(pytest.param(each, marks=pytest.mark.soak) for each in range(1, 20))])
def test_what_packets_meet_is_what_the_documents_say(net: Net, batch: int) -> None:
    services = made(batch, 40)
    node, state = cluster()[0], declared([*cluster(), *services])
    net.apply(plan(state, ME, virtual_servers(state, ME)))
    fates = set[Any]()
    for version in BOTH:
        with (
            net.serving(version, *TARGETS, roles=PODS),
            net.serving(version, *TARGETS, roles=("other",), address=REMOTE[version]),
            net.serving(version, *TARGETS, roles=("node",), address=NODE[version]),
        ):
            for packet in packets(services):
                expected = answer(services, node, packet)
                # Whither goes what is no service's is nobody's promise.
                if ip_address(packet.address).version == version and expected is not Fate.NO_SERVICE:
                    assert met(net, packet, expected) == expected, packet
                    fates.add(expected if isinstance(expected, Fate) else len(expected))
    assert fates >= {Fate.REFUSED, 1, 2, 3}
