"""Documents into facts: the semantics of each field that l3net reads, and how what is wrong is named."""

from __future__ import annotations

import base64
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from l3net.community import Community
from l3net.errors import ManifestError
from l3net.kube.core import endpoint, usual_endpoint
from l3net.kube.fields import Field
from l3net.kube.translate import identify, translate
from l3net.model import (
    EVERYTHING,
    Action,
    AddressKind,
    AdvertisePolicy,
    BfdAuth,
    BfdAuthType,
    BfdSettings,
    BgpConfiguration,
    BgpFilter,
    BgpPeer,
    BmpCollector,
    Bogons,
    EgressIp,
    Endpoint,
    EndpointSlice,
    Family,
    FilterRule,
    Hints,
    ImportPolicy,
    IpPool,
    Kind,
    Namespace,
    NextHopMode,
    Node,
    NodePortAddresses,
    ObjectName,
    Operations,
    PoolUse,
    PrefixOperator,
    Requirement,
    Secret,
    SecretKey,
    Selector,
    Service,
    ServicePort,
    Taint,
)


def parsed(text: str) -> dict[str, Any]:
    document = yaml.safe_load(text)
    assert isinstance(document, dict)
    return document


def fact(text: str) -> Any:
    found = translate(parsed(text))
    assert found is not None
    return found[2]


def refusal(text: str) -> tuple[str, str]:
    with pytest.raises(ManifestError) as caught:
        translate(parsed(text))
    return caught.value.field, caught.value.why


def own(kind: str, spec: str, name: str = "x") -> str:
    body = "\n".join("  " + line for line in spec.strip("\n").split("\n"))
    return f"apiVersion: l3net.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n{body}\n"


# --- Kubernetes' own ---------------------------------------------------------------------------------


def test_node() -> None:
    assert fact(
        """
        apiVersion: v1
        kind: Node
        metadata:
          name: n1
          labels: {rack: a}
          annotations: {l3net.io/as-number: "64601", other.example/x: y}
        spec:
          podCIDR: 10.244.1.0/24
          podCIDRs: [10.244.1.0/24, "fd00:10:244:1::/120"]
          unschedulable: true
          taints: [{key: a.example/b, value: c, effect: NoSchedule}, {key: d, effect: NoExecute}]
        status:
          addresses:
          - {type: Hostname, address: n1}
          - {type: InternalIP, address: 192.0.2.1}
          - {type: InternalIP, address: "2001:db8::1"}
          conditions:
          - {type: MemoryPressure, status: "False"}
          - {type: Ready, status: "True"}
        """
    ) == Node(
        name="n1",
        addresses=(ip_address("192.0.2.1"), ip_address("2001:db8::1")),
        blocks=(ip_network("10.244.1.0/24"), ip_network("fd00:10:244:1::/120")),
        as_number=64601,
        labels={"rack": "a"},
        annotations={"l3net.io/as-number": "64601"},
        unschedulable=True,
        taints=frozenset({Taint("a.example/b", "NoSchedule"), Taint("d", "NoExecute")}),
    )


def test_a_node_names_the_addresses_that_its_pods_leave_with() -> None:
    """Each once, as many of a family as count; what is none, or can be none, is told and left out."""
    right = ["192.0.2.1", "2001:db8::1", "192.0.2.2"]
    many = [f"198.51.100.{each}" for each in range(16)]
    text = ", ".join([*right, "192.0.2.1", "127.0.0.1", "fe80::1", "192.0.2.0/24", "x", "", *many])
    node, skipped = lenient(
        f"""
        apiVersion: v1
        kind: Node
        metadata: {{name: n1, annotations: {{l3net.io/snat-addresses: "{text}"}}}}
        """
    )
    assert isinstance(node, Node)
    assert node.snat_addresses == tuple(map(ip_address, right + many[:-2]))
    where = "metadata.annotations.l3net.io/snat-addresses"
    assert skipped == [f"{where}[{each}]" for each in (4, 5, 6, 7, 8, 23, 24)]


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        ("'False'", "node is shutting down", True),
        ("'False'", "[container runtime is down, node is shutting down]", True),
        ("'False'", "container runtime is down", False),
        ("'True'", "node is shutting down", False),
    ],
)
def test_kubelet_says_that_its_host_shuts_down(status: str, message: str, expected: bool) -> None:
    found = fact(
        f"""
        apiVersion: v1
        kind: Node
        metadata: {{name: n1}}
        status: {{conditions: [{{type: Ready, status: {status}, message: "{message}"}}]}}
        """
    )
    assert isinstance(found, Node)
    assert found.shutting_down is expected


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ("[]", True),
        ("[{type: Ready, status: 'True'}]", True),
        ("[{type: Ready, status: 'False'}]", False),
        ("[{type: Ready, status: Unknown}]", False),
    ],
)
def test_node_ready_unless_said_otherwise(conditions: str, ready: bool) -> None:
    text = f"{{apiVersion: v1, kind: Node, metadata: {{name: n}}, status: {{conditions: {conditions}}}}}"
    assert fact(text).ready is ready


def test_node_with_podcidr_alone() -> None:
    text = "{apiVersion: v1, kind: Node, metadata: {name: n}, spec: {podCIDR: 10.1.0.0/24}}"
    assert fact(text).blocks == (ip_network("10.1.0.0/24"),)


def test_namespace_and_its_labels() -> None:
    text = "{apiVersion: v1, kind: Namespace, metadata: {name: web, labels: {a: b}}}"
    assert fact(text) == Namespace("web", {"a": "b"})


def test_secret_string_data_wins_and_repr_hides() -> None:
    data = base64.b64encode(b"old-canary").decode()
    secret = fact(
        f"""
        apiVersion: v1
        kind: Secret
        metadata: {{name: bgp, namespace: kube-system}}
        data: {{password: {data}, other: {data}}}
        stringData: {{password: new-canary}}
        """
    )
    assert secret == Secret(
        ObjectName("kube-system", "bgp"), {"password": b"new-canary", "other": b"old-canary"}
    )
    assert "canary" not in repr(secret)


def test_secret_errors_never_quote_the_value() -> None:
    for part in ('data: {password: "canary!"}', "stringData: {password: 5318008}"):
        field, why = refusal(f"{{apiVersion: v1, kind: Secret, metadata: {{name: s}}, {part}}}")
        assert field.endswith(".password")
        assert "canary" not in why
        assert "5318008" not in why


