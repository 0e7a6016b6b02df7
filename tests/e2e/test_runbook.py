"""Every command of the runbook (docs/operating.md), as it is typed, in a lab where what it names is so."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from click.testing import CliRunner
from runbook_commands import TEXT, Command, Section, missing, sections
from small_lab import RACK, lab_of

from l3net.cli.main import cli
from l3net.lab.up import Lab
from l3net.lab.wait import until
from l3net.naming import AGENT_SOCKET, RUN_DIR
from l3net.shell.sockets.agentsocket import ask

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

CLOSED = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: default, name: closed, annotations: {l3net.io/log-drops: "true"}}
spec: {podSelector: {}, ingress: []}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with lab_of(RACK, tmp_path) as made:
        yield made


# --- an API server with the pods of a looking glass on every node of the lab -----------------------------


class _Api(BaseHTTPRequestHandler):
    lab: Lab

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        place = "/api/v1/namespaces/kube-system/pods"
        if split.path == place:
            self._say({"items": [_pod(node.name) for node in self.lab.topology.nodes]})
            return
        pod, _, path = split.path.removeprefix(f"{place}/").partition("/proxy")
        assert path == "/api/v1/nodes/self/agent"
        host = self.lab.host(pod.partition(":")[0])
        self._say(ask(host.inside(RUN_DIR) / AGENT_SOCKET, parse_qs(split.query)["question"][0], 30.0))

    def _say(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _pod(node: str) -> dict[str, Any]:
    ports = [{"name": "glass", "containerPort": 9179}]
    spec = {"nodeName": node, "containers": [{"ports": ports}]}
    return {"metadata": {"name": node}, "spec": spec, "status": {"podIP": "192.0.2.1"}}


@pytest.fixture
def kubeconfig(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    handler = type("Api", (_Api,), {"lab": lab})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        file = tmp_path / "kubeconfig"
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        file.write_text(yaml.safe_dump(config))
        try:
            yield file
        finally:
            server.shutdown()
            thread.join()


# --- what has to be so --------------------------------------------------------------------------------------


def answered(lab: Lab, node: str, question: str) -> dict[str, Any]:
    return ask(lab.host(node).inside(RUN_DIR) / AGENT_SOCKET, question, 30.0)


def established(lab: Lab) -> bool:
    """Whether all sessions are up, and everything was said on each."""
    return all(sum(map(_is_settled, answered(lab, node, "brief")["peers"])) == 4 for node in ("n1", "n2"))


def one_down(lab: Lab) -> bool:
    """Whether one session of n1 is not up. What n2 hears of n1 is less then, too."""
    return sum(peer["state"] != "established" for peer in answered(lab, "n1", "brief")["peers"]) == 1


def _is_settled(peer: dict[str, Any]) -> bool:
    """The router tells three links, two blocks and a service; a node tells its block."""
    heard = 1 if peer["name"].startswith("mesh:") else 6
    return peer["state"] == "established" and peer["received"] >= heard and peer["announced"] > 0


@contextmanager
def denied(lab: Lab) -> Iterator[None]:
    """A policy denies what comes in."""
    file = lab.manifests / "closed.yaml"
    file.write_text(CLOSED)
    try:
        _have_policies(lab, 1)
        yield
    finally:
        file.unlink()
        _have_policies(lab, 0)


def _have_policies(lab: Lab, count: int) -> None:
    for node in ("n1", "n2"):
        known = lambda node=node: len(answered(lab, node, "policy list {}")["policies"]) == count  # noqa: E731
        until(known, 20, f"{node} does not follow the policy")


@contextmanager
def dropping(lab: Lab) -> Iterator[None]:
    """The same, and each node has dropped a packet."""

    def dropped(node: str) -> bool:
        pod = lab.pod(f"web-{node[1:]}").address(4)
        lab.host("client").run(["curl", "-s", "-m", "0.3", f"http://{pod}:8080/"], check=False)
        return bool(answered(lab, node, "policy drops {}")["drops"])

    with denied(lab):
        for node in ("n1", "n2"):
            until(lambda node=node: dropped(node), 20, f"{node} drops nothing")
        yield


@contextmanager
def shut_down(lab: Lab) -> Iterator[None]:
    """The router has shut n1's IPv4 session down."""

    def tell(word: str) -> None:
        lines = ["conf t", "router bgp 65001", f"{word}neighbor 10.0.2.1 shutdown"]
        lab.host("tor").run(["vtysh", *(word for line in lines for word in ("-c", line))])

    tell("")
    try:
        until(lambda: one_down(lab), 20, "the session stays")
        yield
    finally:
        tell("no ")
        until(lambda: established(lab), 40, "the session does not come back")


