"""The listening side of ExaBGP: who dials in has a session that waits for it, and is held to what it demands.

A listening socket is shared by all sessions of a local address and port. ExaBGP 5.0.15 gives it the MD5 keys
and the one minimum TTL of the passive sessions alone, and takes a connection for any session with those two
addresses: one that we dial with a password or GTSM was to be had without. Here

- each socket has the MD5 key of each caller with a password (TCP_MD5SIG; RFC 2385): the kernel drops what is
  not signed by it;
- of a caller with GTSM (RFC 5082) the SYN has to have come with its TTL, as the kernel has kept it
  (TCP_SAVE_SYN), and all that follows too (IP_MINTTL): what crosses a router cannot have 255;
- everybody else is closed with a reset, unheard and without a word.

None of it needs a capability, and nothing of it outlives the sockets. What cannot be protected is not let in.
Used inside ExaBGP's process only.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from l3net.model import Address

#: linux/in.h, linux/in6.h, linux/tcp.h; the socket module lacks them.
IP_FREEBIND: Final = 15
IP_MINTTL: Final = 21
IPV6_MINHOPCOUNT: Final = 73
IPV6_FREEBIND: Final = 78
TCP_MD5SIG: Final = 14
TCP_SAVE_SYN: Final = 27
TCP_SAVED_SYN: Final = 28
#: struct tcp_md5sig: address of the peer, flags, prefix length, key length, interface, key.
_MD5SIG: Final = struct.Struct("=128sBBHi80s")
LONGEST_KEY: Final = 80
BACKLOG: Final = 200
#: Connections taken from a socket in one turn.
AT_ONCE: Final = 64
#: Seconds between attempts to open a socket that could not be.
RETRY: Final = 1.0

#: Of the IP header: where the TTL or hop limit is.
_TTL: Final = {socket.AF_INET: 8, socket.AF_INET6: 7}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who may dial: `key` names the session to ExaBGP. `minimum_ttl` 0 is any."""

    key: str
    address: Address
    password: bytes | None = field(default=None, repr=False)
    minimum_ttl: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """What a socket is bound to; `interface` is for a link-local address alone."""

    address: Address
    port: int
    interface: str = ""


def set_key(sock: socket.socket, caller: Address, password: bytes | None) -> None:
    """The MD5 key of what comes from an address and goes to it; None takes it away. Raises OSError."""
    if caller.version == 4:
        peer = struct.pack("=HH4s", socket.AF_INET, 0, caller.packed)
    else:
        peer = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, caller.packed, 0)
    key = password or b""
    if len(key) > LONGEST_KEY:
        raise OSError(errno.EINVAL, f"a key of {len(key)} bytes; the kernel takes {LONGEST_KEY}")
    try:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, _MD5SIG.pack(peer, 0, 0, len(key), 0, key))
    except OSError as err:
        if key or err.errno not in (errno.ENOENT, errno.ENOPROTOOPT):
            raise


def set_minimum_ttl(sock: socket.socket, minimum: int) -> None:
    """Of an accepted connection. Raises OSError."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, IP_MINTTL, minimum)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, minimum)


def set_ttl(sock: socket.socket, ttl: int) -> None:
    """With which TTL or hop limit is sent; -1 is the host's default. Raises OSError."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)


def ttl_of_syn(connection: socket.socket) -> int:
    """With which TTL or hop limit the SYN of an accepted connection came; 0 if the kernel has not kept it, as
    under a flood of them (SYN cookies)."""
    header = connection.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, 256)
    at = _TTL[connection.family]
    return header[at] if len(header) > at else 0


