"""The controller on an API server: blocks, addresses, statuses, restarts, rivals and refusals."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest
from apiserver import FakeApiServer
from controller_rig import (
    NAMESPACE,
    Always,
    Running,
    assert_no_overlap,
    balancer,
    blocks,
    both,
    ingress,
    ledger,
    node,
    pool,
    until,
    with_sessions,
)
from kube_follower import configuration, network_policy, own, pod

from l3net.controller.decide import Settings

Start = Callable[..., Running]


def events(api: FakeApiServer, reason: str) -> list[str]:
    return [each["message"] for each in api.objects("Event") if each["reason"] == reason]


@both
def test_nodes_get_pod_cidrs_of_both_families(api: FakeApiServer, start: Start) -> None:
    api.put(pool("four", "10.244.0.0/16"), pool("six", "fd00:10:244::/112"), node("a", "10.0.0.1"))
    api.put(node("b", "fd00::1"))
    start()
    until(lambda: blocks(api, "a") and blocks(api, "b"), "blocks")
    spec = api.get("Node", "a")["spec"]
    assert spec["podCIDR"] == "10.244.0.0/24"
    assert spec["podCIDRs"] == ["10.244.0.0/24", "fd00:10:244::/120"]
    assert blocks(api, "b")[0] == "fd00:10:244::100/120", "the family of its first address comes first"
    api.put(node("c"))
    until(lambda: blocks(api, "c") == ["10.244.2.0/24", "fd00:10:244::200/120"], "a node that joins")


@both
def test_a_node_that_fills_up_gets_more_by_annotation(api: FakeApiServer, start: Start) -> None:
    api.put(pool("four", "10.244.0.0/16"), node("a"))
    start()
    until(lambda: blocks(api, "a"), "the first block")
    found = api.get("Node", "a")
    found["metadata"].setdefault("annotations", {})["l3net.io/wants-blocks"] = "IPv4=3"
    api.put(found)
    until(lambda: blocks(api, "a") == ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"], "two more")
    assert api.get("Node", "a")["spec"]["podCIDRs"] == ["10.244.0.0/24"], "podCIDRs are immutable"


@both
def test_pod_cidrs_of_the_cluster_stay(api: FakeApiServer, start: Start) -> None:
    api.put(pool("four", "10.244.0.0/16"), pool("six", "fd00:10:244::/112"))
    api.put(node("a", podCIDR="192.168.0.0/24", podCIDRs=["192.168.0.0/24"]), node("b"))
    start()
    until(lambda: blocks(api, "a") == ["192.168.0.0/24", "fd00:10:244::/120"], "an IPv6 block beside")
    until(
        lambda: blocks(api, "b") == ["fd00:10:244::100/120"], "no IPv4 block for b, which the cluster gives"
    )


def test_no_blocks(api: FakeApiServer, start: Start) -> None:
    api.put(
        pool("four", "10.244.0.0/16"), node("a"), pool("lb", "192.0.2.0/28", allowedUses=["LoadBalancer"])
    )
    api.put(balancer("s"))
    start(settings=Settings(give_blocks=False))
    until(lambda: ingress(api, "s"), "an address")
    assert blocks(api, "a") == []


@both
def test_load_balancers(api: FakeApiServer, start: Start) -> None:
    api.put(pool("lb", "192.0.2.0/28", allowedUses=["LoadBalancer"]), balancer("s"), balancer("t"))
    running = start()
    until(lambda: ingress(api, "s") == ["192.0.2.1"] and ingress(api, "t") == ["192.0.2.2"], "addresses")
    status = until(lambda: (api.get("IPPool", "lb") or {}).get("status"), "the pool's status")
    assert (status["used"], status["free"]) == (2, 13)
    api.remove("Service", "s", "default")
    api.put(balancer("u"))
    until(lambda: ingress(api, "u") == ["192.0.2.1"], "the address that is free again")
    api.put(balancer("v", {"l3net.io/load-balancer-ips": "192.0.2.9"}))
    until(lambda: ingress(api, "v") == ["192.0.2.9"], "the address asked for")
    api.put(balancer("w", {"l3net.io/load-balancer-ips": "192.0.2.9"}))
    until(lambda: events(api, "AddressInUse"), "an Event")
    assert ingress(api, "w") == []
    until(lambda: running.controller.passes, "passes")
    assert running.controller.problem == ""


@both
def test_an_address_that_nobody_announces_is_named(api: FakeApiServer, start: Start) -> None:
    allowed = {"enabled": True, "cidrs": ["192.0.2.8/29"]}
    api.put(
        pool("lb", "192.0.2.0/28", allowedUses=["LoadBalancer"]),
        configuration(advertise={"loadBalancerIPs": allowed}),
        balancer("out", {"l3net.io/load-balancer-ips": "192.0.2.1"}),
        balancer("in", {"l3net.io/load-balancer-ips": "192.0.2.9"}),
        balancer("other", {"l3net.io/load-balancer-ips": "192.0.2.10"}, externalIPs=["198.51.100.1"]),
    )
    start()
    until(lambda: len(events(api, "NotAdvertised")) == 1, "the load-balancer address outside the list")
    [message] = events(api, "NotAdvertised")
    assert "192.0.2.1 (loadBalancerIP) is announced by no node: outsideAllowList" in message
    open_to_others = {"enabled": True, "cidrs": ["203.0.113.0/24"]}
    api.put(configuration(advertise={"loadBalancerIPs": allowed, "externalIPs": open_to_others}))
    until(lambda: any("198.51.100.1" in each for each in events(api, "NotAdvertised")), "the external one")
    assert not any("192.0.2.9" in each or "192.0.2.10" in each for each in events(api, "NotAdvertised"))
    # Two that claim one address and port: the younger is told, whatever their names.
    rivals = {"externalIPs": ["203.0.113.7"], "ports": [{"port": 80}]}
    old, new = balancer("z-shop", **rivals), balancer("a-evil", **rivals)
    old["metadata"]["creationTimestamp"] = "2024-01-01T00:00:00Z"
    new["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    api.put(old, new)
    [message] = until(lambda: events(api, "ConflictingService"), "an Event about the younger")
    assert message == (
        "203.0.113.7 (externalIP): port 80/TCP is answered for default/z-shop, which had it first"
    )


@both
def test_overlapping_pools_are_named_and_the_rest_goes_on(api: FakeApiServer, start: Start) -> None:
    api.put(pool("a", "10.1.0.0/16"), pool("b", "10.1.128.0/17"), pool("c", "10.2.0.0/16"), node("n"))
    start()
    until(lambda: blocks(api, "n") == ["10.2.0.0/24"], "a block of the pool that is right")
    for name, other in (("a", "pool b"), ("b", "pool a")):
        status = until(lambda name=name: (api.get("IPPool", name) or {}).get("status"), "a condition")
        [condition] = status["conditions"]
        assert (condition["type"], condition["status"]) == ("Ready", "False")
        assert condition["reason"] == "PoolOverlapsPool"
        assert other in condition["message"]
    assert (
        len(
            until(
                lambda: len(events(api, "PoolOverlapsPool")) == 2 and events(api, "PoolOverlapsPool"),
                "Events",
            )
        )
        == 2
    )
    api.remove("IPPool", "b")
    until(lambda: api.get("IPPool", "a")["status"]["conditions"][0]["status"] == "True", "a is well again")


@both
def test_blocks_of_a_deleted_node_after_the_grace_time(api: FakeApiServer, start: Start) -> None:
    api.put(pool("four", "10.244.0.0/23"), node("a"), node("b"))
    running = start()
    until(lambda: blocks(api, "a") and blocks(api, "b"), "both blocks")
    api.remove("Node", "a")
    api.put(node("c"))
    until(lambda: events(api, "NoBlockFree"), "c to be told that nothing is free")
    assert blocks(api, "c") == [], "the control: not before the grace time"
    until(lambda: running.controller._absent, "the absence to be noticed")
    running.advance(301)
    until(lambda: blocks(api, "c") == ["10.244.0.0/24"], "the freed block")


@both
def test_a_node_back_in_time_has_its_block_again(api: FakeApiServer, start: Start) -> None:
    api.put(pool("four", "10.244.0.0/16"), node("a"), node("b"))
    start()
    until(lambda: blocks(api, "a") and blocks(api, "b"), "blocks")
    api.remove("Node", "b")
    api.put(node("c"))
    until(lambda: blocks(api, "c") == ["10.244.2.0/24"], "another block for c")
    api.put(node("b"))
    until(lambda: blocks(api, "b") == ["10.244.1.0/24"], "its own block for b")


@both
def test_restart_frees_nothing_early_and_moves_nothing(api: FakeApiServer, start: Start) -> None:
    api.put(
        pool("four", "10.244.0.0/23"),
        node("a"),
        node("b"),
        pool("lb", "192.0.2.0/28", allowedUses=["LoadBalancer"]),
    )
    api.put(balancer("s"), balancer("t"))
    first = start()
    until(lambda: blocks(api, "a") and blocks(api, "b") and ingress(api, "s") and ingress(api, "t"), "all")
    api.remove("Node", "a")
    first.stop()
    before = ledger(api)
    api.put(node("c"))
    second = start("two")
    until(lambda: second.controller.passes, "a pass of the second")
    assert ledger(api) == before
    assert blocks(api, "c") == []
    assert blocks(api, "b") == ["10.244.1.0/24"]


@both
def test_a_lost_ledger_is_made_again(api: FakeApiServer, start: Start) -> None:
    api.put(pool("four", "10.244.0.0/16"), *(node(f"n{index}") for index in range(5)))
    first = start()
    until(lambda: all(blocks(api, f"n{index}") for index in range(5)), "blocks")
    first.stop()
    before = ledger(api)
    api.remove("ConfigMap", "l3net-ledger", NAMESPACE)
    start("two")
    until(lambda: ledger(api) == before, "the ledger as it was")


def test_a_ledger_nobody_can_read_stops_assignment_and_says_so(api: FakeApiServer, start: Start) -> None:
    broken = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "l3net-ledger", "namespace": NAMESPACE},
    }
    api.put({**broken, "data": {"blocks": "what is this\n"}}, pool("four", "10.244.0.0/16"), node("a"))
    running = start()
    until(lambda: "ledger, blocks, line 1" in running.controller.problem, "the problem")
    assert blocks(api, "a") == []
    api.put({**broken, "data": {}})
    until(lambda: blocks(api, "a"), "a block once it is mended")


def test_the_second_pass_writes_nothing(api: FakeApiServer, start: Start) -> None:
    api.put(
        pool("four", "10.244.0.0/16"),
        node("a"),
        pool("lb", "192.0.2.0/28", allowedUses=["LoadBalancer"]),
        balancer("s"),
    )
    running = start()
    until(lambda: blocks(api, "a") and ingress(api, "s"), "everything")
    until(lambda: (api.get("IPPool", "lb") or {}).get("status", {}).get("used") == 1, "the status")

    def one_more_pass() -> None:
        count = running.controller.passes
        running.advance(0)
        until(lambda: running.controller.passes > count, "another pass")

    def writes() -> int:
        changing = ("create", "update", "patch")
        return sum(
            number
            for call, number in api.calls.items()
            if call.verb in changing and call.resource != "leases"
        )

    one_more_pass()
    one_more_pass()
    before = writes()
    one_more_pass()
    assert writes() == before


@both
def test_only_one_writes_and_another_takes_over(api: FakeApiServer, start: Start) -> None:
    api.put(pool("four", "10.244.0.0/16"), node("a"))
    one = start("one")
    until(lambda: blocks(api, "a"), "a block")
    two = start("two")
    until(lambda: two.controller.in_sync and two.election.holder == "one", "the second to stand by")
    assert not two.controller.leading and two.controller.passes == 0
    one.stop()  # lets the lease go
    api.put(node("b"))
    until(lambda: blocks(api, "b") == ["10.244.1.0/24"], "the second to go on")
    lease = api.get("Lease", "l3net-controller", NAMESPACE)
    assert lease["spec"]["holderIdentity"] == "two"
    assert lease["spec"]["acquireTime"] <= lease["spec"]["renewTime"]


def test_refusals_are_retried_and_do_not_stop_the_rest(api: FakeApiServer, start: Start) -> None:
    api.put(
        pool("four", "10.244.0.0/16"),
        node("a"),
        pool("lb", "192.0.2.0/28", allowedUses=["LoadBalancer"]),
        balancer("s"),
    )
    api.refuse(500, verb="patch", resource="nodes")
    running = start()
    until(lambda: ingress(api, "s"), "the service's address")
    until(lambda: "nodes/a" in running.controller.problem, "the problem")
    assert blocks(api, "a") == []
    api.allow()
    until(lambda: blocks(api, "a"), "the block")


@both
def test_conflicting_writes_are_read_again(api: FakeApiServer, start: Start) -> None:
    api.put(pool("four", "10.244.0.0/16"))
    start()
    ending = threading.Event()

    def heartbeat() -> None:
        pause = 0.01
        while not ending.wait(pause):
            for found in api.objects("Node"):
                api.touch("Node", found["metadata"]["name"])
            pause *= 1.1  # on a busy machine a write takes long: sooner or later one has the time

    thread = threading.Thread(target=heartbeat)
    thread.start()
    try:
        api.put(*(node(f"n{index}") for index in range(20)))
        until(lambda: all(blocks(api, f"n{index}") for index in range(20)), "blocks despite heartbeats")
    finally:
        ending.set()
        thread.join()
    assert_no_overlap(api)


@both
@pytest.mark.parametrize("seed", range(3))
def test_two_that_both_think_they_lead_give_nothing_twice(
    api: FakeApiServer, start: Start, seed: int
) -> None:
    """The lease is beside the point: what holds is the ledger's compare-and-swap."""
    draw = random.Random(seed)
    api.put(pool("four", "10.244.0.0/20"), pool("lb", "192.0.2.0/26", allowedUses=["LoadBalancer"]))
    rivals = [start(name, election=Always) for name in ("one", "two", "three")]
    names: set[str] = set()
    for _ in range(40):
        kind = draw.choice(["Node", "Service"])
        name = f"{kind.lower()}{draw.randrange(14)}"
        if name in names and draw.random() < 0.3:
            api.remove(kind, name, "default" if kind == "Service" else "")
            names.discard(name)
        elif name not in names:
            api.put(node(name) if kind == "Node" else balancer(name))
            names.add(name)
        if draw.random() < 0.1:
            draw.choice(rivals).advance(400)
        assert_no_overlap(api)
    for rival in rivals:
        rival.advance(0)
    until(
        lambda: all(blocks(api, name) if name.startswith("node") else ingress(api, name) for name in names),
        "everything to be given",
        60,
    )
    assert_no_overlap(api)
    held = ledger(api)
    for name in names:
        given = blocks(api, name) if name.startswith("node") else ingress(api, name)
        assert held[name if name.startswith("node") else f"default/{name}"] == ",".join(given)


