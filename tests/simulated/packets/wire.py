"""Packets as octets, for the real kernel: what is sent, and what of that which comes is compared."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from sctp_chunks import crc32c

from l3net.model import Address
from packets.packet import ACK, ERRORS, ICMP, ICMPV6, SCTP, SYN, TCP, UDP, Packet

#: Sequence numbers of whoever begins a connection, and of whoever answers; one far out of any window.
BEGINS, ANSWERS, FAR = 1000, 5000, 1 << 30


def encoded(packet: Packet, *, answers: bool = False) -> bytes:
    """`answers`: its sender did not begin its connection."""
    body = _sums(packet, _body(packet, answers=answers))
    if packet.version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, packet.ttl, packet.protocol, 0)
        head += packet.source.packed + packet.destination.packed
        head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
        return head + body
    head = struct.pack("!IHBB", 6 << 28, len(body), packet.protocol, packet.ttl)
    return head + packet.source.packed + packet.destination.packed + body


def _body(packet: Packet, *, answers: bool) -> bytes:
    if packet.protocol == TCP:
        mine, other = (ANSWERS, BEGINS) if answers else (BEGINS, ANSWERS)
        sequence = mine if packet.flags & SYN else mine + 1
        sequence += 0 if packet.in_window else FAR
        acknowledged = other + 1 if packet.flags & ACK else 0
        option = struct.pack("!BBH", 2, 4, packet.mss) if packet.mss else b""
        offset = (5 + len(option) // 4) << 12
        ports = (packet.sport, packet.dport)
        rest = (sequence, acknowledged, offset | packet.flags, 65535, 0, 0)
        return struct.pack("!HHIIHHHH", *ports, *rest) + option
    if packet.protocol == UDP:
        return struct.pack("!HHHH", packet.sport, packet.dport, 8, 0)
    if packet.protocol == SCTP:  # an INIT (RFC 9260 section 3.3.2)
        chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 7, 65535, 1, 1, 1)
        return struct.pack("!HHII", packet.sport, packet.dport, 0, 0) + chunk
    if packet.about is not None:
        code = 3 if (packet.version, packet.icmp) == (4, 3) else 0
        code = 4 if (packet.version, packet.icmp) == (6, 1) else code
        return struct.pack("!BBHI", packet.icmp, code, 0, 0) + encoded(packet.about)
    return struct.pack("!BBHHH", packet.icmp, 0, 0, packet.sport, 1)


def _sums(packet: Packet, body: bytes) -> bytes:
    """The body with its checksum."""
    at = {TCP: 16, UDP: 6, SCTP: 8, ICMP: 2, ICMPV6: 2}[packet.protocol]
    if packet.protocol == SCTP:
        return body[:8] + struct.pack("<I", crc32c(body)) + body[12:]
    pseudo = b""
    if packet.protocol != ICMP:
        ends = packet.source.packed + packet.destination.packed
        pseudo = ends + struct.pack("!II", len(body), packet.protocol)
    found = _checksum(pseudo + body) or (0xFFFF if packet.protocol == UDP else 0)
    return body[:at] + struct.pack("!H", found) + body[at + 2 :]


def _checksum(octets: bytes) -> int:
    octets += bytes(len(octets) % 2)
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def decoded(octets: bytes) -> Packet | None:
    """None: it is no packet of those that are sent."""
    version = octets[0] >> 4
    if version == 4:
        start, protocol, ttl = (octets[0] & 15) * 4, octets[9], octets[8]
        source: Address = IPv4Address(octets[12:16])
        destination: Address = IPv4Address(octets[16:20])
    else:
        start, protocol, ttl = 40, octets[6], octets[7]
        source, destination = IPv6Address(octets[8:24]), IPv6Address(octets[24:40])
    return decoded_body(source, destination, protocol, ttl, octets[start:])


def decoded_body(
    source: Address, destination: Address, protocol: int, ttl: int, body: bytes
) -> Packet | None:
    if protocol in (TCP, UDP, SCTP) and len(body) >= 4:
        sport, dport = struct.unpack_from("!HH", body)
        flags = body[13] & 0x3F if protocol == TCP and len(body) > 13 else 0
        mss = 0
        if flags & SYN and body[20:22] == b"\x02\x04":
            mss = struct.unpack_from("!H", body, 22)[0]
        return Packet(source, destination, protocol, sport, dport, flags, ttl, mss=mss)
    if protocol not in (ICMP, ICMPV6) or len(body) < 8:
        return None
    kind = body[0]
    if kind in ERRORS[source.version]:
        about = decoded(body[8:])
        # The code is told by the identifier's place, which an error does not have.
        return Packet(source, destination, protocol, body[1], 0, 0, ttl, kind, about)
    # Of discovery what is sent here: the kernel's own has more to say.
    if protocol == ICMPV6 and kind not in (128, 129) and len(body) > 8:
        return None
    return Packet(source, destination, protocol, struct.unpack_from("!H", body, 4)[0], 0, 0, ttl, kind)
