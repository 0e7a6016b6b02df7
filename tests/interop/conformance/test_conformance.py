"""l3net's node, with all its processes, against the table: what RFCs ask of a BGP speaker, row by row.

All rows talk to one node at the same time, each as a peer of its own, once for all tests.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator

import pytest
from conversations import CRASHED, Outcomes, cases, converse
from deviations import DEVIATIONS, WAITS
from publish import DOCUMENT, told
from row import Row
from table import PARTS, TABLE, expected

TOGETHER = [row for row in TABLE if not row.slow and not row.alone]
#: RFCs that the table is to have rows of.
RFCS = (
    "2918", "4271", "4456", "4724", "4760", "5065", "5492", "6286", "6608", "6793", "7313", "7606", "7607",
    "8092", "8538", "8654", "9072", "9687",
)  # fmt: skip


def parameters(rows: list[Row]) -> pytest.MarkDecorator:
    found = []
    for row, version in cases(rows):
        waits = WAITS.get(row.key)
        marks = [pytest.mark.xfail(reason=waits, strict=True)] if waits else []
        found.append(pytest.param(row, version, id=f"{row.key}-IPv{version}", marks=marks))
    return pytest.mark.parametrize(("row", "version"), found)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes]:
    """Of all rows; the first of several test processes that asks has the conversation."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    file = shared / "conformance.json"
    with (shared / "conformance.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            had, _ = converse("l3net", TOGETHER)
            file.write_text(json.dumps([[key, version, outcome] for (key, version), outcome in had.items()]))
    yield {(key, version): outcome for key, version, outcome in json.loads(file.read_text())}


def check(row: Row, outcome: str) -> None:
    asked = DEVIATIONS.get(row.key, row.accepts)
    assert expected(row, outcome), f"{row.situation}: {outcome}; {row.section} asks: {row.asks} {asked}"


@pytest.mark.netns
@pytest.mark.timeout(300)
@parameters(TOGETHER)
def test_row(outcomes: Outcomes, row: Row, version: int) -> None:
    check(row, outcomes[row.key, version])


@pytest.mark.netns
@parameters([row for row in TABLE if row.alone and not row.slow])
def test_row_that_ends_it(row: Row, version: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    had, _ = converse("l3net", [row], (version,))
    check(row, had[row.key, version])


@pytest.mark.netns
@pytest.mark.soak
@pytest.mark.timeout(1200)
@parameters([row for row in TABLE if row.slow])
def test_slow_row(row: Row, version: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    had, _ = converse("l3net", [row], (version,))
    check(row, had[row.key, version])


# --- the table and the document --------------------------------------------------------------------------


def test_every_row_has_a_name_of_its_own_and_every_rfc_a_row() -> None:
    keys = [row.key for row in TABLE]
    assert len(set(keys)) == len(keys)
    sections = " ".join(row.section for row in TABLE)
    assert [number for number in RFCS if f"RFC {number}" not in sections] == []


def test_deviations_are_of_rows_and_differ_from_what_is_asked() -> None:
    rows = {row.key: row for row in TABLE}
    assert not DEVIATIONS.keys() & WAITS.keys()
    for key, (outcome, why) in DEVIATIONS.items():
        assert not rows[key].asked(outcome), key
        assert why
    assert WAITS.keys() <= rows.keys()


def documented() -> dict[str, list[str]]:
    """Situation to the cells of its line."""
    lines = DOCUMENT.read_text().splitlines()
    rows = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in lines if line.startswith("| ")]
    return {cells[0]: cells for cells in rows}


def test_the_document_has_every_row_as_the_table_has_it() -> None:
    """The columns of others are what they were when it was written."""
    found = documented()
    for row in TABLE:
        cells = found[row.situation]
        assert cells[1:3] == [row.section.replace("section ", ""), row.asks], row.key
        if row.key in DEVIATIONS:
            assert told(row, DEVIATIONS[row.key][0]) in cells[3]
            assert DEVIATIONS[row.key][1] in DOCUMENT.read_text()


def test_the_table_tells_speakers_apart() -> None:
    """The control: no row is answered alike by whatever it is asked."""
    found = documented()
    differ = [row for row in TABLE if len(set(found[row.situation][3:])) > 1]
    assert len(differ) > len(TABLE) / 3
    assert any(CRASHED in cell for cells in found.values() for cell in cells)
    assert len(PARTS) == len(re.findall(r"^## ", DOCUMENT.read_text(), re.MULTILINE)) - 1


@pytest.mark.parametrize("spoil", [lambda text: text + " and more", lambda text: text[1:], lambda text: ""])
def test_another_outcome_is_not_taken(spoil: Callable[[str], str]) -> None:
    for row in TABLE:
        for outcome in row.accepts:
            if "*" not in outcome:
                assert row.asked(outcome)
                assert not row.asked(spoil(outcome)), row.key
