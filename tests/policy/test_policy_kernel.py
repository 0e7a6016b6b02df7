"""The kernel lets pass what the suites' truth tables say, between real pods on two nodes, both families."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from policy_net import PolicyNet, Probe
from truth import Case, cases

pytestmark = pytest.mark.netns

ALL = cases()
SUITES = ("kubernetes", "network-policy-api", "policy-assistant")


@pytest.fixture(scope="module")
def net() -> Iterator[PolicyNet]:
    made = PolicyNet()
    yield made
    made.close()


def probes(case: Case, place: int) -> dict[Probe, bool]:
    step = case.steps[place]
    return {
        (each.source, each.destination, each.port[1], each.port[0], version): each.allowed
        for each in case.checks(step, case.ports)
        if each.source != each.destination
        for version in (4, 6)
    }


@pytest.mark.parametrize("suite", SUITES)
def test_the_kernel_does_as_the_suites_say(net: PolicyNet, suite: str) -> None:
    """Each case follows the one before it, by what has changed alone."""
    wrong: list[str] = []
    for case in ALL:
        if case.suite != suite:
            continue
        for place, step in enumerate(case.steps):
            net.apply(step.documents)
            wanted = probes(case, place)
            arrived = net.arrived(wanted)
            wrong += [
                f"{case.name} {step.name}: {probe} {'passes' if probe in arrived else 'is dropped'}"
                for probe, allowed in wanted.items()
                if (probe in arrived) is not allowed
            ]
        net.forget()
    assert wrong[:8] == [], len(wrong)
