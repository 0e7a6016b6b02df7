"""A peer's routes are kept over its restart where it has promised to forward on, and nowhere else.

FRR's default is a helper of RFC 4724: its capability has a restart time and lists no family, so that nothing
of it is kept. With `bgp graceful-restart` it lists both, and what it announced stays: that is the control.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from bfd_rig import FRR_BFD, BfdRig
from node_rig import CONFIGURATION, FRR, NODE, TOR4, TOR6, Rig, brought_up

pytestmark = pytest.mark.netns

LEARNED = {"192.168.7.0/24", "fd77::/64"}
LISTS_ALL = " bgp graceful-restart\n"
#: Much less than the 120 s for which FRR asks.
SOON = 10.0


@pytest.fixture
def rig() -> Iterator[BfdRig]:
    with brought_up(BfdRig()) as made:
        yield made


def start(rig: BfdRig, config: str) -> None:
    Rig.start_tor(rig, config)
    rig.declare("node.yaml", NODE, CONFIGURATION, TOR4, TOR6)
    rig.start_speaker()
    rig.start_agent()
    rig.until(lambda: rig.learned() == LEARNED, "its routes")
    # FRR opens sessions while it reads its configuration, with a capability that lists no family yet, and
    # resets them a second or two later.
    lists = [["IPv4"], ["IPv6"]] if LISTS_ALL in config else [[], []]
    rig.until(lambda: offered(rig) == lists, "both sessions as they are configured")


def offered(rig: BfdRig) -> list[list[str] | None]:
    """The families that each session's graceful restart capability lists; None where there is no session."""
    rows = [(row["negotiated"] or {}).get("gracefulRestart") for row in rig.peers().values()]
    return [row["families"] if row else None for row in rows]


def end_bgpd(rig: BfdRig, signal: str) -> None:
    """By its PID file, so that nothing of another test's is met. `zebra` stays: the router forwards on."""
    rig.tor.run(["sh", "-c", f"kill -{signal} $(cat /run/frr/bgpd.pid)"])


def ended(rig: BfdRig) -> bool:
    return {row["state"] for row in rig.peers().values()} == {"down"}


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
@pytest.mark.parametrize("lists", [False, True], ids=["helper", "lists both families"])
def test_a_bgpd_that_ends(rig: BfdRig, signal: str, lists: bool) -> None:
    start(rig, FRR if lists else FRR.replace(LISTS_ALL, ""))
    end_bgpd(rig, signal)
    began = time.monotonic()
    rig.until(lambda: ended(rig), "the sessions to end")
    if lists:
        time.sleep(1)
        assert rig.learned() == LEARNED, "it forwards on, and has said so"
    else:
        rig.until(lambda: not rig.learned(), "its routes to go", seconds=SOON)
        assert time.monotonic() - began < SOON


def test_a_router_that_falls_silent(rig: BfdRig) -> None:
    """Hold time 9: our NOTIFICATION ends the session, and all that it promised (RFC 4724 section 4)."""
    start(rig, FRR)
    rig.silence()
    rig.until(lambda: not rig.learned(), "its routes to go", seconds=9 + SOON)
    for row in rig.peers().values():
        assert row["lastReset"]["direction"] == "sent"
        assert (row["lastReset"]["code"], row["lastReset"]["subcode"]) == (4, 0)
        assert row["reason"].endswith("NOTIFICATION sent: Hold Timer Expired (4/0)")


def test_a_bgpd_that_ends_while_bfd_goes_on(rig: BfdRig) -> None:
    """FRR ends BFD for it in the same moment, and either may be heard first: what graceful restart would not
    keep is kept by neither. (That which it keeps stays where BGP ended first, RFC 5882 section 4.3.2.)"""
    rig.start_tor(FRR_BFD.replace(LISTS_ALL, ""))
    rig.declare_peers()
    rig.start_bfd()
    rig.start_speaker()
    rig.start_agent()
    rig.until(lambda: rig.learned() == LEARNED, "its routes")
    rig.watched("10.90.0.2", "fd90::2")
    end_bgpd(rig, "TERM")
    rig.until(lambda: ended(rig), "the sessions to end")
    rig.until(lambda: not rig.learned(), "its routes to go", seconds=SOON)
