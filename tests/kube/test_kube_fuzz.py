"""Whatever a manifest or an API object holds, its translation ends in facts or in an error of ours."""

from __future__ import annotations

import contextlib
import json
import string
from typing import Any

import pytest
import yaml
from examples import examples
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from mutations import mutated

from l3net.controller.decide import Settings, decide
from l3net.controller.declared import Declared
from l3net.errors import L3netError, ManifestError
from l3net.ipam.ledger import Ledger, decode
from l3net.kube.conforming import conforms
from l3net.kube.registry import KINDS as REGISTRY
from l3net.kube.schema import schema
from l3net.kube.translate import identify, translate
from l3net.model import Kind
from l3net.policy.complaints import complaints
from l3net.ports import Changed
from l3net.shell.kubernetes.kinds import KINDS, UNREADABLE
from l3net.shell.manifests.tree import interpret

#: The same examples each time: a test that fails, fails for everybody.
FUZZ = settings(
    max_examples=examples(100), deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)

#: One of each kind, with every field that is read.
SAMPLES: dict[str, str] = {
    "Node": """
        apiVersion: v1
        kind: Node
        metadata:
          name: n1
          labels: {a: b}
          annotations:
            l3net.io/as-number: "64601"
            l3net.io/blocks: "10.245.0.0/24,fd00::/120"
            l3net.io/wants-blocks: IPv4=2
        spec:
          podCIDR: 10.244.1.0/24
          podCIDRs: [10.244.1.0/24, "fd00:1::/120"]
          unschedulable: true
          taints: [{key: a, effect: NoSchedule}]
        status:
          addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: "2001:db8::1"}]
          conditions: [{type: Ready, status: "False", message: node is shutting down}]
    """,
    "Service": """
        apiVersion: v1
        kind: Service
        metadata:
          name: s
          namespace: default
          labels: {a: b}
          annotations: {l3net.io/load-balancer-ips: "198.51.100.9,fd00::9", l3net.io/sharing-key: x}
        spec:
          type: LoadBalancer
          clusterIP: 10.96.0.1
          clusterIPs: [10.96.0.1, "fd00:96::1"]
          externalIPs: [198.51.100.7, "2001:db8::7"]
          loadBalancerIP: 198.51.100.8
          loadBalancerClass: l3net.io/bgp
          loadBalancerSourceRanges: [10.0.0.0/8, "fd00::/8"]
          ports: [{name: http, protocol: TCP, port: 80}, {name: dns, protocol: UDP, port: 53}]
          internalTrafficPolicy: Local
          externalTrafficPolicy: Local
          sessionAffinity: ClientIP
          sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
          publishNotReadyAddresses: true
        status: {loadBalancer: {ingress: [{ip: 198.51.100.8, ipMode: VIP}]}}
    """,
    "EndpointSlice": """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: s-1, namespace: default, labels: {kubernetes.io/service-name: s}}
        addressType: IPv6
        endpoints:
        - {addresses: ["fd00::5"], conditions: {ready: true, serving: true, terminating: false}, nodeName: n1}
        ports: [{name: http, protocol: TCP, port: 8080}]
    """,
    "Namespace": """
        apiVersion: v1
        kind: Namespace
        metadata: {name: n, labels: {a: b}, annotations: {l3net.io/allowed-addresses: "192.0.2.9,fd00::/64"}}
    """,
    "Pod": """
        apiVersion: v1
        kind: Pod
        metadata:
          name: p
          namespace: default
          uid: 5a0e
          labels: {a: b}
          annotations: {l3net.io/allowed-addresses: "192.0.2.9, fd00::/64", kubernetes.io/config.hash: 77aa}
        spec:
          nodeName: n1
          hostNetwork: false
          containers: [{name: c, ports: [{name: http, containerPort: 80, protocol: TCP}]}]
          initContainers: [{name: i, restartPolicy: Always, ports: [{name: dns, containerPort: 53}]}]
        status: {phase: Running, podIP: 10.244.1.5, podIPs: [{ip: 10.244.1.5}, {ip: "fd00:1::5"}]}
    """,
    "NetworkPolicy": """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: p, namespace: default, annotations: {l3net.io/log-drops: "true"}}
        spec:
          podSelector: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: In, values: [d]}]}
          policyTypes: [Ingress, Egress]
          ingress:
          - from:
            - {podSelector: {}, namespaceSelector: {matchLabels: {a: b}}}
            - {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}
            ports: [{port: 80, endPort: 90}, {port: http, protocol: UDP}]
          egress:
          - {to: [{namespaceSelector: {}}], ports: [{protocol: SCTP}]}
          - {}
    """,
    "ServiceCIDR": """
        apiVersion: networking.k8s.io/v1
        kind: ServiceCIDR
        metadata: {name: kubernetes}
        spec: {cidrs: [10.96.0.0/16, "fd00:96::/112"]}
        """,
    "ClusterNetworkPolicy": """
        apiVersion: policy.networking.k8s.io/v1alpha2
        kind: ClusterNetworkPolicy
        metadata: {name: p, annotations: {l3net.io/log-drops: "false"}}
        spec:
          tier: Admin
          priority: 5
          subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {a: b}}}}
          ingress:
          - action: Deny
            name: none
            from: [{namespaces: {}}, {pods: {namespaceSelector: {}, podSelector: {}}}]
            protocols: [{tcp: {destinationPort: {number: 80}}}, {destinationNamedPort: http}]
          egress:
          - action: Pass
            to: [{networks: [10.0.0.0/8, "fd00::/8"]}, {nodes: {matchLabels: {a: b}}}]
            protocols: [{udp: {destinationPort: {range: {start: 1, end: 9}}}}]
    """,
    "Secret": """
        apiVersion: v1
        kind: Secret
        metadata: {name: s, namespace: kube-system}
        data: {a: c2VjcmV0}
        stringData: {b: secret}
    """,
    "BGPConfiguration": """
        apiVersion: l3net.io/v1alpha1
        kind: BGPConfiguration
        metadata: {name: default}
        spec:
          asNumber: 64512
          listenPort: 179
          nodeToNodeMesh: true
          topology: Auto
          routeReflector: {clusterID: 10.0.0.1, fromNodes: 10, nodeSelector: {matchLabels: {a: b}}}
          holdTime: 30
          gracefulRestart: {enabled: true, restartTime: 90}
          advertise:
            clusterIPs: {enabled: true, cidrs: [10.96.0.0/16]}
            networks: ["fd00::/64"]
            communities: ["64512:1", no-export]
            serviceSelector: {matchExpressions: [{key: a, operator: In, values: [b]}]}
          import: {cidrs: [10.0.0.0/8], bogons: {prefixes: true}}
          serviceCIDRs: [10.96.0.0/16]
          bfd: {minInterval: 300, multiplier: 3}
          drain: {onCordon: true, taints: [a], wait: 5}
    """,
    "BGPPeer": """
        apiVersion: l3net.io/v1alpha1
        kind: BGPPeer
        metadata: {name: p}
        spec:
          address: "fd00::9"
          localAddress: "fd00::1"
          asNumber: 65001
          nodes: [n1]
          families: [IPv4, IPv6]
          password: {secretKeyRef: {name: s, key: a}}
          filters: [f]
          bfd:
            echo: {transmitInterval: 100}
            authentication: {type: KeyedSHA1, keyID: 1, secretKeyRef: {name: s, key: b}}
    """,
    "BGPFilter": """
        apiVersion: l3net.io/v1alpha1
        kind: BGPFilter
        metadata: {name: f}
        spec:
          import:
          - {action: Accept, cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 8, max: 24}}
          export:
          - action: Accept
            communities: ["64512:1"]
            asPathPrefix: [65001]
            operations: {addCommunities: ["64512:2"], prependASPath: [65001], setMED: 5}
    """,
    "IPPool": """
        apiVersion: l3net.io/v1alpha1
        kind: IPPool
        metadata: {name: pool}
        spec:
          cidr: 10.245.0.0/16
          blockSize: 24
          allowedUses: [Pods]
          nodeSelector: {matchLabels: {a: b}}
    """,
    "FloatingIP": """
        apiVersion: l3net.io/v1alpha1
        kind: FloatingIP
        metadata: {name: web, namespace: shop, creationTimestamp: "2026-01-01T00:00:00Z"}
        spec:
          addresses: [203.0.113.10]
          ipFamilies: [IPv4, IPv6]
          pool: public
          requireReady: false
          selector: {matchLabels: {a: b}}
        status: {addresses: ["2001:db8::10"], pod: web-0}
    """,
    "EgressIP": """
        apiVersion: l3net.io/v1alpha1
        kind: EgressIP
        metadata: {name: shop, creationTimestamp: "2026-01-01T00:00:00Z"}
        spec:
          addresses: [203.0.113.10, 203.0.113.11]
          destinationCIDRs: [192.0.2.0/24, "2001:db8::/32"]
          ipFamilies: [IPv4, IPv6]
          namespaceSelector: {matchLabels: {a: b}}
          nodeSelector: {matchExpressions: [{key: a, operator: Exists}]}
          podSelector: {matchLabels: {a: b}}
          pool: public
          replicas: 2
        status: {addresses: ["2001:db8::10"], holders: [{address: "2001:db8::10", node: a}]}
    """,
}
DOCUMENTS = {kind: yaml.safe_load(text) for kind, text in SAMPLES.items()}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A right one in which one or two values are anything at all."""
    document = draw(mutated(DOCUMENTS[draw(st.sampled_from(sorted(DOCUMENTS)))]))
    assert isinstance(document, dict)
    return document


def test_the_samples_are_right() -> None:
    """The control: an error about the sample itself would make every example an easy one."""
    assert set(DOCUMENTS) == {kind.value for kind in Kind}
    for document in DOCUMENTS.values():
        assert translate(document) is not None


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@FUZZ
@given(documents())
@example({**DOCUMENTS["BGPPeer"], "spec": {**DOCUMENTS["BGPPeer"]["spec"], "port": 10**5000}})
@example({**DOCUMENTS["Service"], "spec": {"ports": [{"port": 10**5000}]}})
def test_a_translation_ends_in_a_fact_or_an_error_of_ours(document: dict[str, Any]) -> None:
    skipped: list[ManifestError] = []
    for ask in (lambda: translate(document, skipped), lambda: translate(document)):
        try:
            found = ask()
        except ManifestError as err:
            str(err)
            assert "please report it" not in str(err), "an error that nobody foresaw"
            continue
        if found is not None:
            hash(found[2])
            repr(found[2])
            assert found[:2] == identify(document)
    assert all(each.field for each in skipped)


OURS = sorted(kind.value for kind in REGISTRY.ours())


@FUZZ
@given(st.sampled_from(OURS).flatmap(lambda kind: st.tuples(st.just(kind), mutated(DOCUMENTS[kind]))))
def test_what_conforms_at_a_glance_conforms(drawn: tuple[str, Any]) -> None:
    kind, document = drawn
    found = schema(Kind(kind))
    if conforms(found, document):
        assert not list(Draft202012Validator(dict(found)).iter_errors(document))


@pytest.mark.parametrize("kind", OURS)
def test_the_samples_conform_at_a_glance(kind: str) -> None:
    """The control, and what keeps the library out of an agent without errors."""
    assert conforms(schema(Kind(kind)), DOCUMENTS[kind])


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, True),
        ({"type": "string", "contentEncoding": "base64"}, "x"),
        ({"type": "object", "additionalProperties": False}, {"a": 1}),
        ({"properties": {"a": {"type": "string"}}}, {}),
        ({"type": "array", "items": {"type": "string", "pattern": "^a$"}}, ["a", "ab"]),
    ],
)
def test_what_is_not_sure_is_left_to_the_library(schema: dict[str, Any], value: object) -> None:
    assert not conforms(schema, value)


@FUZZ
@given(documents())
def test_an_element_that_is_left_out_changes_nothing_else(document: dict[str, Any]) -> None:
    skipped: list[ManifestError] = []
    try:
        strict = translate(document)
    except ManifestError:
        return
    assert translate(document, skipped) == strict
    assert not skipped


@FUZZ
@given(st.sampled_from(sorted(KINDS, key=lambda kind: kind.value)), documents())
@example(Kind.NODE, {"metadata": {"name": "n"}, "spec": {"podCIDRs": [10**400]}})
def test_the_decoders_say_what_they_cannot_read(kind: Kind, document: dict[str, Any]) -> None:
    """An object of any kind where one of another is expected, in a watch and in a list."""
    try:
        data = json.dumps(document).encode()
    except ValueError:  # 5,000 digits; what json does write is read, infinities and all
        return
    page = b'{"metadata": {"resourceVersion": "5"}, "items": [{"metadata": {"name": "z"}}, ' + data + b"]}"
    for ask in (lambda: [KINDS[kind].one(data)], lambda: KINDS[kind].page(page)[2]):
        try:
            found = ask()
        except ValueError:
            continue
        for each in found:
            try:
                translate(each)
            except ManifestError as err:
                assert "please report it" not in str(err)


@pytest.mark.parametrize("levels", [101, 400, 700, 900, 5000])
def test_nesting_is_an_error_of_ours(levels: int) -> None:
    for kind, document in DOCUMENTS.items():
        with contextlib.suppress(ManifestError):
            translate({**document, "spec": deep(levels), "data": deep(levels), "endpoints": deep(levels)}, [])
        text = json.dumps({**document, "spec": "@"}).replace('"@"', "[" * levels + "]" * levels)
        with contextlib.suppress(ValueError):
            KINDS[Kind(kind)].one(text.encode())
        with contextlib.suppress(ValueError):
            KINDS[Kind(kind)].page(b'{"items": [' + text.encode() + b"]}")


def test_an_object_that_cannot_be_decoded_is_known_by_its_name() -> None:
    data = b'{"metadata": {"name": "n"}, "spec": {"podCIDRs": [' + b"1" * 5000 + b"]}}"
    found = KINDS[Kind.NODE].page(b'{"items": [{"metadata": {"name": "z"}}, ' + data + b"]}")[2]
    assert [each["metadata"]["name"] for each in found] == ["z", "n"]
    assert UNREADABLE in found[1]
    assert UNREADABLE not in found[0]


# --- files -----------------------------------------------------------------------------------------------

_WHOLE = "---".join(SAMPLES.values()).encode()
_FILES = st.one_of(
    st.binary(max_size=60),
    st.text(alphabet=string.printable, max_size=80).map(str.encode),
    documents().map(lambda document: yaml.dump(document, Dumper=yaml.SafeDumper).encode(errors="replace")),
    st.builds(
        lambda at, junk: _WHOLE[:at] + junk + _WHOLE[at:],
        st.integers(0, 6000),
        st.binary(max_size=6),
    ),
)


@FUZZ
@given(_FILES, st.sampled_from(["a.yaml", "a.json"]))
@example(b"[" * 700 + b"]" * 700, "a.json")
@example(b'{"a":' * 700 + b"1" + b"}" * 700, "a.json")
@example(b'{"apiVersion": "v1", "kind": "Node", "metadata": ' + b"1" * 5000 + b"}", "a.json")
@example(b"{apiVersion: v1, kind: Node, metadata: " + b"1" * 5000 + b"}", "a.yaml")
@example(b"{apiVersion: v1, kind: Node, metadata: 0x" + b"f" * 5000 + b"}", "a.yaml")
@example(b"? {a: b}\n: c\n", "a.yaml")
@example(b"!!python/object:os.system x", "a.yaml")
@example(b"a: !!binary x", "a.yaml")
@example(b"a: !!int x", "a.yaml")
@example(b"<<: [1]\n", "a.yaml")
@example(b'{"a": NaN}', "a.json")
@example(b'{"kind": "List", "items": [{"kind": "List", "items": [1]}]}', "a.json")
def test_a_file_ends_in_claims_and_rejections(content: bytes, name: str) -> None:
    found = interpret(name, content)
    for rejected in found.rejected:
        assert "please report it" not in rejected.why
        str(rejected).encode()


@pytest.mark.parametrize(
    ("content", "name", "why"),
    [
        (b"[" * 700 + b"]" * 700, "a.json", "nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "a.json", "number of 5000 digits"),
        (b"{a: " + b"1" * 5000 + b"}", "a.yaml", "number of 5000 digits"),
        (b"{a: 0x" + b"f" * 5000 + b"}", "a.yaml", "number of 5002 digits"),
        (b"a: [" + b"[]," * 260_000 + b"]", "a.yaml", "more than 250000 values"),
        (b"[" + b"[]," * 260_000 + b"[]]", "a.json", "more than 250000 values"),
    ],
    ids=["deep", "digits", "digits in YAML", "hexadecimal digits", "values in YAML", "values in JSON"],
)
def test_limits_are_named(content: bytes, name: str, why: str) -> None:
    (rejected,) = interpret(name, content).rejected
    assert why in rejected.why


def test_commas_inside_strings_are_no_values() -> None:
    content = b'{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "annotations": {"x": "%s"}}}'
    found = interpret("a.json", content % (b",[{" * 200_000))
    assert not found.rejected
    assert len(found.claims) == 1


# --- the controller ----------------------------------------------------------------------------------------


@FUZZ
@given(st.lists(documents(), max_size=6))
def test_the_controller_decides_whatever_is_declared(found: list[dict[str, Any]]) -> None:
    declared = Declared()
    for document in found:
        try:
            translated = translate(document, [])
        except ManifestError:
            continue
        if translated is not None:
            declared.take(Changed(*translated))
    decision = decide(declared, Ledger(), Settings())
    policies = (*declared.policies.values(), *declared.cluster_policies.values())
    said = complaints(policies, declared.pods.values(), declared.namespaces)
    assert all(str(finding) for finding in (*decision.findings, *said))
    assert "%" not in str(decision.service_addresses)


@FUZZ
@given(st.dictionaries(st.sampled_from(["blocks", "addresses", "x"]), st.text(max_size=60)))
@example({"blocks": "n1 fd00::1%x/64"})
@example({"addresses": "a/b fd00::1%x"})
def test_a_ledger_that_was_written_into_is_named(values: dict[str, str]) -> None:
    try:
        decode(values)
    except L3netError:
        return
    assert not any("%" in text and " " in text and "::" in text for text in values.values())
