"""Netlink requests for links, addresses and queues, and what is read back (rtnetlink(7), linux/if_link.h)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Final

from l3net.cni.result import InterfaceAddress, PodRoute
from l3net.errors import KernelError
from l3net.model import Address
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

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_GETROUTE: Final = 26
RTM_NEWNEIGH: Final = 28
RTM_DELNEIGH: Final = 29
RTM_GETNEIGH: Final = 30
RTM_NEWQDISC: Final = 36

IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_LINK: Final = 5
IFLA_MASTER: Final = 10
IFLA_PROTINFO: Final = 12
IFLA_LINKINFO: Final = 18
IFLA_IFALIAS: Final = 20
IFLA_AF_SPEC: Final = 26
IFLA_GROUP: Final = 27
IFLA_NET_NS_FD: Final = 28
IFLA_EXT_MASK: Final = 29
IFLA_PROMISCUITY: Final = 30
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFLA_INFO_SLAVE_KIND: Final = 4
IFLA_INFO_SLAVE_DATA: Final = 5
IFLA_INET6_ADDR_GEN_MODE: Final = 8
VETH_INFO_PEER: Final = 1
IFLA_BR_FORWARD_DELAY: Final = 1
IFLA_BR_STP_STATE: Final = 5
IFLA_BR_MCAST_SNOOPING: Final = 23
IFLA_BRPORT_STATE: Final = 1
IFLA_BRPORT_MODE: Final = 4  # hairpin
IFLA_BRPORT_LEARNING: Final = 8
IFLA_BRPORT_ISOLATED: Final = 33
BR_STATE_DISABLED: Final = 0
BR_STATE_FORWARDING: Final = 3

IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_BROADCAST: Final = 4
IFA_FLAGS: Final = 8
IFA_F_NODAD: Final = 0x02
IFA_F_PERMANENT: Final = 0x80

NDA_DST: Final = 1
NDA_LLADDR: Final = 2
NUD_NOARP: Final = 0x40  # of a bridge's forwarding entry: static
NUD_PERMANENT: Final = 0x80
NTF_MASTER: Final = 0x04

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
RTPROT_STATIC: Final = 4
RT_TABLE_MAIN: Final = 254

IFF_UP: Final = 0x1
IFF_LOWER_UP: Final = 0x10000
IFF_PROMISC: Final = 0x100
NLA_F_NESTED: Final = 0x8000
RTEXT_FILTER_SKIP_STATS: Final = 1 << 3

_IFINFO: Final = struct.Struct("=BxHiII")
_IFADDR: Final = struct.Struct("=BBBBi")
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_NDMSG: Final = struct.Struct("=BxHiHBB")
_TCMSG: Final = struct.Struct("=BxxxiIII")
_U8: Final = struct.Struct("=B")
_U16: Final = struct.Struct("=H")
_U32: Final = struct.Struct("=I")
_I32: Final = struct.Struct("=i")


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def mac_bytes(mac: str) -> bytes:
    return bytes(int(part, 16) for part in mac.split(":"))


def mac_text(packed: bytes | memoryview) -> str:
    return ":".join(f"{byte:02x}" for byte in bytes(packed))


def ifinfo(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _IFINFO.pack(socket.AF_UNSPEC, 0, index, flags, change)


@dataclass(frozen=True, slots=True)
class Link:
    """A link as read back; `group` is the device group, `kind` rtnetlink's (veth, bridge ...)."""

    index: int
    name: str
    mac: str = ""
    mtu: int = 0
    up: bool = False
    carrier: bool = True
    master: int = 0
    group: int = 0
    kind: str = ""
    alias: str = ""
    isolated: bool = False
    hairpin: bool = False
    learning: bool = True
    port_state: int | None = None


_READ: Final = frozenset(
    {IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_GROUP}
)


