"""What an importer is for: a router hears from l3net, with the imported configuration, what it has heard
from the system before: prefixes, next hops, AS paths, communities, LOCAL_PREF, MED.

The old system is stood in for by the daemon that it runs, configured as it configures it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from far_side import FarSide
from far_sides import Bird, FarSession, Frr, Gobgp, Seen
from node_rig import NODE
from stage import FAR_ADDRESS, NODE_ADDRESS, Stage, served_stage

from l3net.cli.main import cli

pytestmark = pytest.mark.netns

HERE = Path(__file__).parent
#: A service with an address of each family from outside, and an endpoint on the node.
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "shop", "labels": {"expose": "outside"}},
    "spec": {
        "type": "LoadBalancer",
        "clusterIP": "10.96.0.10",
        "clusterIPs": ["10.96.0.10", "fd00:10:96::10"],
        "externalTrafficPolicy": "Local",
        "ports": [{"port": 80, "targetPort": 8080}],
    },
    "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.10"}, {"ip": "2001:db8:113::10"}]}},
}
SLICES = [
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"web-{family.lower()}",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": family,
        "endpoints": [{"addresses": [address], "nodeName": "node", "conditions": {"ready": True}}],
        "ports": [{"port": 8080, "protocol": "TCP"}],
    }
    for family, address in (("IPv4", "10.244.1.5"), ("IPv6", "fd00:10:244:1::5"))
]


@pytest.fixture(scope="module")
def running() -> Iterator[Stage]:
    with served_stage() as stage:
        yield stage


@pytest.fixture
def stage(running: Stage) -> Stage:
    running.clear()
    return running


class Router(Frr):
    """The router beside the node: FRR, which tells the whole of its table."""

    def listens(self) -> bool:
        """Whether it waits for both sessions: who dials before is told of an error, and may wait long."""
        found = json.loads(self._vtysh("show bgp summary json") or "{}")
        states = [row["state"] for family in found.values() for row in family.get("peers", {}).values()]
        return len(states) == 2 and set(states) == {"Active"}

    def table(self) -> dict[str, Seen]:
        """Each prefix as it is heard. No MED is the lowest (RFC 4271 section 9.1.2.2 c), which is 0."""
        found: dict[str, Seen] = {}
        for version in (4, 6):
            shown = json.loads(self._vtysh(f"show bgp ipv{version} unicast json") or "{}")
            for prefix in shown.get("routes", ()):
                if seen := self.seen(prefix):
                    found[prefix] = Seen(
                        seen.next_hop, seen.as_path, seen.communities, seen.med or 0, seen.local_preference
                    )
        return found


def imported(source: str) -> list[dict[str, Any]]:
    """What the command makes of the tests' input; annotations are put on the Node and the Service."""
    result = CliRunner().invoke(
        cli, ["import", source, str(HERE / f"inputs_{source.replace('-', '_')}.yaml")]
    )
    assert result.exit_code == 0, result.output
    found = list(yaml.safe_load_all(result.stdout))
    node = {**NODE, "metadata": {"name": "node", "labels": {"rack": "a"}}}
    there = {"Node": node, "Service": SERVICE}
    merged = {kind: json.loads(json.dumps(document)) for kind, document in there.items()}
    for each in found:
        if each["kind"] in merged and each["metadata"]["name"] in ("node", "web"):
            merged[each["kind"]]["metadata"]["annotations"] = each["metadata"]["annotations"]
    return [*merged.values(), *SLICES, *(each for each in found if each["kind"] not in there)]


def settled(stage: Stage, read: Callable[[], Any], wanted: object, what: str) -> None:
    """Wait for it; what there is instead is told."""
    try:
        stage.until(lambda: read() == wanted, what)
    except AssertionError as err:
        old = {name: stage.node.log_tail(name, 20) for name in ("bird", "bgpd", "gobgpd")}
        assert read() == wanted, f"{err} {old}"


def heard_the_same(
    stage: Stage, source: str, old: Callable[[Stage], FarSide], prefixes: set[str], **session: Any
) -> dict[str, Seen]:
    """The router's table, once it is the same from l3net as from the `old` system."""
    router = Router(stage.tor)
    stage.far = router  # type: ignore[assignment]
    sessions = [
        FarSession(FAR_ADDRESS[version], NODE_ADDRESS[version], restart_time=0, **session)
        for version in (4, 6)
    ]
    router.start(sessions, [])
    stage.until(router.listens, "the router to listen")
    before = old(stage)
    try:
        settled(stage, lambda: router.table().keys(), prefixes, f"what {source} announces")
        expected = router.table()
    finally:
        before.kill()  # else the next test finds its port taken
    settled(stage, router.table, {}, "all of it to go")
    stage.declare("node.yaml", *imported(source))
    settled(stage, router.table, expected, "the same of l3net")
    return expected


