"""What ExaBGP 5.0.15 makes of attributes that are wrong, by RFC 7606: the route or the attribute goes.

- ORIGINATOR_ID and CLUSTER_LIST of an external peer are discarded unread; malformed ones of an internal peer
  withdraw the routes (sections 7.9, 7.10). ExaBGP ends the session.
- A malformed AS4_PATH or AS4_AGGREGATOR is discarded (RFC 6793 section 6), where ExaBGP ends the session, and
  an AGGREGATOR of no octets, where it withdraws the routes.
- An ORIGIN of another length than one octet withdraws the routes (section 7.1).
- AS 0 (RFC 7607 section 2): in an AS_PATH it withdraws the routes, elsewhere the attribute is discarded.
- What a parser stumbles over is an attribute that is malformed.
- Routes of a family that was not agreed on, in MP_REACH_NLRI, are not looked at (RFC 4760 section 8), where
  ExaBGP ends the session. IPv4 routes without it are told like any other, to be refused by name.
- End-of-RIB goes to a peer that has offered multiprotocol or graceful restart: to others it is no marker.

Used inside ExaBGP's process only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

from exabgp.bgp.message import Notification, Notify
from exabgp.bgp.message.direction import Direction
from exabgp.bgp.message.open.capability import Capability
from exabgp.bgp.message.update.attribute import MPRNLRI, MPURNLRI, Attribute, Attributes
from exabgp.bgp.message.update.attribute.aggregator import Aggregator, Aggregator4
from exabgp.bgp.message.update.attribute.aspath import AS4Path, ASPath
from exabgp.bgp.message.update.attribute.clusterlist import ClusterList
from exabgp.bgp.message.update.attribute.origin import Origin
from exabgp.bgp.message.update.attribute.originatorid import OriginatorID
from exabgp.protocol.family import AFI, SAFI
from exabgp.reactor.protocol import Protocol

CODE: Final = Attribute.CODE

Unpack = Callable[[Any, bytes, Any, Any], Any]


def _wrapped(kind: Any, wrap: Callable[[Unpack], Unpack]) -> None:
    """Have a class of attributes unpack as `wrap` makes of how it does."""
    kind.unpack = classmethod(wrap(kind.unpack.__func__))


def _one_octet(unpack: Unpack) -> Unpack:
    def checked(cls: Any, data: bytes, direction: Any, negotiated: Any) -> Any:
        if len(data) != 1:
            raise Notify(3, 5, b"")
        return unpack(cls, data, direction, negotiated)

    return checked


def _internal_alone(unpack: Unpack) -> Unpack:
    def checked(cls: Any, data: bytes, direction: Any, negotiated: Any) -> Any:
        external = direction == Direction.IN and negotiated.local_as != negotiated.peer_as
        return None if external else unpack(cls, data, direction, negotiated)

    return checked


def _no_as_zero(numbers: Callable[[Any], Iterator[int]]) -> Callable[[Unpack], Unpack]:
    def wrap(unpack: Unpack) -> Unpack:
        def checked(cls: Any, data: bytes, direction: Any, negotiated: Any) -> Any:
            found = unpack(cls, data, direction, negotiated)
            if direction == Direction.IN and found is not None and 0 in numbers(found):
                raise Notify(3, 11, b"")
            return found

        return checked

    return wrap


def _of_path(path: Any) -> Iterator[int]:
    return (number for segment in path.aspath for number in segment)


def _of_aggregator(aggregator: Any) -> Iterator[int]:
    return iter((aggregator.asn,))


def _any_family(unpack: Unpack) -> Unpack:
    """Of MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760)."""

    def checked(cls: Any, data: bytes, direction: Any, negotiated: Any) -> Any:
        family = struct.unpack("!HB", data[:3]) if direction == Direction.IN and len(data) > 2 else None
        if family is None or family in negotiated.families:
            return unpack(cls, data, direction, negotiated)
        return cls(AFI.create(family[0]), SAFI.create(family[1]), [])

    return checked


def _malformed(unpack: Callable[..., Any]) -> Callable[..., Any]:
    """Of an attribute by its code: what its parser fails over is an error of the peer's."""

    def checked(cls: Any, code: int, flag: int, data: bytes, direction: Any, negotiated: Any) -> Any:
        try:
            return unpack(cls, code, flag, data, direction, negotiated)
        except (Notification, IndexError):
            raise
        except Exception as err:
            optional = code in (CODE.MP_REACH_NLRI, CODE.MP_UNREACH_NLRI)
            raise Notify(3, 9 if optional else 1, b"") from err

    return checked


def install() -> None:
    """Have this process's ExaBGP do so."""
    Attributes.TREAT_AS_WITHDRAW += (
        CODE.ORIGINATOR_ID,
        CODE.CLUSTER_LIST,
        CODE.PMSI_TUNNEL,
        CODE.TUNNEL_ENCAP,
    )
    Attributes.DISCARD += (CODE.AS4_PATH, CODE.AS4_AGGREGATOR, CODE.AIGP)
    Attributes.VALID_ZERO += (CODE.AS4_PATH, CODE.AS4_AGGREGATOR, CODE.AGGREGATOR)
    Attribute.unpack = classmethod(_malformed(Attribute.unpack.__func__))
    _wrapped(Origin, _one_octet)
    for kind in (OriginatorID, ClusterList):
        _wrapped(kind, _internal_alone)
    for kind in (ASPath, AS4Path):
        _wrapped(kind, _no_as_zero(_of_path))
    for kind in (Aggregator, Aggregator4):
        _wrapped(kind, _no_as_zero(_of_aggregator))
    for kind in (MPRNLRI, MPURNLRI):
        _wrapped(kind, _any_family)

    end_of_rib = Protocol.new_eors

    def to_who_reads_it(self: Any, *family: Any) -> Iterator[Any]:
        offered = self.negotiated.received_open.capabilities
        if offered.announced(Capability.CODE.MULTIPROTOCOL) or offered.announced(
            Capability.CODE.GRACEFUL_RESTART
        ):
            yield from end_of_rib(self, *family)

    Protocol.new_eors = to_who_reads_it
