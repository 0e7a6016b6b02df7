"""The declared state from the Kubernetes API: a ports.Datastore over one reflector a kind.

Each reflector blocks in a thread of its own; the loop takes over what they heard, the latest of each object.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Protocol, TypeAlias

from l3net.errors import ManifestError
from l3net.kube.registry import KINDS as DECLARED
from l3net.model import Kind, ObjectName
from l3net.ports import Changed, DatastoreEvent, InSync, Mended, Rejected, View
from l3net.shell.kubernetes.api import KubeApi
from l3net.shell.kubernetes.kinds import KINDS, Document, KubeKind
from l3net.shell.kubernetes.reach import LINGER, Reach
from l3net.shell.kubernetes.reflector import BACKOFF, RELIST, Reflector
from l3net.shell.kubernetes.selection import NOTHING, Nothing, OnNode, Selection

log = logging.getLogger("l3net.kube")

_Key: TypeAlias = tuple[Kind, ObjectName]


class Judge(Protocol):
    """Hears of every object of ours that is read, and what is wrong with it (None: nothing).

    Called from threads, must not block.
    """

    def __call__(
        self, kind: KubeKind, name: ObjectName, document: Document, error: ManifestError | None
    ) -> None: ...


class KubernetesDatastore:
    """Everything the agent of the node `me` needs. Nothing is said to be in sync before all is listed.

    `nodes`: "needed" watches this node alone when no decision looks at others; "all" (the controller) always
    all. Pods are all watched where there are policies, until `linger` seconds after the last, else those of
    `me`, which may be empty; policies are told once all Pods are. Secrets are read by name, only those that a
    BGPPeer or the BGPConfiguration names (`secrets` False: none). `kinds`: what to read besides Nodes and
    Secrets, for one who needs other ones than an agent.
    """

    def __init__(
        self,
        api: KubeApi,
        me: str,
        *,
        nodes: str = "needed",
        secrets: bool = True,
        kinds: Iterable[Kind] | None = None,
        judge: Judge | None = None,
        backoff: tuple[float, float] = BACKOFF,
        relist: tuple[float, float] = RELIST,
        linger: float = LINGER,
    ) -> None:
        self._api, self._me = api, me
        self._all_nodes, self._want_secrets, self._linger = nodes == "all", secrets, linger
        wanted = DECLARED.watched("agent") if kinds is None else kinds
        self._kinds = tuple(dict.fromkeys(kind for kind in wanted if kind is not Kind.NODE))
        self._judge, self._backoff, self._relist = judge, backoff, relist
        self._feeds: _Feeds | None = None

    def views(self) -> Mapping[Kind, View]:
        """How old what is known of each kind is. Secrets, which are read by name, are none of them."""
        return self._feeds.views() if self._feeds is not None else {}

    def detour(self) -> str:
        """Where the API server is asked, if not at the configured address; empty: it is."""
        by = self._api.servers.by
        return f"the API server cannot be reached at {self._api.url}, and is asked at {by}" if by else ""

    def distrust(self) -> None:
        """What was read proved stale: list everything anew. From any thread."""
        if self._feeds is not None:
            self._feeds.distrust()

    async def events(self) -> AsyncIterator[DatastoreEvent]:
        """The current objects, InSync, then every change, for ever. Ends its threads when closed."""
        inbox = _Inbox(asyncio.get_running_loop())
        feeds = self._feeds = _Feeds(self._api, inbox, self._judge, self._backoff, self._relist)
        reach = Reach(
            feeds,
            self._me,
            all_nodes=self._all_nodes,
            secrets=self._want_secrets,
            kinds=self._kinds,
            linger=self._linger,
        )
        in_sync = False
        try:
            for kind in self._kinds:
                if kind is not Kind.POD:
                    feeds.start(kind)
            while True:
                before = feeds.known(*reach.of_policies)
                for event in await inbox.take():
                    if isinstance(event, Changed) and event.kind is Kind.ENDPOINT_SLICE:
                        self._api.servers.note(event.name, event.fact)
                    if not isinstance(event, Changed) or reach.take(event):
                        yield event
                reach.follow()
                # What a reflector delivered is in the inbox before it is complete.
                known = feeds.known(*reach.of_policies)
                if reach.waits and known is not None and (known == before or inbox.empty()):
                    for event in reach.release():
                        yield event
                if (
                    not in_sync
                    and feeds.complete(*self._kinds, Kind.NODE)
                    and feeds.secrets_known()
                    and inbox.empty()
                    and not reach.waits
                ):
                    in_sync = True
                    yield InSync()
        finally:
            feeds.stop()


class _Inbox:
    """Events from threads to the loop: in order, but of an object only the latest."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._waiting: dict[object, DatastoreEvent] = {}
        self._ready = asyncio.Event()
        self._told = False
        self._closed = False

    def put(self, events: Iterable[DatastoreEvent]) -> None:
        with self._lock:
            if self._closed:
                return
            for event in events:
                key: object = (event.kind, event.name) if isinstance(event, Changed) else event
                if isinstance(event, Mended):  # either of a pair undoes the other, if nobody heard it yet
                    if self._waiting.pop(event.rejected, None) is not None:
                        continue
                elif isinstance(event, Rejected) and self._waiting.pop(Mended(event), None) is not None:
                    continue
                self._waiting.pop(key, None)
                self._waiting[key] = event
            self._wake()

    def wake(self) -> None:
        with self._lock:
            if not self._closed:
                self._wake()

    def _wake(self) -> None:
        if not self._told:
            self._told = True
            self._loop.call_soon_threadsafe(self._ready.set)

    async def take(self) -> list[DatastoreEvent]:
        await self._ready.wait()
        self._ready.clear()
        with self._lock:
            self._told = False
            found, self._waiting = list(self._waiting.values()), {}
        return found

    def empty(self) -> bool:
        with self._lock:
            return not self._waiting

    def close(self) -> None:
        with self._lock:
            self._closed = True


