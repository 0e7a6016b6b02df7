"""A speaker without ExaBGP: what the agent sends is carried out on routers that keep RIBs, and their words
come back as our ExaBGP says them. Of its configuration the neighbours and the fingerprint are read."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from l3net.bgp.exabgp.configuration import MARKER, fingerprint
from l3net.model import Address, Prefix

#: Seconds for a session to come up, and for anything to go over a pipe or a socket.
COMES_UP = 0.3
DELAY = 0.001
#: An OPEN, for both sides.
SENT = ("ff" * 16) + "001d0104fc00005a0a00000200"
#: Seconds after which ExaBGP, asked, calls a session up.
SEEN_UP = 1.0
#: Seconds in which ExaBGP that was started anew is told what to say.
TOLD = 2.0


@dataclass
class SimRouter:
    """A peer: what it announces (prefix to next hop and AS_PATH), and what it has heard of the node."""

    address: Address
    as_number: int = 65001
    announces: dict[Prefix, tuple[Address, tuple[int, ...]]] = field(default_factory=dict)
    heard: dict[Prefix, str] = field(default_factory=dict)
    communities: list[list[int]] = field(default_factory=list)  # of all it announces
    families: tuple[int, ...] = (4, 6)
    graceful_restart: int | None = 120
    forwarding: bool = True
    restarting: bool = False
    there: bool = True  # it answers
    up: bool = False  # the session
    ends_of_rib: int = 0  # that it has heard
    said_ends: set[int] = field(default_factory=set)  # the families whose End-of-RIB it has said
    history: list[str] = field(default_factory=list)

    def route(self, prefix: str, hop: str | None = None, *path: int) -> None:
        """Announce from now on; by `say`, or when the session comes up."""
        found = ip_network(prefix)
        self.announces[found] = (
            ip_address(hop) if hop else self.address,
            (self.as_number, *path),
        )

    def attributes(self, prefix: Prefix) -> dict[str, Any]:
        """Of an UPDATE, as ExaBGP tells them."""
        path = self.announces[prefix][1]
        return {
            "origin": "igp",
            "as-path": {"0": {"element": "as-sequence", "value": list(path)}},
            "community": self.communities,
        }

    # --- what it hears -----------------------------------------------------------------------------------

    def opened(self) -> None:
        """The session is up; nothing was said yet."""
        self.heard.clear()

    def closed(self, reason: str) -> None:
        """The session is down: "" where the speaker died without a word."""

    def took(self, prefix: Prefix, line: str | None) -> None:
        """The node announces a prefix by this command, or withdraws it."""
        if line is None:
            self.heard.pop(prefix, None)
        else:
            self.heard[prefix] = line

    def ended(self, version: int) -> None:
        """An End-of-RIB marker."""
        self.ends_of_rib += 1


class SimLink:
    """ports.Stream: the agent's end."""

    def __init__(self, speaker: SimSpeaker, callbacks: tuple[Callable[..., None], ...]) -> None:
        self._speaker = speaker
        self.connected, self.received, self.lost = callbacks
        self.up = False
        self.closed = asyncio.Event()
        self.pipe = bytearray()

    def send(self, data: bytes) -> None:
        for line in data.decode().splitlines():
            self.send_line(line)

    def send_line(self, line: str) -> None:
        if self.up:
            self._speaker.heard(line)

    async def run(self) -> None:
        try:
            while True:
                while not self._speaker.answers():  # noqa: ASYNC110 - as long as a test says
                    await asyncio.sleep(0.05)
                self.up, self.closed = True, asyncio.Event()
                self.connected()
                await self.closed.wait()
                self.up = False
                self.lost()
        finally:
            self.up = False


