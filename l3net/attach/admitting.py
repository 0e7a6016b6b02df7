"""Attachments as policies see them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from l3net.ipam.lease import LeaseKey, PodName
from l3net.model import Address, ObjectName
from l3net.policy.attached import Attached


def attachment(key: LeaseKey) -> str:
    """An attachment's key as text."""
    return f"{key.network}/{key.container_id}/{key.ifname}"


def attached(
    key: LeaseKey,
    pod: PodName,
    addresses: Iterable[Address],
    labels: Sequence[tuple[str, str]] = (),
    mac: str = "",
) -> Attached:
    """A pod that its runtime does not name goes by its container's name, in the namespace `default`."""
    name = ObjectName(pod.namespace or "default", pod.name or key.container_id)
    return Attached(name, tuple(addresses), dict(labels), named=bool(pod.name), mac=mac)
