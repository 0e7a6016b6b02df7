"""The lease store: distinct addresses, cool-down, sticky, sequence, reboot, damage, a full disk."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l3net.cli.ipam import ipam
from l3net.ipam.lease import (
    AddressUnavailableError,
    AlreadyLeasedError,
    ExhaustedError,
    LeaseKey,
    LeaseStoreError,
    PodName,
    Wanted,
)
from l3net.ipam.ranges import RangeSet, block_sets
from l3net.shell.files import addresschoice, leasehistory
from l3net.shell.files.leases import SqliteLeases
from l3net.shell.files.sqlitestore import LOG_LIMIT

SETS = block_sets([ip_network("10.1.0.0/28"), ip_network("fd00:1::/124")])


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[SqliteLeases]:
    store = SqliteLeases(tmp_path / "leases.db", boot="boot-1", clock=clock)
    yield store
    store.close()


def key(name: str) -> LeaseKey:
    return LeaseKey("net", name, "eth0")


def wanted(name: str, **changes: object) -> Wanted:
    return replace(Wanted(key(name), SETS), **changes)  # type: ignore[arg-type]


def shown(store: SqliteLeases, name: str) -> list[str]:
    lease = store.find(key(name))
    return [str(leased.address) for leased in lease.addresses] if lease else []


def test_a_block_yields_all_but_network_gateway_and_broadcast(store: SqliteLeases) -> None:
    for number in range(13):
        store.assign(wanted(f"c{number}"))
    given_out = {str(leased.address) for lease in store.leases() for leased in lease.addresses}
    assert given_out == {f"10.1.0.{n}" for n in range(2, 15)} | {f"fd00:1::{n:x}" for n in range(2, 15)}
    with pytest.raises(ExhaustedError):
        store.assign(wanted("one-too-many"))
    assert store.find(key("one-too-many")) is None


def test_a_slash_24_yields_253(tmp_path: Path) -> None:
    store = SqliteLeases(tmp_path / "l.db")
    sets = block_sets([ip_network("10.2.0.0/24")])
    found = {str(store.assign(Wanted(key(f"c{number}"), sets)).addresses[0].address) for number in range(253)}
    assert len(found) == 253 and not found & {"10.2.0.0", "10.2.0.1", "10.2.0.255"}


def test_an_exhausted_second_set_leaves_nothing_of_the_first(store: SqliteLeases) -> None:
    small = block_sets([ip_network("10.9.0.0/24"), ip_network("fd00:9::/126")])
    store.assign(Wanted(key("a"), small))
    with pytest.raises(ExhaustedError):
        store.assign(Wanted(key("b"), small))
    assert shown(store, "b") == []
    ipv4 = block_sets([ip_network("10.9.0.0/24")])
    assert str(store.assign(Wanted(key("c"), ipv4)).addresses[0].address) == "10.9.0.3"


def test_second_block_when_the_first_is_full(store: SqliteLeases) -> None:
    sets = block_sets([ip_network("10.1.0.0/30"), ip_network("10.2.0.0/30")])
    assert [str(store.assign(Wanted(key(n), sets)).addresses[0].address) for n in "ab"] == [
        "10.1.0.2",
        "10.2.0.2",
    ]


def test_repeated_assign_keeps_the_first(store: SqliteLeases) -> None:
    store.assign(wanted("a"))
    before = shown(store, "a")
    with pytest.raises(AlreadyLeasedError):
        store.assign(wanted("a"))
    assert shown(store, "a") == before
    store.assign(replace(wanted("a"), key=LeaseKey("net", "a", "eth1")))


def test_round_robin_and_cool_down(store: SqliteLeases, clock: Clock) -> None:
    for number in range(13):
        store.assign(wanted(f"c{number}"))
    store.release(key("c5"))
    store.release(key("c2"))
    with pytest.raises(ExhaustedError):
        store.assign(wanted("early"))
    clock.now += 59
    with pytest.raises(ExhaustedError):
        store.assign(wanted("early"))
    clock.now += 1.5
    store.assign(wanted("first"))
    store.assign(wanted("second"))
    assert (shown(store, "first")[0], shown(store, "second")[0]) == ("10.1.0.7", "10.1.0.4")


def test_a_released_address_is_the_last_to_return(store: SqliteLeases) -> None:
    store.assign(wanted("a", cool_down=0.0))
    store.release(key("a"))
    store.assign(wanted("b", cool_down=0.0))
    assert shown(store, "b") == ["10.1.0.3", "fd00:1::3"]


def test_release_is_idempotent_and_minds_the_sequence(store: SqliteLeases) -> None:
    old = store.assign(wanted("a"))
    assert store.release(key("a"), sequence=old.sequence) is not None
    assert store.release(key("a")) is None
    new = store.assign(wanted("a"))
    assert new.sequence > old.sequence
    assert store.release(key("a"), sequence=old.sequence) is None
    assert shown(store, "a")


def test_asked_addresses(store: SqliteLeases) -> None:
    asked = (ip_address("10.1.0.9"), ip_address("fd00:1::9"))
    store.assign(wanted("a", asked=asked))
    assert shown(store, "a") == ["10.1.0.9", "fd00:1::9"]
    for bad in ("10.1.0.9", "10.1.0.1", "10.1.0.15", "10.7.0.1"):
        with pytest.raises(AddressUnavailableError):
            store.assign(wanted("b", asked=(ip_address(bad),)))
    assert shown(store, "b") == []
    for number in range(12):
        store.assign(wanted(f"c{number}"))
    assert len({address for lease in store.leases() for address in lease.addresses}) == 26


def test_sticky(store: SqliteLeases, clock: Clock) -> None:
    def sticky(name: str, owner: str) -> Wanted:
        return wanted(name, sticky_owner=owner)

    store.assign(sticky("a", "ns/db-0"))
    mine = shown(store, "a")
    store.release(key("a"))
    for number in range(12):  # everyone else: the held address is not among theirs
        store.assign(wanted(f"c{number}"))
    store.assign(sticky("b", "ns/db-0"))  # at once, whatever the cool-down
    assert shown(store, "b") == mine
    store.release(key("b"))
    clock.now += 61
    store.assign(wanted("last"))  # held, yet better than no address at all
    assert shown(store, "last") == mine


def test_another_boot(tmp_path: Path, clock: Clock) -> None:
    first = SqliteLeases(tmp_path / "l.db", boot="one", clock=clock)
    first.assign(wanted("a"))
    first.settle_boot()
    assert first.find(key("a"))
    first.close()
    second = SqliteLeases(tmp_path / "l.db", boot="two", clock=clock)
    second.assign(wanted("b"))
    assert [lease.key.container_id for lease in second.settle_boot()] == ["a"]
    assert second.settle_boot() == [] and shown(second, "b")
    clock.now = 0.0  # the clock starts anew at boot
    assert len(list(second.leases())) == 1


def test_reserved_addresses() -> None:
    (ipv4,) = block_sets([ip_network("10.1.0.0/29")], [ip_network("10.1.0.4/31")])
    assert [
        str(a) for a in map(ip_address, range(int(ip_address("10.1.0.0")), 0x0A010008)) if ipv4.holding(a)
    ] == [
        "10.1.0.2",
        "10.1.0.3",
        "10.1.0.6",
    ]
    assert ipv4.size == 3


def test_ranges_changed_and_changed_back(store: SqliteLeases, clock: Clock) -> None:
    small, large = block_sets([ip_network("10.1.0.0/29")]), block_sets([ip_network("10.1.0.0/28")])
    for number in range(5):
        store.assign(Wanted(key(f"s{number}"), small, cool_down=0.0))
    for number in range(8):
        store.assign(Wanted(key(f"l{number}"), large, cool_down=0.0))
    with pytest.raises(ExhaustedError):
        store.assign(Wanted(key("x"), large))
    store.release(key("s1"))
    assert str(store.assign(Wanted(key("x"), large, cool_down=0.0)).addresses[0].address) == "10.1.0.3"
    store.release(key("x"))
    assert str(store.assign(Wanted(key("y"), small)).addresses[0].address) == "10.1.0.3"


def test_threads_get_distinct_addresses(tmp_path: Path) -> None:
    store = SqliteLeases(tmp_path / "l.db")
    sets = block_sets([ip_network("10.3.0.0/22"), ip_network("fd00:3::/118")])
    threads = [
        threading.Thread(target=lambda n=n: store.assign(Wanted(key(f"c{n}"), sets)))  # type: ignore[misc]
        for n in range(200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    addresses = [leased.address for lease in store.leases() for leased in lease.addresses]
    assert len(addresses) == len(set(addresses)) == 400


def test_history_names_the_holders(store: SqliteLeases) -> None:
    store.assign(wanted("a", pod=PodName("ns", "web-1", "uid")))
    store.release(key("a"))
    newest, oldest = store.history(ip_address("10.1.0.2"))
    assert (newest.event, oldest.event, str(oldest.pod)) == ("release", "assign", "ns/web-1")
    assert store.history(ip_address("10.1.0.3")) == []


def test_a_damaged_store_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    store = SqliteLeases(path)
    for number in range(10):
        store.assign(wanted(f"c{number}"))
    store.close()
    content = bytearray(path.read_bytes())
    content[100:4096] = os.urandom(3996)
    path.write_bytes(content)
    with pytest.raises(LeaseStoreError, match=r"docs/ipam\.md"):
        SqliteLeases(path, verify=True)
    assert path.read_bytes() == bytes(content)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    SqliteLeases(tmp_path / "l.db").close()
    with sqlite3.connect(tmp_path / "l.db") as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(LeaseStoreError, match="newer release"):
        SqliteLeases(tmp_path / "l.db")


def test_a_hung_lock_holder_bounds_the_wait(tmp_path: Path) -> None:
    store = SqliteLeases(tmp_path / "l.db", lock_wait=0.1)
    other = sqlite3.connect(tmp_path / "l.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LeaseStoreError) as refused:
        store.assign(wanted("a"))
    assert refused.value.try_later
    other.execute("ROLLBACK")
    store.assign(wanted("a"))


WRITER = """
import sys
from ipaddress import ip_network
from pathlib import Path
from l3net.ipam.lease import LeaseKey, Wanted
from l3net.ipam.ranges import RangeSet, block_sets
from l3net.shell.files import leases
from l3net.shell.files.leases import SqliteLeases
from l3net.shell.files.sqlitestore import LOG_LIMIT
store = SqliteLeases(Path(sys.argv[1]))
sets = block_sets([ip_network("10.4.0.0/16")])
for number in range(100000):
    lease = store.assign(Wanted(LeaseKey("net", f"c{number}", "eth0"), sets))
    print(lease.addresses[0].address, flush=True)
