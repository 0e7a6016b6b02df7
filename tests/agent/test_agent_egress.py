"""Connections that leave with a wrong address end, and no answer begins one anew."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, cast

import pytest

from l3net.agent import egress_connections as room
from l3net.agent.egress_connections import EgressConnections
from l3net.model import Address, EgressPaths, EgressRule, Tracked

POD, OUTSIDE, HELD = map(ip_address, ("10.1.1.2", "192.0.2.9", "198.51.100.10"))
RULE = EgressRule("out", (), HELD, "n1")
PATHS = EgressPaths(True, {POD: (RULE,)}, {}, frozenset((HELD,)))


@dataclass
class Table:
    """Connections as the kernel has them."""

    tracked: list[Tracked]
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def of(self, addresses: Collection[Address]) -> Sequence[Tracked]:
        return [each for each in self.tracked if each.source in addresses]

    def end(self, connections: Collection[Tracked]) -> None:
        self.tracked = [each for each in self.tracked if each not in connections]
        self.loop.call_soon_threadsafe(self.ended.set)


def test_what_is_not_translated_ends_when_no_answer_is_under_way_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "ANSWERS", 0.05)
    right = Tracked(17, POD, 1, OUTSIDE, 53, seen_as=HELD)
    another = Tracked(17, POD, 2, OUTSIDE, 53, seen_as=ip_address("198.51.100.11"))
    itself = Tracked(17, POD, 3, OUTSIDE, 53, seen_as=POD)
    inside = Tracked(17, POD, 4, ip_address("10.1.2.3"), 53, seen_as=POD)

    async def run() -> None:
        table = Table([right, another, itself, inside])
        made = EgressConnections(cast(Any, table), {}, lambda: PATHS)
        made.look_at([POD])
        await made.forget([ip_network("10.1.0.0/16")])
        assert table.tracked == [right, itself, inside], "its answers would begin a connection from outside"
        running = asyncio.create_task(made.run())
        async with asyncio.timeout(10):
            while itself in table.tracked:
                table.ended.clear()
                await table.ended.wait()
        assert table.tracked == [right, inside]
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    asyncio.run(run())
