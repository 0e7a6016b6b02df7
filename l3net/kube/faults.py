"""All that is wrong with an object, where reading it stops at the first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from l3net.errors import ManifestError
from l3net.kube import schema
from l3net.kube.registry import KINDS
from l3net.kube.translate import translate

#: Errors that are told of one object.
MOST: Final = 20
_INDEX: Final = re.compile(r"\[(\d+)\]")
_MEANT: Final = re.compile(r"did you mean (\w+)\?")
#: What is tried in the place of something that is wrong and required.
_FILLERS: Final[tuple[Any, ...]] = (1, "a", "10.0.0.1", "10.0.0.0/8", "Accept", [], {}, True, 64512)
#: Without these a document is no object of its kind.
_VITAL: Final = frozenset({"apiVersion", "kind", "metadata", "metadata.name", "metadata.namespace", "spec"})


class _Numbered(list[Any]):
    """A list from which elements may be taken out; the others keep the number that they had."""

    def __init__(self, items: list[Any]) -> None:
        super().__init__(map(_copied, items))
        self.numbers = list(range(len(items)))


def every_error(document: Mapping[str, object]) -> list[ManifestError]:
    """The errors of an object, at most MOST; none of a good one.

    What is wrong is taken out, or replaced where something has to be there, and the rest is read again. What
    is found wrong only because of that is not told: a field that is required and was taken out, or a
    complaint that names such a field.
    """
    rest: dict[str, Any] = _copied(document)
    found: dict[str, ManifestError] = {}
    by_schema = _by_schema(document)
    meant = {
        f"{err.field.rpartition('.')[0]}.{named[1]}" for err in by_schema if (named := _MEANT.search(err.why))
    }
    for err in by_schema:
        if err.field not in meant or err.why != "is required":
            found.setdefault(err.field, err)
    # What is below something that is taken out goes with it.
    left = [
        _take_out(rest, field)
        for field in found
        if not any(field.startswith((f"{other}.", f"{other}[")) for other in found)
    ]
    if not all(left):
        return list(found.values())[:MOST]
    gone = [*found, *meant]
    filled: set[str] = set()
    for _ in range(MOST):
        try:
            translate(rest)
        except ManifestError as err:
            field = _numbered_as_before(rest, err.field)
            if not any(_comes_of(field, err.why, each) for each in gone):
                found.setdefault(field, ManifestError(field, err.why))
            elif field in gone and field not in filled:
                filled.add(field)
                if _fill_in(rest, field):
                    continue
                field = field[: field.rindex("]") + 1] if "]" in field else ""
            if not field or field in gone or not _take_out(rest, field):
                break
            gone.append(field)
        else:
            break
    return list(found.values())[:MOST]


def _by_schema(document: Mapping[str, object]) -> list[ManifestError]:
    version, kind = document.get("apiVersion"), document.get("kind")
    row = KINDS.find(version, kind) if isinstance(version, str) and isinstance(kind, str) else None
    return list(schema.errors(row.kind, document)) if row is not None and row.ours else []


def walked(content: Any, field: str) -> tuple[list[str | int], str]:
    """Keys and indices along a path such as `spec.ports[0].port`, as far as they lead into `content`, and
    the rest of the path. A key may have dots (`metadata.annotations.l3net.io/blocks`): the longest that is
    there is meant."""
    along: list[str | int] = []
    rest = field
    while rest:
        index = _INDEX.match(rest)
        if index and isinstance(content, list):
            numbers = content.numbers if isinstance(content, _Numbered) else range(len(content))
            if (number := int(index[1])) not in numbers:
                break
            step: str | int = numbers.index(number)
            length = index.end()
        else:
            named = content if isinstance(content, Mapping) else {}
            keys = [key for key in named if isinstance(key, str) and _begins(rest, key)]
            if not keys:
                break
            step = key = max(keys, key=len)
            length = len(key)
        along.append(step)
        content, rest = content[step], rest[length:].removeprefix(".")
    return along, rest


def _begins(path: str, key: str) -> bool:
    return path.startswith(key) and path[len(key) : len(key) + 1] in ("", ".", "[")


def _numbered_as_before(content: Any, field: str) -> str:
    """The path with the numbers that elements had at first."""
    text, rest = "", field
    while index := _INDEX.search(rest):
        text, rest = text + rest[: index.start()], rest[index.end() :]
        above = content
        for step in walked(content, text)[0]:
            above = above[step]
        number = int(index[1])
        held = isinstance(above, _Numbered) and number < len(above)
        text += f"[{above.numbers[number] if held else number}]"
    return text + rest


def _take_out(content: Any, field: str) -> bool:
    """What a path (with the first numbers) leads to; where that is missing, the element of a list that lacks
    it. False where nothing would be left of the object."""
    along, rest = walked(content, field)
    if _INDEX.match(rest):
        return True  # the element has gone already
    if rest:
        while along and not isinstance(along[-1], int):
            along.pop()
    if not along or field in _VITAL:
        return False
    for step in along[:-1]:
        content = content[step]
    if isinstance(content, _Numbered):
        del content.numbers[along[-1]]  # type: ignore[arg-type]
    del content[along[-1]]
    return True


def _fill_in(content: Any, field: str) -> bool:
    """Put something in the place of a required field that nothing is said against; False where nothing of
    what is tried will do."""
    above, _, name = field.rpartition(".")
    holder = content
    along, rest = walked(content, above)
    for step in along:
        holder = holder[step]
    if rest or not isinstance(holder, dict):
        return False
    for value in _FILLERS:
        holder[name] = value
        # Reading stops at the first error, which may be another one.
        if any(_numbered_as_before(content, err.field) == field for err in _by_schema(content)):
            continue
        try:
            translate(content)
        except ManifestError as err:
            found = _numbered_as_before(content, err.field)
            if found == field or found.startswith((f"{field}.", f"{field}[")):
                continue
        return True
    del holder[name]
    return False


def _comes_of(field: str, why: str, gone: str) -> bool:
    """Whether an error comes of what was taken out before."""
    if field == gone or field.startswith((f"{gone}.", f"{gone}[")):
        return True
    leaf = _INDEX.sub("", gone).rpartition(".")[2]
    return re.search(rf"\b{re.escape(leaf)}\b", why) is not None


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(below) for key, below in value.items()}
    return _Numbered(value) if isinstance(value, list) else value
