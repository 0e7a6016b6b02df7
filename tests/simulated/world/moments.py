"""What holds at every moment, also where it is over in an instant: looked at as kernel and speaker are told,
since no look every few seconds sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from l3net.addresses import contains
from l3net.delta import Delta
from l3net.model import Address
from world.calm import calm
from world.nodes import WorldNode
from world.world import World

#: Seconds in which a route that is back has not gone for good.
LITTLE = 5.0
Complain = Callable[[str, str], None]


class Moments:
    """Stands between each agent of a world and its kernel and speaker."""

    def __init__(self, world: World, broken: Complain) -> None:
        self._world, self._broken = world, broken
        for node in world.nodes.values():
            self._follow(node)

    def _follow(self, node: WorldNode) -> None:
        apply, routes, amend = node.kernel.apply, node.speaker._routes, node.firewall.amend
        gone: dict[Any, tuple[float, bool, bool]] = {}

        def applied(wanted: Any) -> Any:
            if isinstance(wanted, Delta):
                self._uncovered(node, wanted, gone)
            return apply(wanted)

        def said(peer: Address, verb: str, line: str, rest: list[str]) -> None:
            if verb == "announce":
                self._unserved(node, rest)
            routes(peer, verb, line, rest)

        def amended(transaction: str) -> None:
            amend(transaction)
            self._unannounced(node)

        node.firewall.amend = amended  # type: ignore[method-assign]
        node.kernel.apply = applied  # type: ignore[method-assign]
        node.speaker._routes = said  # type: ignore[method-assign]

    def _uncovered(self, node: WorldNode, wanted: Delta[Any, Any], gone: dict[Any, Any]) -> None:
        """What leads to an address before and after leads to it in between. A pass takes no time here, so
        that what goes and comes in one instant has been without a route; so has what nothing has disturbed,
        if it is back a little later."""
        now, ours = self._world.now(), node.kernel.ours
        for key in [each for each, (when, _, well) in gone.items() if when < now - (LITTLE if well else 0)]:
            del gone[key]
        well = calm(self._world) and not self._world.unsteady(node)
        blocks = {block for each in self._world.nodes.values() for block in each.blocks}
        for prefix, metric in wanted.put:
            for (lost, of), (when, covered, _) in gone.items():
                if when < now and (not well or str(lost) not in blocks):
                    continue
                if (lost, of) == (prefix, metric) or (not covered and contains(prefix, lost)):
                    law = "no moment is without a route"
                    self._broken(law, f"{node.name}: {lost} has gone before {prefix} comes")
        for key in wanted.delete:
            if key in ours:
                rest = [each for each in ours if each != key and each not in wanted.delete]
                covered = any(each.version == key[0].version and contains(each, key[0]) for each, _ in rest)
                gone[key] = now, covered, well

    def _unannounced(self, node: WorldNode) -> None:
        """What goes is no more announced when it is no more served: peers send until they hear of it."""
        for address in self._world.going:
            if node.serves(address) or self._world.hindered(node):
                continue
            for side in node.sides():
                if side.up and any(each.network_address == address for each in side.heard):
                    law = "what is announced is served"
                    self._broken(law, f"{node.name}: {address} is announced to {side.address}, and gone")

    def _unserved(self, node: WorldNode, rest: list[str]) -> None:
        """What is announced of services is served already: peers send at once."""
        world = self._world
        if node.firewall.broken or world.hindered(node):
            return
        for word in rest[rest.index("nlri") + 1 :]:
            address = word.partition("/")[0]
            found = next((each for each in world.services if str(each) == address), None)
            if found is not None and not node.serves(found):
                self._broken("what is announced is served", f"{node.name}: {found} ({world.services[found]})")
