"""A drain is kept over an agent's restart, and told from one of an earlier boot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from l3net.agent.draining import Draining
from l3net.bgp.drain import Stage
from l3net.model import DrainCause, DrainPolicy, Node
from l3net.shell.files import drainfile
from l3net.shell.files.drainfile import RECORD, DrainFile, ask_to_leave, leaving, read_record
from l3net.shell.files.entries import Entries

STAYS = Node("n1")
CORDONED = Node("n1", unschedulable=True)
GOING = Node("n1", ready=False, shutting_down=True)
POLICY = DrainPolicy(wait=10)


class Clock:
    """Seconds since boot, as the tests have it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("l3net.shell.files.drainfile.now", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_cordon_and_its_end(tmp_path: Path, clock: Clock) -> None:
    drain = Draining(DrainFile(tmp_path, Entries(tmp_path)))
    assert not drain.look(STAYS, POLICY)
    assert drain.due() is None
    assert drain.look(CORDONED, POLICY)
    assert (drain.stage, drain.due()) == (Stage.TAGGED, 10.0)
    clock.now += 4
    assert not drain.look(CORDONED, POLICY)
    assert drain.due() == 6.0
    clock.now += 6
    assert drain.look(CORDONED, POLICY)
    assert (drain.stage, drain.due()) == (Stage.SERVICES_WITHDRAWN, None)
    assert drain.look(STAYS, POLICY)
    assert drain.stage is Stage.NONE
    assert not (tmp_path / RECORD).exists()
    clock.now += 100
    drain.look(CORDONED, POLICY)
    assert drain.stage is Stage.TAGGED, "the next one begins anew"


def test_the_next_agent_goes_on(tmp_path: Path, clock: Clock) -> None:
    Draining(DrainFile(tmp_path, Entries(tmp_path))).look(CORDONED, POLICY)
    clock.now += 8
    following = Draining(DrainFile(tmp_path, Entries(tmp_path)))
    assert following.stage is Stage.TAGGED
    following.look(CORDONED, POLICY)
    assert following.due() == 2.0


def test_a_longer_wait_announces_nothing_again(tmp_path: Path, clock: Clock) -> None:
    Draining(DrainFile(tmp_path, Entries(tmp_path))).look(CORDONED, DrainPolicy(wait=0))
    following = Draining(DrainFile(tmp_path, Entries(tmp_path)))
    following.look(CORDONED, DrainPolicy(wait=600))
    assert following.stage is Stage.SERVICES_WITHDRAWN


def test_a_record_of_another_boot_says_nothing(tmp_path: Path, clock: Clock) -> None:
    """The control of it: uptime begins anew with a boot, and so does every drain."""
    Draining(DrainFile(tmp_path, Entries(tmp_path))).look(CORDONED, POLICY)
    record = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps({**record, "boot": "another"}))
    assert read_record(tmp_path) is None
    assert Draining(DrainFile(tmp_path, Entries(tmp_path))).stage is Stage.NONE


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"boot": 1}', '{"cause": "x", "since": "y"}'])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).write_text(text)
    assert read_record(tmp_path) is None
    assert Draining(DrainFile(tmp_path, Entries(tmp_path))).stage is Stage.NONE


def test_leaving_holds_until_return(tmp_path: Path, clock: Clock) -> None:
    drain = Draining(DrainFile(tmp_path, Entries(tmp_path)))
    drain.look(STAYS, POLICY)
    assert not leaving(tmp_path)
    ask_to_leave(tmp_path, leave=True)
    assert drain.overtaken() and leaving(tmp_path)
    drain.look(STAYS, POLICY)
    assert (drain.stage, drain.cause, drain.final) == (Stage.TAGGED, DrainCause.LEAVE, True)
    clock.now += 10
    drain.look(STAYS, POLICY)
    assert drain.stage is Stage.WITHDRAWN and leaving(tmp_path)
    drain.left()
    assert not leaving(tmp_path), "the speaker may go"
    following = Draining(DrainFile(tmp_path, Entries(tmp_path)))
    following.look(STAYS, POLICY)
    assert following.stage is Stage.LEFT
    ask_to_leave(tmp_path, leave=False)
    assert following.overtaken()
    following.look(CORDONED, POLICY)
    assert following.stage is Stage.SERVICES_WITHDRAWN, "back, and still cordoned"


def test_a_shutdown_waits_for_the_agents_end(tmp_path: Path, clock: Clock) -> None:
    drain = Draining(DrainFile(tmp_path, Entries(tmp_path)))
    drain.look(GOING, POLICY)
    clock.now += 60
    drain.look(GOING, POLICY)
    assert drain.stage is Stage.SERVICES_WITHDRAWN
    assert leaving(tmp_path), "the speaker waits for it from now on"
    drain.ending = True
    drain.look(GOING, POLICY)
    assert drain.stage is Stage.WITHDRAWN


def test_a_cordon_is_nothing_for_the_speaker_to_wait_for(tmp_path: Path, clock: Clock) -> None:
    Draining(DrainFile(tmp_path, Entries(tmp_path))).look(CORDONED, POLICY)
    assert not leaving(tmp_path)


def test_a_run_directory_that_cannot_be_written_is_a_problem_and_no_end(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain = Draining(DrainFile(tmp_path / "gone", Entries(tmp_path / "gone")))
    drain.look(CORDONED, POLICY)
    assert drain.stage is Stage.TAGGED
    assert "gone" in drain.problem
    assert drainfile.read_record(tmp_path / "gone") is None
