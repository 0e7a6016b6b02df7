"""ports.ClusterWriter and ports.LeaseCell over the Kubernetes API: read one object, write on that version."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from l3net.errors import ConflictError, GoneError, L3netError
from l3net.ipam.reserved import raised_pools
from l3net.kube.registry import KINDS as REGISTRY
from l3net.kube.registry import access
from l3net.model import Address, Kind, ObjectName, Prefix
from l3net.naming import (
    ANNOTATION_BLOCKS,
    ANNOTATION_TAKES_PART,
    ANNOTATION_WANTS_BLOCKS,
    ANNOTATION_WANTS_POOLS,
)
from l3net.ports import Condition, LeaderLease
from l3net.shell.kubernetes.api import MERGE_PATCH, ApiError, KubeApi
from l3net.shell.kubernetes.events import event_of
from l3net.shell.kubernetes.kinds import KINDS

#: Names of the ConfigMap that holds the ledger and of the Lease, in the controller's namespace.
LEDGER: Final = "l3net-ledger"
LEASE: Final = "l3net-controller"
#: Entries in one BGPPeer's status, of some 130 bytes: with every write, every agent gets all of them.
MOST_SESSIONS: Final = 64
ESTABLISHED, DOWN = "Established", "Down"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
CONTROLLER, AGENT = "controller", "agent"
#: Times an object is read anew when somebody wrote to it between our read and our write.
ATTEMPTS: Final = 4


def _now(api: KubeApi, timespec: str = "seconds") -> str:
    now = datetime.fromtimestamp(api.threads.wall(), UTC)
    return now.isoformat(timespec=timespec).replace("+00:00", "Z")


def _collection(path: str) -> str:
    """The path of an object's collection, over all namespaces, as its reflector has it."""
    root, _, plural_and_name = path.rpartition("/namespaces/")
    if not root:
        return path.rpartition("/")[0]
    return f"{root}/{plural_and_name.split('/')[1]}"


def _asked(call: Callable[[], bytes]) -> dict[str, Any]:
    """Carry out a request; refusals as the errors that the ports name."""
    try:
        answer = call()
    except ApiError as err:
        if err.conflict and err.reason != "AlreadyExists":
            raise ConflictError(str(err)) from None
        if err.conflict:
            raise ConflictError(f"{err} (another process created it meanwhile)") from None
        if err.not_found:
            raise GoneError(str(err)) from None
        raise
    try:
        found: dict[str, Any] = json.loads(answer)
    except ValueError:
        raise L3netError("the API server's answer is not JSON") from None
    return found


