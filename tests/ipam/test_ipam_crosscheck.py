"""What declared objects say against one another, and who tells it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l3net.ipam.blocks import plan_blocks
from l3net.ipam.crosscheck import crosscheck, crosscheck_state
from l3net.ipam.findings import FindingReason
from l3net.ipam.ledger import Ledger, decode, encode
from l3net.model import BgpConfiguration, BgpFilter, BgpPeer, ClusterState, IpPool, Node, PoolUse, ServiceCidr


def node(name: str, *addresses: str, blocks: tuple[str, ...] = (), **changes: object) -> Node:
    return Node(name, tuple(map(ip_address, addresses)), tuple(map(ip_network, blocks)), **changes)


def said(nodes: list[Node], **found: object) -> set[tuple[str, str]]:
    state = ClusterState(nodes={each.name: each for each in nodes}, **found)
    return {(str(each.about), each.reason.value) for each in crosscheck_state(state)}


def test_a_right_state_has_none() -> None:
    nodes = [
        node("a", "10.0.0.1", "fd00::1", blocks=("10.244.0.0/24", "fd01::/120")),
        node("b", "10.0.0.2", "fd00::2", blocks=("10.244.1.0/24", "fd01::100/120")),
        node("c"),
    ]
    pools = {"p": IpPool("p", ip_network("10.244.0.0/16"), 24)}
    configuration = BgpConfiguration(service_cidrs=(ip_network("10.96.0.0/12"), ip_network("fd02::/108")))
    peers = {"tor": BgpPeer("tor", ip_address("10.0.0.9"), as_number=1, filters=("f",))}
    found = said(nodes, pools=pools, configuration=configuration, peers=peers, filters={"f": BgpFilter("f")})
    assert not found


@pytest.mark.parametrize(
    ("first", "second"), [("10.0.0.1", "10.0.0.1"), ("fd00::1", "fd00::1")], ids=["IPv4", "IPv6"]
)
def test_one_address_of_two_nodes_is_named_at_both(first: str, second: str) -> None:
    assert said([node("a", first), node("b", second), node("c", "10.0.0.3")]) == {
        ("a", "AddressShared"),
        ("b", "AddressShared"),
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("10.244.1.0/24", "10.244.1.0/24"),
        ("10.244.0.0/16", "10.244.1.0/24"),
        ("fd01::/120", "fd01::/120"),
        ("fd01::/64", "fd01::ff00/120"),
    ],
)
def test_one_block_of_two_nodes_is_named_at_both(first: str, second: str) -> None:
    nodes = [node("a", blocks=(first,)), node("b", blocks=(second,)), node("c", blocks=("10.245.0.0/24",))]
    assert said(nodes) == {("a", "BlocksOverlap"), ("b", "BlocksOverlap")}


def test_many_of_one_block_are_counted() -> None:
    findings = crosscheck(
        {f"n{i}": node(f"n{i}", blocks=("10.244.0.0/24",)) for i in range(9)}, {}, (), (), ()
    )
    assert len(findings) == 9
    assert "and 5 more" in findings[0].message


def test_blocks_in_the_way_of_services_and_nodes() -> None:
    nodes = [
        node("a", "10.244.1.9", blocks=("10.96.1.0/24",)),
        node("b", "fd02::1", blocks=("10.244.1.0/24", "fd02::/64")),
    ]
    configuration = BgpConfiguration(service_cidrs=(ip_network("10.96.0.0/12"),))
    assert said(nodes, configuration=configuration) == {
        ("a", "BlockOverlapsServiceCIDR"),
        ("b", "BlockHoldsNode"),
    }


def test_pools_are_among_them() -> None:
    pools = {
        name: IpPool(name, ip_network(cidr), length)
        for name, cidr, length in [
            ("one", "10.244.0.0/16", 24),
            ("two", "10.244.128.0/17", 24),
            ("six", "fd00::/112", 120),
            ("range", "10.96.0.0/16", 24),
        ]
    }
    configuration = BgpConfiguration(service_cidrs=(ip_network("10.96.0.0/12"),))
    assert said([node("a", "fd00::5")], pools=pools, configuration=configuration) == {
        ("one", "PoolOverlapsPool"),
        ("two", "PoolOverlapsPool"),
        ("six", "PoolOverlapsNode"),
        ("range", "PoolOverlapsServiceCIDR"),
    }


def test_a_misspelt_filter_names_the_one_that_was_meant() -> None:
    peers = [BgpPeer("tor", filters=("no-cleint", "no-client", "x"))]
    found = crosscheck({}, {}, (), peers, {"no-client"})
    assert [each.reason for each in found] == [FindingReason.MISSING_FILTER] * 2
    assert "(did you mean no-client?)" in found[0].message
    assert "create BGPFilter x, or correct `filters` in BGPPeer tor" in found[1].message


_PREFIXES = st.builds(
    lambda number, length: ip_network((number << 8, 32), strict=False).supernet(new_prefix=length),
    st.integers(0x0A000000 >> 8, (0x0A000000 >> 8) + 40),
    st.integers(18, 26),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(_PREFIXES, max_size=12))
def test_every_overlap_is_found_and_nothing_else(prefixes: list) -> None:  # type: ignore[type-arg]
    nodes = {f"n{i}": Node(f"n{i}", blocks=(prefix,)) for i, prefix in enumerate(prefixes)}
    found = {each.about.name for each in crosscheck(nodes, {}, (), (), ())}
    assert found == {
        f"n{i}"
        for i, one in enumerate(prefixes)
        if any(i != j and one.overlaps(other) for j, other in enumerate(prefixes))
    }


# --- a pool that is gone ---------------------------------------------------------------------------------

POOL = IpPool("four", ip_network("10.244.0.0/16"), 24)
SIX = IpPool("six", ip_network("fd01::/112"), 120)


@pytest.mark.parametrize("pool", [POOL, SIX], ids=lambda pool: pool.name)
def test_blocks_of_a_pool_that_is_gone_are_not_the_clusters(pool: IpPool) -> None:
    nodes = {name: node(name) for name in "ab"}
    first = plan_blocks(nodes, {pool.name: pool}, {})
    assert first.pools == {pool.cidr: pool.name}
    carried = {name: Node(name, blocks=first.held[name]) for name in nodes}
    gone = plan_blocks({**carried, "c": node("c")}, {}, first.held, known=first.pools)
    assert gone.held == first.held, "nobody loses a block"
    assert {(each.reason, str(each.about)) for each in gone.findings} == {
        (FindingReason.POOL_GONE, pool.name),
        (FindingReason.NO_BLOCK_FREE, "c"),
    }
    # Another pool in its stead: the new node gets a block of it, as it did not when those were foreign.
    cidr = ip_network("10.250.0.0/16" if pool is POOL else "fd09::/112")
    other = IpPool("new", cidr, pool.block_size)
    after = plan_blocks({**carried, "c": node("c")}, {"new": other}, gone.held, known=gone.pools)
    assert after.held["c"]
    assert [each.reason for each in after.findings] == [FindingReason.POOL_GONE]
    # And the same pool again: as if nothing had been.
    again = plan_blocks({**carried, "c": node("c")}, {pool.name: pool}, gone.held, known=gone.pools)
    assert again.held["c"]
    assert not again.findings
    assert set(again.held["c"]).isdisjoint({*again.held["a"], *again.held["b"]})


def test_pod_cidrs_of_the_cluster_are_the_clusters_still() -> None:
    """The control: blocks that no pool ever gave."""
    nodes = {"a": node("a", blocks=("192.168.0.0/24",)), "b": node("b")}
    found = plan_blocks(nodes, {"four": POOL}, {})
    assert "b" not in found.held
    assert found.pools == {}


def test_a_range_is_forgotten_with_its_last_block() -> None:
    first = plan_blocks({"a": node("a")}, {"four": POOL}, {})
    after = plan_blocks({}, {}, first.held, forgotten={"a"}, known=first.pools)
    assert after.pools == {}
    assert not after.findings


def test_the_ledger_tells_of_ranges_and_an_old_one_is_read() -> None:
    ledger = Ledger({"a": (ip_network("10.244.0.0/24"),)}, {}, {POOL.cidr: "four", SIX.cidr: "six"})
    assert decode(encode(ledger)) == ledger
    old = {"blocks": "a 10.244.0.0/24\n", "addresses": ""}
    assert decode(old).pools == {}
    found = plan_blocks({"a": node("a", blocks=("10.244.0.0/24",))}, {"four": POOL}, decode(old).blocks)
    assert found.pools == {POOL.cidr: "four"}, "taken up on the first pass after an upgrade"


def test_a_pool_for_balancers_alone_proves_no_block() -> None:
    lb = IpPool("lb", ip_network("10.244.0.0/16"), 32, allowed_uses=frozenset({PoolUse.LOAD_BALANCER}))
    found = plan_blocks({"a": node("a", blocks=("10.244.0.0/24",)), "b": node("b")}, {"lb": lb}, {})
    assert found.pools == {}


def test_service_ranges_are_those_that_the_configuration_names_or_else_those_of_servicecidrs() -> None:
    """In both families, each once; what the configuration names is all there is."""
    four, six, more = ip_network("10.96.0.0/16"), ip_network("fd00:96::/112"), ip_network("10.97.0.0/16")
    cidrs = {"kubernetes": ServiceCidr("kubernetes", (six, four)), "more": ServiceCidr("more", (more, four))}
    state = ClusterState(service_cidrs=cidrs)
    assert state.service_ranges == (four, more, six)
    state.configuration = BgpConfiguration(service_cidrs=(more,))
    assert state.service_ranges == (more,)
    assert ClusterState().service_ranges == ()


def test_what_overlaps_a_servicecidr_is_named() -> None:
    cidrs = {"kubernetes": ServiceCidr("kubernetes", (ip_network("10.96.0.0/16"),))}
    pools = {"p": IpPool("p", ip_network("10.96.128.0/17"), 24)}
    assert said([node("a", blocks=("10.96.1.0/24",))], pools=pools, service_cidrs=cidrs) == {
        ("p", "PoolOverlapsServiceCIDR"),
        ("a", "BlockOverlapsServiceCIDR"),
    }
