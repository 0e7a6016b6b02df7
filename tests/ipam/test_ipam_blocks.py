"""Blocks: laws that hold whatever comes in whatever order."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l3net.ipam.blocks import MOST_BLOCKS, Ledger, cluster_blocks, plan_blocks, pool_usage
from l3net.ipam.findings import FindingReason
from l3net.ipam.overlaps import refused_pools
from l3net.model import IpPool, Node, PoolUse, Prefix, Requirement, Selector

P4 = IpPool("four", ip_network("10.244.0.0/20"), 24)
P6 = IpPool("six", ip_network("fd00:10:244::/112"), 120)
POOLS = {pool.name: pool for pool in (P4, P6)}


def node(name: str, *blocks: str, added: tuple[str, ...] = (), wants: str = "", **labels: str) -> Node:
    annotations = {"l3net.io/blocks": ",".join(added)} if added else {}
    if wants:
        annotations["l3net.io/wants-blocks"] = wants
    return Node(
        name, blocks=tuple(map(ip_network, (*blocks, *added))), labels=labels, annotations=annotations
    )


def nodes(*found: Node) -> dict[str, Node]:
    return {each.name: each for each in found}


def texts(blocks: Iterable[Prefix]) -> list[str]:
    return [str(block) for block in blocks]


def assert_disjoint(ledger: Ledger) -> None:
    flat = [(block, name) for name, held in ledger.items() for block in held]
    for (first, one), (second, other) in combinations(flat, 2):
        assert first.version != second.version or not first.overlaps(second), (one, first, other, second)


def test_both_families_lowest_first() -> None:
    plan = plan_blocks(nodes(node("b"), node("a")), POOLS, {})
    assert texts(plan.held["a"]) == ["10.244.0.0/24", "fd00:10:244::/120"]
    assert texts(plan.held["b"]) == ["10.244.1.0/24", "fd00:10:244::100/120"]
    assert plan.findings == ()


def test_second_pass_is_quiet() -> None:
    found = nodes(node("a"), node("b", wants="IPv4=3"))
    plan = plan_blocks(found, POOLS, {})
    assert plan_blocks(found, POOLS, plan.held) == plan


def test_pod_cidrs_of_the_cluster_are_honoured_and_never_handed_out() -> None:
    plan = plan_blocks(nodes(node("a", "10.244.0.0/24", "fd00:10:244::/120"), node("b")), POOLS, {})
    assert texts(plan.held["a"]) == ["10.244.0.0/24", "fd00:10:244::/120"]
    assert texts(plan.held["b"]) == ["10.244.1.0/24", "fd00:10:244::100/120"]


def test_where_the_cluster_gives_pod_cidrs_nothing_races_with_it() -> None:
    """One node has a podCIDR outside our pools: the next one's is on the way."""
    found = nodes(node("a", "192.168.0.0/24"), node("b"), node("c", "192.168.1.0/24", wants="IPv4=2"))
    plan = plan_blocks(found, {"four": P4}, {})
    assert "b" not in plan.held
    assert texts(plan.held["c"]) == ["192.168.1.0/24", "10.244.0.0/24"]  # it may add to it
    # the control: without that node, b gets one
    assert "b" in plan_blocks(nodes(node("b")), {"four": P4}, {}).held


def test_ipv6_is_ours_although_the_cluster_gives_ipv4() -> None:
    plan = plan_blocks(nodes(node("a", "192.168.0.0/24")), POOLS, {})
    assert texts(plan.held["a"]) == ["192.168.0.0/24", "fd00:10:244::/120"]


def test_selector_disabled_refused_and_use() -> None:
    only_ssd = Selector((Requirement("disk", "In", ("ssd",)),))
    pools = {
        "a-ssd": IpPool("a-ssd", ip_network("10.1.0.0/16"), 24, node_selector=only_ssd),
        "b-off": IpPool("b-off", ip_network("10.2.0.0/16"), 24, disabled=True),
        "c-bad": IpPool("c-bad", ip_network("10.3.0.0/16"), 24),
        "d-lb": IpPool(
            "d-lb", ip_network("10.4.0.0/16"), 24, allowed_uses=frozenset({PoolUse.LOAD_BALANCER})
        ),
        "e": IpPool("e", ip_network("10.5.0.0/16"), 24),
    }
    plan = plan_blocks(nodes(node("x", disk="ssd"), node("y", disk="hdd")), pools, {}, refused={"c-bad"})
    assert texts(plan.held["x"]) == ["10.1.0.0/24"]
    assert texts(plan.held["y"]) == ["10.5.0.0/24"]


