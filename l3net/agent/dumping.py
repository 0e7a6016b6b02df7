"""What an MRT file is made of: all paths received, by peer and attributes, told in parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any, Final

from l3net.agent.loop import Agent
from l3net.bgp.mrt import attributes_of
from l3net.bgp.path import Attributes, Path
from l3net.bgp.prefixes import parse_prefix
from l3net.bgp.sessions import UNKNOWN_AS, router_id
from l3net.model import Address

#: Paths put into words before the loop has its turn.
AT_ONCE: Final = 1000

#: A prefix of each family: attributes depend on no more of it.
_ANY: Final = {4: parse_prefix("0.0.0.0/0"), 6: parse_prefix("::/0")}

Rows = AsyncIterator[list[dict[str, Any]]]


def dump_answer(agent: Agent, _question: str) -> tuple[dict[str, Any], str, Rows]:
    """The answer to `dump`: this node, its peers in order, and `paths`: of each a peer by its number, the
    attributes as octets of MRT, and the prefixes that have them, each with its path identifier."""
    node = agent.state.nodes.get(agent.node_name)
    peers = list(agent.speaking.peers.items())
    head = {
        "node": agent.node_name,
        "routerID": str(router_id(node)) if node is not None else "0.0.0.0",  # noqa: S104 - not known
        "peers": [
            {
                "address": str(address),
                "asNumber": 0 if peer.session.peer_as == UNKNOWN_AS else peer.session.peer_as,
                "routerID": peer.opened.router_id if peer.opened is not None else "",
            }
            for address, peer in peers
        ],
    }
    return head, "paths", _paths(agent, [address for address, _ in peers])


async def _paths(agent: Agent, addresses: list[Address]) -> Rows:
    for number, address in enumerate(addresses):
        entries = agent.rib.received(address)
        for start in range(0, len(entries), AT_ONCE):
            alike: dict[bytes, list[tuple[str, str]]] = {}
            for entry in entries[start : start + AT_ONCE]:
                raw = entry.raw
                told = _attributes(raw.attributes, raw.next_hop, raw.prefix.version)
                alike.setdefault(told, []).append((str(raw.prefix), raw.path_id))
            yield [
                {"peer": number, "attributes": told.hex(), "prefixes": prefixes}
                for told, prefixes in alike.items()
            ]
            await asyncio.sleep(0)


@lru_cache(maxsize=4096)
def _attributes(attributes: Attributes, next_hop: Address, version: int) -> bytes:
    return attributes_of(Path(_ANY[version], next_hop, attributes))
