"""The parts of an attachment: what ADD makes beside the address, each with what takes it away again.

A part is decided alone, from the same facts as the others. What undoes it is a value of its own, small enough
to be told from what is left of an attachment when its configuration, its result or the store is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from l3net.cni.bridgeconf import with_gateways
from l3net.cni.extras import UNLIMITED, Bandwidth, Extras, bandwidth, extras_of
from l3net.cni.host_end import alias_of, host_routes, interface_address, mac_for
from l3net.cni.ifname import host_ifname
from l3net.cni.request import Request
from l3net.cni.result import InterfaceAddress, PodRoute, Result
from l3net.cni.setup import Setup, pod_labels
from l3net.ipam.lease import Lease, LeaseKey, PodName
from l3net.model import Address, BridgePlan
from l3net.naming import BRIDGE

if TYPE_CHECKING:
    from l3net.cni.guard import GuardedPort


@dataclass(frozen=True, slots=True)
class Facts:
    """What an attachment is decided from. `lease` has a delegate's addresses too, whose result is `given`.

    `mac` is the pod's, asked for or by its addresses; `record` is what the store keeps of the attachment,
    None as long as nothing can have been recorded (ADD).
    """

    setup: Setup
    request: Request
    lease: Lease
    mac: str
    given: Result | None = None
    record: str | None = None


def facts_of(
    setup: Setup,
    request: Request,
    lease: Lease,
    asked_mac: str = "",
    given: Result | None = None,
    record: str | None = None,
) -> Facts:
    """The facts of an attachment for which a MAC was asked, or (empty) was not."""
    mac = asked_mac or mac_for(leased.address for leased in lease.addresses)
    return Facts(setup, request, lease, mac, given, record)


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of an attachment that goes; its lease, its record or both may be lost."""

    key: LeaseKey
    lease: Lease | None = None
    record: str | None = None


class Part(Protocol):
    """One thing that ADD makes. `stops_traffic`: once it is undone, no packet of the pod passes."""

    stops_traffic: ClassVar[bool]

    @classmethod
    def wanted(cls, facts: Facts) -> Part | None:
        """The part of an attachment, None if it has none. Raises CniError 7."""
        ...

    @classmethod
    def left(cls, held: Held) -> object | None:
        """What undoes the part of an attachment that goes, None if there is nothing to undo."""
        ...

    @property
    def undo(self) -> object | None:
        """What undoes this part; None: it stays."""
        ...


@dataclass(frozen=True, slots=True)
class Bridge:
    """The bridge of a network without an agent. It stays: other pods may be on it."""

    plan: BridgePlan
    force_address: bool = False
    promiscuous: bool = False

    stops_traffic: ClassVar[bool] = False

    @classmethod
    def wanted(cls, facts: Facts) -> Bridge | None:
        setup = facts.setup
        if not setup.manage_bridge:
            return None
        gateways: Iterable[tuple[Address, int]] = ()
        if setup.is_gateway:
            gateways = (
                (leased.gateway, leased.prefix_length)
                for leased in facts.lease.addresses
                if leased.gateway is not None
            )
        plan = BridgePlan(setup.bridge, "", setup.mtu, frozenset(gateways))
        return cls(plan, setup.force_address, setup.promiscuous)

    @classmethod
    def left(cls, held: Held) -> None:
        del held

    @property
    def undo(self) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Unguard:
    """Closes a port, and forgets it when its link is gone."""

    host_ifname: str


@dataclass(frozen=True, slots=True)
class Guard:
    """What the port of a pod of the node may send from, in force before there is such a port."""

    port: GuardedPort

    stops_traffic: ClassVar[bool] = False

    @classmethod
    def wanted(cls, facts: Facts) -> Guard | None:
        if not facts.setup.host_routes or not facts.mac:
            return None
        from l3net.cni.guard import GuardedPort  # noqa: PLC0415 - where an agent runs

        lease = facts.lease
        addresses = tuple([leased.address for leased in lease.addresses])
        return cls(GuardedPort(host_ifname(lease.key), facts.mac, addresses, str(lease.pod)))

    @classmethod
    def left(cls, held: Held) -> Unguard:
        """By the name alone."""
        return Unguard(host_ifname(held.key))

    @property
    def undo(self) -> Unguard:
        return Unguard(self.port.name)


@dataclass(frozen=True, slots=True)
class BridgePort:
    """How the host end sits on its bridge."""

    bridge: str
    isolated: bool = True
    hairpin: bool = False
    pinned: bool = False  # the node knows by the plan which MAC is where, and believes no packet about it