class _Feed:
    """Listens to one reflector; once dropped, nothing more is heard of it."""

    def __init__(
        self,
        inbox: _Inbox,
        judge: Judge | None,
        troubles: _Troubles,
        rewound: Callable[[Reflector | None], None],
    ) -> None:
        self._inbox, self._judge, self._troubles, self._rewound = inbox, judge, troubles, rewound
        self._lock = threading.Lock()
        self._held: set[_Key] = set()
        self._rejected: set[Rejected] = set()
        self._live = True

    def deliver(self, events: list[DatastoreEvent]) -> None:
        with self._lock:
            if not self._live:
                return
            for event in events:
                match event:
                    case Changed(kind=kind, name=name, fact=None):
                        self._held.discard((kind, name))
                    case Changed(kind=Kind.SECRET as kind, name=name):
                        self._held.add((kind, name))
                    case Rejected():
                        self._rejected.add(event)
                    case Mended(rejected=rejected):
                        self._rejected.discard(rejected)
            self._inbox.put(events)

    def listed(self, reflector: Reflector) -> None:
        self._inbox.wake()

    def trouble(self, reflector: Reflector, why: str) -> None:
        with self._lock:
            if self._live:
                self._inbox.put(self._troubles.change(reflector, why))
                self._inbox.wake()

    def judged(
        self, kind: KubeKind, name: ObjectName, document: Document, error: ManifestError | None
    ) -> None:
        if self._judge is not None and kind.kind is not Kind.SECRET:
            self._judge(kind, name, document, error)

    def rewound(self, reflector: Reflector) -> None:
        self._rewound(reflector)

    def drop(self, reflector: Reflector) -> None:
        """What it told of is gone."""
        with self._lock:
            self._live = False
            self._inbox.put(self._troubles.change(reflector, ""))
            self._inbox.put([Mended(rejected) for rejected in self._rejected])
            self._inbox.put([Changed(kind, name, None) for kind, name in self._held])


