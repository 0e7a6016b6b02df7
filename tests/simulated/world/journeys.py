"""Whole journeys of packets over nodes and routers: through tables, translation and policies, with every way
that chance may have them take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packets.outcomes import Delivered, Forwarded, Outcome
from packets.packet import Packet

from l3net.model import Address
from world.fabric import Segment
from world.walk import covering

if TYPE_CHECKING:
    from world.world import World

#: Routers and nodes on a way, after which a packet goes round in circles.
MOST = 16


@dataclass(frozen=True, slots=True)
class End:
    """Where a packet came to: `pod`, a `host`, `outside`, or nowhere, and `why`."""

    why: str = ""
    pod: str = ""
    host: str = ""
    outside: bool = False

    @property
    def lost(self) -> bool:
        return bool(self.why)


class Journeys:
    """Of one instant; nothing is changed by them."""

    def __init__(self, world: World) -> None:
        self._world = world

    def of_pod(self, node: str, packet: Packet) -> list[End]:
        return self._ends(node, self._world.nodes[node].stack.from_pod(packet), 0)

    def of_host(self, node: str, packet: Packet) -> list[End]:
        return self._ends(node, self._world.nodes[node].stack.send(packet), 0)

    def from_outside(self, router: str, packet: Packet) -> list[End]:
        return self._at(router, packet, 0)

    def arrives(self, node: str, packet: Packet, *, of_pod: bool) -> tuple[Outcome, ...]:
        """What becomes of a packet on one node alone."""
        stack = self._world.nodes[node].stack
        return stack.from_pod(packet) if of_pod else stack.receive(packet, "up0")

    def _ends(self, node: str, outcomes: tuple[Outcome, ...], hops: int) -> list[End]:
        found = []
        for each in outcomes:
            if isinstance(each, Delivered):
                found.append(End(pod=each.to) if each.to else End(host=node))
            elif isinstance(each, Forwarded):
                segment = self._world.segment_of(node, each.interface)
                if segment is None:
                    found.append(End(f"{node}: leaves by {each.interface}"))
                else:
                    to = each.gateway or each.packet.destination
                    found += self._over(segment, node, to, each.packet, hops)
            else:
                found.append(End(f"{node}: {each.words}"))
        return found

    def _over(self, segment: Segment, sender: str, gateway: Address, packet: Packet, hops: int) -> list[End]:
        fabric = self._world.fabric
        owner = fabric.owners.get(gateway)
        if owner is None or owner[1] is not segment:
            return [End(f"{sender}: nobody on {segment.name} has {gateway}")]
        if not fabric.alive(owner[0]) or not segment.carries(sender, owner[0]):
            return [End(f"{sender}: {gateway} cannot be reached")]
        return self._at(owner[0], packet, hops + 1)

    def _at(self, device: str, packet: Packet, hops: int) -> list[End]:
        if hops > MOST:
            return [End(f"{device}: goes in circles")]
        if device in self._world.nodes:
            return self._ends(device, self._world.nodes[device].stack.receive(packet, "up0"), hops)
        fabric = self._world.fabric
        address = packet.destination
        if any(address in segment.members[device] for segment in fabric.of[device]):
            return [End(host=device)]
        for segment in fabric.connected(device):
            if any(address in subnet for subnet in segment.subnets if subnet.version == address.version):
                return self._over(segment, device, address, packet, hops)
        router = fabric.routers[device]
        for prefix in covering(address):
            if prefix in router.own:
                return [End(outside=True)]
            ways = sorted(router.fib.get(prefix, ()), key=int)
            if ways:
                return [
                    end
                    for hop in ways
                    for end in self._over(fabric.owners[hop][1], device, hop, packet, hops)
                ]
        return [End(f"{device}: no route to {address}")]
