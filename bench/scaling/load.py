"""An API server with the agents of a whole cluster at it: what each asks and gets, counted at the server.

One process serves, another speaks as the agents. What is the same for every agent, octet for octet, is
measured with some and multiplied by how many there are: lists, and what a change sends to each. Where all
agents of a cluster are more than descriptors suffice for, so many watch as do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from l3net.kube.registry import KINDS as DECLARED
from l3net.model import Kind
from scaling import cluster
from scaling.asking import Speaking
from scaling.serving import CountingApi, listen

#: Agents a server process holds: 13 watches each, of 20,000 descriptors.
A_SERVER: Final = 1250
WATCHES: Final = 14
Pipe = Any


@dataclass
class Figures:
    """Octets and requests, of one agent where nothing else is said."""

    nodes: int
    mesh: bool
    agents: int = 0
    start_requests: float = 0
    start_octets: float = 0
    start_connections: float = 0
    by_kind: dict[str, float] = field(default_factory=dict)
    quiet_octets: float = 0  # a minute: bookmarks
    quiet_requests: float = 0  # a minute: watches begun anew
    fan_out: dict[str, float] = field(default_factory=dict)  # octets to all agents, by what changes
    fan_out_seconds: dict[str, float] = field(default_factory=dict)
    rolling: dict[str, float] = field(default_factory=dict)
    restart: dict[str, float] = field(default_factory=dict)
    writes: dict[str, float] = field(default_factory=dict)
    server_mib: float = 0


# --- the server's process --------------------------------------------------------------------------------


def serve(nodes: int, mesh: bool, pipe: Pipe, other_end: Pipe) -> None:
    """Until the pipe closes. Orders come by it, and are answered."""
    other_end.close()  # or it would never close
    api = CountingApi()
    api.put(*cluster.objects(nodes, mesh))
    api._history.clear()
    api._oldest = api._version
    asyncio.run(_serve(api, pipe))


async def _serve(api: CountingApi, pipe: Pipe) -> None:
    server = await listen(api)
    port = api.port
    pipe.send((port, str(api._version)))
    loop = asyncio.get_running_loop()
    while True:
        try:
            order, argument = await loop.run_in_executor(None, pipe.recv)
        except EOFError:
            return
        answer: Any = None
        if order == "begin":
            api.begin()
        elif order == "counted":
            answer = api.counted() | {"rss": _rss()}
        elif order == "put":
            api.put(*argument)
        elif order == "bookmarks":
            api.bookmarks()
        elif order == "restart":  # away for so many seconds
            server.close()
            api.cut_all()
            await asyncio.sleep(argument)
            api.requests.clear()
            server = await listen(api, port)
            api.arrived.clear()
        elif order == "arrived":
            answer = list(api.arrived)
        pipe.send(answer)


def _rss() -> float:
    with open(f"/proc/{os.getpid()}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096 / 2**20


class Server:
    """A process that serves, and its pipe."""

    def __init__(self, nodes: int, mesh: bool) -> None:
        fork = multiprocessing.get_context("fork")
        self._pipe, far = fork.Pipe()
        self._process = fork.Process(target=serve, args=(nodes, mesh, far, self._pipe), daemon=True)
        self._process.start()
        far.close()
        self.port, self.version = self._pipe.recv()

    async def say(self, order: str, argument: Any = None) -> Any:
        self._pipe.send((order, argument))
        return await asyncio.get_running_loop().run_in_executor(None, self._pipe.recv)

    def close(self) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join()


@contextlib.contextmanager
def server(nodes: int, mesh: bool) -> Iterator[Server]:
    made = Server(nodes, mesh)
    try:
        yield made
    finally:
        made.close()


# --- what is measured ------------------------------------------------------------------------------------


def measure(nodes: int, mesh: bool, listing: int, watching: int) -> Figures:
    """`listing` agents start from nothing; of `watching`, which only watch, changes and restarts are seen."""
    with server(nodes, mesh) as one:
        return asyncio.run(_measure(one, nodes, mesh, listing, min(watching, A_SERVER, nodes)))


async def _measure(one: Server, nodes: int, mesh: bool, listing: int, watching: int) -> Figures:
    found = Figures(nodes, mesh, watching)
    await _start(one, found, listing, mesh)
    random = Random(1)  # noqa: S311 - spreads waits
    counted: Counter[str] = Counter()
    agents = [
        Speaking(one.port, f"node-{number:05}", random, mesh=mesh, counted=counted)
        for number in range(watching)
    ]
    versions = dict.fromkeys([*DECLARED.watched("agent"), Kind.NODE], one.version)
    for each in agents:
        each.start(versions)
    await _until(one, watching * WATCHES)
    found.server_mib = (await one.say("counted"))["rss"]
    await _quiet(one, found, watching)
    await _changes(one, found, watching, counted)
    await _restart(one, found, watching)
    await _writes(one, found, agents)
    for each in agents:
        await each.stop()
    return found


async def _start(one: Server, found: Figures, listing: int, mesh: bool) -> None:
    await one.say("begin")
    for number in range(listing):
        lot = Random(number)  # noqa: S311
        agent = Speaking(one.port, f"node-{number:05}", lot, mesh=mesh)
        agent.start()
        await agent.synced()
        await agent.stop()
    counted = await one.say("counted")
    asked = counted["asked"]
    found.start_connections = asked.pop("connections") / listing
    found.start_requests = sum(asked.values()) / listing
    found.start_octets = sum(counted["sent"].values()) / listing
    found.by_kind = {
        what.removeprefix("list "): octets / listing
        for what, octets in counted["sent"].items()
        if what.startswith("list ") and octets / listing > 10_000
    }


async def _until(one: Server, watching: int, seconds: float = 300) -> float:
    """Until so many watches are there; how long it took."""
    began = time.monotonic()
    while True:
        there = (await one.say("counted"))["watching"]
        if there >= watching:
            return time.monotonic() - began
        if time.monotonic() > began + seconds:
            raise SystemExit(f"{there} of {watching} watches after {seconds:g} s")
        await asyncio.sleep(0.1)


async def _quiet(one: Server, found: Figures, watching: int) -> None:
    await one.say("begin")
    await one.say("bookmarks")
    counted = await one.say("counted")
    found.quiet_octets = counted["sent"]["bookmarks"] / watching
    found.quiet_requests = WATCHES * 60 / 450  # a watch lives 300 to 600 s


async def _change(one: Server, counted: Counter[str], documents: list[cluster.Object]) -> tuple[float, float]:
    """Octets to the agents, and seconds until the last of them has read it."""
    await one.say("begin")
    before, began = counted["octets"], time.monotonic()
    await one.say("put", documents)
    sent = sum((await one.say("counted"))["sent"].values())
    while counted["octets"] - before < sent:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    return sent, time.monotonic() - began


async def _changes(one: Server, found: Figures, watching: int, counted: Counter[str]) -> None:
    """Of each sort one; the octets of as many agents as there are, from those that were there."""
    share = found.nodes / watching
    node, service = cluster.node(3), cluster.service(3)
    node["metadata"]["labels"]["beat"] = "1"
    service["spec"]["ports"][0]["port"] = 81
    sorts: dict[str, list[cluster.Object]] = {
        "a Node, as its heartbeat": [node],
        "a Service": [service],
        "an EndpointSlice": [cluster.endpoint_slice(3, "IPv4", found.nodes, 2)],
    }
    for what, documents in sorts.items():
        sent, seconds = await _change(one, counted, documents)
        own = what.startswith("a Node") and not found.mesh  # goes to one
        found.fan_out[what] = sent * (1 if own else share)
        found.fan_out_seconds[what] = seconds
    # A pod replaced by another: its endpoint ends, is gone, the new one is there and ready, in each family.
    slices = [
        cluster.endpoint_slice(number, family, found.nodes, ready)
        for number in range(10)
        for ready in (2, 1, 2, 3)
        for family in ("IPv4", "IPv6")
    ]
    sent, seconds = await _change(one, counted, slices)
    replaced = len(slices) / 8
    found.rolling = {
        "octets to an agent for a pod": sent / replaced / watching,
        "octets to all for a pod": sent / replaced * share,
        "all pods, GB": sent / replaced * share * found.nodes * 30 / 1e9,
        "MB/s at 20 pods/s": sent / replaced * share * 20 / 1e6,
    }


async def _restart(one: Server, found: Figures, watching: int) -> None:
    """The server is away for 1 s, and for 12."""
    for away in (1.0, 12.0):
        await one.say("begin")
        await one.say("restart", away)
        seconds = await _until(one, watching * WATCHES)
        arrived = await one.say("arrived")
        asked = (await one.say("counted"))["asked"]
        rate = Counter(int((at - arrived[0]) * 10) for at in arrived)
        found.restart |= {
            f"{away:g} s away: until all watch": seconds,
            f"{away:g} s away: requests an agent": sum(
                number for what, number in asked.items() if what != "connections"
            )
            / watching,
            f"{away:g} s away: share in the busiest 100 ms": max(rate.values()) / len(arrived),
            f"{away:g} s away: lists of all": float(
                sum(number for what, number in asked.items() if what.startswith("list "))
            )
            / watching,
        }
        await asyncio.sleep(6)  # a watch that lived


async def _writes(one: Server, found: Figures, agents: list[Speaking]) -> None:
    share = found.nodes / len(agents)
    some = agents[: min(100, len(agents))]
    sorts: dict[str, Callable[[Speaking], Awaitable[None]]] = {
        "condition": lambda agent: agent.say_available(),
        "session": lambda agent: agent.say_session("tor", "10.8.255.254"),
    }
    for what, write in sorts.items():
        await one.say("begin")
        for agent in some:
            await write(agent)
        counted = await one.say("counted")
        asked, sent = counted["asked"], counted["sent"]
        own = what == "condition" and not found.mesh
        fan_out = sum(octets for key, octets in sent.items() if key.startswith("watch "))
        found.writes |= {
            f"{what}: requests": sum(each for key, each in asked.items() if key != "connections") / len(some),
            f"{what}: versions written": sum(each for key, each in asked.items() if "patch" in key)
            * (1.0 if what == "session" else found.nodes / len(some)),
            f"{what}: octets to all watchers": fan_out
            * (1 if own else share)
            * (1.0 if what == "session" else found.nodes / len(some)),
        }


def show(rows: list[Figures]) -> None:
    for row in rows:
        print(f"\n{row.nodes} nodes, {'reflectors among the nodes' if row.mesh else 'routers alone'}")
        print(json.dumps(row.__dict__, indent=1, default=str))