def test_service() -> None:
    assert fact(
        """
        apiVersion: v1
        kind: Service
        metadata:
          name: web
          namespace: shop
          labels: {app: web}
          annotations: {l3net.io/advertise: "false"}
          creationTimestamp: "2026-01-02T03:04:05Z"
        spec:
          type: LoadBalancer
          clusterIP: 10.96.0.10
          clusterIPs: [10.96.0.10, "fd00:10:96::a"]
          externalIPs: [198.51.100.7]
          loadBalancerClass: l3net.io/bgp
          internalTrafficPolicy: Local
          externalTrafficPolicy: Local
          sessionAffinity: ClientIP
          sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}
          loadBalancerSourceRanges: [192.0.2.0/24, " 2001:db8::1/64 "]
          publishNotReadyAddresses: true
          ports: [{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, protocol: UDP}]
        status:
          loadBalancer:
            ingress: [{ip: 203.0.113.1}, {hostname: a.example}, {ip: 203.0.113.2, ipMode: Proxy}]
        """
    ) == Service(
        name=ObjectName("shop", "web"),
        type="LoadBalancer",
        cluster_ips=(ip_address("10.96.0.10"), ip_address("fd00:10:96::a")),
        external_ips=(ip_address("198.51.100.7"),),
        load_balancer_ips=(ip_address("203.0.113.1"),),
        ports=(ServicePort("http", "TCP", 80), ServicePort("dns", "UDP", 53)),
        internal_traffic_local=True,
        external_traffic_local=True,
        affinity_timeout=600,
        source_ranges=(ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")),
        created="2026-01-02T03:04:05Z",
        load_balancer_class="l3net.io/bgp",
        publish_not_ready=True,
        labels={"app": "web"},
        annotations={"l3net.io/advertise": "false"},
    )


@pytest.mark.parametrize(
    ("kind", "ports"),
    [("NodePort", (30080, 0)), ("LoadBalancer", (30080, 0)), ("ClusterIP", (0, 0)), ("ExternalName", ())],
)
def test_node_ports_are_of_the_types_that_have_some(kind: str, ports: tuple[int, ...]) -> None:
    text = "ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 81}]"
    found = fact(f"{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {{type: {kind}, {text}}}}}")
    assert tuple(port.node_port for port in found.ports) == ports


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", NodePortAddresses()),
        ("[primary]", NodePortAddresses(primary=True)),
        (
            '[10.0.0.0/8, "fd00::/8"]',
            NodePortAddresses(cidrs=(ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
        ),
    ],
)
def test_node_port_addresses(text: str, expected: NodePortAddresses) -> None:
    found = fact(own("BGPConfiguration", f"nodePortAddresses: {text}", name="default"))
    assert found.node_ports == expected


def test_collectors() -> None:
    text = (
        "monitoring: {bmp: [{name: one, address: 192.0.2.9, port: 1790}, "
        "{name: two, address: 'fd00::9', port: 5000, nodeSelector: {matchLabels: {rack: a}}}]}"
    )
    one, two = fact(own("BGPConfiguration", text, name="default")).collectors
    assert one == BmpCollector("one", ip_address("192.0.2.9"), 1790)
    assert (two.address, two.port) == (ip_address("fd00::9"), 5000)
    assert two.node_selector.matches({"rack": "a"}) and not two.node_selector.matches({})


SOURCES = "service.beta.kubernetes.io/load-balancer-source-ranges"


@pytest.mark.parametrize(
    ("spec", "annotation", "expected"),
    [
        ("type: LoadBalancer", "", None),
        ("type: LoadBalancer, loadBalancerSourceRanges: []", "", None),
        ("type: ClusterIP, loadBalancerSourceRanges: [10.0.0.0/8]", "", None),
        ("type: LoadBalancer", "10.0.0.0/8, 192.0.2.1/24", ["10.0.0.0/8", "192.0.2.0/24"]),
        ("type: LoadBalancer, loadBalancerSourceRanges: [172.16.0.0/12]", "10.0.0.0/8", ["172.16.0.0/12"]),
    ],
)
def test_source_ranges(spec: str, annotation: str, expected: list[str] | None) -> None:
    found = fact(
        "{apiVersion: v1, kind: Service, "
        f"metadata: {{name: s, annotations: {{{SOURCES}: '{annotation}'}}}}, spec: {{{spec}}}}}"
    ).source_ranges
    assert found == (None if expected is None else tuple(map(ip_network, expected)))


@pytest.mark.parametrize(
    "ranges", ["[10.0.0.0/8, nonsense]", "[10.0.0.0]", "[10.0.0.0/33]", "10.0.0.0/8", "[7]"]
)
def test_a_source_range_that_cannot_be_read_never_widens(ranges: str) -> None:
    """Left out, what remains might be nothing, and nothing is everybody."""
    field, _ = refusal(
        f"{{apiVersion: v1, kind: Service, metadata: {{name: s}}, "
        f"spec: {{type: LoadBalancer, loadBalancerSourceRanges: {ranges}}}}}"
    )
    assert field.startswith("spec.loadBalancerSourceRanges")


@pytest.mark.parametrize(
    ("said", "seconds"), [("", 10800), (", sessionAffinityConfig: {clientIP: {timeoutSeconds: 7}}", 7)]
)
def test_affinity_lasts_as_long_as_is_said(said: str, seconds: int) -> None:
    text = (
        f"{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {{sessionAffinity: ClientIP{said}}}}}"
    )
    assert fact(text).affinity_timeout == seconds
    assert fact(text.replace("ClientIP", "None", 1)).affinity_timeout == 0


@pytest.mark.parametrize(
    "ips", ["clusterIP: None", "clusterIPs: [None]", "clusterIP: ''", "type: ExternalName"]
)
def test_service_without_cluster_ips(ips: str) -> None:
    service = fact(f"{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {{{ips}}}}}")
    assert service.cluster_ips == ()
    assert service.name == ObjectName("default", "s")


def test_endpoint_slice_conditions() -> None:
    assert fact(
        """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: web-abc, namespace: shop, labels: {kubernetes.io/service-name: web}}
        addressType: IPv4
        endpoints:
        - {addresses: [10.1.0.1]}
        - {addresses: [10.1.0.2], conditions: {ready: null}}
        - {addresses: [10.1.0.3], conditions: {ready: false}, nodeName: n1}
        - {addresses: [10.1.0.4], conditions: {ready: false, serving: true, terminating: true}}
        - {addresses: [10.1.0.5, 10.1.0.6], conditions: {ready: true}}
        ports: [{name: http, port: 8080}, {port: 53, protocol: UDP}, {name: any, port: null}]
        """
    ) == EndpointSlice(
        name=ObjectName("shop", "web-abc"),
        service=ObjectName("shop", "web"),
        endpoints=(
            Endpoint(ip_address("10.1.0.1")),
            Endpoint(ip_address("10.1.0.2")),
            Endpoint(ip_address("10.1.0.3"), ready=False, serving=False, node="n1"),
            Endpoint(ip_address("10.1.0.4"), ready=False, serving=True, terminating=True),
            Endpoint(ip_address("10.1.0.5")),
        ),
        ports={"http": ("TCP", 8080), "": ("UDP", 53)},
    )


_ODD = st.sampled_from([None, "", "x", 0, 1, 1.5, [], {}, ["a"], {"a": 1}, "fe80::1%e", "10.0.0.0/8"])
_FLAGS = st.one_of(st.booleans(), _ODD)
_ENDPOINTS = st.fixed_dictionaries(
    {},
    optional={
        "addresses": st.one_of(
            st.lists(st.one_of(st.ip_addresses().map(str), st.sampled_from(["127.0.0.1", "::1"]), _ODD)), _ODD
        ),
        "conditions": st.one_of(
            st.fixed_dictionaries(dict.fromkeys(("ready", "serving", "terminating"), _FLAGS)), _ODD
        ),
        "nodeName": st.one_of(st.just("n1"), _ODD),
        "hints": st.one_of(st.just({"forNodes": [{"name": "n1"}]}), _ODD),
    },
)


@given(st.one_of(_ENDPOINTS, _ODD), st.sampled_from([4, 6]))
def test_an_endpoint_read_the_short_way_is_the_same(value: object, version: int) -> None:
    short = usual_endpoint(value, version)
    if short is not None:
        assert short == endpoint(Field("", value), version)


def test_endpoints_as_controllers_write_them_go_the_short_way() -> None:
    conditions = {"ready": True, "serving": True, "terminating": False}
    value = {"addresses": ["10.0.0.1"], "conditions": conditions, "nodeName": "n1", "targetRef": {}}
    assert (
        usual_endpoint(value, 4)
        == endpoint(Field("", value), 4)
        == Endpoint(ip_address("10.0.0.1"), node="n1")
    )
    assert usual_endpoint(value, 6) is None


def test_hints_of_endpoints() -> None:
    text = """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: w, labels: {kubernetes.io/service-name: web}}
        addressType: IPv4
        endpoints:
        - {addresses: [10.1.0.1], hints: {forZones: [{name: a}, {name: b}], forNodes: [{name: n1}]}}
        - {addresses: [10.1.0.2], hints: {forZones: []}}
        - {addresses: [10.1.0.3], hints: null}
        ports: [{port: 80}]
        """
    found = fact(text)
    assert isinstance(found, EndpointSlice)
    assert [each.hints for each in found.endpoints] == [Hints(("n1",), ("a", "b")), None, None]
    assert refusal(text.replace("{name: n1}", "{name: 1}"))[0] == "endpoints[0].hints.forNodes[0].name"


@pytest.mark.parametrize("label", ["headless", "service-proxy-name"])
def test_a_slice_that_is_for_another_proxy_or_none_is_not_read(label: str) -> None:
    text = """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: w, labels: {kubernetes.io/service-name: web, service.kubernetes.io/%s: ""}}
        addressType: IPv4
        endpoints: [{addresses: [10.1.0.1]}]
        """
    assert translate(yaml.safe_load(text % label)) is None
    assert translate(yaml.safe_load(text % "any")) is not None


def test_endpoint_slice_family_must_match() -> None:
    text = """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: w, labels: {kubernetes.io/service-name: web}}
        addressType: %s
        endpoints: [{addresses: ["%s"]}]
        """
    assert refusal(text % ("IPv4", "fd00::1"))[0] == "endpoints[0].addresses[0]"
    assert refusal(text % ("IPv6", "10.0.0.1"))[0] == "endpoints[0].addresses[0]"
    assert fact(text % ("FQDN", "a.example")).endpoints == ()


def test_endpoint_slice_of_no_service_is_not_ours() -> None:
    text = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: w}, addressType: IPv4}"
    assert translate(parsed(text)) is None
    assert identify(parsed(text)) == (Kind.ENDPOINT_SLICE, ObjectName("default", "w"))


