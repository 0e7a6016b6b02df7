"""What the section `policy` is to hold: chains, sets and counters that grow and shrink in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from l3net.firewall.contents import IP, Rules

#: The maps from a pod's address to its chain, by direction: of what it begins, and of what others begin.
EGRESS, INGRESS = "egress", "ingress"
MAPS: Final = (EGRESS, INGRESS)
#: From a pod's MAC to its chain: for what it sends from other addresses than its own, link-local ones and
#: those that it is allowed beside.
EGRESS_MAC: Final = "egress-mac"
#: Journal entries after which whoever is behind compares everything.
LONGEST_JOURNAL: Final = 200_000


@dataclass(slots=True)
class LiveSet:
    """A set or (`verdicts`) a map to verdicts: its type, and its elements, each with how many want it."""

    of: str
    verdicts: bool = False
    elements: dict[str, int] = field(default_factory=dict)


class PolicyContents:
    """What the section is to hold; it grows and shrinks in place, and what was touched is noted.

    Elements that several want are counted. Two threads never use one at the same time.
    """

    def __init__(self) -> None:
        self.chains: dict[str, Rules] = {}
        self.sets: dict[str, LiveSet] = {}
        self.counters: set[str] = set()
        self.judged: dict[str, int] = {}  # addresses that have any policy, for when the rest is refused
        #: Sets of which rules that do not accept make use: who comes into one may be refused by that.
        self.refusing: Counter[str] = Counter()
        self._journal: list[tuple[str, str | None]] = []
        self._first = 0  # how many entries have been dropped
        for name in MAPS:
            for version in IP:
                self.sets[f"{name}{version}"] = LiveSet(f"type ipv{version}_addr : verdict", verdicts=True)
        self.sets[EGRESS_MAC] = LiveSet("type ether_addr : verdict", verdicts=True)
        for version, ip in IP.items():
            self.sets[f"self{version}"] = LiveSet(f"typeof {ip} saddr . {ip} daddr")

    @property
    def mark(self) -> int:
        """Where the journal is."""
        return self._first + len(self._journal)

    def since(self, mark: int) -> list[tuple[str, str | None]] | None:
        """What was touched from a mark on: names of chains, sets and counters, and elements of sets by the
        set's name; None where that is not known any more."""
        return None if mark < self._first else self._journal[mark - self._first :]

    def _note(self, name: str, element: str | None = None) -> None:
        self._journal.append((name, element))
        if len(self._journal) > LONGEST_JOURNAL:
            half = len(self._journal) // 2
            self._first += half
            del self._journal[:half]

    def put_chain(self, name: str, rules: Rules) -> None:
        if self.chains.get(name) != rules:
            self.chains[name] = rules
            self._note(name)

    def drop_chain(self, name: str) -> None:
        if self.chains.pop(name, None) is not None:
            self._note(name)

    def put_set(self, name: str, of: str, elements: Iterable[str] = ()) -> None:
        """A set that is not there yet, with elements that nobody counts."""
        if name not in self.sets:
            self.sets[name] = LiveSet(of, elements=dict.fromkeys(elements, 1))
            self._note(name)

    def drop_set(self, name: str) -> None:
        if self.sets.pop(name, None) is not None:
            self._note(name)

    def put_counter(self, name: str) -> None:
        if name not in self.counters:
            self.counters.add(name)
            self._note(name)

    def drop_counter(self, name: str) -> None:
        if name in self.counters:
            self.counters.remove(name)
            self._note(name)

    def add(self, name: str, element: str) -> None:
        """One more wants an element."""
        elements = self.sets[name].elements
        count = elements.get(element, 0)
        elements[element] = count + 1
        if not count:
            self._note(name, element)

    def remove(self, name: str, element: str) -> None:
        """One less does; the set may be gone already."""
        live = self.sets.get(name)
        if live is None or element not in live.elements:
            return
        live.elements[element] -= 1
        if not live.elements[element]:
            del live.elements[element]
            self._note(name, element)


#: Where no policy has ever been heard of.
NO_POLICY: Final = PolicyContents()
