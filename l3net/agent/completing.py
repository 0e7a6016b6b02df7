"""Names of what an agent knows, for shells that complete the word of whoever types."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from l3net.agent.loop import Agent

#: The BGPConfiguration, of which there is one.
CONFIGURATION: Final = "default"
#: Names in an answer: nobody reads more.
MOST: Final = 200
#: Names looked at before the loop has its turn.
AT_ONCE: Final = 2000


def _peers(agent: Agent) -> Iterator[str]:
    for address, peer in agent.speaking.peers.items():
        yield peer.session.name
        yield str(address)
    yield from agent.state.peers


def _services(agent: Agent) -> Iterator[str]:
    return (str(verdict.service) for verdict in agent.verdicts)


def _pods(agent: Agent) -> Iterator[str]:
    return (str(name) for name, _, _ in agent.policing.book.here())


def _addresses(agent: Agent) -> Iterator[str]:
    """Of this node's pods."""
    for _, addresses, _ in agent.policing.book.here():
        yield from map(str, addresses)


def _service_addresses(agent: Agent) -> Iterator[str]:
    return (str(verdict.address) for verdict in agent.verdicts)


def _prefixes(agent: Agent) -> Iterator[str]:
    yield from map(str, list(agent.rib.prefixes()))
    for wanted in list(agent.speaking.peers.wants.values()):
        yield from map(str, list(wanted))


def _nodes(agent: Agent) -> Iterator[str]:
    return iter(agent.state.nodes)


def _policies(agent: Agent) -> Iterator[str]:
    for policy in agent.policing.book.policies:
        yield str(policy.name) if policy.name.namespace else policy.name.name


def _declared(agent: Agent) -> Iterator[str]:
    """All objects, by name alone."""
    yield CONFIGURATION
    for each in fields(agent.state):
        found = getattr(agent.state, each.name)
        if isinstance(found, Mapping):
            yield from map(str, list(found))


def _namespaces(agent: Agent) -> Iterator[str]:
    for names in (_pods(agent), _services(agent), _policies(agent)):
        yield from (name.partition("/")[0] for name in names if "/" in name)


#: What there is to ask for; a kind is a row.
KINDS: Final[Mapping[str, Callable[[Agent], Iterable[str]]]] = {
    "peers": _peers,
    "services": _services,
    "service-addresses": _service_addresses,
    "pods": _pods,
    "addresses": _addresses,
    "prefixes": _prefixes,
    "nodes": _nodes,
    "policies": _policies,
    "namespaces": _namespaces,
    "declared": _declared,
}


async def completions(agent: Agent, question: str) -> dict[str, Any]:
    """`question`: a JSON object of `kinds`, and how the names are to `begin`."""
    try:
        asked = json.loads(question)
        kinds, begin = [KINDS[kind] for kind in asked["kinds"]], str(asked.get("begin", ""))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {"error": f"ask for kinds, a list of {', '.join(KINDS)}, and how they begin"}
    found: dict[str, None] = {}
    for kind in kinds:
        for number, name in enumerate(kind(agent)):
            if name.startswith(begin):
                found[name] = None
                if len(found) >= MOST:
                    break
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
    return {"names": sorted(found)[:MOST]}