@pytest.mark.parametrize(
    "text",
    [
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}}",
        "{apiVersion: crd.projectcalico.org/v1, kind: BGPPeer, metadata: {name: x}}",
        "{apiVersion: example.com/v1, kind: Node, metadata: {name: x}}",
    ],
)
def test_other_kinds_are_not_read(text: str) -> None:
    assert translate(parsed(text)) is None


# --- l3net's own -------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_facts() -> None:
    empty = "{apiVersion: l3net.io/v1alpha1, kind: BGPConfiguration, metadata: {name: default}}"
    assert fact(empty) == BgpConfiguration()
    assert fact(own("BGPPeer", "{address: 192.0.2.1, asNumber: 65001}")) == BgpPeer(
        "x", ip_address("192.0.2.1"), as_number=65001
    )
    assert fact(own("BGPFilter", "{}")) == BgpFilter("x")
    assert fact(own("IPPool", "cidr: 10.244.0.0/16")) == IpPool("x", ip_network("10.244.0.0/16"), 24)
    assert fact(own("IPPool", "cidr: fd00:10:244::/64")) == IpPool("x", ip_network("fd00:10:244::/64"), 120)


def test_bgp_configuration_in_full() -> None:
    assert fact(
        own(
            "BGPConfiguration",
            """
asNumber: 4200000000
listenPort: 1179
nodeToNodeMesh: false
holdTime: 9
gracefulRestart: {enabled: true, restartTime: 60}
serviceCIDRs: [10.96.0.0/16, "fd00:10:96::/112"]
advertise:
  podBlocks: false
  clusterIPs: {enabled: false, cidrs: [10.96.0.0/24]}
  externalIPs: {enabled: true, cidrs: [198.51.100.0/24]}
  loadBalancerIPs: {enabled: true, cidrs: ["2001:db8::/64"]}
  networks: [10.0.0.0/8]
  communities: ["64512:100", "64512:1:2"]
import:
  defaultRoute: true
  nodeSubnets: true
  ebgpRequiresPolicy: false
  bogons: {prefixes: true, privateASNumbers: true}
transit: true
""",
            name="default",
        )
    ) == BgpConfiguration(
        as_number=4200000000,
        listen_port=1179,
        mesh=False,
        hold_time=9,
        graceful_restart=60,
        advertise=AdvertisePolicy(
            pod_blocks=False,
            cluster_ips=AddressKind(False, (ip_network("10.96.0.0/24"),)),
            external_ips=AddressKind(True, (ip_network("198.51.100.0/24"),)),
            load_balancer_ips=AddressKind(True, (ip_network("2001:db8::/64"),)),
            networks=(ip_network("10.0.0.0/8"),),
            communities=frozenset({Community((64512, 100)), Community((64512, 1, 2))}),
        ),
        imports=ImportPolicy(
            default_route=True,
            node_subnets=True,
            ebgp_requires_policy=False,
            bogons=Bogons(prefixes=True, private_as_numbers=True),
        ),
        service_cidrs=(ip_network("10.96.0.0/16"), ip_network("fd00:10:96::/112")),
        transit=True,
    )


