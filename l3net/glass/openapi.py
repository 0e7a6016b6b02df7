"""The description of the API (OpenAPI 3.1), made of the rows that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from l3net import __version__
from l3net.glass.resources import RESOURCES
from l3net.glass.schemas import OF_ALL, OF_NODE, SCHEMAS, ref
from l3net.shapes import Schema


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of all nodes: see merged.py."""

    summary: str
    parameters: Mapping[str, str]
    required: tuple[str, ...] = ()


MERGED: Final[dict[str, Told]] = {
    "fabric": Told("All nodes and their sessions", {}),
    "search": Told("An address, prefix or name, on every node", RESOURCES["lookup"].parameters, ("q",)),
    "services": Told(
        "Services, the verdict of every node on each address, and each node's share",
        RESOURCES["services"].parameters,
    ),
    "addresses": Told("Floating and egress addresses of all nodes", RESOURCES["addresses"].parameters),
    "history": Told("The last decisions of all nodes", RESOURCES["history"].parameters),
    "drops": Told("Packets that policies dropped, on all nodes", {}),
    "flows": Told(
        "New connections on all nodes since the first request; nodes follow them for 15 s more",
        {},
    ),
}


def description(*, cluster: bool) -> dict[str, Any]:
    """The document that /api/v1/openapi.json is."""
    paths: dict[str, Any] = {
        "/api/v1/": _path("root", "What this is", _json(ref("Root"))),
        "/api/v1/nodes": _path("nodes", "The nodes by name", _json(ref("Names"))),
        "/api/v1/openapi.json": _path("openapi", "This document", _json({"type": "object"})),
        "/api/v1/events": _path(
            "events",
            "Server-sent events: `fabric` (nodes that changed, names that are gone), `history` (new "
            "entries), `flows` (new connections), `problem`, `again` (fetch everything again)",
            {"text/event-stream": {"schema": {"type": "string"}}},
            _query({"flows": "`true`: `flows` too, by which nodes follow connections"}, ()),
        ),
    }
    for name, told in MERGED.items():
        paths[f"/api/v1/{name}"] = _path(
            name, told.summary, _json(ref(OF_ALL[name])), _query(told.parameters, told.required)
        )
    node = {
        "name": "node",
        "in": "path",
        "required": True,
        "description": "name of the node" + ("" if cluster else ", or `self`"),
        "schema": {"type": "string"},
    }
    for name, resource in RESOURCES.items():
        given = [node, *_query(resource.parameters, resource.required)]
        paths[f"/api/v1/nodes/{{node}}/{name}"] = _path(
            f"node-{name}", resource.summary, _json(ref(OF_NODE[name])), given
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "l3net looking glass",
            "version": __version__,
            "description": "Read-only. Within a version fields may be added; none is removed or changed.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _path(
    name: str, summary: str, content: dict[str, Any], parameters: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "parameters": parameters or [],
            "responses": {
                "200": {"description": "The answer", "content": content},
                "default": {
                    "description": "Errors: 400 a parameter is wrong, 401 a token is needed, 404 "
                    "there is no such thing, 501 the agent is older than this page, 503 no agent answers",
                    "content": _json(ref("Error")),
                },
            },
        }
    }


def _query(parameters: Mapping[str, str], required: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": text,
            "schema": {"type": "string"},
        }
        for name, text in parameters.items()
    ]


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
