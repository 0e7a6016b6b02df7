"""Errors of a peer's that end a connection: the NOTIFICATION on the wire, as it is told, and the reason."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from direct_exabgp import Direct, session
from node_rig import brought_up
from stage import Stage
from test_interop_attempts import hold, story
from test_interop_hostile import announce
from wire_peer import (
    AS4,
    ENHANCED_REFRESH,
    KEEPALIVE,
    MARKER,
    NOTIFICATION,
    OPEN,
    ROUTE_REFRESH,
    UPDATE,
    USUAL,
    Listening,
    Wire,
    graceful_restart,
    message,
    open_with,
    route_refresh,
)

from l3net.bgp.exabgp.commands import SHOW_NEIGHBORS

netns = pytest.mark.netns
#: The wording of RFC 4271: OpenSent, OpenConfirm, Established.
SENT, CONFIRM, UP = "OpenSent", "OpenConfirm", "Established"
CAPABILITIES = (*USUAL, ENHANCED_REFRESH, graceful_restart(4, 6))


def header(length: int, kind: int, marker: bytes = MARKER) -> bytes:
    return marker + struct.pack("!HB", length, kind)


def plain_open(body: bytes) -> bytes:
    return message(OPEN, body)


def raw_open(parameters: bytes, said: int | None = None) -> bytes:
    """An OPEN with these optional parameters, and the length that it says they have."""
    head = struct.pack("!BHH4sB", 4, 65002, 90, b"\x0a\x5a\0\2", len(parameters) if said is None else said)
    return message(OPEN, head + parameters)


@dataclass(frozen=True)
class Case:
    """In which state what is said, and the answer: code, subcode, data."""

    state: str
    said: bytes
    answer: tuple[int, int, bytes]


HEADER_ERRORS = {
    f"{name}, {state}": Case(state, said, answer)
    for state in (SENT, CONFIRM, UP)
    for name, said, answer in (
        ("a marker that is none", header(19, KEEPALIVE, b"\0" + MARKER[1:]), (1, 1, b"")),
        ("18 octets", header(18, KEEPALIVE), (1, 2, b"\0\x12")),
        ("4097 octets", header(4097, UPDATE), (1, 2, b"\x10\x01")),
        ("a KEEPALIVE of 20", header(20, KEEPALIVE) + b"\0", (1, 2, b"\0\x14")),
        ("an OPEN of 28", header(28, OPEN) + b"\4" * 9, (1, 2, b"\0\x1c")),
        ("an UPDATE of 22", header(22, UPDATE) + b"\0" * 3, (1, 2, b"\0\x16")),
        ("a NOTIFICATION of 20", header(20, NOTIFICATION) + b"\6", (1, 2, b"\0\x14")),
        ("type 0", header(19, 0), (1, 3, b"\0")),
        ("type 6", header(40, 6), (1, 3, b"\6")),  # whose body never comes
        ("type 255", header(19, 255), (1, 3, b"\xff")),
    )
}
STATE_ERRORS = {
    f"{name}, {state}": Case(state, said, (5, subcode, said[18:19]))
    for state, subcode, unexpected in (
        (
            SENT,
            1,
            {
                "KEEPALIVE": message(KEEPALIVE),
                "UPDATE": announce("198.51.100.0/24"),
                "ROUTE-REFRESH": route_refresh(4),
            },
        ),
        (
            CONFIRM,
            2,
            {
                "OPEN": open_with(),
                "UPDATE": announce("198.51.100.0/24"),
                "ROUTE-REFRESH": route_refresh(4),
            },
        ),
        (UP, 3, {"OPEN": open_with()}),
    )
    for name, said in unexpected.items()
}
OPEN_ERRORS = {
    "version 3": Case(SENT, open_with(version=3), (2, 1, b"\0\4")),
    "another AS": Case(SENT, open_with([(AS4[0], struct.pack("!I", 65009))], as_number=65009), (2, 2, b"")),
    "identifier 0": Case(SENT, open_with(router_id="0.0.0.0"), (2, 3, b"")),
    "a parameter that is none": Case(SENT, raw_open(b"\x07\x01\0"), (2, 4, b"")),
    "a hold time of 2": Case(SENT, open_with(hold_time=2), (2, 6, b"")),
    "parameters past the end": Case(SENT, raw_open(b"\x02\x02\x02\0", said=40), (2, 0, b"")),
    "a capability past the end": Case(SENT, raw_open(b"\x02\x03\x41\x04\0"), (2, 0, b"")),
    "an extended length without one": Case(SENT, raw_open(b"\xff\0", said=255), (2, 0, b"")),
}
REFRESH_ERRORS = {
    "of 20 octets": Case(UP, message(ROUTE_REFRESH, b"\0"), (1, 2, b"\0\x14")),
    "of 24 octets": Case(UP, message(ROUTE_REFRESH, b"\0\1\0\1\0"), (1, 2, b"\0\x18")),
    "BoRR of 24 octets": Case(
        UP, message(ROUTE_REFRESH, b"\0\1\1\1\0"), (7, 1, message(ROUTE_REFRESH, b"\0\1\1\1\0"))
    ),
}


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


def bring(wire: Wire, direct: Direct, state: str) -> None:
    """The connection, to this state of the node's."""
    wire.expect(OPEN)
    if state == SENT:
        return
    wire.send(open_with(CAPABILITIES))
    wire.expect(KEEPALIVE)
    if state == UP:
        wire.send(message(KEEPALIVE))
        direct.until(lambda: "up" in story(direct), "the session")


