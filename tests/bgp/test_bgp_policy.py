"""Imports that could take a node's traffic are refused; filters are ordered and the first match ends."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from bgp_facts import community, path, session
from hypothesis import given
from hypothesis import strategies as st

from l3net.addresses import contains
from l3net.bgp.filters import run_filters
from l3net.bgp.policy import ImportJudge
from l3net.bgp.protected import MARTIANS, Protected
from l3net.bgp.verdict import Verdict
from l3net.model import (
    Action,
    AdvertisePolicy,
    BgpConfiguration,
    BgpFilter,
    Bogons,
    ClusterState,
    Family,
    FilterRule,
    ImportPolicy,
    IpPool,
    Node,
    ObjectName,
    Operations,
    PoolUse,
    Prefix,
    PrefixOperator,
    Service,
    Topology,
)

ME = "n1"
ANYTHING = ImportPolicy(default_route=True, node_subnets=True, ebgp_requires_policy=False)


def cluster(**configuration: object) -> ClusterState:
    state = ClusterState()
    state.nodes["n1"] = Node(
        "n1",
        addresses=(ip_address("10.1.0.2"), ip_address("fd01::2")),
        blocks=(ip_network("10.244.1.0/24"), ip_network("fd44:1::/120")),
    )
    state.nodes["n2"] = Node(
        "n2",
        addresses=(ip_address("10.2.0.2"), ip_address("fd02::2")),
        blocks=(ip_network("10.244.2.0/24"), ip_network("fd44:2::/120")),
    )
    state.services[ObjectName("default", "web")] = Service(
        ObjectName("default", "web"), cluster_ips=(ip_address("10.99.0.1"), ip_address("fd99::1"))
    )
    state.pools["pods"] = IpPool("pods", ip_network("10.250.0.0/16"), 26)
    state.pools["vips"] = IpPool(
        "vips", ip_network("10.251.0.0/16"), 26, allowed_uses=frozenset({PoolUse.LOAD_BALANCER})
    )
    state.configuration = BgpConfiguration(
        service_cidrs=(ip_network("10.96.0.0/16"), ip_network("fd96::/112")),
        **configuration,  # type: ignore[arg-type]
    )
    return state


def judge(
    prefix: str,
    hop: str = "10.0.0.1",
    *,
    imports: ImportPolicy | None = None,
    peer: dict[str, object] | None = None,
    **attributes: object,
) -> Verdict:
    state = cluster(imports=imports or ImportPolicy(ebgp_requires_policy=False))
    connected = (ip_network("10.1.0.0/24"), ip_network("fd01::/64"))
    protected = Protected.of(state, ME, connected, frozenset({ip_address("10.1.0.2")}))
    one = session("10.0.0.1" if ip_network(prefix).version == 4 else "fd00::1", **(peer or {}))
    return ImportJudge(protected, state.filters)(one, path(prefix, hop, **attributes))[0].verdict


@pytest.mark.parametrize(
    ("prefix", "verdict"),
    [
        ("192.168.7.0/24", Verdict.ACCEPTED),  # the control: ordinary prefixes come in
        ("fd77::/64", Verdict.ACCEPTED),
        ("10.244.2.0/24", Verdict.ACCEPTED),  # another node's block, by way of the fabric
        ("10.244.0.0/16", Verdict.ACCEPTED),  # an aggregate: our own block is more specific
        ("0.0.0.0/0", Verdict.DEFAULT_ROUTE),
        ("::/0", Verdict.DEFAULT_ROUTE),
        ("10.244.1.0/24", Verdict.OWN_BLOCK),
        ("10.244.1.128/25", Verdict.OWN_BLOCK),
        ("10.244.1.7/32", Verdict.OWN_BLOCK),
        ("fd44:1::/120", Verdict.OWN_BLOCK),
        ("fd44:1::7/128", Verdict.OWN_BLOCK),
        ("10.96.0.0/16", Verdict.SERVICE_CIDR),
        ("10.96.3.4/32", Verdict.SERVICE_CIDR),
        ("fd96::7/128", Verdict.SERVICE_CIDR),
        ("10.99.0.1/32", Verdict.SERVICE_CIDR),  # outside the declared range, but a service's address
        ("fd99::1/128", Verdict.SERVICE_CIDR),
        ("10.1.0.0/24", Verdict.NODE_SUBNET),
        ("10.1.0.9/32", Verdict.NODE_SUBNET),
        ("fd01::/64", Verdict.NODE_SUBNET),
        ("10.2.0.0/24", Verdict.NODE_SUBNET),  # holds n2's address
        ("10.2.0.2/32", Verdict.NODE_SUBNET),
        ("fd02::2/128", Verdict.NODE_SUBNET),
        ("127.0.0.0/8", Verdict.MARTIAN),
        ("224.0.0.0/4", Verdict.MARTIAN),
        ("fe80::/10", Verdict.MARTIAN),
        ("ff02::/16", Verdict.MARTIAN),
        ("0.1.0.0/16", Verdict.MARTIAN),
        ("255.255.255.255/32", Verdict.MARTIAN),
        ("::ffff:10.0.0.0/104", Verdict.MARTIAN),
    ],
)
def test_imports_that_could_take_traffic_are_refused(prefix: str, verdict: Verdict) -> None:
    assert judge(prefix, "10.0.0.1" if "." in prefix else "fd00::1") is verdict


@given(data=st.data())
def test_a_martian_is_what_lies_inside_one_and_nothing_else(data: st.DataObject) -> None:
    martian = data.draw(st.sampled_from(MARTIANS))
    length = data.draw(st.integers(1, martian.max_prefixlen))
    first = int(martian.network_address)
    number = data.draw(st.integers(first, int(martian.broadcast_address)))
    prefix = type(martian)((number, length), strict=False)
    hop = "10.0.0.1" if prefix.version == 4 else "fd00::1"
    inside = any(contains(each, prefix) for each in MARTIANS)
    assert (judge(str(prefix), hop, imports=ANYTHING) is Verdict.MARTIAN) is inside
    assert inside is (length >= martian.prefixlen or any(contains(each, prefix) for each in MARTIANS))


@pytest.mark.parametrize("prefix", ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"])
def test_what_only_covers_a_martian_is_like_any_other(prefix: str) -> None:
    hop = "10.0.0.1" if "." in prefix else "fd00::1"
    assert judge(prefix, hop, imports=ANYTHING) is Verdict.ACCEPTED
    assert judge(prefix, hop, imports=replace(ANYTHING, ebgp_requires_policy=True)) is not Verdict.MARTIAN


def test_a_family_that_the_session_does_not_carry_is_refused() -> None:
    """A peer may send it all the same; that of the peer's address is no exception."""
    only6 = {"families": frozenset({Family.IPV6})}
    assert judge("192.168.7.0/24", peer=only6) is Verdict.FAMILY_NOT_NEGOTIATED
    assert judge("0.0.0.0/0", peer=only6, imports=ANYTHING) is Verdict.FAMILY_NOT_NEGOTIATED
    both = {"families": frozenset(Family)}
    assert judge("192.168.7.0/24", peer=both) is Verdict.ACCEPTED


