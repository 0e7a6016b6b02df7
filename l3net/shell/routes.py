"""The kernel's routes of ours: read back by protocol number, changed in netlink batches."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from l3net.delta import Delta
from l3net.errors import KernelError
from l3net.model import Address, NextHop, Prefix, Route, RouteKind
from l3net.naming import RTPROT_L3NET
from l3net.shell.netlink import (
    ATTRIBUTE,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Netlink,
    Request,
    attribute,
    attributes,
)

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

_RTMSG: Final = struct.Struct("=BBBBBBBBI")  # struct rtmsg, rtnetlink(7)
_RTNEXTHOP: Final = struct.Struct("=HBBi")
_U32: Final = struct.Struct("=I")

RouteKey = tuple[Prefix, int]


def _family(address: Address | Prefix) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _gateway(prefix: Prefix, gateway: Address | None) -> bytes:
    if gateway is None:  # on the link
        return b""
    if prefix.version == gateway.version:
        return attribute(RTA_GATEWAY, gateway.packed)
    # RFC 8950: an IPv4 prefix through an IPv6 gateway
    return attribute(RTA_VIA, struct.pack("=H", _family(gateway)) + gateway.packed)


#: What precedes and what follows the destination in an encoded route, by all else that a route says: most
#: routes of a batch share it.
Encoded = dict[tuple[int, int, RouteKind, int, frozenset[NextHop]], tuple[bytes, bytes]]


def encode_route(route: Route, links: dict[str, int], known: Encoded | None = None) -> bytes:
    """The body of RTM_NEWROUTE or RTM_DELROUTE. Raises KernelError (ENODEV) for an unknown interface."""
    prefix = route.prefix
    known = known if known is not None else {}
    shape = (prefix.version, prefix.prefixlen, route.kind, route.metric, route.next_hops)
    around = known.get(shape)
    if around is None:
        around = known[shape] = _around(route, links)
    head, tail = around
    return head + prefix.network_address.packed + tail


def _around(route: Route, links: dict[str, int]) -> tuple[bytes, bytes]:
    prefix = route.prefix
    head = _RTMSG.pack(
        _family(prefix), prefix.prefixlen, 0, 0, RT_TABLE_MAIN, RTPROT_L3NET, 0, route.kind.value, 0
    )
    size = ATTRIBUTE.size + prefix.max_prefixlen // 8
    return (
        head + ATTRIBUTE.pack(size, RTA_DST),
        attribute(RTA_PRIORITY, _U32.pack(route.metric)) + _encode_hops(prefix, route.next_hops, links),
    )


def _hop_order(hop: NextHop) -> tuple[str, int, bytes]:
    return (hop.interface, *((hop.gateway.version, hop.gateway.packed) if hop.gateway else (0, b"")))


def _encode_hops(prefix: Prefix, next_hops: frozenset[NextHop], links: dict[str, int]) -> bytes:
    hops = sorted(next_hops, key=_hop_order)
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


def _address(packed: bytes | memoryview) -> Address:
    return IPv4Address(bytes(packed)) if len(packed) == 4 else IPv6Address(bytes(packed))


def decode_route(body: bytes, names: dict[int, str]) -> tuple[int, int, Route] | None:
    """(table, protocol, route) of an RTM_NEWROUTE body; None for a kind of route we never make."""
    family, length, _src, _tos, table, protocol, _scope, kind, _flags = _RTMSG.unpack_from(body)
    if kind not in (RTN_UNICAST, RTN_BLACKHOLE) or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    width = 4 if family == socket.AF_INET else 16
    destination = bytes(width)
    metric = 0
    interface = ""
    gateway: Address | None = None
    hops: list[NextHop] = []
    for attr, value in attributes(memoryview(body)[_RTMSG.size :]):
        if attr == RTA_DST:
            destination = bytes(value)
        elif attr == RTA_PRIORITY:
            metric = _U32.unpack(value)[0]
        elif attr == RTA_TABLE:
            table = _U32.unpack(value)[0]
        elif attr == RTA_OIF:
            interface = names.get(_U32.unpack(value)[0], "")
        elif attr == RTA_GATEWAY:
            gateway = _address(value)
        elif attr == RTA_VIA:
            gateway = _address(value[2:])
        elif attr == RTA_MULTIPATH:
            hops += _multipath(value, names)
    if gateway is not None or (interface and not hops):
        hops.append(NextHop(gateway, interface))
    network = (IPv4Network if width == 4 else IPv6Network)((destination, length))
    if kind == RTN_BLACKHOLE:
        hops = []
    return table, protocol, Route(network, frozenset(hops), RouteKind(kind), metric)


def _multipath(value: memoryview, names: dict[int, str]) -> Iterable[NextHop]:
    while len(value) >= _RTNEXTHOP.size:
        length, _flags, weight, index = _RTNEXTHOP.unpack_from(value)
        for attr, part in attributes(value[_RTNEXTHOP.size : length]):
            if attr in (RTA_GATEWAY, RTA_VIA):
                yield NextHop(
                    _address(part if attr == RTA_GATEWAY else part[2:]), names.get(index, ""), weight + 1
                )
        value = value[(length + 3) & ~3 :]


class KernelRoutes:
    """ports.RouteTable on the network namespace of the thread that made it."""

    def __init__(self) -> None:
        self._netlink = Netlink()

    @property
    def port(self) -> int:
        """Of its netlink socket: see KernelMonitor."""
        return self._netlink.port

    def read(self) -> dict[RouteKey, Route]:
        names = {index: name for name, index in links().items()}
        found: dict[RouteKey, Route] = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            header = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            for _kind, body in self._netlink.dump(Request(RTM_GETROUTE, 0, header)):
                if body[5] != RTPROT_L3NET:
                    continue
                decoded = decode_route(body, names)
                if decoded is None or decoded[0] != RT_TABLE_MAIN:
                    continue
                route = decoded[2]
                key = (route.prefix, route.metric)
                before = found.get(key)
                if (
                    before is not None
                ):  # IPv6 lists each next hop of a route added apart as a route of its own
                    route = Route(route.prefix, before.next_hops | route.next_hops, route.kind, route.metric)
                found[key] = route
        return found

    def apply(self, delta: Delta[RouteKey, Route]) -> list[KernelError]:
        """Deletes first, then puts; a put replaces in place, so that no moment is without a route."""
        known, encoded = links(), Encoded()
        wanted: list[tuple[Route, Request]] = []
        failed: list[KernelError] = []
        for route in delta.delete.values():
            bare = Route(route.prefix, kind=route.kind, metric=route.metric)
            request = Request(RTM_DELROUTE, 0, encode_route(bare, known, encoded))
            wanted.append((route, request))
        for route in delta.put.values():
            try:
                body = encode_route(route, known, encoded)
            except KernelError as err:
                failed.append(err)
                continue
            request = Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)
            wanted.append((route, request))
        codes = self._netlink.transact([request for _, request in wanted])
        for (route, request), code in zip(wanted, codes, strict=True):
            deleting = request.type == RTM_DELROUTE
            if code and not (deleting and code in (errno.ESRCH, errno.ENOENT)):
                doing = "delete" if deleting else "put"
                failed.append(KernelError(f"{doing} route {route.prefix} metric {route.metric}", code))
        return failed

    def close(self) -> None:
        self._netlink.close()


def links() -> dict[str, int]:
    """Interface indexes by name, in this thread's namespace."""
    return {name: index for index, name in socket.if_nameindex()}
