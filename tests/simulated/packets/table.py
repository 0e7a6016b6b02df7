"""All tables of a simulated node as transactions have made them.

They refuse what the kernel refuses: what is not there is not deleted, a key has one value, nothing leads to a
chain or looks into a set that is not there, and what is led to or looked into is not deleted. A transaction
that is refused has changed nothing; one that is taken makes tables of its own, which share with those before
all that it has not touched.
"""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from packets.parsing import rule
from packets.sets import NamedSet, refused
from packets.statements import Rule
from packets.values import UnknownError

_REFERENCE = re.compile(r"(?:jump|goto) ([\w.:-]+)")
_LOOKED_INTO = re.compile(r"@([\w.-]+)(?![\w,.-])")
_NAMED = re.compile(r"(chain|set|map|counter) (\S+) \{(.*)")
_TABLE = re.compile(r"(add |delete )?table (inet|ip6?|bridge) (\S+)( \{)?$")
_STATEMENT = re.compile(
    r"(add|delete|flush) (chain|set|map|counter|rule|element) (inet|ip6?|bridge) (\S+) (\S+)\s*(.*)",
    re.DOTALL,
)
_HOOK = re.compile(r"type (filter|nat|route) hook (\w+) priority ([\w-]+); ?(?:policy (accept|drop);)?$")
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
#: Family and name.
TableName = tuple[str, str]
T = TypeVar("T")
OURS: TableName = ("inet", "l3net")


@lru_cache(maxsize=1 << 16)
def _led_by(text: str) -> tuple[str, ...]:
    """The chains that a rule or an element leads to."""
    return tuple(_REFERENCE.findall(text)) if "jump " in text or "goto " in text else ()


@lru_cache(maxsize=1 << 16)
def _read_by(text: str) -> tuple[str, ...]:
    """The sets that a rule looks into."""
    return tuple(_LOOKED_INTO.findall(re.sub(r"@(?:ll|nh|th),", "", text))) if "@" in text else ()


@dataclass(frozen=True, slots=True)
class Hook:
    """Where packets meet a chain by themselves; `order` is that in which chains came to their hooks."""

    kind: str
    where: str
    priority: int
    policy: str
    order: int


CHAIN, TRACKING, TRANSLATION = range(3)


@dataclass(frozen=True, slots=True)
class Stage:
    """One of what a packet meets on a hook: a chain, or the kernel's tracking or translation, which has the
    chains that translate."""

    kind: int
    hook: Hook | None = None
    table: TableName = OURS
    chain: str = ""
    chains: tuple[Stage, ...] = ()

    @property
    def priority(self) -> int:
        return self.hook.priority if self.hook else 0


def _hook(text: str, order: int) -> Hook:
    found = _HOOK.match(text)
    if found is None:
        raise UnknownError(f"{text} is no hook")
    kind, where, priority, policy = found.groups()
    return Hook(kind, where, int(_PRIORITIES.get(priority, priority)), policy or "accept", order)


