"""Drains beside real routers: what they hear first, what later, and what a restart changes (RFC 8326).

No test depends on how long anything takes: a drain's wait is made too long to end, looked at, and cut short.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from far_sides import Originated
from node_rig import NODE, brought_up, peer
from stage import BEHIND_PREFIX, BLOCKS, FAR_ADDRESS, Stage, configuration, far_sessions

pytestmark = pytest.mark.netns

FOREVER = 600
SERVICE = {4: "198.51.100.10/32", 6: "fd99::10/128"}
OTHER = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "other"}}
GOING = {"type": "Ready", "status": "False", "message": "node is shutting down"}
TAG = "65535:0"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with brought_up(Stage()) as made:
        yield made


def service() -> list[dict[str, Any]]:
    addresses = [prefix.partition("/")[0] for prefix in SERVICE.values()]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": "10.96.0.9",
                "clusterIPs": ["10.96.0.9", "fd00:10:96::9"],
                "ports": [{"port": 80}],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": address} for address in addresses]}},
        },
        *(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": f"web-{version}",
                    "namespace": "default",
                    "labels": {"kubernetes.io/service-name": "web"},
                },
                "addressType": f"IPv{version}",
                "endpoints": [{"addresses": [address], "nodeName": "other"}],
                "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            }
            for version, address in ((4, "10.244.9.9"), (6, "fd00:10:244:9::9"))
        ),
    ]


def declare(stage: Stage, *, wait: int = FOREVER, restart: bool = True, **node: Any) -> None:
    """The manifests with this node as it is now: `unschedulable`, `conditions`."""
    conditions = node.pop("conditions", [])
    me = {
        **NODE,
        "spec": {**NODE["spec"], **node},  # type: ignore[dict-item]
        "status": {**NODE["status"], "conditions": conditions},  # type: ignore[dict-item]
    }
    advertise = {
        "clusterIPs": {"enabled": False},
        "loadBalancerIPs": {"enabled": True, "cidrs": ["198.51.100.0/24", "fd99::/64"]},
    }
    spec = {
        "nodeToNodeMesh": False,
        "advertise": advertise,
        "drain": {"wait": wait},
        "gracefulRestart": {"enabled": restart},
    }
    peers = [peer(f"far{version}", FAR_ADDRESS[version]) for version in (4, 6)]
    stage.declare("node.yaml", me, OTHER, configuration(**spec), *peers, *service())


def together(stage: Stage, kind: str, **declared: Any) -> None:
    stage.far_side(kind).start(far_sessions(), [Originated(BEHIND_PREFIX[4])])
    declare(stage, **declared)
    stage.start_speaker()
    stage.start_agent()
    stage.established(*FAR_ADDRESS.values())
    stage.until(lambda: plain(stage, SERVICE) and plain(stage, BLOCKS), "everything, untagged")


def carried(stage: Stage, prefixes: dict[int, str]) -> list[tuple[bool, int] | None]:
    """(tagged, length of the AS_PATH) of each as the far side has it; None: it has none."""
    assert stage.far is not None
    found = [stage.far.seen(prefix) for prefix in prefixes.values()]
    return [
        None if each is None else (TAG in communities(each.communities), len(each.as_path)) for each in found
    ]


def communities(found: frozenset[str]) -> set[str]:
    """FRR has a name for it."""
    return {TAG if each == "graceful-shutdown" else each for each in found}


def plain(stage: Stage, prefixes: dict[int, str]) -> bool:
    return carried(stage, prefixes) == [(False, 1)] * 2


def tagged(stage: Stage, prefixes: dict[int, str]) -> bool:
    return carried(stage, prefixes) == [(True, 4)] * 2


def gone(stage: Stage, prefixes: dict[int, str]) -> bool:
    return carried(stage, prefixes) == [None, None]


def drain(stage: Stage) -> str:
    return str(stage.status().get("drain", {}).get("stage"))


def up_since(stage: Stage) -> dict[str, float]:
    """How often each session has gone down."""
    return {address: row["flaps"] for address, row in stage.peers().items() if row["state"] == "established"}


def deleted(stage: Stage, name: str, prefixes: dict[int, str]) -> list[str]:
    """What the far side's kernel lost since its monitor began."""
    bare = [prefix.removesuffix("/32").removesuffix("/128") for prefix in prefixes.values()]
    lines = (stage.tor.directory / f"{name}.log").read_text().splitlines()
    return [line for line in lines if "Deleted" in line and any(f"{each} " in line for each in bare)]


def node_command(stage: Stage, *words: str) -> int:
    argv = [sys.executable, "-m", "l3net.cli.main", "node", *words]
    return stage.node.run(argv, timeout=120, check=False).code


