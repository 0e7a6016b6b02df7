"""The node loop: an event marks things dirty, a short quiet time batches them, a pass reconciles them.

A pass puts the kernel right first and announces afterwards, so that no peer sends what this node cannot
deliver yet. A timer marks everything dirty now and then, to catch drift no notification told of.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from l3net.agent.bfd import Liveness
from l3net.agent.declared import take
from l3net.agent.draining import Draining
from l3net.agent.kernel import KernelSide, RouteKey
from l3net.agent.parting import Parting
from l3net.agent.resolving import Resolver, interface_to
from l3net.agent.servicing import Servicing
from l3net.agent.speaking import FOUND_BY, Speaking
from l3net.agent.supervising import Retry, kept_up
from l3net.attach.server import CniServer
from l3net.bgp.adj_rib_out import AdjRibOut, desired_adj_rib_out, own_blocks, passes_on
from l3net.bgp.drain import Stage
from l3net.bgp.loc_rib import Candidate, LocRib
from l3net.bgp.multipath import discard, discards, weighted
from l3net.bgp.path import Path as BgpPath
from l3net.bgp.policy import ImportJudge, Protected
from l3net.bgp.sessions import OnLink, Session, Sessions, guarded, sessions, unnumbered_interfaces
from l3net.bgp.verdict import ACCEPTED, Judgement
from l3net.cni.setup import NodeNetwork
from l3net.config import AgentSettings
from l3net.errors import KernelError
from l3net.fib.desired import bridge, discarded, gateway, learned, standing
from l3net.fib.underlay import Underlay
from l3net.firewall.plan import own_ports
from l3net.ipam.reserved import ReservedPool, open_blocks, reserved_pools
from l3net.ipam.retained import claimant, retained
from l3net.model import Address, BridgePlan, ClusterState, Kind, Node, ObjectName, Prefix, Route
from l3net.naming import BRIDGE, CNI_SOCKET, METRIC_BGP, METRIC_BLACKHOLE, RTPROT_L3NET, VETH_PREFIX
from l3net.ports import Changed, Datastore, DatastoreEvent, InSync, Mended, Rejected, View
from l3net.services.book import Settled
from l3net.services.verdicts import ServiceVerdict
from l3net.shell.files.routefile import read_routes, write_routes
from l3net.shell.kernel import sysctl
from l3net.shell.kernel.bridge import KernelBridge
from l3net.shell.kernel.conntrack import Conntrack
from l3net.shell.kernel.errorrelay import ErrorRelay
from l3net.shell.kernel.monitor import (
    RTM_DELROUTE,
    RTM_NEWROUTE,
    KernelMonitor,
    Seen,
    interface_name,
    underlay_route,
)
from l3net.shell.kernel.nft import NftTable
from l3net.shell.kernel.router_discovery import RouterDiscovery
from l3net.shell.kernel.routes import KernelRoutes, decode_route, rival
from l3net.shell.kernel.underlay import KernelUnderlay, Link
from l3net.shell.speaker.exabgp import release_is_known

log = logging.getLogger("l3net.agent")

#: Seconds after a pass in which changes are gathered for the next one.
QUIET = 0.02
#: What is configured comes in several objects that belong together: a pass waits this long after the last of
#: them, and no longer than LONGEST_QUIET. Longer than a datastore gathers what changes (0.02 s).
STATE_QUIET = 0.03
LONGEST_QUIET = 0.5
#: Between a withdrawal and the firewall's end of the service. It also leaves the processors to the speaker.
PEERS_FIRST = 0.005
RESYNC = 30.0
#: How long a kernel route that no path accounts for is kept once the sessions are known and the speaker is
#: there, in seconds.
LEARNED_GRACE = 120.0
#: Seconds between writing down which routes are wanted.
REMEMBER = 5.0
#: Parts of the agent whose faults are of one object, or one peer, each: named after it, and gone with it.
DECLARED = "declared state"
ANNOUNCING = "announcements to "
#: Seconds between looks whether somebody wants the node to leave, and for the last withdrawals to go out.
DRAIN_LOOK = 0.5
FLUSH_LIMIT = 20.0
#: Seconds for ExaBGP to close all sessions.
CLOSE_LIMIT = 15.0


class Dirty(enum.Flag):
    """What a pass has to look at."""

    NOTHING = 0
    STATE = enum.auto()  # anything declared but services and their slices, which are noted one by one
    SAID = enum.auto()  # whether ExaBGP took all it was told
    UNDERLAY = enum.auto()
    ROUTES = enum.auto()  # read all of ours back
    BRIDGE = enum.auto()
    FIREWALL = enum.auto()  # look whether it is intact
    ALL = STATE | SAID | UNDERLAY | ROUTES | BRIDGE | FIREWALL
    #: All that may be different without our having heard of it; what is declared may not.
    DRIFT = SAID | UNDERLAY | ROUTES | BRIDGE | FIREWALL


#: What to look at again for each part of the kernel that has failed.
_PARTS = {
    "underlay": Dirty.UNDERLAY,
    "read routes": Dirty.ROUTES,
    "bridge": Dirty.BRIDGE,
    "firewall": Dirty.FIREWALL,
    "connections": Dirty.FIREWALL,
}


class Agent:
    """One node. `run` ends when cancelled; everything it made in the kernel and at the peers stays."""

    def __init__(self, settings: AgentSettings, datastore: Datastore) -> None:
        self._settings = settings
        self._datastore = datastore
        self._me = settings.node_name
        self._wake = asyncio.Event()
        self._dirty = Dirty.ALL
        self._touched: set[Prefix] = set()
        self._next_try: asyncio.TimerHandle | None = None  # of routes that the kernel has refused
        self._resolver = Resolver()
        self._import_judge: ImportJudge | None = None
        self._judged_by: object = None
        self._links: dict[int, Link] = {}
        self._underlay = Underlay((), ())
        self._sessions = Sessions({}, ())
        self._underlay_reader = KernelUnderlay()
        self._cni = CniServer(settings.run_dir / CNI_SOCKET, settings.state_dir)
        self._network: NodeNetwork | None = None
        self._held_for: str | None = None
        self._configured = False  # it is known what the BGPConfiguration says, or that there is none
        self._parting = Parting()
        self._guarded = release_is_known()
        self._finished = asyncio.Event()
        self.draining = Draining(settings.run_dir)
        self.missing_pools: set[str] = set()  # that pods wait for a block of
        self.pool_missing = asyncio.Event()
        self._event_loop = asyncio.get_running_loop()
        self._cni.on_missing = self._pool_missing
        self._wanted_peers: frozenset[Address] = frozenset()
        self.state = ClusterState()
        self.in_sync = False
        self.passes = 0
        #: How old what is known of each kind is, where the datastore can tell.
        self.views: Callable[[], Mapping[Kind, View]] = dict
        self.rejected: set[Rejected] = set()
        self.rib = LocRib(self._judge)
        routes = KernelRoutes()
        self._own_port = routes.port
        self.kernel = KernelSide(routes, KernelBridge())
        self.services = Servicing(self._me, NftTable(followed=True), Conntrack(), self.kernel.problems)
        self.errors = ErrorRelay(settings.error_relay_port, self.services.book.has_address)
        self._last_pass = 0.0
        self._state_changed = 0.0
        self._retry = Retry(lambda: self.mark(self._what_failed()))
        self._after_fault = Retry(lambda: self.mark(Dirty.ALL))
        self._known: set[tuple[Kind, ObjectName]] = set()  # declared objects in force
        self.faults = self._cni.faults
        self.speaking = Speaking(settings.run_dir, self.rib, self._on_touched, self.faults)
        speaking = self.speaking
        self.bfd = Liveness(
            settings.run_dir, speaking.path_failed, speaking.path_recovered, speaking.path_held
        )
        self.speaking.on_established = self.bfd.established
        self._discovery = RouterDiscovery(lambda: self.mark(Dirty.STATE))
        self.speaking.on_as_number = lambda: self.mark(Dirty.STATE)

    @property
    def node_name(self) -> str:
        return self._me

    @property
    def sessions(self) -> Sessions:
        return self._sessions

    @property
    def underlay(self) -> Underlay:
        """The routes that are not ours, as read last."""
        return self._underlay

    def usable(self, candidate: Candidate) -> bool:
        """Whether the next hop of a path that policy accepts leads anywhere now, or need not."""
        return bool(self._resolver.resolve(candidate)) or discard(candidate)

    @property
    def pods(self) -> CniServer:
        """The pods' side of the node."""
        return self._cni

    @property
    def verdicts(self) -> Iterator[ServiceVerdict]:
        """Of every address of every service."""
        return self.services.book.verdicts()

    def sessions_of(self, state: ClusterState) -> Sessions:
        """The sessions that a declared state gives this node, with its links and routes as they are now."""
        interfaces = unnumbered_interfaces(state, self._me) | {
            peer.source_interface for peer in state.peers.values() if peer.source_interface is not None
        }
        links = {
            name: OnLink(
                self._underlay.link_local(name), self._discovery.routers(name), self.speaking.as_numbers
            )
            for name in interfaces
        }
        underlay = self._underlay
        own = underlay.own_addresses() or None  # none at all: they have not been read yet
        node = state.nodes.get(self._me)
        preferred = node.addresses if node is not None else ()

        def source(address: Address) -> tuple[Address, tuple[Address, ...]] | None:
            return underlay.source(address, preferred, self.speaking.held_local(address))

        found = sessions(state, self._me, source, underlay.gateways(), links, own)
        return found if self._guarded else guarded(found)

    def protected_of(self, state: ClusterState) -> Protected:
        """What no peer may take from this node under a declared state, with its links as they are now."""
        return Protected.of(state, self._me, self._underlay.connected(BRIDGE), self._underlay.own_addresses())

    async def run(self) -> None:
        """Raises KernelError or LeaseStoreError when the node cannot be served at all."""
        asyncio.get_running_loop().set_exception_handler(self._unforeseen)
        asyncio.get_running_loop().call_later(FOUND_BY, self.mark, Dirty.STATE)
        asyncio.get_running_loop().call_later(LEARNED_GRACE + FOUND_BY, self.mark, Dirty.ROUTES)
        monitor = KernelMonitor(self._on_kernel, RTPROT_L3NET, self._own_port)
        monitor.start()
        try:
            self._cni.start()
            try:
                self._relay_errors()
                self.kernel.read_routes()
                self.kernel.keep_until_heard(read_routes(self._settings.run_dir))
                parts = {
                    DECLARED: self._follow,
                    "passes": self._loop,
                    "resync": self._resync,
                    "drain": self._watch_drain,
                    "BFD": self.bfd.run,
                    "routes for the next agent": self._remember,
                }
                await asyncio.gather(
                    self.speaking.run(), *(kept_up(part, run, self.faults) for part, run in parts.items())
                )
            finally:
                self._cni.stop()
                self._discovery.close()
                self.errors.stop()
        finally:
            monitor.stop()

    def _relay_errors(self) -> None:
        """Start what hands on ICMP errors, unless it runs; a port that was taken may be free by now."""
        self.errors.start()
        if self.services.error_port != self.errors.port:
            self.services.error_port = self.errors.port
            self.mark(Dirty.STATE)

    # --- events ------------------------------------------------------------------------------------------

    def mark(self, dirty: Dirty) -> None:
        self._dirty |= dirty
        if Dirty.STATE in dirty:
            self._state_changed = asyncio.get_running_loop().time()
        self._wake.set()

    def _unforeseen(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Of timers, readers and tasks that nobody waits for: they concern one event, the loop goes on."""
        error = context.get("exception")
        if isinstance(error, Exception):
            self.faults.note("event loop", error, lasting=False)
        elif error is None:
            log.warning("event loop: %s", context.get("message"))

    async def _follow(self) -> None:
        """Begun anew after a fault, it hears of everything again: what it does not hear of is gone."""
        before, self._known = self._known, set()
        try:
            async for event in self._datastore.events():
                try:
                    self._absorb(event)
                except Exception as err:  # of one object, which stays as it was
                    self.faults.note(f"{DECLARED}: {_named(event)}", err, lasting=False)
                else:
                    self._forget_faults(event)
                if isinstance(event, Changed):
                    (self._known.discard if event.fact is None else self._known.add)((event.kind, event.name))
                    before.discard((event.kind, event.name))
                elif isinstance(event, InSync):
                    for kind, name in before:
                        gone = Changed(kind, name, None)
                        self._absorb(gone)
                        self._forget_faults(gone)
                    before.clear()
        finally:
            self._known |= before

    def _forget_faults(self, event: DatastoreEvent) -> None:
        """Those of an object go with it."""
        if isinstance(event, Changed) and event.fact is None:
            self.faults.forget(f"{DECLARED}: {_named(event)}")

    def _absorb(self, event: DatastoreEvent) -> None:
        match event:
            case InSync():
                self.in_sync = True
                log.info("declared state complete: %d nodes, %d services", *self._sizes())
                self.mark(Dirty.ALL)
            case Rejected():
                log.error("%s", event)
                self.rejected.add(event)
            case Mended(rejected=rejected):
                self.rejected.discard(rejected)
                if self._held_for:  # by that, maybe
                    self.mark(Dirty.ALL)
            case Changed():
                take(self.state, event)
                if event.kind in (Kind.SERVICE, Kind.ENDPOINT_SLICE):
                    self.services.note(event.kind, event.name, event.fact)
                    self._wake.set()
                else:
                    self.mark(Dirty.STATE)

    def _sizes(self) -> tuple[int, int]:
        return len(self.state.nodes), len(self.state.services)

    def _on_touched(self, prefixes: set[Prefix]) -> None:
        self._touched |= prefixes
        self._wake.set()

    def _on_kernel(self, seen: Seen, number: int, body: bytes) -> None:
        match seen:
            case Seen.OWN_ROUTE:
                self._on_own_route(number, body)
            case Seen.LINK | Seen.ADDRESS:
                name = interface_name(number, body)
                if name is None or not name.startswith(VETH_PREFIX):  # pods come and go: no reason to look
                    # A link that goes down takes its IPv4 routes along without a word.
                    self.mark(Dirty.UNDERLAY | Dirty.BRIDGE | Dirty.ROUTES)
            case Seen.ROUTE:
                if underlay_route(body):
                    self.mark(Dirty.UNDERLAY)
                    theirs = rival(body)
                    if theirs in self.kernel.mirror:
                        # Theirs may have taken the place of ours, which is told of no other way; what is not
                        # known to be gone would be replaced, and theirs with it.
                        self.mark(Dirty.ROUTES)
                    if theirs is not None and number == RTM_DELROUTE and self.kernel.refused.retry(theirs):
                        self._wake.set()
            case Seen.FIREWALL:
                self.services.touched(number)
                self.mark(Dirty.FIREWALL)
            case Seen.LOST:
                log.warning("kernel notifications were lost; reading everything again")
                self.services.touched(None)
                self.mark(Dirty.ALL)

    def _on_own_route(self, kind: int, body: bytes) -> None:
        decoded = decode_route(body, {index: link.name for index, link in self._links.items()})
        if decoded is None:
            return
        route = decoded[2]
        key = (route.prefix, route.metric)
        if kind == RTM_NEWROUTE:
            if self.kernel.mirror.get(key) == route:
                return
            # IPv6 tells of an ECMP route hop by hop: what counts is what a read says.
            self.mark(Dirty.ROUTES)
        elif key in self.kernel.mirror and self.kernel.desired.get(key) is not None:
            self.mark(Dirty.ROUTES)

    # --- the loop ----------------------------------------------------------------------------------------

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC)
            self.mark(Dirty.DRIFT)

    async def _watch_drain(self) -> None:
        """Hear of a wish to leave, and see a drain to its end: withdrawn first, then the sessions closed."""
        while True:
            await asyncio.sleep(DRAIN_LOOK)
            if self.draining.overtaken():
                self.mark(Dirty.STATE)
            if self.draining.stage is Stage.WITHDRAWN and not self._dirty & Dirty.STATE:
                await self.speaking.flushed(FLUSH_LIMIT)
                if self.draining.stage is Stage.WITHDRAWN:  # nobody thought better of it meanwhile
                    self.speaking.part(True)
                    await self.speaking.closed(CLOSE_LIMIT)
                    self.draining.left()
                    self.mark(Dirty.STATE)

    async def finish(self) -> None:
        """The agent is to stop. On a node that leaves or shuts down this ends when it has left; on any other
        after one more pass, with everything as it is."""
        if not self.in_sync or self.holding():
            return
        self.draining.ending = True
        self.mark(Dirty.STATE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.state.configuration.drain.wait + FLUSH_LIMIT + CLOSE_LIMIT):
                await self._finished.wait()

    def _look_at_drain(self) -> bool:
        """Whether the drain has come to another stage; a stage that time brings is looked for in time."""
        changed = self.draining.look(self.state.nodes[self._me], self.state.configuration.drain)
        due = self.draining.due()
        if due is not None:
            asyncio.get_running_loop().call_later(due + 0.01, self.mark, Dirty.STATE)
        return changed

    async def _loop(self) -> None:
        while True:
            await self._wake.wait()
            await self._gather()
            self._wake.clear()
            if not self.in_sync or self._look_whether_to_hold():
                await self._hold()
                continue
            try:
                await self._reconcile()
            except Exception as err:
                # Nobody knows how far it came: the next one looks at everything.
                self.faults.note("pass", err)
                self._touched.update(self.rib.prefixes())
                self.services.doubt()
                self._after_fault.failed()
            else:
                self.faults.over("pass")
            self._last_pass = asyncio.get_running_loop().time()
            if self.kernel.failed_parts:
                self._retry.failed()
            else:
                self._retry.succeeded()

    def _what_failed(self) -> Dirty:
        dirty = Dirty.NOTHING
        for part in self.kernel.failed_parts:
            dirty |= _PARTS.get(part, Dirty.DRIFT)
        return dirty

    async def _hold(self) -> None:
        """Until it is known what is wanted: a link that came back has its routes again."""
        now = asyncio.get_running_loop().time()
        if not (self._dirty & (Dirty.ROUTES | Dirty.UNDERLAY) or self.kernel.refused.due(now)):
            return
        self._dirty &= ~Dirty.ROUTES
        await self.kernel.hold()
        self._try_refused_later()

    async def _remember(self) -> None:
        """What is wanted in the kernel, for the next agent; now and then, and not while it changes."""
        written = -1
        while True:
            await asyncio.sleep(REMEMBER)
            changes = self.kernel.changes
            if changes == written or not self.in_sync or not self.passes:
                continue
            await asyncio.to_thread(write_routes, self._settings.run_dir, dict(self.kernel.desired))
            written = changes

    async def _gather(self) -> None:
        """What comes alone is served at once; what comes in a burst waits for the rest of it."""
        now = asyncio.get_running_loop().time
        limit = now() + LONGEST_QUIET
        while True:
            due = self._last_pass + QUIET
            if Dirty.STATE in self._dirty:
                due = max(due, min(limit, self._state_changed + STATE_QUIET))
            if due <= now():
                return
            await asyncio.sleep(due - now())

    def holding(self) -> str:
        """Why nothing can be decided, so that everything stays as it is; empty when it can."""
        if self._me not in self.state.nodes:
            return f"no Node named {self._me} is declared; see --node-name"
        if not self._configured and (hidden := self._hidden_configuration()):
            return (
                f"the BGPConfiguration cannot be read, and there is no earlier version: {hidden}; nothing is "
                "changed until that is mended, since its defaults are another AS number and other policies"
            )
        return ""

    def _hidden_configuration(self) -> str:
        """What a BGPConfiguration that is declared, but not known, stands in."""
        default = Kind.BGP_CONFIGURATION, ObjectName("", "default")
        if default in self._known:
            return ""
        return next((str(each) for each in sorted(self.rejected, key=str) if each.hides(*default)), "")

    def _look_whether_to_hold(self) -> bool:
        held_for = self.holding()
        if held_for != self._held_for:
            self._held_for = held_for
            if held_for:
                log.error("nothing is changed: %s", held_for)
        self._configured |= not held_for
        return bool(held_for)

    async def _reconcile(self) -> None:
        dirty, self._dirty = self._dirty, Dirty.NOTHING
        touched, self._touched = self._touched, set()
        if Dirty.UNDERLAY in dirty and self._read_underlay():
            dirty |= Dirty.STATE
            touched.update(self.rib.prefixes())
        if self._retain(dirty):
            dirty |= Dirty.STATE
        if Dirty.STATE in dirty:
            self._look_at_drain()
        withdrawing = self.draining.stage >= Stage.SERVICES_WITHDRAWN
        settled = self.services.settle(self.state, draining=withdrawing)
        if Dirty.STATE in dirty or settled.addresses:
            touched |= self._decide_sessions()
        if Dirty.STATE not in dirty and settled.withdraw:
            # The other way round: peers stop sending before this node stops serving.
            self._announce_changes(settled.withdraw)
            self.speaking.flush()
            if settled.withdraw:
                await asyncio.sleep(PEERS_FIRST)
        try:
            await self._dataplane(dirty, settled)
        finally:  # whatever becomes of pods and services, what the peers say is followed
            await self._routes(dirty, touched, settled)
        if Dirty.STATE in dirty or (touched and self._passes_on()):
            self._announce()
        else:
            self._announce_changes(settled.announce, settled.announce)
            if Dirty.SAID in dirty:
                self.speaking.compare()
        self.speaking.flush()
        self.services.done()
        self.passes += 1
        if self.draining.ending and (not self.draining.final or self.draining.stage is Stage.LEFT):
            self._finished.set()

    def _read_underlay(self) -> bool:
        """Whether anything a decision looks at has changed."""
        try:
            underlay, self._links = self._underlay_reader.read()
        except KernelError as err:
            if self.kernel.problems.get("underlay") != str(err):
                log.error("%s", err)
            self.kernel.problems["underlay"] = str(err)  # and so it is tried again
            return False
        self.kernel.problems.pop("underlay", None)
        if underlay == self._underlay:
            return False
        self._underlay = underlay
        self._resolver.follow(underlay)
        self.kernel.refused.retry_all()
        return True

    def _judge(self, session: Session, path: BgpPath) -> tuple[Judgement, BgpPath]:
        return self._import_judge(session, path) if self._import_judge is not None else (ACCEPTED, path)

    def _decide_sessions(self) -> set[Prefix]:
        self._discovery.watch(unnumbered_interfaces(self.state, self._me))
        self._sessions = self._with_parting(self.sessions_of(self.state))
        self.faults.only(ANNOUNCING, map(_announcing, self._sessions.by_address.values()))
        underlay = self._underlay
        protected = self.protected_of(self.state)
        self._import_judge = ImportJudge(protected, self.state.filters)
        left = self.draining.stage is Stage.LEFT
        if self.draining.stage is not Stage.WITHDRAWN:
            self.speaking.part(left)
        self.speaking.set_sessions(self._sessions.by_address)
        touched = {
            entry.raw.prefix
            for peer in self._resolver.set_sessions(self._sessions.by_address)
            for entry in self.rib.received(peer)
        }
        self.bfd.set_sessions({} if left else self._sessions.by_address, underlay.adjacent)
        judged_by = (protected, dict(self.state.filters), dict(self._sessions.by_address))
        if judged_by == self._judged_by:
            return touched
        self._judged_by = judged_by
        return touched | self.rib.rejudge(self._judge)

    def _with_parting(self, found: Sessions) -> Sessions:
        """Sessions of an older topology stay until the new ones have taken over."""
        now = asyncio.get_running_loop().time()
        waiting = self._parting.pending
        nodes = frozenset(self.state.nodes)
        held = self._parting.merge(found.by_address, self._sessions.by_address, nodes, now)
        if self._parting.pending and not waiting:
            log.info("a new topology: %d old sessions stay for now", len(held) - len(found.by_address))
            asyncio.get_running_loop().call_later(1.0, self._check_parting)
        until = self._parting.reflected_until()
        if until is not None:
            asyncio.get_running_loop().call_later(max(0.1, until - now + 0.1), self.mark, Dirty.STATE)
        self._wanted_peers = frozenset(found.by_address)
        return Sessions(held, found.refusals)

    def _passes_on(self) -> bool:
        return passes_on(self.state, self._sessions.by_address.values())

    def _check_parting(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._parting.finished(self.speaking.heard_all(self._wanted_peers), now):
            self.mark(Dirty.STATE)
        elif self._parting.pending:
            asyncio.get_running_loop().call_later(1.0, self._check_parting)

    # --- kernel ------------------------------------------------------------------------------------------

    def _retain(self, dirty: Dirty) -> bool:
        """Keep the blocks that are no longer ours while pods run in them; whether that has changed.

        Which blocks were ours is read from the kernel: each has a blackhole of ours behind it.
        """
        node = self.state.nodes[self._me]
        if not node.retained and Dirty.STATE not in dirty:
            return False
        kept = self._lost_in_use(node)
        if kept == node.retained:
            return False
        for block in set(kept) - set(node.retained):
            log.warning("block %s is no longer this node's; it stays while pods run in it", block)
        for block in set(node.retained) - set(kept):
            log.info("block %s: its last pod is gone", block)
        self.state.nodes[self._me] = _retaining(node, kept)
        return True

    def _lost_in_use(self, node: Node) -> tuple[Prefix, ...]:
        had = {key[0] for key in self.kernel.mirror if key[1] == METRIC_BLACKHOLE}
        return retained(node.declared_blocks, had | set(node.retained), self._cni.holds)

    def with_retained(self, state: ClusterState) -> None:
        """Put into a declared state what this node would keep under it, as `_retain` would."""
        node = state.nodes[self._me]
        state.nodes[self._me] = _retaining(node, self._lost_in_use(node))

    def retained_blocks(self) -> list[tuple[Prefix, int, str]]:
        """Blocks that are no longer this node's, their attachments, and the node that has them by now."""
        node = self.state.nodes.get(self._me)
        return [
            (block, self._cni.attachments(block), claimant(block, self.state.nodes.values(), self._me))
            for block in (node.retained if node is not None else ())
        ]

    def _blocks(self) -> tuple[Prefix, ...]:
        node = self.state.nodes.get(self._me)
        return node.blocks if node is not None else ()

    async def _dataplane(self, dirty: Dirty, settled: Settled) -> None:
        blocks = self._blocks()
        if dirty & (Dirty.STATE | Dirty.BRIDGE):
            for err in sysctl.enable_forwarding():
                log.error("%s", err)
            plan = bridge(self._me, blocks, self._mtu())
            if blocks:
                changed = self.kernel.apply_bridge(plan)
                self._tell_cni(plan)
                if changed or Dirty.BRIDGE in dirty:
                    self._cni.reattach_ports()
        if Dirty.STATE in dirty:
            nodes = self.state.nodes
            self.errors.update([node.addresses for node in nodes.values()], nodes[self._me].addresses)
        if settled.servers or dirty & (Dirty.STATE | Dirty.FIREWALL):
            self._relay_errors()
            rest, check = Dirty.STATE in dirty, Dirty.FIREWALL in dirty
            await self.services.apply(self.state, settled, rest=rest, check=check)

    def reserved_pools(self) -> tuple[ReservedPool, ...]:
        """The pools for the pods of some namespaces, as this node has them."""
        node = self.state.nodes.get(self._me)
        return reserved_pools(self.state.pools, node, self.state.namespaces) if node is not None else ()

    def _pool_missing(self, pool: str) -> None:
        """A pod waits for a block of a pool. From any thread."""
        self.missing_pools.add(pool)
        self._event_loop.call_soon_threadsafe(self.pool_missing.set)

    def _tell_cni(self, plan: BridgePlan) -> None:
        node = self.state.nodes[self._me]
        network = NodeNetwork(
            blocks=open_blocks(node.declared_blocks, self.state.pools.values()),
            retained=node.retained,
            reserved=tuple(gateway(block) for block in node.retained),  # a new block may hold an old one
            mtu=plan.mtu,
            bridge=plan.name,
            pools=self.reserved_pools(),
            namespaces=frozenset(self.state.namespaces) if self.reserved_pools() else frozenset(),
            own_ports=own_ports(self.state.configuration.listen_port, self.services.error_port),
        )
        if network != self._network:
            self._network = network
            self._cni.update(network)

    def _mtu(self) -> int:
        """The configured MTU, or the smallest of the links that lead to peers or to anywhere else.

        The bridge and its ports lead to pods, and have their MTU from here.
        """
        if self._settings.mtu is not None:
            return self._settings.mtu
        mtus = {link.name: link.mtu for link in self._links.values()}
        uplinks = {interface_to(self._underlay, session) for session in self._sessions.by_address.values()}
        found = [mtus[name] for name in uplinks if name is not None and name in mtus]
        if not found:
            own = {link.index for link in self._links.values() if link.name == BRIDGE}
            found = [
                link.mtu
                for link in self._links.values()
                if link.up
                and not link.loopback
                and link.index not in own
                and link.master not in own
                and not link.name.startswith(VETH_PREFIX)  # one that waits to be deleted has left the bridge
            ]
        return min(found, default=1500)

    @property
    def discovery_problems(self) -> list[str]:
        """Why routers cannot be looked for on a link."""
        return sorted(self._discovery.problems.values())

    async def _routes(self, dirty: Dirty, touched: set[Prefix], settled: Settled) -> None:
        kernel = self.kernel
        keys: set[RouteKey] = set()
        if Dirty.ROUTES in dirty:
            kernel.read_routes()
        networks = self.state.configuration.advertise.networks
        if Dirty.STATE in dirty or (networks and settled.served):
            served = {address for address, _, _ in self.services.book.servers} if networks else set()
            wanted = standing(self.state.configuration, self._blocks(), self._underlay, served)
            gone = {key for key in kernel.desired if key[1] != METRIC_BGP} - wanted.keys()
            for key in gone:
                del kernel.desired[key]
            keys |= gone
            kernel.desired.update(wanted)
            keys |= wanted.keys()
        for prefix in touched:
            key = (prefix, METRIC_BGP)
            route = self._learned(prefix)
            if route is None:
                kernel.desired.pop(key, None)
            else:
                kernel.desired[key] = route
            keys.add(key)
        if Dirty.ROUTES in dirty:
            keys |= kernel.all_keys()
        kernel.heard(touched)
        # What came while this pass waited for something is for the next one, and is not unheard.
        if not self._touched and self.speaking.settled(LEARNED_GRACE):
            keys |= kernel.heard_all()
        await kernel.apply_routes(keys)
        self._try_refused_later()

    def _try_refused_later(self) -> None:
        """Of the routes that the kernel has refused, those that are due first."""
        if self._next_try is not None:
            self._next_try.cancel()
            self._next_try = None
        due = self.kernel.refused.next_due()
        if due is not None:
            self._next_try = asyncio.get_running_loop().call_at(due, self._wake.set)

    def _learned(self, prefix: Prefix) -> Route | None:
        best = self._best(prefix)
        if discards(best):
            return discarded(prefix)
        hops = [(candidate, self._resolver.resolve(candidate)) for candidate in best]
        return learned(prefix, weighted(hops)) if hops else None

    def _best(self, prefix: Prefix) -> tuple[Candidate, ...]:
        return self.rib.best(prefix, self.usable)

    # --- announcements -----------------------------------------------------------------------------------

    def _announce(self) -> None:
        prefixes = self.services.book.announced
        passed_on: dict[Prefix, Candidate] = {}
        if self._passes_on():
            for prefix in self.rib.prefixes():
                best = self._best(prefix)
                if best:
                    passed_on[prefix] = best[0]
        for address, session in self._sessions.by_address.items():
            with self._for_peer(session):
                wanted: AdjRibOut = desired_adj_rib_out(
                    self.state, self._me, session, prefixes, passed_on, self.draining.stage
                )
                self.speaking.want(address, wanted)

    @contextlib.contextmanager
    def _for_peer(self, session: Session) -> Iterator[None]:
        """What fails for one peer is tried again, and costs no other its announcements."""
        part = _announcing(session)
        try:
            yield
        except Exception as err:
            self.faults.note(part, err)
            self._after_fault.failed()
        else:
            self.faults.over(part)

    def _announce_changes(self, changed: frozenset[Prefix], wanted: frozenset[Prefix] = frozenset()) -> None:
        """Services alone have changed: of each peer's Adj-RIB-Out, only their prefixes."""
        if not changed:
            return
        if self._passes_on():  # another's path may take the place of ours
            self._announce()
            return
        for address, session in self._sessions.by_address.items():
            with self._for_peer(session):
                paths = desired_adj_rib_out(self.state, self._me, session, wanted, drain=self.draining.stage)
                self.speaking.amend(address, changed, paths)

    def blocks_announced(self) -> tuple[Prefix, ...]:
        return own_blocks(self.state, self._me)


def _announcing(session: Session) -> str:
    """The part of the agent that tells a peer; two sessions may have one name, one in each family."""
    return f"{ANNOUNCING}{session.name} ({session.peer_address})"


def _named(event: DatastoreEvent) -> str:
    return f"{event.kind.value} {event.name}" if isinstance(event, Changed) else type(event).__name__


def _retaining(node: Node, kept: tuple[Prefix, ...]) -> Node:
    return replace(node, blocks=(*node.declared_blocks, *kept), retained=kept)


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
