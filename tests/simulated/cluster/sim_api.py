"""An API server as a model: two servers over one store, each of which may lag behind, hang, lie or be gone.

Requests come in as bytes and go out as bytes (sim_transport.py), so that everything of l3net from api.py on
is the real one. What it answers follows Kubernetes' documents: a get and a list without a version are read
from the store, a list of version 0 and watches from the server's cache; a watch from before the cache
begins is 410, one from a version that is still to come hears nothing until then; bookmarks come once a
minute.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

from apiserver import Call, StatusError, json_patch, merge_patch, selector, split
from sim_etcd import PLACES, Change, Etcd, Name, Object, Place, Stored, encode
from sim_faults import Faults
from threads import EPOCH, SimEvent, SimThreads

#: Seconds between two bookmarks; of a change's way from the store into a cache and down a watch, at most.
BOOKMARKS = 60.0
DELAY = 0.05
#: Seconds between two probes of TCP keepalive (kubernetes.utils.keepalive).
PROBES = 15.0
#: Lines that a client that does not read may leave unread.
UNREAD = 2000
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
RESET = object()
END = object()


@dataclass(frozen=True)
class Request:
    """`client` is who asks; `body` its JSON."""

    client: str
    method: str
    target: str
    headers: dict[str, str]
    body: bytes | None


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    watch: Watch | None = None


class Watch:
    """One watch: lines for the client, and where it stands."""

    def __init__(self, server: Server, place: Place, namespace: str, query: dict[str, str]) -> None:
        self.server, self.place, self.namespace = server, place, namespace
        self.wanted = selector(query)
        self.lines: deque[bytes | object] = deque()
        self.readable = SimEvent(server.api.threads)
        self.client = ""
        self.open, self.at = True, server.version
        self._bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        self._pumping = False
        self._kept: list[bytes] = []
        loop = server.api.threads.loop
        now = loop.time()
        self._timers = [loop.call_at(now + float(query.get("timeoutSeconds") or 1800), self._expire)]
        if self._bookmarks:
            self._timers.append(loop.call_at(now + BOOKMARKS, self._bookmark_due))

    def say(self, kind: str, encoded: bytes) -> None:
        self.put(b'{"type":"' + kind.encode() + b'","object":' + encoded + b"}\n")

    def put(self, line: bytes | object) -> None:
        if isinstance(line, bytes):
            for each in self.server.api.faults.garble(line, self.place, self._kept):
                self.lines.append(each)
            if len(self.lines) > UNREAD:
                self.lines.append(END)
        else:
            self.lines.append(line)
        self.readable.set()

    def soon(self) -> None:
        """There is something for it."""
        if not self._pumping and self.open:
            self._pumping = True
            api = self.server.api
            api.threads.loop.call_later(api.random.random() * DELAY, self._pump)

    @property
    def _hushed(self) -> bool:
        """Whether nothing of it arrives."""
        return self.server.silent or self.server.api.faults.lost(self.client)

    def _pump(self) -> None:
        self._pumping = False
        if self.open and not self._hushed:
            self.catch_up()

    def catch_up(self) -> None:
        server = self.server
        if self.at < server.version:
            for change in server.api.etcd.since(self.at):
                if change.version > server.version:
                    break
                if change.place == self.place and self.namespace in ("", change.name[0]):
                    self._tell(change)
            self.at = server.version

    def _tell(self, change: Change) -> None:
        """As one with a selector sees it: leaving the selection is being deleted."""
        before = change.before is not None and self.wanted(change.before.document)
        if change.after is not None and self.wanted(change.after.document):
            self.say("MODIFIED" if before else "ADDED", change.after.encoded)
        elif before:
            last = change.gone or change.after
            assert last is not None
            self.say("DELETED", last.encoded)

    def _bookmark_due(self) -> None:
        if self.open:
            loop = self.server.api.threads.loop
            self._timers[-1] = loop.call_at(loop.time() + BOOKMARKS, self._bookmark_due)
            self.bookmark()

    def bookmark(self) -> None:
        if self._hushed or self.at > self.server.version:
            return
        self.catch_up()
        resource = PLACES[self.place]
        self.say(
            "BOOKMARK",
            encode(
                {
                    "kind": resource.kind,
                    "apiVersion": resource.api_version,
                    "metadata": {"resourceVersion": str(self.at), "creationTimestamp": None},
                }
            ),
        )

    def _expire(self) -> None:
        if self.open and not self._hushed:
            if self._bookmarks:
                self.bookmark()
            self.close(END)

    def close(self, how: object = END) -> None:
        if self.open:
            self.open = False
            for timer in self._timers:
                timer.cancel()
            self.server.watches[self.place].remove(self)
            self._end(how)

    def _end(self, how: object) -> None:
        """Who is cut off does not hear of it: a probe of his keepalive is refused when he is no longer."""
        api = self.server.api
        if api.faults.lost(self.client):
            api.threads.loop.call_later(api.random.uniform(0.5, 1.0) * PROBES, self._end, RESET)
        else:
            self.put(how)


class Server:
    """One kube-apiserver: a cache of the store, which may be behind, and watches of it."""

    def __init__(self, api: SimApi, number: int) -> None:
        self.api, self.number = api, number
        self.version = self.oldest = api.etcd.version
        self.cache: dict[Place, dict[Name, Stored]] = {place: {} for place in PLACES}
        self.watches: dict[Place, list[Watch]] = {place: [] for place in PLACES}
        self.silent = self.lagging = False
        self._lists: dict[str, tuple[int, list[bytes]]] = {}

    def hear(self, change: Change) -> None:
        if not self.lagging:
            self.catch_up()
            for watch in self.watches[change.place]:
                watch.soon()

    def catch_up(self) -> None:
        for change in self.api.etcd.since(self.version):
            if change.after is None:
                self.cache[change.place].pop(change.name, None)
            else:
                self.cache[change.place][change.name] = change.after
        self.version = self.api.etcd.version

    def set(self, *, silent: bool | None = None, lagging: bool | None = None) -> None:
        self.silent = self.silent if silent is None else silent
        self.lagging = self.lagging if lagging is None else lagging
        if not self.lagging:
            self.catch_up()
        self.wake()

    def wake(self) -> None:
        """Watches may have something to say."""
        for watch in self._open():
            watch.soon()

    def _open(self) -> list[Watch]:
        return [watch for watches in self.watches.values() for watch in watches]

    def cut(self, how: object = RESET) -> None:
        for watch in self._open():
            watch.close(how)

    def restart(self) -> None:
        """Its cache begins with what the store holds."""
        self.cut()
        self.cache = {place: dict(found) for place, found in self.api.etcd.objects.items()}
        self.version = self.oldest = self.api.etcd.version
        self._lists.clear()

    # --- requests ----------------------------------------------------------------------------------------

    def serve(self, request: Request) -> Answer:
        """Carry it out; how it went."""
        try:
            return self._serve(request)
        except StatusError as err:
            return Answer(err.code, encode(err.document()), err.headers)

    def _serve(self, request: Request) -> Answer:
        url = urlsplit(request.target)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        place, namespace, name, subresource = parse(url.path)
        watching = query.get("watch") in ("true", "1")
        verb = VERBS.get(request.method) or ("get" if name else "watch" if watching else "list")
        call = Call(verb, *place, subresource)
        self.api.faults.admit(request.client, call, request.headers.get("authorization", ""))
        etcd = self.api.etcd
        if verb == "watch":
            return Answer(200, watch=self._watch(place, namespace, query))
        if verb == "list":
            return Answer(200, self._list(place, namespace, query))
        if verb == "get":
            return Answer(200, etcd.read(place, (namespace, name)).encoded)
        self.api.writing = request.client
        try:
            if verb == "create":
                return Answer(201, etcd.create(place, namespace, json.loads(request.body or b"")).encoded)
            if verb == "delete":
                return Answer(200, etcd.remove(place, (namespace, name)).encoded)
            change = _change(request)
            return Answer(200, etcd.update(place, (namespace, name), subresource, change).encoded)
        finally:
            self.api.writing = ""

    def _list(self, place: Place, namespace: str, query: dict[str, str]) -> bytes:
        limit, token = int(query.get("limit") or 0), query.get("continue", "")
        limit = min(limit or self.api.page, self.api.page)
        if token:
            handle, _, start_text = token.partition(":")
            version, items = self._lists.get(handle, (0, []))
            if version < self.api.etcd.compacted or handle not in self._lists:
                raise StatusError(410, "Expired", "The provided continue parameter is too old")
            start = int(start_text)
        else:
            cached = query.get("resourceVersion") == "0"
            objects = self.cache[place] if cached else self.api.etcd.objects[place]
            version, start = (self.version if cached else self.api.etcd.version), 0
            wanted = selector(query)
            items = [
                found.encoded
                for key, found in sorted(objects.items())
                if namespace in ("", key[0]) and wanted(found.document)
            ]
            handle = f"{self.number}-{len(self._lists)}"
        metadata: Object = {"resourceVersion": str(version)}
        if start + limit < len(items):
            self._lists[handle] = (version, items)
            metadata["continue"] = f"{handle}:{start + limit}"
        kind = PLACES[place]
        head = encode({"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata})
        return head[:-1] + b',"items":[' + b",".join(items[start : start + limit]) + b"]}"

    def _watch(self, place: Place, namespace: str, query: dict[str, str]) -> Watch:
        asked = query.get("resourceVersion", "")
        if asked not in ("", "0") and int(asked) < max(self.oldest, self.api.etcd.compacted):
            gone = StatusError(410, "Expired", f"too old resource version: {asked} ({self.oldest})")
            if self.api.random.random() < 0.5:
                raise gone
            watch = self._opened(Watch(self, place, namespace, query))
            watch.say("ERROR", encode(gone.document()))
            watch.close()
            return watch
        watch = self._opened(Watch(self, place, namespace, query))
        if asked in ("", "0"):
            for key, found in sorted(self.cache[place].items()):
                if namespace in ("", key[0]) and watch.wanted(found.document):
                    watch.say("ADDED", found.encoded)
        else:
            watch.at = int(asked)
            watch.soon()
        return watch

    def _opened(self, watch: Watch) -> Watch:
        self.watches[watch.place].append(watch)
        return watch


class SimApi:
    """`threads` has the clock; `page`: how many objects a list answers with at most."""

    def __init__(self, threads: SimThreads, seed: int = 0, page: int = 3) -> None:
        self.threads, self.random, self.page = threads, Random(seed), page
        self.etcd = Etcd(lambda: EPOCH + threads.loop.time())
        self.faults = Faults(self.random, threads.loop.time)
        self.servers = [Server(self, number) for number in range(2)]
        self.requests: list[tuple[float, str, str, str]] = []  # when, by whom, method, target
        self.writing = ""  # whose write is carried out; empty: an owner's of the object
        self.hears: list[Callable[[Request], None]] = []  # of each request, before it is sent
        self.etcd.hears.append(self._hear)

    def _hear(self, change: Change) -> None:
        for server in self.servers:
            server.hear(change)

    def note(self, request: Request) -> None:
        """Somebody asks."""
        self.requests.append((self.threads.loop.time(), request.client, request.method, request.target))
        for hear in self.hears:
            hear(request)

    def restore(self, *args: Any) -> None:
        """etcd is put back to a snapshot, and the servers are started anew."""
        self.etcd.restore(*args)
        for server in self.servers:
            server.restart()


def parse(path: str) -> tuple[Place, str, str, str]:
    """Place, namespace, name and subresource."""
    group, _version, namespace, rest = split(path)
    place = (group, rest[0] if rest else "")
    name, subresource = (*rest[1:], "", "")[:2]
    if place not in PLACES or (subresource and not PLACES[place].status):
        raise StatusError(404, "NotFound", "the server could not find the requested resource")
    return place, namespace, name, subresource


def _change(request: Request) -> Callable[[Object], Object]:
    body = json.loads(request.body or b"")
    if request.method == "PUT":
        return lambda _old: body  # type: ignore[no-any-return]
    match request.headers.get("Content-Type", ""):
        case "application/merge-patch+json":
            return lambda old: merge_patch(old, body)  # type: ignore[no-any-return]
        case "application/strategic-merge-patch+json":
            return lambda old: merge_patch(old, body, strategic=True)  # type: ignore[no-any-return]
        case "application/json-patch+json":
            return lambda old: json_patch(old, body)
    raise StatusError(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
