"""How long the phases of an ADD took: what goes well, by name."""

from __future__ import annotations

from itertools import count

import pytest

from l3net.attach.appliers import appliers
from l3net.attach.timing import ADDRESSES, ALL, CONFIGURATION, Timings, phase_of


def test_what_goes_well_is_timed_and_what_fails_is_not() -> None:
    timings = Timings(count(0.0, 0.25).__next__, ["guard"])
    with timings.timed(ALL), timings.timed("guard"):
        pass
    with pytest.raises(ValueError, match="no"), timings.timed("guard"):
        raise ValueError("no")
    found = timings.found()
    assert (found["guard"].count, found["guard"].sum) == (1, 0.25)
    assert (found[ALL].count, found[ALL].sum) == (1, 0.75)
    assert found.keys() == {ALL, CONFIGURATION, ADDRESSES, "guard"} and not found[ADDRESSES].count


def test_each_part_of_an_attachment_has_a_phase_of_its_own() -> None:
    names = [phase_of(each.of) for each in appliers(None, lambda: None, None)]
    assert len(set(names)) == len(names) and not {ALL, CONFIGURATION, ADDRESSES} & set(names)
