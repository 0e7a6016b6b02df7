"""`l3net uninstall`: nothing of l3net is left on a host, and nothing of others goes."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from node_rig import Rig

from l3net.lab.machine import Output

pytestmark = pytest.mark.netns
#: Kernel settings that a node's work needs; bridge-nf-call-* are there where br_netfilter is.
SETTINGS = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.all.send_redirects")
RULE = "fwmark 0x10000/0xffff0000 table 88 priority 10801 protocol 108"


def l3net(rig: Rig, *words: str) -> Output:
    return rig.node.run([sys.executable, "-m", "l3net.cli.main", *words], check=False)


def held(rig: Rig) -> dict[str, Any]:
    """The host's own: links, routes but for those that the kernel makes of addresses, rules, tables."""
    tables = json.loads(rig.node.run(["nft", "-j", "list", "tables"]).stdout)["nftables"]
    links = json.loads(rig.kernel("-j link show"))

    def routes(family: str) -> list[str]:
        told = rig.kernel(f"{family} route show table all").splitlines()
        return sorted(line for line in told if "proto kernel" not in line)

    return {
        "settings": rig.node.run(["sysctl", *SETTINGS]).stdout,
        "links": sorted(row["ifname"] for row in links),
        "rules": [rig.kernel(f"{family} rule show") for family in ("-4", "-6")],
        "routes": [routes(family) for family in ("-4", "-6")],
        "tables": [each for each in tables if "metainfo" not in each],
    }


def test_the_host_is_as_before(rig: Rig) -> None:
    rig.kernel("route add 198.51.100.0/24 via 10.90.0.9")
    rig.kernel("rule add from 198.51.100.0/24 table 77 priority 700")
    rig.node.run(["nft", "add table inet mine; add chain inet mine c; add table inet l3nets"])
    rig.node.run(
        ["sysctl", "-q", "-w", *(f"{each}={value}" for each, value in zip(SETTINGS, "001", strict=True))]
    )
    before = {key: value for key, value in held(rig).items() if key != "tables"}
    rig.start()
    rig.until(lambda: "proto 108" in rig.kernel("-N route show"), "a route to be learned")
    for family in ("-4", "-6"):  # as an EgressIP has
        rig.kernel(f"{family} rule add {RULE}")

    refused = l3net(rig, "uninstall")
    assert refused.code == 1
    assert "agent and speaker of this host still run: stop them first" in refused.stderr
    for process in ("agent", "speaker"):
        rig.node.kill(process)
    rig.until(lambda: not any(map(rig.node.alive, ("agent", "speaker"))), "both to end")

    # A pod's end of a pair keeps the network where it is.
    rig.kernel("link add l3v0123456789a type veth peer name pod0")
    rig.kernel("link set l3v0123456789a alias shop/web-1")
    refused = l3net(rig, "uninstall")
    assert refused.code == 1
    assert "pods are attached: l3v0123456789a (shop/web-1). Delete them, or say --force" in refused.stderr
    foreseen = l3net(rig, "uninstall", "--dry-run")
    assert foreseen.code == 0
    assert "would remove interface l3net0" in foreseen.stdout
    assert "would remove 1 rules (IPv6)" in foreseen.stdout
    assert "would set net/ipv4/ip_forward to 0, as it was" in foreseen.stdout
    assert "proto 108" in rig.kernel("-N route show")

    done = l3net(rig, "uninstall", "--force")
    assert done.code == 0, done.stderr
    left = held(rig)
    assert {row["table"]["name"] for row in left.pop("tables")} == {"mine", "l3nets"}
    assert left == before
    for place in ("run", "var/lib"):  # the rig mounts them, so that the directories stay
        directory = rig.inside_run("x").parents[2] / place / "l3net"
        assert not directory.exists() or not list(directory.iterdir())
    again = l3net(rig, "uninstall")
    assert again.code == 0
    assert not any(line for line in again.stdout.splitlines() if "/l3net" not in line), "nothing is left"
