"""Policies with a real agent on a directory of manifests, and pods attached by the real plugin."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from firewall_net import inside
from pod_node import Node, sh
from truth import Document, labels, net_policy

pytestmark = pytest.mark.netns

BLOCKS = ("10.244.5.0/24", "fd00:244:5::/120")
#: The port that policies open, and one that they do not.
OPEN, CLOSED = 8080, 9090
_SO_RCVBUFFORCE = 33  # of socket(7): what comes while the machine does something else is kept


def pod(name: str, **of: str) -> Document:
    """A pod that the directory declares, as far as it is known before it runs."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "labels": of},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
    }


def named(name: str) -> str:
    return f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}"


def only_open(name: str = "web", port: int = OPEN, **from_: str) -> Document:
    """Pods of app=web are reached on a port by pods with these labels, on TCP and UDP."""
    ports = [{"port": port, "protocol": protocol} for protocol in ("TCP", "UDP")]
    peer = {"podSelector": labels(**from_)}
    return net_policy("default", name, labels(app="web"), ingress=[{"from": [peer], "ports": ports}])


class Pod:
    """An attached pod: its namespace and its addresses."""

    def __init__(self, host: Node, name: str, args: str | None = None) -> None:
        self.netns, result = host.add(name, named(name) if args is None else args)
        self.v4, self.v6 = (each["address"].partition("/")[0] for each in result["ips"])

    def address(self, version: int) -> str:
        return self.v4 if version == 4 else self.v6


class Echo:
    """Answers TCP and UDP on the two ports in a namespace, and counts who called on which."""

    def __init__(self, place: str) -> None:
        self._stop, self._stopped = os.pipe()
        self._served: dict[socket.socket, tuple[int, bool]] = {}
        self.heard: dict[int, int] = {OPEN: 0, CLOSED: 0}
        for port in (OPEN, CLOSED):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with inside(place):
                    made = socket.socket(socket.AF_INET6, kind)
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
                made.bind(("::", port))
                if kind == socket.SOCK_STREAM:
                    made.listen(128)
                self._served[made] = (port, kind == socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._stop, *self._served], [], [])
            for each in ready:
                if each == self._stop:
                    return
                port, listens = self._served[each]
                with contextlib.suppress(OSError):
                    if each.type == socket.SOCK_DGRAM:
                        data, sender = each.recvfrom(2048)
                        self.heard[port] += 1
                        each.sendto(data, sender)
                    elif listens:
                        accepted, _ = each.accept()
                        self.heard[port] += 1
                        self._served[accepted] = (port, False)
                    elif data := each.recv(2048):
                        each.sendall(data)
                    else:
                        del self._served[each]
                        each.close()
                    continue
                if not listens and each.type == socket.SOCK_STREAM:
                    del self._served[each]
                    each.close()

    def close(self) -> None:
        os.write(self._stopped, b".")
        self._thread.join()
        for each in self._served:
            each.close()
        os.close(self._stop)
        os.close(self._stopped)


