"""Those that are talked to: l3net's node with all its processes, FRR, BIRD, GoBGP and OpenBGPD.

Each has one passive peer for every row and IP version, but where a row asks for something else, and carries
both families on each session.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from far_sides import AnyFarSide, Bird, FarSession, Frr, Gobgp, OpenBgpd, Originated
from node_rig import NODE, brought_up, peer
from stage import BLOCKS, Stage, configuration

from l3net.lab.host import Host

PORT = 179
AS_NUMBER = 65001
DUT_ADDRESS = {4: "10.91.0.1", 6: "fd91::1"}
#: Seconds; short, so that a row which lets it pass is quick.
HOLD_TIME = 9
#: What those that originate nothing by themselves announce.
OWN = {4: "192.168.7.0/24", 6: "fd77::/64"}

Rib = Mapping[str, str]


def addresses(number: int) -> dict[int, str]:
    """The speaker's addresses in a row: numbers begin at 1."""
    return {4: f"10.91.{1 + (number >> 8)}.{number & 255}", 6: f"fd91::{number:x}:1"}


@dataclass(frozen=True, slots=True)
class Peering:
    """How the other side has the speaker as its peer."""

    ibgp: bool = False
    dials: bool = False  # the other side
    families: tuple[int, ...] = (4, 6)
    spec: tuple[tuple[str, Any], ...] = ()  # l3net: fields of the BGPPeer


@dataclass(frozen=True, slots=True)
class Wanted:
    """A peer of the device under test."""

    number: int
    version: int
    peering: Peering

    @property
    def address(self) -> str:
        return addresses(self.number)[self.version]

    @property
    def as_number(self) -> int:
        return AS_NUMBER if self.peering.ibgp else 65002


class Dut(Protocol):
    """The device under test."""

    kind: str
    as_number: int
    addresses: Mapping[int, str]
    own: Mapping[int, str]

    def start(self, peers: Sequence[Wanted]) -> None: ...

    def rib(self) -> Rib:
        """The prefixes it uses, both families, and the AS path it has of each."""

    def alive(self) -> bool:
        """Whether all its processes are those that it had at the start."""

    def unsent(self, address: str) -> int:
        """Octets that wait in the kernel for a peer which does not read them."""

    def end_session(self, address: str) -> None:
        """By configuration or command, as an operator would."""

    def restart(self) -> None:
        """Kill what speaks BGP and start it again, so that it knows that it restarts."""

    def version(self) -> str: ...


class Ribs:
    """Looks at the RIB again and again, for all rows at once."""

    def __init__(self, dut: Dut) -> None:
        self._dut = dut
        self._rib: Rib = {}
        self._looks = 0
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            rib = await asyncio.to_thread(self._dut.rib)
            async with self._changed:
                self._rib, self._looks = rib, self._looks + 1
                self._changed.notify_all()
            await asyncio.sleep(max(0.05, 0.15 - (time.monotonic() - began)))

    async def until(self, condition: Callable[[Rib], bool], seconds: float) -> bool:
        """Wait until a look that has begun after this call shows it; whether one did in time."""
        first = self._looks + 2  # the one that is under way may have begun before
        deadline = time.monotonic() + seconds
        while True:
            async with self._changed:
                if self._looks >= first and condition(self._rib):
                    return True
                left = deadline - time.monotonic()
                if left <= 0 and self._looks >= first:
                    return False
                await self._changed.wait()

    async def path(self, prefix: str) -> str:
        """The AS path of a route as it is had now."""
        found: list[str] = []

        def look(rib: Rib) -> bool:
            found[:] = [rib.get(prefix, "")]
            return True

        await self.until(look, 0)
        return found[0]


class Place(Stage):
    """`node` is the device under test; `tor`, the speaker, has every address that rows speak from."""

    def up(self) -> None:
        super().up()
        for version, address in DUT_ADDRESS.items():
            self.node.run(["ip", "address", "add", f"{address}/{16 if version == 4 else 64}", "dev", "up0",
                           *(["nodad"] if version == 6 else [])])  # fmt: skip

    def number(self, peers: Sequence[Wanted]) -> None:
        lines = []
        for each in peers:
            for version, address in addresses(each.number).items():
                length, flag = (16, "") if version == 4 else (64, " nodad")
                lines.append(f"address replace {address}/{length} dev down0{flag}")
        self.tor.run(["ip", "-batch", "-"], text="\n".join(lines) + "\n")


