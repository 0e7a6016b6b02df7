"""A whole agent on a simulated node: what it tells of policies, their drops and what they have counted."""

from __future__ import annotations

import asyncio
import logging
import struct
from ipaddress import ip_address
from typing import Any

import pytest
from scene import Scene
from sim_node import document
from simloop import simulate

from l3net.agent.counting import EVERY
from l3net.agent.drops import KEPT, LINES
from l3net.agent.metrics import metrics
from l3net.agent.policyanswers import policy_answer
from l3net.errors import KernelError
from l3net.model import ObjectName
from l3net.policy.attached import Attached
from l3net.policy.packet import seen

WEB = ip_address("10.244.1.5"), ip_address("fd00:244:1::5")
#: Of another node.
CLIENT = ip_address("10.244.2.9"), ip_address("fd00:244:2::9")
LOGS = {"l3net.io/log-drops": "true"}


def pod(name: str, node: str, *addresses: object, **labels: str) -> dict[str, Any]:
    return document(
        "Pod",
        name,
        namespace="shop",
        version="v1",
        metadata={"namespace": "shop", "name": name, "labels": labels},
        spec={"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        status={"phase": "Running", "podIPs": [{"ip": str(each)} for each in addresses]},
    )


def only(name: str, role: str, annotations: dict[str, str] = LOGS) -> dict[str, Any]:
    return document(
        "NetworkPolicy",
        name,
        namespace="shop",
        version="networking.k8s.io/v1",
        metadata={"namespace": "shop", "name": name, "annotations": annotations},
        spec={
            "podSelector": {"matchLabels": {"app": "web"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": role}}}]}],
        },
    )


def admin(name: str, action: str) -> dict[str, Any]:
    rule = {"name": "odd", "action": action, "from": [{"namespaces": {}}]}
    return document(
        "ClusterNetworkPolicy",
        name,
        version="policy.networking.k8s.io/v1alpha2",
        metadata={"name": name, "annotations": LOGS},
        spec={
            "tier": "Admin",
            "priority": 3,
            "subject": {"namespaces": {}},
            "ingress": [{**rule, "protocols": [{"udp": {"destinationPort": {"number": 53}}}]}],
        },
    )


def packet(version: int, protocol: int, source: int, port: int) -> bytes:
    """The beginning of one from the client to the web pod."""
    place = version == 6
    ends = CLIENT[place].packed + WEB[place].packed
    if version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, protocol, 0) + ends
    else:
        head = struct.pack("!IHBB", 6 << 28, 20, protocol, 64) + ends
    return head + struct.pack("!HH", source, port) + bytes(16)


async def shop(*policies: dict[str, Any]) -> Scene:
    """A node where a pod runs that policies may be for."""
    scene = Scene()
    attached = Attached(ObjectName("shop", "web"), WEB)
    scene.pods.wired["web"] = attached
    await scene.ready(pod("web", "n1", *WEB, app="web"), pod("client", "n2", *CLIENT, role="bad"), *policies)
    return scene


async def asked(scene: Scene, question: str) -> dict[str, Any]:
    return await policy_answer(scene.agent, question)


def chains(scene: Scene, beginning: str) -> list[str]:
    return sorted(name for name in scene.agent.policing.book.contents.chains if name.startswith(beginning))


def test_drops_are_told_with_names_and_reasons(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        scene = await shop(only("web", "good", {}))
        assert not scene.drops.open, "nobody asks for it"
        assert (await asked(scene, "drops"))["logging"] == 0
        scene.datastore.apply(only("web", "good"), admin("guard", "Deny"))
        await asyncio.sleep(1)
        assert scene.drops.open
        (mix,) = [name for name in chains(scene, "mix-ingress") if not name.endswith("-rest")]
        (rule,) = [
            name for name in chains(scene, "pol-") if name.endswith("-ingress") and _denies(scene, name)
        ]
        with caplog.at_level(logging.INFO, "l3net.policy.drops"):
            scene.drops.drop(mix, packet(4, 6, 40000, 80))
            scene.drops.drop(f"{rule}-0", packet(6, 17, 40001, 53))
            scene.drops.drop("pol-0123-ingress-0", packet(4, 1, 0, 0))
            scene.drops.drop(mix, b"\x00\x01")
        found = (await asked(scene, "drops"))["drops"]
        assert [row["reason"] for row in found] == [
            "no rule of NetworkPolicy shop/web accepts it",
            "rule ingress[0] (odd) of ClusterNetworkPolicy guard (Admin)",
            "a policy that is in force no more",
        ]
        assert found[0]["source"] == {"name": "shop/client", "address": "10.244.2.9", "port": 40000}
        assert found[1]["destination"] == {"name": "shop/web", "address": "fd00:244:1::5", "port": 53}
        assert [row["protocol"] for row in found] == ["tcp", "udp", "icmp"]
        assert (found[0]["direction"], found[0]["policies"]) == ("ingress", ["NetworkPolicy shop/web"])
        lines = [each.message for each in caplog.records]
        assert (
            len(lines) == 3 and "shop/client (10.244.2.9:40000) -> shop/web (10.244.1.5:80) tcp" in lines[0]
        )
        assert (await asked(scene, 'drops {"after": "2"}'))["drops"] == found[2:]
        assert scene.status()["policy"]["dropsLogged"] == 3
        scene.datastore.apply(only("web", "good", {}))
        await asyncio.sleep(1)
        assert scene.drops.open, "the other one logs still"
        scene.datastore.delete(admin("guard", "Deny"))
        await asyncio.sleep(1)
        assert not scene.drops.open

    simulate(scenario())


def _denies(scene: Scene, name: str) -> bool:
    return any("log prefix" in rule for rule in scene.agent.policing.book.contents.chains[name])


def test_a_flood_of_drops_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        scene = await shop(only("web", "good"))
        (mix,) = chains(scene, "mix-ingress")
        with caplog.at_level(logging.INFO, "l3net.policy.drops"):
            for number in range(3 * KEPT):
                scene.drops.drop(mix, packet(4, 6, number, 80))
            assert len(caplog.records) == LINES
            await asyncio.sleep(2)
            scene.drops.drop(mix, packet(4, 6, 1, 81))
        assert f"{3 * KEPT - LINES} more packets" in caplog.records[LINES].message
        found = (await asked(scene, "drops"))["drops"]
        assert len(found) == KEPT and found[-1]["serial"] == 3 * KEPT + 1

    simulate(scenario())


def test_a_log_that_somebody_else_reads() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.drops.taken = True
        await scene.ready(only("web", "good"))
        assert "group in use" in scene.problems()
        scene.drops.taken = False
        scene.datastore.apply(only("other", "good"))
        await asyncio.sleep(1)
        assert scene.drops.open and "group in use" not in scene.problems()

    simulate(scenario())


def sample(scene: Scene, name: str) -> dict[str, float]:
    """By the labels of a metric."""
    lines = [line for line in metrics(scene.agent).splitlines() if line.startswith(name)]
    return {line.rpartition(" ")[0].removeprefix(name): float(line.rpartition(" ")[2]) for line in lines}


def test_what_is_counted_only_grows() -> None:
    """The kernel's counters begin anew with the table, and are away for a while."""

    async def scenario() -> None:
        scene = await shop(only("web", "good"))
        book, counted = scene.agent.policing.book, scene.firewall.counted
        accept, deny = (
            next(each.name for each in book.compiling.counted() if each.default is default)
            for default in (False, True)
        )
        accepted = '{kind="NetworkPolicy",policy="shop/web",direction="ingress",action="accept"}'
        denied = '{policies="shop/web",direction="ingress"}'
        counted |= {accept: 5, deny: 7}
        await asyncio.sleep(EVERY)
        assert sample(scene, "l3net_policy_packets_total") == {accepted: 5}
        assert sample(scene, "l3net_policy_denied_packets_total") == {denied: 7}
        scene.firewall.flush()  # and it is made anew, with counters of 0
        await asyncio.sleep(1)
        assert scene.firewall.replaced == 2 and not counted
        counted |= {accept: 9, deny: 1}
        scene.firewall.failing = KernelError("counters", 5)
        await asyncio.sleep(EVERY)
        assert sample(scene, "l3net_policy_packets_total") == {accepted: 5}
        assert any("counters of policies" in each for each in scene.problems())
        scene.firewall.failing = None
        await asyncio.sleep(EVERY)
        assert sample(scene, "l3net_policy_packets_total") == {accepted: 14}
        assert sample(scene, "l3net_policy_denied_packets_total") == {denied: 8}
        counted[accept] = 10
        shown = await asked(scene, 'show {"name": "shop/web"}')
        assert shown["packets"] == [{"direction": "ingress", "action": "accept", "packets": 15}]
        assert shown["notAccepted"] == [
            {"direction": "ingress", "policies": ["NetworkPolicy shop/web"], "packets": 8}
        ]
        scene.firewall.failing = KernelError("counters", 5)
        await asyncio.sleep(EVERY)
        scene.datastore.delete(only("web", "good"))
        scene.firewall.failing = None
        await asyncio.sleep(EVERY + 1)
        assert sample(scene, "l3net_policy_packets_total") == {}
        assert not scene.problems(), "with nothing left to count no problem of counting is"

    simulate(scenario())


def test_status_and_answers() -> None:
    async def scenario() -> None:
        scene = await shop(only("web", "good"), admin("guard", "Deny"))
        found = scene.status()["policy"]
        assert (found["policies"], found["pods"], found["podsWithPolicies"]) == (2, 1, 1)
        assert (found["refused"], found["waiting"]) == ("", [])
        assert sample(scene, "l3net_policies")[""] == 2 and sample(scene, "l3net_policy_pods")[""] == 1
        assert sample(scene, "l3net_policy_selections")[""] == 2
        assert sample(scene, "l3net_policy_elements")[""] >= 6
        assert sample(scene, "l3net_policy_change_seconds_count")[""] >= 1
        listed = (await asked(scene, "list"))["policies"]
        assert [(row["name"], row["pods"]) for row in listed] == [
            ("guard", ["shop/web"]),
            ("web", ["shop/web"]),
        ]
        answer = await asked(scene, 'test {"source": "shop/client", "destination": "shop/web"}')
        ends = [(each["source"]["node"], each["destination"]["node"]) for each in answer["connections"]]
        assert not answer["allowed"] and ends == [("n2", "n1")] * 2
        assert [each["node"] for each in answer["connections"][0]["decisions"]] == ["n2", "n1"]
        cells = (await asked(scene, 'matrix {"namespace": "shop", "port": "53/udp"}'))["rows"]
        assert {row["from"] for row in cells} == {"web", "client", "outside"}
        for wrong in ("nonsense", "test [1]", "test {", 'test {"source": "x"}', 'show {"name": "x"}', ""):
            assert (await asked(scene, wrong))["error"]

    simulate(scenario())


def test_what_is_not_known_is_said() -> None:
    """Where no policy is declared, a cluster's agent knows the pods of its own node alone."""

    async def scenario() -> None:
        scene = await shop()
        object.__setattr__(scene.agent.shells, "declares_pods", True)
        answer = await asked(scene, 'test {"source": "shop/web", "destination": "shop/elsewhere"}')
        assert "follows the pods of its own node alone" in answer["error"]
        answer = await asked(scene, 'test {"source": "shop/web", "destination": "shop/client"}')
        assert "follows the pods of its own node alone" in answer["notes"][0] and answer["allowed"]
        assert sample(scene, "l3net_policies")[""] == 0

    simulate(scenario())


def test_packets() -> None:
    found = seen(packet(4, 6, 1, 2))
    assert found is not None and (found.protocol, found.source_port, found.port) == ("tcp", 1, 2)
    fragment = bytearray(packet(4, 17, 1, 2))
    fragment[7] = 1
    found = seen(bytes(fragment))
    assert found is not None and (found.protocol, found.port) == ("udp", 0)
    plain = packet(6, 132, 3, 4)
    options = plain[:6] + b"\x00" + plain[7:40] + bytes((44, 0)) + bytes(6)  # hop-by-hop, then a fragment
    found = seen(options + bytes((132, 0, 0, 1)) + bytes(4) + plain[40:])
    assert found is not None and (found.protocol, found.source_port, found.port) == ("sctp", 3, 4)
    for cut in range(40):
        assert seen(plain[:cut]) is None
    assert seen(packet(4, 89, 0, 0)).protocol == "89"  # type: ignore[union-attr]
    assert [seen(each) for each in (b"", b"\x00" * 60, b"\x45" * 19)] == [None] * 3
