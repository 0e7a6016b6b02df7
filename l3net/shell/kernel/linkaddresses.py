"""Netlink requests for the addresses of links, and what is read back (rtnetlink(7), linux/if_addr.h)."""

from __future__ import annotations

import _socket as socket  # as `netlink`
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Final

from l3net.cni.result import InterfaceAddress
from l3net.model import Address
from l3net.shell.kernel.links import u32
from l3net.shell.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Netlink,
    Request,
    attribute,
    attributes,
)

RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_BROADCAST: Final = 4
IFA_FLAGS: Final = 8
IFA_F_NODAD: Final = 0x02
IFA_F_PERMANENT: Final = 0x80
#: linux/rtnetlink.h
RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_HOST: Final = 254

_IFADDR: Final = struct.Struct("=BBBBi")


def put_address(
    index: int, address: InterfaceAddress, *, create: bool = True, scope: int = RT_SCOPE_UNIVERSE
) -> Request:
    """Add an address with its prefix length; IPv6 without duplicate-address detection (no wait). Nothing is
    sent to others from one whose `scope` is RT_SCOPE_HOST."""
    packed = address.ip.packed
    body = _IFADDR.pack(_family(address), address.network.prefixlen, IFA_F_NODAD, scope, index)
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    if address.version == 4 and address.network.prefixlen < 31:
        body += attribute(IFA_BROADCAST, address.network.broadcast_address.packed)
    if address.version == 6:
        body += u32(IFA_FLAGS, IFA_F_NODAD | IFA_F_PERMANENT)
    return Request(RTM_NEWADDR, NLM_F_CREATE | (NLM_F_EXCL if create else NLM_F_REPLACE), body)


def delete_address(index: int, address: InterfaceAddress) -> Request:
    """Of an address that a link has with two lengths, the one of this length: without IFA_ADDRESS the kernel
    takes the first (inet_rtm_deladdr)."""
    body = _IFADDR.pack(_family(address), address.network.prefixlen, 0, 0, index)
    packed = address.ip.packed
    return Request(RTM_DELADDR, 0, body + attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed))


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


def _family(address: InterfaceAddress) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
