"""A simulated node's datastore that is the real one, over a model of an API server.

    world = SimThreads(loop, seed)
    node.datastore = KubeBacked(SimApi(world, seed), "n1")      # before the node is begun

The loop has to be a `threads.ThreadLoop` (threads.simulate_threads).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from sim_api import SimApi
from sim_etcd import place_of
from sim_transport import linked
from threads import Process

from l3net.model import Kind
from l3net.ports import DatastoreEvent, View
from l3net.shell.kubernetes.api import KubeApi
from l3net.shell.kubernetes.store import KubernetesDatastore


class KubeBacked:
    """In place of sim_node.SimDatastore."""

    def __init__(self, api: SimApi, node: str) -> None:
        self.api, self.node = api, node
        self.process: Process | None = None
        self._store: KubernetesDatastore | None = None

    async def events(self) -> AsyncIterator[DatastoreEvent]:
        """Each time by a process of its own, as an agent that starts has it."""
        process = self.process = self.api.threads.process(self.node)
        client = KubeApi(threads=process.threads, configure=linked(self.api, process))
        self._store = store = KubernetesDatastore(client, self.node)
        events = store.events()
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()  # type: ignore[attr-defined]
            process.kill()

    def views(self) -> Mapping[Kind, View]:
        return self._store.views() if self._store is not None else {}

    def apply(self, *documents: Mapping[str, Any]) -> None:
        for document in documents:
            self.api.etcd.put(dict(document))

    def delete(self, document: Mapping[str, Any]) -> None:
        metadata = document["metadata"]
        name = metadata.get("namespace", ""), metadata["name"]
        self.api.etcd.remove(place_of(document["kind"]), name)

    def fail(self) -> None:
        for server in self.api.servers:
            server.restart()