def decode_link(body: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    found: dict[int, memoryview] = {}
    at, view = _IFINFO.size, memoryview(body)
    while at + 4 <= len(body):  # as attributes(), but most of the sixty are passed over
        length, which = ATTRIBUTE.unpack_from(body, at)
        if length < 4:
            break
        if which & 0x3FFF in _READ:
            found[which & 0x3FFF] = view[at + 4 : at + length]
        at += (length + 3) & ~3
    info = dict(attributes(found.get(IFLA_LINKINFO, memoryview(b""))))
    port: dict[int, memoryview] = {}
    if bytes(info.get(IFLA_INFO_SLAVE_KIND, b"")).rstrip(b"\0") == b"bridge":
        port = dict(attributes(info.get(IFLA_INFO_SLAVE_DATA, memoryview(b""))))
    return Link(
        index=index,
        name=_string(found.get(IFLA_IFNAME)),
        mac=mac_text(found.get(IFLA_ADDRESS, b"")),
        mtu=_number(found.get(IFLA_MTU)),
        up=bool(flags & IFF_UP),
        carrier=bool(flags & IFF_LOWER_UP),
        master=_number(found.get(IFLA_MASTER)),
        group=_number(found.get(IFLA_GROUP)),
        kind=_string(info.get(IFLA_INFO_KIND)),
        alias=_string(found.get(IFLA_IFALIAS)),
        isolated=bool(port[IFLA_BRPORT_ISOLATED][0]) if IFLA_BRPORT_ISOLATED in port else False,
        hairpin=bool(port[IFLA_BRPORT_MODE][0]) if IFLA_BRPORT_MODE in port else False,
        learning=bool(port[IFLA_BRPORT_LEARNING][0]) if IFLA_BRPORT_LEARNING in port else True,
        port_state=port[IFLA_BRPORT_STATE][0] if IFLA_BRPORT_STATE in port else None,
    )


def _string(value: memoryview | None) -> str:
    return bytes(value).rstrip(b"\0").decode(errors="replace") if value is not None else ""


def _number(value: memoryview | None) -> int:
    return int(_U32.unpack(value)[0]) if value is not None else 0


def get_link(netlink: Netlink, name: str) -> Link | None:
    """A link by name, None if there is none. Asking also settles its pending carrier state (rtnl_getlink)."""
    return _get(netlink, ifinfo() + text(IFLA_IFNAME, name))


def get_link_by_index(netlink: Netlink, index: int) -> Link | None:
    return _get(netlink, ifinfo(index))


def _get(netlink: Netlink, body: bytes) -> Link | None:
    try:
        _, found = netlink.get(Request(RTM_GETLINK, 0, body + _NO_STATISTICS))
    except KernelError as err:
        if err.code == errno.ENODEV:
            return None
        raise
    return decode_link(found)


def all_links(netlink: Netlink) -> list[Link]:
    request = Request(RTM_GETLINK, 0, ifinfo() + _NO_STATISTICS)
    return [decode_link(body) for _, body in netlink.dump(request)]


#: Counters are most of what the kernel tells of a link, and nothing here reads them.
_NO_STATISTICS: Final = u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)


def set_link(index: int, *parts: bytes, up: bool | None = None, name: str = "") -> Request:
    """Change a link, by index or (index 0) by name."""
    flags, change = (IFF_UP if up else 0, IFF_UP) if up is not None else (0, 0)
    by_name = (text(IFLA_IFNAME, name),) if name and not index else ()
    return Request(RTM_NEWLINK, 0, ifinfo(index, flags, change) + b"".join((*by_name, *parts)))


def delete_link(index: int) -> Request:
    return Request(RTM_DELLINK, 0, ifinfo(index))


def delete_group(group: int) -> Request:
    """All links of a device group in one go: they share the kernel's waits."""
    return Request(RTM_DELLINK, 0, ifinfo() + u32(IFLA_GROUP, group))


def create_veth(
    host: str, peer: str, peer_netns: int, *, mtu: int, mac: str = "", master: int = 0
) -> Request:
    """A veth pair, host end up; the peer is born in its namespace under its final name, never moved."""
    far = ifinfo() + text(IFLA_IFNAME, peer) + u32(IFLA_NET_NS_FD, peer_netns)
    near = ifinfo(0, IFF_UP, IFF_UP) + text(IFLA_IFNAME, host)
    if mtu:
        far += u32(IFLA_MTU, mtu)
        near += u32(IFLA_MTU, mtu)
    if mac:
        far += attribute(IFLA_ADDRESS, mac_bytes(mac))
    if master:
        near += u32(IFLA_MASTER, master)
    near += nested(
        IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), nested(IFLA_INFO_DATA, nested(VETH_INFO_PEER, far))
    )
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, near)