"""


def test_killed_writer_loses_nothing_it_told(tmp_path: Path) -> None:
    """What a call returned is on the disk: SIGKILL at any moment, and the next process finds it."""
    told: set[str] = set()
    for lines in (1, 7, 23):
        path = tmp_path / f"{lines}.db"
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout
        told = {writer.stdout.readline().strip() for _ in range(lines)}
        writer.send_signal(signal.SIGKILL)
        told |= {line.strip() for line in writer.stdout if line.endswith("\n")}
        writer.wait()
        store = SqliteLeases(path, verify=True)
        kept = {str(leased.address) for lease in store.leases() for leased in lease.addresses}
        assert told <= kept and len(kept) - len(told) <= 1
        store.close()


def test_full_disk(tmp_path: Path) -> None:
    """A store that cannot grow refuses with try-later, and what it holds stays readable."""
    store = SqliteLeases(tmp_path / "l.db")
    store.assign(wanted("a"))
    store._connection.execute("PRAGMA max_page_count=1")  # the smallest it can be now: no page more
    sets = block_sets([ip_network("10.5.0.0/16")])
    with pytest.raises(LeaseStoreError) as refused:
        for number in range(5000):
            store.assign(Wanted(key(f"d{number}"), sets, netns="x" * 1000))
    assert refused.value.try_later
    assert shown(store, "a")


operations = st.lists(
    st.tuples(st.sampled_from(["assign", "release", "wait"]), st.integers(0, 15)), max_size=60
)


@given(operations)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_laws(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    """Whatever the history: distinct addresses, none within its cool-down, reserved ones never."""
    clock = Clock()
    store = SqliteLeases(tmp_path_factory.mktemp("laws") / "l.db", clock=clock, boot="b")
    released: dict[str, float] = {}
    for what, number in steps:
        name = f"c{number}"
        if what == "wait":
            clock.now += 20
        elif what == "release":
            for address in shown(store, name):
                released[address] = clock.now
            store.release(key(name))
        elif store.find(key(name)) is None:
            try:
                store.assign(wanted(name))
            except ExhaustedError:
                cooling = sum(1 for at in released.values() if clock.now - at < 60) / 2
                assert len(store.leases()) + cooling >= 13
                continue
            for address in shown(store, name):
                assert clock.now - released.get(address, -1000.0) >= 60
                released.pop(address, None)
    held = [address for lease in store.leases() for address in lease.addresses]
    assert len(held) == len(set(held))
    store.close()


def short_pods(store: SqliteLeases, sets: tuple[RangeSet, ...], count: int, first: int = 0) -> None:
    """One pod at a time, each gone before the next comes."""
    for number in range(first, first + count):
        key = LeaseKey("n", f"short{number}", "eth0")
        store.assign(Wanted(key, sets, cool_down=0.0))
        assert store.release(key)


def rows(store: SqliteLeases, table: str) -> int:
    return int(store.read(lambda db: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]))  # noqa: S608 - constants


def test_history_is_bounded_whatever_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ADD, DEL, ADD, DEL for ever: sequence numbers of assignments are all odd then."""
    monkeypatch.setattr(leasehistory, "HISTORY_LIMIT", 100)
    store = SqliteLeases(tmp_path / "leases.db")
    short_pods(store, block_sets((ip_network("10.1.0.0/24"), ip_network("fd00::/120"))), 200)
    assert 100 <= rows(store, "history") <= 100 + 128 + 2
    assert store.history(limit=1)[0].key.container_id == "short199"
    store.close()


