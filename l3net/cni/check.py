"""CHECK: what an attachment should be against what is seen, as a list of what is missing.

Held against the plan *and* prevResult: what a later plugin of the chain changed (a route moved to another
table, another MAC) is in prevResult and not ours to complain about (CNI specification 1.1.0, CHECK).
"""

from __future__ import annotations

from dataclasses import dataclass

from l3net.cni.parts import Sandbox
from l3net.cni.result import PodRoute, Result


@dataclass(frozen=True, slots=True)
class SeenPort:
    """The host end: the bridge it is a port of ('' if none)."""

    up: bool
    bridge: str
    isolated: bool
    hairpin: bool


@dataclass(frozen=True, slots=True)
class SeenPod:
    """The pod's end. Addresses with prefix length; routes as (prefix, gateway or '')."""

    up: bool
    addresses: frozenset[str]
    routes: frozenset[tuple[str, str]]


def problems(wanted: Sandbox, previous: Result, port: SeenPort | None, pod: SeenPod | None) -> list[str]:
    """What is not as ADD left it; empty if all is well."""
    found = []
    if port is None:
        found.append(f"host interface {wanted.host_ifname} is missing")
    else:
        if port.bridge != wanted.port.bridge:
            found.append(f"{wanted.host_ifname} is not a port of bridge {wanted.port.bridge}")
        if not port.up:
            found.append(f"{wanted.host_ifname} is down")
        if port.isolated != wanted.port.isolated or port.hairpin != wanted.port.hairpin:
            found.append(f"{wanted.host_ifname} has lost its isolation or hairpin setting")
    if pod is None:
        return [*found, f"interface {wanted.key.ifname} is missing"]
    if wanted.enabled and not pod.up:
        found.append(f"interface {wanted.key.ifname} is down")
    listed = {str(entry.address) for entry in previous.addresses}
    found += [
        f"address {address} is missing"
        for address in map(str, wanted.addresses)
        if address in listed and address not in pod.addresses
    ]
    known = {_key(route) for route in previous.routes}
    found += [
        f"route {route.prefix}{f' through {route.gateway}' if route.gateway else ''} is missing"
        for route in wanted.routes
        if wanted.enabled and _key(route) in known and _key(route) not in pod.routes
    ]
    return found


def _key(route: PodRoute) -> tuple[str, str]:
    return str(route.prefix), str(route.gateway) if route.gateway else ""
