"""The load generator of bench/scale.py asks what an agent asks: the same in kind, number and query."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import scaling_path  # noqa: F401 - for the next two
from apiserver import FakeApiServer
from kube_follower import Follower, service
from node_rig import NODE, TOR4, Rig
from scaling.asking import Speaking
from scaling.serving import CountingApi, listen
from test_kubeapi_agent import listen_inside

from l3net.shell.kubernetes.api import KubeApi
from l3net.shell.kubernetes.store import KubernetesDatastore
from l3net.shell.kubernetes.writer import KubeOwnNode

Asked = Counter[tuple[str, str, tuple[tuple[str, str], ...]]]
WATCHES = 14
#: What differs between two servers, or is drawn by lot.
DRAWN = {"resourceVersion", "continue", "timeoutSeconds"}
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny", "namespace": "default"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}


def asked(requests: list[tuple[str, str]]) -> Asked:
    found: Asked = Counter()
    for method, target in requests:
        url = urlsplit(target)
        query = [
            (key, "*" if key in DRAWN and value != "0" else value) for key, value in parse_qsl(url.query)
        ]
        # Which collection is asked where the store stands, is the one that changed last.
        path = "" if ("limit", "1") in query else url.path
        found[method, path, tuple(sorted(query))] += 1
    return found


def restarted(requests: list[tuple[str, str]]) -> bool:
    """Whether every watch was begun a second time."""
    return sum("watch=1" in target for _, target in requests) == 2 * WATCHES


def declared(mesh: bool, policies: bool) -> list[dict[str, Any]]:
    configuration = {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "BGPConfiguration",
        "metadata": {"name": "default"},
        "spec": {"nodeToNodeMesh": mesh},
    }
    other = {**NODE, "metadata": {"name": "other"}}
    services = [service(f"s{number}", f"10.96.{number // 250}.{number % 250 + 1}") for number in range(1001)]
    return [NODE, other, configuration, TOR4, *services, *([POLICY] if policies else [])]


def spoken(documents: list[dict[str, Any]], *, mesh: bool, policies: bool) -> Asked:
    """What the generator asks until all its watches are there."""

    async def speak() -> Asked:
        api = CountingApi()
        api.put(*documents)
        server = await listen(api)
        agent = Speaking(api.port, "node", Random(1), mesh=mesh, policies=policies)
        agent.start()
        try:
            async with asyncio.timeout(20):
                await agent.synced()
                while api.followers < WATCHES or agent.counted["octets"] != sum(api.sent.values()):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                api.cut_all()
                while api.followers != WATCHES or not restarted(api.requests):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        finally:
            await agent.stop()
            server.close()
        return asked(api.requests)

    return asyncio.run(speak())


@pytest.mark.parametrize("policies", [False, True])
@pytest.mark.parametrize("mesh", [False, True])
def test_it_reads_as_the_agents_datastore_does(tmp_path: Path, mesh: bool, policies: bool) -> None:
    documents = declared(mesh, policies)
    with FakeApiServer() as api:
        api.put(*documents)
        with Follower(KubernetesDatastore(KubeApi(api.kubeconfig(tmp_path / "config")), "node")) as follower:
            follower.synced()
            follower.until(lambda: api.watching == WATCHES, "every watch")
            api.cut()
            while not restarted(api.requests):
                time.sleep(0.01)
            real = asked(api.requests)
    assert spoken(documents, mesh=mesh, policies=policies) == real
    # The control: another scope asks otherwise.
    assert spoken(documents, mesh=not mesh, policies=policies) != real


def listen_again(rig: Rig, api: FakeApiServer) -> None:
    """Every connection breaks, and every watch goes on."""
    api.cut()
    rig.until(lambda: restarted(api.requests), "every watch again")


@pytest.mark.netns
def test_it_reads_as_a_real_agent_does(rig: Rig) -> None:
    documents = declared(mesh=False, policies=False)
    api = FakeApiServer()
    api.put(*documents)
    listen_inside(api, rig.node.pid)
    try:
        config = api.kubeconfig(rig.directory / "kubeconfig")
        argv = ["agent", "--kubeconfig", str(config), "--node-name", "node"]
        rig.node.spawn("agent", [sys.executable, "-m", "l3net.cli.main", *argv])
        rig.until(lambda: api.watching == WATCHES, "every watch")
        listen_again(rig, api)
        reads = [each for each in api.requests if each[0] == "GET" and not each[1].endswith("/node")]
    finally:
        api.stop()
    assert spoken(documents, mesh=False, policies=False) == asked(reads)


WRITES: dict[str, tuple[Callable[[KubeOwnNode], None], Callable[[Speaking], Any]]] = {
    "condition": (lambda own: own.set_network_available(), lambda agent: agent.say_available()),
    "session": (
        lambda own: own.report_sessions("tor4", [("10.90.0.2", True, "")]),
        lambda agent: agent.say_session("tor4", "10.90.0.2"),
    ),
}


@pytest.mark.parametrize("what", WRITES)
def test_it_writes_as_an_agent_does(tmp_path: Path, what: str) -> None:
    really, alike = WRITES[what]
    with FakeApiServer() as api:
        api.put(NODE, TOR4)
        really(KubeOwnNode(KubeApi(api.kubeconfig(tmp_path / "config")), "node"))
        real, kept = asked(api.requests), [api.get(*each) for each in (("Node", "node"), ("BGPPeer", "tor4"))]

    async def speak() -> tuple[Asked, list[Any]]:
        mine = CountingApi()
        mine.put(NODE, TOR4)
        server = await listen(mine)
        agent = Speaking(mine.port, "node", Random(1), mesh=False)
        await alike(agent)
        await agent.stop()
        server.close()
        return asked(mine.requests), [mine.get(*each) for each in (("Node", "node"), ("BGPPeer", "tor4"))]

    found, made = asyncio.run(speak())
    assert found == real
    assert len(real) == 2
    assert [sorted((each or {}).get("status") or {}) for each in made] == [
        sorted((each or {}).get("status") or {}) for each in kept
    ]
