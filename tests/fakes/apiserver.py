"""A kube-apiserver as far as l3net speaks to one: real HTTP, a store with resource versions, no validation.

It lists in pages, watches (resume, bookmarks, 410 Gone), creates, replaces, patches (merge, strategic for
lists with a known merge key, JSON patch), deletes, keeps status apart, and answers 409 to a stale
resourceVersion. It writes down every call as an RBAC rule would name it, and can misbehave: refuse, hang,
vanish, forget, go back in time.

    with FakeApiServer() as api:
        api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
        client = KubeApi.from_kubeconfig(api.kubeconfig(tmp_path / "kubeconfig"))
"""

from __future__ import annotations

import contextlib
import copy
import json
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from l3net.shell.kernel.namespaces import setns

Object = dict[str, Any]


class Call(NamedTuple):
    """A request as RBAC sees it: verb, API group ("" is core), resource, subresource ("" for none)."""

    verb: str
    group: str
    resource: str
    subresource: str = ""


@dataclass(frozen=True)
class Resource:
    """A kind that is served. `status`: it has the status subresource."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = False
    status: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


RESOURCES = (
    Resource("", "v1", "nodes", "Node", status=True),
    Resource("", "v1", "namespaces", "Namespace", status=True),
    Resource("", "v1", "services", "Service", namespaced=True, status=True),
    Resource("", "v1", "secrets", "Secret", namespaced=True),
    Resource("", "v1", "configmaps", "ConfigMap", namespaced=True),
    Resource("", "v1", "pods", "Pod", namespaced=True, status=True),
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", namespaced=True),
    Resource(
        "policy.networking.k8s.io", "v1alpha2", "clusternetworkpolicies", "ClusterNetworkPolicy", status=True
    ),
    Resource("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", status=True),
    Resource("", "v1", "events", "Event", namespaced=True),
    Resource("events.k8s.io", "v1", "events", "Event", namespaced=True),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", namespaced=True),
    Resource("coordination.k8s.io", "v1", "leases", "Lease", namespaced=True),
    Resource(
        "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", status=True
    ),
    Resource("l3net.io", "v1alpha1", "bgpconfigurations", "BGPConfiguration", status=True),
    Resource("l3net.io", "v1alpha1", "bgppeers", "BGPPeer", status=True),
    Resource("l3net.io", "v1alpha1", "bgpfilters", "BGPFilter", status=True),
    Resource("l3net.io", "v1alpha1", "ippools", "IPPool", status=True),
    Resource("l3net.io", "v1alpha1", "floatingips", "FloatingIP", namespaced=True, status=True),
    Resource("l3net.io", "v1alpha1", "egressips", "EgressIP", status=True),
)

#: Lists that a strategic merge patch merges by this key (Kubernetes API conventions).
MERGE_KEYS = {"conditions": "type", "taints": "key", "addresses": "type", "ports": "port"}


class StatusError(Exception):
    """An answer of kind Status."""

    def __init__(
        self, code: int, reason: str, message: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message or reason)
        self.code, self.reason, self.message, self.headers = code, reason, message or reason, headers or {}

    def document(self) -> Object:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }


class _Change(NamedTuple):
    version: int
    type: str  # ADDED, MODIFIED, DELETED
    plural: tuple[str, str]  # group, plural
    namespace: str
    document: Object
    encoded: bytes
    before: Object | None


class _Snapshot(NamedTuple):
    version: int
    store: dict[tuple[str, str], dict[tuple[str, str], Object]]
    encoded: dict[tuple[str, str, str, str], bytes]


@dataclass
class Refusal:
    """What `refuse` put in the way; `left` counts down, None never ends."""

    code: int
    reason: str
    verb: str | None
    resource: str | None
    left: int | None
    headers: dict[str, str] = field(default_factory=dict)


class FakeApiServer:
    """Serves on 127.0.0.1 from `start` to `stop`, on the same port when started again; the store stays.

    `tokens`: those accepted; empty accepts anyone. `allowed`: a call it answers False to is forbidden (403).
    `bookmark_every` in seconds; `page` bounds what one list answers even if the client asks for more.
    """

    def __init__(self, *, tokens: set[str] | None = None, bookmark_every: float = 60.0) -> None:
        self.tokens = tokens or set()
        self.bookmark_every = bookmark_every
        self.allowed: Callable[[Call], bool] | None = None
        self.gone_as_http = False  # 410 as the answer's status instead of an ERROR event
        self.bookmarks_from_behind = False  # bookmarks to watches whose version is still to come
        self.undefined: set[str] = set()  # plurals of kinds whose CRD is not there: 404
        self.calls: Counter[Call] = Counter()
        self.requests: list[tuple[str, str]] = []  # method, path with query
        self._resources = {(each.group, each.plural): each for each in RESOURCES}
        self._changed = threading.Condition(threading.RLock())
        self._version = 1000
        self._oldest = 1000  # changes up to here are forgotten
        self._store: dict[tuple[str, str], dict[tuple[str, str], Object]] = {
            key: {} for key in self._resources
        }
        self._encoded: dict[tuple[str, str, str, str], bytes] = {}
        self._history: list[_Change] = []
        self._snapshots: dict[str, tuple[int, list[bytes]]] = {}
        self._refusals: list[Refusal] = []
        self._frozen = False
        self._bookmarks = 0  # counts requests for one
        self.bookmarks_sent = 0  # lines that a watch's connection has taken
        self._epoch = 0  # counts cuts of all connections
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._connections: set[socket.socket] = set()
        self.port = 0

    # --- coming and going --------------------------------------------------------------------------------

    def __enter__(self) -> FakeApiServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert self._server is None
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def served_in(self, namespaces: Iterable[Path]) -> Iterator[None]:
        """Serve on the same port of 127.0.0.1 in other network namespaces (/proc/PID/ns/net) as well."""
        servers: list[_Server] = []

        def listen(namespace: Path) -> None:  # in a thread of its own, which is gone afterwards
            with namespace.open() as entered:
                setns(entered.fileno())
            servers.append(_Server(("127.0.0.1", self.port), self))

        for do in (partial(listen, each) for each in namespaces):
            _in_a_thread(do).join()
        serving = [_in_a_thread(partial(server.serve_forever, 0.02)) for server in servers]
        try:
            yield
        finally:
            for server, thread in zip(servers, serving, strict=True):
                server.shutdown()
                server.server_close()
                thread.join()

    def stop(self) -> None:
        """Refuse connections and cut those there are; the store stays for the next `start`."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        if self._thread is not None:
            self._thread.join()
        self._server = None
        self.thaw()
        self.cut()

    def cut(self) -> None:
        """Break every connection there is."""
        with self._changed:
            self._epoch += 1
            for connection in list(self._connections):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.notify_all()

    def freeze(self) -> None:
        """Say nothing more on any connection, and close none: a host that is gone without a FIN."""
        with self._changed:
            self._frozen = True
            self._changed.notify_all()

    def thaw(self) -> None:
        with self._changed:
            self._frozen = False
            self._changed.notify_all()

    def refuse(
        self,
        code: int,
        reason: str = "InternalError",
        *,
        verb: str | None = None,
        resource: str | None = None,
        times: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> Refusal:
        """Answer with an error, `times` times or until `allow`."""
        refusal = Refusal(code, reason, verb, resource, times, headers or {})
        with self._changed:
            self._refusals.append(refusal)
        return refusal

    def allow(self) -> None:
        """Take back every `refuse`."""
        with self._changed:
            self._refusals.clear()

    def compact(self) -> None:
        """Forget the history: older resource versions and continue tokens are 410 Gone from now on.

        Watches that are open go on.
        """
        with self._changed:
            self._version += 1
            self._oldest = self._version
            self._history.clear()
            self._snapshots.clear()

    def snapshot(self) -> _Snapshot:
        """What etcd's `snapshot save` would keep."""
        with self._changed:
            return _Snapshot(self._version, copy.deepcopy(self._store), dict(self._encoded))

    def restore(self, snapshot: _Snapshot) -> None:
        """Go back in time: contents and versions are those of the snapshot, and every connection breaks.

        As etcd's `snapshot restore` and an API server started anew: a watch from a version that is still to
        come is taken, and hears nothing until that version has passed.
        """
        with self._changed:
            self._version = self._oldest = snapshot.version
            self._store = copy.deepcopy(snapshot.store)
            self._encoded = dict(snapshot.encoded)
            self._history.clear()
            self._snapshots.clear()
        self.cut()

    def bookmark(self) -> None:
        """Send a bookmark to every watch that asked for them."""
        with self._changed:
            self._version += 1  # as other resources' changes do
            self._bookmarks += 1
            self._changed.notify_all()

    def kubeconfig(self, path: Path, token: str | None = None, *, token_file: Path | None = None) -> Path:
        """Write a kubeconfig (JSON, which is YAML) that leads here."""
        user: Object = {}
        if token is not None:
            user["token"] = token
        if token_file is not None:
            user["tokenFile"] = str(token_file)
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": user}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
        }
        path.write_text(json.dumps(document))
        return path

    # --- the store, as a test reaches into it ------------------------------------------------------------

    def put(self, *documents: Object) -> list[Object]:
        """Create or replace objects whole, status included."""
        return [self._put(document) for document in documents]

    def _put(self, document: Object) -> Object:
        resource = self.resource_of(document)
        namespace = self._namespace(resource, document)
        with self._changed:
            old = self._store[resource.group, resource.plural].get((namespace, document["metadata"]["name"]))
            return self._write(resource, namespace, copy.deepcopy(document), old)

    def remove(self, kind: str, name: str, namespace: str = "") -> None:
        resource = self.resource(kind)
        with self._changed:
            self._remove(resource, namespace or ("default" if resource.namespaced else ""), name)

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        resource = self.resource(kind)
        with self._changed:
            key = (namespace or ("default" if resource.namespaced else ""), name)
            found = self._store[resource.group, resource.plural].get(key)
            return copy.deepcopy(found)

    def objects(self, kind: str) -> list[Object]:
        resource = self.resource(kind)
        with self._changed:
            return copy.deepcopy(list(self._store[resource.group, resource.plural].values()))

    def touch(self, kind: str, name: str, namespace: str = "") -> None:
        """A new resource version and nothing else, as a heartbeat has it."""
        document = self.get(kind, name, namespace)
        assert document is not None
        document["metadata"].setdefault("annotations", {})["touched"] = str(time.monotonic_ns())
        self.put(document)

    def resource(self, kind: str) -> Resource:
        """By kind, or by plural; core before others."""
        return next(each for each in RESOURCES if kind in (each.kind, each.plural))

    def resource_of(self, document: Object) -> Resource:
        return next(
            each
            for each in RESOURCES
            if each.kind == document["kind"] and each.api_version == document["apiVersion"]
        )

    @property
    def watching(self) -> int:
        """Connections that watch now."""
        with self._changed:
            return self._watching

    _watching = 0

    @staticmethod
    def _namespace(resource: Resource, document: Object) -> str:
        return document["metadata"].get("namespace", "default") if resource.namespaced else ""

    def _write(self, resource: Resource, namespace: str, document: Object, old: Object | None) -> Object:
        metadata = document["metadata"]
        document["apiVersion"], document["kind"] = resource.api_version, resource.kind
        if resource.namespaced:
            metadata["namespace"] = namespace
        if old is None:
            metadata["uid"] = str(uuid.uuid4())
            metadata.setdefault("creationTimestamp", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
            metadata["generation"] = 1
        else:
            for key in ("uid", "creationTimestamp", "generation", "resourceVersion"):
                metadata[key] = old["metadata"][key]
            if document == old:
                return copy.deepcopy(old)  # writing what is there changes nothing, not even the version
            if document.get("spec") != old.get("spec"):
                metadata["generation"] += 1
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        place = (resource.group, resource.plural)
        encoded = _encode(document)
        self._store[place][namespace, metadata["name"]] = document
        self._encoded[*place, namespace, metadata["name"]] = encoded
        kind = "ADDED" if old is None else "MODIFIED"
        self._history.append(_Change(self._version, kind, place, namespace, document, encoded, old))
        self._changed.notify_all()
        return copy.deepcopy(document)

    def _remove(self, resource: Resource, namespace: str, name: str) -> Object:
        place = (resource.group, resource.plural)
        old = self._store[place].pop((namespace, name), None)
        if old is None:
            raise StatusError(404, "NotFound", f'{resource.plural} "{name}" not found')
        self._encoded.pop((*place, namespace, name), None)
        self._version += 1
        gone = copy.deepcopy(old)
        gone["metadata"]["resourceVersion"] = str(self._version)
        change = _Change(self._version, "DELETED", place, namespace, gone, _encode(gone), old)
        self._history.append(change)
        self._changed.notify_all()
        return gone

    # --- requests ----------------------------------------------------------------------------------------

    def admit(self, call: Call, token: str) -> None:
        """Raises StatusError for who may not, or when told to refuse."""
        with self._changed:
            while self._frozen:
                self._changed.wait()
            if self.tokens and token not in self.tokens:
                raise StatusError(401, "Unauthorized")
            self.calls[call] += 1
            if self.allowed is not None and not self.allowed(call):
                raise StatusError(403, "Forbidden", f"{call.resource} is forbidden: cannot {call.verb}")
            for refusal in self._refusals:
                if refusal.left == 0 or refusal.verb not in (None, call.verb):
                    continue
                if refusal.resource not in (None, call.resource):
                    continue
                if refusal.left is not None:
                    refusal.left -= 1
                raise StatusError(refusal.code, refusal.reason, headers=refusal.headers)

    def read(self, resource: Resource, namespace: str, name: str) -> Object:
        with self._changed:
            found = self._store[resource.group, resource.plural].get((namespace, name))
            if found is None:
                raise StatusError(404, "NotFound", f'{resource.plural} "{name}" not found')
            return copy.deepcopy(found)

    def list(self, resource: Resource, namespace: str, query: dict[str, str]) -> bytes:
        limit = int(query.get("limit") or 0)
        place = (resource.group, resource.plural)
        with self._changed:
            token = query.get("continue", "")
            if token:
                handle, _, start_text = token.partition(":")
                if handle not in self._snapshots:
                    raise StatusError(410, "Expired", "The provided continue parameter is too old")
                version, items = self._snapshots[handle]
                start = int(start_text)
            else:
                wanted = selector(query)
                items = [
                    self._encoded[*place, *key]
                    for key, document in sorted(self._store[place].items())
                    if namespace in ("", key[0]) and wanted(document)
                ]
                version, start, handle = self._version, 0, uuid.uuid4().hex
            metadata: Object = {"resourceVersion": str(version)}
            end = start + limit if limit else len(items)
            if end < len(items):
                self._snapshots[handle] = (version, items)
                metadata["continue"] = f"{handle}:{end}"
                metadata["remainingItemCount"] = len(items) - end
        head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata}
        return _encode(head)[:-1] + b',"items":[' + b",".join(items[start:end]) + b"]}"

    def watch(self, resource: Resource, namespace: str, query: dict[str, str]) -> Iterator[bytes]:
        """The lines of a watch; raises StatusError at once when it is not accepted."""
        place, wanted = (resource.group, resource.plural), selector(query)
        from_version = query.get("resourceVersion", "")
        with self._changed:
            first: list[bytes] = []
            version = self._version
            if from_version in ("", "0"):
                first = [
                    _line("ADDED", self._encoded[*place, *key])
                    for key, document in sorted(self._store[place].items())
                    if namespace in ("", key[0]) and wanted(document)
                ]
            else:
                version = int(from_version)
                if version < self._oldest:
                    gone = StatusError(
                        410, "Expired", f"too old resource version: {version} ({self._oldest})"
                    )
                    if self.gone_as_http:
                        raise gone
                    return iter([_line("ERROR", _encode(gone.document()))])
            return self._follow(resource, namespace, query, version, first)

    def _follow(
        self, resource: Resource, namespace: str, query: dict[str, str], version: int, first: list[bytes]
    ) -> Iterator[bytes]:
        place, wanted = (resource.group, resource.plural), selector(query)
        bookmarks = query.get("allowWatchBookmarks") in ("true", "True", "1")
        deadline = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
        with self._changed:
            epoch, seen_bookmarks = self._epoch, self._bookmarks
            self._watching += 1
        try:
            yield from first
            next_bookmark = time.monotonic() + self.bookmark_every
            while True:
                lines: list[bytes] = []
                bookmarked = False
                with self._changed:
                    now = time.monotonic()
                    ended = now >= deadline or epoch != self._epoch
                    if not self._frozen:
                        seen = (_seen(change, place, namespace, wanted) for change in self._since(version))
                        lines = [line for line in seen if line]
                        version = max(version, self._version)
                        due = seen_bookmarks != self._bookmarks or now >= min(next_bookmark, deadline)
                        if bookmarks and due:
                            seen_bookmarks, next_bookmark = self._bookmarks, now + self.bookmark_every
                            if version <= self._version or self.bookmarks_from_behind:
                                lines.append(self._bookmark(resource, min(version, self._version)))
                                bookmarked = True
                    if not lines and not ended:
                        # Frozen, the end of the time is not said either.
                        self._changed.wait(max(min(deadline, next_bookmark) - now, 0.01))
                        continue
                yield from lines
                self.bookmarks_sent += bookmarked
                if ended and not self._frozen:
                    return
        finally:
            with self._changed:
                self._watching -= 1

    def _since(self, version: int) -> list[_Change]:
        low, high = 0, len(self._history)
        while low < high:
            middle = (low + high) // 2
            if self._history[middle].version <= version:
                low = middle + 1
            else:
                high = middle
        return self._history[low:]

    @staticmethod
    def _bookmark(resource: Resource, version: int) -> bytes:
        document = {
            "kind": resource.kind,
            "apiVersion": resource.api_version,
            "metadata": {"resourceVersion": str(version), "creationTimestamp": None},
        }
        return _line("BOOKMARK", _encode(document))

    def create(self, resource: Resource, namespace: str, document: Object) -> Object:
        metadata = document.setdefault("metadata", {})
        if not metadata.get("name"):
            if not metadata.get("generateName"):
                raise StatusError(
                    422, "Invalid", "metadata.name: Required value: name or generateName is required"
                )
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        if metadata.get("resourceVersion"):
            raise StatusError(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        if metadata.get("namespace", namespace) != namespace:
            raise StatusError(400, "BadRequest", "the namespace of the object does not match the request")
        with self._changed:
            if (namespace, metadata["name"]) in self._store[resource.group, resource.plural]:
                raise StatusError(
                    409, "AlreadyExists", f'{resource.plural} "{metadata["name"]}" already exists'
                )
            if resource.status and resource.kind != "Node":  # a kubelet registers its node with a status
                document.pop("status", None)
            return self._write(resource, namespace, document, None)

    def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        subresource: str,
        change: Callable[[Object], Object],
    ) -> Object:
        """Replace by what `change` makes of a copy of what is there."""
        with self._changed:
            old = self.read(resource, namespace, name)
            new = change(copy.deepcopy(old))
            new.setdefault("metadata", {})
            if new["metadata"].get("name", name) != name:
                raise StatusError(400, "BadRequest", "the name of the object does not match the request")
            new["metadata"]["name"] = name
            version = new["metadata"].get("resourceVersion")
            if version and version != old["metadata"]["resourceVersion"]:
                raise StatusError(
                    409,
                    "Conflict",
                    f"Operation cannot be fulfilled on {resource.plural} {name}: it has been modified",
                )
            if new["metadata"].get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
                raise StatusError(409, "Conflict", "Precondition failed: UID in precondition")
            if subresource == "status":
                status = new.get("status")
                new = copy.deepcopy(old)
                new.pop("status", None)
                if status is not None:
                    new["status"] = status
            elif resource.status:
                new.pop("status", None)
                if "status" in old:
                    new["status"] = old["status"]
            if resource.kind == "Node":
                check_node(old, new)
            if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
                return self._remove(resource, namespace, name)
            return self._write(
                resource, namespace, new, self._store[resource.group, resource.plural][namespace, name]
            )

    def delete(self, resource: Resource, namespace: str, name: str, options: Object) -> Object:
        with self._changed:
            old = self.read(resource, namespace, name)
            for key, value in (options.get("preconditions") or {}).items():
                if old["metadata"].get(key) != value:
                    raise StatusError(409, "Conflict", f"Precondition failed: {key}")
            if old["metadata"].get("finalizers"):
                stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                old["metadata"].setdefault("deletionTimestamp", stamp)
                stored = self._store[resource.group, resource.plural][namespace, name]
                return self._write(resource, namespace, old, stored)
            gone = self._remove(resource, namespace, name)
        if resource.kind == "Service":
            return gone
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


