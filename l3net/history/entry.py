"""One decision that was carried out, as it is kept, shown and written down."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final

from l3net.model import Prefix

#: Prefixes that an entry of several keeps by name; of the others it has the number.
MOST_NAMED: Final = 200


class EntryKind(enum.Enum):
    """What an entry is about. The value is what users see and ask for."""

    ANNOUNCEMENT = "announcement"  # what a peer was told
    ROUTE = "route"  # what the kernel was told
    SESSION = "session"  # a BGP session
    SERVICE = "service"  # the verdict on a service's addresses, and its endpoints
    DRAIN = "drain"
    DECLARED = "declared"  # what people declare: BGPPeers, policies and so on
    NODE = "node"  # the agent itself


@dataclass(frozen=True, slots=True)
class Entry:
    """`at`: seconds since 1970. `subject`: a prefix, NAMESPACE/NAME, peer, or kind and name; what is about
    several prefixes has the first as subject, their number as `count`, and of their names as many as
    MOST_NAMED. `old` and `new` are what was so before and since, in words."""

    at: float
    kind: EntryKind
    subject: str
    what: str
    peer: str = ""
    reason: str = ""
    old: str = ""
    new: str = ""
    count: int = 1
    prefixes: tuple[Prefix, ...] = ()

    def row(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "at": round(self.at, 3),
            "kind": self.kind.value,
            "subject": self.subject,
            "what": self.what,
            "peer": self.peer,
            "reason": self.reason,
            "old": self.old,
            "new": self.new,
            "count": self.count,
            "prefixes": [str(prefix) for prefix in self.prefixes],
        }


def entry_of(row: Mapping[str, Any]) -> Entry:
    """The other way round. Raises ValueError, KeyError and TypeError for what is no row."""
    words = {key: str(row[key]) for key in ("subject", "what", "peer", "reason", "old", "new")}
    return Entry(
        at=float(row["at"]),
        kind=EntryKind(row["kind"]),
        count=int(row["count"]),
        prefixes=tuple(ip_network(text) for text in row["prefixes"][:MOST_NAMED]),
        **words,
    )
