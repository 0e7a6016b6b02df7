"""What ExaBGP's process tells of connections that come to nothing, and of the NOTIFICATIONs it sends."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest
from direct_exabgp import Direct, session
from node_rig import brought_up
from stage import FAR_ADDRESS, NODE_ADDRESS, Stage
from wire_peer import KEEPALIVE, NOTIFICATION, OPEN, Listening, dial, message, open_with

from l3net.bgp.events import StateChanged
from l3net.bgp.exabgp.commands import RELOAD, SHOW_NEIGHBORS
from l3net.bgp.sessions import Session
from l3net.shell.speaker.listening import set_key

versions = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
netns = pytest.mark.netns
PASSIVE = {"passive": True, "listen": True}
UNREACHABLE = {4: "192.0.2.1", 6: "2001:db8::1"}
#: On the link, and nobody's.
ABSENT = {4: "10.90.0.77", 6: "fd90::77"}
#: On no link.
NOT_OURS = {4: "10.90.0.88", 6: "fd90::88"}


@pytest.fixture(scope="module")
def running() -> Iterator[Direct]:
    with brought_up(Stage()) as stage:
        direct = Direct(stage, [])
        yield direct
        direct.close()


@pytest.fixture
def direct(running: Direct) -> Iterator[Direct]:
    """ExaBGP with no session."""
    yield running
    hold(running)
    running.until(lambda: "10.90.0" not in str(running.ask(SHOW_NEIGHBORS)), "the sessions to go")
    running.messages.clear()
    running.lines.clear()


def hold(direct: Direct, *sessions: Session) -> None:
    direct.text = direct.configure(sessions)
    direct.ask(RELOAD)


def told(direct: Direct, *kinds: str, peer: str = "") -> list[dict[str, Any]]:
    """Events of these kinds, without what is the same in all: (kind, what it says)."""
    found = []
    for line in direct.lines:
        if line.startswith(b'{ "exabgp"'):
            event = json.loads(line)
            about = event.get("neighbor", {})
            if event["type"] in kinds and peer in ("", about.get("address", {}).get("peer")):
                found.append(about)
    return found


def attempts(direct: Direct, peer: str = "") -> list[tuple[str, str]]:
    return [
        (each["attempt"]["direction"], each["attempt"]["error"])
        for each in told(direct, "attempt", peer=peer)
    ]


def story(direct: Direct) -> list[str]:
    """NOTIFICATIONs, attempts and states, in the order in which they were told."""
    words = []
    for each in told(direct, "notification", "attempt", "state"):
        if "notification" in each:
            number = each["notification"]
            words.append(f"{each['direction']} {number['code']}/{number['subcode']} {number['data']}")
        elif "attempt" in each:
            words.append(f"{each['attempt']['direction']}: {each['attempt']['error']}")
        elif each["state"] != "connected":
            words.append(f"{each['state']} {each.get('reason', '')}".strip())
    return words


@netns
def test_why_a_peer_is_not_reached(direct: Direct) -> None:
    """All at once, over both families; none of these peers is ever told to be down."""

    def with_password(made: socket.socket) -> None:
        set_key(made, ip_address(NODE_ADDRESS[4]), b"theirs")

    silent_side = Listening(direct.stage, 4, before=with_password)
    not_there = (
        session(version, name=f"{address[version]}", peer_address=ip_address(address[version]))
        for version in (4, 6)
        for address in (UNREACHABLE, ABSENT)
    )
    hold(direct, *not_there, session(4), session(6, name="refused"))
    for version in (4, 6):
        unreachable, absent = UNREACHABLE[version], ABSENT[version]
        direct.until(lambda peer=unreachable: attempts(direct, peer), "the unreachable")  # type: ignore[misc]
        assert attempts(direct, unreachable) == [("out", "network unreachable")]
        direct.until(lambda peer=absent: attempts(direct, peer), "the absent")  # type: ignore[misc]
        assert attempts(direct, absent) == [("out", "no route to host")]
    assert attempts(direct, FAR_ADDRESS[6])[0] == ("out", "connection refused")
    direct.until(lambda: attempts(direct, FAR_ADDRESS[4]), "the silent", seconds=10)
    (silent,) = told(direct, "attempt", peer=FAR_ADDRESS[4])
    assert silent["attempt"]["error"] == "connection timed out after 9 s (no answer on port 179)"
    assert 9 <= silent["attempt"]["seconds"] < 10
    assert told(direct, "state") == []
    silent_side.close()


@netns
@versions
def test_an_address_that_is_not_ours(direct: Direct, version: int) -> None:
    hold(direct, session(version, local_address=ip_address(NOT_OURS[version])))
    direct.until(lambda: attempts(direct), "the attempt")
    assert attempts(direct) == [("out", f"cannot assign the local address {NOT_OURS[version]}")]
    # It dials again soon: no wait is longer than some seconds.
    stage = direct.stage
    length, *nodad = (24,) if version == 4 else (64, "nodad")
    with Listening(stage, version) as listening:
        stage.node.run(["ip", "addr", "add", f"{NOT_OURS[version]}/{length}", "dev", "up0", *nodad])
        with listening.accept() as wire:
            wire.establish()
            direct.until(lambda: "up" in story(direct), "the session")
    stage.node.run(["ip", "addr", "del", f"{NOT_OURS[version]}/{length}", "dev", "up0"])


def of_as(number: int) -> bytes:
    return open_with(as_number=number, capabilities=[(1, struct.pack("!HBB", 1, 0, 1))])


@netns
@versions
@pytest.mark.parametrize("way", ["out", "in"])
def test_connections_that_end_before_the_session_is_up(direct: Direct, version: int, way: str) -> None:
    stage = direct.stage
    rejected = message(NOTIFICATION, bytes([6, 5]))
    cases: list[tuple[list[bytes], str, list[str]]] = [
        ([], f"{way}: the peer closed the connection before its OPEN", []),
        ([of_as(65009)], f"{way}: NOTIFICATION sent 2/2 (Bad Peer AS)", ["send 2/2"]),
        ([rejected], f"{way}: NOTIFICATION received 6/5 (Connection Rejected)", ["receive 6/5"]),
        ([open_with()], f"{way}: the peer closed the connection after its OPEN", []),
    ]
    for said, attempt, notifications in cases:
        with Listening(stage, version) as listening:
            hold(direct, session(version, **(PASSIVE if way == "in" else {})))
            if way == "in":
                stage.until(lambda: ":179" in stage.node.run(["ss", "-Hltn"]).stdout, "the node to listen")
            with listening.accept() if way == "out" else dial(stage, version) as wire:
                wire.expect(OPEN)
                wire.send(*said)
                if notifications:
                    wire.ended()
                elif said:
                    wire.expect(KEEPALIVE)
        direct.until(lambda: attempts(direct), "the attempt")
        hold(direct)  # and what is known of the peer goes with it: else more is told 3 s later alone
        direct.until(lambda: "10.90.0" not in str(direct.ask(SHOW_NEIGHBORS)), "the session to go")
        words = story(direct)
        assert not [word for word in words if word.startswith(("up", "down"))]
        assert words[0] == attempt if not notifications else words[1] == attempt
        assert [word.rpartition(" ")[0] for word in words[: len(notifications)]] == notifications
        direct.lines.clear()


@netns
@versions
@pytest.mark.parametrize(("hold_time", "ways"), [(90, ("FIN", "RST", "theirs")), (3, ("hold",))])
def test_why_a_session_ends(direct: Direct, version: int, hold_time: int, ways: tuple[str, ...]) -> None:
    """On a busy machine a hold time of 3 s may be over before what shall end the session does."""
    hold(direct, session(version, hold_time=hold_time))
    with Listening(direct.stage, version) as listening:
        for how in ways:
            direct.lines.clear()
            with listening.accept() as wire:
                wire.establish()
                direct.until(lambda: "up" in story(direct), "the session")
                if how == "RST":
                    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif how == "theirs":
                    wire.send(message(NOTIFICATION, bytes([6, 4])))
                if how in ("hold", "theirs"):
                    ended = wire.ended()
            direct.until(lambda: any(word.startswith("down") for word in story(direct)), "its end")
            words = story(direct)
            words = words[words.index("up") + 1 :]  # ExaBGP may have dialled before anybody listened
            assert (
                words
                == {
                    "FIN": ["down the peer closed the connection"],
                    "RST": ["down connection reset by the peer"],
                    "hold": ["send 4/0 0x", "down notification sent (4,0)"],
                    "theirs": ["receive 6/4 0x", "down notification received (6,4)"],
                }[how]
            )
            if how == "hold":
                assert ended == (4, 0, b"")


@netns
@versions
def test_a_second_connection_is_refused_with_a_word_and_says_nothing_of_the_session(
    direct: Direct, version: int
) -> None:
    """RFC 4271 section 6.8; of a peer without graceful restart."""
    hold(direct, session(version, **PASSIVE, hold_time=90))
    direct.stage.until(lambda: ":179" in direct.stage.node.run(["ss", "-Hltn"]).stdout, "the node to listen")
    with dial(direct.stage, version) as wire:
        wire.establish()
        direct.until(lambda: "up" in story(direct), "the session")
        with dial(direct.stage, version) as second:
            ended = second.ended()
        assert ended is not None
        assert ended[:2] == (6, 7)
        direct.until(lambda: attempts(direct), "the attempt")
        error = "NOTIFICATION sent 6/7 (Connection Collision Resolution): could not accept the connection, "
        assert attempts(direct) == [("in", f"{error}already established")]
        assert told(direct, "notification") == []
        assert StateChanged(ip_address(FAR_ADDRESS[version]), "up") in direct.messages
        assert [each["state"] for each in told(direct, "state")][-1] == "up"


def test_attempts_are_told_at_a_bounded_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    from l3net.shell.speaker import exabgp_sessions

    now, error = 0.0, ""
    said: list[tuple[float, str]] = []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(exabgp_sessions, "tell", lambda *_, **__: said.append((now, error)))
    one, other = (SimpleNamespace(reactor=None, neighbor=None) for _ in range(2))
    for tenth in range(400):
        now = 1000 + tenth / 10
        error = "a" if not 150 <= tenth < 200 else "b" if tenth % 2 else "c"
        exabgp_sessions.tell_attempt(one, "out", error, 0.0)
    assert [when - 1000 for when, _ in said] == pytest.approx([0, 10, 15, 18, 21, 31], abs=0.25)
    assert "".join(error for _, error in said) == "aacbaa"
    exabgp_sessions.tell_attempt(other, "out", "a", 0.0)
    assert len(said) == 7, "each peer has a rate of its own"
