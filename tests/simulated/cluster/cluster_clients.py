"""Processes of a simulated cluster that ask the API: two controllers, and a node's datastore."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from cluster_case import CONTROLLERS
from cluster_views import GRACE
from sim_transport import Link
from threads import Process

from l3net.cli.controller import composed, together
from l3net.controller.decide import Settings
from l3net.controller.loop import Controller
from l3net.controller.verdicts import Verdicts
from l3net.kube.registry import KINDS
from l3net.ports import DatastoreEvent
from l3net.shell.kubernetes.api import KubeApi
from l3net.shell.kubernetes.reflector import RELIST
from l3net.shell.kubernetes.store import KubernetesDatastore

if TYPE_CHECKING:
    from cluster_world import ClusterWorld

NAMESPACE = "kube-system"


class Seen:
    """A datastore, and who looks on."""

    def __init__(self, store: Any, hear: Callable[[DatastoreEvent], None]) -> None:
        self.store, self._hear = store, hear

    async def events(self) -> AsyncIterator[DatastoreEvent]:
        async with contextlib.aclosing(self.store.events()) as events:
            async for event in events:
                self._hear(event)
                yield event


class Client:
    """A process that asks the API, started again and again under one name."""

    def __init__(self, world: ClusterWorld, name: str) -> None:
        self.world, self.name = world, name
        self.process: Process | None = None
        self.link: Link | None = None
        self.server, self.skew, self.starts = int(name == "b"), 0.0, 0
        self.started = 0.0
        self.controller: Controller | None = None
        self.verdicts: Verdicts | None = None
        self.store: KubernetesDatastore | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and not self.process.dead

    def api(self) -> KubeApi:
        self.starts, self.started = self.starts + 1, self.world.now
        self.process = self.world.threads.process(self.name, self.skew)
        self.link = Link(self.world.api, self.process, self.server)
        return KubeApi(threads=self.process.threads, configure=self.link.configure())

    def start(self) -> None:
        if self.running:
            return
        api = self.api()
        assert self.process is not None
        look = self.world.watchers(self)
        if self.name not in CONTROLLERS:
            # It looks more often than others: so there are lists out of caches.
            relist = (40.0, 90.0) if self.world.seed % 4 == 1 else RELIST
            store = self.store = KubernetesDatastore(api, self.name, relist=relist)
            look.kinds = tuple(store._kinds)

            async def follow() -> None:
                async for _ in Seen(store, look.hear).events():
                    pass

            self.process.run(follow)
            return
        identity = f"{self.name}-{self.starts}"
        self.controller, self.verdicts = composed(api, NAMESPACE, identity, Settings(GRACE), lambda _: None)
        self.store = self.controller._datastore  # type: ignore[assignment]
        look.kinds = KINDS.watched("controller")
        self.controller._datastore = Seen(self.store, look.hear)
        parts = self.controller, self.verdicts
        self.process.run(lambda: together(*parts))

    def kill(self) -> None:
        if self.process is not None and self.running:
            self.process.kill()
        self.controller = self.verdicts = self.store = None
