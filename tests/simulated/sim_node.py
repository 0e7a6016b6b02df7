"""A node without a kernel: fakes of every port of an agent, and what may be done to it.

The agent that runs on it is the real one, under a simulated clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from packets.conntrack import Conntrack
from sim_speaker import SimRouter, SimSpeaker
from sim_table import SimTable

from l3net.agent.loop import Agent, run_agent
from l3net.agent.shells import Kernel, Proxies, Shells, Speaker
from l3net.agent.status import status
from l3net.bfd.control import Hello, SessionState, decode_command, encode_hello, encode_state
from l3net.bgp.drain import DrainRecord
from l3net.cni.guard import Allowed
from l3net.cni.setup import NodeNetwork
from l3net.config import AgentSettings
from l3net.config import DatastoreChoice as Chosen
from l3net.delta import Delta
from l3net.errors import KernelError, RefusedError
from l3net.faults import Faults
from l3net.fib.underlay import HostLink, InterfaceAddress, Underlay, UnderlayHop, UnderlayRoute
from l3net.ipam.lease import Usage
from l3net.kube.translate import translate
from l3net.metering.histogram import Histogram
from l3net.model import (
    Address,
    BridgePlan,
    EgressWay,
    Envelope,
    PortUse,
    Prefix,
    Route,
    ServerKey,
    Stale,
    Tracked,
)
from l3net.naming import BRIDGE, ENVELOPE, METRIC_BGP
from l3net.policy.attached import Attached
from l3net.ports import (
    Admission,
    Answer,
    Changed,
    CollectorError,
    DatastoreEvent,
    HealthAnswer,
    InSync,
    KernelNotice,
    LinkSeen,
    LoggedPacket,
    NoticesLost,
    OwnRouteSeen,
    Rejected,
    RouteKey,
    RouteSeen,
    TableSeen,
)

T = TypeVar("T")


class SimDatastore:
    """The declared state: manifests as documents, followed by whoever asks."""

    def __init__(self) -> None:
        self.objects: dict[Any, Changed] = {}
        self._followers: list[asyncio.Queue[DatastoreEvent | None]] = []
        self.away = False  # no list is ever complete

    async def events(self) -> AsyncIterator[DatastoreEvent]:
        queue: asyncio.Queue[DatastoreEvent | None] = asyncio.Queue()
        self._followers.append(queue)
        try:
            for event in list(self.objects.values()):
                yield event
            while self.away:  # noqa: ASYNC110 - as long as a test says
                await asyncio.sleep(0.1)
            yield InSync()
            while (event := await queue.get()) is not None:
                yield event
            raise ConnectionError("the API server is gone")
        finally:
            self._followers.remove(queue)

    def apply(self, *documents: Mapping[str, Any]) -> None:
        """As `kubectl apply`."""
        for document in documents:
            found = translate(document)
            assert found is not None
            kind, name, fact = found
            self._put(Changed(kind, name, fact))

    def delete(self, document: Mapping[str, Any]) -> None:
        found = translate(document)
        assert found is not None
        self._put(Changed(found[0], found[1], None))

    def reject(self, where: str, why: str) -> None:
        for queue in self._followers:
            queue.put_nowait(Rejected(where, "", why))

    def fail(self) -> None:
        """Each follower's stream ends in an error."""
        for queue in self._followers:
            queue.put_nowait(None)

    def _put(self, event: Changed) -> None:
        key = event.kind, event.name
        if event.fact is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = event
        for queue in self._followers:
            queue.put_nowait(event)


class Noticed(dict[RouteKey, T]):
    """Routes, with a number that grows whenever one changes: for whoever keeps what follows from them."""

    version = 0

    def __setitem__(self, key: RouteKey, route: T) -> None:
        self.version += 1
        super().__setitem__(key, route)

    def __delitem__(self, key: RouteKey) -> None:
        self.version += 1
        super().__delitem__(key)

    def pop(self, key: RouteKey, *default: Any) -> Any:
        self.version += 1
        return super().pop(key, *default)

    def clear(self) -> None:
        self.version += 1
        super().clear()


