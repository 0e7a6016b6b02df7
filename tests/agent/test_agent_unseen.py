"""A session that comes up and goes before the agent knows of it: what it announced does not stay for ever."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from agent_shells import speaker
from bgp_facts import path, session

from l3net.agent.speaker.speaking import Speaking
from l3net.bgp.events import Opened, StateChanged, Updated
from l3net.bgp.exabgp.messages import Neighbors
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.path import gathered
from l3net.bgp.sessions import Session
from l3net.bgp.verdict import ACCEPTED
from l3net.model import Family

SESSION = session()
PEER = SESSION.peer_address
LEARNED = path("192.168.7.0/24")


def learned(directory: Path, *messages: object, session: Session = SESSION) -> list[bool]:
    """Whether each path that is left is stale, after messages to an agent that has just connected."""

    async def told() -> list[bool]:
        rib = LocRib(lambda _session, raw: (ACCEPTED, raw))
        speaking = Speaking(speaker(directory), rib, lambda _prefixes: None)
        speaking.set_sessions({PEER: session})
        for message in messages:
            if isinstance(message, Neighbors):
                speaking.learn_neighbours([message])
            else:
                speaking.hearing.handle(message)  # type: ignore[arg-type]
        return [entry.stale for entry in rib.received(PEER)]

    return asyncio.run(told())


SAID = Updated(PEER, tuple(gathered([LEARNED])), ())
OPENED = Opened(PEER, 9, "10.0.0.1", 120, preserved=frozenset({Family.IPV4}))
DOWN = StateChanged(PEER, "down", "lost TCP session")


def test_what_was_said_over_it_goes_with_it(tmp_path: Path) -> None:
    """Without the OPEN nothing is known of graceful restart."""
    assert learned(tmp_path, SAID) == [False]
    assert learned(tmp_path, SAID, DOWN) == []


def test_it_is_kept_as_stale_if_graceful_restart_was_offered(tmp_path: Path) -> None:
    assert learned(tmp_path, OPENED, SAID, DOWN) == [True]
    assert learned(tmp_path, OPENED, SAID, DOWN, DOWN) == [True], "an attempt that failed changes nothing"


def test_a_session_that_is_found_up_meanwhile_ends_like_any_other(tmp_path: Path) -> None:
    found = Neighbors({PEER: True}, opened={PEER: OPENED})
    assert learned(tmp_path, SAID, found) == [True], "asked for again"
    assert learned(tmp_path, SAID, found, SAID) == [False]
    assert learned(tmp_path, SAID, found, SAID, DOWN) == [True]


def test_one_that_we_close_to_open_it_anew_is_no_restart_of_the_peer(tmp_path: Path) -> None:
    """What the peer offers of RFC 8950 stands in the OPEN alone. Its F bits mean nothing then."""
    extended = replace(SESSION, extended_next_hop=True)
    found = Neighbors({PEER: True}, opened={PEER: OPENED})
    again = replace(OPENED, extended_next_hops=True)
    messages = (SAID, found, DOWN, again, StateChanged(PEER, "up"))
    assert learned(tmp_path, *messages, session=extended) == [True], "until it is said again"
    assert learned(tmp_path, *messages, SAID, session=extended) == [False]
