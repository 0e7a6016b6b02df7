"""The real agent, ExaBGP and kernel beside a real FRR: what users are promised of a node."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
import time

import pytest
from node_rig import CONFIGURATION, FRR, NODE, TOR4, TOR6, Rig, peer

pytestmark = pytest.mark.netns

LEARNED = {"192.168.7.0/24", "fd77::/64"}
ADDRESSES = ("10.90.0.2", "fd90::2")
BLOCKS = {"10.244.1.0/24", "fd00:10:244:1::/120"}


def learned(rig: Rig) -> set[str]:
    """Prefixes of ours in the kernel with a next hop."""
    text = rig.kernel("-4 route show proto 108") + rig.kernel("-6 route show proto 108")
    return {line.split()[0] for line in text.splitlines() if "via" in line}


def has_bridge(rig: Rig) -> bool:
    shown = rig.node.run(["ip", "addr", "show", "dev", "l3net0"], check=False).stdout
    return "10.244.1.1/24" in shown and "fd00:10:244:1::1/120" in shown


def ready(rig: Rig) -> bool:
    return rig.tor_routes() == BLOCKS and learned(rig) == LEARNED


def test_routes_pass_both_ways_and_what_someone_deletes_is_back(rig: Rig) -> None:
    rig.start()
    rig.until(lambda: ready(rig), "routes both ways")
    assert "blackhole 10.244.1.0/24" in rig.kernel("route show proto 108")
    assert "blackhole fd00:10:244:1::/120" in rig.kernel("-6 route show proto 108")
    rules = rig.node.run(["nft", "-s", "list", "table", "inet", "l3net"]).stdout
    harm = {
        "learned route": ["ip", "route", "del", "192.168.7.0/24", "proto", "108"],
        "learned IPv6 route": ["ip", "-6", "route", "del", "fd77::/64", "proto", "108"],
        "blackhole": ["ip", "route", "del", "blackhole", "10.244.1.0/24", "metric", "4096"],
        "gateway address": ["ip", "addr", "del", "10.244.1.1/24", "dev", "l3net0"],
        "IPv6 gateway address": ["ip", "addr", "del", "fd00:10:244:1::1/120", "dev", "l3net0"],
        "bridge": ["ip", "link", "del", "l3net0"],
        "nftables table": ["nft", "delete", "table", "inet", "l3net"],
        "nftables chain": ["nft", "flush", "table", "inet", "l3net"],
    }

    def whole() -> bool:
        listed = rig.node.run(["nft", "-s", "list", "table", "inet", "l3net"], check=False).stdout
        return ready(rig) and has_bridge(rig) and listed == rules and "blackhole" in rig.kernel("route")

    for what, argv in harm.items():
        rig.node.run(argv)
        rig.until(whole, f"{what} to be back", seconds=10)


def test_an_agent_killed_and_restarted_changes_nothing(rig: Rig) -> None:
    """Sessions stay up and neither the node's kernel nor the router sees a route change."""
    rig.start()
    rig.until(lambda: ready(rig), "routes both ways")
    time.sleep(6)  # past the first End-of-RIB sweep
    before = rig.tor_sessions()
    monitors = [host.name for host in (rig.node, rig.tor)]
    for host in (rig.node, rig.tor):
        host.spawn("monitor", ["ip", "monitor", "route"])
    for number in (signal.SIGKILL, signal.SIGTERM):
        rig.node.kill("agent", number)
        rig.until(lambda: not rig.node.alive("agent"), "the agent to die")
        assert learned(rig) == LEARNED
        rig.start_agent()
        rig.established("10.90.0.2", "fd90::2")
        rig.until(lambda: ready(rig), "routes both ways")
    time.sleep(3)
    assert rig.tor_sessions() == before
    changes = {name: rig.node.directory.parent.joinpath(name, "monitor.log").read_text() for name in monitors}
    assert not [
        line
        for text in changes.values()
        for line in text.splitlines()
        if "192.168.7" in line or "fd77" in line
    ]
    assert not [line for text in changes.values() for line in text.splitlines() if "244" in line]
    # The control: a change of the declared state is a change of routes.
    rig.declare("node.yaml", {**NODE, "spec": {"podCIDRs": ["10.244.1.0/24"]}}, CONFIGURATION, TOR4, TOR6)
    rig.until(lambda: "244" in (rig.tor.directory / "monitor.log").read_text(), "the control to show")


