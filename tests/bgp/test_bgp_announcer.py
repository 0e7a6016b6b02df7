"""Lines to ExaBGP: withdrawals first, bounded, and in the end the peer has exactly what is wanted."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network

from bgp_facts import community, path, session
from hypothesis import given
from hypothesis import strategies as st

from l3net.bgp.exabgp.announcer import HOLES, WINDOW, Announcer
from l3net.bgp.exabgp.commands import PREFIXES_PER_LINE
from l3net.bgp.path import Path
from l3net.bgp.sessions import Session
from l3net.model import Family, Prefix

A = ip_address("10.0.0.1")
B = ip_address("10.0.0.3")
SESSIONS: dict[object, Session] = {address: session(str(address)) for address in (A, B)}


def wanted(*prefixes: str, **attributes: object) -> dict[Prefix, Path]:
    return {ip_network(prefix): path(prefix, "10.0.0.2", **attributes) for prefix in prefixes}


def many(count: int) -> dict[Prefix, Path]:
    return wanted(*(f"10.{number // 250}.{number % 250}.0/24" for number in range(count)))


def made() -> Announcer:
    announcer = Announcer()
    announcer.set_sessions(SESSIONS)  # type: ignore[arg-type]
    return announcer


def drain(announcer: Announcer) -> list[str]:
    """All lines, each answered in turn."""
    lines: list[str] = []
    while batch := announcer.next_lines():
        assert len(batch) <= WINDOW
        lines += batch
        for _ in batch:
            announcer.answered()
    return lines


class Peer:
    """What a peer holds after the lines, as ExaBGP would tell it."""

    def __init__(self) -> None:
        self.held: dict[str, set[str]] = {}
        self.ended: list[str] = []

    def take(self, lines: list[str]) -> None:
        for line in lines:
            address = re.match(r"neighbor (\S+) ", line)
            assert address is not None
            held = self.held.setdefault(address[1], set())
            if " announce attributes " in line:
                held |= set(line.split(" nlri ")[1].split())
            elif " withdraw attributes " in line:
                held -= set(line.split(" nlri ")[1].split())
            else:
                self.ended.append(line)


def test_nothing_is_said_to_a_session_that_is_not_established() -> None:
    announcer = made()
    announcer.want(A, wanted("10.244.1.0/24"))
    assert announcer.next_lines() == []
    assert announcer.idle


def test_a_fresh_session_hears_all_then_end_of_rib() -> None:
    announcer = made()
    announcer.want(A, wanted("10.244.1.0/24"))
    announcer.up(A, fresh=True)
    assert drain(announcer) == [
        "neighbor 10.0.0.1 announce attributes next-hop 10.0.0.2 origin igp nlri 10.244.1.0/24",
        "neighbor 10.0.0.1 announce eor ipv4 unicast",
    ]
    assert announcer.idle


def test_before_it_is_decided_what_a_peer_shall_hear_nothing_is_said_and_nothing_withdrawn() -> None:
    """An agent that has just started finds sessions up and routes announced by the one before it."""
    announcer = made()
    announcer.holds(A, [ip_network("10.244.1.0/24")])
    announcer.up(A, fresh=False)
    announcer.up(B, fresh=True)
    assert announcer.next_lines() == []
    announcer.want(A, {})
    assert announcer.next_lines() == [
        "neighbor 10.0.0.1 withdraw attributes next-hop 0.0.0.0 nlri 10.244.1.0/24",
        "neighbor 10.0.0.1 announce eor ipv4 unicast",
    ]


def test_end_of_rib_follows_also_when_there_is_nothing_to_say() -> None:
    announcer = made()
    announcer.want(A, {})
    announcer.up(A, fresh=True)
    assert drain(announcer) == ["neighbor 10.0.0.1 announce eor ipv4 unicast"]


def test_a_hundred_prefixes_a_line_and_a_window_of_lines() -> None:
    announcer = made()
    announcer.want(A, many(450))
    announcer.up(A, fresh=False)
    first = announcer.next_lines()
    assert [len(line.split(" nlri ")[1].split()) for line in first] == [100, 100]
    assert announcer.next_lines() == []  # the window is full until an answer comes
    announcer.answered()
    assert len(announcer.next_lines()) == 1


def test_withdrawals_overtake_a_burst() -> None:
    announcer = made()
    announcer.want(A, many(1000))
    announcer.up(A, fresh=True)
    announcer.next_lines()
    gone = many(1000)
    del gone[ip_network("10.0.0.0/24")]  # was in the first line
    announcer.want(A, gone)
    announcer.answered()
    assert announcer.next_lines() == [
        "neighbor 10.0.0.1 withdraw attributes next-hop 10.0.0.2 origin igp nlri 10.0.0.0/24"
    ]


def test_a_small_change_for_one_peer_does_not_wait_for_another_peers_burst() -> None:
    announcer = made()
    announcer.want(A, many(1000))
    announcer.want(B, wanted("10.244.9.0/24"))
    announcer.up(A, fresh=False)
    announcer.up(B, fresh=False)
    assert announcer.next_lines()[0].startswith("neighbor 10.0.0.3 ")


def test_what_exabgp_holds_from_before_and_is_not_wanted_is_withdrawn() -> None:
    announcer = made()
    announcer.holds(A, [ip_network("10.9.0.0/24"), ip_network("10.244.1.0/24")])
    announcer.want(A, wanted("10.244.1.0/24"))
    announcer.up(A, fresh=False)
    lines = drain(announcer)
    assert lines[0] == "neighbor 10.0.0.1 withdraw attributes next-hop 0.0.0.0 nlri 10.9.0.0/24"
    assert len(lines) == 3  # the other is said again, with the attributes of now
    # The session may have come up, fresh, before the agent was there: the peer would wait for End-of-RIB.
    assert lines[2] == "neighbor 10.0.0.1 announce eor ipv4 unicast"


def test_changed_attributes_are_said_again() -> None:
    announcer = made()
    announcer.want(A, wanted("10.244.1.0/24"))
    announcer.up(A, fresh=False)
    drain(announcer)
    announcer.want(
        A, wanted("10.244.1.0/24", communities=frozenset({community("1:2"), community("1:2:3")}), med=5)
    )
    assert drain(announcer) == [
        "neighbor 10.0.0.1 announce attributes next-hop 10.0.0.2 origin igp med 5 "
        "community [ 1:2 ] large-community [ 1:2:3 ] nlri 10.244.1.0/24"
    ]
    announcer.want(
        A, wanted("10.244.1.0/24", communities=frozenset({community("1:2"), community("1:2:3")}), med=5)
    )
    assert drain(announcer) == []  # the second pass is quiet


def test_what_was_refused_is_said_again_on_the_next_want() -> None:
    announcer = made()
    announcer.want(A, wanted("10.244.1.0/24"))
    announcer.up(A, fresh=False)
    announcer.next_lines()
    announcer.answered(refused=True)
    assert announcer.next_lines() == []
    announcer.want(A, wanted("10.244.1.0/24"))
    assert len(announcer.next_lines()) == 1


class Counting(dict[Prefix, Path]):
    """How often all of it was gone through."""

    gone_through = 0

    def items(self):  # type: ignore[no-untyped-def,override]
        self.gone_through += 1
        return super().items()


def test_a_look_at_what_was_taken_costs_nothing() -> None:
    """With ten thousand services it would be half of what an idle agent takes."""
    announcer, all_of_it = made(), Counting(many(300))
    announcer.want(A, all_of_it)
    announcer.up(A, fresh=False)
    assert len(drain(announcer)) >= 3
    before = all_of_it.gone_through
    announcer.look_again(A, all_of_it)
    assert drain(announcer) == [] and all_of_it.gone_through == before
    gone = ip_network("10.0.7.0/24")
    del all_of_it[gone]
    announcer.amend(A, [gone])
    announcer.next_lines()
    announcer.answered()
    announcer.look_again(A, all_of_it)
    assert drain(announcer) == [] and all_of_it.gone_through == before
    again = dict(all_of_it)
    again[gone] = path(str(gone), "10.0.0.2")
    announcer.look_again(A, again)
    assert len(drain(announcer)) == 1, "another mapping is looked at"


def test_what_was_refused_is_said_again_on_the_next_look() -> None:
    announcer, all_of_it = made(), wanted("10.244.1.0/24", "10.244.2.0/24")
    announcer.want(A, all_of_it)
    announcer.up(A, fresh=False)
    for _ in announcer.next_lines():
        announcer.answered(refused=True)
    for _ in range(3):
        announcer.look_again(A, all_of_it)
        assert len(announcer.next_lines()) == 1
        announcer.answered(refused=True)
    announcer.look_again(A, all_of_it)
    assert len(drain(announcer)) == 1
    announcer.holds(A, [ip_network("10.244.3.0/24")])
    announcer.look_again(A, all_of_it)
    assert " withdraw " in drain(announcer)[0], "what an agent before us has said"


def test_families_go_in_lines_of_their_own() -> None:
    both = session("10.0.0.1", families=frozenset(Family))
    announcer = Announcer()
    announcer.set_sessions({A: both})
    v6 = ip_network("fd44::/120")
    announcer.want(A, {**wanted("10.244.1.0/24"), v6: path("fd44::/120", "fd00::2")})
    announcer.up(A, fresh=True)
    lines = drain(announcer)
    assert sum(" nlri " in line for line in lines) == 2
    assert {line.split()[-2] for line in lines[2:]} == {"ipv4", "ipv6"}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.sets(st.integers(0, 12))),
        st.tuples(st.just("up"), st.booleans()),
        st.tuples(st.just("down"), st.none()),
        st.tuples(st.just("send"), st.none()),
    ),
    max_size=30,
)


@given(steps)
def test_in_the_end_the_peer_has_what_is_wanted(history: list[tuple[str, object]]) -> None:
    announcer, peer = made(), Peer()
    want: dict[Prefix, Path] = {}
    for verb, argument in history:
        if verb == "want":
            want = wanted(*(f"10.244.{number}.0/24" for number in argument))  # type: ignore[attr-defined]
            announcer.want(A, want)
        elif verb == "up":
            announcer.up(A, fresh=bool(argument))
        elif verb == "down":
            announcer.down(A)
        else:
            for line in announcer.next_lines():
                peer.take([line])
                announcer.answered()
    announcer.want(A, want)
    announcer.up(A, fresh=True)
    peer.take(drain(announcer))
    assert peer.held.get("10.0.0.1", set()) == {str(prefix) for prefix in want}
    assert announcer.idle


def test_of_many_each_is_said_once_in_the_order_in_which_they_came() -> None:
    """Queues of which much has been taken are written anew, and lose nothing by it."""
    count = 20 * HOLES // 8
    routes = many(count)
    announcer = made()
    announcer.up(A, fresh=True, families=frozenset())
    announcer.want(A, routes)
    lines = drain(announcer)
    assert len(lines) == count // PREFIXES_PER_LINE
    told = [word for line in lines for word in line.split(" nlri ")[1].split()]
    assert told == [str(prefix) for prefix in routes]
    announcer.want(A, {})
    gone = [word for line in drain(announcer) for word in line.split(" nlri ")[1].split()]
    assert gone == told


def test_prefixes_stand_in_a_line_as_they_are_written() -> None:
    routes = wanted("0.0.0.0/0", "10.0.0.0/9", "::/0", "fd00::/8", "2001:db8:0:0:1::/80", "fd00:0:1::/127")
    announcer = made()
    announcer.up(A, fresh=True, families=frozenset())
    announcer.want(A, routes)
    told = {word for line in drain(announcer) for word in line.split(" nlri ")[1].split()}
    assert told == {str(prefix) for prefix in routes}
