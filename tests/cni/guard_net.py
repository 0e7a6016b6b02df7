"""Two pods of a node whose CNI server guards their ports, the uplink beyond it, and ears at each place."""

from __future__ import annotations

import re
import select
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firewall_net import inside

if TYPE_CHECKING:
    from conftest import Host

ETH_P_ALL = 3
#: Whatever is sent holds this and four digits, in its payload or behind its end.
MARK = b"l3mark"
_MARKED = re.compile(MARK + rb"(\d{4})")
PATIENCE = 10.0

GATEWAY = {4: "10.244.0.1", 6: "fd00:10:244:1::1"}
NODE = {4: "192.0.2.1", 6: "2001:db8::1"}
OUTSIDE = {4: "192.0.2.9", 6: "2001:db8::9"}
#: A pod of another node, behind the same uplink.
ELSEWHERE = {4: "10.244.16.5", 6: "fd00:10:244:2::5"}
#: Of the node's block, and nobody's.
NOBODY = {4: "10.244.7.77", 6: "fd00:10:244:1::777"}
GATEWAY_MAC = "02:6c:33:00:00:01"


def packet_socket(namespace: str, link: str) -> socket.socket:
    with inside(namespace):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    made.bind((link, 0))
    return made


@dataclass
class Ears:
    """What of the marked came in where: at the node's bridge, at the other pod, beyond the uplink."""

    places: Mapping[str, socket.socket]
    heard: dict[str, set[int]] = field(default_factory=dict)

    def listen(self, until: Mapping[str, Iterable[int]]) -> dict[str, set[int]]:
        """Until at each place these were heard, or nothing more is to be expected; all that was."""
        waiting = {place: set(marks) for place, marks in until.items()}
        heard: dict[str, set[int]] = {place: set() for place in self.places}
        names = {each: place for place, each in self.places.items()}
        deadline = time.monotonic() + PATIENCE
        while any(waiting.values()) and time.monotonic() < deadline:
            for ready in select.select([*names], [], [], 0.2)[0]:
                self._take(ready, heard[names[ready]])
            waiting = {place: marks - heard[place] for place, marks in waiting.items()}
        for each, place in names.items():  # what came along
            while select.select([each], [], [], 0)[0]:
                self._take(each, heard[place])
        return heard

    @staticmethod
    def _take(ear: socket.socket, into: set[int]) -> None:
        frame, address = ear.recvfrom(1 << 16)
        if address[2] != socket.PACKET_OUTGOING:
            into.update(int(each) for each in _MARKED.findall(frame))


@dataclass
class World:
    """`liar` and `victim` are network namespaces of pods; `own` and `theirs` their addresses by family."""

    host: Host
    liar: str
    victim: str
    own: dict[int, str]
    theirs: dict[int, str]
    mac: str
    their_mac: str
    port: str
    ears: Ears
    mouth: socket.socket

    def say(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            self.mouth.send(frame)

    def nft(self, *words: str) -> str:
        return str(run_in(self.host.name, "nft", *words))


def run_in(namespace: str, *argv: str, check: bool = True) -> str:
    command = ["ip", "netns", "exec", namespace, *argv]
    return subprocess.run(command, capture_output=True, text=True, check=check).stdout


def addresses(result: dict[str, Any]) -> dict[int, str]:
    found = [entry["address"].split("/")[0] for entry in result["ips"]]
    return {6 if ":" in each else 4: each for each in found}


def world(host: Host) -> World:
    """The node serves already."""
    far = host.pod()
    for line in (
        f"-n {host.name} link add up0 type veth peer name eth0 netns {far}",
        f"-n {host.name} addr add {NODE[4]}/24 dev up0",
        f"-n {host.name} addr add {NODE[6]}/64 dev up0 nodad",
        f"-n {host.name} link set up0 up",
        f"-n {far} link set lo up",
        f"-n {far} addr add {OUTSIDE[4]}/24 dev eth0",
        f"-n {far} addr add {OUTSIDE[6]}/64 dev eth0 nodad",
        f"-n {far} addr add {ELSEWHERE[4]}/32 dev lo",
        f"-n {far} addr add {ELSEWHERE[6]}/128 dev lo",
        f"-n {far} link set eth0 up",
        f"-n {far} route add default via {NODE[4]}",
        f"-n {far} -6 route add default via {NODE[6]}",
        f"-n {host.name} route add 10.244.16.0/20 via {OUTSIDE[4]}",
        f"-n {host.name} -6 route add fd00:10:244:2::/112 via {OUTSIDE[6]}",
    ):
        host_ip(line)
    for each in ("all", "l3net0"):
        run_in(host.name, "sysctl", "-qw", f"net.ipv4.conf.{each}.rp_filter=0")
    victim, liar = host.pod(), host.pod()
    theirs = addresses(host.add("victim", victim))
    before = set(host.veths())
    own = addresses(host.add("liar", liar))
    (port,) = set(host.veths()) - before
    ears = {
        "node": packet_socket(host.name, "l3net0"),
        "pod": packet_socket(victim, "eth0"),
        "far": packet_socket(far, "eth0"),
    }
    mouth = packet_socket(liar, "eth0")
    for each in (*ears.values(), mouth):
        host.undo.callback(each.close)
    for address in (*OUTSIDE.values(), *theirs.values()):  # the ways there are known
        run_in(liar, "ping", "-c1", "-W5", address)

    def mac_of(pod: str) -> str:
        return str(host.ip("link", "show", "dev", "eth0", netns=pod)[0]["address"])

    return World(host, liar, victim, own, theirs, mac_of(liar), mac_of(victim), port, Ears(ears), mouth)


def host_ip(line: str) -> None:
    subprocess.run(["ip", *line.split()], check=True)
