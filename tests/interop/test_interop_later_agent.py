"""What a peer has said is kept beside its session: an agent that comes later finds it.

The far side is a speaker that ignores every ROUTE-REFRESH (RFC 2918), as some do for a family or for all.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest
from node_rig import NODE, brought_up, peer
from stage import FAR_ADDRESS, ORIGINATED, TAGGED, Stage, configuration
from test_interop_hostile import SPEAKER, announce
from test_interop_hostile import update as updated
from wire_peer import KEEPALIVE, OPEN, UPDATE, USUAL, Listening, graceful_restart, message, open_with

pytestmark = pytest.mark.netns

SAID = set(ORIGINATED.values()) | set(TAGGED.values())
RESTART_TIME = 20
#: RFC 4724 section 2: an UPDATE that says nothing, and one that withdraws nothing of IPv6.
END_OF_RIB = [updated(b""), message(UPDATE, bytes.fromhex("00000006800f03000201"))]


@pytest.fixture
def stage() -> Iterator[Stage]:
    with brought_up(Stage()) as made:
        yield made


def speak(stage: Stage, version: int) -> None:
    file = stage.tor.directory / "updates"
    lines = [*(announce(prefix) for prefix in sorted(SAID)), *END_OF_RIB]
    file.write_text("\n".join(line.hex() for line in lines))
    argv = [sys.executable, str(SPEAKER), FAR_ADDRESS[version], "65002", str(file), "0", str(RESTART_TIME)]
    stage.tor.spawn("wire", [*argv, "deaf"])


def start(stage: Stage, version: int) -> None:
    speak(stage, version)
    spec = peer("far", FAR_ADDRESS[version], families=["IPv4", "IPv6"])
    stage.declare("node.yaml", NODE, configuration(), spec)
    stage.start_speaker()
    stage.start_agent()
    stage.until(lambda: stage.learned().keys() >= SAID, "all prefixes in the kernel")


def end_agent(stage: Stage) -> None:
    stage.node.kill("agent", signal.SIGKILL)
    stage.until(lambda: not stage.node.alive("agent"), "the agent to die")


def connections(stage: Stage) -> int:
    """How often an agent has come to the speaker."""
    return stage.node.read_log("agent").count("connected to the speaker")


def listed(stage: Stage) -> tuple[int, list[str]] | None:
    """Restart time and families of the peer's graceful restart capability, as far as the agent knows."""
    (row,) = stage.peers().values()
    offered = (row["negotiated"] or {}).get("gracefulRestart")
    return (offered["restartTime"], offered["families"]) if offered else None


def heard_anew(stage: Stage) -> bool:
    """A new agent has all that there is, and knows that it has."""
    rows = list(stage.peers().values())
    fresh = {prefix for prefix, row in stage.paths().items() if not row["stale"]}
    return bool(rows) and rows[0]["state"] == "established" and not rows[0]["syncing"] and fresh >= SAID


@pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
def test_an_agent_restart_beside_a_peer_that_ignores_a_refresh(stage: Stage, version: int) -> None:
    start(stage, version)
    stage.node.spawn("monitor", ["ip", "monitor", "route"])
    end_agent(stage)
    stage.start_agent()
    stage.until(lambda: heard_anew(stage), "the new agent to have heard all", seconds=15)
    assert "refresh asked" not in stage.tor.read_log("wire"), "it would not have answered"
    assert stage.tor.read_log("wire").count("established") == 1
    assert stage.learned().keys() >= SAID
    (row,) = stage.peers().values()
    assert row["negotiated"]["gracefulRestart"]["restartTime"] == RESTART_TIME
    assert row["negotiated"]["gracefulRestart"]["families"] == ["IPv4", "IPv6"]
    changes = stage.node.read_log("monitor").splitlines()
    assert not [line for line in changes if "Deleted" in line and any(prefix in line for prefix in SAID)]


@pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
def test_what_is_said_before_any_agent_is_there(stage: Stage, version: int) -> None:
    """OPEN, UPDATEs and End-of-RIB come while the speaker is alone."""
    start(stage, version)
    end_agent(stage)
    speaker = stage.node.daemon_pid("speaker")
    stage.node.kill("speaker", signal.SIGKILL)
    stage.until(lambda: not stage.node.alive("speaker"), "the speaker to die")
    stage.until(lambda: "closed" in stage.tor.read_log("wire"), "the session to end")
    stage.node.run(["ip", "-4", "route", "flush", "proto", "108"])
    stage.node.run(["ip", "-6", "route", "flush", "proto", "108"])
    stage.start_speaker()
    stage.until(lambda: stage.tor.read_log("wire").count("sent ") == 2, "all to be said again")
    assert speaker
    stage.start_agent()
    stage.until(lambda: heard_anew(stage), "the agent to have heard all", seconds=15)
    stage.until(lambda: stage.learned().keys() >= SAID, "all prefixes in the kernel", seconds=5)
    (row,) = stage.peers().values()
    assert row["negotiated"]["gracefulRestart"]["restartTime"] == RESTART_TIME, "not what most offer"


@pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
def test_an_agent_that_comes_between_the_open_and_the_session(stage: Stage, version: int) -> None:
    """It hears that the session is up, and has missed what the peer has offered. That counts when it ends."""
    spec = peer("far", FAR_ADDRESS[version], families=["IPv4", "IPv6"])
    stage.declare("node.yaml", NODE, configuration(holdTime=90), spec)  # it waits so long for the KEEPALIVE
    with Listening(stage, version) as listening:
        stage.start_speaker()
        stage.start_agent()
        with listening.accept() as wire:
            wire.send(open_with([*USUAL, graceful_restart(4, 6, seconds=RESTART_TIME)]))
            wire.expect(OPEN)
            end_agent(stage)
            before = connections(stage)
            stage.start_agent()
            stage.until(lambda: connections(stage) > before and stage.peers(), "the new agent to be there")
            wire.send(message(KEEPALIVE), *map(announce, SAID))
            stage.until(lambda: stage.learned().keys() >= SAID, "all prefixes in the kernel")
            stage.until(lambda: listed(stage) == (RESTART_TIME, ["IPv4", "IPv6"]), "what it has offered")
    stage.until(lambda: {row["state"] for row in stage.peers().values()} == {"down"}, "the session to end")
    assert {prefix for prefix, row in stage.paths().items() if row["stale"]} == SAID
    assert stage.learned().keys() >= SAID
