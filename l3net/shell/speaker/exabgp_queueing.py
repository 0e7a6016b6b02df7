"""Routes are queued and packed a line at a time.

ExaBGP 5.0.15 reads a command letter by letter, makes a dozen objects of each prefix, copies it for each peer,
looks up four times where it belongs, and sorts and packs an UPDATE's prefixes by functions of functions: some
30 microseconds a prefix, and as many tens a command. Here a command of the agent's (`announce` and `withdraw
attributes ... nlri ...` in words that are known) has its attributes read by ExaBGP once, and its prefixes put
in the same queues in one go; they are sorted and packed in one go too. Routes of IPv6 share UPDATEs as those
of IPv4 do (`group-updates`), where ExaBGP sends one each.

What is queued and sent is the same but for that. Any other command is ExaBGP's affair, and so are prefixes
that it would not take. Used inside ExaBGP's process only.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from exabgp.bgp.message import Action, Update
from exabgp.bgp.message.update.nlri.cidr import CIDR
from exabgp.bgp.message.update.nlri.inet import INET
from exabgp.bgp.message.update.nlri.qualifier import PathInfo
from exabgp.logger import log
from exabgp.protocol.family import AFI, SAFI
from exabgp.protocol.ip import IP
from exabgp.reactor.api import API
from exabgp.reactor.api.command.limit import extract_neighbors, match_neighbors
from exabgp.rib.change import Change

#: What may stand before the prefixes; all else has no letters that are not of a number.
WORDS: Final = frozenset(
    (
        *(
            "attributes",
            "next-hop",
            "origin",
            "igp",
            "egp",
            "incomplete",
            "as-path",
            "local-preference",
            "med",
        ),
        *("originator-id", "cluster-list", "community", "large-community", "extended-community", "[", "]"),
    )
)
_NUMBER: Final = frozenset("0123456789abcdefx.:")
#: Heads of commands whose attributes are kept, at most.
KEPT: Final = 4096
_ACTIONS: Final = {"announce": Action.ANNOUNCE, "withdraw": Action.WITHDRAW}
_IPV4: Final[tuple[Any, Any]] = (AFI.ipv4, SAFI.unicast)
_IPV6: Final[tuple[Any, Any]] = (AFI.ipv6, SAFI.unicast)
#: Prefixes of IPv6 in one UPDATE to be packed; it is sent in as many as it takes.
IN_ONE_UPDATE: Final = 500
#: Octets of a prefix on the wire, at most.
_LONGEST: Final = 17

#: What `queue` writes on the prefixes that it makes: what they are on the wire, and which family of unicast
#: prefixes without path identifiers they are of. Asked for in C, of others they raise AttributeError.
_OUR_WIRE: Final = attrgetter("cidr.l3net_wire")
_OUR_KIND: Final = attrgetter("l3net_kind")

#: A prefix: its length, its address, and both as they go on the wire.
Packed = tuple[int, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Head:
    """What routes of a command have in common, as ExaBGP has read it."""

    attributes: Any
    next_hop: Any
    family: tuple[Any, Any]
    #: How the index of a change (`Change.index`) begins.
    index: bytes


@dataclass(frozen=True, slots=True)
class Order:
    descriptions: Any
    action: int
    head: Head
    prefixes: Sequence[Packed]


def packed(texts: Sequence[str]) -> list[Packed] | None:
    """Prefixes of one family; None if not each is one, whole and without bits of a host."""
    version = socket.AF_INET6 if ":" in texts[-1] else socket.AF_INET
    bits = 128 if version == socket.AF_INET6 else 32
    found: list[Packed] = []
    for text in texts:
        address, _, length = text.partition("/")
        try:
            octets, mask = socket.inet_pton(version, address), int(length)
        except (OSError, ValueError):
            return None
        if mask != bits:
            if (
                not length.isdigit()
                or mask > bits
                or int.from_bytes(octets, "big") & ((1 << bits - mask) - 1)
            ):
                return None
            found.append((mask, octets, bytes((mask,)) + octets[: (mask + 7) // 8]))
        else:
            found.append((mask, octets, bytes((mask,)) + octets))
    return found


def _known(head: str) -> bool:
    return all(word in WORDS or _NUMBER.issuperset(word) for word in head.split(" "))


class Reader:
    """Reads commands; `api` is ExaBGP's, which reads the attributes."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self._heads: dict[tuple[str, bool], Head] = {}

    def read(self, line: str) -> Order | None:
        """None if it is not of the kind, or ExaBGP would refuse it."""
        before, found, nlri = line.partition(" nlri ")
        if not found or not before.startswith("neighbor "):
            return None
        descriptions, command = extract_neighbors(before)
        verb, _, head = command.partition(" ")
        if verb not in _ACTIONS or not head.startswith("attributes ") or not descriptions:
            return None
        texts = nlri.split(" ")
        prefixes = packed(texts)
        if prefixes is None or IP.tosafi(texts[-1].partition("/")[0]) != SAFI.unicast:
            return None
        read = self._head(head, texts[-1])
        return None if read is None else Order(descriptions, _ACTIONS[verb], read, prefixes)

    def _head(self, head: str, prefix: str) -> Head | None:
        key = (head, ":" in prefix)
        kept = self._heads.get(key)
        if kept is None and _known(head):
            kept = self._read_head(head, prefix)
            if kept is not None:
                if len(self._heads) >= KEPT:
                    self._heads.clear()
                self._heads[key] = kept
        return kept

    def _read_head(self, head: str, prefix: str) -> Head | None:
        try:
            changes = self._api.api_attributes(f"announce {head} nlri {prefix}", [])
        except (ValueError, IndexError):
            return None
        if len(changes) != 1 or type(changes[0].nlri) is not INET:
            return None
        nlri = changes[0].nlri
        if nlri.path_info is not PathInfo.NOPATH or nlri.nexthop.SELF:
            return None
        wire = nlri.cidr.pack_nlri()
        index = changes[0].index().removesuffix(wire)
        return Head(changes[0].attributes, nlri.nexthop, nlri.family().afi_safi(), index)


