"""The doctor over many nodes: a row a problem, and what nodes say against one another."""

from __future__ import annotations

import json
from typing import Any

import glass_answers as answers
import pytest
from click.testing import CliRunner, Result
from many_nodes import serving

from l3net.cli.main import cli
from l3net.doctor.cluster import Row, judge_status, together
from l3net.doctor.contradictions import contradictions, unheard, witnesses_of
from l3net.doctor.findings import Finding, Severity

Status = dict[str, Any]


def node(number: int, *, routes: bool = False, **more: Any) -> Status:
    """A well node, with a block of each family."""
    name = f"n{number}"
    own = {"localAddress": f"10.0.{number >> 8}.{number & 255}"}
    found = answers.status(name, [answers.peer(f"{name}-tor", "10.255.0.1", **own)])
    found["blocks"] = [f"10.{244 + (number >> 8)}.{number & 255}.0/24", f"fd00:244:{number:x}::/64"]
    found |= {"views": [], "serviceProxy": None, **more}
    return {**found, "routes": ROUTES} if routes else found


ROUTES = [
    {"prefix": prefix, "kind": "unicast", "metric": 0, "nextHops": ["10.255.0.1 dev eth0"], "inKernel": True}
    for number in range(1, 5)
    for prefix in node(number)["blocks"]
]


def found_in(*statuses: Status) -> list[tuple[str, str, str]]:
    named = {each["node"]: each for each in statuses}
    return [(name, each.check, each.subject) for name, each in contradictions(named)]


def test_nodes_that_are_well_say_nothing_against_one_another() -> None:
    assert found_in(*map(node, range(1, 5))) == []
    assert found_in() == []


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("10.244.9.0/24", "10.244.9.0/24", "10.244.9.0/24"),
        ("10.244.8.0/22", "10.244.9.0/24", "10.244.9.0/24"),
        ("fd00:1::/64", "fd00:1::/120", "fd00:1::/120"),
    ],
)
def test_a_block_of_two_nodes(first: str, second: str, said: str) -> None:
    between = "10.244.8.128/25" if first != said and ":" not in first else "10.9.0.0/16"
    found = found_in(node(1, blocks=[first]), node(2, blocks=[second, between]))
    assert ("n1", "blocks", said) in found
    assert ("n2", "blocks", said) in found
    assert found_in(node(1, blocks=["10.244.8.0/24"]), node(2, blocks=["10.244.9.0/24", "fd00::/64"])) == []


def test_an_address_of_two_nodes() -> None:
    same = [answers.peer("tor", "10.255.0.1", localAddress="fd00::7")]
    assert {each[0] for each in found_in(node(1, peers=same), node(2, peers=same), node(3))} == {"n1", "n2"}
    local = [answers.peer("tor", "fe80::1", localAddress="fe80::7")]
    assert found_in(node(1, peers=local), node(2, peers=local)) == []


def test_agents_of_different_releases() -> None:
    assert found_in(node(1), node(2), node(3, version="0.0.9")) == [("n3", "agent", "release")]


def test_a_mesh_that_one_end_alone_has() -> None:
    def meshed(number: int, *others: int) -> Status:
        own = f"10.0.0.{number}"
        return node(
            number,
            peers=[answers.peer(f"mesh:n{each}", f"10.0.0.{each}", localAddress=own) for each in others],
        )

    assert found_in(meshed(1, 2, 3), meshed(2, 1, 3), meshed(3, 1, 2)) == []
    assert found_in(meshed(1, 2, 3), meshed(2, 1), meshed(3, 1, 2)) == [("n3", "mesh", "mesh:n2")]
    assert found_in(meshed(1, 2, 9), meshed(2, 1)) == []  # n9 is not asked


def test_a_node_that_hears_of_other_services() -> None:
    assert found_in(node(1), node(2), node(3, services=[])) == [("n3", "services", "addresses")]
    assert found_in(node(1), node(2, services=[])) == []  # which is the odd one?
    assert found_in(node(1), node(2), node(3, services=[], reconciled=False)) == []  # it says so itself


