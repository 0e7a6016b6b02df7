"""A real reflector with so many real clients: the agent and ExaBGP, and a BIRD for each other node.

Each BIRD is a Node of the declared state with two blocks of each family, over a session of each. What is
measured is the CPU of ExaBGP and its relay, and of the agent, from /proc, which others on the machine change
little, and the seconds until every client has every block.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from speakers.contestants import Ours
from speakers.place import FAR, FAR_AS, NEAR, NEAR_AS, Place, until

SIZES: Final = (10, 25, 50)
BLOCKS: Final = 2  # a node and family
HERTZ: Final = os.sysconf("SC_CLK_TCK")
AS_NUMBER: Final = 64512
QUIET: Final = 20.0
WORDS: Final = {"agent": "agent", "exabgp": "l3net.shell.speaker.exabgp", "relay": "relay.py"}


@dataclass
class Row:
    """CPU in seconds, memory in MiB by process, of a reflector with `clients` over two sessions each."""

    clients: int
    up_seconds: float = 0
    up_cpu: dict[str, float] = field(default_factory=dict)
    rss: dict[str, float] = field(default_factory=dict)
    quiet_cpu: dict[str, float] = field(default_factory=dict)  # a second
    told_seconds: float = 0
    told_cpu: dict[str, float] = field(default_factory=dict)
    received: int = 0  # prefixes
    sent: int = 0


def addresses(number: int) -> tuple[str, str]:
    return f"10.90.{1 + number // 250}.{number % 250 + 1}", f"fd90::1:{number + 1:x}"


def blocks(number: int) -> list[str]:
    return [
        *(f"10.{100 + each}.{number}.0/24" for each in range(BLOCKS)),
        *(f"fd00:{each + 1}:{number:x}::/64" for each in range(BLOCKS)),
    ]


def _node(name: str, four: str, six: str, own: list[str]) -> dict[str, Any]:
    first = [next(each for each in own if (":" in each) is six_) for six_ in (False, True)]
    rest = [each for each in own if each not in first]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {"l3net.io/blocks": ",".join(rest)}},
        "spec": {"podCIDRs": first},
        "status": {"addresses": [{"type": "InternalIP", "address": each} for each in (four, six)]},
    }


class Fleet:
    """The reflector at `near`, and BIRDs at `far`."""

    def __init__(self, place: Place, clients: int) -> None:
        self.place, self.clients = place, clients
        self._sockets: list[socket.socket] = []

    def start(self) -> None:
        place = self.place
        place._ip(place.near, "addr add fd90::1/64 dev up0 nodad")
        place._ip(place.near, "link set lo up")
        batch = place.far.directory / "batch"
        batch.write_text(
            "".join(
                f"addr add {four}/16 dev down0\naddr add {six}/64 dev down0 nodad\n"
                for four, six in map(addresses, range(self.clients))
            )
        )
        subprocess.run(
            ["nsenter", f"--net=/proc/{place.far.pid}/ns/net", "--", "ip", "-batch", str(batch)], check=True
        )
        for number in range(self.clients):
            self._bird(number)
        manifests = place.near.directory / "manifests"
        manifests.mkdir()
        configuration = {
            "asNumber": AS_NUMBER,
            "topology": "RouteReflectors",
            "routeReflector": {"nodeSelector": {"matchLabels": {"reflects": "yes"}}},
        }
        own = _node("near", NEAR, "fd90::1", ["10.200.0.0/24", "fd00:200::/64"])
        own["metadata"]["labels"] = {"reflects": "yes"}
        documents = [
            {
                "apiVersion": "l3net.io/v1alpha1",
                "kind": "BGPConfiguration",
                "metadata": {"name": "default"},
                "spec": configuration,
            },
            own,
            *(_node(f"n{each}", *addresses(each), blocks(each)) for each in range(self.clients)),
        ]
        for number, document in enumerate(documents):
            (manifests / f"{number}.json").write_text(json.dumps(document))
        command = [sys.executable, "-m", "l3net.cli.main"]
        place.near.spawn("speaker", [*command, "speaker"])
        datastore = ["--datastore", f"dir:{manifests}", "--node-name", "near", "--log-level", "warning"]
        place.near.spawn("agent", [*command, "agent", *datastore])

    def _bird(self, number: int) -> None:
        four, six = addresses(number)
        statics, sessions = "", ""
        for version, here, reflector in ((4, four, NEAR), (6, six, "fd90::1")):
            routes = "\n".join(
                f"  route {each} unreachable;" for each in blocks(number) if (":" in each) == (version == 6)
            )
            statics += f"protocol static own{version} {{ disabled; ipv{version};\n{routes}\n}}\n"
            sessions += (
                f"protocol bgp r{version} {{ local {here} as {AS_NUMBER};\n"
                f"  neighbor {reflector} as {AS_NUMBER};\n"
                "  strict bind yes; direct; connect delay time 1; connect retry time 2;\n"
                # All clients are one host: what leads to another of them is its own address.
                f"  ipv{version} {{ import all; gateway recursive;\n"
                "    export where source = RTS_STATIC; next hop self; };\n}\n"
            )
        directory = self.place.far.directory
        config, control = directory / f"bird{number}.conf", directory / f"bird{number}.ctl"
        config.write_text(f"log stderr all;\nrouter id {four};\nprotocol device {{ }}\n{statics}{sessions}")
        argv = ["bird", "-f", "-c", str(config), "-s", str(control)]
        argv += ["-P", str(directory / f"bird{number}.pid")]
        self.place.far.spawn(f"bird{number}", argv)
        path = Path(f"/proc/{self.place.far.pid}/root{control}")
        until(path.exists, "bird")
        made = socket.socket(socket.AF_UNIX)
        until(lambda: made.connect_ex(str(path)) == 0, "bird's socket")
        self._sockets.append(made)
        self.answer(made)

    def say(self, number: int, command: str) -> str:
        self._sockets[number].sendall(command.encode() + b"\n")
        return self.answer(self._sockets[number])

    @staticmethod
    def answer(made: socket.socket) -> str:
        """A line of four digits and a space ends it."""
        text = b""
        while not (text.endswith(b"\n") and text.splitlines()[-1][4:5] == b" "):
            text += made.recv(65536)
        return text.decode()

    def up(self) -> bool:
        return all(self.say(each, "show protocols").count("Established") == 2 for each in range(self.clients))

    def has_all(self) -> bool:
        """Every client every block of all others, and its own."""
        wanted = self.clients * BLOCKS
        for number in range(self.clients):
            text = self.say(number, "show route count")
            for table in ("master4", "master6"):
                line = next((each for each in text.splitlines() if table in each), "")
                digits = [int(word) for word in line.replace("-", " ").split() if word.isdigit()]
                if not digits or max(each for each in digits if each != 1007) < wanted:
                    return False
        return True

    def cpu(self) -> dict[str, float]:
        return cpu_of(self.place)


def cpu_of(place: Place) -> dict[str, float]:
    """Seconds of processor that agent, ExaBGP and relay at `near` have had."""
    found: dict[str, float] = {}
    for name, text in place.processes(WORDS, "stat"):
        fields = text.rpartition(")")[2].split()
        found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / HERTZ
    return found


def _spent(fleet: Fleet, before: dict[str, float]) -> dict[str, float]:
    return {name: round(cpu - before.get(name, 0.0), 3) for name, cpu in fleet.cpu().items()}


def _timed(what: str, condition: Callable[[], object], began: float) -> float:
    return until(condition, what, 120, every=0.05) - began


def one(clients: int) -> Row:
    row = Row(clients)
    with Place() as place:
        fleet = Fleet(place, clients)
        began = time.monotonic()
        fleet.start()
        row.up_seconds = round(_timed(f"{clients} clients", fleet.up, began), 2)
        time.sleep(5)
        row.up_cpu = _spent(fleet, {})
        row.rss = place.rss(**WORDS)
        before = fleet.cpu()
        time.sleep(QUIET)
        row.quiet_cpu = {name: round(each / QUIET, 4) for name, each in _spent(fleet, before).items()}
        before, began = fleet.cpu(), time.monotonic()
        for number in range(clients):
            for version in (4, 6):
                fleet.say(number, f"enable own{version}")
        row.told_seconds = round(_timed("all blocks everywhere", fleet.has_all, began), 2)
        row.told_cpu = _spent(fleet, before)
        row.received = clients * BLOCKS * 2
        row.sent = clients * (clients - 1) * BLOCKS * 2
        for name in ("agent", "speaker"):
            place.near.kill(name)
    return row


def taken(nodes: int) -> dict[str, float]:
    """CPU for the blocks of so many nodes that one peer tells, each node's in an UPDATE of its own, as
    reflectors and routers do: seconds for a path, by process, routes in the kernel and all."""
    with Place() as place:
        ours = Ours(place)
        routes = "\n".join(
            f"  route 100.{64 + number // 256}.{number % 256}.{32 * each}/28 unreachable"
            f" {{ bgp_med = {number + 1}; }};"
            for number in range(nodes)
            for each in range(BLOCKS)
        )
        config, control = place.far.directory / "bird.conf", place.far.directory / "bird.ctl"
        config.write_text(
            f"log stderr all;\nrouter id {FAR};\nprotocol device {{ }}\n"
            f"protocol static own {{ disabled; ipv4;\n{routes}\n}}\n"
            f"protocol bgp near {{ local {FAR} as {FAR_AS}; neighbor {NEAR} as {NEAR_AS}; direct;\n"
            "  connect delay time 1; connect retry time 2;\n"
            "  ipv4 { import all; export where source = RTS_STATIC; next hop self; };\n}\n"
        )
        place.far.spawn("bird", ["bird", "-f", "-c", str(config), "-s", str(control)])
        ours.start(serving=False)
        made = socket.socket(socket.AF_UNIX)
        path = f"/proc/{place.far.pid}/root{control}"
        until(lambda: made.connect_ex(path) == 0, "bird's socket")
        Fleet.answer(made)

        def say(command: str) -> str:
            made.sendall(command.encode() + b"\n")
            return Fleet.answer(made)

        until(lambda: "Established" in say("show protocols"), "the session")
        time.sleep(5)
        there, before, began = place.kernel_routes(), cpu_of(place), time.monotonic()
        say("enable own")
        seconds = _timed("routes", lambda: place.kernel_routes() >= there + nodes * BLOCKS, began)
        time.sleep(1)
        after = cpu_of(place)
        ours.stop()
    paths = nodes * BLOCKS
    found = {f"{name}, us a path": round((after[name] - before[name]) / paths * 1e6, 1) for name in before}
    return found | {"paths": paths, "seconds": round(seconds, 2)}


def measure() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for clients in SIZES:
        row = one(clients)
        rows.append(asdict(row))
        print(json.dumps(rows[-1]), flush=True)
    for nodes in (500, 2000):
        rows.append(taken(nodes))
        print(json.dumps(rows[-1]), flush=True)
    return rows
