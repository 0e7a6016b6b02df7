"""Egress addresses with real routers, kernels and packets."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from address_rig import KINDS, Rig, own, pools
from small_lab import RACK, lab_of

from l3net.lab.chaos import echo
from l3net.lab.host import python
from l3net.lab.pods import start_server

EGRESS = {4: "198.51.100.10", 6: "2001:db8:e::10"}
ECHO = 7777
PODS = {"web-1": "n1", "web-2": "n2"}


class Egress(Rig):
    """The lab, and what is declared of pods and egress addresses."""

    def declare(self, *more: dict[str, Any]) -> None:
        pods = [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"namespace": "default", "name": name, "labels": {"app": "web"}},
                "spec": {"nodeName": node},
                "status": {
                    "phase": "Running",
                    "podIPs": [{"ip": str(each)} for each in self.lab.pod(name).addresses],
                },
            }
            for name, node in PODS.items()
        ]
        found = pools("Egress", "198.51.100.0/24", "2001:db8:e::/64")
        self.write("egress.yaml", [*found, *pods, *more])

    def seen_as(self, pod: str, version: int) -> str:
        """The address that the client sees a pod's connection from, or why there is none."""
        answer = self.ask(self.outside(version), pod=pod, host=PODS[pod])
        return answer.rpartition("client=")[2] if "client=" in answer else answer

    def own(self, pod: str, version: int) -> str:
        return str(self.lab.pod(pod).address(version))

    def until_seen(self, pod: str, version: int, address: str) -> None:
        found = ""

        def seen() -> bool:
            nonlocal found
            found = self.seen_as(pod, version)
            return found == address

        try:
            self.until(seen, f"{pod} is to leave with {address}")
        except AssertionError as err:
            raise AssertionError(f"{err}: {found}") from None

    def stream(self, pod: str, version: int) -> subprocess.Popen[str]:
        """A connection of a pod to the client, which goes on until its standard input is closed."""
        script = str(Path(__file__).with_name("egress_stream.py"))
        words = [*self.lab.host(PODS[pod]).enter(pod), *python(), script, self.outside(version), str(ECHO)]
        running = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None and running.stdout.readline() == "ready\n"
        return running

    def holder(self) -> str:
        (node,) = self.announcers(EGRESS[4])
        return node


def egress(name: str = "out", **spec: Any) -> dict[str, Any]:
    body = {
        "addresses": list(EGRESS.values()),
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app": "web"}},
    }
    return own("EgressIP", name, {**body, **spec})


@pytest.fixture(params=KINDS, ids=lambda kind: kind.value)
def rack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Egress]:
    # Of two nodes in a mesh, a session lasts for its hold time after the router has told of the end.
    with lab_of({**RACK, "nodeToNodeMesh": False}, tmp_path, request.param) as lab:
        client = lab.host("client")
        start_server(client, "outside")
        client.spawn("echo", [*python(), str(Path(echo.__file__)), str(ECHO)])
        yield Egress(lab)


def test_pods_leave_with_the_address_by_the_node_that_holds_it(rack: Egress) -> None:
    lab = rack.lab
    rack.declare()
    for version in EGRESS:
        assert rack.seen_as("web-1", version) == rack.own("web-1", version), "the control"
    rack.declare(egress())
    for version, address in EGRESS.items():
        for pod in PODS:
            rack.until_seen(pod, version, address)
        rack.until(lambda address=address: len(rack.announcers(address)) == 1, "one holds it")  # type: ignore[misc]
        # Inside, and what comes from outside, is as it was.
        answer = rack.ask(rack.own("web-2", version), pod="web-1", host="n1")
        assert answer.endswith(f"client={rack.own('web-1', version)}")
        for pod in PODS:
            assert rack.ask(rack.own(pod, version)).endswith(f"client={rack.outside(version)}")
        # Nobody asked the address for anything: it leads nowhere, and not round in circles.
        assert "error" in rack.ask(address)
        large = ["ping", "-6" if version == 6 else "-4", "-c", "2", "-i", "0.2", "-W", "2", "-s", "1400"]
        for pod, node in PODS.items():
            lab.host(node).run([*large, rack.outside(version)], pod=pod)
    # A router's error about a packet reaches the pod also where the way to the pod leads back by that router.
    for host, link in (("tor", "client"), ("client", "tor")):
        lab.host(host).run(["ip", "link", "set", link, "mtu", "1300"])
    for version in EGRESS:
        large = ["ping", "-6" if version == 6 else "-4", "-c", "3", "-i", "0.3", "-W", "1", "-M", "do"]
        for pod, node in PODS.items():
            told = lab.host(node).run([*large, "-s", "1350", rack.outside(version)], pod=pod, check=False)
            assert "mtu" in f"{told.stdout}{told.stderr}".lower(), f"{pod}, IPv{version}: {told.stdout}"
    for host, link in (("tor", "client"), ("client", "tor")):
        lab.host(host).run(["ip", "link", "set", link, "mtu", "1500"])
    # For other destinations it is not.
    rack.declare(egress(destinationCIDRs=["192.0.2.0/24", "2001:db8:99::/48"]))
    for version in EGRESS:
        rack.until_seen("web-1", version, rack.own("web-1", version))
    rack.declare(egress())
    for version, address in EGRESS.items():
        rack.until_seen("web-1", version, address)
    # The agent of the pods' node is killed: the kernel goes on.
    holder = rack.holder()
    other = next(node for node in PODS.values() if node != holder)
    stranger = next(pod for pod, node in PODS.items() if node == other)
    lab.kill_agent(other)
    assert rack.seen_as(stranger, 4) == EGRESS[4]
    lab.start_agent(other)
    for version, address in EGRESS.items():
        rack.until_seen(stranger, version, address)
    # The holder is cut off, and nobody says so but its routes. Connections go on there and back.
    streams = {version: rack.stream(stranger, version) for version in EGRESS}
    lab.host(holder).run(["ip", "link", "set", "tor", "down"])
    for version, address in EGRESS.items():
        rack.until_seen(stranger, version, address)
    assert rack.holder() == other
    lab.host(holder).run(["ip", "link", "set", "tor", "up"])
    lab.number(holder)
    # It has them back; no address has another holder while one moves.
    rack.until(lambda: rack.announcers(EGRESS[4]) == {holder}, "it has its address back")
    for version, address in EGRESS.items():
        rack.until_seen(stranger, version, address)
    for version, stream in streams.items():
        out, _ = stream.communicate(timeout=60)
        assert out.strip().isdigit() and int(out) > 1, f"IPv{version}: {out}"
    # Where no node can hold it, nothing leaves with another.
    rack.declare(egress(nodeSelector={"matchLabels": {"no": "such"}}))
    for version in EGRESS:
        rack.until(lambda version=version: "error" in rack.seen_as("web-1", version), "it is dropped")  # type: ignore[misc]
        assert rack.seen_as("web-2", version).startswith("error")
        assert rack.ask(rack.own("web-2", version), pod="web-1", host="n1").startswith("n2 web-2")
    # All of it goes, and leaves nothing.
    rack.declare()
    for version in EGRESS:
        rack.until_seen("web-1", version, rack.own("web-1", version))
    for node in PODS.values():
        rack.until(lambda node=node: "10800:" not in rack.rules(node), "no rule is left")  # type: ignore[misc]
        tables = rack.tables(node)
        assert "postrouting-egress" not in tables and "table ip l3net" not in tables
