"""MRT files of a RIB: TABLE_DUMP_V2 (RFC 6396 section 4.3, with path identifiers RFC 8050)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from l3net.bgp.path import Path
from l3net.bgp.wire.attributes import path_attributes
from l3net.bgp.wire.messages import path_id
from l3net.model import Address, Prefix

_TABLE_DUMP_V2: Final = 13
_PEER_INDEX_TABLE: Final = 1
#: By version and whether there are path identifiers.
_RIB: Final = {(4, False): 2, (6, False): 4, (4, True): 8, (6, True): 10}
_IPV6_PEER: Final = 0x01
_AS4_PEER: Final = 0x02
#: Peers of one file, and entries of one prefix: sixteen bits count them.
MOST: Final = 0xFFFF
#: When a path was heard is not kept.
_NOT_KNOWN: Final = 0


@dataclass(frozen=True, slots=True)
class MrtPeer:
    """Whose paths they are; `router_id` is 0.0.0.0 where it is not known."""

    router_id: IPv4Address
    address: Address
    as_number: int


@dataclass(frozen=True, slots=True)
class MrtEntry:
    """One path: the index of its peer, its path identifier (RFC 7911) and its attributes."""

    peer: int
    path_id: str
    attributes: bytes


def attributes_of(path: Path) -> bytes:
    """MP_REACH_NLRI has the next hop alone here (section 4.3.4)."""
    hop = path.next_hop
    if path.prefix.version == 4 and hop.version == 4:
        return path_attributes(path.attributes, hop)
    return path_attributes(path.attributes, None, bytes([len(hop.packed)]) + hop.packed)


def peer_index_table(at: int, collector: IPv4Address, view: str, peers: Sequence[MrtPeer]) -> bytes:
    """The first record. `at` in seconds since 1970; `collector` is the router ID of who has the RIB."""
    name = view.encode()[:MOST]
    body = bytearray(collector.packed + struct.pack("!H", len(name)) + name + struct.pack("!H", len(peers)))
    for peer in peers:
        kind = _AS4_PEER | (_IPV6_PEER if peer.address.version == 6 else 0)
        body += bytes([kind]) + peer.router_id.packed + peer.address.packed
        body += struct.pack("!L", peer.as_number)
    return _record(at, _PEER_INDEX_TABLE, bytes(body))


def rib_records(at: int, rows: Iterable[tuple[Prefix, Sequence[MrtEntry]]]) -> Iterator[bytes]:
    """A record for each prefix, in the order given; two where some paths have identifiers and some not."""
    number = 0
    for prefix, entries in rows:
        octets = prefix.network_address.packed[: (prefix.prefixlen + 7) // 8]
        for identified in (False, True):
            found = [entry for entry in entries if bool(entry.path_id) is identified]
            for start in range(0, len(found), MOST):
                some = found[start : start + MOST]
                head = struct.pack("!LB", number, prefix.prefixlen) + octets + struct.pack("!H", len(some))
                body = head + b"".join(map(_entry, some))
                yield _record(at, _RIB[prefix.version, identified], body)
                number += 1


def _entry(entry: MrtEntry) -> bytes:
    told = struct.pack("!HL", entry.peer, _NOT_KNOWN) + path_id(entry.path_id)
    return told + struct.pack("!H", len(entry.attributes)) + entry.attributes


def _record(at: int, subtype: int, body: bytes) -> bytes:
    return struct.pack("!LHHL", at & 0xFFFFFFFF, _TABLE_DUMP_V2, subtype, len(body)) + body
