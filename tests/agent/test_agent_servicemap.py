"""Services as a map: what is told of each, and how it is paged."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from l3net.agent.servicemap import MOST, pods_of, services_answer
from l3net.model import ClusterState, Endpoint, EndpointSlice, ObjectName, Service, ServicePort
from l3net.services.verdicts import Reason, ServiceAddressKind, ServiceVerdict


def agent(services: int = 3, endpoints: int = 2) -> Any:
    """As much of one as is looked at."""
    names = [ObjectName("default", f"s{number}") for number in range(services)]
    found = {
        name: Service(
            name,
            cluster_ips=(ip_address(f"10.96.{number >> 8}.{number & 255}"),),
            ports=(ServicePort("http", "TCP", 80),),
            internal_traffic_local=number == 1,
        )
        for number, name in enumerate(names)
    }
    states = [
        Endpoint(ip_address("10.244.1.1"), node="n1"),
        Endpoint(ip_address("fd00::1"), ready=False, serving=True, terminating=True, node="n2"),
        Endpoint(ip_address("10.244.1.3"), ready=False, serving=False, terminating=True),
        Endpoint(ip_address("10.244.1.4"), ready=False, serving=False),
    ]
    slices = {
        ObjectName("default", f"{name.name}-x"): EndpointSlice(
            ObjectName("default", f"{name.name}-x"),
            name,
            tuple((states * (endpoints // 4 + 1))[:endpoints]),
            {"http": ("TCP", 8080)},
        )
        for name in names
    }
    verdicts = tuple(
        ServiceVerdict(name, service.cluster_ips[0], ServiceAddressKind.CLUSTER_IP, Reason.ADVERTISE)
        for name, service in found.items()
    )
    here = [(ObjectName("default", "web"), (ip_address("10.244.1.1"),), ())]
    return SimpleNamespace(
        node_name="n1",
        state=ClusterState(services=found, slices=slices),
        verdicts=verdicts,
        policing=SimpleNamespace(book=SimpleNamespace(here=lambda: iter(here))),
        services=SimpleNamespace(counting=Counting()),
    )


class Counting:
    """What was counted is known once it is read."""

    def __init__(self) -> None:
        self.totals: dict[ObjectName, int] = {}

    async def fresh(self) -> None:
        self.totals = {ObjectName("default", "s1"): 7}


def asked(found: Any, **question: object) -> dict[str, Any]:
    return asyncio.run(services_answer(found, json.dumps(question) if question else ""))


def test_what_is_told_of_a_service() -> None:
    answer = asked(agent(endpoints=4), q="s1")
    [row] = answer["rows"]
    assert (answer["total"], answer["node"], row["service"]) == (1, "n1", "default/s1")
    assert row["connections"] == 7
    assert (row["ports"], row["local"], row["endpointCount"]) == (["80/tcp"], ["internal"], 4)
    assert row["addresses"] == [{"address": "10.96.0.1", "kind": "clusterIP", "verdict": "advertise"}]
    assert [each["state"] for each in row["endpoints"]] == [
        "ready",
        "terminating, serving",
        "terminating",
        "not ready",
    ]
    assert row["endpoints"][1] == {
        "address": "fd00::1",
        "ports": ["8080/tcp"],
        "node": "n2",
        "state": "terminating, serving",
    }


def test_they_are_paged_and_found_by_name_or_address() -> None:
    many = agent(services=250)
    assert asked(many)["total"] == 250
    assert len(asked(many)["rows"]) == 100
    assert [row["service"] for row in asked(many, limit=2, offset=1)["rows"]] == ["default/s1", "default/s10"]
    assert asked(many, q="10.96.0.7")["total"] == 11  # 7, and 70 to 79
    assert asked(many, limit=10 * MOST, offset=249)["rows"][0]["service"] == "default/s99"
    assert asked(many, q="none")["rows"] == []


def test_endpoints_are_bounded() -> None:
    [row] = asked(agent(1, 1000))["rows"]
    assert (len(row["endpoints"]), row["endpointCount"]) == (200, 1000)


@pytest.mark.parametrize(
    "question", ["x", "[]", '{"limit": "x"}', '{"limit": -1}', '{"limit": null}', "[" * 9999]
)
def test_a_wrong_question_is_told(question: str) -> None:
    assert "error" in asyncio.run(services_answer(agent(), question))


def test_pods() -> None:
    assert pods_of(agent())["pods"] == [{"pod": "default/web", "addresses": ["10.244.1.1"], "policies": 0}]
