"""The connections by which pods leave the cluster: they go on as they began, also with an address that is
wrong by now."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from l3net.errors import KernelError
from l3net.model import Address, EgressPaths, EgressRule, EgressRules, Prefix, Tracked
from l3net.ports import Connections

log = logging.getLogger("l3net.egress")

#: Seconds for which answers may be under way to a pod by connections that are not translated here. One that
#: came after the end of its connection would begin one from outside, by which the pod answers as itself.
ANSWERS: Final = 0.3
#: Seconds between counting connections.
COUNT: Final = 15.0
#: Its name in the status.
PART: Final = "egress connections"


class EgressConnections:
    """Ends those that leave wrong, and counts the rest. `paths`: what this node has to do by now."""

    def __init__(
        self, connections: Connections, problems: dict[str, str], paths: Callable[[], EgressPaths]
    ) -> None:
        self._connections, self._problems, self._paths = connections, problems, paths
        self._loop = asyncio.get_running_loop()
        self._stale: set[Address] = set()  # pods whose connections have to be looked at
        self._later: dict[Address, float] = {}  # pods, and when the rest of their connections ends
        self._waits = asyncio.Event()
        self._inside: Collection[Prefix] = ()
        #: As counted last, by address.
        self.counted: Mapping[str, int] = {}

    def look_at(self, pods: Iterable[Address]) -> None:
        """The rules for these pods are others by now."""
        self._stale.update(pods)

    async def forget(self, inside: Collection[Prefix]) -> None:
        """After the table: connections of a pod go on as they began, with another address than it is to leave
        with. They end; a segment of one is answered with a reset by the other end, which knows it no more."""
        self._inside = inside
        due, self._stale = self._stale, set()
        if due:
            await self._end(due, late=False)

    async def _end(self, due: set[Address], *, late: bool) -> None:
        """End what leaves wrong. Unless it is `late`, that which is not translated has some time: the table
        lets none of it out."""
        try:
            tracked = await asyncio.to_thread(self._connections.of, due)
            wrong = [each for each in tracked if leaves_wrong(each, self._paths(), self._inside)]
            ended = [each for each in wrong if late or each.seen_as != each.source]
            await asyncio.to_thread(self._connections.end, ended)
        except KernelError as err:  # tried again with the next pass that looks for drift
            self._stale |= due
            if self._problems.get(PART) != str(err):
                log.error("connections that leave the cluster: %s", err)
            self._problems[PART] = str(err)
            return
        self._problems.pop(PART, None)
        if len(wrong) > len(ended):
            at = self._loop.time() + ANSWERS
            self._later |= dict.fromkeys((each.source for each in wrong if each.seen_as == each.source), at)
            self._waits.set()
        if ended:
            log.info("%d connections ended that left with another address", len(ended))

    async def run(self) -> None:
        """Count connections now and then, and end those that have had some time. Until cancelled."""
        counted = self._loop.time()
        while True:
            at = min((counted + COUNT, *self._later.values()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(at):
                    await self._waits.wait()
            self._waits.clear()
            now = self._loop.time()
            if ripe := {pod for pod, at in self._later.items() if at <= now}:
                for pod in ripe:
                    del self._later[pod]
                await self._end(ripe, late=True)
            if counted + COUNT <= now:
                counted = now
                await self.count()

    async def count(self) -> None:
        """How many connections leave with each address that this node holds."""
        paths = self._paths()
        found = Counter[str]({str(each): 0 for each in paths.held})
        if paths.held:
            try:
                tracked = await asyncio.to_thread(self._connections.of, [*paths.own, *paths.others])
            except KernelError as err:
                log.warning("connections of egress addresses cannot be counted: %s", err)
                return
            found.update(str(each.seen_as) for each in tracked if each.seen_as in paths.held)
        self.counted = found


def leaves_wrong(tracked: Tracked, paths: EgressPaths, inside: Collection[Prefix]) -> bool:
    """Whether a connection that a pod began leaves the cluster by this node with an address that is wrong.

    Of a pod of this node that leaves by another that is the pod's own, here; what others hand on has one of
    those that are held. Where no rule is for it any more, nobody knows with which it should, and a new one is
    begun.
    """
    to, pod = tracked.destination, tracked.source
    if tracked.seen_as is None or any(to in prefix for prefix in inside):
        return False
    if (handed := paths.others.get(pod)) is not None and pod not in paths.own:
        rule = rule_for(handed, to)
        return rule is None or rule.address not in paths.held or tracked.seen_as != rule.address
    rules = paths.own.get(pod)
    if rules is None:
        return True
    rule = rule_for(rules, to)
    return rule is not None and tracked.seen_as != (rule.address if rule.address in paths.held else pod)


def rule_for(rules: EgressRules, destination: Address) -> EgressRule | None:
    """The first that is for a destination."""
    return next(
        (
            rule
            for rule in rules
            if not rule.destinations or any(destination in prefix for prefix in rule.destinations)
        ),
        None,
    )