@dataclass(frozen=True, slots=True)
class Unwire:
    """Deletes a host end, and the pod's end with it."""

    host_ifname: str


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The veth pair with the pod's addresses and routes. `mtu` 0 takes the kernel's default."""

    key: LeaseKey
    host_ifname: str
    mac: str
    mtu: int
    addresses: tuple[InterfaceAddress, ...]
    routes: tuple[PodRoute, ...]
    port: BridgePort
    alias: str = ""
    enabled: bool = True  # disableContainerInterface leaves the pod's end down
    bandwidth: Bandwidth = UNLIMITED

    stops_traffic: ClassVar[bool] = True

    @classmethod
    def wanted(cls, facts: Facts) -> Sandbox:
        setup, lease = facts.setup, facts.lease
        return cls(
            key=lease.key,
            host_ifname=host_ifname(lease.key),
            mac=facts.mac,
            mtu=setup.mtu,
            addresses=tuple(map(interface_address, lease.addresses)),
            routes=_routes(facts),
            port=BridgePort(setup.bridge, setup.isolated, setup.hairpin, pinned=setup.host_routes),
            alias=alias_of(lease, facts.mac),
            enabled=setup.enabled,
            bandwidth=bandwidth(facts.request),
        )

    @classmethod
    def left(cls, held: Held) -> Unwire:
        """By the name alone, which follows from the attachment."""
        return Unwire(host_ifname(held.key))

    @property
    def undo(self) -> Unwire:
        return Unwire(self.host_ifname)


def _routes(facts: Facts) -> tuple[PodRoute, ...]:
    setup, leased = facts.setup, facts.lease.addresses
    if setup.host_routes:
        return host_routes(leased) + setup.routes
    gateways = [each.gateway for each in leased if each.gateway is not None]
    wanted = setup.routes if facts.given is None else facts.given.routes
    return with_gateways(wanted, gateways, default_gateway=setup.default_gateway)


@dataclass(frozen=True, slots=True)
class Unpin:
    """Makes addresses nobody's: what is sent to them is refused, not lost."""

    bridge: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Pins:
    """Which MAC an address has, and which port a MAC, as the plan says, and no packet otherwise.

    The forwarding entry goes with the port, the neighbour entries stay on the bridge until they are undone.
    """

    bridge: str
    mac: str
    addresses: tuple[Address, ...]

    stops_traffic: ClassVar[bool] = False

    @classmethod
    def wanted(cls, facts: Facts) -> Pins | None:
        if not facts.setup.host_routes or not facts.mac:
            return None
        addresses = tuple([leased.address for leased in facts.lease.addresses])
        return cls(facts.setup.bridge, facts.mac, addresses)

    @classmethod
    def left(cls, held: Held) -> Unpin | None:
        """Of the node's bridge, whose pods have full-length prefixes and a lease of the agent's store."""
        lease = held.lease
        if lease is None or not lease.host_ifname or not lease.store:
            return None
        full = [each.address for each in lease.addresses if each.prefix_length == each.address.max_prefixlen]
        return Unpin(BRIDGE, tuple(full)) if full else None

    @property
    def undo(self) -> Unpin:
        return Unpin(self.bridge, self.addresses)


@dataclass(frozen=True, slots=True)
class Unpoliced:
    """Lets go of what policies have for an attachment."""

    key: LeaseKey


@dataclass(frozen=True, slots=True)
class Policed:
    """The policies for a pod of the node's bridge: in force before its link is up. `labels` are those that
    the runtime tells."""

    key: LeaseKey
    pod: PodName
    addresses: tuple[Address, ...]
    labels: tuple[tuple[str, str], ...] = ()
    mac: str = ""

    stops_traffic: ClassVar[bool] = False

    @classmethod
    def wanted(cls, facts: Facts) -> Policed | None:
        lease = facts.lease
        if not facts.setup.host_routes or not lease.addresses:
            return None
        labels = tuple(sorted(pod_labels(facts.request).items()))
        addresses = tuple([leased.address for leased in lease.addresses])
        return cls(lease.key, lease.pod, addresses, labels, facts.mac)

    @classmethod
    def left(cls, held: Held) -> Unpoliced:
        return Unpoliced(held.key)

    @property
    def undo(self) -> Unpoliced:
        return Unpoliced(self.key)


@dataclass(frozen=True, slots=True)
class Elements:
    """What the firewall must know: published ports, masquerade, the MAC the port sends from.

    Recorded in the store before it is put, and undone by the same value, so that it can always be told.
    """

    extras: Extras

    stops_traffic: ClassVar[bool] = False

    @classmethod
    def wanted(cls, facts: Facts) -> Elements | None:
        setup, lease = facts.setup, facts.lease
        extras = extras_of(
            facts.request,
            setup.bridge,
            host_ifname(lease.key),
            [leased.address for leased in lease.addresses],
            masquerade=setup.masquerade,
            mac=facts.mac if setup.pin_source else "",
            labels=pod_labels(facts.request) if setup.host_routes else {},
        )
        if facts.record is not None:  # CHECK asks for what was put, whatever the request says now
            extras = Extras.decode(facts.record) if facts.record else None
        return cls(extras) if extras else None

    @classmethod
    def left(cls, held: Held) -> Elements | None:
        return cls(Extras.decode(held.record)) if held.record else None

    @property
    def undo(self) -> Elements:
        return self