class SimKernel:
    """Links, addresses and routes (ports.RouteTable, Bridges, UnderlayReader, KernelNotices). It outlives
    agents. `refuses` says why a route is not taken."""

    def __init__(self) -> None:
        self.links: dict[str, HostLink] = {}
        self.addresses: list[InterfaceAddress] = []
        self.others: Noticed[UnderlayRoute] = Noticed()
        self.ours: Noticed[Route] = Noticed()
        self.bridge: BridgePlan | None = None
        self.refuses: Callable[[Route], KernelError | None] = lambda _route: None
        self.failing: dict[str, KernelError] = {}  # by what is asked: read, bridge, underlay
        self.batches: list[Delta[RouteKey, Route]] = []
        self.reads = 0  # of all routes of ours
        self._heard: Callable[[KernelNotice], None] | None = None

    # --- what happens to it ------------------------------------------------------------------------------

    def add_link(self, name: str, *addresses: str, mtu: int = 1500) -> None:
        index = len(self.links) + 1
        self.links[name] = HostLink(name, index, mtu, up=True, loopback=name == "lo")
        for text in addresses:
            address, _, length = text.partition("/")
            self.addresses.append(InterfaceAddress(name, ip_address(address), int(length)))
            self._connect(name, text)
        self.notice(LinkSeen(name))

    def _connect(self, name: str, text: str) -> None:
        prefix = ip_network(text, strict=False)
        self.others[prefix, 0] = UnderlayRoute(prefix, (UnderlayHop(name),))

    def set_link(self, name: str, *, up: bool | None = None, mtu: int | None = None) -> None:
        """A link that goes down takes its routes along, without a word of IPv4's."""
        old = self.links[name]
        now = HostLink(
            name, old.index, mtu or old.mtu, old.up if up is None else up, old.loopback, old.master
        )
        self.links[name] = now
        if now.up is not old.up:
            if now.up:
                for each in self.addresses:
                    if each.interface == name:
                        self._connect(name, f"{each.address}/{each.length}")
            else:
                for key, route in list(self.others.items()):
                    if any(hop.interface == name for hop in route.hops):
                        del self.others[key]
                for key, ours in list(self.ours.items()):
                    if any(hop.interface == name for hop in ours.next_hops):
                        del self.ours[key]
        self.notice(LinkSeen(name))

    def other_route(self, prefix: str, interface: str, gateway: str | None = None, metric: int = 0) -> None:
        found = ip_network(prefix)
        hop = UnderlayHop(interface, ip_address(gateway) if gateway else None)
        self.others[found, metric] = UnderlayRoute(found, (hop,), metric)
        self.notice(RouteSeen((found, metric) if metric else None, gone=False))

    def delete_other(self, prefix: str, metric: int = 0) -> None:
        found = ip_network(prefix)
        del self.others[found, metric]
        self.notice(RouteSeen((found, metric) if metric else None, gone=True))

    def delete_ours(self, *keys: RouteKey, told: bool = True) -> None:
        """Somebody deletes routes of ours."""
        for key in keys:
            route = self.ours.pop(key)
            if told:
                self.notice(OwnRouteSeen(route, gone=True))

    def notice(self, notice: KernelNotice) -> None:
        if self._heard is not None:
            self._heard(notice)

    # --- ports -------------------------------------------------------------------------------------------

    def start(self, heard: Callable[[KernelNotice], None]) -> None:
        self._heard = heard

    def stop(self) -> None:
        self._heard = None

    def read(self, name: str | None = None) -> Any:
        """The routes, or with a name the bridge."""
        if name is not None:
            return self.bridge
        if "read" in self.failing:
            raise self.failing["read"]
        self.reads += 1
        return dict(self.ours)

    def prepare(self, wanted: Delta[RouteKey, Route]) -> Callable[[], dict[RouteKey, KernelError]]:
        return partial(self.apply, wanted)

    def apply(self, wanted: Any) -> Any:
        """Of routes, or of the bridge."""
        if isinstance(wanted, BridgePlan):
            if "bridge" in self.failing:
                raise self.failing["bridge"]
            self.bridge = wanted
            return None
        self.batches.append(wanted)
        failed: dict[RouteKey, KernelError] = {}
        for key, route in wanted.put.items():
            error = self.refuses(route) or self._unreachable(route)
            if error is None and route.metric and key in self.others:
                why = f"route {route.prefix} metric {route.metric} is somebody else's and stays"
                error = KernelError(why, errno.EEXIST)
            if error is not None:
                failed[key] = error
            else:
                self.ours[key] = route
        for key in wanted.delete:
            self.ours.pop(key, None)
        return failed

    def _unreachable(self, route: Route) -> KernelError | None:
        for hop in route.next_hops:
            link = self.links.get(hop.interface)
            there = self.bridge is not None if hop.interface == BRIDGE else link is not None and link.up
            if not there:
                return KernelError(f"put route {route.prefix} dev {hop.interface}", 19)
        return None

    def underlay(self) -> tuple[Underlay, Mapping[int, HostLink]]:
        if "underlay" in self.failing:
            raise self.failing["underlay"]
        found = Underlay(self.others.values(), self.addresses)
        return found, {link.index: link for link in self.links.values()}


