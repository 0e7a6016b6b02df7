"""All errors of an object are told, each at its place, and none that only comes of another."""

from __future__ import annotations

import copy
import random
from importlib import resources
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from l3net.errors import ManifestError
from l3net.kube.faults import MOST, every_error, walked
from l3net.kube.translate import translate

EXAMPLES: dict[str, dict[str, Any]] = {
    file.name.partition(".")[0]: document
    for file in resources.files("l3net.kube.schemas").iterdir()
    if file.name.endswith(".example.yaml")
    for document in yaml.safe_load_all(file.read_text())
}


def errors(kind: str, spec: str) -> list[tuple[str, str]]:
    text = f"{{apiVersion: l3net.io/v1alpha1, kind: {kind}, metadata: {{name: x}}, spec: {spec}}}"
    return [(each.field, each.why) for each in every_error(yaml.safe_load(text))]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_good_object_has_none(name: str) -> None:
    assert every_error(EXAMPLES[name]) == []


def test_unknown_fields_and_values_of_one_object() -> None:
    found = errors("BGPPeer", "{peerAddress: 10.0.1.1, address: 10.0.1.1/24, asNumber: six, holdTime: 2.5}")
    assert found == [
        ("spec.peerAddress", "unknown field; did you mean address?"),
        ("spec.address", "'10.0.1.1/24' is not an address; remove /24"),
        ("spec.asNumber", "must be a whole number, not a string"),
        ("spec.holdTime", "must be a whole number, not 2.5"),
    ]


def test_the_field_that_was_meant_is_not_missing_as_well() -> None:
    assert [field for field, _ in errors("IPPool", "{cdir: 10.0.0.0/16}")] == ["spec.cdir"]


def test_what_no_schema_can_say_has_the_number_of_its_element() -> None:
    entry = "{action: Accept}, {action: Reject, prefixLength: {min: 30, max: 20}}"
    one = [field for field, _ in errors("BGPFilter", f"{{export: [{entry}]}}")]
    assert len(one) == 1
    assert "[1]" in one[0]
    # The elements before it are wrong as well, and are looked at no more: its number stays.
    bad = "{action: Maybe}, {prefixLength: {min: 1}}"
    assert one[0].replace("[1]", "[3]") in [
        field for field, _ in errors("BGPFilter", f"{{export: [{bad}, {entry}]}}")
    ]


def test_one_error_hides_no_other() -> None:
    """A required field that is wrong in two elements, and an element of a list that is too long."""
    rules = "{action: Acept, cidr: 10.0.0.0/33}, {action: Accept, cidr: 10.0.0.1/8}, {acton: Accept}"
    assert {field for field, _ in errors("BGPFilter", f"{{export: [{rules}]}}")} == {
        "spec.export[0].action", "spec.export[0].cidr", "spec.export[1].cidr", "spec.export[2].acton",
    }  # fmt: skip
    long = "{address: 10.0.0.300, asNumber: 1, families: [IPv5, IPv4, IPv6]}"
    assert {field for field, _ in errors("BGPPeer", long)} == {
        "spec.address", "spec.families", "spec.families[0]",
    }  # fmt: skip


def test_types_are_named_as_users_know_them() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": ["b"]}}
    (found,) = every_error(secret)
    assert found.why == "must be a string, not a list"


@pytest.mark.parametrize("secret", [7391846250, 7391846250.5, "pass 7391846250!"])
def test_a_password_in_the_wrong_place_is_not_shown(secret: object) -> None:
    head = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    peer = {"apiVersion": "l3net.io/v1alpha1", "kind": "BGPPeer", "metadata": {"name": "x"}}
    spec = {"address": "10.0.0.1", "asNumber": 1}
    reference = {"name": secret, "key": secret, "namespace": secret}
    for document in (
        {**head, "data": {"a": secret}},
        {**head, "data": secret},
        {**head, "stringData": {"a": [secret]}, "data": {"b": [secret]}},
        {**peer, "spec": {**spec, "password": secret}},
        {**peer, "spec": {**spec, "password": {"secretKeyRef": secret}}},
        {**peer, "spec": {**spec, "password": {"secretKeyRef": reference}}},
        {**peer, "spec": {**spec, "bfd": {"authentication": {"password": secret, "type": "Simple"}}}},
    ):
        found = every_error(document)
        assert found or isinstance(secret, str)
        assert "7391846250" not in " ".join(map(str, found))
        try:
            translate(document)
        except ManifestError as err:
            assert "7391846250" not in str(err)


def test_a_key_with_dots() -> None:
    content = {"metadata": {"annotations": {"l3net.io/blocks": "x"}}}
    assert walked(content, "metadata.annotations.l3net.io/blocks") == (
        ["metadata", "annotations", "l3net.io/blocks"],
        "",
    )
    assert walked({"a": [{"b": 1}]}, "a[0].c") == (["a", 0], "c")


JUNK = st.sampled_from([None, 7, -1, 2.5, "", "x", "10.0.0.1/8", [], {}, [None], {"x": 1}, True, "a" * 300])


@given(
    st.sampled_from(sorted(EXAMPLES)),
    st.lists(JUNK, min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_it_agrees_with_translate(name: str, junk: list[Any], chance: random.Random) -> None:
    """There is an error where `translate` has one, and the one that it has is among them."""
    document = copy.deepcopy(EXAMPLES[name])
    for each in junk:
        _spoil(document["spec"], copy.deepcopy(each), chance)
    found = every_error(document)
    assert len(found) <= MOST
    assert len({each.field for each in found}) == len(found)
    try:
        translate(document)
    except ManifestError as err:
        assert any(each.field == err.field for each in found) or len(found) == MOST, (err, found)
    else:
        assert found == []


def _spoil(value: Any, junk: Any, chance: random.Random) -> None:
    """Put junk somewhere into it."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = chance.choice(keys)
        if isinstance(value[key], dict | list) and value[key] and chance.random() < 0.7:
            value = value[key]
            continue
        if isinstance(value, dict) and chance.random() < 0.3:
            value["unheardOf"] = junk
        else:
            value[key] = junk
        return
