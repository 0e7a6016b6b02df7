"""What load balancers are told by a whole agent on a simulated node."""

from __future__ import annotations

import asyncio
from typing import Any

from fate import WEB
from scene import BLOCKS, NODE, Scene
from sim_node import configuration, endpoints, node, service
from simloop import simulate

from l3net.errors import KernelError
from l3net.ports import HealthAnswer

PORT = 10256


def balanced(name: str, address: str, port: int, **more: Any) -> dict[str, Any]:
    made = service(
        name,
        address,
        type="LoadBalancer",
        externalTrafficPolicy="Local",
        healthCheckNodePort=port,
    )
    made["metadata"] |= more
    return made


def told(scene: Scene, port: int, path: str = "/", version: int = 4) -> HealthAnswer:
    found = scene.health.ask(port, path, version)
    assert found is not None
    return found


def test_a_service_tells_of_its_endpoints_on_the_node() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(balanced("web", "10.96.0.10", 31000), endpoints("web", "10.244.1.9", "10.244.1.8"))
        first = told(scene, 31000, "/any")
        assert first.well and first.headers == {"X-Load-Balancing-Endpoint-Weight": "2"}
        assert first.body == {
            "service": {"namespace": "default", "name": "web"},
            "localEndpoints": 2,
            "serviceProxyHealthy": True,
        }
        scene.datastore.apply(endpoints("web", "10.244.2.9", on="n2"))
        await asyncio.sleep(1)
        last = told(scene, 31000)
        assert not last.well and last.body["localEndpoints"] == 0
        # Another port, another policy, and gone: one listener each, with the change.
        scene.datastore.apply(balanced("web", "10.96.0.10", 31001))
        await asyncio.sleep(1)
        assert set(scene.health.answers) == {PORT, 31001}
        for gone in (service("web", "10.96.0.10", type="LoadBalancer", healthCheckNodePort=31001),):
            scene.datastore.apply(gone)
            await asyncio.sleep(1)
            assert set(scene.health.answers) == {PORT}, "a policy of Cluster has no check"
        scene.datastore.apply(balanced("web", "10.96.0.10", 31000))
        await asyncio.sleep(1)
        assert set(scene.health.answers) == {PORT, 31000}
        scene.datastore.delete(balanced("web", "10.96.0.10", 31000))
        await asyncio.sleep(1)
        assert set(scene.health.answers) == {PORT}
        await scene.kill()
        assert not scene.health.answers

    simulate(scenario())


def test_a_port_that_is_taken_is_named_and_tried_again_and_stops_nothing_else() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.health.taken = {31000, PORT}
        await scene.ready(balanced("web", "10.96.0.10", 31000), balanced("b", "10.96.0.11", 31001))
        assert set(scene.health.answers) == {31001}
        assert [each for each in scene.problems() if "health" in each] == [
            "health check of the node (--health-port): listen on TCP port 10256: EADDRINUSE",
            "health check of default/web: listen on TCP port 31000: EADDRINUSE",
        ]
        before = scene.health.tried
        await asyncio.sleep(600)
        assert before + 16 < scene.health.tried < before + 40, "later each time, once a minute at the most"
        scene.health.taken = set()
        await asyncio.sleep(61)
        assert set(scene.health.answers) == {31000, 31001, PORT} and not scene.problems()

    simulate(scenario())


def test_no_service_takes_a_port_that_the_node_itself_answers() -> None:
    """Also while nobody listens there: BGP's listener comes when a peer may dial in, and finds it free."""

    async def scenario() -> None:
        scene = Scene()
        await scene.ready(
            *(configuration(listenPort=31790), endpoints("web", "10.244.1.9")),
            *(balanced(f"b{port}", f"10.96.0.{port % 100 + 1}", port) for port in (31790, PORT)),
        )
        assert set(scene.health.answers) == {PORT}
        assert told(scene, PORT, "/healthz").body == {"nodeEligible": True}
        why = "is not answered: the node itself answers to that number"
        assert scene.problems() == [
            f"service default/b{port}: healthCheckNodePort {port} {why}" for port in (PORT, 31790)
        ]
        scene.datastore.apply(configuration())
        await asyncio.sleep(1)
        assert set(scene.health.answers) == {PORT, 31790}

    simulate(scenario())


