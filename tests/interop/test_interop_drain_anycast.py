"""A service address announced by two nodes, a client that reaches it over ECMP, and one node that goes.

Left in time, the node takes nothing with it: not one request of the client stays without an answer. The
control pulls the plug without a word.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from far_sides import FarSession, Frr, Originated
from node_rig import brought_up

from l3net.errors import NotRunningError
from l3net.lab.host import Host, find_hosts, kill_holders, python, start_holder, wait_ready
from l3net.shell.sockets.agentsocket import ask

pytestmark = pytest.mark.netns

ECHO = Path(__file__).with_name("udp_echo.py")
VIP = {4: "198.51.100.10", 6: "fd99::10"}
SERVER = {4: "10.97.0.2", 6: "fd97::2"}
NODES = ("n1", "n2")
RATE = 500


def link(number: int, end: int) -> dict[int, str]:
    """Addresses on the link of node `number`: 1 is the node, 2 the router."""
    return {4: f"10.90.{number}.{end}", 6: f"fd90:{number}::{end}"}


class Pair:
    """Two nodes, a router between them and everything else, a client and a server behind the router."""

    def __init__(self) -> None:
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.directory = Path("/run/l3net-lab") / self.name
        self.manifests = self.directory / "manifests"
        self.hosts: dict[str, Host] = {}

    @property
    def tor(self) -> Host:
        return self.hosts["tor"]

    def up(self) -> None:
        self.manifests.mkdir(parents=True)
        names = (*NODES, "tor")
        holders = {name: start_holder(self.name, name, self.directory) for name in names}
        for name, holder in holders.items():
            wait_ready(name, holder)
        self.hosts = find_hosts(self.name, self.directory)
        for number, name in enumerate(NODES, 1):
            node = self.hosts[name]
            self.net(node, f"link add up0 type veth peer name {name} netns {self.tor.pid}")
            for host, interface, end in ((node, "up0", 1), (self.tor, name, 2)):
                self.net(host, f"link set {interface} up")
                self.net(host, f"addr add {link(number, end)[4]}/24 dev {interface}")
                self.net(host, f"addr add {link(number, end)[6]}/64 dev {interface} nodad")
            self.net(node, f"route add default via {link(number, 2)[4]}")
            self.net(node, f"-6 route add default via {link(number, 2)[6]}")
        for number, name in ((98, "client"), (97, "server")):
            self.tor.run(["ip", "netns", "add", name])
            self.net(self.tor, f"link add {name} type veth peer name eth0")
            self.net(self.tor, f"link set {name} up")
            self.tor.run(["ip", "link", "set", "eth0", "netns", name])
            self.net(self.tor, f"addr add 10.{number}.0.1/24 dev {name}")
            self.net(self.tor, f"addr add fd{number}::1/64 dev {name} nodad")
            for words in (
                "link set lo up",
                "link set eth0 up",
                f"addr add 10.{number}.0.2/24 dev eth0",
                f"addr add fd{number}::2/64 dev eth0 nodad",
                f"route add default via 10.{number}.0.1",
                f"-6 route add default via fd{number}::1",
            ):
                self.tor.run(["ip", *words.split()], pod=name)
        for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self.tor.run(["sh", "-c", f"echo 1 >/proc/sys/net/{name}"])
        for family in ("ipv4", "ipv6"):  # flows, not hosts
            self.tor.run(["sh", "-c", f"echo 1 >/proc/sys/net/{family}/fib_multipath_hash_policy"])

    def down(self) -> None:
        kill_holders(self.name)
        shutil.rmtree(self.directory, ignore_errors=True)

    @staticmethod
    def net(host: Host, words: str) -> None:
        subprocess.run(["nsenter", f"--net=/proc/{host.pid}/ns/net", "--", "ip", *words.split()], check=True)

    def start(self) -> None:
        sessions = [
            FarSession(link(number, 2)[version], link(number, 1)[version])
            for number in (1, 2)
            for version in (4, 6)
        ]
        Frr(self.tor).start(sessions, [Originated("10.98.0.0/24"), Originated("fd98::/64")])
        self.declare()
        for name in NODES:
            argv = [sys.executable, "-m", "l3net.cli.main"]
            options = ["--datastore", f"dir:{self.manifests}", "--node-name", name]
            self.hosts[name].spawn("speaker", [*argv, "speaker"])
            self.hosts[name].spawn("agent", [*argv, "agent", *options])
        for version in (4, 6):
            serve = [*python(), str(ECHO), "serve", SERVER[version], "8080"]
            self.tor.spawn(f"server{version}", serve, pod="server")
            self.until(lambda version=version: len(self.hops(version)) == 2, "both nodes' routes")  # type: ignore[misc]

    def declare(self, **first: object) -> None:
        """`first`: fields of the first node's spec."""
        advertise = {"loadBalancerIPs": {"enabled": True, "cidrs": ["198.51.100.0/24", "fd99::/64"]}}
        spec = {
            "asNumber": 65001,
            "holdTime": 9,
            "nodeToNodeMesh": False,
            "advertise": advertise,
            "drain": {"wait": 2},
        }
        documents: list[dict[str, Any]] = [own("BGPConfiguration", "default", spec)]
        for number, name in enumerate(NODES, 1):
            addresses = [{"type": "InternalIP", "address": link(number, 1)[version]} for version in (4, 6)]
            blocks = [f"10.244.{number}.0/24", f"fd00:10:244:{number}::/120"]
            documents.append(
                {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {"name": name},
                    "spec": {"podCIDRs": blocks, **(first if number == 1 else {})},
                    "status": {"addresses": addresses},
                }
            )
            documents += [
                own(
                    "BGPPeer",
                    f"{name}-{version}",
                    {"address": link(number, 2)[version], "asNumber": 65002, "nodes": [name]},
                )
                for version in (4, 6)
            ]
        documents += service()
        temporary = self.manifests / "all.tmp"
        temporary.write_text(yaml.safe_dump_all(documents))
        temporary.rename(self.manifests / "all.yaml")

    # --- looking -----------------------------------------------------------------------------------------

    def hops(self, version: int) -> set[str]:
        """Over which nodes the router's kernel spreads the service address."""
        shown = self.tor.run(["ip", f"-{version}", "route", "show", VIP[version]]).stdout
        return {name for name in NODES if f"dev {name}" in shown}

    def drain(self, name: str) -> str:
        socket = Path(f"/proc/{self.hosts[name].pid}/root/run/l3net/agent.sock")
        try:
            return str(ask(socket, "drain")["stage"])
        except NotRunningError:
            return ""

    def until(self, condition: Callable[[], object], what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(
                    f"{name}:\n{self.hosts[name].log_tail(part)}"
                    for name in NODES
                    for part in ("agent", "speaker")
                )
                raise AssertionError(f"waited {seconds:g} s in vain for {what}\n{logs}")
            time.sleep(0.1)

    # --- requests ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        for version in (4, 6):
            file = self.tor.directory / f"asked{version}"
            argv = [*python(), str(ECHO), "ask", VIP[version], "80", str(RATE), str(file)]
            self.tor.spawn(f"client{version}", argv, pod="client")
        for version in (4, 6):
            begun = self.tor.directory / f"asked{version}.begun"
            self.until(begun.exists, "answers on every port")

    def unanswered(self) -> dict[int, int]:
        """How many requests were lost since `begin`, by IP version."""
        files = {version: self.tor.directory / f"asked{version}" for version in (4, 6)}
        for file in files.values():
            file.with_suffix(".stop").touch()
        found = {}
        for version, file in files.items():
            self.until(file.exists, "the client to end")
            sent, answered = map(int, file.read_text().split())
            assert sent > RATE  # it ran a while
            found[version] = sent - answered
        return found


def own(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "l3net.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def service() -> list[dict[str, Any]]:
    """Its server is outside both nodes, so that either serves it alike."""
    slices = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"echo-{version}",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "echo"},
            },
            "addressType": f"IPv{version}",
            "endpoints": [{"addresses": [SERVER[version]]}],
            "ports": [{"name": "", "port": 8080, "protocol": "UDP"}],
        }
        for version in (4, 6)
    ]
    spec = {
        "type": "LoadBalancer",
        "clusterIP": "10.96.0.9",
        "clusterIPs": ["10.96.0.9", "fd00:10:96::9"],
        "ports": [{"port": 80, "protocol": "UDP"}],
    }
    metadata = {"name": "echo", "namespace": "default"}
    ingress = [{"ip": VIP[version]} for version in (4, 6)]
    status = {"loadBalancer": {"ingress": ingress}}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": status},
        *slices,
    ]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with brought_up(Pair()) as made:
        made.start()
        yield made


