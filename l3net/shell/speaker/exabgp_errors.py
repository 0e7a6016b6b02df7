"""Errors of the peer's that end a session, answered as RFC 4271 section 6, RFC 6608 and RFC 7313 have it.

ExaBGP 5.0.15 fails over its own words when a message's header is wrong (it hands its API the wrong number of
arguments), and so closes without a NOTIFICATION and without a reason; it parses an UPDATE before the OPEN,
and overhears an OPEN amid a session; what its parsers or its loop stumble over ends a session in silence too.
Here each has its NOTIFICATION: 1/1 to 1/3 with the data of section 6.1, 5/1 to 5/3 with the message's type
(RFC 6608), 2/0 or 3/0 where a parser fails, 6/0 where it is our own fault, with the reason.
Used inside ExaBGP's process only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

from exabgp.bgp.fsm import FSM
from exabgp.bgp.message import NOP, Message, Notification, Notify
from exabgp.bgp.message.open import Open
from exabgp.bgp.message.open.capability.refresh import REFRESH
from exabgp.bgp.message.refresh import RouteRefresh
from exabgp.bgp.timer import ReceiveTimer
from exabgp.debug.report import format_exception
from exabgp.logger import log
from exabgp.reactor import peer as peer_module
from exabgp.reactor.api.processes import ProcessError
from exabgp.reactor.network.connection import Connection
from exabgp.reactor.network.error import NetworkError
from exabgp.reactor.peer import ACTION, Interrupted, Peer
from exabgp.reactor.protocol import Protocol

HEADER: Final = 19
MARKER: Final = b"\xff" * 16
OPEN, UPDATE, NOTIFICATION, KEEPALIVE, ROUTE_REFRESH = range(1, 6)
#: Of messages by type: the least length there is. A KEEPALIVE has no other, and ROUTE-REFRESH is looked at
#: when it is whole.
LEAST: Final = {OPEN: 29, UPDATE: 23, NOTIFICATION: 21, KEEPALIVE: HEADER, ROUTE_REFRESH: HEADER}
#: RFC 8654 leaves these as they were.
SHORT: Final = {OPEN: 4096, KEEPALIVE: HEADER}
ROUTE_REFRESH_LENGTH: Final = 23
#: The greatest version of BGP that we speak, as RFC 4271 section 6.2 wants it said.
VERSION: Final = struct.pack("!H", 4)
#: Octets of an OPEN's body before its optional parameters, and what stands for their length in RFC 9072.
FIXED: Final = 10
EXTENDED: Final = 255
#: What is expected in which state; and the subcode of the Finite State Machine Error for all else.
_EXPECTED: Final = {
    int(FSM.OPENCONFIRM): (frozenset({KEEPALIVE, NOTIFICATION}), 2),
    int(FSM.ESTABLISHED): (frozenset({UPDATE, NOTIFICATION, KEEPALIVE, ROUTE_REFRESH}), 3),
}
_BEFORE_OPEN: Final = (frozenset({OPEN, NOTIFICATION}), 1)
#: Where a parser fails: the code and subcode.
_UNSPECIFIC: Final = {OPEN: (2, 0), UPDATE: (3, 0), ROUTE_REFRESH: (7, 1)}

Octets = Generator[tuple[int, int, bytes, bytes, None], None, bytes]
_NOTHING: Final = (0, 0, b"", b"", None)


def header_error(header: bytes, longest: int) -> Any:
    """The NOTIFICATION for a header that is wrong (RFC 4271 section 6.1), None for one that is right."""
    length, kind = struct.unpack("!HB", header[16:])
    if not header.startswith(MARKER):
        return Notify(1, 1, b"")
    if not HEADER <= length <= longest:
        return Notify(1, 2, header[16:18])
    if kind not in LEAST:
        return Notify(1, 3, bytes([kind]))
    if not LEAST[kind] <= length <= SHORT.get(kind, longest):
        return Notify(1, 2, header[16:18])
    return None


def state_error(state: int, kind: int) -> Any:
    """The NOTIFICATION for a message that this state does not expect (RFC 6608), None for any other."""
    expected, subcode = _EXPECTED.get(state, _BEFORE_OPEN)
    return None if kind in expected else Notify(5, subcode, bytes([kind]))


def refresh_error(length: int, message: bytes, *, enhanced: bool) -> Any:
    """The NOTIFICATION for a ROUTE-REFRESH of a wrong length: RFC 7313 section 5, else RFC 4271."""
    if length == ROUTE_REFRESH_LENGTH:
        return None
    if enhanced and len(message) > HEADER + 2 and message[HEADER + 2] in (1, 2):
        return Notify(7, 1, message)
    return Notify(1, 2, struct.pack("!H", length))


def _octets(connection: Any, number: int) -> Octets:
    """So many, as they come. Yields, for ExaBGP, that there is no message yet."""
    if not number:
        return b""
    octets = b""
    for octets in connection._reader(number):
        if octets:
            break
        yield _NOTHING
    return octets


def _read(connection: Any) -> Iterator[tuple[int, int, bytes, bytes, None]]:
    """A message: its length, type, header and body. Raises Notify."""
    header = yield from _octets(connection, HEADER)
    peer = getattr(connection, "l3net_peer", None)
    length, kind = struct.unpack("!HB", header[16:])
    error = header_error(header, connection.msg_size)
    if error is None and peer is not None:
        error = state_error(int(peer.fsm.state), kind)
    if error is not None:
        raise error
    body = yield from _octets(connection, length - HEADER)
    if kind == ROUTE_REFRESH:
        enhanced = peer is not None and peer.proto.negotiated.refresh == REFRESH.ENHANCED
        error = refresh_error(length, header + body, enhanced=enhanced)
        if error is not None:
            raise error
    yield length, kind, header, body, None


def _open_error(body: bytes) -> Any:
    """What ExaBGP overlooks in an OPEN, or answers without the data of section 6.2."""
    if body and body[0] != VERSION[1]:
        return Notify(2, 1, VERSION)
    if len(body) < FIXED:
        return None
    optional = body[FIXED - 1]
    if optional == EXTENDED and body[FIXED : FIXED + 1] == bytes([EXTENDED]):  # RFC 9072
        told = body[FIXED + 1 : FIXED + 3]
        return Notify(2, 0, b"") if len(told) < 2 or int.from_bytes(told, "big") > len(body) - 13 else None
    return Notify(2, 0, b"") if optional > len(body) - FIXED else None


def _guarded(steps: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
    """A peer's steps, whose unforeseen faults end the session with a word to the peer and one to us."""

    def run(self: Any) -> Iterator[Any]:
        try:
            yield from steps(self)
        except (NetworkError, Notification, ProcessError, Interrupted):
            raise
        except Exception as err:
            log.error(lambda err=err: format_exception(err), "reactor")
            fault = Notify(6, 0, b"")
            fault.l3net_why = f"internal error ({type(err).__name__})"
            raise fault from err

    return run