# --- Calico: BIRD ------------------------------------------------------------------------------------------

#: As confd's templates make it of inputs_calico.yaml: ranges and local services as static routes, communities
#: by prefix, what a BGPFilter says before all else. Both sides dial, and where they meet FRR may end the
#: session with an error (Finite state machine error), after which BIRD waits for a minute unless told.
BIRD = """
log stderr all;
router id 10.90.0.1;
protocol device {{ scan time 5; }}
protocol static {{ ipv4; route 10.244.1.0/24 blackhole; route 203.0.113.0/24 blackhole; route 203.0.113.10/32
blackhole; }} protocol static {{ ipv6; route fd00:10:244:1::/120 blackhole; route 2001:db8:113::/64 blackhole;
  route 2001:db8:113::10/128 blackhole; }}
filter to4 {{
  if net ~ 203.0.113.0/24 then {{ bgp_community.add((65001, 100)); bgp_large_community.add((65001, 1, 2)); }}
  if net ~ 10.244.0.0/16 then bgp_community.add((65001, 200));
  if net ~ 203.0.113.0/24 then accept;
  if net ~ 10.244.0.0/16 then accept;
  reject;
}}
filter to6 {{
  if net ~ [ fd00:10:244::/48{{64,128}} ] then {{
    bgp_community.add((65001, 7)); bgp_path.prepend(65009); bgp_path.prepend(65001); accept;
  }}
  if net = 2001:db8:113::/64 then reject;
  if net ~ 2001:db8:113::/64 then {{ bgp_community.add((65001, 100)); accept; }}
  reject;
}}
template bgp peers {{ local as 65001; multihop; graceful restart; connect delay time 1; connect retry time 1;
  error wait time 1, 2;
}} protocol bgp tor4 from peers {{
  neighbor {four} as 65002; source address 10.90.0.1; ipv4 {{ import all; export filter to4; }};
}}
protocol bgp tor6 from peers {{
  neighbor {six} as 65002; source address fd90::1; ipv6 {{ import all; export filter to6; }};
}}
"""


def calico(stage: Stage) -> FarSide:
    bird = Bird(stage.node)
    config = bird.write("bird.conf", BIRD.format(four=FAR_ADDRESS[4], six=FAR_ADDRESS[6]))
    bird.spawn("bird", ["bird", "-f", "-c", config])
    return bird


def test_calico(stage: Stage) -> None:
    table = heard_the_same(
        stage,
        "calico",
        calico,
        {
            "10.244.1.0/24", "203.0.113.0/24", "203.0.113.10/32",
            "fd00:10:244:1::/120", "2001:db8:113::10/128",
        },
    )  # fmt: skip
    # The control: attributes are there to be compared.
    assert table["203.0.113.10/32"].communities == {"65001:100", "65001:1:2"}
    assert table["fd00:10:244:1::/120"].as_path == (65001, 65001, 65009)


# --- MetalLB: FRR ------------------------------------------------------------------------------------------

#: As MetalLB makes it of inputs_metallb.yaml: a route-map for each neighbour, nothing comes in.
FRR = """
hostname node
ip nht resolve-via-default
ipv6 nht resolve-via-default
ip prefix-list served seq 1 permit 203.0.113.10/32
ipv6 prefix-list served seq 1 permit 2001:db8:113::10/128
route-map in deny 20
route-map out4 permit 1
 match ip address prefix-list served
 set local-preference 300
 set community 65001:100 additive
 set large-community 65001:1:2 additive
route-map out6 permit 1
 match ipv6 address prefix-list served
 set local-preference 300
 set community 65001:100 65001:6 additive
 set large-community 65001:1:2 additive
router bgp 65001
 no bgp ebgp-requires-policy
 no bgp network import-check
 no bgp default ipv4-unicast
 bgp router-id 10.90.0.1
 neighbor {four} remote-as 65001
 neighbor {four} timers connect 1
 neighbor {six} remote-as 65001
 neighbor {six} timers connect 1
 address-family ipv4 unicast
  neighbor {four} activate
  neighbor {four} route-map in in
  neighbor {four} route-map out4 out
  network 203.0.113.10/32
 exit-address-family
 address-family ipv6 unicast
  neighbor {six} activate
  neighbor {six} route-map in in
  neighbor {six} route-map out6 out
  network 2001:db8:113::10/128
 exit-address-family
"""