def create_bridge(name: str, *, mtu: int = 0, mac: str = "", up: bool = False) -> Request:
    """A bridge without spanning tree, forward delay and multicast snooping."""
    body = ifinfo(0, IFF_UP if up else 0, IFF_UP) + text(IFLA_IFNAME, name)
    if mtu:
        body += u32(IFLA_MTU, mtu)
    if mac:
        body += attribute(IFLA_ADDRESS, mac_bytes(mac))
    body += bridge_settings()
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def bridge_settings() -> bytes:
    return nested(
        IFLA_LINKINFO,
        text(IFLA_INFO_KIND, "bridge"),
        nested(
            IFLA_INFO_DATA,
            u32(IFLA_BR_STP_STATE, 0),
            u32(IFLA_BR_FORWARD_DELAY, 0),
            attribute(IFLA_BR_MCAST_SNOOPING, _U8.pack(0)),
        ),
    )


def set_port(
    index: int,
    name: str = "",
    *,
    isolated: bool | None = None,
    hairpin: bool | None = None,
    learning: bool | None = None,
    state: int | None = None,
    alias: str = "",
    quiet: bool = False,
) -> Request:
    """Settings of a bridge port, by index or name; `alias` is what `ip link` shows.

    `quiet`: no link-local address, which a port does not need, nor the neighbour discovery it brings.
    """
    parts = []
    if state is not None:
        parts.append(attribute(IFLA_BRPORT_STATE, _U8.pack(state)))
    if isolated is not None:
        parts.append(attribute(IFLA_BRPORT_ISOLATED, _U8.pack(isolated)))
    if hairpin is not None:
        parts.append(attribute(IFLA_BRPORT_MODE, _U8.pack(hairpin)))
    if learning is not None:
        parts.append(attribute(IFLA_BRPORT_LEARNING, _U8.pack(learning)))
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_SLAVE_KIND, "bridge"), nested(IFLA_INFO_SLAVE_DATA, *parts))
    extra = [attribute(IFLA_IFALIAS, alias.encode())] if alias else []
    if quiet:
        mode = attribute(IFLA_INET6_ADDR_GEN_MODE, b"\x01")  # IN6_ADDR_GEN_MODE_NONE
        extra.append(nested(IFLA_AF_SPEC, nested(socket.AF_INET6, mode)))
    return set_link(index, *extra, info, name=name)


def put_address(index: int, address: InterfaceAddress, *, create: bool = True) -> Request:
    """Add an address with its prefix length; IPv6 without duplicate-address detection (no wait)."""
    packed = address.ip.packed
    body = _IFADDR.pack(_family(address), address.network.prefixlen, IFA_F_NODAD, 0, index)
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    if address.version == 4 and address.network.prefixlen < 31:
        body += attribute(IFA_BROADCAST, address.network.broadcast_address.packed)
    if address.version == 6:
        body += u32(IFA_FLAGS, IFA_F_NODAD | IFA_F_PERMANENT)
    return Request(RTM_NEWADDR, NLM_F_CREATE | (NLM_F_EXCL if create else NLM_F_REPLACE), body)


def delete_address(index: int, address: InterfaceAddress) -> Request:
    body = _IFADDR.pack(_family(address), address.network.prefixlen, 0, 0, index)
    return Request(RTM_DELADDR, 0, body + attribute(IFA_LOCAL, address.ip.packed))


def addresses_of(netlink: Netlink, index: int) -> list[InterfaceAddress]:
    """The addresses of a link, without IPv6 link-local ones."""
    return [
        ip_interface(f"{address}/{length}")
        for at, length, address in _addresses(netlink)
        if at == index and not (address.version == 6 and address.is_link_local)
    ]


def local_addresses(netlink: Netlink) -> frozenset[Address]:
    """Every address of every link."""
    return frozenset(address for _, _, address in _addresses(netlink))


def _addresses(netlink: Netlink) -> Iterator[tuple[int, int, Address]]:
    """Index of the link, prefix length, address."""
    for _, body in netlink.dump(Request(RTM_GETADDR, 0, _IFADDR.pack(0, 0, 0, 0, 0))):
        _, length, _, _, index = _IFADDR.unpack_from(body)
        fields = dict(attributes(memoryview(body)[_IFADDR.size :]))
        packed = bytes(fields.get(IFA_LOCAL, fields.get(IFA_ADDRESS, b"")))
        if len(packed) in (4, 16):  # a link of another family may have addresses too
            yield index, length, IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


