"""An announced aggregate ends in a blackhole: nothing loops, services and pods are reached, nobody else's
route is taken."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from node_rig import CONFIGURATION, FRR, NODE, TOR4, TOR6, brought_up
from stage import Stage
from test_agent_services import ECHO, FLOW, TOR, VIP, ends, service

from l3net.naming import METRIC_AGGREGATE, METRIC_SERVICES

pytestmark = pytest.mark.netns

NETWORKS = {4: "10.96.0.0/16", 6: "fd00:10:96::/112"}
PODS = {4: "10.244.0.0/16", 6: "fd00:10:244::/48"}
UNUSED = {4: "10.96.9.9", 6: "fd00:10:96::909"}
NO_POD = {4: "10.244.77.7", 6: "fd00:10:244:77::7"}
OTHER = {4: "10.244.9.0/24", 6: "fd00:10:244:9::/120"}
EXTERNAL = {4: "192.0.2.10", 6: "2001:db8:2::10"}
EXTERNALS = {4: "192.0.2.0/24", 6: "2001:db8:2::/64"}
ROUTER = FRR.replace("network 192.168.7.0/24", f"network {OTHER[4]}\n  network {PODS[4]}").replace(
    "network fd77::/64", f"network {OTHER[6]}\n  network {PODS[6]}"
)
NODE2 = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "other"},
    "spec": {"podCIDRs": list(OTHER.values())},
    "status": {"addresses": [{"type": "InternalIP", "address": "10.91.0.3"}]},
}
COUNT = """
table inet probe {
  counter seen4 { }
  counter seen6 { }
  chain seen { type filter hook prerouting priority -400;
    iifname "up0" ip daddr { 10.96.9.9, 10.244.77.7 } counter name seen4
    iifname "up0" ip6 daddr { fd00:10:96::909, fd00:10:244:77::7 } counter name seen6
  }
}
"""


def configuration(networks: list[str], **spec: object) -> dict[str, Any]:
    ranges = {"serviceCIDRs": list(NETWORKS.values()), "advertise": {"networks": networks}}
    return {**CONFIGURATION, "spec": {**CONFIGURATION["spec"], "nodeToNodeMesh": False, **ranges, **spec}}  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def served() -> Iterator[Stage]:
    """A node with a default route to the router, which has routes to all that will be announced."""
    with brought_up(Stage()) as rig:
        default(rig, "add")
        rig.node.run(["nft", "-f", "-"], text=COUNT)
        for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            rig.node.run(["sh", "-c", f"echo 1 >/proc/sys/net/{name}"])
        for version, gateway in {4: "10.90.0.1", 6: "fd90::1"}.items():
            for prefix in (NETWORKS[version], PODS[version]):
                rig.tor.run(["ip", f"-{version}", "route", "add", prefix, "via", gateway])
        rig.tor.spawn("echo", [sys.executable, "-c", ECHO, *TOR.values()])
        rig.start_tor(ROUTER)
        # The control: without a blackhole a packet goes round until its hop limit is used up.
        looped = [crossings(rig, address) for address in (*UNUSED.values(), *NO_POD.values())]
        assert min(looped) > 20, looped
        default(rig, "del")  # by which ExaBGP would ask a name server that is not there, at its start
        rig.declare("node.yaml", NODE, configuration([]), TOR4, TOR6)
        rig.start_speaker()
        rig.start_agent()
        rig.established("10.90.0.2", "fd90::2")
        default(rig, "add")
        yield rig


def default(rig: Stage, verb: str) -> None:
    for version, address in TOR.items():
        rig.kernel(f"-{version} route {verb} default via {address}")


def seen(rig: Stage, version: int) -> int:
    """Packets for unused addresses that came in to the node by its link."""
    out = rig.node.run(["nft", "-j", "list", "counter", "inet", "probe", f"seen{version}"]).stdout
    (counter,) = [each["counter"] for each in json.loads(out)["nftables"] if "counter" in each]
    return int(counter["packets"])


def crossings(rig: Stage, address: str) -> int:
    """How often one packet for an address crosses the link towards the node."""
    version = 6 if ":" in address else 4
    before = seen(rig, version)
    rig.tor.run(["ping", f"-{version}", "-c", "1", "-W", "1", address], pod="behind", check=False)
    return seen(rig, version) - before


def ours(rig: Stage, prefix: str, metric: int) -> str:
    """The route of ours in the node's kernel, empty if there is none."""
    version = "-6" if ":" in prefix else "-4"
    rows = rig.kernel(f"{version} route show proto 108 metric {metric}").splitlines()
    return next((row for row in rows if prefix.removesuffix("/32").removesuffix("/128") in row.split()), "")


def test_a_packet_for_an_unused_address_does_not_come_back(served: Stage) -> None:
    rig = served
    networks = [*NETWORKS.values(), *PODS.values()]
    rig.declare("node.yaml", NODE, NODE2, configuration(networks), TOR4, TOR6)
    for prefix in networks:
        rig.until(
            lambda p=prefix: "blackhole" in ours(rig, p, METRIC_AGGREGATE), f"the blackhole of {prefix}"
        )
    rig.until(lambda: set(NETWORKS.values()) <= rig.tor_routes(), "the router to hear of them")
    assert [crossings(rig, address) for address in (*UNUSED.values(), *NO_POD.values())] == [1, 1, 1, 1]
    # What another one announces of the same does not take its place; another node's pods are reached.
    out = rig.node.run([sys.executable, "-m", "l3net.cli.main", "bgp", "routes", "-o", "json"]).stdout
    verdicts = {row["prefix"]: row["verdict"] for row in json.loads(out)}
    assert {verdicts[each] for each in PODS.values()} == {"ownNetwork"}
    for version, prefix in OTHER.items():
        shown = f"-{version} route show {prefix}"
        rig.until(lambda shown=shown: "via" in rig.kernel(shown), "the other's pods")
    assert rig.status()["problems"] == []
    # The networks go, and the blackholes with them; those of blocks stay.
    rig.declare("node.yaml", NODE, NODE2, configuration([]), TOR4, TOR6)
    for prefix in networks:
        rig.until(lambda p=prefix: not ours(rig, p, METRIC_AGGREGATE), f"the blackhole of {prefix} to go")
    assert "blackhole 10.244.1.0/24" in rig.kernel("route show proto 108")


