"""UDP streams to published ports follow the table: what was begun before ADD, and what outlives a pod."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest

from l3net.model import Stale
from l3net.shell.kernel import conntrack
from l3net.shell.kernel.conntrack import forget_stale

if TYPE_CHECKING:
    from conftest import Host

pytestmark = pytest.mark.netns

UDP = 17
PORT = 5353
ECHO = """
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", int(sys.argv[1])))
print("up", flush=True)
while True:
    data, source = s.recvfrom(2048)
    s.sendto(sys.argv[2].encode(), source)
"""
#: One stream, from one port: a line on standard input sends a datagram, a line of output says who answered.
STREAM = """
import socket, sys
host, port, own = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.3)
s.bind(("", own))
for _ in sys.stdin:
    try:
        s.sendto(b"x", (host, port))
        print(s.recv(100).decode(), flush=True)
    except OSError:
        print("nothing", flush=True)
"""


class Stream:
    """A client in a namespace, whose datagrams all come from one port."""

    def __init__(self, netns: str, address: str, own: int, undo: ExitStack) -> None:
        argv = ["ip", "netns", "exec", netns, "python3", "-c", STREAM, address, str(PORT), str(own)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        undo.callback(self.process.wait)
        undo.callback(self.process.kill)

    def ask(self) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def until(self, answer: str) -> str:
        """Asks until that answer comes, for ten seconds at most: a used entry lives far longer."""
        deadline = time.monotonic() + 10
        while (found := self.ask()) != answer and time.monotonic() < deadline:
            time.sleep(0.02)
        return found


def echo(netns: str, name: str, undo: ExitStack, port: int = 53) -> None:
    argv = ["ip", "netns", "exec", netns, "python3", "-c", ECHO, str(port), name]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    undo.callback(process.wait)
    undo.callback(process.kill)
    assert process.stdout
    process.stdout.readline()


def publishing(host: Host, host_port: int = PORT) -> dict[str, Any]:
    mapping = {"hostPort": host_port, "containerPort": 53, "protocol": "udp"}
    return {**host.conf, "runtimeConfig": {"portMappings": [mapping]}}


@pytest.mark.parametrize("address", ["10.244.0.1", "fd00:10:244:1::1"])
def test_a_stream_from_before_add_and_across_delete(host: Host, address: str) -> None:
    """A client that never stops sending reaches each pod that comes to have the port."""
    with ExitStack() as undo:
        client, first, second = host.pod(), host.pod(), host.pod()
        host.add("client", client, conf=publishing(host, 1))  # so that there is a table that could translate
        stream = Stream(client, address, 40000, undo)
        assert stream.ask() == "nothing"  # and conntrack has it, untranslated
        host.add("c1", first, conf=publishing(host))
        echo(first, "first", undo)
        assert stream.until("first") == "first"
        host.cni("DEL", "c1", first, conf=publishing(host))
        stream.ask()
        host.add("c2", second, conf=publishing(host))
        echo(second, "second", undo)
        assert stream.until("second") == "second"
        assert stream.ask() == "second"


def test_without_forgetting_the_stream_is_lost(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what the table says does not reach a connection that is there."""
    monkeypatch.setattr("l3net.shell.kernel.conntrack.forget_stale", lambda stale: 0)
    with ExitStack() as undo:
        client, first = host.pod(), host.pod()
        host.add("client", client, conf=publishing(host, 1))  # so that there is a table that could translate
        stream = Stream(client, "10.244.0.1", 40000, undo)
        assert stream.ask() == "nothing"
        host.add("c1", first, conf=publishing(host))
        echo(first, "first", undo)
        assert {stream.ask() for _ in range(3)} == {"nothing"}
        assert Stream(client, "10.244.0.1", 40001, undo).ask() == "first"  # a new one is translated