def _member(address: int, left: float) -> str:
    """A client as nft reads it."""
    made = IPv6Address(address) if address >> 32 else IPv4Address(address)
    return f"{made} timeout {round(left * 1000)}ms expires {round(left * 1000)}ms"


def _now() -> float:
    return asyncio.get_running_loop().time()


class _Reader:
    def __init__(self, kernel: SimKernel) -> None:
        self.read = kernel.underlay


class SimServiceCounts:
    """A ports.ServiceCounters: what a test says was counted."""

    def __init__(self) -> None:
        self.counted: dict[ServerKey, int] = {}

    def follow(self, wanted: Collection[ServerKey], ports_on: Collection[Prefix]) -> None:
        self.counted = {key: self.counted.get(key, 0) for key in wanted}

    def change(self, come: Collection[ServerKey], gone: Collection[ServerKey]) -> None:
        self.counted |= dict.fromkeys(come, 0)
        for key in gone:
            self.counted.pop(key, None)

    def read(self) -> Mapping[ServerKey, int]:
        return dict(self.counted)


class SimFirewall:
    """ports.Firewall and ports.Connections: what was handed to nft and to conntrack, in order, and what is in
    force by it. `refuses` says why a text is not taken."""

    def __init__(self, kernel: SimKernel) -> None:
        self._kernel = kernel
        self.whole = ""
        self.amended: list[str] = []
        self.replaced = 0
        self.broken = False  # somebody else changed the table
        self.failing: KernelError | None = None
        self.forgotten: list[Stale] = []
        self.counted: dict[str, int] = {}  # by counter
        self.refuses: Callable[[str], RefusedError | None] = lambda _text: None
        self.table = SimTable()
        self.connections: list[Tracked] = []
        self.ports: list[PortUse] = []
        self.ended: list[Tracked] = []
        self.tracking = Conntrack()  # of packets that are walked through the node

    def _taken(self, text: str) -> None:
        if self.failing is not None:
            raise self.failing
        if (refusal := self.refuses(text)) is not None:
            raise refusal

    def apply(self, ruleset: str) -> None:
        self._taken(ruleset)
        self.table = self.table.amended(ruleset, _now())
        self.whole, self.broken = ruleset, False
        self.counted.clear()
        self.amended.clear()
        self.replaced += 1

    def amend(self, transaction: str) -> None:
        self._taken(transaction)
        self.table = self.table.amended(transaction, _now())
        self.amended.append(transaction)

    def intact(self) -> bool:
        return not self.broken

    def there(self) -> bool:
        return bool(self.whole)

    def touched(self, generation: int | None) -> None:
        pass

    def clients(self, names: Collection[str]) -> Mapping[str, Sequence[str]]:
        now = _now()
        found = ((name, self.table.sets[name].filled(now)) for name in names if name in self.table.sets)
        return {name: [_member(key, until - now) for key, until in held.items()] for name, held in found}

    def of(self, addresses: Collection[Address]) -> Sequence[Tracked]:
        own = {each.address for each in self._kernel.addresses}
        return [
            each
            for each in self.connections
            if each.source not in own and not {each.source, each.destination}.isdisjoint(addresses)
        ] + self.tracking.of(addresses, own)

    def seen_as(self, addresses: Collection[Address]) -> Sequence[Tracked]:
        return self.tracking.seen_as(addresses)

    def end(self, connections: Collection[Tracked]) -> None:
        self.ended += connections
        self.connections = [each for each in self.connections if each not in connections]
        self.tracking.end(connections)

    def used_ports(self) -> Sequence[PortUse]:
        if self.failing is not None:
            raise self.failing
        return self.ports

    def refused(self) -> Mapping[str, int]:
        return {"insert_failed": 3, "drop": 4, "early_drop": 5}

    def forget_floating(self, holders: Mapping[Address, Address | None]) -> None:
        self.tracking.forget_floating(holders)

    def forget(self, stale: Collection[Stale]) -> None:
        self.forgotten += stale
        self.tracking.forget(stale, {each.address for each in self._kernel.addresses})

    def read(self) -> Mapping[str, int]:
        """ports.Counters."""
        if self.failing is not None:
            raise self.failing
        return dict(self.counted)

    def flush(self) -> None:
        """Somebody flushes the ruleset."""
        self.whole, self.broken, self.table = "", True, SimTable()
        self._kernel.notice(TableSeen(7))

    @property
    def text(self) -> str:
        """The table and all that was changed in it since."""
        return "\n".join((self.whole, *self.amended))