def test_bgp_peer_in_full() -> None:
    assert fact(
        own(
            "BGPPeer",
            """
address: fe80::1
asNumber: 65001
port: 1179
nodes: [n1, n2]
nodeSelector:
  matchLabels: {rack: a}
  matchExpressions: [{key: role, operator: NotIn, values: [edge, core]}, {key: gpu, operator: DoesNotExist}]
families: [IPv6, IPv4]
password: {secretKeyRef: {name: bgp, key: password}}
localAddress: fe80::2
sourceInterface: eth0
passive: true
gtsm: true
nextHopMode: Keep
holdTime: 0
sendHoldTime: 700
gracefulRestart: {enabled: false}
filters: [b, a]
""",
        )
    ) == BgpPeer(
        name="x",
        address=ip_address("fe80::1"),
        as_number=65001,
        port=1179,
        nodes=("n1", "n2"),
        node_selector=Selector(
            (
                Requirement("rack", "In", ("a",)),
                Requirement("role", "NotIn", ("core", "edge")),
                Requirement("gpu", "DoesNotExist"),
            )
        ),
        families=frozenset({Family.IPV4, Family.IPV6}),
        password=SecretKey(ObjectName("kube-system", "bgp"), "password"),
        local_address=ip_address("fe80::2"),
        source_interface="eth0",
        passive=True,
        gtsm=True,
        next_hop=NextHopMode.KEEP,
        hold_time=0,
        send_hold_time=700,
        graceful_restart=0,
        filters=("b", "a"),
    )


def test_a_peer_on_an_interface_exchanges_both_families_with_ipv6_next_hops() -> None:
    assert fact(own("BGPPeer", "{interface: eth1, asNumber: 65001}")) == BgpPeer(
        name="x",
        interface="eth1",
        as_number=65001,
        families=frozenset(Family),
        extended_next_hop=True,
    )


def test_a_peer_on_an_interface_may_have_bfd() -> None:
    assert fact(own("BGPPeer", "{interface: eth1, bfd: {}}")).bfd == BfdSettings()


PEER_WITH_BFD = """
apiVersion: l3net.io/v1alpha1
kind: BGPPeer
metadata: {{name: tor}}
spec: {{address: 10.0.0.1, asNumber: 65001, bfd: {bfd}}}
"""


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("{}", BfdSettings()),
        ("{minInterval: 50, multiplier: 5, passive: true}", BfdSettings(50, 5, passive=True)),
        ("{enabled: false}", None),
        ("{echo: {}}", BfdSettings()),
        (
            "{echo: {transmitInterval: 50, receiveInterval: 60}}",
            BfdSettings(echo_transmit=50, echo_receive=60),
        ),
        (
            "{authentication: {type: KeyedSHA1, keyID: 7, secretKeyRef: {name: bfd, key: password}}}",
            BfdSettings(
                auth=BfdAuth(
                    BfdAuthType.KEYED_SHA1, 7, SecretKey(ObjectName("kube-system", "bfd"), "password")
                )
            ),
        ),
    ],
)
def test_bfd_of_a_peer(text: str, settings: BfdSettings | None) -> None:
    assert fact(PEER_WITH_BFD.format(bfd=text)).bfd == settings


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{minInterval: 49}", "spec.bfd.minInterval"),
        ("{multiplier: 0}", "spec.bfd.multiplier"),
        ("{authentication: {type: KeyedMD5}}", "spec.bfd.authentication"),
        ("{interval: 50}", "spec.bfd"),
        ("{echo: {transmitInterval: 49}}", "spec.bfd.echo.transmitInterval"),
        ("{echo: {receiveInterval: -1}}", "spec.bfd.echo.receiveInterval"),
        ("{echo: {}}, multihop: 2", "spec.bfd.echo"),
    ],
)
def test_bfd_that_cannot_be(text: str, field: str) -> None:
    assert refusal(PEER_WITH_BFD.format(bfd=text))[0].startswith(field)


def test_bfd_of_the_mesh_is_off_unless_asked_for() -> None:
    text = """
apiVersion: l3net.io/v1alpha1
kind: BGPConfiguration
metadata: {name: default}
spec: {bfd: %s}
"""
    assert fact(text % "{}").bfd is None
    assert fact(text % "{enabled: true, minInterval: 100}").bfd == BfdSettings(100)
    assert fact(text % "{enabled: true, echo: {receiveInterval: 50}}").bfd == BfdSettings(echo_receive=50)


def test_bgp_peer_by_selector() -> None:
    peer = fact(own("BGPPeer", "peerSelector: {}"))
    assert peer.peer_selector == EVERYTHING
    assert peer.address is None
    assert peer.as_number is None


