"""What a session is after its OPENs, and which of two connections it is, where ExaBGP 5.0.15 has it wrong.

- A peer without the multiprotocol capability speaks IPv4 unicast (RFC 4760 section 8). ExaBGP takes it to
  speak nothing, and sends it nothing.
- A ROUTE-REFRESH goes to a peer that has offered to take it alone (RFC 2918 section 4): another may end the
  session for a message type that it does not know.
- AS4_PATH and AS4_AGGREGATOR are discarded on a session whose both ends have four-octet AS numbers (RFC 6793
  section 6), unread.
- AS 0 is no peer's (RFC 7607 section 3); a peer's number is that of its capability, where it has one (RFC
  6793 section 4.1), whatever stands in the two octets.
- A host name and a software version are for people alone: one that is malformed is read as empty. ExaBGP ends
  the session.
- A peer with graceful restart that dials in while its session is up has restarted: the new connection is
  taken and the old one closed without a NOTIFICATION (RFC 4724 section 5). Within a moment after the session
  came up it is a second connection of the same start, and refused as ever (RFC 4271 section 6.8).

Used inside ExaBGP's process only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from exabgp.bgp.fsm import FSM
from exabgp.bgp.message.notification import Notify
from exabgp.bgp.message.open.capability import Capability
from exabgp.bgp.message.open.capability.hostname import HostName
from exabgp.bgp.message.open.capability.negotiated import Negotiated
from exabgp.bgp.message.open.capability.refresh import REFRESH
from exabgp.bgp.message.open.capability.software import Software
from exabgp.bgp.message.update.attribute.aggregator import Aggregator4
from exabgp.bgp.message.update.attribute.aspath import AS4Path
from exabgp.protocol.family import AFI, SAFI
from exabgp.reactor.peer import Peer
from exabgp.reactor.protocol import Protocol

#: A session younger than this, in seconds, is not replaced: both ends may have dialled at once.
YOUNG: Final = 3.0
#: The reason of a session's end.
CONNECTS_AGAIN: Final = "the peer connects again: it has restarted"
_IPV4: Final = (AFI.ipv4, SAFI.unicast)


def _families(negotiated: Any) -> None:
    sent, received = negotiated.sent_open.capabilities, negotiated.received_open.capabilities
    multiprotocol = Capability.CODE.MULTIPROTOCOL
    if received.announced(multiprotocol) or _IPV4 in negotiated.families:
        return
    if not sent.announced(multiprotocol) or _IPV4 in sent[multiprotocol]:
        negotiated.families.append(_IPV4)


def _discarded_where_not_needed(kind: Any) -> None:
    """An attribute for those who know two octets alone."""
    unpack = kind.unpack.__func__

    def unpack_or_discard(cls: Any, data: bytes, direction: Any, negotiated: Any) -> Any:
        return None if negotiated.asn4 else unpack(cls, data, direction, negotiated)

    kind.unpack = classmethod(unpack_or_discard)


def _lists_families(negotiated: Any) -> bool:
    """Whether the peer keeps its forwarding state over a restart, of one family at least."""
    opened, code = negotiated.received_open, Capability.CODE.GRACEFUL_RESTART
    return opened is not None and opened.capabilities.announced(code) and bool(opened.capabilities[code])


def _has_restarted(peer: Any) -> bool:
    """Whether a connection that a peer makes now tells that its session has ended at its side."""
    if peer.fsm != FSM.ESTABLISHED or peer.stopping() or peer.proto is None:
        return False
    age = time.time() - peer.stats["complete"]
    return age >= YOUNG and _lists_families(peer.proto.negotiated)


def _empty_where_malformed(kind: Any, *texts: str) -> None:
    """What an instance holds from its making is ours, not the peer's."""
    unpack = kind.unpack_capability

    def emptied(instance: Any) -> Any:
        for name in texts:
            setattr(instance, name, "")
        return instance

    def unpack_leniently(instance: Any, data: bytes, capability: Any = None) -> Any:
        try:
            return unpack(emptied(instance), data, capability)
        except Notify:
            return emptied(instance)

    kind.unpack_capability = staticmethod(unpack_leniently)


def install() -> None:
    """Have this process's ExaBGP do so."""
    negotiate, validate = Negotiated._negotiate, Negotiated.validate
    refresh, handle = Protocol.new_refresh, Peer.handle_connection

    def negotiate_families(self: Any) -> None:
        negotiate(self)
        if self.asn4:
            self.peer_as = self.received_open.capabilities[Capability.CODE.FOUR_BYTES_ASN]
        _families(self)

    def validate_number(self: Any, neighbor: Any) -> Any:
        if int(self.received_open.asn) == 0 or int(self.peer_as) == 0:
            return (2, 2, "AS 0 is no peer's")
        return validate(self, neighbor)

    def refresh_if_taken(self: Any, asked: Any) -> Iterator[Any]:
        if self.negotiated.refresh != REFRESH.ABSENT:
            yield from refresh(self, asked)

    def take_the_newer(self: Any, connection: Any) -> Any:
        if _has_restarted(self):
            self._reset(CONNECTS_AGAIN)
        return handle(self, connection)

    Negotiated._negotiate = negotiate_families
    Negotiated.validate = validate_number
    Protocol.new_refresh = refresh_if_taken
    Peer.handle_connection = take_the_newer
    for kind in (AS4Path, Aggregator4):
        _discarded_where_not_needed(kind)
    _empty_where_malformed(HostName, "host_name", "domain_name")
    _empty_where_malformed(Software, "software_version")