def test_a_history_that_grew_is_cut_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an older release left it: no pod waits for all of it."""
    store, sets = SqliteLeases(tmp_path / "leases.db"), block_sets((ip_network("10.1.0.0/24"),))
    short_pods(store, sets, 1)
    fill = (
        "INSERT INTO history(at, event) WITH RECURSIVE n(i) AS "
        "(SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 9000) SELECT i, 'assign' FROM n"
    )
    store.transact(lambda db: db.execute(fill).close())
    monkeypatch.setattr(leasehistory, "HISTORY_LIMIT", 100)
    seen = []
    for step in range(10):
        short_pods(store, sets, 64, 1 + 64 * step)
        seen.append(rows(store, "history"))
    assert all(before - after <= leasehistory._TRIM_MOST for before, after in pairwise(seen))
    assert seen[-1] <= 100 + 128 + 1
    store.close()


def test_idle_addresses_of_an_endless_range_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A /64 has always a new address; each pod would leave one behind for ever."""
    monkeypatch.setattr(addresschoice, "IDLE_LIMIT", 100)
    store = SqliteLeases(tmp_path / "leases.db")
    sets = block_sets((ip_network("fd00::/64"),))
    short_pods(store, sets, 400)
    assert rows(store, "idle") <= 101
    held = [store.assign(Wanted(LeaseKey("n", f"c{number}", "eth0"), sets)) for number in range(150)]
    found = [each.address for lease in held for each in lease.addresses]
    assert len(set(found)) == 150  # and no address twice
    short_pods(store, sets, 100, 400)
    assert rows(store, "idle") <= 101
    store.close()


