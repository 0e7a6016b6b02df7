"""Who is the service proxy: a whole agent on a simulated node, beside a kube-proxy that comes and goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fate import WEB
from scene import CONFIGURATION, NODE, TOR4, TOR6, Scene
from sim_node import configuration, endpoints, service
from simloop import simulate

from l3net.errors import RefusedError

DNS = (
    service("dns", "10.96.0.53", ports=({"port": 53, "protocol": "UDP"},)),
    endpoints("dns", "10.244.1.9", port=5353, protocol="UDP"),
)
RANGED = configuration(serviceCIDRs=["10.96.0.0/16"])
LEFT = "table ip kube-proxy"


def translated(scene: Scene) -> set[str]:
    """The addresses that are, by the maps in force."""
    found = scene.firewall.table.sets
    names = ("services4", "services4-internal", "services4-external")
    return {str(element).split(" . ")[0] for name in names for element in found.get(name, ())}


def refuses(scene: Scene) -> bool:
    return "forward-refuse" in scene.firewall.table.chains


def proxy(scene: Scene) -> dict[str, Any]:
    found: dict[str, Any] = scene.status()["serviceProxy"]
    return found


def test_kube_proxy_has_all_of_it_or_nothing() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(*WEB, *DNS, RANGED)
        both = {"10.96.0.10", "10.96.0.53"}
        assert translated(scene) == both and refuses(scene) and proxy(scene)["on"]
        before = len(scene.firewall.amended)
        scene.firewall.forgotten.clear()
        scene.proxies.mode, scene.proxies.left = "iptables", LEFT
        await asyncio.sleep(5)
        assert not translated(scene) and not refuses(scene)
        assert len(scene.firewall.amended) == before + 1, "in one transaction"
        assert not scene.firewall.forgotten, "flows are the other's by now, and go on"
        assert proxy(scene)["why"] == "kube-proxy (iptables) answers on this node"
        assert "10.96.0.10/32" in scene.heard(scene.tor4), "announced all the same"
        assert not scene.health.answers and not scene.problems()
        # What changes meanwhile changes nothing here, and is known afterwards.
        scene.datastore.apply(service("more", "10.96.0.11"), endpoints("more", "10.244.1.10"))
        await asyncio.sleep(1)
        assert not translated(scene) and not scene.firewall.forgotten
        assert "10.96.0.11/32" in scene.heard(scene.tor4)
        scene.proxies.mode = ""
        await asyncio.sleep(25)
        assert not translated(scene), "it may come back"
        await asyncio.sleep(10)
        assert translated(scene) == {*both, "10.96.0.11"} and refuses(scene)
        udp = [each for each in scene.firewall.forgotten if each.protocol == 17]
        assert udp and all(each.kept for each in udp), "flows to a good endpoint stay"
        assert 10256 in scene.health.answers and scene.firewall.replaced == 1

    simulate(scenario())


@pytest.mark.parametrize("mode", ["", "nftables"])
def test_what_is_set_holds(mode: str) -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.proxies.mode, scene.proxies.left = mode, LEFT
        await scene.ready(*WEB, configuration(serviceProxy="Enabled"))
        assert translated(scene) and proxy(scene)["on"]
        for _ in range(2):
            scene.datastore.apply(configuration(serviceProxy="Disabled"))
            await asyncio.sleep(1)
            assert not translated(scene) and not proxy(scene)["on"]
            assert "10.96.0.10/32" in scene.heard(scene.tor4)
            scene.datastore.apply(configuration(serviceProxy="Enabled"))
            await asyncio.sleep(1)
            assert translated(scene) and scene.firewall.replaced == 1

    simulate(scenario())


def test_an_agent_goes_on_as_the_one_before_it() -> None:
    """Though kube-proxy's old tables are there; a node just booted gives it time to start."""

    async def scenario() -> None:
        scene = Scene()
        scene.proxies.left = LEFT
        await scene.ready(*WEB)
        assert not translated(scene) and "waited for" in proxy(scene)["why"]
        await asyncio.sleep(33)
        assert translated(scene)
        for _ in range(2):
            await scene.kill()
            scene.start()
            await asyncio.sleep(3)
            assert translated(scene)
        scene.proxies.mode = "ipvs"
        await asyncio.sleep(5)
        assert not translated(scene)
        await scene.kill()
        scene.proxies.mode = ""
        scene.start()
        await asyncio.sleep(20)
        assert not translated(scene), "both were replaced at once, it may be"
        await asyncio.sleep(15)
        assert translated(scene)

    simulate(scenario())


def test_an_agent_of_an_older_release_was_the_proxy() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(*WEB)
        await asyncio.sleep(60)
        await scene.kill()
        scene.proxies.was, scene.proxies.left = None, LEFT
        scene.start()
        await asyncio.sleep(3)
        assert translated(scene)

    simulate(scenario())


def test_a_switch_that_nft_refuses_is_tried_again() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(*WEB)
        scene.firewall.refuses = lambda _text: RefusedError("nft", 16)
        scene.proxies.mode, scene.proxies.left = "nftables", LEFT
        await asyncio.sleep(5)
        assert translated(scene) and any("firewall" in each for each in scene.problems())
        scene.firewall.refuses = lambda _text: None
        await asyncio.sleep(65)
        assert not translated(scene) and not scene.problems()

    simulate(scenario())


def test_doing_nothing_lists_no_tables() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.begun(NODE, CONFIGURATION, TOR4, TOR6)
        before = scene.proxies.listed
        await asyncio.sleep(600)
        assert scene.proxies.listed == before

    simulate(scenario())
