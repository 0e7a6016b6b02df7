"""Graceful restart (RFC 4724), both ways: what is lost when the speaker, the agent or the far side is killed.

The figure is packets of a stream of 1,000 a second in each direction between an address in the node's block
and one behind the router. Every promise has a control in which the same stream loses packets, or the same
route is lost.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from far_sides import AnyFarSide, Gobgp, OpenBgpd, Originated
from node_rig import NODE, brought_up, peer
from stage import (
    BEHIND_PREFIX,
    BLOCKS,
    FAR_ADDRESS,
    NODE_ADDRESS,
    ORIGINATED,
    TAGGED,
    Stage,
    configuration,
    far_sessions,
)
from test_interop_hostile import SPEAKER, announce

pytestmark = pytest.mark.netns

KINDS = ["frr", "bird", "gobgp", "openbgpd"]
PACKETS = 7000


@pytest.fixture
def stage() -> Iterator[Stage]:
    with brought_up(Stage()) as made:
        yield made


def originated(*tables: dict[int, str]) -> list[Originated]:
    return [Originated(table[version]) for table in tables for version in (4, 6)]


def together(stage: Stage, kind: str, *tables: dict[int, str], **spec: object) -> AnyFarSide:
    """Far side, speaker and agent, with `tables` announced and our blocks heard."""
    far = stage.far_side(kind)
    if isinstance(far, Gobgp | OpenBgpd):
        far.fib = True
    far.start(far_sessions(), originated(*tables))
    peers = [peer(f"far{version}", FAR_ADDRESS[version]) for version in (4, 6)]
    stage.declare("node.yaml", NODE, configuration(**spec), *peers)
    stage.start_speaker()
    stage.start_agent()
    stage.established(*FAR_ADDRESS.values())
    wanted = {table[version] for table in tables for version in (4, 6)}
    stage.until(lambda: wanted <= stage.learned().keys(), "the far side's prefixes in the kernel")
    for version in (4, 6):
        stage.until(
            lambda version=version: via_node(stage, version),  # type: ignore[misc]
            "the node's block in the far side's kernel",
        )
    return far


def via_node(stage: Stage, version: int) -> bool:
    shown = stage.tor.run(["ip", f"-{version}", "route", "show", BLOCKS[version]]).stdout
    return NODE_ADDRESS[version] in shown


def kill_exabgp(stage: Stage) -> None:
    """As a crash. It is back when its sessions are."""
    old = stage.exabgp_pid()
    assert old
    stage.node.run(["kill", "-KILL", str(old)])
    stage.until(lambda: stage.exabgp_pid() not in (0, old), "a new ExaBGP")


def quick(*now: object, every: Iterable[object]) -> list[object]:
    """All of these, but in `make test` only some: a case streams packets for seconds."""
    found = []
    for each in every:
        values = each if isinstance(each, tuple) else (each,)
        found.append(pytest.param(*values, marks=() if each in now else pytest.mark.soak))
    return found


#: OpenBGPD 7.7 is without the routes for a moment after some restarts: docs/bgp.md.
LOSE_NOTHING = [kind for kind in KINDS if kind != "openbgpd"]


@pytest.mark.parametrize(
    ("kind", "version"),
    quick(
        *(("frr", 4), ("bird", 6), ("gobgp", 4)),
        every=[(kind, version) for kind in LOSE_NOTHING for version in (4, 6)],
    ),
)
def test_no_packet_is_lost_when_exabgp_is_killed(stage: Stage, kind: str, version: int) -> None:
    """GoBGP keeps no kernel routes itself: its RIB, stale paths included, is carried to the kernel by the
    lab's follower."""
    together(stage, kind, BEHIND_PREFIX)
    stage.stream(version, PACKETS)
    time.sleep(1)  # the stream runs
    kill_exabgp(stage)
    stage.established(*FAR_ADDRESS.values())
    assert stage.streamed(version, PACKETS / 1000 + 20) == {"stream-node": 0, "stream-behind": 0}
    assert {row["state"] for row in stage.peers().values()} == {"established"}