def test_as_zero_and_confederations_are_refused() -> None:
    """RFC 7607, RFC 5065 section 5: of every peer."""
    for peer in ({}, {"peer_as": 64512}):
        assert judge("192.168.7.0/24", peer=peer, as_path=(65001, 0)) is Verdict.AS_ZERO
        refused = judge("192.168.7.0/24", peer=peer, as_path=(65001, 65002), confederation=True)
        assert refused is Verdict.CONFEDERATION
        assert judge("192.168.7.0/24", peer=peer, as_path=(65001, 65002)) is Verdict.ACCEPTED


OURS, CLUSTER = IPv4Address("10.0.0.2"), IPv4Address("10.9.9.9")


@pytest.mark.parametrize(
    ("attributes", "verdict"),
    [
        ({"originator": OURS}, Verdict.REFLECTION_LOOP),
        ({"clusters": (IPv4Address("10.1.1.1"), CLUSTER)}, Verdict.REFLECTION_LOOP),
        ({"originator": IPv4Address("10.1.1.1"), "clusters": (OURS,)}, Verdict.ACCEPTED),
    ],
)
def test_what_we_have_reflected_ourselves_is_a_loop(attributes: dict[str, object], verdict: Verdict) -> None:
    """RFC 4456 section 8, of every peer inside the AS; from an eBGP peer both attributes mean nothing."""
    inside = {"peer_as": 64512, "cluster_id": CLUSTER}
    assert judge("192.168.7.0/24", peer=inside, **attributes) is verdict
    assert judge("192.168.7.0/24", peer={"cluster_id": CLUSTER}, **attributes) is Verdict.ACCEPTED
    protected = Protected.of(cluster(), ME, (), frozenset())
    kept = ImportJudge(protected, {})(session(), path("192.168.7.0/24", **attributes))[1].attributes
    assert (kept.originator, kept.clusters) == (None, ())


