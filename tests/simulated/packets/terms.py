"""What rules read of a packet, of its connection and of the node: frozen values, each of a kind (values.py).

What is not there is None: the rule ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from packets.hashing import spread
from packets.meeting import Meeting
from packets.packet import PORTED


class Term(Protocol):
    @property
    def kind(self) -> str: ...

    def read(self, met: Meeting) -> Any: ...


@dataclass(frozen=True, slots=True)
class AddressTerm:
    version: int
    of_source: bool

    @property
    def kind(self) -> str:
        return str(self.version)

    def read(self, met: Meeting) -> int | None:
        if met.version != self.version:
            return None
        return met.source if self.of_source else met.destination


@dataclass(frozen=True, slots=True)
class PortTerm:
    """`protocol` 0: whatever has ports."""

    protocol: int
    of_source: bool
    kind: str = "port"

    def read(self, met: Meeting) -> int | None:
        if met.protocol != self.protocol and (self.protocol or met.protocol not in PORTED):
            return None
        return met.sport if self.of_source else met.dport


@dataclass(frozen=True, slots=True)
class Field:
    """Something that every packet has, or (`protocol`, `version`) every one of a kind."""

    name: str
    kind: str
    protocol: int = 0
    version: int = 0

    def read(self, met: Meeting) -> Any:
        if self.protocol and met.protocol != self.protocol:
            return None
        if self.version and met.version != self.version:
            return None
        return getattr(met, self.name)


@dataclass(frozen=True, slots=True)
class LinkTerm:
    """A link's name; a hook that has none compares with the empty name."""

    of_arrival: bool
    kind: str = "name"

    def read(self, met: Meeting) -> str | None:
        return met.arrived if self.of_arrival else met.leaves


@dataclass(frozen=True, slots=True)
class StatusTerm:
    kind: str = "status"

    def read(self, met: Meeting) -> int | None:
        return None if met.flow is None else met.flow.status


@dataclass(frozen=True, slots=True)
class DirectionTerm:
    """Whether it goes the way of whoever began its connection."""

    kind: str = "direction"

    def read(self, met: Meeting) -> str | None:
        if met.flow is None:
            return None
        return "reply" if met.backward else "original"


@dataclass(frozen=True, slots=True)
class TrackedMark:
    kind: str = "mark"

    def read(self, met: Meeting) -> int | None:
        return None if met.flow is None else met.flow.mark


@dataclass(frozen=True, slots=True)
class OriginalAddress:
    """Of the packets of whoever began it, before translation (`reply`: of its answers)."""

    version: int
    of_source: bool
    reply: bool = False

    @property
    def kind(self) -> str:
        return str(self.version)

    def read(self, met: Meeting) -> int | None:
        flow = met.flow
        if flow is None or flow.original.version != self.version:
            return None
        ends = flow.reply if self.reply else flow.original
        return ends.source if self.of_source else ends.destination


@dataclass(frozen=True, slots=True)
class OriginalPort:
    of_source: bool
    reply: bool = False
    kind: str = "port"

    def read(self, met: Meeting) -> int | None:
        flow = met.flow
        if flow is None:
            return None
        ends = flow.reply if self.reply else flow.original
        return ends.sport if self.of_source else ends.dport


@dataclass(frozen=True, slots=True)
class FibType:
    of_source: bool
    kind: str = "fibtype"

    def read(self, met: Meeting) -> str:
        return met.fib.type_of(met.version, met.source if self.of_source else met.destination)


@dataclass(frozen=True, slots=True)
class FibLink:
    """The link by which an address is reached."""

    of_source: bool
    kind: str = "name"

    def read(self, met: Meeting) -> str | None:
        found = met.fib.route_to(met.version, met.source if self.of_source else met.destination)
        if found is None or found.discards or found.local:
            return None
        return met.choices.of("fib oifname", [hop.interface for hop in found.hops])


@dataclass(frozen=True, slots=True)
class Masked:
    of: Term
    mask: int

    @property
    def kind(self) -> str:
        return self.of.kind

    def read(self, met: Meeting) -> int | None:
        found = self.of.read(met)
        return None if found is None else found & self.mask