class OneTable:
    """One table. `chains` hold their rules as text; the hook is the first of one that has one."""

    def __init__(self) -> None:
        self.chains: dict[str, tuple[str, ...]] = {}
        self.sets: dict[str, NamedSet] = {}
        self.counters: set[str] = set()
        self.hooks: dict[str, Hook] = {}
        self._led_to: Counter[str] = Counter()  # by how many rules and elements
        self._looked_into: Counter[str] = Counter()
        self._own: set[str] = set()  # sets that this transaction has a copy of
        self._programs: dict[str, tuple[Rule, ...]] = {}

    def copy(self) -> OneTable:
        made = OneTable()
        made.chains, made.sets, made.counters = self.chains.copy(), self.sets.copy(), self.counters.copy()
        made.hooks, made._programs = self.hooks.copy(), self._programs.copy()
        made._led_to, made._looked_into = self._led_to.copy(), self._looked_into.copy()
        return made

    # --- what packets meet -------------------------------------------------------------------------------

    def program(self, name: str) -> tuple[Rule, ...]:
        """A chain's rules. Raises UnknownError."""
        found = self._programs.get(name)
        if found is None:
            rules = self.chains[name]
            found = tuple(map(rule, rules[1:] if name in self.hooks else rules))
            self._programs[name] = found
        return found

    def parse(self) -> None:
        """Every rule, type and element. Raises UnknownError."""
        for name in self.chains:
            self.program(name)
        for each in self.sets.values():
            each.index()

    # --- what transactions do ----------------------------------------------------------------------------

    def block(self, kind: str, name: str, lines: Iterable[str], orders: Iterator[int], now: float) -> None:
        """A chain or a set as it stands in its table's block."""
        if kind == "counter":
            self.counters.add(name)
            return
        held: list[str] = []
        elements: list[str] = []
        lines = iter(lines)
        for line in lines:
            if line == "elements = {":
                elements = [each.rstrip(",") for each in _until_brace(lines)]
            else:
                held.append(line)
        if kind == "chain":
            self.add_chain(name, held[0] if held and held[0].startswith("type ") else "", orders)
            self.add_rules(name, held[1:] if name in self.hooks else held)
        else:
            made = self.sets[name] = NamedSet(held)
            self._own.add(name)
            made.begin(name, elements, now)
            if made.of.endswith("verdict"):
                # By what is said behind the key, which many have in common.
                for to, count in Counter(each.rpartition(" : ")[2] for each in elements).items():
                    self._led_to.update(dict.fromkeys(_led_by(to), count))

    def add_chain(self, name: str, head: str, orders: Iterator[int]) -> None:
        if name not in self.chains:
            self.chains[name] = (head,) if head else ()
            if head:
                self.hooks[name] = _hook(head, next(orders))

    def add_rules(self, name: str, rules: Iterable[str]) -> None:
        rules = tuple(rules)
        if name not in self.chains:
            raise refused(f"no chain {name}", errno.ENOENT)
        self.chains[name] += rules
        self._programs.pop(name, None)
        for text in rules:
            for chain in _led_by(text):
                self._led_to[chain] += 1
            for read in _read_by(text):
                self._looked_into[read] += 1

    def flush_chain(self, name: str) -> None:
        rules = self._there("chain", self.chains, name)
        self.chains[name] = rules[:1] if name in self.hooks else ()
        self._programs.pop(name, None)
        for text in rules:
            self._led_to.subtract(_led_by(text))
            self._looked_into.subtract(_read_by(text))

    def delete_chain(self, name: str) -> None:
        self.flush_chain(name)
        if self._led_to[name] > 0:
            raise refused(f"chain {name} is led to", errno.EBUSY)
        del self.chains[name]
        self.hooks.pop(name, None)

    def delete_set(self, name: str) -> None:
        held = self._there("set", self.sets, name)
        if self._looked_into[name] > 0:
            raise refused(f"set {name} is looked into", errno.EBUSY)
        for element in held:
            self._led_to.subtract(_led_by(element))
        del self.sets[name]

    def add_set(self, name: str, body: str) -> None:
        if name not in self.sets:
            self.sets[name] = NamedSet(filter(None, (each.strip() for each in body.split(";"))))
            self._own.add(name)

    def flush_set(self, name: str) -> None:
        for element in self._writable(name):
            self._led_to.subtract(_led_by(element))
        self._writable(name).clear()

    def add_elements(self, name: str, elements: Iterable[str], now: float) -> None:
        held = self._writable(name)
        for element in elements:
            if held.add(name, element, now):
                self._led_to.update(_led_by(element))

    def delete_elements(self, name: str, elements: Iterable[str], now: float) -> None:
        held = self._writable(name)
        for element in elements:
            self._led_to.subtract(_led_by(held.delete(name, element, now)))

    def delete_counter(self, name: str) -> None:
        if name not in self.counters:
            raise refused(f"no counter {name}", errno.ENOENT)
        self.counters.remove(name)

    def _writable(self, name: str) -> NamedSet:
        held = self._there("set", self.sets, name)
        if name not in self._own:
            self._own.add(name)
            held = self.sets[name] = held.copy()
        return held

    def _there(self, kind: str, held: Mapping[str, T], name: str) -> T:
        if name not in held:
            raise refused(f"no {kind} {name}", errno.ENOENT)
        return held[name]

    def check(self) -> None:
        """Whether all that is led to and looked into is there. Raises RefusedError."""
        for name, count in self._led_to.items():
            if count > 0 and name not in self.chains:
                raise refused(f"no chain {name}", errno.ENOENT)
        for name, count in self._looked_into.items():
            if count > 0 and name not in self.sets:
                raise refused(f"no set {name}", errno.ENOENT)

    def check_text(self, texts: Iterable[str]) -> None:
        """The same of these rules or elements."""
        for text in texts:
            for name in _led_by(text):
                if name not in self.chains:
                    raise refused(f"no chain {name}: {text}", errno.ENOENT)

    def check_rule(self, text: str) -> None:
        self.check_text((text,))
        for name in _read_by(text):
            if name not in self.sets:
                raise refused(f"no set {name}: {text}", errno.ENOENT)


