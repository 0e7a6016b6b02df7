"""New connections a second and packets a second to a pod: directly, by a ClusterIP, by a NodePort."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cni import sh
from policies.packets import Starting, Two, connect, cpu_of

from balancers import kubeproxy
from balancers.declared import ECHO, IPERF, SERVICE, cluster_ip, node_port, plan, pod
from l3net.firewall.ruleset import ruleset
from l3net.model import Address

NOTHING = "no table"
NODE = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8:c::1")}
CLIENT = {4: ip_address("192.0.2.2"), 6: ip_address("2001:db8:c::2")}
LENGTHS = {4: 24, 6: 64}
#: Of the callers of `policies.packets.Two`: a pod of the node, and a host beside it.
POD, OUTSIDE = 1, 2
#: Endpoints of each service that is not called.
ENDPOINTS = 2
#: A packet of iperf3, without headers, in octets.
SIZE = 100
TRIES = 3


@dataclass
class Row:
    """Of one way under one table, a value a round: connections a second and for a second of CPU, packets a
    second and for a second of CPU, microseconds of a connection."""

    table: str
    way: str
    rate: list[float] = field(default_factory=list)
    rate_of_cpu: list[float] = field(default_factory=list)
    packets: list[float] = field(default_factory=list)
    packets_of_cpu: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    #: Packets from the endpoint, where they are measured.
    answers: list[float] = field(default_factory=list)
    answers_of_cpu: list[float] = field(default_factory=list)


class Place(Two):
    """A node with two pods, and a host beside it."""

    def __init__(self, undo: ExitStack, version: int) -> None:
        super().__init__(undo)
        outside = f"{self.host}c"
        sh("ip", "netns", "add", outside)
        undo.callback(sh, "ip", "netns", "del", outside)
        self.pods.append(outside)
        length = LENGTHS[version]
        nodad = " nodad" if version == 6 else ""
        self._ip(
            self.host,
            [
                f"link add uplink type veth peer name eth0 netns {outside}",
                f"addr add {NODE[version]}/{length} dev uplink{nodad}",
                "link set uplink up",
            ],
        )
        self._ip(
            outside,
            [
                "link set lo up",
                f"addr add {CLIENT[version]}/{length} dev eth0{nodad}",
                "link set eth0 up",
                f"route add default via {NODE[version]}",
            ],
        )
        with self.inside(outside):
            Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("10000 65000")

    def settled(self, address: str) -> None:
        """Wait until everybody reaches an address."""
        for caller in (POD, OUTSIDE):
            for _ in range(30):
                if pings(self, caller, address):
                    break
            else:
                raise SystemExit(f"{address} is not reached")

    def run(self, *argv: str, text: str = "") -> None:
        command = ["ip", "netns", "exec", self.host, *argv]
        subprocess.run(command, input=text.encode(), check=True, stdout=subprocess.DEVNULL)


def pings(place: Two, caller: int, address: str) -> bool:
    return place.start(caller, "ping", "-c", "1", "-W", "1", address).wait() == 0


def tables(
    version: int, counts: Iterable[int], iptables_most: int
) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """What is measured: its name, the command that reads it, its text. The first line removes all others."""
    yield NOTHING, (), ""
    node = NODE[version]
    for count in counts:
        yield f"l3net, {count}", ("nft", "-f", "-"), ruleset(plan(version, count, ENDPOINTS, node))
        text = kubeproxy.nftables(version, count, ENDPOINTS, node)
        yield f"{kubeproxy.NFT}, {count}", ("nft", "-f", "-"), text
        if count <= iptables_most:
            command = "iptables-restore" if version == 4 else "ip6tables-restore"
            text = kubeproxy.iptables(version, count, ENDPOINTS, node)
            yield f"{kubeproxy.IPTABLES}, {count}", (command,), text


def ways(version: int, table: str) -> Iterator[tuple[str, int, Address, dict[int, int]]]:
    """Name, caller, the address, and where the two ports of the server are found there."""
    plain = {ECHO: ECHO, IPERF: IPERF}
    if table == NOTHING:
        yield "pod to pod", POD, pod(version), plain
        yield "outside to pod", OUTSIDE, pod(version), plain
        return
    yield "pod to ClusterIP", POD, cluster_ip(version), plain
    yield "outside to ClusterIP", OUTSIDE, cluster_ip(version), plain
    ports = {port: node_port(SERVICE, port) for port in plain}
    yield "outside to NodePort", OUTSIDE, NODE[version], ports


def measure(
    version: int, rounds: int, seconds: int, counts: Iterable[int], iptables_most: int, program: Path
) -> list[Row]:
    with ExitStack() as undo:
        place = Place(undo, version)
        kinds = list(tables(version, counts, iptables_most))
        rows = {(name, way): Row(name, way) for name, *_ in kinds for way, *_ in ways(version, name)}
        servers = []
        own = str(pod(version))
        for argv in (("iperf3", "-s", "-p", str(IPERF)), (str(program), "serve", own, str(ECHO))):
            server = place.start(0, *argv)
            servers.append(server.pid)
            undo.callback(server.wait)
            undo.callback(server.kill)
        place.settled(own)
        for turn in range(rounds):
            for name, command, text in kinds if turn % 2 == 0 else kinds[::-1]:
                place.nft(kubeproxy.removal(version))
                if command:
                    place.run(*command, text=text)
                for way, caller, address, ports in ways(version, name):
                    once(place, rows[name, way], caller, address, ports, seconds, program, servers)
        return list(rows.values())


def once(
    place: Starting,
    row: Row,
    caller: int,
    address: Address,
    ports: dict[int, int],
    seconds: int,
    program: Path,
    servers: Sequence[int],
    *,
    answers: bool = False,
) -> None:
    argv = ["iperf3", "-c", str(address), "-p", str(ports[IPERF]), "-u", "-b", "0", "-l", str(SIZE)]
    argv += ["-t", str(seconds), "-J"]
    directions = [(argv, row.packets, row.packets_of_cpu)]
    if answers:
        directions.append(([*argv, "-R"], row.answers, row.answers_of_cpu))
    for asked, rates, of_cpu in directions:
        told, spent = _iperf(place, caller, asked, seconds + 15, servers[0])
        if "sum" not in told["end"]:
            raise SystemExit(f"{row.table}, {row.way}: {told.get('error')}")
        end = told["end"]["sum"]
        arrived = end["packets"] - end["lost_packets"]
        rates.append(arrived / seconds)
        of_cpu.append(arrived / spent)
    connect(place, row, caller, (str(address), ports[ECHO]), seconds, program, servers[1])


def _iperf(
    place: Starting, caller: int, argv: Sequence[str], most: int, server: int
) -> tuple[dict[str, Any], float]:
    """What iperf3 tells, and the CPU seconds of both ends. For a first datagram that is lost it waits for
    ever."""
    for _ in range(TRIES):
        before = cpu_of(server)
        started = place.start(caller, *argv)
        try:
            out, _ = started.communicate(timeout=most)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
            continue
        return json.loads(out), cpu_of(server) - before
    raise SystemExit(f"{' '.join(argv)}: no end of it")


def ratio(row: Row, base: Row, of: str) -> float:
    """Of the medians; nan where there is nothing to compare."""
    below = statistics.median(getattr(base, of))
    return statistics.median(getattr(row, of)) / below if below else float("nan")