def test_the_log_goes_back_to_its_bound(tmp_path: Path) -> None:
    """While another process reads, the log grows; afterwards it does not stay so."""
    path = tmp_path / "leases.db"
    store, sets = SqliteLeases(path), block_sets((ip_network("10.1.0.0/24"), ip_network("fd00::/120")))
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM lease").fetchone()
    log = Path(f"{path}-wal")
    done = 0
    while log.stat().st_size < LOG_LIMIT * 3 // 2:
        short_pods(store, sets, 20, done)
        done += 20
        assert done < 2000
    reader.close()
    deadline = done + 2000
    while log.stat().st_size > LOG_LIMIT + (1 << 20):
        short_pods(store, sets, 20, done)
        done += 20
        assert done < deadline
    store.close()


def test_a_file_that_was_opened_read_only_is_written_once_it_may_be(tmp_path: Path) -> None:
    """As on a disk that was read-only when the agent started: who has it open so, has it so for good."""
    path = tmp_path / "leases.db"
    SqliteLeases(path, named=True).close()
    read_only = [True]

    def connect(path: Path, **options: Any) -> sqlite3.Connection:
        mode = "ro" if read_only[0] else "rw"
        return sqlite3.connect(f"file:{path}?mode={mode}", uri=True, **options)

    store = SqliteLeases(path, connect=connect)
    sets = block_sets((ip_network("10.1.0.0/24"),))
    wanted = Wanted(LeaseKey("net", "c1", "eth0"), sets)
    for _ in range(2):
        with pytest.raises(LeaseStoreError, match="readonly"):
            store.assign(wanted)
    read_only[0] = False
    assert store.assign(wanted).addresses
    store.close()