def test_contradictions_are_told_at_both_objects(api: FakeApiServer, start: Start) -> None:
    one = {"spec": {"podCIDRs": ["192.168.0.0/24"], "podCIDR": "192.168.0.0/24"}}
    api.put({**node("a", "10.0.0.1"), **one}, {**node("b", "10.0.0.1"), **one})
    tor = with_sessions("tor", "a")
    tor["spec"]["filters"] = ["no-cleint"]
    api.put(tor, with_sessions("well", "a"))
    running = start()

    def condition(name: str) -> dict[str, str]:
        found = (api.get("BGPPeer", name) or {}).get("status", {}).get("conditions", [])
        return next((each for each in found if each["type"] == "ResolvedRefs"), {})

    until(lambda: condition("tor").get("status") == "False", "the condition")
    assert condition("tor")["reason"] == "MissingFilter"
    until(lambda: len(events(api, "AddressShared")) == 2, "both Nodes to be told of the address")
    until(lambda: len(events(api, "BlocksOverlap")) == 2, "and of the block")
    until(lambda: events(api, "MissingFilter"), "the Event")
    api.put(own("BGPFilter", "no-cleint"))
    until(lambda: condition("tor").get("status") == "True", "the condition to be mended")
    assert condition("well") == {}, "that all is well is no news"
    assert not running.controller.problem


