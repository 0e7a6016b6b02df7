"""Nothing waits behind another: objects whose writes fail or hang, and what a stale watch does not know."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apiserver import FakeApiServer, StatusError
from controller_rig import Running, balancer, blocks, ingress, ledger, node, pool, until

from l3net.addresses import parse_address, parse_prefix
from l3net.controller.writes import Write, Writes
from l3net.errors import GoneError, L3netError
from l3net.ipam.balancers import plan_addresses
from l3net.model import IpPool, ObjectName, PoolUse, Service

Start = Callable[..., Running]


class Troubled:
    """The API server's writes to objects of one name fail or hang until `end`."""

    def __init__(self, api: FakeApiServer, name: str, *, hang: bool) -> None:
        self.met = 0
        self.ended = threading.Event()
        update = api.update

        def troubled(resource: Any, namespace: str, found: str, *rest: Any) -> Any:
            if found == name and not self.ended.is_set():
                self.met += 1
                if not hang:
                    raise StatusError(500, "InternalError", "etcdserver: request is too large")
                self.ended.wait(60)
            return update(resource, namespace, found, *rest)

        api.update = troubled  # type: ignore[method-assign]


@pytest.mark.parametrize("hang", [False, True], ids=["fails", "hangs"])
@pytest.mark.parametrize("bad", ["Service", "Node", "IPPool"])
def test_one_object_in_trouble_delays_no_other(
    api: FakeApiServer, start: Start, bad: str, hang: bool
) -> None:
    name = {"Service": "bad", "Node": "bad", "IPPool": "lb"}[bad]
    trouble = Troubled(api, name, hang=hang)
    api.put(pool("four", "10.244.0.0/16"), pool("lb", "192.0.2.0/28", allowedUses=["LoadBalancer"]))
    api.put(balancer("bad") if bad == "Service" else node("bad"))
    try:
        running = start()
        until(lambda: trouble.met, "the trouble")
        for number in range(5):
            api.put(node(f"n{number}"), balancer(f"s{number}"))
            until(
                lambda number=number: blocks(api, f"n{number}") and ingress(api, f"s{number}"),
                "a block and an address although another write is in trouble",
                5,
            )
        assert trouble.met <= 4, "its own attempts grow rare"
        if not hang:
            until(lambda: name in running.controller.problem, "the problem to be told")
    finally:
        trouble.ended.set()
    until(
        lambda: bad == "IPPool" or blocks(api, "bad") if bad != "Service" else ingress(api, "bad"),
        "it, at last",
    )
    until(lambda: not running.controller.problem, "the problem to be over")


def test_a_stale_view_holds_up_nobody_and_is_read_anew(api: FakeApiServer, start: Start) -> None:
    """etcd goes back to a snapshot: the ledger and the API server know a Service that no watch told of."""
    api.put(pool("lb", "192.0.2.0/28", allowedUses=["LoadBalancer"]), pool("four", "10.244.0.0/16"))
    api.put(balancer("old"), node("gone"))
    start()
    until(lambda: ingress(api, "old") and blocks(api, "gone"), "an address and a block")
    given = ingress(api, "old")
    snapshot = api.snapshot()
    api.remove("Service", "old", "default")
    until(lambda: "default/old" not in ledger(api), "the address to be free")
    for _ in range(40):
        api.touch("Node", "gone")
    api.restore(snapshot)
    api.put(balancer("new"), node("n1"))
    until(lambda: ingress(api, "new") and blocks(api, "n1"), "what is new to be served")
    assert ingress(api, "old") == given
    assert ingress(api, "new") != given
    assert ledger(api)["default/old"] == given[0]


def test_the_owner_nobody_can_ask_about_keeps_its_own(api: FakeApiServer, start: Start) -> None:
    api.put(pool("lb", "192.0.2.0/28", allowedUses=["LoadBalancer"]), balancer("a"), balancer("b"))
    start()
    until(lambda: ingress(api, "a") and ingress(api, "b"), "addresses")
    held = ledger(api)
    api.refuse(500, verb="get", resource="services")
    api.remove("Service", "a", "default")
    api.put(pool("four", "10.244.0.0/16"), node("n1"))
    until(lambda: blocks(api, "n1"), "a block meanwhile")
    assert ledger(api)["default/a"] == held["default/a"]
    api.allow()
    until(lambda: "default/a" not in ledger(api), "it to be freed")


