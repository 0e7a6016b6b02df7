"""What holds for a node's pods whatever happens, looked at from outside: the kernel, the platter, the
answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sim_guard import element_of
from sim_links import Link
from sim_machine import OTHERS, Machine
from sim_runtime import Box, Hears, Runtime
from stepped import Broken

from l3net.addresses import parse_interface
from l3net.cni.frame import Answer
from l3net.cni.guard import GuardedPort, elements
from l3net.cni.ifname import host_ifname
from l3net.cni.present import host_end
from l3net.errors import L3netError
from l3net.naming import BRIDGE, VETH_PREFIX

#: Seconds an address rests before another pod has it.
COOL_DOWN = 60.0
#: Seconds after the last trouble within which what a pod has is whole again.
WHOLE = 45.0
#: Seconds after somebody was at the guard's table within which it is as it was.
GUARDED = 13.0
#: Seconds that a call takes at most while nothing is wrong.
CALM_CALL = 10.0
#: Pods for which there are addresses.
ROOM = 29
#: The share of leases that are looked up on a disk that has everything.
LOOKED_AT = 0.2
#: Laws broken after which there is no need for more.
ENOUGH = 8


class Laws(Hears):
    """Of one machine and its runtime."""

    def __init__(self) -> None:
        self.found: list[Broken] = []
        self.machine: Machine
        self.runtime: Runtime
        self.began = 0.0
        self.trouble_until = 0.0  # of whatever a step has done, in the loop's seconds
        self.harmed = 0.0  # when somebody was at the guard's table; 0: it is as we left it
        self.served_since = 0.0
        self._freed: dict[str, tuple[float, int, int]] = {}  # when, in which boot, with which store
        self._others: list[Any] = []

    def follow(self, machine: Machine, runtime: Runtime) -> None:
        self.machine, self.runtime = machine, runtime
        machine.on_change = self.ports
        machine.on_boot = self.booted
        self.booted()

    def booted(self) -> None:
        self._others = self._seen_others()

    @property
    def now(self) -> float:
        return self.machine.now

    @property
    def hot(self) -> bool:
        return len(self.found) >= ENOUGH

    def trouble(self, seconds: float = 0.0) -> None:
        """Something is wrong for so long from now."""
        self.trouble_until = max(self.trouble_until, self.now + seconds)

    def broken(self, law: str, what: str) -> None:
        if not any(each.law == law and each.what == what for each in self.found):
            self.found.append(Broken(law, round(self.now - self.began, 4), what))

    # --- answers -----------------------------------------------------------------------------------------

    def added(self, box: Box) -> None:
        for address in box.addresses:
            for other in self.runtime.boxes:
                held = other.state in ("live", "going") and address in other.addresses
                if other is not box and held and not self._unknowable(other, address):
                    self.broken("an address has one owner", f"{address}: {other.container}, {box.container}")
            freed, boot, store = self._freed.get(address, (-1e9, 0, 0))
            same = boot == self.machine.boots and store == self.machine.losses
            if same and self.now - freed < COOL_DOWN - 0.01:
                self.broken(
                    "an address rests", f"{address} after {self.now - freed:.3f} s for {box.container}"
                )
        for space in self.machine.kernel.spaces.values():
            if space is not box.space and space is not self.machine.kernel.host:
                for index, address in space.addresses:
                    link = space.links.get(index)
                    if str(address) in box.addresses and link is not None and self._open(link.peer):
                        self.broken("an address has one owner", f"{address}: on the wire of {space.name}")
        if self.now - self.trouble_until > 0 or not self._disturbs(box.began):
            for lack in self.lacks(box):
                self.broken("an ADD that succeeded is complete", f"{box.container}: {lack}")
        self._durable(box)

    def _unknowable(self, box: Box, address: str) -> bool:
        """Whether it died while the store was lost: neither lease nor interface tells of it any more."""
        store = self._freed.get(address, (0.0, 0, self.machine.losses))[2]
        return box.state == "going" and box.space.removed and store != self.machine.losses

    def _disturbs(self, since: float) -> bool:
        return self.trouble_until >= since

    def _durable(self, box: Box) -> None:
        """What is on the platter. To open it takes long, so that where nothing is still on its way there, not
        all are looked at."""
        if self.machine.disk.settled and self.runtime.random.random() >= LOOKED_AT:
            return
        store = self._stored()
        if store is None:
            return
        try:
            link = self.machine.kernel.host.link(host_ifname(box.key))
            if link is not None and not host_end(link.name, link.index, link.alias).of_store(store.identity):
                self.broken(
                    "an interface says of which store its lease is", f"{box.container}: {link.alias!r}"
                )
            lease = store.find(box.key)
            held = {str(each.address) for each in lease.addresses} if lease is not None else set()
        finally:
            store.close()
        if held != set(box.addresses):
            self.broken("the lease is on the disk before the answer", f"{box.container}: {held}")

    def _stored(self) -> Any:
        try:
            return self.machine.stored()
        except L3netError as err:
            self.broken("the store is whole", str(err))
            return None

    def leaves(self, box: Box) -> None:
        for address in box.addresses:
            store = -1 if self.machine.fresh else self.machine.losses
            self._freed[address] = self.now, self.machine.boots, store

    def left(self, box: Box, when: str) -> None:
        if (
            when == "DEL"
            and box.answered
            and self.runtime.random.random() < 0.3
            and not self.runtime.client.spooled
        ):
            store = self._stored()
            if store is not None:
                try:
                    if store.find(box.key) is not None:
                        self.broken("a lease is gone before DEL is answered", box.container)
                finally:
                    store.close()

    def answered(self, command: str, box: Box | None, began: float, answer: Answer) -> None:
        """Of a call at a time when nothing was wrong."""
        text = answer.stdout.decode(errors="replace")
        if command == "twice" and answer.exit_code == 0:
            self.broken("an attachment is not made twice", box.container if box else "")
        calm = began - 1.0 > max(self.trouble_until, self.served_since + 8.0) and self.machine.running
        if not calm or (box is not None and box.space.removed):
            return
        if self.now - began > CALM_CALL:
            self.broken("a call ends in time", f"{command}: {self.now - began:.1f} s")
        if answer.exit_code == 0 or command == "twice":
            return
        if command == "ADD" and ("no address free" in text or ('"code":11' in text and "free" in text)):
            return
        mended = self.now - self.trouble_until > WHOLE
        if command == "CHECK" and (box is None or box.state != "live" or not mended):
            return
        self.broken(
            "a call succeeds while nothing is wrong", f"{command} {box and box.container}: {text[:300]}"
        )

    def late(self, call: Any) -> None:
        if self.now - 61 > self.trouble_until:
            self.broken("a call ends in time", f"{call.environment['CNI_COMMAND']}: never")

    # --- the kernel --------------------------------------------------------------------------------------

    def _bridge(self) -> int:
        link = self.machine.kernel.host.link(BRIDGE)
        return link.index if link is not None else -1

    def _open(self, link: Link | None) -> bool:
        """Whether a port of the bridge takes packets."""
        return (
            link is not None
            and link.up
            and link.master == self._bridge()
            and link.state != 0
            and link.index in link.space.links
        )

    def ports(self) -> None:
        """After each change of the kernel's."""
        kernel, bridge = self.machine.kernel, self._bridge()
        unguarded = [
            link.name
            for link in kernel.host.links.values()
            if link.master == bridge
            and self._open(link)
            and link.name.startswith(VETH_PREFIX)
            and link.name != OTHERS
            and self.machine.guard.lets(link.name)
        ]
        if not unguarded:
            self.harmed = 0.0
        elif not self.harmed:
            self.broken("a port is guarded before it is there", unguarded[0])

    def lacks(self, box: Box) -> Iterator[str]:
        """What a live pod has not."""
        kernel = self.machine.kernel
        host, inner, space = kernel.host, box.space.link("eth0"), box.space
        outer = host.link(host_ifname(box.key))
        if inner is None or outer is None or inner.peer is not outer:
            yield "its interface is gone"
            return
        bridge = self._bridge()
        if not inner.up or not self._open(outer) or not outer.isolated or outer.learning:
            yield f"its port is not as it was: {outer}"
        addresses = [parse_interface(each["address"]).ip for each in box.result["ips"]]
        for address in addresses:
            if (inner.index, address) not in space.addresses:
                yield f"{address} is not on its link"
            if (inner.index, address) in space.unheard:
                yield f"what comes for {address} is dropped"
            if host.neighbours.get((bridge, address)) != inner.mac:
                yield f"{address} is not pinned to its MAC"
        if (outer.index, inner.mac) not in host.forwarding:
            yield "its MAC is not pinned to its port"
        for route in box.result["routes"]:
            if (route["dst"], 254) not in space.routes:
                yield f"its route to {route['dst']} is gone"
        held = self.machine.guard.elements or set()
        wanted = elements(GuardedPort(outer.name, inner.mac, tuple(addresses)))
        if not self.harmed and not wanted <= held:
            yield f"{len(wanted - held)} elements of its guard are gone"

    # --- looks -------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Now and then."""
        if not self.machine.running:
            self.served_since = self.now
        since = max(self.trouble_until, self.served_since)
        if self.harmed and self.now - max(self.harmed, since) > GUARDED:
            self.broken("the guard's table is put back in time", f"{self.now - self.harmed:.0f} s")
        if self.now - since > WHOLE:
            self.whole()
        for at, why in self.machine.unserved:
            if at > self.trouble_until + 1 or "damaged" in why:
                self.broken("an agent can start", why)
        if (others := self._seen_others()) != self._others:
            self.broken("what is others' stays", f"{self._others} -> {others}")
        if self.machine.guard.strange:
            self.broken("what is others' stays", self.machine.guard.strange[0])

    def whole(self) -> None:
        for box in self.runtime.all_live:
            for lack in self.lacks(box):
                self.broken("a live pod loses nothing", f"{box.container}: {lack}")

    def _seen_others(self) -> list[Any]:
        host = self.machine.kernel.host
        names = ("cni0", "veth0", OTHERS)
        found = [host.link(name) for name in names]
        return [(link.name, link.up, link.master, link.alias) for link in found if link is not None]

    def power_lost(self) -> None:
        """The platter is all there is, and has what was answered for."""
        store = self._stored()
        if store is None:
            return
        try:
            verdict = store.read(lambda db: db.execute("PRAGMA integrity_check").fetchone()[0])
            if verdict != "ok":
                self.broken("the store is whole", str(verdict))
            held = {lease.key for lease in store.leases()}
        finally:
            store.close()
        for box in self.runtime.all_live:
            if box.key not in held:
                self.broken("a lease outlives a loss of power", box.container)

    def uncollected(self) -> None:
        """Long after the last fault, and before GC: what DEL was called for has nothing, nor whose sandbox
        died."""
        server = self.machine.server
        if server is None or not self.machine.running:
            return
        held = {lease.key for lease in server.leases.leases()}
        for box in self.runtime.boxes:
            if box.state == "gone" and box.key in held:
                self.broken("DEL and the audit leave nothing", box.container)

    # --- the end -----------------------------------------------------------------------------------------

    def end(self) -> None:
        """Long after the last fault, and after GC: what there is is of live pods, and all of it is."""
        self.whole()
        live, host = self.runtime.all_live, self.machine.kernel.host
        for pod in self.runtime.wanted if len(self.runtime.wanted) <= ROOM else ():
            if self.runtime.live(pod) is None:
                self.broken("a pod that is wanted runs", pod)
        for box in self.runtime.boxes:
            if box.state in ("adding", "going") and len(self.runtime.wanted) <= ROOM:
                self.broken("a sandbox comes or goes", f"{box.container} is {box.state}")
        names = {host_ifname(box.key) for box in live}
        links = {
            link.name
            for link in host.links.values()
            if link.name.startswith(VETH_PREFIX) and link.name != OTHERS
        }
        if links - names:
            self.broken("nothing is left", f"links {sorted(links - names)}")
        for space in self.machine.kernel.spaces.values():
            if space.removed:
                self.broken("nothing is left", f"namespace {space.name} is open")
        server = self.machine.server
        if server is None or not self.machine.running:
            self.broken("an agent runs", "")
            return
        self._stored_end(server, live)
        addresses = {address for box in live for address in box.addresses}
        pinned = {str(address) for _, address in host.neighbours}
        if pinned != addresses:
            self.broken("nothing is left", f"neighbours {sorted(pinned ^ addresses)}")
        guarded = {each.port for each in self.machine.guard.elements or ()}
        if guarded - names:
            self.broken("nothing is left", f"guard of {sorted(guarded - names)}")
        for problem in server.problems():
            if "no address free" not in problem:
                self.broken("no problem is told", problem)
        files = [each.name for each in (self.machine.state / "spool").glob("*")]
        if files:
            self.broken("the spool is empty", f"{files[:3]}")

    def _stored_end(self, server: Any, live: list[Box]) -> None:
        keys = {box.key for box in live}
        held = {lease.key: lease for lease in server.leases.leases()}
        if keys - held.keys():
            self.broken("a live pod has its lease", f"{sorted(keys - held.keys())}")
        if held.keys() - keys:
            self.broken("nothing is left", f"leases {sorted(held.keys() - keys)}")
        for box in live:
            lease = held.get(box.key)
            if lease is not None and {str(each.address) for each in lease.addresses} != set(box.addresses):
                self.broken("a live pod has its lease", f"{box.container}: {lease.addresses}")
        records = {key for key, _ in server.leases.records()}
        if records - keys:
            self.broken("nothing is left", f"records {sorted(records - keys)}")

    def settled(self) -> tuple[int, int, int]:
        """What does not move while nothing happens."""
        machine = self.machine
        return machine.disk.writes, machine.kernel.changes, machine.guard.generation


__all__ = ["Laws", "element_of"]
