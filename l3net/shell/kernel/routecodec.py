"""Routes as rtnetlink(7) has them: encoded for a change, decoded out of a dump or a notification."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from l3net.bgp.prefixes import network
from l3net.errors import KernelError
from l3net.model import Address, NextHop, Prefix, Route, RouteKind
from l3net.naming import METRIC_AGGREGATE, METRIC_BGP, METRIC_BLACKHOLE, METRIC_SERVICES, RTPROT_L3NET
from l3net.shell.kernel.netlink import ATTRIBUTE, attribute, attributes

RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26
RT_TABLE_MAIN: Final = 254
RTN_UNICAST: Final = 1
RTN_BLACKHOLE: Final = 6

RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_PRIORITY: Final = 6
RTA_PREFSRC: Final = 7
RTA_MULTIPATH: Final = 9
RTA_TABLE: Final = 15
RTA_VIA: Final = 18

RTMSG: Final = struct.Struct("=BBBBBBBBI")  # struct rtmsg, rtnetlink(7)
_RTNEXTHOP: Final = struct.Struct("=HBBi")
_U32: Final = struct.Struct("=I")

RouteKey = tuple[Prefix, int]


def family_of(address: Address | Prefix) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _gateway(prefix: Prefix, gateway: Address | None) -> bytes:
    if gateway is None:  # on the link
        return b""
    if prefix.version == gateway.version:
        return attribute(RTA_GATEWAY, gateway.packed)
    # RFC 8950: an IPv4 prefix through an IPv6 gateway
    return attribute(RTA_VIA, struct.pack("=H", family_of(gateway)) + gateway.packed)


#: What precedes and what follows the destination in an encoded route, by all else that a route says: most
#: routes of a batch share it.
Encoded = dict[tuple[int, int, RouteKind, int, frozenset[NextHop], Address | None], tuple[bytes, bytes]]


def encode_route(route: Route, links: dict[str, int], known: Encoded | None = None) -> bytes:
    """The body of RTM_NEWROUTE or RTM_DELROUTE. Raises KernelError (ENODEV) for an unknown interface."""
    head, tail = _shaped(route, links, known if known is not None else {})
    return head + route.prefix.network_address.packed + tail


def _shaped(route: Route, links: dict[str, int], known: Encoded) -> tuple[bytes, bytes]:
    """What stands around the destination. Raises KernelError as `encode_route`."""
    prefix = route.prefix
    shape = (prefix.version, prefix.prefixlen, route.kind, route.metric, route.next_hops, route.source)
    around = known.get(shape)
    if around is None:
        around = known[shape] = _around(route, links)
    return around


def encode_routes(
    routes: Mapping[RouteKey, Route],
    links: dict[str, int],
    failed: dict[RouteKey, KernelError],
    *,
    bare: bool = False,
) -> tuple[list[RouteKey], list[bytes]]:
    """The bodies of those that can be encoded; why the others cannot goes into `failed`. `bare`: without next
    hops and source, as a route is named that is to go."""
    keys: list[RouteKey] = []
    bodies: list[bytes] = []
    encoded = Encoded()
    like: Route | None = None
    mask: object = None
    head, tail = b"", b""
    for key, route in routes.items():
        prefix = route.prefix
        if (
            like is None
            or prefix.netmask is not mask
            or route.next_hops is not like.next_hops
            or route.kind is not like.kind
            or route.metric != like.metric
            or route.source is not like.source
        ):
            try:
                shaped = Route(prefix, kind=route.kind, metric=route.metric) if bare else route
                head, tail = _shaped(shaped, links, encoded)
            except KernelError as err:
                failed[key] = err
                like = None
                continue
            like, mask = route, prefix.netmask
        keys.append(key)
        bodies.append(head + prefix.network_address.packed + tail)
    return keys, bodies


def _around(route: Route, links: dict[str, int]) -> tuple[bytes, bytes]:
    prefix = route.prefix
    head = RTMSG.pack(
        family_of(prefix), prefix.prefixlen, 0, 0, RT_TABLE_MAIN, RTPROT_L3NET, 0, route.kind.value, 0
    )
    size = ATTRIBUTE.size + prefix.max_prefixlen // 8
    source = attribute(RTA_PREFSRC, route.source.packed) if route.source is not None else b""
    return (
        head + ATTRIBUTE.pack(size, RTA_DST),
        attribute(RTA_PRIORITY, _U32.pack(route.metric))
        + source
        + _encode_hops(prefix, route.next_hops, links),
    )


def hop_order(hop: NextHop) -> tuple[str, int, bytes]:
    return (hop.interface, *((hop.gateway.version, hop.gateway.packed) if hop.gateway else (0, b"")))


def _encode_hops(prefix: Prefix, next_hops: frozenset[NextHop], links: dict[str, int]) -> bytes:
    hops = sorted(next_hops, key=hop_order)
    for hop in hops:
        if hop.interface not in links:
            raise KernelError(f"route {prefix}: no interface {hop.interface}", errno.ENODEV)
    if len(hops) == 1:
        return _gateway(prefix, hops[0].gateway) + attribute(RTA_OIF, _U32.pack(links[hops[0].interface]))
    if hops:
        nested = b""
        for hop in hops:
            gateway = _gateway(prefix, hop.gateway)
            nested += _RTNEXTHOP.pack(_RTNEXTHOP.size + len(gateway), 0, hop.weight - 1, links[hop.interface])
            nested += gateway
        return attribute(RTA_MULTIPATH, nested)
    return b""


def address_in(packed: bytes | memoryview) -> Address:
    """Of 4 or 16 octets."""
    return IPv4Address(bytes(packed)) if len(packed) == 4 else IPv6Address(bytes(packed))


def decode_route(body: bytes, names: Mapping[int, str]) -> tuple[int, int, Route] | None:
    """(table, protocol, route) of an RTM_NEWROUTE body; None for a kind of route we never make."""
    family, length, _src, _tos, table, protocol, _scope, kind, _flags = RTMSG.unpack_from(body)
    if kind not in (RTN_UNICAST, RTN_BLACKHOLE) or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    width = 4 if family == socket.AF_INET else 16
    destination = bytes(width)
    metric = 0
    interface = ""
    gateway: Address | None = None
    source: Address | None = None
    hops: list[NextHop] = []
    for attr, value in attributes(memoryview(body)[RTMSG.size :]):
        if attr == RTA_DST:
            destination = bytes(value)
        elif attr == RTA_PREFSRC:
            source = address_in(value)
        elif attr == RTA_PRIORITY:
            metric = _U32.unpack(value)[0]
        elif attr == RTA_TABLE:
            table = _U32.unpack(value)[0]
        elif attr == RTA_OIF:
            interface = names.get(_U32.unpack(value)[0], "")
        elif attr == RTA_GATEWAY:
            gateway = address_in(value)
        elif attr == RTA_VIA:
            gateway = address_in(value[2:])
        elif attr == RTA_MULTIPATH:
            hops += _multipath(value, names)
    if gateway is not None or (interface and not hops):
        hops.append(NextHop(gateway, interface))
    network = (IPv4Network if width == 4 else IPv6Network)((destination, length))
    if kind == RTN_BLACKHOLE:
        hops = []
    return table, protocol, Route(network, frozenset(hops), RouteKind(kind), metric, source)


_Decoded = tuple[int, int, Route] | None
#: The head of RTA_DST, by address family, and that of RTA_TABLE.
_DST_HEAD: Final[dict[int, bytes]] = {
    socket.AF_INET: ATTRIBUTE.pack(ATTRIBUTE.size + 4, RTA_DST),
    socket.AF_INET6: ATTRIBUTE.pack(ATTRIBUTE.size + 16, RTA_DST),
}
_TABLE_HEAD: Final = ATTRIBUTE.pack(ATTRIBUTE.size + 4, RTA_TABLE)
#: Where the kernel puts the destination: behind the table, which comes first.
_DST_AT: Final = RTMSG.size + 2 * ATTRIBUTE.size + 4
_DST_END4: Final = _DST_AT + 4
_DST_END6: Final = _DST_AT + 16
#: Kinds of routes kept apart while a dump is read.
_MOST_ALIKE: Final = 4096


class RouteDecoder:
    """`decode_route` for all of a dump: most routes of a table differ in nothing but the destination, and
    share what is the same. What equals a route of `held` is that very object: a second table of 100,000 would
    be 60 MiB, if only for a moment."""

    def __init__(self, names: Mapping[int, str], held: Mapping[RouteKey, Route] | None = None) -> None:
        self._names = names
        self._held = held if held is not None else {}
        self._known: dict[bytes, _Decoded] = {}

    def decode(self, body: bytes) -> _Decoded:
        """As `decode_route`."""
        end = _DST_END6 if body[0] == socket.AF_INET6 else _DST_END4
        around = body[:_DST_AT] + body[end:]
        if around in self._known:  # with its table and the head of its destination where they belong
            found = self._known[around]
        else:
            found = decode_route(body, self._names)
            if not _laid_out(body):
                return found
            if len(self._known) >= _MOST_ALIKE:
                self._known.clear()
            self._known[around] = found
        if found is None:
            return None
        table, protocol, like = found
        prefix = network(body[_DST_AT:end], body[1])
        same = self._held.get((prefix, like.metric))
        if same is not None and same.kind is like.kind and same.source == like.source:
            if same.next_hops is like.next_hops:
                return table, protocol, same
            if same.next_hops == like.next_hops:  # the next one will have these
                self._known[around] = table, protocol, replace(like, next_hops=same.next_hops)
                return table, protocol, same
        return table, protocol, Route(prefix, like.next_hops, like.kind, like.metric, like.source)


def _laid_out(body: bytes) -> bool:
    """Whether the destination is where the kernel puts it."""
    table = body[RTMSG.size : RTMSG.size + ATTRIBUTE.size]
    return table == _TABLE_HEAD and body[_DST_AT - ATTRIBUTE.size : _DST_AT] == _DST_HEAD.get(body[0])


def _multipath(value: memoryview, names: Mapping[int, str]) -> Iterable[NextHop]:
    while len(value) >= _RTNEXTHOP.size:
        length, _flags, weight, index = _RTNEXTHOP.unpack_from(value)
        for attr, part in attributes(value[_RTNEXTHOP.size : length]):
            if attr in (RTA_GATEWAY, RTA_VIA):
                yield NextHop(
                    address_in(part if attr == RTA_GATEWAY else part[2:]), names.get(index, ""), weight + 1
                )
        value = value[(length + 3) & ~3 :]


def key_of(body: bytes) -> tuple[int, int, RouteKey]:
    """Table, protocol, prefix and metric of a route of any kind."""
    family, length, _src, _tos, table, protocol, _scope, _type, _flags = RTMSG.unpack_from(body)
    destination = bytes(4 if family == socket.AF_INET else 16)
    metric = 0
    for attr, value in attributes(memoryview(body)[RTMSG.size :]):
        if attr == RTA_DST:
            destination = bytes(value)
        elif attr == RTA_TABLE:
            table = _U32.unpack(value)[0]
        elif attr == RTA_PRIORITY:
            metric = _U32.unpack(value)[0]
    network = (IPv4Network if family == socket.AF_INET else IPv6Network)((destination, length))
    return table, protocol, (network, metric)


#: RTA_PRIORITY with each of our metrics.
_OUR_METRICS: Final = tuple(
    attribute(RTA_PRIORITY, _U32.pack(metric))
    for metric in (METRIC_BGP, METRIC_SERVICES, METRIC_BLACKHOLE, METRIC_AGGREGATE)
)


def rival(body: bytes) -> RouteKey | None:
    """Prefix and metric of somebody else's route that stands where one of ours could; another's full table is
    passed over quickly."""
    if body[4] != RT_TABLE_MAIN or not any(each in body for each in _OUR_METRICS):
        return None
    return key_of(body)[2]
