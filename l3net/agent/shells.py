"""All that an agent does to the world and hears of it, made by the composition root (`l3net.cli.agent`) or by
a test. The clock is that of the event loop; who runs the agent chooses the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

from l3net.cni.guard import Allowed
from l3net.cni.setup import NodeNetwork
from l3net.errors import KernelError
from l3net.faults import Faults
from l3net.ipam.lease import Usage
from l3net.ipam.ranges import RangeSet
from l3net.metering.histogram import Histogram
from l3net.model import Kind, Prefix
from l3net.policy.attached import Attached
from l3net.ports import (
    Admission,
    Bridges,
    Collectors,
    Connect,
    Connections,
    Counters,
    Datastore,
    Discovery,
    DrainMemory,
    EgressWays,
    EnvelopeDevice,
    ErrorHandOn,
    Firewall,
    HealthPorts,
    KernelNotices,
    Manifests,
    OtherProxy,
    PacketLog,
    Process,
    ProxyMemory,
    RouteMemory,
    RouteTable,
    ServiceCounters,
    SpeakerFiles,
    UnderlayReader,
    View,
)


class Pods(Protocol):
    """The CNI server: what runtimes have attached to this node."""

    faults: Faults
    #: Called, from any thread, with the name of a pool that a pod needs and the node has no block of.
    on_missing: Callable[[str], None]
    #: Asked before a pod is wired, and told when it is gone.
    admission: Admission | None

    def attached(self) -> Iterable[tuple[str, Attached]]:
        """The attachments that policies are for, each by a key."""
        ...

    def start(self) -> None:
        """Raises LeaseStoreError, KernelError."""
        ...

    def stop(self) -> None: ...

    def update(self, network: NodeNetwork) -> None:
        """Exchange what is known of the node, as a whole."""
        ...

    def hold(self) -> None:
        """Have ADD wait for `release`, unless that came since the node has started."""
        ...

    def release(self) -> None:
        """Peers have heard of the node's blocks, or had their time: ADD goes on. From any thread."""
        ...

    def problems(self) -> Collection[str]: ...

    def status(self) -> Mapping[str, Any]: ...

    def timings(self) -> Mapping[str, Histogram]:
        """How long the phases of CNI ADD took."""
        ...

    def reattach_ports(self) -> Collection[str]:
        """Put the host ends of all leases back on the bridge, after that was applied."""
        ...

    def allow(self, allowed: Allowed) -> None:
        """Exchange what pods may send from beside their own addresses, as a whole."""
        ...

    def guard_touched(self) -> None:
        """Somebody else may have changed the table of the pods' ports."""
        ...

    def holds(self, block: Prefix) -> bool:
        """Whether an address of a block is leased; where that cannot be told, it is taken to be."""
        ...

    def attachments(self, block: Prefix | None = None) -> int: ...

    def usage(self, sets: RangeSet) -> Usage:
        """Leased and cooling addresses of a set, of all networks. Raises LeaseStoreError."""
        ...


@dataclass(frozen=True, slots=True)
class Kernel:
    """The node's network namespace. `drops` hears of what policies drop; `enable_forwarding`
    answers with what could not be enabled."""

    routes: RouteTable
    bridges: Bridges
    underlay: UnderlayReader
    notices: KernelNotices
    firewall: Firewall
    connections: Connections
    discovery: Discovery
    errors: ErrorHandOn
    drops: PacketLog
    counters: Counters
    service_counters: ServiceCounters
    envelope: EnvelopeDevice
    egress_ways: EgressWays
    enable_forwarding: Callable[[], list[KernelError]]


@dataclass(frozen=True, slots=True)
class Speaker:
    """ExaBGP behind its relay. `token` makes a word that no other question of any agent bears; `guarded`: our
    ExaBGP holds who dials in to MD5 and GTSM."""

    connect: Connect
    files: SpeakerFiles
    token: Callable[[], str]
    guarded: bool = True


@dataclass(frozen=True, slots=True)
class Proxies:
    """Another service proxy on the node, and whether l3net was it before."""

    other: OtherProxy
    memory: ProxyMemory


@dataclass(frozen=True, slots=True)
class Shells:
    """`views` tells how old what is known of each kind is, `detour` by what other way the datastore is asked,
    where it can; `bfd` reaches the BFD process; `manifests` reads a directory for a plan; `random` spreads
    what many agents do. `declares_pods`: every pod that a runtime names is declared, sooner or later."""

    datastore: Datastore
    kernel: Kernel
    speaker: Speaker
    bfd: Connect
    pods: Pods
    health: HealthPorts
    proxies: Proxies
    collectors: Collectors
    drain: DrainMemory
    memory: RouteMemory
    process: Process
    manifests: Callable[[Path], Manifests]
    random: Random
    views: Callable[[], Mapping[Kind, View]] = dict
    detour: Callable[[], str] = str
    declares_pods: bool = False
