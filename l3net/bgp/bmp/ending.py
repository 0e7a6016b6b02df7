"""Why a session ended, as BMP has it (RFC 7854 section 4.9)."""

from __future__ import annotations

import enum
import struct
from typing import Final

from l3net.bgp.known_peer import KnownPeer
from l3net.bgp.peer_reasons import SPEAKER_LOST
from l3net.bgp.wire.messages import notification
from l3net.notification import ADMINISTRATIVE_RESET, ADMINISTRATIVE_SHUTDOWN

_CEASE: Final = 6
#: Those that an operator's text goes with (RFC 9003).
_WITH_TEXT: Final = {(_CEASE, ADMINISTRATIVE_SHUTDOWN), (_CEASE, ADMINISTRATIVE_RESET)}
#: Stands for no event of RFC 4271 section 8.1.
_NO_EVENT: Final = 0


class Down(enum.IntEnum):
    """Reasons of Peer Down."""

    LOCAL_NOTIFICATION = 1
    LOCAL_SILENT = 2
    REMOTE_NOTIFICATION = 3
    REMOTE_SILENT = 4
    DE_CONFIGURED = 5


def why_down(peer: KnownPeer | None) -> bytes:
    """Of a session that was up a moment ago; None: it is declared no longer."""
    if peer is None:
        return bytes([Down.DE_CONFIGURED])
    if peer.parted:  # just before its neighbour is removed (RFC 4486)
        return bytes([Down.LOCAL_NOTIFICATION]) + notification(_CEASE, ADMINISTRATIVE_SHUTDOWN)
    reset = peer.last_reset
    if peer.reason == SPEAKER_LOST or peer.closing or reset is None:
        return bytes([Down.LOCAL_SILENT]) + struct.pack("!H", _NO_EVENT)
    told = reset.notification
    if told is None:
        return bytes([Down.REMOTE_SILENT])
    text = reset.text if (told.code, told.subcode) in _WITH_TEXT else ""
    kind = Down.REMOTE_NOTIFICATION if told.received else Down.LOCAL_NOTIFICATION
    return bytes([kind]) + notification(told.code, told.subcode, text)
