"""What is told of all nodes together. A node that does not answer is told so, at no cost to the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from l3net.addresses import address_order, parse_address
from l3net.errors import L3netError
from l3net.glass.backend import Backend, Query, UnknownQuestionError
from l3net.glass.fabric import unreached
from l3net.glass.tables import MOST, number, page, seconds

#: Nodes asked at a time, and seconds for one of them.
AT_ONCE: Final = 24
PATIENCE: Final = 10.0
MOST_ENTRIES: Final = 2000
#: Connections, and kinds of them, that are told of all nodes.
MOST_FLOWS: Final = 1000
MOST_KINDS: Final = 500

Answers = list[tuple[str, dict[str, Any] | L3netError]]


async def each(backend: Backend, resource: str, query: Query | Callable[[str], Query]) -> Answers:
    """The answer of each node, or why there is none. `query`: of all, or by node. Raises L3netError where the
    nodes cannot be told."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(node: str) -> dict[str, Any] | L3netError:
        async with turn:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await backend.get(node, resource, query(node) if callable(query) else query)
            except TimeoutError:
                return L3netError(f"no answer within {PATIENCE:.0f} s")
            except L3netError as err:
                return err

    names = await backend.names()
    return list(zip(names, await asyncio.gather(*map(one, names)), strict=True))


def _failures(answers: Answers) -> list[dict[str, Any]]:
    return [{"node": node, "error": str(found)} for node, found in answers if isinstance(found, L3netError)]


def _all_unknown(answers: Answers) -> None:
    """Raises UnknownQuestionError where no agent knows the question."""
    if answers and all(isinstance(found, UnknownQuestionError) for _, found in answers):
        raise UnknownQuestionError(str(answers[0][1]))


async def fabric(backend: Backend, query: Query) -> dict[str, Any]:
    """`nodes` as in fabric.py, and when."""
    answers = await each(backend, "fabric", {})
    rows = [
        unreached(node, str(found)) if isinstance(found, L3netError) else found for node, found in answers
    ]
    return {"cluster": backend.cluster, "at": round(time.time(), 3), "nodes": rows}


async def search(backend: Backend, query: Query) -> dict[str, Any]:
    """`found` by node, of those that know anything."""
    answers = await each(backend, "lookup", {"q": query["q"]})
    kinds = ("received", "announced", "kernel", "services", "pods", "blocks", "peers")
    found = [
        answer
        for _, answer in answers
        if not isinstance(answer, L3netError) and any(answer.get(kind) for kind in kinds)
    ]
    return {"q": query["q"], "found": found, "failures": _failures(answers), "asked": len(answers)}


async def services(backend: Backend, query: Query) -> dict[str, Any]:
    """Services with the verdict of each node on each address, and how traffic from outside is shared."""
    answers = await each(backend, "services", query)
    _all_unknown(answers)
    total, rows = 0, dict[str, dict[str, Any]]()
    for node, answer in answers:
        if isinstance(answer, L3netError):
            continue
        total = max(total, answer["total"])
        for row in answer["rows"]:
            merged = rows.setdefault(row["service"], {**row, "addresses": {}, "connections": 0})
            merged["connections"] += row.get("connections", 0)
            for address in row["addresses"]:
                kept = merged["addresses"].setdefault(
                    address["address"], {"address": address["address"], "kind": address["kind"], "nodes": []}
                )
                kept["nodes"].append({"node": node, "verdict": address["verdict"]})
    told = []
    for name in sorted(rows):
        row = rows[name]
        told.append({**row, "addresses": [_shared(each_) for each_ in row["addresses"].values()]})
    return {"total": total, "rows": told, "failures": _failures(answers)}


def _shared(address: Mapping[str, Any]) -> dict[str, Any]:
    """`share` of each node that announces: routers with equal ways to all of them spread flows evenly."""
    announcing = sum(1 for each_ in address["nodes"] if each_["verdict"] == "advertise")
    nodes = [
        {**each_, "share": round(1 / announcing, 4) if each_["verdict"] == "advertise" else 0.0}
        for each_ in address["nodes"]
    ]
    return {**address, "announcing": announcing, "nodes": nodes}


async def addresses(backend: Backend, query: Query) -> dict[str, Any]:
    """Floating and egress addresses of all nodes; one that moves may have two nodes for a moment."""
    answers = await each(backend, "addresses", {**query, "offset": "0", "limit": str(MOST)})
    _all_unknown(answers)
    rows = [row for _, answer in answers if not isinstance(answer, L3netError) for row in answer["rows"]]
    rows.sort(key=lambda row: (row["kind"], address_order(parse_address(row["address"])), row["node"]))
    return {**page(rows, query), "failures": _failures(answers)}


async def history(backend: Backend, query: Query) -> dict[str, Any]:
    """Entries of all nodes by time, each with its `node`."""
    limit = number(query.get("limit", ""), "limit", 500, MOST_ENTRIES)
    seconds(query.get("after", ""))  # a wrong one is told once, and not by each node
    found = await entries(backend, query)
    return {**found, "entries": found["entries"][-limit:] if limit else []}


async def entries(backend: Backend, query: Query | Callable[[str], Query]) -> dict[str, Any]:
    """As `history`, whatever their number; `query` may be by node."""
    answers = await each(backend, "history", query)
    _all_unknown(answers)
    found = [
        {"node": node, **entry}
        for node, answer in answers
        if not isinstance(answer, L3netError)
        for entry in answer["entries"]
    ]
    found.sort(key=lambda entry: float(entry["at"]))
    return {"entries": found, "failures": _failures(answers)}


async def flows(backend: Backend, query: Query) -> dict[str, Any]:
    """Connections as they begin on any node, by time, and how many of each kind, each with its `node`."""
    return flows_of(await each(backend, "flows", {}))


def flows_of(answers: Answers) -> dict[str, Any]:
    """`lost` and `more` are of all nodes. Raises UnknownQuestionError."""
    _all_unknown(answers)
    known = [(node, answer) for node, answer in answers if not isinstance(answer, L3netError)]
    rows = [{"node": node, **row} for node, answer in known for row in answer["flows"]]
    kinds = [{"node": node, **row} for node, answer in known for row in answer["kinds"]]
    rows.sort(key=lambda row: float(row["time"]))
    kinds.sort(key=lambda row: -int(row["connections"]))
    return {
        "flows": rows[-MOST_FLOWS:],
        "kinds": kinds[:MOST_KINDS],
        "more": sum(answer["more"] for _, answer in known),
        "lost": sum(answer["lost"] for _, answer in known),
        "problems": [
            {"node": node, "problem": each_["problem"]} for node, each_ in known if each_["problem"]
        ],
        "failures": _failures(answers),
    }


async def drops(backend: Backend, query: Query) -> dict[str, Any]:
    """Dropped packets of all nodes by time, each with its `node`; `logging`: policies that log, at most."""
    answers = await each(backend, "drops", {})
    _all_unknown(answers)
    known = [(node, answer) for node, answer in answers if not isinstance(answer, L3netError)]
    rows = [{"node": node, **row} for node, answer in known for row in answer["drops"]]
    rows.sort(key=lambda row: float(row["time"]))
    return {
        "drops": rows[-1000:],
        "seen": sum(answer["seen"] for _, answer in known),
        "logging": max((answer["logging"] for _, answer in known), default=0),
        "problems": [
            {"node": node, "problem": each_["problem"]} for node, each_ in known if each_["problem"]
        ],
        "failures": _failures(answers),
    }