class _Troubles:
    """What stands in the way of reading, each said once however many reflectors meet it."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._by_reflector: dict[Reflector, str] = {}

    def change(self, reflector: Reflector, why: str) -> list[DatastoreEvent]:
        with self._lock:
            before = set(self._by_reflector.values())
            self._by_reflector.pop(reflector, None)
            if why:
                self._by_reflector[reflector] = why
            after = set(self._by_reflector.values())
        consequence = "what was read before stays in force"
        return [
            *(Mended(Rejected(self._where, "", f"{each}; {consequence}")) for each in sorted(before - after)),
            *(Rejected(self._where, "", f"{each}; {consequence}") for each in sorted(after - before)),
        ]


class _Feeds:
    """The reflectors that run."""

    def __init__(
        self,
        api: KubeApi,
        inbox: _Inbox,
        judge: Judge | None,
        backoff: tuple[float, float],
        relist: tuple[float, float],
    ) -> None:
        self._api, self._inbox, self._judge = api, inbox, judge
        self._backoff, self._relist = backoff, relist
        self._troubles = _Troubles(f"API server {api.url}")
        self._by_kind: dict[Kind, Reflector] = {}
        self._secrets: dict[ObjectName, tuple[Reflector, _Feed]] = {}
        api.versions.on_rewound = self.distrust

    def wake(self) -> None:
        self._inbox.wake()

    def drained(self) -> bool:
        return self._inbox.empty()

    def start(self, kind: Kind, only: Selection = None) -> None:
        feed = _Feed(self._inbox, self._judge, self._troubles, self.distrust)
        reflector = Reflector(
            self._api, KINDS[kind], feed, only=only, backoff=self._backoff, relist=self._relist
        )
        self._by_kind[kind] = reflector
        reflector.start()

    def complete(self, *kinds: Kind) -> bool:
        return self.known(*kinds) is not None

    def known(self, *kinds: Kind) -> tuple[int, ...] | None:
        """Which scope of each is delivered, by number; None while one is not."""
        found: list[int] = []
        for kind in kinds:
            number = self._by_kind[kind].known if kind in self._by_kind else None
            if number is None:
                return None
            found.append(number)
        return tuple(found)

    def follow(self, kind: Kind, only: Selection) -> None:
        reflector = self._by_kind.get(kind)
        if reflector is None:
            self.start(kind, only)
        elif reflector.only != only:
            log.info("watching %s", _told(kind, only))
            reflector.narrow(only)

    def follow_secrets(self, names: frozenset[ObjectName]) -> None:
        for name in self._secrets.keys() - names:
            reflector, feed = self._secrets.pop(name)
            reflector.stop()
            feed.drop(reflector)
        for name in names - self._secrets.keys():
            feed = _Feed(self._inbox, None, self._troubles, self.distrust)
            reflector = Reflector(
                self._api, KINDS[Kind.SECRET], feed, only=name, by_name=True, backoff=self._backoff
            )
            self._secrets[name] = reflector, feed
            reflector.start()

    def distrust(self, but: Reflector | None = None) -> None:
        """Versions went back, or a view proved stale: everything is listed again, by all `but` this one."""
        self._api.versions.forget()
        for reflector in self._running():
            if reflector is not but:
                reflector.distrust()

    def views(self) -> dict[Kind, View]:
        running = self._by_kind.copy().items()
        return {kind: reflector.view() for kind, reflector in running if reflector.only is not NOTHING}

    def _running(self) -> list[Reflector]:
        return [
            *self._by_kind.copy().values(),
            *(reflector for reflector, _ in self._secrets.copy().values()),
        ]

    def secrets_known(self) -> bool:
        """Whether each Secret is read, or known to be out of reach: then its peers say so, and wait."""
        return all(reflector.complete or reflector.forbidden for reflector, _ in self._secrets.values())

    def stop(self) -> None:
        self._inbox.close()
        for reflector in self._running():
            reflector.stop()


def _told(kind: Kind, only: Selection) -> str:
    match only:
        case None:
            return f"every {kind.value}"
        case Nothing():
            return f"no {kind.value}"
        case OnNode():
            return f"this node's {kind.value}s alone"
        case ObjectName():
            return f"this node's {kind.value} alone"