@pytest.mark.parametrize("kind", quick("frr", every=KINDS))
def test_the_control_without_graceful_restart_loses_some(stage: Stage, kind: str) -> None:
    together(stage, kind, BEHIND_PREFIX, gracefulRestart={"enabled": False})
    stage.stream(4, PACKETS)
    time.sleep(1)
    kill_exabgp(stage)
    lost = stage.streamed(4, PACKETS / 1000 + 20)
    assert lost["stream-node"] > 0, "the far side drops our routes with the session"


@pytest.mark.parametrize("kind", quick("frr", every=KINDS))
def test_no_packet_is_lost_and_no_session_when_the_agent_is_killed(stage: Stage, kind: str) -> None:
    together(stage, kind, BEHIND_PREFIX)
    stage.stream(4, PACKETS)
    time.sleep(1)
    before = stage.tor_sessions() if kind == "frr" else {}
    stage.node.kill("agent", signal.SIGKILL)
    stage.until(lambda: not stage.node.alive("agent"), "the agent to die")
    stage.start_agent()
    stage.established(*FAR_ADDRESS.values())
    assert stage.streamed(4, PACKETS / 1000 + 20) == {"stream-node": 0, "stream-behind": 0}
    if kind == "frr":
        assert len(before) == 2
        assert stage.tor_sessions() == before


# --- as helper -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", quick("frr", "bird", every=("frr", "bird", "gobgp")))
def test_a_far_side_that_restarts_finds_its_routes_kept_and_what_it_no_longer_says_swept(
    stage: Stage, kind: str
) -> None:
    far = together(stage, kind, ORIGINATED, TAGGED)
    stage.node.spawn("monitor", ["ip", "monitor", "route"])
    kept = {table[version] for table in (ORIGINATED, TAGGED) for version in (4, 6)}
    far.kill()
    stage.until(lambda: {row["state"] for row in stage.peers().values()} == {"down"}, "the sessions to end")
    stage.until(lambda: all(row["stale"] for row in stage.paths().values()), "all paths to be stale")
    assert kept <= stage.learned().keys(), stage.node.log_tail("agent")
    far.start(far_sessions(), originated(ORIGINATED), again=True)
    stage.until(lambda: not (stage.learned().keys() & set(TAGGED.values())), "the sweep", seconds=60)
    stage.established(*FAR_ADDRESS.values())
    assert set(ORIGINATED.values()) <= stage.learned().keys()
    assert not any(row["stale"] for row in stage.paths().values())
    changes = (stage.node.directory / "monitor.log").read_text().splitlines()
    for prefix in ORIGINATED.values():
        assert not [line for line in changes if prefix in line and "Deleted" in line]
    for prefix in TAGGED.values():  # the control: the monitor does see what goes
        assert [line for line in changes if prefix in line and "Deleted" in line]


def test_a_far_side_that_lists_no_family_takes_its_routes_along(stage: Stage) -> None:
    """OpenBGPD offers the capability as a helper alone (RFC 4724 section 3)."""
    far = together(stage, "openbgpd", ORIGINATED)
    for row in stage.peers().values():
        assert row["negotiated"]["gracefulRestart"]["families"] == []
    far.kill()
    stage.until(lambda: not stage.learned(), "the routes to go", seconds=10)
    assert not stage.paths()


@pytest.mark.parametrize("again", [True, False], ids=["F bit", "none"])
@pytest.mark.parametrize("kind", quick("frr", every=("frr", "gobgp")))
def test_without_the_forwarding_state_bit_the_routes_go_when_the_far_side_is_back(
    stage: Stage, kind: str, again: bool
) -> None:
    """RFC 4724 section 4.2: of a family whose F bit is clear, or that is not in the capability, at once.

    With the bit, the control, what it no longer says is kept until after End-of-RIB.
    """
    far = together(stage, kind, ORIGINATED, TAGGED)
    far.kill()
    stage.until(lambda: {row["state"] for row in stage.peers().values()} == {"down"}, "the sessions to end")
    assert set(TAGGED.values()) <= stage.learned().keys(), stage.node.log_tail("agent")
    back = [replace(session, preserves=again) for session in far_sessions()]
    far.start(back, originated(ORIGINATED), again=again)
    gone = "forwarding state not preserved; removing"
    stage.until(
        lambda: not (stage.learned().keys() & set(TAGGED.values())), "what is not said again to go", 60
    )
    said = (stage.node.directory / "agent.log").read_text()
    assert said.count(gone) == (0 if again else 2), said
    stage.until(lambda: set(ORIGINATED.values()) <= stage.learned().keys(), "what is said again")


