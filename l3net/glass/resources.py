"""What may be asked of one node: a row each, with its parameters; the API's description is made of them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from l3net.errors import ConfigError, L3netError
from l3net.glass.backend import Query, UnknownQuestionError
from l3net.glass.door import QUESTIONS
from l3net.glass.fabric import node_row
from l3net.glass.held import FRESH, FRESH_TABLES, Held
from l3net.glass.tables import MOST, PAGE, Row, filtered, is_prefix, matches, number, page, prefix_of, seconds
from l3net.model import Prefix

#: What an agent says that does not know a question.
_UNKNOWN: Final = "ask for: "
#: Of a look-up: rows of a kind.
MOST_FOUND: Final = 50

#: Of an address that is held: what is told.
_ADDRESS: Final = ("address", "kind", "by", "pod", "node", "connections", "sinceSeconds")

Answer = Callable[[Held, Query], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Resource:
    """`parameters` by name, with what each is; all are text and may be left out unless `required`."""

    summary: str
    answer: Answer
    parameters: Mapping[str, str]
    required: tuple[str, ...] = ()


async def asked(held: Held, question: str, fresh: float = FRESH) -> dict[str, Any]:
    """Raises UnknownQuestionError, ConfigError with what the agent says, and what `held` raises."""
    answer = await held.get(question, fresh)
    if "error" in answer:
        said = str(answer["error"])
        if said.startswith(_UNKNOWN):
            raise UnknownQuestionError(
                f"the agent that runs does not know the question `{question.partition(' ')[0]}`: it is older "
                "than this page"
            )
        if said.startswith("the agent failed"):
            raise L3netError(said)
        raise ConfigError(said)
    return answer


async def brief(held: Held) -> dict[str, Any]:
    """The status without routes; of an agent that does not know the question, with them."""
    try:
        return await asked(held, "brief")
    except UnknownQuestionError:
        return await asked(held, "status")


async def _fabric(held: Held, query: Query) -> dict[str, Any]:
    return node_row(await brief(held))


async def _status(held: Held, query: Query) -> dict[str, Any]:
    return {key: value for key, value in (await brief(held)).items() if key != "routes"}


async def _routes(held: Held, query: Query) -> dict[str, Any]:
    wanted: dict[str, Any] = {"peer": query["peer"]} if query.get("peer") else {}
    if query.get("verdict") == "unused":
        wanted["rejected"] = True
    return page(filtered(await _paths(held, wanted), query), query)


async def _paths(held: Held, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the agent, which filters them; one that does not know how tells all."""
    answer = await asked(held, f"routes {json.dumps(wanted)}" if wanted else "routes", FRESH_TABLES)
    return list(answer["routes"])


async def _learned(held: Held, prefix: Prefix) -> list[Row]:
    """What holds a prefix, the longest first: all that was learned of the longest, and what is used of those
    that are in use, lest something rejected hide that."""
    alone = prefix.prefixlen == prefix.max_prefixlen
    text = str(prefix.network_address if alone else prefix)
    found = await _paths(held, {"prefix": text}) + await _paths(held, {"prefix": text, "best": True})
    rows = {(row["peer"], row["prefix"], row["pathId"]): row for row in found}
    return matches(list(rows.values()), prefix, MOST_FOUND)


async def _exports(held: Held, query: Query) -> dict[str, Any]:
    answer = await asked(held, "exports", FRESH_TABLES)
    return page(filtered(answer["routes"], query), query)


async def _kernel(held: Held, query: Query) -> dict[str, Any]:
    answer = await asked(held, "status", FRESH_TABLES)
    return page(filtered(answer["routes"], query), query)


async def _services(held: Held, query: Query) -> dict[str, Any]:
    wanted = {
        "q": query.get("q", "").strip().lower(),
        "limit": number(query.get("limit", ""), "limit", PAGE, MOST),
        "offset": number(query.get("offset", ""), "offset", 0, 100_000_000),
    }
    return await asked(held, f"services {json.dumps(wanted)}")


