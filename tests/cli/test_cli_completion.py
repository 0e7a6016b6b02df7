"""Values that shells complete: what an agent knows, in the shells themselves; nothing where there is none."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from l3net.cli import values
from l3net.cli.main import cli
from l3net.cli.manpages import pages
from l3net.lab import state
from l3net.naming import AGENT_SOCKET

NAMES = {
    "peers": ["tor1", "tor2", "10.0.1.1", "fd00:10:0:1::1", "fd00:10:0:2::1"],
    "prefixes": ["192.0.2.0/24", "2001:db8::/48"],
    "services": ["default/web"],
    "pods": ["default/web-0", "kube-system/dns"],
    "service-addresses": ["10.96.0.10"],
    "addresses": ["10.244.1.7"],
    "policies": ["default/deny"],
    "namespaces": ["default"],
    "nodes": ["n1"],
}


@contextmanager
def agent(run_dir: Path, names: dict[str, list[str]] | None = None) -> Iterator[list[str]]:
    """Answers `complete`, or with None nothing at all; yields what it was asked."""
    asked: list[str] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run_dir / AGENT_SOCKET))
        listener.listen()
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                held.append(connection)
                line = connection.makefile().readline()
                asked.append(line)
                if names is None:
                    continue
                question = json.loads(line.removeprefix("complete "))
                found = [name for kind in question["kinds"] for name in names[kind]]
                told = [name for name in found if name.startswith(question["begin"])]
                connection.sendall(json.dumps({"names": told}).encode() + b"\n")
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for connection in held:
                connection.close()


@pytest.fixture
def path(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH has l3net and the plugin of kubectl."""
    entries = {"l3net": "main", "kubectl-l3net": "kubectl", "kubectl_complete-l3net": "complete"}
    for name, function in entries.items():
        module = "main" if function == "main" else "plugin"
        script = f"#!{sys.executable}\nfrom l3net.cli.{module} import {function}\n{function}()\n"
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "L3NET_RUN_DIR": str(tmp_path),
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
    }


def in_bash(line: str, path: dict[str, str]) -> list[str]:
    """What bash offers for the word at the end of a line, with its own idea of where that begins."""
    script = """
source <(l3net completion bash)
COMP_LINE=$1; COMP_POINT=${#1}; COMPREPLY=()
_l3net_completion l3net
printf '%s\\n' "${COMPREPLY[@]}"
"""
    argv = ["bash", "--norc", "-c", script, "bash", line]
    return subprocess.run(argv, capture_output=True, text=True, check=True, env=path).stdout.split()


def test_bash_completes_values_with_colons_too(tmp_path: Path, path: dict[str, str]) -> None:
    with agent(tmp_path, NAMES):
        assert in_bash("l3net bgp neighbor to", path) == ["tor1", "tor2"]
        assert in_bash("l3net bgp routes --peer fd00:10:0:", path) == ["1::1", "2::1"], "bash has the rest"
        assert in_bash("l3net bgp routes 2001:d", path) == ["db8::/48"]
        assert in_bash("l3net bgp routes 1", path) == ["192.0.2.0/24"]
        assert in_bash("l3net bgp su", path) == ["summary"]


def test_fish_and_kubectl_complete_values(tmp_path: Path, path: dict[str, str]) -> None:
    with agent(tmp_path, NAMES):
        argv = ["kubectl_complete-l3net", "bgp", "neighbor", "fd00:10:0:2"]
        told = subprocess.run(argv, capture_output=True, text=True, check=True, env=path).stdout
        assert told == "fd00:10:0:2::1\n:4\n"
        if shutil.which("fish") is None:
            pytest.skip("needs fish")
        script = "l3net completion fish | source; complete -C 'l3net bgp neighbor fd'"
        argv = ["fish", "--no-config", "-c", script]
        told = subprocess.run(argv, capture_output=True, text=True, check=True, env=path).stdout
        assert told.split() == ["fd00:10:0:1::1", "fd00:10:0:2::1"]


def test_kubectl_names_itself_in_help_and_refusals(path: dict[str, str]) -> None:
    told = subprocess.run(
        ["kubectl-l3net", "bgp", "--help"], capture_output=True, text=True, check=True, env=path
    )
    assert told.stdout.startswith("Usage: kubectl l3net bgp [OPTIONS]")
    wrong = subprocess.run(
        ["kubectl-l3net", "bgp", "rout"], capture_output=True, text=True, check=False, env=path
    )
    assert wrong.returncode == 2 and "Try 'kubectl l3net bgp --help'" in wrong.stderr


def complete(*words: str) -> list[str]:
    from click.shell_completion import ShellComplete

    *before, begin = words
    return [item.value for item in ShellComplete(cli, {}, "l3net", "X").get_completions(before, begin)]


