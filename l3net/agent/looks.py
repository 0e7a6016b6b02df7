"""What the kernel and the links show to one explanation: what is asked twice is looked at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from l3net.doctor.findings import NodeLook
from l3net.explain.facts import Hop, Way
from l3net.explain.foreign import Chain
from l3net.model import Address
from l3net.ports import Sight


class Looks:
    """Of one moment."""

    def __init__(self, sight: Sight) -> None:
        self.sight = sight
        self._ways: dict[tuple[Address, Address | None], Way] = {}
        self._answers: dict[tuple[str, Address], asyncio.Task[tuple[str, ...] | None]] = {}
        self._host = asyncio.create_task(asyncio.to_thread(sight.host))  # waits for answers, beside all else
        self._others: tuple[Sequence[Chain], Sequence[str]] | None = None

    async def host(self) -> NodeLook:
        """The host's settings."""
        return await self._host

    async def way(self, destination: Address, source: Address | None = None) -> Way:
        """The kernel's way to an address."""
        key = destination, source
        if key not in self._ways:
            way = await asyncio.to_thread(self.sight.way, destination, source)
            hops = await asyncio.gather(*(self._asked(hop, destination) for hop in way.hops))
            self._ways[key] = replace(way, hops=tuple(hops))
        return self._ways[key]

    async def _asked(self, hop: Hop, destination: Address) -> Hop:
        """With who answers for the taker of the packet; pods' neighbour entries are the agent's own."""
        if hop.port is not None or not hop.carrier or hop.neighbour in ("", "noarp"):
            return hop
        key = hop.interface, hop.gateway or destination
        if key not in self._answers:
            self._answers[key] = asyncio.create_task(asyncio.to_thread(self.sight.answers, *key))
        return replace(hop, answers=await self._answers[key])

    async def others(self) -> tuple[Sequence[Chain], Sequence[str]]:
        """What others have on this host: chains, and what is not judged."""
        if self._others is None:
            self._others = await asyncio.to_thread(self.sight.others)
        return self._others