@pytest.mark.parametrize("reflects", [True, False])
def test_our_cluster_is_ours_on_every_session(reflects: bool) -> None:
    """Of a peer that we do not reflect for too; a node that reflects for nobody has no cluster."""
    state = cluster(topology=Topology.REFLECTORS if reflects else Topology.MESH, cluster_id=CLUSTER)
    judge_ = ImportJudge(Protected.of(state, ME, (), frozenset()), {})
    learned = path("192.168.7.0/24", clusters=(CLUSTER,))
    verdict = judge_(session(peer_as=64512), learned)[0].verdict
    assert verdict is (Verdict.REFLECTION_LOOP if reflects else Verdict.ACCEPTED)


def test_the_default_route_comes_in_when_asked_for() -> None:
    assert judge("0.0.0.0/0", imports=ImportPolicy(default_route=True)) is Verdict.ACCEPTED
    assert judge("::/0", "fd00::1", imports=ImportPolicy(default_route=True)) is Verdict.ACCEPTED


def test_node_subnets_come_in_when_asked_for_but_never_our_own_links() -> None:
    allowed = ImportPolicy(node_subnets=True)
    assert judge("10.2.0.0/24", imports=allowed) is Verdict.ACCEPTED
    assert judge("10.1.0.2/32", imports=allowed) is Verdict.NODE_SUBNET
    assert judge("10.1.0.0/24", imports=allowed) is Verdict.NODE_SUBNET  # next hops are resolved on it


def test_local_preference_of_an_ebgp_peer_means_nothing() -> None:
    protected = Protected.of(cluster(), ME, (), frozenset())
    loud = path("192.168.7.0/24", local_preference=4_000_000_000)
    assert ImportJudge(protected, {})(session(), loud)[1].attributes.local_preference is None
    inside = session(peer_as=64512)
    assert ImportJudge(protected, {})(inside, loud)[1].attributes.local_preference == 4_000_000_000


@pytest.mark.parametrize(
    ("hop", "verdict"),
    [
        ("10.1.0.2", Verdict.NEXT_HOP_SELF),
        ("10.0.0.2", Verdict.NEXT_HOP_SELF),
        ("127.0.0.1", Verdict.NEXT_HOP_INVALID),
        ("0.0.0.0", Verdict.NEXT_HOP_INVALID),
        ("224.0.0.1", Verdict.NEXT_HOP_INVALID),
        ("10.244.1.9", Verdict.NEXT_HOP_INVALID),
        ("10.0.0.1", Verdict.ACCEPTED),
    ],
)
def test_next_hops_that_cannot_be(hop: str, verdict: Verdict) -> None:
    assert judge("192.168.7.0/24", hop) is verdict


@pytest.mark.parametrize(
    ("hop", "peer", "verdict"),
    [
        ("10.0.0.77", {}, Verdict.NEXT_HOP_UNKNOWN),
        ("10.2.0.2", {}, Verdict.ACCEPTED),  # a node of the cluster
        ("10.0.0.77", {"third_party_next_hops": True}, Verdict.ACCEPTED),
        ("10.0.0.77", {"multihop": 4}, Verdict.ACCEPTED),
        ("10.0.0.77", {"peer_as": 64512}, Verdict.ACCEPTED),  # iBGP: the next hop is the AS's border
    ],
)
def test_a_next_hop_is_the_peer_or_a_node(hop: str, peer: dict[str, object], verdict: Verdict) -> None:
    assert judge("192.168.7.0/24", hop, peer=peer) is verdict


def test_a_default_route_too_has_the_peer_as_its_next_hop() -> None:
    wanted = ImportPolicy(default_route=True)
    assert judge("0.0.0.0/0", imports=wanted) is Verdict.ACCEPTED
    assert judge("0.0.0.0/0", "10.0.0.77", imports=wanted) is Verdict.NEXT_HOP_UNKNOWN


