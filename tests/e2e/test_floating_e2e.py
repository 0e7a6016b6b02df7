"""Floating addresses with real routers, kernels and packets."""

from __future__ import annotations

import json
import signal
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
from l3net.lab.up import Lab

FLOATING = {4: "203.0.113.10", 6: "2001:db8:f::10"}
OTHER = {4: "203.0.113.20", 6: "2001:db8:f::20"}
ECHO = 7777


class Floating(Rig):
    """The lab, and what is declared of pods and floating addresses."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.since = 0
        self.pods: dict[str, dict[str, Any] | None] = {}
        self.more: list[dict[str, Any]] = []
        for name in ("web-1", "web-2"):
            self.ready(name)

    def ready(self, name: str, *, is_ready: bool = True, at: tuple[str, ...] | None = None) -> None:
        """The pod is ready from now on, or not."""
        self.since += 1
        pod = self.lab.pod(name)
        node = self.lab.topology.pods[name].name
        stamp = f"2026-01-01T00:00:{self.since:02}Z"
        condition = {"type": "Ready", "status": str(is_ready), "lastTransitionTime": stamp}
        ips = [{"ip": each} for each in at or map(str, pod.addresses)]
        self.pods[name] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": "default", "name": name, "labels": {"app": "web"}},
            "spec": {"nodeName": node},
            "status": {"phase": "Running", "podIPs": ips, "conditions": [condition]},
        }

    def declare(self) -> None:
        found = pools("Floating", "203.0.113.0/24", "2001:db8:f::/64")
        self.write("floating.yaml", [*found, *(each for each in self.pods.values() if each), *self.more])

    def claim(self, *addresses: str, name: str = "web", **spec: Any) -> dict[str, Any]:
        body = {"addresses": list(addresses), "selector": {"matchLabels": {"app": "web"}}, **spec}
        made = own("FloatingIP", name, body)
        made["metadata"]["namespace"] = "default"
        return made


@pytest.fixture(params=KINDS, ids=lambda kind: kind.value)
def rack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Floating]:
    with lab_of(RACK, tmp_path, request.param) as lab:
        for name in ("web-1", "web-2"):
            host = lab.topology.pods[name].name
            lab.host(host).spawn(f"echo-{name}", [*python(), str(Path(echo.__file__)), str(ECHO)], pod=name)
        start_server(lab.host("client"), "outside")
        yield Floating(lab)


@pytest.mark.soak  # in `make test` the matrix has what matters of it
def test_a_floating_address_follows_its_pod(rack: Floating) -> None:
    lab = rack.lab
    rack.declare()
    assert "error" in rack.ask(FLOATING[4]), "the control: nobody has it"
    rack.more = [rack.claim(*FLOATING.values()), rack.claim(*OTHER.values(), name="not-first")]
    rack.declare()
    for version, address in FLOATING.items():
        rack.until(lambda address=address: "n1 web-1" in rack.ask(address), f"{address} answers")  # type: ignore[misc]
        outside = str(lab.topology.address("client", version))
        assert rack.ask(address).endswith(f"client={outside}"), "the pod sees who asks"
        # What the pod sends out of the cluster bears the address of the oldest claim: by name, without times.
        assert rack.ask(outside, pod="web-1", host="n1").endswith(f"client={OTHER[version]}")
        own = str(lab.pod("web-1").address(version))
        assert rack.ask(str(lab.pod("web-2").address(version)), pod="web-1", host="n1").endswith(own)
        # From inside: the pod itself, another pod, and both nodes.
        assert "n1 web-1" in rack.ask(address, pod="web-1", host="n1")
        inside = rack.ask(address, pod="web-2", host="n2")
        assert "n1 web-1" in inside and inside.endswith(str(lab.pod("web-2").address(version)))
        for node in ("n1", "n2"):
            assert "n1 web-1" in rack.ask(address, host=node)
        ping = ["ping", "-6" if version == 6 else "-4", "-c", "2", "-i", "0.2", "-W", "2", address]
        lab.host("client").run(ping)
    # The agent is killed: the speaker and the kernel go on.
    lab.kill_agent("n1")
    assert "n1 web-1" in rack.ask(FLOATING[4])
    lab.start_agent("n1")
    # web-1 is not ready any more, web-2 takes over; it keeps the address when web-1 is ready again.
    probes = [_probe(lab, FLOATING[version]) for version in FLOATING]
    rack.ready("web-1", is_ready=False)
    rack.declare()
    for version, address in FLOATING.items():
        rack.until(lambda address=address: "n2 web-2" in rack.ask(address), f"{address} moved")  # type: ignore[misc]
        rack.until(lambda address=address: len(rack.announcers(address)) == 1, "one way")  # type: ignore[misc]
        assert rack.ask(str(lab.topology.address("client", version)), pod="web-1", host="n1").endswith(
            str(lab.pod("web-1").address(version))
        ), "the former holder leaves with its own address again"
    rack.ready("web-1")
    rack.declare()
    for each in probes:
        told = _told(each)
        # How long it took is for bench/floating.py; here, that it went on.
        assert told["answered"] > told["sent"] // 4, told
    assert "n2 web-2" in rack.ask(FLOATING[4]), "sticky"
    # All of it goes: nothing is left at the router or in the kernel.
    rack.more = []
    rack.declare()
    for address in FLOATING.values():
        rack.until(lambda address=address: not rack.announcers(address), "withdrawn")  # type: ignore[misc]
    for node in ("n1", "n2"):
        rack.until(lambda node=node: "floating-leave" not in rack.tables(node), "no rule is left")  # type: ignore[misc]


def _probe(lab: Lab, address: str) -> subprocess.Popen[str]:
    host = lab.host("client")
    script = Path(__file__).with_name("floating_probe.py")
    words = [*host.enter(), *python(), str(script), address, str(ECHO), "6"]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None and running.stdout.readline() == "ready\n"
    return running


def _told(running: subprocess.Popen[str]) -> dict[str, Any]:
    try:
        out, _ = running.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGKILL)
        raise
    found: dict[str, Any] = json.loads(out)
    return found