async def _addresses(held: Held, query: Query) -> dict[str, Any]:
    status = await brief(held)
    rows = [
        {"pod": "", "connections": 0, **row, "kind": kind, "node": status["node"]}
        for kind, part in (("floatingIP", "floating"), ("egressIP", "egress"))
        for row in status.get(part, {}).get("held", [])  # an older agent has none
    ]
    text = query.get("q", "").strip().lower()
    told = [
        {key: row.get(key, 0.0) for key in _ADDRESS}
        for row in rows
        if any(text in str(row[key]).lower() for key in ("address", "by", "pod"))
    ]
    return page(told, query)


async def _pods(held: Held, query: Query) -> dict[str, Any]:
    answer = await asked(held, "pods")
    text = query.get("q", "").strip().lower()
    rows = [
        row
        for row in answer["pods"]
        if text in row["pod"].lower() or any(text in a for a in row["addresses"])
    ]
    return page(rows, query)


async def _policies(held: Held, query: Query) -> dict[str, Any]:
    answer = await asked(held, "policy list {}", FRESH_TABLES)
    return {**page(answer["policies"], query), "refused": answer.get("refused", "")}


def _policy(word: str, *names: str) -> Answer:
    async def answer(held: Held, query: Query) -> dict[str, Any]:
        wanted = {name: query[name] for name in names if query.get(name)}
        return await asked(held, f"policy {word} {json.dumps(wanted)}")

    return answer


async def _drops(held: Held, query: Query) -> dict[str, Any]:
    after = number(query.get("after", ""), "after", 0, 999_999_999)
    answer = await asked(held, "policy drops {}")
    return {**answer, "drops": [row for row in answer["drops"] if row["serial"] > after]}


async def _flows(held: Held, query: Query) -> dict[str, Any]:
    after = number(query.get("after", ""), "after", 0, 999_999_999)
    answer = await asked(held, "flows")
    return {**answer, "flows": [row for row in answer["flows"] if row["serial"] > after]}


async def _history(held: Held, query: Query) -> dict[str, Any]:
    wanted: dict[str, Any] = {"limit": number(query.get("limit", ""), "limit", 500, 5000)}
    if subject := query.get("subject", ""):
        wanted["subject"] = subject
    answer = await asked(held, f"history {json.dumps(wanted)}")
    after = seconds(query.get("after", ""))
    return {**answer, "entries": [entry for entry in answer["entries"] if entry["at"] > after]}


async def _explain(held: Held, query: Query) -> dict[str, Any]:
    return await asked(held, f"explain {json.dumps({'subject': query['subject']})}")


async def _agent(held: Held, query: Query) -> dict[str, Any]:
    """As the agent says it: for the command line, which has its own way to tell it."""
    word = query["question"].partition(" ")[0]
    if word not in QUESTIONS:
        raise ConfigError(
            f"question: {word[:20]} may not be asked here; ask for {', '.join(sorted(QUESTIONS))}"
        )
    return await asked(held, query["question"])


async def _lookup(held: Held, query: Query) -> dict[str, Any]:
    """All that the node knows of an address or prefix, or of what has that text in its name."""
    text = query["q"].strip()
    lowered = text.lower()
    status = await brief(held)
    services = await asked(held, f"services {json.dumps({'q': lowered, 'limit': MOST_FOUND})}")
    pods = await _pods(held, {"q": lowered, "limit": str(MOST_FOUND)})
    found: dict[str, Any] = {
        "node": status["node"],
        "q": text,
        "received": [],
        "announced": [],
        "kernel": [],
        "services": services["rows"],
        "pods": pods["rows"],
        "blocks": [],
        "peers": [
            {"name": each["name"], "address": each["address"], "state": each["state"]}
            for each in status["peers"]
            if lowered in each["name"].lower() or lowered == each["address"]
        ][:MOST_FOUND],
    }
    if is_prefix(text):
        prefix = prefix_of(text)
        announced = await asked(held, "exports", FRESH_TABLES)
        kernel = await asked(held, "status", FRESH_TABLES)
        found["received"] = await _learned(held, prefix)
        found["announced"] = matches(announced["routes"], prefix, MOST_FOUND)
        found["kernel"] = matches(kernel["routes"], prefix, MOST_FOUND)
        found["blocks"] = [
            row["prefix"] for row in matches([{"prefix": each} for each in status["blocks"]], prefix)
        ]
    return found