def test_disabled_pool_leaves_what_is_in_use() -> None:
    held = {"a": (ip_network("10.244.3.0/24"),)}
    off = {"four": IpPool("four", P4.cidr, 24, disabled=True)}
    assert plan_blocks(nodes(node("a", "10.244.3.0/24")), off, held).held == held
    assert plan_blocks(nodes(node("a", added=("10.244.3.0/24",))), off, held).held == held


def test_full_pool_is_named_and_others_go_on() -> None:
    tiny = {"tiny": IpPool("tiny", ip_network("10.9.0.0/23"), 24)}
    plan = plan_blocks(nodes(*(node(f"n{index}") for index in range(3))), tiny, {})
    assert sorted(plan.held) == ["n0", "n1"]
    [finding] = plan.findings
    assert (finding.about.name, finding.reason) == ("n2", FindingReason.NO_BLOCK_FREE)
    assert "tiny" in finding.message
    assert pool_usage(tiny["tiny"], [block for held in plan.held.values() for block in held]).free == 0


def test_second_pool_takes_over() -> None:
    pools = {
        "a": IpPool("a", ip_network("10.9.0.0/24"), 24),
        "b": IpPool("b", ip_network("10.10.0.0/24"), 24),
    }
    plan = plan_blocks(nodes(node("x"), node("y")), pools, {})
    assert texts(plan.held["x"]) + texts(plan.held["y"]) == ["10.9.0.0/24", "10.10.0.0/24"]


def test_a_node_that_fills_up_gets_more_but_not_all() -> None:
    plan = plan_blocks(nodes(node("a", wants="IPv4=3")), POOLS, {})
    assert len(plan.held["a"]) == 4
    plan = plan_blocks(
        nodes(node("a", wants="IPv4=9999")), {"p": IpPool("p", ip_network("10.0.0.0/8"), 24)}, {}
    )
    assert len(plan.held["a"]) == MOST_BLOCKS
    assert [finding.reason for finding in plan.findings] == [FindingReason.TOO_MANY_BLOCKS]
    plan = plan_blocks(nodes(node("a", wants="lots")), POOLS, {})
    assert [finding.reason for finding in plan.findings] == [FindingReason.INVALID_REQUEST]


def test_gone_node_keeps_its_blocks_until_forgotten() -> None:
    first = plan_blocks(nodes(node("a")), POOLS, {})
    gone = plan_blocks(nodes(node("b")), POOLS, first.held)
    assert gone.held["a"] == first.held["a"]
    assert not set(gone.held["b"]) & set(first.held["a"])
    back = plan_blocks(nodes(node("a"), node("b")), POOLS, gone.held)
    assert back.held["a"] == first.held["a"]
    freed = plan_blocks(nodes(node("b"), node("c")), POOLS, gone.held, forgotten={"a"})
    assert "a" not in freed.held
    assert freed.held["c"] == first.held["a"]


def test_the_cluster_may_give_a_gone_nodes_block_anew() -> None:
    held = {"a": (ip_network("10.244.0.0/24"),)}
    plan = plan_blocks(nodes(node("b", "10.244.0.0/24")), {"four": P4}, held)
    assert plan.held == {"b": held["a"]}
    assert plan.findings == ()


def test_a_node_of_the_same_name_with_other_pod_cidrs() -> None:
    """The cluster's old block is not the node's any more; ours, claimed and not yet written, is."""
    held = {"a": (ip_network("192.168.0.0/24"), ip_network("10.244.7.0/24"))}
    plan = plan_blocks(nodes(node("a", "192.168.9.0/24")), {"four": P4}, held)
    assert texts(plan.held["a"]) == ["10.244.7.0/24", "192.168.9.0/24"]


