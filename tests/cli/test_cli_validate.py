"""`l3net validate`: what it prints and how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from l3net.cli.validate import validate

GOOD = "{apiVersion: v1, kind: Namespace, metadata: {name: one}}\n"
BAD = "{apiVersion: l3net.io/v1alpha1, kind: IPPool, metadata: {name: p}, spec: {cdir: 10.0.0.0/16}}\n"
OTHER = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}\n"


def run(*arguments: object, text: str | None = None) -> Result:
    return CliRunner().invoke(validate, [str(argument) for argument in arguments], input=text)


def test_nothing_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD + "---\n" + OTHER)
    result = run(tmp_path)
    assert (result.exit_code, result.output) == (0, "1 file, 1 object, 1 not read by l3net: nothing wrong\n")


def test_file_field_and_why(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD + "---\n" + BAD)
    result = run(tmp_path)
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        f"{tmp_path}/b.yaml:3 (document 2) IPPool p: spec.cdir: unknown field; did you mean cidr?",
        f"{tmp_path}/b.yaml:1 (document 1): metadata.name: "
        f"Namespace one is already in {tmp_path}/a.yaml:1, which holds",
        "2 files, 1 object: 2 wrong",
    ]


def test_standard_input_and_json() -> None:
    result = run("-", "-o", "json", text=BAD)
    assert result.exit_code == 2
    assert json.loads(result.output) == {
        "files": 1,
        "objects": [],
        "rejected": [
            {
                "where": "-:1 IPPool p",
                "file": "-",
                "line": 1,
                "field": "spec.cdir",
                "why": "unknown field; did you mean cidr?",
            }
        ],
        "unserved": [],
        "unread": [],
    }


def test_programs_are_told_file_and_line(tmp_path: Path) -> None:
    """Whatever stands around them: documents, items of a List, the object."""
    file = tmp_path / "a b:7.yaml"
    listed = '{kind: List, apiVersion: v1, items: [{apiVersion: v1, kind: Namespace, metadata: {name: "X"}}]}'
    file.write_text(
        f"{listed}\n---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: one}}}}\n---\n{BAD}"
    )
    found = json.loads(run(file, "-o", "json").output)
    assert [(row["file"], row["line"]) for row in found["rejected"]] == [(str(file), 1), (str(file), 5)]
    assert [(row["file"], row["line"]) for row in found["objects"]] == [(str(file), 3)]
    assert "items[0]" in found["rejected"][0]["where"], "the control"
    file.write_text("kind: [")
    assert json.loads(run(file, "-o", "json").output)["rejected"][0]["file"] == str(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = run(tmp_path / "none.yaml")
    assert "does not exist" in str(result.exception)


def test_objects_that_contradict_one_another(tmp_path: Path) -> None:
    node = "{{apiVersion: v1, kind: Node, metadata: {{name: {}}}, spec: {{podCIDRs: [{}]}}}}\n"
    own = "{{apiVersion: l3net.io/v1alpha1, kind: {}, metadata: {{name: {}}}, spec: {}}}\n"
    nodes = [node.format(name, "10.1.0.0/24") for name in "ab"]
    (tmp_path / "nodes.yaml").write_text("---\n".join(nodes))
    (tmp_path / "pools.yaml").write_text(
        own.format("IPPool", "one", "{cidr: 10.2.0.0/16}")
        + "---\n"
        + own.format("IPPool", "two", "{cidr: 10.2.1.0/24}")
    )
    peer = own.format("BGPPeer", "tor", "{address: 10.0.0.9, asNumber: 65001, filters: [no-cleint]}")
    (tmp_path / "peer.yaml").write_text(peer)
    alone = run(tmp_path / "peer.yaml")
    assert alone.exit_code == 0, "the filter may stand in another file"
    result = run(tmp_path)
    assert result.exit_code == 2
    for text in (
        "nodes.yaml:1 (document 1): Node a: BlocksOverlap",
        "(document 2): Node b: BlocksOverlap",
        "pools.yaml:1 (document 1): IPPool one: PoolOverlapsPool",
        "(document 2): IPPool two: PoolOverlapsPool",
        "peer.yaml:1: BGPPeer tor: MissingFilter: no BGPFilter no-cleint",
        "5 wrong",
    ):
        assert text in result.output
    (tmp_path / "filter.yaml").write_text(own.format("BGPFilter", "no-client", "{}"))
    assert "did you mean no-client?" in run(tmp_path / "peer.yaml", tmp_path / "filter.yaml").output


SERVICE = """---
apiVersion: v1
kind: Service
metadata: {name: NAME, creationTimestamp: CREATED}
spec: {clusterIPs: [10.96.0.IP, "fd96::IP"], externalIPs: [EXTERNAL], ports: [{port: 80}]}
"""


def rival(name: str, created: str, number: int, external: str = "198.51.100.7") -> str:
    text = SERVICE.replace("NAME", name).replace("CREATED", created).replace("IP,", f"{number},")
    return text.replace("::IP", f"::{number}").replace("EXTERNAL", external)


def test_services_that_claim_the_same_are_named(tmp_path: Path) -> None:
    policy = "apiVersion: l3net.io/v1alpha1\nkind: BGPConfiguration\nmetadata: {name: default}\n"
    policy += "spec: {advertise: {externalIPs: {enabled: true, cidrs: [198.51.100.0/24]}}}\n"
    path = tmp_path / "all.yaml"
    path.write_text(policy + rival("z-old", "2024-01-01T00:00:00Z", 1) + rival("a-new", "null", 2))
    result = run(path)
    assert result.exit_code == 2
    (line,) = result.output.splitlines()[:-1]
    assert "(document 3)" in line
    assert line.endswith("198.51.100.7: port 80/TCP is answered for default/z-old, which had it first")
    path.write_text(rival("z-old", "2024-01-01T00:00:00Z", 1) + rival("a-new", "null", 1))
    result = run(path)
    assert result.exit_code == 2
    assert [line.rpartition(": ")[2] for line in result.output.splitlines()[:-1]] == [
        "it is the ClusterIP of default/z-old"
    ] * 2
    path.write_text(policy + rival("z-old", "null", 1) + rival("a-new", "null", 2, "198.51.100.8"))
    assert run(path).exit_code == 0


RANGES = """
apiVersion: v1
kind: Service
metadata: {name: a, annotations: {ANNOTATION}}
spec: {type: TYPE, FIELD, externalIPs: [EXTERNAL], ports: [{port: 80}]}
"""


@pytest.mark.parametrize("kind", ["ClusterIP", "LoadBalancer"])
@pytest.mark.parametrize("by_annotation", [True, False])
def test_source_ranges_that_restrict_nothing_are_named(kind: str, by_annotation: bool) -> None:
    annotation = "service.beta.kubernetes.io/load-balancer-source-ranges"
    text = RANGES.replace("TYPE", kind)
    text = text.replace("ANNOTATION", f"{annotation}: 10.0.0.0/8" if by_annotation else "")
    text = text.replace("FIELD", "" if by_annotation else "loadBalancerSourceRanges: [10.0.0.0/8]")
    text = text.replace(" , ", " ")
    warned = run("-", text=text.replace("EXTERNAL", "192.0.2.1")).output.splitlines()[:-1]
    open_ = "spec.externalIPs" if kind == "LoadBalancer" else annotation if by_annotation else "loadBalancer"
    assert len(warned) == 1 and warned[0].startswith("warning: ") and open_ in warned[0]
    found = run("-", text=text.replace("EXTERNAL", "")).output
    assert ("warning" in found) == (kind == "ClusterIP")


UNSERVED = """
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, annotations: {l3net.io/load-balancing: consistent}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Cluster
  trafficDistribution: PreferAny
  healthCheckNodePort: 31000
  ports: [{port: 80, nodePort: 30081}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: b-1, labels: {kubernetes.io/service-name: b}}
