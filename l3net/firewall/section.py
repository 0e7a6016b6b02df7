"""What a section of the table is: a part with chains, sets and maps of its own, changed by itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from l3net.firewall.contents import Contents, Statements
from l3net.firewall.facts import FirewallPlan
from l3net.model import ServerKey, VirtualServer

#: Servers that are others now, as they are now; None: there is none any more.
Servers = Mapping[ServerKey, VirtualServer | None]


@dataclass(frozen=True, slots=True)
class Step:
    """A section's transaction (`nft -f -`) from what is in force to what is wanted; empty: nothing differs.

    It is held to be in force from `take` on: for when the kernel has taken it. Of one section, one step at a
    time.
    """

    text: str
    take: Callable[[], None]


class Held(Protocol):
    """What is in force of a section."""

    def change(self, plan: FirewallPlan, servers: Servers) -> Step:
        """The way to a plan, whose servers are those in force but for these."""
        ...

    def hear(self, servers: Servers) -> None:
        """Servers that are others now, where there may be no step for a while."""
        ...


@dataclass(frozen=True, slots=True)
class Made:
    """A section made anew: its lines in the table's block, and what is in force with them. `filled` are sets
    whose members come and go by themselves: they are put back. `beside`: lines for tables of the same name,
    by their family."""

    lines: tuple[str, ...]
    held: Held
    filled: frozenset[str] = frozenset()
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Section(Protocol):
    """A part of the table. It alone writes what it owns; what it `reads` of another's is always there."""

    @property
    def name(self) -> str: ...

    @property
    def own(self) -> re.Pattern[str]:
        """The names of its chains, sets and maps."""
        ...

    @property
    def reads(self) -> re.Pattern[str]:
        """The names of others' sets that its rules look into."""
        ...

    @property
    def lives(self) -> bool:
        """Whether what a plan holds for it changes in place: what was in force cannot be made once more."""
        ...

    def made(self, plan: FirewallPlan) -> Made:
        """As the plan, servers and all, wants it."""
        ...

    def bare(self, plan: FirewallPlan) -> Made:
        """What others lead to or read, and nothing done to any packet: for while the kernel refuses it."""
        ...


@dataclass(frozen=True, slots=True)
class SmallSection:
    """A section that is worked out as a whole, and changed where that differs."""

    name: str
    own: re.Pattern[str]
    reads: re.Pattern[str]
    concern: Callable[[FirewallPlan], object]  # all of a plan that `contents` depends on
    contents: Callable[[FirewallPlan], Contents]
    lives: bool = False

    def made(self, plan: FirewallPlan) -> Made:
        return self._made(self.concern(plan), self.contents(plan))

    def bare(self, plan: FirewallPlan) -> Made:
        return self._made(None, self.contents(plan).bare())

    def _made(self, concern: object, contents: Contents) -> Made:
        return Made(tuple(contents.lines()), _SmallHeld(self, concern, contents))


class _SmallHeld:
    """What is in force of a small section."""

    def __init__(self, section: SmallSection, concern: object, contents: Contents) -> None:
        self._section = section
        self._concern = concern
        self._contents = contents

    def change(self, plan: FirewallPlan, _servers: Servers) -> Step:
        concern = self._section.concern(plan)
        if concern == self._concern:
            return Step("", lambda: None)
        contents = self._section.contents(plan)
        statements = Statements()
        statements.chains(self._contents.chains, contents.chains)
        statements.sets(self._contents.sets, contents.sets)

        def take() -> None:
            self._concern, self._contents = concern, contents

        return Step(statements.text(), take)

    def hear(self, servers: Servers) -> None:
        pass


#: For a section that reads nothing of another's.
NOTHING = re.compile(r"(?!)")