def check(direct: Direct, wire: Wire, case: Case) -> None:
    bring(wire, direct, case.state)
    direct.lines.clear()
    wire.send(case.said)
    code, subcode, data = case.answer
    ended = wire.ended()
    assert ended is not None, "closed without a NOTIFICATION"
    assert ended[:2] == (code, subcode)
    if code != 2 or data:  # where the RFC says what the data is
        assert ended[2] == data
    direct.until(lambda: len(story(direct)) >= 2, "its end to be told")
    told, end, *_ = story(direct)
    assert told == f"send {code}/{subcode} 0x{ended[2].hex().upper()}"
    if case.state == UP:
        assert end == f"down notification sent ({code},{subcode})"
    else:
        assert end.startswith(f"out: NOTIFICATION sent {code}/{subcode} (")
    assert not any(b'"update"' in line for line in direct.lines), "an UPDATE without a session is told"


@netns
@pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    "group",
    [HEADER_ERRORS, STATE_ERRORS, OPEN_ERRORS, REFRESH_ERRORS],
    ids=["header", "state", "OPEN", "refresh"],
)
def test_errors_have_their_notification(direct: Direct, version: int, group: dict[str, Case]) -> None:
    for name, case in group.items():
        # A peer anew for each: what is told of attempts is bounded in time.
        with Listening(direct.stage, version) as listening:
            hold(direct, session(version, hold_time=90))
            with listening.accept() as wire:
                try:
                    check(direct, wire, case)
                except AssertionError as err:
                    raise AssertionError(f"{name}: {err}") from err
        hold(direct)
        direct.until(lambda: "10.90.0" not in str(direct.ask(SHOW_NEIGHBORS)), "the session to go")


@netns
@pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
def test_what_is_no_error_ends_nothing(direct: Direct, version: int) -> None:
    """A ROUTE-REFRESH of a subtype that is none (RFC 7313 section 5), or of one without its capability, where
    the octet is reserved (RFC 2918 section 3); and KEEPALIVEs without a hold time."""
    for capabilities in (CAPABILITIES, USUAL):
        with Listening(direct.stage, version) as listening:
            hold(direct, session(version, hold_time=0))
            wire = listening.accept()
        with wire:
            wire.establish(capabilities, hold_time=0)
            wire.send(*(route_refresh(version, subtype) for subtype in (9, 255, 3)))
            wire.send(*[message(KEEPALIVE)] * 3, announce("198.51.100.0/24"))
            direct.until(lambda: any(b"198.51.100.0" in line for line in direct.lines), "what is said last")
            assert story(direct) == ["up"]
        direct.until(lambda: len(story(direct)) > 1, "its end")
        direct.lines.clear()


@netns
def test_a_peer_that_says_nothing_after_its_open_costs_no_time(direct: Direct) -> None:
    """ExaBGP would ask its socket again and again, as fast as it can."""
    with Listening(direct.stage, 4) as listening:
        hold(direct, session(4, hold_time=90))
        wire = listening.accept()
    with wire:
        wire.expect(OPEN)
        wire.send(open_with())
        wire.expect(KEEPALIVE)
        before = time.monotonic(), cpu(direct)
        time.sleep(1.0)
        spent = (cpu(direct) - before[1]) / (time.monotonic() - before[0])
        assert spent < 0.25


def cpu(direct: Direct) -> float:
    """Seconds of processor time that ExaBGP has had."""
    told = direct.stage.node.run(["cat", f"/proc/{direct.stage.exabgp_pid()}/schedstat"]).stdout
    return int(told.split()[0]) / 1e9


#: What fails in our ExaBGP's own code, as nothing on the wire is known to make it.
FAULTS = """
import exabgp.application.server
from exabgp.bgp.message import Message, Notification, Notify, Update
from exabgp.bgp.message.direction import Direction
from exabgp.environment import getenv
from exabgp.logger import log
from exabgp.reactor import peer
from l3net.shell.speaker import exabgp_errors
from l3net.shell.speaker.exabgp import apply_patches
from l3net.shell.speaker.exabgp_sessions import why_down

assert apply_patches()
log.init(getenv())

def outcome(does):
    try:
        return does()
    except Notify as notify:
        return notify

def fails(*_):
    raise KeyError("of a parser")

for kind in (1, 2, 3, 5):
    Message.registered_message[kind] = type("Fails", (), {"unpack_message": staticmethod(fails)})
    told = outcome(lambda: Message.unpack(kind, bytes(4), Direction.IN, None))
    print(kind, type(told).__name__, told.code, told.subcode)

def steps(_):
    yield 1
    raise TypeError("of the loop")

fault = outcome(lambda: list(exabgp_errors._guarded(steps)(None)))
print(fault.code, fault.subcode, why_down("notification sent (6,0)", fault))
timer = peer.ReceiveTimer(lambda: "", 60, 1, 1, "waited for open too long")
print(timer.code, timer.subcode)
"""


def test_faults_of_our_own_end_no_session_in_silence() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        capture_output=True,
        text=True,
        check=False,
        env={"exabgp.log.level": "CRITICAL", "exabgp.log.destination": "stderr"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "1 Notify 2 0",
        "2 Notify 3 0",
        "3 Notification 0 0",  # nobody answers a NOTIFICATION (RFC 4271 section 6.4)
        "5 Notify 7 1",
        "6 0 internal error (TypeError): notification sent (6,0)",
        "4 0",  # an OPEN that does not come is a hold timer that expires
    ]