@dataclass(frozen=True, slots=True)
class Drawn:
    """`numgen random mod`: any of so many, whatever was drawn before."""

    size: int
    text: str
    kind: str = "number"

    def drawn_by(self, _met: Meeting) -> object:
        """By what it is drawn; None: it cannot be."""
        return self

    def read(self, met: Meeting) -> int:
        return met.choices.of(self.text, range(self.size))


@dataclass(frozen=True, slots=True)
class Hashed:
    """`jhash`: one of so many, the same for the same values."""

    of: tuple[Term, ...]
    size: int
    seed: int
    text: str
    kind: str = "number"

    def drawn_by(self, met: Meeting) -> tuple[bytes, int, int] | None:
        octets = b""
        for term in self.of:
            found = term.read(met)
            if found is None:
                return None
            octets += found.to_bytes(*_WIDTH[term.kind]).ljust(4, b"\0")
        return octets, self.seed, self.size

    def read(self, met: Meeting) -> int | None:
        by = self.drawn_by(met)
        if by is None:
            return None
        if met.choices.exact:
            slot = spread(*by)
            return met.choices.of(self.text, (slot,), (slot,))
        slots = sorted(met.choices.known.get(by, range(self.size)))
        slot = met.choices.of(self.text, slots)
        met.choices.known[by] = frozenset({slot})
        return slot


#: Octets of a value, in the order of the network.
_WIDTH: dict[str, tuple[int, Any]] = {
    "4": (4, "big"),
    "6": (16, "big"),
    "port": (2, "big"),
    "protocol": (1, "big"),
}


@dataclass(frozen=True, slots=True)
class Key:
    """What is looked up: one value or several. What is left to chance comes last."""

    terms: tuple[Term, ...]
    chance: Drawn | Hashed | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        kinds = tuple(term.kind for term in self.terms)
        return (*kinds, "number") if self.chance else kinds

    def read(self, met: Meeting) -> Any:
        """The values in order; of several a tuple. Without the one that is left to chance."""
        if len(self.terms) == 1 and self.chance is None:
            return self.terms[0].read(met)
        values = []
        for term in self.terms:
            found = term.read(met)
            if found is None:
                return None
            values.append(found)
        return tuple(values)

    def looked_up(self, met: Meeting, held: Any) -> Any:
        """What `held.get` says of it; None: nothing. Outcomes of chance that lead to the same are one."""
        key, chance = self.read(met), self.chance
        if chance is None:
            return None if key is None else held.get(key, met.now)
        by = None if key is None else chance.drawn_by(met)
        if by is None:
            return None
        choices = met.choices
        if choices.exact and isinstance(chance, Hashed):
            slot = chance.read(met)
            return held.get((*key, slot) if key else slot, met.now)
        slots = held.slots(key, chance.size, met.now)
        known = choices.known.get(by) if isinstance(chance, Hashed) else None
        if known is not None:  # the same values, and so the same slot
            slots = {to: left for to, of in slots.items() if (left := of & known)}
        outcomes = list(slots)
        to = choices.of(chance.text, outcomes, [_Said(each) for each in slots.values()])
        if isinstance(chance, Hashed):
            choices.known[by] = slots[to]
        return to


class _Said:
    """Slots, in a few words."""

    def __init__(self, slots: frozenset[int]) -> None:
        self._slots = slots

    def __str__(self) -> str:
        few = ",".join(map(str, sorted(self._slots)[:8]))
        return f"{few},... ({len(self._slots)})" if len(self._slots) > 8 else few


#: By what it leads to, the numbers that lead there.
Slots = dict[Any, frozenset[int]]


def slots_of(held: Any, key: tuple[Any, ...], size: int, now: float) -> Slots:
    """Of a set or map whose keys end in a number below `size`."""
    found: dict[Any, list[int]] = {}
    for slot in range(size):
        found.setdefault(held.get((*key, slot) if key else slot, now), []).append(slot)
    return {to: frozenset(slots) for to, slots in found.items()}