@pytest.mark.soak
def test_no_request_is_lost_over_a_drain_and_back(pair: Pair) -> None:
    pair.begin()
    pair.declare(unschedulable=True)
    pair.until(lambda: pair.drain("n1") == "servicesWithdrawn", "the drain")
    for version in (4, 6):
        pair.until(lambda version=version: pair.hops(version) == {"n2"}, "the other node alone")  # type: ignore[misc]
    pair.declare()
    for version in (4, 6):
        pair.until(lambda version=version: len(pair.hops(version)) == 2, "both nodes")  # type: ignore[misc]
    assert pair.unanswered() == {4: 0, 6: 0}


def test_no_request_is_lost_when_a_node_leaves_and_dies(pair: Pair) -> None:
    pair.begin()
    left = pair.hosts["n1"].run([sys.executable, "-m", "l3net.cli.main", "node", "drain"], timeout=120)
    assert left.code == 0
    assert pair.hops(4) == pair.hops(6) == {"n2"}
    pair.net(
        pair.hosts["n1"], "link set up0 address 02:00:00:00:00:99 arp off"
    )  # deaf, and its link stays up
    time.sleep(1)
    assert pair.unanswered() == {4: 0, 6: 0}


def test_the_control_a_node_that_dies_without_a_word(pair: Pair) -> None:
    pair.begin()
    pair.net(pair.hosts["n1"], "link set up0 address 02:00:00:00:00:99 arp off")
    time.sleep(1)
    lost = pair.unanswered()
    assert lost[4] > 0 and lost[6] > 0