class Door:
    """One listening socket, and who may come in by it."""

    def __init__(self, place: Place) -> None:
        """Bound but not listening. Also to an address that is not there yet. Raises OSError."""
        self.place = place
        self.callers: dict[str, Caller] = {}  # by source address
        self._keys: set[Address] = set()
        version = place.address.version
        self.socket = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 1)
            set_ttl(self.socket, 255)  # a caller with GTSM wants it of the SYN's answer too
            self.socket.setblocking(False)
            if version == 4:
                self.socket.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
                self.socket.bind((str(place.address), place.port))
            else:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                self.socket.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
                scope = socket.if_nametoindex(place.interface) if place.interface else 0
                self.socket.bind((str(place.address), place.port, 0, scope))
        except OSError:
            self.socket.close()
            raise

    def admit(self, callers: Iterable[Caller]) -> Iterator[str]:
        """Let in these and no others from now on; yields why a caller cannot be let in."""
        admitted: dict[str, Caller] = {}
        for caller in callers:
            try:
                set_key(self.socket, caller.address, caller.password)
            except OSError as err:
                yield f"{caller.address}: its MD5 key cannot be set ({err.strerror})"
                continue
            if caller.password:
                self._keys.add(caller.address)
            admitted[str(caller.address)] = caller
        for gone in self._keys - {caller.address for caller in admitted.values() if caller.password}:
            with contextlib.suppress(OSError):
                set_key(self.socket, gone, None)
            self._keys.discard(gone)
        if admitted != self.callers:
            self._turn_away()
        self.callers = admitted
        self.socket.listen(BACKLOG)

    def _turn_away(self) -> None:
        """Those who came in under older rules and have not been looked at."""
        for waiting, _ in self._waiting():
            waiting.close()

    def accept(self) -> Iterator[tuple[Caller, socket.socket]]:
        """Who has come in, protected as their session demands; others are closed unheard."""
        for connection, source in self._waiting():
            caller = self.callers.get(source)
            if caller is not None and self._holds(connection, caller):
                yield caller, connection
            else:
                with contextlib.suppress(OSError):  # a reset, so that nothing of it is left here
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()

    def _holds(self, connection: socket.socket, caller: Caller) -> bool:
        """Whether a connection keeps to the TTL that its session demands, and has to from now on."""
        try:
            set_ttl(connection, -1)
            if not caller.minimum_ttl:
                return True
            set_minimum_ttl(connection, caller.minimum_ttl)
            return ttl_of_syn(connection) >= caller.minimum_ttl
        except OSError as err:
            _say(f"no connection is taken from {caller.address}: no TTL can be demanded ({err.strerror})")
            return False

    def _waiting(self) -> Iterator[tuple[socket.socket, str]]:
        for _ in range(AT_ONCE):
            try:
                connection, source = self.socket.accept()
            except OSError:  # nobody is left, or one that has gone again
                return
            yield connection, str(source[0]).partition("%")[0]

    def close(self) -> None:
        self.socket.close()


class Listener:
    """What ExaBGP's reactor knows as its Listener, by the same names. `reactor` is ExaBGP's."""

    def __init__(self, reactor: Any, take: Callable[[str, socket.socket], None]) -> None:
        self._reactor = reactor
        self._take = take
        self._doors: dict[Place, Door] = {}
        self._shut: dict[Place, str] = {}
        self._next_try = 0.0
        self.serving = False

    def follow(self) -> None:
        """Open and close what the configuration of now wants; what cannot be opened is tried again."""
        wanted = places(self._reactor.configuration.neighbors)
        for place in self._doors.keys() - wanted.keys():
            self._doors.pop(place).close()
        self._shut = {place: why for place, why in self._shut.items() if place in wanted}
        for place, callers in wanted.items():
            try:
                door = self._doors.get(place) or Door(place)
            except OSError as err:
                why = err.strerror or str(err)
                if self._shut.get(place) != why:
                    _say(f"cannot listen on {place.address} port {place.port}: {why}; trying on")
                self._shut[place] = why
                continue
            self._doors[place] = door
            self._shut.pop(place, None)
            try:
                for refused in door.admit(callers):
                    _say(f"no connection is taken from {refused}")
            except OSError as err:
                self._doors.pop(place).close()
                self._shut[place] = err.strerror or str(err)
                _say(f"cannot listen on {place.address} port {place.port}: {self._shut[place]}; trying on")
        self._next_try = time.monotonic() + RETRY
        self.serving = bool(self._doors or self._shut)

    def descriptors(self) -> list[int]:
        """Which tell that somebody dials in."""
        return [door.socket.fileno() for door in self._doors.values()]

    def next_try(self) -> float:
        """Seconds until a socket that could not be opened is tried again."""
        return self._next_try - time.monotonic() if self._shut else float("inf")

    def incoming(self) -> bool:
        """Take who has come; nothing is left for `new_connections`."""
        if self._shut and time.monotonic() > self._next_try:
            self.follow()
        for door in self._doors.values():
            for caller, connection in door.accept():
                self._take(caller.key, connection)
        return False

    def new_connections(self) -> Iterator[None]:
        yield from ()

    def stop(self) -> None:
        for door in self._doors.values():
            door.close()
        self._doors.clear()
        self.serving = False


def places(neighbors: Mapping[str, Any]) -> dict[Place, list[Caller]]:
    """Where ExaBGP's neighbours are waited for, and who they are. One that is dialled is not waited for."""
    found: dict[Place, list[Caller]] = {}
    for key, neighbor in neighbors.items():
        if not neighbor["listen"] or not neighbor["passive"]:
            continue
        local, caller = (ip_address(neighbor[name].top()) for name in ("md5-ip", "peer-address"))
        scoped = isinstance(local, IPv6Address) and local.is_link_local
        place = Place(local, neighbor["listen"], (neighbor["source-interface"] or "") if scoped else "")
        found.setdefault(place, []).append(
            Caller(key, caller, _password(neighbor), neighbor["incoming-ttl"] or 0)
        )
    return found


def _password(neighbor: Any) -> bytes | None:
    text = neighbor["md5-password"]
    if not text:
        return None
    return base64.b64decode(text) if neighbor["md5-base64"] is True else str(text).encode()


def _say(text: str) -> None:
    sys.stderr.write(f"l3net: {text}\n")
    sys.stderr.flush()
