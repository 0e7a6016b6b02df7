"""A whole agent on a simulated node: what began while its table was gone is ended, whatever happens then."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Collection, Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest
from scene import Scene
from sim_policies import BAD, GOOD, WEB_POD, attached, pod, policy
from simloop import simulate

from l3net.errors import KernelError, RefusedError
from l3net.model import Address, Tracked

WEB6, GOOD6, BAD6 = "fd00:244:1::9", "fd00:244:2::8", "fd00:244:2::7"
PODS = (
    pod("web", app="web", on="n1"),
    pod("good", GOOD, GOOD6, role="good"),
    pod("bad", BAD, BAD6, role="bad"),
)
ONLY_GOOD = policy("web", {"app": "web"}, {"role": "good"})
TCP, UDP = 6, 17
ENDS = {4: (BAD, WEB_POD), 6: (BAD6, WEB6)}


def flow(source: str, destination: str, protocol: int, port: int = 80, source_port: int = 40000) -> Tracked:
    return Tracked(protocol, ip_address(source), source_port, ip_address(destination), port)


async def with_policy() -> Scene:
    scene = Scene(declares_pods=True)
    await scene.ready(*PODS, ONLY_GOOD)
    assert await scene.pods.add("web", attached("web", WEB_POD, WEB6)) == ""
    await asyncio.sleep(1)
    return scene


def fails_once(scene: Scene, err: Exception) -> list[Exception]:
    """The next look at connections; what is left to come."""
    left, real = [err], scene.firewall.of

    def of(addresses: Collection[Address]) -> Sequence[Tracked]:
        if left:
            raise left.pop()
        return real(addresses)

    scene.firewall.of = of  # type: ignore[method-assign]
    return left


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize(
    "then", ["nothing", "restart", "KernelError", "MemoryError", "RuntimeError", "refusal"]
)
def test_what_began_while_the_table_was_gone_ends(then: str, protocol: int, version: int) -> None:
    """Also where the agent dies before it has looked, where the first look fails, by whatever it may be, and
    where nft does not take what is to be known of it."""

    async def scenario() -> None:
        scene = await with_policy()
        bad, web = ENDS[version]
        forbidden, kept = flow(bad, web, protocol), flow(GOOD, WEB_POD, TCP)
        scene.firewall.connections = [forbidden, kept]
        left: list[Exception] = []
        if then.endswith("Error"):
            errors = {"KernelError": KernelError("list", errno.ENOBUFS), "MemoryError": MemoryError()}
            left = fails_once(scene, errors.get(then, RuntimeError("can't start new thread")))
        elif then == "refusal":
            full = RefusedError("nft cannot change it (Too many open files in system)", errno.ENFILE)
            scene.firewall.refuses = lambda text: (
                full if f"element inet l3net {SETS[protocol]}" in text else None
            )
        scene.firewall.flush()
        if then == "restart":
            await asyncio.sleep(0.03)
            await scene.kill()
            assert scene.firewall.connections == [forbidden, kept], "nobody has looked"
            scene.start()
        await asyncio.sleep(3)
        assert scene.firewall.connections == [kept] and not left
        if then != "refusal":
            assert (
                f"{web} . 80 . {bad} . 40000"
                in scene.firewall.text.partition(SETS[protocol] + str(version))[2]
            )

    simulate(scenario())


SETS = {TCP: "ended", UDP: "late"}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("heard", [0.0, 2.0])
def test_of_two_ends_that_may_have_begun_it_neither_goes_on(
    heard: float, protocol: int, version: int
) -> None:
    """What was seen first of it is the answer: after a while without the table, and never else."""

    async def scenario() -> None:
        scene = await with_policy()
        bad, web = ENDS[version]
        answer = replace(flow(web, bad, protocol, 40000, 80), unsure=True)
        sure = flow(web, bad, protocol, 40001, 80)
        scene.firewall.connections = [answer, sure]
        await scene.kill()
        scene.start()
        await asyncio.sleep(5)
        assert scene.firewall.connections == [answer, sure], "an agent that restarts interrupts nothing"
        scene.firewall.connections = [sure]
        scene.firewall.flush()
        await asyncio.sleep(heard)
        scene.firewall.connections.append(answer)
        await asyncio.sleep(5)
        assert scene.firewall.connections == [sure]
        if protocol == UDP:
            assert f"{web} . 80 . {bad} . 40000 timeout 2s" in scene.firewall.text
        # Who goes on has begun it, and what begins much later has been seen from its beginning.
        scene.firewall.connections.append(answer)
        await asyncio.sleep(20)
        assert scene.firewall.connections == [sure, answer]

    simulate(scenario())
