"""The tests' API server behind a front that holds thousands of connections, and counts what goes over them.

Contents, versions, watches and patches are those of `tests/fakes/apiserver.py`; only the threads are not: a
thread a connection ends at some thousands. A change is encoded once and written to all who watch. What is
counted is what passes over the sockets, heads included; TLS and TCP add to it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from apiserver import (
    FakeApiServer,
    Resource,
    StatusError,
    _encode,
    _line,
    _seen,
    json_patch,
    merge_patch,
    selector,
)

Place = tuple[str, str]
ONE = "metadata.name="
PATCHES: dict[str, Callable[[Any, Any], Any]] = {
    "application/merge-patch+json": merge_patch,
    "application/strategic-merge-patch+json": lambda old, patch: merge_patch(old, patch, strategic=True),
    "application/json-patch+json": json_patch,
}


class CountingApi(FakeApiServer):
    """The store, who follows what, and octets and requests by verb and plural."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.open: set[Connection] = set()
        self.arrived: list[float] = []  # when each request was
        self._by: dict[Place, dict[tuple[str, str], set[Connection]]] = {key: {} for key in self._store}
        self._pages: dict[Place, tuple[int, list[bytes]]] = {}
        self._changed_at: Counter[Place] = Counter()

    # --- what is there -----------------------------------------------------------------------------------

    def _write(self, resource: Resource, namespace: str, document: Any, old: Any) -> Any:
        before = len(self._history)
        found = super()._write(resource, namespace, document, old)
        if len(self._history) > before:
            self._spread()
        return found

    def _remove(self, resource: Resource, namespace: str, name: str) -> Any:
        found = super()._remove(resource, namespace, name)
        self._spread()
        return found

    def _spread(self) -> None:
        """Tell the latest change to all who watch for it."""
        change = self._history[-1]
        self._changed_at[change.plural] = change.version
        for (namespace, fields), followers in self._by[change.plural].items():
            if fields.startswith(ONE) and fields != ONE + change.document["metadata"]["name"]:
                continue
            line = _seen(change, change.plural, namespace, selector({"fieldSelector": fields}))
            if line:
                chunk = b"%x\r\n%s\r\n" % (len(line), line)
                for each in followers:
                    each.say(chunk, f"watch {change.plural[1]}")

    def page(self, resource: Resource, namespace: str, query: dict[str, str]) -> bytes:
        """As `list`; of a whole collection the encoded objects are put in order once a version."""
        place = resource.group, resource.plural
        if query.get("fieldSelector", "").startswith(ONE) and not resource.namespaced:
            name = query["fieldSelector"].removeprefix(ONE)
            found = self._encoded.get((*place, "", name))
            return self._listed(resource, {}, [found] if found else [])
        if query.get("fieldSelector") or namespace:
            return self.list(resource, namespace, query)
        version, items = self._pages.get(place, (-1, []))
        if version != self._changed_at[place]:
            items = [self._encoded[*place, *key] for key in sorted(self._store[place])]
            self._pages[place] = self._changed_at[place], items
        limit = int(query.get("limit") or 0)
        if query.get("resourceVersion") == "0":
            limit = 0  # kube-apiserver answers from its cache, and whole
        start = int(query.get("continue") or 0)
        end = start + limit if limit else len(items)
        metadata: dict[str, Any] = {}
        if end < len(items):
            metadata = {"continue": str(end), "remainingItemCount": len(items) - end}
        return self._listed(resource, metadata, items[start:end])

    def _listed(self, resource: Resource, metadata: dict[str, Any], items: list[bytes]) -> bytes:
        metadata = {"resourceVersion": str(self._version), **metadata}
        head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata}
        return _encode(head)[:-1] + b',"items":[' + b",".join(items) + b"]}"

    def follow(self, place: Place, key: tuple[str, str], follower: Connection, version: str) -> None:
        """From a version on. Raises StatusError for one that is forgotten."""
        if int(version or 0) < self._oldest:
            raise StatusError(410, "Expired", "too old resource version")
        self._by[place].setdefault(key, set()).add(follower)
        wanted = selector({"fieldSelector": key[1]})
        for change in self._since(int(version)):
            line = _seen(change, place, key[0], wanted)
            if line:
                follower.say(b"%x\r\n%s\r\n" % (len(line), line), f"watch {place[1]}")

    def forget(self, place: Place, key: tuple[str, str], follower: Connection) -> None:
        self._by[place].get(key, set()).discard(follower)

    def bookmarks(self) -> None:
        """One to each watch, as there is once a minute."""
        for (group, plural), by in self._by.items():
            line = self._bookmark(self._resources[group, plural], self._version)
            chunk = b"%x\r\n%s\r\n" % (len(line), line)
            for followers in by.values():
                for each in followers:
                    each.say(chunk, "bookmarks")

    @property
    def followers(self) -> int:
        return sum(len(each) for by in self._by.values() for each in by.values())

    def cut_all(self) -> None:
        """As a server that ends."""
        for each in list(self.open):
            each.transport.abort()

    def counted(self) -> dict[str, Any]:
        return {
            "asked": dict(self.asked),
            "sent": dict(self.sent),
            "open": len(self.open),
            "watching": self.followers,
        }

    def begin(self) -> None:
        """Count anew."""
        self.asked.clear()
        self.sent.clear()


