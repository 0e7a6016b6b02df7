"""From a setup and its addresses to one attachment: sandbox plan, extras, and the result to print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from l3net.cni.bridgeconf import with_gateways
from l3net.cni.extras import Extras, bandwidth, published_ports
from l3net.cni.plan import (
    BridgePort,
    SandboxPlan,
    alias_of,
    assigned,
    host_ifname,
    host_routes,
    interface_address,
    mac_for,
)
from l3net.cni.request import Request
from l3net.cni.result import Interface, Result, shown
from l3net.cni.setup import Setup
from l3net.ipam.lease import Lease


@dataclass(frozen=True, slots=True)
class Attachment:
    """All that ADD does for one interface."""

    plan: SandboxPlan
    extras: Extras
    lease: Lease
    dns: Mapping[str, Any] | None = None


def attachment(setup: Setup, request: Request, lease: Lease, mac: str, given: Result | None) -> Attachment:
    """`given` is what a delegate answered: its routes and dns count. Raises CniError 7."""
    gateways = [leased.gateway for leased in lease.addresses if leased.gateway is not None]
    if setup.host_routes:
        routes = host_routes(lease.addresses) + setup.routes
    else:
        wanted = setup.routes if given is None else given.routes
        routes = with_gateways(wanted, gateways, default_gateway=setup.default_gateway)
    chosen_mac = mac or mac_for(leased.address for leased in lease.addresses)
    plan = SandboxPlan(
        key=lease.key,
        host_ifname=host_ifname(lease.key),
        mac=chosen_mac,
        mtu=setup.mtu,
        addresses=tuple(map(interface_address, lease.addresses)),
        routes=routes,
        port=BridgePort(setup.bridge, setup.isolated, setup.hairpin, pinned=setup.host_routes),
        alias=alias_of(lease, chosen_mac),
        enabled=setup.enabled,
        bandwidth=bandwidth(request),
    )
    ports = published_ports(request)
    nothing = not (ports or setup.masquerade or setup.pin_source)
    extras = Extras(
        bridge=setup.bridge,
        port=plan.host_ifname,
        addresses=() if nothing else tuple(shown(leased.address) for leased in lease.addresses),
        ports=ports,
        masquerade=setup.masquerade,
        mac=chosen_mac if setup.pin_source else "",
    )
    return Attachment(plan, extras, lease, setup.dns or (given.dns if given else None))


def result_of(
    wanted: Attachment,
    netns: str,
    bridge: tuple[str, str, int],
    host: tuple[str, str, int],
    pod: tuple[str, str, int],
) -> Result:
    """The result of ADD; each link is given as (name, MAC, MTU) the kernel shows."""
    return Result(
        interfaces=(
            Interface(bridge[0], bridge[1], mtu=bridge[2]),
            Interface(host[0], host[1], mtu=host[2]),
            Interface(pod[0], pod[1], netns, pod[2]),
        ),
        addresses=assigned(wanted.lease, 2),
        routes=wanted.plan.routes,
        dns=wanted.dns,
    )