def test_unsure_keeps_what_it_holds_and_may_still_share_it() -> None:
    first, second = parse_address("192.0.2.0"), parse_address("192.0.2.1")
    lb = IpPool("p", parse_prefix("192.0.2.0/30"), 32, allowed_uses=frozenset({PoolUse.LOAD_BALANCER}))
    kind = {"type": "LoadBalancer", "load_balancer_class": "l3net.io/bgp"}
    here = Service(ObjectName("default", "here"), cluster_ips=(parse_address("10.96.0.1"),), **kind)
    new = Service(ObjectName("default", "new"), cluster_ips=(parse_address("10.96.0.2"),), **kind)
    gone, other = ObjectName("default", "gone"), ObjectName("default", "other")
    ledger = {here.name: (first,), gone: (first, second), other: (parse_address("192.0.2.3"),)}
    found = plan_addresses({here.name: here, new.name: new}, {"p": lb}, ledger, namespaces={}, unsure={gone})
    assert found.held == {here.name: (first,), gone: (second,), new.name: (parse_address("192.0.2.2"),)}
    assert not found.findings
    assert gone not in found.served


def test_a_status_takes_nothing_from_one_of_whom_nobody_knows() -> None:
    """As after a restore, while the watch still tells of what was there before it."""
    address = parse_address("192.0.2.0")
    lb = IpPool("p", parse_prefix("192.0.2.0/30"), 32, allowed_uses=frozenset({PoolUse.LOAD_BALANCER}))
    stale = Service(
        ObjectName("default", "stale"),
        "LoadBalancer",
        (parse_address("10.96.0.1"),),
        load_balancer_class="l3net.io/bgp",
        load_balancer_ips=(address,),
    )
    unsure = ObjectName("default", "unsure")
    found = plan_addresses(
        {stale.name: stale}, {"p": lb}, {unsure: (address,)}, namespaces={}, unsure={unsure}
    )
    assert found.held == {unsure: (address,), stale.name: (parse_address("192.0.2.1"),)}


# --- the writes alone ------------------------------------------------------------------------------------


@pytest.fixture
def rig() -> Iterator[tuple[Writes, list[float], list[float]]]:
    now, waits = [0.0], []
    writes = Writes(lambda: True, lambda: now[0], waits.append, lambda: 0.5)
    yield writes, now, waits
    writes.close()


def test_waits_double_and_a_new_value_waits_a_second(rig: tuple[Writes, list[float], list[float]]) -> None:
    writes, now, waits = rig
    calls: list[object] = []

    def fail(value: object) -> None:
        calls.append(value)
        raise L3netError("no")

    def want(value: object) -> None:
        writes.want([Write(("x", "a"), value, lambda: fail(value))])

    for number in range(8):
        want(1)
        until(lambda number=number: len(waits) == number + 1, "the attempt")
        count = len(calls)
        want(1)  # not due
        assert len(calls) == count
        now[0] += 60
    assert all(2 ** min(n, 6) / 2 <= min(wait, 60) <= 60 for n, wait in enumerate(waits))
    assert writes.problems() == ["no"]
    want(1)
    until(lambda: len(waits) == 9, "the ninth")
    want(2)
    assert calls[-1] == 1
    now[0] += 1
    want(2)
    until(lambda: calls[-1] == 2, "the new value soon")
    until(lambda: len(waits) == 10, "its failure")
    writes.want([])
    assert writes.problems() == []


def test_what_is_wanted_while_a_write_runs_comes_after_it(
    rig: tuple[Writes, list[float], list[float]],
) -> None:
    writes, _, _ = rig
    calls: list[int] = []
    going, go = threading.Event(), threading.Event()

    def slow() -> None:
        calls.append(1)
        going.set()
        go.wait(30)

    writes.want([Write(("x", "a"), 1, slow)])
    assert going.wait(30)
    writes.want([Write(("x", "a"), 2, lambda: calls.append(2))])
    writes.want([Write(("x", "a"), 3, lambda: calls.append(3))])
    assert calls == [1]
    go.set()
    until(lambda: calls == [1, 3], "the last of them")


def test_gone_is_done_and_nobody_foresaw_is_an_error(rig: tuple[Writes, list[float], list[float]]) -> None:
    writes, _, waits = rig

    def gone() -> None:
        raise GoneError("404")

    def odd() -> None:
        raise KeyError("metadata")

    writes.want([Write(("x", "gone"), 1, gone), Write(("x", "odd"), 1, odd)])
    until(lambda: waits, "the failure")
    (problem,) = writes.problems()
    assert "odd" in problem
    assert "KeyError" in problem


def test_nothing_is_begun_by_who_does_not_lead() -> None:
    calls: list[int] = []
    writes = Writes(lambda: False, time.monotonic, lambda _: None, random.random)
    writes.want([Write(("x", "a"), 1, lambda: calls.append(1))])
    until(lambda: not writes._entries, "it to be let go")
    assert not calls
    writes.close()
