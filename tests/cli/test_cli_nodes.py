"""Commands that ask other nodes: rows with their nodes, nodes that do not answer, and the ways there."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import glass_answers as answers
import pytest
import yaml
from click.testing import CliRunner, Result
from glass_server import served
from many_nodes import serving

from l3net.cli import doors
from l3net.cli.main import cli
from l3net.glass.door import QUESTIONS
from l3net.naming import AGENT_SOCKET
from l3net.shell.kubernetes.glasspods import AGENT_SELECTOR, SELECTOR

pytestmark = pytest.mark.foreign_answers

#: Every command that reads an agent, with something to ask.
COMMANDS = (
    ("status",),
    ("history",),
    ("explain", "address", "10.1.2.3"),
    ("bgp", "summary"),
    ("bgp", "neighbors"),
    ("bgp", "neighbor"),
    ("bgp", "routes"),
    ("bgp", "announced"),
    ("policy", "list"),
    ("policy", "show", "default/web"),
    ("policy", "test", "default/a", "default/b"),
    ("policy", "matrix", "default"),
    ("policy", "drops"),
)
ENTRY = {
    "kind": "session",
    "subject": "tor1",
    "peer": "tor1",
    "what": "down",
    "reason": "",
    "old": "",
    "new": "",
    "count": 1,
    "prefixes": [],
}
POLICY: dict[str, Any] = {
    "kind": "NetworkPolicy",
    "namespace": "default",
    "name": "web",
    "derived": False,
    "tier": "NetworkPolicy",
    "priority": None,
    "subject": "all pods",
    "pods": ["default/web-1"],
    "ingress": 1,
    "egress": None,
    "rules": {"ingress": ["from anywhere"], "egress": []},
    "logsDrops": False,
    "packets": [],
    "manifest": {"kind": "NetworkPolicy"},
}


def row(name: str, **more: Any) -> dict[str, Any]:
    return {"lastNotification": {}, "messages": None, **answers.peer(name, "10.0.0.1"), **more} | {
        "negotiated": None
    }


def agent(node: str, question: str) -> dict[str, Any]:
    """What node `node` says."""
    word, _, _ = question.partition(" ")
    if word == "status":
        return answers.answer(question, node)
    if word == "routes":
        more = {"best": True, "asPathText": "65001", "origin": "igp", "state": "announced"}
        return {"routes": [{**each, **more} for each in answers.ROUTES]}
    if word == "neighbors":
        head = {
            "node": node,
            "routerID": "10.0.0.2",
            "asNumber": 64512,
            "prefixes": 3,
            "speakerConnected": True,
        }
        return {**head, "neighbors": [row(f"{node}-tor")]}
    if word == "history":
        return {"entries": [{**ENTRY, "at": 1000.0 + int(node[1:]), "node": node}]}
    if question.startswith("policy list"):
        return {"policies": [POLICY], "refused": ""}
    if question.startswith("policy show"):
        return POLICY
    found: dict[str, Any] = answers.answer(question)
    return found


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, [*words], env={"KUBECONFIG": "", "COLUMNS": "300"})


def test_every_question_of_these_commands_may_be_asked_of_a_looking_glass() -> None:
    asked: set[str] = set()

    def answer(node: str, question: str) -> dict[str, Any]:
        asked.add(question.partition(" ")[0])
        return agent(node, question)

    with serving(["n1", "n2"], answer) as nodes:
        for words in COMMANDS:
            result = run(*words, "--all-nodes", *nodes.words, "-o", "json")
            assert result.exception is None or isinstance(result.exception, SystemExit), (
                words,
                result.output,
            )
            assert result.exit_code in (0, 1), (words, result.output)
    assert asked <= QUESTIONS
    assert len(asked) > 5


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_rows_and_objects_name_their_node(words: tuple[str, ...]) -> None:
    with serving(["n1", "n2"], agent) as nodes:
        found = json.loads(run(*words, "--all-nodes", *nodes.words, "-o", "json").stdout)
        assert isinstance(found, list)
        named = {each["node"] for each in found}
        assert named <= {"n1", "n2"}
        told = run(*words, "--node", "n2", "--node", "n1", *nodes.words)
        assert "Traceback" not in told.output
        if found:
            assert named == {"n1", "n2"}, words
            assert "n1" in told.stdout and "n2" in told.stdout


def test_a_node_that_does_not_answer_costs_the_others_nothing() -> None:
    def answer(node: str, question: str) -> dict[str, Any] | int | None:
        return None if node == "n2" else 500 if node == "n3" else agent(node, question)

    with serving(["n1", "n2", "n3"], answer) as nodes:
        result = run("bgp", "summary", "--all-nodes", *nodes.words)
        assert result.exit_code == 1
        assert "n1-tor" in result.stdout
        lines = [line for line in result.stderr.splitlines() if line.startswith("l3net: ")]
        assert [line.split(": ")[1] for line in lines] == ["n2", "n3"]
        assert "l3net glass" in lines[0]
        whole = run("bgp", "summary", "--node", "n1", *nodes.words)
        assert whole.exit_code == 0
        assert "NODE" not in whole.stdout
        assert run("bgp", "summary", "--node", "n2", *nodes.words).exit_code != 0


def test_a_node_that_takes_a_question_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "LONGER", -4.8)
    with socket.create_server(("127.0.0.1", 0)) as silent, serving(["n1"], agent) as nodes:
        where = ("--node-url", f"n2=http://127.0.0.1:{silent.getsockname()[1]}")
        result = run("bgp", "summary", "--all-nodes", *nodes.words, *where)
    assert (result.exit_code, "n1-tor" in result.stdout, "l3net: n2: " in result.stderr) == (1, True, True)


def test_a_wrong_question_is_told_once_and_is_wrong_usage() -> None:
    with serving(["n1", "n2"], lambda _node, _question: {"error": "there is no policy x"}) as nodes:
        result = run("policy", "show", "x", "--all-nodes", *nodes.words)
    assert str(result.exception) == "there is no policy x"
    assert getattr(result.exception, "exit_code", 0) == 2


def test_answers_that_are_none_are_named() -> None:
    odd: list[dict[str, Any]] = [{}, {"neighbors": 7}, {"neighbors": [{}]}, {"neighbors": [None]}]
    with serving(
        ["n0", "n1", "n2", "n3", "n4"], lambda node, q: [*odd, agent("n4", q)][int(node[1])]
    ) as nodes:
        result = run("bgp", "neighbors", "--all-nodes", *nodes.words, "-o", "json")
    assert "Traceback" not in result.output
    assert result.exit_code == 1
    assert "n4" in {each["node"] for each in json.loads(result.stdout)}


@pytest.mark.parametrize("answer", [{}, {"routes": 7}, {"routes": [None]}, {"routes": [{}]}])
def test_of_one_node_too(answer: dict[str, Any]) -> None:
    with serving(["n1"], lambda _node, _question: answer) as nodes:
        result = run("bgp", "announced", "--node", "n1", *nodes.words)
    assert str(result.exception).startswith("n1: its answer is not understood")
    assert getattr(result.exception, "exit_code", 0) == 1


def test_what_a_node_says_writes_nothing_else_to_a_terminal() -> None:
    def answer(node: str, question: str) -> dict[str, Any]:
        return agent(node, question) if node == "n1" else {"error": "x\x1b[2J\nl3net: n1: forged"}

    with serving(["n1", "n2"], answer) as nodes:
        result = run("bgp", "summary", "--all-nodes", *nodes.words)
    assert result.exit_code == 1
    assert "\x1b" not in result.output
    assert len([line for line in result.stderr.splitlines() if line.startswith("l3net: ")]) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--lab", "x"), "say which node"),
        (("--node", "n1", "--all-nodes"), "give one"),
        (("--node", "n1", "--lab", "x", "--node-url", "n1=http://127.0.0.1"), "two ways"),
        (("--all-nodes", "--topology", "x"), "--ssh-config"),
        (("--node", "n9", "--node-url", "n1=http://127.0.0.1:1"), "there is no node n9; there are: n1"),
        (("--node", "n1"), "no way to other nodes"),
        (("--node", "n1", "--node-url", "nonsense"), "NAME=URL"),
        (("--all-nodes", "--lab", "no-such-lab"), "there is no lab"),
        (("--all-nodes", "--kubeconfig", "/nonexistent"), "/nonexistent"),
        (("--all-nodes", "--node-url", "n1=http://127.0.0.1:1", "--node-token-file", "/dev/null"), "token"),
    ],
)
def test_wrong_ways_are_told(words: tuple[str, ...], said: str) -> None:
    result = run("bgp", "summary", *words)
    assert said in result.output + str(result.exception)
    assert result.exit_code in (1, 2)


def test_what_is_of_this_node_alone_refuses_others(tmp_path: Path) -> None:
    for words in (("status", "--ready"), ("policy", "list", "--dir", str(tmp_path))):
        result = run(*words, "--node", "n1", "--node-url", "n1=http://127.0.0.1:1")
        assert (result.exit_code, "this node alone" in result.output) == (2, True), result.output
    assert run("doctor", "--node", "n1").exit_code == 2


def test_the_token_goes_with_the_question_and_into_no_message(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123456789abcdef")
    with serving(["n1"], lambda _node, _question: 401) as nodes:
        result = run("bgp", "summary", "--node", "n1", *nodes.words, "--node-token-file", str(token))
        assert nodes.headers[-1]["X-L3net-Token"] == token.read_text()
    assert "--node-token-file" in str(result.exception)
    assert token.read_text() not in result.output + repr(result.exception)


def test_a_real_looking_glass_answers_and_refuses_what_is_no_question() -> None:
    with served(lambda question: agent("n1", question)) as glass:
        words = ("--node", "n1", "--node-url", f"n1=http://127.0.0.1:{glass.port}")
        assert "n1-tor" in run("bgp", "summary", *words).stdout
        assert glass.get("nodes/self/agent?question=plan%20%2Fetc")["error"].startswith(
            "question: plan may not"
        )
        assert glass.get("nodes/self/agent")["error"].startswith("question")


def test_by_the_api_server(tmp_path: Path) -> None:
    """A pod of the looking glass on n1; on n2 an agent alone, which is named."""
    import test_glass_pods as pods

    with pods.Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        items = [pods.pod("a", "n1", "fd00::1"), pods.pod("b", "n2", "10.0.0.2")]
        del items[1]["spec"]["containers"]
        server.answers[pods.PODS] = 200, {"items": items}
        place = f"{pods.PODS}/a:9179/proxy/api/v1/nodes/self/agent"
        server.answers[place] = 200, agent("n1", "neighbors")
        try:
            words = ("--kubeconfig", str(tmp_path / "kubeconfig"), "--namespace", "net")
            result = run("bgp", "summary", "--all-nodes", *words)
            assert (result.exit_code, "n1-tor" in result.stdout) == (1, True), result.output
            assert "l3net: n2: no pod of l3net-glass runs there" in result.stderr
            server.answers[place] = 400, {"error": "there is no policy x"}
            assert str(run("policy", "show", "x", "--node", "n1", *words).exception) == "there is no policy x"
        finally:
            server.shutdown()
            thread.join()
    assert SELECTOR != AGENT_SELECTOR


def test_this_node_is_asked_as_ever(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / AGENT_SOCKET))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                question = connection.makefile().readline().strip()
                connection.sendall(json.dumps(agent("n1", question)).encode() + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        found = json.loads(run("bgp", "neighbors", "--run-dir", str(tmp_path), "-o", "json").stdout)
        thread.join()
    assert [(each["name"], "node" in each) for each in found] == [("n1-tor", False)]