@lru_cache(maxsize=1024)  # pods of a node share their gateway, and mostly the index of eth0
def put_route(index: int, route: PodRoute) -> Request:
    """A route in a pod, through its interface; on-link without gateway."""
    scope = route.scope
    if scope is None:
        scope = RT_SCOPE_UNIVERSE if route.gateway or route.prefix.version == 6 else RT_SCOPE_LINK
    table = route.table or RT_TABLE_MAIN
    family = socket.AF_INET if route.prefix.version == 4 else socket.AF_INET6
    header = _RTMSG.pack(
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
        header = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for _, body in netlink.dump(Request(RTM_GETROUTE, 0, header)):
            _, length, _, _, _, _, _, kind, _ = _RTMSG.unpack_from(body)
            fields = dict(attributes(memoryview(body)[_RTMSG.size :]))
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


def _family(address: InterfaceAddress) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


# --- neighbours ------------------------------------------------------------------------------------------


def put_neighbour(index: int, address: Address, mac: str) -> Request:
    """A permanent neighbour entry: no packet changes it (neigh_update), nor is it ever collected."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = _NDMSG.pack(family, 0, index, NUD_PERMANENT, 0, 0)
    body += attribute(NDA_DST, address.packed) + attribute(NDA_LLADDR, mac_bytes(mac))
    return Request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body)


def delete_neighbour(index: int, address: Address) -> Request:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = _NDMSG.pack(family, 0, index, 0, 0, 0) + attribute(NDA_DST, address.packed)
    return Request(RTM_DELNEIGH, 0, body)


def put_forwarding(port: int, mac: str) -> Request:
    """A static entry of the bridge's forwarding table: this MAC is behind this port, whoever sends."""
    body = _NDMSG.pack(socket.AF_BRIDGE, 0, port, NUD_NOARP, NTF_MASTER, 0)
    return Request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body + attribute(NDA_LLADDR, mac_bytes(mac)))


def neighbours_of(netlink: Netlink, index: int) -> dict[Address, tuple[str, bool]]:
    """The neighbour entries of a link: MAC, and whether it is permanent."""
    found: dict[Address, tuple[str, bool]] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        for _, body in netlink.dump(Request(RTM_GETNEIGH, 0, _NDMSG.pack(family, 0, 0, 0, 0, 0))):
            _, _, at, state, _, _ = _NDMSG.unpack_from(body)
            fields = dict(attributes(memoryview(body)[_NDMSG.size :]))
            if at == index and NDA_DST in fields:
                packed = bytes(fields[NDA_DST])
                address = IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
                mac = mac_text(fields.get(NDA_LLADDR, b""))
                found[address] = (mac, bool(state & NUD_PERMANENT))
    return found


TC_H_ROOT: Final = 0xFFFFFFFF
TCA_KIND: Final = 1
TCA_OPTIONS: Final = 2
TCA_TBF_PARMS: Final = 1
TCA_TBF_RATE64: Final = 4
TCA_TBF_BURST: Final = 6
_NSEC_PER_TICK: Final = 64  # PSCHED_SHIFT is 6
_LATENCY: Final = 0.025  # seconds a packet may wait, as the reference bandwidth plugin has it


def limit_rate(index: int, rate: int, burst: int) -> Request:
    """A token bucket (tc-tbf(8)) at the root of a link. `rate` in bits a second, `burst` in bits."""
    rate_bytes = max(1, rate // 8)
    burst_bytes = min(burst // 8 or max(rate_bytes // 10, 16384), 0xFFFFFFFF)
    ticks = min(int(burst_bytes * 1_000_000_000 / rate_bytes / _NSEC_PER_TICK), 0xFFFFFFFF)
    limit = min(int(rate_bytes * _LATENCY) + burst_bytes, 0xFFFFFFFF)
    # struct tc_ratespec (linklayer 1: ethernet, so that no rate table is needed), twice, limit, buffer, mtu
    ratespec = struct.pack("=BBHhHI", 0, 1, 0, -1, 0, min(rate_bytes, 0xFFFFFFFF))
    parms = ratespec + struct.pack("=BBHhHI", 0, 0, 0, 0, 0, 0) + struct.pack("=III", limit, ticks, 0)
    options = attribute(TCA_TBF_PARMS, parms) + u32(TCA_TBF_BURST, burst_bytes)
    if rate_bytes > 0xFFFFFFFF:
        options += attribute(TCA_TBF_RATE64, struct.pack("=Q", rate_bytes))
    body = _TCMSG.pack(0, index, 0, TC_H_ROOT, 0)
    body += text(TCA_KIND, "tbf") + nested(TCA_OPTIONS, options)
    return Request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body)
