"""What a policy has ended stays ended, whatever is still under way of it: a real agent, and real packets."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

import pytest
from firewall_net import inside
from pod_node import Node, sh
from test_policy_agent import BLOCKS, Pod, only_open, pod, tcp, until
from truth import labels, net_policy

pytestmark = pytest.mark.netns

PORT = 7000
#: Seconds for what has to come: a machine may have much to do.
SURELY = 10.0
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
OWN = {4: "10.90.0.1", 6: "fd90::1"}


def bound(place: str, address: str, kind: int, port: int) -> socket.socket:
    """A socket at that address of a namespace."""
    with inside(place):
        made = socket.socket(FAMILY[6 if ":" in address else 4], kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(SURELY)
    made.bind((address, port))
    return made


def hears(it: socket.socket, what: bytes, *, surely: bool = True) -> bool:
    """Whether that comes, before nothing does for a while; what has to come may take its time."""
    it.settimeout(SURELY if surely else 0.3)
    try:
        while it.recv(100) != what:
            pass
    except TimeoutError:
        return False
    return True


def tracked(host: Node, version: int, protocol: str, port: int) -> str:
    command = ("conntrack", "-L", "-f", f"ipv{version}", "-p", protocol, "--orig-port-dst", str(port))
    return sh("ip", "netns", "exec", host.name, *command)


@pytest.mark.parametrize("version", [4, 6])
def test_an_answer_to_what_has_ended_begins_nothing(host: Node, version: int) -> None:
    """An answer that is under way as its flow ends is the first packet of one that nothing forbids: what it
    was an answer to would go on as answers of that one. The control is a pod that may."""
    pods = [pod("web", app="web"), pod("good", role="good"), pod("bad", role="bad")]
    host.declare(*BLOCKS, more=pods)
    host.start()
    web, good, bad = (Pod(host, name) for name in ("web", "good", "bad"))
    server = bound(web.netns, web.address(version), socket.SOCK_DGRAM, PORT)
    callers = {
        each: bound(each.netns, each.address(version), socket.SOCK_DGRAM, PORT + 1) for each in (good, bad)
    }
    for caller in callers.values():
        caller.connect((web.address(version), PORT))
        caller.send(b"before")
        assert hears(server, b"before")
    host.declare(*BLOCKS, more=[*pods, only_open(port=PORT, role="good")])
    until(lambda: bad.address(version) not in tracked(host, version, "udp", PORT), "the end of its flow")
    for each, caller in callers.items():
        server.sendto(b"late", (each.address(version), PORT + 1))
        for number in range(3):
            caller.send(b"after %d" % number)
        assert hears(server, b"after 2", surely=each is good) is (each is good)


def judged(host: Node, version: int) -> str:
    """The map of those whom policies are for, as it is in force; empty if it is not."""
    command = ("nft", "list", "map", "inet", "l3net", f"ingress{version}")
    return sh("ip", "netns", "exec", host.name, *command, check=False)


def accepted(place: str, address: str, to: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection to a socket that listens, the caller's first."""
    caller = tcp(place, address, PORT)
    answering, _ = to.accept()
    return caller, answering


def reset(it: socket.socket, *, surely: bool = False) -> bool:
    """Whether what is sent is answered by a reset."""
    it.settimeout(SURELY if surely else 0.3)
    try:
        it.send(b"?")
        it.recv(100)
    except TimeoutError:
        return False
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("restarted", [False, True])
def test_the_node_answers_to_what_has_ended_begin_nothing(host: Node, version: int, restarted: bool) -> None:
    """What a node itself sends is judged by nobody: so much the less may it begin anew what a pod may not.
    Nor after a restart of the agent."""
    pods = [pod("good", role="good"), pod("bad", role="bad")]
    host.declare(*BLOCKS, more=pods)
    host.start()
    good, bad = (Pod(host, name) for name in ("good", "bad"))
    server = bound(host.name, OWN[version], socket.SOCK_DGRAM, PORT)
    listening = bound(host.name, OWN[version], socket.SOCK_STREAM, PORT)
    listening.listen()
    callers, streams = {}, {}
    for each in (good, bad):
        callers[each] = bound(each.netns, each.address(version), socket.SOCK_DGRAM, PORT + 1)
        callers[each].connect((OWN[version], PORT))
        callers[each].send(b"before")
        assert hears(server, b"before")
        streams[each] = accepted(each.netns, OWN[version], listening)
    host.declare(*BLOCKS, more=[*pods, net_policy("default", "shut", labels(role="bad"), egress=[])])
    for protocol in ("udp", "tcp"):
        until(lambda: bad.address(version) not in tracked(host, version, protocol, PORT), protocol)  # noqa: B023
    if restarted:  # before anybody has said anything
        host.kill()
        host.start()
    for each in (good, bad):
        with contextlib.suppress(PermissionError):
            server.sendto(b"late", (each.address(version), PORT + 1))
        for number in range(3):
            callers[each].send(b"after %d" % number)
        assert hears(server, b"after 2", surely=each is good) is (each is good)
        caller, answering = streams[each]
        for end in (answering, caller):
            assert reset(end, surely=each is bad) is (each is bad)


@pytest.mark.parametrize("version", [4, 6])
def test_what_was_not_tracked_as_it_began_ends_whoever_is_heard_of_first(host: Node, version: int) -> None:
    """Without the table nothing is tracked; later the answer comes first, and is the beginning as far as
    anybody knows. The control: what may begin goes on."""
    pods = [pod("web", app="web"), pod("good", role="good"), pod("bad", role="bad")]
    host.declare(*BLOCKS, more=[*pods, only_open(port=PORT, role="good")])
    host.start()
    web, good, bad = (Pod(host, name) for name in ("web", "good", "bad"))
    to = web.address(version)
    server = bound(web.netns, to, socket.SOCK_DGRAM, PORT)
    listening = bound(web.netns, to, socket.SOCK_STREAM, PORT)
    listening.listen()
    until(lambda: to in judged(host, version), "the policy")
    assert host.process
    callers, streams = {}, {}
    os.kill(host.process.pid, signal.SIGSTOP)
    try:
        sh("ip", "netns", "exec", host.name, "nft", "delete", "table", "inet", "l3net")
        for each in (good, bad):
            callers[each] = bound(each.netns, each.address(version), socket.SOCK_DGRAM, PORT + 1)
            callers[each].connect((to, PORT))
            callers[each].send(b"before")
            assert hears(server, b"before")
            streams[each] = accepted(each.netns, to, listening)
    finally:
        os.kill(host.process.pid, signal.SIGCONT)
    until(lambda: to in judged(host, version), "the table")
    for each in (good, bad):
        server.sendto(b"late", (each.address(version), PORT + 1))
        streams[each][1].send(b"late")

    def heard(what: bytes) -> bool:
        callers[bad].send(what)
        return hears(server, what, surely=False)

    until(lambda: not heard(b"more"), "the end of the datagrams")
    until(lambda: reset(streams[bad][0]), "the end of the connection")
    assert not heard(b"at last")
    callers[good].send(b"at last")
    assert hears(server, b"at last") and not reset(streams[good][0])
