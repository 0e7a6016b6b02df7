"""Which sessions a node holds."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, ip_address, ip_network

import pytest

from l3net.bgp.protected import Protected
from l3net.bgp.sessions import UNKNOWN_AS, OnLink, Sessions, Unusable, guarded, router_id, sessions
from l3net.model import (
    Address,
    BfdAuth,
    BfdAuthType,
    BfdSettings,
    BgpConfiguration,
    BgpFilter,
    BgpPeer,
    ClusterState,
    Family,
    Node,
    ObjectName,
    Requirement,
    Secret,
    SecretKey,
    Selector,
)

RACK_A = Selector((Requirement("rack", "In", ("a",)),))


def node(number: int, **changes: object) -> Node:
    return replace(
        Node(
            f"n{number}",
            addresses=(ip_address(f"10.{number}.0.2"), ip_address(f"fd0{number}::2")),
            blocks=(ip_network(f"10.244.{number}.0/24"),),
        ),
        **changes,  # type: ignore[arg-type]
    )


def cluster(*peers: BgpPeer, nodes: tuple[Node, ...] = (), **configuration: object) -> ClusterState:
    state = ClusterState()
    for each in nodes or (node(1), node(2), node(3)):
        state.nodes[each.name] = each
    for peer in peers:
        state.peers[peer.name] = peer
    state.configuration = BgpConfiguration(**configuration)  # type: ignore[arg-type]
    return state


def source(address: Address) -> tuple[Address, tuple[Address, ...]]:
    mine = (ip_address("10.1.0.2"), ip_address("fd01::2"))
    return (mine[0] if address.version == 4 else mine[1]), mine


def of(state: ClusterState, me: str = "n1") -> Sessions:
    return sessions(state, me, source)


TOR = BgpPeer("tor", address=ip_address("10.1.0.1"), as_number=65001)


def test_mesh_and_peers_of_both_families() -> None:
    found = of(cluster(TOR)).by_address
    assert set(map(str, found)) == {"10.1.0.1", "10.2.0.2", "fd02::2", "10.3.0.2", "fd03::2"}
    assert found[ip_address("10.1.0.1")].external
    assert not found[ip_address("10.2.0.2")].external
    assert found[ip_address("fd02::2")].families == {Family.IPV6}


def test_without_mesh_only_peers() -> None:
    assert list(of(cluster(TOR, mesh=False)).by_address) == [ip_address("10.1.0.1")]


def test_only_one_side_of_a_mesh_pair_dials() -> None:
    state = cluster()
    for family, low, high in ((4, "10.1.0.2", "10.2.0.2"), (6, "fd01::2", "fd02::2")):
        one = sessions(state, "n1", source).by_address[ip_address(high)]
        other = sessions(state, "n2", source).by_address[ip_address(low)]
        assert (one.passive, other.passive) == (False, True), family
        assert (one.listen, other.listen) == (False, True)


def test_addresses_are_compared_as_numbers_not_as_text() -> None:
    nodes = (node(1, addresses=(ip_address("10.0.0.9"),)), node(2, addresses=(ip_address("10.0.0.10"),)))
    assert not of(cluster(nodes=nodes)).by_address[ip_address("10.0.0.10")].passive


def test_an_explicit_peer_beats_the_mesh() -> None:
    peer = BgpPeer("mine", address=ip_address("10.2.0.2"), as_number=64512, hold_time=30)
    assert of(cluster(peer)).by_address[ip_address("10.2.0.2")].name == "mine"


def test_two_peers_with_one_address_are_named() -> None:
    found = of(cluster(TOR, replace(TOR, name="tor-again"), mesh=False))
    assert [str(refusal) for refusal in found.refusals] == [
        "peer tor-again: duplicateAddress: 10.1.0.1 is tor"
    ]
    assert len(found.by_address) == 1


def test_peers_are_for_the_nodes_chosen() -> None:
    nodes = (node(1, labels={"rack": "a"}), node(2, labels={"rack": "b"}))
    by_label = cluster(replace(TOR, node_selector=RACK_A), nodes=nodes, mesh=False)
    assert of(by_label, "n1").by_address
    assert not of(by_label, "n2").by_address
    by_name = cluster(replace(TOR, nodes=("n2",)), nodes=nodes, mesh=False)
    assert not of(by_name, "n1").by_address
    assert of(by_name, "n2").by_address


def test_the_far_side_by_selector() -> None:
    nodes = (node(1), node(2, labels={"rack": "a"}, as_number=65022), node(3))
    found = of(cluster(BgpPeer("rack", peer_selector=RACK_A), nodes=nodes, mesh=False)).by_address
    assert {str(address): one.peer_as for address, one in found.items()} == {
        "10.2.0.2": 65022,
        "fd02::2": 65022,
    }


def test_what_of_a_secret_is_missing_is_told_and_what_was_meant() -> None:
    key = SecretKey(ObjectName("kube-system", "bgp"), "tor1")
    state = cluster(replace(TOR, password=key), mesh=False)

    def told(*held: Secret) -> str:
        state.secrets.clear()
        state.secrets.update({each.name: each for each in held})
        return of(state).refusals[0].detail

    remedy = "or correct `password` in BGPPeer tor"
    assert told() == f"there is no Secret kube-system/bgp; create it, {remedy}"
    near = Secret(ObjectName("kube-system", "bpg"), {"tor1": b"canary"})
    assert (
        told(near)
        == f"there is no Secret kube-system/bgp; create it, {remedy} (did you mean kube-system/bpg?)"
    )
    other = Secret(key.secret, {"tor2": b"canary", "x": b"canary"})
    assert told(other) == f"Secret kube-system/bgp has no key tor1; add it, {remedy} (did you mean tor2?)"
    empty = Secret(key.secret, {"tor1": b""})
    assert told(empty) == f"the key tor1 of Secret kube-system/bgp is empty; fill it, {remedy}"


def test_a_missing_secret_means_no_session_never_no_password() -> None:
    key = SecretKey(ObjectName("kube-system", "bgp"), "password")
    state = cluster(replace(TOR, password=key), mesh=False)
    assert [refusal.reason for refusal in of(state).refusals] == [Unusable.MISSING_SECRET]
    state.secrets[key.secret] = Secret(key.secret, {"password": b""})
    assert [refusal.reason for refusal in of(state).refusals] == [Unusable.MISSING_SECRET]
    state.secrets[key.secret] = Secret(key.secret, {"password": b"canary"})
    session = of(state).by_address[ip_address("10.1.0.1")]
    assert session.password == b"canary"
    assert "canary" not in repr(session) + repr(of(state)) + repr(state)


def test_a_password_longer_than_a_tcp_md5_key_means_no_session_of_this_peer_alone() -> None:
    key = SecretKey(ObjectName("kube-system", "bgp"), "password")
    other = BgpPeer("other", address=ip_address("10.1.0.9"), as_number=65001)
    state = cluster(replace(TOR, password=key), other, mesh=False)
    state.secrets[key.secret] = Secret(key.secret, {"password": b"x" * 81})
    found = of(state)
    assert [each.name for each in found.by_address.values()] == ["other"]
    (refusal,) = found.refusals
    assert refusal.reason is Unusable.LONG_PASSWORD
    assert "81" in refusal.detail and "xx" not in str(refusal)
    state.secrets[key.secret] = Secret(key.secret, {"password": b"x" * 80})
    assert not of(state).refusals


def test_a_local_address_that_the_node_lacks_means_no_session() -> None:
    for passive in (False, True):
        for far, local in (("10.1.0.1", "10.1.0.77"), ("fd01::1", "fd01::77")):
            peer = BgpPeer(
                "tor",
                address=ip_address(far),
                as_number=65001,
                passive=passive,
                local_address=ip_address(local),
            )
            state = cluster(peer, mesh=False)
            own = frozenset({ip_address("10.1.0.2"), ip_address("fd01::2")})
            (refusal,) = sessions(state, "n1", source, own=own).refusals
            assert refusal.reason is Unusable.NO_LOCAL_ADDRESS
            assert local in refusal.detail
            found = sessions(state, "n1", source, own=own | {ip_address(local)})
            assert found.by_address[ip_address(far)].local_address == ip_address(local)


def test_an_interface_that_exabgp_cannot_be_told_of_is_not_left_out_in_silence() -> None:
    state = cluster(replace(TOR, source_interface="eth0;"), mesh=False)
    assert [each.reason for each in of(state).refusals] == [Unusable.BAD_INTERFACE]


def test_where_nobody_guards_the_door_it_stays_shut() -> None:
    state = cluster(TOR, replace(TOR, name="waits", address=ip_address("10.1.0.9"), passive=True), mesh=False)
    found = guarded(of(state))
    assert [each.name for each in found.by_address.values()] == ["tor"]
    assert [(each.name, each.reason) for each in found.refusals] == [("waits", Unusable.UNGUARDED)]


def test_bfd_with_a_missing_or_long_secret_means_no_session() -> None:
    key = SecretKey(ObjectName("kube-system", "bfd"), "password")
    bfd = BfdSettings(auth=BfdAuth(BfdAuthType.KEYED_MD5, 1, key))
    state = cluster(replace(TOR, bfd=bfd), mesh=False)
    assert [refusal.reason for refusal in of(state).refusals] == [Unusable.MISSING_SECRET]
    state.secrets[key.secret] = Secret(key.secret, {"password": b"x" * 17})
    assert [refusal.reason for refusal in of(state).refusals] == [Unusable.LONG_BFD_SECRET]
    state.secrets[key.secret] = Secret(key.secret, {"password": b"canary"})
    session = of(state).by_address[ip_address("10.1.0.1")]
    assert (session.bfd, session.bfd_secret) == (bfd, b"canary")
    assert "canary" not in repr(session) + repr(of(state)) + repr(state)


def test_a_missing_filter_means_no_session() -> None:
    state = cluster(replace(TOR, filters=("f",)), mesh=False)
    assert [refusal.reason for refusal in of(state).refusals] == [Unusable.MISSING_FILTER]
    state.filters["f"] = BgpFilter("f")
    assert of(state).by_address


def test_both_families_over_one_session_get_next_hops_of_both() -> None:
    both = replace(TOR, families=frozenset(Family))
    session = of(cluster(both, mesh=False)).by_address[ip_address("10.1.0.1")]
    assert session.next_hops == {Family.IPV4: ip_address("10.1.0.2"), Family.IPV6: ip_address("fd01::2")}


def test_no_route_to_the_peer_is_said() -> None:
    found = sessions(cluster(TOR, mesh=False), "n1", lambda _address: None)
    assert [str(refusal) for refusal in found.refusals] == ["peer tor: noLocalAddress: no route to 10.1.0.1"]


def test_as_number_of_the_node() -> None:
    state = cluster(TOR, nodes=(node(1, as_number=65111), node(2)))
    found = of(state).by_address
    assert {one.local_as for one in found.values()} == {65111}
    assert found[ip_address("10.2.0.2")].external  # n2 is in the cluster's AS
    assert found[ip_address("10.2.0.2")].multihop == 64


def test_an_ipv6_only_node_has_a_router_id() -> None:
    only6 = Node("n1", addresses=(ip_address("fd01::2"),))
    assert router_id(only6) == router_id(only6)
    assert int(router_id(only6)) != 0
    assert router_id(only6) != router_id(Node("n2", addresses=only6.addresses))


def test_a_node_that_is_not_declared_has_no_sessions() -> None:
    assert of(cluster(TOR), "stranger").by_address == {}


# --- links without addresses -----------------------------------------------------------------------------

OURS, THEIRS, OTHERS = (IPv6Address(f"fe80::{number}") for number in (1, 2, 3))


def on_links(*peers: BgpPeer, **links: OnLink) -> Sessions:
    return sessions(cluster(*peers, mesh=False), "n1", source, links=links)


def unnumbered(interface: str) -> BgpPeer:
    return BgpPeer(
        interface, interface=interface, as_number=65001, families=frozenset(Family), extended_next_hop=True
    )


def test_the_peers_on_an_interface_are_the_routers_heard_there() -> None:
    found = on_links(unnumbered("eth1"), eth1=OnLink(OURS, (THEIRS,)), eth2=OnLink(OURS, (OTHERS,)))
    assert found.refusals == ()
    (session,) = found.by_address.values()
    assert (session.name, session.peer_address, session.local_address) == ("eth1", THEIRS, OURS)
    assert session.source_interface == "eth1"
    assert session.next_hops == {Family.IPV4: OURS, Family.IPV6: OURS}
    several = on_links(unnumbered("eth1"), eth1=OnLink(OURS, (THEIRS, OTHERS)))
    assert [each.name for each in several.by_address.values()] == ["eth1/fe80::2", "eth1/fe80::3"]


def test_an_interface_where_no_router_is_heard_is_told_of() -> None:
    for links in ({}, {"eth1": OnLink(OURS)}):
        found = on_links(unnumbered("eth1"), **links)
        assert not found.by_address
        assert [refusal.reason for refusal in found.refusals] == [Unusable.NO_NEIGHBOUR]
    found = on_links(unnumbered("eth1"), eth1=OnLink(None, (THEIRS,)))
    assert [refusal.reason for refusal in found.refusals] == [Unusable.NO_LOCAL_ADDRESS]


def test_without_a_number_a_router_on_a_link_may_be_of_any_as_but_ours() -> None:
    """As `remote-as external` has it; its OPEN tells the number."""
    peer = replace(unnumbered("eth1"), as_number=None)

    def heard(number: int | None) -> Sessions:
        return on_links(peer, eth1=OnLink(OURS, (THEIRS,), {} if number is None else {THEIRS: number}))

    (session,) = heard(None).by_address.values()
    assert (session.peer_as, session.any_as, session.external) == (UNKNOWN_AS, True, True)
    (session,) = heard(65007).by_address.values()
    assert (session.peer_as, session.any_as) == (65007, True)
    found = heard(64512)
    assert [refusal.reason for refusal in found.refusals] == [Unusable.NOT_EXTERNAL]
    assert [session.peer_as for session in found.by_address.values()] == [UNKNOWN_AS]  # goes on asking


def test_one_link_local_address_behind_two_links_is_refused_on_the_second() -> None:
    """ExaBGP 5.0.15 tells neighbours apart by their addresses alone."""
    found = on_links(
        unnumbered("eth1"), unnumbered("eth2"), eth1=OnLink(OURS, (THEIRS,)), eth2=OnLink(OTHERS, (THEIRS,))
    )
    assert [session.name for session in found.by_address.values()] == ["eth1"]
    assert [(each.name, each.reason) for each in found.refusals] == [("eth2", Unusable.DUPLICATE_ADDRESS)]


def test_a_link_local_peer_has_our_address_of_its_link() -> None:
    peer = BgpPeer("tor", address=THEIRS, as_number=65001, source_interface="eth1")
    found = on_links(peer, eth1=OnLink(OURS), eth2=OnLink(OTHERS))
    (session,) = found.by_address.values()
    assert session.local_address == OURS
    assert session.next_hops == {Family.IPV6: OURS}


def test_with_extended_next_hops_the_sessions_own_address_is_that_of_ipv4_too() -> None:
    peer = replace(TOR, address=ip_address("fd01::1"), families=frozenset(Family))
    ours = ip_address("fd01::2")
    plain = of(cluster(peer, mesh=False)).by_address[ip_address("fd01::1")]
    assert plain.next_hops == {Family.IPV4: ip_address("10.1.0.2"), Family.IPV6: ours}
    extended = of(cluster(replace(peer, extended_next_hop=True), mesh=False)).by_address
    assert extended[ip_address("fd01::1")].next_hops == {Family.IPV4: ours, Family.IPV6: ours}


# --- two Nodes with one address --------------------------------------------------------------------------


@pytest.mark.parametrize("old", ["aaa-old", "zzz-old"])
@pytest.mark.parametrize("ready", [True, False], ids=["told", "not told"])
def test_an_old_node_with_a_live_nodes_address_is_named_and_takes_nothing(old: str, ready: bool) -> None:
    stale = node(2, name=old, ready=ready)
    state = cluster(nodes=(node(1), node(2), stale))
    found = of(state)
    assert set(found.by_address) == set(of(cluster(nodes=(node(1), node(2)))).by_address)
    (live,) = {session.name for session in found.by_address.values()}
    if not ready:
        assert live == "mesh:n2", "the one that is ready is there"
    assert {refusal.reason for refusal in found.refusals} == {Unusable.DUPLICATE_ADDRESS}
    assert len({refusal.name for refusal in found.refusals} | {live}) == 2


@pytest.mark.parametrize("old", ["aaa-old", "zzz-old"])
def test_an_old_node_with_our_address_is_no_session_to_ourselves(old: str) -> None:
    state = cluster(nodes=(node(1), node(2), node(1, name=old)))
    found = of(state)
    assert set(found.by_address) == set(of(cluster(nodes=(node(1), node(2)))).by_address)
    assert {(refusal.name, refusal.reason) for refusal in found.refusals} == {
        (f"mesh:{old}", Unusable.OWN_ADDRESS)
    }


@pytest.mark.parametrize("old", ["aaa-old", "zzz-old"])
def test_routes_of_a_live_node_are_taken_whatever_an_old_one_says(old: str) -> None:
    live, stale = node(2), node(2, name=old, blocks=(ip_network("10.244.99.0/24"),))
    state = cluster(nodes=(node(1), live, stale))
    protected = Protected.of(state, "n1", (), frozenset())
    for address in live.addresses:
        assert protected.mesh_prefixes[address] >= {*live.blocks, *stale.blocks}