class SimDiscovery:
    """ports.Discovery."""

    def __init__(self) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.problems: dict[str, str] = {}
        self.found: dict[str, tuple[IPv6Address, ...]] = {}

    def watch(self, interfaces: Collection[str]) -> None:
        self.watched = set(interfaces)

    def routers(self, interface: str) -> tuple[IPv6Address, ...]:
        return self.found.get(interface, ())

    def close(self) -> None:
        pass


class SimErrors:
    """ports.ErrorHandOn."""

    def __init__(self) -> None:
        self.is_service: Callable[[Address], bool] = lambda _address: False
        self.problem = ""
        self.port = 0
        self.taken = False  # somebody has the port
        self.nodes: list[Sequence[Address]] = []

    def start(self) -> None:
        self.port, self.problem = (0, "port in use") if self.taken else (6108, "")

    def stop(self) -> None:
        self.port = 0

    def update(self, nodes: Collection[Sequence[Address]], own: Sequence[Address]) -> None:
        self.nodes = list(nodes)


class SimEnvelope:
    """ports.EnvelopeDevice. `failing`: why the kernel has none."""

    def __init__(self) -> None:
        self.plan: Envelope | None = None
        self.failing: KernelError | None = None
        self.index = 40  # of the next one that is made
        self.gone = 0  # times that it was taken away, and what led by it with it

    def apply(self, plan: Envelope) -> int:
        if self.failing is not None:
            raise self.failing
        self.plan = plan
        return self.index

    def remove(self) -> None:
        self.plan = None
        self.gone += 1


