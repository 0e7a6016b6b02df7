"""ExaBGP's loop sleeps until something can happen, and everything that can happens when it should.

Each test but the last runs ExaBGP so that it would sleep for ever without the event or the timer in question
(`undisturbed_exabgp`): what is missed does not come late, it does not come.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from direct_exabgp import RUN_DIR, session
from node_rig import brought_up
from stage import FAR_ADDRESS, Stage
from wire_peer import (
    KEEPALIVE,
    NOTIFICATION,
    OPEN,
    ROUTE_REFRESH,
    UPDATE,
    Listening,
    dial,
    message,
    open_with,
    route_refresh,
)

from l3net.bgp.exabgp.configuration import render
from l3net.bgp.sessions import Session

SCRIPT = Path(__file__).with_name("undisturbed_exabgp.py")
versions = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
pytestmark = pytest.mark.netns
PASSIVE = {"passive": True, "listen": True}
#: On no link: an attempt at it ends at once.
NOWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}
ROUTE = {4: ("10.90.0.1", "203.0.113.1/32"), 6: ("fd90::1", "fd01::/64")}


class Undisturbed:
    """ExaBGP, and a pipe for its orders."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        stage.node.run(["mkdir", "-p", "-m", "700", str(RUN_DIR)])
        orders = stage.inside(stage.node, str(RUN_DIR / "orders"))
        os.mkfifo(orders)
        self._orders = os.open(orders, os.O_RDWR)

    def configure(self, *sessions: Session) -> None:
        text = render(sessions, ["/bin/cat", str(RUN_DIR / "orders")])
        target = self.stage.inside(self.stage.node, str(RUN_DIR / "exabgp.conf"))
        partial = target.with_suffix(".tmp")
        partial.write_text(text)
        partial.rename(target)

    def start(self, *sessions: Session) -> None:
        self.configure(*sessions)
        self.stage.node.spawn("exabgp", [sys.executable, str(SCRIPT), str(RUN_DIR / "exabgp.conf")])

    def order(self, line: str) -> None:
        os.write(self._orders, line.encode() + b"\n")

    def signal(self, number: int) -> None:
        self.stage.node.kill("exabgp", number)

    def stop(self) -> None:
        self.signal(signal.SIGTERM)
        self.stage.until(lambda: not self.stage.node.alive("exabgp"), "ExaBGP to end of SIGTERM", 20)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with brought_up(Stage()) as made:
        yield made


@pytest.fixture
def exabgp(stage: Stage) -> Iterator[Undisturbed]:
    """Each test's ends of SIGTERM, which is one more thing that wakes it."""
    made = Undisturbed(stage)
    try:
        yield made
        made.stop()
    finally:
        made.signal(signal.SIGKILL)
        os.close(made._orders)
        stage.node.run(["rm", "-rf", str(RUN_DIR)])


def at_rest(stage: Stage) -> None:
    """Until ExaBGP sleeps, for longer than one turn of an ExaBGP that does not."""

    def seen() -> tuple[str, str] | None:
        """Whether it sleeps, and how often it has begun to."""
        try:
            status = stage.inside(stage.node, f"/proc/{stage.node.daemon_pid('exabgp')}/status").read_text()
        except OSError:
            return None
        found = dict(line.split(":", 1) for line in status.splitlines())
        return found["State"].split()[0], found["voluntary_ctxt_switches"].strip()

    def still() -> bool:
        before = seen()
        time.sleep(0.1)
        return before is not None and before[0] == "S" and seen() == before

    stage.until(still, "ExaBGP to sleep", 20)


def both(**changes: object) -> list[Session]:
    return [session(version, **changes) for version in (4, 6)]


#: Whose timers end no sleep of a test's.
LASTING = 3600


def test_keepalives_and_hold_timers_keep_time(stage: Stage, exabgp: Undisturbed) -> None:
    """And so does the timer of an OPEN that does not come, and the wait before the next attempt."""
    with Listening(stage, 4) as first, Listening(stage, 6) as second:
        exabgp.start(*both(hold_time=3))
        wires = [first.accept(), second.accept()]
        for wire in wires:
            wire.establish(hold_time=3)
        for wire in wires:
            kinds = []
            while (got := wire.read()) is not None:
                kinds.append(got[0] if got[0] != NOTIFICATION else (got[0], *got[1][:2]))
            assert kinds[:2] == [KEEPALIVE, KEEPALIVE], kinds  # one a second
            assert kinds[-1] == (NOTIFICATION, 4, 0), kinds
        again = [first.accept(), second.accept()]  # dialled without being asked
        again[1].send(open_with(hold_time=3))
        for wire in again:  # to one there comes no OPEN, to the other no KEEPALIVE
            wire.expect(OPEN)
            assert wire.ended() == (4, 0, b"")