class Connection(asyncio.Protocol):
    """One, HTTP/1.1, a request after another."""

    transport: asyncio.Transport

    def __init__(self, api: CountingApi) -> None:
        self._api, self._rest = api, b""
        self._following: tuple[Place, tuple[str, str]] | None = None
        self._ends: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._api.open.add(self)
        self._api.asked["connections"] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._api.open.discard(self)
        self._unfollow()

    def _unfollow(self) -> None:
        if self._ends is not None:
            self._ends.cancel()
        if self._following is not None:
            self._api.forget(*self._following, self)
            self._following = None

    def say(self, piece: bytes, what: str) -> None:
        self._api.sent[what] += len(piece)
        self.transport.write(piece)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while b"\r\n\r\n" in self._rest:
            head, _, rest = self._rest.partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:])
            length = int(headers.get("content-length", 0))
            if len(rest) < length:
                return
            body, self._rest = rest[:length], rest[length:]
            method, target, _ = lines[0].split(" ")
            try:
                self._serve(method, target, headers, body)
            except StatusError as err:
                self._answer(_encode(err.document()), "refused", err.code)

    def _serve(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        url = urlsplit(target)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        api = self._api
        parts = [part for part in url.path.split("/") if part]
        group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
        namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces" and rest[2] != "status":
            namespace, rest = rest[1], rest[2:]
        resource = api._resources[group, rest[0]]
        name, subresource = (*rest[1:], "", "")[:2]
        watching = query.get("watch") in ("1", "true")
        verb = {"PATCH": "patch", "PUT": "update", "POST": "create"}.get(method)
        verb = verb or ("get" if name else "watch" if watching else "list")
        what = f"{verb} {resource.plural}{'/' if subresource else ''}{subresource}"
        api.asked[what] += 1
        api.arrived.append(time.monotonic())
        api.requests.append((method, target))
        if verb == "watch":
            self._watch(resource, namespace, query)
        elif verb == "list":
            self._answer(api.page(resource, namespace, query), what)
        elif verb == "get":
            self._answer(_encode(api.read(resource, namespace, name)), what)
        elif verb == "patch":
            patch = json.loads(body)
            change = PATCHES[headers["content-type"]]
            made = api.update(resource, namespace, name, subresource, lambda old: change(old, patch))
            self._answer(_encode(made), what)
        else:
            raise StatusError(405, "MethodNotAllowed")

    def _answer(self, body: bytes, what: str, code: int = 200) -> None:
        head = f"HTTP/1.1 {code} x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.say(head.encode() + body, what)

    def _watch(self, resource: Resource, namespace: str, query: dict[str, str]) -> None:
        place = resource.group, resource.plural
        key = namespace, query.get("fieldSelector", "")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.say(head, f"watch {resource.plural}")
        try:
            self._api.follow(place, key, self, query.get("resourceVersion", ""))
        except StatusError as err:
            line = _line("ERROR", _encode(err.document()))
            self.say(b"%x\r\n%s\r\n0\r\n\r\n" % (len(line), line), "refused")
            return
        self._following = place, key
        seconds = float(query.get("timeoutSeconds") or 1800)
        self._ends = asyncio.get_running_loop().call_later(seconds, self._end)

    def _end(self) -> None:
        self._unfollow()
        self.say(b"0\r\n\r\n", "ends")


async def listen(api: CountingApi, port: int = 0) -> asyncio.Server:
    """On 127.0.0.1; `api.port` says where."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(api), "127.0.0.1", port, backlog=4096)
    api.port = server.sockets[0].getsockname()[1]
    return server
