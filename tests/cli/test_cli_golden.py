"""What commands print for people, word for word, from what agents of a lab have said.

`make golden` writes the files anew; the facts (well.json; broken.json: a cable is cut) stay as they are.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from sim_node import configuration, endpoints, node, peer, service

from l3net.cli import doctor, flows, nodes
from l3net.cli.main import cli
from l3net.doctor.findings import Counters, NodeLook
from l3net.errors import NotRunningError
from l3net.explain.flows import Tracked

GOLDEN = Path(__file__).parent.parent / "golden" / "cli"
#: File -> the facts it is made from, and the command.
PRINTED: dict[str, tuple[str, str]] = {
    "status": ("well", "status"),
    "status-broken": ("broken", "status"),
    "bgp-summary": ("well", "bgp summary"),
    "bgp-summary-broken": ("broken", "bgp summary"),
    "bgp-neighbors": ("broken", "bgp neighbors"),
    "bgp-neighbor": ("well", "bgp neighbor"),
    "bgp-neighbor-broken": ("broken", "bgp neighbor"),
    "bgp-routes": ("well", "bgp routes"),
    "bgp-announced": ("well", "bgp announced"),
    "history": ("well", "history"),
    "history-broken": ("broken", "history"),
    "explain-service": ("well", "explain service default/web"),
    "explain-service-broken": ("broken", "explain service default/web"),
    "explain-pod": ("well", "explain pod default/web-1"),
    "explain-address": ("well", "explain address 10.244.1.2"),
    "explain-address-broken": ("broken", "explain address 203.0.113.9"),
    "explain-from-outside": ("well", "explain 198.51.100.7 10.96.0.10:80"),
    "explain-from-outside-broken": ("broken", "explain 198.51.100.7 10.96.0.10:80"),
    "explain-from-pod": ("well", "explain default/web-1 default/web:80"),
    "explain-unknown": ("well", "explain service default/none"),
    "flows": ("well", "flows"),
    "doctor": ("well", "doctor --no-probe"),
    "doctor-broken": ("broken", "doctor --no-probe"),
    "plan": ("well", "plan"),
    "not-running": ("none", "status"),
}


@cache
def facts(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return found


def said(name: str, question: str) -> dict[str, Any]:
    """What the agent has answered to a question."""
    if name == "none":
        raise NotRunningError("no agent answers at /run/l3net/agent.sock")
    word, _, rest = question.partition(" ")
    asked = json.loads(rest) if rest else {}
    about = f"{word} {asked['subject']}" if word == "explain" else word
    return dict(facts(name)[about])


def tracked(protocol: int, source: str, to: str, port: int, answers: str, back: int, **more: Any) -> Tracked:
    ends = {"answered_to": ip_address(source), **more}
    return Tracked(protocol, ip_address(source), ip_address(to), port, ip_address(answers), back, **ends)


FLOWS = [
    *[tracked(6, "198.51.100.7", "10.96.0.10", 80, "10.244.1.2", 8080)] * 3,
    tracked(6, "198.51.100.7", "10.96.0.10", 80, "10.244.2.2", 8080, answered_to=ip_address("10.244.1.1")),
    tracked(17, "10.244.1.2", "10.96.0.99", 53, "10.244.2.3", 53, answered=False),
    tracked(6, "fd00:10:244:1::2", "fd00:10:96::a", 80, "fd00:10:244:2::2", 8080),
    tracked(1, "192.0.2.1", "10.244.1.2", 0, "10.244.1.2", 0),
]


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same zone everywhere."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def printed(name: str, words: list[str], patch: pytest.MonkeyPatch) -> str:
    for module in (nodes, flows, doctor):
        patch.setattr(module, "ask", lambda _path, question, *_more: said(name, question))
    patch.setattr(flows, "present", lambda: iter(FLOWS))
    patch.setattr(doctor, "look_at_node", lambda *_words: NodeLook())
    patch.setattr(doctor, "look_at_peers", lambda down, *_words, **_more: ({}, Counters()))
    done = CliRunner().invoke(cli, words)
    assert done.exception is None or isinstance(done.exception, (SystemExit, NotRunningError)), done.exception
    code, last = done.exit_code, ""
    if isinstance(done.exception, NotRunningError):  # l3net.cli.main says it
        code, last = done.exception.exit_code, f"l3net: {done.exception}\n"
    return f"$ l3net {' '.join(words)}\n{done.stdout}{done.stderr}{last}exit code {code}\n"


@pytest.mark.parametrize("file", PRINTED)
def test_golden(file: str, fixed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, command = PRINTED[file]
    words = command.split()
    if command == "plan":
        monkeypatch.chdir(tmp_path)
        words = planned(tmp_path)
    text = printed(name, words, monkeypatch)
    if os.environ.get("GOLDEN") == "write":
        (GOLDEN / f"{file}.txt").write_text(text)
    assert text == (GOLDEN / f"{file}.txt").read_text(), "`make golden` writes it anew; read the difference"


def test_no_file_is_left_over_and_the_facts_are_as_agents_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second by the schemas, which what is printed as JSON is held against (tests/conftest.py)."""
    assert {file.stem for file in GOLDEN.glob("*.txt")} == set(PRINTED)
    for name, command in PRINTED.values():
        if name != "none" and command not in ("plan", "explain service default/none"):
            printed(name, [*command.split(), "-o", "json"], monkeypatch)


def planned(directory: Path) -> list[str]:
    """Two directories of manifests; the words that compare them."""
    nodes_ = [node("n1", "10.244.1.0/24"), node("n2", "10.244.2.0/24", addresses=["10.0.0.3", "fd00::3"])]
    before = [*nodes_, configuration(), peer("tor1", "10.0.0.1"), service("web", "10.96.2.9")]
    before += [endpoints("web", "10.244.1.9")]
    after = [*nodes_, configuration(), peer("tor1", "10.0.0.1", holdTime=30), service("web", "10.96.2.10")]
    after += [endpoints("web", "10.244.1.9")]
    for name, documents in (("now", before), ("new", after)):
        (directory / name).mkdir()
        (directory / name / "all.yaml").write_text(yaml.safe_dump_all(documents))
    return ["plan", "-f", "new", "--datastore", "dir:now", "--whole"]
