"""Lines of ExaBGP 5.0.15 into messages: bytes in, values out, no socket.

A line that cannot be read is counted and dropped; it never stops the stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv4Address, ip_address
from typing import Any, Final

from l3net.bgp.bmp.messages import Opens
from l3net.bgp.events import Attempted, EndOfRib, Notified, Opened, Refresh, StateChanged, Updated
from l3net.bgp.exabgp.configuration import MARKER
from l3net.bgp.exabgp.messages import (
    NO_NEXT_HOP,
    Announced,
    Done,
    Failed,
    Message,
    MessageCounts,
    Neighbors,
    OpensTold,
    Queue,
    Queues,
    ReplayBegan,
    ReplayEnded,
)
from l3net.bgp.path import Attributes, Origin, Said
from l3net.bgp.prefixes import parse_prefix, unpacked
from l3net.bgp.segments import Run, Segment, kept
from l3net.community import AnyCommunity, Community, ExtendedCommunity
from l3net.model import Address, Family, Prefix

#: ExaBGP tells later whether a peer offered graceful restart, not for how many seconds: what most offer.
UNKNOWN_RESTART_TIME = 120


#: A line longer than this is no message of ExaBGP's (an UPDATE of 64 KiB is some 600 KiB of JSON).
LONGEST_LINE = 8 << 20


#: Characters of an operator's text that are kept (RFC 9003 has octets).
LONGEST_TEXT = 255


class LineBuffer:
    """Bytes in, whole lines out."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self.dropped = 0

    def receive(self, data: bytes) -> list[bytes]:
        self._rest += data
        if b"\n" not in data:
            if len(self._rest) > LONGEST_LINE:
                self._rest.clear()
                self.dropped += 1
            return []
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        return lines


class Decoder:
    """Lines into messages; `undecodable` counts those that are none."""

    def __init__(self) -> None:
        self.undecodable = 0

    def decode(self, line: bytes) -> Message | None:
        line = line.strip()
        if not line:
            return None
        if line == b"done":
            return Done()
        if line == b"error":
            return Failed()
        if not line.startswith((b"{", b"[")):
            return None  # for example `reload in progress`
        try:
            return _message(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
            self.undecodable += 1
            return None


def _message(value: Any) -> Message | None:
    if isinstance(value, list):
        known = [(_address(entry["peer"]["address"]), entry) for entry in value if entry.get("peer")]
        return Neighbors(
            {address: entry["state"] == "up" for address, entry in known if address != MARKER},
            frozenset(str(entry["local"]["id"]) for address, entry in known if address == MARKER),
            {address: _opened(address, entry["peer"]) for address, entry in known if entry["state"] == "up"},
        )
    if "type" not in value:
        if "l3net-peers" in value:
            return Queues(
                {
                    _address(row["peer"]): Queue(
                        int(row["queued"]),
                        float(row["unsent-seconds"]),
                        _counts(row.get("messages")),
                        str(row.get("state", "")),
                    )
                    for row in value["l3net-peers"]
                }
            )
        if "l3net-opens" in value:
            return OpensTold({_address(row["peer"]): _opens(row) for row in value["l3net-opens"]})
        if "route" in value:
            return Announced(
                _address(value["peer"]["address"]), parse_prefix(value["route"]["nlri"]["prefix"])
            )
        return None
    kind = value["type"]
    neighbor = value.get("neighbor")
    if not isinstance(neighbor, dict):
        return None
    peer = _address(neighbor["address"]["peer"])
    match kind:
        case "update":
            return _update(peer, neighbor["message"])
        case "state":
            return StateChanged(peer, str(neighbor["state"]), str(neighbor.get("reason", "")))
        case "open" if neighbor.get("direction") == "receive":
            return _open(peer, neighbor["open"])
        case "notification":
            notification = neighbor["notification"]
            return Notified(
                peer,
                int(notification["code"]),
                int(notification["subcode"]),
                neighbor.get("direction") == "receive",
                _communication(str(notification.get("message", ""))),
            )
        case "refresh":
            refresh = neighbor["route-refresh"]
            family = _family(refresh["afi"])
            return Refresh(peer, family, str(refresh["subtype"])) if family else None
        case "attempt":
            attempt = neighbor["attempt"]
            return Attempted(peer, attempt["direction"] == "out", _printable(str(attempt["error"])))
        case "replay":
            return _replay(peer, neighbor["replay"])
        case _:
            return None


def _opens(row: Mapping[str, Any]) -> Opens:
    local, local_port = row["local"]
    return Opens(
        bytes.fromhex(row["sent"]),
        bytes.fromhex(row["received"]),
        _address(str(local).partition("%")[0]),
        int(local_port),
        int(row["remote-port"]),
    )


def _counts(told: Mapping[str, Any] | None) -> MessageCounts | None:
    if told is None:
        return None
    sent, received = (
        {_printable(name): int(count) for name, count in told[side].items()} for side in ("sent", "received")
    )
    return MessageCounts(sent, received)


def _replay(peer: Address, replay: Mapping[str, Any]) -> Message:
    token = str(replay["token"])
    if replay["state"] == "end":
        return ReplayEnded(peer, token)
    heard = (_family(str(name).partition(" ")[0]) for name in replay["eor"])
    return ReplayBegan(
        peer,
        token,
        _open(peer, replay["open"]),
        float(replay["up-seconds"]),
        frozenset(family for family in heard if family is not None),
    )


def _communication(message: str) -> str:
    """The text in ExaBGP's words about it; anybody may write anything there."""
    return _printable(message.partition('Shutdown Communication: "')[2].rpartition('"')[0])


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:LONGEST_TEXT])


