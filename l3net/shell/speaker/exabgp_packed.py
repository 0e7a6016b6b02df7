"""UPDATEs of unicast prefixes, read in one go: attributes once, prefixes as octets.

ExaBGP 5.0.15 makes six objects of each prefix that comes, and writes it as an object of JSON that the agent
has to read again: 15 microseconds a prefix. Here the octets of each field are looked through, kept as numbers
(`exabgp_received`) and told as they came: where an event of ExaBGP's has a list of prefixes it has a string,
their NLRI (RFC 4271 section 4.3) in hexadecimal. `l3net form packed` asks for that, `l3net form plain` for
the lists; the relay asks for the latter with each new client, which may be older than this.

All else is ExaBGP's own: attributes, next hops, and whatever is wrong (RFC 7606) or has path identifiers (RFC
7911), for which a whole UPDATE is read again in its way. Used inside ExaBGP's process only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from exabgp.bgp.message import Update
from exabgp.bgp.message.direction import Direction
from exabgp.bgp.message.update.attribute import MPRNLRI, MPURNLRI, Attribute, Attributes
from exabgp.protocol.family import AFI, SAFI
from exabgp.protocol.ip import NoNextHop
from exabgp.reactor.api.response.json import JSON

from l3net.shell.speaker.exabgp_keys import BITS, NAMES, keys_of, nlris_of

CODE: Final = Attribute.CODE
#: An UPDATE that is no longer says little: End-of-RIB, or a prefix or two withdrawn.
SHORT: Final = 11
_UNICAST: Final = {(afi, 1) for afi in BITS}


class Form:
    """How prefixes are told. There is one relay."""

    packed = False


class Prefixes:
    """Of one family, all announced with the same next hops (none: withdrawn), as octets and as keys."""

    __slots__ = ("family", "hops", "keys", "octets")

    def __init__(self, family: int, octets: bytes, keys: list[int], hops: tuple[str, ...] = ()) -> None:
        self.family, self.octets, self.keys, self.hops = family, octets, keys, hops

    def told(self) -> str:
        """What stands where ExaBGP has a list."""
        return f'"{self.octets.hex()}"' if Form.packed else nlris_of(self.family, self.keys)


class Whole(Update):  # type: ignore[misc]
    """An UPDATE with nothing wrong in it, whose prefixes are no objects."""

    def __init__(self, attributes: Any, gone: list[Prefixes], said: list[Prefixes]) -> None:
        super().__init__([], attributes)
        self.gone, self.said = gone, said


class _Reading:
    """Whether MP_REACH_NLRI and MP_UNREACH_NLRI are to leave their prefixes as octets."""

    whole = False


def _whole(data: bytes, negotiated: Any) -> Whole | None:
    """None for what ExaBGP has to read itself. Raises Notify as it does."""
    withdrawn, attributes, announced = Update.split(data)
    if (withdrawn or announced) and negotiated.addpath.receive(AFI.ipv4, SAFI.unicast):
        return None
    _Reading.whole = True
    try:
        found = Attributes.unpack(attributes, Direction.IN, negotiated)
    finally:
        _Reading.whole = False
    reach, unreach = (found.pop(kind.ID, None) for kind in (MPRNLRI, MPURNLRI))
    if CODE.INTERNAL_TREAT_AS_WITHDRAW in found:
        return None
    hop = str(found.get(CODE.NEXT_HOP, NoNextHop))
    gone = [_prefixes(1, withdrawn)] if withdrawn else []
    said = [_prefixes(1, announced, (hop,))] if announced else []
    for attribute, fields in ((unreach, gone), (reach, said)):
        if attribute is not None:
            fields.append(getattr(attribute, "l3net_prefixes", None))
    if (
        not (gone or said)
        or None in gone
        or None in said
        or len({each.family for each in said if each}) < len(said)
    ):
        return None
    return Whole(found, gone, said)  # type: ignore[arg-type]


def _prefixes(family: int, octets: bytes, hops: tuple[str, ...] = ()) -> Prefixes | None:
    """None where they are malformed."""
    keys = keys_of(family, octets)
    return None if keys is None else Prefixes(family, octets, keys, hops)


def _unpack_by(
    unpack: Callable[..., Any], starts: Callable[[bytes], int]
) -> Callable[[Any, bytes, Any, Any], Any]:
    """That of an attribute with prefixes. ExaBGP looks at all of it but the prefixes behind the first.
    `starts`: where they begin."""

    def unpacked(cls: Any, data: bytes, direction: Any, negotiated: Any) -> Any:
        family = int.from_bytes(data[:2], "big")
        at = starts(data)
        if (
            not _Reading.whole
            or at >= len(data)
            or (family, data[2]) not in _UNICAST
            or negotiated.addpath.receive(AFI.create(family), SAFI.unicast)
        ):
            return unpack(cls, data, direction, negotiated)
        octets = data[at:]
        prefixes = _prefixes(family, octets)
        if prefixes is None:
            return unpack(cls, data, direction, negotiated)
        found = unpack(cls, data[: at + 1 + (octets[0] + 7) // 8], direction, negotiated)
        if cls is MPRNLRI:
            prefixes.hops = tuple(dict.fromkeys(str(nlri.nexthop) for nlri in found.nlris))
        found.l3net_prefixes = prefixes
        return found

    return unpacked


def _announced_at(data: bytes) -> int:
    """RFC 4760 section 3: family, next hop with its length before it, a reserved octet."""
    return 5 + data[3] if len(data) > 3 else len(data)


def _withdrawn_at(data: bytes) -> int:
    """RFC 4760 section 4."""
    return 3


def _fields(fields: Iterable[tuple[int, str]]) -> str:
    return ", ".join(f'"{NAMES[family]}": {told}' for family, told in fields)


def said(attributes: str, announced: Iterable[tuple[int, tuple[str, ...], str]], gone: str = "") -> str:
    """The "update" of an event. `announced`: by family, next hops and the prefixes as they are told."""
    by_family = (
        (family, "{ " + ", ".join(f'"{hop}": {told}' for hop in hops) + " }")
        for family, hops, told in announced
    )
    announce = _fields(by_family)
    parts = [
        f'"attribute": {{ {attributes} }}' if attributes else "",
        f'"announce": {{ {announce} }}' if announce else "",
        f'"withdraw": {{ {gone} }}' if gone else "",
    ]
    return f'{{ "update": {{ {", ".join(filter(None, parts))} }} }}'


def withdrawn(gone: Iterable[tuple[int, str]]) -> str:
    """What stands under "withdraw"; by family, once each."""
    return _fields(gone)


def _told(update: Whole) -> str:
    merged: dict[int, Prefixes] = {}
    for each in update.gone:
        before = merged.get(each.family)
        merged[each.family] = (
            each
            if before is None
            else Prefixes(each.family, before.octets + each.octets, before.keys + each.keys)
        )
    attributes = update.attributes.json() if update.attributes else ""
    return said(
        attributes,
        ((each.family, each.hops, each.told()) for each in update.said),
        withdrawn((family, each.told()) for family, each in merged.items()),
    )


def install() -> None:
    """Have this process's ExaBGP read and tell UPDATEs so. Before `exabgp_attributes`, which looks first
    whether a family was agreed on."""
    unpack, tell = Update.unpack_message.__func__, JSON._update

    def unpack_message(cls: Any, data: bytes, direction: Any, negotiated: Any) -> Any:
        whole = _whole(data, negotiated) if direction == Direction.IN and len(data) > SHORT else None
        return whole if whole is not None else unpack(cls, data, direction, negotiated)

    def update(self: Any, message: Any) -> Any:
        return {"message": self._json(_told(message))} if type(message) is Whole else tell(self, message)

    for kind, starts in ((MPRNLRI, _announced_at), (MPURNLRI, _withdrawn_at)):
        kind.unpack = classmethod(_unpack_by(kind.unpack.__func__, starts))
    Update.unpack_message = classmethod(unpack_message)
    JSON._update = update
