"""What agent and BFD process say to each other: one JSON object a line, over a Unix socket.

The agent sends the whole set of sessions it wants, and the process makes it so; the process answers with the
state of every session and then with each change. Times are those of the machine's monotonic clock, in
seconds, intervals milliseconds.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeAlias

from l3net.bfd.authentication import Key
from l3net.model import Address, BfdAuthType

#: The fastest that is offered, in milliseconds.
LEAST_INTERVAL = 50
#: A line longer than this comes from nobody of ours.
LONGEST_LINE = 8 << 20


@dataclass(frozen=True, slots=True)
class WantedSession:
    """One session as the agent wants it. `interface` binds a single-hop session to a link.

    Single hop is UDP port 3784 and TTL 255 (RFC 5881), multihop port 4784 (RFC 5883). `begin` False keeps a
    session that there is, and begins none. `echo_transmit` and `echo_receive`: the least interval of our Echo
    packets and of the far side's, in milliseconds; 0 for none.
    """

    peer: Address
    local: Address
    interface: str | None = None
    multihop: bool = False
    min_interval: int = 300
    multiplier: int = 3
    passive: bool = False
    key: Key | None = None
    begin: bool = True
    echo_transmit: int = 0
    echo_receive: int = 0

    @property
    def identity(self) -> tuple[object, ...]:
        """What cannot change without becoming another session."""
        return (self.peer, self.local, self.interface, self.multihop, self.key)


@dataclass(frozen=True, slots=True)
class SessionState:
    """How one session is. `failed`: it was up, went down by itself, and nobody has forgiven it since.

    `shares_fate`: the far side's BFD says that it dies with its control plane (RFC 5880 section 4.1, C bit).
    `echo` says how our Echo packets fare: empty (none wanted), `refused` (by the far side, or there is no
    session), `unanswered`, `works` or `lost`; `detection_time` is theirs while they work. `echo_lost`: ours
    or the far side's fail to come back while Control packets pass, so that a BGP session proves nothing.
    """

    peer: Address
    state: str
    remote_state: str
    since: float
    diagnostic: str
    remote_diagnostic: str
    detection_time: float
    transmit_interval: float
    failed: bool
    shares_fate: bool
    flaps: int
    echo: str = ""
    echo_lost: bool = False


@dataclass(frozen=True, slots=True)
class Hello:
    """The first line of the process: how it runs. `problem` is empty when it has what it wants."""

    pid: int
    problem: str


class ControlError(Exception):
    """A line that is not of this protocol."""


def encode_wanted(wanted: Iterable[WantedSession]) -> bytes:
    rows = []
    for each in wanted:
        row: dict[str, Any] = {
            "peer": str(each.peer),
            "local": str(each.local),
            "interface": each.interface,
            "multihop": each.multihop,
            "minInterval": each.min_interval,
            "multiplier": each.multiplier,
            "passive": each.passive,
            "begin": each.begin,
            "echoTransmit": each.echo_transmit,
            "echoReceive": each.echo_receive,
        }
        if each.key is not None:
            secret = base64.b64encode(each.key.secret).decode()
            row["key"] = {"type": each.key.type.value, "id": each.key.key_id, "secret": secret}
        rows.append(row)
    return _line({"sessions": rows})


def encode_forgive(peer: Address) -> bytes:
    """The BGP session to this peer was established afresh: its BFD failure is over (see `SessionState`)."""
    return _line({"forgive": str(peer)})


def encode_state(state: SessionState) -> bytes:
    return _line(
        {
            "peer": str(state.peer),
            "state": state.state,
            "remoteState": state.remote_state,
            "since": state.since,
            "diagnostic": state.diagnostic,
            "remoteDiagnostic": state.remote_diagnostic,
            "detectionTime": state.detection_time,
            "transmitInterval": state.transmit_interval,
            "failed": state.failed,
            "sharesFate": state.shares_fate,
            "flaps": state.flaps,
            "echo": state.echo,
            "echoLost": state.echo_lost,
        }
    )


def encode_hello(hello: Hello) -> bytes:
    return _line({"pid": hello.pid, "problem": hello.problem})


#: The agent's lines: all sessions wanted, or a peer to be forgiven.
Command: TypeAlias = tuple[WantedSession, ...] | Address
Event: TypeAlias = Hello | SessionState


def decode_command(line: bytes) -> Command:
    """A line of the agent's. Raises ControlError."""
    row = _read(line)
    try:
        if "forgive" in row:
            return ip_address(row["forgive"])
        return tuple(map(_wanted, row["sessions"]))
    except (KeyError, TypeError, ValueError) as err:
        raise ControlError(f"not a command: {type(err).__name__}") from None


def decode_event(line: bytes) -> Event:
    """A line of the BFD process's. Raises ControlError."""
    row = _read(line)
    try:
        if "pid" in row:
            return Hello(row["pid"], row["problem"])
        return SessionState(
            peer=ip_address(row["peer"]),
            state=row["state"],
            remote_state=row["remoteState"],
            since=row["since"],
            diagnostic=row["diagnostic"],
            remote_diagnostic=row["remoteDiagnostic"],
            detection_time=row["detectionTime"],
            transmit_interval=row["transmitInterval"],
            failed=row["failed"],
            shares_fate=row["sharesFate"],
            flaps=row["flaps"],
            echo=row.get("echo", ""),  # of an older process there is none
            echo_lost=row.get("echoLost", False),
        )
    except (KeyError, TypeError, ValueError) as err:
        raise ControlError(f"not an event: {type(err).__name__}") from None


def _wanted(row: Mapping[str, Any]) -> WantedSession:
    key = row.get("key")
    return WantedSession(
        peer=ip_address(row["peer"]),
        local=ip_address(row["local"]),
        interface=row["interface"],
        multihop=bool(row["multihop"]),
        min_interval=max(LEAST_INTERVAL, int(row["minInterval"])),
        multiplier=min(255, max(1, int(row["multiplier"]))),
        passive=bool(row["passive"]),
        begin=bool(row["begin"]),
        echo_transmit=_echo_interval(row.get("echoTransmit", 0)),
        echo_receive=_echo_interval(row.get("echoReceive", 0)),
        key=Key(BfdAuthType(key["type"]), int(key["id"]), base64.b64decode(key["secret"])) if key else None,
    )


def _echo_interval(milliseconds: object) -> int:
    interval = int(str(milliseconds))
    return max(LEAST_INTERVAL, interval) if interval > 0 else 0


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def _read(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        raise ControlError("not JSON") from None
    if not isinstance(row, dict):
        raise ControlError("not an object")
    return row