ENTRIES: tuple[tuple[Any, ...], ...] = (
    # protocol, client, destination, port, answered by, its port, status where it is not translated
    ("udp", "10.0.0.9", "10.96.0.10", 53, "10.244.0.5", 5300),
    ("udp", "10.0.0.9", "10.96.0.10", 53, "10.244.0.6", 5300),
    ("udp", "10.0.0.9", "10.96.0.10", 54, "10.244.0.5", 5300),
    ("udp", "10.0.0.9", "10.96.0.11", 53, "10.244.0.5", 5300),
    ("tcp", "10.0.0.9", "10.96.0.10", 53, "10.244.0.5", 5300),
    ("udp", "fd00::9", "fd96::10", 53, "fd10::5", 5300),
    ("udp", "fd00::9", "fd96::10", 53, "fd10::6", 5300),
    ("udp", "fd00::9", "fd96::11", 53, "fd10::5", 5300),
    ("tcp", "10.0.0.9", "10.96.0.10", 53, "10.96.0.10", 53, "NONE"),
    ("tcp", "fd00::9", "fd96::10", 53, "fd96::10", 53, "NONE"),
    ("tcp", "10.0.0.9", "10.96.0.10", 53, "10.96.0.10", 53),
)
DNS = frozenset({ip_address("10.96.0.10"), ip_address("fd96::10")})


