"""Two BFD processes without BGP, spoken to as the agent does."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from bfd_agent import Agent, link_local
from bfd_rig import BfdRig
from node_rig import brought_up

from l3net.bfd.control import WantedSession

pytestmark = pytest.mark.netns


@pytest.fixture
def rig() -> Iterator[BfdRig]:
    with brought_up(BfdRig()) as made:
        for host in (made.node, made.tor):
            host.spawn("bfd", [sys.executable, "-m", "l3net.cli.main", "bfd"])
        yield made


def test_link_local_and_several_hops_and_both_families(rig: BfdRig) -> None:
    near, far = link_local(rig.node, "up0"), link_local(rig.tor, "down0")
    pairs = [
        (near, far, False, "up0", "down0"),
        ("10.90.0.1", "10.90.0.2", True, None, None),
        ("fd90::1", "fd90::2", True, None, None),
    ]
    ours, theirs = Agent(rig.node), Agent(rig.tor)
    ours.want(
        *(
            WantedSession(ip_address(b), ip_address(a), mine, multihop=several, min_interval=50)
            for a, b, several, mine, _ in pairs
        )
    )
    theirs.want(
        *(
            WantedSession(ip_address(a), ip_address(b), his, multihop=several, passive=True, min_interval=50)
            for a, b, several, _, his in pairs
        )
    )
    peers = [b for _, b, _, _, _ in pairs]
    ours.until(lambda: all(ours.state(peer) == "Up" for peer in peers))
    ours.until(lambda: all(ours.states[peer].detection_time == 150 for peer in peers))
    assert ours.hello is not None
    assert ours.hello.problem == ""
    rig.silence()
    ours.until(lambda: all(ours.states[peer].failed for peer in peers))


def test_sessions_go_on_without_an_agent_and_a_wrong_hop_count_is_no_session(rig: BfdRig) -> None:
    ours, theirs = Agent(rig.node), Agent(rig.tor)
    one = WantedSession(ip_address("10.90.0.2"), ip_address("10.90.0.1"), min_interval=50)
    theirs.want(WantedSession(ip_address("10.90.0.1"), ip_address("10.90.0.2"), min_interval=50))
    ours.want(replace(one, multihop=True))
    ours.until(lambda: ours.state("10.90.0.2") == "Down")
    time.sleep(2)
    ours.want(one)
    ours.until(lambda: ours.state("10.90.0.2") == "Up")
    since = ours.states["10.90.0.2"].since
    ours.close()
    time.sleep(1)
    again = Agent(rig.node)
    again.want(one)
    again.until(lambda: again.state("10.90.0.2") == "Up")
    assert again.states["10.90.0.2"].since == since, "it never went down"
    again.want()
    theirs.until(lambda: theirs.state("10.90.0.1") == "Down")
    assert theirs.states["10.90.0.1"].failed is False, "told so by AdminDown"


def test_a_process_that_was_held_up_gives_nobody_up(rig: BfdRig) -> None:
    """What came while it was stopped is handled before its timers, so that nobody is given up for it."""
    ours, theirs = Agent(rig.node), Agent(rig.tor)
    ours.want(WantedSession(ip_address("fd90::2"), ip_address("fd90::1"), min_interval=50, multiplier=40))
    theirs.want(WantedSession(ip_address("fd90::1"), ip_address("fd90::2"), min_interval=50, multiplier=3))
    ours.until(lambda: ours.state("fd90::2") == "Up" and ours.states["fd90::2"].detection_time == 150)
    for _ in range(5):
        rig.node.kill("bfd", signal.SIGSTOP)
        time.sleep(0.6)  # four of its detection times
        rig.node.kill("bfd", signal.SIGCONT)
        time.sleep(0.3)
    theirs.until(lambda: theirs.state("fd90::1") == "Up")
    assert "Down" not in Path(rig.node.log("bfd")).read_text()
    assert theirs.states["fd90::1"].flaps == 0
