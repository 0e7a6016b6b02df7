"""FloatingIPs."""

from __future__ import annotations

from dataclasses import dataclass

from l3net.model.selectors import EVERYTHING, Selector
from l3net.model.terms import Address, ObjectName


@dataclass(frozen=True, slots=True)
class FloatingIp:
    """A FloatingIP: public addresses, at most one of a family, for one pod of its namespace.

    `wanted` are the addresses that it names; `pool` and `versions` say where others are to come from (empty:
    any pool that its namespace may use; IP versions, of those it names no address of). `given` are those that
    the controller gave it (status.addresses). `created` is its creationTimestamp, as a Service's.
    """

    name: ObjectName
    selector: Selector = EVERYTHING
    wanted: tuple[Address, ...] = ()
    pool: str = ""
    versions: tuple[int, ...] = ()
    require_ready: bool = True
    given: tuple[Address, ...] = ()
    created: str = ""

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Those it has: what it names, and of the other families what it was given."""
        named = {address.version for address in self.wanted}
        return (*self.wanted, *(each for each in self.given if each.version not in named))
