"""`l3net lab chaos` as it is typed: what it refuses, what a plan keeps, whose lab it takes down."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from l3net.cli import lab_chaos
from l3net.cli.lab_chaos import attempt, chaos
from l3net.errors import ConfigError, L3netError
from l3net.lab import state, up
from l3net.lab.chaos.report import Failure, Report
from l3net.lab.chaos.step import Schedule
from l3net.lab.errors import LabError, LabExistsError
from l3net.lab.state import read_source

NOTHING = Schedule(1, 30, ())


def typed(*words: str) -> Result:
    return CliRunner().invoke(chaos, words)


@pytest.mark.parametrize("minutes", ["nan", "inf", "1e9", "-1", "0.4", "x"])
def test_minutes_that_would_never_end_are_refused(minutes: str) -> None:
    done = typed("--plan", "--minutes", minutes)
    assert done.exit_code == 2 and "--minutes" in done.output


def test_a_plan_has_its_topology_and_is_carried_out_as_it_is(tmp_path: Path) -> None:
    plan = typed("--plan", "--minutes", "0.5", "--seed", "99999999999999999999")
    assert yaml.safe_load(plan.output)["topology"]["routers"]
    file = tmp_path / "mine.yaml"
    file.write_text(plan.output)
    assert typed("--schedule", str(file), "--plan").output == plan.output


def test_a_plan_as_json_is_carried_out_too(tmp_path: Path) -> None:
    words = ("--plan", "--minutes", "0.5", "--seed", "3")
    file = tmp_path / "mine.json"
    file.write_text(typed(*words, "-o", "json").output)
    assert json.loads(file.read_text())["seed"] == 3
    assert typed("--schedule", str(file), "--plan").output == typed(*words).output


def test_wrong_usage_is_told_by_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/agent.md: 2 where the command line is wrong and nothing was changed."""
    monkeypatch.setattr(state, "LABS", tmp_path)
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name, said in (("../x", "not a lab's name"), ("mine", "already")):
        error = typed("--name", name).exception
        assert isinstance(error, L3netError) and error.exit_code == 2 and said in str(error)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    error = typed().exception
    assert isinstance(error, L3netError) and error.exit_code == 2 and "needs root" in str(error)
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_whatever_asks_it_to_end_has_the_lab_taken_down(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, taken_down: list[str]
) -> None:
    went_on = []

    def told_to_end(*_: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)
        went_on.append(number)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(lab_chaos, "bring_up", told_to_end)
    # Whoever runs the tests may ignore some of them, as nohup(1) does.
    before = {each: signal.signal(each, signal.SIG_DFL) for each in lab_chaos._ENDING}
    try:
        done = typed("--name", "mine")
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert taken_down == ["mine"] and done.exit_code != 0 and not went_on


def test_what_is_made_smaller_is_printed_alone_and_can_be_carried_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = typed("--plan", "--minutes", "2", "--faults", "agent-killed,link-down").output
    file = tmp_path / "mine.yaml"
    file.write_text(plan)
    guilty = yaml.safe_load(plan)["steps"][2]

    def attempted(_name: str, _source: object, schedule: Schedule, *_: object, **__: object) -> Report:
        broken = (Failure(1.0, "lost"),) if guilty["at"] in {step.at for step in schedule.steps} else ()
        return Report(1, schedule.seconds, 1, 1, 0, {}, broken, {})

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(state, "LABS", tmp_path)
    monkeypatch.setattr(lab_chaos, "attempt", attempted)
    monkeypatch.setattr(lab_chaos, "_end_as_interrupted", lambda: None)
    done = typed("--schedule", str(file), "--shrink", "--name", "mine")
    assert done.exit_code == 1 and "promise broken" in done.stderr
    assert yaml.safe_load(done.stdout)["steps"] == [guilty]
    file.write_text(done.stdout)
    assert typed("--schedule", str(file), "--plan").output == done.stdout


def test_a_signal_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch, taken_down: list[str]) -> None:
    """As by nohup."""
    before = {each: signal.getsignal(each) for each in lab_chaos._ENDING}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # whoever runs the tests may have it ignored, too
        lab_chaos._end_as_interrupted()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGQUIT) is signal.default_int_handler
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_the_kind_of_router_that_is_asked_for_counts_for_a_schedule_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(typed("--plan", "--minutes", "0.5", "--faults", "agent-killed").output)
    plan = typed("--schedule", str(file), "--plan", "--router-kind", "bird")
    assert {router["kind"] for router in yaml.safe_load(plan.output)["topology"]["routers"]} == {"bird"}


@pytest.mark.parametrize("words", [["--seed", "2"], ["--faults", "links"], ["--minutes", "1"]])
def test_what_would_be_ignored_is_refused(tmp_path: Path, words: list[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("steps: []")
    done = typed("--schedule", str(file), "--plan", *words)
    assert done.exit_code == 2 and words[0] in done.output


@pytest.mark.parametrize(
    "text", ["{topology: {x: 2021-01-01}, steps: []}", "{topology: &a {nodes: *a}, steps: []}"]
)
def test_a_topology_that_is_no_json_is_told_of(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert isinstance(typed("--schedule", str(file), "--plan").exception, ConfigError)


@pytest.mark.parametrize("routers", ["3", "null", "[3]"])
def test_routers_that_are_none_are_told_of_whatever_kind_is_asked_for(tmp_path: Path, routers: str) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(f"{{nodes: [{{name: n1}}], routers: {routers}}}")
    done = typed("--topology", str(file), "--plan", "--router-kind", "bird", "--faults", "agent-killed")
    assert isinstance(done.exception, ConfigError)


@pytest.fixture
def taken_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labs that are taken down."""
    found: list[str] = []
    monkeypatch.setattr(state, "LABS", tmp_path)
    monkeypatch.setattr(lab_chaos, "take_down", found.append)
    return found


def test_a_lab_of_that_name_that_was_there_before_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken_down: list[str]
) -> None:
    def lacking(_topology: object) -> None:
        raise LabError("a router's software is not installed")

    monkeypatch.setattr(up, "check_software", lacking)
    with pytest.raises(LabError, match="not installed"):
        attempt("mine", read_source(None), NOTHING, {})
    assert taken_down == ["mine"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(LabExistsError, match="already"):
        attempt("mine", read_source(None), NOTHING, {})
    assert taken_down == ["mine"]


def test_whoever_interrupts_twice_leaves_no_half_of_a_lab(
    monkeypatch: pytest.MonkeyPatch, taken_down: list[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def slow(name: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        taken_down.append(name)

    monkeypatch.setattr(lab_chaos, "bring_up", interrupted)
    monkeypatch.setattr(lab_chaos, "take_down", slow)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        attempt("mine", read_source(None), NOTHING, {})
    assert taken_down == ["mine"] and signal.getsignal(signal.SIGINT) is before


def test_whoever_does_not_listen_any_more_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, taken_down: list[str]
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError

    def says(_name: object, _source: object, say: up.Progress) -> None:
        monkeypatch.setattr("click.secho", gone)
        say("something")
        raise LabError("was reached")

    monkeypatch.setattr(lab_chaos, "bring_up", says)
    with pytest.raises(LabError, match="was reached"):
        attempt("mine", read_source(None), NOTHING, {})
