"""Flows of UDP through the real agent, as clients of Kubernetes keep them: from one port, again and again,
while endpoints come, cycle, and go. From a pod, a process of the host, and a machine outside; both families;
to ClusterIPs and to NodePorts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from pod_node import Node, built, sh

pytestmark = pytest.mark.netns

BLOCKS = ("10.244.1.0/24", "fd00:10:244:1::/120")
ON = {4: "10.90.0.1", 6: "fd90::1"}
VIP = {4: "10.96.0.10", 6: "fd00:10:96::a"}
FAR = {4: "10.90.0.9", 6: "fd90::9"}
REMOTE = {4: "10.244.9.2", 6: "fd00:10:244:9::2"}  # a pod of another node
PORTS = (5353, 5354)
#: Answers each datagram with its name and port: name, then addresses.
ECHO = """
import socket, sys, threading
def serve(address, port):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, port))
    while True:
        s.sendto(f"{sys.argv[1]}:{port}".encode(), s.recvfrom(64)[1])
for address in sys.argv[2:]:
    for port in (5353, 5354):
        threading.Thread(target=serve, args=(address, port)).start()
"""
#: Asks again and again, each time by a new socket from one port, as `nc -u -p` in a loop; prints whom it
#: asked and the answer, or -. Arguments: name, address, port, and port of its own, in turn.
FLOWS = """
import socket, sys, threading, time
def ask(name, address, port, own):
    while True:
        s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(0.3)
        try:
            s.bind(("", int(own)))
            s.connect((address, int(port)))
            s.send(b"?")
            answer = s.recv(64).decode()
        except OSError:
            answer = "-"
        s.close()
        sys.stdout.write(f"{name} {answer}\\n")
        sys.stdout.flush()
        time.sleep(0.1)
rest = sys.argv[1:]
while rest:
    threading.Thread(target=ask, args=rest[:4]).start()
    rest = rest[4:]
"""


@dataclass
class Scene:
    """The node, pods a and b on it, a client's pod, and another machine with a pod."""

    node: Node
    undo: ExitStack
    tmp: Path
    pods: dict[str, dict[int, str]] = field(default_factory=dict)
    netns: dict[str, str] = field(default_factory=dict)
    logs: list[Path] = field(default_factory=list)

    def run(self, where: str, code: str, *arguments: str) -> None:
        log = self.tmp / f"log{len(self.logs)}"
        self.logs.append(log)
        argv = ["ip", "netns", "exec", where, sys.executable, "-c", code, *arguments]
        with log.open("wb") as out:
            process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT)
        self.undo.callback(process.wait)
        self.undo.callback(process.kill)

    def pod(self, name: str) -> None:
        netns, result = self.node.add(name)
        found = [each["address"].partition("/")[0] for each in result["ips"]]
        self.netns[name] = netns
        self.pods[name] = {6 if ":" in each else 4: each for each in found}

    def flows(self) -> list[str]:
        """Start all of them; their names."""
        own = 20000
        names = []
        far, host = f"{self.node.name}far", self.node.name
        for place, where in (("pod", self.netns["client"]), ("host", host), ("far", far)):
            asked: list[str] = []
            for version in (4, 6):
                for to, address, port in (("vip", VIP[version], 53), ("node", ON[version], 30053)):
                    own += 1
                    names.append(f"{place}-{to}-{version}")
                    asked += [names[-1], address, str(port), str(own)]
            self.run(where, FLOWS, *asked)
        return names

    def last(self) -> dict[str, str]:
        """What each flow was answered last."""
        found: dict[str, str] = {}
        for log in self.logs:
            for line in log.read_text().splitlines():
                name, _, answer = line.partition(" ")
                if answer:
                    found[name] = answer
        return found

    def all_answer(self, names: list[str], wanted: set[str], what: str) -> None:
        def so() -> bool:
            last = self.last()
            return all(last.get(name) in wanted for name in names)

        try:
            self.node.until(so, what, 10)
        except AssertionError as err:
            differing = {name: answer for name, answer in self.last().items() if answer not in wanted}
            raise AssertionError(f"{what}: {differing}\n{err}") from None

    def declare(self, *documents: dict[str, Any]) -> None:
        address = [{"type": "InternalIP", "address": each} for each in ON.values()]
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "n"},
            "spec": {"podCIDRs": list(BLOCKS)},
            "status": {"addresses": address},
        }
        temporary = self.node.base / "manifests" / "all.tmp"
        temporary.write_text(yaml.safe_dump_all([node, *documents]))
        temporary.rename(self.node.base / "manifests" / "all.yaml")

    def ends(self, port: int, *names: str, **conditions: dict[str, bool]) -> list[dict[str, Any]]:
        """The slices of both families; `conditions` by endpoint."""
        return [
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": f"dns-{version}", "labels": {"kubernetes.io/service-name": "dns"}},
                "addressType": f"IPv{version}",
                "endpoints": [
                    {"addresses": [self.pods[each][version]], "conditions": conditions.get(each, {})}
                    for each in names
                ],
                "ports": [{"name": "dns", "port": port, "protocol": "UDP"}],
            }
            for version in (4, 6)
        ]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as undo:
        made = Scene(Node(tmp_path, built(tmp_path), undo), undo, tmp_path)
        far = f"{made.node.name}far"
        for words in (
            "link set lo up",
            "link set far0 up",
            f"addr add {FAR[4]}/24 dev far0",
            f"addr add {FAR[6]}/64 dev far0 nodad",
            f"addr add {REMOTE[4]}/32 dev lo",
            f"addr add {REMOTE[6]}/128 dev lo",
            f"route add default via {ON[4]}",
            f"route add default via {ON[6]}",
        ):
            sh("ip", "-n", far, *words.split())
        for version in (4, 6):
            sh("ip", "-n", made.node.name, f"-{version}", "route", "add", "default", "via", FAR[version])
        made.declare()
        made.node.start()
        for name in ("client", "a", "b"):
            made.pod(name)
        made.pods["remote"] = REMOTE
        for name in ("a", "b"):
            made.run(made.netns[name], ECHO, name, *made.pods[name].values())
        made.run(far, ECHO, "remote", *REMOTE.values())
        yield made


