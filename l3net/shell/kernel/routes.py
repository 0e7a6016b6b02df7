"""The kernel's routes of ours: read back by protocol number, changed in netlink batches."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from l3net.bgp.prefixes import network
from l3net.delta import Delta
from l3net.errors import KernelError
from l3net.model import Address, NextHop, Prefix, Route, RouteKind
from l3net.naming import METRIC_AGGREGATE, METRIC_BGP, METRIC_BLACKHOLE, METRIC_SERVICES, RTPROT_L3NET
from l3net.shell.kernel.netlink import (
    ATTRIBUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
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

#: rt_protos of iproute2, the common ones.
PROTOCOLS: Final = {
    2: "kernel",
    3: "boot",
    4: "static",
    9: "ra",
    11: "zebra",
    12: "bird",
    16: "dhcp",
    186: "bgp",
    196: "static (FRR)",
}

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
Encoded = dict[tuple[int, int, RouteKind, int, frozenset[NextHop], Address | None], tuple[bytes, bytes]]


def encode_route(route: Route, links: dict[str, int], known: Encoded | None = None) -> bytes:
    """The body of RTM_NEWROUTE or RTM_DELROUTE. Raises KernelError (ENODEV) for an unknown interface."""
    prefix = route.prefix
    known = known if known is not None else {}
    shape = (prefix.version, prefix.prefixlen, route.kind, route.metric, route.next_hops, route.source)
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
    source = attribute(RTA_PREFSRC, route.source.packed) if route.source is not None else b""
    return (
        head + ATTRIBUTE.pack(size, RTA_DST),
        attribute(RTA_PRIORITY, _U32.pack(route.metric))
        + source
        + _encode_hops(prefix, route.next_hops, links),
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


def decode_route(body: bytes, names: Mapping[int, str]) -> tuple[int, int, Route] | None:
    """(table, protocol, route) of an RTM_NEWROUTE body; None for a kind of route we never make."""
    family, length, _src, _tos, table, protocol, _scope, kind, _flags = _RTMSG.unpack_from(body)
    if kind not in (RTN_UNICAST, RTN_BLACKHOLE) or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    width = 4 if family == socket.AF_INET else 16
    destination = bytes(width)
    metric = 0
    interface = ""
    gateway: Address | None = None
    source: Address | None = None
    hops: list[NextHop] = []
    for attr, value in attributes(memoryview(body)[_RTMSG.size :]):
        if attr == RTA_DST:
            destination = bytes(value)
        elif attr == RTA_PREFSRC:
            source = _address(value)
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
    return table, protocol, Route(network, frozenset(hops), RouteKind(kind), metric, source)


_Decoded = tuple[int, int, Route] | None
#: The head of RTA_DST, by address family, and that of RTA_TABLE.
_DST_HEAD: Final[dict[int, bytes]] = {
    socket.AF_INET: ATTRIBUTE.pack(ATTRIBUTE.size + 4, RTA_DST),
    socket.AF_INET6: ATTRIBUTE.pack(ATTRIBUTE.size + 16, RTA_DST),
}
_TABLE_HEAD: Final = ATTRIBUTE.pack(ATTRIBUTE.size + 4, RTA_TABLE)
#: Where the kernel puts the destination: behind the table, which comes first.
_DST_AT: Final = _RTMSG.size + 2 * ATTRIBUTE.size + 4
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
    table = body[_RTMSG.size : _RTMSG.size + ATTRIBUTE.size]
    return table == _TABLE_HEAD and body[_DST_AT - ATTRIBUTE.size : _DST_AT] == _DST_HEAD.get(body[0])


def _multipath(value: memoryview, names: Mapping[int, str]) -> Iterable[NextHop]:
    while len(value) >= _RTNEXTHOP.size:
        length, _flags, weight, index = _RTNEXTHOP.unpack_from(value)
        for attr, part in attributes(value[_RTNEXTHOP.size : length]):
            if attr in (RTA_GATEWAY, RTA_VIA):
                yield NextHop(
                    _address(part if attr == RTA_GATEWAY else part[2:]), names.get(index, ""), weight + 1
                )
        value = value[(length + 3) & ~3 :]


def _key(body: bytes) -> tuple[int, int, RouteKey]:
    """Table, protocol, prefix and metric of a route of any kind."""
    family, length, _src, _tos, table, protocol, _scope, _type, _flags = _RTMSG.unpack_from(body)
    destination = bytes(4 if family == socket.AF_INET else 16)
    metric = 0
    for attr, value in attributes(memoryview(body)[_RTMSG.size :]):
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
    return _key(body)[2]


def _conflict(route: Route, protocol: int) -> KernelError:
    return KernelError(
        f"route {route.prefix} metric {route.metric} is somebody else's (protocol "
        f"{PROTOCOLS.get(protocol, protocol)}) and stays; ours is not set. Give theirs another metric",
        errno.EEXIST,
    )


def _refusal(route: Route, code: int, *, deleting: bool) -> KernelError:
    doing = "delete" if deleting else "put"
    hops = [
        f"via {hop.gateway} dev {hop.interface}" if hop.gateway else f"dev {hop.interface}"
        for hop in sorted(route.next_hops, key=_hop_order)
    ]
    more = f" (and {len(hops) - 1} more next hops)" if len(hops) > 1 else ""
    where = f" {hops[0]}{more}" if hops and not deleting else ""
    return KernelError(f"{doing} route {route.prefix} metric {route.metric}{where}", code)


class KernelRoutes:
    """ports.RouteTable on the network namespace of the thread that made it."""

    def __init__(self) -> None:
        self._netlink = Netlink()
        self._held: dict[RouteKey, Route] = {}  # of ours, as read back or put

    @property
    def port(self) -> int:
        """Of its netlink socket: see KernelMonitor."""
        return self._netlink.port

    def read(self) -> dict[RouteKey, Route]:
        decoder = RouteDecoder({index: name for name, index in links().items()}, self._held)
        found: dict[RouteKey, Route] = {}
        others: set[RouteKey] = set()
        for family in (socket.AF_INET, socket.AF_INET6):
            header = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            for _kind, body in self._netlink.dump(Request(RTM_GETROUTE, 0, header)):
                if body[5] != RTPROT_L3NET:
                    theirs = rival(body)
                    if theirs is not None:
                        others.add(theirs)
                    continue
                decoded = decoder.decode(body)
                if decoded is None or decoded[0] != RT_TABLE_MAIN:
                    continue
                route = decoded[2]
                key = (route.prefix, route.metric)
                before = found.get(key)
                if (
                    before is not None
                ):  # IPv6 lists each next hop of a route added apart as a route of its own
                    route = replace(route, next_hops=before.next_hops | route.next_hops)
                found[key] = route
        self._held = dict(found)
        for key in others:  # IPv4 may list theirs before ours: theirs would be replaced
            self._held.pop(key, None)
        return found

    def apply(self, delta: Delta[RouteKey, Route]) -> dict[RouteKey, KernelError]:
        """Puts first, in the order given, then deletes (fib.order says why); a put replaces in place, so that
        no moment is without a route.

        Only a route of ours is replaced: NLM_F_REPLACE looks at prefix and metric alone, and would take
        somebody else's, who then loses it when ours goes.
        """
        known, encoded = links(), Encoded()
        failed: dict[RouteKey, KernelError] = {}
        wanted: list[tuple[RouteKey, Route, Request]] = []
        for key, route in delta.put.items():
            try:
                body = encode_route(route, known, encoded)
            except KernelError as err:
                failed[key] = err
                continue
            flag = NLM_F_REPLACE if key in self._held else NLM_F_EXCL
            wanted.append((key, route, Request(RTM_NEWROUTE, NLM_F_CREATE | flag, body)))
        for key, route in delta.delete.items():
            bare = Route(route.prefix, kind=route.kind, metric=route.metric)
            wanted.append((key, route, Request(RTM_DELROUTE, 0, encode_route(bare, known, encoded))))
        taken = self._carry_out(wanted, failed)
        if taken:
            holders = self._holders({key for key, _, _ in taken})
            again: list[tuple[RouteKey, Route, Request]] = []
            for key, route, request in taken:
                holder = holders.get(key, RTPROT_L3NET)
                if holder == RTPROT_L3NET:  # we did not know of it, or it has gone meanwhile
                    flags = NLM_F_CREATE | NLM_F_REPLACE
                    again.append((key, route, Request(RTM_NEWROUTE, flags, request.body)))
                else:
                    failed[key] = _conflict(route, holder)
            self._carry_out(again, failed)
        return failed

    def _carry_out(
        self, wanted: list[tuple[RouteKey, Route, Request]], failed: dict[RouteKey, KernelError]
    ) -> list[tuple[RouteKey, Route, Request]]:
        """Those whose prefix and metric a route has already that is not known as ours."""
        taken = []
        codes = self._netlink.transact([request for _, _, request in wanted])
        for (key, route, request), code in zip(wanted, codes, strict=True):
            deleting = request.type == RTM_DELROUTE
            if not code or (deleting and code in (errno.ESRCH, errno.ENOENT)):
                if deleting:
                    self._held.pop(key, None)
                else:
                    self._held[key] = route
            elif code == errno.EEXIST and request.flags & NLM_F_EXCL:
                taken.append((key, route, request))
            else:
                failed[key] = _refusal(route, code, deleting=deleting)
                if not deleting and len(route.next_hops) > 1:  # the kernel may hold some of the next hops
                    self._held.pop(key, None)
        return taken

    def _holders(self, keys: set[RouteKey]) -> dict[RouteKey, int]:
        """Whose routes these are, by protocol number; somebody else's counts where there are several."""
        found: dict[RouteKey, int] = {}
        for family in {_family(prefix) for prefix, _ in keys}:
            header = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            for _kind, body in self._netlink.dump(Request(RTM_GETROUTE, 0, header)):
                table, protocol, key = _key(body)
                if table == RT_TABLE_MAIN and key in keys and found.get(key, RTPROT_L3NET) == RTPROT_L3NET:
                    found[key] = protocol
        return found

    def close(self) -> None:
        self._netlink.close()


def links() -> dict[str, int]:
    """Interface indexes by name, in this thread's namespace."""
    return {name: index for index, name in socket.if_nameindex()}
