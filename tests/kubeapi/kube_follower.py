"""The datastore over a fake API server, its events collected by a loop in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from l3net.model import Fact, Kind, ObjectName
from l3net.ports import Changed, DatastoreEvent, InSync, Mended, Rejected
from l3net.shell.kubernetes.store import KubernetesDatastore

#: First and longest wait between attempts: short, so that tests are.
BACKOFF = (0.02, 0.1)


class Follower:
    """Runs a datastore and keeps what it said. `state` is what a loop would hold."""

    def __init__(self, datastore: KubernetesDatastore) -> None:
        self._datastore = datastore
        self._heard = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.events: list[DatastoreEvent] = []
        self.state: dict[tuple[Kind, ObjectName], Fact] = {}
        self.rejected: set[Rejected] = set()
        self.in_sync = 0

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        async def main() -> None:
            self._task = asyncio.current_task()
            events = self._datastore.events()
            try:
                async for event in events:
                    with self._heard:
                        self._take(event)
                        self._heard.notify_all()
            finally:
                await events.aclose()

        try:
            self._loop.run_until_complete(main())
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    def _take(self, event: DatastoreEvent) -> None:
        self.events.append(event)
        match event:
            case Changed(kind=kind, name=name, fact=None):
                self.state.pop((kind, name), None)
            case Changed(kind=kind, name=name, fact=fact):
                self.state[kind, name] = fact
            case Rejected():
                self.rejected.add(event)
            case Mended(rejected=rejected):
                self.rejected.discard(rejected)
            case InSync():
                self.in_sync += 1

    def until(self, condition: Callable[[], object], what: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        with self._heard:
            while not condition():
                left = deadline - time.monotonic()
                assert left > 0, f"waited in vain for {what}: {self.events[-8:]}, {self.rejected}"
                self._heard.wait(min(left, 0.05))

    def synced(self) -> Follower:
        self.until(lambda: self.in_sync, "InSync")
        return self

    def names(self, kind: Kind) -> set[str]:
        with self._heard:
            return {name.name for found, name in self.state if found is kind}

    def has(self, kind: Kind, *names: str) -> None:
        self.until(lambda: self.names(kind) == set(names), f"{kind.value} {names}")

    def mark(self) -> int:
        """Where the events stand."""
        with self._heard:
            return len(self.events)

    def since(self, mark: int) -> list[DatastoreEvent]:
        with self._heard:
            return self.events[mark:]


def node(name: str, address: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"podCIDRs": [f"10.244.{address.rpartition('.')[2]}.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }


def service(name: str, address: str = "10.96.0.1", **spec: object) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80}], **spec},
    }


def endpoints(name: str, *addresses: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-abc",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
    }


def own(kind: str, name: str, **spec: object) -> dict[str, Any]:
    return {"apiVersion": "l3net.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def configuration(**spec: object) -> dict[str, Any]:
    return own("BGPConfiguration", "default", **spec)


def peer(name: str, **spec: object) -> dict[str, Any]:
    return own("BGPPeer", name, **{"address": "10.0.0.9", "asNumber": 65001, **spec})


def secret(name: str, value: str, namespace: str = "kube-system") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"password": value}}


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod(name: str, address: str, where: str = "n1", space: str = "default", **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": labels, "uid": f"uid-{name}"},
        "spec": {"nodeName": where, "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }


def network_policy(name: str, space: str = "default", **spec: object) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": space},
        "spec": {"podSelector": {}, **spec},
    }


def cluster_policy(name: str, **spec: object) -> dict[str, Any]:
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name},
        "spec": {"tier": "Admin", "priority": 5, "subject": {"namespaces": {}}, **spec},
    }