class SimEgressWays:
    """ports.EgressWays. `failing`: why the kernel has none."""

    def __init__(self, envelope: SimEnvelope) -> None:
        self._envelope = envelope
        self._made: tuple[int, int] | None = None  # for which device
        self._ways: frozenset[EgressWay] = frozenset()
        self.mtu = 0
        self.failing: KernelError | None = None

    @property
    def ways(self) -> frozenset[EgressWay]:
        """Those that lead somewhere: routes go with their device."""
        return self._ways if self._made == self._device() else frozenset()

    def apply(self, ways: Collection[EgressWay], device: str, mtu: int) -> None:
        if self.failing is not None:
            raise self.failing
        if ways and (device != ENVELOPE or self._device() is None):
            raise KernelError(f"egress: no device {device}", errno.ENODEV)
        self._ways, self._made, self.mtu = frozenset(ways), self._device(), mtu

    def _device(self) -> tuple[int, int] | None:
        return None if self._envelope.plan is None else (self._envelope.index, self._envelope.gone)


class SimDrops:
    """ports.PacketLog."""

    def __init__(self) -> None:
        self.problem = ""
        self.taken = False  # somebody has the group
        self._heard: Callable[[LoggedPacket], None] | None = None

    @property
    def open(self) -> bool:
        return self._heard is not None

    def start(self, heard: Callable[[LoggedPacket], None]) -> None:
        self.problem = "group in use" if self.taken else ""
        self._heard = None if self.taken else heard

    def stop(self) -> None:
        self._heard, self.problem = None, ""

    def drop(self, prefix: str, packet: bytes) -> None:
        """The kernel logs one."""
        if self._heard is not None:
            self._heard(LoggedPacket(1000.0 + asyncio.get_running_loop().time(), prefix, packet))


class SimHealth:
    """ports.HealthPorts: what is answered by port. `taken`: ports that somebody else has."""

    def __init__(self) -> None:
        self.answers: dict[int, Answer] = {}
        self.taken: set[int] = set()
        self.tried = 0

    async def listen(self, port: int, answer: Answer) -> None:
        self.tried += 1
        if port in self.taken:
            raise KernelError(f"listen on TCP port {port}", 98)
        assert port not in self.answers
        self.answers[port] = answer

    def close(self, port: int) -> None:
        self.answers.pop(port, None)

    def ask(self, port: int, path: str = "/", version: int = 4) -> HealthAnswer | None:
        """As a load balancer."""
        return self.answers[port](path, version)


class SimProxies:
    """ports.OtherProxy and ports.ProxyMemory: a kube-proxy that may come and go."""

    def __init__(self) -> None:
        self.mode = ""  # in which it answers
        self.left = ""  # its tables
        self.was: bool | None = None
        self.listed = 0

    async def answers(self) -> str:
        return self.mode

    def tables(self) -> str:
        self.listed += 1
        return self.left

    def read(self) -> bool | None:
        return self.was

    def write(self, on: bool) -> None:
        self.was = on


