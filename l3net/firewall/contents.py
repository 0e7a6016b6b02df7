"""Chains and sets of the table as values, and the statements that lead from one such value to another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from l3net.naming import NFT_TABLE

#: The families' names in rules.
IP = {4: "ip", 6: "ip6"}
#: The rules of a chain; of one that hangs on a hook, that comes first (`hook`).
Rules: TypeAlias = tuple[str, ...]
#: A named map or set, and an element as nft reads it.
Element: TypeAlias = tuple[str, str]

_HOOK = "type "


def hook(kind: str, where: str, priority: int) -> str:
    """The first line of a chain that packets meet by themselves."""
    return f"{_HOOK}{kind} hook {where} priority {priority}; policy accept;"


def twice(kind: str, where: str, priority: int, names: tuple[str, str], rules: Rules) -> dict[str, Rules]:
    """The chains that decide on a hook by what they look up, once for a connection: one, and its like right
    after it.

    A packet in the first while the table changes goes on by the old rules, to which the maps of before are
    empty and those of now have other slots: it may meet nothing. It then meets the second, by the new rules.
    """
    return {name: (hook(kind, where, at), *rules) for at, name in enumerate(names, start=priority)}


def translating(where: str, priority: int, rules: Rules) -> dict[str, Rules]:
    """The chains that translate on a hook. What the first has translated does not come to the second."""
    return twice("nat", where, priority, (f"{where}-nat", f"{where}-again"), rules)


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A set; `of` is `type ...` or `typeof ...`; with `ranges` its elements are prefixes. `leads`: it is a
    map, and its elements are `key : value`."""

    of: str
    elements: frozenset[str] = frozenset()
    ranges: bool = False
    leads: bool = False


@dataclass(frozen=True, slots=True)
class Contents:
    """What a section's chains and sets hold."""

    chains: Mapping[str, Rules] = field(default_factory=dict)
    sets: Mapping[str, NamedSet] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """All of it as it stands in a table's block."""
        for name, each in self.sets.items():
            kind = "map" if each.leads else "set"
            yield from set_block(name, each.of, sorted(each.elements), ranges=each.ranges, kind=kind)
        yield from chain_blocks(self.chains)

    def bare(self) -> Contents:
        """The same chains without a rule, the same sets without an element."""
        return Contents(
            {name: rules[:1] if hooked(rules) else () for name, rules in self.chains.items()},
            {name: replace(each, elements=frozenset()) for name, each in self.sets.items()},
        )


@dataclass(slots=True)
class Statements:
    """A transaction in the making, in the order in which its parts follow one another: what is led to is
    there before, what goes is led to by nothing any more. `family`: that of the table."""

    declared: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)
    put_back: dict[Element, None] = field(default_factory=dict)  # of what is deleted, what may be gone
    deleted: dict[Element, None] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    filled: list[str] = field(default_factory=list)
    added: dict[Element, None] = field(default_factory=dict)
    family: str = "inet"

    def text(self) -> str:
        """As `nft -f -` reads it. What goes makes room for what comes: the same key with another value is
        both."""
        put_back = _elements(f"add element {self.family}", self.put_back)
        deleted = _elements(f"delete element {self.family}", self.deleted)
        added = _elements(f"add element {self.family}", self.added)
        return "".join(
            (*self.declared, *self.emptied, *put_back, *deleted, *self.removed, *self.filled, *added)
        )

    def chains(self, old: Mapping[str, Rules], new: Mapping[str, Rules]) -> None:
        """From these chains to those: one that stays is flushed and filled in the same instant."""
        for name, rules in new.items():
            before = old.get(name)
            if before == rules:
                continue
            if before is None:
                head = f" {{ {rules[0]} }}" if hooked(rules) else ""
                self.declared.append(f"add chain inet {NFT_TABLE} {name}{head}\n")
            else:
                self.emptied.append(f"flush chain inet {NFT_TABLE} {name}\n")
            self.rules(name, rules)
        for name in sorted(old.keys() - new.keys()):
            self.emptied.append(f"flush chain inet {NFT_TABLE} {name}\n")
            self.removed.append(f"delete chain inet {NFT_TABLE} {name}\n")

    def rules(self, name: str, rules: Rules) -> None:
        """Fill a chain that is empty."""
        self.filled += (f"add rule inet {NFT_TABLE} {name} {rule}\n" for rule in _ruled(rules))

    def sets(self, old: Mapping[str, NamedSet], new: Mapping[str, NamedSet]) -> None:
        """From these sets to those, which are the same but for their elements."""
        for name, each in new.items():
            before = old[name].elements
            self.deleted.update(((name, text), None) for text in sorted(before - each.elements))
            self.added.update(((name, text), None) for text in sorted(each.elements - before))


def hooked(rules: Rules) -> bool:
    return bool(rules) and rules[0].startswith(_HOOK)


def _ruled(rules: Rules) -> Rules:
    return rules[1:] if hooked(rules) else rules


def chain_blocks(chains: Mapping[str, Rules]) -> Iterator[str]:
    for name, rules in chains.items():
        yield f"chain {name} {{"
        yield from rules
        yield "}"


def set_block(
    name: str, of: str, elements: Iterable[str], *, ranges: bool = False, kind: str = "set"
) -> Iterator[str]:
    """See NamedSet."""
    yield f"{kind} {name} {{"
    yield of
    if ranges:
        yield "flags interval"
    yield from listed(elements)
    yield "}"


def map_block(name: str, type_of: str, elements: Iterable[str]) -> Iterator[str]:
    yield f"map {name} {{"
    yield f"typeof {type_of}"
    yield from listed(elements)
    yield "}"


def listed(elements: Iterable[str]) -> Iterator[str]:
    """The elements as they stand in the block of a set or map."""
    listed = ",\n".join(elements)
    if listed:
        yield f"elements = {{\n{listed}\n}}"


def _elements(verb: str, elements: Iterable[Element]) -> Iterator[str]:
    grouped: dict[str, list[str]] = {}
    for name, element in elements:
        grouped.setdefault(name, []).append(element)
    for name, found in grouped.items():
        yield f"{verb} {NFT_TABLE} {name} {{ {', '.join(found)} }}\n"