def tcp(place: str, address: str, port: int, wait: float = 5.0) -> socket.socket:
    """Connected. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(place):
        made = socket.socket(family, socket.SOCK_STREAM)
    made.settimeout(wait)
    try:
        made.connect((address, port))
    except OSError:
        made.close()
        raise
    return made


def answers(place: str, address: str, port: int) -> bool:
    """What has to work may take its time."""
    return reaches(place, address, port, 10.0)


def reaches(place: str, address: str, port: int, wait: float = 0.4) -> bool:
    try:
        with tcp(place, address, port, wait) as made:
            made.sendall(b"?")
            return made.recv(10) == b"?"
    except OSError:
        return False


@contextlib.contextmanager
def served(*places: str) -> Iterator[list[Echo]]:
    echoes = [Echo(place) for place in places]
    try:
        yield echoes
    finally:
        for each in echoes:
            each.close()


class Caller:
    """Sends a datagram every millisecond from a namespace to a port, each from a port of its own, and counts
    what was answered. It begins before the namespace has any interface. `expecting`: an answer may take as
    long as a busy machine lets it; else little is waited for what is not to come."""

    def __init__(self, place: str, address: str, port: int, *, expecting: bool = False) -> None:
        self.sent = self.answered = 0
        self._expecting = expecting
        self._place, self._to = place, (address, port)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        family = socket.AF_INET6 if ":" in self._to[0] else socket.AF_INET
        with inside(self._place):
            opened: list[socket.socket] = []
            while not self._ending.is_set():
                made = socket.socket(family, socket.SOCK_DGRAM)
                made.setblocking(False)
                with contextlib.suppress(OSError):
                    made.sendto(b"!", self._to)
                    self.sent += 1
                opened.append(made)
                if len(opened) > 200:
                    self._heard(opened.pop(0), 10.0)
                time.sleep(0.001)
            time.sleep(0.2)
            deadline = time.monotonic() + 10.0
            for each in opened:
                self._heard(each, max(0.0, deadline - time.monotonic()))

    def _heard(self, each: socket.socket, patience: float) -> None:
        if self._expecting:
            each.settimeout(patience)
        try:
            each.recv(16)
            self.answered += 1
        except OSError:
            self._expecting = False  # one is lost: no more waiting
        each.close()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()


def until(condition: Callable[[], object], what: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.mark.parametrize("version", [4, 6])
def test_it_holds_from_the_first_packet(host: Node, version: int) -> None:
    """A pod that sends from the instant its link is up reaches what it may, and never what it may not. The
    control is a pod without a policy."""
    pods = [pod("web", app="web"), pod("late", app="late"), pod("free", app="free")]
    deny = net_policy(
        "default", "late", labels(app="late"), egress=[{"ports": [{"port": OPEN, "protocol": "UDP"}]}]
    )
    host.declare(*BLOCKS, more=[*pods, deny])
    host.start()
    web = Pod(host, "web")
    with served(web.netns) as (echo,):
        for name, forbidden in (("late", True), ("free", False)):
            netns = host.netns(name)
            callers = {port: Caller(netns, web.address(version), port) for port in (OPEN, CLOSED)}
            time.sleep(0.05)
            before = dict(echo.heard)
            done = host.cni("ADD", name, netns, named(name))
            assert done.returncode == 0, done.stdout
            until(lambda: echo.heard[OPEN] > before[OPEN] + 50, "datagrams")  # noqa: B023
            for each in callers.values():
                each.stop()
            assert callers[CLOSED].sent > 20
            assert (echo.heard[CLOSED] == before[CLOSED]) is forbidden


def test_a_policy_ends_what_it_forbids_and_nothing_else(host: Node) -> None:
    """Connections that are established: those that it forbids are reset on both sides, in both families,
    the others go on; and a datagram stream that it forbids does not."""
    pods = [pod("web", app="web"), pod("good", role="good"), pod("bad", role="bad")]
    host.declare(*BLOCKS, more=pods)
    host.start()
    web, good, bad = (Pod(host, name) for name in ("web", "good", "bad"))
    with served(web.netns):
        kept = [tcp(good.netns, web.address(version), OPEN) for version in (4, 6)]
        lost = [tcp(bad.netns, web.address(version), OPEN) for version in (4, 6)]
        for each in (*kept, *lost):
            each.sendall(b"1")
            assert each.recv(1) == b"1"
        host.declare(*BLOCKS, more=[*pods, only_open(role="good")])
        until(lambda: not reaches(bad.netns, web.v4, OPEN), "the policy")
        for each in lost:
            with pytest.raises(ConnectionResetError):
                for _ in range(50):
                    each.sendall(b"2")
                    assert each.recv(1) == b"2"
                    time.sleep(0.05)
        for each in kept:
            each.sendall(b"3")
            assert each.recv(1) == b"3"
            each.close()
        # The control: a port that no policy opens is closed to the good one, too.
        assert answers(good.netns, web.v6, OPEN) and not reaches(good.netns, web.v6, CLOSED)


def test_while_policies_change_and_the_agent_dies(host: Node) -> None:
    """Nothing that is allowed is lost, nothing that is forbidden passes: policies change 100 times, nftables
    are replaced, and the agent is killed and started again."""
    pods = [pod("web", app="web"), pod("good", role="good"), pod("bad", role="bad")]
    host.declare(*BLOCKS, more=[*pods, only_open(role="good")])
    host.start()
    web, good, bad = (Pod(host, name) for name in ("web", "good", "bad"))
    with served(web.netns) as (echo,):
        until(
            lambda: reaches(good.netns, web.v4, OPEN) and not reaches(bad.netns, web.v4, OPEN), "the policy"
        )
        heard = dict(echo.heard)
        allowed = [Caller(good.netns, web.address(version), OPEN, expecting=True) for version in (4, 6)]
        forbidden = [Caller(bad.netns, web.address(version), OPEN) for version in (4, 6)]
        for number in range(100):
            more = [only_open(f"more{number % 3}", 1000 + number, role="bad")]
            host.declare(*BLOCKS, more=[*pods, only_open(role="good"), *more])
            if number == 50:
                host.kill()
                host.start()
            time.sleep(0.03)
        for each in (*allowed, *forbidden):
            each.stop()
        assert [each.sent - each.answered for each in allowed] == [0, 0]
        assert [each.answered for each in forbidden] == [0, 0] and all(each.sent > 300 for each in forbidden)
        assert echo.heard[OPEN] - heard[OPEN] == sum(each.sent for each in allowed)


def test_labels_that_the_runtime_tells(host: Node) -> None:
    """A pod that nobody declares has its labels from CNI_ARGS or the configuration, also after a restart."""
    host.declare(*BLOCKS, more=[only_open(role="good")])
    host.start()
    web = Pod(host, "web", "IgnoreUnknown=1;L3NET_LABELS=app=web,tier=front")
    good = Pod(host, "good", "IgnoreUnknown=1;K8S_POD_NAME=good;L3NET_LABELS=role=good")
    bad = Pod(host, "bad", "")
    with served(web.netns):
        assert answers(good.netns, web.v4, OPEN) and not reaches(bad.netns, web.v4, OPEN)
        host.kill()
        host.start()
        host.declare(*BLOCKS, more=[only_open(role="bad")])
        until(lambda: not reaches(good.netns, web.v6, OPEN), "the other policy")
        host.declare(*BLOCKS, more=[only_open(tier="front"), only_open("more", role="good")])
        until(lambda: reaches(good.netns, web.v6, OPEN), "the labels of before")
    done = host.cni("ADD", "odd", host.netns("odd"), "L3NET_LABELS=a b=c")
    assert done.returncode and "L3NET_LABELS" in done.stdout


def test_somebody_flushes_the_table(host: Node) -> None:
    pods = [pod("web", app="web"), pod("bad", role="bad")]
    host.declare(*BLOCKS, more=[*pods, only_open(role="good")])
    host.start()
    web, bad = (Pod(host, name) for name in ("web", "bad"))
    with served(web.netns):
        assert not reaches(bad.netns, web.v4, OPEN)
        sh("ip", "netns", "exec", host.name, "nft", "flush", "table", "inet", "l3net")
        until(lambda: not reaches(bad.netns, web.v4, OPEN), "the table")
        assert not reaches(bad.netns, web.v6, OPEN)


class _Cluster:
    """What is declared and changes at random, out of a seed, around three pods that stay: what these may do
    to one another stays the same all the while."""

    def __init__(self, host: Node, seed: int) -> None:
        self._host = host
        self._drawn = random.Random(seed)
        self.kept = [pod("web", app="web"), pod("good", role="good"), pod("bad", role="bad")]
        self.changing: dict[str, Document] = {}

    def _labels(self) -> dict[str, str]:
        return {"app": self._drawn.choice(("web", "db")), "tier": self._drawn.choice("ab")}

    def turn(self) -> None:
        name = f"{self._drawn.choice('pqrs')}{self._drawn.randrange(4)}"
        match name[0]:
            case _ if name in self.changing and self._drawn.random() < 0.3:
                del self.changing[name]
            case "p":  # elsewhere, at an address of its own
                there = pod(name, **self._labels())
                there["spec"]["nodeName"] = "other"  # type: ignore[index]
                there["status"] = {
                    "phase": "Running",
                    "podIPs": [{"ip": f"10.244.9.{name[1]}"}, {"ip": f"fd00:244:9::{name[1]}"}],
                }
                self.changing[name] = there
            case "q":  # more is accepted of the pods that are called, from those elsewhere
                peer = {"podSelector": labels(**self._labels())}
                port = {"port": self._drawn.choice((OPEN, CLOSED)), "protocol": "UDP"}
                rule = [{"from": [peer], "ports": [port]}]
                self.changing[name] = net_policy("default", name, labels(app="web"), ingress=rule)
            case "r":  # a namespace
                self.changing[name] = {
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {"name": name, "labels": self._labels()},
                }
            case _:  # what the callers may begin, which includes what they do
                ports = [{"port": OPEN, "protocol": "UDP"}, {"port": CLOSED, "protocol": "UDP"}]
                to = [{"podSelector": labels(app="web")}, {"podSelector": labels(**self._labels())}]
                who = labels(role=self._drawn.choice(("good", "bad")))
                self.changing[name] = net_policy("default", name, who, egress=[{"to": to, "ports": ports}])
        self._host.declare(*BLOCKS, more=[*self.kept, only_open(role="good"), *self.changing.values()])


def changed_at_random(host: Node, seconds: float, kill_every: float, seed: int) -> None:
    cluster = _Cluster(host, seed)
    cluster.turn()
    host.start()
    web, good, bad = (Pod(host, name) for name in ("web", "good", "bad"))
    with served(web.netns):
        until(
            lambda: reaches(good.netns, web.v4, OPEN) and not reaches(bad.netns, web.v4, OPEN), "the policy"
        )
        allowed = [Caller(good.netns, web.address(version), OPEN, expecting=True) for version in (4, 6)]
        forbidden = [Caller(bad.netns, web.address(version), OPEN) for version in (4, 6)]
        began = killed = time.monotonic()
        turns = 0
        while (now := time.monotonic()) < began + seconds:
            cluster.turn()
            turns += 1
            if now > killed + kill_every:
                host.kill()
                host.start()
                killed = time.monotonic()
            time.sleep(0.05)
        for each in (*allowed, *forbidden):
            each.stop()
    assert [each.sent - each.answered for each in allowed] == [0, 0], f"{turns} turns"
    assert [each.answered for each in forbidden] == [0, 0], f"{turns} turns"
    assert all(each.sent > 50 * seconds for each in (*allowed, *forbidden)) and turns > seconds


def test_while_all_changes_at_random(host: Node) -> None:
    """Of the allowed nothing is lost, of the forbidden nothing passes; for longer in `make soak`."""
    changed_at_random(host, 6, 4, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [2, 3])
def test_while_all_changes_at_random_for_minutes(host: Node, seed: int) -> None:
    changed_at_random(host, 180, 15, seed)


SEND = """
import socket, sys
source, destination, port = sys.argv[1:]
v4 = ":" not in destination
made = socket.socket(socket.AF_INET if v4 else socket.AF_INET6, socket.SOCK_DGRAM)
made.bind((source, 0) if v4 else (source, 0, 0, socket.if_nametoindex("eth0")))
made.sendto(b"?", (destination, int(port)))
"""


def link_local(netns: str) -> str:
    """Once duplicate address detection is over."""
    while True:
        shown = json.loads(sh("ip", "-j", "-n", netns, "-6", "addr", "show", "dev", "eth0", "scope", "link"))
        found = [row for each in shown for row in each.get("addr_info", ()) if row]
        if found and not found[0].get("tentative"):
            return str(found[0]["local"])
        time.sleep(0.05)


def test_whatever_address_a_pod_sends_from_it_is_the_pod(host: Node) -> None:
    """Its link-local address, and those that it is allowed beside its own: its policies are for all of them.
    The control is the same pod without a policy."""
    allowed = {"l3net.io/allowed-addresses": "10.77.0.5/32, fd77::/64"}
    evil = pod("evil", app="evil")
    evil["metadata"]["annotations"] = allowed
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "annotations": allowed}}
    deny = net_policy("default", "deny", labels(app="evil"), egress=[])
    pods = [pod("web", app="web"), evil, space]
    host.declare(*BLOCKS, more=pods)
    host.start()
    web, bad = Pod(host, "web"), Pod(host, "evil")
    with served(web.netns, host.name) as (echo, own):

        def send() -> None:
            local = link_local(bad.netns)
            for source, version in (("10.77.0.5", 4), ("fd77::9", 6), (local, 6)):
                for to in (web.address(version), "10.90.0.1" if version == 4 else "fd90::1"):
                    python = ("ip", "netns", "exec", bad.netns, sys.executable, "-c", SEND)
                    sh(*python, source, to, str(OPEN))
            time.sleep(0.2)

        sh("ip", "-n", bad.netns, "addr", "add", "10.77.0.5/32", "dev", "eth0")
        sh("ip", "-n", bad.netns, "addr", "add", "fd77::9/128", "dev", "eth0", "nodad")
        for _ in range(20):  # until the guard has been told what is allowed
            before = echo.heard[OPEN], own.heard[OPEN]
            send()
            told = echo.heard[OPEN] - before[0], own.heard[OPEN] - before[1]
            if told[0] >= 2:
                break
        assert told == (2, 3)  # a link-local source goes no further than the node
        host.declare(*BLOCKS, more=[*pods, deny])
        until(lambda: not reaches(bad.netns, web.v4, OPEN), "the policy")
        heard = dict(echo.heard), dict(own.heard)
        send()
        assert (echo.heard, own.heard) == heard


def test_what_began_while_somebody_had_flushed_the_table_ends(host: Node) -> None:
    pods = [pod("web", app="web"), pod("bad", role="bad")]
    host.declare(*BLOCKS, more=[*pods, only_open(role="good")])
    host.start()
    web, bad = (Pod(host, name) for name in ("web", "bad"))
    # Somebody else's rule, by which connections are tracked meanwhile, too.
    tracking = (
        "table inet others { chain forward { type filter hook forward priority 5; ct state new counter; }; }"
    )
    sh("ip", "netns", "exec", host.name, "nft", tracking)
    assert host.process
    with served(web.netns):
        until(lambda: not reaches(bad.netns, web.v4, OPEN), "the policy")
        os.kill(host.process.pid, signal.SIGSTOP)
        try:
            sh("ip", "netns", "exec", host.name, "nft", "flush", "table", "inet", "l3net")
            began = [tcp(bad.netns, web.address(version), OPEN) for version in (4, 6)]
        finally:
            os.kill(host.process.pid, signal.SIGCONT)
        for each in began:
            with pytest.raises(ConnectionResetError):
                for _ in range(100):
                    each.sendall(b"2")
                    assert each.recv(1) == b"2"
                    time.sleep(0.05)
