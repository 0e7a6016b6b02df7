"""Adj-RIB-In and Adj-RIB-Out in words, for who asks: some rows at a time, so that the loop serves others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, TypeVar

from l3net.addresses import prefix_order
from l3net.agent.loop import Agent
from l3net.agent.tally import standing
from l3net.bgp.exabgp.on_wire import as_sent
from l3net.bgp.kept import Received
from l3net.bgp.path import Attributes, Path
from l3net.bgp.path_filter import PathFilter
from l3net.bgp.segments import shown
from l3net.bgp.sessions import Session
from l3net.bgp.verdict import Verdict, meaning
from l3net.errors import ConfigError
from l3net.model import Address, Prefix

#: Paths looked at, or put into words, before the loop has its turn.
AT_ONCE: Final = 500

Rows = AsyncIterator[list[dict[str, Any]]]
_Each = TypeVar("_Each")


def filter_of(question: str) -> PathFilter:
    """Out of what follows `routes`: nothing, or a JSON object. Raises ConfigError."""
    try:
        asked = json.loads(question) if question.strip() else {}
    except (ValueError, RecursionError):
        raise ConfigError("the question is not a JSON object") from None
    if not isinstance(asked, dict):
        raise ConfigError("the question is not a JSON object")
    return PathFilter.of(asked)


def routes_answer(agent: Agent, question: str) -> tuple[dict[str, Any], str, Rows]:
    """The answer to `routes`: its rows, told in parts. Raises ConfigError."""
    return {}, "routes", rib_rows(agent, filter_of(question))


async def rib_rows(agent: Agent, wanted: PathFilter) -> Rows:
    """Every path asked for, by peer and prefix."""
    if wanted.advertised:
        async for rows in _advertised(agent, wanted):
            yield rows
        return
    looked_up = list(wanted.looked_up())
    if looked_up:
        for prefix in looked_up:
            found = [each for each in agent.rib.holding(prefix) if _fits(agent, wanted, *each)]
            if found:
                found.sort(key=lambda each: (each[0].name, int(each[0].peer_address), each[1].raw.path_id))
                yield [_received(agent, *each) for each in found]
                return
        return
    for address, peer in list(agent.speaking.peers.items()):
        if not wanted.wants_peer(address, peer.session.name):
            continue
        kept: list[Received] = []
        async for part in _in_parts(agent.rib.received(address)):
            kept += [
                entry
                for entry in part
                if wanted.wants_prefix(entry.raw.prefix) and _fits(agent, wanted, peer.session, entry)
            ]
        await asyncio.to_thread(kept.sort, key=_by_prefix)
        async for part in _in_parts(kept):
            yield [_received(agent, peer.session, entry) for entry in part]


async def _advertised(agent: Agent, wanted: PathFilter) -> Rows:
    """What peers hear. Of an address each peer has a longest match of its own."""
    looked_up = list(wanted.looked_up())
    for address, peer in list(agent.speaking.peers.items()):
        if not wanted.wants_peer(address, peer.session.name):
            continue
        session, out = peer.session, agent.speaking.peers.hears(address)

        def sent(
            paths: Iterable[tuple[Prefix, Path]], session: Session = session
        ) -> Iterator[tuple[Prefix, Path, Path]]:
            for prefix, path in paths:
                told = _as_sent(session)(path)
                if wanted.wants(told.attributes):
                    yield prefix, path, told

        if looked_up:
            for prefix in looked_up:
                if prefix in out and (rows := list(sent([(prefix, out[prefix])]))):
                    yield [_sent(agent, session, *row) for row in rows]
                    break
            continue
        paths: list[tuple[Prefix, Path, Path]] = []
        async for part in _in_parts(list(out.items())):
            paths += sent(each for each in part if wanted.wants_prefix(each[0]))
        await asyncio.to_thread(paths.sort, key=lambda row: prefix_order(row[0]))
        async for some in _in_parts(paths):
            yield [_sent(agent, session, *row) for row in some]


def _fits(agent: Agent, wanted: PathFilter, session: Session, entry: Received) -> bool:
    if not wanted.wants_peer(session.peer_address, session.name) or not wanted.wants(entry.path.attributes):
        return False
    if wanted.rejected and standing(agent, session, entry).verdict is Verdict.ACCEPTED:
        return False
    return not wanted.best or _is_best(agent, session, entry)


def _is_best(agent: Agent, session: Session, entry: Received) -> bool:
    """Whether a path is used, alone or with equal ones."""
    if entry.judgement.verdict is not Verdict.ACCEPTED:
        return False
    return any(
        each.path == entry.path and each.session.peer_address == session.peer_address
        for each in agent.routing.best(entry.path.prefix)
    )


def _received(agent: Agent, session: Session, entry: Received) -> dict[str, Any]:
    judgement = standing(agent, session, entry)
    return {
        **_path(session, entry.path),
        "stale": entry.stale,
        "verdict": str(judgement),
        "reason": meaning(judgement),
        "best": _is_best(agent, session, entry),
    }


def _sent(agent: Agent, session: Session, prefix: Prefix, wanted: Path, told: Path) -> dict[str, Any]:
    peers, address = agent.speaking.peers, session.peer_address
    peer = peers.get(address)
    up = peer is not None and peer.established
    state = "sent" if peers.has_told(address, prefix, wanted) else "queued"
    return {**_path(session, told), "state": state if up else "sessionDown"}


def _path(session: Session, path: Path) -> dict[str, Any]:
    return {
        "prefix": str(path.prefix),
        "pathId": path.path_id,
        "peer": _address(session.peer_address),
        "name": session.name,
        "nextHop": _address(path.next_hop),
        **_attributes(path.attributes),
    }


@lru_cache(maxsize=4096)
def _attributes(attributes: Attributes) -> dict[str, Any]:
    """Told of many paths, and changed by nobody."""
    return {
        "asPath": list(attributes.as_path),
        "asPathText": shown(attributes),
        "origin": attributes.origin.name.lower(),
        "localPreference": attributes.local_preference,
        "med": attributes.med,
        "communities": sorted(map(str, attributes.communities)),
    }


@lru_cache(maxsize=1024)
def _address(address: Address) -> str:
    return str(address)


def _as_sent(session: Session) -> Callable[[Path], Path]:
    return lambda path: as_sent(session, path)


def _by_prefix(entry: Received) -> tuple[int, int, int]:
    return prefix_order(entry.raw.prefix)


async def _in_parts(entries: list[_Each]) -> AsyncIterator[list[_Each]]:
    for start in range(0, len(entries), AT_ONCE):
        yield entries[start : start + AT_ONCE]
        await asyncio.sleep(0)