class KubeWriter:
    """A ports.ClusterWriter. `namespace` is the controller's own, where the ledger is.

    `may` is asked right before each write, when what was to be read is read: reading may take longer than a
    lease lasts. Where it says no, ConflictError is raised and nothing is written. `process`: CONTROLLER or
    AGENT, who writes; without `events` it posts none.
    """

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        may: Callable[[], bool] = lambda: True,
        process: str = CONTROLLER,
        *,
        events: bool = True,
    ) -> None:
        self._api, self._may, self._process, self._events = api, may, process, events
        self._maps = f"/api/v1/namespaces/{namespace}/configmaps"

    def _written(self, call: Callable[[], bytes]) -> dict[str, Any]:
        if not self._may():
            raise ConflictError("no longer the leader; nothing was written")
        return _asked(call)

    # --- ledger ------------------------------------------------------------------------------------------

    def now(self) -> str:
        return _now(self._api)

    def read_ledger(self) -> tuple[Mapping[str, str], str]:
        try:
            found = _asked(lambda: self._api.get(f"{self._maps}/{LEDGER}"))
        except GoneError:
            return {}, ""
        return found.get("data") or {}, found["metadata"]["resourceVersion"]

    def write_ledger(self, values: Mapping[str, str], version: str) -> str:
        metadata: dict[str, Any] = {"name": LEDGER, "labels": {"app.kubernetes.io/name": "l3net"}}
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(values)}
        if not version:
            written = self._written(lambda: self._api.create(self._maps, document))
        else:
            metadata["resourceVersion"] = version
            try:
                written = self._written(lambda: self._api.replace(f"{self._maps}/{LEDGER}", document))
            except GoneError as err:  # deleted by somebody: what nodes and services carry is taken up anew
                raise ConflictError(str(err)) from None
        return str(written["metadata"]["resourceVersion"])

    # --- objects -----------------------------------------------------------------------------------------

    def exists(self, kind: Kind, name: ObjectName) -> bool:
        try:
            _asked(lambda: self._api.get(KINDS[kind].path_of(name)))
        except GoneError:
            return False
        return True

    def set_blocks(self, node: str, blocks: tuple[Prefix, ...]) -> None:
        def change(found: dict[str, Any]) -> dict[str, Any]:
            spec = found.get("spec") or {}
            given = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
            patch: dict[str, Any] = {}
            if not given:
                first = {block.version: str(block) for block in reversed(blocks)}
                given = [text for text in map(str, blocks) if text in first.values()]
                patch["spec"] = {"podCIDR": given[0], "podCIDRs": given}
            added = ",".join(text for text in map(str, blocks) if text not in given)
            annotations = found["metadata"].get("annotations") or {}
            if annotations.get(ANNOTATION_BLOCKS, "") != added:
                patch["metadata"] = {"annotations": {ANNOTATION_BLOCKS: added or None}}
            return patch

        self.change(KINDS[Kind.NODE].path_of(ObjectName("", node)), change)

    def set_load_balancer(self, service: ObjectName, addresses: tuple[Address, ...]) -> None:
        wanted = [str(address) for address in addresses]

        def change(found: dict[str, Any]) -> dict[str, Any]:
            balancer = (found.get("status") or {}).get("loadBalancer") or {}
            if found.get("spec", {}).get("type") != "LoadBalancer" or wanted == [
                entry.get("ip") for entry in balancer.get("ingress") or ()
            ]:
                return {}
            return {"status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in wanted] or None}}}

        self.change(KINDS[Kind.SERVICE].path_of(service), change, "/status")

    def set_status(
        self, kind: Kind, name: ObjectName, fields: Mapping[str, object], conditions: tuple[Condition, ...]
    ) -> None:
        def change(found: dict[str, Any]) -> dict[str, Any]:
            status = found.get("status") or {}
            new = {key: value for key, value in fields.items() if status.get(key) != value}
            merged = merge_conditions(
                status.get("conditions") or [],
                conditions,
                found["metadata"].get("generation", 0),
                _now(self._api),
            )
            if merged is not None:
                new["conditions"] = merged
            return {"status": new} if new else {}

        self.change(KINDS[kind].path_of(name), change, "/status")

    def change(
        self,
        path: str,
        change: Callable[[dict[str, Any]], dict[str, Any]],
        subresource: str = "",
        kind: str = MERGE_PATCH,
    ) -> None:
        """Read, let `change` say what to patch, write on that version; all of it again on a conflict."""
        for attempt in range(ATTEMPTS):
            found = _asked(lambda: self._api.get(path))
            patch = change(found)
            if not patch:
                return
            metadata = patch.setdefault("metadata", {})
            metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
            metadata["uid"] = found["metadata"]["uid"]  # not another object of the same name
            collection = _collection(path)
            heard = self._api.versions.latest(collection)
            try:
                written = self._written(
                    lambda patch=patch: self._api.patch(path + subresource, patch, kind)  # type: ignore[misc]
                )
            except ConflictError:
                if attempt == ATTEMPTS - 1 or not self._may():
                    raise
                continue
            version = str(written.get("metadata", {}).get("resourceVersion", ""))
            if version != metadata["resourceVersion"]:  # else it changed nothing
                self._api.versions.wrote(collection, version, heard)
            return

    def prune_sessions(self, peer: str, nodes: Collection[str]) -> None:
        def change(found: dict[str, Any]) -> dict[str, Any]:
            status = found.get("status") or {}
            old = status.get("sessions") or []
            return _sessions(status, [entry for entry in old if entry.get("node") in nodes])

        self.change(KINDS[Kind.BGP_PEER].path_of(ObjectName("", peer)), change, "/status")

    # --- events ------------------------------------------------------------------------------------------

    def _uid(self, kind: Kind, name: ObjectName) -> str:
        """By which `kubectl describe` finds the Events of an object; one that is gone is told of without."""
        if kind is Kind.NODE:
            return name.name  # kubelet's convention
        if "get" not in access(REGISTRY[kind], self._process).verbs:
            return ""
        with suppress(GoneError):
            found = _asked(lambda: self._api.get(KINDS[kind].path_of(name)))
            return str(found["metadata"].get("uid", ""))
        return ""

    def post_event(
        self, kind: Kind, name: ObjectName, reason: str, message: str, *, normal: bool = False
    ) -> None:
        if not self._events:
            return
        now = _now(self._api)
        uid = self._uid(kind, name)
        event = event_of(kind, name, reason, message, uid, self._process, now, normal=normal)
        try:
            self._written(lambda: self._api.create(event.path, event.document))
        except ConflictError:
            self._written(lambda: self._api.patch(f"{event.path}/{event.name}", {"lastTimestamp": now}))


def _sessions(status: Mapping[str, Any], new: list[dict[str, Any]]) -> dict[str, Any]:
    """The patch of a BGPPeer's status that makes these its sessions; down ones first, up to a bound.

    At the bound a session that is up takes nobody's place, and is not written: every write goes to every
    agent, so that a thousand nodes at one router would cost the square of their number.
    """
    old = status.get("sessions") or []
    listed = {(entry["node"], entry["address"]) for entry in old if "node" in entry and "address" in entry}

    def rank(entry: dict[str, Any]) -> tuple[bool, bool, str, str]:
        name = entry["node"], entry["address"]
        return (entry.get("state") == ESTABLISHED, name not in listed, *name)

    def order(entry: dict[str, Any]) -> tuple[bool, str, str]:
        return (entry.get("state") == ESTABLISHED, entry["node"], entry["address"])

    kept = sorted(sorted(new, key=rank)[:MOST_SESSIONS], key=order)
    up = sum(1 for entry in kept if entry.get("state") == ESTABLISHED)
    full = len(kept) == MOST_SESSIONS and str(status.get("established", "")).endswith("+")
    more = "+" if len(new) > MOST_SESSIONS or full else ""
    text = f"{up}/{len(kept)}{more}"
    if kept == old and status.get("established", text) == text:
        return {}
    return {"status": {"sessions": kept, "established": text}}


class KubeOwnNode:
    """What an agent writes of its own: on its Node, and its sessions in the status of BGPPeers."""

    def __init__(self, api: KubeApi, node: str, *, events: bool = True) -> None:
        self._api, self._node = api, node
        self._writer = KubeWriter(api, "", process=AGENT, events=events)
        self._path = KINDS[Kind.NODE].path_of(ObjectName("", node))

    @property
    def answers(self) -> Mapping[tuple[str, str], int]:
        """Requests to the API server, by method and HTTP status."""
        return dict(self._api.answers)

    def warn(self, reason: str, message: str) -> None:
        """An Event on the Node; the same text is one Event, however often."""
        self._writer.post_event(Kind.NODE, ObjectName("", self._node), reason, message)

    def tell(self, kind: Kind, name: str, reason: str, message: str, *, normal: bool) -> None:
        """An Event about an object that belongs to no namespace."""
        self._writer.post_event(kind, ObjectName("", name), reason, message, normal=normal)

    def set_network_available(self) -> None:
        """Condition NetworkUnavailable: False, which some cloud providers set to True until routes exist."""
        available = Condition(
            "NetworkUnavailable", False, "L3netIsUp", "l3net's agent has set the network up"
        )

        def change(found: dict[str, Any]) -> dict[str, Any]:
            old = (found.get("status") or {}).get("conditions") or []
            if any(each.get("type") == available.type and each.get("status") == "False" for each in old):
                return {}
            now = _now(self._api)
            entry = {
                "type": available.type,
                "status": "False",
                "reason": available.reason,
                "message": available.message,
                "lastHeartbeatTime": now,
                "lastTransitionTime": now,
            }
            return {"status": {"conditions": [entry]}}

        # Strategic, because kubelet writes the other conditions of this list.
        self._writer.change(self._path, change, "/status", STRATEGIC_PATCH)

    def want_blocks(self, wanted: Mapping[int, int]) -> None:
        """Raise what the annotation asks for; it is never lowered, because blocks are not given back."""

        def change(found: dict[str, Any]) -> dict[str, Any]:
            text = (found["metadata"].get("annotations") or {}).get(ANNOTATION_WANTS_BLOCKS, "")
            asked = {
                int(version): int(count)
                for version, count in re.findall(r"(?:^|,)\s*IPv([46])=(\d{1,4})(?=\s*(?:,|$))", text)
            }
            raised = asked | {each: max(count, asked.get(each, 0)) for each, count in wanted.items()}
            if raised == asked:
                return {}
            value = ",".join(f"IPv{version}={raised[version]}" for version in sorted(raised))
            return {"metadata": {"annotations": {ANNOTATION_WANTS_BLOCKS: value}}}

        self._writer.change(self._path, change)

    def want_pools(self, wanted: Mapping[str, int]) -> None:
        """As `want_blocks`, of pools for some namespaces."""

        def change(found: dict[str, Any]) -> dict[str, Any]:
            text = (found["metadata"].get("annotations") or {}).get(ANNOTATION_WANTS_POOLS, "")
            value = raised_pools(text, wanted)
            return {"metadata": {"annotations": {ANNOTATION_WANTS_POOLS: value}}} if value is not None else {}

        self._writer.change(self._path, change)

    def take_part(self, said: str) -> None:
        """Say whether the node takes what others hand on to it."""

        def change(found: dict[str, Any]) -> dict[str, Any]:
            if (found["metadata"].get("annotations") or {}).get(ANNOTATION_TAKES_PART) == said:
                return {}
            return {"metadata": {"annotations": {ANNOTATION_TAKES_PART: said}}}

        self._writer.change(self._path, change)

    def report_sessions(self, peer: str, sessions: Sequence[tuple[str, bool, str]]) -> None:
        """Replace this node's entries: peer, whether established, why not."""

        def change(found: dict[str, Any]) -> dict[str, Any]:
            status = found.get("status") or {}
            old = status.get("sessions") or []
            before = {entry["address"]: entry for entry in old if entry.get("node") == self._node}
            mine, now = [], _now(self._api)
            for address, established, reason in sessions:
                state = ESTABLISHED if established else DOWN
                same = before.get(address, {}).get("state") == state
                since = before[address].get("since") if same else None
                entry = {"node": self._node, "address": address, "state": state, "since": since or now}
                mine.append(entry | ({"reason": reason[:1024]} if reason else {}))
            others = (entry for entry in old if entry.get("node") != self._node)
            return _sessions(status, [*others, *mine])

        self._writer.change(KINDS[Kind.BGP_PEER].path_of(ObjectName("", peer)), change, "/status")


def merge_conditions(
    old: list[dict[str, Any]], conditions: tuple[Condition, ...], generation: int, now: str
) -> list[dict[str, Any]] | None:
    """Conditions with ours put in; None if they say so already. The time moves only with the status."""
    merged = {entry.get("type"): entry for entry in old}
    for condition in conditions:
        if condition.if_said and condition.type not in merged:
            continue
        before = merged.get(condition.type, {})
        status = "True" if condition.holds else "False"
        same = before.get("status") == status and before.get("lastTransitionTime")
        merged[condition.type] = {
            "type": condition.type,
            "status": status,
            "reason": condition.reason,
            "message": condition.message,
            "lastTransitionTime": before["lastTransitionTime"] if same else now,
            "observedGeneration": generation,
        }
    found = list(merged.values())
    return None if found == old else found


class KubeLease:
    """A ports.LeaseCell: the controller's Lease in its own namespace."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self._api = api
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._transitions = -1

    def read(self) -> LeaderLease:
        try:
            found = _lease(_asked(lambda: self._api.get(f"{self._path}/{LEASE}")))
        except GoneError:
            return LeaderLease()
        self._transitions = found.transitions
        return found

    def write(self, lease: LeaderLease) -> LeaderLease:
        now = _now(self._api, "microseconds")
        spec = {
            "holderIdentity": lease.holder,
            "leaseDurationSeconds": lease.duration,
            "leaseTransitions": lease.transitions,
            "renewTime": now,
        }
        if lease.transitions != self._transitions:
            spec["acquireTime"] = now
        metadata: dict[str, Any] = {"name": LEASE}
        document = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }
        if not lease.version:
            return _lease(_asked(lambda: self._api.create(self._path, document)))
        metadata["resourceVersion"] = lease.version
        heard = self._api.versions.latest(self._path)
        try:
            written = _lease(_asked(lambda: self._api.patch(f"{self._path}/{LEASE}", document)))
        except GoneError as err:
            raise ConflictError(str(err)) from None
        # The one write that never ceases: it tells within seconds that the store was put back.
        self._api.versions.wrote(self._path, written.version, heard)
        return written


def _lease(found: Mapping[str, Any]) -> LeaderLease:
    spec = found.get("spec") or {}
    return LeaderLease(
        holder=spec.get("holderIdentity") or "",
        duration=int(spec.get("leaseDurationSeconds") or 15),
        transitions=int(spec.get("leaseTransitions") or 0),
        version=str(found["metadata"]["resourceVersion"]),
    )
