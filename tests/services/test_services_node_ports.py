"""NodePorts: which there are, whom they lead to, who keeps one that two claim. And what is near to them:
target ports that differ, types that change."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from test_services_decisions import CIP4, CIP6, ME, WANING, WEB, at, service, slices, state

from l3net.firewall.facts import plan
from l3net.model import (
    NODE_PORTS,
    BgpConfiguration,
    Node,
    NodePortAddresses,
    ObjectName,
    Service,
    ServicePort,
    VirtualServer,
)
from l3net.naming import LABEL_HEADLESS
from l3net.services.book import ServiceBook
from l3net.services.endpoints import here
from l3net.services.servers import virtual_servers
from l3net.services.verdicts import LABEL_PROXY, Reason, advertised, nowhere_advertised, port_holders

PORT = ServicePort("http", "TCP", 80, 30080)


def on_nodes(*services: Service, **changes: Any) -> dict[tuple[int, str, int], VirtualServer]:
    """The NodePorts by family, protocol and port."""
    found = virtual_servers(state(*services, **changes), ME)
    return {(each.address.version, each.protocol, each.port): each for each in found if each.on_node}


def web(**changes: Any) -> Service:
    return service(ports=(PORT,), **changes)


def ends(*found: VirtualServer) -> list[str]:
    return [f"{each.address}:{each.port}" for server in found for each in server.internal]


def test_one_of_each_family_that_the_service_has() -> None:
    found = on_nodes(web())
    assert set(found) == {(4, "tcp", 30080), (6, "tcp", 30080)}
    assert ends(found[4, "tcp", 30080]) == ["10.1.1.2:8080"]
    assert {found[each, "tcp", 30080].address for each in (4, 6)} == set(NODE_PORTS.values())
    assert set(on_nodes(web(cluster_ips=(CIP6,)))) == {(6, "tcp", 30080)}


@pytest.mark.parametrize(
    "changes",
    [
        {"cluster_ips": ()},  # headless
        {"labels": {LABEL_PROXY: "other"}},
        {"labels": {LABEL_HEADLESS: ""}},
        {"ports": (replace(PORT, node_port=0),)},  # allocateLoadBalancerNodePorts: false
    ],
)
def test_who_has_none(changes: dict[str, Any]) -> None:
    assert on_nodes(service(**({"ports": (PORT,)} | changes))) == {}


def test_the_external_traffic_policy_is_theirs_and_binds_traffic_from_outside_alone() -> None:
    here_and_there = slices((at("10.1.1.2"), at("10.1.2.2", "n2")))
    held = on_nodes(web(external_traffic_local=True, internal_traffic_local=True), endpoints=here_and_there)
    server = held[4, "tcp", 30080]
    assert ends(server) == ["10.1.1.2:8080", "10.1.2.2:8080"]
    assert [str(each.address) for each in server.external] == ["10.1.1.2"]
    elsewhere = slices((at("10.1.2.2", "n2"),))
    server = on_nodes(web(external_traffic_local=True), endpoints=elsewhere)[4, "tcp", 30080]
    assert ends(server) == ["10.1.2.2:8080"]
    assert server.external == ()
    waning = slices((at("10.1.1.2", **WANING), at("10.1.2.2", "n2")))
    server = on_nodes(web(external_traffic_local=True), endpoints=waning)[4, "tcp", 30080]
    assert [str(each.address) for each in server.external] == ["10.1.1.2"]


def test_without_endpoints_there_is_one_that_refuses() -> None:
    server = on_nodes(web(), endpoints={})[4, "tcp", 30080]
    assert (server.internal, server.external) == ((), ())


def test_source_ranges_do_not_bind_them_and_clients_come_back() -> None:
    server = on_nodes(web(source_ranges=(ip_network("192.0.2.0/24"),), affinity_timeout=60))[4, "tcp", 30080]
    assert (server.sources, server.affinity) == (None, 60)


def test_neither_an_address_nor_an_announcement() -> None:
    cluster = state(web())
    assert {each.address for each in advertised(cluster, ME)} == {
        each.address for each in advertised(state(service()), ME)
    }
    book = ServiceBook()
    book.stand(here(cluster.nodes, ME), cluster.configuration.advertise)
    for name, each in cluster.services.items():
        book.put_service(name, each)
    book.settle()
    assert not any(book.has_address(each) for each in NODE_PORTS.values())
    assert not any(each.network_address in NODE_PORTS.values() for each in book.announced)


# --- two that claim one ----------------------------------------------------------------------------------

OTHER = ObjectName("shop", "another")


def rivals(**changes: Any) -> tuple[Service, Service]:
    """The second has the same NodePort; both are announced."""
    second = service(
        name=OTHER,
        cluster_ips=(ip_address("10.96.0.66"),),
        ports=(PORT, ServicePort("https", "TCP", 443, 30443)),
        created="2026-01-01T00:00:00Z",
        external_ips=(),
        load_balancer_ips=(),
    )
    return web(created="2024-01-01T00:00:00Z"), replace(second, **changes)


def test_the_older_keeps_it_and_the_other_is_told() -> None:
    cluster = state(*rivals(), endpoints=slices((at("10.1.1.2"),)) | slices((at("10.1.6.6"),), of=OTHER))
    found = {each.key: each for each in virtual_servers(cluster, ME)}
    assert ends(found[NODE_PORTS[4], "tcp", 30080]) == ["10.1.1.2:8080"]
    assert (NODE_PORTS[4], "tcp", 30443) in found
    verdicts = {each.service: each for each in advertised(cluster, ME) if each.address != CIP6}
    lost = ("node port 30080/TCP is answered for shop/web, which had it first",)
    # Its ClusterIP is its own all the same.
    assert (verdicts[OTHER].reason, verdicts[OTHER].lost) == (Reason.ADVERTISE, lost)
    assert all(each.lost == () for each in advertised(cluster, ME) if each.service == WEB)
    # What the controller tells, of services that nobody announces as well.
    owners = {each: name for name, found in cluster.services.items() for each in found.cluster_ips}
    policy = cluster.configuration.advertise
    holders = port_holders(cluster.services.values(), policy, owners)
    told = [
        verdict
        for each in cluster.services.values()
        for verdict in nowhere_advertised(each, policy, owners, holders, ())
    ]
    assert [(each.service, each.reason, each.lost) for each in told] == [
        (OTHER, Reason.CONFLICTING_PORT, lost)
    ]


def test_another_family_or_protocol_is_no_rival() -> None:
    first, second = rivals(cluster_ips=(ip_address("fd00:10:96::66"),))
    first = replace(first, cluster_ips=(CIP4,))
    assert set(on_nodes(first, second)) == {(4, "tcp", 30080), (6, "tcp", 30080), (6, "tcp", 30443)}
    first, second = rivals(ports=(replace(PORT, protocol="UDP"),))
    assert {key[1] for key in on_nodes(first, second)} == {"tcp", "udp"}


def test_who_waited_has_it_once_it_is_free() -> None:
    """And a service of the same name and number again is no rival of the one before."""
    first, second = rivals()
    cluster = state(first, second)
    book = ServiceBook()
    book.stand(here(cluster.nodes, ME), cluster.configuration.advertise)
    for name, found in slices((at("10.1.1.2"),)).items():
        book.put_slice(name, found)
    for name, found in slices((at("10.1.6.6"),), of=OTHER).items():
        book.put_slice(name, found)

    def put(*services: Service | None) -> list[str]:
        for name, each in zip((WEB, OTHER), services, strict=True):
            book.put_service(name, each)
        book.settle()
        key = (NODE_PORTS[4], "tcp", 30080)
        return ends(book.servers[key]) if key in book.servers else []

    assert put(first, second) == ["10.1.1.2:8080"]
    assert [each.lost for each in book.verdicts() if each.service == OTHER] != [()]
    # The type of the first is ClusterIP: no NodePorts any more.
    plain = replace(first, type="ClusterIP", ports=(replace(PORT, node_port=0),))
    assert put(plain, second) == ["10.1.6.6:8080"]
    assert [each.lost for each in book.verdicts() if each.service == OTHER] == [()]
    assert put(first, second) == ["10.1.1.2:8080"]
    assert put(replace(first, created="2027-01-01T00:00:00Z"), second) == ["10.1.6.6:8080"]
    assert put(None, None) == []
    assert put(first, None) == ["10.1.1.2:8080"]


# --- where they are --------------------------------------------------------------------------------------

OWN = tuple(ip_address(text) for text in ("10.0.0.1", "192.168.0.1", "fd00::1", "fd01::1"))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (NodePortAddresses(), {"10.0.0.1/32", "192.168.0.1/32", "fd00::1/128", "fd01::1/128"}),
        (NodePortAddresses(primary=True), {"10.0.0.1/32", "fd00::1/128"}),
        (NodePortAddresses(cidrs=(ip_network("192.168.0.0/16"),)), {"192.168.0.0/16"}),
    ],
)
def test_on_which_addresses(wanted: NodePortAddresses, expected: set[str]) -> None:
    cluster = state(nodes=(Node(ME, addresses=OWN), Node("n2", addresses=(ip_address("10.0.0.2"),))))
    cluster.configuration = BgpConfiguration(node_ports=wanted)
    assert plan(cluster, ME, ()).ports_on == {ip_network(each) for each in expected}
    assert plan(cluster, "unknown", ()).ports_on == set(wanted.cidrs)


# --- target ports ----------------------------------------------------------------------------------------


def test_a_named_target_port_that_differs_from_pod_to_pod() -> None:
    """The EndpointSlice controller writes a slice for each number that the name has in pods."""
    first, second, third = slices((at("10.1.1.2"),), (at("10.1.1.3"),), (at("10.1.1.4"),)).values()
    varied = [
        replace(first, ports={"http": ("TCP", 8080)}),
        replace(second, ports={"http": ("TCP", 9090)}),
        replace(third, ports={"other": ("TCP", 7070)}),  # not of this port
    ]
    found = virtual_servers(state(web(), endpoints={each.name: each for each in varied}), ME)
    for server in found:
        if server.address.version == 4:
            assert ends(server) == ["10.1.1.2:8080", "10.1.1.3:9090"]
