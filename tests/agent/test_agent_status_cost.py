"""What a status costs the agent's loop with many routes, and a probe beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path

from agent_shells import agent as agent_of
from test_agent_supervising import Fickle

from l3net.agent.loop import Agent
from l3net.agent.status import answer, routes, status
from l3net.model import NextHop, Route
from l3net.naming import METRIC_BGP
from l3net.shell.sockets.agentserver import AgentServer

ROUTES = 20_000


def served(path: Path, agent: Agent) -> AgentServer:
    told = partial(answer, agent), partial(status, agent), partial(routes, agent)
    return AgentServer(path, *told, agent.faults)


def test_a_probe_is_answered_while_a_long_status_is_told(tmp_path: Path) -> None:
    """It took the loop for two seconds with 200,000 routes, and the liveness probe asked for nothing else."""

    async def ask() -> tuple[list[str], int, int]:
        agent = agent_of(tmp_path, Fickle())
        hops = frozenset({NextHop(ip_address("10.0.0.1"), "up0")})
        for number in range(ROUTES):
            route = Route(ip_network((0x64000000 + 256 * number, 24)), hops, metric=METRIC_BGP)
            agent.kernel.desired[(route.prefix, METRIC_BGP)] = route
        server = asyncio.create_task(served(tmp_path / "s", agent).run())
        while not (tmp_path / "s").exists():  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0.01)
        order: list[str] = []
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async def told(question: str) -> bytes:
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"), limit=1 << 26)
            writer.write(question.encode() + b"\n")
            answer = await reader.readline()
            order.append(question)
            writer.close()
            return answer

        turning = asyncio.create_task(turn())
        whole, _ = await asyncio.gather(told("status"), told("alive"))
        for task in (turning, server):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        found = json.loads(whole)
        prefixes = [row["prefix"] for row in found["routes"]]
        assert prefixes == sorted(prefixes, key=ip_network)
        return order, turns, len(prefixes)

    order, turns, count = asyncio.run(ask())
    assert count == ROUTES
    assert order == ["alive", "status"]
    assert turns >= ROUTES // 1000
