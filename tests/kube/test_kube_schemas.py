"""The CRDs: what an API server would ask of them, and that they, the facts and the documents agree."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from l3net.errors import ManifestError
from l3net.kube.reference import example, reference
from l3net.kube.registry import KINDS
from l3net.kube.schema import definition, definition_text, schema
from l3net.kube.translate import translate
from l3net.model import Kind

kinds = pytest.mark.parametrize("kind", KINDS.ours(), ids=lambda kind: kind.value)
DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def walk(found: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield path, found
    for name, below in found.get("properties", {}).items():
        yield from walk(below, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(found.get(name), Mapping):
            yield from walk(found[name], f"{path}.{name}")


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == reference(), "run: make docs"


@kinds
def test_definition(kind: Kind) -> None:
    found = definition(kind)
    names = found["spec"]["names"]
    assert names["kind"] == kind.value
    assert found["metadata"]["name"] == f"{names['plural']}.l3net.io"
    assert found["spec"]["scope"] == ("Namespaced" if KINDS[kind].namespaced else "Cluster")
    assert names["categories"] == ["l3net"]
    [version] = found["spec"]["versions"]
    assert version["subresources"] == {"status": {}}
    for column in version["additionalPrinterColumns"]:
        assert column["jsonPath"].startswith((".spec.", ".status.", ".metadata."))
    assert "\t" not in definition_text(kind)


@kinds
def test_structural(kind: Kind) -> None:
    """The rules for structural schemas, the cost of CEL, and that each field says what it is."""
    for path, found in walk(schema(kind)):
        assert "type" in found, path
        assert not ("properties" in found and "additionalProperties" in found), path
        if path.startswith(".spec") and not path.endswith((".items", ".additionalProperties")):
            assert found.get("description"), path
        if path.startswith(".spec"):
            if found["type"] == "array":
                assert "maxItems" in found, path
            if found["type"] == "string" and "enum" not in found:
                assert "maxLength" in found, path
            if found["type"] == "integer":
                assert {"minimum", "maximum"} <= found.keys(), path
        if "pattern" in found:
            re.compile(found["pattern"])
        for rule in found.get("x-kubernetes-validations", ()):
            assert {"rule", "message"} <= rule.keys(), path
        if "default" in found:
            expected = {"object": dict, "array": list, "boolean": bool, "integer": int, "string": str}
            assert type(found["default"]) is expected[found["type"]], path


def with_defaults(found: Mapping[str, Any], value: Any) -> Any:
    """What an API server stores: defaults filled in, from the outside in."""
    if isinstance(value, dict):
        filled = dict(value)
        for name, below in found.get("properties", {}).items():
            if name not in filled and "default" in below:
                filled[name] = below["default"]
            if name in filled:
                filled[name] = with_defaults(below, filled[name])
        return filled
    if isinstance(value, list):
        return [with_defaults(found["items"], item) for item in value]
    return value


SMALL = {
    Kind.BGP_CONFIGURATION: {},
    Kind.BGP_PEER: {"address": "192.0.2.1", "asNumber": 65001},
    Kind.BGP_FILTER: {"import": [{"action": "Reject"}], "export": [{"action": "Accept"}]},
    Kind.IP_POOL: {"cidr": "10.244.0.0/16"},
    Kind.FLOATING_IP: {"selector": {"matchLabels": {"app": "web"}}},
    Kind.EGRESS_IP: {"namespaceSelector": {}},
}


@kinds
def test_the_defaults_of_the_schema_are_those_of_the_facts(kind: Kind) -> None:
    """An object as the API server stores it makes the same fact as the manifest it came from."""
    for spec in (SMALL[kind], yaml.safe_load(example(kind))["spec"]):
        plain = {
            "apiVersion": "l3net.io/v1alpha1",
            "kind": kind.value,
            "metadata": {"name": "default"},
            "spec": spec,
        }
        stored = with_defaults(schema(kind), plain)
        assert stored != plain or kind is Kind.BGP_FILTER
        assert translate(stored) == translate(plain)


@kinds
def test_what_an_api_server_adds_is_no_unknown_field(kind: Kind) -> None:
    document = yaml.safe_load(example(kind))
    document["metadata"] |= {
        "uid": "x",
        "creationTimestamp": "2024-01-01T00:00:00Z",
        "managedFields": [{"manager": "kubectl"}],
    }
    document["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
    assert translate(document) is not None
    document["sttaus"] = {}
    with pytest.raises(ManifestError, match="did you mean status"):
        translate(document)


@kinds
def test_null_is_absent(kind: Kind) -> None:
    document = yaml.safe_load(example(kind))
    optional = set(schema(kind)["properties"]["spec"]["properties"]) - set(document["spec"])
    plain = translate(document)
    for name in optional:
        assert translate({**document, "spec": {**document["spec"], name: None}}) == plain


@kinds
def test_no_document_makes_anything_but_a_manifest_error(kind: Kind) -> None:
    """Each field in turn with a value of every type."""
    values: list[Any] = [
        None,
        True,
        0,
        -1,
        1.5,
        2**70,
        "",
        "x",
        "é\n",
        [],
        [None],
        [[]],
        {},
        {"x": 1},
        {1: 2},
    ]
    document = yaml.safe_load(example(kind))
    for path, _ in walk(schema(kind)["properties"]["spec"]):
        names = path.replace(".items", "").replace(".additionalProperties", "").strip(".").split(".")
        for value in values:
            spec = value if names == [""] else _nested(names, value)
            for merged in (spec, {**document["spec"], **spec} if isinstance(spec, dict) else spec):
                try:
                    translate({**document, "spec": merged})
                except ManifestError as err:
                    assert "\n" not in str(err), (path, value)


def _nested(names: list[str], value: Any) -> Any:
    for name in reversed(names):
        value = {name: value}
    return value
