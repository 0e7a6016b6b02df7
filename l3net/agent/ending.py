"""Connections that a policy newly forbids: their entries are deleted, and their TCP segments answered by a
reset, so that both ends hear of it. An answer to a datagram of one begins no flow the other way round, of
which what it answers would be the answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from math import ceil, inf
from typing import Final

from l3net.agent.table import Table
from l3net.errors import KernelError
from l3net.firewall.policy import ENDED, ENDED_FOR, ENDED_MOST, LATE, LATE_FOR, POLICY
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
#: Seconds in which answers of a UDP flow do not pass where it is not known who began it: it may be allowed.
UNSURE_FOR: Final = 2
#: Seconds until the first look at what began while there was no table and was not heard of until then; each
#: later one comes after twice the time.
FIRST: Final = 1.0
#: Seconds until a look that failed is repeated, doubled from the first to the longest.
AGAIN: Final = 0.5
LONGEST: Final = 30.0
#: Connections judged before the loop is given to others.
AT_ONCE: Final = 100
_TCP, _UDP = PROTOCOL_NUMBERS["tcp"], PROTOCOL_NUMBERS["udp"]
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
        self._torn = -inf  # when packets had passed without the table: nobody knows who began what is there
        self._looked: set[Tracked] = set()  # flows that were ended since then as the other end's
        self._next: asyncio.TimerHandle | None = None  # of looks at what of those is heard of later
        self._table: Table | None = None
        self._reviewing = asyncio.Lock()
        self._awake = asyncio.Event()
        self._told: dict[tuple[str, str], float] = {}  # elements by their sets, and until when
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
        again = AGAIN
        while True:
            await self._awake.wait()
            await asyncio.sleep(GATHER)
            self._awake.clear()
            began = asyncio.get_running_loop().time()
            done = await self.review()
            pause = PAUSE * (asyncio.get_running_loop().time() - began)
            await asyncio.sleep(pause if done else max(pause, again))
            again = AGAIN if done else min(2 * again, LONGEST)

    def applied(self, anew: bool, torn: bool) -> None:
        """What was looked at is in the kernel; `anew`: and nobody knows what was in force before; `torn`: it
        may have been nothing."""
        if anew:
            self._everybody = self._told_again = True
            if torn:
                self._torn = asyncio.get_running_loop().time()
                self._looked.clear()
                self._look_later(FIRST)
        if self.due:
            self._awake.set()

    def _look_later(self, seconds: float) -> None:
        """Look at everybody, and once more after twice the time, as long as what began without the table may
        be heard of for the first time."""
        loop = asyncio.get_running_loop()

        def look() -> None:
            self._everybody = True
            self._awake.set()
            self._next = None
            if loop.time() + 2 * seconds < self._torn + ENDED_FOR:
                self._look_later(2 * seconds)

        if self._next is not None:
            self._next.cancel()
        self._next = loop.call_later(seconds, look)

    @property
    def due(self) -> bool:
        return self._everybody or bool(self._concerned)

    async def review(self) -> bool:
        """End what is forbidden by now. Returns whether that was done: what fails is to be tried again."""
        if not self.due or self._table is None or self._table.refusal(POLICY.name):
            return True
        async with self._reviewing:
            concerned, self._concerned = self._concerned, set()
            everybody, self._everybody = self._everybody, False
            done = False
            try:
                await self._review(self._table, concerned, everybody=everybody)
                done = True
            except KernelError as err:
                if self._problems.get("connections of policies") != str(err):
                    log.error("connections that policies forbid: %s", err)
                self._problems["connections of policies"] = str(err)
            else:
                self._problems.pop("connections of policies", None)
            finally:  # whatever it was, nobody has looked
                if not done:
                    self._concerned |= concerned
                    self._everybody |= everybody
                    self._awake.set()
        return done

    async def _review(self, table: Table, concerned: set[str], *, everybody: bool) -> None:
        addresses = {ip_address(each) for each in concerned}
        if everybody:
            addresses |= {ip_address(each) for each in self._book.contents.judged}
        if self._told_again:
            await self._tell_again(table)
        tracked = await asyncio.to_thread(self._connections.of, addresses)
        forbidden = {each: flow async for each, flow in self._forbidden(tracked)}
        if forbidden:
            await self._end(table, forbidden)
            self._looked |= {_known(each) for each, flow in forbidden.items() if flow is not each}

    async def _forbidden(self, tracked: Iterable[Tracked]) -> AsyncIterator[tuple[Tracked, Tracked]]:
        """Each that is forbidden, as it is tracked and as it began by all that is known."""
        for number, each in enumerate(tracked):
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            if not self._allowed(each):
                yield each, each
            elif self._others(each) and not self._allowed(turned := _turned(each)):
                yield each, turned

    def _others(self, each: Tracked) -> bool:
        """Whether its other end may have begun it: without the table it may not have been tracked, and then
        it is known by whatever was seen of it first. Who goes on after it was ended once has begun it."""
        if not each.unsure or _known(each) in self._looked:
            return False
        lasting = ENDED_FOR if each.protocol == _TCP else LATE_FOR
        return asyncio.get_running_loop().time() < self._torn + lasting

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

    async def _end(self, table: Table, forbidden: Mapping[Tracked, Tracked]) -> None:
        now = asyncio.get_running_loop().time()
        ends: dict[tuple[str, str], int] = {}  # seconds, by what is told
        for each, flow in forbidden.items():
            version = flow.source.version
            forth = f"{flow.source} . {flow.source_port} . {flow.destination} . {flow.port}"
            back = f"{flow.destination} . {flow.port} . {flow.source} . {flow.source_port}"
            if flow.protocol == _TCP:
                ends[f"{ENDED}{version}", forth] = ends[f"{ENDED}{version}", back] = ENDED_FOR
            elif flow.protocol == _UDP:
                ends[f"{LATE}{version}", back] = LATE_FOR if flow is each else UNSURE_FOR
        self._told |= {each: now + seconds for each, seconds in ends.items()}
        if len(self._told) > ENDED_MOST:
            self._told = dict(list(self._told.items())[-ENDED_MOST // 2 :])
        refusal: KernelError | None = None
        try:
            await self._tell(table, ends)  # first, or a packet between would begin the connection anew
        except KernelError as err:
            refusal = err  # they end all the same
        await asyncio.to_thread(self._connections.end, forbidden.keys())
        self.ended += len(forbidden)
        log.info("%d connections ended that policies forbid by now", len(forbidden))
        if refusal is not None:
            raise refusal

    async def _tell(self, table: Table, ends: Mapping[tuple[str, str], int]) -> None:
        by_set: dict[str, list[tuple[str, int]]] = {}
        for (name, element), seconds in ends.items():
            by_set.setdefault(name, []).append((element, seconds))
        text = ""
        for name, found in sorted(by_set.items()):
            bare = ", ".join(element for element, _ in found)
            timed = ", ".join(f"{element} timeout {seconds}s" for element, seconds in found)
            # What is there already goes when it was to go: so it is told anew.
            text += f"add element inet {NFT_TABLE} {name} {{ {bare} }}\n"
            text += f"delete element inet {NFT_TABLE} {name} {{ {bare} }}\n"
            text += f"add element inet {NFT_TABLE} {name} {{ {timed} }}\n"
        if text:
            await table.say(text)

    async def _tell_again(self, table: Table) -> None:
        """What ended before the sets were made anew, as long as somebody may try."""
        now = asyncio.get_running_loop().time()
        self._told = {each: until for each, until in self._told.items() if until > now}
        await self._tell(table, {each: ceil(until - now) for each, until in self._told.items()})
        self._told_again = False


def _known(each: Tracked) -> Tracked:
    """What it is known by where it is seen again."""
    return replace(each, handle=b"")


def _turned(each: Tracked) -> Tracked:
    """As if the other end had begun it."""
    return replace(
        each,
        source=each.destination,
        source_port=each.port,
        destination=each.source,
        port=each.source_port,
    )
