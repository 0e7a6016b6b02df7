"""The book of services: whatever happened, it says what deciding everything afresh would say."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l3net.model import (
    AddressKind,
    AdvertisePolicy,
    BgpConfiguration,
    ClusterState,
    Endpoint,
    EndpointSlice,
    Hints,
    Node,
    ObjectName,
    Prefix,
    ServerKey,
    Service,
    ServicePort,
    VirtualServer,
)
from l3net.naming import LABEL_EXCLUDED, LABEL_HEADLESS, LABEL_ZONE
from l3net.services.book import ServiceBook, Settled
from l3net.services.endpoints import here
from l3net.services.servers import virtual_servers
from l3net.services.verdicts import Reason, advertised, announced

ME = "n1"
HTTP, DNS = ServicePort("http", "TCP", 80), ServicePort("dns", "UDP", 53)
ON_NODES = tuple(replace(port, node_port=30080) for port in (HTTP, DNS))
POLICIES = (
    AdvertisePolicy(),
    AdvertisePolicy(cluster_ips=AddressKind(enabled=False)),
    AdvertisePolicy(
        external_ips=AddressKind(True, (ip_network("10.96.0.0/24"), ip_network("fd00::/64"))),
        load_balancer_ips=AddressKind(True, (ip_network("10.96.0.0/29"),)),
    ),
)
NAMES = st.sampled_from([ObjectName("a", "one"), ObjectName("a", "two"), ObjectName("b", "one")])
#: Few, of both families, so that services claim each other's.
ADDRESSES = st.sampled_from([ip_address(text) for text in ("10.96.0.1", "10.96.0.2", "10.96.0.3", "fd00::1")])
NODES = (
    (),
    (Node(ME),),
    (Node(ME, ready=False),),
    (Node(ME, labels={LABEL_EXCLUDED: ""}), Node("n2")),
    (Node(ME, labels={LABEL_ZONE: "a"}),),
    (Node(ME, labels={LABEL_ZONE: "b"}),),
    (Node(ME, blocks=(ip_network("10.244.1.0/24"),)), Node("n2")),
    (Node(ME, addresses=(ip_address("10.96.0.1"),)), Node("n2", addresses=(ip_address("10.96.0.2"),))),
    (Node(ME), Node("n2", addresses=(ip_address("10.96.0.1"), ip_address("fd00::1")))),
)


@st.composite
def services(draw: st.DrawFn, name: ObjectName) -> Service:
    some = st.lists(ADDRESSES, max_size=2, unique=True).map(tuple)
    return Service(
        name=name,
        type="LoadBalancer",
        cluster_ips=draw(some),
        external_ips=draw(some),
        load_balancer_ips=draw(some),
        ports=draw(st.sampled_from([(), (HTTP,), (HTTP, DNS), ON_NODES, ON_NODES[:1]])),
        internal_traffic_local=draw(st.booleans()),
        external_traffic_local=draw(st.booleans()),
        annotations=draw(st.sampled_from([{}, {"l3net.io/advertise": "false"}])),
        labels=draw(st.sampled_from([{}, {}, {LABEL_HEADLESS: ""}])),
        created=draw(st.sampled_from(["", "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"])),
        source_ranges=draw(st.sampled_from([None, (ip_network("192.0.2.0/24"),)])),
        affinity_timeout=draw(st.sampled_from([0, 60])),
    )


@st.composite
def slices(draw: st.DrawFn, name: ObjectName) -> EndpointSlice:
    endpoint = st.builds(
        Endpoint,
        st.sampled_from([ip_address("10.244.1.5"), ip_address("10.244.2.5"), ip_address("fd00:1::5")]),
        ready=st.booleans(),
        serving=st.booleans(),
        terminating=st.booleans(),
        node=st.sampled_from([ME, "n2", None]),
        hints=st.sampled_from(
            [None, Hints((), ("a",)), Hints((), ("b",)), Hints((ME,)), Hints(("n2",), ("a",))]
        ),
    )
    return EndpointSlice(
        name=name,
        service=ObjectName(name.namespace, draw(st.sampled_from(["one", "two"]))),
        endpoints=draw(st.lists(endpoint, max_size=3).map(tuple)),
        ports=draw(
            st.sampled_from([{}, {"http": ("TCP", 8080)}, {"http": ("TCP", 8080), "dns": ("UDP", 53)}])
        ),
    )


CHANGES = st.one_of(
    NAMES.flatmap(lambda name: st.tuples(st.just("service"), st.just(name), st.none() | services(name))),
    NAMES.flatmap(lambda name: st.tuples(st.just("slice"), st.just(name), st.none() | slices(name))),
    st.tuples(st.just("nodes"), st.none(), st.sampled_from(NODES)),
    st.tuples(st.just("policy"), st.none(), st.sampled_from(POLICIES)),
    st.tuples(st.just("settle"), st.none(), st.none()),
)


class Mirror:
    """Someone who only hears the differences."""

    def __init__(self) -> None:
        self.announced: set[Prefix] = set()
        self.servers: dict[ServerKey, VirtualServer] = {}

    def hear(self, settled: Settled) -> None:
        assert not settled.announce & self.announced, "announced twice"
        assert settled.withdraw <= self.announced, "withdrawn, but never announced"
        self.announced = (self.announced | settled.announce) - settled.withdraw
        for key, (before, now) in settled.servers.items():
            assert self.servers.get(key) == before
            assert before != now, "no difference"
            if now is None:
                del self.servers[key]
            else:
                self.servers[key] = now


def change(book: ServiceBook, state: ClusterState, what: str, name: Any, value: Any) -> None:
    match what:
        case "service":
            state.services.pop(name, None)
            if value is not None:
                state.services[name] = value
            book.put_service(name, value)
        case "slice":
            state.slices.pop(name, None)
            if value is not None:
                state.slices[name] = value
            book.put_slice(name, value)
        case "nodes":
            for gone in state.nodes:
                book.put_node(gone, None)
            state.nodes = {node.name: node for node in value}
            for each in value:
                book.put_node(each.name, each)
        case "policy":
            state.configuration = BgpConfiguration(advertise=value)
    book.stand(here(state.nodes, ME), state.configuration.advertise)


def same_as_afresh(book: ServiceBook, state: ClusterState, mirror: Mirror) -> None:
    wanted = advertised(state, ME)
    assert tuple(book.verdicts()) == wanted
    assert book.announced == announced(wanted) == mirror.announced
    assert frozenset(book.servers.values()) == virtual_servers(state, ME)
    assert mirror.servers == book.servers
    every = {
        address
        for service in state.services.values()
        for address in (*service.cluster_ips, *service.external_ips, *service.load_balancer_ips)
    }
    assert book.addresses == every


@settings(max_examples=300, deadline=None)
@given(st.lists(CHANGES, max_size=25))
def test_book_equals_deciding_afresh(changes: list[tuple[str, Any, Any]]) -> None:
    book, state, mirror = ServiceBook(), ClusterState(), Mirror()
    change(book, state, "nodes", None, NODES[1])  # where most is possible
    change(book, state, "policy", None, POLICIES[2])
    for what, name, value in changes:
        if what == "settle":
            mirror.hear(book.settle())
            same_as_afresh(book, state, mirror)
        else:
            change(book, state, what, name, value)
    mirror.hear(book.settle())
    same_as_afresh(book, state, mirror)
    assert not book.settle(), "the second time is quiet"


@settings(max_examples=100, deadline=None)
@given(st.lists(CHANGES, max_size=20), st.randoms(use_true_random=False))
def test_any_order_loss_and_repetition_end_the_same(changes: list[tuple[str, Any, Any]], chance: Any) -> None:
    """Events lost, repeated and out of order, then everything said once more, as after a new list."""
    final = ClusterState()
    for what, name, value in changes:
        change(ServiceBook(), final, what, name, value)
    book, state, mirror = ServiceBook(), ClusterState(), Mirror()
    garbled = [each for each in changes * 2 if chance.random() < 0.6]
    chance.shuffle(garbled)
    for what, name, value in garbled:
        change(book, state, what, name, value)
        mirror.hear(book.settle())
    for found in (*state.services, *final.services):
        change(book, state, "service", found, final.services.get(found))
    for found in (*state.slices, *final.slices):
        change(book, state, "slice", found, final.slices.get(found))
    for name in ("n2", *state.nodes):
        book.put_node(name, None)
    change(book, state, "nodes", None, tuple(final.nodes.values()))
    change(book, state, "policy", None, final.configuration.advertise)
    mirror.hear(book.settle())
    same_as_afresh(book, final, mirror)


@pytest.mark.parametrize("others", [10, 1000])
def test_one_slice_decides_one_service(others: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is that of the one service, however many there are."""
    book = ServiceBook()
    book.stand(here({ME: Node(ME)}, ME), AdvertisePolicy())
    for number in range(others):
        name = ObjectName("x", f"s{number}")
        address = ip_address("10.96.0.0") + number + 1
        book.put_service(name, Service(name, cluster_ips=(address,), ports=(HTTP,)))
    book.settle()
    decided: list[ObjectName] = []
    original = ServiceBook._decide
    monkeypatch.setattr(
        ServiceBook, "_decide", lambda self, name: (decided.append(name), original(self, name))[1]
    )
    name = ObjectName("x", "s5")
    ready = (Endpoint(ip_address("10.244.1.5")),)
    book.put_slice(
        ObjectName("x", "s5-1"), EndpointSlice(ObjectName("x", "s5-1"), name, ready, {"http": ("TCP", 1)})
    )
    settled = book.settle()
    assert decided == [name]
    assert [str(prefix) for prefix in settled.announce] == ["10.96.0.6/32"]


