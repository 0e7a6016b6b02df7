"""The checks by way of ssh: real ssh and sshd into the hosts of a lab in namespaces, as into machines.

sshd is started by ssh itself, inside the host's namespaces, so that nothing listens anywhere.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from l3net.cli.lab import lab as command
from l3net.cli.main import cli
from l3net.errors import ConfigError
from l3net.lab import sshlab
from l3net.lab.addressing import addressing
from l3net.lab.checks import CHECKS, CheckResult
from l3net.lab.checks.disturb import _healed
from l3net.lab.converge import unconverged, wait_converged
from l3net.lab.errors import LabError
from l3net.lab.sshlab import SshLab, close_ssh_lab, open_ssh_lab
from l3net.lab.state import read_source
from l3net.lab.topology import RouterKind
from l3net.lab.up import Lab, bring_up, take_down

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

BY_NAME = {check.name: check for check in CHECKS}
#: What provisioning puts on a machine, as far as a namespace needs it.
_STAND_IN = """#!/bin/sh
set -eu
case $1 in
    pod-exec) pod=$2; shift 2; exec nsenter --net="/run/netns/$pod" -- "$@" ;;
    network) ip -batch /usr/local/sbin/network.ip ;;
    *) echo "no $1 here" >&2; exit 1 ;;
esac
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    name = f"s{uuid.uuid4().hex[:8]}"
    try:
        yield bring_up(name, read_source(None, RouterKind.BIRD), lambda what: None)
    finally:
        take_down(name)


@pytest.fixture(scope="module")
def ssh_config(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ssh")
    sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
    assert sshd, "sshd is not installed: `make setup-test` installs it"
    for key in ("host", "user"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / key)]
        subprocess.run(argv, check=True)
    (directory / "sshd_config").write_text(
        f"HostKey {directory}/host\nAuthorizedKeysFile {directory}/user.pub\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\nLogLevel QUIET\n"
    )
    lines = []
    for host in lab.hosts.values():
        # Over the machine's own, in the host's mount namespace alone.
        host.run(["mount", "-t", "tmpfs", "l3net-lab", "/usr/local/sbin"])
        host.run(["mkdir", "-p", "/run/sshd"])
        for name, text in (("l3net-lab", _STAND_IN), ("network.ip", addressing(lab.topology, host.name))):
            host.run(["sh", "-c", 'cat >"$0" && chmod 755 "$0"', f"/usr/local/sbin/{name}"], text=text)
        enter = shlex.join([*host.enter(), sshd, "-i", "-f", str(directory / "sshd_config")])
        lines.append(
            f"Host {host.name}\n  User root\n  ProxyCommand {enter}\n  IdentityFile {directory}/user\n"
            f"  UserKnownHostsFile {directory}/known\n  StrictHostKeyChecking no\n  LogLevel ERROR\n"
        )
    (directory / "config").write_text("".join(lines))
    return directory / "config"


@pytest.fixture
def over_ssh(lab: Lab, ssh_config: Path, tmp_path: Path) -> Iterator[SshLab]:
    control = Path(f"/tmp/l3net-test-{uuid.uuid4().hex[:8]}")
    control.mkdir(mode=0o700)
    try:
        opened = open_ssh_lab(lab.topology, ssh_config, control)
        yield opened
        close_ssh_lab(opened)
    finally:
        shutil.rmtree(control)


def told(findings: list[CheckResult]) -> str:
    return "\n".join(f"{f.check}, {f.what}: expected {f.expected}, seen {f.seen}" for f in findings)


@pytest.mark.soak
def test_the_checks_pass_over_ssh(over_ssh: SshLab) -> None:
    assert {router.kind for router in over_ssh.topology.routers} == {RouterKind.BIRD}
    names = ("sessions", "router-rib", "pod-to-pod-across-nodes", "client-to-service", "traceroute",
             "node-cut-off")  # fmt: skip
    failed = [finding for name in names for finding in BY_NAME[name].findings(over_ssh) if not finding.ok]
    assert not failed, told(failed)


