"""Two uplinks, and routers that drop what does not come from where they would send it: strict uRPF, RFC 3704.

`rp_filter` for IPv4 and nftables' `fib` for IPv6, which has no `rp_filter`, at the routers' ends of both
uplinks of a node. nftables looks at one of several equal ways alone, so each router has one to the node.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from l3net.lab.checks.asking import ask
from l3net.lab.errors import LabError
from l3net.lab.host import Host
from l3net.lab.pods import find_plugin
from l3net.lab.state import read_source
from l3net.lab.topology import RouterKind
from l3net.lab.up import Lab, bring_up, take_down
from l3net.lab.wait import until
from l3net.model import Address

pytestmark = [
    pytest.mark.netns,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

UPLINKS = ("tor1", "tor2")
TOPOLOGY = {
    "routers": [
        {"name": "spine", "asNumber": 65000},
        *({"name": name, "asNumber": 65001 + number} for number, name in enumerate(UPLINKS)),
    ],
    "clients": [{"name": "client"}],
    "nodes": [{"name": "n1", "pods": ["far"]}, {"name": "n2", "pods": ["near"]}],
    "links": [
        {"between": pair}
        for pair in (["spine", "client"], ["spine", "tor1"], ["spine", "tor2"], ["spine", "n1"])
    ]
    + [{"between": [name, "n2"]} for name in UPLINKS],
    "services": [{"name": "web", "clusterIPs": ["10.96.0.10", "fd00:10:96::a"], "pods": ["far", "near"]}],
}
#: Of what the test sends: neighbour discovery and BGP go their own ways while sessions come up. BGP is told
#: by rules of its own: nft 1.0.6 makes `sport != 179 dport != 179` of one rule into "not both 179".
STRICT = (
    "table inet urpf { "
    "set dropped { type ipv6_addr . ipv6_addr . inet_proto . inet_service . inet_service; flags dynamic; "
    "counter; size 4096; }; "
    "chain c { type filter hook prerouting priority -500; "
    "th sport 179 accept; th dport 179 accept; "
    'iifname "n2" meta l4proto { tcp, udp } ip6 saddr != :: fib saddr . iif oif missing '
    "update @dropped { ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport } counter drop; }; }"
)
TIMES = 40
#: Datagrams from many ports, so that some go each way.
FLOWS = """
import socket, sys
for number in range(40):
    family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
    socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (sys.argv[1], 9))
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    try:
        find_plugin()
    except LabError as err:
        pytest.skip(str(err))
    file = tmp_path_factory.mktemp("urpf") / "topology.yaml"
    file.write_text(yaml.safe_dump(TOPOLOGY))
    name = f"u{uuid.uuid4().hex[:8]}"
    try:
        made = bring_up(name, read_source(file, RouterKind.BIRD), lambda what: None)
        for router in UPLINKS:
            host = made.host(router)
            host.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/n2/rp_filter"])
            host.run(["nft", "-f", "-"], text=STRICT)
            for version in (4, 6):
                asked = ["ip", f"-{version}", "route", "get", str(made.pod("near").address(version))]
                until(
                    lambda h=host, a=asked: " dev n2 " in h.run(a).stdout, 20, "the router's way to the pods"
                )  # type: ignore[misc]
        yield made
    finally:
        take_down(name)


def dropped(lab: Lab, version: int) -> int:
    """Packets of the node's that its routers have dropped."""
    total = 0
    for router in UPLINKS:
        if version == 4:
            shown = lab.host(router).run(["nstat", "-asz", "TcpExtIPReversePathFilter"]).stdout
            found = re.search(r"IPReversePathFilter\s+(\d+)", shown)
        else:
            found = re.search(r"packets (\d+)", lab.host(router).run(["nft", "list", "ruleset"]).stdout)
        assert found
        total += int(found[1])
    return total


def sent(lab: Lab) -> dict[str, int]:
    files = [f"/sys/class/net/{link}/statistics/tx_packets" for link in UPLINKS]
    counts = lab.host("n2").run(["cat", *files]).stdout.split()
    return dict(zip(UPLINKS, map(int, counts), strict=True))


def failures(lab: Lab, host: Host, address: Address, port: int, pod: str | None = None) -> int:
    (answers,) = ask(host, [(address, port, TIMES)], pod)
    return len(answers.failures)


@pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
def test_nothing_of_a_node_with_two_uplinks_is_dropped(lab: Lab, version: int) -> None:
    """Pods, services, the node itself: a source is announced on the link it leaves by, or its address."""
    client, node = lab.host("client"), lab.host("n2")
    outside, pod = lab.topology.address("client", version), lab.pod("near").address(version)
    service = next(a for a in lab.topology.services[0].cluster_ips if a.version == version)
    before, began = dropped(lab, version), sent(lab)
    assert failures(lab, node, outside, 8080, "near") == 0
    assert failures(lab, node, outside, 8080) == 0
    assert failures(lab, client, pod, 8080) == 0
    assert failures(lab, client, service, 80) == 0
    ended = sent(lab)
    assert all(ended[link] - began[link] > TIMES for link in UPLINKS), "both are used"
    assert dropped(lab, version) == before, which(lab)


def which(lab: Lab) -> str:
    """Source, destination, protocol and ports of the dropped IPv6 packets, for the failure's message."""
    return "\n".join(lab.host(name).run(["nft", "list", "ruleset"]).stdout for name in UPLINKS)


def configure(lab: Lab, **spec: Any) -> None:
    """Change the BGPConfiguration."""
    file = lab.manifests / "bgp.yaml"
    documents = list(yaml.safe_load_all(file.read_text()))
    for document in documents:
        if document["kind"] == "BGPConfiguration":
            document["spec"] |= spec
    file.with_suffix(".tmp").write_text(yaml.safe_dump_all(documents))
    file.with_suffix(".tmp").rename(file)


def learned(lab: Lab, uplink: str) -> set[int]:
    """The families whose route to the client's link goes over an uplink."""
    (link,) = lab.topology.links_of("client")
    found = set()
    for subnet in link.subnets:
        listing = ["ip", f"-{subnet.version}", "route", "show", "proto", "108", "root", str(subnet)]
        if uplink in lab.host("n2").run(listing).stdout:
            found.add(subnet.version)
    return found


def test_what_is_learned_moves_with_the_session_and_what_is_static_is_dropped(lab: Lab) -> None:
    """The control: with its sessions gone the first router has another way to the node."""
    node, router = lab.host("n2"), lab.host("tor1")
    outside = {version: lab.topology.address("client", version) for version in (4, 6)}
    router.run(["birdc", "disable", '"n2_*"'])
    try:
        until(lambda: not learned(lab, "tor1"), 20, "the routes through tor1 to go")
        assert learned(lab, "tor2") == {4, 6}
        before = {version: dropped(lab, version) for version in (4, 6)}
        for version in (4, 6):
            assert failures(lab, node, outside[version], 8080, "near") == 0
            assert dropped(lab, version) == before[version]
        configure(lab, **{"import": {"cidrs": []}})  # the static default route over both is left
        until(lambda: not learned(lab, "tor2"), 20, "the learned routes to go")
        for version in (4, 6):
            node.run([*node.python, "-c", FLOWS, str(outside[version])], pod="near")
            until(lambda v=version: dropped(lab, v) > before[v], 5, "packets to be dropped")  # type: ignore[misc]
    finally:
        subnets = [str(each) for link in lab.topology.links for each in link.subnets]
        configure(lab, **{"import": {"cidrs": subnets}})
        router.run(["birdc", "enable", '"n2_*"'])