def service(**spec: Any) -> dict[str, Any]:
    port = {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "dns"},
        "spec": {"type": "NodePort", "clusterIPs": list(VIP.values()), "ports": [port], **spec},
    }


WANING = {"ready": False, "serving": True, "terminating": True}


def test_udp_flows_follow_their_endpoints(scene: Scene) -> None:
    """What Kubernetes' own tests of connection tracking look at, and what leads to it, for all clients."""
    names = scene.flows()
    scene.all_answer(names, {"-"}, "the flows to begin without a service")
    scene.declare(service())
    scene.all_answer(names, {"-"}, "a service without endpoints")
    # Endpoints that get ready later.
    scene.declare(service(), *scene.ends(5353, "a", a={"ready": False}))
    scene.all_answer(names, {"-"}, "one that is not ready")
    scene.declare(service(), *scene.ends(5353, "a"))
    scene.all_answer(names, {"a:5353"}, "the first endpoint")
    # It cycles.
    scene.declare(service(), *scene.ends(5353, "a", "b"))
    scene.all_answer(names, {"a:5353", "b:5353"}, "both")
    scene.declare(service(), *scene.ends(5353, "a", "b", a=WANING))
    scene.declare(service(), *scene.ends(5353, "b"))
    scene.all_answer(names, {"b:5353"}, "the second alone")
    # Another target port.
    scene.declare(service(), *scene.ends(5354, "b"))
    scene.all_answer(names, {"b:5354"}, "another port")
    # To another node and back, and none.
    scene.declare(service(), *scene.ends(5354, "remote"))
    scene.all_answer(names, {"remote:5354"}, "one elsewhere")
    scene.declare(service())
    scene.all_answer(names, {"-"}, "none any more")
    scene.declare(service(), *scene.ends(5353, "a"))
    scene.all_answer(names, {"a:5353"}, "one again")
    # The type changes, and the service is another of the same name and addresses.
    on_node = [name for name in names if "-node-" in name]
    by_vip = [name for name in names if "-vip-" in name]
    plain = service(type="ClusterIP", ports=[{"name": "dns", "port": 53, "protocol": "UDP"}])
    scene.declare(plain, *scene.ends(5353, "a"))
    scene.all_answer(on_node, {"-"}, "no NodePort any more")
    scene.all_answer(by_vip, {"a:5353"}, "the ClusterIP all the same")
    scene.declare(service(), *scene.ends(5353, "b"))
    scene.all_answer(names, {"b:5353"}, "the NodePort again")
    scene.declare()
    scene.all_answer(names, {"-"}, "no service")
    scene.declare(service(), *scene.ends(5354, "a"))
    scene.all_answer(names, {"a:5354"}, "the service anew")
    problems = scene.node.status()["problems"]
    assert not [each for each in problems if "the speaker cannot be reached" not in each]
    # One with the same number, and one with a number of the node's own.
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
        {"name": "bgp", "port": 179, "protocol": "TCP", "nodePort": 179},
    ]
    rival = service(clusterIPs=["10.96.0.66"], ports=ports)
    rival["metadata"]["name"] = "rival"
    scene.declare(service(), rival, *scene.ends(5354, "a"))

    def told() -> bool:
        text = " ".join(scene.node.status()["problems"])
        lost = "service default/rival: 10.96.0.66: node port 30053/UDP is answered for default/dns"
        return lost in text and "NodePort 179/TCP is not served" in text

    scene.node.until(told, "both to be told of")
    scene.all_answer(names, {"a:5354"}, "the first all the same")
