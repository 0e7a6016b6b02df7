"""What Alice-LG reads of birdwatcher, it reads of a node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import alice
import glass_answers as answers
import pytest
from glass_server import Glass, served


@pytest.fixture(scope="module")
def glass() -> Iterator[Glass]:
    def agent(question: str) -> dict[str, Any]:
        if question == "status":
            down = answers.peer(
                "spine",
                "10.0.9.1",
                state="down",
                lastAttempt={"error": "connection refused", "direction": "out", "sinceSeconds": 1},
            )
            refused = answers.peer("no address", "", state="refused", asNumber=None)
            found = answers.status()
            return {**found, "peers": [*found["peers"], down, refused], "routes": answers.KERNEL}
        return answers.answer(question)

    with served(agent) as there:
        yield there


def told(glass: Glass, path: str) -> Any:
    code, _, body = glass.ask(f"/birdwatcher/{path}")
    assert code == 200, body
    return json.loads(body)


def test_status(glass: Glass) -> None:
    found = alice.status(told(glass, "status"))
    assert found["version"].startswith("l3net ")
    assert found["router_id"] == "10.0.0.2"


def test_neighbors(glass: Glass) -> None:
    found = alice.neighbors(told(glass, "protocols/bgp"))
    # A name that birdwatcher does not allow stands for itself as the description alone.
    assert set(found) == {"10.0.0.1", "fd00::1", "spine", "no_address"}
    up, down = found["10.0.0.1"], found["spine"]
    assert (up["state"], up["description"], up["asn"]) == ("up", "n1-tor-ipv4", 65001)
    assert (up["imported"], up["filtered"], up["exported"], up["preferred"]) == (2, 1, 2, 2)
    assert (down["state"], down["error"]) == ("start", "connection refused")
    assert alice.neighbors(told(glass, "protocols")) == found
    assert alice.short(told(glass, "protocols/short?uncached=true"))["spine"] == "start"


def test_routes(glass: Glass) -> None:
    found = alice.routes(told(glass, "routes/protocol/10.0.0.1"))
    assert [row["network"] for row in found] == ["10.0.0.0/8", "10.1.0.0/16"]
    assert found[0]["as_path"] == [65001, 65000]
    assert (found[0]["interface"], found[0]["neighbor"]) == ("tor", "10.0.0.1")
    assert found[0]["communities"] == [[65001, 7]]
    assert found[0]["large_communities"] == [[65001, 1, 2]]
    assert found[0]["ext_communities"] == [["rt", "65001", "9"]]
    filtered = alice.routes(told(glass, "routes/filtered/10.0.0.1"))
    assert [row["network"] for row in filtered] == ["0.0.0.0/0", "10.1.2.0/24"]
    assert [row["network"] for row in alice.routes(told(glass, "routes/noexport/10.0.0.1"))] == [
        "10.96.0.20/32"
    ]
    assert len(alice.routes(told(glass, "routes/export/10.0.0.1"))) == 2
    assert len(alice.routes(told(glass, "routes/table/master4"))) == 2
    assert len(alice.routes(told(glass, "routes/table/master6"))) == 1
    assert len(alice.routes(told(glass, "routes/table/master4/filtered"))) == 2
    assert [row["network"] for row in alice.routes(told(glass, "routes/peer/fd00::1"))] == ["fd00::/16"]
    assert told(glass, "routes/count/protocol/10.0.0.1")["routes"] == 2


def test_a_prefix_is_looked_up(glass: Glass) -> None:
    assert [r["network"] for r in alice.routes(told(glass, "routes/prefix?prefix=10.1.2.3"))] == [
        "10.1.0.0/16",
        "10.0.0.0/8",
    ]
    assert [r["network"] for r in alice.routes(told(glass, "route/net/10.1.2.3"))] == ["10.1.0.0/16"]
    assert [r["network"] for r in alice.routes(told(glass, "route/net/10.0.0.0/mask/9"))] == ["10.0.0.0/8"]
    assert told(glass, "symbols/protocols")["symbols"] == ["10.0.0.1", "fd00::1", "no_address", "spine"]


def test_what_alice_asserts_is_noticed(glass: Glass) -> None:
    """The control: a number where it wants text, and a time in another form."""
    answer = told(glass, "routes/protocol/10.0.0.1")
    answer["routes"][0]["bgp"]["as_path"] = [65001]
    with pytest.raises(AssertionError):
        alice.routes(answer)
    answer = told(glass, "status")
    answer["status"]["current_server"] = "12:00"
    with pytest.raises(ValueError, match="12:00"):
        alice.status(answer)
