"""BFD beside a BGP session (RFC 5880), as it is declared."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from l3net.model.terms import SecretKey


class BfdAuthType(enum.Enum):
    """Authentication of BFD packets (RFC 5880 section 6.7)."""

    SIMPLE_PASSWORD = "SimplePassword"  # noqa: S105 - a type, not a password
    KEYED_MD5 = "KeyedMD5"
    METICULOUS_KEYED_MD5 = "MeticulousKeyedMD5"
    KEYED_SHA1 = "KeyedSHA1"
    METICULOUS_KEYED_SHA1 = "MeticulousKeyedSHA1"

    @property
    def longest_secret(self) -> int:
        """In bytes (RFC 5880 sections 4.2 to 4.4)."""
        return 20 if self in (BfdAuthType.KEYED_SHA1, BfdAuthType.METICULOUS_KEYED_SHA1) else 16


@dataclass(frozen=True, slots=True)
class BfdAuth:
    """How BFD packets are authenticated, and where the secret is."""

    type: BfdAuthType
    key_id: int
    password: SecretKey


@dataclass(frozen=True, slots=True)
class BfdSettings:
    """BFD beside a BGP session (RFC 5880). `min_interval` in milliseconds, both sent and received.

    The far side is given up `multiplier` intervals after it was last heard. `echo_transmit`, `echo_receive`:
    the least interval of Echo packets, ours and the far side's (section 6.8.9), 0 for none.
    """

    min_interval: int = 300
    multiplier: int = 3
    passive: bool = False  # wait for the far side's first packet
    auth: BfdAuth | None = None
    echo_transmit: int = 0
    echo_receive: int = 0