addressType: IPv4
endpoints: [{addresses: [10.1.1.2], hints: {forZones: [{name: a}]}}]
ports: [{port: 80}]
---
{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: {name: deny}, spec: {}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: good}, spec: {podSelector: {}}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: typo}, spec: {egres: []}}
"""


def test_what_is_asked_for_and_not_done_is_named() -> None:
    result = run("-", text=UNSERVED)
    assert result.exit_code == 0, "the rest of each is served"
    named = [line.split(": ")[2] for line in result.output.splitlines() if line.startswith("warning: ")]
    assert named == [
        "spec.healthCheckNodePort",
        "spec.trafficDistribution",
        "metadata.annotations.l3net.io/load-balancing",
        "kind",
        "spec.egres",
    ]
    assert result.output.splitlines()[-1].endswith("nothing wrong, 5 warnings")
    found = json.loads(run("-", "-o", "json", text=UNSERVED).output)["unserved"]
    assert [each["field"] for each in found] == named


PORTS = """
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec:
  type: NodePort
  clusterIP: 10.96.0.2
  ports:
  - {name: a, port: 80, nodePort: 30081}
  - {name: b, port: 80, nodePort: 30081, protocol: UDP}
  - {name: c, port: 80, nodePort: 30082}
  - {name: d, port: 81, nodePort: 30081}
"""


def test_ports_that_an_api_server_would_refuse_are_named() -> None:
    result = run("-", text=PORTS)
    assert [line.partition(": spec.")[2] for line in result.output.splitlines()[:-1]] == [
        "ports[0].nodePort: is served for type NodePort and LoadBalancer alone",
        "ports[2].port: 80/TCP is there twice, and the first of them is served",
        "ports[3].nodePort: 30081/TCP is there twice, and the first of them is served",
    ]


def test_ports_that_nodes_answer_are_named() -> None:
    text = """
{apiVersion: l3net.io/v1alpha1, kind: BGPConfiguration, metadata: {name: default}, spec: {listenPort: 31790}}
---
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 10256
  clusterIP: 10.96.0.1
  ports: [{name: a, port: 80, nodePort: 31790}, {name: b, port: 80, nodePort: 31790, protocol: UDP}]