def test_bgp_filter_in_full() -> None:
    assert fact(
        own(
            "BGPFilter",
            """
import: [{action: Reject}]
export:
- action: Accept
  cidr: 10.244.0.0/16
  matchOperator: NotIn
  prefixLength: {min: 24, max: 28}
  peerType: eBGP
  communities: ["65001:1"]
  asPathPrefix: [65001, 65002]
  operations: {addCommunities: ["1:2:3"], prependASPath: [64512, 64512], setLocalPreference: 50, setMED: 0}
""",
        )
    ) == BgpFilter(
        "x",
        imports=(FilterRule(Action.REJECT),),
        exports=(
            FilterRule(
                Action.ACCEPT,
                cidr=ip_network("10.244.0.0/16"),
                operator=PrefixOperator.NOT_IN,
                min_length=24,
                max_length=28,
                external=True,
                communities=frozenset({Community((65001, 1))}),
                as_path_prefix=(65001, 65002),
                operations=Operations(frozenset({Community((1, 2, 3))}), (64512, 64512), 50, 0),
            ),
        ),
    )


def test_ip_pool_in_full() -> None:
    assert fact(
        own(
            "IPPool",
            """
cidr: 10.245.0.0/16
blockSize: 26
natOutgoing: true
natExceptCIDRs: [192.0.2.0/24]
disabled: true
advertise: false
nodeSelector: {matchLabels: {zone: b}}
namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}
allowedUses: [LoadBalancer]
""",
        )
    ) == IpPool(
        "x",
        ip_network("10.245.0.0/16"),
        26,
        nat_outgoing=True,
        nat_excepts=(ip_network("192.0.2.0/24"),),
        disabled=True,
        advertise=False,
        node_selector=Selector((Requirement("zone", "In", ("b",)),)),
        namespace_selector=Selector((Requirement("team", "Exists"),)),
        allowed_uses=frozenset({PoolUse.LOAD_BALANCER}),
    )