@contextmanager
def drained(lab: Lab) -> Iterator[None]:
    lab.host("n1").run(["l3net", "node", "drain"], timeout=60)
    yield
    until(lambda: established(lab), 40, "the sessions do not come back")


#: Commands that look at more of their host than the agent's socket.
OF_THE_HOST = ("bundle", "doctor", "flows", "ipam", "node")
#: By title; the others need nothing but the lab.
SETUPS: dict[str, Callable[[Lab], Any]] = {
    "A service is not reached from outside": denied,
    "Packets are dropped by policy": dropping,
    "A peer flaps or is down": shut_down,
    "A node was drained and does not come back": drained,
}


def run(lab: Lab, command: Command, kubeconfig: Path, where: Path) -> tuple[int, str]:
    """Exit code and all that was said."""
    words = shlex.split(command.line)[1:]
    if command.host and words[0] in OF_THE_HOST:
        done = lab.host(command.host).run(["l3net", *words], timeout=90, check=False)
        return done.code, done.stdout + done.stderr
    env = {"KUBECONFIG": str(kubeconfig)}
    if command.host:
        env = {"L3NET_RUN_DIR": str(lab.host(command.host).inside(RUN_DIR))}
    with contextlib.chdir(where):  # in this process: another interpreter for each costs seconds
        ended = CliRunner().invoke(cli, words, env=env)
    code = getattr(ended.exception, "exit_code", ended.exit_code)
    return code, f"{ended.output}{ended.exception or ''}"


def test_each_command_does_what_stands_there(lab: Lab, kubeconfig: Path, tmp_path: Path) -> None:
    shorter = (
        (lab.manifests / "bgp.yaml")
        .read_text()
        .replace("nodeToNodeMesh", "drain: {wait: 0}\n  nodeToNodeMesh")
    )
    (lab.manifests / "bgp.yaml").write_text(shorter)
    (tmp_path / "manifests").symlink_to(lab.manifests)
    until(lambda: established(lab), 40, "the sessions do not come up")
    wrong: list[str] = []
    for section in sections(TEXT.read_text()):
        for name, content in section.files.items():
            (tmp_path / name).write_text(content)
        setup = SETUPS.get(section.title)
        if setup is None:
            wrong += tried(lab, section, kubeconfig, tmp_path)
            until(lambda: established(lab), 40, f"{section.title}: it ends with sessions down")
        else:
            with setup(lab):
                wrong += tried(lab, section, kubeconfig, tmp_path)
    assert wrong == [], "\n\n".join(wrong)


def tried(lab: Lab, section: Section, kubeconfig: Path, where: Path) -> list[str]:
    """What is not as it stands there."""
    wrong = []
    for command in section.commands:
        code, output = run(lab, command, kubeconfig, where)
        lacks = missing(command, output)
        if code != command.code or lacks:
            told = f"{section.title}: {command.host}$ {command.line}\nexits with {code}, not {command.code}"
            wrong.append(f"{told}, lacks {lacks}:\n{output}")
    return wrong


def test_the_text_is_taken_apart_and_a_promise_that_is_not_kept_is_found() -> None:
    found = sections(TEXT.read_text())
    assert {*SETUPS} <= {section.title for section in found}
    commands = [command for section in found for command in section.commands]
    assert len(commands) > 40
    assert all(command.line.startswith("l3net ") and command.said for command in commands)
    command = Command("", "l3net x", 0, ["a  b ... d"])
    assert missing(command, "here a b c   d\n") == []
    assert missing(command, "a c d\nb\n") == ["a  b ... d"]