def test_a_block_that_nobody_hears() -> None:
    statuses = {f"n{number}": node(number) for number in range(1, 6)}
    heard = {"n1": node(1, routes=True), "n2": node(2, routes=True)}
    assert {(name, each.subject) for name, each in unheard(statuses, heard)} == {
        ("n5", block) for block in node(5)["blocks"]
    }
    aggregate = [{**ROUTES[0], "prefix": "10.244.0.0/16"}, {**ROUTES[0], "prefix": "fd00:244::/32"}]
    assert list(unheard(statuses, {"n1": node(1) | {"routes": aggregate}})) == []
    default = [{**ROUTES[0], "prefix": "0.0.0.0/0"}, {**ROUTES[0], "prefix": "::/0"}]
    assert list(unheard(statuses, {"n1": node(1) | {"routes": default}})) == []  # none is heard: no rule
    own = [{**route, "nextHops": ["dev l3net0"]} for route in ROUTES]
    assert list(unheard(statuses, {"n1": node(1) | {"routes": own}})) == []


def test_witnesses_are_spread_and_have_sessions() -> None:
    statuses = {f"n{number:03}": node(number) for number in range(100)}
    statuses["n000"]["peers"] = []
    found = witnesses_of(statuses, 16)
    assert 10 < len(found) <= 16
    assert "n000" not in found
    assert witnesses_of({}, 16) == []


def rows(*findings: tuple[str, str, str]) -> list[Row]:
    told = [(name, Finding("peer", subject, Severity.PROBLEM, what)) for name, subject, what in findings]
    return together(told, ["n1", "n2", "worker-3"])


def test_what_is_alike_but_for_names_addresses_and_numbers_is_one_row() -> None:
    found = rows(
        ("n1", "mesh:n2 (10.0.0.2)", "down: no answer for 12 s from 10.0.0.2 [fd00::2]:179"),
        ("n2", "mesh:worker-3 (fd00::3)", "down: no answer for 7.5 s from fd00::3 [fd00::3]:179"),
        ("worker-3", "mesh:n1 (10.0.0.1)", "down: no answer for 1 s from 10.0.0.1 [fd00::1]:179"),
    )
    assert [row.nodes for row in found] == [("n1", "n2", "worker-3")]
    assert found[0].differs
    assert len(found[0].subjects) == 3
    assert len(rows(("n1", "n1-tor (10.0.0.1)", "x"), ("worker-3", "worker-3-tor (10.0.0.2)", "x"))) == 1
    assert len(rows(("n1", "tor", "connection refused"), ("n2", "tor", "connection timed out"))) == 2
    assert len(rows(("n1", "tor1", "x"), ("n2", "tor2", "x"))) == 2  # routers are not alike


def test_the_worst_and_most_frequent_come_first() -> None:
    told = [
        ("n1", Finding("a", "", Severity.OK, "well")),
        ("n2", Finding("a", "", Severity.OK, "well")),
        ("n1", Finding("b", "", Severity.WARNING, "odd")),
        ("n1", Finding("c", "", Severity.PROBLEM, "rare")),
        ("n1", Finding("d", "", Severity.PROBLEM, "often")),
        ("n2", Finding("d", "", Severity.PROBLEM, "often")),
    ]
    assert [row.check for row in together(told, ())] == ["d", "c", "b", "a"]


# --- the command ------------------------------------------------------------------------------------------


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", "--cluster", *words], env={"KUBECONFIG": ""})