def test_agents_are_asked_over_ssh(lab: Lab, ssh_config: Path) -> None:
    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, [*words, "--ssh-config", str(ssh_config)])

    found = json.loads(run("bgp", "summary", "--all-nodes", "-o", "json").stdout)
    assert {each["node"] for each in found} == {node.name for node in lab.topology.nodes}
    assert all(each["neighbors"] for each in found)
    wrong = run("explain", "service", "default/no'such\";thing", "--node", "n1")
    assert wrong.exit_code == 1, wrong.output
    assert "no'such\";thing" in wrong.output
    gone = run("bgp", "summary", "--node", "n1", "--node", "nowhere")
    assert (gone.exit_code, "l3net: nowhere: " in gone.stderr) == (1, True)


#: What a lab's nodes can be asked, of one and of all; each is held against its schema (tests/conftest.py).
ASKED = [
    "status",
    "bgp summary",
    "bgp neighbors",
    "bgp neighbor",
    "bgp announced",
    "bgp routes",
    "bgp routes --rejected",
    "bgp routes --advertised",
    "history",
    "explain service default/web",
    "policy list",
    "policy drops",
    "policy matrix default",
    "policy test 198.51.100.9 default/web",
]


def test_each_form_of_json_is_printed(lab: Lab, _printed: Path) -> None:
    def run(*words: str) -> Any:
        return json.loads(CliRunner().invoke(cli, [*words, "-o", "json"]).stdout)

    there = ["--lab", lab.name]
    for words in map(str.split, ASKED):
        run(*words, *there, "--node", "n1")
        found = run(*words, *there, "--all-nodes")
        assert found or words[0] == "policy", words
        assert all("node" in each for each in found)
    assert run("doctor", "--cluster", *there)
    assert run("lab", "status", "--name", lab.name)["hosts"]
    assert run("lab", "check", "--name", lab.name, "--only", "sessions")["findings"]
    inside = [sys.executable, "-m", "l3net.cli.main"]
    assert json.loads(lab.host("n1").run([*inside, "flows", "-o", "json"]).stdout)
    assert json.loads(lab.host("n1").run([*inside, "doctor", "--no-probe", "-o", "json"], check=False).stdout)
    assert len(list(_printed.glob("*.json"))) == 2 * len(ASKED) + 5


@pytest.mark.parametrize("nodes", [["--node", "n1"], ["--all-nodes"]], ids=" ".join)
def test_names_that_nothing_has_are_errors(lab: Lab, nodes: list[str]) -> None:
    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, [*words, "--lab", lab.name, *nodes])

    for words in (["bgp", "routes", "--peer"], ["bgp", "announced", "--peer"], ["history"]):
        wrong = run(*words, "n1-tor1-ipv5")
        assert isinstance(wrong.exception, ConfigError), (words, wrong.output)
        assert "named n1-tor1-ipv5" in str(wrong.exception) and "n1-tor1-ipv4" in str(wrong.exception)
    # What is known, and has nothing to tell, is no error; nor is an address, about which all may be decided.
    for known in (["bgp", "routes", "--peer", "n1-tor1-ipv4", "192.0.2.0/24"], ["history", "203.0.113.7"]):
        assert run(*known).exit_code == 0
    assert run("history", "default/web", "--since", "2100-01-01").exit_code == 0
    assert run("history", "BGPConfiguration default", "--since", "2100-01-01").exit_code == 0
    if nodes == ["--node", "n1"]:
        flows = [sys.executable, "-m", "l3net.cli.main", "flows"]
        for option, near in (("--pod", "default/web-1"), ("--service", "default/web")):
            done = lab.host("n1").run([*flows, option, f"{near}x"], check=False)
            assert (done.code, near in done.stderr) == (2, True), done.stderr
            assert lab.host("n1").run([*flows, option, near]).code == 0


def test_a_break_is_seen_and_mended(lab: Lab, ssh_config: Path, over_ssh: SshLab, tmp_path: Path) -> None:
    """`l3net lab break` over ssh cuts what it says; the same checks fail; `mend` puts it back."""

    def run(*argv: str) -> Result:
        return CliRunner().invoke(command, [*argv, "--ssh-config", str(ssh_config)])

    done = run("break", "--link", "n1,tor1")
    assert (done.exit_code, done.output) == (0, "cut: tor1 - n1\n"), done.output
    try:
        assert [f for f in BY_NAME["client-to-pods"].findings(over_ssh) if not f.ok]
        checked = run("check", "--only", "sessions")
        assert checked.exit_code == 1
        assert "n1 (10.0.4.1)" in checked.output
    finally:
        assert run("repair").exit_code == 0
    wait_converged(over_ssh)
    assert not unconverged(lab)
    checked = run("check", "--only", "sessions", "--only", "client-to-pods")
    assert checked.exit_code == 0, checked.output


