"""A node's pods in simulated time: the real CNI server on a model of kernel and disk, and a runtime. Each
step of a case (pods_case.py) is a method here.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network

from pods_laws import Laws
from sim_guard import SimGuardTable
from sim_links import Trouble
from sim_machine import BLOCKS, Fuse, Machine
from sim_runtime import Box, Runtime
from threads import SimThreads

from l3net.naming import BRIDGE

#: Pods at most: a few more than there are addresses.
MOST = 33
MORE = ip_network("10.244.7.0/28")


class PodsWorld:
    """Methods without an underscore are steps."""

    def __init__(self, threads: SimThreads, seed: int, laws: Laws) -> None:
        self.threads, self.laws = threads, laws
        self.machine = Machine(threads, seed)
        self.runtime = Runtime(threads, self.machine, seed, laws)
        laws.follow(self.machine, self.runtime)
        self.runtime.client.late = laws.late
        self._bursts = 0

    def _later(self, seconds: float, call: Callable[..., object], *args: object) -> None:
        self.threads.loop.call_later(seconds, call, *args)

    def _for(self, seconds: float, undo: Callable[[], object]) -> None:
        """Something is wrong so long."""
        self.laws.trouble(seconds)
        self._later(seconds, undo)

    # --- pods --------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.machine.start()

    def pod(self, name: str) -> None:
        if name not in self.runtime.wanted:
            self.runtime.run(name)

    def pod_gone(self, name: str) -> None:
        self.runtime.stop(name)

    def pods(self, count: int) -> None:
        """So many at once."""
        self._bursts += 1
        for number in range(min(count, MOST - len(self.runtime.wanted))):
            self.runtime.run(f"b{self._bursts}-{number}")

    def pods_gone(self) -> None:
        for name in list(self.runtime.wanted):
            if name.startswith("b"):
                self.runtime.stop(name)

    def dies(self, name: str) -> None:
        self.runtime.dies(name)

    def again(self, name: str) -> None:
        self.runtime.again(name)

    def forget(self, name: str) -> None:
        self.runtime.forget(name)

    def impatient(self, name: str, seconds: float) -> None:
        self.runtime.impatient(f"{name}x", seconds)

    def twice(self, name: str) -> None:
        self.runtime.twice(name)

    def unknown(self, number: int) -> None:
        self.runtime.unknown(number)

    def check(self, name: str) -> None:
        self.runtime.check(name)

    def status(self) -> None:
        self.runtime.status()

    def collect(self, how: str) -> None:
        self.runtime.collect(how)

    # --- the agent, and the machine ----------------------------------------------------------------------

    def kill(self, seconds: float) -> None:
        self.laws.trouble(seconds + 1)
        self.machine.kill()
        self._later(seconds, self.machine.start)

    def kill_at(self, steps: int, seconds: float) -> None:
        """Amid whatever the server does then."""
        self.machine.fuse = Fuse(steps, lambda: self.kill(seconds))

    def stop(self, seconds: float) -> None:
        self.laws.trouble(seconds + 5)
        self.machine.stop()
        self._later(seconds, self._again)

    def _again(self) -> None:
        """When the old one has ended."""
        if self.machine.running and self.machine.listener is not None and not self.machine.listener.listens:
            self.laws.trouble(1)
            self._later(0.5, self._again)
        else:
            self.machine.start()

    def power(self, seconds: float) -> None:
        if not self.machine.powered:
            return
        self.laws.trouble(seconds + 5)
        self.runtime.process.kill()
        self._later(seconds, self._on)
        try:
            self.machine.power_off()
        finally:
            self.laws.power_lost()

    def power_at(self, steps: int, seconds: float) -> None:
        self.machine.fuse = Fuse(steps, lambda: self.power(seconds))

    def _on(self) -> None:
        self.laws.trouble(5)
        self.laws.harmed = 0.0
        self.machine.power_on()
        self.runtime.reboot()
        self.runtime.client.late = self.laws.late

    def state_lost(self, seconds: float) -> None:
        """The directory is removed while no agent runs."""
        self.laws.trouble(seconds + 3)
        self.machine.kill()
        self._later(0.01, self.machine.lose_state)
        self._later(0.01 + seconds, self.machine.start)

    # --- the disk ----------------------------------------------------------------------------------------

    def _disk(self, seconds: float, what: str, value: float, usual: float) -> None:
        setattr(self.machine.disk, what, value)
        self._for(seconds, lambda: setattr(self.machine.disk, what, usual))

    def full(self, seconds: float) -> None:
        self._disk(seconds, "full", True, False)

    def read_only(self, seconds: float) -> None:
        self._disk(seconds, "read_only", True, False)

    def io(self, seconds: float, chance: float) -> None:
        self._disk(seconds, "failing", chance, 0.0)

    def slow_disk(self, seconds: float, factor: int) -> None:
        self.machine.disk_slow = factor
        self._for(seconds, lambda: setattr(self.machine, "disk_slow", 1.0))
        self.laws.trouble(seconds + 20)

    def locked(self, seconds: float) -> None:
        """Another process has a transaction open (`l3net ipam`, a copy of the file)."""
        machine, losses = self.machine, self.machine.losses
        process = self.threads.process("ipam")

        def work() -> None:
            store = machine.vfs.connect(machine.disk, lambda: process, "/leases.db", isolation_level=None)
            try:
                store.execute("BEGIN IMMEDIATE")
                self.threads.wait([], seconds)
                store.execute("ROLLBACK")
            finally:
                store.close()

        def contained() -> None:
            try:
                work()
            except Exception:  # no such store, or it is in use
                assert losses >= 0

        self.laws.trouble(seconds + 6)
        process.start(contained, "holds")

    # --- the kernel --------------------------------------------------------------------------------------

    def _trouble(self, seconds: float, trouble: Trouble) -> None:
        self.machine.kernel.troubles.append(trouble)
        kernel = self.machine.kernel
        self._for(seconds, lambda: kernel.troubles.remove(trouble))
        self.laws.trouble(seconds + 1)

    def refuse(self, what: str, code: int, seconds: float, chance: float) -> None:
        self._trouble(seconds, Trouble(code, chance, of=f"refuse {what}"))

    def lost_answer(self, seconds: float, chance: float) -> None:
        """The kernel does it, and the socket has no room for its answer."""
        self._trouble(seconds, Trouble(errno.ENOBUFS, chance, after=True))

    def unsent(self, seconds: float, chance: float) -> None:
        self._trouble(seconds, Trouble(errno.ENOBUFS, chance))

    def interrupted(self, seconds: float, chance: float) -> None:
        self._trouble(seconds, Trouble(errno.EINTR, chance, of="dump"))

    def slow_kernel(self, seconds: float, factor: int) -> None:
        self.machine.slow = factor
        self._for(seconds, lambda: setattr(self.machine, "slow", 1.0))
        self.laws.trouble(seconds + 10)

    def bridge_again(self) -> None:
        """Somebody deletes the bridge; the agent makes it anew."""
        self.laws.trouble(3)
        link = self.machine.kernel.host.link(BRIDGE)
        if link is not None:
            self.machine.kernel.delete(link)
            self.machine.noticed.set()

    def _box(self, name: str) -> Box | None:
        return self.runtime.live(name)

    def port_down(self, name: str) -> None:
        """Somebody takes a pod's port down, and off the bridge."""
        box = self._box(name)
        link = box.space.link("eth0") if box is not None else None
        if link is not None and link.peer is not None:
            self.laws.trouble()
            link.peer.up = False
            self.machine.kernel.leave(link.peer)

    def pin_lost(self, name: str) -> None:
        self.laws.trouble()
        host, box = self.machine.kernel.host, self._box(name)
        for key in [key for key in host.neighbours if box is not None and str(key[1]) in box.addresses]:
            del host.neighbours[key]

    def harm_guard(self, what: str, told: int) -> None:
        self.laws.trouble()
        self.machine.guard.harm(what)
        if what != "other":
            self.laws.harmed = self.laws.now
            self.laws.ports()
        if told and self.machine.running and self.machine.server is not None:
            self.machine.server.guard_touched()

    def block(self, more: int) -> None:
        """The node is given another block, or loses it while pods may run in it."""
        blocks, kept = (*BLOCKS, MORE) if more else BLOCKS, () if more else (MORE,)
        self.machine.network = replace(self.machine.network, blocks=blocks, retained=kept)
        self.machine.noticed.set()


__all__ = ["PodsWorld", "SimGuardTable"]