def test_what_went_while_there_was_no_agent_is_withdrawn(rig: Rig) -> None:
    """ExaBGP holds it, and says so before the new agent knows of any session."""
    rig.start()
    rig.until(lambda: ready(rig), "routes both ways")
    before = rig.tor_sessions()
    rig.node.kill("agent")
    rig.until(lambda: not rig.node.alive("agent"), "the agent to die")
    rig.declare("node.yaml", {**NODE, "spec": {"podCIDRs": ["10.244.3.0/24"]}}, CONFIGURATION, TOR4, TOR6)
    rig.start_agent()
    rig.until(lambda: rig.tor_routes() == {"10.244.3.0/24"}, "the old blocks to go", seconds=15)
    assert rig.tor_sessions() == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_an_exabgp_that_dies_or_hangs_is_replaced_and_told_everything_again(rig: Rig, number: int) -> None:
    rig.start()
    rig.until(lambda: ready(rig), "routes both ways")
    old = rig.exabgp_pid()
    rig.node.run(["kill", f"-{number}", str(old)])
    rig.until(lambda: rig.exabgp_pid() not in (0, old), "a new ExaBGP")
    assert learned(rig) == LEARNED, "learned routes stay while the speaker restarts"
    assert rig.tor_routes() == BLOCKS, "the router keeps ours meanwhile (RFC 4724)"
    rig.established("10.90.0.2", "fd90::2")
    time.sleep(7)  # past End-of-RIB and the sweep at both sides
    assert ready(rig)


def test_a_new_peer_and_a_removed_one_leave_the_other_session_alone(rig: Rig) -> None:
    rig.start_tor()
    rig.declare("node.yaml", NODE, CONFIGURATION, TOR4)
    rig.start_speaker()
    rig.start_agent()
    rig.established("10.90.0.2")
    rig.until(lambda: rig.tor_routes() == {"10.244.1.0/24"}, "the IPv4 block")
    before = rig.tor_sessions()["10.90.0.1"]
    rig.declare("node.yaml", NODE, CONFIGURATION, TOR4, TOR6)
    rig.established("fd90::2")
    rig.until(lambda: rig.tor_routes() == BLOCKS, "both blocks")
    rig.declare("node.yaml", NODE, CONFIGURATION, TOR4)
    # Withdrawn, not left to graceful restart: the far side must not keep it for two minutes.
    rig.until(lambda: rig.tor_routes() == {"10.244.1.0/24"}, "the withdrawal", seconds=15)
    rig.until(lambda: learned(rig) == {"192.168.7.0/24"}, "its routes to go")
    assert rig.tor_sessions()["10.90.0.1"] == before


def test_bad_manifests_change_nothing_and_are_named(rig: Rig) -> None:
    rig.start()
    rig.until(lambda: ready(rig), "routes both ways")
    (rig.manifests / "bad.yaml").write_text("kind: [")
    rig.declare("wrong.yaml", peer("wrong", "10.90.0.2", holdTime=2))
    rig.until(lambda: len(rig.status().get("problems", ())) >= 2, "both problems")
    problems = "\n".join(rig.status()["problems"])
    assert "bad.yaml" in problems
    assert "wrong.yaml" in problems
    assert "holdTime" in problems
    (rig.manifests / "node.yaml").unlink()  # everything gone at once: hold
    time.sleep(2)
    assert ready(rig)
    assert has_bridge(rig)
    assert any("no Node named node" in problem for problem in rig.status()["problems"])
    rig.declare("node.yaml", NODE, CONFIGURATION, TOR4, TOR6)
    rig.until(lambda: not any("no Node" in problem for problem in rig.status()["problems"]), "the Node again")
    (rig.manifests / "bad.yaml").unlink()
    (rig.manifests / "wrong.yaml").unlink()
    rig.until(lambda: not rig.status()["problems"], "all problems to be gone")


CANARY = "canary-7f3a-secret"


def test_md5_from_a_secret_which_is_seen_nowhere(rig: Rig) -> None:
    config = "\n".join(
        line + (f"\n neighbor {line.split()[1]} password {CANARY}" if "remote-as" in line else "")
        for line in FRR.splitlines()
    )
    rig.start_tor(config)
    reference = {"secretKeyRef": {"name": "bgp", "key": "password"}}
    peers = [peer("tor4", "10.90.0.2", password=reference), peer("tor6", "fd90::2", password=reference)]
    rig.declare("node.yaml", NODE, CONFIGURATION, *peers)
    rig.start_speaker()
    rig.start_agent("--log-level", "debug")
    rig.until(
        lambda: "missingSecret" in "".join(rig.status().get("problems", ())), "the missing Secret to be named"
    )
    # Never a session without the password.
    assert {row["state"] for row in rig.peers().values()} == {"refused"}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "bgp", "namespace": "kube-system"},
        "stringData": {"password": CANARY},
    }
    rig.declare("secret.yaml", secret)
    rig.established("10.90.0.2", "fd90::2")
    rig.until(lambda: ready(rig), "routes both ways")
    encoded = base64.b64encode(CANARY.encode()).decode()
    shown = [
        (rig.node.directory / "agent.log").read_text(),
        (rig.node.directory / "speaker.log").read_text(),
        str(rig.status()),
        rig.node.run(["sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' ' '"]).stdout,
    ]
    for text in shown:
        assert CANARY not in text
        assert encoded not in text
    mode = rig.node.run(["stat", "-c", "%a %U", "/run/l3net/exabgp.conf", "/run/l3net"]).stdout.split("\n")
    assert mode[:2] == ["600 root", "700 root"]
    # The control: with another password the session goes down and says so.
    rig.declare("secret.yaml", {**secret, "stringData": {"password": "other"}})
    rig.until(
        lambda: any(row["state"] != "established" for row in rig.peers().values()), "the mismatch to show"
    )