def _until_brace(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line == "}":
            return
        yield line


_NOTHING = OneTable()


class SimTable:
    """All tables. `chains`, `sets` and `counters` are those of `inet l3net`, `beside` has the families of the
    others of that name."""

    def __init__(self) -> None:
        self.tables: dict[TableName, OneTable] = {}
        self._order = 0
        self._stages: dict[tuple[int, str], tuple[Stage, ...]] = {}

    @staticmethod
    def of(ruleset: str) -> SimTable:
        """As the text that replaces whole tables has it. Raises RefusedError."""
        return SimTable().amended(ruleset)

    @property
    def chains(self) -> Mapping[str, tuple[str, ...]]:
        return self.tables.get(OURS, _NOTHING).chains

    @property
    def sets(self) -> Mapping[str, NamedSet]:
        return self.tables.get(OURS, _NOTHING).sets

    @property
    def counters(self) -> set[str]:
        return self.tables.get(OURS, _NOTHING).counters

    @property
    def beside(self) -> dict[str, OneTable]:
        ours = OURS[1]
        return {
            family: self.tables[family, ours] for family in ("ip", "ip6") if (family, ours) in self.tables
        }

    def parse(self) -> None:
        """Every rule, type and element of what packets are walked through. Raises UnknownError."""
        for (family, _), each in self.tables.items():
            if family != "bridge":
                each.parse()

    def stages(self, version: int, where: str) -> tuple[Stage, ...]:
        """What packets of a family meet on a hook, in order."""
        found = self._stages.get((version, where))
        if found is None:
            found = self._stages[version, where] = tuple(self._staged(version, where))
        return found

    def _staged(self, version: int, where: str) -> Iterator[Stage]:
        families = ("inet", "ip" if version == 4 else "ip6")
        chains = [
            (hook, name, chain)
            for name, table in self.tables.items()
            if name[0] in families
            for chain, hook in table.hooks.items()
            if hook.where == where
        ]
        chains.sort(key=lambda each: (each[0].priority, -each[0].order))
        before = where in ("prerouting", "output")
        kernels = [(-200, TRACKING), (-100, TRANSLATION)] if before else [(100, TRANSLATION)]
        translating = tuple(Stage(CHAIN, *each) for each in chains if each[0].kind == "nat")
        rest = [Stage(CHAIN, *each) for each in chains if each[0].kind != "nat"]
        for stage in rest:
            while kernels and where != "forward" and stage.priority >= kernels[0][0]:
                yield Stage(kernels.pop(0)[1], chains=translating)
            yield stage
        if where != "forward":
            yield from (Stage(kind, chains=translating) for _, kind in kernels)

    def amended(self, transaction: str, now: float = 0.0) -> SimTable:
        """The tables after a transaction at a time (seconds). Raises RefusedError."""
        made = SimTable()
        made.tables, made._order = self.tables.copy(), self._order
        _Transaction(made, now).read(transaction)
        if {name: each.hooks for name, each in made.tables.items()} == {
            name: each.hooks for name, each in self.tables.items()
        }:
            made._stages = self._stages
        return made

    def orders(self) -> Iterator[int]:
        while True:
            self._order += 1
            yield self._order


class _Transaction:
    """One that is being carried out, on tables that nobody else has."""

    def __init__(self, on: SimTable, now: float) -> None:
        self._tables, self._now = on.tables, now
        self._orders = on.orders()
        self._own: set[TableName] = set()

    def read(self, text: str) -> None:
        lines = iter(text.splitlines())
        at: OneTable | None = None
        for line in lines:
            if not line or line == "}":
                if at is not None:
                    at.check()
                at = None
            elif at is not None:
                found = _NAMED.match(line)
                if found is None:
                    raise UnknownError(f"{line} in a table")
                kind, name, rest = found.groups()
                at.block(kind, name, () if rest.strip() == "}" else _block(lines), self._orders, self._now)
            elif (table := _TABLE.match(line)) is not None:
                verb, family, name, opens = table.groups()
                self._table((family, name), deleted=verb == "delete ")
                at = self._writable((family, name)) if opens else None
            else:
                self._say(line)

    def _table(self, name: TableName, *, deleted: bool) -> None:
        if not deleted:
            if name not in self._tables:
                self._tables[name] = OneTable()
                self._own.add(name)
        elif self._tables.pop(name, None) is None:
            raise refused(f"no table {name}", errno.ENOENT)

    def _writable(self, name: TableName) -> OneTable:
        found = self._tables.get(name)
        if found is None:
            raise refused(f"no table {name}", errno.ENOENT)
        if name not in self._own:
            self._own.add(name)
            found = self._tables[name] = found.copy()
        return found

    def _say(self, line: str) -> None:
        found = _STATEMENT.match(line)
        if found is None:
            raise UnknownError(line)
        verb, kind, family, of, name, rest = found.groups()
        table = self._writable((family, of))
        inner = rest.removeprefix("{").removesuffix("}").strip()
        match verb, kind:
            case "add", "chain":
                table.add_chain(name, inner, self._orders)
            case "add", "set" | "map":
                table.add_set(name, inner)
            case "add", "counter":
                table.counters.add(name)
            case "add", "rule":
                table.check_rule(rest)
                table.add_rules(name, (rest,))
            case "add", "element":
                elements = inner.split(", ")
                table.check_text(elements)
                table.add_elements(name, elements, self._now)
            case "delete", "element":
                table.delete_elements(name, inner.split(", "), self._now)
            case "delete", "chain":
                table.delete_chain(name)
            case "delete", "set" | "map":
                table.delete_set(name)
            case "delete", "counter":
                table.delete_counter(name)
            case "flush", "chain":
                table.flush_chain(name)
            case "flush", "set" | "map":
                table.flush_set(name)
            case _:
                raise UnknownError(line)


def _block(lines: Iterator[str]) -> Iterator[str]:
    """The lines of a chain or set, its elements with them."""
    inside = False
    for line in lines:
        if line == "}" and not inside:
            return
        inside = line == "elements = {" or (inside and line != "}")
        yield line
