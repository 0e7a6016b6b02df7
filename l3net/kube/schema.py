"""The CRDs of l3net's own kinds, and validation of a document against their schema.

What an API server does with the same file: unknown fields are refused (as with `kubectl --validate=strict`),
types, bounds, enumerations and patterns are held. The CEL rules are held by `resources`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from l3net.addresses import parse_address
from l3net.errors import ManifestError
from l3net.kube.conforming import conforms
from l3net.kube.fields import quote_it, shown, told, type_name
from l3net.kube.registry import KINDS, Definition
from l3net.model import Kind
from l3net.near import near

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

Schema: TypeAlias = Mapping[str, Any]

#: That of libyaml where PyYAML has it: a tenth of the time.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: Levels of nesting; ours have ten.
MAX_DEPTH = 100
_TYPES = {
    "string": "a string",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
}


def definition_text(kind: Kind) -> str:
    """The CustomResourceDefinition of one of our kinds, as the YAML to apply."""
    return described(kind).text()


def described(kind: Kind) -> Definition:
    """The files that define one of our kinds."""
    found = KINDS[kind].definition
    if found is None:
        raise KeyError(f"{kind.value} is not of l3net")
    return found


@functools.cache
def definition(kind: Kind) -> Schema:
    """The same, parsed."""
    parsed: Schema = yaml.load(definition_text(kind), Loader=_LOADER)  # noqa: S506 - a safe one
    return parsed


def schema(kind: Kind) -> Schema:
    """Its openAPIV3Schema."""
    found: Schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def validate(kind: Kind, document: Mapping[str, object]) -> None:
    """Raise ManifestError for the first field, in the schema's order, that the schema does not allow."""
    for error in errors(kind, document):
        raise error


def errors(kind: Kind, document: Mapping[str, object]) -> Iterator[ManifestError]:
    """All that the schema does not allow: fields that it does not know, then values that it refuses, those
    nearest to the top first."""
    found = schema(kind)
    try:
        _bound(document, "", 0)
    except ManifestError as err:
        yield err
        return
    yield from _unknown(found, document, "")
    told = _without_nulls(document)
    if not conforms(found, told):
        yield from map(_explained, sorted(_validator(kind).iter_errors(told), key=_order))


def _bound(value: object, path: str, depth: int) -> None:
    """Refuse what the validator could not even write into its message."""
    if depth > MAX_DEPTH:
        raise ManifestError(path[:60], f"is nested too deeply: more than {MAX_DEPTH} levels")
    if isinstance(value, int) and value.bit_length() > 256:
        raise ManifestError(path, f"{shown(value)} is out of range")
    if isinstance(value, Mapping):
        for key, below in value.items():
            _bound(below, f"{path}.{shown(key)}" if path else shown(key), depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _bound(item, f"{path}[{index}]", depth + 1)


@functools.cache
def _validator(kind: Kind) -> Draft202012Validator:
    # Imported here: five MiB that a node without errors in resources of ours need not hold.
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    return Draft202012Validator(dict(schema(kind)))


def _unknown(found: Schema, value: object, path: str) -> Iterator[ManifestError]:
    if isinstance(value, list) and "items" in found:
        for index, item in enumerate(value):
            yield from _unknown(found["items"], item, f"{path}[{index}]")
    if not isinstance(value, Mapping) or "properties" not in found:
        return  # metadata and maps of labels take any key
    known = found["properties"]
    for key, below in value.items():
        where = f"{path}.{shown(key)}" if path else shown(key)
        if key not in known:
            yield ManifestError(where, f"unknown field{_did_you_mean(str(key), known, path)}")
        else:
            yield from _unknown(known[key], below, where)


def _did_you_mean(key: str, known: Schema, path: str) -> str:
    by_lower = {name.lower(): name for name in known}
    close = near(key.lower(), by_lower)
    if close:
        return f"; did you mean {by_lower[close[0]]}?"
    return f"; {path or 'the document'} has {', '.join(known)}"


def _without_nulls(value: object) -> object:
    """Null is absent, as in the API server, for fields that are not nullable."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(below) for key, below in value.items() if below is not None}
    return value


def _order(error: ValidationError) -> tuple[int, str]:
    return len(error.absolute_path), _path(error.absolute_path)


def _path(parts: Any) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _explained(error: ValidationError) -> ManifestError:
    where = _path(error.absolute_path)
    value: Any = error.instance
    limit: Any = error.validator_value
    bounds: Any = error.schema
    match error.validator:
        case "required":
            missing = next(name for name in limit if name not in value)
            return ManifestError(f"{where}.{missing}" if where else missing, "is required")
        case "type":
            return ManifestError(
                where, f"must be {_TYPES.get(limit, limit)}, not {_actual(where, value, limit)}"
            )
        case "enum":
            return ManifestError(where, f"{told(where, value)} is not one of {', '.join(map(str, limit))}")
        case "minimum" | "maximum":
            low, high = bounds.get("minimum", "-"), bounds.get("maximum", "-")
            return ManifestError(where, f"{told(where, value)} is out of range: {low} to {high}")
        case "pattern":
            before, slash, length = str(value).partition("/")
            if slash and _is_address(before) and re.search(limit, before):
                return ManifestError(
                    where, f"{told(where, value)!r} is not an address; remove {shown(slash + length)}"
                )
            form = bounds.get("description", f"pattern {limit}").partition(". ")[0].removesuffix(".")
            return ManifestError(where, f"{told(where, value)!r} does not look right ({form})")
        case "maxLength" | "minLength":
            word = "long" if error.validator == "maxLength" else "short"
            return ManifestError(where, f"is too {word}: {limit} characters")
        case "maxItems" | "minItems" | "maxProperties":
            word = "few" if error.validator == "minItems" else "many"
            return ManifestError(where, f"has too {word} entries: the bound is {limit}")
        case _:  # pragma: no cover - the schemas use no other keyword
            return ManifestError(where, f"does not hold {error.validator}")


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


def _actual(where: str, value: object, wanted: object) -> str:
    if wanted == "string" and isinstance(value, int | float) and not isinstance(value, bool):
        return type_name(value) + quote_it(where, value)
    if wanted == "integer" and isinstance(value, float):
        return shown(value)
    if wanted in ("integer", "boolean") and isinstance(value, str):
        return f"{type_name(value)}; leave out the quotes" if value.isdecimal() else type_name(value)
    return type_name(value)
