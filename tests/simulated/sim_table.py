"""A table of nftables as far as a text says what is in it: chains, sets, maps and counters by name.

It refuses what the kernel refuses: what is not there is not deleted, a key has one value, nothing leads to a
chain or looks into a set that is not there. A transaction that is refused has changed nothing.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field

from l3net.errors import RefusedError

_REFERENCE = re.compile(r"(?:jump|goto) ([\w.-]+)")
_LOOKED_INTO = re.compile(r"@([\w.-]+)")
_NAMED = re.compile(r"(chain|set|map|counter) (\S+) \{(.*)")
_TABLE = re.compile(r"(delete )?table (inet|ip|ip6) l3net")
_STATEMENT = re.compile(
    r"(add|delete|flush) (chain|set|counter|rule|element) (inet|ip|ip6) l3net (\S+)\s*(.*)", re.DOTALL
)


@dataclass
class SimTable:
    """`sets` are maps, too; an element of a map is `key : value`."""

    chains: dict[str, list[str]] = field(default_factory=dict)
    sets: dict[str, set[str]] = field(default_factory=dict)
    counters: set[str] = field(default_factory=set)
    beside: dict[str, SimTable] = field(default_factory=dict)  # of the same name, by family

    @staticmethod
    def of(ruleset: str) -> SimTable:
        """As the text that replaces the whole table has it. Raises RefusedError."""
        return SimTable().amended(ruleset)

    def amended(self, transaction: str) -> SimTable:
        """The table after a transaction. Raises RefusedError."""
        made = deepcopy(self)
        made._read(transaction)
        for each in (made, *made.beside.values()):
            each._check()
        return made

    def _family(self, family: str) -> SimTable:
        return self if family == "inet" else self.beside.setdefault(family, SimTable())

    def _read(self, text: str) -> None:
        lines = iter(text.splitlines())
        at = self
        for line in lines:
            table = _TABLE.match(line)
            if table is not None:
                deleted, family = table.groups()
                at = self._family(family)
                if deleted and at is self:
                    self.chains, self.sets, self.counters = {}, {}, set()
                elif deleted:
                    del self.beside[family]
            elif (found := _NAMED.match(line)) is not None:
                at._block(*found.groups(), lines)
            elif line.startswith(("add ", "delete ", "flush ")):
                self._say(line)

    def _block(self, kind: str, name: str, rest: str, lines: Iterator[str]) -> None:
        if kind == "counter":
            self.counters.add(name)
            return
        assert not rest.strip(), rest
        held: list[str] = []
        for inner in lines:
            if inner == "}":
                break
            if inner == "elements = {":
                for element in lines:
                    if element == "}":
                        break
                    self.sets.setdefault(name, set()).add(element.rstrip(",").strip())
            else:
                held.append(inner)
        if kind == "chain":
            self.chains[name] = held
        else:
            self.sets.setdefault(name, set())

    def _say(self, line: str) -> None:
        found = _STATEMENT.match(line)
        assert found is not None, line
        verb, kind, family, name, rest = found.groups()
        self._family(family)._do(verb, kind, name, rest)

    def _do(self, verb: str, kind: str, name: str, rest: str) -> None:
        match kind:
            case "chain" | "set" if verb == "add":
                body = rest.strip().removeprefix("{").removesuffix("}").strip()
                if kind == "chain":
                    self.chains.setdefault(name, [body] if body else [])
                else:
                    self.sets.setdefault(name, set())
            case "chain" if verb == "flush":
                rules = self.chains[name]
                self.chains[name] = rules[:1] if rules and rules[0].startswith("type ") else []
            case "rule":
                self.chains[name].append(rest)
            case "counter" if verb == "add":
                self.counters.add(name)
            case "element":
                inner = rest.strip().removeprefix("{").removesuffix("}").strip()
                for element in inner.split(", "):
                    (self._add if verb == "add" else self._delete)(name, element)
            case _:
                held = {"chain": self.chains, "set": self.sets, "counter": self.counters}[kind]
                if name not in held:
                    raise _refused(f"no {kind} {name}", errno.ENOENT)
                held.remove(name) if isinstance(held, set) else held.pop(name)

    def _add(self, name: str, element: str) -> None:
        key = element.partition(" : ")[0]
        others = [each for each in self.sets[name] if each.partition(" : ")[0] == key and each != element]
        if others:
            raise _refused(f"{name} has {others[0]}, not {element}", errno.EEXIST)
        self.sets[name].add(element)

    def _delete(self, name: str, element: str) -> None:
        found = [each for each in self.sets[name] if each == element or each.startswith(f"{element} : ")]
        if not found:
            raise _refused(f"{name} has no {element}", errno.ENOENT)
        self.sets[name].difference_update(found)

    def _check(self) -> None:
        said = [*(rule for rules in self.chains.values() for rule in rules)]
        for text in (*said, *(each for held in self.sets.values() for each in held)):
            for chain in _REFERENCE.findall(text):
                if chain not in self.chains:
                    raise _refused(f"no chain {chain}: {text}", errno.ENOENT)
        for text in said:
            for name in _LOOKED_INTO.findall(text):
                if name not in self.sets:
                    raise _refused(f"no set {name}: {text}", errno.ENOENT)


def _refused(why: str, code: int) -> RefusedError:
    return RefusedError(f"nft cannot change table inet l3net ({why})", code)
