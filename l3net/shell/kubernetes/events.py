"""An Event (core/v1) about an object, by a name that is the same for the same text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from l3net.model import Kind, ObjectName
from l3net.shell.kubernetes.kinds import KINDS


@dataclass(frozen=True, slots=True)
class Event:
    """Where it is kept, what it is called, and the whole of it."""

    path: str
    name: str
    document: Mapping[str, Any]


def event_of(
    kind: Kind,
    name: ObjectName,
    reason: str,
    message: str,
    uid: str,
    process: str,
    now: str,
    *,
    normal: bool,
) -> Event:
    """`uid`: of the object, empty if unknown; `process`: `agent` or `controller`; `now`: as in RFC 3339."""
    # events about cluster-scoped objects are kept in the namespace `default`
    namespace = name.namespace or "default"
    said = f"{kind.value} {name} {reason} {message} {uid}"
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    event = f"{name.name[:200]}.{digest}"
    component = f"l3net-{process}"
    document = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": event, "namespace": namespace},
        "involvedObject": {
            "kind": kind.value,
            "apiVersion": KINDS[kind].api_version,
            "name": name.name,
            **({"uid": uid} if uid else {}),
            **({"namespace": name.namespace} if name.namespace else {}),
        },
        "type": "Normal" if normal else "Warning",
        "reason": reason,
        "message": message[:1024],
        "source": {"component": component},
        "reportingComponent": component,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    return Event(f"/api/v1/namespaces/{namespace}/events", event, document)
