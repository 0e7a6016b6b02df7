"""Laws of the model by which bench/scale.py tells when all nodes have all blocks."""

from __future__ import annotations

import pytest
import scaling_path  # noqa: F401 - for the next
from scaling.convergence import LINK, NODE, PATHS, ROUTER, Costs, fitted, racked, reflected

FREE = Costs(0.0, 0.0)
SIZES = (2, 10, 40, 41, 200)


@pytest.mark.parametrize("nodes", SIZES)
def test_every_node_hears_of_every_other(nodes: int) -> None:
    for ways in (1, 2, 3):
        assert reflected(nodes, ways).at_node == ways * PATHS * (nodes - 1)
        assert racked(nodes, ways).at_node == ways * PATHS * (nodes - 1)


@pytest.mark.parametrize("nodes", SIZES)
def test_one_reflector_is_done_when_its_work_is(nodes: int) -> None:
    """With nodes that cost nothing it never waits, and does nothing twice."""
    found = reflected(nodes, 1, NODE, FREE)
    work = nodes * PATHS * NODE.take + nodes * (nodes - 1) * PATHS * NODE.give
    assert found.busy == pytest.approx(work)
    assert found.seconds == pytest.approx(work + 2 * LINK)
    assert (found.taken, found.given) == (nodes * PATHS, nodes * (nodes - 1) * PATHS)


@pytest.mark.parametrize("nodes", SIZES)
def test_nothing_is_faster_than_its_work_nor_slower_than_all_of_it(nodes: int) -> None:
    for found in (reflected(nodes), reflected(nodes, 2, ROUTER), racked(nodes)):
        assert max(found.busy, found.node_busy) <= found.seconds
        assert found.seconds <= 4 * (found.busy + found.node_busy + 6 * LINK)


def test_dearer_is_slower_and_more_reflectors_no_faster() -> None:
    dear = Costs(NODE.take * 2, NODE.give * 2)
    assert reflected(50, 1, dear).seconds > reflected(50, 1, NODE).seconds
    assert reflected(50, 3).seconds >= reflected(50, 1).seconds, "each node hears everything from each"


def test_reflectors_grow_by_the_square_and_racks_do_not() -> None:
    square = reflected(400, 2, ROUTER, FREE).busy / reflected(200, 2, ROUTER, FREE).busy
    assert 3.5 < square < 4.1
    assert racked(400).busy / racked(200).busy < 3
    assert racked(1000).busy < reflected(1000, 2, ROUTER).busy / 5


def test_costs_are_found_again_from_what_they_make() -> None:
    """The control of the fit: what a model made gives its own costs, and other costs do not."""
    rows = [
        {
            "told_cpu": {"agent": each.busy / 2, "exabgp": each.busy / 2},
            "received": each.taken,
            "sent": each.given,
        }
        for each in (reflected(nodes, 1) for nodes in (10, 25, 50))
    ]
    found = fitted(rows)
    assert (found.take, found.give) == (pytest.approx(NODE.take), pytest.approx(NODE.give))
    rows[0]["told_cpu"] = {"agent": 1.0}
    assert fitted(rows).take != pytest.approx(NODE.take)


def test_two_runs_are_the_same() -> None:
    assert (reflected(60), racked(60)) == (reflected(60), racked(60))
