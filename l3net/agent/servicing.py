"""The agent's services: decided where something changed, and the flows that a change leaves behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from l3net.agent.egress import Egress
from l3net.agent.egress_ways import Ways
from l3net.agent.enveloping import Enveloping
from l3net.agent.floating import Floating
from l3net.agent.servicecounting import ServiceCounting
from l3net.agent.snat import Snat
from l3net.agent.table import Table
from l3net.errors import KernelError
from l3net.firewall.facts import FirewallPlan, plan
from l3net.firewall.handing import HANDING
from l3net.firewall.policycontents import NO_POLICY, PolicyContents
from l3net.firewall.ranking import sizes, wanted_slots
from l3net.firewall.sticky import remembered_of
from l3net.metering.histogram import Histogram
from l3net.model import (
    NO_EGRESS,
    NODE_PORTS,
    ClusterState,
    EndpointSlice,
    Fact,
    Kind,
    Node,
    ObjectName,
    Prefix,
    ServerKey,
    Service,
    Stale,
    VirtualServer,
    is_node_port,
)
from l3net.naming import PROTOCOL_NUMBERS
from l3net.ports import Connections, Firewall, ServiceCounters
from l3net.services.book import ServiceBook, Settled
from l3net.services.endpoints import here

log = logging.getLogger("l3net.services")

TCP = "tcp"


class Servicing:
    """`note` what changed, `settle` what follows. `problems` is where a refusal of the kernel is told."""

    def __init__(
        self,
        me: str,
        firewall: Firewall,
        connections: Connections,
        problems: dict[str, str],
        policy: PolicyContents = NO_POLICY,
        closed_ports: frozenset[tuple[str, int]] = frozenset(),
        open_ports: frozenset[tuple[str, int]] = frozenset(),
        enveloping: Enveloping | None = None,
        counters: ServiceCounters | None = None,
    ) -> None:
        self._me = me
        self._enveloping = enveloping
        self._spreading = False  # as of the plan wanted last
        self._took = False
        #: Called when this node takes what others hand on, or does no more.
        self.on_taking: Callable[[], None] = lambda: None
        self._closed_ports, self._open_ports = closed_ports, open_ports
        self._now = asyncio.get_running_loop().time
        self._in_thread = asyncio.to_thread
        self.table = Table(firewall, problems, self._in_thread, self._now)
        self._policy = policy
        self._connections = connections
        self._stale: dict[ServerKey, Stale] = {}  # whose connections are to be forgotten
        self._problems = problems
        self._rest: FirewallPlan | None = None  # the plan wanted last but for its servers
        self._ports_on: frozenset[Prefix] = frozenset()  # where NodePorts are
        self._heard: float | None = None  # when the first change was that is not dealt with
        self.floating: Floating | None = None  # what is translated beside services
        self.egress: Egress | None = None
        self.snat: Snat | None = None
        self.ways: Ways | None = None
        self.serving = True  # whether what is settled is to be in force: l3net is the service proxy
        self._served: bool | None = None  # whether it is
        self.error_port = 0  # by which ICMP errors are handed on, 0: they are not
        self.latency, self.kernel_latency = Histogram(), Histogram()
        self.book = ServiceBook()
        self.counting = ServiceCounting(counters, self.in_force, self.book.owner)

    @property
    def forgetful(self) -> int:
        """How many sticky servers there are beyond those whose clients the table remembers."""
        sticky = [server for server in self._servers.values() if server.affinity]
        return len(sticky) - len(remembered_of(sticky))

    @property
    def withheld(self) -> list[tuple[str, int]]:
        """NodePorts that are not served, since the node itself answers to their number: protocol and port."""
        return sorted(each for each in self.own_ports if self.is_node_port(*each))

    @property
    def inside(self) -> frozenset[Prefix]:
        """What lies in the cluster."""
        return self._rest.inside if self._rest is not None else frozenset()

    @property
    def own_ports(self) -> frozenset[tuple[str, int]]:
        """What the node itself answers, protocol and port."""
        return self._rest.own_ports if self._rest is not None else frozenset()

    def is_node_port(self, protocol: str, port: int) -> bool:
        """Whether a service has it, in either family."""
        return any((wildcard, protocol, port) in self.book.servers for wildcard in NODE_PORTS.values())

    @property
    def spread(self) -> dict[str, int]:
        """Of servers for which every node chooses alike: how many there are, their slots, and how many have
        fewer than they want."""
        endpoints = self.book.spread_endpoints()
        slots = sizes(endpoints)
        short = sum(slots[key] < wanted_slots(count) for key, count in endpoints.items())
        return {"servers": len(slots), "slots": sum(slots.values()), "short": short}

    @property
    def takes_handed_on(self) -> bool:
        """Whether this node takes what others hand on to it: its tables and its device are in force."""
        there = self._enveloping is not None and self._enveloping.there
        return there and self._spreading and self.table.known and not self.table.refusal(HANDING.name)

    # --- decisions ---------------------------------------------------------------------------------------

    def note(self, kind: Kind, name: ObjectName, fact: Fact | None) -> None:
        """A Service or EndpointSlice as it is now."""
        if self._heard is None:
            self._heard = self._now()
        if kind is Kind.SERVICE:
            self.book.put_service(name, fact if isinstance(fact, Service) else None)
        elif kind is Kind.ENDPOINT_SLICE:
            self.book.put_slice(name, fact if isinstance(fact, EndpointSlice) else None)

    def note_node(self, name: str, node: Fact | None) -> None:
        """A Node as it is now, of whom services may not have an address."""
        self.book.put_node(name, node if isinstance(node, Node) else None)

    def settle(self, state: ClusterState, *, draining: bool = False) -> Settled:
        """Decide what was touched, as this node and the policy are now."""
        node = here(state.nodes, self._me, draining=draining, drain=state.configuration.drain)
        self.book.stand(node, state.configuration.advertise)
        return self.book.settle()

    def hands_on(self, port: int) -> bool:
        """By which port ICMP errors are handed on, 0 for none; whether that is another than before."""
        before, self.error_port = self.error_port, port
        return port != before

    def _in_force(self) -> None:
        """What was settled is in the kernel, unless it refused a part of it."""
        if self._heard is not None:
            self.kernel_latency.observe(self._now() - self._heard)

    def done(self) -> None:
        """What was settled is in the kernel and on its way to the peers."""
        if self._heard is not None:
            self.latency.observe(self._now() - self._heard)
            self._heard = None

    def doubt(self) -> None:
        """What is in force is not known any more: the table is replaced as a whole."""
        self.table.doubt()

    # --- kernel ------------------------------------------------------------------------------------------

    def touched(self, generation: int | None) -> None:
        """The table was changed, by whomever: see ports.Firewall."""
        self.table.touched(generation)

    async def apply(self, state: ClusterState, settled: Settled, *, rest: bool, check: bool) -> None:
        """Bring the table to what is wanted, and have flows follow it.

        `rest`: more than services may have changed. `check`: see whether someone else changed the table.
        """
        wanted, switched = self._rest, self.serving is not self._served
        spreading = self.serving and self.book.spread > 0
        spreading |= self.egress is not None and self.egress.wanted
        again = (check and spreading) or spreading != self._spreading
        if rest or wanted is None or switched or again:
            self._spreading = spreading
            self._rest = wanted = plan(
                state,
                self._me,
                (),
                error_port=self.error_port,
                policy=self._policy,
                closed_ports=self._closed_ports,
                open_ports=self._open_ports,
                serving=self.serving,
                envelope=self._enveloping.follow(state, wanted=spreading) if self._enveloping else None,
                floating=self.floating.translated if self.floating is not None else frozenset(),
                floating_sources=self.floating.sources if self.floating is not None else frozenset(),
                egress=self.egress.paths if self.egress is not None else NO_EGRESS,
                snat_addresses=self.snat.used if self.snat is not None else (),
            )
            if self.ways is not None:
                if check:
                    self.ways.doubt()
                self.ways.begin(wanted.egress, wanted.envelope)
        if on_others := self.serving and self._ports_on != wanted.ports_on:
            self._ports_on = wanted.ports_on
            self._anew({key for key in self.book.servers if not is_node_port(key)})
        changed = self._changed(settled, switched=switched)
        self._served = self.serving
        anew = await self.table.follow(wanted, self._servers, changed, check=check)
        if anew:
            self._anew(changed)
        if switched or on_others:
            self.counting.look()
        elif self.serving:
            others = {
                key: new is not None
                for key, (old, new) in settled.servers.items()
                if (old is None) is not (new is None)
            }
            if others:
                self.counting.look(others)
        if self.table.known:
            self._in_force()
            await self._forget()
            if self.ways is not None:
                self.ways.end(wanted.egress, wanted.envelope)
            if wanted.envelope is None and not spreading and self._enveloping is not None:
                self._enveloping.end()

        if self.takes_handed_on is not self._took:
            self._took = not self._took
            self.on_taking()

    def in_force(self) -> tuple[Mapping[ServerKey, VirtualServer], frozenset[Prefix]]:
        """The servers that are to be in force, and where NodePorts are."""
        return self._servers, self._ports_on

    @property
    def _servers(self) -> Mapping[ServerKey, VirtualServer]:
        """Those that are to be in force: all or none."""
        return self.book.servers if self._served else {}

    def _changed(self, settled: Settled, *, switched: bool) -> dict[ServerKey, VirtualServer | None]:
        """The servers that are to be others from now on; whose flows follow is noted.

        Where another proxy takes over, flows go on as they are: they are its own by now. Where l3net takes
        over, those go on that lead to an endpoint, whoever translated them.
        """
        if not self.serving:
            self._stale.clear()
            return dict.fromkeys((*settled.servers, *self.book.servers)) if switched else {}
        for key, (before, now) in settled.servers.items():
            self._outdate(key, before, now)
        changed = {key: now for key, (_, now) in settled.servers.items()}
        if switched:
            self._anew(changed)
            changed |= self.book.servers
        return changed

    async def follow_policy(self) -> None:
        """Bring the table to the policies that there are by now, and to nothing else that is new."""
        rest = self._rest
        if rest is None:
            return
        if self.egress is not None and self.egress.refresh():
            self._rest = rest = replace(rest, egress=self.egress.paths)
            if self.ways is not None:
                self.ways.begin(rest.egress, rest.envelope)
        if await self.table.follow(rest, self._servers, {}, check=False):
            self._anew({})

    def _anew(self, changed: Collection[ServerKey]) -> None:
        """The table was made anew, or NodePorts are on other addresses: of all servers but these it is not
        known what translated their flows."""
        for key, server in self.book.servers.items() if self.serving else ():
            if key not in changed:
                self._outdate(key, None, server)

    def _outdate(self, key: ServerKey, before: VirtualServer | None, now: VirtualServer | None) -> None:
        """Note whose flows go on as they began, though the translation is another. Not of TCP: a connection
        ends with its endpoint, and a new one is translated anew. But one that began while nothing translated
        it, before there was a server or while the table was gone, would knock in vain until its client gives
        up."""
        if key[1] != TCP:
            self._stale[key] = stale_of(key, now, self._ports_on)
        elif before is None and now is not None and (now.internal or now.external):
            self._stale[key] = stale_of(key, None, self._ports_on, untouched=True)

    async def _forget(self) -> None:
        """After the table: a flow that begins meanwhile is translated as it should be."""
        due = {key: stale for key, stale in self._stale.items() if not self.table.waits(key)}
        if not due:
            return
        try:
            await self._in_thread(self._connections.forget, tuple(due.values()))
        except KernelError as err:  # tried again by the pass after a second (`dirty.PARTS`), later each time
            if self._problems.get("connections") != str(err):
                log.error("connections of changed services: %s", err)
            self._problems["connections"] = str(err)
            return
        for key in due:
            del self._stale[key]
        self._problems.pop("connections", None)


def stale_of(
    key: ServerKey,
    server: VirtualServer | None,
    ports_on: Collection[Prefix] = frozenset(),
    *,
    untouched: bool = False,
) -> Stale:
    """The connections to an address and port that none of its endpoints answers, or no longer should; those
    that nothing has translated, where they are `untouched`. `ports_on`: where NodePorts are."""
    address, protocol, port = key
    lasting = (*server.internal, *server.external, *server.lasting) if server is not None else ()
    kept = frozenset((backend.address, backend.port) for backend in lasting)
    number = PROTOCOL_NUMBERS[protocol]
    if is_node_port(key):
        own_in = frozenset(each for each in ports_on if each.version == address.version)
        return Stale(number, port=port, kept=kept, own_in=own_in, untouched=untouched)
    return Stale(number, frozenset({address}), port, kept=kept, untouched=untouched)
