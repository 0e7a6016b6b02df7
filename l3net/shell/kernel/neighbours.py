"""Netlink requests for neighbour and forwarding entries, and what is read back (linux/neighbour.h)."""

from __future__ import annotations

import _socket as socket  # as `netlink`
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from l3net.model import Address
from l3net.shell.kernel.links import mac_bytes, mac_text
from l3net.shell.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Netlink,
    Request,
    attribute,
    attributes,
)

RTM_NEWNEIGH: Final = 28
RTM_DELNEIGH: Final = 29
RTM_GETNEIGH: Final = 30
NDA_DST: Final = 1
NDA_LLADDR: Final = 2
NUD_NOARP: Final = 0x40  # of a bridge's forwarding entry: static
NUD_PERMANENT: Final = 0x80
NTF_SELF: Final = 0x02
NTF_MASTER: Final = 0x04

_NDMSG: Final = struct.Struct("=BxHiHBB")


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


def put_fdb(index: int, mac: str, address: Address) -> Request:
    """A static forwarding entry of a vxlan device: this MAC is behind the host with this address."""
    return Request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, _fdb(index, mac, address))


def delete_fdb(index: int, mac: str, address: Address) -> Request:
    return Request(RTM_DELNEIGH, 0, _fdb(index, mac, address))


def _fdb(index: int, mac: str, address: Address) -> bytes:
    state = NUD_NOARP | NUD_PERMANENT
    body = _NDMSG.pack(socket.AF_BRIDGE, 0, index, state, NTF_SELF, 0)
    return body + attribute(NDA_DST, address.packed) + attribute(NDA_LLADDR, mac_bytes(mac))


def fdb_of(netlink: Netlink, index: int) -> dict[str, Address]:
    """The forwarding entries of a vxlan device that name a host, by MAC."""
    # struct ifinfomsg, as RTM_GETNEIGH of this family has it (rtnl_fdb_dump)
    asked = struct.pack("=BxHiII", socket.AF_BRIDGE, 0, index, 0, 0)
    found: dict[str, Address] = {}
    for _, body in netlink.dump(Request(RTM_GETNEIGH, 0, asked)):
        _, _, at, _, _, _ = _NDMSG.unpack_from(body)
        fields = dict(attributes(memoryview(body)[_NDMSG.size :]))
        if at == index and NDA_DST in fields and NDA_LLADDR in fields:
            found[mac_text(fields[NDA_LLADDR])] = ip_address(bytes(fields[NDA_DST]))
    return found
