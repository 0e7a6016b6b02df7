"""What people are answered about policies: words, tests of a connection, the matrix; and `l3net policy` on a
directory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_facts import read
from random_policies import PORTS, cluster
from truth import PODS, Document, among, cases, cluster_policy, labels, net_policy

from l3net.cli.policy import policy
from l3net.errors import ConfigError
from l3net.model import ClusterState, Direction
from l3net.policy.catalog import find, one, rows
from l3net.policy.matrix import NO, SOME, YES, Matrix
from l3net.policy.places import Port, port_of
from l3net.policy.trial import trial
from l3net.policy.verdict import Packet, verdict
from l3net.policy.view import Whereabouts, of_state
from l3net.policy.words import direction_words, subject_words

ALL = cases()


def matrix(view: Whereabouts, namespace: str, port: Port) -> dict[str, Any]:
    made = Matrix(view, namespace, port)
    for _ in made.steps():
        pass
    return made.answer()


# --- truth -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ALL[::9], ids=lambda case: case.name)
def test_it_answers_as_the_suites_say(case: Any) -> None:
    """By the pods' names, in both families, and hop by hop: what denies is told, and what allows."""
    for step in case.steps:
        view = of_state(read(step.documents))
        for check in case.checks(step, case.ports):
            if PODS[check.destination].host:
                continue
            port = f"{check.port[0]}/{check.port[1]}"
            found = trial(view, check.source, check.destination, port)
            assert found["allowed"] is check.allowed, (step.name, check)
            assert len(found["connections"]) == 2
            for each in found["connections"]:
                assert all(one["allowed"] for one in each["decisions"]) is check.allowed


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_the_matrix_is_what_the_verdict_says_of_each_pair(seed: int) -> None:
    """Although one pod is asked for many: of random clusters."""
    made = cluster(seed)
    view = of_state(made.state)
    running = {
        str(pod.name): (pod, addresses)
        for pod in view.pods()
        if not pod.host_network and (addresses := view.addresses(pod))
    }
    port = Port(PORTS[seed % len(PORTS)], "tcp")
    for namespace in sorted({name.partition("/")[0] for name in running}):
        found = matrix(view, namespace, port)
        alike = {f"{namespace}/{column['name'].split(' ')[0]}": column["pods"] for column in found["columns"]}
        members = list(alike.values())
        for row in found["rows"][:-1]:
            if row["from"].startswith("namespace "):
                sources = [name for name in running if name.partition("/")[0] == row["from"][10:]]
            else:
                sources = alike[f"{namespace}/{row['from'].split(' ')[0]}"]
            for pods, cell in zip(members, row["to"], strict=True):
                assert cell == told(view, pairs(running, sources, pods), port), (seed, row["from"], pods)


def pairs(running: dict[str, Any], sources: Iterable[str], pods: Iterable[str]) -> list[tuple[Any, Any]]:
    """Of addresses; a pod to itself only where there is nobody else."""
    found = [
        (name != other, one, two)
        for name in sources
        for other in pods
        for one in running[name][1]
        for two in running[other][1]
        if one.version == two.version
    ]
    others = [(one, two) for differ, one, two in found if differ]
    return others or [(one, two) for _, one, two in found]


def told(view: Whereabouts, ends: Iterable[tuple[Any, Any]], port: Port) -> dict[str, str]:
    answers: dict[str, set[bool]] = {}
    for source, destination in ends:
        packet = Packet(source, destination, port.protocol, port.number)
        answers.setdefault(f"IPv{source.version}", set()).add(verdict(view.known, packet).allowed)
    return {
        version: SOME if len(each) > 1 else YES if True in each else NO
        for version, each in sorted(answers.items())
    }


# --- words -----------------------------------------------------------------------------------------------


def policies(*documents: Document) -> ClusterState:
    return read(documents)


def test_words() -> None:
    state = policies(
        net_policy(
            "shop",
            "db",
            labels(app="db"),
            ingress=[
                {
                    "from": [
                        {"podSelector": labels(app="web")},
                        {"namespaceSelector": among("team", "NotIn", "a", "b"), "podSelector": labels()},
                        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
                    ],
                    "ports": [{"port": "pg"}, {"port": 8000, "endPort": 8100}, {"protocol": "UDP"}],
                },
                {},
            ],
            egress=[],
        ),
        cluster_policy(
            "all",
            "Admin",
            5,
            {"namespaces": {}},
            egress=[{"name": "out", "action": "Deny", "to": [{"nodes": among("gpu", "Exists")}]}],
        ),
    )
    (db,), (every,) = state.policies.values(), state.cluster_policies.values()
    assert subject_words(db) == "pods with app=db in shop"
    assert direction_words(db, Direction.INGRESS) == [
        "Accept from pods with app=web in shop; all pods of namespaces with team notin (a,b); "
        "10.0.0.0/8 except 10.1.0.0/16 on port pg/tcp, 8000-8100/tcp, every port of udp",
        "Accept from everybody",
    ]
    assert direction_words(db, Direction.EGRESS) == ["nothing is accepted"]
    assert subject_words(every) == "all pods"
    assert direction_words(every, Direction.EGRESS) == ["Deny to nodes with gpu (out)"]
    assert direction_words(every, Direction.INGRESS) == []


