"""Packets between two pods of a node: throughput (iperf3) and new connections a second, under each table."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Protocol

from cni import sh
from kube import cpu
from policies import declared, peer
from policies.deciding import Deciding

from l3net.firewall.ruleset import ruleset
from l3net.kube.translate import translate
from l3net.model import Address, ObjectName
from l3net.naming import NFT_TABLE
from l3net.shell.kernel.namespaces import open_own, setns

NO_SECTION = "no policy section"
PODS = 10_000


class Starting(Protocol):
    """Where processes are started, by the number of a host."""

    def start(self, place: int, *argv: str) -> subprocess.Popen[bytes]: ...


class Rates(Protocol):
    """What is noted of new connections, of each round."""

    rate: list[float]
    rate_of_cpu: list[float]
    p50: list[float]
    p99: list[float]


@dataclass
class Row:
    """Gbit/s, connections a second, and the latency of one in microseconds, each of each round; gigabits and
    connections for a second of CPU of both ends, which pay for the way between them: others on the machine
    change little of that."""

    what: str
    throughput: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    throughput_of_cpu: list[float] = field(default_factory=list)
    rate_of_cpu: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)


class Two:
    """A host with two pods behind its bridge, the first of which is called."""

    def __init__(self, undo: ExitStack) -> None:
        self.host = f"l3b{uuid.uuid4().hex[:6]}"
        self.pods = [f"{self.host}p{place}" for place in range(2)]
        for name in (self.host, *self.pods):
            sh("ip", "netns", "add", name)
            undo.callback(sh, "ip", "netns", "del", name)
        self.home = open_own()
        gateways = [str(ip_network(block)[1]) for block in declared.BLOCKS]
        host = ["link set lo up", "link add l3net0 type bridge mcast_snooping 0", "link set l3net0 up"]
        for gateway, block in zip(gateways, declared.BLOCKS, strict=True):
            nodad = " nodad" if ":" in gateway else ""
            host.append(f"addr add {gateway}/{ip_network(block).prefixlen} dev l3net0{nodad}")
        for place, name in enumerate(self.pods):
            host += [
                f"link add port{place} type veth peer name eth0 netns {name}",
                f"link set port{place} master l3net0 up",
                f"link set port{place} type bridge_slave isolated on",
            ]
        self._ip(self.host, host)
        for place, name in enumerate(self.pods):
            lines = ["link set lo up", "link set eth0 up"]
            for gateway, address in zip(gateways, addresses(place), strict=True):
                length = 32 if address.version == 4 else 128
                lines += [
                    f"addr add {address}/{length} dev eth0{' nodad' if length == 128 else ''}",
                    f"route add {gateway} dev eth0",
                    f"route add default via {gateway}",
                ]
            self._ip(name, lines)
            with self.inside(name):
                Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("10000 65000")
        with self.inside(self.host):
            for key, value in {
                "ipv4/ip_forward": "1",
                "ipv6/conf/all/forwarding": "1",
                "ipv4/conf/all/send_redirects": "0",
                "ipv4/conf/l3net0/send_redirects": "0",
                # br_netfilter, where it is loaded, would translate on the bridge, and then bridge what is to
                # be routed.
                "bridge/bridge-nf-call-iptables": "0",
                "bridge/bridge-nf-call-ip6tables": "0",
                # Or the table would be full of what was closed.
                "netfilter/nf_conntrack_tcp_timeout_close": "1",
                "netfilter/nf_conntrack_tcp_timeout_time_wait": "1",
            }.items():
                with_it = Path("/proc/sys/net", key)
                if with_it.exists():
                    with_it.write_text(value)

    def _ip(self, where: str, lines: Iterable[str]) -> None:
        subprocess.run(["ip", "-n", where, "-batch", "-"], input="\n".join(lines).encode(), check=True)

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        with Path(f"/run/netns/{name}").open() as entry:
            setns(entry.fileno())
        try:
            yield
        finally:
            setns(self.home)

    def nft(self, text: str) -> None:
        argv = ["ip", "netns", "exec", self.host, "nft", "-f", "-"]
        subprocess.run(argv, input=text.encode(), check=True)

    def start(self, place: int, *argv: str) -> subprocess.Popen[bytes]:
        command = ["ip", "netns", "exec", self.pods[place], *argv]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def addresses(place: int) -> tuple[Address, ...]:
    return tuple(ip_network(block)[place + 2] for block in declared.BLOCKS)


def tables(policies: Iterable[int]) -> Iterator[tuple[str, str]]:
    """What is measured and the transaction that puts it in force: none, ours, and the peer's design."""
    bare = Deciding()
    names = ("egress", "input", "ingress")
    without = "".join(f"delete chain inet {NFT_TABLE} policy-{name}\n" for name in names)
    yield NO_SECTION, peer.removal() + ruleset(bare.plan) + without
    for number in policies:
        made = Deciding()
        for document in declared.cluster(PODS, number):
            found = translate(document)
            assert found is not None
            made.put(*found)
        local = {}
        for place, each in enumerate(declared.local(PODS)):
            made.attach(each, place)
            local[ObjectName(*declared.name_of(each))] = addresses(place)
        made.book.settle()
        mine = ruleset(made.plan)
        yield f"l3net, {number} policies", peer.removal() + mine
        yield f"kube-router's design, {number}", peer.rules(made.book, local) + ruleset(bare.plan) + without


