"""Flows that go on while everything changes: a client sends the same packet now and then, and node and
connection tracking are held to lead it to whom the service is by now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from packets.outcomes import Delivered, Forwarded, Lost, Rejected
from packets.packet import SYN, TCP, UDP, Packet

from l3net.model import Address
from world.nodes import WorldNode
from world.world import OUTSIDE_ADDRESSES, World

#: Of a world, at a time.
MOST = 6
PORTS = {TCP: 80, UDP: 53}


@dataclass(frozen=True, slots=True)
class Flow:
    """As its packets come to a node; `of_pod`: by the bridge."""

    node: str
    service: str
    packet: Packet
    of_pod: bool = False


class Flows:
    """`go_on` now and then, with whether all is to be well by now."""

    def __init__(self, world: World, drawn: Random, broken: Callable[[str, str], None]) -> None:
        self._world, self._drawn, self._broken = world, drawn, broken
        self._flows: list[Flow] = []
        self._untranslated: list[Flow] = []  # that began without a table, until all is well again
        world.flushed = self.flushed

    def go_on(self, *, well: bool) -> None:
        """One packet of each flow; of TCP a SYN, as long as there is no answer."""
        for flows in (self._flows, self._untranslated):
            for flow in list(flows):
                node = self._world.nodes[flow.node]
                if not node.power or (flow.of_pod and not node.wires(flow.packet.source)):
                    flows.remove(flow)  # its client is gone, or its entries are
                elif not self._send(flow, well=well):
                    flows.remove(flow)
        if well or len(self._untranslated) > MOST:
            self._untranslated.clear()
        if len(self._flows) >= MOST:
            del self._flows[0]
        self._begin(self._drawn.choice(list(self._world.nodes.values())), UDP, self._flows)

    def flushed(self, node: WorldNode) -> None:
        """Somebody has flushed the table: what begins now goes on when it is back."""
        for protocol in (TCP, UDP):
            self._begin(node, protocol, self._untranslated)

    def _begin(self, node: WorldNode, protocol: int, flows: list[Flow]) -> None:
        world = self._world
        services = [(address, name) for address, name in world.services.items() if name not in world.local]
        if not services or not node.power:
            return
        address, name = self._drawn.choice(services)
        pods = [each for _, each in world.pods.values() if node.wires(each[0])]
        of_pod = bool(pods) and self._drawn.random() < 0.5
        sources = self._drawn.choice(pods) if of_pod else OUTSIDE_ADDRESSES
        own = next((each for each in sources if each.version == address.version), None)
        if own is None:
            return
        port, flags = self._drawn.randrange(32768, 60999), SYN if protocol == TCP else 0
        flow = Flow(node.name, name, Packet(own, address, protocol, port, PORTS[protocol], flags), of_pod)
        flows.append(flow)
        self._send(flow, well=False)

    def _send(self, flow: Flow, *, well: bool) -> bool:
        """Whether its client goes on: not if it was told that nobody is there."""
        node, world = self._world.nodes[flow.node], self._world
        stack = node.stack
        found = stack.from_pod(flow.packet) if flow.of_pod else stack.receive(flow.packet, "up0")
        outcome = stack.take(self._drawn.choice(found))
        told = isinstance(outcome, Rejected) and outcome.packet.destination == flow.packet.destination
        if told and node.running and node.serves(flow.packet.destination) and not world.hindered(node):
            self._broken("flows go to whom a service has", f"{flow.node}: {flow.packet}: {outcome.words}")
        if not well or not node.running or flow.service in world.gone or not world.members[flow.service]:
            return not told
        ends: set[Address] = {each for pod in world.members[flow.service] for each in world.pods[pod][1]}
        to = outcome.packet.destination if isinstance(outcome, Delivered | Forwarded) else None
        if isinstance(outcome, Lost) and outcome.packet.destination == flow.packet.destination:
            self._broken("flows go to whom a service has", f"{flow.node}: {flow.packet}: {outcome.words}")
        elif to is not None and to not in ends:
            what = f"{flow.node}: {flow.packet} to {flow.service} goes to {to}"
            self._broken("flows go to whom a service has", what)
        return not told