def check_node(old: Object, new: Object) -> None:
    """podCIDRs may be set, and never be changed (validation.ValidateNodeUpdate of kube-apiserver)."""
    had, has = ((each.get("spec") or {}).get("podCIDRs") or [] for each in (old, new))
    if had and has != had:
        raise StatusError(
            422, "Invalid", "spec: Forbidden: node updates may only change labels, taints, or capacity"
        )
    if has and (new.get("spec") or {}).get("podCIDR", has[0]) != has[0]:
        raise StatusError(422, "Invalid", "spec.podCIDRs: primary CIDR does not match podCIDR")


def _encode(document: Object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _line(kind: str, encoded: bytes) -> bytes:
    return b'{"type":"' + kind.encode() + b'","object":' + encoded + b"}\n"


def _seen(
    change: _Change, place: tuple[str, str], namespace: str, wanted: Callable[[Object], bool]
) -> bytes | None:
    """A change as a watch with a selector sees it: leaving the selection is being deleted."""
    if change.plural != place or namespace not in ("", change.namespace):
        return None
    before = change.before is not None and wanted(change.before)
    after = change.type != "DELETED" and wanted(change.document)
    if after:
        return _line("MODIFIED" if before else "ADDED", change.encoded)
    return _line("DELETED", change.encoded) if before else None


def selector(query: dict[str, str]) -> Callable[[Object], bool]:
    fields = _terms(query.get("fieldSelector", ""))
    labels = _terms(query.get("labelSelector", ""))

    def wanted(document: Object) -> bool:
        for path, negated, value in fields:
            found: Any = document
            for part in path.split("."):
                found = found.get(part, "") if isinstance(found, dict) else ""
            if (found == value) is negated:
                return False
        own = document["metadata"].get("labels") or {}
        for key, negated, value in labels:
            holds = key in own if value is None else own.get(key) == value
            if holds is negated:
                return False
        return True

    return wanted


def _terms(text: str) -> list[tuple[str, bool, str | None]]:
    """`a=b,c!=d,e,!f` as (key, negated, value or None for mere existence)."""
    found: list[tuple[str, bool, str | None]] = []
    for term in filter(None, text.split(",")):
        if "!=" in term:
            key, _, value = term.partition("!=")
            found.append((key, True, value))
        elif "=" in term:
            key, _, value = term.partition("=")
            found.append((key, False, value.lstrip("=")))
        else:
            found.append((term.lstrip("!"), term.startswith("!"), None))
    return found


# --- patches ---------------------------------------------------------------------------------------------


def merge_patch(target: Any, patch: Any, *, strategic: bool = False, key: str = "") -> Any:
    """RFC 7386; `strategic` merges the lists of MERGE_KEYS by element (`$patch: delete` removes one)."""
    if strategic and isinstance(patch, list) and key in MERGE_KEYS:
        return _merge_list(target or [], patch, MERGE_KEYS[key])
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value, strategic=strategic, key=name)
    return result


