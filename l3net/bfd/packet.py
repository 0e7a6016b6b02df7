"""The BFD Control packet (RFC 5880 section 4.1): bytes in, values out. Intervals are in microseconds."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

VERSION: Final = 1
#: The mandatory section; an authentication section may follow.
MANDATORY: Final = 24
_FIXED: Final = struct.Struct("!BBBBIIIII")

_POLL, _FINAL, _INDEPENDENT, _AUTHENTICATED, _DEMAND, _MULTIPOINT = 0x20, 0x10, 0x08, 0x04, 0x02, 0x01


class State(enum.IntEnum):
    """The state of a session (section 4.1, "Sta")."""

    ADMIN_DOWN = 0
    DOWN = 1
    INIT = 2
    UP = 3

    @property
    def text(self) -> str:
        return _STATE_TEXT[self]


_STATE_TEXT: Final = {
    State.ADMIN_DOWN: "AdminDown",
    State.DOWN: "Down",
    State.INIT: "Init",
    State.UP: "Up",
}


class Diagnostic(enum.IntEnum):
    """Why a session left Up last (section 4.1, "Diag")."""

    NONE = 0
    DETECTION_TIME_EXPIRED = 1
    ECHO_FAILED = 2
    NEIGHBOR_SIGNALED_DOWN = 3
    FORWARDING_PLANE_RESET = 4
    PATH_DOWN = 5
    CONCATENATED_PATH_DOWN = 6
    ADMINISTRATIVELY_DOWN = 7
    REVERSE_CONCATENATED_PATH_DOWN = 8

    @property
    def text(self) -> str:
        """As in `detectionTimeExpired`."""
        first, *rest = self.name.lower().split("_")
        return first + "".join(map(str.capitalize, rest))


def diagnostic_text(number: int) -> str:
    """A diagnostic a peer sent; numbers the RFC reserves are shown as such."""
    return Diagnostic(number).text if number in Diagnostic._value2member_map_ else f"reserved{number}"


class PacketError(Exception):
    """A packet to be discarded without a word to the peer (section 6.8.6); the text says why."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A Control packet. `authentication` is the whole section of section 4.2 to 4.4, None without one."""

    state: State
    my_discriminator: int
    your_discriminator: int = 0
    diagnostic: int = 0
    poll: bool = False
    final: bool = False
    control_plane_independent: bool = False
    demand: bool = False
    detect_multiplier: int = 3
    desired_min_tx: int = 1_000_000
    required_min_rx: int = 1_000_000
    required_min_echo_rx: int = 0
    authentication: bytes | None = None

    def encode(self) -> bytes:
        section = self.authentication or b""
        return (
            _FIXED.pack(
                VERSION << 5 | self.diagnostic,
                self.state << 6
                | (_POLL if self.poll else 0)
                | (_FINAL if self.final else 0)
                | (_INDEPENDENT if self.control_plane_independent else 0)
                | (_AUTHENTICATED if section else 0)
                | (_DEMAND if self.demand else 0),
                self.detect_multiplier,
                MANDATORY + len(section),
                self.my_discriminator,
                self.your_discriminator,
                self.desired_min_tx,
                self.required_min_rx,
                self.required_min_echo_rx,
            )
            + section
        )


def decode(payload: bytes) -> Packet:
    """The packet in a datagram. Raises PacketError, by the rules of section 6.8.6 that need no session."""
    if len(payload) < MANDATORY:
        raise PacketError("shorter than the mandatory section")
    first, flags, multiplier, length, mine, yours, desired, required, echo = _FIXED.unpack_from(payload)
    if first >> 5 != VERSION:
        raise PacketError(f"version {first >> 5}")
    authenticated = bool(flags & _AUTHENTICATED)
    if length < MANDATORY + 2 * authenticated or length > len(payload):
        raise PacketError("wrong length")
    if multiplier == 0:
        raise PacketError("detect multiplier 0")
    if flags & _MULTIPOINT:
        raise PacketError("multipoint bit")
    if mine == 0:
        raise PacketError("my discriminator 0")
    state = State(flags >> 6)
    if yours == 0 and state not in (State.DOWN, State.ADMIN_DOWN):
        raise PacketError("your discriminator 0 in a session that is not down")
    return Packet(
        state=state,
        my_discriminator=mine,
        your_discriminator=yours,
        diagnostic=first & 0x1F,
        poll=bool(flags & _POLL),
        final=bool(flags & _FINAL),
        control_plane_independent=bool(flags & _INDEPENDENT),
        demand=bool(flags & _DEMAND),
        detect_multiplier=multiplier,
        desired_min_tx=desired,
        required_min_rx=required,
        required_min_echo_rx=echo,
        authentication=payload[MANDATORY:length] if authenticated else None,
    )
