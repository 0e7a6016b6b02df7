"""What an API server keeps: objects with versions, and every change of them.

As Kubernetes documents it: one version for all collections, writes on a version (409), generation, the status
apart from the rest, a node's podCIDRs that never change, compaction, and a snapshot that is restored.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

from apiserver import RESOURCES, Resource, StatusError, check_node

Object: TypeAlias = dict[str, Any]
#: API group and plural.
Place: TypeAlias = tuple[str, str]
#: Namespace and name.
Name: TypeAlias = tuple[str, str]

PLACES = {(each.group, each.plural): each for each in RESOURCES}


def place_of(kind: str) -> Place:
    found = next(each for each in RESOURCES if each.kind == kind)
    return found.group, found.plural


class Stored(NamedTuple):
    document: Object
    encoded: bytes


class Change(NamedTuple):
    """`before` and `after` are None where there was, or is, no object; `gone` is what a watch says then."""

    version: int
    place: Place
    name: Name
    before: Stored | None
    after: Stored | None
    gone: Stored | None


class Snapshot(NamedTuple):
    version: int
    objects: dict[Place, dict[Name, Stored]]


class Etcd:
    """`now` gives seconds since 1970. `hears` is called after each change."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.version = 1000
        self.compacted = 1000  # changes up to here are forgotten
        self.objects: dict[Place, dict[Name, Stored]] = {place: {} for place in PLACES}
        self.log: list[Change] = []
        self.hears: list[Callable[[Change], None]] = []
        self._uids = 0

    def since(self, version: int) -> list[Change]:
        """Changes after a version."""
        low, high = 0, len(self.log)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.log[middle].version <= version else (low, middle)
        return self.log[low:]

    def read(self, place: Place, name: Name) -> Stored:
        found = self.objects[place].get(name)
        if found is None:
            raise StatusError(404, "NotFound", f'{place[1]} "{name[1]}" not found')
        return found

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """A copy, for whoever looks from outside."""
        found = self.objects[place_of(kind)].get((namespace, name))
        return copy.deepcopy(found.document) if found is not None else None

    def create(self, place: Place, namespace: str, document: Object) -> Stored:
        metadata, resource = document.setdefault("metadata", {}), PLACES[place]
        if metadata.get("resourceVersion"):
            raise StatusError(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        if (namespace, metadata["name"]) in self.objects[place]:
            raise StatusError(409, "AlreadyExists", f'{place[1]} "{metadata["name"]}" already exists')
        if resource.status and resource.kind != "Node":  # a kubelet registers its node with a status
            document.pop("status", None)
        return self._put(resource, namespace, document, None)

    def update(
        self, place: Place, name: Name, subresource: str, change: Callable[[Object], Object]
    ) -> Stored:
        """Replace by what `change` makes of a copy of what is there."""
        stored, resource = self.read(place, name), PLACES[place]
        old = stored.document
        new = change(copy.deepcopy(old))
        metadata = new.setdefault("metadata", {})
        if metadata.get("name", name[1]) != name[1]:
            raise StatusError(400, "BadRequest", "the name of the object does not match the request")
        if metadata.get("resourceVersion", "") not in ("", old["metadata"]["resourceVersion"]):
            raise StatusError(409, "Conflict", f"Operation cannot be fulfilled on {name[1]}: it was modified")
        if metadata.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            raise StatusError(409, "Conflict", "Precondition failed: UID in precondition")
        metadata["name"] = name[1]
        if subresource == "status":
            new = {**copy.deepcopy(old), "status": new.get("status")}
        elif resource.status:
            new["status"] = old.get("status")
        if new.get("status") is None:
            new.pop("status", None)
        if resource.kind == "Node":
            check_node(old, new)
        return self._put(resource, name[0], new, stored)

    def put(self, document: Object) -> Stored:
        """Create or replace an object whole, its status included, as its owners do."""
        resource = next(
            each
            for each in RESOURCES
            if each.kind == document["kind"] and each.api_version == document["apiVersion"]
        )
        namespace = document["metadata"].get("namespace", "default") if resource.namespaced else ""
        old = self.objects[resource.group, resource.plural].get((namespace, document["metadata"]["name"]))
        return self._put(resource, namespace, copy.deepcopy(document), old)

    def remove(self, place: Place, name: Name) -> Stored:
        old = self.read(place, name)
        del self.objects[place][name]
        self.version += 1
        document = copy.deepcopy(old.document)
        document["metadata"]["resourceVersion"] = str(self.version)
        gone = Stored(document, encode(document))
        self._tell(Change(self.version, place, name, old, None, gone))
        return gone

    def _put(self, resource: Resource, namespace: str, document: Object, old: Stored | None) -> Stored:
        metadata, place = document["metadata"], (resource.group, resource.plural)
        document["apiVersion"], document["kind"] = resource.api_version, resource.kind
        if resource.namespaced:
            metadata["namespace"] = namespace
        if old is None:
            self._uids += 1
            metadata["uid"] = f"00000000-0000-0000-0000-{self._uids:012d}"
            metadata["creationTimestamp"] = stamp(self._now())
            metadata["generation"] = 1
        else:
            before = old.document
            for key in ("uid", "creationTimestamp", "generation", "resourceVersion"):
                metadata[key] = before["metadata"][key]
            if document == before:
                return old  # writing what is there changes nothing, not even the version
            if document.get("spec") != before.get("spec"):
                metadata["generation"] += 1
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        stored = Stored(document, encode(document))
        name = (namespace, metadata["name"])
        self.objects[place][name] = stored
        self._tell(Change(self.version, place, name, old, stored, None))
        return stored

    def _tell(self, change: Change) -> None:
        self.log.append(change)
        for hear in self.hears:
            hear(change)

    # --- what happens to it ------------------------------------------------------------------------------

    def compact(self) -> None:
        """Older versions and continue tokens are gone from now on."""
        self.version += 1
        self.compacted = self.version

    def snapshot(self) -> Snapshot:
        return Snapshot(self.version, {place: dict(found) for place, found in self.objects.items()})

    def restore(self, snapshot: Snapshot) -> None:
        """Contents and versions are those of the snapshot; uids go on, as they are drawn anew each time."""
        self.version = self.compacted = snapshot.version
        self.objects = {place: dict(found) for place, found in snapshot.objects.items()}
        self.log = [change for change in self.log if change.version <= snapshot.version]


def encode(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
