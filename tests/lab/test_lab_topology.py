"""Topology files: numbering, and errors that name the place."""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from l3net.lab.errors import TopologyError
from l3net.lab.parse import parse_topology
from l3net.lab.state import TopologySource, read_source
from l3net.lab.topology import RouterKind

SMALL = {
    "routers": [{"name": "tor", "asNumber": 65001}],
    "nodes": [{"name": "n1", "pods": ["web"]}],
    "clients": [{"name": "client"}],
    "links": [{"between": ["tor", "client"]}, {"between": ["tor", "n1"]}],
    "services": [{"name": "web", "clusterIPs": ["10.96.0.10", "fd00:10:96::a"], "pods": ["web"]}],
}

LINK = {"between": ["tor", "n1"]}
WEB = {"name": "web"}


def with_(**fields: object) -> dict[str, object]:
    return {**SMALL, **fields}


def test_the_default_topology() -> None:
    topology = read_source(None).topology()
    assert [router.as_number for router in topology.routers] == [65000, 65001, 65002]
    assert len(topology.links_of("n2")) == 2
    assert all(len(node.pods) == 2 for node in topology.nodes)
    assert topology.versions == (4, 6)
    subnets = [subnet for link in topology.links for subnet in link.subnets]
    assert len(set(subnets)) == len(subnets)


def test_numbering() -> None:
    topology = parse_topology(SMALL)
    assert topology.addresses("n1") == (ip_address("10.0.2.1"), ip_address("fd00:10:0:2::1"))
    assert topology.address("tor", 4) == ip_address("10.0.1.0")
    assert topology.nodes[0].blocks == (ip_network("10.244.1.0/24"), ip_network("fd00:10:244:1::/120"))


def test_given_subnets_and_blocks_are_kept() -> None:
    topology = parse_topology(
        with_(
            nodes=[{"name": "n1", "pods": ["web"], "blocks": ["10.244.9.0/26"]}],
            links=[
                {"between": ["tor", "client"], "subnets": ["192.0.2.0/24"]},
                {"between": ["n1", "tor"], "subnets": ["198.51.100.4/30"]},
            ],
            services=[],
        )
    )
    assert topology.addresses("tor") == (ip_address("192.0.2.1"), ip_address("198.51.100.6"))
    assert topology.versions == (4,)
    assert topology.nodes[0].blocks == (ip_network("10.244.9.0/26"),)


def test_two_links_between_the_same_hosts_have_names_of_their_own() -> None:
    topology = parse_topology(with_(links=[*SMALL["links"], {"between": ["n1", "tor"]}]))  # type: ignore[misc]
    assert [link.end("n1").interface for link in topology.links_of("n1")] == ["tor", "tor-2"]
    assert [link.end("tor").interface for link in topology.links_of("n1")] == ["n1", "n1-2"]


def test_sessions_are_one_a_family_and_both_sides_agree() -> None:
    topology = parse_topology(SMALL)
    tor, node = topology.sessions("tor"), topology.sessions("n1")
    assert {(s.local, s.remote) for s in tor} == {(s.remote, s.local) for s in node}
    assert {s.remote_as for s in node} == {65001}
    assert topology.sessions("client") == ()


def test_router_kind_overrides_every_router() -> None:
    topology = parse_topology(SMALL, RouterKind.BIRD)
    assert {router.kind for router in topology.routers} == {RouterKind.BIRD}


