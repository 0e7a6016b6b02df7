"""The real CNI server as `SimNode.pods`: what an agent is given for its runtime, on a simulated kernel and
disk.

    node = Scene()
    node.pods = ServedPods()
    await node.ready()
    assert not await node.pods.attach("web", labels="app=web")

Its threads take turns with the agent's loop. Kernel and disk take no time, since what the agent asks of the
server it asks in its loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, cast

from sim_machine import Machine
from sim_runtime import Box, Hears, Runtime
from simloop import SimLoop
from threads import SimCondition, SimThreads

from l3net.attach.server import CniServer
from l3net.cni.guard import Allowed
from l3net.cni.setup import NodeNetwork
from l3net.faults import Faults
from l3net.ipam.lease import Usage
from l3net.ipam.ranges import RangeSet
from l3net.model import Address, Prefix
from l3net.policy.attached import Attached
from l3net.ports import Admission


class Asked:
    """An admission whose answer a simulated thread may wait for."""

    def __init__(self, threads: SimThreads, of: Admission) -> None:
        self._threads, self._of = threads, of

    def admit(self, key: str, attached: Attached, uid: str) -> Future[str] | None:
        found = self._of.admit(key, attached, uid)
        if found is not None:
            found._condition = SimCondition(self._threads)  # type: ignore[assignment]
        return found

    def release(self, key: str) -> None:
        self._of.release(key)


class ServedPods:
    """l3net.agent.shells.Pods. What is made of pods outlives agents; `power_cut` ends that, too."""

    def __init__(self, seed: int = 0, name: str = "n1") -> None:
        self._seed, self._name = seed, name
        self._machine: Machine | None = None
        self._server: CniServer | None = None
        self._admission: Admission | None = None
        self._wired: dict[str, Attached] = {}
        self._missing: Callable[[str], None] = lambda _pool: None
        self.network: NodeNetwork | None = None
        self.updates: list[NodeNetwork] = []
        self.allowed = Allowed()
        self.reattached = self.guard_looks = 0
        self.runtime: Runtime

    @property
    def machine(self) -> Machine:
        """Made when it is first asked for, in the loop."""
        if self._machine is None:
            loop = cast(SimLoop, asyncio.get_running_loop())
            self.threads = SimThreads(loop, self._seed)
            self._machine = Machine(self.threads, self._seed, self._name, slow=0.0)
            self.runtime = Runtime(self.threads, self._machine, self._seed, Hears())
        return self._machine

    @property
    def _next(self) -> CniServer:
        """That of the agent that is, or is about to be."""
        if self._server is None:
            self._server = self.machine.prepare()
        return self._server

    # --- what the agent asks -----------------------------------------------------------------------------

    @property
    def faults(self) -> Faults:
        return self._next.faults

    @property
    def on_missing(self) -> Callable[[str], None]:
        return self._missing

    @on_missing.setter
    def on_missing(self, heard: Callable[[str], None]) -> None:
        self._missing = self._next.on_missing = heard

    @property
    def admission(self) -> Admission | None:
        return self._admission

    @admission.setter
    def admission(self, asked: Admission | None) -> None:
        self._admission = asked
        self._next.admission = Asked(self.threads, asked) if asked is not None else None

    def start(self) -> None:
        self._next.start()
        self.machine.began()

    def stop(self) -> None:
        """Its process ends."""
        if self._server is not None:
            self._wired = self.wired
            self._server = None
            self.machine.kill()

    def update(self, network: NodeNetwork) -> None:
        self.network = self.machine.network = network
        self.updates.append(network)
        self._next.update(network)

    def problems(self) -> list[str]:
        return self._next.problems()

    def status(self) -> Mapping[str, Any]:
        return self._next.status()

    def reattach_ports(self) -> list[str]:
        self.reattached += 1
        self.machine.make_bridge()
        return self._next.reattach_ports()

    def allow(self, allowed: Allowed) -> None:
        self.allowed = allowed
        self._next.allow(allowed)

    def guard_touched(self) -> None:
        self.guard_looks += 1
        self._next.guard_touched()

    def holds(self, block: Prefix) -> bool:
        return self._next.holds(block)

    def attached(self) -> Iterable[tuple[str, Attached]]:
        return list(self._next.attached())

    def attachments(self, block: Prefix | None = None) -> int:
        return self._next.attachments(block)

    def usage(self, sets: RangeSet) -> Usage:
        return self._next.usage(sets)

    # --- what is seen ------------------------------------------------------------------------------------

    @property
    def wired(self) -> dict[str, Attached]:
        """The pods, each by its attachment's key; of an agent that is gone those that it left."""
        server = self._server
        if server is None or self._machine is None or not self._machine.serving:
            return self._wired
        return dict(server.attached())

    @property
    def leased(self) -> set[Address]:
        return {address for each in self.wired.values() for address in each.addresses}

    # --- what a runtime does -----------------------------------------------------------------------------

    async def attach(self, pod: str, *, namespace: str = "default", labels: str = "") -> str:
        """ADD: why the pod was not wired, empty if it was."""
        box = self._box(pod, namespace, labels)
        answer = await self._call("ADD", box)
        if answer.exit_code:
            await self._call("DEL", box)
            box.state = "gone"
            return str(answer.stdout.decode())
        box.state = "live"
        return ""

    async def detach(self, pod: str) -> str:
        """DEL: why it failed."""
        box = self.runtime.live(pod)
        if box is None:
            return ""
        answer = await self._call("DEL", box)
        if answer.exit_code == 0:
            box.state = "gone"
            self.machine.kernel.remove(box.space)
        return str(answer.stdout.decode())

    def _box(self, pod: str, namespace: str, labels: str) -> Box:
        made = self.machine.boots, self.runtime.box(pod)
        box = made[1]
        box.namespace, box.told = namespace, labels
        return box

    async def _call(self, command: str, box: Box) -> Any:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.runtime.process.start(lambda: done.set_result(self.runtime.call(command, box)), command)
        return await done

    def close(self) -> None:
        """At the end of a scenario."""
        if self._machine is not None:
            self.threads.close()
            self._machine.close()
            self._machine = None
