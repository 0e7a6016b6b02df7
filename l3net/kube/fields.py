"""Typed reading of a parsed document: a value never travels without the path that names it in errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias, TypeVar

from l3net.addresses import parse_address, parse_prefix
from l3net.errors import ManifestError
from l3net.model import Address, Labels, Prefix

_TYPE_NAMES: Mapping[type, str] = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    float: "a number",
    type(None): "null",
}
#: Of paths below which a password may stand by mistake.
_SECRET = re.compile("password|secret", re.IGNORECASE)
_SHOWN = 60
_LONGEST_INTEGER = 256  # bits
_T = TypeVar("_T")


def shown(value: object) -> str:
    """A short, single-line rendering of a scalar for messages; containers are named, never printed."""
    if isinstance(value, str | int | float):
        text = _number(value) if not isinstance(value, bool) else str(value).lower()
        text = text if text.isprintable() else ascii(text)
        return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    return type_name(value)


def told(where: str, value: object) -> str:
    """As `shown`; but of a field for a password or a Secret its type alone."""
    return type_name(value) if _SECRET.search(where) else shown(value)


def quote_it(where: str, value: object) -> str:
    """What to do about a number in the place of a string."""
    return "; quote it" if _SECRET.search(where) else f'; quote it: "{shown(value)}"'


def _number(value: str | float) -> str:
    """As text; Python refuses to write out an integer of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > _LONGEST_INTEGER:
        return f"a number of {value.bit_length()} bits"
    return str(value)


def type_name(value: object) -> str:
    """What a user calls the type of a parsed value."""
    named = (_TYPE_NAMES[each] for each in type(value).__mro__ if each in _TYPE_NAMES)
    return next(named, type(value).__name__)


#: A path, or what is below one: a field's name or an element's number.
Where: TypeAlias = "str | tuple[Where, str | int]"


def _path(where: Where) -> str:
    if isinstance(where, str):
        return where
    above, key = _path(where[0]), where[1]
    if isinstance(key, int):
        return f"{above}[{key}]"
    return f"{above}.{key}" if above else key


