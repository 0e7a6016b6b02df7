"""What a rule is made of: comparisons, which end it or not, and statements. Frozen values, made by `parsing`.

`run` answers with GOES_ON, ENDS (the rule does not apply), or a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from packets.meeting import Meeting
from packets.terms import Key, Slots, Term, slots_of

GOES_ON, ENDS = True, False
ACCEPT, DROP, RETURN, JUMP, GOTO, REJECT, CONTINUE = range(7)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`to`: the chain that is led to, or how it is rejected."""

    kind: int
    to: str = ""

    def run(self, met: Meeting) -> Verdict | bool:
        return GOES_ON if self.kind == CONTINUE else self

    def __str__(self) -> str:
        name = ("accept", "drop", "return", "jump", "goto", "reject", "continue")[self.kind]
        return f"{name} {self.to}".rstrip()


ACCEPTED = Verdict(ACCEPT)


class Part(Protocol):
    def run(self, met: Meeting) -> Verdict | bool: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """`text` as it stands in the table."""

    text: str
    parts: tuple[Part, ...]


# --- comparisons -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Equals:
    term: Term
    value: Any
    negated: bool = False

    def run(self, met: Meeting) -> bool:
        found = self.term.read(met)
        return found is not None and (found == self.value) is not self.negated


@dataclass(frozen=True, slots=True)
class HasBit:
    """One of several bits is enough."""

    term: Term
    bits: int
    negated: bool = False

    def run(self, met: Meeting) -> bool:
        found = self.term.read(met)
        return found is not None and bool(found & self.bits) is not self.negated


@dataclass(frozen=True, slots=True)
class Begins:
    """A name with `*` at its end."""

    term: Term
    start: str
    negated: bool = False

    def run(self, met: Meeting) -> bool:
        found = self.term.read(met)
        return found is not None and found.startswith(self.start) is not self.negated


@dataclass(frozen=True, slots=True)
class Compares:
    term: Term
    sign: str
    value: int

    def run(self, met: Meeting) -> bool:
        found = self.term.read(met)
        if found is None:
            return ENDS
        match self.sign:
            case "<":
                return bool(found < self.value)
            case ">":
                return bool(found > self.value)
            case "<=":
                return bool(found <= self.value)
            case _:
                return bool(found >= self.value)


@dataclass(frozen=True, slots=True)
class Between:
    term: Term
    first: int
    last: int
    negated: bool = False

    def run(self, met: Meeting) -> bool:
        found = self.term.read(met)
        return found is not None and (self.first <= found <= self.last) is not self.negated


class Held(Protocol):
    def get(self, key: Any, now: float) -> Any: ...

    def slots(self, key: tuple[Any, ...], size: int, now: float) -> Slots: ...


@dataclass(frozen=True, slots=True)
class Listed:
    """An anonymous set: single values and spans."""

    values: Mapping[Any, Any]
    spans: tuple[tuple[int, int, Any], ...] = ()
    _slots: dict[Any, Slots] = field(default_factory=dict, compare=False, repr=False)

    def slots(self, key: tuple[Any, ...], size: int, now: float) -> Slots:
        found = self._slots.get((key, size))
        if found is None:
            found = self._slots[key, size] = slots_of(self, key, size, now)
        return found

    def get(self, key: Any, _now: float) -> Any:
        found = self.values.get(key)
        if found is not None or not self.spans:
            return found
        return next((to for first, last, to in self.spans if first <= key <= last), None)


@dataclass(frozen=True, slots=True)
class In:
    """In a set: a named one of the same table, or one that stands in the rule."""

    key: Key
    held: Listed | str
    negated: bool = False

    def run(self, met: Meeting) -> bool:
        found = self.key.read(met)
        if found is None:
            return ENDS
        held = met.table.sets[self.held] if isinstance(self.held, str) else self.held
        return (held.get(found, met.now) is not None) is not self.negated


@dataclass(frozen=True, slots=True)
class VerdictMap:
    key: Key
    held: Listed | str

    def run(self, met: Meeting) -> Verdict | bool:
        held = met.table.sets[self.held] if isinstance(self.held, str) else self.held
        found: Verdict | None = self.key.looked_up(met, held)
        return ENDS if found is None else found.run(met)