def test_every_command_that_takes_a_value_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("L3NET_RUN_DIR", str(tmp_path))
    with agent(tmp_path, NAMES) as asked:
        assert complete("bgp", "announced", "--prefix", "2") == ["2001:db8::/48"]
        assert complete("policy", "show", "") == ["NetworkPolicy", "ClusterNetworkPolicy", "default/deny"]
        assert complete("policy", "show", "NetworkPolicy", "") == ["default/deny"]
        assert complete("policy", "test", "") == ["default/web-0", "kube-system/dns", "10.244.1.7"]
        assert "default/web" in complete("policy", "test", "default/web-0", "d")
        assert complete("policy", "matrix", "") == ["default"]
        assert complete("explain", "") == [
            *("service", "pod", "address", "default/web-0", "kube-system/dns"),
            *("default/web", "10.96.0.10", "10.244.1.7"),
        ]
        assert complete("explain", "service", "") == ["default/web"]
        assert complete("explain", "service", "default/web", "") == []
        assert "tor1" in complete("history", "")
        assert complete("ipam", "who", "") == ["10.244.1.7"]
        assert complete("flows", "--service", "d") == ["default/web"]
        assert complete("status", "--node", "") == ["n1"]
        assert complete("bgp", "summary", "--node-url", "n7=http://192.0.2.7", "--node", "n") == ["n7"]
        assert complete("doctor", "--cluster", "--lab", "no-such-lab", "--node", "") == []
        assert "self-heal" in complete("lab", "check", "--only", "self")
        assert asked
    other = tmp_path / "other"
    other.mkdir()
    with agent(other, {**NAMES, "peers": ["elsewhere"]}):
        assert complete("bgp", "neighbor", "--run-dir", str(other), "") == ["elsewhere"]


def test_a_lab_s_hosts_links_and_pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (("lab", "exec", ""), ("lab", "break", "--link", ""), ("lab", "break", "--node", "")):
        assert complete(*words[:2], "--name", "no-such-lab", *words[2:]) == []
    monkeypatch.setattr(state, "LABS", tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "lab.json").write_text(json.dumps({"topology": {}}))
    monkeypatch.setattr(
        "l3net.cli.lab_machines.load", lambda name: (None, state.read_source(None).topology())
    )
    assert complete("lab", "status", "--name", "") == ["mine"]
    assert complete("lab", "exec", "n") == ["n1", "n2", "n3"]
    assert complete("lab", "exec", "we") == ["web-1", "web-2"]
    assert complete("lab", "break", "--link", "tor2,") == ["tor2,spine", "tor2,n2", "tor2,n3"]
    assert complete("lab", "break", "--node", "") == ["n1", "n2", "n3"]
    assert complete("lab", "break", "--router", "t") == ["tor1", "tor2"]


def test_nothing_is_said_where_no_agent_answers(
    tmp_path: Path, path: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("L3NET_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(values, "PATIENCE", 0.05)
    assert complete("bgp", "neighbor", "") == []
    assert in_bash("l3net bgp neighbor ", path) == []
    with agent(tmp_path, None) as asked:  # it hangs
        assert complete("bgp", "neighbor", "") == []
        assert asked
    (tmp_path / AGENT_SOCKET).unlink()
    with agent(tmp_path, {**NAMES, "peers": ["x"]}):
        assert complete("bgp", "neighbor", "") == ["x"]
    (tmp_path / AGENT_SOCKET).unlink()
    (tmp_path / AGENT_SOCKET).write_text("no socket")
    assert complete("bgp", "neighbor", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_well_formed(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    script = tmp_path / "script"
    script.write_text(CliRunner().invoke(cli, ["completion", shell]).stdout)
    subprocess.run([shell, "-n", script], check=True)


def test_man_reads_the_pages_without_a_warning(tmp_path: Path) -> None:
    found = pages()
    assert {"l3net.1", "l3net-bgp.1", "l3net-lab.1"} <= found.keys()
    for name, text in found.items():
        (tmp_path / name).write_text(text)
    files = sorted(map(str, tmp_path.glob("*.1")))
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    for argv in (["mandoc", "-T", "lint", "-W", "warning"], ["man", "--warnings", "-l", "-Tutf8"]):
        if shutil.which(argv[0]) is None:
            continue
        done = subprocess.run([*argv, *files], capture_output=True, text=True, check=False, env=environment)
        assert done.stderr == "" and (argv[0] == "man" or done.stdout == ""), done.stdout[:500]
    shown = found["l3net-bgp.1"]
    assert ".SS l3net bgp routes" in shown and "\\-\\-as\\-path" in shown
    assert "\b" not in "".join(found.values())


def test_the_control_a_page_with_a_fault_is_told(tmp_path: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("needs mandoc")
    page = tmp_path / "bad.1"
    page.write_text(pages()["l3net.1"] + "\b\n.XX\n")
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False
    )
    assert done.stdout + done.stderr
