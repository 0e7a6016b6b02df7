"""Chaos in the lab, its judgement: which loss is allowed, and to what it is put down."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from l3net.lab.chaos.busy import Busy
from l3net.lab.chaos.catalogue import FAULTS
from l3net.lab.chaos.fault import Cut
from l3net.lab.chaos.leaks import Counts, leaked
from l3net.lab.chaos.losses import RECOVERY, Happened, Judge, Loss, without
from l3net.lab.chaos.path import Kind, ProbePath
from l3net.lab.chaos.report import NOBODY, broken, rows
from l3net.lab.chaos.step import Step
from l3net.lab.chaos.watch import Flap, untouched
from l3net.lab.chaos.ways import has_way, left
from l3net.lab.state import read_source

TOPOLOGY = read_source(None).topology()
ADDRESS = ip_address("192.0.2.1")


def path(source: str, *ends: str, kind: Kind = Kind.UDP, translators: tuple[str, ...] = ()) -> ProbePath:
    return ProbePath(f"{source} > {ends}", kind, source, None, ADDRESS, 7, ends, translators)


def happened(fault: str, target: str, began: float, ended: float) -> Happened:
    return Happened(Step(began, fault, target, ended - began), FAULTS[fault], began, ended)


def beyond(of: ProbePath, first: float, last: float, *faults: Happened) -> tuple[tuple[float, float], ...]:
    return Judge(TOPOLOGY, faults).verdict(Loss(of, first, last, 10)).beyond


TO_N1, ACROSS, HERE = path("client", "n1"), path("n1", "n3"), path("n2", "n2")
SERVICE = path("client", "n1", "n2", translators=("n1", "n2", "n3"))


@pytest.mark.parametrize("of", [TO_N1, ACROSS, HERE, SERVICE])
@pytest.mark.parametrize(
    "fault", ["agent-killed", "exabgp-killed", "speaker-killed", "pods-churned", "state-full"]
)
def test_what_must_cost_nothing_is_allowed_nothing(fault: str, of: ProbePath) -> None:
    killed = happened(fault, "n1", 10, 12)
    assert beyond(of, 10.5, 10.6, killed) == ((10.5, 10.6),)
    assert beyond(of, 20, 21) == ((20, 21),)


def test_behind_a_router_that_is_no_helper_a_speaker_may_cost_something() -> None:
    frr, gobgp = (read_source(None, kind).topology() for kind in (None, _kind("gobgp")))
    killed = [happened("speaker-killed", "n1", 10, 12)]
    loss = Loss(TO_N1, 11, 12, 10)
    assert Judge(frr, killed).verdict(loss).beyond
    assert not Judge(gobgp, killed).verdict(loss).beyond


def _kind(name: str):  # type: ignore[no-untyped-def]
    from l3net.lab.topology import RouterKind

    return RouterKind(name)


def test_the_only_way_of_a_node_may_be_lost_as_long_as_it_is_cut_and_a_while_after() -> None:
    cut = happened("link-down", "tor1,n1", 10, 30)
    assert beyond(TO_N1, 10, 30 + RECOVERY - 1, cut) == ()
    assert beyond(TO_N1, 29, 30 + RECOVERY + 2, cut) == ((30 + RECOVERY, 30 + RECOVERY + 2),)
    assert beyond(HERE, 11, 12, cut) == ((11, 12),), "what stays on its node is not concerned"


def test_one_of_two_ways_costs_what_it_takes_to_notice() -> None:
    """n2 is homed to both racks."""
    cut = happened("link-down", "tor1,n2", 10, 30)
    to_n2 = path("client", "n2")
    assert beyond(to_n2, 10, 13, cut) == ()
    assert beyond(to_n2, 20, 21, cut) == ((20, 21),)
    silent = happened("link-silent", "tor1,n2", 10, 40)
    assert beyond(to_n2, 10, 23, silent) == ()
    assert beyond(to_n2, 30, 31, silent) == ((30, 31),)


def test_two_faults_together_may_leave_no_way_where_each_alone_leaves_one() -> None:
    one, other = happened("link-down", "tor1,n2", 10, 60), happened("link-down", "tor2,n2", 20, 60)
    to_n2 = path("client", "n2")
    assert beyond(to_n2, 40, 45, one, other) == ()
    assert beyond(to_n2, 40, 45, one) == ((40, 45),)


def test_a_drain_costs_services_that_others_have_nothing() -> None:
    drained = happened("node-drained", "n2", 10, 30)
    assert beyond(path("client", "n2"), 12, 29, drained) == ()
    new = replace(SERVICE, kind=Kind.CONNECT)
    assert beyond(new, 12, 29, drained) == ((12, 29),)
    assert beyond(SERVICE, 12, 29, drained) == ((13, 29),), "what was under way as its flow was moved"
    assert beyond(path("n2", "n1", translators=("n2",)), 12, 29, drained) == (), "it begins on the node"


def test_endpoints_that_come_and_go_cost_what_is_under_way_and_no_connection() -> None:
    flap = happened("endpoints-flap", "n2", 10, 14)
    assert beyond(SERVICE, 11, 14.9, flap) == ()
    assert beyond(SERVICE, 14, 16, flap) == ((15, 16),), "a flow that does not follow"
    assert beyond(replace(SERVICE, kind=Kind.CONNECT), 11, 11.1, flap) == ((11, 11.1),)
    assert beyond(path("client", "n2"), 11, 11.1, flap) == ((11, 11.1),), "no service is in between"


def test_a_graceful_restart_costs_nothing_while_the_router_is_away() -> None:
    """And FRR's what FRR deletes at its end, BIRD's a probe."""
    frr, bird = TOPOLOGY, read_source(None, _kind("bird")).topology()
    restart = [happened("router-restarts-gracefully", "tor1", 10, 13)]
    for topology in (frr, bird):
        assert Judge(topology, restart).verdict(Loss(TO_N1, 11, 11, 1)).beyond == ((11, 11),)
        assert not Judge(topology, restart).verdict(Loss(TO_N1, 14, 14, 1)).beyond
    assert not Judge(frr, restart).verdict(Loss(TO_N1, 14, 15, 90)).beyond
    assert Judge(bird, restart).verdict(Loss(TO_N1, 14, 15, 90)).beyond


def test_an_allowance_lasts_as_long_as_it_would_on_a_machine_that_is_not_busy() -> None:
    """From 11 to 15 everything takes four times as long: 1 s passes of the 4 that are allowed."""
    busy = Busy()
    for now, slow in ((0.0, 1.0), (11.0, 1.0), (15.0, 4.0), (40.0, 1.0)):
        busy.note(now, slow)
    deleted = [happened("routes-flushed", "n1", 10, 11)]
    loss = Loss(TO_N1, 10.2, 20, 9)
    assert Judge(TOPOLOGY, deleted, busy).verdict(loss).beyond == ((17, 20),)
    assert Judge(TOPOLOGY, deleted).verdict(loss).beyond == ((14, 20),)
    assert busy.elapsed(10, 20) == 7 and busy.after(10, 7) == 20 and busy.elapsed(50, 60) == 10
    assert busy.mean == pytest.approx(40 / 37)


def test_what_answers_to_a_link_has_but_static_routes_to_it() -> None:
    """A cluster's address that another node's endpoint answers; one with consistent balancing has no such
    way."""
    masked = replace(SERVICE, masked=True)
    silent = happened("link-silent", "spine,tor2", 10, 40)
    assert beyond(masked, 30, 31, silent) == ()
    assert beyond(SERVICE, 30, 31, silent) == ((30, 31),)
    assert beyond(masked, 30, 31, happened("agent-killed", "n1", 10, 40)) == ((30, 31),)


def test_forbidden_probes_may_pass_only_where_that_is_said() -> None:
    never = path("n1", "n2", kind=Kind.FORBIDDEN)
    flushed = happened("table-deleted", "n2", 10, 11)
    assert beyond(never, 10.1, 10.5, flushed) == ()
    assert beyond(never, 19, 19.5, flushed) == ((19, 19.5),)
    for fault in ("link-down", "router-killed", "agent-killed"):
        target = FAULTS[fault].targets(TOPOLOGY)[0]
        assert beyond(never, 10.5, 10.6, happened(fault, target, 10, 12)), fault


def test_ways() -> None:
    assert has_way(TOPOLOGY, "client", "n2")
    assert has_way(left(TOPOLOGY, [Cut("tor1", "n2")]), "client", "n2")
    assert not has_way(left(TOPOLOGY, [Cut("n2", "tor1"), Cut("tor2")]), "client", "n2")
    assert not has_way(left(TOPOLOGY, [Cut("spine")]), "client", "n1")
    assert has_way(left(TOPOLOGY, [Cut("spine")]), "n1", "n2"), "over the rack that they share"


def test_what_no_window_covers() -> None:
    assert without((0, 10), []) == [(0, 10)]
    assert without((0, 10), [(2, 3), (3, 5)]) == [(0, 2), (5, 10)]
    assert without((0, 10), [(-1, 4), (9, 20)]) == [(4, 9)]
    assert without((0, 10), [(-1, 20)]) == []


def test_a_loss_is_put_down_to_the_fault_that_may_have_caused_it() -> None:
    faults = [
        happened("agent-killed", "n3", 8, 12),
        happened("link-down", "tor1,n1", 9, 12),
        happened("services-change", "declared", 9.5, 12),
    ]
    judge = Judge(TOPOLOGY, faults)
    verdicts = [judge.verdict(Loss(TO_N1, 10, 11, 100)), judge.verdict(Loss(TO_N1, 50, 51, 7))]
    assert [each.step.fault for each in verdicts[0].causes] == ["link-down"]
    found = rows(faults, verdicts, {"link-down": [3.0]})
    assert found["link-down"].lost == [100] and found["link-down"].converged == [3.0]
    assert found["agent-killed"].lost == [0] and found[NOBODY].lost == [7]
    (failure,) = broken(verdicts)
    assert "7 probes lost" in failure.what and failure.causes == ()


def test_losses_of_one_moment_are_one_failure() -> None:
    killed = happened("agent-killed", "n1", 10, 12)
    judge = Judge(TOPOLOGY, [killed])
    losses = [Loss(each, 10.1, 10.4, 3, "refused") for each in (TO_N1, ACROSS, HERE)]
    (failure,) = broken([judge.verdict(loss) for loss in losses])
    assert "9 probes lost" in failure.what and "3 paths" in failure.what and "refused" in failure.what
    assert failure.causes == ("agent-killed n1 (10.0 to 12.0 s)",)


def test_a_session_may_go_down_only_by_a_fault_that_touches_it() -> None:
    def flap(router: str, far: str, at: float) -> Flap:
        return Flap(router, far, at - 2, at, "")

    cut, killed = happened("link-down", "tor1,n1", 10, 12), happened("agent-killed", "n2", 10, 12)
    assert untouched([flap("tor1", "n1", 13), flap("tor1", "n1", 25)], [cut]) == []
    assert untouched([flap("tor1", "n2", 13)], [cut]) != [], "another link's"
    assert untouched([flap("tor1", "n1", 9)], [cut]) != [], "before"
    assert untouched([flap("tor1", "n2", 11)], [killed]) != [], "an agent touches none"


def test_leaks() -> None:
    before = Counts("n1", {"links": 4, "agent descriptors": 20, "agent MiB": 40, "leases": 4})
    breathing = Counts("n1", {"links": 4, "agent descriptors": 24, "agent MiB": 70, "leases": 3, "new": 9})
    assert leaked(before, breathing) == []
    grown = Counts("n1", {"links": 5, "agent descriptors": 40, "agent MiB": 140, "leases": 5})
    assert [line.split(": ")[1] for line in leaked(before, grown)] == [
        "links",
        "agent descriptors",
        "agent MiB",
        "leases",
    ]
