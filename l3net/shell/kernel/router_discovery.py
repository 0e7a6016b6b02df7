"""Finds the routers on links without addresses, and lets them find us: RFC 4861 on raw sockets.

The kernel's neighbour table is looked at too. It knows a router we spoke with before the agent was
restarted, and one that speaks to us without ever sending an advertisement.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final

from l3net.bgp.router_discovery import (
    HOP_LIMIT,
    ROUTER_ADVERTISEMENT,
    ROUTER_SOLICITATION,
    advertisement,
    message_type,
    solicitation,
)
from l3net.errors import KernelError
from l3net.shell.kernel.netlink import Netlink, Request, attributes

log = logging.getLogger("l3net.bgp")

#: Seconds between advertisements, as routers that look for neighbours have it; the first come faster.
INTERVAL: Final = 10.0
FIRST: Final = 1.0
FAST: Final = 3
#: Seconds after which a router is forgotten that nothing was heard of: the longest interval there may be
#: between two advertisements (RFC 4861 section 6.2.1).
FORGOTTEN_AFTER: Final = 1800.0

#: Routers on one link: whoever makes up more of them gets no further sessions.
MOST: Final = 8

_ALL_NODES: Final = IPv6Address("ff02::1")
_ALL_ROUTERS: Final = IPv6Address("ff02::2")
_ICMP6_FILTER: Final = 1
RTM_GETNEIGH: Final = 30
_NDMSG: Final = struct.Struct("=BBHiHBB")
_NDA_DST: Final = 1
_NTF_ROUTER: Final = 0x80
_REACHABLE, _STALE, _DELAY, _PROBE = 0x02, 0x04, 0x08, 0x10


@dataclass(slots=True)
class _Watched:
    """A link: its socket, None while there is no such link, and when each router was heard last."""

    index: int = 0
    socket: socket.socket | None = None
    sent: int = 0
    heard: dict[IPv6Address, float] = field(default_factory=dict)


class RouterDiscovery:
    """In the network namespace of the thread that made it. `changed`: a router has come or gone."""

    def __init__(self) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._links: dict[str, _Watched] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.problems: dict[str, str] = {}

    def watch(self, interfaces: Collection[str]) -> None:
        """Look for routers on these links and no others. Cheap to repeat: a link made anew is found again."""
        for name in [gone for gone in self._links if gone not in interfaces]:
            self._close(self._links.pop(name))
            self.problems.pop(name, None)
        fresh = [name for name in interfaces if self._open(name)]
        if fresh:
            for name, router in self._known(lasting=True):
                if name in fresh:
                    self._links[name].heard.setdefault(router, asyncio.get_running_loop().time())
        if self._links and self._timer is None:
            self._tick()

    def routers(self, interface: str) -> tuple[IPv6Address, ...]:
        """Link-local addresses of the routers on a link, in order."""
        watched = self._links.get(interface)
        return tuple(sorted(watched.heard)) if watched is not None else ()

    def close(self) -> None:
        """Heard of no more."""
        if self._timer is not None:
            self._timer.cancel()
        for watched in self._links.values():
            self._close(watched)
        self._links.clear()

    # --- sockets -----------------------------------------------------------------------------------------

    def _open(self, name: str) -> bool:
        """Whether the link is watched from now on and was not before."""
        watched = self._links.setdefault(name, _Watched())
        try:
            index = socket.if_nametoindex(name)
        except (OSError, ValueError):  # a name with a zero byte is none
            index = 0
        if watched.socket is not None and index == watched.index:
            return False
        self._close(watched)
        if not index:
            return False
        try:
            watched.socket = _listening(name, index)
        except OSError as err:
            self.problems[name] = f"cannot look for routers on {name}: {err.strerror}"
            return False
        self.problems.pop(name, None)
        watched.index, watched.sent = index, 0
        asyncio.get_running_loop().add_reader(watched.socket, self._receive, watched)
        self._send(name, watched, solicitation(_link_layer(name)), _ALL_ROUTERS)
        return True

    def _close(self, watched: _Watched) -> None:
        if watched.socket is not None:
            asyncio.get_running_loop().remove_reader(watched.socket)
            watched.socket.close()
        watched.socket, watched.index = None, 0
        watched.heard.clear()

    def _receive(self, watched: _Watched) -> None:
        assert watched.socket is not None  # noqa: S101 - its reader is gone with it
        try:
            message, ancillary, _flags, sender = watched.socket.recvmsg(1500, 256)
        except OSError:
            return
        limits = [
            struct.unpack("=i", value[:4])[0]
            for level, kind, value in ancillary
            if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_HOPLIMIT
        ]
        router = IPv6Address(sender[0].partition("%")[0])
        kind = message_type(message, limits[0] if limits else 0)
        if kind == ROUTER_ADVERTISEMENT and router.is_link_local:
            self._heard(watched, router)
        elif kind == ROUTER_SOLICITATION:
            watched.sent = min(watched.sent, FAST - 1)  # it hears from us within a second
            self._schedule(FIRST)

    def _heard(self, watched: _Watched, router: IPv6Address) -> None:
        known = router in watched.heard
        if not known and len(watched.heard) >= MOST:
            return
        watched.heard[router] = asyncio.get_running_loop().time()
        if not known:
            self.changed()

    # --- time --------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for name in list(self._links):
            self._open(name)
        for name, router in self._known(lasting=False):
            if name in self._links:
                self._heard(self._links[name], router)
        for name, watched in self._links.items():
            for router in [r for r, heard in watched.heard.items() if now - heard > FORGOTTEN_AFTER]:
                del watched.heard[router]
                self.changed()
            if watched.socket is not None:
                self._send(name, watched, advertisement(_link_layer(name)), _ALL_NODES)
                watched.sent += 1
        if self._links:
            self._schedule(min(FIRST if each.sent < FAST else INTERVAL for each in self._links.values()))

    def _schedule(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._tick)

    def _send(self, name: str, watched: _Watched, message: bytes, to: IPv6Address) -> None:
        assert watched.socket is not None  # noqa: S101 - the callers look
        try:
            watched.socket.sendto(message, (str(to), 0, 0, watched.index))
        except OSError as err:  # while it is down, or its link-local address tentative
            if err.errno not in (errno.ENETDOWN, errno.ENETUNREACH, errno.EADDRNOTAVAIL):
                log.debug("router advertisement on %s: %s", name, err)

    def _known(self, *, lasting: bool) -> list[tuple[str, IPv6Address]]:
        """Routers that the kernel knows as neighbours: interface and link-local address.

        `lasting`: also those that it has not spoken with of late.
        """
        states = _REACHABLE | _DELAY | _PROBE | (_STALE if lasting else 0)
        names = {watched.index: name for name, watched in self._links.items()}
        found = []
        try:
            with Netlink() as netlink:
                header = _NDMSG.pack(socket.AF_INET6, 0, 0, 0, 0, 0, 0)
                entries = netlink.dump(Request(RTM_GETNEIGH, 0, header))
        except KernelError as err:
            log.debug("neighbour table: %s", err)
            return []
        for _kind, body in entries:
            _family, _, _, index, state, flags, _type = _NDMSG.unpack_from(body)
            if index not in names or not state & states or not flags & _NTF_ROUTER:
                continue
            for attr, value in attributes(memoryview(body)[_NDMSG.size :]):
                if attr == _NDA_DST and len(value) == 16:
                    address = IPv6Address(bytes(value))
                    if address.is_link_local:
                        found.append((names[index], address))
        return found


def _listening(name: str, index: int) -> socket.socket:
    """A raw ICMPv6 socket for solicitations and advertisements of one link."""
    made = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMPV6)
    try:
        passed = [ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT]
        blocked = [0xFFFFFFFF] * 8
        for kind in passed:
            blocked[kind >> 5] &= ~(1 << (kind & 31))
        made.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *blocked))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        group = struct.pack("=16sI", _ALL_ROUTERS.packed, index)
        with contextlib.suppress(OSError):  # a link that is down has no groups; all nodes are heard anyway
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def _link_layer(name: str) -> bytes:
    try:
        return bytes.fromhex(Path(f"/sys/class/net/{name}/address").read_text().strip().replace(":", ""))
    except (OSError, ValueError):
        return b""