def test_only_what_lies_in_the_import_cidrs_comes_in_when_there_are_any() -> None:
    imports = ImportPolicy(cidrs=(ip_network("192.168.0.0/16"),))
    assert judge("192.168.7.0/24", imports=imports) is Verdict.ACCEPTED
    assert judge("172.16.0.0/24", imports=imports) is Verdict.OUTSIDE_IMPORT_CIDRS
    assert judge("192.0.0.0/8", imports=imports) is Verdict.OUTSIDE_IMPORT_CIDRS


def test_graceful_shutdown_lowers_local_preference() -> None:
    """RFC 8326 section 4.1, whatever a filter set before."""
    shutting = path("192.168.7.0/24", communities=frozenset({community("65535:0")}), local_preference=300)
    protected = Protected.of(cluster(), ME, (), frozenset())
    assert ImportJudge(protected, {})(session(), shutting)[1].attributes.local_preference == 0
    plain = path("192.168.7.0/24", local_preference=300)
    inside = session(peer_as=64512)
    assert ImportJudge(protected, {})(inside, plain)[1].attributes.local_preference == 300


def test_our_own_as_in_the_path_is_a_loop() -> None:
    assert judge("192.168.7.0/24", as_path=(65001, 64512)) is Verdict.OWN_AS
    assert judge("192.168.7.0/24", as_path=(65001, 64513)) is Verdict.ACCEPTED


@pytest.mark.parametrize("wanted", [False, True])
def test_a_default_route_over_the_mesh_is_asked_for_too(wanted: bool) -> None:
    """Each node announces `advertise.networks`: two without another default would send to one another."""
    networks = (ip_network("0.0.0.0/0"), ip_network("::/0"), ip_network("10.200.0.0/16"))
    state = cluster(advertise=AdvertisePolicy(networks=networks), imports=ImportPolicy(default_route=wanted))
    protected = replace(Protected.of(state, ME, (), frozenset()), own_networks=frozenset())
    peer = session("10.2.0.2", name="mesh:n2", peer_as=64512, families=frozenset(Family))
    for prefix, hop in (("0.0.0.0/0", "10.2.0.2"), ("::/0", "fd02::2")):
        verdict = ImportJudge(protected, {})(peer, path(prefix, hop))[0].verdict
        assert verdict is (Verdict.ACCEPTED if wanted else Verdict.DEFAULT_ROUTE)
    assert ImportJudge(protected, {})(peer, path("10.200.0.0/16", "10.2.0.2"))[0].verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    ("prefix", "hop", "verdict"),
    [
        ("10.244.9.0/24", "10.2.0.2", Verdict.ACCEPTED),  # no Node has it
        ("10.244.9.0/25", "10.2.0.2", Verdict.NOT_OF_NODE),  # no block
        ("10.244.8.0/23", "10.2.0.2", Verdict.NOT_OF_NODE),
        ("10.244.3.0/24", "10.2.0.2", Verdict.NOT_OF_NODE),  # another node's
        ("10.244.1.0/24", "10.2.0.2", Verdict.NOT_OF_NODE),  # our own
        ("10.247.9.0/24", "10.2.0.2", Verdict.NOT_OF_NODE),  # of no pool
        ("10.246.9.0/24", "10.2.0.2", Verdict.NOT_OF_NODE),  # of a pool that is not for pods
        ("10.244.9.0/24", "10.9.0.2", Verdict.NOT_OF_NODE),  # of no node
        ("fd44:9::/120", "fd02::2", Verdict.ACCEPTED),
        ("fd44:9::/121", "fd02::2", Verdict.NOT_OF_NODE),
    ],
)
def test_a_block_that_a_node_has_lost_and_keeps_is_learned_of_it(
    prefix: str, hop: str, verdict: Verdict
) -> None:
    """Pods run in it; without this they were reached by routers and by no other node."""
    state = cluster()
    state.nodes["n3"] = Node("n3", blocks=(ip_network("10.244.3.0/24"),))
    for name, cidr, size, uses in (
        ("four", "10.244.0.0/16", 24, PoolUse.PODS),
        ("six", "fd44::/16", 120, PoolUse.PODS),
        ("balancers", "10.246.0.0/16", 24, PoolUse.LOAD_BALANCER),
    ):
        state.pools[name] = IpPool(name, ip_network(cidr), size, allowed_uses=frozenset({uses}))
    protected = Protected.of(state, ME, (), frozenset())
    peer = session("10.2.0.2", name="mesh:n2", peer_as=64512, families=frozenset(Family), reflector=True)
    assert ImportJudge(protected, {})(peer, path(prefix, hop))[0].verdict is verdict


