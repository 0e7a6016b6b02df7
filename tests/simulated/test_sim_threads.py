"""Threads in simulated time: what waits, waits by the simulated clock; the seed decides who is first."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from threads import (
    PROCESS,
    Killed,
    LoopWaitsError,
    SimCondition,
    SimEvent,
    SimExecutor,
    SimLock,
    SimQueue,
    SimThreads,
    simulate_threads,
    sleep,
)


def world(seed: int = 0) -> SimThreads:
    loop = asyncio.get_running_loop()
    return SimThreads(loop, seed)  # type: ignore[arg-type]


def test_an_hour_of_waiting_costs_nothing_and_is_an_hour() -> None:
    async def scenario() -> tuple[list[str], float]:
        all_ = world()
        process, said = all_.process("p"), list[str]()
        bell = process.threads.event()

        def waits() -> None:
            said.append(f"waits {bell.wait(10)}")
            said.append(f"hears {bell.wait()}")

        def rings() -> None:
            sleep(process, 3600)
            said.append("rings")
            bell.set()

        first, began = process.start(waits), process.threads.monotonic()
        process.start(rings)
        process.start(lambda: (first.join(), said.append("joined")))
        await asyncio.sleep(4000)
        all_.close()
        assert not all_.errors
        return said, process.threads.monotonic() - began

    began = time.monotonic()
    assert simulate_threads(scenario()) == (["waits False", "rings", "hears True", "joined"], 4000)
    assert time.monotonic() - began < 5


def raced(seed: int) -> str:
    """Ten threads that are woken at once."""

    async def scenario() -> str:
        all_ = world(seed)
        process, order = all_.process("p"), list[str]()
        bell, lock, done = SimEvent(all_), SimLock(all_), SimQueue[str](all_)

        def runs(name: str) -> None:
            bell.wait()
            with lock:
                sleep(process, 0.1)
                order.append(name)
            done.put(name)

        def counts() -> None:
            for _ in range(10):
                done.get()
            order.append("!")

        for number in range(10):
            process.start(lambda name=str(number): runs(name))  # type: ignore[misc]
        process.start(counts)
        await asyncio.sleep(1)
        bell.set()
        await asyncio.sleep(10)
        all_.close()
        assert not all_.errors
        return "".join(order)

    return simulate_threads(scenario())


def test_the_seed_decides_and_nothing_else() -> None:
    orders = [raced(seed) for seed in range(6)]
    assert [raced(seed) for seed in range(6)] == orders
    assert len(set(orders)) > 3
    assert all(sorted(order) == sorted("0123456789!") and order[-1] == "!" for order in orders)


def test_a_killed_process_does_nothing_more_and_a_paused_one_later() -> None:
    async def scenario() -> None:
        all_ = world()
        first, second = all_.process("first"), all_.process("second")
        ticks: dict[str, list[float]] = {"first": [], "second": []}

        def tick(process, said) -> None:  # type: ignore[no-untyped-def]
            try:
                while True:
                    sleep(process, 1)
                    said.append(process.threads.monotonic())
            finally:
                process.check()  # as whatever has an effect
                said.append(-1.0)

        for process in (first, second):
            process.start(lambda p=process: tick(p, ticks[p.name]))  # type: ignore[misc]
        await asyncio.sleep(10.5)
        first.kill()
        second.pause()
        await asyncio.sleep(10)
        assert (len(ticks["first"]), len(ticks["second"])) == (10, 10)
        second.resume()
        await asyncio.sleep(5)
        assert len(ticks["first"]) == 10
        assert 15 <= len(ticks["second"]) <= 16
        with pytest.raises(Killed):
            first.start(lambda: None)
        all_.close()

    simulate_threads(scenario())


def test_a_process_has_a_loop_of_its_own_that_may_be_held_up() -> None:
    async def scenario() -> None:
        all_ = world()
        process, said = all_.process("p"), list[tuple[str, float]]()

        def now() -> float:
            return round(process.threads.monotonic() - 1000, 2)

        async def main() -> None:
            ticking = asyncio.create_task(ticks())
            await asyncio.to_thread(sleep, process, 5)
            said.append(("thread", now()))
            await asyncio.get_running_loop().run_in_executor(None, sleep, process, 1)
            sleep(process, 10)  # what must not be: the ticks stop
            said.append(("held up", now()))
            await asyncio.sleep(100)
            said.append(("end", now()))
            ticking.cancel()

        async def ticks() -> None:
            while True:
                await asyncio.sleep(2)
                said.append(("tick", now()))

        process.run(main)
        await asyncio.sleep(18)
        process.kill()
        await asyncio.sleep(200)
        all_.close()
        assert not all_.errors
        ticked = [when for what, when in said if what == "tick"]
        assert [(what, when) for what, when in said if what != "tick"] == [("thread", 5.0), ("held up", 16.0)]
        assert ticked[:3] == [2.0, 4.0, 6.0]
        assert not any(6.5 < when < 16 for when in ticked)

    simulate_threads(scenario())


def test_the_loop_itself_waits_for_no_thread() -> None:
    async def scenario() -> None:
        all_ = world()
        bell = SimEvent(all_)
        assert not bell.wait(0)
        with pytest.raises(LoopWaitsError):
            bell.wait(1)
        process = all_.process("p")
        PROCESS.set(process)
        assert await asyncio.to_thread(lambda: bell.wait(5)) is False
        assert asyncio.get_running_loop().time() == pytest.approx(1005, abs=0.01)
        all_.close()

    simulate_threads(scenario())


def test_pools_of_threads_and_conditions() -> None:
    async def scenario() -> None:
        all_ = world()
        process = all_.process("p")
        pool, most, busy = SimExecutor(process, 3), 0, 0
        condition = SimCondition(all_)

        def job(number: int) -> int:
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            sleep(process, 1)
            busy -= 1
            with condition:
                condition.notify_all()
            if number == 7:
                raise ValueError
            return number

        def asks() -> None:
            futures = [pool.submit(job, number) for number in range(9)]
            with condition:
                assert condition.wait_for(lambda: busy == 0 and most == 3, 60)
            assert [each.result() for each in futures[:7]] == list(range(7))
            with pytest.raises(ValueError):
                futures[7].result()

        process.start(asks)
        await asyncio.sleep(60)
        all_.close()
        assert not all_.errors
        assert most == 3

    simulate_threads(scenario())


def test_threads_are_threads() -> None:
    """Thread-local values are each thread's own."""

    async def scenario() -> None:
        all_ = world()
        process, local, seen = all_.process("p"), threading.local(), list[bool]()

        def work() -> None:
            seen.append(hasattr(local, "mine"))
            local.mine = True
            sleep(process, 1)
            seen.append(local.mine)
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            del local.mine

        for _ in range(3):
            process.start(work)
        await asyncio.sleep(5)
        all_.close()
        assert not all_.errors
        assert seen == [False] * 3 + [True] * 3

    simulate_threads(scenario())
