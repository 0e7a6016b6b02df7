"""Code that blocks, in simulated time: threads of which exactly one runs, and none while the loop does.

They are real threads with a baton. The simulated loop (simloop.py) hands it to a thread as one of its
callbacks, and goes on when the thread waits or ends: so every wait is a timer or a wake-up of that loop, and
who runs next is decided by its clock, and by a seed where two could. Real threads and not greenlets: what a
thread sees of itself (`threading.get_ident`, thread-local values, sqlite's rule of one thread, that it has no
running loop) is what it sees in the process, and nothing has to be installed. A switch costs some 20 µs.

    world = SimThreads(loop, seed)
    process = world.process("agent")
    api = KubeApi(..., threads=process.threads)

A real lock may be taken as long as nobody waits while holding it; for others there is SimLock.
"""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import queue
import selectors
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from random import Random
from typing import Any, ClassVar, TypeVar

from simloop import SimLoop

from l3net.shell.threads import Threads

T = TypeVar("T")

#: Where the wall clock stands when simulated time is 0, in seconds since 1970.
EPOCH = 1_750_000_000.0
#: A thread that is woken runs at once, or up to this much later (seconds), as the seed has it.
LATE = 1e-4


class Killed(BaseException):
    """The process that the thread belongs to is no more: nothing it does from now on has an effect."""


class LoopWaitsError(Exception):
    """What runs in the loop itself waits for a thread, which would hold up everything."""


class _Worker:
    """A thread of the interpreter, used again and again: to start one costs more than to run it."""

    idle: ClassVar[list[_Worker]] = []

    def __init__(self) -> None:
        self.go, self.job = _thread.allocate_lock(), _nothing
        self.go.acquire()
        threading.Thread(target=self._work, name="simulated", daemon=True).start()

    def _work(self) -> None:
        while True:
            self.go.acquire()
            self.job()


def _nothing() -> None:
    pass


class SimThread:
    """A thread of a process (l3net.shell.threads.Started)."""

    def __init__(self, process: Process, target: Callable[[], object], name: str) -> None:
        self.process, self.name, self._target = process, name, target
        self._world = process.world
        self._worker: _Worker | None = None
        self.ended = False
        self.error: BaseException | None = None
        self._joining: list[_Wait] = []

    def is_alive(self) -> bool:
        return not self.ended

    def join(self, timeout: float | None = None) -> None:
        if not self.ended:
            self._world.wait(self._joining, timeout)

    def step(self) -> None:
        """Let it run until it waits or ends. Called by the loop."""
        world, process = self._world, self.process
        if self.ended:
            return
        if process.paused and not process.dead:
            process.held.append(self)
            return
        worker = self._worker
        if worker is None:
            if process.dead:
                self._end()
                return
            worker = self._worker = _Worker.idle.pop() if _Worker.idle else _Worker()
            worker.job = self._run
        before, world.running = world.running, self
        worker.go.release()
        world.back.acquire()
        world.running = before

    def pause(self) -> None:
        """Give the baton back, and wait for the next step. Called by the thread."""
        worker = self._worker
        assert worker is not None
        self._world.back.release()
        worker.go.acquire()
        self.process.check()

    def _run(self) -> None:
        worker = self._worker
        assert worker is not None
        try:
            self._target()
        except Killed:
            pass
        except BaseException as err:
            self.error = err
            self._world.errors.append(err)
        self._end()
        worker.job = _nothing
        _Worker.idle.append(worker)
        self._world.back.release()

    def _end(self) -> None:
        self.ended = True
        self.process.alive.pop(self, None)
        for wait in self._joining:
            wait.wake()


class _Wait:
    """A thread that waits for something."""

    __slots__ = ("_timer", "_world", "over", "thread", "woken")

    def __init__(self, world: SimThreads, thread: SimThread, timeout: float | None) -> None:
        self._world, self.thread = world, thread
        self.woken = self.over = False
        self._timer = None
        if timeout is not None:
            self._timer = world.loop.call_at(world.loop.time() + max(0.0, timeout), self._late)

    def _late(self) -> None:
        if not self.over:
            self.over = True
            self.thread.step()

    def wake(self) -> None:
        if not self.over:
            self.over = self.woken = True
            if self._timer is not None:
                self._timer.cancel()
            self._world.ready(self.thread)


