"""Netlink requests for links, and what is read back (rtnetlink(7), linux/if_link.h)."""

from __future__ import annotations

import _socket as socket  # as `netlink`
import errno
import struct
import sys
from dataclasses import dataclass
from typing import Final

from l3net.errors import KernelError
from l3net.shell.kernel.netlink import (
    ATTRIBUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Netlink,
    Request,
    attribute,
    attributes,
)

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18

IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_MASTER: Final = 10
IFLA_LINKINFO: Final = 18
IFLA_IFALIAS: Final = 20
IFLA_AF_SPEC: Final = 26
IFLA_GROUP: Final = 27
IFLA_NET_NS_FD: Final = 28
IFLA_EXT_MASK: Final = 29
IFLA_NUM_TX_QUEUES: Final = 31
IFLA_NUM_RX_QUEUES: Final = 32
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFLA_INFO_SLAVE_KIND: Final = 4
IFLA_INFO_SLAVE_DATA: Final = 5
IFLA_INET6_ADDR_GEN_MODE: Final = 8
VETH_INFO_PEER: Final = 1
IFLA_BR_FORWARD_DELAY: Final = 1
IFLA_BR_STP_STATE: Final = 5
IFLA_BR_GROUP_FWD_MASK: Final = 9
IFLA_BR_MCAST_SNOOPING: Final = 23
IFLA_BRPORT_STATE: Final = 1
IFLA_BRPORT_MODE: Final = 4  # hairpin
IFLA_BRPORT_LEARNING: Final = 8
IFLA_BRPORT_ISOLATED: Final = 33
BR_STATE_DISABLED: Final = 0
#: Bits of a bridge for 01:80:c2:00:00:00 to :0f, without those that cannot be set (BR_GROUPFWD_RESTRICTED).
#: What it is not to forward it hands to the host by the port, LLDP's past every hook of the bridge.
GROUP_FORWARDED: Final = 0xFFF8

IFF_UP: Final = 0x1
IFF_LOWER_UP: Final = 0x10000
IFF_PROMISC: Final = 0x100
NLA_F_NESTED: Final = 0x8000
RTEXT_FILTER_SKIP_STATS: Final = 1 << 3

_IFINFO: Final = struct.Struct("=BxHiII")
_U8: Final = struct.Struct("=B")
_U16: Final = struct.Struct("=H")
_U32: Final = struct.Struct("=I")


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def mac_bytes(mac: str) -> bytes:
    return bytes(int(part, 16) for part in mac.split(":"))


def mac_text(packed: bytes | memoryview) -> str:
    return bytes(packed).hex(":")


