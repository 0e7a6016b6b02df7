"""Pods (core/v1) as policies and FloatingIPs need them, and what their annotations ask for.

A cluster has tens of thousands of Pods, and each node keeps all of them while there are policies: equal
labels and equal ports are one value, and words that come again and again are one string.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TypeVar

from l3net.addresses import host_prefix
from l3net.kube.fields import Field
from l3net.kube.times import created, moment
from l3net.model import Address, Labels, ObjectName, Pod, PodPort, Prefix
from l3net.naming import ANNOTATION_ALLOWED_ADDRESSES, ANNOTATION_FLOATING_IPS

#: Of a static pod and its mirror: the UID that kubelet, and so the runtime, knows the pod by.
ANNOTATION_CONFIG_HASH = "kubernetes.io/config.hash"
_FINISHED = ("Succeeded", "Failed")
#: Sets of labels and of ports that are remembered: a Deployment has one of each.
_REMEMBERED = 8192

_T = TypeVar("_T")


def pod(document: Field, name: ObjectName) -> Pod:
    metadata, spec, status = document["metadata"], document["spec"], document["status"]
    return Pod(
        name=name,
        labels=shared_labels(metadata["labels"]),
        addresses=_addresses(status),
        node=sys.intern(spec["nodeName"].text(default="")),
        host_network=spec["hostNetwork"].flag(default=False),
        finished=status["phase"].text(default="") in _FINISHED,
        ports=_ports(spec),
        uids=_uids(metadata),
        allowed_sources=allowed_addresses(metadata),
        created=created(metadata),
        ready_since=_ready_since(metadata, status),
        deleting=metadata["deletionTimestamp"].present,
        floating=listed(metadata, ANNOTATION_FLOATING_IPS, Field.address),
    )


def _ready_since(metadata: Field, status: Field) -> str | None:
    """By the condition Ready. A Pod of a directory has no status that anybody keeps: it is ready."""
    for condition in status["conditions"].each(_condition):
        if condition[0] == "Ready":
            return condition[2] if condition[1] == "True" else None
    return None if status["conditions"].present else created(metadata)


def _condition(field: Field) -> tuple[str, str, str]:
    kind = field["type"].text()
    if kind != "Ready":
        return kind, "", ""
    return kind, field["status"].text(default=""), next(iter(field["lastTransitionTime"].alone(moment)), "")


def allowed_addresses(metadata: Field) -> tuple[Prefix, ...]:
    """Addresses and prefixes, separated by commas; one that is wrong is left out and noted."""
    return listed(metadata, ANNOTATION_ALLOWED_ADDRESSES, _address_or_prefix)


def listed(metadata: Field, annotation: str, read: Callable[[Field], _T]) -> tuple[_T, ...]:
    """What an annotation lists, separated by commas; each once."""
    field = metadata["annotations"][annotation]
    text = field.text(default="").strip()
    if not text:
        return ()
    parts: list[object] = [part.strip() for part in text.split(",")]
    return tuple(dict.fromkeys(Field(field.path, parts, metadata.skipped).each(read)))


def _address_or_prefix(field: Field) -> Prefix:
    return field.prefix() if "/" in field.text() else host_prefix(field.address())


def shared_labels(field: Field) -> Labels:
    """The labels; pods with the same have one mapping."""
    found = field.labels()
    return _labels(tuple(found.items())) if found else {}


@functools.lru_cache(_REMEMBERED)
def _labels(items: tuple[tuple[str, str], ...]) -> Labels:
    return {sys.intern(key): sys.intern(value) for key, value in items}


def _addresses(status: Field) -> tuple[Address, ...]:
    several = status["podIPs"]
    if several.value:
        return several.each(_pod_ip)
    return status["podIP"].alone(Field.address) if status["podIP"].text(default="") else ()


def _pod_ip(field: Field) -> Address:
    return field["ip"].address()


def _uids(metadata: Field) -> tuple[str, ...]:
    found = (
        metadata["uid"].text(default=""),
        metadata["annotations"][ANNOTATION_CONFIG_HASH].text(default=""),
    )
    return tuple(dict.fromkeys(filter(None, found)))


def _ports(spec: Field) -> tuple[PodPort, ...]:
    """Those with a name: of containers, then of init containers that go on running (sidecars)."""
    found = [*spec["containers"].each(_of_container), *spec["initContainers"].each(_of_sidecar)]
    return _shared_ports(tuple(port for ports in found for port in ports))


@functools.lru_cache(_REMEMBERED)
def _shared_ports(ports: tuple[PodPort, ...]) -> tuple[PodPort, ...]:
    return ports


def _of_container(field: Field) -> tuple[PodPort, ...]:
    return tuple(filter(None, field["ports"].each(_port)))


def _of_sidecar(field: Field) -> tuple[PodPort, ...]:
    return _of_container(field) if field["restartPolicy"].text(default="") == "Always" else ()


def _port(field: Field) -> PodPort | None:
    name = field["name"].text(default="")
    if not name:
        return None
    return PodPort(sys.intern(name), protocol(field["protocol"]), field["containerPort"].integer(1, 65535))


def protocol(field: Field) -> str:
    """tcp, udp or sctp; TCP where nothing is said."""
    text = field.text(default="TCP")
    if text not in _PROTOCOLS:
        raise field.wrong(f"must be one of {', '.join(_PROTOCOLS)}")
    return _PROTOCOLS[text]


_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
