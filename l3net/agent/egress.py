"""With which addresses pods leave the cluster: what this node has to do of it.

Who holds an address follows from what is declared, and from which nodes can be reached (agent/reachable.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from l3net.addresses import address_order, host_prefix
from l3net.agent.egress_connections import Leaving, rule_for
from l3net.agent.reachable import Reachable
from l3net.egress.book import HERE, Attachment, EgressBook
from l3net.egress.declared import fill, floating_in, holdings_of, taken_by
from l3net.egress.holding import EgressHolding
from l3net.floating.declared import Occupied, follow
from l3net.model import (
    NO_EGRESS,
    Address,
    ClusterState,
    EgressIp,
    EgressPaths,
    EgressRule,
    EgressRules,
    Fact,
    Kind,
    Namespace,
    Node,
    ObjectName,
    Pod,
    Prefix,
)
from l3net.policy.attached import Attached
from l3net.ports import Connections

log = logging.getLogger("l3net.egress")

#: Seconds for which an address that another node holds is announced here still, if that node's announcement
#: is not heard meanwhile.
LINGER: Final = 0.15
KINDS: Final = frozenset((Kind.POD, Kind.NAMESPACE, Kind.NODE, Kind.EGRESS_IP))


class Egress:
    """`note` what is declared, `settle` what follows. `occupied`: what else has an address;
    `heard`: whether a peer announces a prefix; `reachable`: which nodes are away; `wake` has a pass look
    again. `said` as for takes_part."""

    def __init__(
        self,
        me: str,
        connections: Connections,
        problems: dict[str, str],
        occupied: Occupied,
        heard: Callable[[Prefix], bool],
        reachable: Reachable,
        wake: Callable[[], None],
        *,
        said: bool,
    ) -> None:
        self._me, self._said = me, said
        self.leaving = Leaving(connections, problems)
        self._heard, self.reachable = heard, reachable
        self._wake, self._loop = wake, asyncio.get_running_loop()
        self._taken = taken_by(occupied, lambda address: address in self._floating)
        self._book: EgressBook | None = None  # where there are EgressIPs
        self._floating: frozenset[Address] = frozenset()
        self._was_taken: Mapping[Address, object] = {}
        self._handed: deque[tuple[str, Attached | None]] = deque()
        self._attached: dict[str, Attached] = {}
        #: Addresses that another node holds by now, and until when this one announces them still.
        self._parting: dict[Address, float] = {}
        #: Whether the table has to follow.
        self.changed = False
        self.paths: EgressPaths = NO_EGRESS
        self._since: dict[Address, float] = {}
        #: How often an address has come to this node and left it.
        self.came = self.left = 0

    @property
    def announced(self) -> frozenset[Prefix]:
        """The host prefixes that this node announces."""
        return frozenset(map(host_prefix, (*self.paths.held, *self._parting)))

    def holdings(self) -> Iterable[EgressHolding]:
        """What came of every address."""
        return holdings_of(self._book) if self._book is not None else ()

    def at(self, address: Address) -> Iterator[EgressHolding]:
        """What came of an address, for every EgressIP that has it."""
        yield from (each for each in self.holdings() if each.address == address)

    def rule_for(self, pod: Address, destination: Address) -> EgressRule | None:
        """The rule for what a pod sends to an address outside the cluster."""
        rules = self._book.rules.get(pod, ()) if self._book is not None else ()
        return rule_for(rules, destination)

    def unheld(self, name: str, version: int) -> str:
        """Why nobody holds an address of an EgressIP, of one family."""
        those = self._book.holdings.get(name, ()) if self._book is not None else ()
        return "; ".join(each.why for each in those if not each.held and each.address.version == version)

    # --- attachments, from any thread --------------------------------------------------------------------

    def hand(self, key: str, attached: Attached | None) -> None:
        """An attachment that is about to be made, or gone (None)."""
        self._handed.append((key, attached))

    @property
    def wanted(self) -> bool:
        """Whether a pod has to wait until it is known with which address it leaves. From any thread."""
        return self._book is not None

    def refresh(self) -> bool:
        """Take in attachments alone; whether the table has to follow."""
        self._take_in()
        if self._book is not None and self._book.settle():
            self._take_over(self._book)
        return self.changed

    def _take_in(self) -> None:
        while self._handed:
            key, attached = self._handed.popleft()
            before = self._attached.pop(key, None)
            if attached is not None:
                self._attached[key] = attached
            if self._book is not None:
                for each in (before, attached):
                    if each is not None:
                        self._book.attach(each.pod, self._of_pod(each.pod))

    def _of_pod(self, pod: ObjectName) -> Attachment | None:
        its = [each for each in self._attached.values() if each.pod == pod]
        if not its:
            return None
        return Attachment(tuple(address for each in its for address in each.addresses), its[0].labels)

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
                book.put_namespace(name.name, fact.labels if isinstance(fact, Namespace) else None)
            case Kind.NODE:
                book.put_node(name.name, fact if isinstance(fact, Node) else None)
            case Kind.EGRESS_IP:
                book.put_egress(name.name, fact if isinstance(fact, EgressIp) else None)

    def settle(
        self, state: ClusterState, *, changed: bool, services: bool, touched: Collection[Prefix]
    ) -> frozenset[Prefix]:
        """Decide what was touched; the prefixes of which this node announces others than before.

        `changed`: more than single objects may be another; `services`: their addresses are; `touched`: what
        peers announce of these prefixes may be.
        """
        before = self.announced
        self._take_in()
        if changed:
            self._follow(state)
        if self._book is None:
            return before ^ self.announced
        if changed or services:
            self._look_at_others(self._book)
        self.reachable.look(touched)
        self._book.lose(self.reachable.lost)
        if self._book.settle():
            self._take_over(self._book)
        self._go_on_parting()
        return before ^ self.announced

    def _follow(self, state: ClusterState) -> None:
        if not state.egress:
            if self._book is not None:
                self._book = None
                self.reachable.follow({})
                self._parting.clear()
                self._hold(NO_EGRESS)
            return
        self._floating = floating_in(state)
        self.reachable.follow({name: node.blocks for name, node in state.nodes.items() if name != self._me})
        if self._book is None:
            self._book = EgressBook(self._taken, said=self._said)
            fill(self._book, state)
            for each in self._attached.values():
                self._book.attach(each.pod, self._of_pod(each.pod))
        else:
            follow(self._book, state)

    def _look_at_others(self, book: EgressBook) -> None:
        """Have addresses judged again of which a service, node or block has got one or given it up."""
        now = {address: self._taken(address) for address in book.addresses}
        if now != self._was_taken:
            book.look_again()
        self._was_taken = now

    def _take_over(self, book: EgressBook) -> None:
        held = frozenset(each.address for each in holdings_of(book) if each.held and each.node == self._me)
        own: dict[Address, EgressRules] = {}
        others: dict[Address, EgressRules] = {}
        for address, rules in book.rules.items():
            if book.node_of(address) in (HERE, self._me):
                own[address] = rules
            elif any(rule.address in held for rule in rules):
                others[address] = rules
        self._hold(EgressPaths(True, own, others, held))

    def _hold(self, paths: EgressPaths) -> None:
        before = self.paths
        if paths == before:
            return
        self.leaving.take(paths)
        for address in sorted(paths.held - before.held, key=address_order):
            self.came += 1
            log.info("%s: this node holds it", address)
        for address in sorted(before.held - paths.held, key=address_order):
            self.left += 1
            log.info("%s: this node holds it no longer", address)
            if paths.wanted:
                self._parting[address] = self._loop.time() + LINGER
                self._loop.call_later(LINGER, self._wake)
        moment = self._loop.time()
        self._since = {address: self._since.get(address, moment) for address in paths.held}
        self.paths, self.changed = paths, True

    def returned(self) -> None:
        """A session has come up: this node may have been cut off, and another have held its addresses."""
        if self.leaving.returned():
            self.changed = True
            self._wake()

    def _go_on_parting(self) -> None:
        """So that routers are not without a way: until the other node announces it, or shortly."""
        now = self._loop.time()
        for address, until in list(self._parting.items()):
            if address in self.paths.held or until <= now or self._heard(host_prefix(address)):
                del self._parting[address]

    def status(self) -> Mapping[str, Any]:
        """What this node holds, and for how long as far as this agent knows; how many of its pods leave with
        an address of an EgressIP."""
        rows = [
            {
                "address": str(each.address),
                "by": each.by,
                "connections": self.leaving.counts.get(str(each.address), 0),
                "sinceSeconds": round(self._loop.time() - self._since[each.address], 1),
            }
            for each in self.holdings()
            if each.held and each.address in self._since
        ]
        return {"held": rows, "pods": len(self.paths.own), "came": self.came, "left": self.left}
