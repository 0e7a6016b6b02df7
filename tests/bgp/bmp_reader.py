"""A collector as small as can be: BMP messages out of octets, and the tables that they come to.

It takes nothing that it does not know, so that a wrong length or type is an error.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from l3net.bgp.wire.attributes import MP_REACH_NLRI, MP_UNREACH_NLRI
from l3net.model import Address, Prefix

ADDRESSES = {1: (IPv4Address, 4), 2: (IPv6Address, 16)}


@dataclass
class Told:
    """Of one session: its Peer Up, and whether it is up; tables by (out, prefix, path identifier)."""

    opens: tuple[bytes, bytes] = (b"", b"")
    ports: tuple[int, int] = (0, 0)
    local: Address | None = None
    up: bool = False
    downs: list[bytes] = field(default_factory=list)
    tables: dict[tuple[bool, Prefix, str], dict[int, bytes]] = field(default_factory=dict)
    ends: list[tuple[bool, int]] = field(default_factory=list)
    statistics: dict[Any, int] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)  # of Route Monitoring


class Collected:
    """What a connection has told; `add_path`: peers whose prefixes have identifiers."""

    def __init__(self, octets: bytes, add_path: frozenset[str] = frozenset()) -> None:
        self.peers: dict[str, Told] = {}
        self.initiation: dict[int, str] = {}
        self.terminated: int | None = None
        self.kinds: list[int] = []
        self._add_path = add_path
        while octets:
            version, length, kind = struct.unpack("!BLB", octets[:6])
            assert version == 3 and len(octets) >= length
            assert self.terminated is None, "something follows Termination"
            assert bool(self.kinds) == (kind != 4), "Initiation is the first, and only that"
            self.kinds.append(kind)
            self._message(kind, octets[6:length])
            octets = octets[length:]

    def prefixes(self, peer: str, *, out: bool = False) -> set[str]:
        return {str(prefix) for side, prefix, _ in self.peers[peer].tables if side is out}

    def _message(self, kind: int, body: bytes) -> None:
        if kind == 4:
            self.initiation = {number: text.decode() for number, text in _tlvs(body)}
            return
        if kind == 5:
            ((_, reason),) = _tlvs(body)
            self.terminated = int.from_bytes(reason, "big")
            return
        peer_type, flags = body[0], body[1]
        assert peer_type == 0 and not flags & 0x20 and not any(body[2:10])
        address = ip_address(body[10:26] if flags & 0x80 else body[22:26])
        assert flags & 0x80 or not any(body[10:22])
        seconds, rest = struct.unpack("!LL", body[34:42])
        told = self.peers.setdefault(str(address), Told())
        rest_of = body[42:]
        if kind == 3:
            self._up(told, rest_of)
        elif kind == 2:
            assert told.up
            told.up = False
            told.downs.append(rest_of)
            told.tables.clear()
        elif kind == 1:
            assert told.up
            self._statistics(told, rest_of)
        else:
            assert kind == 0 and told.up and flags & 0x50 in (0, 0x50)
            told.times.append(seconds + rest / 1_000_000)
            self._update(str(address), told, bool(flags & 0x10), rest_of)

    def _up(self, told: Told, body: bytes) -> None:
        assert not told.up
        told.up = True
        told.local = ip_address(body[:16] if any(body[:12]) else body[12:16])
        told.ports = struct.unpack("!HH", body[16:20])
        rest, found = body[20:], []
        for _ in range(2):
            length = int.from_bytes(rest[16:18], "big")
            assert rest[:16] == b"\xff" * 16 and rest[18] == 1
            found.append(rest[:length])
            rest = rest[length:]
        assert not rest
        told.opens = found[0], found[1]

    def _statistics(self, told: Told, body: bytes) -> None:
        rows = _tlvs(body[4:])
        assert len(rows) == int.from_bytes(body[:4], "big")
        told.statistics = {
            (number, *value[:-8]) if len(value) > 8 else number: int.from_bytes(value[-8:], "big")
            for number, value in rows
        }

    def _update(self, peer: str, told: Told, out: bool, message: bytes) -> None:
        assert message[:16] == b"\xff" * 16 and message[18] == 2
        assert int.from_bytes(message[16:18], "big") == len(message) <= 4096
        body = message[19:]
        length = int.from_bytes(body[:2], "big")
        gone = [(1, each) for each in self._prefixes(peer, out, 1, body[2 : 2 + length])]
        body = body[2 + length :]
        length = int.from_bytes(body[:2], "big")
        attributes = dict(_attributes(body[2 : 2 + length]))
        there = self._prefixes(peer, out, 1, body[2 + length :])
        if (unreach := attributes.pop(MP_UNREACH_NLRI, None)) is not None:
            afi = int.from_bytes(unreach[:2], "big")
            gone += [(afi, each) for each in self._prefixes(peer, out, afi, unreach[3:])]
            if not gone:
                told.ends.append((out, {1: 4, 2: 6}[afi]))
        elif not gone and not there and not attributes:
            told.ends.append((out, 4))
        if (reach := attributes.get(MP_REACH_NLRI)) is not None:
            afi, _, size = struct.unpack("!HBB", reach[:4])
            attributes[3] = reach[4 : 4 + size]
            there += self._prefixes(peer, out, afi, reach[5 + size :])
            del attributes[MP_REACH_NLRI]
        for _, (prefix, identifier) in gone:
            told.tables.pop((out, prefix, identifier), None)
        for prefix, identifier in there:
            told.tables[out, prefix, identifier] = attributes

    def _prefixes(self, peer: str, out: bool, afi: int, octets: bytes) -> list[tuple[Prefix, str]]:
        kind, size = ADDRESSES[afi]
        found = []
        while octets:
            identifier = ""
            if peer in self._add_path and not out:
                identifier, octets = ".".join(map(str, octets[:4])), octets[4:]
            bits = octets[0]
            count = (bits + 7) // 8
            address = kind(octets[1 : 1 + count].ljust(size, b"\0"))
            found.append((ip_network((address, bits)), identifier))
            octets = octets[1 + count :]
        return found


def _tlvs(octets: bytes) -> list[tuple[int, bytes]]:
    found = []
    while octets:
        kind, length = struct.unpack("!HH", octets[:4])
        found.append((kind, octets[4 : 4 + length]))
        assert len(octets) >= 4 + length
        octets = octets[4 + length :]
    return found


def _attributes(octets: bytes) -> list[tuple[int, bytes]]:
    found = []
    while octets:
        flags, code = octets[:2]
        size = 2 if flags & 0x10 else 1
        length = int.from_bytes(octets[2 : 2 + size], "big")
        assert len(octets) >= 2 + size + length
        found.append((code, octets[2 + size : 2 + size + length]))
        octets = octets[2 + size + length :]
    codes = [code for code, _ in found]
    assert codes == sorted(set(codes)), "in order, each once"
    return found
