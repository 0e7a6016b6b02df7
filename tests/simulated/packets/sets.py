"""Sets and maps of a table: their elements as text, and by key as soon as a packet looks something up."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Set
from typing import Any

from l3net.errors import RefusedError
from packets.terms import Slots, slots_of
from packets.types_of_sets import key_of, led_to, set_type
from packets.values import UnknownError, seconds, span


def refused(why: str, code: int) -> RefusedError:
    return RefusedError(f"nft cannot change table inet l3net ({why})", code)


class NamedSet(Set[str]):
    """A set of its elements as they were written; an element of a map is `key : value`.

    One that is in force is not changed any more but by packets (`fill`): a transaction changes a copy.
    """

    __slots__ = ("_filled", "_index", "_intervals", "_slots", "_spans", "_texts", "_until", "of", "timeout")

    def __init__(self, lines: Iterable[str] = ()) -> None:
        """`lines` say its type, flags, size and timeout."""
        self.of, self.timeout = "", 0.0
        self._intervals = False
        for line in lines:
            word, _, rest = line.strip().partition(" ")
            match word:
                case "type" | "typeof":
                    self.of = line.strip()
                case "flags":
                    self._intervals = "interval" in rest
                case "timeout":
                    self.timeout = seconds(rest)
                case "size" | "counter":
                    pass
                case _:
                    raise UnknownError(f"{line} of a set")
        self._texts: dict[str, str] = {}
        self._until: dict[str, float] = {}  # of those that have a time
        self._index: dict[Any, Any] | None = None
        self._spans: list[tuple[int, int, Any]] = []
        self._slots: dict[Any, Slots] = {}
        self._filled: dict[Any, float] = {}  # by packets, until when

    def copy(self) -> NamedSet:
        made = NamedSet()
        made.of, made.timeout, made._intervals = self.of, self.timeout, self._intervals
        made._texts, made._until = self._texts.copy(), self._until.copy()
        made._index = None if self._index is None else self._index.copy()
        made._spans, made._filled = self._spans.copy(), self._filled.copy()
        return made

    # --- as text -----------------------------------------------------------------------------------------

    def __contains__(self, element: object) -> bool:
        return isinstance(element, str) and self._texts.get(_key(element)) == element

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts.values())

    def __len__(self) -> int:
        return len(self._texts)

    def __repr__(self) -> str:
        return repr(set(self._texts.values()))

    @classmethod
    def _from_iterable(cls, elements: Iterable[str]) -> set[str]:  # type: ignore[override]
        return set(elements)

    # --- what transactions do ----------------------------------------------------------------------------

    def add(self, name: str, element: str, now: float) -> bool:
        """Whether it was not there. Raises RefusedError where its key leads elsewhere already."""
        key = _key(element)
        self._expire(key, now)
        known = self._texts.get(key)
        if known is not None:
            if _led(known) != _led(element):
                raise refused(f"{name} has {known}, not {element}", errno.EEXIST)
            return False
        self._texts[key] = element
        self._slots = {}
        lasts = _lasts(element) or self.timeout
        if lasts:
            self._until[key] = now + lasts
        if self._index is not None:
            self._enter(key, element)
        return True

    def begin(self, name: str, elements: list[str], now: float) -> None:
        """The elements of a new set, all at once."""
        if self.timeout or any(" timeout " in each for each in elements):
            for element in elements:
                self.add(name, element, now)
            return
        self._texts = {each.partition(" : ")[0]: each for each in elements}
        if len(self._texts) != len(set(elements)):
            raise refused(f"{name} has a key twice", errno.EEXIST)

    def delete(self, name: str, element: str, now: float) -> str:
        """What was deleted. Raises RefusedError where it is not there."""
        key = _key(element)
        self._expire(key, now)
        known = self._texts.get(key)
        to = _led(element)
        if known is None or (to and to != _led(known)):
            raise refused(f"{name} has no {element}", errno.ENOENT)
        self._remove(key)
        return known

    def clear(self) -> None:
        self._texts, self._until, self._filled = {}, {}, {}
        self._index, self._spans, self._slots = None, [], {}

    def _expire(self, key: str, now: float) -> None:
        if self._until and self._until.get(key, now + 1) <= now:
            self._remove(key)

    def _remove(self, key: str) -> None:
        del self._texts[key]
        self._slots = {}
        self._until.pop(key, None)
        if self._intervals:
            self._index = None
        elif self._index is not None:
            self._index.pop(key_of(set_type(self.of)[0], key), None)

    # --- what packets look up ----------------------------------------------------------------------------

    def index(self) -> dict[Any, Any]:
        """By key. Raises UnknownError."""
        if self._index is None:
            self._index, self._spans = {}, []
            for key, element in self._texts.items():
                self._enter(key, element)
        return self._index

    def _enter(self, key: str, element: str) -> None:
        kinds, to = set_type(self.of)
        led = led_to(to, _led(element)) if to else True
        ends = span(kinds[0], key) if self._intervals and len(kinds) == 1 else None
        if ends is not None:
            self._spans.append((*ends, led))
        elif self._index is not None:
            self._index[key_of(kinds, key)] = (led, self._until.get(key, 0.0))

    def get(self, key: Any, now: float) -> Any:
        """What a key leads to, of a set True; None: it is not there."""
        found = (self._index if self._index is not None else self.index()).get(key)
        if found is not None and (not found[1] or found[1] > now):
            return found[0]
        if self._filled and self._filled.get(key, now) > now:
            return True
        for first, last, led in self._spans:
            if first <= key <= last:
                return led
        return None

    def slots(self, key: tuple[Any, ...], size: int, now: float) -> Slots:
        """By what they lead to, the numbers that stand behind a key."""
        if self._until or self._filled:  # it depends on the time
            return slots_of(self, key, size, now)
        found = self._slots.get((key, size))
        if found is None:
            found = self._slots[key, size] = slots_of(self, key, size, now)
        return found

    def fill(self, key: Any, timeout: float, now: float) -> None:
        """A packet adds an element, or has its time begin anew."""
        lasts = timeout or self.timeout
        self._filled[key] = now + lasts if lasts else float("inf")

    def filled(self, now: float) -> dict[Any, float]:
        """What packets have added, and until when."""
        return {key: until for key, until in self._filled.items() if until > now}


def _key(element: str) -> str:
    key = element.partition(" : ")[0]
    return key.partition(" timeout ")[0] if " timeout " in key else key


def _led(element: str) -> str:
    return element.partition(" : ")[2]


def _lasts(element: str) -> float:
    """Seconds that an element has left by its own time; 0: it has none."""
    said = element.partition(" : ")[0].partition(" timeout ")[2]
    if not said:
        return 0.0
    words = said.split()
    return seconds(words[2] if words[1:2] == ["expires"] else words[0])