@pytest.mark.parametrize("version", [4, 6])
def test_the_hosts_own_processes_reach_services_with_the_same_address(served: Stage, version: int) -> None:
    """What they send is routed before it is translated. Also to an address outside the service ranges."""
    rig, gateway = served, {4: "10.90.0.1", 6: "fd90::1"}[version]
    outside = {**service("outside", clusterIPs=[EXTERNAL[version]], clusterIP=EXTERNAL[version])}
    slices = {**ends("outside", 5353, version)}
    rig.declare("services.yaml", *SERVICES, outside, slices)
    networks = [NETWORKS[version], EXTERNALS[version]]
    rig.declare("node.yaml", NODE, configuration(networks), TOR4, TOR6)
    for prefix in networks:
        rig.until(lambda p=prefix: ours(rig, p, METRIC_AGGREGATE), f"the blackhole of {prefix}")
    host = f"{EXTERNAL[version]}/{32 if version == 4 else 128}"
    for prefix in (NETWORKS[version], host):
        rig.until(lambda p=prefix: ours(rig, p, METRIC_SERVICES), f"a route to {prefix}")
        assert f"src {gateway}" in ours(rig, prefix, METRIC_SERVICES)
    for address in (VIP[version], EXTERNAL[version]):
        rig.node.spawn("flow", [sys.executable, "-c", FLOW, address])
        log = rig.node.directory / "flow.log"
        rig.until(lambda log=log: "5353" in log.read_text(), f"an answer of {address}", 15)
        rig.node.run(["kill", str(rig.node.daemon_pid("flow"))])
        log.unlink()
    ask = "import socket, sys; socket.create_connection((sys.argv[1], 80), 2)"
    assert (
        "No route to host" in rig.node.run([sys.executable, "-c", ask, UNUSED[version]], check=False).stderr
    )
    for _ in range(2):  # a change of services alone has to do
        rig.declare("services.yaml", *SERVICES)
        rig.until(lambda: not ours(rig, host, METRIC_SERVICES), "the route to go with its service", 8)
        rig.declare("services.yaml", *SERVICES, outside, slices)
        rig.until(lambda: ours(rig, host, METRIC_SERVICES), "the route to come with its service", 8)


def test_other_nodes_pods_that_are_cut_off_are_named(served: Stage) -> None:
    """Inside an announced network, and nothing more specific leads there: the router says nothing of them."""
    rig = served
    lost = {**NODE2, "spec": {"podCIDRs": ["10.244.55.0/24", OTHER[6]]}}
    rig.declare("node.yaml", NODE, lost, configuration(list(PODS.values())), TOR4, TOR6)

    def named() -> bool:
        return "10.244.55.0/24 of node other" in str(rig.status().get("problems"))

    rig.until(named, "the problem")
    (problem,) = rig.status()["problems"]
    assert problem.startswith("advertise.networks: 1 blocks of other nodes")
    rig.kernel("route add 10.244.55.0/24 via 10.90.0.2")
    rig.until(lambda: not rig.status()["problems"], "a route of the host's to be seen")
    rig.kernel("route del 10.244.55.0/24 via 10.90.0.2")
    rig.until(named, "the problem again")


@pytest.mark.parametrize(("version", "gateway"), [(4, "10.90.0.2"), (6, "fd90::2")])
def test_somebody_elses_route_stays(served: Stage, version: int, gateway: str) -> None:
    rig, prefix = served, PODS[version]
    rig.declare("node.yaml", NODE, configuration([]), TOR4, TOR6)
    rig.until(lambda: not ours(rig, prefix, METRIC_AGGREGATE), "ours to go")
    theirs = f"{prefix} via {gateway} dev up0 proto static metric {METRIC_AGGREGATE}"
    rig.kernel(f"-{version} route add {theirs}")
    rig.declare("node.yaml", NODE, configuration([prefix]), TOR4, TOR6)
    said = f"route {prefix} metric {METRIC_AGGREGATE} is somebody else's (protocol static)"
    rig.until(lambda: said in str(rig.status()["problems"]), "the conflict to be named")
    rig.declare("node.yaml", NODE, configuration([]), TOR4, TOR6)
    rig.until(lambda: not rig.status()["problems"], "the problem to go with the network")
    assert "proto static" in rig.kernel(f"-{version} route show {prefix}")
    rig.kernel(f"-{version} route del {theirs}")
    # Nor is one taken back that took the place of ours.
    rig.declare("node.yaml", NODE, configuration([prefix]), TOR4, TOR6)
    rig.until(lambda: ours(rig, prefix, METRIC_AGGREGATE), "ours")
    rig.kernel(f"-{version} route replace {theirs}")
    rig.until(lambda: said in str(rig.status()["problems"]), "the conflict to be named at once", 8)
    rig.kernel(f"-{version} route del {theirs}")
    rig.until(lambda: "blackhole" in ours(rig, prefix, METRIC_AGGREGATE), "ours again", 40)


SERVICES = (service("echo"), ends("echo", 5353, 4), ends("echo", 5353, 6))
