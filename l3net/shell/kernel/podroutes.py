"""Netlink requests for the routes in a pod, and what is read back (rtnetlink(7))."""

from __future__ import annotations

import _socket as socket  # as `netlink`
import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from l3net.cni.result import PodRoute
from l3net.shell.kernel.links import nested, u32
from l3net.shell.kernel.netlink import NLM_F_CREATE, NLM_F_REPLACE, Netlink, Request, attribute, attributes

RTM_NEWROUTE: Final = 24
RTM_GETROUTE: Final = 26
RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_PRIORITY: Final = 6
RTA_METRICS: Final = 8
RTA_TABLE: Final = 15
RTAX_MTU: Final = 2
RTAX_ADVMSS: Final = 8
RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_LINK: Final = 253
RTPROT_KERNEL: Final = 2
RTPROT_STATIC: Final = 4
RT_TABLE_MAIN: Final = 254

RTMSG: Final = struct.Struct("=BBBBBBBBI")
_I32: Final = struct.Struct("=i")


@lru_cache(maxsize=1024)  # pods of a node share their gateway, and mostly the index of eth0
def put_route(index: int, route: PodRoute) -> Request:
    """A route in a pod, through its interface; on-link without gateway."""
    scope = route.scope
    if scope is None:
        scope = RT_SCOPE_UNIVERSE if route.gateway or route.prefix.version == 6 else RT_SCOPE_LINK
    table = route.table or RT_TABLE_MAIN
    family = socket.AF_INET if route.prefix.version == 4 else socket.AF_INET6
    header = RTMSG.pack(
        family, route.prefix.prefixlen, 0, 0, table if table < 256 else 0, RTPROT_STATIC, scope, 1, 0
    )
    body = header + u32(RTA_OIF, index) + u32(RTA_TABLE, table)
    if route.prefix.prefixlen:
        body += attribute(RTA_DST, route.prefix.network_address.packed)
    if route.gateway:
        body += attribute(RTA_GATEWAY, route.gateway.packed)
    if route.priority is not None:
        body += u32(RTA_PRIORITY, route.priority)
    metrics = [(RTAX_MTU, route.mtu), (RTAX_ADVMSS, route.advmss)]
    if wanted := [u32(kind, value) for kind, value in metrics if value]:
        body += nested(RTA_METRICS, *wanted)
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)


def routes_of(netlink: Netlink, index: int) -> set[tuple[str, str]]:
    """The unicast routes through a link in any table, as (prefix, gateway or '')."""
    found = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        header = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for _, body in netlink.dump(Request(RTM_GETROUTE, 0, header)):
            _, length, _, _, _, _, _, kind, _ = RTMSG.unpack_from(body)
            fields = dict(attributes(memoryview(body)[RTMSG.size :]))
            if kind != 1 or RTA_OIF not in fields or _I32.unpack(fields[RTA_OIF])[0] != index:
                continue
            gateway = fields.get(RTA_GATEWAY)
            found.add(
                (
                    f"{_shown(fields.get(RTA_DST), family)}/{length}",
                    _shown(gateway, family) if gateway else "",
                )
            )
    return found


def _shown(packed: memoryview | None, family: int) -> str:
    if packed is None:
        return "0.0.0.0" if family == socket.AF_INET else "::"  # noqa: S104 - a prefix
    return str(IPv4Address(bytes(packed)) if len(packed) == 4 else IPv6Address(bytes(packed)))
