"""The decision process, and the laws of the Adj-RIB-In."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from bgp_facts import counts, path, session
from hypothesis import given
from hypothesis import strategies as st

from l3net.bgp.loc_rib import Candidate, LocRib, best_paths
from l3net.bgp.path import Origin
from l3net.bgp.verdict import ACCEPTED, Judgement, Verdict
from l3net.model import Family

PREFIX = "192.168.0.0/24"
A, B, C = (ip_address(text) for text in ("10.0.0.1", "10.0.0.3", "10.0.0.5"))
SESSIONS = {address: session(str(address)) for address in (A, B, C)}


def always(_candidate: Candidate) -> bool:
    return True


def rib() -> LocRib:
    made = LocRib(lambda _session, learned: (ACCEPTED, learned))
    made.set_sessions(SESSIONS)
    return made


def peers(candidates: tuple[Candidate, ...]) -> list[str]:
    return [str(candidate.session.peer_address) for candidate in candidates]


def better(winner: dict[str, object], loser: dict[str, object], **sessions: object) -> bool:
    first = Candidate(path(PREFIX, "10.0.0.1", **winner), session("10.0.0.1"))
    second = Candidate(path(PREFIX, "10.0.0.3", **loser), session("10.0.0.3", **sessions))
    return best_paths([second, first]) == (first,) == best_paths([first, second])


def test_the_steps_of_the_decision_process() -> None:
    assert better({"local_preference": 200, "as_path": (1, 2, 3)}, {"as_path": (1,)})
    assert better({"as_path": (1, 2)}, {"as_path": (1, 2, 3)})
    assert better({"as_path": (1, 2, 3), "as_path_length": 1}, {"as_path": (1, 2)})  # an AS_SET counts one
    assert better({"origin": Origin.IGP}, {"origin": Origin.INCOMPLETE})
    assert better({"as_path": (7,), "med": 5}, {"as_path": (7,), "med": 9})
    assert better({}, {}, peer_as=64512)  # eBGP over iBGP


def test_med_is_compared_within_one_neighbouring_as_only() -> None:
    candidates = [
        Candidate(path(PREFIX, "10.0.0.1", as_path=(7,), med=5), session("10.0.0.1")),
        Candidate(path(PREFIX, "10.0.0.3", as_path=(8,), med=9), session("10.0.0.3")),
    ]
    assert len(best_paths(candidates)) == 2


def test_equal_paths_are_all_used() -> None:
    table = rib()
    for address in (A, B):
        table.announce(address, [path(PREFIX, str(address), as_path=(65001, int(address) % 7))])
    assert peers(table.best(ip_network(PREFIX), always)) == ["10.0.0.1", "10.0.0.3"]


def test_a_path_whose_next_hop_cannot_be_reached_is_no_candidate() -> None:
    table = rib()
    table.announce(A, [path(PREFIX, "10.0.0.1")])
    table.announce(B, [path(PREFIX, "10.0.0.3", as_path=(1, 2, 3))])
    assert peers(table.best(ip_network(PREFIX), lambda one: one.session.peer_address == B)) == ["10.0.0.3"]


def test_announcing_the_same_again_touches_nothing() -> None:
    table = rib()
    assert table.announce(A, [path(PREFIX)]) == {ip_network(PREFIX)}
    assert table.announce(A, [path(PREFIX)]) == set()


def test_stale_paths_stay_until_swept_and_only_stale_ones_go() -> None:
    table = rib()
    other = "192.168.1.0/24"
    table.announce(A, [path(PREFIX), path(other), path("fd00:1::/64", "fd00::1")])
    table.mark_stale(A, Family.IPV4)
    assert peers(table.best(ip_network(PREFIX), always)) == ["10.0.0.1"]
    assert table.announce(A, [path(PREFIX)]) == set()
    assert table.sweep(A, Family.IPV4) == {ip_network(other)}
    assert counts(table, A) == (2, 2)
    assert table.sweep(A, Family.IPV6) == set(), "only IPv4 was stale"
    assert not table.has_stale(A, Family.IPV6)
    table.mark_stale(A, Family.IPV6)
    assert table.has_stale(A, Family.IPV6)
    assert table.sweep(A, Family.IPV6) == {ip_network("fd00:1::/64")}


def test_one_family_of_a_peer_is_dropped_alone() -> None:
    table = rib()
    table.announce(A, [path(PREFIX), path("fd00:1::/64", "fd00::1")])
    assert table.drop(A, frozenset({Family.IPV6})) == {ip_network("fd00:1::/64")}
    assert counts(table, A) == (1, 1)
    assert table.drop(A) == {ip_network(PREFIX)}


def test_policy_is_asked_again_about_the_path_as_it_came() -> None:
    table = rib()
    table.announce(A, [path(PREFIX), path("192.168.1.0/24")])
    refused = Judgement(Verdict.FILTERED, "f")
    touched = table.rejudge(
        lambda _s, learned: (refused, learned) if str(learned.prefix) == PREFIX else (ACCEPTED, learned)
    )
    assert touched == {ip_network(PREFIX)}
    assert table.best(ip_network(PREFIX), always) == ()
    assert counts(table, A) == (2, 1)
    table.rejudge(lambda _s, learned: (ACCEPTED, learned))
    assert peers(table.best(ip_network(PREFIX), always)) == ["10.0.0.1"]


def test_a_peer_that_is_no_longer_declared_takes_its_paths_along() -> None:
    table = rib()
    table.announce(A, [path(PREFIX)])
    assert table.set_sessions({B: SESSIONS[B]}) == {ip_network(PREFIX)}
    assert table.announce(A, [path(PREFIX)]) == set()  # what still arrives from it is ignored


def test_a_peer_over_its_limit_is_held_to_it_and_others_are_not() -> None:
    table = LocRib(lambda _session, learned: (ACCEPTED, learned))
    table.set_sessions({A: session("10.0.0.1", max_prefixes=3), B: session("10.0.0.3", max_prefixes=3)})
    flood = [path(f"192.168.{number}.0/24") for number in range(10)]
    assert len(table.announce(A, flood)) == 3
    assert table.over_limit(A, Family.IPV4) == 7
    assert table.over_limit(B, Family.IPV4) == 0
    assert len(table.announce(A, [path("fd00:1::/64", "fd00::1")])) == 1  # the other family has its own count
    assert len(table.announce(B, flood[:3])) == 3
    # What it has already may change; only new prefixes are turned away.
    assert table.announce(A, [path("192.168.0.0/24", med=9)]) == {ip_network("192.168.0.0/24")}
    assert table.has_room_again(A) == []
    table.withdraw(A, [flood[0].prefix])
    assert table.has_room_again(A) == [Family.IPV4]
    assert table.announce(A, [flood[9]]) == {flood[9].prefix}
    table.drop(A)
    assert len(table.announce(A, flood[:3])) == 3


@pytest.mark.parametrize("numbered", [False, True], ids=["plain", "add-path"])
def test_a_limit_takes_effect_at_once_both_ways(numbered: bool) -> None:
    """It was looked at when something new was announced, and remembered when it was gone."""
    table = LocRib(lambda _session, learned: (ACCEPTED, learned))
    limits = dict.fromkeys((4, 6), 12)
    table.set_sessions({A: session("10.0.0.1", max_prefixes=12)})
    for version, flood in {
        4: [path(f"192.168.{number}.0/24") for number in range(12)],
        6: [path(f"fd00:{number}::/64", "fd00::1") for number in range(12)],
    }.items():
        paths = [replace(each, path_id=str(n) if numbered else "") for n, each in enumerate(flood)]
        assert len(table.announce(A, paths)) == limits[version]
    gone = table.set_sessions({A: session("10.0.0.1", max_prefixes=1)})
    assert len(gone) == 22
    assert [table.over_limit(A, family) for family in Family] == [11, 11]
    assert counts(table, A) == (2, 2)
    assert {str(entry.raw.prefix) for entry in table.received(A)} == {"192.168.0.0/24", "fd00::/64"}
    assert table.set_sessions({A: session("10.0.0.1", max_prefixes=200_000)}) == set()
    assert [table.over_limit(A, family) for family in Family] == [0, 0]


def test_path_identifiers_that_are_gone_are_forgotten() -> None:
    table = LocRib(lambda _session, learned: (ACCEPTED, learned))
    table.set_sessions({A: session("10.0.0.1", add_path=True)})
    for number in range(100):
        one = replace(path("192.168.0.0/24"), path_id=str(number))
        table.announce(A, [one])
        table.withdraw(A, [one.prefix], one.path_id)
    assert sum(map(len, table._sources.values())) == 0
    for number in range(100):
        table.announce(A, [replace(path("192.168.0.0/24"), path_id=str(number))])
    table.mark_stale(A, Family.IPV4)
    assert table.sweep(A, Family.IPV4) == {ip_network("192.168.0.0/24")}
    assert sum(map(len, table._sources.values())) == 0


events = st.lists(
    st.tuples(
        st.sampled_from(["announce", "withdraw", "drop"]),
        st.sampled_from([A, B, C]),
        st.integers(0, 3),
        st.integers(0, 2),
    ),
    max_size=40,
)


@given(events)
def test_history_does_not_matter(history: list[tuple[str, object, int, int]]) -> None:
    """The table after any history equals one that heard only what is still announced."""
    table = rib()
    model: dict[object, dict[int, int]] = {A: {}, B: {}, C: {}}
    for verb, peer, number, variant in history:
        prefix = f"192.168.{number}.0/24"
        if verb == "announce":
            table.announce(peer, [path(prefix, str(peer), med=variant)])  # type: ignore[arg-type]
            model[peer][number] = variant
        elif verb == "withdraw":
            table.withdraw(peer, [ip_network(prefix)])  # type: ignore[arg-type]
            model[peer].pop(number, None)
        else:
            table.drop(peer)  # type: ignore[arg-type]
            model[peer].clear()
    fresh = rib()
    for peer, announced in model.items():
        for number, variant in announced.items():
            fresh.announce(peer, [path(f"192.168.{number}.0/24", str(peer), med=variant)])  # type: ignore[arg-type]
    for number in range(4):
        prefix_ = ip_network(f"192.168.{number}.0/24")
        assert table.best(prefix_, always) == fresh.best(prefix_, always)
    assert set(table.prefixes()) == set(fresh.prefixes())