def queue(rib: Any, order: Order) -> None:
    """As ExaBGP's `OutgoingRIB.add_to_rib` does it, one prefix after the other."""
    head, action = order.head, order.action
    attributes, next_hop, family = head.attributes, head.next_hop, head.family
    afi, safi = family
    of_attributes, hop = attributes.index(), next_hop.index()
    announced = action == Action.ANNOUNCE
    seen = rib._seen.get(family)
    if seen is None and rib.cache and announced:
        seen = rib._seen[family] = {}
    queued = rib._new_nlri
    kind = str(int(afi))
    new, no_path = object.__new__, PathInfo.NOPATH
    waiting: dict[bytes, Any] | None = None
    for mask, address, wire in order.prefixes:
        index = head.index + wire
        if announced and rib.cache:
            cached = seen.get(index)
            if (
                cached is not None
                and (cached.attributes is attributes or cached.attributes.index() == of_attributes)
                and cached.nlri.nexthop.index() == hop
            ):
                continue
        # As their __init__ would make them, without the calls.
        cidr: Any = new(CIDR)
        cidr._packed, cidr.mask, cidr._ip, cidr.l3net_wire = address, mask, None, wire
        nlri: Any = new(INET)
        nlri.afi, nlri.safi, nlri.action, nlri.l3net_kind = afi, safi, action, kind
        nlri.path_info, nlri.cidr, nlri.nexthop = no_path, cidr, next_hop
        change: Any = new(Change)
        change.nlri, change.attributes, change._Change__index = nlri, attributes, index
        older = queued.get(index)
        if older is not None:  # what was said last alone is sent: `exabgp.apply_patches`
            by_family = rib._new_attr_af_nlri.get(older.attributes.index(), {})
            by_family.get(family, {}).pop(index, None)
        if waiting is None:
            waiting = rib._new_attr_af_nlri.setdefault(of_attributes, {}).setdefault(family, {})
            rib._new_attribute[of_attributes] = attributes
        waiting[index] = change
        queued[index] = change
        if rib.cache and seen is not None:
            if announced:
                seen[index] = change
            else:
                seen.pop(index, None)


def _carry_out(api: Any, reactor: Any, service: str, command: str, order: Order) -> Iterator[bool]:
    """In its turn, as the callbacks of ExaBGP's own commands are."""
    peers = match_neighbors(reactor.peers(service), order.descriptions)
    if not peers:
        api.log_failure(f"no neighbor matching the command : {command}")
        reactor.processes.answer_error(service)
        yield True
        return
    for name, neighbor in reactor.configuration.neighbors.items():
        if name not in peers:
            continue
        if order.head.family in neighbor.families():
            queue(neighbor.rib.outgoing, order)
        else:
            log.error(
                lambda name=name: f"the family of {command} is not configured on {name}", "configuration"
            )
    reactor.processes.answer_done(service)
    yield False