def _merge_list(target: list[Any], patch: list[Any], by: str) -> list[Any]:
    result = list(target)
    for item in patch:
        index = next((i for i, each in enumerate(result) if each.get(by) == item.get(by)), None)
        if item.get("$patch") == "delete":
            result = [each for each in result if each.get(by) != item.get(by)]
        elif index is None:
            result.append(item)
        else:
            result[index] = merge_patch(result[index], item, strategic=True)
    return result


def json_patch(target: Object, operations: list[Object]) -> Object:
    """RFC 6902: add, replace, remove, test. A failed test is 422, as in kube-apiserver."""
    for operation in operations:
        parts = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        parent: Any = target
        try:
            for part in parts[:-1]:
                parent = parent[int(part)] if isinstance(parent, list) else parent[part]
            _apply(parent, parts[-1], operation)
        except (KeyError, IndexError, ValueError, TypeError):
            raise StatusError(
                422, "Invalid", "the server rejected our request due to an error in our request"
            ) from None
    return target


def _apply(parent: Any, last: str, operation: Object) -> None:
    verb = operation["op"]
    if isinstance(parent, list):
        index = len(parent) if last == "-" else int(last)
        if verb == "add":
            parent.insert(index, operation["value"])
        elif verb == "remove":
            del parent[index]
        elif verb == "replace":
            parent[index] = operation["value"]
        elif parent[index] != operation["value"]:
            raise ValueError
    elif verb == "remove":
        del parent[last]
    elif verb == "test":
        if parent.get(last) != operation["value"]:
            raise ValueError
    else:
        if verb == "replace" and last not in parent:
            raise KeyError(last)
        parent[last] = operation["value"]


