"""Reads what is not ours: links, addresses and the main table's other routes."""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from l3net.fib.underlay import HostLink, InterfaceAddress, Underlay, UnderlayHop, UnderlayRoute
from l3net.model import Address
from l3net.naming import RTPROT_L3NET
from l3net.shell.kernel.netlink import Netlink, Request, attributes
from l3net.shell.kernel.routecodec import (
    RT_TABLE_MAIN,
    RTA_DST,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_TABLE,
    RTA_VIA,
    RTM_GETROUTE,
    RTMSG,
    RTN_UNICAST,
    address_in,
)

RTM_GETLINK: Final = 18
RTM_GETADDR: Final = 22
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_FLAGS: Final = 8
#: linux/if_addr.h
IFA_F_SECONDARY: Final = 0x01
IFA_F_OPTIMISTIC: Final = 0x04
IFA_F_DADFAILED: Final = 0x08
IFA_F_DEPRECATED: Final = 0x20
IFA_F_TENTATIVE: Final = 0x40
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_MASTER: Final = 10
IFF_UP: Final = 0x1
IFF_LOOPBACK: Final = 0x8
RTNH_F_DEAD: Final = 1
RTNH_F_LINKDOWN: Final = 16
RTN_DISCARD: Final = (6, 7, 8)  # blackhole, unreachable, prohibit

_RTNEXTHOP = struct.Struct("=HBBi")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_U32 = struct.Struct("=I")


class KernelUnderlay:
    """In the network namespace of the thread that made it."""

    def __init__(self) -> None:
        self._netlink = Netlink()
        self.names: dict[int, str] = {}  # of the links, by index, as read last

    def links(self) -> dict[int, HostLink]:
        found: dict[int, HostLink] = {}
        for _kind, body in self._netlink.dump(Request(RTM_GETLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0))):
            _family, _type, index, flags, _change = _IFINFO.unpack_from(body)
            name, mtu, master = "", 1500, 0
            for attr, value in attributes(memoryview(body)[_IFINFO.size :]):
                if attr == IFLA_IFNAME:
                    name = os.fsdecode(
                        bytes(value).rstrip(b"\0")
                    )  # any bytes may be a name: dev_valid_name()
                elif attr == IFLA_MTU:
                    mtu = _U32.unpack(value)[0]
                elif attr == IFLA_MASTER:
                    master = _U32.unpack(value)[0]
            found[index] = HostLink(
                name, index, mtu, bool(flags & IFF_UP), bool(flags & IFF_LOOPBACK), master
            )
        return found

    def addresses(self, links: dict[int, HostLink]) -> list[InterfaceAddress]:
        found = []
        for _kind, body in self._netlink.dump(Request(RTM_GETADDR, 0, _IFADDR.pack(0, 0, 0, 0, 0))):
            _family, length, flags, _scope, index = _IFADDR.unpack_from(body)
            local: Address | None = None
            for attr, value in attributes(memoryview(body)[_IFADDR.size :]):
                if attr == IFA_LOCAL or (attr == IFA_ADDRESS and local is None):
                    local = address_in(value)
                elif attr == IFA_FLAGS:
                    flags = _U32.unpack(value)[0]
            if local is not None and index in links:
                found.append(
                    InterfaceAddress(
                        links[index].name,
                        local,
                        length,
                        deprecated=bool(flags & IFA_F_DEPRECATED),
                        tentative=bool(flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED))
                        and not flags & IFA_F_OPTIMISTIC,
                        secondary=bool(flags & IFA_F_SECONDARY),
                    )
                )
        # Those of a link in the kernel's order, by which it chooses among them.
        return sorted(found, key=lambda entry: (entry.interface, entry.address.version))

    def read(self) -> tuple[Underlay, dict[int, HostLink]]:
        """All of it, as one picture."""
        links = self.links()
        self.names = {index: link.name for index, link in links.items()}
        routes: list[UnderlayRoute] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            header = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            for _kind, body in self._netlink.dump(Request(RTM_GETROUTE, 0, header)):
                route = _route(body, links)
                if route is not None:
                    routes.append(route)
        return Underlay(routes, self.addresses(links)), links

    def close(self) -> None:
        self._netlink.close()


def _route(body: bytes, links: dict[int, HostLink]) -> UnderlayRoute | None:
    family, length, _src, _tos, table, protocol, _scope, kind, flags = RTMSG.unpack_from(body)
    if protocol == RTPROT_L3NET or (kind != RTN_UNICAST and kind not in RTN_DISCARD):
        return None
    width = 4 if family == socket.AF_INET else 16
    destination = bytes(width)
    metric = 0
    oif = 0
    gateway: Address | None = None
    source: Address | None = None
    hops: list[UnderlayHop] = []
    for attr, value in attributes(memoryview(body)[RTMSG.size :]):
        if attr == RTA_DST:
            destination = bytes(value)
        elif attr == RTA_TABLE:
            table = _U32.unpack(value)[0]
        elif attr == RTA_PRIORITY:
            metric = _U32.unpack(value)[0]
        elif attr == RTA_OIF:
            oif = _U32.unpack(value)[0]
        elif attr == RTA_GATEWAY:
            gateway = address_in(value)
        elif attr == RTA_VIA:
            gateway = address_in(value[2:])
        elif attr == RTA_MULTIPATH:
            hops += _multipath(value, links)
        elif attr == RTA_PREFSRC:
            source = address_in(value)
    if table != RT_TABLE_MAIN:
        return None
    if oif and oif in links and not flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN):
        hops.append(UnderlayHop(links[oif].name, gateway))
    discard = kind in RTN_DISCARD
    if not hops and not discard:
        return None
    prefix = (IPv4Network if width == 4 else IPv6Network)((destination, length))
    return UnderlayRoute(prefix, tuple(hops), metric, discard, source)


def _multipath(value: memoryview, links: dict[int, HostLink]) -> list[UnderlayHop]:
    hops = []
    while len(value) >= _RTNEXTHOP.size:
        length, flags, weight, index = _RTNEXTHOP.unpack_from(value)
        gateway: Address | None = None
        for attr, part in attributes(value[_RTNEXTHOP.size : length]):
            if attr == RTA_GATEWAY:
                gateway = address_in(part)
            elif attr == RTA_VIA:
                gateway = address_in(part[2:])
        if index in links and not flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN):
            hops.append(UnderlayHop(links[index].name, gateway, weight + 1))
        value = value[(length + 3) & ~3 :]
    return hops