class Field:
    """A value inside a document and its path (`spec.ports[0].port`). Absent and null are the same: None.

    Every reader raises ManifestError with the path when the value is not what it asks for; but `each` leaves
    out elements of a list that cannot be read, and notes them in `skipped`, where there is one.
    """

    # Half a million are made of 10,000 services, and as good as none is ever asked for its path.
    __slots__ = ("_where", "skipped", "value")

    def __init__(self, where: Where, value: object, skipped: list[ManifestError] | None = None) -> None:
        self._where = where
        self.value = value
        self.skipped = skipped

    @property
    def path(self) -> str:
        return _path(self._where)

    def __getitem__(self, key: str) -> Field:
        """The named field of an object; an absent object has no fields."""
        if self.value is None:
            return Field((self._where, key), None, self.skipped)
        if type(self.value) is not dict and not isinstance(self.value, Mapping):  # the former is the fast way
            raise self.wrong(f"must be an object, not {type_name(self.value)}")
        return Field((self._where, key), self.value.get(key), self.skipped)

    @property
    def present(self) -> bool:
        return self.value is not None

    def wrong(self, why: str) -> ManifestError:
        return ManifestError(self.path, why)

    def items(self) -> Iterator[Field]:
        """The elements of a list."""
        if self.value is None:
            return
        if not isinstance(self.value, list | tuple):
            raise self.wrong(f"must be a list, not {type_name(self.value)}")
        for index, value in enumerate(self.value):
            yield Field((self._where, index), value, self.skipped)

    def each(self, read: Callable[[Field], _T]) -> tuple[_T, ...]:
        """What `read` makes of the elements; one that it refuses is left out and noted, the others stay.

        For lists of which every element stands for itself. Not for those that restrict or protect: with an
        element left out of them, more would be allowed than was declared.
        """
        return self._kept(read, self.items())

    def alone(self, read: Callable[[Field], _T]) -> tuple[_T, ...]:
        """As `each`, of this one value."""
        return self._kept(read, (self,))

    def _kept(self, read: Callable[[Field], _T], items: Iterable[Field]) -> tuple[_T, ...]:
        if self.skipped is None:
            return tuple(map(read, items))
        found = []
        for item in items:
            try:
                found.append(read(item))
            except ManifestError as err:
                self.skipped.append(err)
        return tuple(found)

    def text(self, default: str | None = None) -> str:
        if self.value is None and default is not None:
            return default
        if not isinstance(self.value, str):
            raise self._not(str)
        return self.value

    def optional_text(self) -> str | None:
        return None if self.value is None else self.text()

    def flag(self, default: bool) -> bool:
        if self.value is None:
            return default
        if not isinstance(self.value, bool):
            raise self._not(bool)
        return self.value

    def integer(self, low: int, high: int, default: int | None = None) -> int:
        """An integer from low to high, both included. JSON's 80.0 is 80, as in Kubernetes."""
        value = default if self.value is None else self.value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._not(int)
        if not low <= value <= high:
            raise self.wrong(f"{shown(value)} is out of range: {low} to {high}")
        return value

    def optional_integer(self, low: int, high: int) -> int | None:
        return None if self.value is None else self.integer(low, high)

    def labels(self) -> Labels:
        """A map of strings to strings; an absent one is empty."""
        if self.value is None:
            return {}
        if not isinstance(self.value, Mapping):
            raise self.wrong(f"must be an object, not {type_name(self.value)}")
        for key, value in self.value.items():
            if not isinstance(key, str) or not isinstance(value, str):
                hint = f'; quote it: "{shown(value)}"' if isinstance(value, int | float) else ""
                raise Field((self._where, shown(key)), value).wrong(
                    f"must be a string, not {type_name(value)}{hint}"
                )
        return dict(self.value)

    def address(self) -> Address:
        text = self.text()
        if "%" in text:
            raise self.wrong(f"{shown(text)!r} must not have a zone")
        try:
            return parse_address(text)
        except ValueError:
            hint = f"; remove {shown(text[text.index('/') :])}" if "/" in text else ""
            raise self.wrong(f"{shown(text)!r} is not an IP address{hint}") from None

    def prefix(self, *, masked: bool = False) -> Prefix:
        """A prefix without host bits; the error says which one was probably meant. `masked`: with any."""
        text = self.text()
        if "%" in text:
            raise self.wrong(f"{shown(text)!r} must not have a zone")
        try:
            prefix = parse_prefix(text)
        except ValueError:
            raise self.wrong(f"{shown(text)!r} is not a prefix (such as 10.0.0.0/16)") from None
        if "/" not in text:
            raise self.wrong(f"{shown(text)!r} lacks a prefix length: {prefix} would be that one address")
        if not text.partition("/")[2].isdecimal():
            raise self.wrong(f"{shown(text)!r} must end in a prefix length: {prefix}")
        if masked:
            return prefix
        if int(parse_address(text.partition("/")[0])) != int(prefix.network_address):
            raise self.wrong(f"{shown(text)} has bits set beyond its prefix length; {prefix}?")
        return prefix

    def prefixes(self) -> tuple[Prefix, ...]:
        return tuple(item.prefix() for item in self.items())

    def _not(self, wanted: type) -> ManifestError:
        if self.value is None:
            return self.wrong("is required")
        hint = ""
        if wanted is str and isinstance(self.value, int | float):
            hint = quote_it(self.path, self.value)
        elif wanted in (int, bool) and isinstance(self.value, str):
            hint = (
                "; leave out the quotes" if self.value.isdecimal() or self.value in ("true", "false") else ""
            )
        real = wanted is int and isinstance(self.value, float)
        what = shown(self.value) if real else type_name(self.value)
        return self.wrong(f"must be {_TYPE_NAMES[wanted]}, not {what}{hint}")
