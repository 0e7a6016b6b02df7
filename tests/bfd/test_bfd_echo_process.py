"""The Echo function between two BFD processes of ours, and with a real FRR; both forward, as routers do."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from bfd_agent import Agent, link_local
from bfd_rig import ADDRESSES, FRR_BFD, BfdRig

from l3net.bfd.control import WantedSession
from l3net.lab.host import Host

pytestmark = pytest.mark.netns

LEARNED = {"192.168.7.0/24", "fd77::/64"}
#: Echo packets alone are lost that this host is to forward or to give back.
NO_ECHO = """
table inet silence {
  chain in { type filter hook input priority -400; udp dport 3785 drop; }
  chain through { type filter hook forward priority -400; udp dport 3785 drop; }
}
"""
#: Those of the node's, but not those that come back to this host's own BFD.
NO_FORWARDED_ECHO = """
table inet silence {
  chain through { type filter hook forward priority -400; udp dport 3785 drop; }
}
"""
FRR_ECHO = FRR_BFD.replace(
    " transmit-interval 100\n",
    " transmit-interval 100\n  echo transmit-interval 100\n  echo receive-interval 100\n  echo-mode\n",
)


def forward(host: Host) -> None:
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        host.run(["sh", "-c", f"echo 1 >/proc/sys/net/{name}"])


@pytest.fixture
def rig() -> Iterator[BfdRig]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = BfdRig()
    try:
        made.up()
        for host in (made.node, made.tor):
            forward(host)
        yield made
    finally:
        made.down()


def test_echo_lost_takes_down_the_sessions_that_have_it_and_no_other(rig: BfdRig) -> None:
    """Both families by forwarding, link-local addresses by BFD itself; the control has no echo."""
    control = ("10.90.0.11", "10.90.0.12")
    for host, link, address in ((rig.node, "up0", control[0]), (rig.tor, "down0", control[1])):
        host.run(["ip", "address", "add", f"{address}/24", "dev", link])
        host.spawn("bfd", [sys.executable, "-m", "l3net.cli.main", "bfd"])
    local = link_local(rig.node, "up0"), link_local(rig.tor, "down0")
    pairs = [("10.90.0.1", "10.90.0.2"), ("fd90::1", "fd90::2"), local]

    def sessions(here: int, link: str, echo: int) -> list[WantedSession]:
        found = [
            WantedSession(
                ip_address(pair[1 - here]),
                ip_address(pair[here]),
                link if pair is local else None,
                echo_transmit=echo,
                echo_receive=50,
            )
            for pair in pairs
        ]
        return [*found, WantedSession(ip_address(control[1 - here]), ip_address(control[here]))]

    ours, theirs = Agent(rig.node), Agent(rig.tor)
    ours.want(*sessions(0, "up0", 50))
    theirs.want(*sessions(1, "down0", 100))
    near, far = zip(*pairs, strict=True)
    ours.until(lambda: all(ours.echo(each) == "works" for each in far))
    theirs.until(lambda: all(theirs.echo(each) == "works" for each in near))
    ours.until(lambda: all(ours.states[each].detection_time == 150 for each in far))
    ours.until(lambda: all(ours.states[each].transmit_interval == 1000 for each in far))  # as theirs asks
    ours.until(lambda: ours.state(control[1]) == "Up")
    assert ours.hello is not None
    assert ours.hello.problem == ""
    rig.silence(NO_ECHO)
    ours.until(lambda: ours.failures.keys() == set(far))
    assert {each[0] for each in ours.failures.values()} <= {"echoFailed", "neighborSignaledDown"}
    rig.speak()
    ours.until(lambda: all(ours.echo(each) == "works" for each in far))
    assert (ours.states[control[1]].flaps, ours.states[control[1]].echo) == (0, "")


def test_a_process_that_was_held_up_or_begun_anew_misses_no_echo(rig: BfdRig) -> None:
    for host in (rig.node, rig.tor):
        host.spawn("bfd", [sys.executable, "-m", "l3net.cli.main", "bfd"])
    ours, theirs = Agent(rig.node), Agent(rig.tor)
    one = WantedSession(
        ip_address("fd90::2"), ip_address("fd90::1"), min_interval=50, multiplier=3, echo_transmit=50
    )
    ours.want(one)
    theirs.want(
        WantedSession(
            ip_address("fd90::1"), ip_address("fd90::2"), min_interval=1000, multiplier=40, echo_receive=50
        )
    )
    ours.until(lambda: ours.echo("fd90::2") == "works")
    since = ours.states["fd90::2"].since
    for _ in range(3):
        rig.node.kill("bfd", signal.SIGSTOP)
        time.sleep(0.6)  # four times what echo gives up after
        rig.node.kill("bfd", signal.SIGCONT)
        time.sleep(0.3)
    rig.node.kill("bfd", signal.SIGHUP)
    rig.until(lambda: Path(rig.node.log("bfd")).read_text().count("ready, pid") == 2, "the new program")
    again = Agent(rig.node)
    again.want(one)
    again.until(lambda: again.echo("fd90::2") == "works")
    assert (again.states["fd90::2"].since, again.states["fd90::2"].flaps) == (since, 0)
    assert "Down" not in Path(rig.node.log("bfd")).read_text()


def counters(rig: BfdRig) -> dict[str, tuple[int, int]]:
    """Echo packets that FRR has sent and got back, by our address."""
    rows = json.loads(rig.vtysh("show bfd peers counters json"))
    return {row["peer"]: (row["echo-packet-output"], row["echo-packet-input"]) for row in rows}


def test_echo_with_frr_both_ways(rig: BfdRig) -> None:
    """Turned on in a running session, which stays. Before, the lack of echo is nobody's failure."""
    rig.start_tor(FRR_ECHO)
    rig.silence(NO_ECHO)
    rig.declare_peers()
    rig.start_bfd()
    rig.start_speaker()
    rig.start_agent()
    rig.established(*ADDRESSES)
    rig.watched(*ADDRESSES)
    rig.until(lambda: rig.learned() == LEARNED, "the routes")
    assert [rig.bfd(address)["echo"] for address in ADDRESSES] == ["", ""]
    rig.speak()
    before = rig.tor_sessions()
    rig.declare_peers(echo={"transmitInterval": 100, "receiveInterval": 100})
    rig.until(lambda: all(rig.bfd(each)["echo"] == "works" for each in ADDRESSES), "our echo")
    rig.until(
        lambda: len(counters(rig)) == 2 and all(back > 20 for _, back in counters(rig).values()), "FRR's echo"
    )
    assert [rig.bfd(address)["detectionTimeMs"] for address in ADDRESSES] == [300, 300]
    assert rig.tor_sessions() == before
    assert [rig.bfd(address)["flaps"] for address in ADDRESSES] == [0, 0]
    rig.node.spawn("monitor", ["ip", "monitor", "route"])
    rig.silence(NO_FORWARDED_ECHO)
    rig.until(
        lambda: all(f"Deleted {each}" in rig.node.read_log("monitor") for each in LEARNED), "its routes to go"
    )
    told = [f"peer {address}: BFD Down (echoFailed)" for address in ADDRESSES]
    assert all(line in rig.node.read_log("agent") for line in told)
    rig.until(lambda: all(rig.bfd(each)["flaps"] > 2 for each in ADDRESSES), "BFD to try again and again")
    reasons = {row["reason"] for row in rig.peers().values()}
    assert reasons == {"BFD down: held down until echo works"}
    assert [row["flaps"] for row in rig.peers().values()] == [1, 1], "BGP proves nothing meanwhile"
    assert not rig.learned()
    rig.speak()
    rig.until(lambda: all(rig.bfd(each)["echo"] == "works" for each in ADDRESSES), "our echo again")
    rig.until(lambda: rig.learned() == LEARNED, "the routes again")
    before_loss = counters(rig)
    rig.until(
        lambda: all(counters(rig)[each][1] > before_loss[each][1] for each in before_loss), "FRR's echo again"
    )
    rig.node.run(["nft", "-f", "-"], text=NO_ECHO)
    rig.until(
        lambda: {row["diagnostic"] for row in rig.tor_bfd().values()} == {"echo function failed"},
        "FRR to miss its echo",
    )