def test_egress_ip_in_full() -> None:
    document = own(
        "EgressIP",
        """
namespaceSelector: {matchLabels: {team: a}}
podSelector: {matchExpressions: [{key: app, operator: Exists}]}
destinationCIDRs: [192.0.2.0/24, "2001:db8::/32"]
nodeSelector: {matchLabels: {zone: b}}
addresses: [203.0.113.10, 203.0.113.11]
ipFamilies: [IPv4, IPv6]
replicas: 2
pool: out
""",
    )
    found = fact(f'{document}status: {{addresses: [203.0.113.10, 203.0.113.11, "2001:db8:e::1"], nodes: n1}}')
    one, two, given = map(ip_address, ("203.0.113.10", "203.0.113.11", "2001:db8:e::1"))
    assert found == EgressIp(
        "x",
        namespaces=Selector((Requirement("team", "In", ("a",)),)),
        pods=Selector((Requirement("app", "Exists"),)),
        destinations=(ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")),
        nodes=Selector((Requirement("zone", "In", ("b",)),)),
        wanted=(one, two),
        pool="out",
        versions=(6,),
        replicas=2,
        given=(one, two, given),
    )
    assert found.addresses == (one, two, given)
    assert fact(own("EgressIP", "namespaceSelector: {}")) == EgressIp("x", versions=(4,))
    named = fact(own("EgressIP", "{namespaceSelector: {}, addresses: ['2001:db8::1']}"))
    assert not named.versions and named.covers(6) and not named.covers(4)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("{cidr: 10.245.0.0/16, natExceptCIDRs: [192.0.2.0/24]}", "an exception from natOutgoing: true"),
        (
            "{cidr: 10.245.0.0/16, natOutgoing: true, natExceptCIDRs: ['2001:db8::/64']}",
            "not of the pool's family",
        ),
    ],
)
def test_exceptions_from_masquerading_are_of_use(spec: str, why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        fact(own("IPPool", spec))


def test_a_small_pool_is_one_block() -> None:
    assert fact(own("IPPool", "cidr: 10.245.0.0/28")).block_size == 28


PEER = "address: 192.0.2.1, asNumber: 65001"

WRONG = [
    # kind, spec, field, a word of the reason
    ("BGPConfiguration", "{asnumber: 1}", "spec.asnumber", "did you mean asNumber?"),
    ("BGPConfiguration", "{asNumber: 0}", "spec.asNumber", "1 to 4294967295"),
    ("BGPConfiguration", "{asNumber: 4294967296}", "spec.asNumber", "out of range"),
    ("BGPConfiguration", "{asNumber: '1'}", "spec.asNumber", "leave out the quotes"),
    ("BGPConfiguration", "{holdTime: 2}", "spec.holdTime", "3 to 65535"),
    (
        "BGPPeer",
        "{address: 10.0.0.1, asNumber: 1, holdTime: 9, sendHoldTime: 9}",
        "spec.sendHoldTime",
        "greater",
    ),
    ("BGPPeer", "{address: 10.0.0.1, asNumber: 1, sendHoldTime: -1}", "spec.sendHoldTime", "0"),
    (
        "BGPConfiguration",
        "{gracefulRestart: {restartTime: 4096}}",
        "spec.gracefulRestart.restartTime",
        "4095",
    ),
    ("BGPConfiguration", "{serviceCIDRs: [10.96.0.1/16]}", "spec.serviceCIDRs[0]", "10.96.0.0/16?"),
    ("BGPConfiguration", "{serviceCIDRs: 10.96.0.0/16}", "spec.serviceCIDRs", "must be a list"),
    (
        "BGPConfiguration",
        "{nodePortAddresses: [10.0.0.1/8]}",
        "spec.nodePortAddresses[0]",
        "10.0.0.0/8?",
    ),
    (
        "BGPConfiguration",
        "{nodePortAddresses: [10.0.0.0/8, primary]}",
        "spec.nodePortAddresses",
        "primary stands alone",
    ),
    *(
        ("BGPConfiguration", f"{{monitoring: {{bmp: [{rows}]}}}}", f"spec.monitoring.bmp[{where}", words)
        for rows, where, words in (
            ("{name: a, address: 224.0.0.1, port: 1}", "0].address", "not the address of a host"),
            ("{name: a, address: 'fe80::1', port: 1}", "0].address", "link-local"),
            ("{name: a, address: 10.0.0.1, port: 0}", "0].port", "1"),
            ("{name: A, address: 10.0.0.1, port: 1}", "0].name", "A"),
            (
                "{name: a, address: 10.0.0.1, port: 1}, {name: b, address: 10.0.0.1, port: 1}",
                "1].address",
                "another collector's",
            ),
            (
                "{name: a, address: 10.0.0.1, port: 1}, {name: a, address: 10.0.0.2, port: 1}",
                "1].name",
                "another collector",
            ),
        )
    ),
    ("BGPConfiguration", "{nodePortAddresses: [eth0]}", "spec.nodePortAddresses[0]", "eth0"),
    ("BGPConfiguration", "{nodePortAddresses: [10.0.0.0/33]}", "spec.nodePortAddresses[0]", "prefix"),
    (
        "BGPConfiguration",
        "{advertise: {networks: [10.0.0.1]}}",
        "spec.advertise.networks[0]",
        "lacks a prefix",
    ),
    (
        "BGPConfiguration",
        "{advertise: {networks: [10.0.0.0/255.0.0.0]}}",
        "spec.advertise.networks[0]",
        "end in",
    ),
    (
        "BGPConfiguration",
        "{advertise: {communities: ['70000:1']}}",
        "spec.advertise.communities[0]",
        "at most 65535",
    ),
    (
        "BGPConfiguration",
        "{advertise: {communities: ['1:2:4294967296']}}",
        "spec.advertise.communities[0]",
        "RFC 8092",
    ),
    (
        "BGPConfiguration",
        "{advertise: {communities: [no-exports]}}",
        "spec.advertise.communities[0]",
        "look right",
    ),
    (
        "BGPConfiguration",
        "{advertise: {clusterIP: {}}}",
        "spec.advertise.clusterIP",
        "did you mean clusterIPs?",
    ),
    ("BGPPeer", "{}", "spec.address", "either address, peerSelector, autodiscover or interface"),
    (
        "BGPPeer",
        f"{{{PEER}, peerSelector: {{}}}}",
        "spec.address",
        "either address, peerSelector, autodiscover or interface",
    ),
    ("BGPPeer", "{address: 192.0.2.1}", "spec.asNumber", "required"),
    ("BGPPeer", "{address: 192.0.2.1/24, asNumber: 1}", "spec.address", "not an address; remove /24"),
    ("BGPPeer", "{address: 192.0.2.300, asNumber: 1}", "spec.address", "not an IP address"),
    ("BGPPeer", "{address: 224.0.0.1, asNumber: 1}", "spec.address", "not the address of a host"),
    ("BGPPeer", "{address: '::', asNumber: 1}", "spec.address", "not the address of a host"),
    ("BGPPeer", "{address: 'fe80::1', asNumber: 1}", "spec.sourceInterface", "link-local"),
    ("BGPPeer", f"{{{PEER}, gtsm: true, multihop: 2}}", "spec.gtsm", "cannot be combined with multihop"),
    ("BGPPeer", f"{{{PEER}, interface: eth1}}", "spec.address", "or interface"),
    ("BGPPeer", "{interface: eth1, asNumber: 1, multihop: 2}", "spec.multihop", "on an interface"),
    ("BGPPeer", "{interface: eth1, asNumber: 1, sourceInterface: e}", "spec.sourceInterface", "interface"),
    ("BGPPeer", "{interface: eth1, asNumber: 1, passive: true}", "spec.passive", "only dialled"),
    ("BGPPeer", "{address: 10.0.0.1, asNumber: 1, extendedNextHop: true}", "spec.extendedNextHop", "IPv6"),
    ("BGPPeer", f"{{{PEER}, multihop: 0}}", "spec.multihop", "1 to 255"),
    ("BGPPeer", f"{{{PEER}, localAddress: 'fd00::1'}}", "spec.localAddress", "one family"),
    ("BGPPeer", f"{{{PEER}, families: [ipv4]}}", "spec.families[0]", "IPv4, IPv6"),
    ("BGPPeer", f"{{{PEER}, families: []}}", "spec.families", "too few"),
    ("BGPPeer", f"{{{PEER}, port: 70000}}", "spec.port", "1 to 65535"),
    ("BGPPeer", f"{{{PEER}, nextHopMode: self}}", "spec.nextHopMode", "Self, Keep"),
    ("BGPPeer", f"{{{PEER}, passive: 'yes'}}", "spec.passive", "true or false"),
    ("BGPPeer", f"{{{PEER}, sourceInterface: a/b}}", "spec.sourceInterface", "look right"),
    ("BGPPeer", f"{{{PEER}, sourceInterface: sixteen-letters-}}", "spec.sourceInterface", "too long"),
    ("BGPPeer", f"{{{PEER}, password: {{}}}}", "spec.password.secretKeyRef", "required"),
    ("BGPPeer", f"{{{PEER}, password: hunter2}}", "spec.password", "must be an object"),
    (
        "BGPPeer",
        f"{{{PEER}, password: {{secretKeyRef: {{name: a}}}}}}",
        "spec.password.secretKeyRef.key",
        "required",
    ),
    (
        "BGPPeer",
        f"{{{PEER}, nodeSelector: {{matchExpressions: [{{key: a, operator: In}}]}}}}",
        "spec.nodeSelector.matchExpressions[0].values",
        "In and NotIn",
    ),
    (
        "BGPPeer",
        f"{{{PEER}, nodeSelector: {{matchExpressions: [{{key: a, operator: Exists, values: [b]}}]}}}}",
        "spec.nodeSelector.matchExpressions[0].values",
        "In and NotIn",
    ),
    (
        "BGPPeer",
        f"{{{PEER}, nodeSelector: {{matchlabels: {{}}}}}}",
        "spec.nodeSelector.matchlabels",
        "matchLabels?",
    ),
    (
        "BGPPeer",
        f"{{{PEER}, nodeSelector: {{matchLabels: {{a: 1}}}}}}",
        "spec.nodeSelector.matchLabels.a",
        "quote it",
    ),
    ("BGPFilter", "{export: [{}]}", "spec.export[0].action", "required"),
    ("BGPFilter", "{export: [{action: accept}]}", "spec.export[0].action", "Accept, Reject"),
    (
        "BGPFilter",
        "{export: [{action: Reject, operations: {}}]}",
        "spec.export[0].operations",
        "changes nothing",
    ),
    (
        "BGPFilter",
        "{import: [{action: Accept, prefixLength: {min: 25, max: 24}}]}",
        "spec.import[0].prefixLength.min",
        "above max",
    ),
    (
        "BGPFilter",
        "{import: [{action: Accept, cidr: 10.0.0.0/8, prefixLength: {max: 33}}]}",
        "spec.import[0].prefixLength.max",
        "0 to 32",
    ),
    ("IPPool", "{}", "spec.cidr", "required"),
    ("IPPool", "{cidr: 10.244.1.0/16}", "spec.cidr", "10.244.0.0/16?"),
    ("IPPool", "{cidr: 10.244.0.0/16, blockSize: 8}", "spec.blockSize", "larger than its pool"),
    ("IPPool", "{cidr: 10.244.0.0/16, blockSize: 31}", "spec.blockSize", "no room for a pod"),
    ("IPPool", "{cidr: 10.244.0.0/16, blockSize: 33}", "spec.blockSize", "1 to 32"),
    ("IPPool", "{cidr: 'fd00::/64', blockSize: 127}", "spec.blockSize", "no room for a pod"),
    ("IPPool", "{cidr: 224.0.0.0/8}", "spec.cidr", "not a range"),
    ("IPPool", "{cidr: 10.0.0.0/16, allowedUses: [pods]}", "spec.allowedUses[0]", "Pods, LoadBalancer"),
    ("IPPool", "{cidr: 10.0.0.0/16, allowedUses: []}", "spec.allowedUses", "too few"),
    ("EgressIP", "{}", "spec.namespaceSelector", "required"),
    ("EgressIP", "{namespaceSelector: }", "spec.namespaceSelector", "required"),
    ("EgressIP", "{namespaceSelector: {}, replicas: 17}", "spec.replicas", "1 to 16"),
    ("EgressIP", "{namespaceSelector: {}, addresses: [192.0.2.1/32]}", "spec.addresses[0]", "192.0.2.1/32"),
    (
        "EgressIP",
        "{namespaceSelector: {}, addresses: ['2001:db8::1', '2001:DB8:0::1']}",
        "spec.addresses",
        "one address twice",
    ),
    (
        "EgressIP",
        "{namespaceSelector: {}, destinationCIDRs: [192.0.2.1/24]}",
        "spec.destinationCIDRs[0]",
        "192.0.2.0/24?",
    ),
]


@pytest.mark.parametrize(("kind", "spec", "field", "word"), WRONG)
def test_what_is_wrong_is_named(kind: str, spec: str, field: str, word: str) -> None:
    where, why = refusal(own(kind, spec, "default"))
    assert (where, word in why) == (field, True), why
    assert "\n" not in why


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{kind: Node}", "apiVersion"),
        ("{apiVersion: v1}", "kind"),
        ("{apiVersion: v1, kind: Node}", "metadata.name"),
        ("{apiVersion: v1, kind: Node, metadata: {name: Upper}}", "metadata.name"),
        ("{apiVersion: v1, kind: Node, metadata: {name: 'a\\n'}}", "metadata.name"),
        ("{apiVersion: v1, kind: Node, metadata: {name: 1}}", "metadata.name"),
        ("{apiVersion: v1, kind: Node, metadata: {name: n, namespace: x}}", "metadata.namespace"),
        ("{apiVersion: v1, kind: BGPPeer, metadata: {name: n}}", "apiVersion"),
        ("{apiVersion: l3net.io/v1, kind: BGPPeer, metadata: {name: n}}", "apiVersion"),
        ("{apiVersion: l3net.io/v1alpha1, kind: BgpPeer, metadata: {name: n}}", "kind"),
        ("{apiVersion: discovery.k8s.io/v1beta1, kind: EndpointSlice, metadata: {name: n}}", "apiVersion"),
        ("{apiVersion: l3net.io/v1alpha1, kind: BGPConfiguration, metadata: {name: n}}", "metadata.name"),
        ("{apiVersion: l3net.io/v1alpha1, kind: IPPool, metadata: {name: n}, sepc: {}}", "sepc"),
        (
            "{apiVersion: v1, kind: Node, metadata: {name: n}, spec: {podCIDRs: [10.0.0.1/24]}}",
            "spec.podCIDRs[0]",
        ),
        ("{apiVersion: v1, kind: Node, metadata: {name: n}, spec: []}", "spec"),
        (
            "{apiVersion: v1, kind: Node, metadata: {name: n, annotations: {l3net.io/as-number: '0'}}}",
            "metadata.annotations.l3net.io/as-number",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: n}, spec: {ports: [{port: 0}]}}",
            "spec.ports[0].port",
        ),
        ("{apiVersion: v1, kind: Service, metadata: {name: n}, spec: {ports: {}}}", "spec.ports"),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: n}, spec: {clusterIPs: [1.2.3]}}",
            "spec.clusterIPs[0]",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: n}, spec: {internalTrafficPolicy: local}}",
            "spec.internalTrafficPolicy",
        ),
    ],
)
def test_what_is_wrong_outside_our_schemas(text: str, field: str) -> None:
    assert refusal(text)[0] == field


