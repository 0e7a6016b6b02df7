"""A declared kind is one row: what follows from it, told of a kind that is made up here."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apiserver
import pytest
import yaml
from apiserver import FakeApiServer, Resource
from click.testing import CliRunner
from kube_follower import Follower, secret

from l3net.agent.declared import objects, take
from l3net.cli.validate import validate
from l3net.errors import ManifestError
from l3net.kube.fields import Field
from l3net.kube.rbac import rules, rules_by_name
from l3net.kube.reference import reference
from l3net.kube.registry import JUDGE, KINDS, WATCH, DeclaredKind, Definition
from l3net.kube.schema import definition
from l3net.kube.scope import secrets_of
from l3net.kube.translate import identify, translate
from l3net.model import ClusterState, Kind, ObjectName, SecretKey
from l3net.ports import Changed
from l3net.shell.kubernetes.kinds import KINDS as PATHS


class Made(enum.Enum):
    GADGET = "Gadget"


@dataclass(frozen=True, slots=True)
class Gadget:
    name: ObjectName
    size: int
    key: SecretKey


@dataclass(slots=True)
class Wider(ClusterState):
    gadgets: dict[ObjectName, Gadget] = field(default_factory=dict)


def gadget(document: Field, name: ObjectName) -> Gadget:
    secret_name = ObjectName("kube-system", document["spec"]["secret"].text(default="none"))
    return Gadget(name, document["spec"]["size"].integer(1, 9), SecretKey(secret_name, "k"))


def document(name: str, size: int = 3, space: str = "blue") -> dict[str, Any]:
    return {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "Gadget",
        "metadata": {"name": name, "namespace": space},
        "spec": {"size": size, "secret": "hidden"},
    }


DEFINITION = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.l3net.io}
spec:
  group: l3net.io
  names: {kind: Gadget, plural: gadgets, shortNames: [gad]}
  versions:
  - name: v1alpha1
    schema:
      openAPIV3Schema:
        type: object
        description: A thing with a size.
        properties:
          apiVersion: {type: string}
          kind: {type: string}
          metadata: {type: object}
          spec:
            type: object
            required: [size]
            properties:
              size: {type: integer, minimum: 1, maximum: 9, description: How large.}
              secret: {type: string, description: What opens it.}
"""


@pytest.fixture(autouse=True)
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeclaredKind]:
    (tmp_path / "gadgets.yaml").write_text(DEFINITION)
    (tmp_path / "gadgets.example.yaml").write_text(yaml.safe_dump(document("shown")))
    made = DeclaredKind(
        Made.GADGET, "l3net.io", "v1alpha1", "gadgets", gadget, "gadgets",
        namespaced=True, names_secrets=True,
        definition=Definition(tmp_path, "gadgets"), agent=WATCH, controller=JUDGE,
    )  # fmt: skip
    served = Resource("l3net.io", "v1alpha1", "gadgets", "Gadget", namespaced=True, status=True)
    monkeypatch.setattr(apiserver, "RESOURCES", (*apiserver.RESOURCES, served))
    for place in ("l3net.shell.kubernetes.reach.ClusterState", "l3net.cli.validate.ClusterState"):
        monkeypatch.setattr(place, Wider)
    KINDS.add(made)
    try:
        yield made
    finally:
        KINDS.remove(Made.GADGET)


NAME = ObjectName("blue", "a")


def test_it_is_translated_and_held_to_its_schema() -> None:
    assert identify(document("a")) == (Made.GADGET, NAME)
    fact = Gadget(NAME, 3, SecretKey(ObjectName("kube-system", "hidden"), "k"))
    assert translate(document("a")) == (Made.GADGET, NAME, fact)
    with pytest.raises(ManifestError, match=r"spec\.size: .*out of range"):
        translate(document("a", size=12))
    with pytest.raises(ManifestError, match=r"use l3net\.io/v1alpha1"):
        translate(document("a") | {"apiVersion": "l3net.io/v1"})
    with pytest.raises(ManifestError, match="did you mean Gadget"):
        translate(document("a") | {"kind": "Gadgets"})


def test_it_is_kept_in_the_declared_state() -> None:
    state = Wider()
    found = translate(document("a"))
    assert found is not None
    take(state, Changed(*found))
    assert Changed(*found) in list(objects(state))
    assert KINDS[Made.GADGET].count(state) == 1
    assert secrets_of(state) == {ObjectName("kube-system", "hidden")}
    take(state, Changed(Made.GADGET, NAME, None))
    assert state == Wider()


def test_validate_knows_it(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(yaml.safe_dump(document("a")))
    bad.write_text(yaml.safe_dump(document("b", size=0)))
    said = CliRunner().invoke(validate, [str(good), str(bad)])
    assert said.exit_code == 2
    assert "bad.yaml:8 Gadget blue/b: spec.size" in said.output
    assert "2 files, 1 object: 1 wrong" in said.output


def test_the_reference_describes_it() -> None:
    text = reference()
    assert "It also reads seven kinds of" in text
    assert "all except FloatingIP and Gadget are\ncluster-scoped" in text
    assert "## Gadget\n\nA thing with a size.\n\nNames for kubectl: `gadgets`, `gad`." in text
    assert "| `size` | integer, 1 to 9 | required | How large. |" in text
    assert "name: shown" in text


def test_the_agent_lists_it_and_reads_its_secrets(
    api: FakeApiServer, connect: Callable[..., Follower]
) -> None:
    api.put(document("a"), secret("hidden", "x"))
    follower = connect().synced()
    follower.has(Made.GADGET, "a")
    follower.has(Kind.SECRET, "hidden")
    api.put(document("b"))
    follower.has(Made.GADGET, "a", "b")
    assert PATHS[Made.GADGET].path_of(NAME) == "/apis/l3net.io/v1alpha1/namespaces/blue/gadgets/a"


def test_both_may_read_it_and_the_controller_judge_it() -> None:
    agent = {"apiGroups": ["l3net.io"], "verbs": ["list", "watch"]}
    ours = ["bgpconfigurations", "bgpfilters", "ippools", "floatingips", "egressips", "gadgets"]
    assert agent | {"resources": ours} in rules("agent")
    granted = [rule for rule in rules("controller") if "gadgets/status" in rule["resources"]]
    assert [rule["verbs"] for rule in granted] == [["patch"]]
    assert Made.GADGET in KINDS.watched("controller")
    assert [rule["resources"] for rule in rules_by_name("agent")] == [["secrets"]]


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.value)
def test_each_kind_has_a_row(kind: Kind) -> None:
    found = KINDS[kind]
    assert found.kind is kind
    assert hasattr(ClusterState(), found.held_in)
    assert KINDS.find(found.api_version, kind.value) is found


def test_each_row_is_as_its_definition_says() -> None:
    for kind in KINDS.ours():
        found = definition(kind)["spec"]
        assert (found["group"], found["names"]["plural"]) == (KINDS[kind].group, KINDS[kind].plural)
        assert found.get("scope", "Namespaced") == ("Namespaced" if KINDS[kind].namespaced else "Cluster")
        assert found["names"]["kind"] == kind.value
