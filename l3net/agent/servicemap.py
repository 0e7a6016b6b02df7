"""Services as a map: each address, what is said of it here, and the endpoints behind it, node by node."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import Any, Final

from l3net.agent.loop import Agent
from l3net.model import Endpoint, EndpointSlice, ObjectName, Service
from l3net.services.endpoints import by_service
from l3net.services.verdicts import ServiceVerdict

#: Services looked at before the loop has its turn, and told at a time.
AT_ONCE: Final = 100
MOST: Final = 1000
#: Endpoints of a service that are told one by one.
MOST_ENDPOINTS: Final = 200


async def services_answer(agent: Agent, question: str) -> dict[str, Any]:
    """`question` is a JSON object or nothing: `q` (part of a name or address), `limit`, `offset`.

    `total` counts what `q` leaves; `rows` have `service`, `type`, `ports`, `addresses` (each with `kind` and
    the verdict on this node), `endpoints` (address, port, node, state), `endpointCount`, and how
    many `connections` to it have begun on this node.
    """
    try:
        asked = json.loads(question) if question else {}
        text = str(asked.get("q", "")).lower()
        limit, offset = int(asked.get("limit", AT_ONCE)), int(asked.get("offset", 0))
        if limit < 0 or offset < 0:
            raise ValueError
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {"error": "ask for services with a JSON object of: q, limit, offset"}
    verdicts: dict[ObjectName, list[ServiceVerdict]] = defaultdict(list)
    for verdict in agent.verdicts:
        verdicts[verdict.service].append(verdict)
    services = agent.state.services
    names = []
    for number, name in enumerate(sorted(services)):
        if number % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)
        if text in str(name).lower() or any(text in str(each.address) for each in verdicts[name]):
            names.append(name)
    wanted = names[offset : offset + min(limit, MOST)]
    slices = by_service(each for each in list(agent.state.slices.values()) if each.service in set(wanted))
    await agent.services.counting.fresh()
    counted = agent.services.counting.totals
    rows = [
        {
            **_row(services[name], verdicts[name], slices.get(name, ())),
            "connections": counted.get(name, 0),
        }
        for name in wanted
        if name in services
    ]
    return {"total": len(names), "node": agent.node_name, "rows": rows}


def _row(
    service: Service, verdicts: list[ServiceVerdict], slices: tuple[EndpointSlice, ...]
) -> dict[str, Any]:
    endpoints = [
        {
            "address": str(endpoint.address),
            "ports": [f"{number}/{protocol.lower()}" for protocol, number in each.ports.values()],
            "node": endpoint.node or "",
            "state": _state(endpoint, service),
        }
        for each in slices
        for endpoint in each.endpoints
    ]
    return {
        "service": str(service.name),
        "type": service.type,
        "ports": [f"{port.port}/{port.protocol.lower()}" for port in service.ports],
        "local": [
            name
            for name, there in (
                ("internal", service.internal_traffic_local),
                ("external", service.external_traffic_local),
            )
            if there
        ],
        "addresses": [
            {"address": str(each.address), "kind": each.kind.value, "verdict": each.reason.value}
            for each in verdicts
        ],
        "endpoints": endpoints[:MOST_ENDPOINTS],
        "endpointCount": len(endpoints),
    }


def _state(endpoint: Endpoint, service: Service) -> str:
    if endpoint.ready or service.publish_not_ready:
        return "ready"
    if endpoint.terminating:
        return "terminating, serving" if endpoint.serving else "terminating"
    return "not ready"


def pods_of(agent: Agent) -> dict[str, Any]:
    """The pods that run on this node, with their addresses."""
    rows = [
        {"pod": str(name), "addresses": [str(each) for each in addresses], "policies": len(policies)}
        for name, addresses, policies in agent.policing.book.here()
    ]
    return {"node": agent.node_name, "pods": sorted(rows, key=lambda row: str(row["pod"]))}
