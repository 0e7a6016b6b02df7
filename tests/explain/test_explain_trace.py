"""Probes hop by hop and the rules that they meet: real packets, a real router, nftables' own tracing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from l3net.explain.traced import Hop, Met, dropping, each_once, met, verdict
from l3net.shell.probes.nfttrace import TABLE, NftTrace

LINES = """trace id 1a inet l3net_trace prerouting rule tcp sport 61000 meta nftrace set 1 (verdict continue)
trace id 1a inet l3net_trace prerouting policy accept
trace id 1a inet t c packet: iif "a" oif "b" ip saddr 10.7.1.2 ip daddr 10.7.2.2 tcp dport 80
trace id 1a inet t c rule tcp dport 80 counter packets 0 bytes 0 drop comment "no (way)" (verdict drop)
trace id 2b ip6 nat p policy accept
trace id 2b inet t c rule ip daddr 10.0.0.1 jump other (verdict jump other)
trace id 1a inet t c rule tcp dport 80 counter packets 0 bytes 0 drop comment "no (way)" (verdict drop)
nonsense
"""
DROP = Met("n1", "inet t", "c", 'tcp dport 80 counter packets 0 bytes 0 drop comment "no (way)"', "drop")


def test_rules_are_read_and_told_once() -> None:
    found = met("n1", LINES.splitlines(), TABLE)
    assert [event.verdict for event in found] == ["drop", "accept", "jump", "drop"]
    assert dropping(found) == [DROP]
    assert [count for _, count in each_once(found)] == [2, 1, 1]


OPEN = "arrives after 2 hops: web accepts connections"
LOST = "lost behind 10.0.0.1 (hop 1): the next hop drops it, or its answer does not come back"


@pytest.mark.parametrize(
    ("hops", "drops", "said"),
    [
        ([], [], "no answer: the first hop drops it, or does not report it"),
        ([Hop(1, "10.0.0.1", "exceeded"), Hop(2, "10.0.0.2", "open")], [], OPEN),
        ([Hop(1, "10.0.0.2", "closed", 1.0)], [], "arrives after 1 hop: web refuses connections"),
        ([Hop(1, "10.0.0.1", "no route", 1.0)], [], "stopped at 10.0.0.1: it reports no route"),
        ([Hop(1, "10.0.0.1", "exceeded"), Hop(2)], [], LOST),
        ([Hop(1)], [DROP], f"stopped on n1 by {DROP}"),
    ],
)  # fmt: skip
def test_one_sentence_says_where_it_stopped(hops: list[Hop], drops: list[Met], said: str) -> None:
    assert verdict(hops, drops, {"10.0.0.2": "web"}) == said


# --- real ones -------------------------------------------------------------------------------------------

_SERVER = """import socket, sys
for address in ("10.7.2.2", "fd07:2::2"):
    s = socket.create_server((address, 80), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    globals()[address] = s
print("up", flush=True)
import time; time.sleep(600)
"""
_CONNECT = """import socket, time
for _ in range(100):
    try: socket.create_connection(("fd07:2::2", 80), 0.5); break
    except OSError: time.sleep(0.05)
else: raise SystemExit(1)
"""


@pytest.fixture
def hosts() -> Iterator[str]:
    """A router between a client (a) and a server (b)."""
    name = f"tr{uuid.uuid4().hex[:6]}"

    def ip(*words: str) -> str:
        return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout

    with ExitStack() as undo:
        for each in (name, f"{name}a", f"{name}b"):
            ip("netns", "add", each)
            undo.callback(subprocess.run, ["ip", "netns", "del", each], check=False)
        for number, (far, link) in enumerate(((f"{name}a", "in0"), (f"{name}b", "out0")), 1):
            ip("-n", name, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", far)
            for host, its, last in ((name, link, 1), (far, "eth0", 2)):
                ip("-n", host, "addr", "add", f"10.7.{number}.{last}/24", "dev", its)
                ip("-n", host, "addr", "add", f"fd07:{number}::{last}/64", "dev", its, "nodad")
                ip("-n", host, "link", "set", its, "up")
            ip("-n", far, "route", "add", "default", "via", f"10.7.{number}.1")
            ip("-n", far, "-6", "route", "add", "default", "via", f"fd07:{number}::1")
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            subprocess.run(["ip", "netns", "exec", name, "sysctl", "-qw", f"{key}=1"], check=True)
        enter = ["ip", "netns", "exec", f"{name}b", sys.executable, "-c", _SERVER]
        server = subprocess.Popen(enter, stdout=subprocess.PIPE)
        undo.callback(server.wait)
        undo.callback(server.kill)
        assert server.stdout is not None
        server.stdout.readline()
        # IPv6 addresses are in force a little after they are given.
        there = ["ip", "netns", "exec", f"{name}a", sys.executable, "-c", _CONNECT]
        assert subprocess.run(there, check=False).returncode == 0
        yield name


def probed(hosts: str, source: str, destination: str, **more: Any) -> list[Hop]:
    asked = {"source": source, "destination": destination, "protocol": "tcp", "port": 80, "sourcePort": 61234}
    asked |= {"maxHops": 5, "tries": 2, "wait": 1.0, **more}
    done = subprocess.run(
        ["ip", "netns", "exec", f"{hosts}a", sys.executable, "-m", "l3net.shell.probes.prober"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Hop.of(json.loads(line)) for line in done.stdout.splitlines()]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.mark.netns
@needs_root
@pytest.mark.parametrize(("net", "router"), [("10.7", "10.7.1.1"), ("fd07", "fd07:1::1")])
def test_each_hop_answers_and_what_drops_is_named(hosts: str, net: str, router: str) -> None:
    source, target = (f"{net}.1.2", f"{net}.2.2") if "." in net else (f"{net}:1::2", f"{net}:2::2")
    enter = ["nsenter", f"--net=/run/netns/{hosts}", "--"]
    assert [(hop.address, hop.answer) for hop in probed(hosts, source, target)] == [
        (router, "exceeded"),
        (target, "open"),
    ]
    assert probed(hosts, source, target, port=81)[-1].answer == "closed"
    assert probed(hosts, source, target, protocol="icmp", port=0)[-1].answer == "answered"
    assert probed(hosts, source, target, protocol="udp", port=9)[-1].answer == "closed"
    rules = "table inet f {\nchain c {\ntype filter hook forward priority 0;\ntcp dport 80 drop\n}\n}\n"
    subprocess.run([*enter, "nft", "-f", "-"], input=rules, text=True, check=True)
    trace = NftTrace(enter)
    trace.start("tcp", 61234)
    try:
        hops = probed(hosts, source, target, wait=0.3)
    finally:
        events = met("router", trace.stop(), TABLE)
    assert [(hop.address, hop.arrived) for hop in hops] == [
        (router, False),
        ("", False),
        ("", False),
        ("", False),
    ]
    assert [(each.table, each.chain, each.rule) for each in dropping(events)] == [
        ("inet f", "c", "tcp dport 80 drop")
    ]
    assert TABLE not in tables(enter), "gone with the process"


@pytest.mark.netns
@needs_root
def test_a_trace_that_is_killed_leaves_no_table(hosts: str) -> None:
    enter = ["nsenter", f"--net=/run/netns/{hosts}", "--"]
    script = (
        "import sys, time\nfrom l3net.shell.probes.nfttrace import NftTrace\n"
        "trace = NftTrace(sys.argv[1:])\ntrace.start('udp', 61234)\nprint('up', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, *enter], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        assert TABLE in tables(enter)
        running.send_signal(signal.SIGKILL)
    for _ in range(100):
        pids = subprocess.run(
            ["ip", "netns", "pids", hosts], capture_output=True, text=True, check=True
        ).stdout
        if TABLE not in tables(enter) and not pids.split():
            return
        time.sleep(0.05)
    raise AssertionError("the table, or who watches it, outlives the process that made it")


def tables(enter: list[str]) -> str:
    return subprocess.run(
        [*enter, "nft", "list", "tables"], capture_output=True, text=True, check=True
    ).stdout