def test_a_node_port_before_a_health_check_is_named() -> None:
    async def scenario() -> None:
        scene = Scene()
        port = {"port": 80, "nodePort": 31000}
        await scene.ready(
            service("web", "10.96.0.10", ports=[port], type="NodePort"), balanced("b", "10.96.0.11", 31000)
        )
        assert scene.problems() == [
            "service default/b: healthCheckNodePort 31000 is a NodePort as well, which comes first"
        ]

    simulate(scenario())


def test_of_two_services_with_one_port_the_senior_has_it() -> None:
    async def scenario() -> None:
        scene = Scene()
        old = balanced("z", "10.96.0.10", 31000, creationTimestamp="2024-01-01T00:00:00Z")
        new = balanced("a", "10.96.0.11", 31000, creationTimestamp="2026-01-01T00:00:00Z")
        await scene.ready(new, old, endpoints("z", "10.244.1.9"))
        assert told(scene, 31000).body["service"] == {"namespace": "default", "name": "z"}
        (problem,) = scene.problems()
        assert problem == (
            "service default/a: healthCheckNodePort 31000 is answered for default/z, which had it first"
        )
        scene.datastore.delete(old)
        await asyncio.sleep(1)
        assert told(scene, 31000).body["service"] == {"namespace": "default", "name": "a"}
        assert not told(scene, 31000).well and not scene.problems()

    simulate(scenario())


def test_a_node_that_goes_draws_no_traffic() -> None:
    """Told so by a taint, its deletion, or a drain that has come to its services; livez tells of none."""

    async def scenario() -> None:
        scene = Scene()
        await scene.ready(configuration(drain={"wait": 10, "taints": ["none"]}))
        well = told(scene, PORT, "/healthz")
        assert well.well and well.body == {"nodeEligible": True} and well.age == 0
        taint = {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}
        deleted = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
        for more in (taint, deleted):
            scene.datastore.apply(node("n1", *BLOCKS, **more))
            await asyncio.sleep(1)
            gone = told(scene, PORT, "/healthz")
            assert not gone.well and gone.body == {"nodeEligible": False}
            assert told(scene, PORT, "/livez").well
            scene.datastore.apply(NODE)
            await asyncio.sleep(1)
            assert told(scene, PORT, "/healthz").well
        scene.memory.leave = True
        await asyncio.sleep(5)
        assert told(scene, PORT, "/healthz").well, "tagged: it still serves"
        await asyncio.sleep(10)
        assert not told(scene, PORT, "/healthz").well
        assert scene.health.ask(PORT, "/metrics") is None

    simulate(scenario())


def test_a_table_that_is_not_in_force_is_told_when_it_lasts() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(balanced("web", "10.96.0.10", 31000), endpoints("web", "10.244.1.9"))
        scene.firewall.failing = KernelError("nft", 12)
        scene.datastore.apply(endpoints("web", "10.244.1.8"))
        await asyncio.sleep(20)
        assert told(scene, PORT, "/healthz").well, "not for a moment's sake"
        await asyncio.sleep(20)
        ill = told(scene, PORT, "/livez")
        assert not ill.well and ill.age is not None and ill.age > 30
        assert not told(scene, 31000).well and told(scene, 31000).body["serviceProxyHealthy"] is False
        scene.firewall.failing = None
        await asyncio.sleep(61)
        assert told(scene, PORT, "/healthz").well and told(scene, 31000).well

    simulate(scenario())


def test_passes_that_fail_are_told_when_it_lasts() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        kept, scene.agent.podnet.retain = scene.agent.podnet.retain, None  # type: ignore[assignment]
        scene.datastore.apply(*WEB)
        await asyncio.sleep(60)
        assert not told(scene, PORT, "/healthz").well
        scene.agent.podnet.retain = kept  # type: ignore[method-assign]
        await asyncio.sleep(60)
        assert told(scene, PORT, "/healthz").well

    simulate(scenario())


def test_an_agent_that_starts_again_without_its_api_answers_for_the_node() -> None:
    """What the one before it left in the kernel serves; on a node just booted nothing does."""

    async def scenario() -> None:
        scene = Scene()
        scene.datastore.away = True
        scene.start()
        await asyncio.sleep(10)
        assert not scene.health.answers
        scene.datastore.away = False
        await scene.kill()
        await scene.ready()
        await asyncio.sleep(60)
        await scene.kill()
        scene.datastore.away = True
        scene.start()
        await asyncio.sleep(300)
        assert told(scene, PORT, "/healthz").well

    simulate(scenario())
