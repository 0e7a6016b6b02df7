"""What JSON Schemas (2020-12) are made of: those of the looking glass's API and of the commands' output."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

Schema: TypeAlias = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
WHOLE: Final[Schema] = {"type": "integer", "minimum": 0}
NUMBER: Final[Schema] = {"type": "number"}
YES: Final[Schema] = {"type": "boolean"}


def holding(optional: tuple[str, ...] = (), /, **fields: Schema) -> Schema:
    """An object that has these fields, but for the optional ones; it may hold more."""
    return {
        "type": "object",
        "properties": fields,
        "required": [name for name in fields if name not in optional],
    }


def listed(items: Schema) -> Schema:
    """An array of these."""
    return {"type": "array", "items": items}


def words(*values: str) -> Schema:
    """One of these strings."""
    return {"type": "string", "enum": list(values)}
