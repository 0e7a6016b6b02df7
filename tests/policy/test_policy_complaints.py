"""What is said of policies that are for no pod, or name ports that no pod has."""

from __future__ import annotations

from typing import Any

import yaml
from policy_facts import read

from l3net.controller.complaining import EVERY, GRACE, Complaining
from l3net.controller.declared import Declared
from l3net.kube.translate import translate
from l3net.model import Kind
from l3net.policy.complaints import complaints
from l3net.ports import Changed

STATE = """
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {tier: front}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: store, labels: {tier: back}}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  containers:
  - {name: c, ports: [{name: http, containerPort: 80}, {name: dns, containerPort: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: store, labels: {app: db}}
spec: {containers: [{name: c, ports: [{name: sql, containerPort: 5432}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: done, namespace: shop, labels: {app: batch}}
spec: {containers: [{name: c, ports: [{name: old, containerPort: 1}]}]}
status: {phase: Succeeded}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: shop, labels: {app: agent}}
spec: {hostNetwork: true, containers: [{name: c, ports: [{name: metrics, containerPort: 9}]}]}
"""


def about(*policies: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Kind, reason and message of what is said."""
    state = read([*yaml.safe_load_all(STATE), *policies])
    found = complaints(
        [*state.policies.values(), *state.cluster_policies.values()], state.pods.values(), state.namespaces
    )
    return [(each.kind.value, each.reason.value, each.message) for each in found]


def of_namespace(spec: str, name: str = "p", space: str = "shop") -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": space},
        "spec": yaml.safe_load(spec),
    }


def of_cluster(spec: str) -> dict[str, Any]:
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "p"},
        "spec": {"tier": "Admin", "priority": 1, **yaml.safe_load(spec)},
    }


def reasons(*policies: dict[str, Any]) -> list[str]:
    return [reason for _, reason, _ in about(*policies)]


def test_what_is_right_is_not_spoken_of() -> None:
    assert not about(
        of_namespace(
            "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: http}, {port: 99}]}]}"
        ),
        of_namespace("{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: sql}]}]}", "q"),
        of_cluster("{subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}"),
    )


def test_a_policy_for_no_pod() -> None:
    [(kind, reason, message)] = about(of_namespace("{podSelector: {matchLabels: {app: wbe}}}"))
    assert (kind, reason) == ("NetworkPolicy", "SelectsNoPods")
    assert "no pod" in message
    assert reasons(of_namespace("{podSelector: {}}", space="empty")) == ["SelectsNoPods"]
    missing = "{subject: {namespaces: {matchLabels: {tier: none}}}}"
    assert about(of_cluster(missing))[0][:2] == ("ClusterNetworkPolicy", "SelectsNoPods")
    # Neither pods that have ended nor those of the node's network are selected.
    assert reasons(of_namespace("{podSelector: {matchLabels: {app: batch}}}")) == ["SelectsNoPods"]
    assert reasons(of_namespace("{podSelector: {matchLabels: {app: agent}}}")) == ["SelectsNoPods"]


def test_a_name_that_no_selected_pod_has() -> None:
    spec = "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: htpp}, {port: http}]}, {}]}"
    [(_, reason, message)] = about(of_namespace(spec))
    assert (reason, message) == ("UnknownPortName", "ingress: none of its pods has a port named htpp (TCP)")
    assert reasons(of_namespace("{podSelector: {}, ingress: [{ports: [{port: dns}]}]}")) == [
        "UnknownPortName"
    ]
    assert not reasons(of_namespace("{podSelector: {}, ingress: [{ports: [{port: dns, protocol: UDP}]}]}"))
    assert reasons(of_namespace("{podSelector: {}, ingress: [{ports: [{port: sql}]}]}")) == [
        "UnknownPortName"
    ]


def test_a_name_that_no_peer_has() -> None:
    to = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [%s], ports: [{port: %s}]}]}"
    back = "{namespaceSelector: {matchLabels: {tier: back}}}"
    assert not about(of_namespace(to % (back, "sql")))
    [(_, reason, message)] = about(of_namespace(to % (back, "http")))
    assert (reason, message) == (
        "UnknownPortName",
        "egress: none of the pods that it leads to has a port named http (TCP)",
    )
    assert not about(of_namespace(to % (f"{back}, {{podSelector: {{}}}}", "http")))
    # What lies outside has no names, and where there is no peer nothing is known.
    assert not about(of_namespace(to % ("{ipBlock: {cidr: 10.0.0.0/8}}", "http")))
    assert not about(of_namespace(to % ("{namespaceSelector: {matchLabels: {tier: none}}}", "http")))


def test_names_without_a_protocol() -> None:
    rule = (
        "{subject: {namespaces: {}}, egress: "
        "[{action: Accept, to: [{namespaces: {}}], protocols: [{destinationNamedPort: %s}]}]}"
    )
    assert not about(of_cluster(rule % "dns"))
    assert reasons(of_cluster(rule % "ssh")) == ["UnknownPortName"]


# --- over time ---------------------------------------------------------------------------------------------


def declared(*documents: dict[str, Any]) -> Declared:
    found = Declared()
    for document in [*yaml.safe_load_all(STATE), *documents]:
        translated = translate(document)
        assert translated is not None
        found.take(Changed(*translated))
    return found


def test_it_is_said_once_it_has_been_so_for_a_while() -> None:
    now = [100.0]
    complaining = Complaining(lambda: now[0])
    lone = declared(of_namespace("{podSelector: {matchLabels: {app: late}}}"))
    assert not complaining.standing(lone)
    now[0] += GRACE - 1
    assert not complaining.standing(lone)
    now[0] += EVERY
    assert [each.reason.value for each in complaining.standing(lone)] == ["SelectsNoPods"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x", "namespace": "shop", "labels": {"app": "late"}},
    }
    translated = translate(pod)
    assert translated is not None
    assert not lone.take(Changed(*translated)), "a pod begins no pass"
    now[0] += EVERY
    assert not complaining.standing(lone)
    lone.take(Changed(Kind.POD, translated[1], None))
    now[0] += EVERY
    assert not complaining.standing(lone), "it begins anew"
