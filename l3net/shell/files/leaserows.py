"""The tables of the lease store, and leases as their rows."""

from __future__ import annotations

import _sqlite3 as sqlite3  # as `sqlitestore`
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from l3net.ipam.lease import Lease, LeasedAddress, LeaseKey, PodName, Wanted
from l3net.model import Address, Prefix

SCHEMA_VERSION: Final = 1
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease(
  network TEXT, address BLOB, prefix_length INTEGER, gateway BLOB, range TEXT, position INTEGER,
  container TEXT, ifname TEXT, sequence INTEGER, netns TEXT, host_ifname TEXT,
  pod_namespace TEXT, pod_name TEXT, pod_uid TEXT, assigned_at REAL, assigned_clock REAL, boot_id TEXT,
  cool_down REAL, sticky_owner TEXT, sticky_hold REAL,
  PRIMARY KEY(network, address)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lease_by_key ON lease(network, container, ifname, position);
CREATE TABLE IF NOT EXISTS idle(
  network TEXT, address BLOB, range TEXT, freed INTEGER, boot_id TEXT, ready_at REAL,
  sticky_owner TEXT, held_until REAL, PRIMARY KEY(network, address)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS idle_by_age ON idle(network, range, freed);
CREATE INDEX IF NOT EXISTS idle_by_owner ON idle(network, sticky_owner) WHERE sticky_owner <> '';
CREATE TABLE IF NOT EXISTS cursor(
  network TEXT, range TEXT, next BLOB, PRIMARY KEY(network, range)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS extra(
  network TEXT, container TEXT, ifname TEXT, record TEXT,
  PRIMARY KEY(network, container, ifname)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history(
  id INTEGER PRIMARY KEY, at REAL, event TEXT, network TEXT, address BLOB, container TEXT, ifname TEXT,
  pod_namespace TEXT, pod_name TEXT, pod_uid TEXT, sequence INTEGER);
"""
#: Made at every opening where they are missing, so that an older release may use the file as well.
INDEXES: Final = {
    "lease_by_address": "CREATE INDEX IF NOT EXISTS lease_by_address ON lease(address)",
    "idle_by_address": "CREATE INDEX IF NOT EXISTS idle_by_address ON idle(address)",
}
LEASE_COLUMNS: Final = (
    "network, container, ifname, sequence, address, prefix_length, gateway, pod_namespace, pod_name, pod_uid,"
    " netns, host_ifname, assigned_at, assigned_clock, boot_id"
)


def unpack(packed: bytes) -> Address:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def inside(block: Prefix | None) -> tuple[str, tuple[object, ...]]:
    """The condition for addresses of a block: SQLite compares blobs octet by octet."""
    if block is None:
        return "", ()
    first, last = block.network_address.packed, block.broadcast_address.packed
    return "WHERE address BETWEEN ? AND ? AND length(address)=?", (first, last, len(first))


def grouped(rows: Sequence[tuple[Any, ...]], store: str) -> list[Lease]:
    """Rows in the order of attachments and positions, one lease for each attachment."""
    leases: list[Lease] = []
    for row in rows:
        key = LeaseKey(row[0], row[1], row[2])
        leased = LeasedAddress(unpack(row[4]), row[5], unpack(row[6]) if row[6] else None)
        if leases and leases[-1].key == key:
            leases[-1] = replace(leases[-1], addresses=(*leases[-1].addresses, leased))
        else:
            leases.append(
                Lease(
                    key,
                    row[3],
                    (leased,),
                    PodName(*row[7:10]),
                    row[10],
                    row[11],
                    row[12],
                    row[13],
                    row[14],
                    store,
                )
            )
    return leases


def insert(
    db: sqlite3.Connection,
    wanted: Wanted,
    chosen: Sequence[tuple[LeasedAddress, str]],
    lease: Lease,
) -> None:
    """Put a lease: a row an address, with what is asked of it once it is released."""
    key, pod = lease.key, lease.pod
    db.executemany(
        "INSERT INTO lease VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        [
            (
                key.network,
                leased.address.packed,
                leased.prefix_length,
                leased.gateway.packed if leased.gateway else None,
                range_key,
                position,
                key.container_id,
                key.ifname,
                lease.sequence,
                lease.netns,
                lease.host_ifname,
                pod.namespace,
                pod.name,
                pod.uid,
                lease.assigned_at,
                lease.assigned_clock,
                lease.boot_id,
                wanted.cool_down,
                wanted.sticky_owner,
                wanted.sticky_hold,
            )
            for position, (leased, range_key) in enumerate(chosen)
        ],
    )


def delete(db: sqlite3.Connection, key: LeaseKey, sequence: int | None) -> list[tuple[Any, ...]]:
    """Take a lease's rows out, by position: LEASE_COLUMNS, position, and what was asked at release."""
    found = db.execute(
        "DELETE FROM lease WHERE network=?1 AND container=?2 AND ifname=?3 "  # noqa: S608 - constants
        "AND (?4 IS NULL OR sequence=?4) "
        f"RETURNING {LEASE_COLUMNS}, position, range, cool_down, sticky_owner, sticky_hold",
        (key.network, key.container_id, key.ifname, sequence),
    ).fetchall()
    found.sort(key=lambda row: row[15])
    return found


def insert_idle(
    db: sqlite3.Connection, rows: Sequence[tuple[Any, ...]], freed: int, boot: str, now: float, *, used: bool
) -> None:
    """Put the addresses of deleted rows to rest; without cool-down if no one used them."""
    db.executemany(
        "INSERT OR REPLACE INTO idle VALUES(?,?,?,?,?,?,?,?)",
        [
            (
                row[0],
                row[4],
                range_key,
                freed,
                boot,
                now + (cool_down if used else 0.0),
                sticky_owner,
                now + sticky_hold,
            )
            for row in rows
            for range_key, cool_down, sticky_owner, sticky_hold in (row[16:],)
        ],
    )


def next_sequence(db: sqlite3.Connection) -> int:
    row = db.execute(
        "INSERT INTO meta VALUES('sequence', 1) ON CONFLICT(key) DO UPDATE SET value=value+1 RETURNING value"
    ).fetchone()
    return int(row[0])
