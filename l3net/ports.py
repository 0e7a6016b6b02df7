"""The Protocols that shells implement and tests fake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from l3net.delta import Delta
from l3net.errors import KernelError
from l3net.model import BridgePlan, Fact, Kind, ObjectName, Prefix, Route


@dataclass(frozen=True, slots=True)
class Changed:
    """A declared object as it is now; `fact` None means it is gone."""

    kind: Kind
    name: ObjectName
    fact: Fact | None


@dataclass(frozen=True, slots=True)
class InSync:
    """Everything that existed when the datastore was opened has been delivered. Sent once."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An object that cannot be used; the last good version stays in force.

    `where` is the file (with document number or line) or API path; `field` a path such as `spec.cidr`.
    """

    where: str
    field: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.field + ': ' if self.field else ''}{self.why}"


@dataclass(frozen=True, slots=True)
class Mended:
    """What was rejected is so no longer."""

    rejected: Rejected


DatastoreEvent: TypeAlias = Changed | InSync | Rejected | Mended


class Datastore(Protocol):
    """The declared state, as a stream: the current objects, `InSync`, then every change."""

    def events(self) -> AsyncIterator[DatastoreEvent]: ...


class RouteTable(Protocol):
    """The kernel's routes of ours, and only those."""

    def read(self) -> dict[tuple[Prefix, int], Route]:
        """Routes with our protocol number in the main table, by prefix and metric."""
        ...

    def apply(self, delta: Delta[tuple[Prefix, int], Route]) -> list[KernelError]:
        """Carry out what can be; return what failed."""
        ...


class Bridges(Protocol):
    """The pod bridge."""

    def read(self, name: str) -> BridgePlan | None:
        """The bridge as it is, None if absent or down."""
        ...

    def apply(self, plan: BridgePlan) -> None:
        """Make it so, creating, setting up and readdressing as needed; addresses not planned go. Idempotent.

        Raises KernelError.
        """
        ...


class Firewall(Protocol):
    """Our nftables table."""

    def apply(self, ruleset: str) -> None:
        """Replace the whole table in one transaction. Raises KernelError."""
        ...

    def intact(self) -> bool:
        """Whether the table is still as last applied."""
        ...


LogFields: TypeAlias = Mapping[str, object]