def send_queue(host: Host, address: str) -> int:
    told = host.run(["ss", "-Htn", "dst", f"[{address}]" if ":" in address else address]).stdout
    return sum(int(line.split()[2]) for line in told.splitlines())


class L3net:
    kind = "l3net"
    as_number = AS_NUMBER
    addresses = DUT_ADDRESS
    own = BLOCKS

    def __init__(self, place: Place) -> None:
        self.place = place
        self._peers: dict[str, dict[str, Any]] = {}
        self._writing = threading.Lock()

    def start(self, peers: Sequence[Wanted]) -> None:
        for each in peers:
            families = [f"IPv{version}" for version in each.peering.families]
            spec = {"localAddress": DUT_ADDRESS[each.version], "families": families}
            spec |= {"passive": not each.peering.dials, "asNumber": each.as_number}
            spec |= dict(each.peering.spec)
            self._peers[each.address] = peer(f"row{each.number}-{each.version}", each.address, **spec)
        self._declare()
        self.place.start_speaker()
        self.place.start_agent()

        def ready() -> bool:
            rows = self.place.asked("status").get("peers", ())
            return {row["address"] for row in rows} == self._peers.keys()

        self.place.until(ready, "the agent to have every peer", seconds=60)
        self.place.until(self.place.exabgp_pid, "ExaBGP")
        self._exabgp = self.place.exabgp_pid()

    def alive(self) -> bool:
        node = self.place.node
        return node.alive("agent") and node.alive("speaker") and self.place.exabgp_pid() == self._exabgp

    def _declare(self) -> None:
        spec = configuration(holdTime=HOLD_TIME, listenPort=PORT)
        self.place.declare("node.yaml", NODE, spec, *self._peers.values())

    def rib(self) -> Rib:
        """What is accepted and in the kernel."""
        routes = self.place.asked("routes").get("routes", ())
        accepted = {
            row["prefix"]: " ".join(map(str, row["asPath"])) for row in routes if row["verdict"] == "accepted"
        }
        kernel = self.place.learned()
        return {prefix: as_path for prefix, as_path in accepted.items() if prefix in kernel}

    def unsent(self, address: str) -> int:
        return send_queue(self.place.node, address)

    def end_session(self, address: str) -> None:
        with self._writing:  # rows talk at the same time
            del self._peers[address]
            self._declare()

    def restart(self) -> None:
        old = self.place.exabgp_pid()
        self.place.node.run(["kill", "-KILL", str(old)])
        self.place.until(lambda: self.place.exabgp_pid() not in (0, old), "a new ExaBGP")

    def version(self) -> str:
        return "this tree, ExaBGP 5.0.15"


class Other:
    """A far side of the other tests, in the node's place."""

    far: type[AnyFarSide]
    as_number = AS_NUMBER
    addresses = DUT_ADDRESS
    own = OWN

    def __init__(self, host: Host) -> None:
        self.side: Any = self.far(host)
        self.kind = self.far.kind

    def start(self, peers: Sequence[Wanted]) -> None:
        self._sessions = sessions = [
            FarSession(
                DUT_ADDRESS[each.version],
                each.address,
                local_as=AS_NUMBER,
                remote_as=each.as_number,
                versions=each.peering.families,
                dials=each.peering.dials,
            )
            for each in peers
        ]
        self.side.start(sessions, self._originated)
        waiting = len([each for each in peers if not each.peering.dials])
        self.side.wait(lambda: self.listening() >= waiting, "all peers to wait for the speaker", 60)

    @property
    def _originated(self) -> list[Originated]:
        return [Originated(prefix) for prefix in OWN.values()]

    def restart(self) -> None:
        self.side.kill()
        self.side.start(self._sessions, self._originated, again=True)

    def listening(self) -> int:
        """How many of its peers wait to be dialled."""
        raise NotImplementedError

    def alive(self) -> bool:
        return all(self.side.host.alive(name) for name in self.side.daemons)

    def unsent(self, address: str) -> int:
        return send_queue(self.side.host, address)

    def end_session(self, address: str) -> None:
        self.side.notify(address)

    def _json(self, argv: list[str]) -> Any:
        try:
            return json.loads(self.side.run(argv, check=False))
        except ValueError:  # an empty table is told in words
            return {}

    def _told(self, argv: list[str], pattern: str) -> str:
        found = re.search(pattern, self.side.run(argv, check=False))
        return found[1] if found else "?"


