"""What the kernel refuses is set aside, each route for itself; nothing else waits for it or is read again."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from ipaddress import ip_address, ip_network
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest
from agent_shells import agent as agent_of

from l3net.agent.kernel import KernelSide, RouteKey
from l3net.agent.refused import FIRST, LONGEST, Refused
from l3net.delta import Delta
from l3net.errors import KernelError
from l3net.model import BridgePlan, NextHop, Route
from l3net.naming import METRIC_BGP
from l3net.ports import DatastoreEvent, RouteSeen

T = TypeVar("T")


def route(prefix: str, *hops: str) -> Route:
    found = frozenset(NextHop(ip_address(hop), "up0") for hop in hops)
    return Route(ip_network(prefix), found, metric=METRIC_BGP)


def key(found: Route) -> RouteKey:
    return found.prefix, found.metric


GOOD, BAD = route("10.9.0.0/24", "10.0.0.2"), route("10.8.0.0/24", "10.0.0.255")


class Table:
    """A kernel that refuses some routes, with an errno each."""

    def __init__(self) -> None:
        self.held: dict[RouteKey, Route] = {}
        self.refuses: dict[RouteKey, int] = {}
        self.reads = 0
        self.asked: list[list[RouteKey]] = []

    def read(self) -> dict[RouteKey, Route]:
        self.reads += 1
        return dict(self.held)

    def prepare(self, delta: Delta[RouteKey, Route]) -> Callable[[], dict[RouteKey, KernelError]]:
        return partial(self.apply, delta)

    def apply(self, delta: Delta[RouteKey, Route]) -> dict[RouteKey, KernelError]:
        self.asked.append([*delta.put, *delta.delete])
        failed = {
            each: KernelError(f"route {each[0]}", self.refuses[each])
            for each in (*delta.put, *delta.delete)
            if each in self.refuses
        }
        self.held.update({each: found for each, found in delta.put.items() if each not in failed})
        for each in delta.delete.keys() - failed.keys():
            del self.held[each]
        return failed


class NoBridge:
    def read(self, name: str) -> BridgePlan | None:
        return None

    def apply(self, plan: BridgePlan) -> None: ...


class Clock:
    """The event loop's time, moved by hand."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = 1000.0
        loop.time = lambda: self.now  # type: ignore[method-assign]


def within(work: Callable[[Table, KernelSide, Clock], Awaitable[T]]) -> T:
    async def run() -> T:
        table = Table()
        return await work(table, KernelSide(table, NoBridge()), Clock(asyncio.get_running_loop()))

    return asyncio.run(run())


def want(kernel: KernelSide, *routes: Route) -> set[RouteKey]:
    """Also which keys to look at."""
    before, kernel.desired = kernel.desired, {key(each): each for each in routes}
    return {*before, *kernel.desired}


def test_one_refused_is_tried_later_each_time_and_alone() -> None:
    async def work(table: Table, kernel: KernelSide, clock: Clock) -> list[float]:
        table.refuses[key(BAD)] = errno.EINVAL
        await kernel.apply_routes(want(kernel, GOOD, BAD))
        assert table.held == {key(GOOD): GOOD}
        assert kernel.problems == {"routes": "route 10.8.0.0/24: EINVAL"}
        times = []
        for tick in range(300):
            clock.now += 0.5
            table.asked.clear()
            changed = route("10.9.0.0/24", f"10.0.0.{2 + tick % 2}")  # something else changes all the time
            await kernel.apply_routes(want(kernel, changed, BAD))
            assert table.held == {key(GOOD): changed}
            if any(key(BAD) in batch for batch in table.asked):
                times.append(clock.now)
        assert table.reads == 0, "nothing is read back"
        return [after - before for before, after in pairwise(times)]

    gaps = within(work)
    assert gaps == [2.0, 4.0, 8.0, 16.0, 32.0, LONGEST]


def test_it_is_due_by_itself() -> None:
    async def work(table: Table, kernel: KernelSide, clock: Clock) -> None:
        table.refuses[key(BAD)] = errno.ENETUNREACH
        await kernel.apply_routes(want(kernel, BAD))
        due = kernel.refused.next_due()
        assert due == clock.now + FIRST
        await kernel.apply_routes(())
        assert len(table.asked) == 1, "not before it is due"
        clock.now += FIRST
        table.refuses.clear()
        await kernel.apply_routes(())
        assert table.held == {key(BAD): BAD} == kernel.mirror
        assert not kernel.refused and not kernel.problems and kernel.refused.next_due() is None

    within(work)


def test_another_route_is_tried_at_once_and_one_that_nobody_wants_is_forgotten() -> None:
    async def work(table: Table, kernel: KernelSide, clock: Clock) -> None:
        table.refuses[key(BAD)] = errno.EINVAL
        await kernel.apply_routes(want(kernel, BAD))
        other = route("10.8.0.0/24", "10.0.0.7")
        await kernel.apply_routes(want(kernel, other))
        assert len(table.asked) == 2 and kernel.problems
        await kernel.apply_routes(want(kernel))
        assert len(table.asked) == 2 and not kernel.problems and not kernel.refused

    within(work)


def test_what_was_there_before_stays_known_and_is_deleted() -> None:
    async def work(table: Table, kernel: KernelSide, clock: Clock) -> None:
        before = route("10.8.0.0/24", "10.0.0.7")
        await kernel.apply_routes(want(kernel, before))
        table.refuses[key(BAD)] = errno.EINVAL
        await kernel.apply_routes(want(kernel, BAD))
        assert table.held == kernel.mirror == {key(before): before}
        await kernel.apply_routes(want(kernel, before))
        assert not kernel.refused and len(table.asked) == 2, "it is there already"
        table.refuses.clear()
        await kernel.apply_routes(want(kernel))
        assert table.held == kernel.mirror == {}

    within(work)