def test_break_and_mend_without_ssh(lab: Lab) -> None:
    name = ["--name", lab.name]
    done = CliRunner().invoke(command, ["break", *name, "--router", "tor2", "--node", "n1"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "cut: tor1 - n1",
        "cut: spine - tor2",
        "cut: tor2 - n2",
        "cut: tor2 - n3",
    ]
    try:
        shown = lab.host("tor2").run(["ip", "-o", "link", "show", "dev", "spine"]).stdout
        assert "state DOWN" in shown
        told = CliRunner().invoke(command, ["status", *name]).output
        assert "the link tor1 - n1 is cut" in told
        drawn = CliRunner().invoke(command, ["graph", *name]).output
        assert "cut: " in drawn
        assert drawn.count("╳") == 4
    finally:
        assert CliRunner().invoke(command, ["repair", *name]).exit_code == 0
    wait_converged(lab)
    assert "is cut" not in CliRunner().invoke(command, ["status", *name]).output
    for argv in (["--link", "n1,tor2"], ["--node", "tor1"], ["--router", "n1"], ["--node", "n9"]):
        refused = CliRunner().invoke(command, ["break", *name, *argv])
        assert isinstance(refused.exception, LabError), argv
    assert CliRunner().invoke(command, ["break", *name]).exit_code == 2


def test_what_is_not_there_is_said(over_ssh: SshLab, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="vagrant ssh-config"):
        open_ssh_lab(over_ssh.topology, tmp_path / "none", tmp_path)
    (tmp_path / "config").write_text("Host spine\n  ProxyCommand false\n")
    with pytest.raises(LabError, match="is the machine up"):
        open_ssh_lab(over_ssh.topology, tmp_path / "config", tmp_path)
    with pytest.raises(LabError, match="no host 'n9'"):
        replace(over_ssh).host("n9")
    with pytest.raises(LabError, match="exit 3"):
        over_ssh.host("n1").run(["sh", "-c", "exit 3"])


def test_a_machine_may_have_more_than_one_routers_software(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What provisioning wrote counts; only without it, what is installed."""
    spine = lab.host("spine")
    monkeypatch.setattr(sshlab, "_ROUTER", str(tmp_path / "router"))
    assert sshlab._router_kind(spine) == "bird"  # type: ignore[arg-type]
    for kind in ("frr", "openbgpd", "bird"):
        (tmp_path / "router").write_text(f"{kind}\n")
        assert sshlab._router_kind(spine) == kind  # type: ignore[arg-type]


def test_patience_is_for_machines(
    lab: Lab, ssh_config: Path, over_ssh: SshLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every limit of time is multiplied: of a command, and of a check."""
    limits: list[float] = []
    run = subprocess.run

    def watched(*arguments: Any, **named: Any) -> Any:
        limits.append(named.get("timeout", 0))
        return run(*arguments, **named)

    monkeypatch.setattr(subprocess, "run", watched)
    asked = ["check", "--only", "sessions", "--ssh-config", str(ssh_config)]
    for given in ([], ["--patience", "7"]):
        assert CliRunner().invoke(command, [*asked, *given]).exit_code == 0
    usual, more = limits[: len(limits) // 2], limits[len(limits) // 2 :]
    assert sorted(7 * (each - 30) for each in usual if each) == sorted(each - 30 for each in more if each)
    slow = replace(over_ssh, patience=7.0)
    told = _healed(slow, slow.host("n1"), "nothing", ["true"], ["echo", "there"], "there")
    assert (told.ok, told.expected) == (True, "back within 7 s")
    wrong = CliRunner().invoke(command, ["check", "--name", lab.name, "--patience", "7"])
    assert wrong.exit_code == 2 and "--patience goes with --ssh-config" in wrong.output
