"""A whole agent on a simulated node: policies, pods that wait for them, and connections that they end."""

from __future__ import annotations

import asyncio

import pytest
from fate import DRAINING, WEB
from scene import CONFIGURATION, LEARNED, NODE, TOR4, TOR6, Scene
from sim_node import endpoints, service
from sim_policies import (
    BAD,
    GOOD,
    WEB_POD,
    PolicyFate,
    addresses_in,
    attached,
    connection,
    of_policies,
    one_pod_an_address,
    pod,
    policy,
    refusing_policies,
    wanted,
)
from simloop import simulate

from l3net.firewall.policy import ENDED_FOR

PODS = (pod("web", app="web", on="n1"), pod("good", GOOD, role="good"), pod("bad", BAD, role="bad"))
ONLY_GOOD = policy("web", {"app": "web"}, {"role": "good"})
OWN = attached("web", WEB_POD)


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("first", ["policy", "pod"])
def test_a_policy_is_in_force_whichever_comes_first(first: str) -> None:
    """The pod's ADD goes on when its policies are in the table; a policy that comes later finds the pod."""

    async def scenario() -> None:
        scene = Scene(declares_pods=True)
        await scene.ready(*PODS)
        if first == "policy":
            scene.datastore.apply(ONLY_GOOD)
            await asyncio.sleep(0.001)  # it is heard of, and no more
            assert not addresses_in(scene, "ingress4")
        assert await scene.pods.add("web", OWN) == ""
        assert (WEB_POD in addresses_in(scene, "ingress4")) is (first == "policy"), "before the pod is wired"
        if first == "pod":
            scene.datastore.apply(ONLY_GOOD)
            await asyncio.sleep(0.2)
            assert WEB_POD in addresses_in(scene, "ingress4")
        assert of_policies(scene) == wanted(scene)
        (peers,) = (held for name, held in scene.firewall.table.sets.items() if name.startswith("peers4"))
        assert peers == {GOOD}
        replaced = scene.firewall.replaced
        scene.pods.delete("web")
        scene.datastore.delete(PODS[1])
        await asyncio.sleep(0.2)
        assert of_policies(scene) == wanted(scene) and not addresses_in(scene, "ingress4")
        assert scene.firewall.replaced == replaced, "by what has changed alone"

    simulate(scenario())


@pytest.mark.parametrize(("comes", "uid"), [(3.0, "new"), (None, ""), (3.0, "old")])
def test_a_pod_waits_for_its_labels(comes: float | None, uid: str) -> None:
    """Five seconds, for the labels of this very pod: those of an older one of its name are none."""

    async def scenario() -> None:
        scene = Scene(declares_pods=True)
        await scene.ready(*PODS[1:], ONLY_GOOD, pod("web", app="other", on="n1", uid="older"))
        began = now()
        adding = asyncio.create_task(scene.pods.add("web", OWN, "new"))
        if comes is not None:
            await asyncio.sleep(comes)
            assert not adding.done()
            scene.datastore.apply(pod("web", app="web", on="n1", uid=uid))
        why = await adding
        if uid == "new":
            assert why == "" and comes is not None and now() - began < comes + 0.5
            assert WEB_POD in addresses_in(scene, "ingress4")
        else:
            assert "has not reported pod default/web" in why and 5 <= now() - began < 5.5
            await asyncio.sleep(0.2)
            assert WEB_POD not in addresses_in(scene, "ingress4")
        assert of_policies(scene) == wanted(scene)

    simulate(scenario())


@pytest.mark.parametrize("declares", [True, False])
def test_where_no_policy_can_be_for_it_nobody_waits(declares: bool) -> None:
    """The control; and a directory, which may not know of every pod, is not waited for."""

    async def scenario() -> None:
        scene = Scene(declares_pods=declares)
        await scene.ready(*() if declares else (ONLY_GOOD,))
        began = now()
        assert await scene.pods.add("web", attached("web", WEB_POD, app="web")) == ""
        assert now() - began < 0.5
        await asyncio.sleep(0.2)
        assert (WEB_POD in addresses_in(scene, "ingress4")) is not declares
        assert of_policies(scene) == wanted(scene)

    simulate(scenario())


