"""What the simulated scenarios begin from: a node with two routers, one for each family."""

from __future__ import annotations

from typing import Any

from sim_node import SimNode, configuration, node, peer
from sim_speaker import SimRouter

from l3net.model import Address

BLOCKS = ("10.244.1.0/24", "fd00:244:1::/120")
FOUR, SIX = "192.0.2.0/24", "2001:db8::/48"
LEARNED = {FOUR, SIX}
NODE = node("n1", *BLOCKS)
CONFIGURATION = configuration()
TOR4, TOR6 = peer("tor4", "10.0.0.1"), peer("tor6", "fd00::1")


class Scene(SimNode):
    """`tor4` and `tor6`, each of which announces one prefix."""

    def __init__(self, **options: Any) -> None:
        self.tor4, self.tor6 = SimRouter(_address("10.0.0.1")), SimRouter(_address("fd00::1"))
        self.tor4.route(FOUR)
        self.tor6.route(SIX)
        super().__init__(self.tor4, self.tor6, **options)

    @property
    def routers(self) -> tuple[SimRouter, SimRouter]:
        return self.tor4, self.tor6

    async def ready(self, *more: dict[str, Any], seconds: float = 3.0) -> None:
        """Started, with both sessions up, and settled."""
        await self.begun(NODE, CONFIGURATION, TOR4, TOR6, *more, seconds=seconds)
        assert self.learned() == LEARNED
        assert self.blocks_heard() == set(BLOCKS)

    def blocks_heard(self) -> set[str]:
        return {prefix for router in self.routers for prefix in self.heard(router) if "244" in prefix}

    def sessions(self) -> list[list[str]]:
        """What has become of each router's sessions."""
        return [list(router.history) for router in self.routers]

    def problems(self) -> list[str]:
        found: list[str] = self.status()["problems"]
        return found


def _address(text: str) -> Address:
    from ipaddress import ip_address

    return ip_address(text)
