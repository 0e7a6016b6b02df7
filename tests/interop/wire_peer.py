"""A BGP speaker that is the test itself: each octet is the test's, and each answer is seen at once.

Its sockets are in the far side's network namespace, made there by a thread that goes in for a moment.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from stage import FAR_ADDRESS, NODE_ADDRESS, Stage
from wire_speaker import KEEPALIVE, MARKER, NOTIFICATION, OPEN, ROUTE_REFRESH, UPDATE, message

__all__ = ["KEEPALIVE", "MARKER", "NOTIFICATION", "OPEN", "ROUTE_REFRESH", "UPDATE", "Wire", "message"]

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
#: Seconds until an answer is missed.
LIMIT = 20.0
Made = TypeVar("Made")

#: Capabilities by name, as in an OPEN of AS 65002.
MULTIPROTOCOL = {version: (1, struct.pack("!HBB", afi, 0, 1)) for version, afi in ((4, 1), (6, 2))}
REFRESH = (2, b"")
ENHANCED_REFRESH = (70, b"")
AS4 = (65, struct.pack("!I", 65002))
EXTENDED_MESSAGE = (6, b"")


def graceful_restart(*versions: int, seconds: int = 120, flags: int = 0) -> tuple[int, bytes]:
    """RFC 4724; each family with its F bit."""
    families = b"".join(struct.pack("!HBB", {4: 1, 6: 2}[version], 1, 0x80) for version in versions)
    return 64, struct.pack("!H", flags << 12 | seconds) + families


USUAL = (MULTIPROTOCOL[4], MULTIPROTOCOL[6], REFRESH, AS4)


def open_with(
    capabilities: Sequence[tuple[int, bytes]] = USUAL,
    *,
    as_number: int = 65002,
    hold_time: int = 90,
    router_id: str = "10.90.0.2",
    version: int = 4,
) -> bytes:
    packed = b"".join(struct.pack("!BB", code, len(value)) + value for code, value in capabilities)
    parameters = struct.pack("!BB", 2, len(packed)) + packed if packed else b""
    body = struct.pack("!BHH4sB", version, as_number, hold_time, socket.inet_aton(router_id), len(parameters))
    return message(OPEN, body + parameters)


def route_refresh(version: int, subtype: int = 0) -> bytes:
    return message(ROUTE_REFRESH, struct.pack("!HBB", {4: 1, 6: 2}[version], subtype, 1))


class Wire:
    """One TCP connection with the node's ExaBGP, seen from the far side."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(LIMIT)

    def send(self, *messages: bytes) -> None:
        self.socket.sendall(b"".join(messages))

    def read(self) -> tuple[int, bytes] | None:
        """The next message's type and body; None at the end of the connection."""
        header = self._exactly(19)
        if header is None:
            return None
        assert header[:16] == MARKER, header
        length, kind = struct.unpack("!HB", header[16:])
        body = self._exactly(length - 19)
        return None if body is None else (kind, body)

    def _exactly(self, octets: int) -> bytes | None:
        got = b""
        while len(got) < octets:
            try:
                chunk = self.socket.recv(octets - len(got))
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                return None
            got += chunk
        return got

    def expect(self, kind: int) -> bytes:
        """The body of the next message that is no KEEPALIVE, or of the next KEEPALIVE: of that type."""
        while (got := self.read()) is not None and got[0] != kind:
            assert got[0] == KEEPALIVE, got
        assert got is not None, "the connection has ended"
        return got[1]

    def ended(self) -> tuple[int, int, bytes] | None:
        """How the node ends it: the NOTIFICATION before the end, None if there is none."""
        last = None
        while (got := self.read()) is not None:
            last = got
        if last is None or last[0] != NOTIFICATION:
            return None
        return last[1][0], last[1][1], last[1][2:]

    def establish(self, capabilities: Sequence[tuple[int, bytes]] = USUAL, **how: Any) -> bytes:
        """Up to both KEEPALIVEs; the body of the node's OPEN."""
        self.send(open_with(capabilities, **how))
        opened = self.expect(OPEN)
        self.send(message(KEEPALIVE))
        self.expect(KEEPALIVE)
        return opened

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Listening:
    """The far side's port 179, which the node dials."""

    def __init__(
        self,
        stage: Stage,
        version: int,
        before: Callable[[socket.socket], None] = lambda _: None,
        address: str = "",
    ) -> None:
        """`before` is done to the socket first; `address` is another one of the far side's."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address or FAR_ADDRESS[version], 179))
            before(made)
            made.listen(8)
            made.settimeout(LIMIT)
            return made

        self.socket = at_far_side(stage, make)

    def accept(self) -> Wire:
        return Wire(self.socket.accept()[0])

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def dial(stage: Stage, version: int, before: Callable[[socket.socket], None] = lambda _: None) -> Wire:
    """Call the node's port 179; `before` is done to the socket first."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
        before(made)
        made.settimeout(LIMIT)
        made.bind((FAR_ADDRESS[version], 0))
        made.connect((NODE_ADDRESS[version], 179))
        return made

    return Wire(at_far_side(stage, make))


def at_far_side(stage: Stage, make: Callable[[], Made]) -> Made:
    """Call `make` in the far side's network namespace."""
    made: list[Made] = []
    failed: list[BaseException] = []

    def go() -> None:
        descriptor = os.open(f"/proc/{stage.tor.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            made.append(make())
        except BaseException as err:
            failed.append(err)
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=go)  # it ends in there, and takes nobody with it
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]
