"""What routers are expected to hold, and how a difference is told."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from types import SimpleNamespace

from l3net.lab import ribs
from l3net.lab.checks.disturb import _lost
from l3net.lab.expected import announced, difference, expected_ribs, is_cluster_prefix
from l3net.lab.rib_follower import gobgp_next_hops, kernel_routes, openbgpd_best_paths
from l3net.lab.state import read_source

TOPOLOGY = read_source(None).topology()
BLOCK1, BLOCK2 = ip_network("10.244.1.0/24"), ip_network("fd00:10:244:2::/120")
WEB, LOCAL = ip_network("10.96.0.10/32"), ip_network("fd00:10:96::14/128")


def neighbours(router: str, prefix: object) -> set[str]:
    """Names of the neighbours by which a router is expected to reach a prefix."""
    expected = expected_ribs(TOPOLOGY)[router].get(prefix, frozenset())  # type: ignore[call-overload]
    return {session.remote_host for session in TOPOLOGY.sessions(router) if session.remote in expected}


def test_a_block_is_reached_by_its_node_and_by_every_equal_way() -> None:
    assert neighbours("tor1", BLOCK1) == {"n1"}
    assert neighbours("tor2", BLOCK1) == {"spine"}
    assert neighbours("spine", BLOCK1) == {"tor1"}
    assert neighbours("spine", BLOCK2) == {"tor1", "tor2"}


def test_a_service_comes_from_every_node_or_from_those_with_an_endpoint() -> None:
    assert neighbours("tor1", WEB) == {"n1", "n2"}
    assert neighbours("tor2", WEB) == {"n2", "n3"}
    assert neighbours("tor1", LOCAL) == {"n1"}
    assert neighbours("tor2", LOCAL) == {"n3"}


def test_a_node_cut_off_is_expected_nowhere() -> None:
    left = expected_ribs(TOPOLOGY, {"n3"})
    assert all(ip_network("10.244.3.0/24") not in rib for rib in left.values())
    assert left["spine"][LOCAL] < expected_ribs(TOPOLOGY)["spine"][LOCAL]
    assert {origins.prefix for origins in announced(TOPOLOGY)} >= {BLOCK1, BLOCK2, WEB, LOCAL}


def test_fabric_prefixes_are_not_the_nodes_business() -> None:
    assert is_cluster_prefix(TOPOLOGY, BLOCK1)
    assert is_cluster_prefix(TOPOLOGY, WEB)
    assert not is_cluster_prefix(TOPOLOGY, ip_network("10.0.1.0/31"))
    assert not is_cluster_prefix(TOPOLOGY, ip_network("fd00:10:0:1::/127"))


def test_differences_are_told() -> None:
    here, there = frozenset({ip_address("10.0.2.1")}), frozenset({ip_address("10.0.3.1")})
    assert difference({BLOCK1: here}, {BLOCK1: here}) == []
    assert difference({BLOCK1: here}, {}) == ["10.244.1.0/24 is missing"]
    assert difference({}, {BLOCK1: here}) == ["10.244.1.0/24 should not be there"]
    assert difference({BLOCK1: here}, {BLOCK1: there}) == ["10.244.1.0/24 via 10.0.3.1 instead of 10.0.2.1"]


def path(hop: str, *asns: int) -> dict[str, object]:
    return {
        "attrs": [
            {"type": 1, "value": 0},
            {"type": 2, "as_paths": [{"segment_type": 2, "num": len(asns), "asns": list(asns)}]},
            {"type": 3, "nexthop": hop},
        ]
    }


def test_gobgp_paths_of_the_shortest_as_path_share_the_traffic() -> None:
    paths = [path("10.0.2.1", 65001, 64512), path("10.0.3.1", 65002, 64512), path("10.0.9.1", 1, 2, 3)]
    assert gobgp_next_hops(paths) == {"10.0.2.1", "10.0.3.1"}
    assert gobgp_next_hops([path("0.0.0.0"), *paths]) == frozenset()
    assert gobgp_next_hops([]) == frozenset()


def openbgpd_path(prefix: str, hop: str, as_path: str, **more: object) -> dict[str, object]:
    return {
        "prefix": prefix,
        "aspath": as_path,
        "exit_nexthop": hop,
        "neighbor": {"remote_addr": hop},
        "valid": True,
        "origin": "IGP",
        "metric": 0,
        "localpref": 100,
        **more,
    }


def test_openbgpd_paths_that_are_as_good_as_the_selected_one_share_the_traffic() -> None:
    there, ours = "10.244.1.0/24", "10.0.2.0/31"
    rib = [
        openbgpd_path(there, "10.0.2.1", "65001 64512", best=True),
        openbgpd_path(there, "10.0.3.1", "65002 64512"),
        openbgpd_path(there, "10.0.4.1", "65003 { 64512 64513 }"),  # an AS_SET counts once
        openbgpd_path(there, "10.0.5.1", "1 2 3"),
        openbgpd_path(there, "10.0.6.1", "65001 64512", metric=5),
        openbgpd_path(there, "10.0.7.1", "65001 64512", origin="incomplete"),
        openbgpd_path(there, "10.0.8.1", "65001", valid=False),
        openbgpd_path(ours, "10.0.2.1", "65001"),
        openbgpd_path(ours, "0.0.0.0", "", neighbor={"description": "LOCAL", "remote_addr": "???"}),
    ]
    best = openbgpd_best_paths(rib)
    hops = {prefix: [path["exit_nexthop"] for path in paths] for prefix, paths in best.items()}
    assert hops == {there: ["10.0.2.1", "10.0.3.1", "10.0.4.1"]}
    assert openbgpd_best_paths([openbgpd_path(there, "10.0.5.1", "1", localpref=50), rib[0]]) == {
        there: [rib[0]]
    }


def test_an_openbgpd_that_has_no_rib_yet_has_no_routes() -> None:
    """`bgpctl -j show rib` answers an object without one for a moment after the start."""
    host = SimpleNamespace(name="tor1", run=lambda _argv: SimpleNamespace(stdout="{}"))
    assert list(ribs._openbgpd_rib(TOPOLOGY, host)) == []  # type: ignore[arg-type]


def test_kernel_routes_are_told_as_prefixes() -> None:
    shown = """[{"dst": "default", "gateway": "10.0.1.1", "dev": "up"},
        {"dst": "10.96.0.10",
         "nexthops": [{"gateway": "10.0.1.1"}, {"via": {"family": "inet6", "host": "fe80::1"}}]}]"""
    assert kernel_routes(shown, 4) == {
        "0.0.0.0/0": frozenset({"10.0.1.1"}),
        "10.96.0.10/32": frozenset({"10.0.1.1", "fe80::1"}),
    }
    assert kernel_routes('[{"dst": "fd00::1", "gateway": "fe80::1"}]', 6) == {
        "fd00::1/128": frozenset({"fe80::1"})
    }
    assert kernel_routes("", 6) == {}


def test_packets_without_an_answer_are_counted_but_the_last_one_under_way() -> None:
    def log(*answered: int, sent: int) -> str:
        lines = [f"64 bytes from 10.244.3.2: icmp_seq={number} ttl=61 time=0.1 ms" for number in answered]
        return "\n".join(["PING 10.244.3.2", *lines, f"{sent} packets transmitted, {len(answered)} received"])

    assert _lost(log(1, 2, 3, sent=4)) == (3, 0)
    assert _lost(log(1, 3, 4, sent=4)) == (3, 1)
    assert _lost(log(1, sent=2) + "\n" + log(2, 3, sent=4)) == (3, 1)
    assert _lost("ping: unknown host") == (0, 0)