def test_of_several_next_hops_of_ipv6_the_kernel_may_hold_some() -> None:
    async def work(table: Table, kernel: KernelSide, clock: Clock) -> None:
        before = route("fd09::/64", "fd00::2", "fd00::3")
        await kernel.apply_routes(want(kernel, before))
        after = route("fd09::/64", "fd00::2", "fd00::ff")
        table.refuses[key(after)] = errno.EHOSTUNREACH
        await kernel.apply_routes(want(kernel, after))
        table.refuses.clear()
        await kernel.apply_routes(want(kernel, before))
        assert len(table.asked) == 3, "it is put again, as nobody knows what is there"
        assert kernel.mirror == {key(before): before}

    within(work)


def test_a_delete_that_fails_is_set_aside_too() -> None:
    async def work(table: Table, kernel: KernelSide, clock: Clock) -> None:
        await kernel.apply_routes(want(kernel, GOOD, BAD))
        table.refuses[key(BAD)] = errno.EPERM
        await kernel.apply_routes(want(kernel, GOOD))
        await kernel.apply_routes([key(BAD)])
        assert len(table.asked) == 2 and kernel.mirror == table.held == {key(GOOD): GOOD, key(BAD): BAD}
        clock.now += FIRST
        table.refuses.clear()
        await kernel.apply_routes(())
        assert kernel.mirror == table.held == {key(GOOD): GOOD}

    within(work)


def test_a_put_that_a_delete_makes_possible_is_tried_again_at_once() -> None:
    """A route that goes may stand between a gateway and its link."""

    async def work(table: Table, kernel: KernelSide, clock: Clock) -> None:
        apply, tries = table.apply, []
        await kernel.apply_routes(want(kernel, GOOD))

        def shadowed(delta: Delta[RouteKey, Route]) -> dict[RouteKey, KernelError]:
            tries.append(list(delta.put))
            table.refuses = {key(BAD): errno.ENETUNREACH} if key(GOOD) in table.held else {}
            return apply(delta)

        table.apply = shadowed  # type: ignore[method-assign]
        await kernel.apply_routes(want(kernel, BAD))
        assert table.held == {key(BAD): BAD} and not kernel.refused
        assert tries == [[key(BAD)], [], [key(BAD)]], "a put, a delete, the put again"

    within(work)


@pytest.mark.parametrize(("code", "tried"), [(errno.EINVAL, True), (errno.EEXIST, False)])
def test_what_changes_beside_it_makes_it_due(code: int, tried: bool) -> None:
    """But for somebody else's in the place of ours: that one's end makes it so."""
    refused = Refused()
    refused.note(key(BAD), BAD, KernelError("x", code), 100.0)
    refused.retry_all()
    assert bool(refused.due(100.0)) is tried
    assert refused.retry(key(BAD)) and refused.due(100.0) == [key(BAD)]
    assert not refused.retry(key(GOOD))


class Nothing:
    """A datastore that is asked for nothing."""

    async def events(self) -> AsyncIterator[DatastoreEvent]:
        return
        yield


@pytest.mark.parametrize("event", ["theirs goes", "theirs comes", "another goes", "time"])
def test_what_wakes_the_agent(tmp_path: Path, event: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That somebody else's route goes, and else the time of the next try alone."""
    monkeypatch.setattr("l3net.agent.refused.FIRST", 0.05 if event == "time" else FIRST)

    async def woken() -> bool:
        agent = agent_of(tmp_path, Nothing())
        now = asyncio.get_running_loop().time()
        agent.kernel.refused.note(key(BAD), BAD, KernelError("x", errno.EEXIST), now)
        agent.routing.try_refused_later()
        if event == "time":
            agent._marks.take()
            await asyncio.wait_for(agent._marks.gathered(), 10)
            assert agent.kernel.refused.due(asyncio.get_running_loop().time())
            return True
        about = GOOD if event.startswith("another") else BAD
        agent._noticing.heard(RouteSeen(key(about), not event.endswith("comes")))
        return bool(agent.kernel.refused.due(now))

    assert asyncio.run(woken()) is (event in ("theirs goes", "time"))


def test_the_words_say_how_many() -> None:
    refused = Refused()
    assert refused.words() == ""
    assert refused.note(key(BAD), BAD, KernelError("put route 10.8.0.0/24", errno.EINVAL), 0.0)
    assert not refused.note(key(BAD), BAD, KernelError("put route 10.8.0.0/24", errno.EINVAL), 1.0)
    assert refused.words() == "put route 10.8.0.0/24: EINVAL"
    refused.note(key(GOOD), GOOD, KernelError("put route 10.9.0.0/24", errno.EINVAL), 0.0)
    assert refused.words() == "put route 10.8.0.0/24: EINVAL (and 1 more)"


def test_what_is_read_back_is_not_kept_a_second_time() -> None:
    """Of what is as wanted there is one object; what is another way, or not wanted, is as it was read."""

    async def work(table: Table, kernel: KernelSide, _clock: Clock) -> None:
        other, ours = route("10.8.0.0/24", "10.0.0.9"), route("10.7.0.0/24", "10.0.0.2")
        want(kernel, GOOD, BAD)
        same = route("10.9.0.0/24", "10.0.0.2")
        table.held = {key(each): each for each in (other, same, ours)}
        kernel.read_routes()
        assert kernel.mirror == table.held
        found = {id(each) for each in kernel.mirror.values()}
        assert found == {id(GOOD), id(other), id(ours)}
        assert same == GOOD, "the control"
        assert same is not GOOD
        [prefix] = [prefix for prefix, _ in kernel.mirror if prefix == GOOD.prefix]
        assert prefix is GOOD.prefix

    within(work)