def metallb(stage: Stage) -> FarSide:
    frr = Frr(stage.node)
    frr.start_with(FRR.format(four=FAR_ADDRESS[4], six=FAR_ADDRESS[6]))
    return frr


def test_metallb(stage: Stage) -> None:
    served = {"203.0.113.10/32", "2001:db8:113::10/128"}
    table = heard_the_same(stage, "metallb", metallb, served, local_as=65001)
    # The control: attributes are there to be compared.
    assert table["203.0.113.10/32"].local_preference == 300
    assert table["2001:db8:113::10/128"].communities == {"65001:100", "65001:1:2", "65001:6"}


# --- Cilium and kube-router: GoBGP -------------------------------------------------------------------------

#: The node's GoBGP, a neighbour for each family; routes and what policies do with them are added below.
GOBGP = """
[global.config]
as = 65001
router-id = "10.90.0.1"
"""
NEIGHBOR = """
[[neighbors]]
[neighbors.config]
neighbor-address = "{address}"
peer-as = {peer_as}
[neighbors.transport.config]
local-address = "{local}"
[neighbors.timers.config]
connect-retry = 1
idle-hold-time-after-reset = 1
hold-time = 9
keepalive-interval = 3
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv{version}-unicast"
"""


def gobgp(stage: Stage, routes: dict[str, str], peer_as: int = 65002, more: str = "") -> FarSide:
    """`routes` and the words that `gobgp` has for their attributes."""
    daemon = Gobgp(stage.node)
    neighbors = [
        NEIGHBOR.format(
            address=FAR_ADDRESS[version], local=NODE_ADDRESS[version], peer_as=peer_as, version=version
        )
        for version in (4, 6)
    ]
    daemon.start_with(GOBGP + more + "".join(neighbors))
    for prefix, words in routes.items():
        version = 6 if ":" in prefix else 4
        add = [
            "gobgp",
            "global",
            "rib",
            "add",
            prefix,
            "-a",
            f"ipv{version}",
            "nexthop",
            NODE_ADDRESS[version],
        ]
        daemon.run([*add, *words.split()])
    return daemon


def test_cilium(stage: Stage) -> None:
    pods, served = "community 65001:10 large-community 65001:1:2", "community 65001:20,no-export"
    routes = {
        "10.244.1.0/24": pods, "fd00:10:244:1::/120": pods,
        "203.0.113.10/32": served, "2001:db8:113::10/128": served,
    }  # fmt: skip
    table = heard_the_same(stage, "cilium", lambda stage: gobgp(stage, routes), set(routes))
    # The control: attributes are there to be compared.
    assert table["10.244.1.0/24"].communities == {"65001:10", "65001:1:2"}
    assert table["2001:db8:113::10/128"].communities == {"65001:20", "no-export"}


#: What kube-router puts on routes to routers, by the annotations of inputs_kube_router.yaml.
PREPENDING = """
[[policy-definitions]]
name = "kube_router_export"
[[policy-definitions.statements]]
name = "export"
[policy-definitions.statements.actions.bgp-actions.set-as-path-prepend]
as = "65001"
repeat-n = 2
[policy-definitions.statements.actions]
route-disposition = "accept-route"
[global.apply-policy.config]
export-policy-list = ["kube_router_export"]
"""


def test_kube_router(stage: Stage) -> None:
    noted = "community 65001:9,no-export"
    prefixes = [
        "10.244.1.0/24", "fd00:10:244:1::/120", "10.96.0.10/32", "fd00:10:96::10/128", "203.0.113.10/32",
        "2001:db8:113::10/128",
    ]  # fmt: skip
    routes = dict.fromkeys(prefixes, noted)
    table = heard_the_same(
        stage, "kube-router", lambda stage: gobgp(stage, routes, more=PREPENDING), set(routes)
    )
    # The control: attributes are there to be compared.
    assert table["10.96.0.10/32"].as_path == (65001, 65001, 65001)
    assert table["fd00:10:244:1::/120"].communities == {"65001:9", "no-export"}
