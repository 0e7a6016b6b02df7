"""Who on a link answers for an address: one ARP probe (RFC 5227 section 2.1.1, so that nobody learns anything
from it) or neighbour solicitation (RFC 4861 section 4.3), sent again where nobody answers.

In the network namespace of the thread that asks.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from l3net.model import Address

#: Times that are asked, and seconds for the answers of each.
TRIES: Final = 2
WAIT: Final = 0.15
_ARP: Final = 0x0806
_ETHERNET: Final = 1  # ARPHRD_ETHER, linux/if_arp.h
_OUTGOING: Final = 4  # PACKET_OUTGOING, linux/if_packet.h
_REQUEST: Final = 1
_PROBE: Final = struct.Struct("!HHBBH6s4s6s4s")
_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOURCE_OPTION, _TARGET_OPTION = 1, 2


def who_has(interface: str, address: Address) -> tuple[str, ...] | None:
    """The MACs of those that answer, without this host's own; None: it cannot be asked on this link."""
    try:
        found = _arp(interface, address) if address.version == 4 else _solicit(interface, address)
    except OSError:
        return None
    return None if found is None else tuple(sorted(found))


def _mac(raw: bytes) -> str:
    return raw.hex(":")


def _own(interface: str) -> bytes | None:
    """The link's MAC; None: it is no Ethernet."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((interface, 0))
        _, _, _, kind, mac = sock.getsockname()
    return mac if kind == _ETHERNET and len(mac) == 6 and any(mac) else None


def _arp(interface: str, address: IPv4Address) -> set[str] | None:
    own = _own(interface)
    if own is None:
        return None
    asked = address.packed
    frame = b"\xff" * 6 + own + struct.pack("!H", _ARP)
    frame += _PROBE.pack(_ETHERNET, 0x0800, 6, 4, _REQUEST, own, bytes(4), bytes(6), asked)
    found: set[str] = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)) as sock:
        sock.bind((interface, _ARP))
        for _ in range(TRIES):
            sock.send(frame)
            deadline = time.monotonic() + WAIT
            while (left := deadline - time.monotonic()) > 0:
                sock.settimeout(left)
                with suppress(TimeoutError):
                    data, (_, _, kind, *_) = sock.recvfrom(128)
                    if kind != _OUTGOING and len(data) >= 14 + _PROBE.size:
                        *_, mac, sender, _, _ = _PROBE.unpack_from(data, 14)
                        if sender == asked and mac != own:
                            found.add(_mac(mac))
            if found:
                break
    return found


def _solicit(interface: str, address: IPv6Address) -> set[str] | None:
    own = _own(interface)
    if own is None:
        return None
    index = socket.if_nametoindex(interface)
    asked = address.packed
    group = ip_address(b"\xff\x02" + bytes(9) + b"\x01\xff" + asked[-3:])  # RFC 4291 section 2.7.1
    message = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + asked + bytes((_SOURCE_OPTION, 1)) + own
    found: set[str] = set()
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        for _ in range(TRIES):
            sock.sendto(message, (str(group), 0, 0, index))
            deadline = time.monotonic() + WAIT
            while (left := deadline - time.monotonic()) > 0:
                sock.settimeout(left)
                with suppress(TimeoutError):
                    mac = _advertised(sock.recv(1500), asked)
                    if mac is not None and mac != own:
                        found.add(_mac(mac))
            if found:
                break
    return found


def _advertised(data: bytes, asked: bytes) -> bytes | None:
    """The link-layer address in an advertisement of this target."""
    if len(data) < 24 or data[0] != _ADVERTISEMENT or data[8:24] != asked:
        return None
    at = 24
    while at + 8 <= len(data) and data[at + 1]:
        if data[at] == _TARGET_OPTION:
            return data[at + 2 : at + 8]
        at += 8 * data[at + 1]
    return None