def test_over_the_mesh_a_node_speaks_for_its_own_blocks_only() -> None:
    state = cluster()
    protected = Protected.of(state, ME, (), frozenset())
    peer = session("10.2.0.2", name="mesh:n2", peer_as=64512)
    verdicts = {
        prefix: ImportJudge(protected, {})(peer, path(prefix, "10.2.0.2"))[0].verdict
        for prefix in (
            "10.244.2.0/24",
            "10.244.2.0/25",
            "10.244.3.0/24",
            "10.244.1.0/24",
            "0.0.0.0/0",
            "192.168.0.0/16",
        )
    }
    assert verdicts.pop("10.244.2.0/24") is Verdict.ACCEPTED
    assert set(verdicts.values()) == {Verdict.NOT_OF_NODE}


def rules(*given: FilterRule) -> dict[str, BgpFilter]:
    return {"f": BgpFilter("f", imports=given)}


def run(filters: dict[str, BgpFilter], prefix: str, **attributes: object) -> tuple[Verdict, object]:
    judgement, after = run_filters(
        filters, session(filters=("f",)), path(prefix, **attributes), importing=True
    )
    return judgement.verdict, after.attributes


@pytest.mark.parametrize(
    ("operator", "matching", "other"),
    [
        (PrefixOperator.IN, "10.0.1.0/24", "11.0.0.0/24"),
        (PrefixOperator.EQUAL, "10.0.0.0/8", "10.0.0.0/16"),
        (PrefixOperator.NOT_IN, "11.0.0.0/24", "10.0.1.0/24"),
        (PrefixOperator.NOT_EQUAL, "10.0.0.0/16", "10.0.0.0/8"),
    ],
)
def test_prefix_operators(operator: PrefixOperator, matching: str, other: str) -> None:
    filters = rules(FilterRule(Action.REJECT, cidr=ip_network("10.0.0.0/8"), operator=operator))
    assert run(filters, matching)[0] is Verdict.FILTERED
    assert run(filters, other)[0] is Verdict.ACCEPTED


def test_a_rule_of_one_family_never_matches_the_other() -> None:
    filters = rules(FilterRule(Action.REJECT, cidr=ip_network("10.0.0.0/8"), operator=PrefixOperator.NOT_IN))
    assert run(filters, "fd00::/64")[0] is Verdict.ACCEPTED


def test_every_condition_must_hold() -> None:
    rule = FilterRule(
        Action.REJECT,
        min_length=24,
        max_length=28,
        external=True,
        communities=frozenset({community("65001:1")}),
        as_path_prefix=(65001,),
    )
    good: dict[str, object] = {
        "as_path": (65001, 7),
        "communities": frozenset({community("65001:1"), community("1:2:3")}),
    }
    assert run(rules(rule), "10.0.0.0/24", **good)[0] is Verdict.FILTERED
    assert run(rules(rule), "10.0.0.0/23", **good)[0] is Verdict.ACCEPTED
    assert run(rules(rule), "10.0.0.0/29", **good)[0] is Verdict.ACCEPTED
    assert run(rules(rule), "10.0.0.0/24", **(good | {"as_path": (7, 65001)}))[0] is Verdict.ACCEPTED
    assert run(rules(rule), "10.0.0.0/24", as_path=(65001,))[0] is Verdict.ACCEPTED


def test_the_first_match_ends_and_its_operations_apply() -> None:
    operations = Operations(
        add_communities=frozenset({community("64512:9")}), prepend=(64512, 64512), local_preference=50, med=7
    )
    filters = rules(
        FilterRule(Action.ACCEPT, cidr=ip_network("10.0.0.0/8"), operations=operations),
        FilterRule(Action.REJECT),
    )
    verdict, attributes = run(filters, "10.0.0.0/24", as_path=(65001,))
    assert verdict is Verdict.ACCEPTED
    assert attributes.as_path == (64512, 64512, 65001)  # type: ignore[attr-defined]
    assert attributes.as_path_length == 3  # type: ignore[attr-defined]
    assert (attributes.local_preference, attributes.med) == (50, 7)  # type: ignore[attr-defined]
    assert run(filters, "11.0.0.0/24")[0] is Verdict.FILTERED


