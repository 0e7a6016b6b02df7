"""Who held which address when: the newest assignments and releases, the oldest cut off in steps."""

from __future__ import annotations

import _sqlite3 as sqlite3  # as `sqlitestore`
import time
from collections.abc import Sequence
from typing import Final

from l3net.ipam.lease import HistoryEntry, LeaseKey, PodName
from l3net.model import Address
from l3net.shell.files.leaserows import unpack

#: Rows of history that are kept, about 180 octets each.
HISTORY_LIMIT: Final = 20000
#: Rows of history after which the oldest are looked for, and the most that go at once: a pod waits for it.
_TRIM_EVERY: Final = 128
_TRIM_MOST: Final = 2048


def remember(
    db: sqlite3.Connection, event: str, key: LeaseKey, addresses: Sequence[bytes], pod: PodName, sequence: int
) -> None:
    """Write an event down for each address; the oldest go, a few at a time."""
    at = time.time()
    db.executemany(
        "INSERT INTO history(at, event, network, address, container, ifname, pod_namespace, pod_name, "
        "pod_uid, sequence) VALUES(?,?,?,?,?,?,?,?,?,?)",
        [
            (
                at,
                event,
                key.network,
                address,
                key.container_id,
                key.ifname,
                pod.namespace,
                pod.name,
                pod.uid,
                sequence,
            )
            for address in addresses
        ],
    )
    newest, oldest = db.execute(
        "SELECT (SELECT max(id) FROM history), (SELECT min(id) FROM history)"
    ).fetchone()
    if newest is not None and newest % _TRIM_EVERY < len(addresses):
        doomed = min(newest - HISTORY_LIMIT, oldest + _TRIM_MOST)
        db.execute("DELETE FROM history WHERE id <= ?", (doomed,))


def newest_entries(db: sqlite3.Connection, address: Address | None, limit: int) -> list[HistoryEntry]:
    """The newest first, of one address or all."""
    packed = address.packed if address else None
    rows = db.execute(
        "SELECT at, event, address, network, container, ifname, pod_namespace, pod_name, pod_uid, "
        "sequence FROM history WHERE ? IS NULL OR address=? ORDER BY id DESC LIMIT ?",
        (packed, packed, limit),
    ).fetchall()
    return [
        HistoryEntry(row[0], row[1], unpack(row[2]), LeaseKey(*row[3:6]), PodName(*row[6:9]), row[9])
        for row in rows
    ]
