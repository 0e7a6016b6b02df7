"""What routers are told, and in which order: laws of single words, looked at as they are heard."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from world.calm import calm
from world.routers import GRACEFUL_SHUTDOWN, RouterSide

if TYPE_CHECKING:
    from l3net.model import Prefix
    from world.nodes import WorldNode
    from world.sessions import Path
    from world.world import World

Complain = Callable[[str, str], None]
#: Seconds in which a node may still be told of what it is about to follow.
SOON = 5.0


class Hearing:
    """Stands where each router hears its nodes."""

    def __init__(self, world: World, broken: Complain) -> None:
        self._world, self._broken = world, broken
        #: What a node has withdrawn since it drains: when, the memory that it had of its drain, and how often
        #: the world had been disturbed.
        self._withdrawn: dict[str, dict[Prefix, tuple[float, object, int]]] = {}
        self._opened: dict[RouterSide, float] = {}
        #: What was withdrawn just now, while all was well: when.
        self._lost: dict[tuple[RouterSide, Prefix], float] = {}
        self._swept: dict[RouterSide, dict[Prefix, float]] = {}
        for _, side in world.node_router_sessions():
            side.told, side.began, side.swept = self._told, self._began, self._sweeps
            side.router.kept_waiting = self._kept_waiting

    def _began(self, side: RouterSide) -> None:
        self._opened[side] = self._world.now()
        self._swept.pop(side, None)

    def _kept_waiting(self, by: list[RouterSide]) -> None:
        """A router that restarted forwards by what it had until all have said their End-of-RIB."""
        world = self._world
        for side in by:
            node = world.nodes.get(side.far)
            if node is not None and node.running and not world.unsteady(node) and calm(world):
                self._broken("who restarts is told the end", f"{side.name} waited for {side.far}")

    def _sweeps(self, side: RouterSide, gone: list[Prefix]) -> None:
        """An End-of-RIB has come: what was not said again before it is gone."""
        now = self._world.now()
        self._swept.setdefault(side, {}).update(dict.fromkeys(gone, now))

    def _told(self, side: RouterSide, prefix: Prefix, path: Path | None) -> None:
        node = self._world.nodes[side.far]
        self._in_order(side, node, prefix, path)
        self._goes_on(side, node, prefix, path)
        if self._goes(node):
            self._drains(side, node, prefix, path)
        else:
            self._withdrawn.pop(node.name, None)

    def _goes_on(self, side: RouterSide, node: WorldNode, prefix: Prefix, path: Path | None) -> None:
        """What is announced stays so while nothing changes: it is not withdrawn and announced again."""
        now, key = self._world.now(), (side, prefix)
        well = calm(self._world) and not self._world.unsteady(node) and str(prefix) in node.blocks
        if path is None:
            self._lost.pop(key, None)
            if well and prefix in side.learned:
                self._lost[key] = now
        elif self._lost.pop(key, -SOON) > now - SOON and well:
            self._broken("what is announced stays so", f"{node.name}: {prefix} at {side.name}")

    def _in_order(self, side: RouterSide, node: WorldNode, prefix: Prefix, path: Path | None) -> None:
        """End-of-RIB follows all that is said again (RFC 4724 section 4.1)."""
        world = self._world
        when = self._swept.get(side, {}).pop(prefix, None)
        if path is None or when is None or world.now() - when > SOON or world.unsteady(node):
            return
        if world.since < self._opened.get(side, 0.0) - SOON:
            what = f"{side.name} had dropped {prefix} of {node.name} when it was said"
            self._broken("End-of-RIB is said last", what)

    def _goes(self, node: WorldNode) -> bool:
        return node.memory.leave or node.name in self._world.cordoned

    def _drains(self, side: RouterSide, node: WorldNode, prefix: Prefix, path: Path | None) -> None:
        """What goes is the last choice first, and does not come back meanwhile."""
        world, known = self._world, side.learned.get(prefix)
        withdrawn = self._withdrawn.setdefault(node.name, {})
        if node.name in world.unready or not self._has(node, prefix):
            return
        if path is None and known is not None:
            withdrawn[prefix] = world.now(), node.memory, world.disturbed
            # As a session comes up, ExaBGP says what it said before, until the agent puts it right.
            settled = world.now() - self._opened.get(side, 0.0) > SOON
            if settled and GRACEFUL_SHUTDOWN not in known.communities and not world.hindered(node):
                self._broken(
                    "who goes is gone round first", f"{node.name} withdraws {prefix} from {side.name}"
                )
        elif path is not None and prefix in withdrawn:
            when, memory, disturbed = withdrawn[prefix]
            if memory is node.memory and world.disturbed == disturbed and world.now() - when > SOON:
                what = f"{node.name} announces {prefix} to {side.name} again"
                self._broken("what a drain has withdrawn stays so", what)

    def _has(self, node: WorldNode, prefix: Prefix) -> bool:
        """Whether it would announce this if it stayed."""
        world = self._world
        if str(prefix) in node.blocks:
            return True
        name = world.services.get(prefix.network_address)
        if name is None or name in world.gone or not world.members[name]:
            return False
        homes = {world.pods[pod][0] for pod in world.members[name]}
        return name not in world.local or node.name in homes
