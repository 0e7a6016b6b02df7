"""One node of a world: what a packet finds on it, and what happens to the whole machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address, ip_network

from packets.stack import SimStack
from sim_node import SimBfd, SimMemory, SimNode

from l3net.model import Address
from l3net.policy.attached import Attached
from world.declared import View
from world.nodeside import NodeSide, WorldSpeaker

#: Seconds until an agent that ended is started again, and until BFD hears who is there.
RESTARTS = 2.0
BFD_COMES_UP = 0.4


class WorldBfd(SimBfd):
    """A BFD process that outlives agents, and tells each what it sees of who is watched. `meets` is asked
    whether a peer is heard, of which the other end then hears, too."""

    def __init__(self) -> None:
        super().__init__()
        self.meets: Callable[[Address], bool] = lambda _peer: False
        self._seen: dict[Address, tuple[str, bool]] = {}  # state, and whether it has failed

    def failed(self, peer: Address) -> bool:
        """Whether it was up, went down by itself, and nobody has forgiven it since."""
        return self._seen.get(peer, ("", False))[1]

    def send(self, data: bytes) -> None:
        if not self.up:  # nobody hears it; whoever connects hears all
            return
        forgiven = len(self.forgiven)
        super().send(data)
        for peer in self.forgiven[forgiven:]:
            if self.failed(peer):
                self._is(peer, self._seen[peer][0], failed=False)
        for gone in self._seen.keys() - self.wanted.keys():
            del self._seen[gone]
        loop = asyncio.get_running_loop()
        for peer, each in self.wanted.items() if len(self.forgiven) == forgiven else ():
            if peer not in self._seen and each.begin:
                self._seen[peer] = "Down", False
                loop.call_later(BFD_COMES_UP, self._meet, peer)
            if peer in self._seen:
                loop.call_soon(self._tell, peer)

    def stop(self) -> None:
        super().stop()
        self._seen.clear()

    def path(self, peer: Address, *, up: bool) -> None:
        """It hears the peer again, or no longer."""
        if not self.running or peer not in self._seen:
            return
        was, failed = self._seen[peer]
        self._is(peer, "Up" if up else "Down", failed=not up and (failed or was == "Up"))

    def _meet(self, peer: Address) -> None:
        if self.running and peer in self._seen and self.meets(peer):
            self.path(peer, up=True)

    def _is(self, peer: Address, state: str, *, failed: bool) -> None:
        self._seen[peer] = state, failed
        self._tell(peer)

    def _tell(self, peer: Address) -> None:
        if self.up and self.running and peer in self._seen:
            state, failed = self._seen[peer]
            self.say(peer, state, failed=failed)


class WorldNode(SimNode):
    """`addresses` are its own, on up0; `blocks` those that the Node has at first."""

    speaker: WorldSpeaker

    def __init__(
        self, name: str, seed: int, as_number: int, addresses: tuple[str, ...], lengths: tuple[int, ...]
    ) -> None:
        links = {"up0": tuple(f"{each}/{length}" for each, length in zip(addresses, lengths, strict=True))}
        super().__init__(name=name, links=links)
        self.addresses = tuple(map(ip_address, addresses))
        self.blocks: tuple[str, ...] = ()
        self.lost = ""  # a block that was taken from it for a while
        self.view = View(seed)
        self.datastore = self.view
        self.bfd = WorldBfd()
        self.speaker = WorldSpeaker(name, as_number, self.bfd)
        self.power = True
        self.refusing = False  # nft refuses something of the table
        self.starts: Callable[[], None] = lambda: None  # called as an agent does
        self.stack = SimStack.of(self)
        self._served: tuple[object, dict[Address, set[Address]]] = (None, {})

    # --- what a packet finds -----------------------------------------------------------------------------

    def uses(self, block: str) -> bool:
        """Whether a pod has an address of it."""
        return any(each in ip_network(block) for each in self.pods.leased)

    def wires(self, address: Address) -> bool:
        """Whether a pod here has it."""
        return any(address in each.addresses for each in self.pods.wired.values())

    def serves(self, address: Address) -> set[Address]:
        """The endpoints that a service's packet is translated to; empty where none is."""
        table = self.firewall.table
        if self._served[0] is not table:
            found: dict[Address, set[Address]] = {}
            for name in ("backends4", "backends6"):
                for element in table.sets.get(name, ()):
                    service, _, endpoint = element.partition(" : ")
                    found.setdefault(ip_address(service.split(" . ")[0]), set()).add(
                        ip_address(endpoint.split(" . ")[0])
                    )
            self._served = table, found
        return self._served[1].get(address, set())

    # --- pods --------------------------------------------------------------------------------------------

    async def attach(self, name: str, attached: Attached) -> str:
        why = await self.pods.add(name, attached)
        if not why:
            self.pods.leased |= set(attached.addresses)
        return why

    def detach(self, name: str) -> None:
        attached = self.pods.wired.get(name)
        if attached is not None:
            self.pods.delete(name)
            self.pods.leased -= set(attached.addresses)

    def sides(self) -> list[NodeSide]:
        """Its ends of its sessions."""
        return [side for side in self.speaker.routers.values() if isinstance(side, NodeSide)]

    # --- the agent ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start an agent; one that ends by itself is started again, as by its DaemonSet."""
        self.starts()
        super().start()
        assert self._task is not None
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task is self._task and task.exception() is not None:
            self.speaker.link, self._task, self.bfd.up = None, None, False
            asyncio.get_running_loop().call_later(RESTARTS, self._again)

    def _again(self) -> None:
        if self.power and not self.running:
            self.start()

    async def kill(self) -> None:
        if self.running:
            await super().kill()

    # --- the machine -------------------------------------------------------------------------------------

    async def power_off(self) -> None:
        """Nobody is told; what was on no disk is lost."""
        self.power = False
        if self.running:
            await self.kill()
        self.speaker.power_off()
        self.bfd.up = False
        self.kernel.ours.clear()
        self.kernel.bridge = None
        self.envelope.remove()
        self.kernel.batches.clear()
        self.firewall.__init__(self.kernel)  # type: ignore[misc]
        memory = SimMemory()
        memory.leave, memory.record = self.memory.leave, None
        self.memory = memory
        self.pods.wired.clear()
        self.pods.leased.clear()
        self.pods.network = None

    def power_on(self) -> None:
        self.power = True
        self.speaker.power_on()
        self.start()
