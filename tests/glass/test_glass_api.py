"""The API: each path answers by its schema, and what is asked for is what is told."""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import glass_answers as answers
import pytest
from glass_server import Glass, served
from jsonschema import Draft202012Validator

from l3net.errors import NotRunningError
from l3net.glass.backend import Backend, Query
from l3net.glass.node import Nodes, OneNode
from l3net.glass.resources import RESOURCES

#: Something to ask for, where something must be.
GIVEN = {
    "q": "10.1.2.3",
    "subject": "address 10.1.2.3",
    "namespace": "default",
    "name": "default/web",
    "source": "default/web-1",
    "destination": "10.0.0.9",
    "question": "brief",
}


@pytest.fixture(scope="module")
def glass() -> Iterator[Glass]:
    with served(answers.answer) as there:
        yield there


def valid(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    whole = {**schema, "components": document["components"]}
    Draft202012Validator.check_schema(whole)
    Draft202012Validator(whole).validate(value)


def test_every_path_answers_by_its_schema(glass: Glass) -> None:
    document = glass.get("openapi.json")
    assert document["openapi"] == "3.1.0"
    assert len(document["paths"]) > 20
    for path, item in document["paths"].items():
        if path == "/api/v1/events":
            continue
        operation = item["get"]
        query = "&".join(
            f"{each['name']}={GIVEN[each['name']].replace(' ', '%20').replace('/', '%2F')}"
            for each in operation["parameters"]
            if each["in"] == "query" and each["required"]
        )
        code, headers, body = glass.ask(f"{path.replace('{node}', 'n1')}?{query}")
        assert (code, headers["Content-Type"]) == (200, "application/json"), (path, body)
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        valid(json.loads(body), schema, document)


def test_a_wrong_answer_is_told_from_a_right_one(glass: Glass) -> None:
    """The control: the schemas refuse what lacks a field, or has a state that there is not."""
    document = glass.get("openapi.json")
    schema = {"$ref": "#/components/schemas/Fabric"}
    fabric = glass.get("fabric")
    fabric["nodes"][0]["state"] = "well"
    with pytest.raises(Exception, match="well"):
        valid(fabric, schema, document)
    del fabric["nodes"]
    with pytest.raises(Exception, match="nodes"):
        valid(fabric, schema, document)


def test_each_resource_is_described(glass: Glass) -> None:
    paths = glass.get("openapi.json")["paths"]
    assert {f"/api/v1/nodes/{{node}}/{name}" for name in RESOURCES} <= set(paths)


def test_an_address_is_found_by_longest_match(glass: Glass) -> None:
    found = glass.get("search?q=10.1.2.3")["found"][0]
    assert [row["prefix"] for row in found["received"]] == [
        "10.1.2.0/24",
        "10.1.0.0/16",
        "10.0.0.0/8",
        "0.0.0.0/0",
    ]
    assert [row["prefix"] for row in found["kernel"]] == ["10.1.0.0/16", "10.0.0.0/8"]
    six = glass.get("search?q=fd00::7")["found"][0]
    assert [row["prefix"] for row in six["received"]] == ["fd00::/16"]


def test_tables_are_filtered_and_paged(glass: Glass) -> None:
    whole = glass.get("nodes/n1/routes")
    assert whole["total"] == 5
    assert glass.get("nodes/self/routes?verdict=used")["total"] == 3
    assert glass.get("nodes/n1/routes?verdict=unused&peer=n1-tor-ipv4")["total"] == 2
    page = glass.get("nodes/n1/routes?limit=2&offset=2")
    assert (page["rows"], page["total"]) == (whole["rows"][2:4], 5)
    assert glass.get("nodes/n1/routes?q=65001:7")["total"] == 5
    assert glass.get("nodes/n1/routes?q=10.1.0.0/16")["total"] == 3


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("nodes/other/status", 404, "no node other"),
        ("nodes/n1/nothing", 404, "there are fabric"),
        ("nothing", 404, "openapi.json"),
        ("nodes/n1/routes?limit=1001", 400, "1000 at most"),
        ("nodes/n1/routes?limit=-1", 400, "limit"),
        ("nodes/n1/routes?limit=%D9%A3", 400, "limit"),
        ("nodes/n1/routes?pere=x", 400, "no parameter pere"),
        ("nodes/n1/routes?peer=x&peer=y", 400, "twice"),
        ("search", 400, "q:"),
        ("nodes/n1/explain", 400, "subject"),
        ("nodes/n1/birdwatcher/nothing", 404, "birdwatcher"),
        ("nodes/n1/birdwatcher/routes/protocol/none", 404, "no protocol"),
        ("nodes/n1/birdwatcher/routes/prefix?prefix=x", 400, "nor a prefix"),
    ],
)
def test_what_cannot_be_answered_says_why(glass: Glass, path: str, code: int, said: str) -> None:
    found, _, body = glass.ask(f"/api/v1/{path}")
    assert found == code
    assert said in json.loads(body)["error"]