# --- a directory -----------------------------------------------------------------------------------------


def pod(name: str, node: str = "", *addresses: str, **of: str) -> Document:
    namespace, short = name.split("/")
    made: Document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": short, "labels": of},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
    }
    if addresses:
        made["status"] = {"phase": "Running", "podIPs": [{"ip": each} for each in addresses]}
    return made


def space(name: str, tenant: str) -> Document:
    metadata = {"name": name, "labels": {"l3net.io/tenant": tenant}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


SHOP: list[Document] = [
    space("shop", "acme"),
    space("rival", "evil"),
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n2"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}]},
    },
    pod("shop/web", "n1", "10.244.1.5", "fd00:244:1::5", app="web"),
    pod("shop/db", "n2", "10.244.2.5", "fd00:244:2::5", app="db"),
    pod("shop/db2", "n2", "10.244.2.6", "fd00:244:2::6", app="db"),
    pod("rival/web", app="web"),
    net_policy(
        "shop",
        "db",
        labels(app="db"),
        ingress=[{"from": [{"podSelector": labels(app="web")}], "ports": [{"port": 5432}]}],
    ),
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "shop", "name": "pg"},
        "spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"port": 80}]},
    },
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": "shop", "name": "pg-1", "labels": {"kubernetes.io/service-name": "pg"}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 5432, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.244.2.5"]}, {"addresses": ["10.244.2.6"]}],
    },
]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(SHOP))
    return tmp_path


def run(directory: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(policy, [*arguments, "--dir", str(directory)])
    if isinstance(done.exception, ConfigError):
        return 2, str(done.exception)
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("shop/web shop/db --port 5432", 0, ("allowed: ", "node n2: ingress of shop/db", "ingress[0]")),
        ("shop/web shop/db --port 5433/tcp", 1, ("denied: ", "selected by shop/db and no rule matches")),
        ("shop/db shop/web", 0, ("allowed: ", "node n1: ingress of shop/web")),
        ("rival/web shop/web", 1, ("other tenants", "l3net:tenant:evil", "rival/web has no address yet")),
        ("shop/web shop/pg", 0, ("shop/db2", "5432/tcp, by shop/pg port 80/tcp")),
        ("shop/web 10.96.0.7 --port 80", 0, ("shop/db2",)),
        ("shop/web 10.96.0.7 --port 81", 2, ("has no port 81/tcp, but 80/tcp",)),
        ("192.0.2.9 shop/pg", 1, ("denied: 192.0.2.9 -> shop/pg on 5432/tcp",)),
        ("192.0.2.2 shop/db", 0, ("node n2", "a node always reaches its own pods")),
        ("192.0.2.2 shop/web --port icmp", 0, ("192.0.2.2 (node n2) -> shop/web",)),
        ("192.0.2.1 192.0.2.9", 0, ("neither end is a pod",)),
        ("192.0.2.9 fd00:244:1::5", 2, ("no address of one family",)),
        ("shop/web shop/none", 2, ("no pod and no service shop/none",)),
        ("shop/web none", 2, ("neither NAMESPACE/NAME nor an address",)),
        ("shop/web shop/db --port http", 2, ("port http",)),
        ("shop/web shop/db --port 0/tcp", 2, ("port 0/tcp",)),
    ],
)
def test_a_connection(shop: Path, arguments: str, code: int, words: tuple[str, ...]) -> None:
    found, text = run(shop, "test", *arguments.split())
    assert found == code, text
    assert [word for word in words if word not in text] == [], text
    if code != 2:
        assert text.startswith("allowed: " if code == 0 else "denied: ")


def test_where_a_policy_cannot_be_used_nobody_is_told_that_all_is_well(shop: Path) -> None:
    """What it would say is not known: a pipeline stops there."""
    assert run(shop, "test", "shop/web", "shop/db", "--port", "5432")[0] == 0
    bad = net_policy("shop", "bad", {}, ingress=[{"ports": [{"port": 99999}]}])
    (shop / "bad.yaml").write_text(yaml.safe_dump(bad))
    code, text = run(shop, "test", "shop/web", "shop/db", "--port", "5432")
    assert code == 2 and "bad.yaml" in text and "not in force as declared" in text
    assert "refused" in run(shop, "matrix", "shop", "-o", "json")[1]


def test_a_kind_that_is_none(shop: Path) -> None:
    assert "there are NetworkPolicy and ClusterNetworkPolicy" in run(shop, "show", "Foo", "shop/db")[1]


