"""What is counted as accepted can be used: a path whose next hop leads nowhere cannot."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest
from bgp_facts import path, session

from l3net.agent.measuring.bgp import BGP
from l3net.agent.measuring.seen import Apart, Beside, Seen
from l3net.agent.tally import Tally, standing
from l3net.bgp.loc_rib import Candidate, LocRib
from l3net.bgp.path import Path
from l3net.bgp.sessions import Session
from l3net.bgp.verdict import ACCEPTED, Judgement, Verdict
from l3net.metering.text import exposition
from l3net.model import Address

PEER = session()
REACHED = ip_address("10.0.0.1")


def judge(_session: Session, learned: Path) -> tuple[Judgement, Path]:
    """A prefix of an odd third octet is refused; one of 198 by a judgement that is equal to ACCEPTED."""
    octets = learned.prefix.network_address.packed
    if octets[2] % 2:
        return Judgement(Verdict.OWN_AS), learned
    return replace(ACCEPTED) if octets[0] == 198 else ACCEPTED, learned


def agent(*paths: Path, reached: set[Address]) -> Any:
    rib = LocRib(judge)
    rib.set_sessions({PEER.peer_address: PEER})
    rib.announce(PEER.peer_address, paths)
    asked: list[Address] = []

    def usable(candidate: Candidate) -> bool:
        asked.append(candidate.path.next_hop)
        return candidate.path.next_hop in reached

    return SimpleNamespace(rib=rib, routing=SimpleNamespace(usable=usable), asked=asked)


def paths() -> list[Path]:
    far = [path(f"203.0.{octet}.0/24", "10.0.0.99") for octet in range(4)]
    near = [path(f"198.51.{octet}.0/24") for octet in range(4)]
    return [*far, *near]


def test_unresolved_is_neither_accepted_nor_lost() -> None:
    found = agent(*paths(), reached={REACHED})
    tally = Tally.of(found, PEER)
    assert (tally.received, tally.accepted) == (8, 2)
    assert tally.refused == {"asPathLoop": 4, "unresolved": 2}
    verdicts = sorted(str(standing(found, PEER, entry)) for entry in found.rib.received(PEER.peer_address))
    assert verdicts == ["accepted"] * 2 + ["asPathLoop"] * 4 + ["unresolved"] * 2


def test_the_control_with_a_way_to_each_all_are_accepted() -> None:
    found = agent(*paths(), reached={REACHED, ip_address("10.0.0.99")})
    assert Tally.of(found, PEER) == Tally(8, 4, {"asPathLoop": 4})


def test_each_next_hop_is_asked_for_once_in_a_row() -> None:
    first, *_ = paths()
    many = [replace(each, next_hop=first.next_hop, attributes=first.attributes) for each in paths()]
    found = agent(*many, reached=set())
    assert Tally.of(found, PEER).refused["unresolved"] == 4
    assert len(found.asked) == 1


def test_the_metric_says_the_same() -> None:
    found = agent(*paths(), reached={REACHED})
    peer = SimpleNamespace(session=PEER, established=True, flaps=0)
    found.speaking = SimpleNamespace(
        peers={PEER.peer_address: peer},
        queues=SimpleNamespace(announced=lambda _: 0, out_queue=lambda _: 0),
    )
    rows = [row for row in BGP if row.family.name.startswith("l3net_bgp_paths_")]
    text = exposition(rows, Seen(found, Apart(), Beside()), failed=lambda *_: pytest.fail("unread"))
    labels = 'peer="tor",address="10.0.0.1",as="65001"'
    assert f"l3net_bgp_paths_received{{{labels}}} 8\n" in text
    assert f"l3net_bgp_paths_accepted{{{labels}}} 2\n" in text
