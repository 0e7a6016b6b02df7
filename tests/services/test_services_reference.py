"""Random services: what l3net decides, and what the kernel does with packets, is what Kubernetes' documents
say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from firewall_net import IMPATIENCE, NODE, PATIENCE, PODS, REMOTE, UPLINK, Net, inside
from random_services import TARGETS
from service_reference import Answer, Fate, Origin, Packet, answer
from services_cluster import BOTH, ME, SOURCES, SPOTS, cluster, declared, made, packets

from l3net.firewall.facts import plan
from l3net.model import ServerKey, VirtualServer
from l3net.model.servers import NODE_PORTS
from l3net.services.servers import virtual_servers

#: A packet that no endpoint of a set has answered is tried so often; each is met by chance.
TRIES = 200
#: Packets more, once all that were expected have answered: one that must not may answer these.
FURTHER = 4


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
