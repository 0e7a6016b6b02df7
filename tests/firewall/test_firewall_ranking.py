"""Which endpoint a slot has, and who is asked next: the laws, and how even it is."""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import ip_address

import pytest

from l3net.firewall.lanes import lanes
from l3net.firewall.ranking import ASKED, ROOM, TOTAL, Places, _numbers, places, sizes, wanted_slots
from l3net.model import Backend, Placed, Spread

FLOWS = 100_000


def spread(count: int, nodes: int, *others: int) -> Spread:
    every = [
        Placed(Backend(ip_address("10.1.0.1") + number, 8080), f"n{number % nodes}")
        for number in range(count + len(others))
    ]
    return Spread(tuple(sorted(every[:count])), tuple(sorted(every[number] for number in others)))


def of(found: Spread, slots: int, me: str, nodes: int) -> Places:
    return places(found, slots, me, frozenset(f"n{number}" for number in range(nodes)))


@pytest.mark.parametrize("count", [2, 3, 5, 10, 16, 17, 48, 49, 100])
def test_endpoints_have_about_as_many_flows_each(count: int) -> None:
    slots = wanted_slots(count)
    owners = of(spread(count, count), slots, "elsewhere", count).owners
    draw = random.Random(count)
    flows = Counter(owners[draw.randrange(slots)] for _ in range(FLOWS))
    assert max(flows.values()) <= 1.15 * FLOWS / count


def test_what_goes_moves_its_own_slots_and_what_comes_takes_its_share() -> None:
    many = spread(7, 7)
    for gone in many.ready:
        fewer = Spread(tuple(each for each in many.ready if each != gone))
        before = [many.ready[owner] for owner in of(many, 4096, "n1", 7).owners]
        after = [fewer.ready[owner] for owner in of(fewer, 4096, "n1", 7).owners]
        moved = [one for one, other in zip(before, after, strict=True) if one != other]
        assert set(moved) == {gone} and len(moved) == before.count(gone)


def test_who_had_a_slot_before_is_asked_first() -> None:
    many = spread(5, 5)
    for comes in many.ready:
        before = Spread(tuple(each for each in many.ready if each != comes))
        had = [before.ready[owner].node for owner in of(before, 4096, "n0", 5).owners]
        there = of(many, 4096, comes.node, 5)
        for slot, owner in enumerate(there.owners):
            if many.ready[owner] == comes:
                assert there.nodes[there.nexts[slot]] == had[slot]


@pytest.mark.parametrize(("count", "nodes"), [(5, 5), (12, 4), (20, 20), (6, 1)])
def test_every_node_is_asked_once_in_the_same_order(count: int, nodes: int) -> None:
    found = spread(count, nodes, *range(count, count + nodes // 2))
    on = {f"n{number}": of(found, 256, f"n{number}", nodes) for number in range(nodes)}
    for slot in range(256):
        at, asked = found.ready[on["n0"].owners[slot]].node, []
        while at:
            asked.append(at)
            following = on[at].nexts[slot]
            at = on[at].nodes[following] if following >= 0 else ""
        assert len(asked) == len(set(asked))
        assert len(asked) == min(nodes, ASKED)


def test_the_order_is_that_of_the_highest_numbers_after_the_owner() -> None:
    """Against the same written plainly, a slot at a time."""
    found = spread(14, 6, *range(14, 20))
    every = sorted((*found.ready, *found.others))
    drawn = {
        each: [number << 15 | len(every) - at for number in drawn_of(each.backend, 64)]
        for at, each in enumerate(every)
    }
    for me in range(6):
        there = of(found, 64, f"n{me}", 6)
        for slot in range(64):
            owner = max(found.ready, key=lambda each, slot=slot: drawn[each][slot])  # type: ignore[misc]
            assert found.ready[there.owners[slot]] == owner
            best = {
                each.node: drawn[each][slot] for each in sorted(every, key=lambda each: drawn[each][slot])
            }
            others = sorted(best.keys() - {owner.node}, key=best.__getitem__, reverse=True)
            order = [owner.node, *others, ""]
            after = order[order.index(f"n{me}") + 1]
            at = there.nexts[slot]
            assert (there.nodes[at] if at >= 0 else "") == after


def test_each_endpoint_draws_each_rank_once() -> None:
    for slots in (16, 128, 4096, 65536):
        beside = max(0, 16 - (slots.bit_length() - 1))
        drawn = drawn_of(Backend(ip_address("fd00::1"), 80), slots)
        assert sorted(each >> beside for each in drawn) == list(range(slots))


def drawn_of(backend: Backend, slots: int) -> list[int]:
    return [each >> ROOM for each in lanes(slots).listed(_numbers(backend, slots))]


def test_a_node_that_cannot_be_reached_is_not_asked_and_whose_slots_are_each_node_s_own() -> None:
    found = spread(3, 3)
    there = places(found, 256, "n1", frozenset({"n0"}))
    assert there.nodes == ("n0", "n1")
    assert {there.nexts[slot] for slot in range(256) if found.ready[there.owners[slot]].node == "n2"} == {-1}


def test_tables_are_bounded_all_together_and_the_largest_give_way() -> None:
    assert sizes({"a": 100}) == {"a": 65536} and sizes({"a": 3, "b": 17}) == {"a": 4096, "b": 16384}
    many = sizes({number: 100 if number < 3 else 3 for number in range(10)})
    assert sum(many.values()) <= TOTAL and many[9] == 4096 and many[0] == 8192
    assert set(sizes(dict.fromkeys(range(10_000), 3)).values()) == {16}