def _alike(nlris: Sequence[Any]) -> bool:
    """Whether all are unicast prefixes of one family and without path identifiers."""
    try:
        return len({*map(_OUR_KIND, nlris)}) == 1
    except AttributeError:
        pass
    afi, safi = nlris[0].afi, nlris[0].safi
    return safi == SAFI.unicast and all(
        type(nlri) is INET and nlri.afi == afi and nlri.safi == safi and nlri.path_info is PathInfo.NOPATH
        for nlri in nlris
    )


def _wire(nlri: Any) -> bytes:
    cidr = nlri.cidr
    return bytes((cidr.mask,)) + bytes(cidr._packed[: (cidr.mask + 7) // 8])


def _by_wire(nlris: Sequence[Any]) -> list[Any]:
    try:
        return sorted(nlris, key=_OUR_WIRE)
    except AttributeError:
        return sorted(nlris, key=_wire)


def _wires(nlris: Sequence[Any]) -> list[bytes]:
    try:
        return [*map(_OUR_WIRE, nlris)]
    except AttributeError:
        return [*map(_wire, nlris)]


def _sorted(nlris: Sequence[Any], families: Any) -> tuple[list[Any], dict[Any, Any]] | None:
    """What goes into an UPDATE's own fields, and into attributes, in the order of `Update._split_nlris`: of
    prefixes that are alike the index is the length and the address. None if it would raise."""
    family = (nlris[0].afi, nlris[0].safi)
    if family not in families:
        return [], {}
    native: list[Any] = []
    others: dict[int, list[Any]] = {}
    for nlri in _by_wire(nlris):
        withdrawn = nlri.action == Action.WITHDRAW
        if family == _IPV4 and (
            withdrawn or (nlri.action == Action.ANNOUNCE and nlri.nexthop.afi == AFI.ipv4)
        ):
            native.append(nlri)
        elif withdrawn or nlri.nexthop.afi != AFI.undefined:
            others.setdefault(nlri.action, []).append(nlri)
        else:
            return None
    return native, {family: others} if others else {}


def _in_messages(wires: Sequence[bytes], budget: int) -> Iterator[bytes]:
    """Prefixes in blobs that each fit into a message."""
    blob: list[bytes] = []
    size = 0
    for wire in wires:
        size += len(wire)
        if size > budget:
            yield b"".join(blob)
            blob, size = [], len(wire)
        blob.append(wire)
    if blob:
        yield b"".join(blob)


def grouped(updates: Iterator[Any]) -> Iterator[Any]:
    """Those of IPv6 unicast prefixes that follow one another with the same attributes, as one."""
    held: list[Any] = []
    attributes: Any = None
    for update in updates:
        nlris: Any = getattr(update, "nlris", ())
        single = len(nlris) == 1 and type(nlris[0]) is INET and (nlris[0].afi, nlris[0].safi) == _IPV6
        if held and (not single or update.attributes is not attributes or len(held) == IN_ONE_UPDATE):
            yield Update(held, attributes)
            held = []
        if single:
            attributes = update.attributes
            held.append(nlris[0])
        else:
            yield update
    if held:
        yield Update(held, attributes)


def install() -> None:
    """Have this process's ExaBGP do so."""
    respond, split, pack = API.response, Update._split_nlris, Update._packed_nlris

    def response(self: Any, reactor: Any, service: str, command: str, use_json: bool) -> Any:
        reader = self.__dict__.setdefault("l3net_reader", None) or Reader(self)
        self.l3net_reader = reader
        order = None if use_json else reader.read(command)
        if order is None:
            return respond(self, reactor, service, command, use_json)
        reactor.asynchronous.schedule(service, command, _carry_out(self, reactor, service, command, order))
        return True

    def split_nlris(self: Any, negotiated: Any) -> Any:
        found = _sorted(self.nlris, negotiated.families) if self.nlris and _alike(self.nlris) else None
        return split(self, negotiated) if found is None else found

    def packed_nlris(nlris: Any, negotiated: Any, budget: int, reason: str) -> Iterator[bytes]:
        plain = nlris and budget >= _LONGEST and not negotiated.addpath.send(*_IPV4) and _alike(nlris)
        yield from (_in_messages(_wires(nlris), budget) if plain else pack(nlris, negotiated, budget, reason))

    API.response = response
    Update._split_nlris = split_nlris
    Update._packed_nlris = staticmethod(packed_nlris)