def test_an_agent_that_has_not_heard_of_everything_lets_nobody_in() -> None:
    async def scenario() -> None:
        scene = Scene(declares_pods=True)
        await scene.ready(*PODS, ONLY_GOOD)
        await scene.kill()
        scene.datastore.away = True
        scene.start()
        await asyncio.sleep(1)
        why = await scene.pods.add("web", OWN)
        assert why and not scene.pods.wired
        scene.datastore.away = False
        await asyncio.sleep(3)
        assert await scene.pods.add("web", OWN) == "" and of_policies(scene) == wanted(scene)

    simulate(scenario())


def test_policies_that_nft_refuses_leave_those_before_in_force() -> None:
    """The rest of the table is followed, a pod that they are for is not let in; afterwards all is well."""

    async def scenario() -> None:
        scene = Scene(declares_pods=True)
        await scene.ready(*PODS, ONLY_GOOD, *WEB)
        assert await scene.pods.add("web", OWN) == ""
        before = of_policies(scene)
        scene.firewall.refuses = refusing_policies
        scene.datastore.apply(policy("more", {"app": "web"}, {"role": "bad"}), service("dns", "10.96.0.20"))
        scene.datastore.apply(endpoints("dns", "10.244.1.9"))
        await asyncio.sleep(1)
        assert of_policies(scene) == before and "10.96.0.20" in scene.firewall.text
        assert any("policy: nft cannot change" in each for each in scene.problems())
        scene.datastore.apply(pod("other", app="web", on="n1"))
        why = await scene.pods.add("other", attached("other", "10.244.1.10"))
        assert "not in force" in why and "10.244.1.10" not in addresses_in(scene, "ingress4")
        scene.firewall.refuses = lambda _text: None
        await asyncio.sleep(61)
        assert not scene.problems() and of_policies(scene) == wanted(scene)
        assert await scene.pods.add("other", attached("other", "10.244.1.10")) == ""

    simulate(scenario())


def test_pods_with_policies_are_held_while_a_table_made_anew_cannot_have_them() -> None:
    async def scenario() -> None:
        scene = Scene(declares_pods=True)
        await scene.ready(*PODS, ONLY_GOOD, *WEB)
        for name, address in (("web", WEB_POD), ("free", "10.244.1.11")):
            scene.datastore.apply(pod("free", on="n1"))
            assert await scene.pods.add(name, attached(name, address)) == ""
        scene.firewall.refuses = refusing_policies
        scene.firewall.flush()
        await asyncio.sleep(1)
        table = scene.firewall.table
        assert table.sets["held4"] == {WEB_POD} and "policy-held" in table.chains
        assert table.chains["policy-held"][-1].endswith("drop") and "10.96.0.10" in scene.firewall.text
        scene.firewall.refuses = lambda _text: None
        await asyncio.sleep(61)
        assert not scene.problems() and of_policies(scene) == wanted(scene)

    simulate(scenario())


@pytest.mark.parametrize("late", [0.0, 20.0])
def test_a_restart_keeps_what_is_in_force(late: float) -> None:
    """Also while the API is away; what changed meanwhile is followed in one transaction."""

    async def scenario() -> None:
        scene = Scene(declares_pods=True)
        await scene.ready(*PODS, ONLY_GOOD)
        assert await scene.pods.add("web", OWN) == ""
        before = of_policies(scene)
        assert before == wanted(scene) and before["chains"]
        await scene.kill()
        scene.datastore.away = bool(late)
        seen = []
        apply = scene.firewall.apply

        def watched(ruleset: str) -> None:
            apply(ruleset)
            seen.append(of_policies(scene))

        scene.firewall.apply = watched  # type: ignore[method-assign]
        scene.start()
        await asyncio.sleep(late)
        assert of_policies(scene) == before
        scene.datastore.away = False
        await asyncio.sleep(3)
        assert of_policies(scene) == before and all(each == before for each in seen)

    simulate(scenario())


