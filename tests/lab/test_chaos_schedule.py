"""Chaos in the lab, its schedules: drawn by a seed alone, written and read, made smaller."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from l3net.cli.main import cli
from l3net.errors import ConfigError
from l3net.lab.breaking import chosen_links
from l3net.lab.chaos.catalogue import FAULTS, chosen
from l3net.lab.chaos.draw import HEAD, TAIL, drawn
from l3net.lab.chaos.shrink import shrunk
from l3net.lab.chaos.step import Schedule, Step, hosts_of, parsed, written
from l3net.lab.errors import UnknownNameError
from l3net.lab.state import read_source
from l3net.lab.topology import RouterKind
from l3net.lab.up import Lab

TOPOLOGY = read_source(None).topology()
ALL = list(FAULTS.values())


@pytest.mark.parametrize("seed", range(20))
def test_a_seed_draws_the_same_each_time_and_nothing_twice_at_one_place(seed: int) -> None:
    schedule = drawn(seed, 600, ALL, TOPOLOGY)
    assert schedule == drawn(seed, 600, ALL, TOPOLOGY)
    assert schedule.steps != drawn(seed + 1, 600, ALL, TOPOLOGY).steps
    usable = {fault.name for fault in ALL if fault.targets(TOPOLOGY)}
    assert {step.fault for step in schedule.steps} == usable, "each comes once before any comes twice"
    for step in schedule.steps:
        assert step.at >= HEAD and step.until <= 600 - TAIL
        assert step.target in FAULTS[step.fault].targets(TOPOLOGY)
    for one, other in combinations(schedule.steps, 2):
        if set(hosts_of(one.target)) & set(hosts_of(other.target)):
            assert one.until < other.at or other.until < one.at, (one, other)


def test_what_is_written_is_read_again() -> None:
    document = {"nodes": [{"name": "n1"}]}
    schedule = drawn(7, 120, ALL, TOPOLOGY, document)
    assert parsed(written(schedule), "x", FAULTS) == schedule
    empty = Schedule(12345678901, 1234567.5, ())
    assert parsed(written(empty), "x", FAULTS) == empty


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not YAML"),
        ("[]", "`steps`"),
        ("steps: 3", "`steps`"),
        ("{steps: [], more: 1}", "unknown field 'more'"),
        ("{steps: [{at: 1, fault: no-such, target: n1}]}", "steps[0].fault: 'no-such'"),
        ("{steps: [{at: x, fault: agent-killed, target: n1}]}", "steps[0].at"),
        ("{steps: [{at: 1, fault: agent-killed, target: n1, when: 3}]}", "unknown field 'when'"),
        ("{seconds: 3, steps: [{at: 1, fault: agent-killed, target: n1, seconds: 9}]}", "ends at 10"),
        ("{topology: 3, steps: []}", "topology"),
        ("{steps: [{at: 1, fault: [agent-killed], target: n1}]}", "steps[0].fault: ['agent-killed']"),
        ("{steps: [{at: 1, fault: agent-killed, target: n1, choice: 1.5}]}", "steps[0].choice"),
        (
            "steps:\n- {at: 1, fault: agent-killed, target: n1, seconds: 9}\n"
            "- {at: 9, fault: exabgp-killed, target: n1, seconds: 1}\n",
            "steps[1] (line 3): exabgp-killed at 9 s, while agent-killed of steps[0] (line 2) is at n1",
        ),
        (
            "{steps: [{at: 3, fault: agent-killed, target: n1},"
            ' {at: 2, fault: link-down, target: "tor1,n1", seconds: 2}]}',
            "steps[0] (line 1): agent-killed at 3 s, while link-down of steps[1] (line 1) is at n1 until 4",
        ),
        ("{seed: 1.5, steps: []}", "seed: 1.5 is not a whole number"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parsed(text, "file.yaml", FAULTS)
    assert said in str(raised.value) and "file.yaml" in str(raised.value)


def test_one_after_the_other_and_side_by_side_are_fine() -> None:
    text = """
steps:
- {at: 1, fault: agent-killed, target: n1, seconds: 4}
- {at: 5, fault: agent-killed, target: n1, seconds: 4}
- {at: 1, fault: link-down, target: 'tor1,n2', seconds: 9}
"""
    assert len(parsed(text, "file.yaml", FAULTS).steps) == 3


def test_faults_are_chosen_by_name_and_by_family() -> None:
    links = {fault.name for fault in ALL if fault.family == "links"}
    assert {fault.name for fault in chosen(["links", "agent-killed"])} == links | {"agent-killed"}
    left = {fault.name for fault in chosen(["links"], ["link-slow"])}
    assert left == links - {"link-slow"}
    with pytest.raises(ConfigError, match="'lincs'"):
        chosen(["lincs"])


def test_too_short_or_without_a_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="too short"):
        drawn(1, 10, ALL, TOPOLOGY)
    with pytest.raises(ConfigError, match="no fault is left"):
        gobgp = read_source(None, RouterKind.GOBGP).topology()
        drawn(1, 100, [FAULTS["router-restarts-gracefully"]], gobgp)


def test_every_fault_has_a_sentence_and_lengths() -> None:
    for fault in ALL:
        assert fault.what.endswith(".") and fault.lengths[0] <= fault.lengths[1]
        json.dumps(fault.name)
    assert len(ALL) > 45


@pytest.mark.parametrize("guilty", [{3}, {0}, {29}, {4, 17}])
def test_a_failing_schedule_is_made_smaller(guilty: set[int]) -> None:
    steps = tuple(Step(float(number), "agent-killed", "n1", 0.5) for number in range(30))
    runs = []

    def fails(schedule: Schedule) -> bool:
        runs.append(schedule)
        return guilty <= {int(step.at) for step in schedule.steps}

    small = shrunk(Schedule(1, 100, steps), fails)
    assert {int(step.at) for step in small.steps} == guilty
    assert small.seconds == max(guilty) + 0.5 + TAIL
    assert len(runs) < 60
    assert yaml.safe_load(written(small))["steps"]


def test_a_schedule_is_read_as_far_as_a_topology_is(tmp_path: Path) -> None:
    file = tmp_path / "long.yaml"
    file.write_text("#" * (1 << 20) + "\nsteps: []\n")
    ended = CliRunner().invoke(cli, ["lab", "chaos", "--schedule", str(file)])
    assert isinstance(ended.exception, ConfigError)
    assert str(ended.exception) == f"{file}: larger than 1 MiB"


def test_names_that_a_lab_does_not_have_are_wrong_usage() -> None:
    with pytest.raises(UnknownNameError) as unknown:
        chosen_links(TOPOLOGY, [], ["n9"])
    assert unknown.value.exit_code == 2
    with pytest.raises(UnknownNameError):
        chosen_links(TOPOLOGY, [("n1", "n9")])
    with pytest.raises(UnknownNameError) as unknown:
        Lab("x", TOPOLOGY, Path("/"), {}).host("n9")
    assert unknown.value.exit_code == 2
