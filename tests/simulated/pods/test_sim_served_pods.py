"""A whole node: the real agent with the real CNI server, on simulated kernels, routers and disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from scene import Scene
from served_pods import ServedPods
from sim_node import document
from threads import simulate_threads


class Served(Scene):
    """A scene whose runtime talks to the real CNI server."""

    def __init__(self) -> None:
        super().__init__()
        self.served = ServedPods()
        self.pods = self.served  # type: ignore[assignment]


def live(scenario: Coroutine[Any, Any, None]) -> None:
    simulate_threads(scenario)


CLOSED = document(
    "NetworkPolicy",
    "closed",
    namespace="default",
    version="networking.k8s.io/v1",
    spec={"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]},
)


def test_pods_come_and_go_while_agents_do() -> None:
    async def scenario() -> None:
        node = Served()
        try:
            await node.ready()
            for name in ("a", "b", "c"):
                assert await node.served.attach(name) == ""
            assert len(node.served.leased) == 6
            assert node.status()["pods"]["leases"] == 3
            await node.kill()
            assert json.loads(await node.served.attach("d"))["code"] == 11
            assert await node.served.detach("a") == ""  # spooled
            node.start()
            await asyncio.sleep(5)
            assert {each.pod.name for each in node.served.wired.values()} == {"b", "c"}
            assert len(node.served.leased) == 4 and node.status()["pods"]["leases"] == 2
            assert await node.served.attach("d") == ""
            assert not node.problems()
            guarded = {each.port for each in node.served.machine.guard.elements or ()}
            assert len(guarded) == 3
        finally:
            node.served.close()

    live(scenario())


def test_a_pods_policies_are_in_force_before_add_answers() -> None:
    async def scenario() -> None:
        node = Served()
        try:
            await node.ready(CLOSED)
            assert await node.served.attach("a", labels="app=web") == ""
            (address,) = [each for each in node.served.leased if each.version == 4]
            assert str(address) in node.firewall.text
            assert await node.served.detach("a") == ""
            await asyncio.sleep(3)
            assert not node.served.leased and not node.served.wired
        finally:
            node.served.close()

    live(scenario())


def test_a_block_that_is_lost_stays_while_pods_run_in_it() -> None:
    async def scenario() -> None:
        node = Served()
        try:
            await node.ready()
            assert await node.served.attach("a") == ""
            node.datastore.apply(
                document(
                    "Node",
                    "n1",
                    version="v1",
                    spec={"podCIDRs": ["10.244.9.0/24", "fd00:244:9::/120"]},
                    status={"addresses": [{"type": "InternalIP", "address": "10.0.0.2"}]},
                )
            )
            await asyncio.sleep(3)
            assert any("10.244.1.0/24" in each for each in node.problems())
            assert "10.244.1.0/24" in node.blocks_heard()
            assert await node.served.detach("a") == ""
            await asyncio.sleep(120)
            assert not any("10.244.1.0/24" in each for each in node.problems())
        finally:
            node.served.close()

    live(scenario())
