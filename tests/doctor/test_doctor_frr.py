"""The doctor at a node whose FRR peer is broken in one way after another, both families at once."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from node_rig import CONFIGURATION, NODE, TOR4, TOR6, Rig, brought_up, peer

pytestmark = pytest.mark.netns

NEIGHBOURS = ("10.90.0.1", "fd90::1")
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "bgp", "namespace": "kube-system"},
    "data": {"password": base64.b64encode(b"the node's").decode()},
}
PASSWORD = {"password": {"secretKeyRef": {"name": "bgp", "key": "password"}}}


def tor_peers(**spec: object) -> tuple[dict[str, Any], ...]:
    return peer("tor4", "10.90.0.2", **spec), peer("tor6", "fd90::2", **spec)


def on_router(rig: Rig, *lines: str) -> None:
    """Configuration of every neighbour, with {} for its address."""
    each = [line.format(neighbour) for neighbour in NEIGHBOURS for line in lines]
    rig.vtysh("configure terminal", "router bgp 65002", *each)


def drop_bgp(rig: Rig) -> None:
    rules = "add table inet wall; add chain inet wall in { type filter hook input priority 0; };"
    rig.tor.run(["nft", f"{rules} add rule inet wall in tcp dport 179 drop"])
    rig.tor.run(["nft", "add rule inet wall in tcp sport 179 drop"])


def refuse_connections(rig: Rig) -> None:
    rules = "add table inet wall; add chain inet wall in { type filter hook input priority 0; };"
    rig.tor.run(
        [
            "nft",
            f"{rules} add rule inet wall in tcp dport 179 tcp flags & (syn|ack) == syn reject with tcp reset",
        ]
    )


def stop_bgp(rig: Rig) -> None:
    rig.tor.run(["pkill", "-x", "bgpd"])  # in the host's own PID namespace


#: name -> (peers and secret declared, what happens to the router, what the doctor says)
CASES: dict[str, tuple[tuple[dict[str, Any], ...], Callable[[Rig], object], str]] = {
    "passwords differ": (
        (*tor_peers(**PASSWORD), SECRET),
        lambda rig: on_router(rig, "neighbor {} password another"),
        "passwords differ: it signs",
    ),
    "no password there": ((*tor_peers(**PASSWORD), SECRET), lambda rig: None, "does not sign its packets"),
    "no password here": (
        tor_peers(),
        lambda rig: on_router(rig, "neighbor {} password theirs"),
        "we have no password for it",
    ),
    "wrong AS number": (tor_peers(asNumber=65009), lambda rig: None, "it is AS 65002"),
    "no such neighbour": (tor_peers(), lambda rig: on_router(rig, "no neighbor {}"), "no neighbour "),
    "gtsm there": (
        tor_peers(),
        lambda rig: on_router(rig, "neighbor {} ttl-security hops 1"),
        "the peer demands GTSM",
    ),
    "gtsm here": (tor_peers(gtsm=True), lambda rig: None, "TTL below 255"),
    "wrong AS number there": (
        tor_peers(),
        lambda rig: on_router(rig, "neighbor {} remote-as 65009"),
        "Bad Peer AS (2/2)",
    ),
    "firewall": (tor_peers(), drop_bgp, "a firewall is between"),
    "nothing listens": (tor_peers(), stop_bgp, "refuses TCP connections"),
    # It dials from a port of its own, and takes no connection: nothing of that is a fault.
    "passive, no password there": (
        (*tor_peers(**PASSWORD, passive=True), SECRET),
        refuse_connections,
        "does not sign its packets",
    ),
    "passive, it does not dial": (tor_peers(passive=True), stop_bgp, "where the node waits for it"),
    "its address gone": (
        tor_peers(),
        lambda rig: rig.tor.run(["ip", "address", "flush", "dev", "down0"]),
        "cannot be reached",
    ),
}


def ask(rig: Rig) -> tuple[int, list[dict[str, str]]]:
    argv = [sys.executable, "-m", "l3net.cli.main", "doctor", "-o", "json", "--watch", "4", "--listen"]
    done = rig.node.run(argv, check=False)
    return done.code, json.loads(done.stdout)


def _every_other(cases: Iterable[str]) -> list[object]:
    """The others go to `make soak`: the doctor looks for seconds."""
    return [pytest.param(each, marks=pytest.mark.soak if at % 2 else ()) for at, each in enumerate(cases)]


@pytest.fixture(scope="module")
def running() -> Iterator[Rig]:
    """Speaker and agent, with no peer yet: one node serves all cases of a worker."""
    with brought_up(Rig()) as made:
        made.declare("node.yaml", NODE, CONFIGURATION)
        made.start_speaker()
        made.start_agent()
        made.until(made.status, "the agent")
        yield made


@pytest.fixture
def served(running: Rig) -> Iterator[Rig]:
    """A router as it should be, and a node with no peer."""
    running.start_tor()
    yield running
    running.declare("node.yaml", NODE, CONFIGURATION)
    running.until(lambda: running.peers() == {}, "the peers to go")
    for name in ("bgpd", "zebra"):  # in the host's own PID namespace
        running.tor.run(["pkill", "-KILL", "-x", name], check=False)
    running.tor.run(["nft", "flush", "ruleset"])
    for address in ("10.90.0.2/24", "fd90::2/64"):
        running.tor.run(["ip", "address", "replace", address, "dev", "down0", "nodad"])


@pytest.mark.parametrize("case", _every_other(CASES))
def test_it_names_the_cause(served: Rig, case: str) -> None:
    rig = served
    declared, breaks, says = CASES[case]
    breaks(rig)
    rig.node.run(["ip", "neighbour", "flush", "dev", "up0"])  # as if the router had never dialled
    rig.declare("node.yaml", NODE, CONFIGURATION, *declared)
    rig.until(lambda: len(rig.peers()) == 2, "the agent to know its peers")
    seen: list[dict[str, str]] = []

    def named() -> bool:
        code, findings = ask(rig)
        seen[:] = [each for each in findings if each["check"] == "peer"]
        assert all("the node's" not in str(each) for each in findings), "a password is told"
        return code == 1 and len(seen) == 2 and all(says in each["what"] for each in seen)

    try:
        rig.until(named, f"the doctor to say {says!r} of both", seconds=90)
    except AssertionError as err:
        raise AssertionError(f"{err}\nlast seen: {seen}") from err


def test_a_healthy_node_has_no_problem_and_without_an_agent_it_says_so(rig: Rig) -> None:
    rig.start()
    rig.declare("node.yaml", NODE, CONFIGURATION, TOR4, TOR6)
    rig.until(lambda: ask(rig)[0] == 0, "a clean bill of health")
    argv = [sys.executable, "-m", "l3net.cli.main", "doctor", "--run-dir", "/run/nowhere"]
    done = rig.node.run(argv, check=False)
    assert done.code == 3
    assert "no agent answers" in done.stdout


FILTER = {
    "apiVersion": "l3net.io/v1alpha1",
    "kind": "BGPFilter",
    "metadata": {"name": "no-pods"},
    "spec": {"export": [{"action": "Reject"}]},
}
DROPPING = "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }"


def found(rig: Rig, *options: str) -> dict[str, str]:
    argv = [sys.executable, "-m", "l3net.cli.main", "doctor", "-o", "json", "--watch", "0", *options]
    rows = json.loads(rig.node.run(argv, check=False).stdout)
    return {f"{row['check']} {row['subject']}": f"{row['severity']} {row['what']}" for row in rows}


def test_it_looks_at_what_it_certifies(rig: Rig) -> None:
    """Others' firewalls, an interface that forwards nothing, a filter: each is found, and well again when
    undone."""
    rig.start()
    rig.until(lambda: found(rig).get("pods probe", "").startswith("ok"), "two pods that reach one another")
    assert "IPv4 and IPv6" in found(rig)["pods probe"]

    rig.node.run(["nft", DROPPING])
    assert "drop" in found(rig)["pods IPv4"] and "ip filter FORWARD" in found(rig)["pods IPv4"]
    assert "pods IPv6" not in found(rig), "which is another table's"
    assert not [each for each in found(rig, "--no-probe") if each.startswith("pods")]
    rig.node.run(["nft", "delete", "table", "ip", "filter"])
    assert found(rig)["pods probe"].startswith("ok")

    rig.node.run(["sysctl", "-w", "net.ipv4.conf.up0.forwarding=0"])
    assert found(rig)["kernel up0"].startswith("problem")
    rig.node.run(["sysctl", "-w", "net.ipv4.conf.up0.forwarding=1"])
    assert "kernel up0" not in found(rig)

    filtered = peer("tor4", "10.90.0.2", filters=["no-pods"])
    rig.declare("node.yaml", NODE, CONFIGURATION, FILTER, filtered, TOR6)
    rig.until(lambda: "filteredBy:no-pods" in found(rig)["peer tor4 (10.90.0.2)"], "the filter to be named")
    # Nothing is left of the pods that were made.
    out = rig.node.run(
        [sys.executable, "-m", "l3net.cli.main", "ipam", "show", "-o", "json"], check=False
    ).stdout
    assert "l3net-doctor" not in out
    rig.until(lambda: "l3v" not in rig.kernel("link show"), "their links to go")


def test_a_link_just_cut_is_a_problem_while_its_sessions_last(rig: Rig) -> None:
    rig.start()
    rig.tor.run(["ip", "link", "set", "down0", "down"])
    rows = found(rig, "--no-probe")
    for name in ("peer tor4 (10.90.0.2)", "peer tor6 (fd90::2)"):
        assert rows.get(name, "").startswith("problem its link up0 has no carrier"), rows


def test_what_the_routers_operator_says_is_passed_on(rig: Rig) -> None:
    """RFC 9003; while the session is down, whatever later attempts end with."""
    rig.start()
    on_router(rig, "neighbor {} shutdown message moved [to] rack 7")
    names = ("peer tor4 (10.90.0.2)", "peer tor6 (fd90::2)")
    rig.until(lambda: all("down" in found(rig, "--no-probe")[name] for name in names), "the end of both")
    for _ in range(2):
        rows = found(rig, "--no-probe")
        assert all("moved [to] rack 7" in rows[name] for name in names), rows
        assert "moved [to] rack 7" in rig.node.run([sys.executable, "-m", "l3net.cli.main", "status"]).stdout
    on_router(rig, "no neighbor {} shutdown")
    rig.established("10.90.0.2", "fd90::2")
    assert not any("rack 7" in row["reason"] for row in rig.peers().values())


def test_services_without_a_route_are_found(rig: Rig) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "dns"},
        "spec": {"clusterIPs": ["10.96.0.10"], "ports": [{"port": 53}]},
    }
    rig.declare("node.yaml", NODE, CONFIGURATION, service)
    rig.start_agent()
    rig.until(
        lambda: "10.96.0.10" in found(rig, "--no-probe").get("routes services", ""), "no route to be named"
    )
    ranged = {**CONFIGURATION, "spec": {**CONFIGURATION["spec"], "serviceCIDRs": ["10.96.0.0/16"]}}  # type: ignore[dict-item]
    rig.declare("node.yaml", NODE, ranged, service)
    rig.until(lambda: "routes services" not in found(rig, "--no-probe"), "the route")