@versions
def test_an_attempt_is_made_again_and_a_connection_noticed(
    stage: Stage, exabgp: Undisturbed, version: int
) -> None:
    nowhere = session(version, name="nowhere", peer_address=ip_address(NOWHERE[version]))
    exabgp.start(session(version), nowhere)
    at_rest(stage)  # refused, and waiting to try again
    with Listening(stage, version) as listening, listening.accept() as wire:
        wire.establish()


@versions
def test_a_connection_is_noticed_that_takes_its_time(stage: Stage, exabgp: Undisturbed, version: int) -> None:
    """The first SYN meets silence, and the kernel sends another."""
    table = "table inet silence { chain syns { type filter hook input priority 0; tcp dport 179 drop; }; }"
    stage.tor.run(["nft", "-f", "-"], text=table)
    with Listening(stage, version) as listening:
        exabgp.start(session(version))
        at_rest(stage)
        stage.tor.run(["nft", "delete", "table", "inet", "silence"])
        with listening.accept() as wire:
            wire.establish()


@versions
def test_who_dials_in_is_answered(stage: Stage, exabgp: Undisturbed, version: int) -> None:
    exabgp.start(session(version, hold_time=LASTING, **PASSIVE))
    at_rest(stage)
    with dial(stage, version) as wire:
        wire.establish(hold_time=LASTING)
        at_rest(stage)


@versions
def test_commands_and_what_the_peer_says_are_taken(stage: Stage, exabgp: Undisturbed, version: int) -> None:
    far, (hop, prefix) = FAR_ADDRESS[version], ROUTE[version]
    with Listening(stage, version) as listening:
        exabgp.start(session(version, hold_time=LASTING))
        with listening.accept() as wire:
            wire.establish(hold_time=LASTING)
            at_rest(stage)
            exabgp.order(f"neighbor {far} announce attributes next-hop {hop} origin igp nlri {prefix}")
            announced = wire.expect(UPDATE)
            at_rest(stage)
            wire.send(route_refresh(version))
            assert wire.expect(UPDATE) == announced
            at_rest(stage)
            whole = route_refresh(version)
            wire.send(whole[:10])  # the rest of a message ends a sleep too
            at_rest(stage)
            wire.send(whole[10:])
            assert wire.expect(UPDATE) == announced
            at_rest(stage)
            exabgp.order(f"neighbor {far} announce eor ipv{version} unicast")
            wire.expect(UPDATE)
            at_rest(stage)
            exabgp.order(f"neighbor {far} announce route-refresh ipv{version} unicast")
            wire.expect(ROUTE_REFRESH)
            exabgp.order(f"neighbor {far} teardown 2")
            ended = wire.ended()
            assert ended is not None and ended[:2] == (6, 2)


@versions
def test_a_reload_is_taken(stage: Stage, exabgp: Undisturbed, version: int) -> None:
    exabgp.start()
    at_rest(stage)
    with Listening(stage, version) as listening:
        exabgp.configure(session(version, hold_time=LASTING))
        exabgp.signal(signal.SIGUSR1)
        with listening.accept() as wire:
            wire.establish(hold_time=LASTING)
            at_rest(stage)
            exabgp.configure()
            exabgp.signal(signal.SIGUSR1)
            wire.ended()


def test_with_both_sessions_up_and_an_attempt_under_way_it_sleeps(stage: Stage, exabgp: Undisturbed) -> None:
    """Nothing of it keeps the loop going."""
    with Listening(stage, 4) as first, Listening(stage, 6) as second:
        absent = session(4, name="absent", peer_address=ip_address("10.90.0.77"))
        exabgp.start(*both(hold_time=90), absent)
        with first.accept() as wire, second.accept() as other:
            for each in (wire, other):
                each.establish()
                each.send(message(KEEPALIVE))
            at_rest(stage)
