"""`l3net import`: what it reads, prints and writes, and how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from apiserver import FakeApiServer
from click.testing import CliRunner, Result

from l3net.cli.main import cli
from l3net.shell.kubernetes.api import ApiError
from l3net.shell.manifests.documents import MAX_BYTES

HERE = Path(__file__).parent
SOURCES = ["calico", "cilium", "kube-router", "metallb"]
KIND = "apiVersion: projectcalico.org/v3, kind: BGPPeer"
PEER = f"{{{KIND}, metadata: {{name: a}}, spec: {{peerIP: 10.0.0.2, asNumber: 1}}}}"
BAD = f"{{{KIND}, metadata: {{name: b}}, spec: {{peerIP: nowhere, asNumber: 1}}}}"
OTHER = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}"


def run(*arguments: object, text: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["import", *map(str, arguments)], input=text)


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_written_is_valid(source: str, tmp_path: Path) -> None:
    """Of the same input all to standard output, and a file a kind."""
    inputs = HERE / f"inputs_{source.replace('-', '_')}.yaml"
    there = run(source, inputs)
    result = run(source, inputs, "--out", tmp_path / "new", "-o", "json")
    assert there.exit_code == result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["counts"]["cannotBeSaid"] == 0
    assert report["counts"]["carriedOver"] > 10
    files = [
        document for file in (tmp_path / "new").iterdir() for document in yaml.safe_load_all(file.open())
    ]
    printed = list(yaml.safe_load_all(there.stdout))
    key = json.dumps
    assert sorted(map(key, files)) == sorted(map(key, printed))
    assert len(report["manifests"]) == len(files)
    checked = CliRunner().invoke(cli, ["validate", str(tmp_path / "new")])
    assert checked.exit_code == 0, checked.output
    assert run(source, inputs, "--strict").exit_code == (2 if report["counts"]["changedInMeaning"] else 0)


def test_an_object_that_is_wrong_takes_no_other_with_it() -> None:
    result = run("calico", "-", "-o", "yaml", text=f"{PEER}\n---\n{BAD}\n---\n{OTHER}\n")
    assert result.exit_code == 2
    names = [each["metadata"]["name"] for each in yaml.safe_load_all(result.stdout)]
    assert names == ["default", "a"]
    report = yaml.safe_load(result.stderr)
    assert report["skipped"] == 1
    (unsaid,) = [each for each in report["findings"] if each["outcome"] == "cannotBeSaid"]
    assert (unsaid["kind"], unsaid["name"], unsaid["field"]) == ("BGPPeer", "b", "spec.peerIP")
    assert unsaid["where"] == "-:3 (document 2)"


def test_a_file_that_is_none_takes_no_other_with_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(PEER)
    (tmp_path / "b.yaml").write_text("{")
    result = run("calico", tmp_path, "--out", tmp_path / "new")
    assert result.exit_code == 2
    assert "b.yaml:1: is not YAML" in result.stdout
    assert "2 manifests; " in result.stdout
    assert (tmp_path / "new" / "bgppeer.yaml").exists()


def test_manifests_of_something_else_are_named(tmp_path: Path) -> None:
    (tmp_path / "ippool.yaml").write_text("")
    (tmp_path / "bgppeer.yaml").write_text("of a run before")
    result = run("calico", "-", "--out", tmp_path, text=PEER)
    assert "holds manifests of something else: ippool.yaml\n" in result.stderr
    assert "of a run before" not in (tmp_path / "bgppeer.yaml").read_text()


@pytest.mark.parametrize("arguments", [[], ["-", "--from-cluster"]])
def test_where_from_has_to_be_said(arguments: list[str]) -> None:
    result = run("calico", *arguments)
    assert result.exit_code == 2
    assert "--from-cluster" in result.stderr


def test_a_file_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    """Told from what could not be said by its exit code."""
    result = run("calico", tmp_path / "none.yaml")
    assert getattr(result.exception, "exit_code", None) == 1
    (tmp_path / "file").write_text("")
    result = run("calico", "-", "--out", tmp_path / "file" / "new", text=PEER)
    assert getattr(result.exception, "exit_code", None) == 1


class Server:
    """An API server that knows one version of a kind, refuses another, and has nothing of the rest."""

    def __init__(self, kubeconfig: Path | None) -> None:
        self.asked: list[str] = []

    def get(self, path: str) -> bytes:
        if path == "/apis/crd.projectcalico.org/v1/bgppeers":
            item = {"metadata": {"name": "a"}, "spec": {"peerIP": "10.0.0.2", "asNumber": 1}}
            answer = {"apiVersion": "crd.projectcalico.org/v1", "kind": "BGPPeerList", "items": [item]}
            return json.dumps(answer).encode()
        refused = path == "/api/v1/nodes"
        raise ApiError("no", code=403 if refused else 404)


def test_a_cluster_is_asked_for_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two versions the one that is served; what may not be read is told."""
    monkeypatch.setattr("l3net.shell.kubernetes.api.KubeApi", Server)
    result = run("calico", "--from-cluster", "-o", "yaml")
    assert result.exit_code == 2
    assert [each["metadata"]["name"] for each in yaml.safe_load_all(result.stdout)] == ["default", "a"]
    report = yaml.safe_load(result.stderr)
    assert [row["detail"] for row in report["findings"] if row["outcome"] == "cannotBeSaid"] == ["nodes: no"]
    places = {row["where"] for row in report["findings"] if row["kind"] == "BGPPeer"}
    assert places == {"/apis/crd.projectcalico.org/v1/bgppeers a"}


