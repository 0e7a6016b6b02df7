"""A drain's stages, and what a route carries meanwhile."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from bgp_facts import session

from l3net.announce.source import NodeView
from l3net.announce.sources import desired
from l3net.bgp.drain import Stage, last_choice, stage
from l3net.bgp.exabgp.commands import announce
from l3net.bgp.path import Attributes
from l3net.community import GRACEFUL_SHUTDOWN, Community
from l3net.model import (
    Action,
    BgpFilter,
    ClusterState,
    DrainCause,
    DrainPolicy,
    FilterRule,
    Node,
    Operations,
    Taint,
)

BLOCK = ip_network("10.244.1.0/24")


@pytest.mark.parametrize(
    ("cause", "elapsed", "ending", "expected"),
    [
        (None, 1e9, True, Stage.NONE),
        (DrainCause.CORDON, 9.9, False, Stage.TAGGED),
        (DrainCause.CORDON, 10.0, False, Stage.SERVICES_WITHDRAWN),
        (DrainCause.CORDON, 10.0, True, Stage.SERVICES_WITHDRAWN),  # an agent that is upgraded meanwhile
        (DrainCause.TAINT, 1e9, True, Stage.SERVICES_WITHDRAWN),
        (DrainCause.SHUTDOWN, 10.0, False, Stage.SERVICES_WITHDRAWN),  # its pods are still ending
        (DrainCause.SHUTDOWN, 9.9, True, Stage.TAGGED),
        (DrainCause.SHUTDOWN, 10.0, True, Stage.WITHDRAWN),
        (DrainCause.LEAVE, 9.9, False, Stage.TAGGED),
        (DrainCause.LEAVE, 10.0, False, Stage.WITHDRAWN),
    ],
)
def test_stages(cause: DrainCause | None, elapsed: float, ending: bool, expected: Stage) -> None:
    assert stage(cause, elapsed, 10.0, ending=ending) is expected


def test_without_a_wait_nothing_is_tagged_first() -> None:
    """The control."""
    assert stage(DrainCause.CORDON, 0.0, 0, ending=False) is Stage.SERVICES_WITHDRAWN


@pytest.mark.parametrize(
    ("node", "policy", "expected"),
    [
        (Node("n"), DrainPolicy(), None),
        (Node("n", unschedulable=True), DrainPolicy(), DrainCause.CORDON),
        (Node("n", unschedulable=True), DrainPolicy(on_cordon=False), None),
        (Node("n", taints=frozenset({Taint("x", "NoSchedule")})), DrainPolicy(), None),
        (
            Node("n", taints=frozenset({Taint("x", "NoSchedule")})),
            DrainPolicy(taints=frozenset("x")),
            DrainCause.TAINT,
        ),
        (
            Node("n", taints=frozenset({Taint("x", "NoExecute")})),
            DrainPolicy(taints=frozenset("x")),
            DrainCause.TAINT,
        ),
        (
            Node("n", taints=frozenset({Taint("x", "PreferNoSchedule")})),
            DrainPolicy(taints=frozenset("x")),
            None,
        ),
        (Node("n", ready=False), DrainPolicy(), None),
        (
            Node("n", ready=False, unschedulable=True, shutting_down=True),
            DrainPolicy(),
            DrainCause.SHUTDOWN,
        ),
    ],
)
def test_causes(node: Node, policy: DrainPolicy, expected: DrainCause | None) -> None:
    assert policy.cause(node) is expected


def test_outside_the_as_the_path_is_longer() -> None:
    outside = session()
    assert outside.external
    found = last_choice(outside, Attributes(med=5), 3)
    assert found.communities == {GRACEFUL_SHUTDOWN}
    assert found.as_path == (outside.local_as,) * 3
    assert (found.local_preference, found.med) == (None, 5)
    line = announce(outside, outside.local_address, found, [BLOCK])
    assert f"as-path [ {' '.join([str(outside.local_as)] * 4)} ]" in line
    assert "community [ 65535:0 ]" in line


def test_inside_the_as_the_preference_is_lower() -> None:
    inside = replace(session(), peer_as=session().local_as)
    found = last_choice(inside, Attributes(), 3)
    assert (found.local_preference, found.as_path) == (0, ())
    assert "local-preference 0" in announce(inside, inside.local_address, found, [BLOCK])


def cluster() -> ClusterState:
    found = ClusterState()
    found.nodes["n1"] = Node("n1", blocks=(BLOCK,))
    return found


def test_no_filter_undoes_it() -> None:
    """A filter's preference and communities are those of a node that stays."""
    found = cluster()
    rule = FilterRule(
        Action.ACCEPT,
        operations=Operations(local_preference=200, add_communities=frozenset({Community((1, 2))})),
    )
    found.filters["f"] = BgpFilter("f", exports=(rule,))
    inside = replace(session(), peer_as=session().local_as, filters=("f",))
    before = desired(NodeView(found, "n1"), inside)
    assert before[BLOCK].attributes.local_preference == 200
    path = desired(NodeView(found, "n1"), inside, drain=Stage.TAGGED)[BLOCK]
    assert path.attributes.local_preference == 0
    assert path.attributes.communities == {GRACEFUL_SHUTDOWN, Community((1, 2))}


@pytest.mark.parametrize("found", [Stage.WITHDRAWN, Stage.LEFT])
def test_in_the_end_nothing_is_announced(found: Stage) -> None:
    assert desired(NodeView(cluster(), "n1"), session(), drain=found) == {}
    assert BLOCK in desired(NodeView(cluster(), "n1"), session(), drain=Stage.SERVICES_WITHDRAWN)