class FrrDut(Other):
    far = Frr

    def listening(self) -> int:
        shown = self._json(["vtysh", "-c", "show bgp neighbors json"])
        return sum(isinstance(each, dict) and each.get("bgpState") == "Active" for each in shown.values())

    def rib(self) -> Rib:
        found = {}
        for version in (4, 6):
            shown = self._json(["vtysh", "-c", f"show bgp ipv{version} unicast json"])
            for prefix, paths in shown.get("routes", {}).items():
                heard = [path for path in paths if path.get("valid") and path.get("peerId") != "(unspec)"]
                if heard:
                    found[prefix] = heard[0].get("path", "")
        return found

    def version(self) -> str:
        return "FRR " + self._told(["vtysh", "-c", "show version"], r"FRRouting (\S+)")


class BirdDut(Other):
    far = Bird

    def listening(self) -> int:
        return self.side.run(["birdc", "show", "protocols"], check=False).count("Passive")

    def rib(self) -> Rib:
        shown = self.side.run(["birdc", "show", "route", "all", "where", "source = RTS_BGP"], check=False)
        found, prefix = {}, ""
        for line in shown.splitlines():
            if match := re.match(r"(\S+/\d+)\s", line):
                prefix = match[1]
                found[prefix] = ""
            elif prefix and (match := re.match(r"\s+BGP\.as_path: ?(.*)", line)):
                found[prefix] = match[1]
        return found

    def end_session(self, address: str) -> None:
        shown = self.side.run(["birdc", "show", "protocols", "all"], check=False)
        found = re.search(
            rf"^(node\d+) (?:(?!^node).)*Neighbor address: {re.escape(address)}$", shown, re.M | re.S
        )
        assert found, address
        self.side.run(["birdc", "disable", found[1]])

    def version(self) -> str:
        return "BIRD " + self._told(["birdc", "show", "status"], r"BIRD (\S+)")


class GobgpDut(Other):
    far = Gobgp

    def listening(self) -> int:
        return self.side.run(["gobgp", "neighbor"], check=False).count("Active")

    def end_session(self, address: str) -> None:
        self.side.run(["gobgp", "neighbor", address, "reset"])

    def rib(self) -> Rib:
        found = {}
        for version in (4, 6):
            shown = self._json(["gobgp", "global", "rib", "-a", f"ipv{version}", "-j"])
            for prefix, paths in shown.items():
                for path in paths:
                    if path.get("neighbor-ip") not in (None, "<nil>", "invalid IP"):
                        attributes = {each["type"]: each for each in path["attrs"]}
                        segments = attributes.get(2, {}).get("as_paths") or []
                        numbers = [str(number) for segment in segments for number in segment["asns"]]
                        found[prefix] = " ".join(numbers)
        return found

    def version(self) -> str:
        return "GoBGP " + self._told(["gobgp", "--version"], r"(\d[\d.]+)")


class OpenBgpdDut(Other):
    far = OpenBgpd

    def listening(self) -> int:
        return self.side.run(["bgpctl", "show", "summary"], check=False).count("Active")

    def rib(self) -> Rib:
        return {
            path["prefix"]: path["aspath"]
            for path in self._json(["bgpctl", "-j", "show", "rib"]).get("rib", ())
            if path.get("valid") and path["neighbor"].get("description") != "LOCAL"
        }

    def version(self) -> str:
        return "OpenBGPD " + self._told(["sh", "-c", "bgpctl -V 2>&1"], r"(\d[\d.]+)")


OTHERS: dict[str, type[Other]] = {each.far.kind: each for each in (FrrDut, BirdDut, GobgpDut, OpenBgpdDut)}


@contextmanager
def started(kind: str, peers: Sequence[Wanted]) -> Iterator[tuple[Place, Dut]]:
    """A device under test that runs, with the speaker's namespace beside it; both gone afterwards."""
    with brought_up(Place()) as place:
        place.number(peers)
        dut: Dut = L3net(place) if kind == "l3net" else OTHERS[kind](place.node)
        dut.start(peers)
        yield place, dut
