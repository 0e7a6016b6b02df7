"""Connections that a policy newly forbids: their entries are deleted, and their TCP segments answered by a
reset, so that both ends hear of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable
from ipaddress import ip_address
from typing import Final

from l3net.agent.table import Table
from l3net.errors import KernelError
from l3net.firewall.policy import ENDED, ENDED_FOR, ENDED_MOST, POLICY
from l3net.firewall.policycontents import EGRESS_MAC, MAPS
from l3net.model import Address, Direction, Tracked
from l3net.naming import NFT_TABLE, PROTOCOL_NUMBERS
from l3net.policy.book import PolicyBook
from l3net.policy.verdict import Packet, verdict
from l3net.ports import Connections

log = logging.getLogger("l3net.policy")

#: Seconds in which changes are gathered before connections are looked at.
GATHER: Final = 0.05
#: A look is followed by a pause of so many times what it took: the kernel walks its whole table for one,
#: which takes some ten milliseconds however few connections there are.
PAUSE: Final = 20.0
#: Seconds after which the connections of an address that is nobody's any more are looked at, unless somebody
#: is given it before: there is nobody who could go on with them.
LATER: Final = 10.0
#: Of more addresses than these that a change concerns, all connections of the pods here are looked at.
MANY: Final = 500
#: Connections judged before the loop is given to others.
AT_ONCE: Final = 100
_NAMES: Final = {number: name for name, number in PROTOCOL_NUMBERS.items()}
_PODS_OF: Final = frozenset(f"{name}{version}" for name in MAPS for version in (4, 6))


class Ending:
    """`look` at what has changed, before the kernel has it; `review` whom it concerns, after."""

    def __init__(self, book: PolicyBook, connections: Connections, problems: dict[str, str]) -> None:
        self._book = book
        self._connections = connections
        self._problems = problems
        self._mark = book.contents.mark
        self._concerned: set[str] = set()
        self._left: set[str] = set()  # addresses that nobody has
        self._timer: asyncio.TimerHandle | None = None
        self._everybody = False
        self._table: Table | None = None
        self._reviewing = asyncio.Lock()
        self._awake = asyncio.Event()
        self._told: dict[tuple[int, str], float] = {}  # elements of the sets of ended ones, and until when
        self._told_again = False  # the sets have been made anew, empty
        self.ended = 0

    def stand_on(self, table: Table) -> None:
        self._table = table

    def look(self, fresh: Collection[Address] = ()) -> None:
        """Note whose connections may have become forbidden. Those that are `fresh` have none yet."""
        found = self._read()
        new = found - {str(each) for each in fresh}
        left = {each for each in new if self._nobodys(each)}
        taken = {each for each in self._left if not self._nobodys(each)}
        self._left = self._left - taken | left
        self._concerned |= new - left | taken
        if self._left and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LATER, self._later)

    def _nobodys(self, address: str) -> bool:
        return self._book.pod_at(ip_address(address)) is None

    def _later(self) -> None:
        self._timer = None
        if self._left:
            self._concerned |= self._left
            self._left.clear()
            self._awake.set()

    def _read(self) -> set[str]:
        """The addresses that what has changed concerns, but for those of nodes, which are noted at once."""
        contents = self._book.contents
        journal = contents.since(self._mark)
        self._mark = contents.mark
        if journal is None:
            self._everybody = True
            return set()
        found: set[str] = set()
        for name, element in journal:
            if element is None:
                if name.startswith(("pol-", "mix-")) and name in contents.chains:
                    self._everybody = True
            elif name in contents.sets and name != EGRESS_MAC:
                there = element in contents.sets[name].elements
                # Who comes into a map is judged by other policies than before. Who leaves a set may be
                # accepted no more, who comes into one that rules refuse by may be refused.
                if there if name in _PODS_OF else not there or name in contents.refusing:
                    into = self._concerned if name.startswith("nodes") else found
                    into.add(element.partition(" ")[0])
        if len(found) + len(self._concerned) > MANY:
            self._everybody = True
        if self._everybody:  # whomever it concerns, it does by way of a pod here
            self._concerned.clear()
            return set()
        return found

    async def run(self) -> None:
        """Review a little after each change that is in force, for ever."""
        while True:
            await self._awake.wait()
            await asyncio.sleep(GATHER)
            self._awake.clear()
            began = asyncio.get_running_loop().time()
            await self.review()
            await asyncio.sleep(PAUSE * (asyncio.get_running_loop().time() - began))

    def applied(self, anew: bool) -> None:
        """What was looked at is in the kernel; `anew`: and nobody knows what was in force before."""
        if anew:
            self._everybody = self._told_again = True
        if self.due:
            self._awake.set()

    @property
    def due(self) -> bool:
        return self._everybody or bool(self._concerned)

    async def review(self) -> None:
        """End what is forbidden by now. What fails is tried with the next change."""
        if not self.due or self._table is None or self._table.refusal(POLICY.name):
            return
        async with self._reviewing:
            concerned, self._concerned = self._concerned, set()
            everybody, self._everybody = self._everybody, False
            addresses = {ip_address(each) for each in concerned}
            if everybody:
                addresses |= {ip_address(each) for each in self._book.contents.judged}
            try:
                if self._told_again:
                    await self._tell_again(self._table)
                tracked = await asyncio.to_thread(self._connections.of, addresses)
                forbidden = [each async for each in self._forbidden(tracked)]
                if forbidden:
                    await self._end(self._table, forbidden)
            except KernelError as err:
                self._concerned |= concerned
                self._everybody |= everybody
                if self._problems.get("connections of policies") != str(err):
                    log.error("connections that policies forbid: %s", err)
                self._problems["connections of policies"] = str(err)
            else:
                self._problems.pop("connections of policies", None)

    async def _forbidden(self, tracked: Iterable[Tracked]) -> AsyncIterator[Tracked]:
        for number, each in enumerate(tracked):
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            if not self._allowed(each):
                yield each

    def _allowed(self, each: Tracked) -> bool:
        judged = self._book.contents.judged
        if str(each.source) not in judged and str(each.destination) not in judged:
            return True
        packet = Packet(each.source, each.destination, _NAMES.get(each.protocol, ""), each.port)
        ends = {Direction.EGRESS: each.source, Direction.INGRESS: each.destination}
        # What is another node's to enforce is left to it.
        return not any(
            str(ends[decision.direction]) in judged
            for decision in verdict(self._book, packet).decisions
            if not decision.allowed
        )

    async def _end(self, table: Table, forbidden: Collection[Tracked]) -> None:
        tcp = PROTOCOL_NUMBERS["tcp"]
        now = asyncio.get_running_loop().time()
        ends: list[tuple[int, str]] = []
        for each in forbidden:
            if each.protocol == tcp:
                version = each.source.version
                forth = f"{each.source} . {each.source_port} . {each.destination} . {each.port}"
                back = f"{each.destination} . {each.port} . {each.source} . {each.source_port}"
                ends += (version, forth), (version, back)
        self._told |= dict.fromkeys(ends, now + ENDED_FOR)
        if len(self._told) > ENDED_MOST:
            self._told = dict(list(self._told.items())[-ENDED_MOST // 2 :])
        await self._tell(table, ends)  # first, or a segment between would begin the connection anew
        await asyncio.to_thread(self._connections.end, forbidden)
        self.ended += len(forbidden)
        log.info("%d connections ended that policies forbid by now", len(forbidden))

    async def _tell(self, table: Table, ends: Collection[tuple[int, str]]) -> None:
        text = ""
        for version in (4, 6):
            if found := [element for of, element in ends if of == version]:
                text += f"add element inet {NFT_TABLE} {ENDED}{version} {{ {', '.join(found)} }}\n"
        if text:
            await table.say(text)

    async def _tell_again(self, table: Table) -> None:
        """What ended before the sets were made anew, as long as somebody may try."""
        now = asyncio.get_running_loop().time()
        self._told = {each: until for each, until in self._told.items() if until > now}
        self._told_again = False
        await self._tell(table, self._told)
