"""Where packets go in one instant: from a node, a pod or outside, by the routes that nodes and routers have.

Where there are several next hops all are tried: a packet arrives only if it arrives by each of them. What is
found of one place and address is remembered, since most ways share most of their hops.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from l3net.model import Address, Prefix, RouteKind
from world.fabric import Segment

if TYPE_CHECKING:
    from world.nodes import WorldNode
    from world.world import World

_ON_ITS_WAY = "?"
Hops = tuple[tuple[str, Address | None], ...]


class Walks:
    """Of one instant."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: dict[tuple[str, Address], str] = {}
        self._routes: dict[str, dict[Prefix, Hops]] = {}
        self._lengths: dict[str, tuple[list[int], list[int]]] = {}
        self._wired = {
            name: {address for each in node.pods.wired.values() for address in each.addresses}
            for name, node in world.nodes.items()
        }

    def lost(self, device: str, address: Address) -> str:
        """Where, and why, a packet from here does not arrive; empty if it does whichever way it takes."""
        key = device, address
        found = self._known.get(key)
        if found == _ON_ITS_WAY:
            return f"goes in circles by {device}"
        if found is None:
            self._known[key] = _ON_ITS_WAY
            node = self._world.nodes.get(device)
            found = self._at_node(node, address) if node is not None else self._at_router(device, address)
            self._known[key] = found
        return found

    def _at_node(self, node: WorldNode, address: Address) -> str:
        if address in node.addresses:
            return ""
        if address in self._world.services and (endpoints := node.serves(address)):
            for endpoint in sorted(endpoints, key=int):
                if found := self.lost(node.name, endpoint):
                    return f"{node.name}: service to {endpoint}: {found}"
            return ""
        bridge = node.kernel.bridge
        if bridge is not None:
            for gateway, length in bridge.gateways:
                if address in _network(gateway, length):
                    return "" if address in self._wired[node.name] else f"{node.name}: no pod has {address}"
        hops = self._route(node, address)
        if hops is None:
            return f"{node.name}: no route"
        for interface, gateway in hops:
            segment = self._world.segment_of(node.name, interface)
            if segment is None:
                return f"{node.name}: a blackhole"
            if found := self._over(segment, node.name, gateway or address, address):
                return found
        return ""

    def _at_router(self, device: str, address: Address) -> str:
        fabric = self._world.fabric
        router = fabric.routers[device]
        if any(address in segment.members[device] for segment in fabric.of[device]):
            return ""
        for segment in fabric.connected(device):
            if any(address in subnet for subnet in segment.subnets if subnet.version == address.version):
                return self._over(segment, device, address, address)
        for prefix in covering(address):
            if prefix in router.own:
                return ""  # outside
            hops = router.fib.get(prefix)
            if hops:
                for hop in sorted(hops, key=int):
                    owner = fabric.owners.get(hop)
                    if owner is None or device not in owner[1].members:
                        return f"{device}: next hop {hop} is on no link"
                    if found := self._over(owner[1], device, hop, address):
                        return found
                return ""
        return f"{device}: no route"

    def _over(self, segment: Segment, sender: str, gateway: Address, address: Address) -> str:
        fabric = self._world.fabric
        owner = fabric.owners.get(gateway)
        if owner is None or owner[1] is not segment:
            return f"{sender}: nobody on {segment.name} has {gateway}"
        if not fabric.alive(owner[0]) or not segment.carries(sender, owner[0]):
            return f"{sender}: {gateway} ({owner[0]}) cannot be reached over {segment.name}"
        found = self.lost(owner[0], address)
        return f"{sender} > {found}" if found else ""

    def _route(self, node: WorldNode, address: Address) -> Hops | None:
        """Links and gateways of the route that counts; an empty link is a blackhole."""
        table = self._routes.get(node.name)
        if table is None:
            table = self._routes[node.name] = _table(node)
            lengths = sorted({(each.version, each.prefixlen) for each in table}, reverse=True)
            self._lengths[node.name] = (
                [length for version, length in lengths if version == 4],
                [length for version, length in lengths if version == 6],
            )
        for length in self._lengths[node.name][address.version == 6]:
            hops = table.get(_network(address, length))
            if hops is not None:
                return hops
        return None


def _table(node: WorldNode) -> dict[Prefix, Hops]:
    best: dict[Prefix, tuple[int, Hops]] = {}
    for (prefix, metric), other in node.kernel.others.items():
        if prefix not in best or metric < best[prefix][0]:
            best[prefix] = metric, tuple((hop.interface, hop.gateway) for hop in other.hops)
    for (prefix, metric), ours in node.kernel.ours.items():
        if prefix not in best or metric < best[prefix][0]:
            hops = ours.next_hops if ours.kind is RouteKind.UNICAST else ()
            found = sorted(((hop.interface, hop.gateway) for hop in hops), key=str)
            best[prefix] = metric, tuple(found) or (("", None),)
    return {prefix: hops for prefix, (_, hops) in best.items()}


_NETWORKS: dict[tuple[Address, int], Prefix] = {}
_COVERING: dict[Address, tuple[Prefix, ...]] = {}
#: Of the prefixes that routers have.
_LENGTHS = {4: (32, 30, 25, 24, 23, 17, 16, 0), 6: (128, 120, 112, 64, 48, 0)}


def _network(address: Address, length: int) -> Prefix:
    found = _NETWORKS.get((address, length))
    if found is None:
        found = _NETWORKS[address, length] = ip_network(f"{address}/{length}", strict=False)
    return found


def covering(address: Address) -> tuple[Prefix, ...]:
    """All prefixes that hold an address, the longest first."""
    found = _COVERING.get(address)
    if found is None:
        found = tuple(_network(address, length) for length in _LENGTHS[address.version])
        _COVERING[address] = found
    return found
