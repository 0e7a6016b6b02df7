"""The schemas of what commands print. That what they print is as these say is held by each test that prints
(tests/conftest.py); here that none is missing, and that what does not fit is told."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from command_schemas import commands, fault, faults, names, validator
from jsonschema import Draft202012Validator

from l3net.cli.main import cli
from l3net.cli.schema import PLACE
from l3net.cli.schema import commands as published
from l3net.cli.schemas import COMMANDS, document, file_name
from l3net.cli.schemas.reference import reference

MANIFEST = """
{apiVersion: v1, kind: Namespace, metadata: {name: one}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: Two}}
---
{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: {name: three}}
"""


def test_each_command_that_prints_json_has_one() -> None:
    printing = sorted(names().values())
    assert sorted(COMMANDS) == printing and len(printing) > 25
    assert sorted(" ".join(words) for words in published()) == printing


def test_the_files_and_the_page_are_current() -> None:
    found = {file.name: json.loads(file.read_text()) for file in PLACE.iterdir()}
    assert found == {file_name(command): document(command) for command in COMMANDS}, "run `make docs`"
    assert (Path(__file__).parents[2] / "docs" / "json.md").read_text() == reference(), "run `make docs`"


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for each in schema.values():
            yield from objects(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from objects(each)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_is_a_schema_and_closed(command: str) -> None:
    Draft202012Validator.check_schema(document(command))
    found = list(objects(document(command)))
    assert found
    for each in found:  # closed, or of names that are not known beforehand, or another's document
        assert "additionalProperties" in each or "description" in each, each


def test_the_command_prints_and_completes_them() -> None:
    run = CliRunner()
    listed = run.invoke(cli, ["schema"]).stdout.split("\n")
    assert "bgp routes" in listed
    assert json.loads(run.invoke(cli, ["schema", "bgp", "routes"]).stdout) == document("bgp routes")
    wrong = run.invoke(cli, ["schema", "bgp"])
    assert wrong.exit_code == 2 and "`l3net schema` lists" in wrong.stderr


def taken_away(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The schema without one of the fields of an object, for each."""
    for number, each in enumerate(objects(schema)):
        for field in each.get("properties", {}):
            changed = copy.deepcopy(schema)
            found = list(objects(changed))[number]
            del found["properties"][field]
            found["required"] = [name for name in found["required"] if name != field]
            yield field, changed


def test_the_control_what_does_not_fit_is_told(
    tmp_path: Path, _printed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the way that every test goes: the file that the command's printing leaves behind."""
    (tmp_path / "both.yaml").write_text(MANIFEST)
    argv = [Path(sys.executable).parent / "l3net", "validate", str(tmp_path), "-o", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    printed = json.loads(done.stdout)
    assert printed["objects"] and printed["rejected"] and printed["unserved"]
    (file,) = _printed.glob("*.json")
    assert faults(file) == ""
    without = list(taken_away(document("validate")))
    assert len(without) > 8
    for field, changed in without:
        other = Draft202012Validator(changed)
        monkeypatch.setattr("command_schemas.validator", lambda _words, other=other: other)
        assert faults(file), field
    monkeypatch.undo()
    assert fault("validate", {**printed, "files": "1"}) and fault("validate", {**printed, "more": 1})
    assert validator("validate").is_valid(printed)
    assert "has no schema" in faults(_unknown(tmp_path))


def _unknown(tmp_path: Path) -> Path:
    file = tmp_path / "unknown"
    file.write_text(json.dumps({"command": "l3net.cli.nothing:nothing", "printed": "{}"}))
    return file


def test_every_command_with_an_output_option_is_seen() -> None:
    """Also one that is hidden: by its option, not by a list."""
    found = [words for words, each in commands(cli) if any("--output" in o.opts for o in each.params)]
    others = {"bgp dump", "bundle"}  # a file to write to
    assert set(found) - others == set(COMMANDS)