class SimPods:
    """The CNI server: which addresses pods have."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.on_missing: Callable[[str], None] = lambda _pool: None
        self.admission: Admission | None = None
        self.wired: dict[str, Attached] = {}
        self.network: NodeNetwork | None = None
        self.updates: list[NodeNetwork] = []
        self.leased: set[Address] = set()
        self.reattached = 0
        self.allowed = Allowed()
        self.guard_looks = 0

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def hold(self) -> None:
        pass

    def release(self) -> None:
        pass

    def update(self, network: NodeNetwork) -> None:
        self.network = network
        self.updates.append(network)

    def problems(self) -> list[str]:
        return [f"{fault.part}: {fault.last}" for fault in self.faults.found() if fault.lasting]

    def status(self) -> Mapping[str, Any]:
        return {"leases": len(self.leased), "adopted": 0, "conflicts": 0, "quarantined": 0, "faults": []}

    def timings(self) -> Mapping[str, Histogram]:
        return {}

    def reattach_ports(self) -> list[str]:
        self.reattached += 1
        return []

    def allow(self, allowed: Allowed) -> None:
        self.allowed = allowed

    def guard_touched(self) -> None:
        self.guard_looks += 1

    async def add(self, key: str, attached: Attached, uid: str = "") -> str:
        """As ADD has its policies in force first: why the pod was not wired, empty if it was."""
        assert self.admission is not None
        waiting = self.admission.admit(key, attached, uid)
        why = "" if waiting is None else await asyncio.wrap_future(waiting)
        if why:
            self.admission.release(key)
        else:
            self.wired[key] = attached
        return why

    def delete(self, key: str) -> None:
        if self.wired.pop(key, None) is not None and self.admission is not None:
            self.admission.release(key)

    def holds(self, block: Prefix) -> bool:
        return any(address in block for address in self.leased)

    def attached(self) -> Iterable[tuple[str, Attached]]:
        return list(self.wired.items())

    def attachments(self, block: Prefix | None = None) -> int:
        return sum(1 for address in self.leased if block is None or address in block)

    def usage(self, _sets: object) -> Usage:
        return Usage(len(self.leased), 0)


class SimBfd:
    """The BFD process, behind ports.Connect."""

    def __init__(self) -> None:
        self.running = True
        self.wanted: dict[Address, Any] = {}
        self.forgiven: list[Address] = []
        self.up = False

    def connect(
        self, connected: Callable[[], None], received: Callable[[bytes], None], lost: Callable[[], None]
    ) -> SimBfd:
        self._connected, self._received, self._lost = connected, received, lost
        self._ended = asyncio.Event()
        return self

    def send(self, data: bytes) -> None:
        for line in data.splitlines():
            command = decode_command(line)
            if isinstance(command, tuple):
                self.wanted = {each.peer: each for each in command}
            else:
                self.forgiven.append(command)

    def send_line(self, line: str) -> None:
        self.send(line.encode())

    async def run(self) -> None:
        while True:
            while not self.running:  # noqa: ASYNC110 - as long as a test says
                await asyncio.sleep(0.1)
            self.up, self._ended = True, asyncio.Event()
            self._connected()
            self._received(encode_hello(Hello(1, "")))
            await self._ended.wait()
            self.up = False
            self._lost()

    def stop(self) -> None:
        self.running = False
        self._ended.set()

    def say(self, peer: Address, state: str, *, failed: bool = False, shares_fate: bool = False) -> None:
        now = asyncio.get_running_loop().time()
        found = SessionState(
            peer,
            state,
            state,
            now,
            "Control Detection Time Expired",
            "",
            900.0,
            300.0,
            failed,
            shares_fate,
            0,
        )
        self._received(encode_state(found))


class SimMemory:
    """Files of the run directory: the drain's, and the routes for the next agent. They outlive agents."""

    def __init__(self) -> None:
        self._leave = False
        self._touched = asyncio.Event()
        self.record: DrainRecord | None = None
        self.routes: Mapping[RouteKey, Route] = {}
        self.full = False

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def leave(self) -> bool:
        return self._leave

    @leave.setter
    def leave(self, leave: bool) -> None:
        self._leave = leave
        self._touched.set()

    def asked(self) -> bool:
        return self._leave

    async def touched(self) -> None:
        await self._touched.wait()
        self._touched.clear()

    def read(self) -> DrainRecord | None:
        return self.record

    def write(self, record: DrainRecord | None) -> None:
        self.record = record


class _Routes:
    def __init__(self, memory: SimMemory) -> None:
        self._memory = memory

    def read(self) -> Mapping[RouteKey, Route]:
        return self._memory.routes

    def write(self, routes: Mapping[RouteKey, Route]) -> None:
        self._memory.routes = routes


class SimCollectors:
    """ports.Collectors: those at the addresses `there` take what they are told."""

    def __init__(self) -> None:
        self.there: dict[tuple[Address, int], SimCollector] = {}
        self.tried = 0

    def now(self) -> float:
        return 1_700_000_000 + asyncio.get_running_loop().time()

    async def connect(self, address: Address, port: int) -> SimCollector:
        self.tried += 1
        found = self.there.get((address, port))
        if found is None:
            raise CollectorError("connection refused")
        found.began()
        return found