@pytest.mark.parametrize(
    "answer",
    [b"<html>", b"", b"[1]", b'{"items": "abc"}', b'{"items": [1]}', b'{"items": {"a": 1}}'],
)
def test_an_answer_of_something_else_is_said_so(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr(Server, "get", lambda *_: answer)
    monkeypatch.setattr("l3net.shell.kubernetes.api.KubeApi", Server)
    result = run("metallb", "--from-cluster")
    assert "/apis/metallb.io/v1beta2/bgppeers: the answer is not a list of objects" in str(result.exception)
    assert getattr(result.exception, "exit_code", None) == 1


def test_metadata_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "get", lambda *_: b'{"kind": "BGPPeerList", "items": [{"metadata": [1]}]}')
    monkeypatch.setattr("l3net.shell.kubernetes.api.KubeApi", Server)
    assert run("metallb", "--from-cluster").exit_code == 2


def test_over_http(tmp_path: Path) -> None:
    """By a kubeconfig: Nodes are there, DaemonSets are of a group that this server does not know."""
    notes = {"kube-router.io/peer.ips": "10.0.0.2,fd00::2", "kube-router.io/peer.asns": "65002,65002"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "annotations": notes}}
    with FakeApiServer() as server:
        server.put(node)
        kubeconfig = server.kubeconfig(tmp_path / "kubeconfig")
        result = run("kube-router", "--from-cluster", "--kubeconfig", kubeconfig)
    assert result.exit_code == 0, result.output
    peers = [each["spec"] for each in yaml.safe_load_all(result.stdout) if each["kind"] == "BGPPeer"]
    assert [(each["address"], each["nodes"]) for each in peers] == [("10.0.0.2", ["n1"]), ("fd00::2", ["n1"])]
    gone = run("kube-router", "--from-cluster", "--kubeconfig", kubeconfig)
    assert getattr(gone.exception, "exit_code", None) == 1


@pytest.mark.parametrize("text", [OTHER, "", "{"])
def test_nothing_of_the_source_is_an_error(text: str) -> None:
    result = run("calico", "-", text=text)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "0 manifests" in result.stderr
    assert str(result.exception).startswith("nothing of calico's was read")


def test_what_is_too_large_is_to_be_read_from_the_cluster() -> None:
    text = "{items: [" + "x," * 250_000 + "]}"
    assert "values; split it or read the cluster with --from-cluster" in run("calico", "-", text=text).stderr
    large = run("calico", "-", text=PEER + " " * MAX_BYTES)
    assert "-: is larger than 16 MiB; split it" in large.stderr


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """And no other is written in part."""
    (tmp_path / "bgppeer.yaml").mkdir()
    result = run("calico", "-", "--out", tmp_path, text=PEER)
    assert result.exit_code == 1
    assert str(result.exception) == f"{tmp_path / 'bgppeer.yaml'}: Is a directory"
    assert [each.name for each in tmp_path.iterdir()] == ["bgppeer.yaml"]