def test_a_filter_that_is_not_declared_lets_nothing_through() -> None:
    assert run({}, "10.0.0.0/24")[0] is Verdict.FILTERED


# --- RFC 8212 --------------------------------------------------------------------------------

NAMED = ImportPolicy(cidrs=(ip_network("192.168.0.0/16"), ip_network("fd77::/48")))


@pytest.mark.parametrize(
    ("prefix", "imports", "verdict"),
    [
        ("192.168.7.0/24", ImportPolicy(), Verdict.NO_POLICY),
        ("fd77::/64", ImportPolicy(), Verdict.NO_POLICY),
        ("192.168.7.0/24", ImportPolicy(ebgp_requires_policy=False), Verdict.ACCEPTED),  # the control
        ("fd77::/64", ImportPolicy(ebgp_requires_policy=False), Verdict.ACCEPTED),
        ("192.168.7.0/24", NAMED, Verdict.ACCEPTED),
        ("fd77::/64", NAMED, Verdict.ACCEPTED),
        ("192.169.7.0/24", NAMED, Verdict.OUTSIDE_IMPORT_CIDRS),
        ("10.244.2.0/24", ImportPolicy(), Verdict.ACCEPTED),  # another node's block
        ("10.244.2.128/25", ImportPolicy(), Verdict.ACCEPTED),
        ("fd44:2::/120", ImportPolicy(), Verdict.ACCEPTED),
        ("10.244.2.0/24", NAMED, Verdict.ACCEPTED),
        ("10.244.2.0/23", ImportPolicy(), Verdict.NO_POLICY),  # more than the block
        ("10.250.0.0/16", ImportPolicy(), Verdict.ACCEPTED),  # an IPPool
        ("10.250.7.0/26", ImportPolicy(cidrs=()), Verdict.ACCEPTED),
        ("10.251.0.0/24", ImportPolicy(), Verdict.NO_POLICY),  # a pool for load balancers is not for pods
        ("0.0.0.0/0", ImportPolicy(), Verdict.DEFAULT_ROUTE),
        ("0.0.0.0/0", ImportPolicy(default_route=True), Verdict.ACCEPTED),
        ("::/0", ImportPolicy(default_route=True), Verdict.ACCEPTED),
        ("192.168.7.0/24", ImportPolicy(default_route=True), Verdict.NO_POLICY),
        ("10.2.0.0/24", ImportPolicy(node_subnets=True), Verdict.ACCEPTED),
        ("10.3.0.0/24", ImportPolicy(node_subnets=True), Verdict.NO_POLICY),
    ],
)
def test_of_an_ebgp_peer_only_what_a_policy_names(
    prefix: str, imports: ImportPolicy, verdict: Verdict
) -> None:
    hop = "10.0.0.1" if "." in prefix else "fd00::1"
    assert judge(prefix, hop, imports=imports) is verdict


def test_inside_an_as_no_policy_is_required() -> None:
    inside = {"peer_as": 64512}
    assert judge("192.168.7.0/24", imports=ImportPolicy(), peer=inside) is Verdict.ACCEPTED


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        (FilterRule(Action.ACCEPT), Verdict.ACCEPTED),
        (FilterRule(Action.ACCEPT, cidr=ip_network("192.168.0.0/16")), Verdict.ACCEPTED),
        (FilterRule(Action.ACCEPT, cidr=ip_network("172.16.0.0/12")), Verdict.NO_POLICY),
        (FilterRule(Action.REJECT, cidr=ip_network("172.16.0.0/12")), Verdict.NO_POLICY),
        (FilterRule(Action.REJECT), Verdict.FILTERED),
    ],
)
def test_a_rule_that_accepts_is_a_policy_and_none_that_does_not_match(
    rule: FilterRule, verdict: Verdict
) -> None:
    protected = Protected.of(cluster(), ME, (), frozenset())
    filters = {"f": BgpFilter("f", imports=(rule,))}
    judged = ImportJudge(protected, filters)(session(filters=("f",)), path("192.168.7.0/24"))
    assert judged[0].verdict is verdict


# --- bogons ----------------------------------------------------------------------------------