def test_a_pool_that_is_deleted_leaves_its_blocks_ours(api: FakeApiServer, start: Start) -> None:
    api.put(pool("four", "10.244.0.0/16"), node("a"))
    running = start()
    until(lambda: blocks(api, "a"), "a block")
    api.remove("IPPool", "four")
    api.put(node("b"))
    until(lambda: events(api, "PoolGone"), "the Event")
    until(lambda: any("IPPool four is gone" in text for text in events(api, "NoBlockFree")), "what b lacks")
    running.stop()
    start("two")  # what a controller believed is not needed: the ledger is the proof
    api.put(pool("new", "10.245.0.0/16"), node("c"))
    until(lambda: blocks(api, "b") and blocks(api, "c"), "blocks of another pool")
    assert blocks(api, "a") == ["10.244.0.0/24"]
    assert blocks(api, "b")[0].startswith("10.245.")


def test_a_policy_that_is_for_no_pod_is_told_so(api: FakeApiServer, start: Start) -> None:
    api.put(network_policy("typo", podSelector={"matchLabels": {"app": "wbe"}}), network_policy("good"))
    api.put(pod("web", "10.244.1.5", app="web"))
    running = start()
    until(lambda: running.controller.passes, "the first pass")
    assert not events(api, "SelectsNoPods")
    running.advance(30)
    until(lambda: running.controller.passes > 1, "a pass")
    running.advance(60)
    until(lambda: events(api, "SelectsNoPods"), "the Event")
    [event] = [each for each in api.objects("Event") if each["reason"] == "SelectsNoPods"]
    assert event["involvedObject"]["name"] == "typo"
    assert event["involvedObject"]["apiVersion"] == "networking.k8s.io/v1"


@both
def test_events_are_those_of_their_object_as_kubectl_looks_for_them(api: FakeApiServer, start: Start) -> None:
    """`kubectl describe` asks for the Events with the object's own uid."""
    api.put(pool("lb", "192.0.2.0/31", allowedUses=["LoadBalancer"]), balancer("s"))
    start()
    until(lambda: ingress(api, "s") == ["192.0.2.0"], "an address")
    (given,) = until(
        lambda: [e for e in api.objects("Event") if e["reason"] == "AddressAssigned"], "an Event"
    )
    assert given["type"] == "Normal" and given["message"] == "192.0.2.0 out of the IPPools"
    assert given["involvedObject"]["uid"] == api.get("Service", "s", "default")["metadata"]["uid"]
    api.put(balancer("t"), balancer("u"))
    (refused,) = until(
        lambda: [e for e in api.objects("Event") if e["reason"] == "NoAddressFree"], "a Warning"
    )
    assert refused["type"] == "Warning"
    name = refused["involvedObject"]["name"]
    assert refused["involvedObject"]["uid"] == api.get("Service", name, "default")["metadata"]["uid"]
