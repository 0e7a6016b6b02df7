"""RFC 8212 beside a real router: what no policy names is learned over neither family, and is named."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from node_rig import CONFIGURATION, FRR, NODE, TOR4, TOR6, Rig

pytestmark = pytest.mark.netns

OTHER = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "other"},
    "spec": {"podCIDRs": ["10.244.9.0/24", "fd00:10:244:9::/120"]},
    "status": {"addresses": [{"type": "InternalIP", "address": "10.91.0.3"}]},
}
FOREIGN = {"192.168.7.0/24", "fd77::/64"}
PODS = {"10.244.9.0/24", "fd00:10:244:9::/120"}
#: The router passes the other node's blocks on, as in a fabric.
FABRIC = FRR.replace("network 192.168.7.0/24", "network 192.168.7.0/24\n  network 10.244.9.0/24").replace(
    "network fd77::/64", "network fd77::/64\n  network fd00:10:244:9::/120"
)


def configuration(**imports: object) -> dict[str, Any]:
    spec = {"asNumber": 65001, "holdTime": 9, "nodeToNodeMesh": False, "import": imports}
    return {**CONFIGURATION, "spec": spec}


def verdicts(rig: Rig) -> dict[str, str]:
    """What the agent says of each prefix it has heard of, but for its own that FRR sends back."""
    out = rig.node.run([sys.executable, "-m", "l3net.cli.main", "bgp", "routes", "-o", "json"], check=False)
    rows = json.loads(out.stdout) if out.code == 0 else []
    return {row["prefix"]: row["verdict"] for row in rows if row["verdict"] != "asPathLoop"}


def learned(rig: Rig) -> set[str]:
    routes = [json.loads(rig.kernel(f"-{version} -j route show proto 108") or "[]") for version in (4, 6)]
    return {row["dst"] for rows in routes for row in rows if "gateway" in row}


def planned(rig: Rig, declared: dict[str, Any]) -> dict[str, str]:
    """Of each prefix that would be judged otherwise, the verdict it would get."""
    before, rig.manifests = rig.manifests, rig.directory / "planned"
    rig.manifests.mkdir(exist_ok=True)
    try:
        rig.declare("node.yaml", NODE, OTHER, declared, TOR4, TOR6)
        argv = ["bgp", "plan", str(rig.manifests), "-o", "json"]
    finally:
        rig.manifests = before
    answer = json.loads(rig.node.run([sys.executable, "-m", "l3net.cli.main", *argv]).stdout)
    return {each["prefix"]: each["after"] for row in answer["sessions"] for each in row["learned"]}


def test_nothing_is_imported_from_an_ebgp_peer_but_what_a_policy_names(rig: Rig) -> None:
    def declare(**imports: object) -> None:
        rig.declare("node.yaml", NODE, OTHER, configuration(**imports), TOR4, TOR6)

    rig.start_tor(FABRIC)
    declare()
    rig.start_speaker()
    rig.start_agent()
    rig.until(lambda: verdicts(rig).keys() == PODS | FOREIGN, "all prefixes")
    assert verdicts(rig) == {**dict.fromkeys(PODS, "accepted"), **dict.fromkeys(FOREIGN, "noImportPolicy")}
    rig.until(lambda: learned(rig) == PODS, "the other node's pods in the kernel, and nothing else")
    problems = [each for each in rig.status()["problems"] if "RFC 8212" in each]
    assert len(problems) == 2
    assert "peer tor4: 1 routes" in problems[0]
    before = rig.tor_sessions()
    # The control: what a policy names comes in; so does all, where none is required.
    assert planned(rig, configuration(ebgpRequiresPolicy=False)) == dict.fromkeys(FOREIGN, "accepted")
    declare(ebgpRequiresPolicy=False)
    rig.until(lambda: learned(rig) == PODS | FOREIGN, "everything in the kernel")
    assert rig.status()["problems"] == []
    declare(cidrs=["192.168.0.0/16"])
    rig.until(lambda: learned(rig) == PODS | {"192.168.7.0/24"}, "what the list names")
    assert verdicts(rig)["fd77::/64"] == "outsideImportCIDRs"
    declare(cidrs=["0.0.0.0/0", "::/0"], bogons={"privatePrefixes": True})
    rig.until(lambda: learned(rig) == PODS, "private prefixes to go")
    assert verdicts(rig)["192.168.7.0/24"] == "bogonPrefix"
    assert rig.tor_sessions() == before
