"""The store against what runs: whose links are whose, what an empty store adopts, what goes wrong alone."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from l3net.attach import rules as cnirules
from l3net.attach.spool import MOST_SET_ASIDE, Spool
from l3net.cli.main import cli
from l3net.cni.extras import Extras
from l3net.cni.failure import CniError
from l3net.cni.frame import Call, encode_call
from l3net.cni.ifname import host_ifname
from l3net.cni.request import parse_request
from l3net.cni.setup import NodeNetwork
from l3net.errors import KernelError
from l3net.faults import Faults
from l3net.ipam.lease import LeaseKey, Wanted
from l3net.ipam.ranges import block_sets
from l3net.shell.files.leases import SqliteLeases
from l3net.shell.kernel import links
from l3net.shell.kernel.conntrack import ConntrackFlush
from l3net.shell.kernel.netlink import Netlink

if TYPE_CHECKING:
    from conftest import Host

    from l3net.attach.server import CniServer

OWN_RANGES = {
    "cniVersion": "1.0.0",
    "name": "other",
    "type": "l3net-cni",
    "bridge": "cni0",
    "ipam": {"type": "l3net-ipam", "subnet": "10.99.0.0/24"},
}
HOST_LOCAL = {**OWN_RANGES, "ipam": {"type": "host-local", "subnet": "10.98.0.0/24"}}
NO_IPAM = {"cniVersion": "1.0.0", "name": "flat", "type": "l3net-cni", "bridge": "cni1"}


def addresses(result: dict[str, Any]) -> list[str]:
    return [entry["address"].split("/")[0] for entry in result["ips"]]


def served(host: Host) -> CniServer:
    assert host.server is not None
    return host.server


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def move_state(host: Host, name: str) -> None:
    """As somebody who starts the agent with another --state-dir, or an empty disk."""
    (host.base / "state").rename(host.base / name)
    (host.base / "state").mkdir(mode=0o700)


# --- whose links -----------------------------------------------------------------------------------------


@pytest.mark.netns
@pytest.mark.parametrize("conf", [OWN_RANGES, HOST_LOCAL, NO_IPAM], ids=["standalone", "host-local", "none"])
def test_the_audit_spares_links_of_others(
    host: Host, tmp_path: Path, conf: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod without a lease in this store is not this store's to delete."""
    pod = host.pod()
    if conf is OWN_RANGES:
        conf = {**conf, "ipam": {**conf["ipam"], "dataDir": str(tmp_path / "standalone")}}
        socket = {"L3NET_CNI_SOCKET": str(tmp_path / "none"), "L3NET_CNI_STATE": str(tmp_path / "standalone")}
    elif conf is HOST_LOCAL:
        conf = {**conf, "ipam": {**conf["ipam"], "dataDir": str(tmp_path / "host-local")}}
        socket = {}
    else:
        socket = {}
    assert host.cni("ADD", "theirs", pod, conf=conf, **socket).code == 0
    host.add("ours")
    (mine,) = (link for link in host.ip("link") if link.get("ifalias", "").startswith("l3net/1 l3net "))
    before = set(host.veths())
    assert len(before) == 2
    for _ in range(3):
        assert not host.inside(served(host).audit).links
    host.settle()
    assert set(host.veths()) == before
    # the control: a link that says it is of this store, and has no lease there, goes at the second look
    (lease,) = (each for each in served(host).leases.leases() if each.key.container_id == "ours")
    served(host).leases.release(lease.key)
    host.inside(served(host).audit)
    assert {name for name, _ in host.inside(served(host).audit).links} == {mine["ifname"]}
    host.settle()
    assert set(host.veths()) == before - {mine["ifname"]}