def ifinfo(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _IFINFO.pack(socket.AF_UNSPEC, 0, index, flags, change)


@dataclass(frozen=True, slots=True)
class KernelLink:
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
    group_forwarded: int = 0  # of a bridge


_READ: Final = frozenset(
    {IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_GROUP}
)


_READ_OF_BRIDGE: Final = frozenset({IFLA_BR_GROUP_FWD_MASK})
_READ_OF_PORT: Final = frozenset(
    {IFLA_BRPORT_STATE, IFLA_BRPORT_MODE, IFLA_BRPORT_LEARNING, IFLA_BRPORT_ISOLATED}
)


def _picked(view: memoryview, wanted: frozenset[int], at: int = 0) -> dict[int, memoryview]:
    """As attributes(), but those of no interest are passed over: of a bridge port's hundred all but ten."""
    found: dict[int, memoryview] = {}
    unpack, last = ATTRIBUTE.unpack_from, len(view) - 4
    while at <= last:
        length, kind = unpack(view, at)
        if length < 4:
            break
        if kind & 0x3FFF in wanted:
            found[kind & 0x3FFF] = view[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def decode_link(body: bytes) -> KernelLink:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    found = _picked(memoryview(body), _READ, _IFINFO.size)
    info = dict(attributes(found.get(IFLA_LINKINFO, memoryview(b""))))
    kind = _string(info.get(IFLA_INFO_KIND))
    bridge: dict[int, memoryview] = {}
    if kind == "bridge":
        bridge = _picked(info.get(IFLA_INFO_DATA, memoryview(b"")), _READ_OF_BRIDGE)
    port: dict[int, memoryview] = {}
    if bytes(info.get(IFLA_INFO_SLAVE_KIND, b"")).rstrip(b"\0") == b"bridge":
        port = _picked(info.get(IFLA_INFO_SLAVE_DATA, memoryview(b"")), _READ_OF_PORT)
    return KernelLink(
        index=index,
        name=_string(found.get(IFLA_IFNAME)),
        mac=mac_text(found.get(IFLA_ADDRESS, b"")),
        mtu=_number(found.get(IFLA_MTU)),
        up=bool(flags & IFF_UP),
        carrier=bool(flags & IFF_LOWER_UP),
        master=_number(found.get(IFLA_MASTER)),
        group=_number(found.get(IFLA_GROUP)),
        kind=kind,
        alias=_string(found.get(IFLA_IFALIAS)),
        isolated=bool(port[IFLA_BRPORT_ISOLATED][0]) if IFLA_BRPORT_ISOLATED in port else False,
        hairpin=bool(port[IFLA_BRPORT_MODE][0]) if IFLA_BRPORT_MODE in port else False,
        learning=bool(port[IFLA_BRPORT_LEARNING][0]) if IFLA_BRPORT_LEARNING in port else True,
        port_state=port[IFLA_BRPORT_STATE][0] if IFLA_BRPORT_STATE in port else None,
        group_forwarded=int.from_bytes(bridge.get(IFLA_BR_GROUP_FWD_MASK, b""), sys.byteorder),
    )


def _string(value: memoryview | None) -> str:
    return bytes(value).rstrip(b"\0").decode(errors="replace") if value is not None else ""


def _number(value: memoryview | None) -> int:
    return int(_U32.unpack(value)[0]) if value is not None else 0


def get_link(netlink: Netlink, name: str) -> KernelLink | None:
    """A link by name, None if there is none. Asking also settles its pending carrier state (rtnl_getlink)."""
    return _get(netlink, ifinfo() + text(IFLA_IFNAME, name))


def get_link_by_index(netlink: Netlink, index: int) -> KernelLink | None:
    return _get(netlink, ifinfo(index))


def _get(netlink: Netlink, body: bytes) -> KernelLink | None:
    try:
        _, found = netlink.get(Request(RTM_GETLINK, 0, body + _NO_STATISTICS))
    except KernelError as err:
        if err.code == errno.ENODEV:
            return None
        raise
    return decode_link(found)


def all_links(netlink: Netlink) -> list[KernelLink]:
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


def delete_named(name: str) -> Request:
    return Request(RTM_DELLINK, 0, ifinfo() + text(IFLA_IFNAME, name))


def delete_group(group: int) -> Request:
    """All links of a device group in one go: they share the kernel's waits."""
    return Request(RTM_DELLINK, 0, ifinfo() + u32(IFLA_GROUP, group))


_ONE_QUEUE: Final = u32(IFLA_NUM_TX_QUEUES, 1) + u32(IFLA_NUM_RX_QUEUES, 1)


def create_veth(
    host: str, peer: str, peer_netns: int, *, mtu: int, mac: str = "", master: int = 0
) -> Request:
    """A veth pair, host end up; the peer is born in its namespace under its final name, never moved.

    Each end has one queue. Unasked the kernel makes one for each processor, shows them all in sysfs, and uses
    the first alone (veth_init_queues).
    """
    far = ifinfo() + text(IFLA_IFNAME, peer) + u32(IFLA_NET_NS_FD, peer_netns) + _ONE_QUEUE
    near = ifinfo(0, IFF_UP, IFF_UP) + text(IFLA_IFNAME, host) + _ONE_QUEUE
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


def bridge_settings(group_forwarded: int = 0) -> bytes:
    """Of a bridge of ours; `group_forwarded` is a mask, as `GROUP_FORWARDED`."""
    return nested(
        IFLA_LINKINFO,
        text(IFLA_INFO_KIND, "bridge"),
        nested(
            IFLA_INFO_DATA,
            u32(IFLA_BR_STP_STATE, 0),
            u32(IFLA_BR_FORWARD_DELAY, 0),
            attribute(IFLA_BR_GROUP_FWD_MASK, _U16.pack(group_forwarded)),
            attribute(IFLA_BR_MCAST_SNOOPING, _U8.pack(0)),
        ),
    )


def set_up(index: int) -> Request:
    """A pod's end up, with the link-local address that follows from its MAC: the guard knows no other."""
    mode = attribute(IFLA_INET6_ADDR_GEN_MODE, b"\x00")  # IN6_ADDR_GEN_MODE_EUI64
    return set_link(index, nested(IFLA_AF_SPEC, nested(socket.AF_INET6, mode)), up=True)


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