def test_an_older_agent_is_told_from_a_wrong_question() -> None:
    def older(question: str) -> dict[str, Any]:
        if question.split(" ", maxsplit=1)[0] in ("brief", "history", "explain"):
            return {"error": "ask for: alive, status"}
        return answers.answer(question)

    with served(older) as glass:
        assert glass.ask("/api/v1/history")[0] == 501
        assert glass.ask("/api/v1/nodes/self/explain?subject=address%201.2.3.4")[0] == 501
        assert glass.get("fabric")["nodes"][0]["node"] == "n1"  # by `status`


def test_a_node_that_does_not_answer_is_shown_and_costs_the_others_nothing() -> None:
    async def well(question: str) -> dict[str, Any]:
        return answers.answer(question)

    async def away(question: str) -> dict[str, Any]:
        raise NotRunningError("no agent answers (No such file or directory)")

    async def broken(question: str) -> dict[str, Any]:
        return {"error": "the agent failed to answer (KeyError); see its log"}

    async def made() -> Backend:
        return Nodes({"n1": OneNode(well), "n2": OneNode(away), "n3": OneNode(broken)})

    with served(backend=made) as glass:
        rows = {row["node"]: row for row in glass.get("fabric")["nodes"]}
        assert [rows[each]["state"] for each in ("n1", "n2", "n3")] == ["ready", "unreachable", "unreachable"]
        assert "No such file" in rows["n2"]["why"]
        found = glass.get("search?q=10.1.2.3")
        assert len(found["found"]) == 1
        assert {each["node"] for each in found["failures"]} == {"n2", "n3"}
        assert glass.get("services")["total"] == 1
        assert glass.ask("/api/v1/nodes/n2/status")[0] == 503


def test_many_who_look_at_once_ask_the_agent_once() -> None:
    asked: list[str] = []

    async def slow(question: str) -> dict[str, Any]:
        asked.append(question)
        await asyncio.sleep(0.05)
        return answers.answer(question)

    async def many() -> None:
        node = OneNode(slow)
        query: Query = {}
        await asyncio.gather(*(node.get("self", "routes", query) for _ in range(50)))

    asyncio.run(many())
    assert asked == ["routes"]


def test_services_tell_how_routers_share(glass: Glass) -> None:
    def of(node: str, verdict: str) -> Any:
        async def ask(question: str) -> dict[str, Any]:
            if not question.startswith("services"):
                return answers.answer(question, node)
            addresses = [{"address": "10.96.0.10", "kind": "clusterIP", "verdict": verdict}]
            row = {**answers.SERVICE, "addresses": addresses}
            return {"total": 1, "node": node, "rows": [row]}

        return OneNode(ask)

    async def made() -> Backend:
        return Nodes(
            {"n1": of("n1", "advertise"), "n2": of("n2", "advertise"), "n3": of("n3", "noEndpoints")}
        )

    with served(backend=made) as there:
        [address] = there.get("services")["rows"][0]["addresses"]
    assert address["announcing"] == 2
    assert {each["node"]: each["share"] for each in address["nodes"]} == {"n1": 0.5, "n2": 0.5, "n3": 0.0}


