"""The collectors of this node, and the peers as all of them are told of.

Peers and tables are listened to while a collector is connected, and not otherwise. What changes is noted for
each collector, by peer and prefix; it is told when it takes it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random
from typing import Any, Final

from l3net.agent.monitoring.exporting import Exporting
from l3net.agent.speaker.speaking import Speaking
from l3net.agent.supervising import kept_up
from l3net.bgp.bmp.ending import why_down
from l3net.bgp.bmp.feed import StillStale
from l3net.bgp.bmp.messages import Monitored, Opens, peer_down, peer_up, statistics
from l3net.bgp.exabgp.on_wire import as_sent
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.path import Path
from l3net.bgp.peering import Peering
from l3net.bgp.wire.messages import made_up_open
from l3net.faults import Faults
from l3net.model import Address, BmpCollector, ClusterState, Family, Prefix
from l3net.ports import Collectors

#: Seconds after which ExaBGP is asked again for the OPENs of sessions that it did not know a moment ago.
AGAIN: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Up:
    """A session as collectors know it."""

    monitored: Monitored
    message: bytes
    versions: tuple[int, ...]


class Monitoring:
    """`follow` takes over what is declared, `run` keeps the collectors told."""

    def __init__(
        self,
        me: str,
        collectors: Collectors,
        speaking: Speaking,
        rib: LocRib,
        faults: Faults,
        random: Random,
    ) -> None:
        self._me, self._collectors, self._random = me, collectors, random
        self._speaking, self._rib, self._faults = speaking, rib, faults
        self._wanted: tuple[BmpCollector, ...] = ()
        self._due = asyncio.Event()
        self._tasks: dict[BmpCollector, tuple[Exporting, asyncio.Task[None]]] = {}
        self._listening: list[Exporting] = []
        self._up: dict[Address, _Up] = {}
        self._asking = self._once_more = False

    # --- which collectors --------------------------------------------------------------------------------

    def follow(self, state: ClusterState) -> None:
        """Those declared for this node; and peers that are declared no longer."""
        node = state.nodes.get(self._me)
        labels = node.labels if node is not None else {}
        wanted = tuple(each for each in state.configuration.collectors if each.node_selector.matches(labels))
        if wanted != self._wanted:
            self._wanted = wanted
            self._due.set()
        for address in [gone for gone in self._up if gone not in self._speaking.peers]:
            self._went_down(address, None)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                wanted = dict.fromkeys(self._wanted)
                for declared in [each for each in self._tasks if each not in wanted]:
                    self._tasks.pop(declared)[1].cancel()
                for declared in wanted:
                    if declared not in self._tasks:
                        self._tasks[declared] = self._begin(declared)
        finally:
            tasks = [task for _, task in self._tasks.values()]
            self._tasks.clear()
            for task in tasks:
                task.cancel()

    def _begin(self, declared: BmpCollector) -> tuple[Exporting, asyncio.Task[None]]:
        exporting = Exporting(self._me, declared, self._collectors, self, self, self._random)
        part = f"BMP collector {declared.name}"
        return exporting, asyncio.create_task(kept_up(part, exporting.run, self._faults))

    def status(self) -> list[dict[str, Any]]:
        """A row for each collector."""
        return [exporting.status() for exporting, _ in self._tasks.values()]

    def problems(self) -> list[str]:
        return [problem for exporting, _ in self._tasks.values() if (problem := exporting.problem())]

    # --- who listens -------------------------------------------------------------------------------------

    def joins(self, listener: Exporting) -> None:
        """See `Audience`."""
        self._listening.append(listener)
        if len(self._listening) == 1:
            self._speaking.peers.on_changed = self._look
            self._speaking.announcer.on_said = self._said
            self._rib.on_changed = self._heard
            self._ask_opens()
        for address, up in self._up.items():
            self._introduce(listener, address, up)

    def leaves(self, listener: Exporting) -> None:
        """See `Audience`."""
        self._listening = [each for each in self._listening if each is not listener]
        if not self._listening:
            self._speaking.peers.on_changed = None
            self._speaking.announcer.on_said = None
            self._rib.on_changed = None
            self._up.clear()

    def _introduce(self, listener: Exporting, address: Address, up: _Up) -> None:
        if listener.feed is None:
            return
        tables: dict[tuple[bool, int, str], Iterable[Prefix]] = {}
        for path_id, prefixes in self._rib.tables(address):
            for version in (4, 6):
                if found := [prefix for prefix in prefixes if prefix.version == version]:
                    tables[False, version, path_id] = found
        said = self._speaking.announcer.said(address)
        for version in (4, 6):
            if found := [prefix for prefix in said if prefix.version == version]:
                tables[True, version, ""] = found
        listener.feed.up(up.monitored, up.message, up.versions, tables)
        listener.look()

    # --- sessions ----------------------------------------------------------------------------------------

    def _look(self, address: Address) -> None:
        """Something has happened to a peer."""
        peer = self._speaking.peers.get(address)
        established = peer is not None and peer.established
        if established and address not in self._up:
            self._ask_opens()
        elif not established and address in self._up:
            self._went_down(address, peer)
        elif established:  # a table may be complete by now
            for listener in self._listening:
                listener.look()

    def _went_down(self, address: Address, peer: Peering | None) -> None:
        up = self._up.pop(address)
        message = peer_down(up.monitored, why_down(peer), self._collectors.now())
        for listener in self._listening:
            if listener.feed is not None:
                listener.feed.down(address, message)
                listener.look()

    def _ask_opens(self) -> None:
        if self._asking:
            self._once_more = True
            return
        if not self._missing():
            return
        self._asking = True
        self._speaking.peers.ask_opens(self._opened)

    def _missing(self) -> list[Peering]:
        """Sessions that are up and that no collector knows."""
        return [
            peer
            for address, peer in self._speaking.peers.items()
            if peer.established and address not in self._up
        ]

    def _opened(self, opens: Mapping[Address, Opens] | None) -> None:
        """What ExaBGP has of both sides' OPENs; None: it keeps none, as one older than we are."""
        self._asking, once_more = False, self._once_more
        self._once_more = False
        if not self._listening:
            return
        for peer in self._missing():
            address = peer.session.peer_address
            found = opens.get(address) if opens is not None else _made_up(peer)
            if found is None:
                continue
            opened = peer.opened
            router_id = IPv4Address(opened.router_id if opened is not None and opened.router_id else 0)
            as_number = opened.as_number if opened is not None and opened.as_number else peer.session.peer_as
            monitored = Monitored(address, as_number, router_id)
            message = peer_up(monitored, found, self._collectors.now() - (_now() - peer.since))
            versions = tuple(sorted(family.value for family in peer.negotiated))
            self._up[address] = up = _Up(monitored, message, versions)
            for listener in self._listening:
                self._introduce(listener, address, up)
        if self._missing():  # it came up, or went, in between
            asyncio.get_running_loop().call_later(0.0 if once_more else AGAIN, self._ask_opens)

    # --- tables ------------------------------------------------------------------------------------------

    def _heard(self, peer: Address, path_id: str, prefixes: Iterable[Prefix]) -> None:
        for listener in self._listening:
            if listener.feed is not None:
                listener.feed.changed(peer, prefixes, path_id, out=False)
                listener.look()

    def _said(self, peer: Address, prefixes: Iterable[Prefix]) -> None:
        for listener in self._listening:
            if listener.feed is not None:
                listener.feed.changed(peer, prefixes, out=True)
                listener.look()

    def path(self, peer: Address, prefix: Prefix, path_id: str, *, out: bool) -> Path | None:
        """See `Ribs`."""
        if not out:
            entry = self._rib.entry(peer, prefix, path_id)
            if entry is not None and entry.stale:
                raise StillStale
            return entry.raw if entry is not None else None
        said = self._speaking.announcer.said(peer)
        if prefix not in said:
            return None
        path, known = said[prefix], self._speaking.peers.get(peer)
        if path is None or known is None:  # an agent before us has said it; it is said again
            raise StillStale
        return as_sent(known.session, path)

    def complete(self, peer: Address, version: int, *, out: bool) -> bool:
        """See `Ribs`."""
        if out:
            return not self._speaking.announcer.waiting(peer)
        known = self._speaking.peers.get(peer)
        return known is not None and Family(version) not in known.awaiting

    def statistics(self) -> bytes:
        """See `Audience`."""
        found, now = [], self._collectors.now()
        for address, up in self._up.items():
            received = {version: self._rib.count(address, Family(version)) for version in up.versions}
            said: Counter[int] = Counter(prefix.version for prefix in self._speaking.announcer.said(address))
            sent = {version: said[version] for version in up.versions}
            found.append(statistics(up.monitored, now, received, sent))
        return b"".join(found)


def _made_up(peer: Peering) -> Opens:
    """As far as it is known what both sides have said."""
    session, opened = peer.session, peer.opened
    versions = {family.value for family in peer.families}
    mine = made_up_open(session.local_as, session.hold_time, session.router_id.packed, versions)
    if opened is None:
        theirs = made_up_open(session.peer_as, session.hold_time, bytes(4), versions)
    else:
        offered = {family.value for family in opened.families} if opened.families is not None else versions
        theirs = made_up_open(
            opened.as_number or session.peer_as,
            opened.hold_time,
            IPv4Address(opened.router_id or 0).packed,
            offered,
        )
    return Opens(mine, theirs, session.local_address)


def _now() -> float:
    return asyncio.get_running_loop().time()
