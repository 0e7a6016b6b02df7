"""A schedule carried out on a lab, and what came of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from l3net.errors import L3netError
from l3net.lab.chaos import report as reports
from l3net.lab.chaos import spent
from l3net.lab.chaos.busy import Busy
from l3net.lab.chaos.catalogue import FAULTS
from l3net.lab.chaos.ground import Ground, prepare
from l3net.lab.chaos.leaks import Counts, count, leaked
from l3net.lab.chaos.losses import Happened, Judge
from l3net.lab.chaos.measure import Probing
from l3net.lab.chaos.path import paths
from l3net.lab.chaos.report import Failure, Report
from l3net.lab.chaos.routing import bird_with_grace, frr_with_grace
from l3net.lab.chaos.step import Schedule, Step, hosts_of
from l3net.lab.chaos.watch import EVERY, Watch
from l3net.lab.converge import wait_converged
from l3net.lab.errors import LabError
from l3net.lab.topology import RouterKind
from l3net.lab.up import Lab
from l3net.lab.wait import until

Say = Callable[[str], None]
#: Prefixes that are others' on every node, and must be there at the end (RFC 5737, RFC 3849).
_OTHERS = ("192.0.2.128/25", "2001:db8:ff::/64")
#: Seconds in which all paths must carry before anything begins.
_PATIENCE = 120.0
_CALM = 3.0
#: Seconds in which what is on its way out has gone at the end.
_LEFT = 10.0


@dataclass
class Run:
    """One run. `left_out` are faults that this machine cannot do, with the reason."""

    ground: Ground
    schedule: Schedule
    say: Say
    left_out: dict[str, str]
    probing: Probing
    busy: Busy = field(default_factory=Busy)
    watch: Watch = field(init=False)
    failures: list[Failure] = field(default_factory=list)
    happened: list[Happened] = field(default_factory=list)
    _places: dict[int, set[str]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _zero: float = 0.0
    _spent: float = field(default_factory=spent.own)

    def __post_init__(self) -> None:
        self.watch = Watch(self.ground, self.clock, self._failed, self.busy)

    def clock(self) -> float:
        return time.monotonic() - self._zero

    def _failed(self, at: float, what: str) -> None:
        self.say(f"BROKEN: {what}")
        self.failures.append(
            Failure(round(at, 1), what, tuple(map(reports.told, self.watch.active.values())))
        )

    def carry_out(self) -> Report:
        """Everything. Raises LabError where the lab itself cannot be used; interrupted, all is undone
        first."""
        nodes = [node.name for node in self.ground.topology.nodes]
        for name in nodes:
            self.watch.foreign[name] = _plant(self.ground, name)
        self._zero = time.monotonic()
        self.probing.zero = self._zero
        self.probing.start(self.ground)
        self._wait_for_paths()
        before = [count(self.ground.host(name)) for name in nodes]
        # What was lost until everything was in place is nobody's.
        self.probing.losses.clear()
        self._zero = self.probing.zero = time.monotonic()
        self.say("every path carries: the report's seconds, and the schedule's, count from now")
        with _beside(lambda: self.busy.run(self.clock), self.busy.stop):
            with _beside(self.watch.run, self.watch.stop):
                self._carry_out_steps()
            seconds = self.clock()
            self.watch.at_end()
        used = self._used()
        self.probing.stop()
        self._look_for_leaks(before)
        return self._reported(seconds, used)

    def _wait_for_paths(self) -> None:
        """Until nothing is lost any more for a while. Raises LabError."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            time.sleep(_CALM)
            lost = [loss for loss in self.probing.read() if loss.last > self.clock() - _CALM - 2.5]
            if not lost and self.clock() > 2 * _CALM:
                return
            if time.monotonic() > deadline:
                names = sorted({loss.path.name for loss in lost})
                raise LabError(f"before any fault, not every path carries: {', '.join(names[:6])}")

    def _carry_out_steps(self) -> None:
        steps = self.schedule.steps
        with ThreadPoolExecutor(max_workers=8) as pool:
            try:
                for number, step in enumerate(steps):
                    if self._stop.wait(max(0.0, step.at - self.clock())):
                        break
                    while self._taken(step) and not self._stop.wait(0.1):
                        pass  # on a busy machine a fault takes longer to be undone than was planned
                    self._places[number] = set(hosts_of(step.target))
                    pool.submit(self._carry_out, number, step)
                while self.clock() < self.schedule.seconds or self.watch.active:
                    self._stop.wait(EVERY)
            except BaseException:
                self._stop.set()  # whatever is under way ends, and is undone
                raise

    def _taken(self, step: Step) -> bool:
        """Whether another step is at its place."""
        return any(set(hosts_of(step.target)) & places for places in list(self._places.values()))

    def _carry_out(self, number: int, step: Step) -> None:
        fault = FAULTS[step.fault]
        happened = Happened(step, fault, self.clock(), float("inf"))
        self.watch.begun(number, happened)
        try:
            self.say(f"{fault.name} {step.target} for {step.seconds:g} s")
            with fault.act(self.ground, step):
                self._stop.wait(max(0.0, happened.began + step.seconds - self.clock()))
        except L3netError as err:
            self._failed(self.clock(), f"{fault.name} {step.target}: {err}")
        except Exception as err:
            self._failed(self.clock(), f"{fault.name} {step.target}: {type(err).__name__}: {err}")
        finally:
            done = replace(happened, ended=self.clock())
            self.happened.append(done)
            self._places.pop(number, None)
            self.watch.over(number, done)

    def _look_for_leaks(self, before: Sequence[Counts]) -> None:
        found: list[str] = []

        def none() -> bool:
            found[:] = [
                line for counts in before for line in leaked(counts, count(self.ground.host(counts.host)))
            ]
            return not found

        try:
            until(none, _LEFT, "", every=1.0)
        except LabError:
            self.failures += [Failure(round(self.clock(), 1), f"left over: {line}") for line in found]

    def _used(self) -> dict[str, float]:
        probes, daemons = spent.within(self.ground.lab.hosts.values())
        return {"probes": probes, "daemons": daemons, "run": spent.own() - self._spent}

    def _reported(self, seconds: float, used: dict[str, float]) -> Report:
        judge = Judge(self.ground.topology, self.happened, self.busy)
        # What was sent while the probers were begun or ended is no loss.
        losses = [loss for loss in self.probing.losses if loss.last > 0 and loss.first < seconds]
        verdicts = [judge.verdict(loss) for loss in losses]
        self.failures += reports.broken(verdicts)
        self.failures += reports.flapped(self.watch.flaps, self.happened)
        self.failures += [Failure(round(seconds, 1), what) for what in self.ground.told]
        return Report(
            self.schedule.seed,
            seconds,
            len(self.probing.paths),
            self.probing.sent,
            sum(loss.count for loss in losses),
            reports.rows(self.happened, verdicts, self.watch.converged),
            tuple(sorted(self.failures, key=lambda failure: failure.at)),
            self.left_out,
            used,
            self.busy.mean,
        )