# --- elements that are left out --------------------------------------------------------------------------


def lenient(text: str) -> tuple[Any, list[str]]:
    skipped: list[ManifestError] = []
    found = translate(parsed(text), skipped)
    assert found is not None
    return found[2], [each.field for each in skipped]


def test_bad_elements_of_a_node_are_left_out() -> None:
    node, skipped = lenient(
        """
        apiVersion: v1
        kind: Node
        metadata: {name: n, annotations: {l3net.io/blocks: "10.9.0.0/24, banana"}}
        spec:
          podCIDRs: [10.1.0.1/24, 10.1.0.0/24, "fd00::%x/64"]
          taints: [{key: a, effect: NoSchedule}, {key: 1}]
        status:
          addresses:
          - {type: InternalIP, address: node.example.internal}
          - {type: InternalIP, address: 192.0.2.1}
          - {type: InternalIP, address: "fe80::1%eth0"}
          - {type: ExternalIP, address: not.looked.at}
          - nonsense
          conditions: [{type: Ready, status: "False"}, {type: Ready, status: 1}, {}]
        """
    )
    assert node.addresses == (ip_address("192.0.2.1"),)
    assert node.blocks == (ip_network("10.1.0.0/24"), ip_network("10.9.0.0/24"))
    assert node.taints == {Taint("a", "NoSchedule")}
    assert not node.ready
    assert skipped == [
        "spec.podCIDRs[0]",
        "spec.podCIDRs[2]",
        "metadata.annotations.l3net.io/blocks[1]",
        "status.conditions[1].status",
        "status.conditions[2].type",
        "status.addresses[0].address",
        "status.addresses[2].address",
        "status.addresses[4]",
        "spec.taints[1].key",
    ]