def install() -> None:
    """Have this process's ExaBGP answer errors so."""
    read, unpack = Protocol.read_message, Message.unpack.__func__
    unpack_open = Open.unpack_message.__func__
    unpack_refresh = RouteRefresh.unpack_message.__func__

    def read_message(self: Any) -> Iterator[Any]:
        if self.connection is not None:
            self.connection.l3net_peer = self.peer
        messages: Iterator[Any] = read(self)
        return messages

    def unpack_any(cls: Any, kind: int, data: bytes, direction: Any, negotiated: Any) -> Any:
        try:
            return unpack(cls, kind, data, direction, negotiated)
        except Notification:
            raise
        except Exception as err:  # of a parser: what it cannot read is malformed
            log.error(lambda err=err: format_exception(err), "parser")
            if kind == NOTIFICATION:  # RFC 4271 section 6.4: no answer to it
                return Notification(data[0], data[1], data[2:], False)
            raise Notify(*_UNSPECIFIC.get(kind, (1, 0)), b"") from err

    def unpack_open_message(cls: Any, data: bytes, direction: Any = None, negotiated: Any = None) -> Any:
        error = _open_error(data)
        if error is not None:
            raise error
        return unpack_open(cls, data, direction, negotiated)

    def unpack_route_refresh(cls: Any, data: bytes, direction: Any = None, negotiated: Any = None) -> Any:
        afi, subtype, safi = struct.unpack("!HBB", data)
        if negotiated is not None and negotiated.refresh != REFRESH.ENHANCED:
            subtype = RouteRefresh.request  # a reserved octet that says nothing (RFC 2918 section 3)
        elif subtype > RouteRefresh.end:  # RFC 7313 section 5: to be ignored
            return RouteRefresh(afi, safi, subtype)
        return unpack_refresh(cls, struct.pack("!HBB", afi, subtype, safi), direction, negotiated)

    def timer(session: Any, holdtime: int, code: int, subcode: int, message: str = "") -> Any:
        # An OPEN that does not come is the hold timer's affair (RFC 4271 section 8.2.2, OpenSent).
        return ReceiveTimer(session, holdtime, 4, 0, message if code == 4 else "")

    def read_ka(self: Any) -> Iterator[Any]:
        # ExaBGP asks again at once, as fast as it can, while nothing has come.
        for message in self.proto.read_keepalive():
            self.recv_timer.check_ka_timer(message)
            yield ACTION.LATER if message.TYPE == NOP.TYPE else ACTION.NOW

    Connection.reader = _read
    Protocol.read_message = read_message
    Message.unpack = classmethod(unpack_any)
    Open.unpack_message = classmethod(unpack_open_message)
    RouteRefresh.unpack_message = classmethod(unpack_route_refresh)
    ReceiveTimer.check_ka = ReceiveTimer.check_ka_timer  # without a hold time a KEEPALIVE is no error (4.4)
    peer_module.ReceiveTimer = timer
    Peer._read_ka = read_ka
    Peer._establish = _guarded(Peer._establish)
    Peer._main = _guarded(Peer._main)