@pytest.mark.parametrize("kind", ["frr", "bird", "gobgp"])
def test_a_cordoned_node_tags_then_withdraws_services_and_keeps_its_blocks(stage: Stage, kind: str) -> None:
    together(stage, kind)
    if kind != "gobgp":  # which keeps no kernel routes
        stage.tor.spawn("watch", ["ip", "monitor", "route"])
    declare(stage, unschedulable=True)
    stage.until(lambda: tagged(stage, SERVICE) and tagged(stage, BLOCKS), "everything, tagged")
    assert drain(stage) == "tagged"
    if kind == "frr":
        assert local_preference(stage, SERVICE[4]) == 0, "FRR honours the community"

    declare(stage, unschedulable=True, wait=0)
    stage.until(lambda: gone(stage, SERVICE), "the service addresses to go")
    assert tagged(stage, BLOCKS), "the pods that stay are reachable"
    assert drain(stage) == "servicesWithdrawn"
    verdicts = {row["reason"] for row in stage.status()["services"] if row["kind"] == "loadBalancerIP"}
    assert verdicts == {"nodeDraining"}

    # An agent that is stopped and started meanwhile goes on where the last one was.
    declare(stage, unschedulable=True)
    stage.tor.spawn("restart", ["ip", "monitor", "route"])
    stage.node.kill("agent")
    stage.until(lambda: not stage.node.alive("agent"), "the agent to end")
    stage.start_agent()
    stage.established(*FAR_ADDRESS.values())
    assert drain(stage) == "servicesWithdrawn"
    assert gone(stage, SERVICE) and tagged(stage, BLOCKS)
    assert set(up_since(stage).values()) == {0}
    if kind != "gobgp":
        assert not deleted(stage, "restart", {**SERVICE, **BLOCKS})

    declare(stage)
    stage.until(lambda: plain(stage, SERVICE) and plain(stage, BLOCKS), "everything as it was")
    assert drain(stage) == "none"
    if kind != "gobgp":
        # zebra replaces an IPv6 route by deleting it first
        steady = BLOCKS if kind == "bird" else {4: BLOCKS[4]}
        assert not deleted(stage, "watch", steady), "not a moment without"
        assert deleted(stage, "watch", SERVICE), "the control: what goes is seen"


def local_preference(stage: Stage, prefix: str) -> int | None:
    assert stage.far is not None
    found = stage.far.seen(prefix)
    return found.local_preference if found else None


def test_an_agent_that_only_restarts_changes_nothing(stage: Stage) -> None:
    """SIGTERM, on a node that is not about to go."""
    together(stage, "frr")
    stage.tor.spawn("watch", ["ip", "monitor", "route"])
    stage.node.kill("agent")
    stage.until(lambda: not stage.node.alive("agent"), "the agent to end")
    assert plain(stage, SERVICE) and plain(stage, BLOCKS)
    stage.start_agent()
    stage.established(*FAR_ADDRESS.values())
    assert plain(stage, SERVICE) and plain(stage, BLOCKS)
    assert set(up_since(stage).values()) == {0}
    assert not deleted(stage, "watch", SERVICE) and not deleted(stage, "watch", BLOCKS)


@pytest.mark.parametrize("restart", [True, False], ids=["graceful", "plain"])
def test_a_node_leaves_and_returns(stage: Stage, restart: bool) -> None:
    together(stage, "frr", restart=restart)
    assert node_command(stage, "drain", "--no-wait") == 0
    stage.until(lambda: tagged(stage, SERVICE) and tagged(stage, BLOCKS), "everything, tagged")
    assert node_command(stage, "drain", "--timeout", "0") == 1, "it has not left yet, and says so"

    declare(stage, wait=0, restart=restart)
    assert node_command(stage, "drain") == 0
    assert drain(stage) == "left"
    assert gone(stage, SERVICE) and gone(stage, BLOCKS), "nor is anything kept for a graceful restart"
    assert {row["state"] for row in stage.peers().values()} == {"down"}
    stage.until(lambda: not stage.tor_sessions(), "no session at the far side either")
    rows = json.loads(stage.vtysh("show bgp neighbors json")).values()
    notified = {bool(row["messageStats"]["notificationsRecv"]) for row in rows if "messageStats" in row}
    assert notified == {True}, "Cease, Administrative Shutdown, with graceful restart too"

    # It holds for the next agent, too.
    stage.node.kill("agent")
    stage.until(lambda: not stage.node.alive("agent"), "the agent to end")
    stage.start_agent()
    stage.until(lambda: drain(stage) == "left", "the next agent to know")
    assert not stage.tor_sessions()

    declare(stage, restart=restart)
    assert node_command(stage, "undrain") == 0
    stage.until(lambda: plain(stage, SERVICE) and plain(stage, BLOCKS), "everything as it was")


def test_a_host_that_shuts_down(stage: Stage) -> None:
    """Kubelet says so in the Node, and later stops agent and speaker at once."""
    together(stage, "frr")
    declare(stage, conditions=[GOING])
    stage.until(lambda: tagged(stage, SERVICE) and tagged(stage, BLOCKS), "everything, tagged")
    declare(stage, conditions=[GOING], wait=0)
    stage.until(lambda: gone(stage, SERVICE), "the service addresses to go")
    assert tagged(stage, BLOCKS), "its pods are still ending"
    for name in ("speaker", "agent"):
        stage.node.kill(name, signal.SIGTERM)
    stage.until(lambda: not stage.node.alive("agent") and not stage.node.alive("speaker"), "both to end")
    stage.until(lambda: gone(stage, BLOCKS), "the blocks to go")
    assert "it goes on until" not in stage.node.log_tail("agent")


def test_the_control_of_it_keeps_its_routes(stage: Stage) -> None:
    """A speaker that is stopped for an update: graceful restart holds the routes, for it comes back."""
    together(stage, "frr")
    for name in ("speaker", "agent"):
        stage.node.kill(name, signal.SIGTERM)
    stage.until(lambda: not stage.node.alive("agent") and not stage.node.alive("speaker"), "both to end")
    stage.until(lambda: not stage.tor_sessions(), "the sessions to end")
    assert plain(stage, SERVICE) and plain(stage, BLOCKS)
