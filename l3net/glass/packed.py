"""Rows of large tables in a quarter of the memory: what many rows have in common is there once."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Final

#: A row of a table of routes has this field.
_MARK: Final = "prefix"
#: Different values of one answer that are looked for again.
_MOST: Final = 50_000


class Row(Mapping[str, Any]):
    """Like the dict that it was, and never changed."""

    __slots__ = ("_names", "_values")

    def __init__(self, names: tuple[str, ...], values: tuple[Any, ...]) -> None:
        self._names, self._values = names, values

    def __getitem__(self, name: str) -> Any:
        try:
            return self._values[self._names.index(name)]
        except ValueError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def values(self) -> Any:
        return self._values


def plain(value: object) -> object:
    """What JSON has a Row as (the `default` of json.dumps). Raises TypeError."""
    if isinstance(value, Row):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON")


def loads(text: bytes) -> Any:
    """JSON; objects that have a prefix as Row, and lists in those as tuples. Raises ValueError."""
    known: dict[Hashable, Any] = {}

    def shared(value: Any) -> Any:
        if isinstance(value, list):
            if any(isinstance(each, list | dict | Row) for each in value):
                return value
            value = tuple(value)
        elif not isinstance(value, str):
            return value
        found = known.get(value)
        if found is None:
            found = value
            if len(known) < _MOST:
                known[value] = value
        return found

    def made(pairs: list[tuple[str, Any]]) -> Any:
        names, values = zip(*pairs, strict=True) if pairs else ((), ())
        if _MARK not in names:
            return dict(pairs)
        own = values[names.index(_MARK)]  # another in each row: not worth looking for
        return Row(shared(list(names)), tuple(each if each is own else shared(each) for each in values))

    return json.loads(text, object_pairs_hook=made)