@contextmanager
def _beside(run: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    """A thread that runs meanwhile."""
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join(60)


def _plant(ground: Ground, name: str) -> list[str]:
    """Routes of others' on a node, which no link's end takes along; which."""
    for prefix in _OTHERS:
        words = ["route", "replace", "blackhole", prefix, "proto", "static", "metric", "50"]
        ground.host(name).run(["ip", "-6" if ":" in prefix else "-4", *words])
    return list(_OTHERS)


def run(lab: Lab, schedule: Schedule, say: Say, left_out: dict[str, str], every: float) -> Report:
    """Prepare a lab that has just come up, carry the schedule out on it, and judge. `every`: seconds between
    probes of a path. Raises LabError."""
    say("making the pods and services that are probed")
    ground = prepare(lab)
    _with_grace(ground)
    wait_converged(replace(lab, topology=ground.topology))
    probed = paths(ground.lab.topology, ground.places, ground.declared)
    say(f"probing {len(probed)} paths")
    return Run(ground, schedule, say, left_out, Probing(probed, every)).carry_out()


def _with_grace(ground: Ground) -> None:
    """Restarts of BIRD and FRR may be graceful from now on."""
    for router in ground.lab.topology.routers:
        host = ground.host(router.name)
        if router.kind is RouterKind.BIRD:
            config = host.directory / "bird.conf"
            config.write_text(bird_with_grace(config.read_text()))
            host.run(["birdc", "configure"])
        elif router.kind is RouterKind.FRR:
            config = host.directory / "frr.conf"
            config.write_text(frr_with_grace(config.read_text()))
            host.run(["vtysh", "-b"])
            host.run(["vtysh", "-c", "clear bgp *"])
