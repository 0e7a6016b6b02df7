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
