"""A pod's attachment to this node, as policies see it."""

from __future__ import annotations

from dataclasses import dataclass, field

from l3net.model import Address, Labels, ObjectName


@dataclass(frozen=True, slots=True)
class Attached:
    """Addresses that a pod has on this node, whatever the API server knows of it yet. `labels` are those that
    the runtime told, for a pod that nobody declares. `named`: the runtime said which pod it is. `mac` is what
    its port is held to, empty if that is not known."""

    pod: ObjectName
    addresses: tuple[Address, ...]
    labels: Labels = field(default_factory=dict, hash=False)
    named: bool = True
    mac: str = ""