def _opened(address: Address, peer: Mapping[str, Any]) -> Opened:
    """What an ExaBGP that keeps no OPEN for us tells: not which families graceful restart lists, so none."""
    capabilities = peer.get("capabilities", {})
    restart = UNKNOWN_RESTART_TIME if capabilities.get("graceful-restart") else None
    refresh = bool(capabilities["route-refresh"]) if "route-refresh" in capabilities else None
    return Opened(address, int(peer.get("hold") or 0), str(peer.get("id", "")), restart, refresh=refresh)


def _open(peer: Address, message: Mapping[str, Any]) -> Opened:
    restart: int | None = None
    restarting = extended = refresh = False
    forwarding: set[Family] = set()
    preserved: set[Family] = set()
    families: set[Family] | None = None
    offered: list[str] = []
    as_number = int(message.get("asn", 0))
    software = ""
    for number, capability in message.get("capabilities", {}).items():
        name = str(capability.get("name", ""))
        offered.append(_capability(number, name))
        if number == _SOFTWARE:
            software = _printable(str(capability.get("software", "")))
        match name:
            case "graceful restart":
                restart = int(capability["time"])
                # ExaBGP 5.0.15 swaps the names of the flags: the restart bit is shown as `forwarding`, and
                # the forwarding bit of a family as `restart`.
                restarting = "forwarding" in capability.get("restart-flags", ())
                for text, flags in capability.get("address-family-flags", {}).items():
                    family = _unicast(text)
                    if family is not None:
                        preserved.add(family)
                        if "restart" in flags:
                            forwarding.add(family)
            case "asn4":  # RFC 6793
                as_number = int(capability["asn4"])
            case "nexthop":
                extended = "ipv4/unicast/ipv6" in capability.get("conversion", ())
            case "route-refresh":
                refresh = True
            case "multiprotocol":
                found = (_unicast(text) for text in capability.get("families", ()))
                families = (families or set()) | {family for family in found if family is not None}
    return Opened(
        peer,
        int(message["hold_time"]),
        str(message["router_id"]),
        restart,
        restarting,
        frozenset(forwarding),
        extended,
        as_number,
        frozenset({Family.IPV4} if families is None else families),
        frozenset(preserved),
        refresh,
        tuple(dict.fromkeys(offered)),
        software,
    )


#: Capabilities that ExaBGP has no name for (IANA's registry).
_NAMES = {"9": "bgp-role", "71": "long-lived-graceful-restart", "73": "fqdn", "75": "software-version"}
_SOFTWARE = "75"


def _capability(number: str, name: str) -> str:
    if number in _NAMES:
        return _NAMES[number]
    return _printable(name.replace(" ", "-") if name and name != "unknown" else f"capability-{number}")


def _unicast(text: str) -> Family | None:
    """Of `ipv4/unicast`."""
    afi, _, safi = text.partition("/")
    return _family(afi) if safi == "unicast" else None


def _update(peer: Address, message: Mapping[str, Any]) -> Message | None:
    if "eor" in message:
        family = _family(message["eor"]["afi"])
        return EndOfRib(peer, family) if family else None
    update = message["update"]
    gone = [
        (_VERSIONS[name], entries)
        for name, entries in update.get("withdraw", {}).items()
        if name in _VERSIONS and entries
    ]
    said: tuple[Said, ...] = ()
    announcements = update.get("announce", {})
    if announcements:
        raw = update.get("attribute", {})
        attributes = _shared(_attributes(raw))
        for name, by_hop in announcements.items():
            if name not in _VERSIONS:
                continue
            # RFC 7606 section 3 d: without a well-known mandatory attribute the routes are withdrawn.
            bad = by_hop if raw.get("origin") not in _ORIGINS else {NO_NEXT_HOP: by_hop.get(NO_NEXT_HOP, ())}
            gone += [(_VERSIONS[name], entries) for entries in bad.values() if entries]
            if bad is not by_hop:
                good = {hop: entries for hop, entries in by_hop.items() if hop != NO_NEXT_HOP}
                said += _said(_VERSIONS[name], good, attributes, link_local=peer.is_link_local)
    withdrawn: list[Prefix] = []
    paths: list[tuple[Prefix, str]] = []
    for version, entries in gone:
        for path_id, prefixes in _prefixes(version, entries):
            if path_id is None:
                withdrawn += prefixes
            else:
                paths += [(prefix, path_id) for prefix in prefixes]
    return Updated(peer, said, tuple(withdrawn), tuple(paths))