@pytest.mark.netns
def test_links_of_another_store_are_spared(host: Host) -> None:
    """Two stores on one host: neither deletes what the other wired, though its prefix is the same."""
    host.add("ours")
    other = SqliteLeases(host.base / "other.db", named=True)
    assert len(other.identity) == 16 and other.identity != served(host).leases.identity
    (veth,) = host.veths()
    served(host).leases.release(served(host).leases.leases()[0].key)
    alias = f"l3net/1 l3net ours eth0 10.244.0.2/32 {other.identity}"
    with_netlink(host, lambda netlink: netlink.transact([links.set_port(0, veth, alias=alias)]))
    for _ in range(3):
        assert not host.inside(served(host).audit).links
    other.close()
    again = SqliteLeases(host.base / "other.db")
    assert again.identity == other.identity  # it is the file's
    again.close()


def with_netlink(host: Host, work: Callable[[Netlink], Any]) -> Any:
    def run() -> Any:
        with Netlink() as netlink:
            return work(netlink)

    return host.inside(run)


# --- an empty store --------------------------------------------------------------------------------------


@pytest.mark.netns
@pytest.mark.parametrize("marked", [True, False], ids=["this-release", "older-release"])
def test_an_empty_store_adopts_what_runs(host: Host, ping: Any, marked: bool) -> None:
    """No address twice, no pod cut off; DEL of an adopted pod works, a spooled one too."""
    one, two, three = host.pod(), host.pod(), host.pod()
    held = addresses(host.add("c1", one))
    host.add("c2", two)
    if not marked:  # an older release did not say which store a link is of
        for link in host.ip("link"):
            if words := link.get("ifalias", "").split():
                alias = " ".join(words[:5])
                request = links.set_port(0, link["ifname"], alias=alias)
                with_netlink(host, lambda netlink, request=request: netlink.transact([request]))
    host.stop()
    move_state(host, "before")
    assert host.cni("DEL", "c2", None).code == 0  # spooled, before the new store is made
    server = host.start()
    until(lambda: host.leases() == 1)
    assert server.status()["adopted"] == (2 if marked else 1)
    assert not set(addresses(host.add("c3", three))) & set(held)
    for _ in range(3):
        assert not host.inside(server.audit).leases
    host.settle()
    assert ping(one, "10.244.0.1") and ping(three, addresses_of(host, one)[0])
    assert host.cni("DEL", "c1", None).code == 0
    host.settle()
    assert host.leases() == 1 and len(host.veths()) == 1


@pytest.mark.netns
def test_an_older_store_that_gave_an_address_to_a_pod_that_is_gone(host: Host, ping: Any) -> None:
    """Restored from a backup: the pod that runs and has the address by now keeps its interface, and gets its
    lease once the audit has freed the other's."""
    gone, stays = host.pod(), host.pod()
    held = addresses(host.add("gone", gone))
    host.stop()
    backup = host.base / "backup"
    with sqlite3.connect(host.base / "state" / "leases.db") as store:
        store.execute("VACUUM INTO ?", (str(backup),))
    host.start()
    assert host.cni("DEL", "gone", gone).code == 0
    host.settle()
    wanted = {**host.conf, "runtimeConfig": {"ips": held}}
    assert addresses(host.add("stays", stays, conf=wanted)) == held, "the control: the same address"
    host.stop()
    for each in (host.base / "state").glob("leases.db*"):
        each.unlink()
    backup.rename(host.base / "state" / "leases.db")
    server = host.start()
    assert "gave to gone" in str(server.problems()), "the control: it is contested"
    for _ in range(4):
        host.inside(server.audit)
    host.settle()
    assert [lease.key.container_id for lease in server.leases.leases()] == ["stays"]
    assert server.problems() == []
    assert len(host.veths()) == 1 and ping(stays, "10.244.0.1")


