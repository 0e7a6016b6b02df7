"""From a client to an endpoint on the node that the packet meets, or on another one, through a router."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from spread_net import SpreadNet, node_address, pod_address

from balancers import kubeproxy
from balancers.declared import ECHO, IPERF, cluster_ip
from balancers.ways import Row, once
from l3net.model import AddressKind, AdvertisePolicy, ServicePort

RANDOM, CONSISTENT = "l3net, Random", "l3net, Consistent"
TABLES = (kubeproxy.NFT, RANDOM, CONSISTENT)
#: Each way, and the node whose pod answers; packets meet the first node.
WAYS = {"endpoint on the node met": "n1", "endpoint on another node": "n2"}
_CLIENT = 0
_ROLES = ("client", "pn1", "pn2")
_SETTINGS = {  # or the table would be full of what was closed
    "net/netfilter/nf_conntrack_tcp_timeout_close": "1",
    "net/netfilter/nf_conntrack_tcp_timeout_time_wait": "1",
}


class _Net:
    """One client, router and two nodes under one of the tables."""

    def __init__(self, undo: ExitStack, version: int, table: str, program: Path) -> None:
        self.version, self.table = version, table
        self.net = SpreadNet(2, consistent=table == CONSISTENT)
        undo.callback(self.net.close)
        net, address = self.net, str(cluster_ip(version))
        ports = {"echo": ("TCP", ECHO), "iperf": ("TCP", IPERF), "iperf-udp": ("UDP", IPERF)}
        net.targets = {name: port for name, (_, port) in ports.items()}
        net.service = replace(
            net.service,
            external_ips=(),
            ports=tuple(ServicePort(name, protocol, port) for name, (protocol, port) in ports.items()),
        )
        net.state.services[net.service.name] = net.service
        policy = AdvertisePolicy(
            cluster_ips=AddressKind(enabled=True, cidrs=()), consistent=table == CONSISTENT
        )
        net.state.configuration = replace(net.state.configuration, advertise=policy)
        net.ip("router", f"route add {address} via {node_address(1)[version]}")
        net.set("client", "net/ipv4/ip_local_port_range", "10000 65000")
        self.servers: dict[str, tuple[int, int]] = {}
        for number, node in enumerate(net.nodes, start=1):
            pod = pod_address(number)[version]
            started = []
            for argv in (("iperf3", "-s", "-p", str(IPERF)), (str(program), "serve", pod, str(ECHO))):
                server = self.start(number, *argv)
                started.append(server.pid)
                undo.callback(server.wait)
                undo.callback(server.kill)
            self.servers[node] = (started[0], started[1])

    def start(self, place: int, *argv: str) -> subprocess.Popen[bytes]:
        # All on one CPU: what interrupts do is done there, too, and nobody has two CPUs in one round alone.
        command = ["taskset", "-c", str(max(os.sched_getaffinity(0)))]
        command += ["ip", "netns", "exec", self.net.name(_ROLES[place]), *argv]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def answer(self, node: str) -> None:
        """The endpoint is on this node from now on."""
        if self.table != kubeproxy.NFT:
            self.net.declare([node])
        for number, each in enumerate(self.net.nodes, start=1):
            if self.table == kubeproxy.NFT:
                address = ip_address(node_address(number)[self.version])
                called = ip_address(pod_address(self.net.nodes.index(node) + 1)[self.version])
                text = kubeproxy.removal(self.version)
                text += kubeproxy.nftables(self.version, 1, 1, address, called)
                self.net.run(each, lambda text=text: _nft(text))  # type: ignore[misc]
            self.net.forget(each)
            for path, value in _SETTINGS.items():
                self.net.set(each, path, value)


def _nft(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True)


def measure(version: int, rounds: int, seconds: int, program: Path) -> list[Row]:
    with ExitStack() as undo:
        nets = [_Net(undo, version, table, program) for table in TABLES]
        rows = {(net.table, way): Row(net.table, way) for way in WAYS for net in nets}
        for way, node in WAYS.items():
            for net in nets:
                net.answer(node)
            for turn in range(rounds):
                for net in _turned(nets, turn):
                    once(
                        net,
                        rows[net.table, way],
                        _CLIENT,
                        cluster_ip(version),
                        {ECHO: ECHO, IPERF: IPERF},
                        seconds,
                        program,
                        net.servers[node],
                        answers=True,
                    )
        return list(rows.values())


def _turned(nets: list[_Net], turn: int) -> Iterator[_Net]:
    """Each is the first as often as others."""
    return (nets[(at + turn) % len(nets)] for at in range(len(nets)))
