"""What the controller reads and writes of single objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from l3net.model import Address, Kind, ObjectName, Prefix


@dataclass(frozen=True, slots=True)
class LeaderLease:
    """A Lease (coordination.k8s.io/v1) as read. `duration` in seconds, `version` its resourceVersion.

    An empty `holder` has let go of it; an empty `version`: there is none yet.
    """

    holder: str = ""
    duration: int = 15
    transitions: int = 0
    version: str = ""


class LeaseCell(Protocol):
    """One Lease, of which each write happens only if nobody wrote since it was read."""

    def read(self) -> LeaderLease:
        """Raises L3netError."""
        ...

    def write(self, lease: LeaderLease) -> LeaderLease:
        """Write over what `lease.version` names; the lease as it is now. Raises ConflictError, L3netError."""
        ...


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of a status (Kubernetes API conventions), less its times.

    `if_said`: only where the status has one of this type already, since that all is well is no news.
    """

    type: str
    holds: bool
    reason: str
    message: str = ""
    if_said: bool = False


class ClusterWriter(Protocol):
    """What the controller reads and writes of single objects, each write on the version just read.

    Calls block, may come from several threads, and raise GoneError, ConflictError or another L3netError.
    """

    def now(self) -> str:
        """The time, as the API has it (RFC 3339, UTC, in seconds)."""
        ...

    def read_ledger(self) -> tuple[Mapping[str, str], str]:
        """The ledger's texts and version; empty both when there is none."""
        ...

    def write_ledger(self, values: Mapping[str, str], version: str) -> str:
        """Write over exactly this version (empty: create); the new one. Raises ConflictError."""
        ...

    def exists(self, kind: Kind, name: ObjectName) -> bool:
        """Ask the API server itself, whatever a watch said."""
        ...

    def set_blocks(self, node: str, blocks: tuple[Prefix, ...]) -> None:
        """Into spec.podCIDRs while that is empty (it is immutable then), the rest by annotation."""
        ...

    def set_load_balancer(self, service: ObjectName, addresses: tuple[Address, ...]) -> None:
        """Replace status.loadBalancer.ingress."""
        ...

    def set_status(
        self, kind: Kind, name: ObjectName, fields: Mapping[str, object], conditions: tuple[Condition, ...]
    ) -> None:
        """Merge fields and conditions into the status of a resource of ours; nothing is sent if it is so."""
        ...

    def prune_sessions(self, peer: str, nodes: Collection[str]) -> None:
        """Take the sessions of nodes that are none of these out of a BGPPeer's status."""
        ...

    def post_event(
        self, kind: Kind, name: ObjectName, reason: str, message: str, *, normal: bool = False
    ) -> None:
        """An Event, a Warning unless `normal`; the same again moves the time of the one there is."""
        ...
