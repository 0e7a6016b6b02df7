"""A machine that runs the real CNI server on a simulated kernel and disk, and may be killed at any step of
it: the server as a process, or the machine as a whole.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from random import Random
from typing import Any

from sim_calls import Client, Listener
from sim_disk import SimDisk
from sim_guard import SimGuardKernel, SimGuardTable, SimRules
from sim_links import SimLinks
from sim_netlink import SimNetlink, SimSandboxes
from sqlite_vfs import Vfs
from threads import Process, SimEvent, SimThreads, sleep

from l3net.attach.server import CniServer
from l3net.attach.shells import AttachShells
from l3net.cni.setup import NodeNetwork
from l3net.errors import L3netError
from l3net.model import Address
from l3net.naming import BRIDGE, LEASE_DB
from l3net.shell.files.leases import SqliteLeases
from l3net.shell.kernel.bridge import KernelBridge

BLOCKS = (ip_network("10.244.1.0/27"), ip_network("fd00:244:1::/123"))
#: Seconds an agent that could not start is away.
RESTART = 2.0
#: Seconds between two looks of an agent at its bridge.
RESYNC = 30.0
#: A link that looks like ours, and says that it is another store's.
OTHERS = "l3v00000000000"
#: Where the store is on the simulated disk.
STORE = f"/{LEASE_DB}"


class Flush:
    """Connections of released addresses: there are none."""

    def __init__(self, _home: int, _faults: object) -> None:
        self.forgotten: list[Address] = []

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def add(self, addresses: Any) -> None:
        self.forgotten += addresses


@dataclass
class Fuse:
    """`left` steps of the server until `burn`."""

    left: int
    burn: Callable[[], None]


@dataclass
class Half:
    """A server in its process. `begun`: it has a descriptor of its namespace that only the kernel closes."""

    process: Process
    server: CniServer
    listener: Listener | None = None
    begun: bool = False


class Machine:
    """`name` tells machines apart. `slow` multiplies how long disk and kernel take; 0: no time at all."""

    def __init__(self, threads: SimThreads, seed: int, name: str = "n1", slow: float = 1.0) -> None:
        self.threads, self.name, self.slow = threads, name, slow
        self.random = Random(f"{seed} {name}")
        self.vfs = Vfs.the()
        self.vfs.sleep = self.wait
        self.directory = Path(tempfile.mkdtemp(prefix="l3net-pods-", dir=_room()))
        self.boots, self.losses = 0, 0
        self.fresh = False  # the state is lost, and no agent has adopted what runs
        self.network = NodeNetwork(BLOCKS, 1500)
        self.fuse: Fuse | None = None
        self.process: Process | None = None
        self.server: CniServer | None = None
        self.listener: Listener | None = None
        self.powered = True
        self.noticed = SimEvent(threads)  # something of the bridge's, or another block
        self.disk_slow = 1.0
        self.unserved: list[tuple[float, str]] = []  # when an agent could not start, and why
        self.on_change: Callable[[], None] = lambda: None
        self.on_boot: Callable[[], None] = lambda: None
        self._halves: list[Half] = []
        self._disk()
        self._boot()

    # --- the machine -------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.threads.loop.time()

    @property
    def running(self) -> bool:
        return self.process is not None and not self.process.dead

    @property
    def boot(self) -> str:
        return f"{self.boots:08x}-0000-4000-8000-000000000000"

    def _disk(self) -> None:
        self.disk = SimDisk(self.random)
        self.disk.step = self._disk_step
        self.state = self.directory / f"state{self.losses}"
        self.state.mkdir()

    def _boot(self) -> None:
        self.boots += 1
        self.kernel = SimLinks(self.random)
        self.kernel.step = self._kernel_step
        self.guard = SimGuardKernel(self.kernel)
        self.others()
        self.on_boot()

    def others(self) -> None:
        """What is there of others: a bridge with a port, and links that look like ours."""
        kernel, host = self.kernel, self.kernel.host
        bridge = kernel.add(host, "cni0", "bridge", up=True)
        kernel.add(host, "veth0", "veth", up=True, master=bridge.index)
        alias = "l3net/1 other c0ffee eth0 10.9.0.7/24"
        kernel.add(host, OTHERS, "veth", up=True, master=bridge.index, alias=alias)

    def wait(self, seconds: float) -> None:
        if self.threads.running is not None and seconds > 0:
            self.threads.wait([], seconds)

    def _step(self) -> None:
        running = self.threads.running
        if running is None:
            return
        running.process.check()
        if self.fuse is not None and running.process is self.process:
            self.fuse.left -= 1
            if self.fuse.left <= 0:
                fuse, self.fuse = self.fuse, None
                fuse.burn()

    def _kernel_step(self, what: str) -> None:
        if what.endswith("done"):
            self.on_change()
        self._step()
        if self.slow and self.random.random() < 0.15:
            self.wait(self.random.random() * 1e-3 * self.slow)

    def _disk_step(self, what: str) -> None:
        self._step()
        if self.slow and what == "sync":
            self.wait(self.random.uniform(2e-4, 4e-3) * self.slow * self.disk_slow)

    def power_off(self) -> None:
        """Nothing but the platter is left."""
        self.powered = False
        self.disk.lose_power()
        self._gone()

    def power_on(self) -> None:
        if not self.powered:
            self.powered = True
            self.kernel.close()
            self._boot()
            self.start()

    def lose_state(self) -> None:
        """Somebody removes the directory, while nobody has it open."""
        if not self.running:
            self.losses += 1
            self.fresh = True
            self.vfs.forget(self.disk)
            old = self.disk
            self._disk()
            self.disk.full, self.disk.read_only, self.disk.failing = old.full, old.read_only, old.failing

    # --- the agent ---------------------------------------------------------------------------------------

    def shells(self, process: Process) -> AttachShells:
        kernel = self.kernel

        def leases(_path: Path) -> SqliteLeases:
            return SqliteLeases(
                self.state / LEASE_DB,
                boot=self.boot,
                clock=process.threads.monotonic,
                verify=True,
                named=True,
                threads=process.threads,
                connect=self._connect,
            )

        def listen(_path: Path) -> Any:
            self.listener = Listener(process, kernel)
            return self.listener

        return AttachShells(
            leases=leases,
            sandboxes=lambda home: SimSandboxes(kernel, home),
            bridge=lambda: KernelBridge(SimNetlink(kernel, kernel.host)),
            guard=lambda: SimGuardTable(self.guard),
            rules=SimRules(),
            flush=Flush,
            enter=lambda _home: None,
            opened=lambda _home: SimNetlink(kernel, kernel.host),
            listen=listen,
            boot=lambda: self.boot,
            threads=process.threads,
        )

    def _connect(self, _path: Path, **options: Any) -> Any:
        def owner() -> Process | None:
            running = self.threads.running
            return running.process if running is not None else self.process

        return self.vfs.connect(self.disk, owner, STORE, **options)

    def made(self, process: Process) -> CniServer:
        """A server of a process, not begun."""
        return CniServer(self.directory / "cni.sock", self.state, shells=self.shells(process))

    def prepare(self) -> CniServer:
        """A server in a process of its own, for whoever begins it by himself."""
        process = self.process = self.threads.process(f"{self.name} agent")
        server = self.server = self.made(process)
        self._halves.append(Half(process, server))
        return server

    def began(self) -> None:
        """It has."""
        half = self._halves[-1]
        half.listener, half.begun = self.listener, True

    @property
    def serving(self) -> bool:
        return self.running and bool(self._halves) and self._halves[-1].begun

    def start(self) -> None:
        """As systemd does: it is begun again when it cannot."""
        if self.running or not self.powered:
            return
        process = self.process = self.threads.process(f"{self.name} agent")
        server = self.server = self.made(process)
        half = Half(process, server)
        self._halves.append(half)

        def main() -> None:
            try:
                server.start()
            except L3netError as err:
                self.unserved.append((self.now, str(err)))
                self.threads.loop.call_later(RESTART, self.start)
                self._gone()
            half.listener, half.begun = self.listener, True
            sleep(process, self.random.uniform(0.01, 1.0))
            self._look_after(process, server)

        process.start(main, "main")

    def _look_after(self, process: Process, server: CniServer) -> None:
        """What of an agent's passes concerns the server."""
        told = None
        while True:  # a link that goes is told of by the kernel
            self.fresh = self.fresh and bool(server._unsafe())
            with server.faults.contained("bridge"):
                self.make_bridge()
            if told != self.network:
                told = self.network
                server.update(told)
            server.reattach_ports()
            self.noticed.clear()
            self.noticed.wait(RESYNC)
            sleep(process, 0.1)

    def make_bridge(self) -> None:
        """As it is planned, by the agent."""
        self.kernel.step("bridge")
        if self.kernel.host.link(BRIDGE) is None:
            made = self.kernel.add(self.kernel.host, BRIDGE, "bridge", mac="02:6c:33:00:00:01", up=True)
            for block in self.network.blocks:
                self.kernel.host.addresses[made.index, ip_address(int(block[0]) + 1)] = block.prefixlen

    def stop(self) -> None:
        """As SIGTERM: what is under way is finished."""
        process, server = self.process, self.server
        if process is None or server is None or process.dead or self.listener is None:
            return

        def work() -> None:
            for half in self._halves:
                half.begun = half.begun and half.server is not server
            try:
                server.stop()
            finally:
                if not process.dead:
                    self._gone()

        process.start(work, "stops")

    def kill(self) -> None:
        """As SIGKILL."""
        if self.running:
            self._gone()

    def _gone(self) -> None:
        process, self.fuse = self.process, None
        if process is not None and not process.dead:
            self.threads.loop.call_later(1e-3, self._bury)
            self.listener = None
            process.kill()

    def _bury(self) -> None:
        """What the kernel does for a process that is no more."""
        for half in [half for half in self._halves if half.process.dead and not half.process.alive]:
            self._halves.remove(half)
            if half.listener is not None:
                half.listener.close()
            leases = getattr(half.server, "leases", None)
            if leases is not None:
                leases._connection.close()
            if half.begun:
                os.close(half.server._home)

    def client(self, process: Process) -> Client:
        return Client(process, lambda: self.listener, lambda: self.state, lambda: self.boot)

    # --- what is seen ------------------------------------------------------------------------------------

    def stored(self, disk: SimDisk | None = None) -> SqliteLeases:
        """The store as the platter has it, or another disk; to be closed."""
        found = disk or self.disk.platter()

        def connect(_path: object, **options: Any) -> Any:
            return self.vfs.connect(found, lambda: None, STORE, **options)

        return SqliteLeases(self.directory / "seen.db", boot=self.boot, connect=connect, verify=True)

    def close(self) -> None:
        """All processes have ended."""
        for half in self._halves:
            half.process.dead = True
        self._bury()
        self.kernel.close()
        self.vfs.forget(self.disk)
        shutil.rmtree(self.directory, ignore_errors=True)


def _room() -> str | None:
    """In memory, where that may be."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
