"""Pools for the pods of some namespaces: who gets which block, and what a node asks for."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3net.ipam.blocks import plan_blocks
from l3net.ipam.findings import FindingReason
from l3net.ipam.reserved import (
    NamespaceUnknownError,
    PoolMissingError,
    blocks_for,
    open_blocks,
    raised_pools,
    reserved_pools,
    wanted_pools,
)
from l3net.model import IpPool, Namespace, Node, Requirement, Selector

TENANT = Selector((Requirement("tenant", "In", ("a",)),))
SSD = Selector((Requirement("disk", "In", ("ssd",)),))
PODS4 = IpPool("pods4", ip_network("10.244.0.0/16"), 24)
PODS6 = IpPool("pods6", ip_network("fd00:10:244::/104"), 120)
A4 = IpPool("a4", ip_network("10.20.0.0/22"), 24, namespace_selector=TENANT)
POOLS = {pool.name: pool for pool in (PODS4, PODS6, A4)}
NAMESPACES = {
    name: Namespace(name, labels)
    for name, labels in (("red", {"tenant": "a"}), ("blue", {"tenant": "b"}), ("default", {}))
}


def node(*blocks: str, wants: str = "", **labels: str) -> Node:
    annotations = {"l3net.io/wants-pools": wants} if wants else {}
    return Node("n1", blocks=tuple(map(ip_network, blocks)), labels=labels, annotations=annotations)


def given_to(namespace: str, found: Node, pools: dict[str, IpPool] = POOLS) -> list[str]:
    reserved = reserved_pools(pools, found, NAMESPACES)
    unreserved = open_blocks(found.blocks, pools.values())
    return [str(each) for each in blocks_for(namespace, unreserved, reserved, frozenset(NAMESPACES))]


FULL = node("10.244.1.0/24", "fd00:10:244::/120", "10.20.0.0/24")


def test_each_namespace_has_its_own_and_no_other() -> None:
    assert given_to("red", FULL) == ["10.20.0.0/24", "fd00:10:244::/120"], "IPv6 has no pool of its own"
    for other in ("blue", "default", ""):
        assert given_to(other, FULL) == ["10.244.1.0/24", "fd00:10:244::/120"]


def test_rather_none_than_a_wrong_one() -> None:
    bare = node("10.244.1.0/24", "fd00:10:244::/120")
    with pytest.raises(PoolMissingError) as caught:
        given_to("red", bare)
    assert caught.value.pool == "a4"
    assert given_to("blue", bare) == ["10.244.1.0/24", "fd00:10:244::/120"]
    with pytest.raises(NamespaceUnknownError):
        given_to("new", FULL)
    assert given_to("new", bare, {"pods4": PODS4}) == ["10.244.1.0/24", "fd00:10:244::/120"], (
        "where no pool is for certain namespaces, none has to be known"
    )


def test_only_where_the_pool_is_open_to_the_node() -> None:
    pools = {**POOLS, "a4": IpPool("a4", A4.cidr, 24, namespace_selector=TENANT, node_selector=SSD)}
    hdd = node("10.244.1.0/24", "fd00:10:244::/120", disk="hdd")
    assert given_to("red", hdd, pools) == ["10.244.1.0/24", "fd00:10:244::/120"]
    with pytest.raises(PoolMissingError):
        given_to("red", node("10.244.1.0/24", disk="ssd"), pools)


def test_a_disabled_pool_serves_from_what_the_node_has() -> None:
    pools = {**POOLS, "a4": IpPool("a4", A4.cidr, 24, namespace_selector=TENANT, disabled=True)}
    assert given_to("red", FULL, pools)[0] == "10.20.0.0/24"
    assert given_to("red", node("10.244.1.0/24"), pools) == ["10.244.1.0/24"]


@given(namespace=st.sampled_from(["", "red", "blue", "default"]), mask=st.integers(0, 15))
def test_no_block_serves_both(namespace: str, mask: int) -> None:
    every = ("10.244.1.0/24", "10.20.0.0/24", "10.20.1.0/24", "fd00:10:244::/120")
    found = node(*(block for index, block in enumerate(every) if mask >> index & 1))
    try:
        blocks = given_to(namespace, found)
    except PoolMissingError:
        assert namespace == "red"
        return
    assert all(block.startswith("10.20.") is (namespace == "red") for block in blocks if "." in block)


# --- the controller --------------------------------------------------------------------------------------


def held(found: Node, pools: dict[str, IpPool] = POOLS) -> list[str]:
    return [str(block) for block in plan_blocks({"n1": found}, pools, {}).held["n1"]]


def test_a_node_gets_what_it_asks_for_and_its_other_blocks_besides() -> None:
    assert held(node()) == ["10.244.0.0/24", "fd00:10:244::/120"]
    assert held(node(wants="a4=2")) == [
        "10.244.0.0/24",
        "fd00:10:244::/120",
        "10.20.0.0/24",
        "10.20.1.0/24",
    ]
    has = node("10.20.0.0/24", wants="a4=1")
    assert held(has) == ["10.20.0.0/24", "10.244.0.0/24", "fd00:10:244::/120"], "one for the others too"


def test_what_cannot_be_is_named() -> None:
    def reasons(wants: str, **more: IpPool) -> list[FindingReason]:
        plan = plan_blocks({"n1": node(wants=wants)}, {**POOLS, **more}, {})
        return [finding.reason for finding in plan.findings]

    assert reasons("a4=5") == [FindingReason.NO_BLOCK_FREE]
    assert reasons("a4") == [FindingReason.INVALID_REQUEST]
    assert reasons("a4=17") == [FindingReason.TOO_MANY_BLOCKS, FindingReason.NO_BLOCK_FREE]
    assert reasons("gone=1") == []
    closed = IpPool("a4", A4.cidr, 24, namespace_selector=TENANT, node_selector=SSD)
    assert reasons("a4=1", a4=closed) == []


def test_second_pass_is_quiet() -> None:
    found = {"n1": node(wants="a4=2")}
    plan = plan_blocks(found, POOLS, {})
    assert plan_blocks(found, POOLS, plan.held) == plan


# --- the wish --------------------------------------------------------------------------------------------


def test_a_wish_is_only_raised() -> None:
    assert raised_pools("", {"a4": 1}) == "a4=1"
    assert raised_pools("a4=1", {"a4": 1}) is None
    assert raised_pools("a4=2,b=1", {"a4": 1, "c": 3}) == "a4=2,b=1,c=3"
    assert wanted_pools(node(wants="a4=2, b=1")) == ({"a4": 2, "b": 1}, "")
    assert wanted_pools(node(wants="a4=2;b")) == (
        {},
        "l3net.io/wants-pools is not as in tenant-a=1,tenant-b=2",
    )
