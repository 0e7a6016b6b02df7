"""Where the service ranges come from: a whole agent on a simulated node."""

from __future__ import annotations

import asyncio
from typing import Any

from scene import CONFIGURATION, NODE, TOR4, TOR6, Scene
from sim_node import configuration, document
from simloop import simulate


def ranges(name: str, *cidrs: str) -> dict[str, Any]:
    return document("ServiceCIDR", name, version="networking.k8s.io/v1", spec={"cidrs": list(cidrs)})


def test_servicecidrs_are_the_service_ranges_unless_the_configuration_names_some() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.tor4.route("10.96.3.0/24")
        scene.tor6.route("fd00:96::/120")
        await scene.begun(NODE, CONFIGURATION, TOR4, TOR6)

        def refused() -> set[str]:
            return {prefix for prefix in ("10.96.3.0/24", "fd00:96::/120") if prefix not in scene.learned()}

        def closed(prefix: str) -> bool:
            return f"daddr {prefix} reject" in str(scene.firewall.table.chains.get("forward-refuse"))

        assert not refused() and not closed("10.96.0.0/16")
        both = ranges("kubernetes", "10.96.0.0/16", "fd00:96::/112")
        scene.datastore.apply(both)
        await asyncio.sleep(2)
        assert refused() == {"10.96.3.0/24", "fd00:96::/120"}
        assert closed("10.96.0.0/16") and closed("fd00:96::/112")
        scene.datastore.apply(configuration(serviceCIDRs=["10.97.0.0/16"]))
        await asyncio.sleep(2)
        assert not refused() and closed("10.97.0.0/16")
        scene.datastore.apply(configuration())
        scene.datastore.delete(both)
        await asyncio.sleep(2)
        assert not refused(), "there are none any more"

    simulate(scenario())