"""
    result = run("-", text=text)
    assert result.exit_code == 2
    assert [line.partition(": spec.")[2] for line in result.output.splitlines()[:-1]] == [
        "ports[0].nodePort: 31790 is not served: nodes answer to that number themselves",
        "healthCheckNodePort: 10256 is not served: nodes answer to that number themselves",
    ]


def test_what_is_done_draws_no_warning() -> None:
    spec = "{ports: [{port: 80}], sessionAffinity: ClientIP, trafficDistribution: PreferSameNode}"
    text = f"{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {spec}}}"
    assert "warning" not in run("-", text=text).output


def test_every_error_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        GOOD
        + """---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: two}}
- apiVersion: l3net.io/v1alpha1
  kind: BGPPeer
  metadata: {name: tor1}
  spec:
    holdTime: 1
    address: 10.0.1.1
    asNumber: six
---
apiVersion: l3net.io/v1alpha1
kind: BGPFilter
metadata: {name: f}
spec:
  export:
  - action: Accept
  - {action: Reject,
     prefixLenght: {min: 3}}
"""
    )
    (tmp_path / "b.json").write_text(
        '{"apiVersion": "l3net.io/v1alpha1", "kind": "IPPool",\n"metadata": {"name": "p"},\n\n\t"spec":\n'
        '{"cidr": "10.0.0.1/8"}}'
    )
    result = run(tmp_path)
    assert result.exit_code == 2
    assert result.output.replace(f"{tmp_path}/", "").splitlines() == [
        "a.yaml:11 (document 2) items[1] BGPPeer tor1: spec.holdTime: 1 is out of range: "
        "0, or 3 to 65535 seconds (RFC 4271 section 4.2)",
        "a.yaml:13 (document 2) items[1] BGPPeer tor1: spec.asNumber: must be a whole number, not a string",
        "a.yaml:22 (document 3) BGPFilter f: spec.export[1].prefixLenght: unknown field; "
        "did you mean prefixLength?",
        "b.json:5 IPPool p: spec.cidr: 10.0.0.1/8 has bits set beyond its prefix length; 10.0.0.0/8?",
        "2 files, 2 objects: 4 wrong",
    ]


DOUBTFUL = """
{apiVersion: v1, kind: Node, metadata: {name: node-one, labels: {rack: LABEL}},
 spec: {podCIDRs: [BLOCK, "fd00:10:244:1::/120"]}}
---
{apiVersion: l3net.io/v1alpha1, kind: IPPool, metadata: {name: p4}, spec: {cidr: 10.244.0.0/16}}
---
{apiVersion: l3net.io/v1alpha1, kind: BGPPeer, metadata: {name: tor1}, spec: {address: 10.0.0.254,
 asNumber: 65001, nodes: [NAME], nodeSelector: {matchLabels: {rack: a}}}}
---
{apiVersion: l3net.io/v1alpha1, kind: BGPPeer, metadata: {name: rr}, spec: {
 peerSelector: {matchLabels: {rack: a}}}}
---
{apiVersion: l3net.io/v1alpha1, kind: BGPConfiguration, metadata: {name: default},
 spec: {topology: RouteReflectors, routeReflector: {nodeSelector: {matchLabels: {rack: a}}}}}
"""


@pytest.mark.parametrize(
    ("label", "block", "name", "said"),
    [
        ("a", "10.244.1.0/24", "node-one", []),
        ("a", "10.244.1.0/24", "node-onw", ["BGPPeer tor1: NamesNoNode: spec.nodes has node-onw"]),
        ("a", "10.9.1.0/24", "node-one", ["Node node-one: BlockOutsidePools: its block 10.9.1.0/24"]),
        (
            "b",
            "10.244.1.0/24",
            "node-one",
            [
                "BGPPeer rr: SelectsNoNode: spec.peerSelector",
                "BGPPeer tor1: SelectsNoNode: spec.nodeSelector",
                "BGPConfiguration default: SelectsNoNode: spec.routeReflector.nodeSelector",
            ],
        ),
    ],
)
def test_what_fits_no_node_is_a_warning(label: str, block: str, name: str, said: list[str]) -> None:
    text = DOUBTFUL.replace("LABEL", label).replace("BLOCK", block).replace("NAME", name)
    result = run("-", "-o", "json", text=text)
    assert result.exit_code == 0
    told = [line["why"] for line in json.loads(result.output)["unserved"]]
    assert len(told) == len(said) and all(
        one.startswith(begin) for one, begin in zip(told, said, strict=True)
    ), told
    if name != "node-one":
        assert "did you mean node-one?" in told[0]


def test_without_nodes_nothing_is_doubted() -> None:
    """In a cluster they are not among the manifests."""
    result = run("-", text="\n---\n".join(DOUBTFUL.split("---")[1:]).replace("NAME", "n"))
    assert "warning" not in result.output and result.exit_code == 0
