"""Authentication of Control packets (RFC 5880 sections 4.2 to 4.4 and 6.7).

MD5 and SHA1 are what the RFC has; they keep strangers on a link from ending a session, not more.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Final

from l3net.bfd.packet import MANDATORY, Packet
from l3net.model import BfdAuthType

_NUMBER: Final = {
    BfdAuthType.SIMPLE_PASSWORD: 1,
    BfdAuthType.KEYED_MD5: 2,
    BfdAuthType.METICULOUS_KEYED_MD5: 3,
    BfdAuthType.KEYED_SHA1: 4,
    BfdAuthType.METICULOUS_KEYED_SHA1: 5,
}
_DIGEST: Final = {2: ("md5", 16), 3: ("md5", 16), 4: ("sha1", 20), 5: ("sha1", 20)}
_HEADER: Final = struct.Struct("!BBBBI")
_WRAP: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Key:
    """How a session authenticates. `secret` is 1 to 16 bytes, 20 with SHA1; what is shorter is padded."""

    type: BfdAuthType
    key_id: int
    secret: bytes = field(repr=False)

    @property
    def meticulous(self) -> bool:
        """Whether every packet must carry a number higher than the last."""
        return _NUMBER[self.type] in (3, 5)


def sign(key: Key, packet: Packet, sequence: int) -> bytes:
    """The packet on the wire, with its authentication section."""
    number = _NUMBER[key.type]
    if number == 1:
        section = bytes((1, 3 + len(key.secret), key.key_id)) + key.secret
        return replace(packet, authentication=section).encode()
    name, size = _DIGEST[number]
    head = _HEADER.pack(number, 8 + size, key.key_id, 0, sequence % _WRAP)
    secret = key.secret.ljust(size, b"\0")
    plain = replace(packet, authentication=head + secret).encode()
    return plain[:-size] + _digest(name, plain)


def _digest(name: str, plain: bytes) -> bytes:
    import hashlib  # noqa: PLC0415 - OpenSSL is megabytes, which sessions without authentication do without

    return hashlib.new(name, plain, usedforsecurity=False).digest()


def _same(one: bytes, other: bytes) -> bool:
    import hmac  # noqa: PLC0415 - it brings OpenSSL along

    return hmac.compare_digest(one, other)


class Verifier:
    """The receiving side of one session: bfd.RcvAuthSeq and bfd.AuthSeqKnown (section 6.8.1)."""

    def __init__(self, key: Key | None) -> None:
        self._key = key
        self._sequence: int | None = None

    def forget(self) -> None:
        """Nothing was heard for twice the detection time: any sequence number will do (section 6.8.1)."""
        self._sequence = None

    def accepts(self, packet: Packet, payload: bytes) -> bool:
        """Whether the packet, of which `payload` is the datagram, may be believed (section 6.7)."""
        key, section = self._key, packet.authentication
        if key is None or section is None:
            return key is None and section is None
        number = _NUMBER[key.type]
        if len(section) < 4 or section[0] != number or section[1] != len(section) or section[2] != key.key_id:
            return False
        if number == 1:
            return _same(section[3:], key.secret)
        name, size = _DIGEST[number]
        if len(section) != 8 + size:
            return False
        sequence = int.from_bytes(section[4:8], "big")
        if not self._in_order(key, sequence, packet.detect_multiplier):
            return False
        secret = key.secret.ljust(size, b"\0")
        plain = payload[: MANDATORY + 8] + secret
        if not _same(_digest(name, plain), section[8:]):
            return False
        self._sequence = sequence
        return True

    def _in_order(self, key: Key, sequence: int, multiplier: int) -> bool:
        """Within three detection times of the last one, circularly (sections 6.7.3 and 6.7.4)."""
        if self._sequence is None:
            return True
        ahead = (sequence - self._sequence) % _WRAP
        return (1 if key.meticulous else 0) <= ahead <= 3 * multiplier