def test_bad_elements_of_a_service_are_left_out() -> None:
    service, skipped = lenient(
        """
        apiVersion: v1
        kind: Service
        metadata: {name: s}
        spec:
          type: LoadBalancer
          clusterIPs: [10.96.0.1, 10.96.1, None]
          externalIPs: [198.051.100.009, 198.51.100.9, "fd00:1::5%x"]
          ports: [{port: 80}, {port: 0}, {port: 53, protocol: QUIC}, 7]
        status:
          loadBalancer:
            ingress: [{ip: 192.0.2.7}, {ip: here}, {hostname: h}, {ip: 192.0.2.8, ipMode: 1}]
        """
    )
    assert service.cluster_ips == (ip_address("10.96.0.1"),)
    assert service.external_ips == (ip_address("198.51.100.9"),)
    assert service.ports == (ServicePort("", "TCP", 80),)
    assert service.load_balancer_ips == (ip_address("192.0.2.7"),)
    assert set(skipped) == {
        "spec.clusterIPs[1]",
        "spec.externalIPs[0]",
        "spec.externalIPs[2]",
        "status.loadBalancer.ingress[1].ip",
        "status.loadBalancer.ingress[3].ipMode",
        "spec.ports[1].port",
        "spec.ports[2].protocol",
        "spec.ports[3]",
    }


@pytest.mark.parametrize(
    "special",
    [
        "0.0.0.0",
        "127.0.0.1",
        "169.254.1.1",
        "224.0.0.5",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
    ],
)
def test_addresses_that_nothing_can_be_routed_to_are_left_out_of_services(special: str) -> None:
    version = 6 if ":" in special else 4
    service, skipped = lenient(
        f"""
        apiVersion: v1
        kind: Service
        metadata: {{name: s}}
        spec:
          type: LoadBalancer
          clusterIPs: ["{special}", 10.96.0.1]
          externalIPs: ["{special}", 192.0.2.1]
          ports: [{{port: 80}}]
        status: {{loadBalancer: {{ingress: [{{ip: "{special}"}}, {{ip: 192.0.2.7}}]}}}}
        """
    )
    assert service.cluster_ips == (ip_address("10.96.0.1"),)
    assert service.external_ips == (ip_address("192.0.2.1"),)
    assert service.load_balancer_ips == (ip_address("192.0.2.7"),)
    assert skipped == ["spec.clusterIPs[0]", "spec.externalIPs[0]", "status.loadBalancer.ingress[0].ip"]
    found, skipped = lenient(
        f"""
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {{name: s-1, labels: {{kubernetes.io/service-name: s}}}}
        addressType: IPv{version}
        endpoints: [{{addresses: ["{special}"]}}]
        """
    )
    assert (found.endpoints, skipped) == ((), ["endpoints[0].addresses[0]"])


def created(text: str) -> tuple[str, list[str]]:
    service, skipped = lenient(
        f"""
        apiVersion: v1
        kind: Service
        metadata: {{name: s, creationTimestamp: {text}}}
        spec: {{clusterIPs: [10.96.0.1]}}
        """
    )
    return service.created, skipped


def test_ages_of_services_compare_as_times_do() -> None:
    utc, _ = created('"2024-01-01T00:00:00Z"')
    earlier, _ = created('"2024-01-01T05:00:00+09:00"')  # 20:00 of the day before
    assert earlier < utc
    assert created("null") == ("", [])


@pytest.mark.parametrize(
    "wrong", ['"yesterday"', '"2024-13-45T00:00:00Z"', '"2024-01-01"', '"2024-01-01T00:00:00"', '""', "5"]
)
def test_what_is_no_time_makes_no_service_older(wrong: str) -> None:
    assert created(wrong) == ("", ["metadata.creationTimestamp"])


def test_bad_elements_of_a_slice_are_left_out() -> None:
    found, skipped = lenient(
        """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}
        addressType: IPv4
        endpoints:
        - {addresses: [10.1.0.5]}
        - {addresses: ["fd00::5"]}
        - {addresses: []}
        - {addresses: [10.1.0.6], conditions: {ready: 1}}
        ports: [{name: a, port: 80}, {name: b, port: -1}, {name: c}]
        """
    )
    assert found.endpoints == (Endpoint(ip_address("10.1.0.5")),)
    assert found.ports == {"a": ("TCP", 80)}
    assert skipped == [
        "endpoints[1].addresses[0]",
        "endpoints[2].addresses",
        "endpoints[3].conditions.ready",
        "ports[1].port",
    ]


def test_a_single_value_is_left_out_as_an_element_is() -> None:
    service, skipped = lenient(
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: 1.2.3}}"
    )
    assert service.cluster_ips == ()
    assert skipped == ["spec.clusterIP"]
    node, skipped = lenient("{apiVersion: v1, kind: Node, metadata: {name: n}, spec: {podCIDR: 1.2.3}}")
    assert node.blocks == ()
    assert skipped == ["spec.podCIDR"]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (
            own("BGPConfiguration", "import: {cidrs: [10.0.0.0/8, 10.0.0.1/8]}", "default"),
            "spec.import.cidrs[1]",
        ),
        (
            own("BGPConfiguration", "advertise: {externalIPs: {cidrs: [10.0.0.1/8]}}", "default"),
            "spec.advertise.externalIPs.cidrs[0]",
        ),
        (own("BGPFilter", "import: [{action: Reject, cidr: 10.0.0.1/8}]"), "spec.import[0].cidr"),
        ("{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: YQ==, b: '*'}}", "data.b"),
    ],
)
def test_what_restricts_or_protects_is_refused_whole(text: str, field: str) -> None:
    with pytest.raises(ManifestError) as caught:
        translate(parsed(text), [])
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("reflector", "nodes"),
    [({}, 100), ({"minNodes": 5}, 5), ({"fromNodes": 7}, 7), ({"minNodes": 5, "fromNodes": 7}, 5)],
)
def test_the_old_name_of_min_nodes_still_works(reflector: dict[str, int], nodes: int) -> None:
    document = {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "BGPConfiguration",
        "metadata": {"name": "default"},
        "spec": {"topology": "Auto", "routeReflector": reflector},
    }
    found = translate(document)
    assert found is not None
    assert found[2].reflectors_from == nodes  # type: ignore[union-attr]
