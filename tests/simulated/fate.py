"""What may happen to a simulated node, drawn out of a seed."""

from __future__ import annotations

import asyncio
import random
from ipaddress import ip_network

from scene import BLOCKS, TOR6, Scene
from sim_node import endpoints, node, peer, service

from l3net.errors import KernelError

ON_NODES = {"type": "NodePort", "ports": ({"port": 80, "nodePort": 30080},)}
WEB = (service("web", "10.96.0.10", **ON_NODES), endpoints("web", "10.244.1.9"))
DRAINING = ("10.96.0.10/32", BLOCKS[0])


class Fate:
    """Draws what happens to a scene, out of a seed."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.scene = scene
        self.drawn = random.Random(seed)

    def pause(self, *seconds: float) -> float:
        return self.drawn.choice(seconds)

    async def restart(self) -> None:
        scene = self.scene
        await (scene.kill() if self.drawn.random() < 0.7 else scene.terminate())
        await asyncio.sleep(self.pause(0, 0.2, 5, 140))
        scene.start()

    async def link(self) -> None:
        self.scene.kernel.set_link("up0", up=False)
        await asyncio.sleep(self.pause(0.01, 1, 100))
        self.scene.kernel.set_link("up0", up=True)

    async def router(self) -> None:
        one = self.drawn.choice(self.scene.routers)
        self.scene.speaker.drop(one, back=False)
        await asyncio.sleep(self.pause(0.1, 5, 130))
        one.there = True
        self.scene.speaker.dial(one.address)

    async def router_changes_its_mind(self) -> None:
        """Withdraws and announces again, while the node may not hear."""
        one, prefix = self.scene.tor4, ip_network("203.0.113.0/24")
        one.route(str(prefix))
        self.scene.speaker.say(one, prefix)
        await asyncio.sleep(self.pause(0, 0.01, 1))
        self.scene.speaker.withdraw(one, str(prefix))

    async def notification(self) -> None:
        one = self.drawn.choice(self.scene.routers)
        self.scene.speaker.notify(one, 6, 4, received=self.drawn.random() < 0.5)

    async def bfd(self) -> None:
        address = self.scene.tor4.address
        if address in self.scene.bfd.wanted and self.scene.bfd.up:
            self.scene.bfd.say(address, "Up")
            self.scene.bfd.say(address, "Down", failed=True, shares_fate=self.drawn.random() < 0.5)
            await asyncio.sleep(self.pause(0.1, 5))
            if self.scene.bfd.up:
                self.scene.bfd.say(address, "Up")

    async def speaker(self) -> None:
        self.scene.speaker.kill()

    async def speaker_hangs(self) -> None:
        self.scene.speaker.deaf = True
        await asyncio.sleep(self.pause(1, 5))
        self.scene.speaker.deaf = False
        self.scene.speaker.kill()  # as its relay does

    async def api(self) -> None:
        self.scene.datastore.fail()

    async def peer_changes(self) -> None:
        changed = peer("tor4", "10.0.0.1", holdTime=self.pause(9, 12, 90), bfd={"enabled": True})
        self.scene.datastore.apply(changed)

    async def peer_goes(self) -> None:
        self.scene.datastore.delete(TOR6)
        await asyncio.sleep(self.pause(0.01, 1, 20))
        self.scene.datastore.apply(TOR6)

    async def table(self) -> None:
        self.scene.firewall.flush()

    async def kernel_fails(self) -> None:
        part = self.drawn.choice(("read", "bridge", "underlay"))
        self.scene.kernel.failing[part] = KernelError(f"{part} is broken", 5)
        self.scene.firewall.failing = KernelError("nft cannot change table inet l3net (x)", 105)
        self.scene.kernel.refuses = lambda route: KernelError(f"put route {route.prefix}", 22)
        self.scene.lose_notices()
        await asyncio.sleep(self.pause(0.1, 3, 70))
        self.scene.kernel.failing.clear()
        self.scene.firewall.failing = None
        self.scene.kernel.refuses = lambda _route: None

    async def routes(self) -> None:
        if self.scene.kernel.ours:
            self.scene.kernel.delete_ours(*self.drawn.sample(sorted(self.scene.kernel.ours, key=str), 1))

    async def node_changes(self) -> None:
        blocks = self.drawn.choice((BLOCKS, BLOCKS[:1], (*BLOCKS, "10.244.9.0/24")))
        self.scene.datastore.apply(node("n1", *blocks, unschedulable=self.drawn.random() < 0.3))

    async def leaves(self) -> None:
        self.scene.memory.leave = True
        await asyncio.sleep(self.pause(0.2, 8, 60))
        self.scene.memory.leave = False

    async def service_changes(self) -> None:
        self.scene.datastore.delete(WEB[self.drawn.randrange(2)])
        await asyncio.sleep(self.pause(0.001, 0.1, 5))
        self.scene.datastore.apply(*WEB)

    async def happens(self) -> None:
        """One thing, and a pause."""
        names = sorted(
            name
            for of in type(self).__mro__[:-1]
            for name in vars(of)
            if not name.startswith("_") and name not in ("pause", "happens")
        )
        await getattr(self, self.drawn.choice(names))()
        await asyncio.sleep(self.pause(0.0, 0.01, 0.5, 20, 200))
