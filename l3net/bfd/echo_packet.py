"""Echo packets as they are on the link: IP and UDP headers around a payload (RFC 5881 section 4).

The destination is the sender's own address, so that the far side forwards the packet back. Not between
link-local addresses, which nobody forwards (RFC 4291 section 2.5.6): there it is the far side's address, and
its BFD returns what comes, as FRR's does with all Echo packets over IPv6.
"""

from __future__ import annotations

import struct
from typing import Final

from l3net.model import Address

ECHO_PORT: Final = 3785
#: As sent; and as it is on the way back, after one hop (RFC 5881 section 5).
SENT_TTL: Final = 255
RETURNED_TTL: Final = 254
#: Network control (RFC 4594).
TRAFFIC_CLASS: Final = 0xC0
_UDP: Final = 17
_UDP_HEADER: Final = struct.Struct("!HHHH")
_IPV4_HEADER: Final = struct.Struct("!BBHHHBBH4s4s")
_IPV6_HEADER: Final = struct.Struct("!IHBB16s16s")


def checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(octets) % 2:
        octets += b"\0"
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_packet(local: Address, peer: Address, source_port: int, payload: bytes) -> bytes:
    """The whole IP packet. An IPv4 header's checksum is left to the kernel."""
    returned_by_bfd = local.version == 6 and local.is_link_local
    source, destination = local.packed, (peer if returned_by_bfd else local).packed
    length = _UDP_HEADER.size + len(payload)
    if local.version == 4:
        pseudo = source + destination + struct.pack("!HH", _UDP, length)
    else:
        pseudo = source + destination + struct.pack("!II", length, _UDP)
    bare = _UDP_HEADER.pack(source_port, ECHO_PORT, length, 0) + payload
    datagram = _UDP_HEADER.pack(source_port, ECHO_PORT, length, checksum(pseudo + bare) or 0xFFFF) + payload
    if local.version == 4:
        size = _IPV4_HEADER.size + length
        head = _IPV4_HEADER.pack(0x45, TRAFFIC_CLASS, size, 0, 0, SENT_TTL, _UDP, 0, source, destination)
    else:
        head = _IPV6_HEADER.pack(6 << 28 | TRAFFIC_CLASS << 20, length, _UDP, SENT_TTL, source, destination)
    return head + datagram


def payload_of(packet: bytes) -> bytes:
    """The payload of a UDP packet, from its IP header on; empty for a packet that is cut short."""
    if not packet:
        return b""
    if packet[0] >> 4 == 4:
        head = (packet[0] & 0x0F) * 4
        end = int.from_bytes(packet[2:4], "big")
    else:
        head = _IPV6_HEADER.size
        end = head + int.from_bytes(packet[4:6], "big")
    return packet[head + _UDP_HEADER.size : end] if end <= len(packet) else b""