class SimThreads:
    """All threads of a run. `errors`: what threads ended with."""

    def __init__(self, loop: SimLoop, seed: int = 0) -> None:
        self.loop, self.random = loop, Random(seed)
        self.back = _thread.allocate_lock()
        self.back.acquire()
        self.running: SimThread | None = None
        self.processes: list[Process] = []
        self.errors: list[BaseException] = []

    def process(self, name: str, skew: float = 0.0) -> Process:
        """`skew`: how far its wall clock is ahead, in seconds."""
        made = Process(self, name, skew)
        self.processes.append(made)
        return made

    def ready(self, thread: SimThread) -> None:
        """It can go on."""
        late = self.random.random() * 2 - 1
        self.loop.call_at(self.loop.time() + max(0.0, late) * LATE, thread.step)

    def wait(self, waiting: list[_Wait], timeout: float | None) -> bool:
        """Wait for a wake-up by one of `waiting`; whether it came in time."""
        thread = self.running
        if thread is None:
            if timeout is not None and timeout <= 0:
                return False
            raise LoopWaitsError
        thread.process.check()
        wait = _Wait(self, thread, timeout)
        waiting.append(wait)
        try:
            thread.pause()
        finally:
            wait.over = True
            waiting.remove(wait)
        return wait.woken

    def close(self) -> None:
        """End every thread there is."""
        for process in self.processes:
            process.dead = True
        for process in self.processes:
            for thread in list(process.alive):
                for _ in range(1000):  # what it does on its way out may wait, too
                    if thread.ended:
                        break
                    thread.step()
                assert thread.ended, f"{thread.name} does not end"


class Process:
    """Threads that live and die together, with a clock of their own."""

    def __init__(self, world: SimThreads, name: str, skew: float) -> None:
        self.world, self.name, self.skew = world, name, skew
        self.dead = self.paused = False
        self.alive: dict[SimThread, None] = {}  # in the order in which they began
        self.held: list[SimThread] = []
        self.cancels: list[Callable[[], object]] = []
        self.threads = Threads(
            start=self.start,
            event=lambda: SimEvent(world),
            executor=lambda workers, _name: SimExecutor(self, workers),
            lock=lambda: SimLock(world),
            condition=lambda: SimCondition(world),
            monotonic=world.loop.time,
            wall=lambda: EPOCH + world.loop.time() + self.skew,
            random=Random(world.random.getrandbits(32)),
        )

    def check(self) -> None:
        """Raises Killed in a process that is no more."""
        if self.dead:
            raise Killed

    def start(self, target: Callable[[], object], name: str = "") -> SimThread:
        self.check()
        thread = SimThread(self, target, f"{self.name} {name}")
        self.alive[thread] = None
        self.world.ready(thread)
        return thread

    def kill(self) -> None:
        """As SIGKILL: no thread of it does anything more."""
        self.dead = True
        self.held.clear()
        for thread in self.alive:
            if thread is not self.world.running:
                self.world.loop.call_soon(thread.step)
        if self.world.running is not None and self.world.running.process is self:
            raise Killed

    def terminate(self) -> None:
        """As SIGTERM: what its loop runs is cancelled."""
        for cancel in self.cancels:
            cancel()

    def pause(self) -> None:
        """As SIGSTOP."""
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        held, self.held = self.held, []
        for thread in held:
            self.world.ready(thread)

    def call(self, loop: asyncio.AbstractEventLoop, func: Callable[[], T]) -> asyncio.Future[T]:
        """Do it in a thread, and tell the loop."""
        done: asyncio.Future[T] = loop.create_future()

        def tell(settle: Callable[[Any], None], value: object) -> None:
            if not done.done():
                settle(value)

        def work() -> None:
            try:
                settle, found = done.set_result, func()
            except Exception as err:
                settle, found = done.set_exception, err  # type: ignore[assignment]
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell, settle, found)

        self.start(work, "worker")
        return done

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> SimThread:
        """A loop of its own, in a thread of its own, as `asyncio.run`."""
        return self.start(lambda: _run_loop(self, main), "loop")


# --- what threads wait with ------------------------------------------------------------------------------


class SimEvent:
    """As threading.Event."""

    def __init__(self, world: SimThreads) -> None:
        self._world, self._set = world, False
        self._waiting: list[_Wait] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        for wait in self._waiting:
            wait.wake()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        return self._set or self._world.wait(self._waiting, timeout) or self._set


