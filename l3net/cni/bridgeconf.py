"""Configurations that bring their own addresses: the keys of the reference plugins bridge and host-local.

Keys: https://www.cni.dev/plugins/current/main/bridge/ and .../ipam/host-local/ (plugins v1.9). Ours beside
them, under `ipam`: coolDown (seconds), sticky, reserved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

from l3net.addresses import parse_address, parse_prefix
from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.cni.request import Request
from l3net.cni.result import PodRoute, decode_routes
from l3net.cni.setup import DEFAULT_COOL_DOWN, Setup, dns_of, flag_key, number_key
from l3net.ipam.ranges import Range, RangeSet, bounds, expand
from l3net.model import Address, Prefix

#: `ipam.type` values that mean this plugin's own address management, in process.
OWN_IPAM: Final = ("l3net-ipam", "l3net")
DEFAULT_BRIDGE: Final = "cni0"
#: Seconds without a call after which the plugin's helper ends; 0: none is started or used.
HELPER_IDLE: Final = "helperIdle"


def ipam_of(conf: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `ipam` section. Raises CniError 7."""
    found = conf.get("ipam") or {}
    if not isinstance(found, Mapping):
        raise CniError(failure.INVALID_CONFIG, "ipam is not an object")
    return found


def store_of(conf: Mapping[str, Any]) -> str:
    """The directory of its leases, also of a configuration that is wrong elsewhere; empty where it names
    none: that is the default."""
    ipam = conf.get("ipam")
    if not isinstance(ipam, Mapping) or ipam.get("type") not in OWN_IPAM:
        return ""
    found = ipam.get("dataDir")
    return found if isinstance(found, str) else ""


def has_ranges(conf: Mapping[str, Any]) -> bool:
    """Whether the configuration names the addresses itself."""
    ipam = ipam_of(conf)
    return bool(ipam.get("ranges") or ipam.get("subnet"))


def _address(value: object, where: str) -> Address:
    try:
        return parse_address(str(value))
    except ValueError as err:
        raise CniError(failure.INVALID_CONFIG, f"{where}: {err}") from None


def _range(fields: object, where: str, reserved: Sequence[Address | Prefix]) -> Range:
    if not isinstance(fields, Mapping) or not fields.get("subnet"):
        raise CniError(failure.INVALID_CONFIG, f"{where}.subnet is missing")
    try:
        subnet = parse_prefix(str(fields["subnet"]))
    except ValueError as err:
        raise CniError(failure.INVALID_CONFIG, f"{where}.subnet: {err}") from None
    if subnet.prefixlen > subnet.max_prefixlen - 2:
        raise CniError(failure.INVALID_CONFIG, f"{where}.subnet: {subnet} is too small to hold pods")
    first, last = bounds(subnet)
    gateway = _address(fields["gateway"], f"{where}.gateway") if fields.get("gateway") else first
    start = _address(fields["rangeStart"], f"{where}.rangeStart") if fields.get("rangeStart") else first
    end = _address(fields["rangeEnd"], f"{where}.rangeEnd") if fields.get("rangeEnd") else last
    for name, value in (("rangeStart", start), ("rangeEnd", end)):
        if value.version != subnet.version or value not in subnet:
            raise CniError(failure.INVALID_CONFIG, f"{where}.{name}: {value} is not in {subnet}")
    if int(start) > int(end):
        raise CniError(failure.INVALID_CONFIG, f"{where}: rangeStart {start} is after rangeEnd {end}")
    start, end = max(start, first, key=int), min(end, last, key=int)
    try:
        kept = frozenset({gateway, *expand(reserved, subnet)})
    except ValueError as err:
        raise CniError(failure.INVALID_CONFIG, f"ipam.reserved: {err}") from None
    return Range(subnet, start, end, gateway, kept, subnet.prefixlen)


def _sets(found: object, where: str, reserved: Sequence[Address | Prefix]) -> list[RangeSet]:
    if not isinstance(found, list):
        raise CniError(failure.INVALID_CONFIG, f"{where} is not a list of lists")
    sets = []
    for number, part in enumerate(found):
        if not isinstance(part, list) or not part:
            raise CniError(failure.INVALID_CONFIG, f"{where}[{number}] is not a list of ranges")
        ranges = [_range(each, f"{where}[{number}][{place}]", reserved) for place, each in enumerate(part)]
        if len({entry.subnet.version for entry in ranges}) > 1:
            raise CniError(failure.INVALID_CONFIG, f"{where}[{number}] mixes IPv4 and IPv6")
        sets.append(RangeSet(tuple(ranges)))
    return sets


def _no_overlap(sets: Iterable[RangeSet]) -> None:
    seen: list[Range] = []
    for entry in (entry for each in sets for entry in each.ranges):
        for other in seen:
            if entry.subnet.version == other.subnet.version and (
                int(entry.start) <= int(other.end) and int(other.start) <= int(entry.end)
            ):
                raise CniError(
                    failure.INVALID_CONFIG,
                    f"ranges overlap: {entry.start}-{entry.end} and {other.start}-{other.end}",
                )
        seen.append(entry)