_PAGING: Final = {
    "limit": f"rows in the answer, {MOST} at most; {PAGE} unless given",
    "offset": "rows to leave out before them",
}
_TEXT: Final = {"q": "an address or prefix (what holds it, the longest first), or a part of any text"}
_TABLE: Final = {"peer": "only of this peer, by name or address", **_TEXT, **_PAGING}
_PORT: Final = "destination port, as 80/tcp"

RESOURCES: Final[dict[str, Resource]] = {
    "fabric": Resource("State and sessions of the node, as they are drawn", _fabric, {}),
    "status": Resource("The agent's status, but for its routes", _status, {}),
    "routes": Resource(
        "Routes learned from peers, with the verdict on each",
        _routes,
        {**_TABLE, "verdict": "used, unused, or the verdict by name"},
    ),
    "exports": Resource(
        "Prefixes of this node for each peer: announced, or why not",
        _exports,
        {**_TABLE, "verdict": "used (announced), unused, or the verdict by name"},
    ),
    "kernel": Resource("Routes of l3net in the kernel", _kernel, {**_TEXT, **_PAGING}),
    "services": Resource(
        "Services: addresses and the verdict on each, endpoints", _services, {**_TEXT, **_PAGING}
    ),
    "addresses": Resource(
        "Floating addresses of this node's pods, and egress addresses that it holds",
        _addresses,
        {"q": "a part of an address, or of a name", **_PAGING},
    ),
    "pods": Resource("The pods of this node", _pods, {**_TEXT, **_PAGING}),
    "lookup": Resource("All that is known of an address, prefix or name", _lookup, _TEXT, ("q",)),
    "explain": Resource(
        "Why something is reachable, or not",
        _explain,
        {"subject": "service NS/NAME, pod NS/NAME, address A, or SRC DST[:PORT/PROTO]"},
        ("subject",),
    ),
    "history": Resource(
        "The last decisions, the newest last",
        _history,
        {
            "limit": "entries, 500 unless given",
            "subject": "prefix, NS/NAME or peer name",
            "after": "only those after this time, in seconds since 1970",
        },
    ),
    "policies": Resource("Policies in the order in which they are asked", _policies, _PAGING),
    "policy": Resource(
        "One policy in full",
        _policy("show", "name", "kind"),
        {"name": "NS/NAME or NAME", "kind": "where the name alone may be several"},
        ("name",),
    ),
    "matrix": Resource(
        "Who reaches the pods of a namespace",
        _policy("matrix", "namespace", "port"),
        {"namespace": "of those that are reached", "port": _PORT},
        ("namespace",),
    ),
    "test": Resource(
        "Whether policies let one reach another",
        _policy("test", "source", "destination", "port"),
        {"source": "pod, service or address", "destination": "pod, service or address", "port": _PORT},
        ("source", "destination"),
    ),
    "agent": Resource(
        "What the agent answers to a question of the command line",
        _agent,
        {"question": "a word, and for some what is asked for as JSON: `neighbors`, `routes {...}`"},
        ("question",),
    ),
    "flows": Resource(
        "New connections, by names, since the first request; followed for 15 s more",
        _flows,
        {"after": "only connections with a greater serial number"},
    ),
    "drops": Resource(
        "Packets that policies dropped, of those that are logged",
        _drops,
        {"after": "only those with a greater serial number"},
    ),
}