def test_no_lease_is_given_where_the_store_still_takes_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails once more, and would take the lease."""
    path = tmp_path / "leases.db"
    SqliteLeases(path).close()
    with monkeypatch.context() as failing:
        failing.setattr(SqliteLeases, "_prepare", lambda _self, **_: "")
        store = SqliteLeases(path, named=True)
        wanted = Wanted(LeaseKey("net", "c1", "eth0"), block_sets((ip_network("10.1.0.0/24"),)))
        with pytest.raises(LeaseStoreError, match="accepts no name") as refused:
            store.assign(wanted)
        assert refused.value.try_later and not store.leases()
    assert store.assign(wanted).store
    store.close()


def test_no_lease_is_given_without_the_name_of_its_store(tmp_path: Path) -> None:
    """As on a disk that took nothing when the agent started."""
    path = tmp_path / "leases.db"
    SqliteLeases(path).close()
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    store = SqliteLeases(path, named=True, lock_wait=0.01)
    assert not store.identity
    other.rollback()
    lease = store.assign(Wanted(LeaseKey("net", "c1", "eth0"), block_sets((ip_network("10.1.0.0/24"),))))
    assert lease.store == store.identity != ""
    store.close()
    other.close()


def test_a_backup_is_whole_while_the_store_is_in_use(tmp_path: Path) -> None:
    """The control: a copy of the file alone lacks what stands in its write-ahead log."""
    path = tmp_path / "leases.db"
    with closing(SqliteLeases(path)) as store:
        leases = [store.assign(wanted(f"c{number}")) for number in range(3)]
        done = CliRunner().invoke(ipam, ["--state-dir", str(tmp_path), "backup", str(tmp_path / "b.db")])
        assert done.exit_code == 0, done.output
        store.assign(wanted("later"))
        (tmp_path / "plain.db").write_bytes(path.read_bytes())
    assert (tmp_path / "b.db").stat().st_mode & 0o777 == 0o600
    (tmp_path / "restored").mkdir()
    (tmp_path / "b.db").rename(tmp_path / "restored" / "leases.db")
    with closing(SqliteLeases(tmp_path / "restored" / "leases.db", verify=True)) as store:
        assert [each.key for each in store.leases()] == [each.key for each in leases]
    with closing(sqlite3.connect(tmp_path / "plain.db")) as copy, pytest.raises(sqlite3.Error):
        copy.execute("select count(*) from leases").fetchall()
    for wrong in ("none/b.db", ".."):
        refused = CliRunner().invoke(ipam, ["--state-dir", str(tmp_path), "backup", str(tmp_path / wrong)])
        assert refused.exit_code != 0
    assert not list(tmp_path.glob(".*")), "nothing is left beside"