def test_an_owner_that_comes_and_goes_decides_those_who_claim_its_address() -> None:
    book, state, mirror = ServiceBook(), ClusterState(), Mirror()
    change(book, state, "nodes", None, NODES[1])
    change(book, state, "policy", None, POLICIES[2])
    taker, owner = ObjectName("a", "taker"), ObjectName("b", "owner")
    claimed, own = ip_address("10.96.0.1"), ip_address("10.96.0.2")
    taking = Service(taker, cluster_ips=(own,), external_ips=(claimed,), ports=(HTTP,))
    ready = EndpointSlice(
        ObjectName("a", "x"), taker, (Endpoint(ip_address("10.244.2.5")),), {"http": ("TCP", 8080)}
    )
    change(book, state, "service", taker, taking)
    change(book, state, "slice", ready.name, ready)
    mirror.hear(book.settle())
    assert ip_network("10.96.0.1/32") in book.announced
    change(book, state, "service", owner, Service(owner, cluster_ips=(claimed,), ports=(HTTP,)))
    mirror.hear(book.settle())
    same_as_afresh(book, state, mirror)
    assert ip_network("10.96.0.1/32") not in book.announced
    change(book, state, "service", owner, None)
    mirror.hear(book.settle())
    same_as_afresh(book, state, mirror)
    assert ip_network("10.96.0.1/32") in book.announced


def test_what_a_policy_refuses_is_lost_to_nobody() -> None:
    """An address outside the allow-list that another service answers to: the same, however it was decided."""
    first = Service(
        ObjectName("a", "one"), cluster_ips=(ip_address("10.96.0.1"),), external_ips=(ip_address("fd00::1"),),
        ports=(HTTP,),
    )  # fmt: skip
    second = replace(
        first, name=ObjectName("a", "two"), external_ips=(), load_balancer_ips=(ip_address("fd00::1"),)
    )
    book, state, mirror = ServiceBook(), ClusterState(), Mirror()
    change(book, state, "nodes", None, NODES[1])
    change(book, state, "policy", None, POLICIES[2])
    for service in (first, second):
        change(book, state, "service", service.name, service)
    mirror.hear(book.settle())
    same_as_afresh(book, state, mirror)
    refused = [each for each in book.verdicts() if each.service == second.name and each.address.version == 6]
    assert [(each.reason, each.lost) for each in refused] == [(Reason.OUTSIDE_ALLOW_LIST, ())]
