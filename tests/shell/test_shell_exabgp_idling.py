"""What ExaBGP's loop may sleep over, and what not; tests/interop/test_interop_idling.py has the real one."""

from __future__ import annotations

import math
import os
import select
import signal
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from exabgp.bgp.fsm import FSM
from exabgp.reactor.peer import Peer

from l3net.shell.speaker.exabgp_idling import IN_VAIN, UNDER_WAY, Sleeper, waits_for

LEAST = 0.01


def reactor(descriptor: int, **peer: object) -> SimpleNamespace:
    """One whose API process has something to say that nobody reads, or not; a peer that waits for it."""
    values: dict[str, object] = {
        "_teardown": None,
        "_neighbor": None,
        "neighbor": {"rate-limit": 0, "passive": False},
        "proto": None,
        "generator": False,
    }
    return SimpleNamespace(
        listener=SimpleNamespace(next_try=lambda: 3600.0, descriptors=list),
        processes=SimpleNamespace(_broken=[], fds=[descriptor], received=list),
        asynchronous=SimpleNamespace(run=lambda: False),
        signal=SimpleNamespace(received=0),
        _stopping=False,
        _peers={"far": SimpleNamespace(**(values | peer))},
    )


@pytest.fixture
def unread() -> Iterator[int]:
    reading, writing = os.pipe()
    os.write(writing, b"x")
    yield reading
    os.close(reading)
    os.close(writing)


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    before = signal.set_wakeup_fd(-1)
    yield Sleeper()
    os.close(signal.set_wakeup_fd(before))


def test_what_is_never_read_does_not_make_it_spin(sleeper: Sleeper, unread: int) -> None:
    answers = [sleeper.sleep(reactor(unread), LEAST) for _ in range(5 * IN_VAIN)]
    assert answers.count(False) in (4, 5)  # then ExaBGP's own ten milliseconds pass


@pytest.mark.parametrize(
    "peer",
    [
        {"_teardown": 3},
        {"_neighbor": object()},
        {"neighbor": {"rate-limit": 1, "passive": False}},
        {"generator": object()},  # of which nothing is known
        {"generator": None, "_delay": SimpleNamespace(_time=0)},  # begins in its next turn
    ],
)
def test_it_does_not_sleep_over_work(sleeper: Sleeper, unread: int, peer: dict[str, object]) -> None:
    assert sleeper.sleep(reactor(unread), LEAST)
    assert not sleeper.sleep(reactor(unread, **peer), LEAST)


def test_commands_that_end_a_sleep_are_carried_out_before_the_peers_turns(
    sleeper: Sleeper, unread: int
) -> None:
    made, done = reactor(unread), []
    made.processes.received = lambda: [("relay", "version")]
    made.api = SimpleNamespace(process=lambda *command: done.append(command[1:]))
    made.asynchronous.run = lambda: done.append("run")
    assert sleeper.sleep(made, LEAST)
    assert done == [("relay", "version"), "run"]


@pytest.mark.parametrize(("part", "what"), [("processes", "_broken"), ("", "_stopping")])
def test_nor_over_an_end(sleeper: Sleeper, unread: int, part: str, what: str) -> None:
    made = reactor(unread)
    setattr(getattr(made, part) if part else made, what, ["relay"])
    assert not sleeper.sleep(made, LEAST)
    made = reactor(unread)
    made.listener = None
    assert not sleeper.sleep(made, LEAST)


def up(**changes: object) -> SimpleNamespace:
    """A peer whose session is up, with nothing to do until its timers want it."""
    timers = {"keepalive": 30, "hold": 90, "heard": int(time.time()), "said": int(time.time())} | changes
    waiting = {name: changes.get(name) for name in UNDER_WAY}

    def main() -> Iterator[None]:
        new_routes, refresh, operational, command_eor, send_eor = (waiting[name] for name in UNDER_WAY)
        send_ka = SimpleNamespace(
            send_timer=SimpleNamespace(last_sent=timers["said"], keepalive=timers["keepalive"])
        )
        yield None
        del new_routes, refresh, operational, command_eor, send_eor, send_ka

    steps = main()
    next(steps)
    queues = {name: changes.get(name, []) for name in ("refresh", "eor", "messages")}
    outgoing = SimpleNamespace(pending=lambda: changes.get("pending", False))

    class Neighbor(dict[str, object]):
        rib = SimpleNamespace(outgoing=outgoing)

    neighbor = Neighbor({"rate-limit": 0, "passive": False})
    vars(neighbor).update(queues)
    return SimpleNamespace(
        _teardown=None,
        _neighbor=None,
        neighbor=neighbor,
        proto=SimpleNamespace(fd=lambda: 5),
        generator=steps,
        fsm=FSM.ESTABLISHED,
        l3net_main=steps,
        recv_timer=SimpleNamespace(last_read=timers["heard"], holdtime=timers["hold"]),
    )


def test_a_session_waits_for_the_first_of_its_timers_and_its_socket() -> None:
    now = int(time.time())
    for peer, at in (
        (up(), now + 30),
        (up(heard=now - 80), now + 11),  # the hold time has to have passed, in whole seconds
        (up(keepalive=0), now + 91),
        (up(hold=0), now + 30),
    ):
        seconds, descriptor, events = waits_for(peer) or (0.0, -1, 0)
        assert descriptor == 5 and events & select.POLLIN
        assert abs(seconds - (at - time.time())) < 5
    assert waits_for(up(keepalive=0, hold=0)) == (math.inf, 5, events)


def test_before_it_is_up_it_waits_for_an_open_and_a_keepalive() -> None:
    now = int(time.time())
    peer = up(heard=now - 80)
    peer.l3net_open_by = now + 60
    for state, at in ((FSM.OPENCONFIRM, now + 11), (FSM.OPENSENT, now + 60)):
        peer.fsm = state
        seconds, descriptor, _ = waits_for(peer) or (0.0, -1, 0)
        assert descriptor == 5
        assert abs(seconds - (at - time.time())) < 5
    for state in (FSM.CONNECT, FSM.ACTIVE, FSM.IDLE):
        peer.fsm = state
        assert waits_for(peer) is None


@pytest.mark.parametrize("what", [*UNDER_WAY, "pending", "refresh", "eor", "messages"])
def test_a_session_with_work_is_asked_again(what: str) -> None:
    assert waits_for(up(**{what: True})) is None


def test_so_is_one_whose_steps_are_not_known() -> None:
    peer = up()
    peer.l3net_main = iter_of_another_shape()
    assert waits_for(peer) is None


def iter_of_another_shape() -> Iterator[None]:
    yield None


def test_the_variables_are_exabgps() -> None:
    names = Peer._main.__code__.co_varnames
    assert {*UNDER_WAY, "send_ka"} <= set(names)
