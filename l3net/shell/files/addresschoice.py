"""Which addresses a request gets, and what of the store is used up by it, inside one transaction.

Never used addresses are counted up by a cursor a range; released ones wait in `idle`, oldest first.
"""

from __future__ import annotations

import _sqlite3 as sqlite3  # as `sqlitestore`
from dataclasses import dataclass
from typing import Final

from l3net.ipam.lease import AddressUnavailableError, ExhaustedError, LeasedAddress, Wanted
from l3net.ipam.ranges import Range, RangeSet
from l3net.model import Address
from l3net.shell.files.leaserows import unpack

#: Assignments and releases after which an address of a large range is used again rather than a new one: so
#: many idle addresses at most are kept of an IPv6 block that never runs out of new ones.
IDLE_LIMIT: Final = 20000


def taken(db: sqlite3.Connection, network: str, address: Address, *, exclusive: bool) -> bool:
    """Whether an address is leased in a network, or (`exclusive`) in any."""
    row = db.execute(
        "SELECT 1 FROM lease WHERE address=? AND (? OR network=?)", (address.packed, exclusive, network)
    ).fetchone()
    return row is not None


@dataclass(frozen=True, slots=True)
class Choice:
    """For one request, at the moment `now` of a boot."""

    db: sqlite3.Connection
    wanted: Wanted
    boot: str
    now: float

    def addresses(self) -> list[tuple[LeasedAddress, str]]:
        """One out of each set, with its range's key. Raises AddressUnavailableError, ExhaustedError."""
        wanted = self.wanted
        asked = list(wanted.asked)
        chosen: list[tuple[LeasedAddress, str]] = []
        for each in wanted.sets:
            named = next((address for address in asked if each.holding(address)), None)
            if named is not None:
                asked.remove(named)
                entry = each.holding(named)
                assert entry is not None  # noqa: S101 - just found
                if taken(self.db, wanted.key.network, named, exclusive=wanted.exclusive):
                    raise AddressUnavailableError(f"address {named} is taken in network {wanted.key.network}")
                self._wake(named.packed)
                address = named
            else:
                address, entry = self._choose(each)
            chosen.append((LeasedAddress(address, entry.prefix_length, entry.gateway), entry.key))
        if asked:
            raise AddressUnavailableError(
                f"address {asked[0]} asked for is in none of the ranges of network {wanted.key.network}, "
                "or reserved"
            )
        return chosen

    def _choose(self, each: RangeSet) -> tuple[Address, Range]:
        network = self.wanted.key.network
        if self.wanted.sticky_owner:
            rows = self.db.execute(
                "SELECT address FROM idle WHERE network=? AND sticky_owner=?",
                (network, self.wanted.sticky_owner),
            )
            for (packed,) in rows.fetchall():
                if (entry := each.holding(unpack(packed))) and not self._elsewhere(packed):
                    self._wake(packed)
                    return unpack(packed), entry
        for entry in each.ranges:
            if self._many_idle(entry) and (address := self._oldest_idle(entry, longest_only=True)):
                return address, entry
            if address := self._never_used(entry):
                return address, entry
            if address := self._oldest_idle(entry):
                return address, entry
        usage = f"all {each.size} addresses of {each}"
        raise ExhaustedError(
            f"no address free in network {network}: {usage} are leased or in their cool-down of "
            f"{self.wanted.cool_down:g} s"
        )

    def _elsewhere(self, packed: bytes) -> bool:
        """Whether another network holds an idle address, where that counts."""
        return self.wanted.exclusive and taken(
            self.db, self.wanted.key.network, unpack(packed), exclusive=True
        )

    def _wake(self, packed: bytes) -> None:
        """An address is idle no more."""
        self.db.execute(
            "DELETE FROM idle WHERE address=? AND (? OR network=?)",
            (packed, self.wanted.exclusive, self.wanted.key.network),
        )

    def _many_idle(self, entry: Range) -> bool:
        """Whether the oldest idle address of a large range was released that many events ago."""
        if entry.size <= IDLE_LIMIT:
            return False
        oldest = self.db.execute(
            "SELECT min(freed), (SELECT value FROM meta WHERE key='sequence') FROM idle "
            "WHERE network=? AND range=?",
            (self.wanted.key.network, entry.key),
        ).fetchone()
        return oldest[0] is not None and oldest[1] - oldest[0] > IDLE_LIMIT

    def _never_used(self, entry: Range) -> Address | None:
        """The next address no one had; each is stepped over once, so the cost does not grow with leases."""
        network = self.wanted.key.network
        row = self.db.execute(
            "SELECT next FROM cursor WHERE network=? AND range=?", (network, entry.key)
        ).fetchone()
        value = int.from_bytes(row[0], "big") if row else int(entry.start)
        last, width = int(entry.end), entry.subnet.max_prefixlen // 8
        found: Address | None = None
        start = value
        while value <= last and found is None:
            candidate = unpack(value.to_bytes(width, "big"))
            value += 1
            if candidate in entry and not self._known(candidate):
                found = candidate
        if value != start:
            self.db.execute(
                "INSERT OR REPLACE INTO cursor VALUES(?,?,?)",
                (network, entry.key, value.to_bytes(width + 1, "big")),
            )
        return found

    def _oldest_idle(self, entry: Range, *, longest_only: bool = False) -> Address | None:
        """The address longest released, once cool; held ones only when nothing else is left.

        `longest_only`: only one that was released under this very range and is held for nobody.
        """
        ready = "(boot_id<>? OR ready_at<=?)"
        free = "(sticky_owner='' OR held_until<=? OR boot_id<>?)"
        network = self.wanted.key.network
        within = f"address BETWEEN ? AND ? AND length(address)=? AND {ready}"
        bounds = (entry.start.packed, entry.end.packed, len(entry.start.packed), self.boot, self.now)
        queries: list[tuple[str, tuple[object, ...]]] = [
            (
                f"network=? AND range=? AND {ready} AND {free}",
                (network, entry.key, self.boot, self.now, self.now, self.boot),
            ),
            # addresses released under another configuration of the range, and those held for an owner
            (f"network=? AND {within}", (network, *bounds)),
        ]
        if self.wanted.exclusive:
            queries.append((within, bounds))  # and by another network
        for condition, values in queries[:1] if longest_only else queries:
            rows = self.db.execute(
                f"SELECT address FROM idle WHERE {condition} ORDER BY freed LIMIT 16",  # noqa: S608
                values,
            )
            for (packed,) in rows.fetchall():
                if unpack(packed) in entry and not self._elsewhere(packed):
                    self._wake(packed)
                    return unpack(packed)
        return None

    def _known(self, address: Address) -> bool:
        """Leased or idle. Idle addresses are handed out by age, not by number."""
        row = self.db.execute(
            "SELECT 1 FROM lease WHERE address=?2 AND (?3 OR network=?1) "
            "UNION ALL SELECT 1 FROM idle WHERE address=?2 AND (?3 OR network=?1)",
            (self.wanted.key.network, address.packed, self.wanted.exclusive),
        ).fetchone()
        return row is not None