def range_sets(request: Request) -> tuple[RangeSet, ...]:
    """The sets: runtimeConfig.ipRanges, then `subnet` (the old form), then `ranges`. Raises CniError 7."""
    ipam = ipam_of(request.conf)
    reserved: list[IPv4Network | IPv6Network] = []
    try:
        reserved = [parse_prefix(str(each)) for each in ipam.get("reserved") or ()]
    except (ValueError, TypeError) as err:
        raise CniError(failure.INVALID_CONFIG, f"ipam.reserved: {err}") from None
    sets: list[RangeSet] = []
    if given := request.runtime_config.get("ipRanges"):
        sets += _sets(given, "runtimeConfig.ipRanges", reserved)
    if ipam.get("subnet"):
        sets.append(RangeSet((_range(ipam, "ipam", reserved),)))
    if ipam.get("ranges"):
        sets += _sets(ipam["ranges"], "ipam.ranges", reserved)
    _no_overlap(sets)
    return tuple(sets)


def parse_resolv_conf(content: str) -> dict[str, Any]:
    """A resolv.conf(5) as the result's `dns`."""
    found: dict[str, Any] = {}
    for line in content.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) < 2:
            continue
        match words[0]:
            case "nameserver":
                found.setdefault("nameservers", []).append(words[1])
            case "domain":
                found["domain"] = words[1]
            case "search":
                found["search"] = words[1:]
            case "options":
                found.setdefault("options", []).extend(words[1:])
    return found


def own_setup(request: Request) -> Setup:
    """What a configuration with its own `ipam` comes to. Raises CniError 2 and 7."""
    conf = request.conf
    ipam = ipam_of(conf)
    if conf.get("vlan") or conf.get("vlanTrunk"):
        raise CniError(failure.UNSUPPORTED_FIELD, "unsupported field vlan", f"vlan={conf.get('vlan')!r}")
    bridge = conf.get("bridge") or DEFAULT_BRIDGE
    if not isinstance(bridge, str) or not 0 < len(bridge.encode()) < 16 or "/" in bridge:
        raise CniError(failure.INVALID_CONFIG, f"bridge: {bridge!r} is not an interface name")
    hairpin, promiscuous = flag_key(conf, "hairpinMode"), flag_key(conf, "promiscMode")
    if hairpin and promiscuous:
        raise CniError(failure.INVALID_CONFIG, "hairpinMode and promiscMode exclude each other")
    kind = ipam.get("type") or ""
    if not isinstance(kind, str) or "/" in kind:
        raise CniError(failure.INVALID_CONFIG, f"ipam.type: {kind!r} is not a plugin's name")
    own = kind in OWN_IPAM
    default_gateway = flag_key(conf, "isDefaultGateway")
    number_key(conf, HELPER_IDLE)
    enabled = not flag_key(conf, "disableContainerInterface")
    if not enabled and kind:
        raise CniError(failure.INVALID_CONFIG, "disableContainerInterface excludes ipam")
    sets = range_sets(request) if own else ()
    if own and not sets:
        raise CniError(failure.INVALID_CONFIG, "ipam has neither subnet nor ranges")
    return Setup(
        bridge=bridge,
        sets=sets,
        mtu=int(number_key(conf, "mtu", most=65535)),
        host_routes=False,
        isolated=flag_key(conf, "portIsolation"),
        hairpin=hairpin,
        promiscuous=promiscuous,
        pin_source=flag_key(conf, "macspoofchk"),
        manage_bridge=True,
        is_gateway=flag_key(conf, "isGateway") or default_gateway,
        force_address=flag_key(conf, "forceAddress"),
        default_gateway=default_gateway,
        masquerade=flag_key(conf, "ipMasq"),
        enabled=enabled,
        routes=decode_routes(ipam.get("routes") or ()) if own else (),
        dns=dns_of(request),
        resolv_conf=str(ipam.get("resolvConf") or "") if own else "",
        delegate="" if own else kind,
        store=str(ipam.get("dataDir") or "") if own else "",
        cool_down=number_key(ipam, "coolDown", DEFAULT_COOL_DOWN),
        sticky=flag_key(ipam, "sticky"),
    )


def ipam_setup(request: Request) -> Setup:
    """What the IPAM plugin's part of another plugin's configuration comes to. Raises CniError 7."""
    ipam = ipam_of(request.conf)
    sets = range_sets(request)
    if not sets:
        raise CniError(failure.INVALID_CONFIG, "ipam has neither subnet nor ranges")
    return Setup(
        bridge="",
        sets=sets,
        host_routes=False,
        routes=decode_routes(ipam.get("routes") or ()),
        resolv_conf=str(ipam.get("resolvConf") or ""),
        store=str(ipam.get("dataDir") or ""),
        cool_down=number_key(ipam, "coolDown", DEFAULT_COOL_DOWN),
        sticky=flag_key(ipam, "sticky"),
    )


def with_gateways(
    routes: Sequence[PodRoute], gateways: Sequence[Address], *, default_gateway: bool
) -> tuple[PodRoute, ...]:
    """Routes as they are put in the pod: those without a gateway take their family's, as bridge does."""
    first = {address.version: address for address in reversed(gateways)}
    found = [
        PodRoute(
            route.prefix,
            route.gateway or (first.get(route.prefix.version) if route.scope is None else None),
            route.mtu,
            route.advmss,
            route.priority,
            route.table,
            route.scope,
        )
        for route in routes
    ]
    if default_gateway:
        for version, everything in ((4, "0.0.0.0/0"), (6, "::/0")):
            prefix = ip_network(everything)
            if version in first and all(route.prefix != prefix for route in found):
                found.append(PodRoute(prefix, first[version]))
    return tuple(found)
