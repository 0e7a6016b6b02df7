"""What the routers of a lab add to the answer of a node."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from l3net.lab import routers_say
from l3net.lab.errors import LabError
from l3net.lab.expected import Rib
from l3net.lab.ribs import Forwarded
from l3net.lab.routers_say import with_routers
from l3net.lab.state import read_source

TOPOLOGY = read_source(None).topology()
LAB: Any = SimpleNamespace(topology=TOPOLOGY, host=lambda name: SimpleNamespace(name=name))
TOLD = TOPOLOGY.sessions("n1")[:2]
BLOCKS = [ip_network("10.244.1.0/24"), ip_network("fd00:10:244:1::/120")]


def answer(**more: Any) -> dict[str, Any]:
    rows = [
        {"verdict": "ok", "peer": str(session.remote), "prefix": str(block)}
        for session, block in zip(TOLD, BLOCKS, strict=True)
    ]
    return {"healthy": True, "sure": True, "outside": False, "answer": "well", "steps": rows} | more


def asked(monkeypatch: pytest.MonkeyPatch, said: Rib | LabError) -> list[str]:
    """Routers in the order they are asked from now on; each says the same."""
    names: list[str] = []

    def read(topology: object, host: Any) -> Rib:
        names.append(host.name)
        if isinstance(said, LabError):
            raise said
        return said

    def forwarding(lab: object, router: str, prefix: Any) -> Forwarded:
        assert not isinstance(said, LabError)
        return Forwarded(prefix, "unicast", said[prefix], f"{prefix} via somebody")

    monkeypatch.setattr(routers_say, "read_paths", read)
    monkeypatch.setattr(routers_say, "read_forwarding", forwarding)
    return names


def test_each_router_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = {block: frozenset({session.local}) for session, block in zip(TOLD, BLOCKS, strict=True)}
    names = asked(monkeypatch, ways)
    found = with_routers(LAB, "n1", answer())
    assert found["healthy"]
    assert sorted(names) == sorted(router.name for router in TOPOLOGY.routers)
    assert len(found["steps"]) == 2 + 2 * 2 * len(TOPOLOGY.routers)  # BGP, and forwarding


def test_a_router_that_cannot_be_asked_is_asked_once_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    names = asked(monkeypatch, LabError("it is down"))
    found = with_routers(LAB, "n1", answer())
    assert found["healthy"]
    assert sorted(names) == sorted(router.name for router in TOPOLOGY.routers)
    assert all("could not be asked: it is down" in row.values() for row in found["steps"][2:])


def test_a_router_that_refuses_makes_an_unsure_answer_a_sure_no(monkeypatch: pytest.MonkeyPatch) -> None:
    asked(monkeypatch, {})
    found = with_routers(LAB, "n1", answer(sure=False))
    assert (found["healthy"], found["sure"], found["cause"]) == (False, True, "routerRefused")
    assert found["answer"].startswith(f"router {TOLD[0].remote_host}: was sent {BLOCKS[0]}")


ELSEWHERE = ip_address("10.9.9.9")


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        (None, "routerNotInstalled"),
        (
            Forwarded(ip_network("0.0.0.0/0"), "unicast", frozenset({TOLD[0].local}), "default"),
            "routerNotInstalled",
        ),
        (Forwarded(BLOCKS[0], "blackhole", frozenset(), "blackhole"), "routerForwardsElsewhere"),
        (Forwarded(BLOCKS[0], "unicast", frozenset({ELSEWHERE}), "via it"), "routerForwardsElsewhere"),
        (Forwarded(BLOCKS[0], "unicast", frozenset(), "dev eth0"), "routerForwardsElsewhere"),
    ],
)
def test_a_router_that_forwards_by_another_route_is_named(
    monkeypatch: pytest.MonkeyPatch, found: Forwarded | None, cause: str
) -> None:
    ways = {block: frozenset({session.local}) for session, block in zip(TOLD, BLOCKS, strict=True)}
    asked(monkeypatch, ways)
    monkeypatch.setattr(routers_say, "read_forwarding", lambda *_: found)
    answered = with_routers(LAB, "n1", answer())
    assert (answered["healthy"], answered["cause"]) == (False, cause)
    assert f"has {BLOCKS[0]} in BGP" in answered["answer"]
    assert answered["advice"]
