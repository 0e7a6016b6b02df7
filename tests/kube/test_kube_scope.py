"""Which Secrets an agent reads: all that any field of the facts names."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import pytest

from l3net.kube.scope import secrets_named
from l3net.model import (
    BgpConfiguration,
    BgpPeer,
    Fact,
    ObjectName,
    SecretKey,
)


def ways_to_a_secret(kind: Any) -> list[tuple[str, ...]]:
    """Paths of fields from a type of facts to a SecretKey."""
    if kind is SecretKey:
        return [()]
    found = [
        path for part in typing.get_args(kind) if part is not Ellipsis for path in ways_to_a_secret(part)
    ]
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        for each in dataclasses.fields(kind):
            found += [(each.name, *path) for path in ways_to_a_secret(hints[each.name])]
    return found


#: Those whose Secrets the datastore follows.
FOLLOWED = (BgpPeer, BgpConfiguration)


def made(kind: Any, path: tuple[str, ...], key: SecretKey) -> Any:
    """A fact of this type with a SecretKey at the end of the path."""
    options = [kind, *typing.get_args(kind)]
    kind = next(each for each in options if dataclasses.is_dataclass(each))
    if kind is SecretKey:
        return key
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {"name": "x"} if any(f.name == "name" for f in dataclasses.fields(kind)) else {}
    for each in dataclasses.fields(kind):
        if each.name == path[0]:
            values[each.name] = made(hints[each.name], path[1:], key)
        elif each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
            values.setdefault(each.name, None)
    return kind(**values)


@pytest.mark.parametrize(
    ("kind", "path"), [(kind, path) for kind in FOLLOWED for path in ways_to_a_secret(kind)], ids=str
)
def test_every_field_that_can_name_a_secret_is_looked_at(kind: Any, path: tuple[str, ...]) -> None:
    name = ObjectName("kube-system", "s")
    assert secrets_named([made(kind, path, SecretKey(name, "k"))]) == {name}


def test_there_are_such_fields() -> None:
    """The control, by name: the two that there were when this was written, and that of the mesh."""
    paths = {(kind.__name__, ".".join(path)) for kind in FOLLOWED for path in ways_to_a_secret(kind)}
    assert paths >= {
        ("BgpPeer", "password"),
        ("BgpPeer", "bfd.auth.password"),
        ("BgpConfiguration", "bfd.auth.password"),
    }


def test_no_other_fact_names_a_secret() -> None:
    """Else the datastore has to pass it on to secrets_named."""
    others = [kind for kind in typing.get_args(Fact) if kind not in FOLLOWED]
    assert others
    assert not any(ways_to_a_secret(kind) for kind in others)


def test_mappings_are_looked_into_as_well() -> None:
    name = ObjectName("a", "b")
    assert secrets_named([{"x": (SecretKey(name, "k"),)}]) == {name}


def test_what_is_no_name_is_none() -> None:
    assert not secrets_named([SecretKey(ObjectName("kube-system", ".."), "k")])
    assert not secrets_named([SecretKey(ObjectName("a/b", "s"), "k")])