class SimCollector:
    """ports.Collector: the octets of each connection. `deaf`: it reads nothing."""

    def __init__(self) -> None:
        self.connections: list[bytearray] = []
        self.open = False
        self.deaf = False
        self._gone = asyncio.Event()

    def began(self) -> None:
        self.connections.append(bytearray())
        self.open, self._gone = True, asyncio.Event()

    def hang_up(self) -> None:
        self._gone.set()

    async def send(self, octets: bytes) -> None:
        while self.deaf:  # noqa: ASYNC110 - as long as a test says
            await asyncio.sleep(0.1)
        if self._gone.is_set():
            raise CollectorError("connection reset by peer")
        self.connections[-1] += octets

    async def ended(self) -> str:
        await self._gone.wait()
        return ""

    def farewell(self, octets: bytes) -> None:
        self.connections[-1] += octets

    def close(self) -> None:
        self.open = False


class SimProcess:
    """ports.Process."""

    pid = 1

    def peak_memory(self) -> int:
        return 64 << 20

    def resident(self) -> int:
        return 50 << 20

    def cpu_seconds(self) -> float:
        return 1.0

    def uptime(self) -> float:
        return 1.0

    def started_at(self) -> float:
        return 1_700_000_000.0


class _Directory:
    """ports.Manifests: what `bgp plan` reads."""

    def __init__(self, documents: Iterable[Mapping[str, Any]]) -> None:
        self._documents = documents
        self.broken: frozenset[Any] = frozenset()

    def look(self) -> Iterable[DatastoreEvent]:
        for document in self._documents:
            found = translate(document)
            assert found is not None
            yield Changed(*found)


class SimNode:
    """A node with a link up0 to its routers. Everything but the agent lives on when that is killed."""

    def __init__(
        self,
        *routers: SimRouter,
        name: str = "n1",
        links: Mapping[str, Sequence[str]] | None = None,
        declares_pods: bool = False,
    ) -> None:
        self.name = name
        self.declares_pods = declares_pods
        self.datastore = SimDatastore()
        self.kernel = SimKernel()
        self.firewall = SimFirewall(self.kernel)
        self.discovery = SimDiscovery()
        self.errors = SimErrors()
        self.drops = SimDrops()
        self.envelope = SimEnvelope()
        self.egress_ways = SimEgressWays(self.envelope)
        self.pods = SimPods()
        self.health = SimHealth()
        self.proxies = SimProxies()
        self.collectors = SimCollectors()
        self.speaker = SimSpeaker(*routers)
        self.bfd = SimBfd()
        self.memory = SimMemory()
        self.plans: dict[str, list[Mapping[str, Any]]] = {}
        self.forwarding = 0
        self.agent: Agent
        self._task: asyncio.Task[None] | None = None
        self.kernel.add_link("lo", "127.0.0.1/8")
        for link, addresses in (links or {"up0": ("10.0.0.2/24", "fd00::2/64")}).items():
            self.kernel.add_link(link, *addresses)

    def shells(self) -> Shells:
        kernel: Any = self.kernel
        return Shells(
            datastore=self.datastore,
            kernel=Kernel(
                routes=kernel,
                bridges=kernel,
                underlay=_Reader(self.kernel),
                notices=kernel,
                firewall=self.firewall,
                connections=self.firewall,
                discovery=self.discovery,
                errors=self.errors,
                drops=self.drops,
                counters=self.firewall,
                service_counters=SimServiceCounts(),
                envelope=self.envelope,
                egress_ways=self.egress_ways,
                enable_forwarding=self._forward,
            ),
            speaker=Speaker(self.speaker.connect, self.speaker, self._token),  # type: ignore[arg-type]
            bfd=self.bfd.connect,  # type: ignore[arg-type]
            pods=self.pods,
            health=self.health,
            proxies=Proxies(self.proxies, self.proxies),
            collectors=self.collectors,
            drain=self.memory,
            memory=_Routes(self.memory),
            process=SimProcess(),
            manifests=lambda path: _Directory(self.plans[str(path)]),
            random=Random(1),
            declares_pods=self.declares_pods,
        )

    def _forward(self) -> list[KernelError]:
        self.forwarding += 1
        return []

    def _token(self) -> str:
        return f"{len(self.speaker.commands):08x}"

    # --- the agent ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start an agent."""
        settings = AgentSettings(
            self.name, Chosen(directory=Path("/nowhere")), Path("/nowhere"), Path("/nowhere")
        )
        self.agent = Agent(settings, self.shells())
        self._task = asyncio.create_task(run_agent(self.agent))

    @property
    def running(self) -> bool:
        """Whether there is an agent."""
        return self._task is not None

    async def kill(self) -> None:
        """As SIGKILL: what it made stays."""
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self.speaker.link, self._task = None, None
        self.bfd.up = False

    async def terminate(self) -> None:
        """As SIGTERM."""
        await self.agent.finish()
        await self.kill()

    async def begun(self, *documents: Mapping[str, Any], seconds: float = 3.0) -> None:
        """Declare, start, and let it settle."""
        self.datastore.apply(*documents)
        self.start()
        await asyncio.sleep(seconds)

    # --- what is seen ------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(json.dumps(status(self.agent)))
        return found

    def peers(self) -> dict[str, dict[str, Any]]:
        return {row["address"]: row for row in self.status()["peers"]}

    def learned(self) -> set[str]:
        """Prefixes of routes with our BGP metric in the kernel."""

        return {str(prefix) for prefix, metric in self.kernel.ours if metric == METRIC_BGP}

    def heard(self, router: SimRouter) -> set[str]:
        return {str(prefix) for prefix in router.heard}

    def lose_notices(self) -> None:
        self.kernel.notice(NoticesLost())


