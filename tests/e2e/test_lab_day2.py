"""What docs/day2.md has typed does what stands there, and no packet is lost by it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kube_lab import Cluster, cluster_of, install_systemctl
from runbook_commands import blocks, commands
from small_lab import RACK, lab_of
from test_lab_exercises import DOCS, _of, _tried

from l3net.lab.up import Lab
from l3net.lab.wait import until

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "docs/day2.md"

marks = [
    *(pytest.mark.netns, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(400)),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]
typed = lambda function: [function := mark(function) for mark in marks][-1]  # noqa: E731

#: Beside the pods of the service: one that goes, and one that comes, between a backup and its restore.
TOPOLOGY: dict[str, Any] = {
    **RACK,
    "nodes": [{"name": "n1", "pods": ["web-1", "gone", "come"]}, {"name": "n2", "pods": ["web-2"]}],
}
DECLARED = """
apiVersion: v1
kind: Secret
metadata: {namespace: kube-system, name: bgp}
stringData: {tor: first-password}
"""


def parts() -> dict[str, list[tuple[str, str]]]:
    """By heading: file name (empty: typed) and content."""
    found: dict[str, list[tuple[str, str]]] = {}
    for part in TEXT.read_text().split("\n## ")[1:]:
        title = part.partition("\n")[0]
        for before, kind, content in blocks(part):
            if kind == "yaml":
                found.setdefault(title, []).append((re.findall(r"`([a-z.-]+)`:\s*$", before)[0], content))
            elif content.startswith("$"):
                found.setdefault(title, []).append(("", content))
    return found


def uses_kubectl(content: list[tuple[str, str]]) -> bool:
    return any("$ kubectl" in text for _, text in content)


@contextmanager
def asked_all_the_while(lab: Lab) -> Iterator[None]:
    """The client asks the service, by both families, from before to after; no answer may fail to come."""
    told = lab.directory / "answers"
    ended = lab.directory / "ended"
    ended.unlink(missing_ok=True)
    script = (
        'while [ ! -e "$1" ]; do for where in 10.96.0.10 "[fd00:10:96::a]"; do '
        'curl -s -m 2 "http://$where/" >/dev/null && echo ok || echo LOST; done; sleep 0.02; done'
    )
    argv = [*lab.host("client").enter(None), "sh", "-c", script, "sh", str(ended)]

    def answers() -> int:
        return told.read_text().count("\n")

    with told.open("w") as file, subprocess.Popen(argv, stdout=file) as asking:
        try:
            until(lambda: answers() > 10, 60, "nobody asks")
            yield
            seen = answers()
            until(lambda: answers() > seen + 10, 60, "nobody asks")
        finally:
            ended.touch()
            asking.wait(20)
    lost = told.read_text().split().count("LOST")
    assert lost == 0, f"{lost} of {answers()} answers did not come"


def type_it(lab: Lab, functions: str, text: str) -> None:
    for command in commands(_of(lab, text)):
        for _ in range(3):  # leases of pods that are gone are freed within two minutes
            if (wrong := _tried(functions, command)) == "" or not command.said:
                break
        assert wrong == "", wrong


def functions_of(lab: Lab) -> str:
    _, functions = next((kind, text) for _, kind, text in blocks(DOCS.read_text()) if text.startswith("on()"))
    return _of(lab, functions)


# --- what has to be so before a block of commands ----------------------------------------------------------


def pods_come_and_go(lab: Lab) -> None:
    lab.delete_pod("gone")
    lab.make_pod("come")


def password_in_use(lab: Lab) -> None:
    (lab.manifests / "secret.yaml").write_text(DECLARED)
    bgp = lab.manifests / "bgp.yaml"
    said = "spec:\n  password: {secretKeyRef: {name: bgp, key: tor}}\n"
    bgp.write_text(bgp.read_text().replace("name: n1-tor-ipv4\nspec:\n", f"name: n1-tor-ipv4\n{said}"))
    words = ["conf t", "router bgp 65001", "neighbor 10.0.2.1 password first-password"]
    lab.host("tor").run(["vtysh", *(word for line in words for word in ("-c", line))])
    up = lambda: all(peer["state"] == "established" for peer in lab.host("n1").status()["peers"])  # noqa: E731
    until(lambda: "password" in bgp.read_text() and not up(), 30, "the session is not reset")
    until(up, 60, "the session does not come back")


#: By heading and number of the block of commands.
DIRECTORY_SETUPS: dict[tuple[str, int], Callable[[Lab], None]] = {
    ("Restore", 0): pods_come_and_go,
    ("Change a BGP password", 0): password_in_use,
}
CLUSTER_SETUPS: dict[tuple[str, int], Callable[[Cluster], None]] = {
    ("Replace a node", 2): lambda cluster: cluster.replace("n2"),
    ("Rename a node", 1): lambda cluster: cluster.replace("n1", "n9"),
}


@typed
def test_what_is_typed_over_a_directory(tmp_path: Path) -> None:
    with lab_of(TOPOLOGY, tmp_path) as lab:
        lab.delete_pod("come")
        functions = functions_of(lab)
        for node in lab.topology.nodes:
            options = ["--datastore", f"dir:{lab.manifests}", "--node-name", node.name]
            install_systemctl(lab.host(node.name), speaker=[], agent=options)
        for title, content in parts().items():
            if uses_kubectl(content):
                continue
            for number, (_, text) in enumerate(content):
                DIRECTORY_SETUPS.get((title, number), lambda lab: None)(lab)
                # The session of a node with one router is reset here, as it says: nobody asks then.
                calm = title != "Change the AS number" or number < 2
                with asked_all_the_while(lab) if calm else contextlib.nullcontext():
                    type_it(lab, functions, text)
            if title == "Restore":
                assert {*leases(lab, "n1")} == {"web-1", "come"}
                lab.delete_pod("come")
                assert {*leases(lab, "n1")} == {"web-1"}


def leases(lab: Lab, node: str) -> list[str]:
    """Pods by name; one whose name is not known counts as `come`, which was adopted."""
    told = lab.host(node).run(["l3net", "ipam", "show"]).stdout.splitlines()[1:]
    return [match[1] if (match := re.search(r"default/([a-z0-9-]+)", line)) else "come" for line in told]


@typed
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_what_is_typed_in_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lab_of(RACK, tmp_path) as lab, cluster_of(lab) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        monkeypatch.setenv("KUBECACHEDIR", str(tmp_path / "cache"))
        # The tests' API server has no OpenAPI to validate by.
        functions = f"""{functions_of(lab)}
            cd {tmp_path}
            kubectl() {{ [ "$1" = apply ] && set -- "$@" --validate=false; command kubectl "$@"; }}
        """
        for title, content in parts().items():
            if not uses_kubectl(content):
                continue
            number = 0
            for name, text in content:
                if name:
                    (tmp_path / name).write_text(text)
                    continue
                with asked_all_the_while(lab):
                    CLUSTER_SETUPS.get((title, number), lambda cluster: None)(cluster)
                    type_it(lab, functions, text)
                number += 1


def test_the_text_is_taken_apart() -> None:
    found = parts()
    assert {title for title, _ in (*DIRECTORY_SETUPS, *CLUSTER_SETUPS)} <= {*found}
    assert sum(uses_kubectl(content) for content in found.values()) == 3
    assert len(found) == 8
    told = [
        each for content in found.values() for name, text in content if not name for each in commands(text)
    ]
    assert len([each for each in told if each.said]) > 20


def test_each_procedure_is_typed_or_names_its_test() -> None:
    """A procedure that nothing runs may be wrong for years."""
    text = TEXT.read_text()
    for part in text.split("\n## ")[1:]:
        title, _, body = part.partition("\n")
        named = re.findall(r"`(tests/[a-z0-9_/]+\.py)`", body)
        assert all((ROOT / name).exists() for name in named), named
        tables = ("How much it takes", "What to watch", "What is not supported")
        runs = title in parts() or named or title in tables
        # `helm` itself is in no test; what it does to agents is what the section after it tests.
        assert runs or title == "Upgrade and go back", title
