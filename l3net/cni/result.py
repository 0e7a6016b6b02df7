"""The success result of ADD, and prevResult: one set of facts, in the shape of each version.

Shapes: CNI 0.2.0 (ip4, ip6), 0.3.0 to 0.4.0 (ips with `version`), 1.0.0, 1.1.0 (mtu, scope ...).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any, TypeAlias

from l3net.addresses import parse_address, parse_interface, parse_prefix
from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.cni.versions import number
from l3net.model import Address, Prefix

InterfaceAddress: TypeAlias = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class Interface:
    """One link: the bridge and host ends have an empty `sandbox`, the pod's end its namespace path."""

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int | None = None
    socket_path: str = ""
    pci_id: str = ""


@dataclass(frozen=True, slots=True)
class AssignedAddress:
    """An address with its prefix length. `interface` is an index into the result's interfaces."""

    address: InterfaceAddress
    gateway: Address | None = None
    interface: int | None = None


@dataclass(frozen=True, slots=True)
class PodRoute:
    """A route in the pod; without gateway it is on-link. `scope` is rtnetlink's (253 link)."""

    prefix: Prefix
    gateway: Address | None = None
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What ADD did. `dns` is passed through as given."""

    interfaces: tuple[Interface, ...] = ()
    addresses: tuple[AssignedAddress, ...] = ()
    routes: tuple[PodRoute, ...] = ()
    dns: Mapping[str, Any] | None = None


@lru_cache(maxsize=4096)
def shown(value: InterfaceAddress | Address | Prefix) -> str:
    """As text; kept, for writing an IPv6 address costs more than finding it again."""
    return str(value)


def _without_empty(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value not in (None, "")}


def _encode_interface(interface: Interface, version: tuple[int, ...]) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": interface.name, "mac": interface.mac, "sandbox": interface.sandbox}
    if version >= (1, 1, 0):
        fields |= {"mtu": interface.mtu, "socketPath": interface.socket_path, "pciID": interface.pci_id}
    return _without_empty(fields)


def _encode_address(entry: AssignedAddress, version: tuple[int, ...]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if version < (1, 0, 0):
        fields["version"] = str(entry.address.version)
    fields["interface"] = entry.interface
    fields["address"] = shown(entry.address)
    fields["gateway"] = shown(entry.gateway) if entry.gateway else None
    return _without_empty(fields)


def _encode_route(route: PodRoute, version: tuple[int, ...]) -> dict[str, Any]:
    fields: dict[str, Any] = {"dst": shown(route.prefix)}
    fields["gw"] = shown(route.gateway) if route.gateway else None
    if version >= (1, 1, 0):
        fields |= {
            "mtu": route.mtu,
            "advmss": route.advmss,
            "priority": route.priority,
            "table": route.table,
            "scope": route.scope,
        }
    return _without_empty(fields)


def _encode_oldest(result: Result, version: str) -> dict[str, Any]:
    """0.1.0 and 0.2.0: at most one address a family, each with the routes of its family."""
    found: dict[str, Any] = {"cniVersion": version}
    for entry in result.addresses:
        key = f"ip{entry.address.version}"
        if key not in found:
            routes = [
                _encode_route(route, (0, 2, 0))
                for route in result.routes
                if route.prefix.version == entry.address.version
            ]
            found[key] = _without_empty(
                {
                    "ip": str(entry.address),
                    "gateway": str(entry.gateway) if entry.gateway else None,
                    "routes": routes or None,
                }
            )
    found["dns"] = dict(result.dns or {})
    return found


def encode_result(result: Result, version: str) -> dict[str, Any]:
    """The JSON object for standard output (or prevResult) in a supported version's shape."""
    at = number(version)
    if at < (0, 3, 0):
        return _encode_oldest(result, version)
    found: dict[str, Any] = {"cniVersion": version}
    if result.interfaces:
        found["interfaces"] = [_encode_interface(interface, at) for interface in result.interfaces]
    found["ips"] = [_encode_address(entry, at) for entry in result.addresses]
    if result.routes:
        found["routes"] = [_encode_route(route, at) for route in result.routes]
    found["dns"] = dict(result.dns or {})
    return found


def _decode_route(fields: Mapping[str, Any]) -> PodRoute:
    gateway = fields.get("gw")
    return PodRoute(
        prefix=parse_prefix(fields["dst"]),
        gateway=parse_address(gateway) if gateway else None,
        **{key: _number_of(fields, key) for key in ("mtu", "advmss", "priority", "table", "scope")},
    )


def _number_of(fields: Mapping[str, Any], key: str) -> int | None:
    value = fields.get(key)
    if value is not None and (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not 0 <= value < 1 << (8 if key == "scope" else 32)
    ):
        raise ValueError(f"{key}: {value!r} is not a number that fits")
    return value


def decode_routes(found: Sequence[Mapping[str, Any]]) -> tuple[PodRoute, ...]:
    """The `routes` list of a result or of a host-local configuration. Raises CniError 7."""
    try:
        return tuple(_decode_route(fields) for fields in found)
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise CniError(failure.INVALID_CONFIG, f"routes: {err}") from None


def decode_result(found: Mapping[str, Any]) -> Result:
    """A result in any supported version's shape. Raises CniError 6."""
    try:
        return _decode(found)
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise CniError(failure.CANNOT_DECODE, f"result cannot be read: {err!r}") from None


def _decode(found: Mapping[str, Any]) -> Result:
    addresses: list[AssignedAddress] = []
    routes = list(decode_routes(found.get("routes") or ()))
    for key in ("ip4", "ip6"):
        if part := found.get(key):
            gateway = part.get("gateway")
            addresses.append(
                AssignedAddress(parse_interface(part["ip"]), parse_address(gateway) if gateway else None)
            )
            routes += decode_routes(part.get("routes") or ())
    for entry in found.get("ips") or ():
        gateway = entry.get("gateway")
        index = entry.get("interface")
        addresses.append(
            AssignedAddress(
                parse_interface(entry["address"]),
                parse_address(gateway) if gateway else None,
                index if isinstance(index, int) and index >= 0 else None,
            )
        )
    interfaces = tuple(
        Interface(
            name=entry["name"],
            mac=entry.get("mac", ""),
            sandbox=entry.get("sandbox", ""),
            mtu=entry.get("mtu"),
            socket_path=entry.get("socketPath", ""),
            pci_id=entry.get("pciID", ""),
        )
        for entry in found.get("interfaces") or ()
    )
    dns = found.get("dns")
    return Result(
        interfaces, tuple(addresses), tuple(routes), dns if isinstance(dns, Mapping) and dns else None
    )


def merged(previous: Mapping[str, Any] | None, result: Result) -> Result:
    """Our result on top of an earlier plugin's in the chain, indices shifted."""
    if previous is None:
        return result
    earlier = decode_result(previous)
    shift = len(earlier.interfaces)
    ours = tuple(
        replace(entry, interface=entry.interface + shift if entry.interface is not None else None)
        for entry in result.addresses
    )
    return Result(
        earlier.interfaces + result.interfaces,
        earlier.addresses + ours,
        earlier.routes + result.routes,
        result.dns or earlier.dns,
    )
