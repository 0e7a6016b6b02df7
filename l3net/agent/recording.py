"""Keeps what this node has decided (l3net.history): what peers and kernel were told, sessions, services,
drains, and what people declared. It hears of each where it is done; nothing waits for it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from l3net.addresses import host_prefix
from l3net.agent.draining import stage_name
from l3net.agent.kernel import RouteKey
from l3net.agent.loop import Agent
from l3net.bgp.drain import Stage
from l3net.bgp.path import Path
from l3net.bgp.peering import Peering
from l3net.bgp.sessions import Session
from l3net.delta import Delta
from l3net.history.asking import select
from l3net.history.entry import MOST_NAMED, Entry, EntryKind
from l3net.history.ring import Ring
from l3net.model import Kind, NextHop, ObjectName, Prefix, Route
from l3net.ports import Changed, HistoryMemory
from l3net.services.verdicts import ServiceVerdict

#: Seconds in which entries gather: of many alike, one is made.
GATHER: Final = 0.2
#: Of more alike in one go, there is one entry for all.
APART: Final = 20
#: Entries that gather at most; beyond, they are counted.
MOST_GATHERED: Final = 2000
#: What people declare that can change what is announced. Services and their endpoints, pods and nodes change
#: all the time, and what follows is kept.
DECLARED: Final = frozenset(Kind) - {
    Kind.SERVICE,
    Kind.ENDPOINT_SLICE,
    Kind.POD,
    Kind.NODE,
    Kind.NAMESPACE,
    Kind.SECRET,
}
#: Entries in an answer that does not say how many it wants.
USUAL: Final = 200


class Recording:
    """Of one agent, from the moment it is made. `run` writes down; `answer` tells."""

    def __init__(self, agent: Agent, memory: HistoryMemory) -> None:
        self._agent, self._memory = agent, memory
        self._ring = Ring(memory.read())
        self._gathered: list[Entry] = []
        self._lost = self._lost_ever = 0
        self._due = asyncio.Event()
        self._declared: dict[tuple[Kind, ObjectName], object] = {}
        speaking = agent.speaking
        speaking.announcer.on_telling = self._told
        speaking.peers.on_said = self._said
        agent.kernel.on_applied = self._applied
        agent.services.book.on_judged = self._judged
        agent.draining.on_changed = self._drained
        agent.declared.on_heard = self._heard
        self.note(EntryKind.NODE, agent.node_name, "agent started")

    def fullness(self) -> tuple[int, int]:
        """Entries that are kept, and how many came too fast to be."""
        return len(self._ring), self._lost_ever

    # --- what is heard -----------------------------------------------------------------------------------

    def note(self, kind: EntryKind, subject: str, what: str, **more: Any) -> None:
        """Keep one entry, dated now."""
        if len(self._gathered) >= MOST_GATHERED:
            self._lost += 1
            self._lost_ever += 1
            return
        self._gathered.append(Entry(self._memory.now(), kind, subject, what, **more))
        self._due.set()

    def _several(
        self, kind: EntryKind, prefixes: Iterable[Prefix], what: str, each: Mapping[Prefix, Mapping[str, str]]
    ) -> None:
        """An entry for each prefix, with what `each` has to say of it; of many, one entry for all."""
        found = list(prefixes)
        if len(found) > APART:
            peer = each.get(found[0], {}).get("peer", "")
            named = tuple(found[:MOST_NAMED])
            self.note(kind, str(named[0]), what, peer=peer, count=len(found), prefixes=named)
            return
        for prefix in found:
            self.note(kind, str(prefix), what, prefixes=(prefix,), **each.get(prefix, {}))

    def _told(
        self,
        session: Session,
        prefixes: tuple[Prefix, ...],
        path: Path | None,
        said: Mapping[Prefix, Path | None],
    ) -> None:
        peer = f"{session.name} ({session.peer_address})"
        by_what: dict[str, list[Prefix]] = {}
        for prefix in prefixes:
            before = said.get(prefix)
            if path is None:
                what = "withdrawn"
            elif prefix not in said:
                what = "announced"
            else:  # of an agent before us, ExaBGP tells prefixes alone
                what = "changed" if before is not None else "announced again"
            by_what.setdefault(what, []).append(prefix)
        for what, found in by_what.items():
            few = len(found) <= APART
            each = {
                prefix: {
                    "peer": peer,
                    "reason": self._why(prefix, announced=path is not None) if few else "",
                    "old": _path(said.get(prefix)),
                    "new": _path(path),
                }
                for prefix in (found if few else found[:1])
            }
            self._several(EntryKind.ANNOUNCEMENT, found, what, each)

    def _why(self, prefix: Prefix, *, announced: bool) -> str:
        """What the services, or who has a floating or an egress address, say of an address now."""
        agent = self._agent
        if agent.draining.stage >= Stage.SERVICES_WITHDRAWN and not announced:
            return f"draining: {stage_name(agent.draining.stage)}"
        if prefix.prefixlen != prefix.max_prefixlen:
            return ""
        address = prefix.network_address
        if claims := sorted(agent.floating.at(address), key=lambda each: not each.held):
            one = claims[0]
            return f"{one.by}: {f'pod {one.pod} on {one.node} has it' if one.held else one.why}"
        if holdings := sorted(agent.egress.at(address), key=lambda each: not each.held):
            it = holdings[0]
            return f"EgressIP {it.by}: {f'{it.node} holds it' if it.held else it.why}"
        verdicts = agent.services.book.of_address(address)
        return ", ".join(f"{verdict.service}: {verdict.reason.value}" for verdict in verdicts[:3])

    def _said(self, peer: Peering, text: str) -> None:
        what, _, reason = text.partition(": ")
        session = peer.session
        named = f"{session.name} ({session.peer_address})"
        self.note(EntryKind.SESSION, session.name, what, peer=named, reason=reason)

    def _applied(self, delta: Delta[RouteKey, Route]) -> None:
        mirror = self._agent.kernel.mirror
        added: list[RouteKey] = list(delta.put)
        changed: list[RouteKey] = []
        befores = list(map(mirror.get, delta.put))  # there may be 100,000, and mostly all are new
        if any(befores):
            added = [key for key, before in zip(delta.put, befores, strict=True) if before is None]
            seen = zip(delta.put.items(), befores, strict=True)
            changed = [key for (key, route), before in seen if before is not None and before != route]
        for what, keys in (("added", added), ("changed", changed), ("removed", list(delta.delete))):
            few = keys if len(keys) <= APART else ()
            each = {
                key[0]: {"old": _route(mirror.get(key)), "new": _route(delta.put.get(key))} for key in few
            }
            self._several(EntryKind.ROUTE, [key[0] for key in keys], what, each)

    def _judged(self, before: tuple[ServiceVerdict, ...], now: tuple[ServiceVerdict, ...]) -> None:
        was = {verdict.address: verdict for verdict in before}
        found = {verdict.address: verdict for verdict in now}
        for address in {**was, **found}:
            old, new = was.get(address), found.get(address)
            if old == new:
                continue
            verdict = new or old
            assert verdict is not None  # noqa: S101 - one of them is
            self.note(
                EntryKind.SERVICE,
                str(verdict.service),
                "decided" if new is not None else "removed",
                reason="; ".join(verdict.lost),
                old=old.reason.value if old is not None else "",
                new=new.reason.value if new is not None else "",
                prefixes=(host_prefix(address),),
            )

    def _drained(self) -> None:
        draining = self._agent.draining
        reason = draining.cause.value if draining.cause is not None else ""
        self.note(EntryKind.DRAIN, self._agent.node_name, stage_name(draining.stage), reason=reason)

    def _heard(self, event: Changed) -> None:
        if event.kind not in DECLARED:
            return
        key = event.kind, event.name
        before = self._declared.get(key)
        if event.fact is None:
            self._declared.pop(key, None)
        else:
            self._declared[key] = event.fact
        if before == event.fact or not self._agent.in_sync:
            return
        what = "removed" if event.fact is None else "added" if before is None else "changed"
        changed = _fields(before, event.fact)
        self.note(EntryKind.DECLARED, f"{event.kind.value} {event.name}", what, reason=changed)

    # --- what becomes of it ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._due.wait()
            await asyncio.sleep(GATHER)
            if entries := self.gather():
                await asyncio.to_thread(self._memory.append, entries)

    def gather(self) -> list[Entry]:
        """Take what has gathered into the ring; of many alike, one."""
        found, self._gathered = self._gathered, []
        lost, self._lost = self._lost, 0
        self._due.clear()
        groups: dict[tuple[object, ...], list[Entry]] = {}
        for entry in found:
            groups.setdefault((entry.kind, entry.what, entry.peer, entry.new), []).append(entry)
        kept = []
        for group in groups.values():
            kept += [_merged(group)] if len(group) > APART else group
        kept.sort(key=lambda entry: entry.at)
        if lost:
            kept.append(Entry(found[-1].at, EntryKind.NODE, self._agent.node_name, "more", count=lost))
        for entry in kept:
            self._ring.add(entry)
        return kept

    def last(self, subject: str) -> dict[str, Any] | None:
        """The last decision about an address, prefix, service or peer; None: none is kept."""
        found = select([*self._ring.entries(), *self._gathered], subject, limit=1)
        return found[0].row() if found else None

    async def answer(self, question: str) -> dict[str, Any]:
        """`question`: a JSON object of subject, kinds, since (seconds since 1970) and limit, or nothing."""
        try:
            asked = json.loads(question) if question.strip() else {}
            kinds = {EntryKind(kind) for kind in asked.get("kinds", ())}
            since, limit = float(asked.get("since", 0)), int(asked.get("limit", USUAL))
            subject = str(asked.get("subject", ""))
        except (ValueError, TypeError, AttributeError, RecursionError) as err:
            return {"error": f"no such question of the history: {err}"}
        entries = [*self._ring.entries(), *self._gathered]
        return {"entries": [entry.row() for entry in select(entries, subject, kinds, since, max(0, limit))]}


def _merged(group: list[Entry]) -> Entry:
    """One entry for many of one kind."""
    named = tuple(prefix for entry in group for prefix in entry.prefixes)[:MOST_NAMED]
    first = group[0]
    return Entry(
        *(first.at, first.kind, first.subject, first.what),
        peer=first.peer,
        reason=first.reason if all(entry.reason == first.reason for entry in group) else "",
        new=first.new,
        count=sum(entry.count for entry in group),
        prefixes=named,
    )


def _path(path: Path | None) -> str:
    """`via 10.0.0.1, AS path 65001, communities 65001:1`."""
    if path is None:
        return ""
    attributes, words = path.attributes, [f"via {path.next_hop}"]
    if attributes.as_path:
        words.append("AS path " + " ".join(map(str, attributes.as_path)))
    if attributes.med is not None:
        words.append(f"MED {attributes.med}")
    if attributes.communities:
        words.append("communities " + " ".join(sorted(map(str, attributes.communities))))
    return ", ".join(words)


def _route(route: Route | None) -> str:
    if route is None:
        return ""
    return ", ".join(sorted(map(_hop, route.next_hops))) or route.kind.name.lower()


def _hop(hop: NextHop) -> str:
    return f"dev {hop.interface}" if hop.gateway is None else f"via {hop.gateway} dev {hop.interface}"


def _fields(before: object, now: object) -> str:
    """The fields that differ, by name alone: values may be long, and one is a password's place."""
    slots = getattr(type(now), "__slots__", ()) if before is not None and now is not None else ()
    return ", ".join(name for name in slots if getattr(before, name, None) != getattr(now, name, None))
