"""Imported policies decide as Calico's do: random ones, held against a reference that is written from
Calico's documents, connection by connection."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from l3net.cli.policydir import directory_view
from l3net.importing import calico
from l3net.importing.source import Outcome
from l3net.importing.writing import manifests

PODS = {
    (space, app): address
    for number, space in enumerate(("x", "y"))
    for place, app in enumerate(("a", "b"))
    for address in (f"10.244.{number}.{10 + place}",)
}
OUTSIDE = ("192.0.2.1", "198.51.100.1")
PORTS = (80, 443)


def cluster() -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
            "spec": {"podCIDRs": ["10.244.0.0/16"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
        }
    ]  # fmt: skip
    for space in ("x", "y"):
        labels = {"kubernetes.io/metadata.name": space, "env": space}
        documents.append(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space, "labels": labels}}
        )
    for (space, app), address in PODS.items():
        metadata = {"name": app, "namespace": space, "labels": {"app": app}}
        status = {"podIP": address, "podIPs": [{"ip": address}]}
        spec = {"nodeName": "n", "containers": []}
        documents.append(
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}
        )
    return documents


# --- drawing -----------------------------------------------------------------------------------------------


def entity(dice: random.Random, *, networks: bool) -> dict[str, Any]:
    kind = dice.choice(
        ["all", "app", "space", "both", "nets"] if networks else ["all", "app", "space", "both"]
    )
    app, space = f"app == '{dice.choice('ab')}'", f"env == '{dice.choice('xy')}'"
    return {
        "all": {}, "app": {"selector": app}, "space": {"namespaceSelector": space},
        "both": {"selector": app, "namespaceSelector": space}, "nets": {"nets": ["192.0.2.0/24"]},
    }[kind]  # fmt: skip


def rule(dice: random.Random, direction: str, actions: list[str], *, anybody: bool) -> dict[str, Any]:
    whom = "source" if direction == "ingress" else "destination"
    found: dict[str, Any] = {
        "action": dice.choice(actions),
        whom: entity(dice, networks=direction == "egress"),
    }
    if not anybody and not found[whom]:  # of everybody a ClusterNetworkPolicy says the pods alone
        found[whom] = {"selector": "all()"}
    if dice.random() < 0.4:
        found["protocol"] = "TCP"
        found.setdefault("destination", {})["ports"] = [dice.choice(PORTS)]
    return found


def policies(dice: random.Random) -> list[dict[str, Any]]:
    """Of the cluster before Kubernetes' order, and of namespaces anywhere."""
    found = []
    for number in range(dice.randint(1, 3)):
        namespaced = dice.random() < 0.5
        actions = ["Allow"] if namespaced else ["Allow", "Deny"]
        spec: dict[str, Any] = {"selector": dice.choice(["all()", "app == 'a'", "app == 'b'"])}
        for direction in dice.choice([("ingress",), ("egress",), ("ingress", "egress")]):
            rules = [rule(dice, direction, actions, anybody=False) for _ in range(dice.randint(0, 2))]
            spec[direction] = rules
            spec.setdefault("types", []).append(direction.title())
        if not namespaced or dice.random() < 0.5:
            spec["order"] = dice.randint(1, 999)
        metadata = {"name": f"p{number}", **({"namespace": dice.choice("xy")} if namespaced else {})}
        kind = "NetworkPolicy" if namespaced else "GlobalNetworkPolicy"
        found.append({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec})
    return found


# --- the reference -----------------------------------------------------------------------------------------


def selects(expression: str, labels: dict[str, str]) -> bool:
    if expression in ("", "all()"):
        return True
    key, _, value = expression.partition(" == ")
    return labels[key] == value.strip("'")


def labelled(pod: tuple[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    return {"env": pod[0]}, {"app": pod[1]}


def matches(found: dict[str, Any], own: str, other: tuple[str, str] | str) -> bool:
    """`own` is the namespace of the policy, whose pods an entity without a namespaceSelector means."""
    if not found:
        return True
    if "nets" in found:
        return isinstance(other, str) and other.startswith("192.0.2.")
    if isinstance(other, str):
        return False
    space, pod = labelled(other)
    inside = (
        selects(found["namespaceSelector"], space) if "namespaceSelector" in found else own in ("", other[0])
    )
    return inside and selects(found.get("selector", ""), pod)


def decided(
    every: list[dict[str, Any]], direction: str, pod: tuple[str, str], other: tuple[str, str] | str, port: int
) -> bool:
    """One side: policies of the tier in their order, the first rule that matches; else denied if any selects
    it."""
    ordered = sorted(every, key=lambda one: (one["spec"].get("order", float("inf")), one["metadata"]["name"]))
    selected = False
    for policy in ordered:
        spec, own = policy["spec"], policy["metadata"].get("namespace", "")
        if direction.title() not in spec["types"] or own not in ("", pod[0]):
            continue
        if not selects(spec["selector"], labelled(pod)[1]):
            continue
        selected = True
        for each in spec[direction]:
            ports = each.get("destination", {}).get("ports", [port])
            whom = {**each.get("source" if direction == "ingress" else "destination", {})}
            whom.pop("ports", None)
            if port in ports and matches(whom, own, other):
                return bool(each["action"] == "Allow")
    return not selected


@pytest.mark.parametrize(
    "seeds", [range(8), pytest.param(range(8, 200), marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
def test_random_policies_decide_as_in_calico(tmp_path: Path, seeds: range) -> None:
    judged = denied = 0
    for seed in seeds:
        dice = random.Random(seed)
        every = policies(dice)
        found = calico.imported([(each, "") for each in every])
        written = manifests(found)
        unsaid = [
            each for each in found.findings if each.outcome is Outcome.UNSAID and each.field != "spec.ingress"
        ]
        assert unsaid == [], (seed, unsaid)
        place = tmp_path / str(seed)
        place.mkdir()
        (place / "all.yaml").write_text(yaml.safe_dump_all([*cluster(), *written]))
        for source in PODS:
            for target in (*PODS, *OUTSIDE):
                if target == source:
                    continue
                port = dice.choice(PORTS)
                name = target if isinstance(target, str) else "/".join(target)
                asked = {"source": "/".join(source), "destination": name, "port": f"{port}/tcp"}
                answer = directory_view(place, "test", asked)["allowed"]
                expected = decided(every, "egress", source, target, port)
                if not isinstance(target, str):
                    expected = expected and decided(every, "ingress", target, source, port)
                assert answer is expected, (seed, asked, every)
                judged, denied = judged + 1, denied + (not expected)
    assert judged > 100 and judged / 5 < denied < judged * 4 / 5  # the control: both happen


@pytest.mark.parametrize("order", [None, 500])
def test_what_allows_before_something_denies_goes_on_to_allow(order: int | None) -> None:
    """Policies of the Admin tier come before NetworkPolicies."""
    allow = {
        "selector": "all()",
        "types": ["Ingress"],
        "ingress": [{"action": "Allow", "source": {"selector": "all()"}}],
    }
    deny = {"selector": "all()", "types": ["Egress"], "order": 600, "egress": [{"action": "Deny"}]}
    if order is not None:
        allow["order"] = order
    group = "projectcalico.org/v3"
    own = {"apiVersion": group, "kind": "NetworkPolicy", "metadata": {"name": "a", "namespace": "x"}}
    wide = {"apiVersion": group, "kind": "GlobalNetworkPolicy", "metadata": {"name": "d"}}
    found = calico.imported([({**own, "spec": allow}, ""), ({**wide, "spec": deny}, "")])
    kinds = {each["kind"] for each in manifests(found)}
    assert ("NetworkPolicy" in kinds) is (order is None)
