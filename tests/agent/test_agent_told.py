"""What `l3net bgp` tells of a real session, beside what its router tells."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from node_rig import CONFIGURATION, FRR, NODE, TOR4, TOR6, Rig

pytestmark = pytest.mark.netns

#: Two prefixes that hold one another, tagged, and one of another AS that is refused.
TOLD = FRR.replace(
    "network 192.168.7.0/24",
    "network 192.168.7.0/24 route-map TAG\n  network 192.168.0.0/16\n  network 0.0.0.0/0",
)
TOLD += """
exit
route-map TAG permit 10
 set community 65002:7 65002:8
 set large-community 65002:1:2
 set as-path prepend 65002 174
 set metric 50
"""


def _collect(rig: Rig, address: str) -> None:
    """Have pmacct's BMP daemon listen at the router's address, and declare it."""
    (rig.tor.directory / "pmbmpd.conf").write_text(
        f"bmp_daemon_ip: {address}\nbmp_daemon_port: 1790\nbmp_daemon_msglog_output: json\n"
        f"bmp_daemon_msglog_file: {rig.directory}/bmp.json\n"
    )
    rig.tor.spawn("pmbmpd", ["pmbmpd", "-f", str(rig.tor.directory / "pmbmpd.conf")])
    bmp = [{"name": "pmacct", "address": address, "port": 1790}]
    spec = {**CONFIGURATION["spec"], "monitoring": {"bmp": bmp}}  # type: ignore[dict-item]
    rig.declare("node.yaml", NODE, {**CONFIGURATION, "spec": spec}, TOR4, TOR6)


def asked(rig: Rig, *words: str) -> Any:
    argv = [sys.executable, "-m", "l3net.cli.main", "bgp", *words, "-o", "json"]
    return json.loads(rig.node.run(argv).stdout)


def text(rig: Rig, *words: str) -> str:
    return rig.node.run([sys.executable, "-m", "l3net.cli.main", "bgp", *words]).stdout


@pytest.fixture
def told(rig: Rig) -> Rig:
    _collect(rig, "10.90.0.2")
    rig.start_tor(TOLD)
    rig.start_speaker()
    rig.start_agent()
    rig.established("10.90.0.2", "fd90::2")
    rig.until(lambda: len(asked(rig, "routes", "--best")) == 3, "what the router says")
    rig.until(lambda: rig.tor_routes() == {"10.244.1.0/24", "fd00:10:244:1::/120"}, "what the node says")
    return rig


def test_a_network_engineer_finds_what_routers_show(told: Rig) -> None:
    rig = told
    _summary(rig)
    _dumped(rig)
    (route,) = asked(rig, "routes", "192.168.7.77")
    assert route["prefix"] == "192.168.7.0/24" and route["asPathText"] == "65002 65002 174"
    assert set(route["communities"]) == {"65002:7", "65002:8", "65002:1:2"}
    assert (route["med"], route["best"], route["verdict"]) == (50, True, "accepted")
    assert [row["prefix"] for row in asked(rig, "routes", "192.168.8.1")] == ["192.168.0.0/16"]
    assert [row["prefix"] for row in asked(rig, "routes", "192.168.8.1", "--rejected")] == ["0.0.0.0/0"]
    assert [
        row["prefix"] for row in asked(rig, "routes", "--community", "65002:8", "--as-path", "_174$")
    ] == ["192.168.7.0/24"]
    refused = text(rig, "routes", "--rejected")
    assert "defaultRoute" in refused and "import.defaultRoute takes them" in refused
    assert ">" in text(rig, "routes", "192.168.7.0/24")
    heard = {(row["prefix"], row["peer"]): row for row in asked(rig, "routes", "--advertised")}
    assert heard.keys() == {("10.244.1.0/24", "10.90.0.2"), ("fd00:10:244:1::/120", "fd90::2")}
    for (prefix, _), row in heard.items():
        family = "ipv6" if ":" in prefix else "ipv4"
        shown = json.loads(rig.vtysh(f"show bgp {family} unicast {prefix} json"))["paths"][0]
        assert shown["aspath"]["string"] == row["asPathText"] and row["state"] == "sent"
        assert row["nextHop"] in {hop["ip"] for hop in shown["nexthops"]}
    _collected(rig)


def _summary(rig: Rig) -> None:
    rows = {row["address"]: row for row in asked(rig, "summary")["neighbors"]}
    shown = json.loads(rig.vtysh("show bgp summary json"))
    theirs = shown["ipv4Unicast"]["peers"] | shown["ipv6Unicast"]["peers"]
    mine = {"10.90.0.2": "10.90.0.1", "fd90::2": "fd90::1"}
    for address, row in rows.items():
        other = theirs[mine[address]]
        # Both go on: what one has sent, the other has received, or will before long.
        assert 0 <= row["messages"]["received"]["update"] <= other["msgSent"]
        assert row["messages"]["sent"]["open"] == row["messages"]["received"]["open"] == 1
        assert row["received"] == other["pfxSnt"] and row["announced"] == other["pfxRcd"]
        assert (
            row["localASNumber"] == other.get("localAs", 65001) or other["remoteAs"] == row["localASNumber"]
        )
    table = text(rig, "summary").splitlines()
    assert table[0] == "BGP router ID 10.90.0.1, local AS 65001, node node"
    assert "STATE/PFX RCVD" in table[3] and table[4].startswith("10.90.0.2  65002")
    full = text(rig, "neighbor", "tor4")
    for words in ("messages in:", "1 open", "this node:         AS 65001", "IPv4:", "configured:"):
        assert words in full, full
    assert "tor6" in text(rig, "neighbors")
    rig.vtysh("clear bgp 10.90.0.1")
    rig.until(lambda: "Administrative Reset" in text(rig, "neighbors"), "the last error")
    (row,) = asked(rig, "neighbor", "10.90.0.2")
    received = row["lastNotification"]["received"]
    assert (received["code"], received["subcode"], row["lastNotification"]["sent"]) == (6, 4, None)
    rig.established("10.90.0.2")
    rig.until(lambda: len(asked(rig, "routes", "--best")) == 3, "what the router says again")


def _dumped(rig: Rig) -> None:
    """An MRT file, read by bgpdump: what the agent tells, and what the router says that it has told."""
    file = rig.directory / "rib.mrt"
    text(rig, "dump", "--output", str(file))
    told = set()
    for line in subprocess.run(
        ["bgpdump", "-m", file], capture_output=True, text=True, check=True
    ).stdout.splitlines():
        _, _, _, peer, number, prefix, path, origin, hop, *_ = line.split("|")
        assert number == "65002" and origin == "IGP"
        told.add((peer, prefix, path, hop))
    rows = asked(rig, "routes")
    assert told == {(row["peer"], row["prefix"], row["asPathText"], row["nextHop"]) for row in rows}
    theirs = set()
    for family, address in (("ipv4", "10.90.0.1"), ("ipv6", "fd90::1")):
        shown = json.loads(rig.vtysh(f"show bgp {family} unicast neighbors {address} advertised-routes json"))
        theirs |= set(shown["advertisedRoutes"])
    assert {prefix for _, prefix, _, _ in told} == theirs
    before = file.read_bytes()
    words = ["bgp", "dump", "--output", "/proc/nowhere/rib.mrt"]
    failed = rig.node.run([sys.executable, "-m", "l3net.cli.main", *words], check=False)
    assert failed.code == 1 and "/proc/nowhere/rib.mrt" in failed.stderr
    assert file.read_bytes() == before and [each.name for each in rig.directory.glob(".rib*")] == []


def _collected(rig: Rig) -> None:
    """What pmacct's BMP daemon has been told, beside FRR's: both tables of each session, why one ended."""
    file = rig.directory / "bmp.json"

    def tables() -> dict[tuple[str, str, bool], dict[str, Any]]:
        """By peer, prefix and whether the node says it; what a session had is gone with it."""
        found: dict[tuple[str, str, bool], dict[str, Any]] = {}
        for row in map(json.loads, file.read_text().splitlines()):
            if row.get("bmp_msg_type") == "peer_down":
                found = {key: each for key, each in found.items() if key[0] != row["peer_ip"]}
            elif row.get("bmp_msg_type") == "route_monitor":
                key = row["peer_ip"], row["ip_prefix"], "is_out" in row
                if row["log_type"] == "update":
                    found[key] = row
                else:
                    del found[key]
        return found

    def theirs() -> dict[tuple[str, str, bool], dict[str, Any]]:
        found = {}
        for family, peer, mine in (("ipv4", "10.90.0.2", "10.90.0.1"), ("ipv6", "fd90::2", "fd90::1")):
            shown = json.loads(
                rig.vtysh(f"show bgp {family} unicast neighbors {mine} advertised-routes json")
            )
            found |= {(peer, prefix, False): row for prefix, row in shown["advertisedRoutes"].items()}
            routes = json.loads(rig.vtysh(f"show bgp {family} unicast neighbors {mine} routes json"))[
                "routes"
            ]
            found |= {(peer, prefix, True): rows[0] for prefix, rows in routes.items()}
        return found

    rig.until(lambda: tables().keys() == theirs().keys(), "the collector to have both tables")
    told, wanted = tables(), theirs()
    assert len(told) == 8
    for key, row in told.items():
        as_path = row["as_path"]
        assert as_path.removeprefix("65002 ").removeprefix("65002") in wanted[key]["path"], key
    tagged = told["10.90.0.2", "192.168.7.0/24", False]
    assert (tagged["comms"], tagged["lcomms"], tagged["med"]) == ("65002:7 65002:8", "65002:1:2", 50)
    assert tagged["as_path"] == "65002 65002 174" and tagged["bgp_nexthop"] == "10.90.0.2"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    (down,) = (row for row in rows if row.get("bmp_msg_type") == "peer_down")
    assert (down["peer_ip"], down["reason_type"]) == ("10.90.0.2", 3), "as _summary has had it"
    ups = [row for row in rows if row.get("bmp_msg_type") == "peer_up"]
    assert {(row["bgp_id"], row["remote_port"], row["local_ip"]) for row in ups} == {
        ("10.90.0.2", 179, "10.90.0.1"),
        ("10.90.0.2", 179, "fd90::1"),
    }
    assert all(row["local_port"] > 1024 for row in ups)
    rig.vtysh(
        "configure terminal", "router bgp 65002", "address-family ipv4 unicast", "no network 192.168.0.0/16"
    )
    gone = "10.90.0.2", "192.168.0.0/16", False
    rig.until(lambda: gone not in tables(), "a withdrawal")
    assert "BMP collector pmacct (10.90.0.2 port 1790): connected for" in _status(rig)
    rig.tor.run(["kill", "-9", str(rig.tor.daemon_pid("pmbmpd"))])
    rig.until(lambda: "not connected for" in _status(rig), "the end of the collector")
    rig.until(lambda: "connection refused" in _status(rig), "another attempt")
    file.unlink()
    _collect(rig, "fd90::2")
    rig.until(lambda: file.exists() and tables().keys() == theirs().keys(), "all of it, over IPv6")
    assert "BMP collector pmacct (fd90::2 port 1790): connected for" in _status(rig)


def _status(rig: Rig) -> str:
    return rig.node.run([sys.executable, "-m", "l3net.cli.main", "status"]).stdout