def test_what_a_policy_forbids_ends_and_nothing_else() -> None:
    async def scenario() -> None:
        scene = Scene(declares_pods=True)
        await scene.ready(*PODS)
        assert await scene.pods.add("web", OWN) == ""
        lost = [
            connection(BAD, WEB_POD, 80),
            connection(GOOD, WEB_POD, 443),
            connection("198.51.100.1", WEB_POD, 53, 17),
        ]
        kept = [
            connection(GOOD, WEB_POD, 80),
            connection(WEB_POD, BAD, 80),  # no policy for what it begins
            connection("10.0.0.2", WEB_POD, 80),  # the node itself
            connection("fd00::2", WEB_POD.replace("10.244.1.9", "fd00:244:1::9"), 80),
            connection(BAD, GOOD, 80),  # neither is here
        ]
        scene.firewall.connections = [*lost, *kept]
        scene.datastore.apply(ONLY_GOOD)
        await asyncio.sleep(1)
        assert scene.firewall.ended == lost and scene.firewall.connections == kept
        assert addresses_in(scene, "ended4") == {BAD, GOOD, WEB_POD}, "both ends of TCP are told"
        scene.datastore.apply(pod("good", GOOD, role="bad"))  # other labels: it is none of the peers any more
        await asyncio.sleep(1)
        assert scene.firewall.ended == [*lost, kept[0]]

    simulate(scenario())


def test_what_a_pod_that_is_gone_leaves_behind_ends_a_little_later() -> None:
    """Nobody goes on with it; who is given its address does not inherit it."""

    async def scenario() -> None:
        scene = Scene(declares_pods=True)
        await scene.ready(*PODS, ONLY_GOOD)
        assert await scene.pods.add("web", OWN) == ""
        await asyncio.sleep(1)
        left = connection(GOOD, WEB_POD, 80)
        scene.firewall.connections = [left]
        scene.datastore.delete(PODS[1])
        await asyncio.sleep(1)
        assert not scene.firewall.ended
        scene.datastore.apply(pod("young", GOOD, role="other"))
        await asyncio.sleep(0.5)
        assert scene.firewall.ended == [left]
        scene.firewall.connections = [left]
        scene.datastore.apply(pod("young", GOOD, role="good"))
        await asyncio.sleep(1)
        scene.datastore.delete(pod("young"))
        await asyncio.sleep(15)
        assert scene.firewall.ended == [left, left]

    simulate(scenario())


def test_a_peer_that_comes_is_no_reason_to_look_unless_it_may_be_refused() -> None:
    async def scenario() -> None:
        scene = Scene(declares_pods=True)
        await scene.ready(*PODS, ONLY_GOOD)
        assert await scene.pods.add("web", OWN) == ""
        await asyncio.sleep(2 * ENDED_FOR)  # what began while there was no table has been looked for
        asked = []
        of = scene.firewall.of

        def watched(addresses):  # type: ignore[no-untyped-def]
            asked.append(addresses)
            return of(addresses)

        scene.firewall.of = watched  # type: ignore[method-assign]
        scene.datastore.apply(pod("more", "10.244.2.99", role="good"))
        await asyncio.sleep(20)
        assert not asked and "10.244.2.99" in scene.firewall.text
        scene.datastore.apply(pod("more", "10.244.2.99", role="bad"))
        await asyncio.sleep(1)
        assert [sorted(map(str, each)) for each in asked] == [["10.244.2.99"]]

    simulate(scenario())


def as_declared(seed: int) -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready(*WEB, *PODS, ONLY_GOOD)
        fate = PolicyFate(scene, seed)
        for _ in range(16):
            await fate.happens()
        scene.datastore.apply(NODE, CONFIGURATION, TOR4, TOR6, *WEB)
        one_pod_an_address(scene)
        await asyncio.sleep(400)
        assert of_policies(scene) == wanted(scene)
        assert scene.learned() == LEARNED and not scene.problems()
        assert scene.heard(scene.tor4) == set(DRAINING) and "10.96.0.10" in scene.firewall.text

    simulate(scenario())


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_policies_end_as_declared(seed: int) -> None:
    as_declared(seed)


@pytest.mark.soak
@pytest.mark.parametrize("hundred", range(1, 21))
def test_whatever_happens_to_policies_for_longer(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        try:
            as_declared(seed)
        except AssertionError as err:
            raise AssertionError(f"seed {seed}") from err
