"""Tells the world that the node's pod network is up, once it is: the runtime, and the API server.

A runtime calls a node ready as soon as it finds a network configuration, so that is written by an agent in
sync on a node with blocks that its peers have heard of, and kept in place. Nothing of it is taken back when
the agent ends: pods run on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from l3net.agent.health import PATIENCE, unreachable
from l3net.agent.loop import Agent
from l3net.agent.status import retained_problems
from l3net.errors import L3netError
from l3net.ipam.blocks import wanted_blocks as asked_blocks
from l3net.ipam.ranges import RangeSet, block_sets
from l3net.ipam.reserved import open_blocks
from l3net.ipam.reserved import wanted_pools as asked_pools
from l3net.model import Node
from l3net.naming import ANNOTATION_TAKES_PART
from l3net.retry import until_beat

log = logging.getLogger(__name__)

#: Seconds between looks, before and after the node is up.
FIRST: Final = 0.2
INTERVAL: Final = 10.0
#: And while the peers have not heard of the node's blocks yet.
UNHEARD: Final = 1.0
#: Share of a family's addresses in use (leased or cooling down) at which another block is asked for.
FULL: Final = 0.8


class OwnNode(Protocol):
    """What an agent writes on its own Node, unless it is so already. Calls block; raise L3netError."""

    def set_network_available(self) -> None:
        """Condition NetworkUnavailable: False."""
        ...

    def warn(self, reason: str, message: str) -> None:
        """An Event on the Node."""
        ...

    def want_blocks(self, wanted: Mapping[int, int]) -> None:
        """Annotation l3net.io/wants-blocks: IP version to number of blocks."""
        ...

    def want_pools(self, wanted: Mapping[str, int]) -> None:
        """Annotation l3net.io/wants-pools: name of a pool for some namespaces to number of blocks."""
        ...

    def take_part(self, said: str) -> None:
        """Annotation l3net.io/consistent-load-balancing."""
        ...


def wanted_blocks(sets: tuple[RangeSet, ...], used: tuple[int, ...]) -> dict[int, int]:
    """One block more for each family of which `FULL` is in use. The controller bounds it."""
    return {
        each.version: len(each.ranges) + 1
        for each, count in zip(sets, used, strict=True)
        if count >= FULL * each.size
    }


class Arrival:
    """`install` puts the configuration where the runtime looks, and answers with where if it was not there;
    None to leave that alone. `own`: the Node, None without an API."""

    def __init__(self, agent: Agent, install: Callable[[], str] | None, own: OwnNode | None) -> None:
        self._agent, self._install, self._own = agent, install, own
        agent.services.on_taking = agent.podnet.pool_missing.set  # others wait for it
        if own is not None:  # in a cluster a Service leads to a pod as soon as that runs
            agent.pods.hold()
        self._said = ""
        self._available = False
        self._heard = False  # by its peers, or they had their time
        self._waiting = ""  # what the log was told of that
        self._warned: set[str] = set()  # blocks an Event tells of

    async def run(self) -> None:
        """Until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            if not self._up():
                await asyncio.sleep(FIRST)
                continue
            if not self._heard and self._heard_of():
                self._heard = True
                self._agent.pods.release()
            try:
                await asyncio.to_thread(self._tell)
                self._said = ""
            except L3netError as err:
                if str(err) != self._said:  # once, not every ten seconds
                    log.warning("%s", err)
                self._said = str(err)
            every = INTERVAL if self._heard else UNHEARD
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(until_beat(now(), every)):
                    await self._agent.podnet.pool_missing.wait()
            self._agent.podnet.pool_missing.clear()

    def _used(self, each: RangeSet) -> int:
        usage = self._agent.pods.usage(each)
        return usage.leased + usage.cooling

    def _up(self) -> bool:
        node = self._agent.state.nodes.get(self._agent.node_name)
        return self._agent.in_sync and self._agent.passes > 0 and node is not None and bool(node.blocks)

    def _heard_of(self) -> bool:
        """Whether pods of this node can be reached: a Service would lead to them as soon as they run.

        Only of the first time: what was told is not taken back, and a node whose routers are away for longer
        than they are waited for still has pods that reach each other.
        """
        if why := unreachable(self._agent):
            if why != self._waiting:
                log.info("the node's pod network is not declared up yet: %s", why)
            self._waiting = why
            return False
        speaking = self._agent.speaking
        up = [peer.established for peer in speaking.peers.values()]
        if up and not speaking.parted and not any(up):
            log.warning(
                "no session is established after %g s: the pod network is declared up all the same, but"
                " nobody outside of the node can reach its pods; see `l3net bgp neighbors`",
                PATIENCE,
            )
        return True

    def _tell(self) -> None:
        """Blocks. Raises L3netError."""
        if self._heard and self._install is not None and (where := self._install()):
            log.info("wrote %s: the node's pod network is up", where)
        if self._own is None:
            return
        if self._heard and not self._available:
            self._own.set_network_available()
            self._available = True
        node = self._agent.state.nodes.get(self._agent.node_name)
        if node is None:
            return
        self._take_part(self._own, node)
        for message in retained_problems(self._agent):
            block = message.split()[1]
            if block not in self._warned:
                self._own.warn("BlockStillInUse", message)
                self._warned.add(block)
        self._warned &= {str(block) for block in node.retained}
        sets = block_sets(open_blocks(node.declared_blocks, self._agent.state.pools.values()))
        wanted = wanted_blocks(sets, tuple(self._used(each) for each in sets))
        asked = asked_blocks(node)[0]
        # what was asked for is the controller's now, and no reason to bother the API server again
        if any(count > asked.get(version, 0) for version, count in wanted.items()):
            self._own.want_blocks(wanted)
        pools = self._wanted_pools()
        asked_of = asked_pools(node)[0]
        if any(count > asked_of.get(name, 0) for name, count in pools.items()):
            self._own.want_pools(pools)

    def _take_part(self, own: OwnNode, node: Node) -> None:
        """Others hand on to this node once it says so; where nobody ever asked, nothing is said."""
        said = node.annotations.get(ANNOTATION_TAKES_PART)
        there = self._agent.services.takes_handed_on
        if said != "true" if there else said == "true":
            own.take_part("true" if there else "false")

    def _wanted_pools(self) -> dict[str, int]:
        """The first block of a pool that a pod waits for, and one more of each that is nearly full."""
        wanted: dict[str, int] = {}
        for pool in self._agent.podnet.reserved_pools(self._agent.state):
            if not pool.blocks:
                if pool.name in self._agent.podnet.missing_pools:
                    wanted[pool.name] = 1
                continue
            self._agent.podnet.missing_pools.discard(pool.name)
            sets = block_sets(pool.blocks)
            more = wanted_blocks(sets, tuple(self._used(each) for each in sets))
            if more:
                wanted[pool.name] = max(more.values())
        return wanted