def test_two_nodes_with_one_block_are_named() -> None:
    held = {"a": (ip_network("10.244.0.0/24"),)}
    plan = plan_blocks(nodes(node("a", "10.244.0.0/24"), node("b", "10.244.0.0/25")), {"four": P4}, held)
    assert_disjoint(plan.held)
    [finding] = [each for each in plan.findings if each.reason is FindingReason.BLOCK_CONFLICT]
    assert finding.about.name == "b"
    assert "10.244.0.0/25" in finding.message and "node a" in finding.message


def test_load_balancer_addresses_are_passed_over() -> None:
    plan = plan_blocks(nodes(node("a")), {"four": P4}, {}, addresses=[ip_network("10.244.0.9/32")])
    assert texts(plan.held["a"]) == ["10.244.1.0/24"]


def test_what_is_of_the_cluster() -> None:
    assert texts(cluster_blocks(node("a", "10.0.0.0/24", added=("10.1.0.0/24",)))) == ["10.0.0.0/24"]


def test_overlaps_name_both() -> None:
    pools = {
        "a": IpPool("a", ip_network("10.0.0.0/16"), 24),
        "b": IpPool("b", ip_network("10.0.128.0/17"), 24),
        "c": IpPool("c", ip_network("10.96.0.0/12"), 24),
        "d": IpPool("d", ip_network("172.16.0.0/12"), 24),
        "e": IpPool("e", ip_network("fd00::/64"), 120),
    }
    found = refused_pools(
        pools, [ip_network("10.96.0.0/16")], [Node("n1", addresses=(ip_address("172.16.5.5"),))]
    )
    assert {(each.about.name, each.reason) for each in found} == {
        ("a", FindingReason.POOL_OVERLAPS_POOL),
        ("b", FindingReason.POOL_OVERLAPS_POOL),
        ("c", FindingReason.POOL_OVERLAPS_SERVICE_CIDR),
        ("d", FindingReason.POOL_OVERLAPS_NODE),
    }
    for each in found:
        other = {"a": "pool b", "b": "pool a", "c": "10.96.0.0/16", "d": "node n1"}[each.about.name]
        assert other in each.message


NAMES = st.sampled_from([f"n{index}" for index in range(6)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), NAMES),
        st.tuples(st.just("go"), NAMES),
        st.tuples(st.just("forget"), NAMES),
        st.tuples(st.just("want"), NAMES),
        st.tuples(st.just("given"), NAMES, st.integers(0, 15)),
        st.tuples(st.just("restart"), st.just("")),
        st.tuples(st.just("resize"), st.just("")),
        st.tuples(st.just("pool"), st.sampled_from(["four", "extra"])),
        st.tuples(st.just("lost write"), NAMES),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=300)
@given(STEPS)
def test_never_overlapping_whatever_happens(steps: list[tuple[object, ...]]) -> None:
    """Nodes come, go, fill up and are given podCIDRs; pools change; writes to nodes get lost; what was once
    held by a node that stayed is held still.
    """
    extra = IpPool("extra", ip_network("10.250.0.0/22"), 26)
    pools = {"four": P4}
    present: dict[str, Node] = {}
    ledger: dict[str, tuple[Prefix, ...]] = {}
    for step in steps:
        forgotten: set[str] = set()
        match step:
            case ("come", str(name)):
                present.setdefault(name, node(name))
            case ("go", str(name)):
                present.pop(name, None)
            case ("forget", str(name)) if name not in present:
                forgotten = {name}
            case ("want", str(name)) if name in present:
                old = present[name]
                more = {"l3net.io/wants-blocks": "IPv4=2"}
                present[name] = Node(name, blocks=old.blocks, annotations={**old.annotations, **more})
            case ("given", str(name), int(index)) if name not in present:
                present[name] = node(name, f"10.244.{index}.0/24")
            case ("pool", "extra"):
                pools["extra"] = extra
            case ("pool", "four"):
                pools.pop("extra", None)
            case ("resize", _):
                size = 25 if P4.block_size == pools["four"].block_size else 24
                pools["four"] = IpPool("four", P4.cidr, size)
        plan = plan_blocks(present, pools, ledger, forgotten=forgotten)
        assert_disjoint(plan.held)
        for name in present:
            own = set(ledger.get(name, ())) - set(plan.held.get(name, ()))
            assert all(not block.subnet_of(P4.cidr) for block in own if block.version == 4), "moved"
        ledger = dict(plan.held)
        if step[0] == "lost write":
            continue
        for name, old in present.items():
            if name in ledger:
                present[name] = Node(name, blocks=ledger[name], annotations=old.annotations)
    again = plan_blocks(present, pools, ledger)
    assert again.held == ledger


