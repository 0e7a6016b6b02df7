"""Which node holds an address, and which address a pod has: laws."""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import ip_address
from itertools import pairwise

import pytest

from l3net.egress.choosing import chosen, holders, homes
from l3net.model import Address, ObjectName

NODES = tuple(f"n{number}" for number in range(7))
BASES = {4: ip_address("203.0.113.0"), 6: ip_address("2001:db8::")}


def some(rng: random.Random) -> list[Address]:
    base = BASES[rng.choice((4, 6))]
    return [base + each for each in rng.sample(range(200), rng.randrange(1, 12))]


@pytest.mark.parametrize("seed", range(60))
def test_a_node_that_goes_moves_its_own_addresses_alone(seed: int) -> None:
    """And one that comes back takes some, and moves none between others; whatever was before, the same nodes
    hold the same addresses."""
    rng = random.Random(seed)
    addresses = some(rng)
    there = set(NODES[: rng.randrange(1, 8)])
    course = [set(there)]
    for _ in range(12):
        there ^= {rng.choice(NODES)}
        course.append(set(there))
    for before, now in pairwise(course):
        (node,) = before ^ now
        one, two = (holders(rng.sample(addresses, len(addresses)), NODES, each) for each in (before, now))
        assert set(one) == (set(addresses) if before else set())
        for address in addresses if before and now else ():
            assert one[address] == two[address] or node in (one[address], two[address])
        assert set(two.values()) <= now


@pytest.mark.parametrize("seed", range(40))
def test_addresses_are_spread(seed: int) -> None:
    rng = random.Random(seed)
    addresses = some(rng)
    nodes = rng.sample(NODES, rng.randrange(1, 8))
    each = Counter(holders(addresses, nodes, nodes).values())
    assert max(each.values()) == -(-len(addresses) // len(nodes))
    assert holders(addresses, nodes, nodes) == homes(addresses, rng.sample(nodes, len(nodes)))
    # Of those that are home to none one takes over, as long as there is such a one.
    gone = rng.choice(sorted(each))
    if len(nodes) > len(addresses):
        assert max(Counter(holders(addresses, nodes, set(nodes) - {gone}).values()).values()) == 1


def test_nobody_is_there() -> None:
    assert holders([BASES[4]], NODES, ()) == {}
    assert holders([BASES[4]], (), NODES) == {} == homes([BASES[4]], ())
    assert chosen(ObjectName("a", "b"), {}) is None


@pytest.mark.parametrize("seed", range(20))
def test_a_pod_keeps_its_address_while_that_is_held(seed: int) -> None:
    rng = random.Random(seed)
    held = dict.fromkeys(some(rng), "n1")
    for number in range(30):
        pod = ObjectName("a", f"p{number}")
        before = chosen(pod, held)
        gone = rng.choice(sorted(held))
        now = chosen(pod, {each: node for each, node in held.items() if each != gone})
        assert before in held and before in (gone, now)


def test_pods_are_spread_over_addresses() -> None:
    held = {BASES[4] + each: "n1" for each in range(4)}
    each = Counter(chosen(ObjectName("a", f"p{number}"), held) for number in range(400))
    assert set(each) == set(held) and min(each.values()) > 50
