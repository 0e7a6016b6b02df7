"""Packed rows say what the text says, and share what they have in common."""

from __future__ import annotations

import json
from typing import Any

import glass_answers as answers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3net.glass.packed import Row, loads
from l3net.glass.packed import plain as as_json

TEXTS = st.sampled_from(["", "a", "10.0.0.0/8", "ä"])
VALUES = (
    st.none() | st.booleans() | st.integers(-5, 5) | TEXTS | st.lists(st.integers(0, 3) | TEXTS, max_size=3)
)
NESTED = (
    VALUES | st.dictionaries(TEXTS, VALUES, max_size=2) | st.lists(st.lists(VALUES, max_size=2), max_size=2)
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["prefix", "peer", "x"]), NESTED), max_size=4)


def plain(value: Any) -> Any:
    """As json.loads has it."""
    if isinstance(value, Row | dict):
        return {name: plain(value[name]) for name in value}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


@given(ROWS)
def test_it_says_the_same(rows: list[dict[str, Any]]) -> None:
    text = json.dumps({"routes": rows}).encode()
    assert plain(loads(text)) == json.loads(text)


def test_rows_share_what_they_have_in_common() -> None:
    rows = loads(json.dumps({"routes": [answers.route(f"10.0.{n}.0/24") for n in range(3)]}).encode())[
        "routes"
    ]
    assert all(isinstance(row, Row) for row in rows)
    assert rows[0]["asPath"] is rows[1]["asPath"]
    assert rows[0]["peer"] is rows[2]["peer"]
    assert rows[0]["prefix"] != rows[1]["prefix"]
    assert (rows[0].get("none"), len(rows[0])) == (None, len(answers.route("10.0.0.0/8")))
    with pytest.raises(KeyError):
        rows[0]["none"]


def test_a_row_is_told_as_it_was() -> None:
    """Wherever it stands: an explanation may hold a route."""
    text = json.dumps({"steps": [{"detail": {"prefix": "10.0.0.0/8", "hops": ["a"]}}]})
    assert json.dumps(loads(text.encode()), default=as_json) == text
    with pytest.raises(TypeError):
        json.dumps(object(), default=as_json)


def test_wrong_json_is_refused() -> None:
    for text in (b"", b"{", b'{"prefix": }'):
        with pytest.raises(ValueError, match=r"."):
            loads(text)