_VERSIONS: Final = {"ipv4 unicast": 4, "ipv6 unicast": 6}


def _prefixes(version: int, entries: Any) -> Iterator[tuple[str | None, list[Prefix]]]:
    """Prefixes by path identifier, in the order they came, out of what ExaBGP tells of them: a list, or, if
    ours tells it, NLRI in hexadecimal (l3net.shell.speaker.exabgp_packed)."""
    if isinstance(entries, str):
        if entries:
            yield None, unpacked(bytes.fromhex(entries), version)
        return
    path_id: str | None = None
    run: list[Prefix] = []
    for entry in entries:
        theirs = str(entry["path-information"]) if "path-information" in entry else None
        if theirs != path_id:
            if run:
                yield path_id, run
            path_id, run = theirs, []
        run.append(parse_prefix(entry["nlri"]))
    if run:
        yield path_id, run


def _said(
    version: int, by_hop: Mapping[str, Any], attributes: Attributes, *, link_local: bool
) -> tuple[Said, ...]:
    """What is said by next hop. A 32-byte IPv6 next hop (RFC 2545 section 3) lists prefixes twice.

    The global one comes first, but for a peer at a link-local address, of whose link we may share no subnet.
    """
    hops = sorted(
        ((_address(hop), entries) for hop, entries in by_hop.items()),
        key=lambda pair: pair[0].is_link_local is not link_local,
    )
    told = [
        Said(hop, attributes, tuple(prefixes), path_id or "")
        for hop, entries in hops
        for path_id, prefixes in _prefixes(version, entries)
    ]
    if len(hops) <= 1:
        return tuple(told)
    known: set[tuple[Prefix, str]] = set()
    first: list[Said] = []
    for said in told:
        prefixes = tuple(prefix for prefix in said.prefixes if (prefix, said.path_id) not in known)
        known.update((prefix, said.path_id) for prefix in prefixes)
        if prefixes:
            first.append(replace(said, prefixes=prefixes))
    return tuple(first)


def _attributes(raw: Mapping[str, Any]) -> Attributes:
    as_path: list[int] = []
    length = 0
    confederation = False
    runs: list[Run] = []
    for segment in raw.get("as-path", {}).values():
        numbers = [int(number) for number in segment["value"]]
        as_path += numbers
        kind = _SEGMENTS.get(segment["element"], Segment.AS_CONFED_SET)
        runs.append((kind, tuple(numbers)))
        match kind:
            case Segment.AS_SET:
                length += 1
            case Segment.AS_SEQUENCE:
                length += len(numbers)
            case _:  # those of a confederation do not count (RFC 5065 section 5.3)
                confederation = True
    communities: frozenset[AnyCommunity] = frozenset(
        Community(tuple(int(part) for part in parts))
        for name in ("community", "large-community")
        for parts in raw.get(name, ())
        if isinstance(parts, list)
    )
    extended = raw.get("extended-community")
    if extended:
        communities |= {_extended_community(int(each["value"])) for each in extended}
    preference = raw.get("local-preference")
    med = raw.get("med")
    return Attributes(
        origin=_ORIGINS.get(raw.get("origin", "incomplete"), Origin.INCOMPLETE),
        as_path=tuple(as_path),
        as_path_length=length,
        local_preference=int(preference) if preference is not None else None,
        med=int(med) if med is not None else None,
        communities=communities,
        originator=IPv4Address(raw["originator-id"]) if "originator-id" in raw else None,
        clusters=tuple(IPv4Address(cluster) for cluster in raw.get("cluster-list", ())),
        confederation=confederation,
        segments=kept(runs),
    )


@lru_cache(maxsize=4096)
def _shared(attributes: Attributes) -> Attributes:
    """The same object for equal ones, as long as they were said of late."""
    return attributes


@lru_cache(maxsize=4096)
def _extended_community(value: int) -> ExtendedCommunity:
    """ExaBGP tells the eight octets as one number; the name beside it is spelt in ways of its own."""
    return ExtendedCommunity(value.to_bytes(8, "big"))


#: As our ExaBGP names them (l3net.shell.speaker.exabgp).
_SEGMENTS = {
    "as-set": Segment.AS_SET,
    "as-sequence": Segment.AS_SEQUENCE,
    "as-confed-sequence": Segment.AS_CONFED_SEQUENCE,
    "as-confed-set": Segment.AS_CONFED_SET,
}
_ORIGINS = {"igp": Origin.IGP, "egp": Origin.EGP, "incomplete": Origin.INCOMPLETE}


def _family(afi: object) -> Family | None:
    return {"ipv4": Family.IPV4, "ipv6": Family.IPV6}.get(str(afi))


@lru_cache(maxsize=4096)
def _address(text: str) -> Address:
    return ip_address(text)
