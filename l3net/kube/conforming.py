"""Whether a document surely conforms to a schema, without a library of schemas.

Nearly every document does, and the library costs an agent five MiB and a tenth of its start. What is not sure
here is asked of the library, which also knows what to say of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

_TYPES: Final = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
#: What only tells, and `type` and `properties`, which are looked at with the rest.
_APART: Final = frozenset({"description", "format", "default", "type", "properties", "additionalProperties"})
_EXTENSION: Final = "x-kubernetes-"  # the rules are held by `resources`

_KEYWORDS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "enum": lambda limit, value: value in limit,
    "minimum": lambda limit, value: value >= limit,
    "maximum": lambda limit, value: value <= limit,
    "minLength": lambda limit, value: len(value) >= limit,
    "maxLength": lambda limit, value: len(value) <= limit,
    "minItems": lambda limit, value: len(value) >= limit,
    "maxItems": lambda limit, value: len(value) <= limit,
    "minProperties": lambda limit, value: len(value) >= limit,
    "maxProperties": lambda limit, value: len(value) <= limit,
    "pattern": lambda limit, value: re.search(limit, value) is not None,
    "required": lambda limit, value: all(name in value for name in limit),
    "items": lambda limit, value: all(conforms(limit, item) for item in value),
}


def conforms(schema: Mapping[str, Any], value: object) -> bool:
    """False where it does not, and where it cannot be told here: for want of a type, or by a keyword that
    ours do not use."""
    if type(value) is not _TYPES.get(schema.get("type", "")):
        return False
    for keyword, limit in schema.items():
        if keyword in _APART or keyword.startswith(_EXTENSION):
            continue
        holds = _KEYWORDS.get(keyword)
        if holds is None or not holds(limit, value):
            return False
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, below in value.items():
            found = known.get(name, others)
            if found is not None and not (isinstance(found, Mapping) and conforms(found, below)):
                return False
    return True
