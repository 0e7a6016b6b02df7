"""A peer that cannot be held costs no other its session, and says why; nor does a full run directory."""

from __future__ import annotations

import json

import pytest
from node_rig import CONFIGURATION, NODE, TOR4, TOR6, Rig, peer

pytestmark = pytest.mark.netns
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "bgp", "namespace": "kube-system"},
    "stringData": {"password": "x" * 81},
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "clusterIP": "10.96.0.10",
        "clusterIPs": ["10.96.0.10", "fd00:10:96::a"],
        "ports": [{"port": 80}],
    },
}
LONG = peer("long", "10.90.0.7", password={"secretKeyRef": {"name": "bgp", "key": "password"}})
NOWHERE = [
    peer("nowhere4", "10.90.0.8", passive=True, localAddress="10.90.0.200"),
    peer("nowhere6", "fd90::8", passive=True, localAddress="fd90::200"),
]


def test_bad_peers_are_left_out_from_the_first_start_on(rig: Rig) -> None:
    rig.start_tor()
    rig.declare("node.yaml", NODE, CONFIGURATION, SECRET, LONG, *NOWHERE, TOR4, TOR6, SERVICE)
    rig.start_speaker()
    rig.start_agent()
    rig.established("10.90.0.2", "fd90::2")
    problems = "\n".join(rig.status()["problems"])
    for words in ("long: longPassword", "nowhere4: noLocalAddress", "nowhere6: noLocalAddress"):
        assert words in problems
    assert rig.node.run(["l3net", "speaker", "--probe=ready"]).stdout == "ready\n"
    # Who asks why a service is not reached behind one of them is told too.
    told = rig.node.run(["l3net", "explain", "default/web", "-o", "json"], check=False).stdout
    refused = [step["detail"] for step in json.loads(told)["steps"] if step["cause"] == "refusedPeer"]
    assert len(refused) == 3 and "long: longPassword" in " ".join(refused)


def test_a_full_run_directory_ends_nothing_and_is_told(rig: Rig) -> None:
    rig.start_tor()
    rig.node.run(["mkdir", "-p", "/run/l3net"])
    rig.node.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", "/run/l3net"])
    rig.declare("node.yaml", NODE, CONFIGURATION, TOR4)
    rig.start_speaker()
    rig.start_agent()
    rig.established("10.90.0.2")
    rig.node.run(["sh", "-c", "dd if=/dev/zero of=/run/l3net/full bs=1k 2>/dev/null; :"])
    rig.declare("node.yaml", NODE, CONFIGURATION, TOR4, TOR6)
    rig.until(lambda: "cannot be written" in " ".join(rig.status()["problems"]), "the problem in the status")
    assert rig.peers()["10.90.0.2"]["state"] == "established"
    rig.node.run(["rm", "/run/l3net/full"])
    rig.established("10.90.0.2", "fd90::2")