@pytest.mark.parametrize(
    ("stale", "gone"),
    [
        (Stale(UDP, DNS, 53), {0, 1, 5, 6}),
        (Stale(UDP, frozenset({ip_address("10.96.0.10")}), 53), {0, 1}),
        (Stale(UDP, frozenset({ip_address("fd96::10")}), 53), {5, 6}),
        (Stale(UDP, DNS, 53, ip_address("10.244.0.5")), {0}),
        (Stale(UDP, DNS, 53, ip_address("fd10::5")), {5}),
        (Stale(UDP, answered_by=ip_address("10.244.0.5")), {0, 2, 3}),
        (Stale(UDP, answered_by=ip_address("fd10::5")), {5, 7}),
        (Stale(UDP, port=54), {2}),
        (Stale(UDP, DNS, 53, kept=frozenset({(ip_address("10.244.0.6"), 5300)})), {0, 5, 6}),
        (Stale(UDP, DNS, 53, kept=frozenset({(ip_address("fd10::6"), 0)})), {0, 1, 5}),
        (Stale(6, DNS), {4, 8, 9, 10}),
        (Stale(6, DNS, 53, untouched=True), {8, 9}),
        (Stale(6, frozenset({ip_address("fd96::10")}), 53, untouched=True), {9}),
        (Stale(132, DNS), set()),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_only_what_is_meant_is_forgotten(
    bare_host: Host, run: Any, stale: Stale, gone: set[int], alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the kernel is asked for each kind or for all of a protocol, both families alike."""
    if not alone:
        monkeypatch.setattr(conntrack, "_ASKED_ALONE", 0)
    left = tracked(bare_host, run)
    assert bare_host.inside(lambda: forget_stale([stale])) == len(gone)
    assert left() == set(range(len(ENTRIES))) - gone


def service(*addresses: str) -> Stale:
    return Stale(UDP, frozenset(map(ip_address, addresses)), 53)


@pytest.mark.parametrize(
    ("stale", "gone"),
    [
        ((service("10.96.0.10"), service("10.96.0.11")), {0, 1, 3}),
        ((service("fd96::10"), service("fd96::11")), {5, 6, 7}),
        ((service("fd96::11"), service("fd96::10")), {5, 6, 7}),
        ((service("10.96.0.10", "fd96::11"), service("10.96.0.11", "fd96::10")), {0, 1, 3, 5, 6, 7}),
    ],
)
def test_of_services_with_one_port_those_of_each_are_forgotten(
    bare_host: Host, run: Any, stale: tuple[Stale, ...], gone: set[int]
) -> None:
    """They change together where one pod is behind all of them."""
    left = tracked(bare_host, run)
    assert bare_host.inside(lambda: forget_stale(stale)) == len(gone)
    assert left() == set(range(len(ENTRIES))) - gone


def tracked(host: Host, run: Any) -> Callable[[], set[int]]:
    """Connections as in ENTRIES; the callable tells which of them are still there."""
    argv = ["ip", "netns", "exec", host.name]
    for number, (protocol, client, destination, port, answers, answer_port, *seen) in enumerate(ENTRIES):
        source = str(20000 + number)
        extra = ["--state", "SYN_SENT" if seen == ["NONE"] else "ESTABLISHED"] if protocol == "tcp" else []
        extra += ["-u", "SEEN_REPLY"] if protocol == "tcp" and seen != ["NONE"] else []
        run(
            *(*argv, "conntrack", "-I", "-p", protocol, "-t", "600", *extra, "-s", client, "-d", destination),
            *("--sport", source, "--dport", str(port), "-r", answers, "-q", client),
            *("--reply-port-src", str(answer_port), "--reply-port-dst", source),
        )

    def left() -> set[int]:
        listed = "".join(run(*argv, "conntrack", "-L", "-f", family) for family in ("ipv4", "ipv6"))
        return {number for number in range(len(ENTRIES)) if f"sport={20000 + number} " in listed}

    assert left() == set(range(len(ENTRIES)))
    return left


def test_of_a_node_port_what_is_sent_to_the_host_itself_is_forgotten(bare_host: Host, run: Any) -> None:
    """Not what goes to the same port elsewhere, nor to an address that no NodePort is on. Of SCTP, too."""
    argv = ["ip", "netns", "exec", bare_host.name]
    for address in ("192.0.2.1/32", "198.51.100.1/32", "2001:db8::1/128"):
        run(*argv, "ip", "addr", "add", address, "dev", "lo")
    on = frozenset({ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")})
    entries = (
        # protocol, destination, port, answered by
        ("udp", "192.0.2.1", 30053, "10.244.0.5"),
        ("udp", "192.0.2.1", 30053, "10.244.0.6"),
        ("udp", "192.0.2.9", 30053, "192.0.2.9"),
        ("udp", "198.51.100.1", 30053, "10.244.0.5"),
        ("udp", "192.0.2.1", 30054, "10.244.0.5"),
        ("udp", "2001:db8::1", 30053, "fd10::5"),
        ("sctp", "192.0.2.1", 30053, "10.244.0.5"),
        ("sctp", "2001:db8::1", 30053, "fd10::5"),
    )
    for number, (protocol, destination, port, answers) in enumerate(entries):
        source, client = str(20000 + number), "fd00::9" if ":" in destination else "10.0.0.9"
        state = (
            ["--state", "ESTABLISHED", "--orig-vtag", "1", "--reply-vtag", "2"] if protocol == "sctp" else []
        )
        run(
            *(*argv, "conntrack", "-I", "-p", protocol, "-t", "600", *state, "-s", client, "-d", destination),
            *("--sport", source, "--dport", str(port), "-r", answers, "-q", client),
            *("--reply-port-src", "5300", "--reply-port-dst", source),
        )

    def left() -> set[int]:
        listed = "".join(run(*argv, "conntrack", "-L", "-f", family) for family in ("ipv4", "ipv6"))
        return {number for number in range(len(entries)) if f"sport={20000 + number} " in listed}

    assert left() == set(range(len(entries)))
    kept = frozenset({(ip_address("10.244.0.6"), 5300)})
    assert bare_host.inside(lambda: forget_stale([Stale(UDP, port=30053, kept=kept, own_in=on)])) == 2
    assert left() == {1, 2, 3, 4, 6, 7}
    assert bare_host.inside(lambda: forget_stale([Stale(132, port=30053, own_in=on)])) == 2
    assert left() == {1, 2, 3, 4}
    assert bare_host.inside(lambda: forget_stale([Stale(UDP, port=30053, own_in=frozenset())])) == 0
