"""A replay of what a peer has said, amid what it says meanwhile: step by step, in an order of the test's."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from exabgp.bgp.fsm import FSM
from hypothesis import given, settings
from hypothesis import strategies as st

from l3net.shell.speaker import exabgp_commands, exabgp_received
from l3net.shell.speaker.exabgp_keys import nlri_of
from l3net.shell.speaker.exabgp_received import AdjRibIn, said

FAMILIES = (1, 2)
#: Prefixes by number, so many that a replay takes several lines and steps.
KEYS = 3000
HOP = ("192.0.2.1",)


def key(number: int) -> int:
    return (number << 8) | 24


#: What a peer does: says a range of prefixes with some attributes, takes it back, or refreshes (RFC 7313).
events = st.tuples(
    st.sampled_from(["announce", "withdraw", "begin", "end"]),
    st.sampled_from(FAMILIES),
    st.integers(0, KEYS - 1),
    st.integers(1, 1500),
    st.sampled_from(["a", "b", "c"]),
)


class Listener:
    """Who hears it all, and holds what it is told."""

    def __init__(self) -> None:
        self.held: dict[tuple[int, str], str] = {}
        self.stale: set[tuple[int, str]] = set()

    def says(self, family: int, nlri: str, attributes: str | None) -> None:
        where = family, nlri
        self.stale.discard(where)
        if attributes is None:
            self.held.pop(where, None)
        else:
            self.held[where] = attributes

    def hears(self, line: str) -> None:
        told = json.loads(line)["update"]
        for name, by_hop in told.get("announce", {}).items():
            for entries in by_hop.values():
                for entry in entries:
                    self.says(int(name[3]) // 2 - 1, entry["nlri"], told["attribute"]["is"])
        for name, entries in told.get("withdraw", {}).items():
            for entry in entries:
                self.says(int(name[3]) // 2 - 1, entry["nlri"], None)


def happens(held: AdjRibIn, listener: Listener, event: tuple[str, int, int, int, str]) -> None:
    """At the peer's, told at once."""
    what, family, first, number, attributes = event
    keys = [key(each % KEYS) for each in range(first, first + number)]
    table = held.tables[family]
    told: str | None = None
    match what:
        case "announce":
            table.announce(keys, said(f'"is": "{attributes}"', HOP))
            told = attributes
        case "withdraw":
            table.withdraw(keys)
        case "begin":
            table.refresh_begins()
            return
        case "end":
            for line in held._withdrawals(family, table.refresh_ends()):
                listener.hears(line)
            return
    for each in keys:
        listener.says(family, json.loads(nlri_of(family, each))["nlri"], told)


def truth(held: AdjRibIn) -> dict[tuple[int, str], str]:
    return {
        (family, json.loads(nlri_of(family, each))["nlri"]): json.loads(f"{{{what.attributes}}}")["is"]
        for family, table in held.tables.items()
        for each in table.all_keys()
        if (what := table.get(each)) is not None
    }


@settings(max_examples=60, deadline=None)
@given(before=st.lists(events, max_size=4), amid=st.lists(st.tuples(st.integers(0, 12), events), max_size=8))
def test_a_replay_amid_changes_ends_with_the_truth(
    before: list[tuple[str, int, int, int, str]], amid: list[tuple[int, tuple[str, int, int, int, str]]]
) -> None:
    """Who calls all stale at its begin, and lets go at its end what is stale still, holds what is held."""
    held, deaf = AdjRibIn(), Listener()
    for event in [*(("announce", family, 0, KEYS, "a") for family in FAMILIES), *before]:
        happens(held, deaf, event)
    listener = Listener()
    listener.held = {(1, "203.0.113.0/24"): "of an agent before", **dict.fromkeys(truth(held), "old")}
    listener.stale = set(listener.held)
    changes = deque(sorted(amid))
    for step, line in enumerate(held.events()):
        if line:
            listener.hears(line)
        while changes and changes[0][0] <= step:
            happens(held, listener, changes.popleft()[1])
    for where in listener.stale:
        del listener.held[where]
    assert listener.held == truth(held)