@pytest.mark.netns
def test_networks_with_ranges_of_their_own_may_overlap(bare_host: Host, run: Any) -> None:
    """Each has its own bridge: one address in two is no conflict, as among the node's blocks it is."""
    for network, length in (("one", 24), ("two", 24), ("three", 32), ("four", 32)):
        name = host_ifname(LeaseKey(network, "c1", "eth0"))
        argv = ["ip", "-n", bare_host.name, "link"]
        run(*argv, "add", name, "type", "veth", "peer", "name", f"x{network}")
        alias = f"l3net/1 {network} c1 eth0 10.99.0.{2 if length == 24 else 3}/{length} {'a' * 16}"
        run(*argv, "set", name, "alias", alias)
    server = bare_host.start(("10.244.0.0/24",))
    assert {lease.key.network for lease in server.leases.leases()} >= {"one", "two"}
    assert bare_host.leases() == 3
    (problem,) = server.problems()
    assert "10.99.0.3" in problem


@pytest.mark.netns
def test_adopted_pods_keep_and_give_back_their_ports(host: Host, run: Any) -> None:
    """What DEL has to undo is read from the tables, for its record went with the store."""
    mappings = [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "10.244.0.1"},
        {"hostPort": 99, "containerPort": 9, "protocol": "sctp", "hostIP": "fd00:10:244:1::1"},
    ]
    host.add("plain")
    host.add("c1", conf={**host.conf, "runtimeConfig": {"portMappings": mappings}})
    key = LeaseKey("l3net", "c1", "eth0")
    before = served(host).leases.find_record(key)
    assert before is not None
    host.stop()
    move_state(host, "before")
    server = host.start()
    after = server.leases.find_record(key)
    assert after is not None
    assert Extras.decode(after) == replace(
        Extras.decode(before), ports=tuple(sorted(Extras.decode(before).ports))
    )
    assert len(server.leases.records()) == 1
    assert host.cni("DEL", "c1", None).code == 0
    left = run("ip", "netns", "exec", host.name, "nft", "list", "ruleset")
    assert not any(port in left for port in ("8080", "5353", " 99 "))
    host.add("c2", conf={**host.conf, "runtimeConfig": {"portMappings": mappings}})


def addresses_of(host: Host, netns: str) -> list[str]:
    (link,) = host.ip("addr", "show", "dev", "eth0", netns=netns)
    return [each["local"] for each in link["addr_info"] if each["scope"] == "global"]


@pytest.mark.netns
def test_doctor_and_check_tell_of_another_store(host: Host) -> None:
    host.add("c1")
    host.stop()
    move_state(host, "before")
    SqliteLeases(host.base / "state" / "leases.db", named=True).close()
    state = ["ipam", "--state-dir", str(host.base / "state")]
    done = host.inside(lambda: CliRunner().invoke(cli, [*state, "check", "-o", "json"]))
    assert done.exit_code == 1
    assert [row["what"] for row in json.loads(done.stdout)] == [
        "interface of another lease store (--state-dir)"
    ]
    host.start()
    assert host.inside(lambda: CliRunner().invoke(cli, [*state, "check"])).exit_code == 0
    history = CliRunner().invoke(cli, [*state, "history", "-o", "json"])
    assert {row["event"] for row in json.loads(history.stdout)} == {"adopt"}