# --- documents -------------------------------------------------------------------------------------------


def document(
    kind: str, name: str, *, namespace: str = "", version: str = "l3net.io/v1alpha1", **body: Any
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    metadata |= body.pop("metadata", {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **body}


def node(
    name: str,
    *blocks: str,
    addresses: Sequence[str] = ("10.0.0.2", "fd00::2"),
    ready: bool = True,
    **more: Any,
) -> dict[str, Any]:
    metadata = more.pop("metadata", {})
    spec: dict[str, Any] = {"podCIDRs": list(blocks), **more}
    return document(
        "Node",
        name,
        version="v1",
        metadata=metadata,
        spec=spec,
        status={
            "addresses": [{"type": "InternalIP", "address": each} for each in addresses],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    )


def configuration(**spec: Any) -> dict[str, Any]:
    return document(
        "BGPConfiguration",
        "default",
        spec={"nodeToNodeMesh": False, "import": {"cidrs": ["0.0.0.0/0", "::/0"]}, **spec},
    )


def peer(name: str, address: str, as_number: int = 65001, **spec: Any) -> dict[str, Any]:
    return document("BGPPeer", name, spec={"address": address, "asNumber": as_number, **spec})


def service(
    name: str, *addresses: str, ports: Sequence[Mapping[str, Any]] = ({"port": 80},), **spec: Any
) -> dict[str, Any]:
    body = {"clusterIP": addresses[0], "clusterIPs": list(addresses), "ports": list(ports), **spec}
    return document("Service", name, namespace="default", version="v1", spec=body)


def endpoints(
    name: str, *addresses: str, port: int = 8080, on: str = "n1", protocol: str = "TCP"
) -> dict[str, Any]:
    family = "IPv6" if ":" in (addresses or ("",))[0] else "IPv4"
    return document(
        "EndpointSlice",
        f"{name}-{family.lower()}",
        namespace="default",
        version="discovery.k8s.io/v1",
        metadata={"labels": {"kubernetes.io/service-name": name}},
        addressType=family,
        endpoints=[
            {"addresses": [each], "conditions": {"ready": True}, "nodeName": on} for each in addresses
        ],
        ports=[{"name": "", "port": port, "protocol": protocol}],
    )
