"""A cluster on the fake API server, and controllers that serve it in a thread each."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import zlib
from collections.abc import Callable
from ipaddress import ip_network
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from apiserver import FakeApiServer

from l3net.controller.decide import Settings
from l3net.controller.election import Election
from l3net.controller.loop import Controller
from l3net.controller.verdicts import Verdicts
from l3net.kube.registry import KINDS
from l3net.shell.kubernetes.api import KubeApi
from l3net.shell.kubernetes.store import KubernetesDatastore
from l3net.shell.kubernetes.writer import KubeLease, KubeWriter

NAMESPACE = "kube-system"
#: For a test that runs on the fake API server, and on a real one where KUBEBUILDER_ASSETS names its programs.
both = pytest.mark.parametrize("api", ["fake", "real"], indirect=True)


class Always(Election):
    """A candidate that thinks it leads, whatever the lease says, as a paused leader does when it wakes."""

    @property
    def leading(self) -> bool:
        return True

    def attempt(self) -> bool:
        return True

    def release(self) -> None:
        pass


class Running:
    """A controller in a thread of its own, until `stop`. `offset` moves the clock of its decisions."""

    def __init__(
        self,
        api: FakeApiServer,
        path: Path,
        name: str,
        *,
        settings: Settings,
        election: type[Election] = Election,
    ) -> None:
        self.offset = 0.0
        self._loop = asyncio.new_event_loop()
        client = KubeApi(api.kubeconfig(path / f"kubeconfig-{name}"))
        self.election = election(KubeLease(client, NAMESPACE), name, time.monotonic)
        writer = KubeWriter(client, NAMESPACE)
        self.verdicts = Verdicts(
            writer, lambda: self.controller.leading, self.clock, random.random, every=0.05
        )
        datastore = KubernetesDatastore(
            client,
            "",
            nodes="all",
            secrets=False,
            kinds=KINDS.watched("controller"),
            judge=self._judge,
            backoff=(0.02, 0.1),
        )
        self.controller = Controller(
            datastore,
            writer,
            self.election,
            settings,
            self.clock,
            random.random,
            distrust=datastore.distrust,
        )
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _judge(self, kind: Any, name: Any, document: Any, error: Any) -> None:
        """As `l3net controller` has it."""
        self.verdicts.judge(kind, name, document, error)
        if (controller := getattr(self, "controller", None)) is not None:
            controller.seen(kind, name, document)

    def clock(self) -> float:
        return time.monotonic() + self.offset

    def _run(self) -> None:
        async def main() -> None:
            self._task = asyncio.current_task()
            async with asyncio.TaskGroup() as group:
                group.create_task(self.controller.run())
                group.create_task(self.verdicts.run())

        try:
            self._loop.run_until_complete(main())
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    def advance(self, seconds: float) -> None:
        """Let time pass for it; it looks again at once."""
        self.offset += seconds
        self._loop.call_soon_threadsafe(self.controller._dirty.set)

    def stop(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())
        self._thread.join(30)
        assert not self._thread.is_alive()


def until(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
    return found


def node(name: str, address: str = "", **spec: Any) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "address": address}] if address else []
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": spec,
        "status": {"addresses": addresses},
    }


def pool(name: str, cidr: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "IPPool",
        "metadata": {"name": name},
        "spec": {"cidr": cidr, **spec},
    }


def balancer(name: str, annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    cluster_ip = f"10.96.1.{zlib.crc32(name.encode()) % 250}"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations or {}},
        "spec": {
            "type": "LoadBalancer",
            "loadBalancerClass": "l3net.io/bgp",
            "clusterIP": cluster_ip,
            "clusterIPs": [cluster_ip],
            "ports": [{"port": 80, "protocol": "TCP"}],
            **spec,
        },
    }


def blocks(api: FakeApiServer, name: str) -> list[str]:
    """podCIDRs and those added."""
    found = api.get("Node", name)
    assert found is not None
    added = found["metadata"].get("annotations", {}).get("l3net.io/blocks", "")
    return [*found["spec"].get("podCIDRs", []), *filter(None, added.split(","))]


def ingress(api: FakeApiServer, name: str) -> list[str]:
    found = api.get("Service", name)
    assert found is not None
    return [each["ip"] for each in found.get("status", {}).get("loadBalancer", {}).get("ingress") or ()]


def ledger(api: FakeApiServer) -> dict[str, str]:
    found = api.get("ConfigMap", "l3net-ledger", NAMESPACE)
    return (
        dict(line.split(" ") for key in ("blocks", "addresses") for line in found["data"][key].splitlines())
        if found
        else {}
    )


def assert_no_overlap(api: FakeApiServer) -> None:
    held = [
        (ip_network(block), found["metadata"]["name"])
        for found in api.objects("Node")
        for block in blocks(api, found["metadata"]["name"])
    ]
    for (first, one), (second, other) in combinations(held, 2):
        assert first.version != second.version or not first.overlaps(second), (one, first, other, second)
    given = [ip for found in api.objects("Service") for ip in ingress(api, found["metadata"]["name"])]
    assert len(given) == len(set(given)), given


def with_sessions(name: str, *nodes: str) -> dict[str, Any]:
    """A BGPPeer in whose status these nodes have a session."""
    return {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "BGPPeer",
        "metadata": {"name": name},
        "spec": {"address": "10.0.0.9", "asNumber": 65001},
        "status": {
            "established": f"{len(nodes)}/{len(nodes)}",
            "sessions": [
                {"node": node, "address": "10.0.0.9", "state": "Established", "since": "2020-01-01T00:00:00Z"}
                for node in nodes
            ],
        },
    }
