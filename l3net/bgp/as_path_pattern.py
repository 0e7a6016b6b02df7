"""Patterns of AS paths, as routers take them: `_65001_`, `^65001$`, `^65001 (65002|65003)`.

A pattern comes from whoever asks, and is looked for in hundreds of thousands of paths in the agent's loop. So
it is made an automaton that reads each character once, whatever the pattern: Python's `re` takes for ever for
some. Known are `.`, `[...]`, `*`, `+`, `?`, `|`, `(...)`, `^`, `$`, and `_`: a delimiter, or an end of the
path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from l3net.bgp.path import Attributes
from l3net.bgp.segments import shown
from l3net.errors import ConfigError

LONGEST: Final = 200
#: States of an automaton that are kept; a pattern that makes more has them made anew.
MOST_STATES: Final = 2000
_BEGIN, _END = "\x02", "\x03"
_DELIMITERS: Final = frozenset(f" ,{{}}(){_BEGIN}{_END}")
_DIGITS: Final = "0123456789"
_LITERAL: Final = frozenset(f"{_DIGITS} ,{{}}")

Accepts = Callable[[str], bool]


@dataclass(slots=True)
class _State:
    """A step of the nondeterministic automaton: by a character that `accepts` takes to `then`; or, without
    one, to each of `free` at once."""

    accepts: Accepts | None = None
    then: int = 0
    free: list[int] = field(default_factory=list)


class AsPathPattern:
    """Raises ConfigError for what is no pattern."""

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise ConfigError(f"the AS path pattern has {len(text)} characters, more than {LONGEST}")
        if not text:
            raise ConfigError("the AS path pattern is empty")
        self.text = text
        self._at = 0
        self._states: list[_State] = []
        begin, end = self._either()
        if self._at < len(text):
            raise self._wrong("unexpected")
        self._end = end
        self._begin = begin
        self._known: dict[frozenset[int], dict[str, frozenset[int]]] = {}
        self._cached = lru_cache(maxsize=4096)(self._found)

    def found_in(self, attributes: Attributes) -> bool:
        """Whether the pattern is found anywhere in the AS path."""
        return self._cached(shown(attributes))

    def _found(self, text: str) -> bool:
        now = self._with_free({self._begin})
        if self._end in now:
            return True
        # Twice: `^_65001` asks for the beginning and for a delimiter, which is the beginning too.
        for character in f"{_BEGIN}{_BEGIN}{text}{_END}{_END}":
            steps = self._known.get(now)
            if steps is None:
                if len(self._known) >= MOST_STATES:
                    self._known.clear()
                steps = self._known[now] = {}
            then = steps.get(character)
            if then is None:
                then = steps[character] = self._step(now, character)
            if self._end in then:
                return True
            now = then
        return False

    def _step(self, now: frozenset[int], character: str) -> frozenset[int]:
        after = {self._begin}  # it may begin anywhere
        for number in now:
            state = self._states[number]
            if state.accepts is not None and state.accepts(character):
                after.add(state.then)
        return self._with_free(after)

    def _with_free(self, states: set[int]) -> frozenset[int]:
        found, left = set(states), list(states)
        while left:
            for each in self._states[left.pop()].free:
                if each not in found:
                    found.add(each)
                    left.append(each)
        return frozenset(found)

    # --- reading -----------------------------------------------------------------------------------------

    def _wrong(self, why: str) -> ConfigError:
        where = (
            f"{self.text[self._at]!r} at character {self._at + 1}" if self._at < len(self.text) else "its end"
        )
        return ConfigError(f"AS path pattern {self.text!r}: {why} {where}")

    def _new(self) -> int:
        self._states.append(_State())
        return len(self._states) - 1

    def _next(self) -> str:
        return self.text[self._at] if self._at < len(self.text) else ""

    def _either(self) -> tuple[int, int]:
        begin, end = self._new(), self._new()
        while True:
            first, last = self._sequence()
            self._states[begin].free.append(first)
            self._states[last].free.append(end)
            if self._next() != "|":
                return begin, end
            self._at += 1

    def _sequence(self) -> tuple[int, int]:
        begin = last = self._new()
        while self._next() not in ("", "|", ")"):
            first, end = self._repeated()
            self._states[last].free.append(first)
            last = end
        return begin, last

    def _repeated(self) -> tuple[int, int]:
        first, last = self._one()
        while (how := self._next()) in ("*", "+", "?") and how:
            self._at += 1
            begin, end = self._new(), self._new()
            self._states[begin].free.append(first)
            self._states[last].free.append(end)
            if how != "+":
                self._states[begin].free.append(end)
            if how != "?":
                self._states[last].free.append(first)
            first, last = begin, end
        return first, last

    def _one(self) -> tuple[int, int]:
        character = self._next()
        if character == "(":
            self._at += 1
            found = self._either()
            if self._next() != ")":
                raise self._wrong("a ) is missing at")
            self._at += 1
            return found
        begin, end = self._new(), self._new()
        self._states[begin].accepts, self._states[begin].then = self._accepting(character), end
        return begin, end

    def _accepting(self, character: str) -> Accepts:
        if character == "[":
            return self._of_class()
        accepts: dict[str, Accepts] = {
            "^": _BEGIN.__eq__,
            "$": _END.__eq__,
            "_": _DELIMITERS.__contains__,
            ".": lambda each: each not in (_BEGIN, _END),
        }
        if character not in accepts and character not in _LITERAL:
            raise self._wrong("unexpected")
        self._at += 1
        return accepts.get(character, character.__eq__)

    def _of_class(self) -> Accepts:
        end = self.text.find("]", self._at + 1)
        if end < 0:
            raise self._wrong("a ] is missing for")
        inside = self.text[self._at + 1 : end]
        negated = inside.startswith("^")
        wanted: set[str] = set()
        characters = list(inside[negated:])
        while characters:
            first = characters.pop(0)
            last = first
            if len(characters) >= 2 and characters[0] == "-":
                last = characters[1]
                del characters[:2]
            if first not in _LITERAL or last not in _LITERAL or first > last:
                raise self._wrong("only digits, blanks and , { } are allowed in")
            wanted |= {chr(number) for number in range(ord(first), ord(last) + 1)}
        if not wanted:
            raise self._wrong("nothing stands in")
        self._at = end + 1
        if negated:
            return lambda each: each not in wanted and each not in (_BEGIN, _END)
        return wanted.__contains__
