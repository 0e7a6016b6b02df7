"""Which service addresses are announced and why not, and which backends serve them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3net.model import (
    AddressKind,
    AdvertisePolicy,
    Backend,
    BgpConfiguration,
    ClusterState,
    Endpoint,
    EndpointSlice,
    Hints,
    Node,
    ObjectName,
    Requirement,
    Selector,
    Service,
    ServicePort,
    Taint,
    VirtualServer,
    node_addresses,
)
from l3net.naming import LABEL_EXCLUDED, LABEL_HEADLESS, LABEL_PROXY, LABEL_ZONE
from l3net.services.servers import virtual_servers
from l3net.services.verdicts import (
    Reason,
    advertised,
    announced,
    nowhere_advertised,
)

ME = "n1"
WEB = ObjectName("shop", "web")
CIP4, CIP6 = ip_address("10.96.0.10"), ip_address("fd00:10:96::a")
EXT = ip_address("198.51.100.7")
LB = ip_address("203.0.113.1")
HTTP = ServicePort("http", "TCP", 80)
OPEN = AdvertisePolicy(
    external_ips=AddressKind(True, (ip_network("198.51.100.0/24"),)),
    load_balancer_ips=AddressKind(True, (ip_network("203.0.113.0/24"),)),
)


def service(**changes: Any) -> Service:
    fields: dict[str, Any] = {
        "name": WEB,
        "type": "LoadBalancer",
        "cluster_ips": (CIP4, CIP6),
        "external_ips": (EXT,),
        "load_balancer_ips": (LB,),
        "ports": (HTTP,),
    }
    return Service(**(fields | changes))


def at(address: str, node: str | None = "n1", **conditions: bool) -> Endpoint:
    return Endpoint(ip_address(address), node=node, **conditions)


WANING = {"ready": False, "serving": True, "terminating": True}


def slices(*groups: tuple[Endpoint, ...], of: ObjectName = WEB) -> dict[ObjectName, EndpointSlice]:
    made = [
        EndpointSlice(ObjectName(of.namespace, f"any-{of.name}-{index}"), of, group, {"http": ("TCP", 8080)})
        for index, group in enumerate(groups)
    ]
    return {made_slice.name: made_slice for made_slice in made}


def state(
    *services: Service,
    endpoints: dict[ObjectName, EndpointSlice] | None = None,
    nodes: tuple[Node, ...] = (Node("n1"), Node("n2")),
    policy: AdvertisePolicy = OPEN,
) -> ClusterState:
    return ClusterState(
        nodes={node.name: node for node in nodes},
        services={found.name: found for found in services or (service(),)},
        slices=slices((at("10.1.1.2"),), (at("fd00:1::2"),)) if endpoints is None else endpoints,
        configuration=BgpConfiguration(advertise=policy),
    )


def reasons(cluster: ClusterState, me: str = ME) -> dict[str, str]:
    return {str(verdict.address): verdict.reason.value for verdict in advertised(cluster, me)}


def servers(cluster: ClusterState, me: str = ME) -> dict[str, tuple[list[str], list[str]]]:
    def shown(backends: tuple[Backend, ...]) -> list[str]:
        return [f"{backend.address} {backend.port}" for backend in backends]

    return {
        f"{server.address} {server.protocol} {server.port}": (shown(server.internal), shown(server.external))
        for server in virtual_servers(cluster, me)
    }


def test_every_address_with_its_kind_and_reason() -> None:
    assert reasons(state()) == {
        str(CIP4): "advertise",
        str(CIP6): "advertise",
        str(EXT): "advertise",
        str(LB): "advertise",
    }
    assert announced(advertised(state(), ME)) == {
        ip_network("10.96.0.10/32"),
        ip_network("fd00:10:96::a/128"),
        ip_network("198.51.100.7/32"),
        ip_network("203.0.113.1/32"),
    }


def test_only_clusterips_by_default() -> None:
    assert reasons(state(policy=AdvertisePolicy())) == {
        str(CIP4): "advertise",
        str(CIP6): "advertise",
        str(EXT): "kindDisabled",
        str(LB): "kindDisabled",
    }


def test_an_empty_allow_list_holds_every_clusterip_and_no_external_address() -> None:
    policy = AdvertisePolicy(external_ips=AddressKind(True), load_balancer_ips=AddressKind(True))
    found = reasons(state(policy=policy))
    assert found[str(CIP4)] == "advertise"
    assert found[str(EXT)] == found[str(LB)] == "outsideAllowList"
    narrow = AdvertisePolicy(cluster_ips=AddressKind(True, (ip_network("10.96.1.0/24"),)))
    assert reasons(state(policy=narrow))[str(CIP4)] == "outsideAllowList"


@pytest.mark.parametrize(
    ("labels", "annotation", "expected"),
    [
        ({}, None, Reason.NOT_SELECTED),
        ({"expose": "no"}, None, Reason.NOT_SELECTED),
        ({"expose": "yes"}, None, Reason.ADVERTISE),
        ({}, "true", Reason.ADVERTISE),
        ({"expose": "yes"}, "false", Reason.OPTED_OUT),
    ],
)
def test_services_are_selected_by_label_and_the_annotation_goes_before(
    labels: dict[str, str], annotation: str | None, expected: Reason
) -> None:
    policy = replace(OPEN, service_selector=Selector((Requirement("expose", "In", ("yes",)),)))
    annotations = {} if annotation is None else {"l3net.io/advertise": annotation}
    found = reasons(state(service(labels=labels, annotations=annotations), policy=policy))
    assert {found[str(address)] for address in (CIP4, CIP6, EXT, LB)} == {expected.value}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"labels": {LABEL_HEADLESS: ""}}, {CIP4: Reason.HEADLESS, LB: Reason.HEADLESS}),
        ({"labels": {LABEL_PROXY: "other"}}, {CIP4: Reason.OTHER_PROXY, LB: Reason.OTHER_PROXY}),
        ({"annotations": {"l3net.io/advertise": "false"}}, {CIP4: Reason.OPTED_OUT, LB: Reason.OPTED_OUT}),
        ({"annotations": {"l3net.io/advertise": "true"}}, {CIP4: Reason.ADVERTISE}),
        (
            {"load_balancer_class": "other.example/lb"},
            {CIP4: Reason.ADVERTISE, EXT: Reason.ADVERTISE, LB: Reason.OTHER_LOAD_BALANCER_CLASS},
        ),
        ({"load_balancer_class": "l3net.io/bgp"}, {LB: Reason.ADVERTISE}),
        ({"ports": (ServicePort("other", "TCP", 80),)}, {CIP4: Reason.NO_ENDPOINTS}),
        ({"ports": (ServicePort("http", "UDP", 80),)}, {CIP4: Reason.NO_ENDPOINTS}),
    ],
)
def test_reasons_in_the_service(change: dict[str, Any], expected: dict[object, Reason]) -> None:
    found = {verdict.address: verdict.reason for verdict in advertised(state(service(**change)), ME)}
    assert {address: found[address] for address in expected} == expected  # type: ignore[index]


def test_headless_services_have_no_verdict_and_no_server() -> None:
    headless = state(service(cluster_ips=()))
    assert reasons(headless) == {}
    assert servers(headless) == {}


@pytest.mark.parametrize(
    ("nodes", "cluster_ip", "external"),
    [
        ((Node("n1"),), "advertise", "advertise"),
        ((Node("n1", ready=False), Node("n2")), "nodeNotReady", "nodeNotReady"),
        ((Node("n2"),), "nodeUnknown", "nodeUnknown"),
        ((Node("n1", labels={LABEL_EXCLUDED: ""}), Node("n2")), "advertise", "nodeExcluded"),
        ((Node("n1", labels={LABEL_EXCLUDED: "false"}), Node("n2")), "advertise", "nodeExcluded"),
        ((Node("n1", labels={LABEL_EXCLUDED: ""}),), "advertise", "advertise"),
        ((Node("n1"), Node("n2", labels={LABEL_EXCLUDED: ""})), "advertise", "advertise"),
    ],
)
def test_reasons_in_the_node(nodes: tuple[Node, ...], cluster_ip: str, external: str) -> None:
    found = reasons(state(nodes=nodes))
    assert (found[str(CIP4)], found[str(EXT)], found[str(LB)]) == (cluster_ip, external, external)


NOT_SERVING = {"ready": False, "serving": False}


@pytest.mark.parametrize(
    # endpoints, then for policy Cluster and Local: the verdict and the backends' last bytes
    ("endpoints", "cluster", "local"),
    [
        ((), ("noEndpoints", ""), ("noEndpoints", "")),
        ((at("10.1.1.2"),), ("advertise", "2"), ("advertise", "2")),
        ((at("10.1.1.2", "n2"),), ("advertise", "2"), ("noLocalEndpoints", "")),
        ((at("10.1.1.2", **NOT_SERVING),), ("noEndpoints", ""), ("noEndpoints", "")),
        ((at("10.1.1.2", **NOT_SERVING), at("10.1.1.3", "n2")), ("advertise", "3"), ("noLocalEndpoints", "")),
        ((at("10.1.1.2"), at("10.1.1.3", "n2")), ("advertise", "23"), ("advertise", "2")),
        ((at("10.1.1.2", **WANING),), ("advertise", "2"), ("advertise", "2")),
        ((at("10.1.1.2", **WANING), at("10.1.1.3")), ("advertise", "3"), ("advertise", "3")),
        # It goes on to serve what still arrives, but draws nothing while another node is ready.
        ((at("10.1.1.2", **WANING), at("10.1.1.3", "n2")), ("advertise", "3"), ("noLocalEndpoints", "2")),
        ((at("10.1.1.2", "n2", **WANING),), ("advertise", "2"), ("noLocalEndpoints", "")),
        (
            (at("10.1.1.2", terminating=True, ready=False, serving=False),),
            ("noEndpoints", ""),
            ("noEndpoints", ""),
        ),
    ],
)
def test_endpoints_and_traffic_policies(
    endpoints: tuple[Endpoint, ...], cluster: tuple[str, str], local: tuple[str, str]
) -> None:
    for policy, (verdict, last) in ((False, cluster), (True, local)):
        cluster_state = state(
            service(internal_traffic_local=policy, external_traffic_local=policy, cluster_ips=(CIP4,)),
            endpoints=slices(endpoints),
        )
        backends = [f"10.1.1.{byte} 8080" for byte in last]
        assert reasons(cluster_state) == dict.fromkeys(map(str, (CIP4, EXT, LB)), verdict)
        found = servers(cluster_state)
        assert found[f"{CIP4} tcp 80"] == (backends, backends)
        # Pods and processes of the node reach external addresses wherever the endpoints are.
        everywhere = [f"10.1.1.{byte} 8080" for byte in cluster[1]]
        assert found[f"{EXT} tcp 80"] == found[f"{LB} tcp 80"] == (everywhere, backends)


def test_the_two_policies_are_for_their_own_addresses() -> None:
    endpoints = slices((at("10.1.1.2", "n2"),))
    internal = reasons(state(service(internal_traffic_local=True), endpoints=endpoints))
    assert (internal[str(CIP4)], internal[str(EXT)], internal[str(LB)]) == (
        "noLocalEndpoints",
        "advertise",
        "advertise",
    )
    external = reasons(state(service(external_traffic_local=True), endpoints=endpoints))
    assert (external[str(CIP4)], external[str(EXT)], external[str(LB)]) == (
        "advertise",
        "noLocalEndpoints",
        "noLocalEndpoints",
    )


def test_families_do_not_mix() -> None:
    only6 = state(endpoints=slices((at("fd00:1::2"),)))
    assert reasons(only6)[str(CIP4)] == "noEndpoints"
    assert reasons(only6)[str(CIP6)] == "advertise"
    assert servers(only6)[f"{CIP6} tcp 80"][0] == ["fd00:1::2 8080"]
    assert servers(only6)[f"{CIP4} tcp 80"][0] == []


def test_endpoints_without_a_node_are_placed_by_the_blocks() -> None:
    nodes = (Node("n1", blocks=(ip_network("10.1.1.0/24"),)), Node("n2", blocks=(ip_network("10.1.2.0/24"),)))
    cluster = state(
        service(internal_traffic_local=True), endpoints=slices((at("10.1.1.2", None),)), nodes=nodes
    )
    assert reasons(cluster, "n1")[str(CIP4)] == "advertise"
    assert reasons(cluster, "n2")[str(CIP4)] == "noLocalEndpoints"


def test_publish_not_ready_addresses() -> None:
    endpoints = slices((at("10.1.1.2", **NOT_SERVING),))
    assert reasons(state(service(publish_not_ready=True), endpoints=endpoints))[str(CIP4)] == "advertise"


def test_a_shared_external_address_stays_until_the_last_has_gone() -> None:
    other = replace(service(), name=ObjectName("shop", "api"), cluster_ips=(ip_address("10.96.0.11"),))
    both = slices((at("10.1.1.2"),)) | slices((at("10.1.1.3"),), of=other.name)
    prefix = ip_network(f"{EXT}/32")
    assert prefix in announced(advertised(state(service(), other, endpoints=both), ME))
    assert prefix in announced(advertised(state(service(), endpoints=both), ME))
    assert prefix in announced(advertised(state(other, endpoints=both), ME))
    assert prefix not in announced(advertised(state(other, endpoints=slices((at("10.1.1.2"),))), ME))


def test_an_external_address_cannot_take_anothers_clusterip() -> None:
    policy = replace(OPEN, external_ips=AddressKind(True, (ip_network("10.96.0.0/16"),)))
    thief = service(
        name=ObjectName("a", "thief"), cluster_ips=(ip_address("10.96.0.99"),), external_ips=(CIP4,)
    )
    endpoints = slices((at("10.1.1.2"),)) | slices((at("10.1.1.66"),), of=thief.name)
    cluster = state(service(), thief, endpoints=endpoints, policy=policy)
    [verdict] = [
        verdict
        for verdict in advertised(cluster, ME)
        if (verdict.service, verdict.address) == (thief.name, CIP4)
    ]
    assert verdict.reason is Reason.CONFLICTING_OWNER
    assert servers(cluster)[f"{CIP4} tcp 80"][0] == ["10.1.1.2 8080"]


@pytest.mark.parametrize("changes", [{"external_ips": (CIP4,)}, {"cluster_ips": (CIP4,)}])
def test_a_nodes_own_address_is_announced_by_nobody(changes: dict[str, Any]) -> None:
    """The node would be cut off: its neighbours would announce the way to it. Served it is."""
    policy = replace(OPEN, external_ips=AddressKind(True, (ip_network("10.96.0.0/16"),)))
    name = ObjectName("a", "own")
    own = replace(service(name=name, cluster_ips=(ip_address("10.96.0.99"),)), **changes)
    endpoints = slices((at("10.1.1.2"),), of=name)
    cluster = state(own, endpoints=endpoints, policy=policy)
    assert reasons(cluster)[str(CIP4)] == "advertise"
    nodes = {**cluster.nodes, "n9": Node("n9", addresses=(CIP4,))}
    cluster = replace(cluster, nodes=nodes)
    assert reasons(cluster)[str(CIP4)] == "nodeAddress"
    assert f"{CIP4} tcp 80" in servers(cluster)
    told = list(nowhere_advertised(own, policy, {}, {}, node_addresses(nodes.values())))
    expected = [Reason.NODE_ADDRESS] if "external_ips" in changes else []
    assert [each.reason for each in told if each.address == CIP4] == expected


def test_external_addresses_outside_the_allow_list_are_not_served_either() -> None:
    cluster = state(policy=AdvertisePolicy())
    assert set(servers(cluster)) == {f"{CIP4} tcp 80", f"{CIP6} tcp 80"}
    served = AdvertisePolicy(external_ips=AddressKind(False, (ip_network("198.51.100.0/24"),)))
    assert f"{EXT} tcp 80" in servers(state(policy=served))  # served, though not announced


def test_two_services_at_one_address_and_port() -> None:
    other = service(name=ObjectName("shop", "api"), cluster_ips=(ip_address("10.96.0.11"),))
    endpoints = slices((at("10.1.1.2"),)) | slices((at("10.1.1.3"),), of=other.name)
    found = [
        server
        for server in virtual_servers(state(service(), other, endpoints=endpoints), ME)
        if server.address == EXT
    ]
    assert [server.internal for server in found] == [(Backend(ip_address("10.1.1.3"), 8080),)]


def test_client_affinity_and_protocol_are_passed_on() -> None:
    port = ServicePort("http", "TCP", 443)
    cluster = state(service(affinity_timeout=60, ports=(port,), cluster_ips=(CIP4,)))
    backends = (Backend(ip_address("10.1.1.2"), 8080),)
    assert VirtualServer(CIP4, "tcp", 443, backends, backends, 60) in virtual_servers(cluster, ME)


# --- laws --------------------------------------------------------------------------------------------

ENDPOINTS = st.builds(
    Endpoint,
    address=st.integers(1, 12).map(lambda number: ip_address(f"10.1.1.{number}")),
    ready=st.booleans(),
    serving=st.booleans(),
    terminating=st.booleans(),
    node=st.sampled_from(["n1", "n2", None]),
)
GROUPS = st.lists(st.lists(ENDPOINTS, max_size=5).map(tuple), max_size=5)


def decided(cluster: ClusterState) -> tuple[object, object]:
    return set(advertised(cluster, ME)), virtual_servers(cluster, ME)


@given(groups=GROUPS, order=st.randoms(), local=st.booleans())
def test_the_order_and_the_grouping_of_slices_do_not_matter(groups: Any, order: Any, local: bool) -> None:
    web = service(internal_traffic_local=local, external_traffic_local=local)
    expected = decided(state(web, endpoints=slices(*groups)))
    found = list(slices(*groups).items())
    order.shuffle(found)
    assert decided(state(web, endpoints=dict(found))) == expected
    flat = tuple(endpoint for group in groups for endpoint in group)
    assert decided(state(web, endpoints=slices(flat))) == expected
    assert decided(state(web, endpoints=slices(*[(one,) for one in flat]))) == expected


@given(groups=GROUPS, gone=st.integers(0, 4))
def test_a_slice_that_is_deleted_counts(groups: Any, gone: int) -> None:
    left = [group for index, group in enumerate(groups) if index != gone]
    endpoints = slices(*groups)
    endpoints.pop(ObjectName("shop", f"any-web-{gone}"), None)
    assert decided(state(endpoints=endpoints)) == decided(state(endpoints=slices(*left)))


@given(groups=GROUPS, others=GROUPS)
def test_services_do_not_touch_one_another(groups: Any, others: Any) -> None:
    other = Service(ObjectName("shop", "other"), cluster_ips=(ip_address("10.96.0.11"),), ports=(HTTP,))
    endpoints = slices(*groups) | slices(*others, of=other.name)
    both = state(service(), other, endpoints=endpoints)
    alone = state(service(), endpoints=slices(*groups))
    verdicts, found = decided(both)
    assert {verdict for verdict in advertised(both, ME) if verdict.service == WEB} == decided(alone)[0]
    assert virtual_servers(alone, ME) <= found  # type: ignore[operator]
    assert verdicts


@given(groups=GROUPS)
def test_what_is_announced_is_served(groups: Any) -> None:
    for local in (False, True):
        web = service(internal_traffic_local=local, external_traffic_local=local)
        cluster = state(web, endpoints=slices(*groups))
        served = {server.address for server in virtual_servers(cluster, ME) if server.external}
        assert {verdict.address for verdict in advertised(cluster, ME) if verdict.advertised} <= served


# --- a node that drains ----------------------------------------------------------------------------------


def draining(*groups: tuple[Endpoint, ...], other: Node, **changes: Any) -> set[str]:
    """The reasons of all IPv4 addresses."""
    cluster = state(
        service(cluster_ips=(CIP4,), **changes),
        endpoints=slices(*groups),
        nodes=(Node(ME, unschedulable=True), other),
    )
    return {verdict.reason.value for verdict in advertised(cluster, ME, draining=True)}


def test_what_others_serve_is_withdrawn() -> None:
    assert draining((at("10.1.1.2"),), other=Node("n2")) == {"nodeDraining"}


@pytest.mark.parametrize(
    "other",
    [
        Node("n2", ready=False),
        Node("n2", unschedulable=True),
        Node("n2", taints=frozenset({Taint("karpenter.sh/disrupted", "NoSchedule")})),
    ],
)
def test_what_nobody_else_serves_stays(other: Node) -> None:
    """All nodes cordoned at once, or a cluster of one node, must not take the services away."""
    assert draining((at("10.1.1.2"),), other=other) == {"advertise"}


def test_with_a_local_traffic_policy_the_other_node_needs_an_endpoint() -> None:
    local = {"external_traffic_local": True, "internal_traffic_local": True}
    assert draining((at("10.1.1.2", ME),), other=Node("n2"), **local) == {"advertise"}
    both = (at("10.1.1.2", ME), at("10.1.2.2", "n2"))
    assert draining(both, other=Node("n2"), **local) == {"nodeDraining"}
    assert draining((at("10.1.2.2", "n2"),), other=Node("n2"), **local) == {"noLocalEndpoints"}


def test_a_node_that_shuts_down_serves_until_its_drain_comes_to_that() -> None:
    """Kubelet calls it not ready at once; a node that is not ready for another reason withdraws at once."""
    going = state(nodes=(Node(ME, ready=False, shutting_down=True), Node("n2")))
    assert {verdict.reason for verdict in advertised(going, ME)} == {Reason.ADVERTISE}
    assert {verdict.reason for verdict in advertised(going, ME, draining=True)} == {Reason.NODE_DRAINING}
    assert set(reasons(state(nodes=(Node(ME, ready=False), Node("n2")))).values()) == {"nodeNotReady"}


# --- who keeps what several claim ------------------------------------------------------------------------

SHOP, EVIL = ObjectName("team-b", "shop"), ObjectName("team-a", "evil")
OLDER, NEWER = "2024-01-01T00:00:00Z", "2026-01-01T00:00:00Z"


def rivals(**changes: Any) -> ClusterState:
    """Two services with one external address and port, of which the older one has the later name."""
    made = {"cluster_ips": (), "external_ips": (EXT,), "load_balancer_ips": ()}
    shop = service(**(made | {"name": SHOP, "cluster_ips": (CIP4,), "created": OLDER}))
    evil = service(
        **(made | {"name": EVIL, "cluster_ips": (ip_address("10.96.0.66"),), "created": NEWER} | changes)
    )
    ends = slices((at("10.1.1.2"),), of=SHOP) | slices((at("10.1.6.6"),), of=EVIL)
    return state(shop, evil, endpoints=ends)


def test_the_older_service_keeps_an_address_and_port() -> None:
    cluster = rivals()
    assert servers(cluster)[f"{EXT} tcp 80"] == (["10.1.1.2 8080"], ["10.1.1.2 8080"])
    (lost,) = [each for each in advertised(cluster, ME) if each.service == EVIL and each.address == EXT]
    assert (lost.reason, lost.lost) == (
        Reason.CONFLICTING_PORT,
        ("port 80/TCP is answered for team-b/shop, which had it first",),
    )
    (kept,) = [each for each in advertised(cluster, ME) if each.service == SHOP and each.address == EXT]
    assert (kept.reason, kept.lost) == (Reason.ADVERTISE, ())
    # Its own ClusterIP is still served, and a port that nobody has before it.
    assert "10.96.0.66 tcp 80" in servers(cluster)
    other = ServicePort("https", "TCP", 443)
    cluster = rivals(ports=(HTTP, other))
    (partly,) = [each for each in advertised(cluster, ME) if each.service == EVIL and each.address == EXT]
    assert partly.reason is Reason.ADVERTISE
    assert len(partly.lost) == 1
    # The control: were it the older one, it would have it.
    assert servers(rivals(created="2023-01-01T00:00:00Z"))[f"{EXT} tcp 80"][0] == ["10.1.6.6 8080"]


@pytest.mark.parametrize("created", ["", OLDER])
def test_services_of_one_age_are_told_apart_by_name(created: str) -> None:
    cluster = rivals(created=created)
    shop = replace(cluster.services[SHOP], created=created)
    cluster.services[SHOP] = shop
    assert servers(cluster)[f"{EXT} tcp 80"][0] == ["10.1.6.6 8080"]


def test_one_with_a_time_of_creation_is_older_than_one_without() -> None:
    assert servers(rivals(created=""))[f"{EXT} tcp 80"][0] == ["10.1.1.2 8080"]


def test_a_clusterip_that_two_have_is_the_older_ones() -> None:
    shop, evil = (
        service(name=name, cluster_ips=(CIP4,), created=age) for name, age in ((SHOP, OLDER), (EVIL, NEWER))
    )
    found = {each.service: each.reason for each in advertised(state(shop, evil), ME) if each.address == CIP4}
    assert found[EVIL] is Reason.CONFLICTING_OWNER
    assert found[SHOP] is not Reason.CONFLICTING_OWNER


def test_sources_bind_load_balancer_addresses_alone_and_close_a_family_without_any() -> None:
    ranges = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    lb6 = ip_address("fd00:203::1")
    policy = replace(
        OPEN, load_balancer_ips=AddressKind(True, (ip_network("203.0.113.0/24"), ip_network("fd00:203::/64")))
    )
    made = service(load_balancer_ips=(LB, lb6), source_ranges=ranges)
    found = {each.address: each.sources for each in virtual_servers(state(made, policy=policy), ME)}
    assert found == {CIP4: None, CIP6: None, EXT: None, LB: ranges[:1], lb6: ranges[1:]}
    only4 = replace(made, source_ranges=ranges[:1])
    found = {each.address: each.sources for each in virtual_servers(state(only4, policy=policy), ME)}
    assert found[lb6] == ()
    # A node that is let in is so with the address itself, too: it speaks from it where it stands on a link.
    nodes = (Node("n1", addresses=(ip_address("192.0.2.9"),)), Node("n2"))
    found = {
        each.address: each.sources for each in virtual_servers(state(made, policy=policy, nodes=nodes), ME)
    }
    assert found[LB] == (ranges[0], ip_network("203.0.113.1/32"))


def test_udp_flows_may_go_on_to_endpoints_that_still_serve() -> None:
    dns = ServicePort("http", "UDP", 53)
    ends = slices((at("10.1.1.2"), at("10.1.1.3", **WANING)))
    ends = {name: replace(each, ports={"http": ("UDP", 5353)}) for name, each in ends.items()}
    (found,) = [
        each
        for each in virtual_servers(state(service(ports=(dns,)), endpoints=ends), ME)
        if each.address == CIP4
    ]
    assert [str(each.address) for each in found.internal] == ["10.1.1.2"]
    assert [str(each.address) for each in found.lasting] == ["10.1.1.2", "10.1.1.3"]


# --- hints -------------------------------------------------------------------------------------------------


def hinted(address: str, nodes: str = "", zones: str = "", **conditions: Any) -> Endpoint:
    hints = Hints(tuple(nodes.split()), tuple(zones.split())) if nodes or zones else None
    return replace(at(address, conditions.pop("node", "n9"), **conditions), hints=hints)


IN_A = (Node("n1", labels={LABEL_ZONE: "a"}), Node("n2", labels={LABEL_ZONE: "b"}))
A, B, C = "10.1.1.1", "10.1.1.2", "10.1.1.3"


@pytest.mark.parametrize(
    ("endpoints", "reached"),
    [
        ((hinted(A), hinted(B)), {A, B}),
        ((hinted(A, zones="a"), hinted(B, zones="b")), {A}),
        ((hinted(A, zones="a b"), hinted(B, zones="b a c"), hinted(C, zones="c")), {A, B}),
        # One without a hint, or none for this zone: hints are of no use.
        ((hinted(A, zones="a"), hinted(B)), {A, B}),
        ((hinted(A, zones="b"), hinted(B, zones="c")), {A, B}),
        # Hints for nodes come first, if all have some and one is for this node.
        ((hinted(A, "n1", "b"), hinted(B, "n2", "a")), {A}),
        ((hinted(A, "n3", "b"), hinted(B, "n2", "a")), {B}),
        ((hinted(A, "n1", "b"), hinted(B, zones="a")), {B}),
        ((hinted(A, "n1"), hinted(B, zones="a")), {A, B}),
        # Those alone count that are ready.
        ((hinted(A, zones="a"), hinted(B, zones="b"), hinted(C, ready=False, serving=False)), {A}),
        ((hinted(A, zones="a"), hinted(B, zones="b"), hinted(C, **WANING)), {A}),
        ((hinted(A, zones="a", **WANING), hinted(B, zones="b")), {B}),
        # While none is, hints say nothing.
        ((hinted(A, zones="a", **WANING), hinted(B, zones="b", **WANING)), {A, B}),
    ],
)
def test_hints_say_which_endpoints_this_node_sends_to(
    endpoints: tuple[Endpoint, ...], reached: set[str]
) -> None:
    found = servers(state(service(), endpoints=slices(endpoints), nodes=IN_A))
    inward, outward = found[f"{CIP4} tcp 80"]
    assert inward == outward == sorted(f"{each} 8080" for each in reached)
    without = slices(tuple(replace(each, hints=None) for each in endpoints))
    same = state(service(), endpoints=without, nodes=IN_A)
    assert reasons(same) == reasons(state(service(), endpoints=slices(endpoints), nodes=IN_A)), (
        "what is announced does not depend on hints"
    )


def test_hints_over_several_slices_are_taken_together() -> None:
    split = slices((hinted(A, zones="a"),), (hinted(B, zones="b"),), (hinted(C),))
    assert len(servers(state(endpoints=split, nodes=IN_A))[f"{CIP4} tcp 80"][0]) == 3
    del split[max(split)]
    assert servers(state(endpoints=split, nodes=IN_A))[f"{CIP4} tcp 80"][0] == [f"{A} 8080"]


def test_a_family_is_hinted_by_itself() -> None:
    both = slices((hinted(A, zones="a"), hinted(B, zones="b")), (hinted("fd00:1::1"), hinted("fd00:1::2")))
    found = servers(state(endpoints=both, nodes=IN_A))
    assert found[f"{CIP4} tcp 80"][0] == [f"{A} 8080"]
    assert len(found[f"{CIP6} tcp 80"][0]) == 2


def test_local_policies_are_not_hinted() -> None:
    mine = hinted(A, zones="b", node="n1"), hinted(B, zones="a", node="n2")
    local = service(internal_traffic_local=True, external_traffic_local=True)
    found = servers(state(local, endpoints=slices(mine), nodes=IN_A))
    assert found[f"{CIP4} tcp 80"] == ([f"{A} 8080"], [f"{A} 8080"])
    # Pods of the node are not held to externalTrafficPolicy, and so they are to hints.
    assert found[f"{LB} tcp 80"] == ([f"{B} 8080"], [f"{A} 8080"])


def test_a_node_without_a_zone_is_in_none() -> None:
    zoned = slices((hinted(A, zones="a"), hinted(B, zones="b")))
    assert len(servers(state(endpoints=zoned))[f"{CIP4} tcp 80"][0]) == 2
    named = slices((hinted(A, "n1"), hinted(B, "n2")))
    assert servers(state(endpoints=named))[f"{CIP4} tcp 80"][0] == [f"{A} 8080"]
