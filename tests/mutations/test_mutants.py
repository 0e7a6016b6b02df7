"""The patches that take fixes back: they are for the code of today, and the simulations find them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hunted import WORLDS
from mutants import hunted, share, table, tried, try_all
from undoing import ROOT, DoesNotApplyError, Hunk, all_of_them, applied, changed

#: Of those that the simulations can express: what was found when this was written. 0.8 is wanted.
FOUND = 0.35


def test_each_patch_is_for_the_code_of_today() -> None:
    """It applies, is Python, and says of itself what the list needs."""
    found = all_of_them()
    assert len(found) > 20
    for mutation in found:
        texts = changed(mutation)
        assert all(text != (ROOT / file).read_text() for file, text in texts.items()), mutation.name
        assert set(mutation.worlds) <= WORLDS.keys() and mutation.undoes.endswith("."), mutation.name


def test_a_patch_for_other_code_is_told() -> None:
    """The control."""
    hunk = Hunk("x.py", 2, ("two\n",), ("deux\n",))
    assert applied(hunk, ["one\n", "two\n"]) == ["one\n", "deux\n"]
    with pytest.raises(DoesNotApplyError):
        applied(hunk, ["one\n", "three\n"])


@pytest.mark.parametrize("name", ["terminating-cut", "announce-early"])
def test_a_fix_taken_back_is_found_and_the_same_seed_holds_with_it(name: str) -> None:
    (mutation,) = (each for each in all_of_them() if each.name == name)
    outcome = tried(mutation, 20)
    assert outcome.seed is not None and outcome.law
    assert hunted(ROOT, outcome.world, 0, outcome.seed)["seed"] is None


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_simulations_find_what_was_mended(tmp_path: Path) -> None:
    outcomes = try_all(all_of_them())
    assert share(outcomes) >= FOUND, table(outcomes)
