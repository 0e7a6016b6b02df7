"""`l3net validate`: what it prints and how it exits."""

from __future__ import annotations

import json
from pathlib import Path

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
    assert (result.exit_code, result.output) == (0, "1 file, 1 objects, 1 not read by l3net: nothing wrong\n")


def test_file_field_and_why(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD + "---\n" + BAD)
    result = run(tmp_path)
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        f"{tmp_path}/b.yaml:3 (document 2) IPPool p: spec.cdir: unknown field; did you mean cidr?",
        f"{tmp_path}/b.yaml:1 (document 1): metadata.name: "
        f"Namespace one is already in {tmp_path}/a.yaml:1, which holds",
        "2 files, 1 objects: 2 wrong",
    ]


def test_standard_input_and_json() -> None:
    result = run("-", "-o", "json", text=BAD)
    assert result.exit_code == 2
    assert json.loads(result.output) == {
        "files": 1,
        "objects": [],
        "rejected": [
            {"where": "-:1 IPPool p", "field": "spec.cdir", "why": "unknown field; did you mean cidr?"}
        ],
        "unread": [],
    }


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = run(tmp_path / "none.yaml")
    assert "does not exist" in str(result.exception)
