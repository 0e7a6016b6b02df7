"""The floating addresses of this node's pods: what is translated, what is announced, and for how long after a
pod elsewhere has an address.

The node that an address comes to translates and announces it as soon as it knows. The one that it leaves
withdraws when it hears the other's announcement, or shortly after, so that routers are never without a way;
and as long as the former pod is there it translates until routers have acted on that. Of a pod that is gone
the translation ends at once: its own address may be another's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from l3net.addresses import address_order, host_prefix
from l3net.errors import KernelError
from l3net.floating.book import FloatingBook, sources_of
from l3net.floating.declared import Occupied, fill, follow, holdings_of
from l3net.floating.holding import Holding
from l3net.kube.scope import any_floating
from l3net.model import (
    Address,
    ClusterState,
    Fact,
    FloatingIp,
    Kind,
    Namespace,
    Node,
    ObjectName,
    Pod,
    Prefix,
)
from l3net.ports import Connections

log = logging.getLogger("l3net.floating")

#: Seconds for which an address that a pod of another node has is announced here still, if that node's
#: announcement is not heard meanwhile.
LINGER: Final = 0.15
#: Seconds after the withdrawal for which what is under way still reaches the former pod.
TAIL: Final = 0.1
#: Its name in the status.
PART: Final = "floating connections"
KINDS: Final = frozenset((Kind.POD, Kind.NAMESPACE, Kind.NODE, Kind.FLOATING_IP))


@dataclass(slots=True)
class _Parting:
    """An address that a pod of another node has by now: until when it is announced, or translated, here;
    `target`: the former pod's own address, None where that is gone."""

    until: float
    before: Holding
    target: Address | None
    announced: bool = True


