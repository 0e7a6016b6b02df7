"""Amending what a peer shall have comes to the same as wanting all of it anew."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from bgp_facts import session
from hypothesis import given
from hypothesis import strategies as st

from l3net.bgp.exabgp.announcer import Announcer
from l3net.bgp.path import Attributes, Path

SESSION = session()
PREFIXES = [ip_network(text) for text in ("10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32", "fd00::1/128")]
HOPS = [ip_address("192.0.2.1"), ip_address("192.0.2.2")]
STEPS = st.one_of(
    st.tuples(st.just("wish"), st.sampled_from(PREFIXES), st.none() | st.sampled_from(HOPS)),
    st.tuples(st.just("say"), st.none(), st.none()),
    st.tuples(st.just("refuse"), st.none(), st.none()),
    st.tuples(st.just("holds"), st.sampled_from(PREFIXES), st.none()),
    st.tuples(st.just("down"), st.none(), st.none()),
    st.tuples(st.just("up"), st.none(), st.none()),
)


@given(st.lists(STEPS, max_size=30))
def test_amending_equals_wanting(steps: list[tuple[str, Any, Any]]) -> None:
    address = SESSION.peer_address
    amended, whole = Announcer(), Announcer()
    wishes: dict[Any, Path] = {}
    for announcer in (amended, whole):
        announcer.set_sessions({address: SESSION})
        announcer.up(address, fresh=False)
    amended.want(address, wishes)
    for step, prefix, hop in steps:
        if step == "wish":
            if hop is None:
                wishes.pop(prefix, None)
            else:
                wishes[prefix] = Path(prefix, hop, Attributes())
            amended.amend(address, [prefix])
        for announcer in (amended, whole):
            if step == "down":
                announcer.down(address)
            elif step == "up":
                announcer.up(address, fresh=False)
        whole.want(address, dict(wishes))
        if step in ("say", "refuse"):
            for announcer in (amended, whole):
                while announcer.next_lines():  # to the end: the order of lines is each one's own
                    while announcer.unanswered:
                        announcer.answered(refused=step == "refuse")
        if step == "holds":
            for announcer in (amended, whole):
                announcer.holds(address, [prefix])
        if step in ("refuse", "holds"):  # what was refused is said again when all is looked at
            amended.look_again(address, wishes)
            whole.want(address, dict(wishes))
        first, second = (announcer._peers[address] for announcer in (amended, whole))
        assert first.to_withdraw.keys() == second.to_withdraw.keys()
        assert first.to_announce == second.to_announce
        assert first.said == second.said