OPEN = ImportPolicy(ebgp_requires_policy=False)
SPECIAL = replace(OPEN, bogons=Bogons(prefixes=True))
PRIVATE = replace(OPEN, bogons=Bogons(private_prefixes=True))


@pytest.mark.parametrize(
    ("prefix", "imports"),
    [
        ("192.0.2.0/24", SPECIAL),
        ("198.18.0.0/16", SPECIAL),
        ("203.0.113.7/32", SPECIAL),
        ("250.0.0.0/8", SPECIAL),
        ("2001:db8:7::/48", SPECIAL),
        ("2002:a00::/24", SPECIAL),
        ("3fff:1::/32", SPECIAL),
        ("100::/64", SPECIAL),
        ("192.168.7.0/24", PRIVATE),
        ("172.31.0.0/16", PRIVATE),
        ("100.64.9.0/24", PRIVATE),
        ("fd77::/64", PRIVATE),
    ],
)
def test_bogon_prefixes_are_refused_when_asked_for(prefix: str, imports: ImportPolicy) -> None:
    hop = "10.0.0.1" if "." in prefix else "fd00::1"
    assert judge(prefix, hop, imports=imports) is Verdict.BOGON_PREFIX
    assert judge(prefix, hop, imports=OPEN) is Verdict.ACCEPTED


@pytest.mark.parametrize("prefix", ["8.8.8.0/24", "192.0.0.0/8", "2001:4860::/32", "64:ff9b::/96"])
def test_what_is_no_bogon_passes(prefix: str) -> None:
    every = replace(OPEN, bogons=Bogons(True, True, True, True))
    hop = "10.0.0.1" if "." in prefix else "fd00::1"
    assert judge(prefix, hop, imports=every, as_path=(3320,)) is Verdict.ACCEPTED


def test_private_prefixes_of_the_cluster_are_no_bogons() -> None:
    assert judge("10.244.2.0/24", imports=PRIVATE) is Verdict.ACCEPTED
    assert judge("10.245.2.0/24", imports=PRIVATE) is Verdict.BOGON_PREFIX


@pytest.mark.parametrize(
    ("number", "private"),
    [
        (23456, False),
        (64496, False),
        (64511, False),
        (65535, False),
        (65551, False),
        (131071, False),
        (4294967295, False),
        (64513, True),
        (65534, True),
        (4200000000, True),
        (4294967294, True),
    ],
)
def test_bogon_as_numbers_are_refused_when_asked_for(number: int, private: bool) -> None:
    reserved = replace(OPEN, bogons=Bogons(as_numbers=True))
    privately = replace(OPEN, bogons=Bogons(private_as_numbers=True))
    as_path = (3320, number)

    def verdict(imports: ImportPolicy) -> Verdict:
        return judge("192.168.7.0/24", imports=imports, as_path=as_path)

    assert verdict(privately if private else reserved) is Verdict.BOGON_AS
    assert verdict(reserved if private else privately) is Verdict.ACCEPTED
    assert verdict(OPEN) is Verdict.ACCEPTED


def prefixes(first: int, last: int, length: int) -> st.SearchStrategy[Prefix]:
    numbers, lengths = st.integers(first, last), st.integers(0, length)
    return st.builds(lambda number, bits: ip_network((number, bits), strict=False), numbers, lengths)


ANY = st.one_of(prefixes(0, 2**32 - 1, 32), prefixes(2**32, 2**128 - 1, 128))


@given(ANY, ANY, st.lists(st.integers(-2, 2), max_size=4))
def test_arithmetic_of_prefixes_is_that_of_ipaddress(prefix: Prefix, other: Prefix, near: list[int]) -> None:
    def by_hand(outer: Prefix, inner: Prefix) -> bool:
        return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]

    assert contains(prefix, other) == by_hand(prefix, other)
    assert contains(prefix, next(iter(prefix.subnets())))
    edges = [int(prefix.network_address), int(prefix.broadcast_address)]
    top = 2**prefix.max_prefixlen - 1
    make = type(prefix.network_address)
    nodes = {make(min(max(edges[index % 2] + step, 0), top)) for index, step in enumerate(near)}
    nodes |= {ip_address("192.0.2.1"), ip_address("::1")}
    protected = Protected(ImportPolicy(), frozenset(), (), (), frozenset(), (), frozenset(nodes), {})
    found = any(address in prefix for address in nodes if address.version == prefix.version)
    assert protected.holds_node(prefix) == found
