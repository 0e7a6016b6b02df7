"""Leases: who holds which address, and the store's promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from l3net.errors import L3netError

if TYPE_CHECKING:  # DEL begins with this
    from l3net.ipam.ranges import RangeSet
    from l3net.model import Address, Prefix


class LeaseStoreError(L3netError):
    """The store cannot be used. `try_later` tells whether the same call may succeed without a change."""

    def __init__(self, message: str, *, try_later: bool = False) -> None:
        super().__init__(message)
        self.try_later = try_later


class AlreadyLeasedError(L3netError):
    """The attachment holds addresses already; they are left as they are."""


class AddressUnavailableError(L3netError):
    """An address asked for is taken or outside the ranges."""


class ExhaustedError(L3netError):
    """No address is free (or past its cool-down) in a range set."""


@dataclass(frozen=True, slots=True, order=True)
class LeaseKey:
    """An attachment. Never keyed on the namespace's path, which runtimes reuse."""

    network: str
    container_id: str
    ifname: str


@dataclass(frozen=True, slots=True)
class PodName:
    """The pod an attachment belongs to, where the runtime says (CNI_ARGS K8S_POD_*)."""

    namespace: str = ""
    name: str = ""
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.name else ""


@dataclass(frozen=True, slots=True)
class LeasedAddress:
    """One address of a lease; `prefix_length` and `gateway` as its range gave them."""

    address: Address
    prefix_length: int
    gateway: Address | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """What an attachment holds. `sequence` grows with every assignment of the store.

    `assigned_at` is wall-clock time (seconds since 1970) for people, `assigned_clock` CLOCK_BOOTTIME for
    decisions; `boot_id` names the boot it was made in, `store` the store that answers for it (empty: none).
    """

    key: LeaseKey
    sequence: int
    addresses: tuple[LeasedAddress, ...]
    pod: PodName = PodName()
    netns: str = ""
    host_ifname: str = ""
    assigned_at: float = 0.0
    assigned_clock: float = 0.0
    boot_id: str = ""
    store: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for addresses: one out of each set. `asked` are addresses demanded by name.

    `cool_down` in seconds keeps a released address idle before another owner gets it. `sticky_owner`, if not
    empty, gets the address it had last, which is held for it for `sticky_hold` seconds. `exclusive`: the
    ranges are this node's, whatever network asks, so that an address another network holds is taken too.
    """

    key: LeaseKey
    sets: tuple[RangeSet, ...]
    asked: tuple[Address, ...] = ()
    pod: PodName = PodName()
    netns: str = ""
    host_ifname: str = ""
    cool_down: float = 60.0
    sticky_owner: str = ""
    sticky_hold: float = 86400.0
    exclusive: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a network is, in addresses."""

    leased: int
    cooling: int


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One assignment or release; `event` is `assign`, `release`, `audit`, `reboot`, `import` or `adopt`."""

    at: float
    event: str
    address: Address
    key: LeaseKey
    pod: PodName = field(default=PodName())
    sequence: int = 0


class LeaseStore(Protocol):
    """Leases that survive a crash or power loss at any instant: what a call returned is on the disk."""

    def assign(self, wanted: Wanted) -> Lease:
        """Lease one address out of each set.

        Raises AlreadyLeasedError, AddressUnavailableError, ExhaustedError, LeaseStoreError.
        """
        ...

    def release(
        self, key: LeaseKey, *, sequence: int | None = None, event: str = "release", used: bool = True
    ) -> Lease | None:
        """Give an attachment's addresses back; None if it held none (or another sequence). Idempotent.

        Not `used`: the ADD failed, no one met the addresses, and they need no cool-down.
        """
        ...

    def find(self, key: LeaseKey) -> Lease | None: ...

    def leases(self, network: str | None = None) -> Sequence[Lease]: ...

    def keep_record(self, key: LeaseKey, record: str) -> None:
        """Keep what must be undone beside the addresses, before it is done."""
        ...

    def find_record(self, key: LeaseKey) -> str | None: ...

    def find_all(self, key: LeaseKey) -> tuple[Lease | None, str | None]:
        """The lease and the record of an attachment, in one look."""
        ...

    def drop_record(self, key: LeaseKey) -> None: ...

    def records(self, network: str | None = None) -> Sequence[tuple[LeaseKey, str]]: ...

    def usage(self, network: str | None, sets: Sequence[RangeSet]) -> Usage:
        """Leased and cooling addresses inside the sets, of one network or all."""
        ...

    def probe(self) -> None:
        """Raises LeaseStoreError if nothing could be written now (a read-only disk). Writes nothing."""
        ...


class NodeLeases(LeaseStore, Protocol):
    """The lease store of a node's agent: it outlives reboots, and takes in what runs without a lease."""

    @property
    def identity(self) -> str:
        """What its leases are known by as this store's; empty if it has no name."""
        ...

    def adopt(
        self, lease: Lease, *, cool_down: float = 60.0, event: str = "import", exclusive: bool = False
    ) -> bool:
        """Record a lease found elsewhere. False if an address is taken, in any network if `exclusive`."""
        ...

    def holder(self, address: Address) -> Sequence[Lease]:
        """The leases that hold an address, in any network."""
        ...

    def count(self, block: Prefix | None = None) -> int:
        """Attachments that have leases, in all or in a block."""
        ...

    def any_in(self, block: Prefix) -> bool:
        """Whether any address of a block is leased."""
        ...

    def release_other_boots(self) -> list[Lease]:
        """Free what a reboot ended, and return it."""
        ...

    def close(self) -> None: ...