class Floating:
    """`note` what is declared, `settle` what follows. `occupied`: what else has an address;
    `heard`: whether a peer announces a prefix; `wake` has a pass look again."""

    def __init__(
        self,
        me: str,
        connections: Connections,
        problems: dict[str, str],
        occupied: Occupied,
        heard: Callable[[Prefix], bool],
        wake: Callable[[], None],
    ) -> None:
        self._me, self._connections, self._problems = me, connections, problems
        self._taken, self._heard, self._wake = occupied, heard, wake
        self._loop = asyncio.get_running_loop()
        self._book: FloatingBook | None = None  # where there are pools of such addresses
        self._was_taken: dict[Address, object] = {}
        self._begun = False
        self._parting: dict[Address, _Parting] = {}
        #: Whose connections are to be forgotten, but for those of the pod that has the address.
        self._stale: dict[Address, Address | None] = {}
        self.held: dict[Address, Holding] = {}
        self._since: dict[Address, float] = {}
        #: How often an address has come to this node and left it.
        self.came = self.left = 0
        #: Whether the table has to follow.
        self.changed = False
        #: Addresses and the pods' own; the pods' own and what they send from.
        self.translated: frozenset[tuple[Address, Address]] = frozenset()
        self.sources: frozenset[tuple[Address, Address]] = frozenset()

    @property
    def announced(self) -> frozenset[Prefix]:
        """The host prefixes that this node announces."""
        parting = (address for address, each in self._parting.items() if each.announced)
        return frozenset(map(host_prefix, (*self.held, *parting)))

    def holdings(self) -> Iterable[Holding]:
        """What came of every claim in the cluster."""
        return holdings_of(self._book) if self._book is not None else ()

    def at(self, address: Address) -> Iterator[Holding]:
        """What came of every claim to an address."""
        if self._book is not None:
            yield from self._book.claims_to(address)

    # --- what is declared --------------------------------------------------------------------------------

    def note(self, kind: Kind, name: ObjectName, fact: Fact | None) -> None:
        """An object as it is now."""
        book = self._book
        if book is None:
            return
        match kind:
            case Kind.POD:
                book.put_pod(name, fact if isinstance(fact, Pod) else None)
            case Kind.NAMESPACE:
                book.put_namespace(name.name, fact.labels if isinstance(fact, Namespace) else {})
            case Kind.NODE:
                book.put_node(name.name, fact if isinstance(fact, Node) else None)
            case Kind.FLOATING_IP:
                book.put_floating(name, fact if isinstance(fact, FloatingIp) else None)

    def settle(self, state: ClusterState, *, changed: bool, services: bool) -> frozenset[Prefix]:
        """Decide what was touched; the prefixes of which this node announces others than before.

        `changed`: more than single objects may be another; `services`: their addresses are.
        """
        before = self.announced
        if changed:
            self._follow(state)
        if self._book is None:
            return frozenset()
        if changed or services:
            self._look_at_others(self._book)
        moved = self._book.settle()
        if self._begun and not moved and not self._parting:  # as with most passes
            return frozenset()
        if not self._begun:  # of what an agent before us has translated nothing is known
            self._begun = True
            self._stale |= dict.fromkeys(self._book.addresses)
        self._hold({key: each for key, each in self._book.holdings.items() if each.node == self._me})
        return before ^ self.announced

    def _follow(self, state: ClusterState) -> None:
        if any_floating(state) or (state.floating and self._book is not None):
            if self._book is None:
                self._book = FloatingBook(self._taken)
                fill(self._book, state)
            else:
                follow(self._book, state)
        elif self._book is not None:
            # The book first: what it says last is that this node's pods have them.
            self._book, self._was_taken, self._begun = None, {}, False
            self._parting.clear()
            self._hold({})

    def _look_at_others(self, book: FloatingBook) -> None:
        """Have claims judged again to what a service, node or block has got or given up."""
        now = {address: self._taken(address) for address in book.addresses}
        book.look_at(address for address, found in now.items() if self._was_taken.get(address) != found)
        self._was_taken = dict(now)

    def _hold(self, held: dict[Address, Holding]) -> None:
        """Take over what this node's pods have."""
        for address, before in self.held.items():
            now = held.get(address)
            if now is None:
                self.left += 1
                other = self._book.holdings.get(address) if self._book is not None else None
                log.info("%s: no longer of pod %s%s", address, before.pod, _where(other))
                if other is None:
                    self._stale[address] = None
                else:
                    self._part(address, before)
            elif now.target != before.target:
                self._stale[address] = now.target
                log.info("%s: pod %s has it, after pod %s", address, now.pod, before.pod)
        for address, now in held.items():
            if address not in self.held:
                self.came += 1
                self._stale[address] = now.target
                self._parting.pop(address, None)
                log.info("%s: pod %s has it (%s)", address, now.pod, now.by)
        self.held = held
        moment = self._loop.time()
        self._since = {address: self._since.get(address, moment) for address in held}
        self._go_on_parting()
        pairs = [(each.address, each.target) for each in held.values()]
        pairs += [(address, each.target) for address, each in self._parting.items()]
        translated = frozenset((address, target) for address, target in pairs if target is not None)
        sources = frozenset(sources_of(held.values()).items())
        if (translated, sources) != (self.translated, self.sources):
            self.translated, self.sources, self.changed = translated, sources, True

    def _part(self, address: Address, before: Holding) -> None:
        """A pod of another node has it now."""
        target = before.target if self._runs(before) else None
        self._stale[address] = target
        self._parting[address] = _Parting(self._loop.time() + LINGER, before, target)
        self._loop.call_later(LINGER, self._wake)

    def _runs(self, before: Holding) -> bool:
        """Whether the pod that had an address is still there."""
        book, pod = self._book, before.pod
        return book is not None and pod is not None and book.runs(pod, before.target)

    def _go_on_parting(self) -> None:
        now, book = self._loop.time(), self._book
        for address, each in list(self._parting.items()):
            if book is None or address not in book.holdings:  # nobody has it any more
                each.until, each.target = now, None
            if each.target is not None and not self._runs(each.before):
                each.target = None
            if each.announced and (each.until <= now or self._heard(host_prefix(address))):
                each.announced, each.until = False, now + TAIL
                if each.target is not None:
                    self._loop.call_later(TAIL, self._wake)
            if not each.announced and (each.target is None or each.until <= now):
                del self._parting[address]
                self._stale[address] = None

    # --- connections -------------------------------------------------------------------------------------

    async def forget(self) -> None:
        """After the table: connections go on as they began, also to a pod that is gone."""
        due, self._stale = self._stale, {}
        if not due:
            return
        try:
            await asyncio.to_thread(self._connections.forget_floating, due)
        except KernelError as err:  # tried again with the next pass that looks for drift
            self._stale = due | self._stale
            if self._problems.get(PART) != str(err):
                log.error("connections of floating addresses: %s", err)
            self._problems[PART] = str(err)
            return
        self._problems.pop(PART, None)

    def status(self) -> Mapping[str, Any]:
        """What this node's pods have, and for how long as far as this agent knows; how often an address came
        and left."""
        held = sorted(self.held.values(), key=lambda each: address_order(each.address))
        rows = [
            {
                "address": str(each.address),
                "by": str(each.by),
                "pod": str(each.pod),
                "podAddress": str(each.target),
                "sinceSeconds": round(self._loop.time() - self._since[each.address], 1),
            }
            for each in held
        ]
        return {"held": rows, "came": self.came, "left": self.left}


def _where(other: Holding | None) -> str:
    return f"; pod {other.pod} on {other.node} has it" if other is not None else ""
