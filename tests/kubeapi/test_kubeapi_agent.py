"""The agent on the API: from a fake kube-apiserver to a real router and the real kernel."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from apiserver import Call, FakeApiServer
from kube_follower import endpoints, service
from node_rig import CONFIGURATION, FRR, NODE, TOR4, TOR6, Rig

pytestmark = pytest.mark.netns
_libc = ctypes.CDLL(None, use_errno=True)
VIP = "10.96.0.10/32"


def listen_inside(api: FakeApiServer, pid: int) -> None:
    """Start the server with its socket in the namespace of a process: a socket stays where it was made."""

    def start() -> None:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            assert _libc.setns(namespace, 0x40000000) == 0
            api.start()
        finally:
            os.close(namespace)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert api.port


@pytest.fixture
def rig() -> Iterator[Rig]:
    found = Rig()
    try:
        found.up()
        yield found
    finally:
        found.down()


@pytest.fixture
def api(rig: Rig) -> Iterator[FakeApiServer]:
    server = FakeApiServer()
    listen_inside(server, rig.node.pid)
    try:
        yield server
    finally:
        server.stop()


def start(rig: Rig, api: FakeApiServer, *options: str) -> None:
    config = api.kubeconfig(rig.directory / "kubeconfig")
    argv = ["agent", "--kubeconfig", str(config), "--node-name", "node", *options]
    rig.node.spawn("agent", [sys.executable, "-m", "l3net.cli.main", *argv])


def has_server(rig: Rig, backend: str) -> bool:
    listed = rig.node.run(["nft", "list", "map", "inet", "l3net", "backends4"], check=False).stdout
    return f"10.96.0.10 . tcp . 80 . 0 : {backend}" in listed


def no_flap(before: dict[str, int], now: dict[str, int]) -> bool:
    """The router works out when a session came up from how long it has been, both in whole seconds."""
    return before.keys() == now.keys() and all(abs(now[peer] - when) <= 1 for peer, when in before.items())


def test_services_reach_the_router_and_stay_without_the_api(rig: Rig, api: FakeApiServer) -> None:
    api.put(NODE, CONFIGURATION, TOR4, TOR6, service("web", "10.96.0.10"))
    rig.start_tor(FRR)
    rig.start_speaker()
    start(rig, api, "--metrics-address", "127.0.0.1:9618")
    rig.established("10.90.0.2", "fd90::2")
    rig.until(lambda: "10.244.1.0/24" in rig.tor_routes(), "the block")
    assert VIP not in rig.tor_routes(), "no endpoint, no announcement"

    api.put(endpoints("web", "10.244.1.5"))
    rig.until(lambda: VIP in rig.tor_routes(), "the service")
    assert has_server(rig, "10.244.1.5 . 8080"), "the kernel comes first"
    api.put(endpoints("web", "10.244.1.6"))
    rig.until(lambda: has_server(rig, "10.244.1.6 . 8080"), "the other endpoint")
    api.remove("EndpointSlice", "web-abc", "default")
    rig.until(lambda: VIP not in rig.tor_routes(), "the withdrawal")
    api.put(endpoints("web", "10.244.1.7"))
    rig.until(lambda: VIP in rig.tor_routes(), "the service again")

    ready = rig.node.run([sys.executable, "-m", "l3net.cli.main", "status", "--ready"], check=False)
    assert (ready.code, ready.stdout.strip()) == (0, "ready")
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9618/readyz').read().decode())"
    assert rig.node.run([sys.executable, "-c", ask]).stdout.strip() == "ok"

    rig.until(lambda: len(rig.tor_sessions()) == 2, "both sessions at the router")
    before = rig.tor_sessions()
    api.stop()
    rig.until(lambda: "API server" in str(rig.status().get("problems")), "the outage to be told")
    time.sleep(2)
    assert VIP in rig.tor_routes()
    assert no_flap(before, rig.tor_sessions())
    listen_inside(api, rig.node.pid)
    api.remove("Service", "web", "default")
    rig.until(lambda: VIP not in rig.tor_routes(), "what changed meanwhile")
    rig.until(lambda: "API server" not in str(rig.status().get("problems")), "the outage to be over")


def test_an_agent_that_finds_no_api_leaves_everything_as_it_is(rig: Rig, api: FakeApiServer) -> None:
    """Killed and started again while the API server is away: nothing is withdrawn, nothing deleted."""
    api.put(NODE, CONFIGURATION, TOR4, TOR6, service("web", "10.96.0.10"), endpoints("web", "10.244.1.5"))
    rig.start_tor(FRR)
    rig.start_speaker()
    start(rig, api)
    rig.until(lambda: VIP in rig.tor_routes(), "the service")
    rig.until(lambda: len(rig.tor_sessions()) == 2, "both sessions at the router")
    before = rig.tor_sessions()
    rig.node.kill("agent", 9)
    rig.until(lambda: not rig.node.alive("agent"), "the agent to die")
    api.stop()
    start(rig, api)
    rig.until(lambda: "API server" in str(rig.status().get("problems")), "the agent to say so")
    time.sleep(2)
    assert VIP in rig.tor_routes()
    assert has_server(rig, "10.244.1.5 . 8080")
    assert no_flap(before, rig.tor_sessions())
    ready = rig.node.run([sys.executable, "-m", "l3net.cli.main", "status", "--ready"], check=False)
    assert ready.code == 1
    assert "not complete" in ready.stdout
    listen_inside(api, rig.node.pid)
    rig.until(lambda: rig.status().get("inSync"), "the list")
    assert VIP in rig.tor_routes()
    assert no_flap(before, rig.tor_sessions())


def test_a_configuration_that_was_never_right_is_waited_for(rig: Rig, api: FakeApiServer) -> None:
    """An agent that starts beside a refused one holds, sessions and announcements as they are."""
    spec = {**CONFIGURATION["spec"], "asNumber": "65001"}  # type: ignore[dict-item]
    api.put(NODE, CONFIGURATION, TOR4, TOR6, service("web", "10.96.0.10"), endpoints("web", "10.244.1.5"))
    rig.start_tor(FRR)
    rig.start_speaker()
    start(rig, api)
    rig.until(lambda: VIP in rig.tor_routes(), "the service")
    rig.until(lambda: len(rig.tor_sessions()) == 2, "both sessions at the router")
    before = rig.tor_sessions()
    rig.node.kill("agent", 9)
    rig.until(lambda: not rig.node.alive("agent"), "the agent to die")
    api.put({**CONFIGURATION, "spec": spec})
    start(rig, api)
    rig.until(lambda: "no earlier version" in str(rig.status().get("problems")), "the reason")
    assert has_server(rig, "10.244.1.5 . 8080")
    assert (VIP in rig.tor_routes(), rig.tor_sessions()) == (True, before)
    api.put(CONFIGURATION)
    rig.until(lambda: rig.status().get("problems") == [], "all well")
    assert (VIP in rig.tor_routes(), rig.tor_sessions()) == (True, before)


def test_a_drain_and_a_shutdown_as_the_api_tells_them(rig: Rig, api: FakeApiServer) -> None:
    """Cordoned, then shut down by kubelet: agent and speaker get SIGTERM at once, and nothing is left."""

    def configuration(wait: int) -> dict[str, Any]:
        spec = {**CONFIGURATION["spec"], "nodeToNodeMesh": False, "drain": {"wait": wait}}  # type: ignore[dict-item]
        return {**CONFIGURATION, "spec": spec}

    def going(**spec: Any) -> dict[str, Any]:
        conditions = [{"type": "Ready", "status": "False", "message": "node is shutting down"}]
        status = {**NODE["status"], "conditions": conditions}  # type: ignore[dict-item]
        return {**NODE, "spec": {**NODE["spec"], **spec}, "status": status}  # type: ignore[dict-item]

    def tagged(prefix: str) -> bool:
        return "graceful-shutdown" in rig.vtysh(f"show bgp ipv4 unicast {prefix} json")

    cordoned = {**NODE, "spec": {**NODE["spec"], "unschedulable": True}}  # type: ignore[dict-item]
    other = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "other"}}
    api.put(NODE, other, configuration(600), TOR4, TOR6)
    api.put(service("web", "10.96.0.10"), endpoints("web", "10.244.1.5"))
    rig.start_tor(FRR)
    rig.start_speaker()
    start(rig, api)
    rig.until(lambda: VIP in rig.tor_routes(), "the service")
    assert not tagged(VIP)

    api.put(cordoned)
    rig.until(lambda: tagged(VIP) and tagged("10.244.1.0/24"), "everything, tagged")
    api.put(configuration(0))
    rig.until(lambda: VIP not in rig.tor_routes(), "the service to go, since another node serves it")
    assert tagged("10.244.1.0/24")

    api.put(going(unschedulable=True))
    rig.until(lambda: rig.status().get("drain", {}).get("cause") == "shutdown", "the agent to hear of it")
    assert tagged("10.244.1.0/24"), "its pods are still ending"
    rig.node.kill("speaker")
    rig.node.kill("agent")
    rig.until(lambda: not (rig.node.alive("agent") or rig.node.alive("speaker")), "both to end")
    rig.until(lambda: not rig.tor_routes(), "nothing to be left, graceful restart or not")


def test_what_the_agent_calls(rig: Rig, api: FakeApiServer) -> None:
    """Reads by list and watch; what it may write is its own Node's and own resources' status, and Events."""
    api.put(NODE, CONFIGURATION, TOR4)
    rig.start_speaker()
    start(rig, api)
    rig.until(lambda: rig.status().get("inSync"), "the list")
    reads = {call for call in api.calls if call.verb in ("list", "watch")}
    assert reads == {
        Call(verb, group, resource)
        for verb in ("list", "watch")
        for group, resource in (
            ("", "nodes"),
            ("", "namespaces"),
            ("", "services"),
            ("", "pods"),
            ("networking.k8s.io", "networkpolicies"),
            ("networking.k8s.io", "servicecidrs"),
            ("policy.networking.k8s.io", "clusternetworkpolicies"),
            ("discovery.k8s.io", "endpointslices"),
            ("l3net.io", "bgpconfigurations"),
            ("l3net.io", "bgppeers"),
            ("l3net.io", "bgpfilters"),
            ("l3net.io", "ippools"),
            ("l3net.io", "floatingips"),
            ("l3net.io", "egressips"),
        )
    }
    written = {(call.group, call.resource, call.subresource) for call in api.calls} - {
        (call.group, call.resource, call.subresource) for call in reads
    }
    assert written <= {("", "nodes", "status"), ("", "events", ""), ("l3net.io", "bgppeers", "status")}
