"""SCTP (RFC 9260) by raw sockets, for kernels that have none: the first chunk of an association, and who
hears it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from firewall_net import PATIENCE, Net, inside

SCTP = 132
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_ICMP = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
#: Type and code of "port unreachable".
_UNREACHABLE = {4: (3, 3), 6: (1, 4)}


def crc32c(octets: bytes) -> int:
    """RFC 9260 appendix A, bit by bit."""
    value = 0xFFFFFFFF
    for octet in octets:
        value ^= octet
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def init(source_port: int, port: int) -> bytes:
    """An INIT chunk: what the first packet of an association is."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 7, 65535, 1, 1, 1)
    head = struct.pack("!HHI", source_port, port, 0)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


def send(net: Net, role: str, version: int, address: str, port: int, source_port: int) -> None:
    with inside(net.names[role]), socket.socket(_FAMILY[version], socket.SOCK_RAW, SCTP) as raw:
        raw.sendto(init(source_port, port), (address, 0))


class Ears:
    """What a host hears of SCTP, and of its being refused."""

    def __init__(self, net: Net, role: str, version: int) -> None:
        self._version = version
        with inside(net.names[role]):
            self._chunks = socket.socket(_FAMILY[version], socket.SOCK_RAW, SCTP)
            self._errors = socket.socket(_FAMILY[version], socket.SOCK_RAW, _ICMP[version])
        for each in (self._chunks, self._errors):
            each.settimeout(PATIENCE)

    def heard(self, source_port: int) -> tuple[str, int]:
        """From which address, and to which port, an INIT came whose sender's port was this."""
        while True:
            packet, peer = self._chunks.recvfrom(2048)
            body = self._body(packet)
            there, port = struct.unpack_from("!HH", body)
            if there == source_port:
                assert crc32c(body[:8] + bytes(4) + body[12:]) == struct.unpack_from("<I", body, 8)[0]
                return peer[0], port

    def refused(self) -> None:
        """Wait for "port unreachable"."""
        while tuple(self._body(self._errors.recv(2048))[:2]) != _UNREACHABLE[self._version]:
            pass

    def _body(self, packet: bytes) -> bytes:
        """Raw sockets of IPv4 give the header of IP as well."""
        return packet[(packet[0] & 15) * 4 :] if self._version == 4 else packet

    def close(self) -> None:
        self._chunks.close()
        self._errors.close()


@contextmanager
def ears(net: Net, role: str, version: int) -> Iterator[Ears]:
    made = Ears(net, role, version)
    try:
        yield made
    finally:
        made.close()
