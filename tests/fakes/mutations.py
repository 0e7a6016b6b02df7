"""Documents that are right but for a value or two, which are anything at all."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

_TEXT = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "", " ", "None", "10.0.0.0/8", "10.0.0.1/8", "fe80::1%eth0", "fd00:1::5%x", "fd00::/129", "::/0",
            "0.0.0.0/0", "198.051.100.009", "1" * 5000, "²", "\ud800", "\0", "64512:1:2:3", "rt:4294967296:1",
            "no-export", "-1", "1e9", "IPv4=99999999", "a=b,,", "node.example.internal", "10.0.0.0/8,banana",
        ]
    ),
)  # fmt: skip
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([10**400, -1, 0, 2**32, 2**63, float("inf"), float("nan"), 1e308, 80.0]),
    st.floats(),
    _TEXT,
)
VALUES = st.recursive(
    _SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(_TEXT | st.integers(), below, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in below for found in places(each, (*path, key)))]


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copied = copy.copy(document)
    copied[path[0]] = replaced(document[path[0]], path[1:], value)
    return copied


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """The document with one or two values replaced, or lists that have odd elements beside the good ones."""
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(places(document)[1:]))
        found: Any = document
        for key in path:
            found = found[key]
        value = draw(VALUES)
        if isinstance(found, list) and draw(st.booleans()):
            value = [*found, value]
        document = replaced(document, path, value)
    return document