@pytest.mark.netns
def test_no_address_is_handed_out_before_adoption(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that takes nothing: ADD says so and hands out nothing, until it does."""
    held = addresses(host.add("c1"))
    host.stop()
    move_state(host, "before")
    refuse = threading.Event()
    refuse.set()
    adopt = SqliteLeases.adopt

    def adopting(self: SqliteLeases, *arguments: Any, **more: Any) -> bool:
        if refuse.is_set():
            with self.translated():
                raise sqlite3.OperationalError("database or disk is full")
        return adopt(self, *arguments, **more)

    monkeypatch.setattr(SqliteLeases, "adopt", adopting)
    server = host.start()
    outcome = host.cni("ADD", "c2", host.pod())
    assert outcome.json["code"] == 11 and "running pods" in outcome.json["msg"]
    assert any("no pod can be added" in each for each in server.problems())
    refuse.clear()
    until(lambda: not server.problems())
    assert not set(addresses(host.add("c2"))) & set(held)


@pytest.mark.netns
def test_two_pods_with_one_address_are_named(host: Host) -> None:
    """What has happened already is told, and nothing is deleted."""
    host.add("c1")
    host.stop()
    move_state(host, "before")
    store = SqliteLeases(host.base / "state" / "leases.db", named=True)
    blocks = (ip_network("10.244.0.0/20"), ip_network("fd00:10:244:1::/116"))
    store.assign(Wanted(LeaseKey("l3net", "c9", "eth0"), block_sets(blocks), host_ifname=""))
    store.close()
    server = host.start()
    (text,) = server.problems()
    assert "10.244.0.2" in text and "c9 eth0" in text and "c1" in text
    for _ in range(3):
        host.inside(server.audit)
    assert len(host.veths()) == 1


@pytest.mark.netns
def test_networks_share_the_nodes_blocks(host: Host) -> None:
    """Two configurations over the node's blocks: no address twice, and what one frees the other may have."""
    host.stop()
    host.start(("10.244.0.0/29",), cool_down=0.0)
    other = {**host.conf, "name": "second"}
    first = addresses(host.add("c1"))
    rest = [addresses(host.add(f"d{number}", conf=other))[0] for number in range(4)]
    assert len({*first, *rest}) == 5
    assert host.cni("ADD", "d9", host.pod(), conf=other).json["code"] == 11
    host.cni("DEL", "c1", None)
    assert addresses(host.add("d9", conf=other)) == first


# --- one fault alone -------------------------------------------------------------------------------------


@pytest.mark.netns
def test_the_reaper_outlives_a_fault(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """One ENOBUFS: links of later DELs go all the same."""
    host.add("c1")
    host.add("c2")
    real, failed = Netlink.transact, threading.Event()

    def overrun(self: Netlink, requests: Any) -> list[int]:
        if threading.current_thread().name == "link-reaper" and not failed.is_set():
            failed.set()
            raise KernelError("netlink receive", errno.ENOBUFS)
        return real(self, requests)

    monkeypatch.setattr(Netlink, "transact", overrun)
    assert host.cni("DEL", "c1", None).code == 0
    assert failed.wait(10)
    until(lambda: len(host.veths()) == 1)
    assert host.cni("DEL", "c2", None).code == 0
    until(lambda: host.veths() == [])
    (fault,) = served(host).faults.found()
    assert (fault.part, fault.count, fault.lasting) == ("deleting interfaces", 1, False)


def test_one_callers_failure_is_its_own(tmp_path: Path) -> None:
    """What nobody foresaw in one part of a shared transaction leaves the other parts as they are."""
    store = SqliteLeases(tmp_path / "leases.db")
    sets = block_sets((ip_network("10.1.0.0/24"),))
    outcome: dict[str, BaseException | None] = {}

    def call(name: str, work: Callable[[], object]) -> None:
        try:
            work()
            outcome[name] = None
        except BaseException as err:
            outcome[name] = err

    def broken(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO meta VALUES('half', 1)")
        raise ZeroDivisionError

    def surrogate(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO meta VALUES(?, 1)", ("\udcff",))

    def twice(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO meta VALUES('sequence', 1), ('sequence', 2)")

    works: dict[str, Callable[[], object]] = {
        "good1": lambda: store.assign(Wanted(LeaseKey("n", "good1", "eth0"), sets)),
        "broken": lambda: store.transact(broken),
        "surrogate": lambda: store.transact(surrogate),
        "twice": lambda: store.transact(twice),
        "good2": lambda: store.assign(Wanted(LeaseKey("n", "good2", "eth0"), sets)),
    }
    threads = [threading.Thread(target=call, args=each) for each in works.items()]
    with store._turn:  # so that all of them wait, and share one transaction
        for thread in threads:
            thread.start()
        until(lambda: len(store._queue.waiting) == len(works))
    for thread in threads:
        thread.join()
    kinds = {name: type(error) for name, error in outcome.items()}
    assert kinds.pop("good1") is kinds.pop("good2") is type(None)
    assert kinds == {
        "broken": ZeroDivisionError,
        "surrogate": UnicodeEncodeError,
        "twice": sqlite3.IntegrityError,
    }
    assert {lease.key.container_id for lease in store.leases()} == {"good1", "good2"}
    assert store.read(lambda db: db.execute("SELECT 1 FROM meta WHERE key='half'").fetchone()) is None
    with pytest.raises(ZeroDivisionError):  # and alone
        store.transact(broken)
    assert store.read(lambda db: db.execute("SELECT 1 FROM meta WHERE key='half'").fetchone()) is None
    store.close()


@pytest.mark.netns
def test_rules_of_the_others_are_mended(host: Host, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pod's port that cannot be put back keeps no other's away."""
    for number in (1, 2, 3):
        mapping = [{"hostPort": 8080 + number, "containerPort": 80, "protocol": "tcp"}]
        host.add(f"c{number}", conf={**host.conf, "runtimeConfig": {"portMappings": mapping}})
    run("ip", "netns", "exec", host.name, "nft", "delete", "table", "inet", "l3net_cni")
    server = served(host)
    key = LeaseKey("l3net", "c1", "eth0")
    record = server.leases.find_record(key)
    assert record is not None
    server.leases.keep_record(key, "no record at all")
    real = cnirules.put

    def put(extras: Any) -> None:
        if any(port.host_port == 8082 for port in extras.ports):
            raise KernelError("nftables refused the rules", errno.EBUSY)
        real(extras)

    monkeypatch.setattr(cnirules, "put", put)
    assert host.inside(server.mend_rules) == 1
    rules = run("ip", "netns", "exec", host.name, "nft", "list", "ruleset")
    assert "8083" in rules and "8082" not in rules
    assert any("host port rules" in each for each in server.problems())
    monkeypatch.undo()
    server.leases.keep_record(key, record)
    assert host.inside(server.mend_rules) == 2
    assert not server.problems()


@pytest.mark.netns
@pytest.mark.parametrize("gone", ["chains", "hooks", "the table"])
def test_rules_that_somebody_flushes_are_missed_and_put_back(host: Host, run: Any, gone: str) -> None:
    """`nft flush table` leaves the elements, and no port was published any more."""
    mapping = [{"hostPort": 8082, "containerPort": 80, "protocol": "tcp"}]
    host.add("c1", conf={**host.conf, "runtimeConfig": {"portMappings": mapping}})
    nft = ["ip", "netns", "exec", host.name, "nft"]
    before = run(*nft, "list", "table", "inet", "l3net_cni")
    server = served(host)
    assert host.inside(server.mend_rules) == 0, "the control"
    run(
        *nft,
        *{
            "chains": ["flush", "table", "inet", "l3net_cni"],
            "hooks": ["flush", "chain", "inet", "l3net_cni", "prerouting"],
            "the table": ["delete", "table", "inet", "l3net_cni"],
        }[gone],
    )
    assert host.inside(server.mend_rules) == 1
    assert run(*nft, "list", "table", "inet", "l3net_cni") == before
    assert host.inside(server.mend_rules) == 0


@pytest.mark.netns
def test_threads_begin_anew(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper whose steps fail with what nobody foresaw goes on; so do workers whose call does."""
    server = served(host)
    with monkeypatch.context() as broken:
        broken.setattr(server, "drain_spool", lambda: 1 // 0)
        broken.setattr(server.verbs, "answer", lambda *_: 1 // 0)
        until(lambda: any(fault.part == "spooled deletions" for fault in server.faults.found()))
        for _ in range(10):  # more than there are workers
            assert host.cni("ADD", "c1", host.pod()).code == 1
    assert server.problems() == ["spooled deletions: ZeroDivisionError: integer division or modulo by zero"]
    until(lambda: not server.problems())
    host.add("c1")
    counts = {fault.part: fault.count for fault in server.faults.found()}
    assert counts["CNI client"] == 10 and counts["spooled deletions"] >= 1
    assert server.status()["faults"]


def test_faults_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()
    for _ in range(3):
        with faults.contained("part"):
            raise ValueError("bad")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "part: ValueError: bad"
    ]
    (fault,) = faults.found()
    assert (fault.count, fault.lasting) == (3, True)
    with faults.contained("part"):
        pass
    assert not faults.found()[0].lasting


# --- the spool -------------------------------------------------------------------------------------------


@pytest.mark.netns
def test_without_descriptors_no_deletion_is_lost(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """EMFILE while the spool is read: what was not read is carried out later."""
    host.add("c1")
    host.add("c2")
    host.stop()
    assert host.cni("DEL", "c1", None).code == 0
    assert host.cni("DEL", "c2", None).code == 0
    real, out_of_descriptors = Path.read_bytes, threading.Event()
    out_of_descriptors.set()

    def read_bytes(self: Path) -> bytes:
        if out_of_descriptors.is_set() and self.suffix == ".del":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    server = host.start()
    assert host.leases() == 2 and len(list((host.base / "state" / "spool").iterdir())) == 2
    assert any("Too many open files" in each for each in server.problems())
    out_of_descriptors.clear()
    until(lambda: host.leases() == 0)
    until(lambda: not server.problems())


def test_a_faults_end_is_told_when_its_object_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the spool, one file cannot be read, one not removed: said once, until somebody took them away."""
    directory, boot = tmp_path / "spool", "0" * 36
    directory.mkdir()
    for number in (1, 2, 3):
        (directory / f"{boot}.{number}.1.del").write_bytes(encode_call(Call({"CNI_COMMAND": "DEL"}, b"{}")))
    real_read, real_unlink = Path.read_bytes, Path.unlink

    def read_bytes(self: Path) -> bytes:
        if self.name.startswith(f"{boot}.1."):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real_read(self)

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if self.name.startswith(f"{boot}.2."):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        real_unlink(self, missing_ok)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr(Path, "unlink", unlink)
    faults = Faults()
    spool = Spool(tmp_path, faults)
    parts = [f"emptying {directory}", f"reading {directory}"]
    with caplog.at_level("INFO"):
        for _ in range(3):
            for each in spool.calls(boot):
                spool.remove(each.path)
    assert [fault.part for fault in faults.found() if fault.lasting] == parts
    assert len(caplog.records) == 2  # nothing that worked again, and failed again
    monkeypatch.undo()
    for path in directory.iterdir():
        path.unlink()
    assert list(spool.calls(boot)) == []
    assert not [fault for fault in faults.found() if fault.lasting]


def test_one_of_many_that_fails_lasts_until_a_round_without(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()

    def round_of(*divisors: int) -> list[bool]:
        with faults.each("part") as contained:
            for divisor in divisors:
                with contained():
                    1 // divisor
        return [fault.lasting for fault in faults.found()]

    with caplog.at_level("INFO"):
        assert [round_of(1, 0, 1), round_of(0, 1), round_of()] == [[True], [True], [False]]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_faults_of_one_call_do_not_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried again that could tell of their end: a thread begun anew, a visit for other pods."""
    faults, stopping, divisors = Faults(), threading.Event(), iter((0, 1))

    def work() -> None:
        1 // next(divisors)

    monkeypatch.setattr("l3net.faults.RESTART", 0)
    faults.supervised("thread", work, stopping)
    flush = ConntrackFlush(0, faults)
    monkeypatch.setattr(flush, "_visit", lambda _: 1 // 0)
    flush.start()
    flush.add([ip_address("10.0.0.1")])
    flush.stop()
    assert [(each.part, each.lasting) for each in faults.found()] == [
        ("forgetting connections", False),
        ("thread", False),
    ]


@pytest.mark.netns
def test_what_nobody_can_read_is_set_aside(host: Host) -> None:
    """Torn, foreign and undecodable files; names that are not UTF-8; each kept, none in the way."""
    host.add("good")
    host.stop()
    assert host.cni("DEL", "good", None).code == 0
    spool = host.base / "state" / "spool"
    (good,) = spool.iterdir()
    boot = good.name.split(".")[0]
    environment = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "\udcff\udcfe"}
    bad = {
        f"{boot}.1.1.del": encode_call(Call(environment, json.dumps(host.conf).encode())),
        f"{boot}.1.2.del": good.read_bytes()[:-3],
        f"{boot}.1.3.del": b"",
        f"{boot}.x.4.del": good.read_bytes(),
        "note.del": b"hello",
    }
    for name, content in bad.items():
        (spool / name).write_bytes(content)
    (spool / f"{'0' * 36}.1.1.del").write_bytes(good.read_bytes())  # of another boot: nothing left to do
    server = host.start()
    until(lambda: host.leases() == 0)
    quarantine = host.base / "state" / "spool-quarantine"
    until(lambda: not any(spool.iterdir()))
    assert {path.name for path in quarantine.iterdir()} == set(bad)
    assert stat.S_IMODE(quarantine.stat().st_mode) == 0o700
    assert server.status()["quarantined"] == len(bad) and not server.problems()
    arguments = ["doctor", "--state-dir", str(host.base / "state"), "--run-dir", str(host.base / "none")]
    assert f"{quarantine}: {len(bad)} deletions" in CliRunner().invoke(cli, arguments).output
    for number in range(MOST_SET_ASIDE + 3):
        (spool / f"more{number}.del").write_bytes(b"")
    host.inside(server.drain_spool)
    assert len(list(quarantine.iterdir())) == MOST_SET_ASIDE


@pytest.mark.parametrize(
    ("environment", "conf"),
    [
        ({"CNI_IFNAME": "\udcff"}, b'{"name":"n","cniVersion":"1.0.0"}'),
        ({"CNI_NETNS": "/run/\udcff"}, b'{"name":"n","cniVersion":"1.0.0"}'),
        ({"CNI_ARGS": "A=\udcff"}, b'{"name":"n","cniVersion":"1.0.0"}'),
        ({}, b'{"name":"n","cniVersion":"1.0.0","bridge":"\\ud800"}'),
        ({}, b'{"name":"n","cniVersion":"1.0.0","mac":"\xff"}'),
    ],
)
def test_what_is_no_text_is_refused_by_name(environment: dict[str, str], conf: bytes) -> None:
    complete = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c", "CNI_IFNAME": "eth0", "CNI_NETNS": "/n"}
    with pytest.raises(CniError) as caught:
        parse_request({**complete, **environment}, conf)
    assert caught.value.code in (4, 6)
    assert str(caught.value).isprintable()
    parse_request({**complete, "OTHER": "\udcff"}, b'{"name":"n","cniVersion":"1.0.0","x":"\\ud83d\\ude00"}')


@pytest.mark.netns
def test_a_link_whose_name_is_no_text(host: Host, run: Any) -> None:
    """Somebody else's link: pods come and go, and are looked after, all the same."""
    name = b"\xff\xfe"
    body = links.ifinfo() + links.attribute(links.IFLA_IFNAME, name + b"\0")
    body += links.nested(links.IFLA_LINKINFO, links.text(links.IFLA_INFO_KIND, "bridge"))
    request = links.Request(links.RTM_NEWLINK, links.NLM_F_CREATE | links.NLM_F_EXCL, body)
    assert with_netlink(host, lambda netlink: netlink.transact([request])) == [0]
    host.add("c1")
    server = served(host)
    host.inside(server.audit)
    assert not host.inside(server.audit).leases
    assert host.inside(server.reattach_ports) == []
    host.stop()
    host.start()
    assert host.cni("DEL", "c1", None).code == 0
    host.settle()
    assert host.leases() == 0


# --- files -----------------------------------------------------------------------------------------------


def test_the_store_is_for_root_alone(tmp_path: Path) -> None:
    """Its log too, which holds what the file does not yet; and a file of an older release is mended."""
    old = os.umask(0o022)
    try:
        path = tmp_path / "state" / "leases.db"
        store = SqliteLeases(path)
        store.assign(Wanted(LeaseKey("n", "c", "eth0"), block_sets((ip_network("10.1.0.0/24"),))))
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        assert modes == {"leases.db": 0o600, "leases.db-wal": 0o600, "leases.db-shm": 0o600}
        for each in path.parent.iterdir():
            each.chmod(0o644)
        again = SqliteLeases(path)
        assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}
        again.close()
        store.close()
    finally:
        os.umask(old)


@pytest.mark.netns
def test_every_file_of_the_server_is_for_root_alone(host: Host) -> None:
    host.add("c1")
    host.stop()
    host.cni("DEL", "c1", None)
    host.start()
    found = [*(host.base / "state").rglob("*"), *(host.base / "run").rglob("*")]
    assert found
    assert [str(path) for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_an_older_release_may_use_the_file_again(tmp_path: Path) -> None:
    """What this release adds to the file is nothing another has to know."""
    store = SqliteLeases(tmp_path / "leases.db", named=True)
    lease = store.assign(Wanted(LeaseKey("n", "c", "eth0"), block_sets((ip_network("10.1.0.0/24"),))))
    assert lease.store == store.identity == store.leases()[0].store
    store.close()
    db = sqlite3.connect(tmp_path / "leases.db")
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.execute("DROP INDEX lease_by_address")  # as in a file of before
    db.execute("DELETE FROM meta WHERE key='identity'")
    db.commit()
    db.close()
    again = SqliteLeases(tmp_path / "leases.db", named=True)
    assert again.identity and again.holder(ip_address("10.1.0.2"))
    again.close()


# --- a store or a kernel that fails the agent's loop -----------------------------------------------------


@pytest.mark.netns
def test_the_agents_loop_does_not_fail_with_the_store(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the loop, status and metrics ask is answered, on the safe side, and the fault is told."""
    host.add("c1")
    server = served(host)
    block = ip_network("10.244.0.0/20")
    assert server.holds(block) and not server.holds(ip_network("10.245.0.0/20"))
    assert (server.attachments(), server.attachments(block)) == (1, 1)
    with monkeypatch.context() as broken:

        def read(*_: object) -> None:
            with server.leases.translated():
                raise sqlite3.OperationalError("disk I/O error")

        broken.setattr(server.leases, "read", read)
        assert server.holds(ip_network("10.245.0.0/20"))
        assert server.attachments() == 0 and server.status()["leases"] == 0
        assert host.inside(server.reattach_ports) == []
        assert any("disk I/O error" in each for each in server.problems())
    assert not server.problems() or not host.inside(server.reattach_ports)
    assert not server.problems()


@pytest.mark.netns
def test_the_agents_loop_does_not_fail_with_netlink(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.add("c1")
    server = served(host)
    with monkeypatch.context() as broken:

        def dump(*_: object) -> None:
            raise KernelError("netlink receive", errno.ENOBUFS)

        broken.setattr(Netlink, "dump", dump)
        assert host.inside(server.reattach_ports) == []
        host.inside(lambda: server.update(NodeNetwork((ip_network("10.244.0.0/21"),), 1500)))
        assert host.cni("ADD", "c2", host.pod()).json["code"] == 11
        assert any("running pods" in each for each in server.problems())
    until(lambda: not host.inside(server.reattach_ports) and not server.problems())
    host.add("c2")
