"""What schemas are made of (JSON Schema 2020-12). Objects are closed: they hold what is named, no more."""

from __future__ import annotations

import enum
from typing import Final

from l3net.shapes import NUMBER, TEXT, WHOLE, YES, Schema, holding, listed, words

__all__ = ["NUMBER", "TEXT", "WHOLE", "YES", "Schema", "listed", "words"]

SECONDS: Final[Schema] = {"type": "number", "minimum": 0}
FAMILY: Final[Schema] = {"type": "string", "enum": ["IPv4", "IPv6"]}
MOMENT: Final[Schema] = {"type": "number", "description": "Seconds since 1970, UTC."}
PORT: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 65535}


def record(optional: tuple[str, ...] = (), /, **fields: Schema) -> Schema:
    """An object of these fields; all but the optional ones have to be there."""
    return {**holding(optional, **fields), "additionalProperties": False}


def more(row: Schema, optional: tuple[str, ...] = (), /, **fields: Schema) -> Schema:
    """The same object with some fields more."""
    return {
        **row,
        "properties": {**row["properties"], **fields},
        "required": [*row["required"], *(name for name in fields if name not in optional)],
    }


def mapped(values: Schema) -> Schema:
    """An object whose names are not known beforehand."""
    return {"type": "object", "additionalProperties": values}


def of_enum(*kinds: type[enum.Enum]) -> Schema:
    """A word that is the value of one of these."""
    return words(*dict.fromkeys(str(each.value) for kind in kinds for each in kind))


def verdict(kind: type[enum.Enum], with_name: str) -> Schema:
    """The value of an enum; of `with_name`, with the name of a filter behind a colon."""
    alone = [str(each.value) for each in kind if each.value != with_name]
    return {"anyOf": [words(*alone), {"type": "string", "pattern": f"^{with_name}:"}]}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def with_node(row: Schema) -> Schema:
    """A row as several nodes tell it: each names its node."""
    return row if "node" in row["required"] else more(row, node=TEXT)


def rows(row: Schema) -> Schema:
    """A list of rows, of one node or of several."""
    return {"anyOf": [listed(row), listed(with_node(row))]}


def answer(value: Schema) -> Schema:
    """What one node says or, of several, a list of that."""
    return {"anyOf": [value, listed(with_node(value))]}


def or_line(printed: Schema, *lines: Schema) -> Schema:
    """What is printed at once or, with --follow, a line at a time."""
    return {"anyOf": [printed, *lines]}