# --- HTTP ------------------------------------------------------------------------------------------------


def _in_a_thread(do: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    return thread


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], api: FakeApiServer) -> None:
        self.api = api
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


def split(path: str) -> tuple[str, str, str, list[str]]:
    """API group and version, namespace, and the rest of a path. Raises StatusError."""
    match [part for part in path.split("/") if part]:
        case ["api", "v1", *rest]:
            group, version = "", "v1"
        case ["apis", group, version, *rest]:
            pass
        case _:
            raise StatusError(404, "NotFound")
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] != "status":
        return group, version, rest[1], rest[2:]
    return group, version, "", rest


def _discovery(path: str, undefined: set[str]) -> Object | None:
    """What there is, as kubectl asks for it before anything else; None for another path."""
    known = [each for each in RESOURCES if each.plural not in undefined]
    match [part for part in path.split("/") if part]:
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            versions = {each.group: each for each in known if each.group}
            groups = [
                {"name": group, "versions": [said], "preferredVersion": said}
                for group, each in versions.items()
                for said in [{"groupVersion": each.api_version, "version": each.version}]
            ]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["api", "v1"]:
            version = "v1"
        case ["apis", group, number]:
            version = f"{group}/{number}"
        case _:
            return None
    here = [each for each in known if each.api_version == version]
    if not here:
        return None
    resources: list[Object] = []
    for each in here:
        singular = each.kind.lower()
        said = {"namespaced": each.namespaced, "kind": each.kind, "verbs": _VERBS}
        resources.append({"name": each.plural, "singularName": singular, **said})
        if each.status:
            resources.append({"name": f"{each.plural}/status", "singularName": "", **said})
        if each.kind == "Pod":
            evicted = {**said, "kind": "Eviction", "group": "policy", "version": "v1", "verbs": ["create"]}
            resources.append({"name": "pods/eviction", "singularName": "", **evicted})
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.server.api._connections.add(self.connection)

    def finish(self) -> None:
        self.server.api._connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - as BaseHTTPRequestHandler calls them

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        self.server.api.requests.append((self.command, self.path))
        try:
            self._route(body)
        except StatusError as err:
            self._answer(_encode(err.document()), err.code, err.headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _route(self, body: bytes) -> None:
        api = self.server.api
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        if url.path in ("/healthz", "/livez", "/readyz"):
            self._answer(b"ok", 200)
            return
        if url.path == "/version":
            self._answer(_encode({"major": "1", "minor": "30", "gitVersion": "v1.30.0-fake"}), 200)
            return
        if (found := _discovery(url.path, api.undefined)) is not None:
            self._answer(_encode(found), 200)
            return
        resource, namespace, name, subresource = self._parse(url.path)
        watching = query.get("watch") in ("true", "True", "1")
        verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
        verb = verbs.get(self.command) or ("get" if name else "watch" if watching else "list")
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        api.admit(Call(verb, resource.group, resource.plural, subresource), token)
        if verb == "watch":
            self._stream(api.watch(resource, namespace, query))
        elif verb == "list":
            self._answer(api.list(resource, namespace, query), 200)
        elif verb == "get":
            self._answer(_encode(api.read(resource, namespace, name)), 200)
        elif verb == "create" and subresource == "eviction":
            api.remove(resource.kind, name, namespace)
            self._answer(_encode({"kind": "Status", "apiVersion": "v1", "status": "Success"}), 201)
        elif verb == "create":
            if resource.namespaced and not namespace:
                raise StatusError(405, "MethodNotAllowed")
            self._answer(_encode(api.create(resource, namespace, _object(body))), 201)
        elif verb == "delete":
            options = _object(body) if body else {}
            self._answer(_encode(api.delete(resource, namespace, name, options)), 200)
        else:
            change = self._change(verb, body)
            self._answer(_encode(api.update(resource, namespace, name, subresource, change)), 200)

    def _change(self, verb: str, body: bytes) -> Callable[[Object], Object]:
        if verb == "update":
            return lambda _old: _object(body)
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip()
        patch = json.loads(body)
        match kind:
            case "application/merge-patch+json":
                return lambda old: merge_patch(old, patch)
            case "application/strategic-merge-patch+json":
                return lambda old: merge_patch(old, patch, strategic=True)
            case "application/json-patch+json":
                return lambda old: json_patch(old, patch)
        raise StatusError(
            415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {kind}"
        )

    def _parse(self, path: str) -> tuple[Resource, str, str, str]:
        group, version, namespace, rest = split(path)
        resource = self.server.api._resources.get((group, rest[0] if rest else ""))
        if resource is not None and resource.plural in self.server.api.undefined:
            resource = None
        if resource is None or (group and version != resource.version):
            raise StatusError(404, "NotFound", "the server could not find the requested resource")
        name, subresource = (*rest[1:], "", "")[:2]
        evicting = resource.kind == "Pod" and subresource == "eviction"
        if subresource and not evicting and not (subresource == "status" and resource.status):
            raise StatusError(404, "NotFound", "the server could not find the requested resource")
        return resource, namespace, name, subresource

    def _answer(self, body: bytes, code: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _stream(self, lines: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        try:
            for line in lines:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()
        except OSError:
            self.close_connection = True
        finally:
            close = getattr(lines, "close", None)
            if close is not None:
                close()


def _object(body: bytes) -> Object:
    try:
        found = json.loads(body)
    except ValueError:
        raise StatusError(400, "BadRequest", "the body is not JSON") from None
    if not isinstance(found, dict):
        raise StatusError(400, "BadRequest", "the body is not an object")
    return found
