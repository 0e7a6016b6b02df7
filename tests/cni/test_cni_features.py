"""What goes beyond attaching: GC, spool, audit, published ports, bandwidth, sockets, damage."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from l3net.attach.server import WORKERS
from l3net.cni.frame import Call, encode_call
from l3net.errors import NotRunningError
from l3net.ipam.lease import LeaseStoreError
from l3net.shell.files.leases import SqliteLeases
from l3net.shell.kernel.conntrack import forget

if TYPE_CHECKING:
    from conftest import Host

pytestmark = pytest.mark.netns

GC = {"cniVersion": "1.1.0", "name": "l3net", "type": "l3net-cni"}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def addresses(result: dict[str, Any]) -> list[str]:
    return [entry["address"].split("/")[0] for entry in result["ips"]]


def test_spooled_delete_is_carried_out(host: Host) -> None:
    """DEL while the agent is away succeeds; the agent does it before it serves again."""
    host.add("c1")
    host.stop()
    assert host.cni("DEL", "c1", None).code == 0
    assert host.veths()
    host.start()
    host.settle()
    assert host.leases() == 0 and host.veths() == []
    assert list((host.base / "state" / "spool").iterdir()) == []


def test_spooled_delete_spares_a_newer_attachment(host: Host) -> None:
    pod = host.pod()
    host.add("c1", pod)
    host.stop()
    host.cni("DEL", "c1", None)
    spool = host.base / "state" / "spool"
    (name,) = names(spool)
    late = (spool / name).read_bytes()
    host.start()
    host.add("c1", pod)  # a newer one of the same name
    (spool / name).write_bytes(late)  # the file comes back, as after a restored backup
    (spool / f"{'0' * 36}.1.1.del").write_bytes(late)  # and one of another boot
    (spool / "torn.1.1.del").write_bytes(late[:10])
    assert host.server
    assert host.inside(host.server.drain_spool) == 0
    assert host.leases() == 1 and names(spool) == []


def test_spool_that_cannot_be_written_fails_the_delete(bare_host: Host) -> None:
    outcome = bare_host.cni("DEL", "c1", None, L3NET_CNI_SPOOL="/proc/none-such")
    assert outcome.code == 1 and outcome.json["code"] == 11


def test_audit_frees_on_two_looks_only(host: Host, run: Any) -> None:
    pod = host.pod()
    host.add("lost", pod)
    host.add("kept")
    run("ip", "netns", "del", pod)
    run("ip", "-n", host.name, "link", "add", "l3vstray", "type", "veth", "peer", "name", "x")
    assert host.server
    ours = f"l3net/1 l3net gone eth0 10.244.0.9/32 {host.server.leases.identity}"
    run("ip", "-n", host.name, "link", "set", "l3vstray", "alias", ours)
    deadline = 200
    while len(host.veths()) > 2 and deadline:  # the kernel tears a namespace down in the background
        deadline -= 1
    server = host.server
    assert server
    assert not host.inside(server.audit).leases  # one look frees nothing
    assert host.leases() == 2
    both = host.inside(server.audit)
    assert [key.container_id for key, _ in both.leases] == ["lost"]
    assert {name for name, _ in both.links} == {"l3vstray"}
    assert host.leases() == 1
    host.settle()
    assert len(host.veths()) == 1
    assert host.inside(server.audit).leases == frozenset()


def test_an_add_between_two_looks_is_spared(host: Host, run: Any) -> None:
    pod = host.pod()
    host.add("c1", pod)
    run("ip", "-n", pod, "link", "del", "eth0")
    assert host.server
    host.inside(host.server.audit)
    host.cni("DEL", "c1", pod)
    host.add("c1", pod)  # same attachment, newer sequence
    run("ip", "-n", pod, "link", "del", "eth0")
    assert not host.inside(host.server.audit).leases
    assert host.leases() == 1


def test_gc_refuses_a_list_it_cannot_read(host: Host) -> None:
    host.add("c1")
    for bad in ({"cni.dev/valid-attachments": [{"containerID": "x"}]}, {"cni.dev/attachments": "all"}):
        outcome = host.cni("GC", conf={**GC, **bad})
        assert outcome.json["code"] == 7
    assert host.leases() == 1
    assert host.cni("GC", conf={**GC, "cni.dev/attachments": []}).code == 0
    assert host.leases() == 0


def test_two_hundred_parallel_adds(host: Host) -> None:
    """200 addresses, and more callers than workers."""
    pods = [host.pod() for _ in range(50)]

    def add(number: int) -> list[str]:
        outcome = host.cni("ADD", f"c{number}", pods[number % 50], ifname=f"eth{number // 50}")
        assert outcome.code == 0, outcome
        return addresses(outcome.json)

    with ThreadPoolExecutor(32) as pool:
        found = [address for pair in pool.map(add, range(200)) for address in pair]
    assert len(set(found)) == 400
    assert host.cni("GC", conf={**GC, "cni.dev/valid-attachments": []}).code == 0
    host.settle()
    assert host.leases() == 0 and host.veths() == []


def test_published_port(host: Host, run: Any) -> None:
    """A port of the host leads to the pod, from the host, from another pod and from the pod itself."""
    pod, other = host.pod(), host.pod()
    mapping = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
    conf = {**host.conf, "runtimeConfig": {"portMappings": mapping}}
    host.add("c1", pod, conf=conf)
    host.add("c2", other)
    script = (
        "import socket,sys;s=socket.create_server(('::',80),family=socket.AF_INET6,dualstack_ipv6=True)\n"
    )
    script += "print('up',flush=True)\nwhile True:\n c,_=s.accept();c.sendall(b'hello');c.close()"
    argv = ["ip", "netns", "exec", pod, "python3", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as served:
        try:
            assert served.stdout
            served.stdout.readline()
            probe = (
                "import socket,sys;c=socket.create_connection((sys.argv[1],8080),5);"
                "sys.stdout.write(c.recv(9).decode())"
            )
            for netns, address in (
                (host.name, "10.244.0.1"),
                (host.name, "127.0.0.1"),
                (host.name, "fd00:10:244:1::1"),
                (other, "10.244.0.1"),
                (other, "fd00:10:244:1::1"),
                (pod, "10.244.0.1"),
            ):
                said = run("ip", "netns", "exec", netns, "python3", "-c", probe, address)
                assert said == "hello", (netns, address)
            taken = host.cni("ADD", "c3", host.pod(), conf=conf)
            assert taken.json["code"] == 7 and "published" in taken.json["msg"]
            assert host.leases() == 2
            result = json.loads(json.dumps(host.cni("ADD", "c4", host.pod()).json))
            assert addresses(result)
        finally:
            served.kill()
    host.cni("DEL", "c1", pod)
    left = run("ip", "netns", "exec", host.name, "nft", "list", "ruleset")
    assert "8080" not in left and "10.244.0.2" not in left
    host.add("c5", conf=conf)  # the port is free again


def test_bandwidth(host: Host, run: Any) -> None:
    pod = host.pod()
    conf = {**host.conf, "runtimeConfig": {"bandwidth": {"ingressRate": 8_000_000, "egressRate": 4_000_000}}}
    host.add("c1", pod, conf=conf)
    (veth,) = host.veths()
    inwards = json.loads(run("tc", "-n", host.name, "-j", "qdisc", "show", "dev", veth))
    outwards = json.loads(run("tc", "-n", pod, "-j", "qdisc", "show", "dev", "eth0"))
    assert [(entry["kind"], entry["options"]["rate"]) for entry in inwards] == [("tbf", 1_000_000)]
    assert [(entry["kind"], entry["options"]["rate"]) for entry in outwards] == [("tbf", 500_000)]
    bad = {**host.conf, "runtimeConfig": {"bandwidth": {"ingressRate": -1}}}
    assert host.cni("ADD", "c2", host.pod(), conf=bad).json["code"] == 7
    assert host.leases() == 1


def test_ipv6_turned_off_in_the_pod(host: Host, run: Any, ping: Any) -> None:
    pod = host.pod()
    run("ip", "netns", "exec", pod, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    run("ip", "netns", "exec", pod, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    host.add("c1", pod)
    assert ping(pod, "fd00:10:244:1::1")


def test_connections_of_a_released_address_are_forgotten(host: Host, run: Any) -> None:
    run(
        "ip",
        "netns",
        "exec",
        host.name,
        "nft",
        "add table inet t; add chain inet t c "
        "{ type filter hook input priority 0; }; add rule inet t c ct state new counter",
    )
    pod, other = host.pod(), host.pod()
    host.add("c1", pod)
    host.add("c2", other)
    for netns in (pod, other):
        for gateway in ("10.244.0.1", "fd00:10:244:1::1"):
            run("ip", "netns", "exec", netns, "ping", "-c", "1", "-W", "5", gateway)

    def tracked() -> str:
        listed = [run("ip", "netns", "exec", host.name, "conntrack", "-L", "-f", f) for f in ("ipv4", "ipv6")]
        return " ".join(listed) + " "

    def gone() -> list[int]:
        assert host.server
        lease = host.server.leases.leases()[0]
        return forget([leased.address for leased in lease.addresses])

    assert "src=10.244.0.2 " in tracked() and "src=fd00:10:244:1::2 " in tracked()
    assert set(host.inside(gone)) <= {0, 2}
    left = tracked()
    assert "=10.244.0.2 " not in left and "=fd00:10:244:1::2 " not in left
    assert "src=10.244.0.3 " in left and "src=fd00:10:244:1::3 " in left  # the control


def test_the_socket_is_for_root_alone(host: Host) -> None:
    path = host.base / "run" / "cni.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_second_server_is_refused(host: Host) -> None:
    first = host.server
    host.server = None
    try:
        with pytest.raises(NotRunningError, match="another process"):
            host.start()
    finally:
        host.server = first
    host.add("c1")  # and the first still serves


def test_garbage_on_the_socket_harms_nobody(host: Host) -> None:
    path = str(host.base / "run" / "cni.sock")
    before = len(names(Path("/proc/self/fd")))
    whole = encode_call(Call({}, b"{}"))
    for garbage in (b"", b"x", b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 70000, whole[:-1]) * 8:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(path)
            try:
                client.sendall(garbage)
                client.shutdown(socket.SHUT_WR)
                client.settimeout(10)
                assert client.recv(100) == b""
            except (BrokenPipeError, ConnectionResetError):
                pass
    host.add("c1")
    # forty connections would have left forty; a worker keeps one socket, and may be closing what it served
    host.stop()
    assert len(names(Path("/proc/self/fd"))) <= before + WORKERS


def test_huge_input_is_refused_in_bounded_memory(host: Host) -> None:
    outcome = host.cni("ADD", "c1", host.pod(), conf=b"{" + b" " * (9 << 20) + b"}")
    assert outcome.json["code"] == 6


def test_a_damaged_store_stops_the_server_not_the_pods(host: Host, ping: Any) -> None:
    pod = host.pod()
    host.add("c1", pod)
    host.stop()
    path = host.base / "state" / "leases.db"
    content = bytearray(path.read_bytes())
    content[200:4000] = os.urandom(3800)
    path.write_bytes(content)
    with pytest.raises(LeaseStoreError, match="Rebuilding"):
        host.start()
    assert ping(pod, "10.244.0.1")


def test_a_hung_lock_holder_is_answered_with_try_again(host: Host) -> None:
    assert host.server
    host.server.leases._connection.execute("PRAGMA busy_timeout=100")
    other = SqliteLeases(host.base / "state" / "leases.db")
    other._connection.execute("BEGIN IMMEDIATE")
    pod = host.pod()
    outcome = host.cni("ADD", "c1", pod)
    assert outcome.json["code"] == 11 and host.veths() == []
    other._connection.execute("ROLLBACK")
    host.add("c1", pod)
    other.close()


def test_deleted_rules_are_put_back(host: Host, run: Any) -> None:
    mapping = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
    host.add("c1", conf={**host.conf, "runtimeConfig": {"portMappings": mapping}})
    server = host.server
    assert server and host.inside(server.mend_rules) == 0
    run("ip", "netns", "exec", host.name, "nft", "delete", "table", "inet", "l3net_cni")
    assert host.inside(server.mend_rules) == 1
    assert "8080" in run("ip", "netns", "exec", host.name, "nft", "list", "ruleset")
    assert host.inside(server.mend_rules) == 0