class SimLock:
    """As threading.Lock, for what waits while holding it."""

    def __init__(self, world: SimThreads) -> None:
        self._world, self._taken = world, False
        self._waiting: list[_Wait] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        deadline = self._world.loop.time() + timeout
        while self._taken:
            left = deadline - self._world.loop.time() if timeout >= 0 else None
            if not blocking or (left is not None and left <= 0):
                return False
            self._world.wait(self._waiting, left)
        self._taken = True
        return True

    def release(self) -> None:
        self._taken = False
        for wait in self._waiting:
            wait.wake()

    def locked(self) -> bool:
        return self._taken

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class SimCondition:
    """As threading.Condition."""

    def __init__(self, world: SimThreads, lock: SimLock | None = None) -> None:
        self._world, self._lock = world, lock or SimLock(world)
        self._waiting: list[_Wait] = []
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        self._lock.release()
        try:
            return self._world.wait(self._waiting, timeout)
        finally:
            self._lock.acquire()

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        deadline = None if timeout is None else self._world.loop.time() + timeout
        while not (found := predicate()):
            left = None if deadline is None else deadline - self._world.loop.time()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return found

    def notify(self, n: int = 1) -> None:
        for wait in [each for each in self._waiting if not each.over][:n]:
            wait.wake()

    def notify_all(self) -> None:
        self.notify(len(self._waiting))


class SimQueue(queue.Queue[T]):
    """As queue.Queue."""

    def __init__(self, world: SimThreads, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self.mutex = lock = SimLock(world)  # type: ignore[assignment]
        self.not_empty = SimCondition(world, lock)  # type: ignore[assignment]
        self.not_full = SimCondition(world, lock)  # type: ignore[assignment]
        self.all_tasks_done = SimCondition(world, lock)  # type: ignore[assignment]


class SimExecutor(concurrent.futures.Executor):
    """As ThreadPoolExecutor."""

    def __init__(self, process: Process, workers: int) -> None:
        self._process, self._free = process, workers
        self._waiting: deque[tuple[concurrent.futures.Future[Any], Callable[[], Any]]] = deque()
        self._closed = False

    def submit(  # type: ignore[override]
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[Any]:
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future._condition = SimCondition(self._process.world)  # type: ignore[assignment]
        self._waiting.append((future, lambda: fn(*args, **kwargs)))
        if self._free:
            self._free -= 1
            self._process.start(self._work, "worker")
        return future

    def _work(self) -> None:
        while self._waiting:
            future, call = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                found = call()
            except Exception as err:
                future.set_exception(err)
            else:
                future.set_result(found)
        self._free += 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._closed = True
        if cancel_futures:
            for future, _ in self._waiting:
                future.cancel()


def sleep(process: Process, seconds: float) -> None:
    """As time.sleep."""
    process.world.wait([], seconds)


# --- loops -----------------------------------------------------------------------------------------------

#: In whose threads what a task of the simulated loop gives to a thread is done; none: in the loop, at once.
PROCESS: ContextVar[Process] = ContextVar("process")


class ThreadLoop(SimLoop):
    """The simulated loop, of which some tasks belong to a process that has threads."""

    def _write_to_self(self) -> None:
        """It never sleeps while a thread runs."""

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        process = PROCESS.get(None)
        if process is None:
            return super().run_in_executor(executor, func, *args)
        return process.call(self, lambda: func(*args))


class _Sleeper(selectors.SelectSelector):
    """Waits as a thread does."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process, self.woken = process, SimEvent(process.world)

    def select(self, timeout: float | None = None) -> list[Any]:
        if not self.process.dead and (timeout is None or timeout > 0):
            self.woken.wait(timeout)
        self.woken.clear()
        return []


class ProcessLoop(asyncio.SelectorEventLoop):
    """The loop of one process: what holds it up holds up that process alone."""

    def __init__(self, process: Process) -> None:
        self._sleeper = _Sleeper(process)
        super().__init__(self._sleeper)

    def time(self) -> float:
        return self._sleeper.process.world.loop.time()

    def _write_to_self(self) -> None:
        self._sleeper.woken.set()

    def run_in_executor(self, _executor: object, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        return self._sleeper.process.call(self, lambda: func(*args))


def _number(task: asyncio.Task[Any]) -> int:
    """Tasks are counted as they are made."""
    return int(task.get_name().rpartition("-")[2])


def _run_loop(process: Process, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop = ProcessLoop(process)
    ended: set[asyncio.Task[Any]] = set()
    try:
        try:
            running = loop.create_task(main())
            ended.add(running)
            process.cancels.append(lambda: loop.is_closed() or loop.call_soon_threadsafe(running.cancel))
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(running)
        finally:
            # Also in a process that is dead: what is left of it ends here, and not when memory is collected.
            for _ in range(10):
                tasks = asyncio.all_tasks(loop)
                if not tasks:
                    break
                ended |= tasks
                for task in sorted(tasks, key=_number):
                    task.cancel()
                for _ in range(10):
                    loop.call_soon(loop.stop)
                    loop.run_forever()
            loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        for task in ended:
            if task.done() and not task.cancelled():
                task.exception()  # heard of
        loop.close()


def simulate_threads(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a scenario under a simulated clock, in which processes may have threads."""
    with asyncio.Runner(loop_factory=ThreadLoop) as runner:
        return runner.run(scenario)