def test_five_hundred_nodes_at_once() -> None:
    """Of which one does not answer, and ten have lost the same router."""
    statuses = {f"n{number}": node(number) for number in range(500)}
    for number in range(10):
        statuses[f"n{number}"]["peers"][0] |= {
            "state": "down",
            "reason": f"hold timer expired after {number} s",
        }
    routes = [{**ROUTES[0], "prefix": block} for each in statuses.values() for block in each["blocks"]]

    def answer(name: str, question: str) -> dict[str, Any] | int | None:
        if name == "n77":
            return None
        return {**statuses[name], "routes": routes} if question == "status" else statuses[name]

    with serving(list(statuses), answer) as nodes:
        result = run(*nodes.words, "-o", "json")
        told = run(*nodes.words).stdout
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    problems = [row for row in found if row["severity"] == "problem"]
    assert sorted((row["check"], row["count"]) for row in problems) == [("agent", 1), ("peer", 10)]
    [silent] = [row for row in problems if row["count"] == 1]
    assert silent["nodes"] == ["n77"]
    assert len(found) < 8
    assert len(told.splitlines()) < 20
    assert "and 5 more" in told


def test_nodes_that_are_well_have_no_problem_and_odd_ones_cost_nothing() -> None:
    def answer(name: str, question: str) -> dict[str, Any] | int | None:
        number = int(name[1:])
        return node(number, routes=question == "status") if number < 4 else {"problems": []}

    with serving(["n1", "n2", "n3"], answer) as nodes:
        assert run(*nodes.words).exit_code == 0
    with serving(["n1", "n2", "n3", "n4"], answer) as nodes:
        result = run(*nodes.words, "-o", "json")
        assert result.exit_code == 1
        [odd] = [row for row in json.loads(result.stdout) if row["severity"] == "problem"]
        assert (odd["nodes"], "not understood" in odd["what"]) == (["n4"], True)
        assert run(*nodes.words, "--node", "n1", "--node", "n2").exit_code == 0
        assert run(*nodes.words, "--watch", "1").exit_code == 2


def test_sessions_of_a_node_that_drains_are_meant_to_be_down() -> None:
    down = {"state": "down", "reason": "it left", "announced": 0}
    mesh = [answers.peer("mesh:n2", "10.0.0.2", localAddress="10.0.0.1", **down)]
    other = [answers.peer("mesh:n1", "10.0.0.1", localAddress="10.0.0.2", **down)]
    leaving: Status = {"drain": {"cause": "leave", "stage": "left"}, "ready": False, "unready": "left"}
    statuses = {"n1": node(1, peers=mesh), "n2": node(2, peers=other, **leaving)}

    def answer(name: str, _question: str) -> dict[str, Any]:
        return {**statuses[name], "routes": ROUTES}

    with serving(["n1", "n2"], answer) as nodes:
        result = run(*nodes.words, "-o", "json")
        assert result.exit_code == 0, result.stdout
        [row] = [each for each in json.loads(result.stdout) if each["severity"] == "warning"]
        assert (row["check"], row["nodes"]) == ("drain", ["n2"])
        statuses["n2"] = node(2, peers=other)  # the control: without the drain both are problems, alike
        found = json.loads(run(*nodes.words, "-o", "json").stdout)
        assert [row["nodes"] for row in found if row["severity"] == "problem"] == [["n1", "n2"]]


def test_a_speaker_that_is_away_is_told_once_and_no_peer_is_accused() -> None:
    down = [answers.peer("tor", "10.255.0.1", state="down", reason="lost", localAddress="10.0.0.1")] * 2
    status = node(1, peers=down, speakerConnected=False, problems=["the speaker cannot be reached; is it?"])
    found = [each for each in judge_status({**status, "routes": ROUTES}) if each.severity is Severity.PROBLEM]
    assert [each.check for each in found] == ["speaker"]
    status["speakerConnected"] = True  # the control: with a speaker each is looked at
    found = [each for each in judge_status({**status, "routes": ROUTES}) if each.severity is Severity.PROBLEM]
    assert [each.check for each in found] == ["agent", "peer", "peer"]


def test_none_that_answers_is_exit_code_three() -> None:
    with serving(["n1", "n2"], lambda _name, _question: None) as nodes:
        result = run(*nodes.words)
    assert result.exit_code == 3
    assert "on 2 nodes" in result.stdout
