"""Calico's selector expressions (docs.tigera.io, reference of GlobalNetworkPolicy) as LabelSelectors.

A LabelSelector is a conjunction, an expression may be anything: it becomes a union of LabelSelectors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from l3net.errors import ManifestError
from l3net.kube.fields import Field
from l3net.model import Requirement, Selector

#: An `or` of `and`s.
_Union: TypeAlias = tuple[frozenset[Requirement], ...]
_TRUE: Final[_Union] = (frozenset(),)
_FALSE: Final[_Union] = ()
#: Conjunctions that an expression may come to, and its depth.
_MOST: Final = 64
_DEEPEST: Final = 50
_TOKEN = re.compile(
    r"\s*(?:(?P<sign>&&|\|\||==|!=|[!(){},])|(?P<text>\"[^\"]*\"|'[^']*')|(?P<word>[A-Za-z0-9_./-]+))"
)
_OPPOSITE = {"In": "NotIn", "NotIn": "In", "Exists": "DoesNotExist", "DoesNotExist": "Exists"}


def union(at: Field, rename: Callable[[str], str] = str) -> tuple[Selector, ...]:
    """The LabelSelectors of which one has to match. An empty expression matches all. `rename` is asked for
    each label's name. Raises ManifestError for what no LabelSelector says."""
    text = at.text(default="").strip()
    if not text:
        return (Selector(),)
    found = _Reader(at, text, rename).whole()
    return tuple(
        Selector(tuple(sorted(each, key=lambda one: (one.key, one.operator, one.values))))
        for each in _merged(found)
    )


def selector(at: Field, rename: Callable[[str], str] = str) -> Selector:
    """The one LabelSelector that says the same. Raises ManifestError where there is none."""
    found = union(at, rename)
    if len(found) != 1:
        raise at.wrong(
            "matches nothing" if not found else "is an `or` of different labels, which no LabelSelector says"
        )
    return found[0]


def _merged(terms: _Union) -> list[frozenset[Requirement]]:
    """`a == x || a == y` is `a in {x, y}`."""
    if frozenset() in terms:
        return [frozenset()]
    found: list[frozenset[Requirement]] = []
    for term in dict.fromkeys(terms):
        (one,) = term if len(term) == 1 else (None,)
        for number, other in enumerate(found):
            (same,) = other if len(other) == 1 else (None,)
            if one and same and one.key == same.key and one.operator == same.operator == "In":
                values = tuple(sorted({*one.values, *same.values}))
                found[number] = frozenset({Requirement(one.key, "In", values)})
                break
        else:
            found.append(term)
    return found


class _Reader:
    """A parser by recursive descent; `!` binds closest, then `&&`, then `||`."""

    def __init__(self, at: Field, text: str, rename: Callable[[str], str]) -> None:
        self._at, self._rename = at, rename
        self._tokens: list[tuple[str, str]] = []
        place = 0
        while place < len(text):
            found = _TOKEN.match(text, place)
            if found is None:
                if not text[place:].strip():
                    break
                raise self._wrong(f"cannot be read from {text[place:][:20]!r} on")
            place = found.end()
            self._tokens.append((found.lastgroup or "", found[found.lastgroup or 0]))
        self._next = 0
        self._depth = 0

    def _wrong(self, why: str) -> ManifestError:
        return self._at.wrong(why)

    def whole(self) -> _Union:
        found = self._or()
        if self._next < len(self._tokens):
            raise self._wrong(f"cannot be read from {self._tokens[self._next][1][:20]!r} on")
        return found

    def _peek(self) -> str:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else ""

    def _take(self, *wanted: str) -> str:
        if self._next >= len(self._tokens):
            raise self._wrong("ends too early")
        kind, token = self._tokens[self._next]
        if wanted and token not in wanted and kind not in wanted:
            raise self._wrong(f"has {token[:20]!r} where {' or '.join(wanted)} should be")
        self._next += 1
        return token

    def _or(self, negated: bool = False) -> _Union:
        found = self._and(negated)
        while self._peek() == "||":
            self._take()
            other = self._and(negated)
            found = _both(self._at, found, other) if negated else (*found, *other)
        return found

    def _and(self, negated: bool) -> _Union:
        found = self._not(negated)
        while self._peek() == "&&":
            self._take()
            other = self._not(negated)
            found = (*found, *other) if negated else _both(self._at, found, other)
        return found

    def _not(self, negated: bool) -> _Union:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong("is nested too deeply")
        try:
            if self._peek() == "!":
                self._take()
                return self._not(not negated)
            if self._peek() == "(":
                self._take()
                found = self._or(negated)
                self._take(")")
                return found
            return self._comparison(negated)
        finally:
            self._depth -= 1

    def _comparison(self, negated: bool) -> _Union:
        name = self._take("word")
        if self._peek() == "(":
            return self._call(name, negated)
        sign = self._take("==", "!=", "word")
        if sign == "not":
            sign = f"not {self._take('word')}"
        if sign in ("==", "!="):
            requirement = Requirement(self._rename(name), "In" if sign == "==" else "NotIn", (self._text(),))
        elif sign in ("in", "not in"):
            requirement = Requirement(self._rename(name), "In" if sign == "in" else "NotIn", self._set())
        else:
            raise self._wrong(f"compares by {sign!r}, which no LabelSelector does")
        return self._one(requirement, negated)

    def _call(self, name: str, negated: bool) -> _Union:
        self._take("(")
        if name == "all":
            self._take(")")
            return _FALSE if negated else _TRUE
        if name != "has":
            raise self._wrong(f"uses {name}(), which no LabelSelector says")
        label = self._take("word")
        self._take(")")
        return self._one(Requirement(self._rename(label), "Exists"), negated)

    def _one(self, requirement: Requirement, negated: bool) -> _Union:
        if negated:
            requirement = Requirement(requirement.key, _OPPOSITE[requirement.operator], requirement.values)
        return (frozenset({requirement}),)

    def _text(self) -> str:
        return self._take("text")[1:-1]

    def _set(self) -> tuple[str, ...]:
        self._take("{")
        found = {self._text()}
        while self._take(",", "}") == ",":
            found.add(self._text())
        return tuple(sorted(found))


def _both(at: Field, first: _Union, second: _Union) -> _Union:
    if len(first) * len(second) > _MOST:
        raise at.wrong("comes to too many LabelSelectors")
    return tuple(one | other for one in first for other in second)