#: Of the far side: nobody connects. What is connected stays.
UNREACHED = """
table inet unreached {
  chain in {
    type filter hook input priority -400
    tcp dport 179 tcp flags & (syn | ack) == syn reject with tcp reset
  }
  chain out {
    type filter hook output priority -400
    tcp dport 179 tcp flags & (syn | ack) == syn reject with tcp reset
  }
}
"""


@pytest.mark.parametrize("kind", quick("openbgpd", every=KINDS))
def test_a_notification_voids_it(stage: Stage, kind: str) -> None:
    """RFC 4724 section 4: the routes of a session that a NOTIFICATION ended are not kept.

    It is not back meanwhile: OpenBGPD is within milliseconds, so that no change may reach the kernel at all.
    """
    far = together(stage, kind, ORIGINATED)
    stage.tor.run(["nft", "-f", "-"], text=UNREACHED)
    for version in (4, 6):
        far.notify(NODE_ADDRESS[version])
    stage.until(lambda: not stage.learned(), "the routes to go", seconds=10)
    assert not stage.paths()
    stage.tor.run(["nft", "delete", "table", "inet", "unreached"])
    stage.established(*FAR_ADDRESS.values())
    stage.until(lambda: set(ORIGINATED.values()) <= stage.learned().keys(), "the routes again")
    assert not any(row["stale"] for row in stage.paths().values())


def speak(stage: Stage, prefixes: list[str], name: str) -> None:
    """A speaker that offers graceful restart for an hour, says these prefixes and no End-of-RIB, ever.

    So nothing but what is tested takes stale paths away, however slow the machine is.
    """
    file = stage.tor.directory / name
    file.write_text("\n".join(announce(prefix).hex() for prefix in prefixes))
    argv = [sys.executable, str(SPEAKER), FAR_ADDRESS[4], "65002", str(file), "0", "3600"]
    stage.tor.spawn(name, argv)


def silence(stage: Stage, name: str) -> None:
    """As a crash."""
    stage.tor.kill(name, signal.SIGKILL)
    stage.until(lambda: not stage.tor.alive(name), "the speaker to die")
    stage.until(lambda: {row["state"] for row in stage.peers().values()} == {"down"}, "the session to end")


def test_what_is_stale_already_goes_at_a_second_restart(stage: Stage) -> None:
    """RFC 4724 section 4.2: routes that are still stale when the peer fails again are deleted."""
    kept, forgotten = set(ORIGINATED.values()), set(TAGGED.values())
    speak(stage, [*kept, *forgotten], "first")
    spec = peer("far", FAR_ADDRESS[4], families=["IPv4", "IPv6"])
    stage.declare("node.yaml", NODE, configuration(), spec)
    stage.start_speaker()
    stage.start_agent()
    stage.established(FAR_ADDRESS[4])
    stage.until(lambda: kept | forgotten <= stage.learned().keys(), "all prefixes in the kernel")
    silence(stage, "first")
    stage.until(lambda: all(row["stale"] for row in stage.paths().values()), "all paths to be stale")
    assert kept | forgotten <= stage.learned().keys()
    speak(stage, [*kept], "second")

    def stale() -> set[str]:
        return {prefix for prefix, row in stage.paths().items() if row["stale"]}

    stage.until(lambda: stage.paths() and stale() == forgotten, "some to be heard again and others not")
    assert kept | forgotten <= stage.learned().keys()
    silence(stage, "second")
    stage.until(lambda: stage.paths().keys() == kept, "the stale ones to go")
    stage.until(lambda: not (stage.learned().keys() & forgotten), "the kernel's routes of them to go")
    assert kept <= stage.learned().keys()
    assert stale() == kept
