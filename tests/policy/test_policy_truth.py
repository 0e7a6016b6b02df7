"""The verdict gives exactly the matrix of every case of the public suites (truth.py), in both families."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from policy_facts import read
from truth import ADDRESSES, PODS, Case, Step, cases

from l3net.policy.known_state import KnownState
from l3net.policy.verdict import Packet, verdict

ALL = cases()


def wrong(case: Case, step: Step) -> Iterator[str]:
    """The cells where the verdict is another."""
    known = KnownState(read(step.documents))
    for check in case.checks(step):
        for source, destination in zip(ADDRESSES[check.source], ADDRESSES[check.destination], strict=True):
            number, protocol = check.port
            answer = verdict(known, Packet(source, destination, protocol, number))
            if answer.allowed is not check.allowed:
                yield f"{check}: {answer}"


@pytest.mark.parametrize("case", ALL, ids=lambda case: f"{case.suite}: {case.name}")
def test_the_verdict_is_the_suites(case: Case) -> None:
    for place, step in enumerate(case.steps):
        assert list(wrong(case, step)) == [], f"step {place} {step.name}"


def test_every_case_of_the_suites_is_here() -> None:
    assert Counter(each.suite for each in ALL) == {
        "kubernetes": 48,
        "network-policy-api": 24,
        "policy-assistant": 230,
    }
    theirs = [each for each in ALL if each.suite == "network-policy-api"]
    assert sum(len({step.name for step in each.steps}) for each in theirs) == 92
    assert len({(each.suite, each.name) for each in ALL}) == len(ALL)
    generated = Counter(each.source for each in ALL if each.suite == "policy-assistant")
    assert generated == {
        "TargetTestCases": 6,
        "RulesTestCases": 4,
        "PeersTestCases": 112,
        "PortProtocolTestCases": 70,
        "ExampleTestCases": 1,
        "ActionTestCases": 6,
        "ConflictTestCases": 16,
        "NamespaceTestCases": 2,
        "UpstreamE2ETestCases": 13,
    }


def test_the_tables_can_fail() -> None:
    """The control: without its policies a case that denies anything is not what its table says."""
    open_ones = []
    for case in ALL:
        for step in case.steps:
            bare = Step(step.name, (), step.others, step.pods, step.lines)
            if any(not check.allowed for check in case.checks(step)):
                assert any(wrong(case, bare)), case.name
            else:
                open_ones.append(case.name)
    assert len(open_ones) < 30


def test_both_answers_are_asked_for() -> None:
    for suite in ("kubernetes", "network-policy-api", "policy-assistant"):
        cells = [
            check.allowed
            for case in ALL
            if case.suite == suite
            for step in case.steps
            for check in case.checks(step)
        ]
        assert 0 < sum(cells) < len(cells)


def test_the_pods_are_on_two_nodes() -> None:
    nodes = Counter(pod.node for pod in PODS.values())
    assert set(nodes) == {"n1", "n2"} and min(nodes.values()) > 8