@pytest.mark.parametrize("count", [5000])
def test_scale(count: int) -> None:
    """Five thousand nodes at once, both families, in one plan: a search must not look at everything again."""
    pools = {
        "four": IpPool("four", ip_network("10.0.0.0/8"), 24),
        "six": IpPool("six", ip_network("fd00::/64"), 120),
    }
    found = nodes(*(node(f"n{index}") for index in range(count)))
    plan = plan_blocks(found, pools, {})
    assert len({block for held in plan.held.values() for block in held}) == 2 * count
    assert plan_blocks(found, pools, plan.held) == plan


@pytest.mark.parametrize(
    "ledger",
    [
        {"a": ("10.244.1.0/24",), "b": ("10.244.0.0/24",)},
        {"a": ("10.244.0.0/24", "10.244.1.0/24")},
        {"a": ("10.244.1.128/25",), "b": ("10.244.1.0/24",)},
        {"a": ("10.244.0.0/23",)},
        {"gone": ("10.244.0.0/16",), "a": ("fd00:10:244::100/120",)},
    ],
)
def test_a_ledger_edited_by_hand_gives_nobody_what_another_carries(
    ledger: dict[str, tuple[str, ...]],
) -> None:
    """It gave each of two nodes the other's block as well, and both announced both."""
    found = nodes(
        node("a", "10.244.0.0/24", "fd00:10:244::/120"),
        node("b", "10.244.1.0/24", "fd00:10:244::100/120"),
        node("c"),
    )
    before = {name: tuple(map(ip_network, blocks)) for name, blocks in ledger.items()}
    plan = plan_blocks(found, POOLS, before)
    assert_disjoint(plan.held)
    for name in ("a", "b"):
        assert set(plan.held[name]) == set(found[name].blocks)
    assert len(plan.held["c"]) == 2
    said = [finding for finding in plan.findings if finding.about.name == "a"]
    assert any(finding.reason is FindingReason.BLOCK_CONFLICT for finding in said) is ("a" in ledger)
    assert plan_blocks(found, POOLS, plan.held).held == plan.held


def test_what_a_node_was_not_told_of_yet_stays_its_own() -> None:
    held = {"a": (ip_network("10.244.3.0/24"),), "b": (ip_network("10.244.1.0/24"),)}
    plan = plan_blocks(nodes(node("a"), node("b", "10.244.1.0/24")), {"four": P4}, held)
    assert (plan.held, plan.findings) == (held, ())


def test_what_a_node_no_longer_carries_of_a_disabled_pool_is_free() -> None:
    """So a pool is emptied: a Node that was deleted and is back gets its blocks of another pool."""
    off = IpPool("four", P4.cidr, 24, disabled=True)
    new = IpPool("new", ip_network("10.9.0.0/16"), 26)
    held = {"a": (ip_network("10.244.0.0/24"),)}
    plan = plan_blocks(nodes(node("a")), {"four": off, "new": new}, held)
    assert texts(plan.held["a"]) == ["10.9.0.0/26"]
    away = plan_blocks({}, {"four": off, "new": new}, held)
    assert away.held == held, "a Node that is away may come back as it was"
    carried = plan_blocks(nodes(node("a", "10.244.0.0/24")), {"four": off, "new": new}, held)
    assert texts(carried.held["a"]) == ["10.244.0.0/24"], "the control: what it carries stays"
    still_open = plan_blocks(nodes(node("a")), {"four": P4, "new": new}, held)
    assert texts(still_open.held["a"]) == ["10.244.0.0/24"], "the control: of an open pool it is told again"