@pytest.mark.parametrize("far_side_too", [True, False])
def test_gtsm(rig: Rig, far_side_too: bool) -> None:
    """RFC 5082: it comes up when both sides send with TTL 255, and a peer that does not is held off."""
    ours = "\n".join(
        line + (f"\n neighbor {line.split()[1]} ttl-security hops 1" if "remote-as" in line else "")
        for line in FRR.splitlines()
    )
    rig.start_tor(ours if far_side_too else FRR)
    rig.declare(
        "node.yaml", NODE, CONFIGURATION, *(peer(f"p{n}", a, gtsm=True) for n, a in enumerate(ADDRESSES))
    )
    rig.start_speaker()
    rig.start_agent()
    if far_side_too:
        rig.established(*ADDRESSES)
        return
    rig.until(lambda: len(rig.peers()) == 2, "the peers")
    time.sleep(5)
    assert {row["state"] for row in rig.peers().values()} == {"down"}


def test_a_second_agent_refuses_and_names_the_first(rig: Rig) -> None:
    rig.declare("node.yaml", NODE, CONFIGURATION)
    rig.start_agent()
    rig.until(rig.status, "the agent")
    argv = [sys.executable, "-m", "l3net.cli.main", "agent", "--datastore", f"dir:{rig.manifests}"]
    second = rig.node.run(argv, check=False)
    assert second.code == 2
    assert str(rig.node.daemon_pid("agent")) in second.stderr
    assert "Traceback" not in second.stderr


def test_what_the_agent_needs_of_memory_is_reported(rig: Rig) -> None:
    rig.start()
    rig.until(lambda: ready(rig), "routes both ways")
    status = rig.status()
    assert 10 < status["memoryMiB"] <= status["memoryPeakMiB"] < 80


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["agent"], 2, "--datastore"),
        (["agent", "--datastore", "etcd:x"], 2, "dir:PATH"),
        (["agent", "--datastore", "dir:/nonexistent"], 2, "/nonexistent"),
        (["status", "--run-dir", "/nonexistent"], 3, "/nonexistent"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_wrong_use_is_one_clear_line(rig: Rig, arguments: list[str], code: int, word: str) -> None:
    out = rig.node.run([sys.executable, "-m", "l3net.cli.main", *arguments], check=False)
    assert out.code == code
    assert word in out.stderr
    assert "Traceback" not in out.stderr


def test_help_costs_no_heavy_import() -> None:
    code = (
        "import sys; from l3net.cli.main import cli;"
        "print([name for name in sys.modules if name in ('pyroute2', 'kubernetes', 'rich')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.netns
def test_a_full_run_directory_keeps_no_agent_from_starting(rig: Rig) -> None:
    """Without space nothing new reaches ExaBGP, which is said, and mended once there is; what a killed agent
    left half-written goes."""
    rig.node.run(["mkdir", "-p", "-m", "700", "/run/l3net"])
    rig.node.run(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=20,mode=700", "tmpfs", "/run/l3net"])
    left = [".routes-x1", ".exabgp-x2.conf", ".drain-x3"]
    rig.node.run(["sh", "-c", "cd /run/l3net && touch $0 $1 $2 && cat /dev/zero > fill", *left], check=False)
    rig.start_tor()
    rig.declare("node.yaml", NODE, CONFIGURATION, TOR4, TOR6)
    rig.start_speaker()
    rig.start_agent()
    rig.until(lambda: "exabgp.conf cannot be written (No space" in str(rig.status().get("problems")), "why")
    assert not any(rig.inside_run(name).exists() for name in left)
    rig.inside_run("fill").unlink()
    rig.established("10.90.0.2", "fd90::2")
    rig.node.kill("agent")
    rig.until(lambda: not rig.node.alive("agent"), "the agent to end")
    rig.node.run(
        ["sh", "-c", "cd /run/l3net && for n in $(seq 20); do touch $n; done; rm agent.lock; touch x"]
    )
    rig.start_agent()
    said = "run directory /run/l3net: No space left on device\n"  # which no root would help against
    rig.until(
        lambda: rig.node.read_log("agent").endswith(said), "an agent without as much as a lock to say why"
    )
