"""The node loop: an event marks things dirty, a short quiet time batches them, a pass reconciles them.

A pass puts the kernel right first and announces afterwards, so that no peer sends what this node cannot
deliver yet. A timer marks everything dirty now and then, to catch drift no notification told of.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping

from l3net.agent.allowing import Allowing
from l3net.agent.announcing import Announcing
from l3net.agent.bfd import Liveness
from l3net.agent.dirty import PARTS, Dirty, Marks, of_parts
from l3net.agent.draining import Draining
from l3net.agent.enveloping import Enveloping
from l3net.agent.following import DECLARED, Following
from l3net.agent.healthchecks import HealthChecks, eligible
from l3net.agent.judging import Judging
from l3net.agent.kernel import KernelSide
from l3net.agent.leaving import Leaving
from l3net.agent.monitoring.monitoring import Monitoring
from l3net.agent.moving import Moving
from l3net.agent.noticing import Noticing
from l3net.agent.noting import Noting
from l3net.agent.podnet import PodNet, uplinks
from l3net.agent.policing import Policing
from l3net.agent.proxying import Proxying
from l3net.agent.routing import Routing
from l3net.agent.servicing import Servicing
from l3net.agent.shells import Shells
from l3net.agent.speaker.held_sessions import HeldSessions
from l3net.agent.speaker.speaking import FOUND_BY, Speaking
from l3net.agent.supervising import Retry, kept_up, unforeseen
from l3net.bgp.drain import Stage
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.sessions import Sessions
from l3net.config import AgentSettings
from l3net.metering.histogram import Histogram
from l3net.model import ClusterState, Kind, Prefix
from l3net.ports import Changed, RouteKey, View
from l3net.retry import until_beat
from l3net.services.book import Settled
from l3net.services.verdicts import ServiceVerdict

log = logging.getLogger("l3net.agent")

#: Between a withdrawal and the firewall's end of the service. It also leaves the processors to the speaker.
PEERS_FIRST = 0.005
RESYNC = 30.0
#: The part of the agent that a pass is.
ROUND = "pass"
#: How long a kernel route that no path accounts for is kept once the sessions are known and the speaker is
#: there, in seconds.
LEARNED_GRACE = 120.0


class Agent:
    """One node. `run` ends when cancelled; everything it made in the kernel and at the peers stays."""

    def __init__(self, settings: AgentSettings, shells: Shells) -> None:
        kernel, me = shells.kernel, settings.node_name
        self.node_name = me
        self.shells, self.pods = shells, shells.pods
        self.faults, self.errors = shells.pods.faults, kernel.errors
        self._marks = marks = Marks()
        self._retry = Retry(lambda parts: marks.mark(of_parts(parts)))
        self.passes = self.failed_passes = 0
        self.pass_seconds = Histogram()
        self.declared = Following(
            shells.datastore, me, self.faults, self._note, lambda: marks.mark(Dirty.ALL)
        )
        self.draining = Draining(shells.drain)
        self._judging = Judging()
        self.rib = LocRib(self._judging, self._judging.of_all)
        self.kernel = KernelSide(kernel.routes, kernel.bridges)
        self.routing = Routing(self.kernel, kernel.underlay, self.rib, marks.wake)
        self.podnet = PodNet(
            me, settings.mtu, shells.pods, self.kernel, settings.closed_ports | settings.asked_ports
        )
        self.policing = Policing(
            me, kernel, marks.wake, self.kernel.problems, self.faults, declares=shells.declares_pods
        )
        self.allowing = Allowing(me, shells.pods)
        self.enveloping = Enveloping(me, kernel.envelope, self.kernel.problems, said=shells.declares_pods)
        self.services = Servicing(
            me,
            *(kernel.firewall, kernel.connections),
            self.kernel.problems,
            self.policing.book.contents,
            *(settings.closed_ports, settings.asked_ports),
            self.enveloping,
            kernel.service_counters,
        )
        self.policing.stand_on(self.services.table, self.services.follow_policy)
        shells.pods.admission = self.policing
        self.moving = Moving(
            *(me, kernel, self.services, self.policing, self.kernel.problems),
            *(self.rib, lambda: self.speaking.peers.up_by_mesh, marks.wake),
            said=shells.declares_pods,
        )
        self.floating, self.egress = self.moving.floating, self.moving.egress
        self.checks = HealthChecks(
            *(shells.health, settings.health_port, self.services),
            lambda: eligible(self.state.nodes.get(me), self.draining.stage),
        )
        self.proxying = Proxying(shells.proxies, marks.look_again)
        self.errors.is_service = self.services.book.has_address
        self.speaking: Speaking = Speaking(shells.speaker, self.rib, marks.touch, self.faults)
        speaking, peers = self.speaking, self.speaking.peers
        self.bfd = Liveness(shells.bfd, peers.path_failed, peers.path_recovered, peers.path_held)
        speaking.hearing.on_established = self.moving.established(self.bfd.established)
        speaking.hearing.on_as_number = kernel.discovery.changed = peers.caught_up = marks.look_again
        self.monitoring = Monitoring(me, shells.collectors, speaking, self.rib, self.faults, shells.random)
        self.held = HeldSessions(
            me, speaking, self.routing, kernel.discovery, marks.look_again, guarded=shells.speaker.guarded
        )
        self.announcing = Announcing(
            *(me, speaking, self.routing, self.rib, self.services.book, self.floating, self.egress),
            *(self.faults, self._retry),
        )
        self.announcing.stage = lambda: self.draining.stage
        self._noting = Noting(self.services, self.policing, self.allowing, self.floating, self.egress, marks)
        self._leaving = Leaving(self.draining, speaking, marks)
        self._noticing = Noticing(self.kernel, self.services, shells.pods, marks)

    @property
    def state(self) -> ClusterState:
        """The declared state as far as it is known."""
        return self.declared.state

    @property
    def in_sync(self) -> bool:
        """Whether the declared state is complete."""
        return self.declared.in_sync

    @property
    def sessions(self) -> Sessions:
        """Those of now."""
        return self.held.now

    @property
    def views(self) -> Mapping[Kind, View]:
        """How old what is known of each kind is, where the datastore can tell."""
        return self.shells.views()

    @property
    def verdicts(self) -> Iterator[ServiceVerdict]:
        """Of every address of every service."""
        return self.services.book.verdicts()

    async def run(self) -> None:
        """Raises KernelError or LeaseStoreError when the node cannot be served at all."""
        loop, notices = asyncio.get_running_loop(), self.shells.kernel.notices
        loop.set_exception_handler(unforeseen(self.faults))
        loop.call_later(FOUND_BY, self._marks.look_again)
        loop.call_later(LEARNED_GRACE + FOUND_BY, self._marks.mark, Dirty.ROUTES)
        notices.start(self._noticing.heard)
        try:
            self.pods.start()
            self.policing.begin(self.pods.attached())
            try:
                self._relay_errors()
                self.kernel.read_routes()
                left = self.shells.memory.read()
                self.kernel.keep_until_heard(left)
                if self.proxying.begin(served=bool(left)):
                    self.checks.answer_for_node()
                parts = {
                    DECLARED: self.declared.run,
                    "passes": self._loop,
                    "resync": self._resync,
                    "wish to leave": self._leaving.hear,
                    "drain": self._leaving.see_out,
                    "health checks": self.checks.run,
                    "service proxy": self.proxying.run,
                    "BFD": self.bfd.run,
                    "BMP": self.monitoring.run,
                    "routes for the next agent": lambda: self.routing.remember(
                        self.shells.memory, lambda: self.in_sync and bool(self.passes)
                    ),
                    "connections of policies": self.policing.ending.run,
                    "counters of policies": self.policing.counting.run,
                    "counters of services": self.services.counting.run,
                    **self.moving.parts(),
                }
                await asyncio.gather(
                    self.speaking.run(), *(kept_up(part, run, self.faults) for part, run in parts.items())
                )
            finally:
                self.pods.stop()
                self.shells.kernel.discovery.close()
                self.errors.stop()
                self.policing.drops.stop()
        finally:
            notices.stop()

    def _relay_errors(self) -> None:
        """Start what hands on ICMP errors, unless it runs; a port that was taken may be free by now."""
        self.errors.start()
        if self.services.hands_on(self.errors.port):
            self._marks.look_again()

    # --- the loop ----------------------------------------------------------------------------------------

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(until_beat(asyncio.get_running_loop().time(), RESYNC))
            self._marks.mark(Dirty.DRIFT)

    async def finish(self) -> None:
        """The agent is to stop: see `Leaving.finish`. With nothing known, nothing has to be seen through."""
        if self.in_sync and not self.declared.holding():
            await self._leaving.finish(self.state)

    async def _loop(self) -> None:
        now = asyncio.get_running_loop().time
        await self.proxying.known.wait()
        while True:
            await self._marks.gathered()
            if not self.in_sync or self.declared.look_whether_to_hold() or not self.routing.sees():
                await self._hold(now())
                continue
            began = now()
            self.checks.health.begins()
            try:
                await self._reconcile()
            except Exception as err:
                # Nobody knows how far it came: the next one looks at everything.
                self.faults.note(ROUND, err)
                self._marks.touched.update(self.rib.prefixes())
                self.services.doubt()
                self._retry.failed(ROUND)
                self.failed_passes += 1
            else:
                self.faults.over(ROUND)
                self._retry.succeeded(ROUND)
            self.checks.pass_ends(failed=ROUND in self._retry)
            self._leaving.pass_ends()
            self.pass_seconds.observe(self._marks.passed() - began)
            self._retry.these(self.kernel.failed_parts, of=PARTS)

    async def _hold(self, now: float) -> None:
        """Until it is known what is wanted: a link that came back has its routes again."""
        self._retry.these(self.kernel.failed_parts, of=PARTS)
        if self._marks.dirty & (Dirty.ROUTES | Dirty.UNDERLAY) or self.kernel.refused.due(now):
            self._marks.dirty &= ~Dirty.ROUTES
            await self.routing.hold()

    # --- a pass ------------------------------------------------------------------------------------------

    async def _reconcile(self) -> None:
        dirty, touched = self._marks.take()
        state, announcing = self.state, self.announcing
        if Dirty.UNDERLAY in dirty and self.routing.read_underlay():
            dirty |= Dirty.STATE
            touched.update(self.rib.prefixes())
        if self.podnet.retain(state, changed=Dirty.STATE in dirty):
            dirty |= Dirty.STATE
        if Dirty.STATE in dirty:
            self._leaving.look(state, self.node_name)
        self.services.serving = self.proxying.follow(state.configuration.service_proxy)
        withdrawing = self.draining.stage >= Stage.SERVICES_WITHDRAWN
        settled = self.services.settle(state, draining=withdrawing)
        changed = Dirty.STATE in dirty
        moved = self.moving.settle(state, changed=changed, services=settled.addresses, touched=touched)
        if Dirty.STATE in dirty or settled.addresses:
            touched |= self._decide_sessions()
        if Dirty.STATE not in dirty and settled.withdraw:
            # The other way round: peers stop sending before this node stops serving.
            announcing.announce_changes(state, settled.withdraw, later=settled.announce)
            self.speaking.flush()
            await asyncio.sleep(PEERS_FIRST)
        try:
            await self._dataplane(dirty, settled)
        finally:  # whatever becomes of pods and services, what the peers say is followed
            await self._routes(dirty, touched, settled)
        if Dirty.STATE in dirty or (touched and announcing.passes_on(state)):
            announcing.announce(state)
        else:
            announcing.announce_changes(state, settled.announce | moved, settled.announce)
            if Dirty.SAID in dirty:
                self.speaking.compare()
        self.speaking.flush()
        self.services.done()
        self.policing.done()
        self.passes += 1
        self._leaving.passed()

    def _note(self, event: Changed) -> None:
        self._noting.heard(event)

    def _decide_sessions(self) -> set[Prefix]:
        """Hold the sessions of now; the prefixes whose best paths may have changed by that."""
        judge = self.held.decide(self.state)
        found = self.held.now.by_address
        self._judging.follow(judge)
        self.announcing.follow(found)
        left = self.draining.stage is Stage.LEFT
        if self.draining.stage is not Stage.WITHDRAWN:
            self.speaking.part(left)
        self.speaking.set_sessions(found)
        self.monitoring.follow(self.state)
        touched = {
            prefix
            for peer in self.routing.resolver.set_sessions(found)
            for _, prefixes in self.rib.tables(peer)
            for prefix in prefixes
        }
        self.bfd.set_sessions({} if left else found, self.routing.underlay.adjacent)
        return touched if judge is None else touched | self.rib.rejudge(self._judging, self._judging.of_all)

    async def _dataplane(self, dirty: Dirty, settled: Settled) -> None:
        state = self.state
        if dirty & (Dirty.STATE | Dirty.BRIDGE):
            for err in self.shells.kernel.enable_forwarding():
                log.error("%s", err)
            leading = uplinks(self.routing.underlay, self.held.now.by_address)
            links, look = self.routing.links.values(), Dirty.BRIDGE in dirty
            self.podnet.apply(state, links, leading, self.services.error_port, look=look)
        if Dirty.STATE in dirty or self.allowing.due:
            self.allowing.apply(state)
        if Dirty.STATE in dirty:
            own = state.nodes[self.node_name].addresses
            self.errors.update([node.addresses for node in state.nodes.values()], own)
        wanted = dirty & (Dirty.STATE | Dirty.FIREWALL) or self.policing.unsettled
        if settled.servers or wanted or self.moving.changed:
            self._relay_errors()
            self.enveloping.mtu = self.podnet.underlay_mtu
            rest, check = Dirty.STATE in dirty or self.moving.changed, Dirty.FIREWALL in dirty
            self.moving.taken(state, self.routing.underlay)
            await self.services.apply(state, settled, rest=rest, check=check)
            if self.services.table.known:
                await self.moving.forget()

    async def _routes(self, dirty: Dirty, touched: set[Prefix], settled: Settled) -> None:
        state, kernel = self.state, self.kernel
        keys: set[RouteKey] = set()
        if Dirty.ROUTES in dirty:
            kernel.read_routes()
        networks = state.configuration.advertise.networks
        if Dirty.STATE in dirty or (networks and settled.served):
            served = self.services.book.served() if networks else set()
            keys |= self.routing.want_standing(state, state.nodes[self.node_name].blocks, served)
        if kernel.unheard:  # what there are paths to has been heard
            keys |= self.routing.want_learned(touched)
            touched = set()
        if Dirty.ROUTES in dirty:
            keys |= kernel.all_keys()
        # What came while this pass waited for something is for the next one, and is not unheard.
        if not self._marks.touched and self.speaking.settled(LEARNED_GRACE):
            keys |= kernel.heard_all()
        await self.routing.apply(keys, touched)


async def run_agent(agent: Agent, *others: asyncio.Task[None]) -> None:
    """Run until one of the tasks ends or this is cancelled."""
    main = asyncio.create_task(agent.run(), name="agent")
    tasks = {main, *others}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
