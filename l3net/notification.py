"""NOTIFICATION codes by name, and out of the words in which one is told of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: RFC 4271 section 4.5; 6 and 7 of RFC 7313.
CODES: Final = {
    1: "Message Header Error",
    2: "OPEN Message Error",
    3: "UPDATE Message Error",
    4: "Hold Timer Expired",
    5: "Finite State Machine Error",
    6: "Cease",
    7: "ROUTE-REFRESH Message Error",
    8: "Send Hold Timer Expired",  # RFC 9687
}
#: RFC 4271 section 4.5; RFC 5492 (2/7), RFC 9234 (2/11), RFC 6608 (5), RFC 4486 (6), RFC 8538 (6/9), RFC
#: 9384 (6/10).
SUBCODES: Final = {
    (1, 1): "Connection Not Synchronized",
    (1, 2): "Bad Message Length",
    (1, 3): "Bad Message Type",
    (2, 1): "Unsupported Version Number",
    (2, 2): "Bad Peer AS",
    (2, 3): "Bad BGP Identifier",
    (2, 4): "Unsupported Optional Parameter",
    (2, 6): "Unacceptable Hold Time",
    (2, 7): "Unsupported Capability",
    (2, 11): "Role Mismatch",
    (3, 1): "Malformed Attribute List",
    (3, 2): "Unrecognized Well-known Attribute",
    (3, 3): "Missing Well-known Attribute",
    (3, 4): "Attribute Flags Error",
    (3, 5): "Attribute Length Error",
    (3, 6): "Invalid ORIGIN Attribute",
    (3, 8): "Invalid NEXT_HOP Attribute",
    (3, 9): "Optional Attribute Error",
    (3, 10): "Invalid Network Field",
    (3, 11): "Malformed AS_PATH",
    (5, 1): "Unexpected Message in OpenSent",
    (5, 2): "Unexpected Message in OpenConfirm",
    (5, 3): "Unexpected Message in Established",
    (6, 1): "Maximum Number of Prefixes Reached",
    (6, 2): "Administrative Shutdown",
    (6, 3): "Peer De-configured",
    (6, 4): "Administrative Reset",
    (6, 5): "Connection Rejected",
    (6, 6): "Other Configuration Change",
    (6, 7): "Connection Collision Resolution",
    (6, 8): "Out of Resources",
    (6, 9): "Hard Reset",
    (6, 10): "BFD Down",
    (7, 1): "Invalid Message Length",
}
#: Subcodes of Cease that we send (RFC 4486, RFC 9384).
ADMINISTRATIVE_SHUTDOWN: Final = 2
ADMINISTRATIVE_RESET: Final = 4
BFD_DOWN: Final = 10

#: As ExaBGP tells it, `notification sent (4,0)`, and l3net, `NOTIFICATION sent: Hold Timer Expired (4/0)`.
_TOLD = re.compile(r"notification (received|sent)(?::[A-Za-z -]+)?\W+(\d+)\s*[,/]\s*(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Notification:
    """Code and subcode; `received`: from the peer, else we sent it."""

    code: int
    subcode: int
    received: bool

    @property
    def name(self) -> str:
        """`Bad Peer AS`."""
        return SUBCODES.get((self.code, self.subcode)) or CODES.get(self.code, "unknown error")

    def __str__(self) -> str:
        """As people read it: `Bad Peer AS (2/2)`."""
        return f"{self.name} ({self.code}/{self.subcode})"


def in_reason(reason: str) -> Notification | None:
    """The NOTIFICATION in the reason of a session's end, None if there is none."""
    found = _TOLD.search(reason)
    return Notification(int(found[2]), int(found[3]), found[1].lower() == "received") if found else None