def test_a_name_that_may_be_two_things(shop: Path) -> None:
    (shop / "more.yaml").write_text(yaml.safe_dump(pod("shop/pg", "n1", "10.244.1.9")))
    assert run(shop, "test", "shop/web", "shop/pg")[0] == 2
    assert "shop/db2" in run(shop, "test", "shop/web", "service/shop/pg")[1]
    assert "node n1: ingress of shop/pg" in run(shop, "test", "shop/web", "pod/shop/pg")[1]


def test_the_list(shop: Path) -> None:
    code, text = run(shop, "list", "-o", "json")
    found = {row["name"]: row for row in json.loads(text)}
    assert (code, list(found)) == (0, ["l3net:tenant:acme", "l3net:tenant:evil", "db"])
    assert found["db"]["pods"] == ["shop/db", "shop/db2"]
    assert (found["db"]["ingress"], found["db"]["egress"], found["db"]["priority"]) == (1, None, None)
    assert found["l3net:tenant:evil"]["derived"] and found["l3net:tenant:evil"]["priority"] == 1000
    assert [line.split()[1] for line in run(shop, "list")[1].splitlines()] == [
        "NAME",
        "l3net:tenant:acme",
        "l3net:tenant:evil",
        "shop/db",
    ]


def test_one_policy(shop: Path) -> None:
    code, text = run(shop, "show", "shop/db")
    assert code == 0 and "0. Accept from pods with app=web in shop on 5432/tcp" in text
    shown = yaml.safe_load(run(shop, "show", "l3net:tenant:acme", "-o", "yaml")[1])
    assert shown["kind"] == "ClusterNetworkPolicy" and shown["spec"]["priority"] == 1000
    again = yaml.safe_load(run(shop, "show", "shop/db", "-o", "yaml")[1])
    assert read([again]).policies == read(SHOP[7:8]).policies
    assert run(shop, "show", "shop/none") == (
        2,
        "no policy shop/none is in force; `l3net policy list` names all",
    )


def test_a_policy_whose_name_is_not_enough() -> None:
    deny = {"name": "x", "action": "Deny", "to": [{"namespaces": {}}]}
    view = of_state(
        policies(
            net_policy("a", "one", labels(), ingress=[]),
            net_policy("b", "two", labels(), ingress=[]),
            net_policy("c", "two", labels(), ingress=[]),
            cluster_policy("one", "Baseline", 1, {"namespaces": {}}, egress=[deny]),
        )
    )
    assert str(find(view, "a/one").name) == "a/one"
    assert find(view, "one", "clusternetworkpolicy").priority == 1
    assert str(find(view, "one").name) == "one"  # the name as it is goes first
    assert str(find(view, "one", "NetworkPolicy").name) == "a/one"
    with pytest.raises(ConfigError, match="b/two, NetworkPolicy c/two"):
        find(view, "two")
    assert len(list(rows(view))) == 4 and one(view, find(view, "one"), None)["packets"] is None


def test_the_matrix(shop: Path) -> None:
    code, text = run(shop, "matrix", "shop", "--port", "5432", "-o", "json")
    found = json.loads(text)
    columns = {column["name"]: place for place, column in enumerate(found["columns"])}
    assert (code, found["port"], set(columns)) == (0, "5432/tcp", {"db (+1)", "web"})
    cells = {
        (row["from"], name): set(row["to"][place].values())
        for row in found["rows"]
        for name, place in columns.items()
    }
    assert cells["web", "db (+1)"] == {"yes"} and cells["db (+1)", "db (+1)"] == {"no"}
    assert cells["namespace rival", "web"] == {"no"} and cells["outside", "web"] == {"yes"}
    assert cells["outside", "db (+1)"] == {"no"}
    assert run(shop, "matrix", "none")[0] == 2
    lines = run(shop, "matrix", "shop")[1].splitlines()
    assert lines[0].startswith("namespace shop, port 80/tcp") and lines[-1].startswith(
        "note: pods without an"
    )


def test_part_of_the_outside() -> None:
    documents = [
        pod("a/x", "n1", "10.244.1.5"),
        net_policy(
            "a",
            "some",
            labels(),
            ingress=[{"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.7/32"]}}]}],
        ),
    ]
    found = matrix(of_state(read(documents)), "a", port_of("80"))
    assert found["rows"][-1] == {"from": "outside", "pods": 0, "to": [{"IPv4": SOME}]}


def test_a_finished_pod_and_one_on_its_nodes_network() -> None:
    ended = pod("a/ended", "n1", "10.244.1.5")
    ended["status"]["phase"] = "Succeeded"
    host = pod("a/host", "n1", "192.0.2.1")
    host["spec"]["hostNetwork"] = True
    deny = net_policy("a", "deny", labels(), ingress=[], egress=[])
    view = of_state(read([ended, host, pod("a/x", "n1", "10.244.1.6"), deny]))
    with pytest.raises(ConfigError, match="has ended"):
        trial(view, "a/ended", "a/x")
    found = trial(view, "a/x", "a/host")
    assert not found["allowed"] and len(found["connections"][0]["decisions"]) == 1
    assert view.known.pod_at(ip_address("192.0.2.1")) is None