class SimSpeaker:
    """ExaBGP, its relay, and the configuration on disk (ports.SpeakerFiles). It outlives agents."""

    relay = ("python3", "relay.py")

    def __init__(self, *routers: SimRouter) -> None:
        self.routers = {router.address: router for router in routers}
        self.running = True
        self.link: SimLink | None = None
        self.text: str | None = None
        self.unconfirmed = False
        self.loaded = ""
        self.neighbours: dict[Address, str] = {}
        self.refuses: Callable[[str], bool] = lambda _block: False  # a block of the configuration
        self.deaf = False  # answers nothing
        self.older = False  # keeps no OPENs
        self.counts: dict[str, dict[str, int]] | None = None  # messages by side and type; None: untold
        self.puts_off = False  # what is to be loaded, and says that it is done, as with routes queued
        self.commands: list[str] = []
        self.said: dict[Address, dict[Prefix, str]] = {}
        self.started = 0
        self.writing_fails = ""
        self.refuses_routes = False  # to announce any
        self.late = 0.0  # seconds in which its relay is not there yet when it has begun
        self.begun = 0.0

    def counted(self) -> dict[str, Any]:
        return {} if self.counts is None else {"messages": self.counts}

    # --- ports.SpeakerFiles ------------------------------------------------------------------------------

    def alive(self) -> bool:
        return True

    def confirm(self) -> None:
        self.unconfirmed = False

    def current(self) -> str | None:
        return self.text

    async def refused(self, _head: str, blocks: list[str]) -> frozenset[str]:
        return frozenset(filter(self.refuses, blocks))

    async def replace(self, text: str) -> None:
        if self.writing_fails:
            from l3net.shell.speaker.config import SpeakerError

            raise SpeakerError(self.writing_fails)
        self.text, self.unconfirmed = text, True
        if not self.loaded:
            self._load()

    # --- the process -------------------------------------------------------------------------------------

    def connect(self, *callbacks: Callable[..., None]) -> SimLink:
        """ports.Connect."""
        self.link = SimLink(self, callbacks)
        return self.link

    def answers(self) -> bool:
        """Whether its relay can be connected to."""
        return self.running and asyncio.get_running_loop().time() >= self.begun + self.late

    @property
    def begins(self) -> bool:
        """Whether nobody has had the time to tell it all since it was started anew."""
        return asyncio.get_running_loop().time() < self.begun + self.late + TOLD

    def kill(self) -> None:
        """ExaBGP dies; its supervisor starts it again with the file on disk. Routers see a restart."""
        for router in self.routers.values():
            if router.up:
                router.up = False
                router.closed("")
        self.running, self.said = False, {}
        self.started += 1
        if self.link is not None:
            self.link.closed.set()
        asyncio.get_running_loop().call_later(0.5, self._start)

    def _start(self) -> None:
        self.running, self.loaded, self.neighbours = True, "", {}
        self.begun = asyncio.get_running_loop().time()
        self._load()

    def _load(self) -> None:
        found = dict(re.findall(r"^neighbor (\S+) {\n(.*?)^}\n", self.text or "", re.MULTILINE | re.DOTALL))
        found.pop(str(MARKER), None)
        wanted = {ip_address(address): body for address, body in found.items()}
        for address, body in list(self.neighbours.items()):
            if wanted.get(address) != body:
                self._close(address, "removed" if address not in wanted else "changed")
        self.neighbours = wanted
        self.loaded = fingerprint(self.text or "")
        for address in wanted:
            self.dial(address)

    def dial(self, address: Address) -> None:
        """Try to have the session up."""
        asyncio.get_running_loop().call_later(COMES_UP, self._up, address)

    def _up(self, address: Address) -> None:
        router = self.routers.get(address)
        if (
            router is None
            or not router.there
            or router.up
            or address not in self.neighbours
            or not self.running
        ):
            return
        router.up = True
        router.opened()
        router.history.append("up")
        self.tell(address, "open", open=self._open(router))
        self.tell(address, "state", state="connected")
        self.tell(address, "state", state="up")
        for prefix, line in self.said.get(address, {}).items():
            router.took(prefix, line)
        self.say(router, *router.announces)
        self.end_of_rib(router)

    def _close(self, address: Address, reason: str) -> None:
        router = self.routers.get(address)
        if router is not None and router.up:
            router.up = False
            router.history.append(f"closed: {reason}")
            router.closed(reason)
            self.tell(address, "state", state="down", reason=reason)

    def drop(self, router: SimRouter, reason: str = "closed", *, back: bool = True) -> None:
        """The router's side goes; with `back` it answers again at once."""
        router.there = back
        self._close(router.address, reason)
        if back:
            self.dial(router.address)

    def notify(self, router: SimRouter, code: int, subcode: int, *, received: bool) -> None:
        """A NOTIFICATION, which ends the session."""
        found = {"code": code, "subcode": subcode, "data": "0x", "message": ""}
        direction = "receive" if received else "send"
        self.tell(router.address, "notification", direction=direction, notification=found)
        self.drop(
            router, f"notification {'received' if received else 'sent'} ({code},{subcode})", back=router.there
        )

    # --- what routers say --------------------------------------------------------------------------------

    def say(self, router: SimRouter, *prefixes: Prefix) -> None:
        """UPDATEs of these, announced or withdrawn as they are now."""
        for prefix in prefixes:
            family = f"ipv{prefix.version} unicast"
            if prefix in router.announces:
                hop = router.announces[prefix][0]
                update: dict[str, Any] = {
                    "attribute": router.attributes(prefix),
                    "announce": {family: {str(hop): [{"nlri": str(prefix)}]}},
                }
            else:
                update = {"withdraw": {family: [{"nlri": str(prefix)}]}}
            self.tell(router.address, "update", message={"update": update})

    def withdraw(self, router: SimRouter, prefix: str) -> None:
        found = ip_network(prefix)
        del router.announces[found]
        self.say(router, found)

    def end_of_rib(self, router: SimRouter) -> None:
        router.said_ends = set(router.families)
        for version in router.families:
            self.tell(router.address, "update", message={"eor": {"afi": f"ipv{version}", "safi": "unicast"}})

    def _open(self, router: SimRouter) -> dict[str, Any]:
        families = [f"ipv{version}/unicast" for version in router.families]
        capabilities: dict[str, Any] = {
            "1": {"name": "multiprotocol", "families": families},
            "2": {"name": "route-refresh", "variant": "RFC"},
            "65": {"name": "asn4", "asn4": router.as_number},
        }
        if router.graceful_restart is not None:
            capabilities["64"] = {
                "name": "graceful restart",
                "time": router.graceful_restart,
                "address-family-flags": {
                    family: ["restart"] if router.forwarding else [] for family in families
                },
                "restart-flags": ["forwarding"] if router.restarting else [],
            }
        return {
            "version": 4,
            "asn": 23456,
            "hold_time": 90,
            "router_id": "10.0.0.1",
            "capabilities": capabilities,
        }

    # --- the pipe ----------------------------------------------------------------------------------------

    def tell(self, peer: Address, kind: str, direction: str = "receive", **neighbor: object) -> None:
        """An event of ExaBGP's."""
        address = {"local": "10.0.0.2", "peer": str(peer)}
        asn = {"local": 64512, "peer": self.routers[peer].as_number}
        self._out(
            {"type": kind, "neighbor": {"address": address, "asn": asn, "direction": direction, **neighbor}}
        )

    def _out(self, *values: object) -> None:
        lines = b"".join(
            (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in values
        )
        link = self.link
        if link is not None and link.up:  # in order: timers of one instant are not
            if not link.pipe:
                asyncio.get_running_loop().call_later(DELAY, self._deliver, link)
            link.pipe += lines

    @staticmethod
    def _deliver(link: SimLink) -> None:
        lines, link.pipe = bytes(link.pipe), bytearray()
        if link.up:
            link.received(lines)

    def heard(self, line: str) -> None:
        """A command of the agent's."""
        self.commands.append(line)
        if self.deaf:
            return
        words = line.split()
        match words:
            case ["!restart"]:
                self.kill()
            case ["show", "neighbor", "json"]:
                self._out(self._neighbours(), b"done")
            case ["show", "adj-rib", "out", "json"]:
                rows = [
                    {"peer": {"address": str(address)}, "route": {"nlri": {"prefix": str(prefix)}}}
                    for address, said in self.said.items()
                    for prefix in said
                ]
                self._out(*rows, b"done")
            case ["reload"]:
                if not self.puts_off:
                    asyncio.get_running_loop().call_later(0.05, self._load)
                self._out(b"done")
            case ["l3net", "peers"]:
                rows = [
                    {"peer": str(each), "queued": 0, "unsent-seconds": 0.0} | self.counted()
                    for each in self.neighbours
                ]
                self._out({"l3net-peers": rows}, b"done")
            case ["l3net", "opens"]:
                if self.older:
                    self._out(b"error")
                    return
                opens = [
                    {
                        "peer": str(each),
                        "sent": SENT,
                        "received": SENT,
                        "local": ["10.0.0.2", 40000],
                        "remote-port": 179,
                    }
                    for each, router in self.routers.items()
                    if router.up
                ]
                self._out({"l3net-opens": opens}, b"done")
            case ["l3net", "received", token, "neighbor", peer]:
                self._replay(ip_address(peer), token)
            case ["neighbor", peer, "teardown", subcode]:
                self._out(b"done")
                router = self.routers[ip_address(peer)]
                self.drop(router, f"teardown {subcode}", back=router.there)
            case ["neighbor", peer, "announce", "eor", family, _]:
                self.routers[ip_address(peer)].ended(int(family.removeprefix("ipv")))
                self._out(b"done")
            case ["neighbor", _, "announce", "attributes", *_] if self.refuses_routes:
                self._out(b"error")
            case ["neighbor", peer, verb, "attributes", *rest] if verb in ("announce", "withdraw"):
                self._routes(ip_address(peer), verb, line, rest)
                self._out(b"done")
            case _:
                self._out(b"error")

    def _routes(self, peer: Address, verb: str, line: str, rest: list[str]) -> None:
        router, said = self.routers[peer], self.said.setdefault(peer, {})
        for word in rest[rest.index("nlri") + 1 :]:
            prefix = ip_network(word)
            if verb == "announce":
                said[prefix] = line
                if router.up:
                    router.took(prefix, line)
            else:
                said.pop(prefix, None)
                router.took(prefix, None)

    def _neighbours(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for address in self.neighbours:
            router = self.routers.get(address)
            up = router is not None and router.up and self.lasted(router) >= SEEN_UP
            rows.append(
                {
                    "peer": {"address": str(address), "hold": 90, "id": "10.0.0.1", "capabilities": {}},
                    "local": {"id": "10.0.0.2"},
                    "state": "up" if up else "down",
                }
            )
        rows.append({"peer": {"address": str(MARKER)}, "local": {"id": self.loaded}, "state": "down"})
        return rows

    @staticmethod
    def lasted(_router: SimRouter) -> float:
        """How long a session that is up has been, in seconds."""
        return 500.0

    def _replay(self, peer: Address, token: str) -> None:
        router = self.routers[peer]
        if not router.up:
            self._out(b"error")
            return
        began = {
            "token": token,
            "state": "begin",
            "open": self._open(router),
            "up-seconds": self.lasted(router),
            "eor": [f"ipv{version} unicast" for version in sorted(router.said_ends)],
        }
        self.tell(peer, "replay", replay=began)
        self.say(router, *router.announces)
        self.tell(peer, "replay", replay={"token": token, "state": "end"})
        self._out(b"done")