def measure(rounds: int, seconds: int, policies: Iterable[int], program: Path, version: int = 4) -> list[Row]:
    with ExitStack() as undo:
        two = Two(undo)
        kinds = dict(tables(policies))
        rows = {what: Row(what) for what in kinds}
        called = str(addresses(0)[0 if version == 4 else 1])
        servers = []
        for argv in (("iperf3", "-s"), (str(program), "serve", called, "80")):
            server = two.start(0, *argv)
            servers.append(server.pid)
            undo.callback(server.wait)
            undo.callback(server.kill)
        time.sleep(0.5)
        for turn in range(rounds):
            order = list(rows.values())
            for row in order if turn % 2 else reversed(order):
                two.nft(kinds[row.what])
                _once(two, row, called, seconds, program, servers)
        return list(rows.values())


def cpu_of(server: int) -> float:
    """Seconds of a server and of all callers that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(cpu(server)) + children.ru_utime + children.ru_stime


def _once(two: Two, row: Row, called: str, seconds: int, program: Path, servers: Sequence[int]) -> None:
    before = cpu_of(servers[0])
    caller = two.start(1, "iperf3", "-c", called, "-t", str(seconds), "-J")
    out, _ = caller.communicate(timeout=60)
    spent = cpu_of(servers[0]) - before
    end = json.loads(out)["end"]
    if "sum_received" not in end:
        raise SystemExit(f"{row.what}: {json.loads(out).get('error')}")
    row.throughput.append(end["sum_received"]["bits_per_second"] / 1e9)
    row.throughput_of_cpu.append(end["sum_received"]["bytes"] * 8 / 1e9 / spent)
    connect(two, row, 1, (called, 80), seconds, program, servers[1])


def connect(
    place: Starting, row: Rates, caller: int, to: tuple[str, int], seconds: int, program: Path, server: int
) -> None:
    """New connections, one after another in sixteen places."""
    before = cpu_of(server)
    argv = [str(program), "call", to[0], str(to[1]), str(seconds), "16"]
    out, _ = place.start(caller, *argv).communicate(timeout=60)
    spent = cpu_of(server) - before
    done, _, p50, p99 = map(float, out.split())
    row.rate.append(done / seconds)
    row.rate_of_cpu.append(done / spent)
    row.p50.append(p50)
    row.p99.append(p99)


def best(values: list[float]) -> float:
    """The median of the best quarter: others on the machine take away, and add to nobody."""
    ordered = sorted(values, reverse=True)
    return statistics.median(ordered[: max(1, len(ordered) // 4)])


def ratio(row: Row, base: Row, of: str) -> float:
    """Of the medians."""
    return statistics.median(getattr(row, of)) / statistics.median(getattr(base, of))