def test_addresses_tell_whose_each_is_and_on_which_node() -> None:
    def of(node: str, **more: Any) -> Any:
        async def ask(question: str) -> dict[str, Any]:
            assert question in ("brief", "status")
            return {**answers.status(node), **more}

        return OneNode(ask)

    async def made() -> Backend:
        nothing = {"held": [], "came": 0, "left": 0}
        older = of("n3")
        return Nodes({"n1": of("n1"), "n2": of("n2", floating=nothing, egress=nothing), "n3": older})

    with served(backend=made) as there:
        found = there.get("addresses")
        told = [(row["address"], row["kind"], row["by"], row["pod"], row["node"]) for row in found["rows"]]
        floating = ("203.0.113.10", "floatingIP", "FloatingIP default/web", "default/web-1")
        egress = ("2001:db8:e::10", "egressIP", "out", "")
        assert told == [(*egress, "n1"), (*egress, "n3"), (*floating, "n1"), (*floating, "n3")]
        assert [row["sinceSeconds"] for row in found["rows"]] == [7.5, 7.5, 75.0, 75.0]
        assert there.get("addresses?q=web-1&limit=1")["total"] == 2
        assert there.get("nodes/n2/addresses")["rows"] == []
        assert there.get("nodes/n1/addresses?q=2001")["rows"][0]["connections"] == 3


def test_an_older_agent_has_no_such_addresses() -> None:
    async def ask(question: str) -> dict[str, Any]:
        told = answers.status("n1")
        return {key: told[key] for key in told if key not in ("floating", "egress")}

    async def made() -> Backend:
        return Nodes({"n1": OneNode(ask)})

    with served(backend=made) as there:
        assert there.get("addresses")["rows"] == []


def test_events_begin_with_the_fabric_and_go_on_with_what_changes() -> None:
    state: dict[str, Any] = {"ready": True, "entries": [{**answers.ENTRY, "at": 1.0}]}

    def agent(question: str) -> dict[str, Any]:
        found = answers.answer(question)
        if question.startswith("history"):
            limit = json.loads(question.partition(" ")[2])["limit"]
            return {"entries": state["entries"][-limit:]}
        return {**found, "ready": state["ready"], "unready": ""} if question == "brief" else found

    def quick(web: Any) -> None:
        web._events._interval = 0.05

    with served(agent, prepare=quick) as glass:
        connection = http.client.HTTPConnection("127.0.0.1", glass.port, timeout=20)
        connection.request("GET", "/api/v1/events")
        response = connection.getresponse()
        assert response.getheader("Content-Type", "").startswith("text/event-stream")

        def event() -> tuple[str, Any]:
            name = ""
            while True:
                line = response.readline().decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    return name, json.loads(line[6:])

        assert event()[0] == "hello"
        name, value = event()
        assert (name, value["nodes"][0]["state"]) == ("fabric", "ready")
        state["ready"] = False
        name, value = event()
        assert (name, value["nodes"][0]["state"]) == ("fabric", "not ready")
        # What had happened before is not told as new; what happens now is, and once.
        state["entries"] = [*state["entries"], {**answers.ENTRY, "at": 2.0}, {**answers.ENTRY, "at": 3.0}]
        name, value = event()
        assert (name, [entry["at"] for entry in value["entries"]]) == ("history", [2.0, 3.0])
        state["ready"] = True
        name, value = event()
        assert name == "fabric"
        connection.close()


def test_connections_are_asked_for_only_while_a_listener_wants_them() -> None:
    asked: list[str] = []

    def agent(question: str) -> dict[str, Any]:
        asked.append(question.partition(" ")[0])
        return answers.answer(question)

    def quick(web: Any) -> None:
        web._events._interval = 0.05

    def events(port: int, path: str, wanted: str) -> dict[str, Any]:
        """The first event of a kind; until then, and as long again, the connection is open."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", f"/api/v1/{path}")
        response = connection.getresponse()
        name = ""
        while True:
            line = response.readline().decode().rstrip("\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: ") and name == wanted:
                connection.close()
                found: dict[str, Any] = json.loads(line[6:])
                return found

    with served(agent, prepare=quick) as glass:
        events(glass.port, "events", "fabric")
        assert "flows" not in asked
        found = events(glass.port, "events?flows=true", "flows")
        assert [row["node"] for row in found["flows"]] == ["n1"]
        assert found["kinds"][0]["connections"] == 3
        assert "flows" in asked
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(f"http://127.0.0.1:{glass.port}/api/v1/events?flows=yes")


def test_history_after_a_time(glass: Glass) -> None:
    assert glass.get("history?after=1000.4")["entries"]
    assert glass.get("nodes/n1/history?after=1000.5")["entries"] == []
    for wrong in ("x", "nan", "inf"):
        assert glass.ask(f"/api/v1/history?after={wrong}")[0] == 400
        assert glass.ask(f"/api/v1/nodes/n1/history?after={wrong}")[0] == 400
