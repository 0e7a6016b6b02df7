"""CNI calls, leases and disk under whatever happens: seeds, and what they have found."""

from __future__ import annotations

from random import Random

import pytest
from pods import draw, run
from pods_case import BEGINNING
from pods_laws import Laws
from sim_disk import SimDisk
from sqlite_vfs import Vfs
from stepped import Case, Step

#: Seeds in one test, so that there are not thousands of tests.
A_TEST = 6


def broken(first: int, count: int) -> dict[int, object]:
    return {seed: found for seed in range(first, first + count) if (found := run(draw(seed)))}


@pytest.mark.parametrize("first", range(0, 18, A_TEST))
def test_whatever_happens_the_laws_hold(first: int) -> None:
    assert broken(first, A_TEST) == {}


@pytest.mark.soak
@pytest.mark.parametrize("first", range(18, 3018, 50))
def test_the_laws_hold_for_thousands(first: int) -> None:
    assert broken(first, 50) == {}


def test_nothing_but_the_seed_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(seed: int) -> list[object]:
        seen: list[object] = []
        ports = Laws.ports

        def noted(self: Laws) -> None:
            ports(self)
            seen.append((self.now, self.machine.kernel.changes, self.machine.disk.writes))

        monkeypatch.setattr(Laws, "ports", noted)
        run(draw(seed))
        monkeypatch.undo()
        return seen

    first = steps(4)
    assert len(first) > 40
    assert first == steps(4)


def test_any_steps_may_be_left_out() -> None:
    case = draw(5)
    for part in (case.steps[::2], case.steps[1::2], case.steps[len(BEGINNING) :], ()):
        assert run(Case(case.seed, part)) == []


FOUND = {
    "a link that could not be deleted keeps its guard and its address": Case(
        26,
        (
            Step(0, "start"),
            Step(147.19, "lost_answer", (58.3, 0.1)),
            Step(158.3111, "impatient", ("p2", 0.00209)),
        ),
    ),
    "a guard that could not be begun takes nobody's place": Case(
        228,
        (
            *BEGINNING,
            Step(15.58, "unknown", (4,)),
            Step(34.41, "pod_gone", ("p3",)),
            Step(43.47, "interrupted", (47.32, 0.3)),
            Step(43.49, "stop", (0.02,)),
            Step(43.56, "pod", ("p4",)),
        ),
    ),
    "pods that a new store cannot take in stay guarded": Case(
        199,
        (
            Step(95.83, "io", (32.41, 0.2)),
            Step(95.89, "kill", (1.41,)),
            Step(97.39, "pod", ("p4",)),
            Step(118.7, "state_lost", (0.06,)),
        ),
    ),
    "a store that could not be named is so before a lease is given": Case(
        200,
        (
            Step(89.94, "state_lost", (0.35,)),
            Step(95.83, "io", (32.41, 0.2)),
            Step(118.7, "state_lost", (0.06,)),
            Step(118.8121, "pods", (3,)),
            Step(237.29, "state_lost", (0.15,)),
        ),
    ),
    "elements of the guard that could not be deleted are so later": Case(
        369,
        (
            Step(0, "start"),
            Step(2.8, "pod", ("p3",)),
            Step(233.18, "refuse", ("elements", 16, 4.06, 1.0)),
            Step(235.5483, "collect", ("partial",)),
        ),
    ),
    "a store that was opened on a read-only disk is written once that is over": Case(
        7,
        (
            *BEGINNING,
            Step(100, "read_only", (30.0,)),
            Step(101, "kill", (1.0,)),
            Step(150, "pod_gone", ("p0",)),
            Step(151, "pod", ("p5",)),
        ),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_seeds_have_found(name: str) -> None:
    assert run(FOUND[name]) == []


# --- the disk itself -------------------------------------------------------------------------------------


class Writer:
    dead = False


def made(disk: SimDisk, synchronous: str) -> None:
    writer = Writer()
    db = Vfs.the().connect(disk, lambda: writer, "/a.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(f"PRAGMA synchronous={synchronous}")
    db.execute("CREATE TABLE a(x)")
    for number in range(40):
        db.execute("INSERT INTO a VALUES(?)", (f"{number}" * 500,))
    writer.dead = True  # amid all of it


def rows(disk: SimDisk) -> int:
    db = Vfs.the().connect(disk, lambda: None, "/a.db")
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    found = int(db.execute("SELECT count(*) FROM a").fetchone()[0])
    db.close()
    return found


@pytest.mark.parametrize("synchronous", ["FULL", "OFF"])
def test_what_was_synced_outlives_power_and_nothing_else_has_to(synchronous: str) -> None:
    left = []
    for seed in range(20):
        disk = SimDisk(Random(seed))
        made(disk, synchronous)
        disk.lose_power()
        try:
            left.append(rows(disk))
        except Exception:
            left.append(-1)
        Vfs.the().forget(disk)
    assert (min(left) == 40) == (synchronous == "FULL"), left