@pytest.mark.parametrize(
    ("document", "where", "why"),
    [
        ("text", "", "mapping"),
        (None, "", "mapping"),
        ({}, "", "no host"),
        (with_(ruoters=[]), "ruoters", "did you mean 'routers'"),
        (with_(asNumber="x"), "asNumber", "number from 1"),
        (with_(asNumber=True), "asNumber", "number from 1"),
        (with_(routers=[{"name": "tor"}]), "routers[0].asNumber", "required"),
        (with_(routers=[{"name": "tor", "asNumber": 1, "kind": "ios"}]), "routers[0].kind", "frr, bird"),
        (with_(routers=[{"name": "Tor!", "asNumber": 1}]), "routers[0].name", "interface name"),
        (with_(routers=[{"name": "averyveryverylongname", "asNumber": 1}]), "routers[0].name", "1 to 12"),
        (with_(routers=[{"name": "lo", "asNumber": 1}]), "routers[0].name", "none of"),
        (with_(nodes=[{"name": "tor"}]), "hosts", "twice"),
        (with_(nodes=[{"name": "n1", "pods": ["a", "a"]}]), "pods", "twice"),
        (with_(nodes=[{"name": "n1", "pods": ["../x"]}]), "nodes[0].pods[0]", "pod name"),
        (with_(nodes=[{"name": "n1", "pods": "web"}]), "nodes[0].pods", "list"),
        (with_(nodes=[{"name": "n1", "blocks": ["10.1.0.0/24"]}]), "nodes[0].blocks", "no pool"),
        (with_(links=[{"between": ["tor", "n2"]}]), "links[0].between", "no host 'n2'"),
        (with_(links=[{"between": ["tor"]}]), "links[0].between", "two different"),
        (
            with_(links=[{"between": ["tor", "n1"], "subnets": ["10.0.0.1/30"]}]),
            "links[0].subnets[0]",
            "host bits",
        ),
        (with_(links=[{"between": ["tor", "n1"]}]), "links", "client has no link"),
        (with_(links=[{"between": ["client", "n1"]}, LINK]), "links", "routers only"),
        (with_(services=[{"name": "web", "pods": ["wbe"]}]), "services[0].pods[0]", "no node runs"),
        (
            with_(services=[{"name": "web", "clusterIPs": ["10.0.0.1"]}]),
            "services[0].clusterIPs",
            "no serviceCIDRs",
        ),
        (
            with_(services=[{"name": "web", "internalTrafficPolicy": "local"}]),
            "services[0].internalTrafficPolicy",
            "",
        ),
        (with_(serviceCIDRs=["10.244.0.0/24"], services=[]), "addresses", "overlaps"),
        (with_(linkSupernets=["10.0.0.0/23"]), "links[1]", "no room"),
        (
            with_(pools=[{"name": "p", "cidr": "10.244.0.0/16", "blockSize": 12}]),
            "pools[0].blockSize",
            "from 16",
        ),
    ],
)
def test_mistakes_are_named(document: object, where: str, why: str) -> None:
    with pytest.raises(TopologyError) as raised:
        parse_topology(document)
    assert raised.value.where == where
    assert why in raised.value.why


def test_text_that_is_not_yaml() -> None:
    with pytest.raises(TopologyError, match="not YAML"):
        TopologySource("a: [", "x.yaml").topology()
    with pytest.raises(TopologyError, match=r"x\.yaml:2: the key 'asNumber' appears twice"):
        TopologySource("asNumber: 1\nasNumber: 2", "x.yaml").topology()
    with pytest.raises(TopologyError, match="more than one document"):
        TopologySource("a: 1\n---\na: 2", "x.yaml").topology()


def test_files_that_are_none(tmp_path: Path) -> None:
    """A device that never ends, no file, no text; and a pipe, which is one."""
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    for path, why in (
        (Path("/dev/zero"), "larger than 1 MiB"),
        (tmp_path / "none", "cannot be read: No such file or directory"),
        (tmp_path / "latin.yaml", "is not UTF-8 text (byte 3)"),
    ):
        with pytest.raises(TopologyError) as raised:
            read_source(path)
        assert raised.value.why == why
    reading, writing = os.pipe()
    os.write(writing, b"\xef\xbb\xbfnodes: []")
    os.close(writing)
    assert read_source(Path(f"/dev/fd/{reading}")).text == "nodes: []"
    os.close(reading)


def test_the_file_is_named() -> None:
    with pytest.raises(TopologyError, match=r"x\.yaml: nodes"):
        TopologySource("nodes: 3", "x.yaml").topology()