# --- statements ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """Address and port as they are said (`fixed`), or as a map says of a key. No port: it stays."""

    fixed: tuple[Any, ...] = ()
    key: Key | None = None
    held: Listed | str = ""

    def read(self, met: Meeting) -> tuple[Any, ...] | None:
        if self.key is None:
            return self.fixed
        held = met.table.sets[self.held] if isinstance(self.held, str) else self.held
        found = self.key.looked_up(met, held)
        if found is None:
            return None
        return found if isinstance(found, tuple) else (found,)


@dataclass(frozen=True, slots=True)
class Translates:
    """dnat, or (`source`) snat."""

    version: int  # 0: of either
    target: Target
    source: bool = False
    anew: bool = False

    def run(self, met: Meeting) -> Verdict | bool:
        if self.version and met.version != self.version:
            return ENDS
        found = self.target.read(met)
        if found is None:
            return ENDS
        if self.source:
            met.lead_from(found[0], anew=self.anew)
        else:
            met.lead_to(found[0], found[1] if len(found) > 1 else met.dport)
        return ACCEPTED


@dataclass(frozen=True, slots=True)
class Masquerades:
    anew: bool = False

    def run(self, met: Meeting) -> Verdict | bool:
        source = met.fib.source_for(met.version, met.leaves, met.hop_to or met.destination, None)
        if source is None:
            return Verdict(DROP)
        met.lead_from(source, anew=self.anew)
        return ACCEPTED


@dataclass(frozen=True, slots=True)
class Duplicates:
    """A copy goes to a gateway by a link."""

    target: Target
    link: str

    def run(self, met: Meeting) -> bool:
        found = self.target.read(met)
        if found is None:
            return ENDS
        met.copy(found[0], self.link)
        return GOES_ON


@dataclass(frozen=True, slots=True)
class Untracked:
    def run(self, met: Meeting) -> bool:
        met.untrack()
        return GOES_ON


@dataclass(frozen=True, slots=True)
class Sets:
    """Writes a field of the packet, or its mark."""

    name: str
    value: Any
    version: int = 0
    protocol: int = 0

    def run(self, met: Meeting) -> bool:
        if (self.version and met.version != self.version) or (
            self.protocol and met.protocol != self.protocol
        ):
            return ENDS
        if self.name == "pkttype":
            met.set_pkttype(self.value)
        elif self.name == "tracked mark":
            if met.flow is None:
                return ENDS
            met.flow.mark = self.value
        else:
            setattr(met, self.name, self.value)
        return GOES_ON


@dataclass(frozen=True, slots=True)
class Marks:
    """Writes its mark, or (`tracked`) that of its connection: what of one of them is left by a mask, with
    more bits."""

    tracked: bool
    of: Term
    mask: int
    bits: int

    def run(self, met: Meeting) -> bool:
        found = self.of.read(met)
        if found is None or (self.tracked and met.flow is None):
            return ENDS
        made = found & self.mask | self.bits
        if self.tracked and met.flow is not None:
            met.flow.mark = made
        else:
            met.mark = made
        return GOES_ON


@dataclass(frozen=True, slots=True)
class Counts:
    name: str = ""

    def run(self, met: Meeting) -> bool:
        if self.name:
            met.counted.append(self.name)
        return GOES_ON


@dataclass(frozen=True, slots=True)
class Logs:
    prefix: str
    group: int

    def run(self, met: Meeting) -> bool:
        met.logged.append((self.prefix, self.group))
        return GOES_ON


@dataclass(frozen=True, slots=True)
class Limits:
    """`decides`: more than a log hangs on it, so that both outcomes are told."""

    text: str
    decides: bool

    def run(self, met: Meeting) -> bool:
        return met.choices.of(self.text, (True, False)) if self.decides else GOES_ON


@dataclass(frozen=True, slots=True)
class Fills:
    """A packet adds an element, or has its time begin anew."""

    name: str
    key: Key
    timeout: float  # 0: that of the set

    def run(self, met: Meeting) -> bool:
        found = self.key.read(met)
        if found is None:
            return ENDS
        met.filled.append((met.table.sets[self.name], found, self.timeout))
        return GOES_ON
