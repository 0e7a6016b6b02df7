"""What is written for routers: facts of the declared state, and each dialect's text through its own parser,
where there is one here."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from l3net.cli.main import cli
from l3net.cli.routerconfig import DIALECTS
from l3net.lab.bird import bird_config
from l3net.lab.frr import frr_config
from l3net.lab.gobgp import gobgp_config
from l3net.lab.manifests import cluster_manifests, render
from l3net.lab.state import read_source
from l3net.lab.topology import Topology
from l3net.lab.vyos import vyos_commands

VENDORS = ("vyos", "nxos", "eos", "junos")


def resource(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "l3net.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def node(number: int) -> dict[str, Any]:
    addresses = [f"10.0.1.1{number}", f"fd00::1{number}"]
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{number}"},
        "spec": {"podCIDRs": [f"10.244.{number}.0/24", f"fd00:10:244:{number}::/120"]},
        "status": {"addresses": [{"type": "InternalIP", "address": each} for each in addresses]},
    }  # fmt: skip


BALANCERS = {"enabled": True, "cidrs": ["203.0.113.0/24", "2001:db8:113::/64"]}
CLUSTER = {
    "asNumber": 64512,
    "nodeToNodeMesh": False,
    "serviceCIDRs": ["10.96.0.0/16"],
    "advertise": {"loadBalancerIPs": BALANCERS, "networks": ["198.51.100.0/24"]},
}
TOR = {
    "address": "10.0.1.1",
    "asNumber": 65001,
    "gtsm": True,
    "holdTime": 9,
    "bfd": {"minInterval": 100},
    "password": {"secretKeyRef": {"name": "bgp", "key": "tor"}},
}
DECLARED = [
    node(1),
    node(2),
    resource("BGPConfiguration", "default", **CLUSTER),
    resource("IPPool", "pods", cidr="10.244.0.0/16", blockSize=24),
    resource("BGPPeer", "tor4", **TOR),
    resource("BGPPeer", "tor6", address="fd00::1", asNumber=65001, nodes=["n1", "n2"]),
    resource("BGPPeer", "core", address="10.9.0.1", asNumber=64512, nodes=["n1"], families=["IPv4", "IPv6"]),
    resource("BGPPeer", "gateway", autodiscover="DefaultGateway", asNumber=65009, nodes=["n2"]),
    resource("BGPPeer", "link", interface="eth1", nodes=["n2"]),
]


@pytest.fixture
def declared(tmp_path: Path) -> Path:
    place = tmp_path / "net"
    place.mkdir()
    (place / "net.yaml").write_text(yaml.safe_dump_all(DECLARED))
    return place


def run(declared: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["router-config", *arguments, "--datastore", f"dir:{declared}"])


def test_sessions_of_both_families_are_one_router(declared: Path) -> None:
    result = run(declared, "frr")
    assert result.exit_code == 0
    heads = [line for line in result.stdout.splitlines() if line.startswith("! Router")]
    assert heads == [
        "! Router 10.0.1.1 and fd00::1 (BGPPeer tor4, tor6), AS 65001, in FRR 8.4 and later.",
        "! Router 10.9.0.1 (BGPPeer core), AS 64512, in FRR 8.4 and later.",
        "! Router that is the nodes' gateway (BGPPeer gateway), AS 65009, in FRR 8.4 and later.",
    ]
    assert "left out: BGPPeer link: its routers are found on an interface" in result.stderr


def test_a_node_without_addresses_is_told_of(declared: Path) -> None:
    """And not what its mesh lacks: no router is concerned."""
    bare = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n9"}}
    peer = resource("BGPPeer", "all", address="10.0.1.9", asNumber=65003)
    (declared / "more.yaml").write_text(yaml.safe_dump_all([bare, peer]))
    told = [line for line in run(declared, "frr").stderr.splitlines() if "n9" in line]
    why = "neither has the Node an InternalIP of its family, nor the BGPPeer a localAddress"
    assert told == [f"left out: node n9: peer {name}: {why}" for name in ("all", "tor4")]


def test_a_gateway_has_no_address_that_is_known(declared: Path) -> None:
    for dialect in DIALECTS:
        text = run(declared, dialect, "--peer", "gateway").stdout
        assert "192.0.0.8" not in text
        assert "100::1" not in text
        assert "fd00::12" in text


def test_what_nodes_may_announce(declared: Path) -> None:
    lines = run(declared, "frr", "--peer", "tor4").stdout.splitlines()
    assert [line.partition("permit ")[2] for line in lines if " prefix-list L3NET-NODES seq" in line] == [
        "10.96.0.0/16 ge 32",
        "10.244.0.0/16 ge 24 le 24",
        "198.51.100.0/24",
        "203.0.113.0/24 ge 32",
        "2001:db8:113::/64 ge 128",
        "fd00:10:244:1::/120",  # of no pool: the nodes' own blocks
        "fd00:10:244:2::/120",
    ]


def test_one_peer_and_one_node(declared: Path) -> None:
    text = run(declared, "frr", "--peer", "tor4", "--peer", "tor6", "--node", "n2").stdout
    assert "neighbor 10.0.1.12 remote-as 64512" in text
    assert "neighbor fd00::12 remote-as 64512" in text
    assert "10.0.1.11" not in text


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_password_is_a_placeholder(declared: Path, dialect: str) -> None:
    secret = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bgp", "namespace": "kube-system"},
        "stringData": {"tor": "correct-horse"},
    }  # fmt: skip
    (declared / "secret.yaml").write_text(yaml.safe_dump(secret))
    text = run(declared, dialect).stdout
    assert "correct-horse" not in text
    assert "Replace PASSWORD-kube-system-bgp-tor by the password in Secret kube-system/bgp, key tor." in text
    assert text.count("PASSWORD-kube-system-bgp-tor") == 3


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_vendors_says_that_it_was_not_run(declared: Path, dialect: str) -> None:
    assert ("NOT RUN on such a device" in run(declared, dialect).stdout) is (dialect in VENDORS)


@pytest.mark.parametrize(
    ("dialect", "lines"),
    [
        ("vyos", [
            "set policy prefix-list L3NET-NODES rule 10 prefix 10.244.0.0/16",
            "set policy prefix-list L3NET-NODES rule 10 ge 24",
            "set protocols bgp neighbor 10.0.1.11 ttl-security hops 1",
            "set protocols bgp neighbor 10.0.1.11 bfd profile L3NET-100-3",
            "set protocols bgp neighbor fd00::12 address-family ipv6-unicast route-map import "
            "L3NET-FROM-NODES",
        ]),
        ("nxos", [
            "ip prefix-list L3NET-NODES seq 10 permit 10.244.0.0/16 ge 24 le 24",
            "  neighbor 10.0.1.11", "    timers 3 9", "    transport connection-mode passive",
            "      route-map L3NET-FROM-NODES6 in", "feature bfd",
        ]),
        ("eos", [
            "   seq 10 permit fd00:10:244:1::/120", "   interval 100 min-rx 100 multiplier 3 default",
            "   neighbor 10.0.1.11 ttl maximum-hops 1",
            "      neighbor fd00::11 route-map L3NET-FROM-NODES6 in",
        ]),
        ("junos", [
            "set protocols bgp group l3net-external neighbor fd00::12 peer-as 64512",
            "set policy-options policy-statement L3NET-FROM-NODES term l3net1 from route-filter "
            "10.244.0.0/16 "
            "prefix-length-range /24-/24",
            "set protocols bgp group l3net-external neighbor 10.0.1.11 bfd-liveness-detection "
            "minimum-interval 100",
            "set protocols bgp group l3net-internal type internal",
        ]),
    ],
)  # fmt: skip
def test_a_vendors_words(declared: Path, dialect: str, lines: list[str]) -> None:
    """As docs/bgp.md has them, by hand."""
    text = run(declared, dialect).stdout.splitlines()
    assert [line for line in lines if line not in text] == []


def test_nothing_to_write_for(declared: Path) -> None:
    result = run(declared, "frr", "--peer", "link")
    assert getattr(result.exception, "exit_code", None) == 1
    unknown = run(declared, "frr", "--peer", "none")
    assert (unknown.exit_code, "no BGPPeer named none" in unknown.stderr) == (2, True)
    assert run(declared, "ios").exit_code == 2
    for file in declared.iterdir():
        text = file.read_text()
        file.write_text("---\n".join(each for each in text.split("---\n") if "kind: Node\n" not in each))
    nobody = run(declared, "frr")
    assert "no Node is declared" in str(nobody.exception)


def test_frr_takes_it(declared: Path, tmp_path: Path) -> None:
    if shutil.which("vtysh") is None:
        pytest.skip("needs frr")
    file = tmp_path / "frr.conf"
    file.write_text(run(declared, "frr", "--peer", "tor4", "--peer", "tor6").stdout)
    (tmp_path / "vtysh.conf").touch()
    argv = ["vtysh", "--dryrun", "--config_dir", str(tmp_path), "--inputfile", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, "%" in done.stdout + done.stderr) == (0, False), done.stdout + done.stderr


@pytest.mark.parametrize("peers", [("--peer", "tor4", "--peer", "tor6"), ("--peer", "gateway")])
def test_bird_takes_it(declared: Path, tmp_path: Path, peers: tuple[str, ...]) -> None:
    bird = shutil.which("bird", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if bird is None:
        pytest.skip("needs bird2")
    file = tmp_path / "bird.conf"
    text = run(declared, "bird", *peers).stdout
    file.write_text("router id 10.0.1.1;\nprotocol device { }\n" + text)
    done = subprocess.run([bird, "-p", "-c", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("dialect", "lab", "neighbour"),
    [
        ("frr", frr_config, r"neighbor (\S+) remote-as (\d+)"),
        ("bird", bird_config, r"neighbor (\S+) (?:port 179 )?as (\d+)"),
        ("gobgp", gobgp_config, r'neighbor-address = "(\S+)"\n *peer-as = (\d+)'),
        ("vyos", vyos_commands, r"neighbor (\S+) remote-as '?(\d+)"),
    ],
)
def test_the_labs_router_has_the_same_neighbours(
    tmp_path: Path, dialect: str, lab: Callable[[Topology, str], str], neighbour: str
) -> None:
    """Of the lab's topology: what its own generators make for a router, of the nodes beside it."""
    topology = read_source(None).topology()
    for name, documents in cluster_manifests(topology).items():
        (tmp_path / name).write_text(render(documents))
    nodes = {str(address) for node in topology.nodes for address in topology.addresses(node.name)}
    expected = {each for each in re.findall(neighbour, lab(topology, "tor1")) if each[0] in nodes}
    own = {str(address) for address in topology.addresses("tor1")}
    peers = [
        document["metadata"]["name"]
        for document in yaml.safe_load_all("---\n".join(file.read_text() for file in tmp_path.iterdir()))
        if document["kind"] == "BGPPeer" and document["spec"]["address"] in own
    ]
    text = run(tmp_path, dialect, *(word for peer in peers for word in ("--peer", peer))).stdout
    assert set(re.findall(neighbour, text)) == expected
    assert len(expected) >= 4
