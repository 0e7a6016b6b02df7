"""With which addresses pods leave the cluster: what this node has to do of it.

Who holds an address follows from what is declared, and from which nodes can be reached (agent/reachable.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from l3net.addresses import address_order, host_prefix
from l3net.agent.reachable import Reachable
from l3net.egress.book import HERE, Attachment, EgressBook
from l3net.egress.declared import fill, floating_in, follow, holdings_of, taken_by
from l3net.egress.holding import EgressHolding
from l3net.errors import KernelError
from l3net.floating.declared import Blocks, hosts
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
    Tracked,
)
from l3net.policy.attached import Attached
from l3net.ports import Connections

log = logging.getLogger("l3net.egress")

#: Seconds for which an address that another node holds is announced here still, if that node's announcement
#: is not heard meanwhile.
LINGER: Final = 0.15
#: Seconds for which answers may be under way to a pod by connections that are not translated here. One that
#: came after the end of its connection would begin one from outside, by which the pod answers as itself.
ANSWERS: Final = 0.3
#: Seconds between counting connections.
COUNT: Final = 30.0
#: Its name in the status.
PART: Final = "egress connections"
KINDS: Final = frozenset((Kind.POD, Kind.NAMESPACE, Kind.NODE, Kind.EGRESS_IP))


class Egress:
    """`note` what is declared, `settle` what follows. `is_service`: whether a service has an address;
    `heard`: whether a peer announces a prefix; `reachable`: which nodes are away; `wake` has a pass look
    again. `said` as for takes_part."""

    def __init__(
        self,
        me: str,
        connections: Connections,
        problems: dict[str, str],
        is_service: Callable[[Address], bool],
        heard: Callable[[Prefix], bool],
        reachable: Reachable,
        wake: Callable[[], None],
        *,
        said: bool,
    ) -> None:
        self._me, self._said = me, said
        self._connections, self._problems = connections, problems
        self._is_service, self._heard, self.reachable = is_service, heard, reachable
        self._wake, self._loop = wake, asyncio.get_running_loop()
        self._taken = taken_by(self._of_service, self._is_host, self._in_block, self._is_floating)
        self._book: EgressBook | None = None  # where there are EgressIPs
        self._of_hosts: frozenset[Address] = frozenset()
        self._floating: frozenset[Address] = frozenset()
        self._blocks = Blocks()
        self._ranges: tuple[Prefix, ...] = ()
        self._was_taken: Mapping[Address, object] = {}
        self._handed: deque[tuple[str, Attached | None]] = deque()
        self._attached: dict[str, Attached] = {}
        self._stale: set[Address] = set()  # pods whose connections have to be looked at
        self._later: dict[Address, float] = {}  # pods, and when the rest of their connections ends
        self._waits = asyncio.Event()
        self._inside: Collection[Prefix] = ()
        #: Addresses whose connections went on at another node meanwhile: what is known of them is old.
        self._renewed: set[Address] = set()
        #: Addresses that another node holds by now, and until when this one announces them still.
        self._parting: dict[Address, float] = {}
        #: Whether the table has to follow.
        self.changed = False
        self.paths: EgressPaths = NO_EGRESS
        self._since: dict[Address, float] = {}
        #: How often an address has come to this node and left it.
        self.came = self.left = 0
        #: As counted last, by address.
        self.connections: Mapping[str, int] = {}

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
        self._of_hosts = hosts(state.nodes.values(), state.peers.values())
        self._blocks = Blocks(state.nodes.values())
        self._ranges = state.service_ranges
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

    def _of_service(self, address: Address) -> bool:
        return self._is_service(address) or any(address in each for each in self._ranges)

    def _is_host(self, address: Address) -> bool:
        return address in self._of_hosts

    def _in_block(self, address: Address) -> bool:
        return address in self._blocks

    def _is_floating(self, address: Address) -> bool:
        return address in self._floating

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
        for was, now in ((before.own, paths.own), (before.others, paths.others)):
            self._stale.update(pod for pod in was.keys() | now.keys() if was.get(pod) != now.get(pod))
        for address in sorted(paths.held - before.held, key=address_order):
            self.came += 1
            if before.wanted:  # else the agent has just begun, and the kernel went on without it
                self._renewed.add(address)
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
        if self.paths.held:
            self._renewed |= self.paths.held
            self.changed = True
            self._wake()

    def _go_on_parting(self) -> None:
        """So that routers are not without a way: until the other node announces it, or shortly."""
        now = self._loop.time()
        for address, until in list(self._parting.items()):
            if address in self.paths.held or until <= now or self._heard(host_prefix(address)):
                del self._parting[address]

    # --- connections -------------------------------------------------------------------------------------

    async def forget(self, inside: Collection[Prefix]) -> None:
        """After the table: connections of a pod go on as they began, with another address than it is to leave
        with. They end; a segment of one is answered with a reset by the other end, which knows it no more.
        Those of an address that was elsewhere meanwhile are begun anew, in their middle: of what was known of
        them nothing is true any more, and their segments would be out of every window."""
        self._inside = inside
        due, self._stale = self._stale, set()
        renewed, self._renewed = self._renewed, set()
        if due or renewed:
            await self._end(due, renewed, late=False)

    async def _end(self, due: set[Address], renewed: set[Address], *, late: bool) -> None:
        """End what leaves wrong, and what is `renewed`. Unless it is `late`, that which is not translated has
        some time: the table lets none of it out."""
        try:
            tracked = await asyncio.to_thread(self._connections.of, due)
            wrong = [
                each
                for each in tracked
                if each.source in due and leaves_wrong(each, self.paths, self._inside)
            ]
            ended = [each for each in wrong if late or each.seen_as != each.source]
            waits = [] if late else [each for each in wrong if each.seen_as == each.source]
            ended += await asyncio.to_thread(self._connections.seen_as, renewed)
            await asyncio.to_thread(self._connections.end, ended)
        except KernelError as err:  # tried again with the next pass that looks for drift
            self._stale |= due
            self._renewed |= renewed
            if self._problems.get(PART) != str(err):
                log.error("connections that leave the cluster: %s", err)
            self._problems[PART] = str(err)
            return
        self._problems.pop(PART, None)
        if waits:
            at = self._loop.time() + ANSWERS
            self._later |= dict.fromkeys((each.source for each in waits), at)
            self._waits.set()
        if ended:
            log.info("%d tracked connections of egress addresses deleted", len(ended))

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
                await self._end(ripe, set(), late=True)
            if counted + COUNT <= now:
                counted = now
                await self.count()

    async def count(self) -> None:
        """How many connections leave with each address that this node holds."""
        paths = self.paths
        found = Counter[str]({str(each): 0 for each in paths.held})
        if paths.held:
            try:
                tracked = await asyncio.to_thread(self._connections.seen_as, paths.held)
            except KernelError as err:
                log.warning("connections of egress addresses cannot be counted: %s", err)
                return
            found.update(str(each.seen_as) for each in tracked)
        self.connections = found

    def status(self) -> Mapping[str, Any]:
        """What this node holds, and for how long as far as this agent knows; how many of its pods leave with
        an address of an EgressIP."""
        rows = [
            {
                "address": str(each.address),
                "by": each.by,
                "connections": self.connections.get(str(each.address), 0),
                "sinceSeconds": round(self._loop.time() - self._since[each.address], 1),
            }
            for each in self.holdings()
            if each.held and each.address in self._since
        ]
        return {"held": rows, "pods": len(self.paths.own), "came": self.came, "left": self.left}


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