class Encoder:
    """As much of ExaBGP's as is asked for."""

    def open(self, *_: Any) -> str:
        return json.dumps({"neighbor": {"open": {}}})

    def _neighbor(self, _neighbor: Any, _side: Any, content: str) -> str:
        return f'"neighbor": {{ {content} }}'

    def _header(self, content: str, *_: Any, message_type: str) -> str:
        return f'{{ "type": "{message_type}", {content} }}'


def replaying(held: AdjRibIn) -> tuple[Any, list[dict[str, Any]], Iterator[None]]:
    """A peer, what is written, and the steps."""
    written: list[dict[str, Any]] = []
    negotiated = SimpleNamespace(l3net_received=held, received_open=None)
    peer = SimpleNamespace(
        proto=SimpleNamespace(negotiated=negotiated),
        fsm=FSM.ESTABLISHED,
        stats={"complete": 1.0},
        neighbor=SimpleNamespace(api={"neighbor-changes": ["relay"], "receive-update": ["relay"]}),
    )
    processes = SimpleNamespace(
        silence=False,
        _encoder={"relay": Encoder()},
        write=lambda _process, line, *_: written.append(json.loads(line)),
    )
    reactor = SimpleNamespace(processes=processes)
    return peer, written, exabgp_commands._replay_peer(reactor, peer, "t1")


def filled() -> AdjRibIn:
    held = AdjRibIn()
    held.tables[1].announce([key(number) for number in range(KEYS)], said('"is": "a"', HOP))
    return held


def states(written: list[dict[str, Any]]) -> list[str]:
    return [each["neighbor"]["replay"]["state"] for each in written if each["type"] == "replay"]


def test_a_replay_has_an_end_while_its_session_lasts() -> None:
    _, written, steps = replaying(filled())
    for _ in steps:
        pass
    assert states(written) == ["begin", "end"]
    lines = [each for each in written if each["type"] == "update"]
    assert len(lines) == -(-KEYS // exabgp_received.PREFIXES_PER_LINE)


def test_a_replay_of_a_session_that_ends_has_none() -> None:
    """Also where another session with the peer is up by then."""
    for end in ("down", "another"):
        peer, written, steps = replaying(filled())
        next(steps)
        if end == "down":
            peer.fsm = FSM.IDLE
        else:
            peer.proto = SimpleNamespace(negotiated=SimpleNamespace())
        for _ in steps:
            pass
        assert states(written) == ["begin"]
        assert len(written) <= 3


def test_commands_have_a_bounded_time_in_a_turn(monkeypatch: Any) -> None:
    """Each step takes a millisecond; what is left comes in the next turn, in its place."""
    now = 0.0
    monkeypatch.setattr(exabgp_commands.time, "monotonic", lambda: now)
    done: list[str] = []

    def command(name: str, steps: int) -> Iterator[None]:
        nonlocal now
        for _ in range(steps):
            now += 0.001
            yield
        done.append(name)

    queue = SimpleNamespace(_async=deque([("relay", command("long", 100)), ("relay", command("next", 1))]))
    turns = 0
    while exabgp_commands.turn(queue):
        turns += 1
        assert now <= (turns + 1) * (exabgp_commands.TURN + 0.002)
    assert done == ["long", "next"]
    assert 5 <= turns <= 8


def test_a_replay_that_fails_costs_no_other(monkeypatch: Any) -> None:
    told: list[str] = []
    monkeypatch.setattr(exabgp_commands.log, "error", lambda line, _part: told.append(line()))

    def fails() -> Iterator[None]:
        yield
        raise ZeroDivisionError

    def tells() -> Iterator[None]:
        yield
        told.append("all of the other")

    exabgp_commands._ASIDE.extend([fails(), tells()])
    while exabgp_commands.beside():
        pass
    assert told == ["replay | ZeroDivisionError: ", "all of the other"]
    assert not exabgp_commands.beside()
