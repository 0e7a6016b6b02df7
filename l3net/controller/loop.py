"""The controller: follows the declared state, and while it leads, writes what follows from it.

A pass writes the ledger first, by compare-and-swap, and tells nodes and services only what that ledger says.
Two controllers that both think they lead therefore cannot give one block to two nodes: the second's write of
the ledger is refused, and it reads and decides anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final

from l3net.controller.decide import Decision, PoolStatus, Settings, decide, owners_lost
from l3net.controller.declared import Declared
from l3net.controller.election import RETRY, Election
from l3net.errors import ConflictError, GoneError, L3netError
from l3net.ipam.findings import Finding
from l3net.ipam.ledger import Ledger, decode, encode
from l3net.model import Kind, ObjectName
from l3net.ports import Changed, ClusterWriter, Datastore, InSync, Mended, Rejected

log = logging.getLogger(__name__)

#: Seconds of quiet that batch changes into a pass, between two full passes, and of back-off after a failure.
QUIET: Final = 0.1
RESYNC: Final = 60.0
BACK_OFF: Final = (1.0, 60.0)
#: Writes to the API server under way at once.
WRITERS: Final = 8
#: A ledger larger than this is near what a ConfigMap may hold (1 MiB).
LARGE_LEDGER: Final = 900_000


class StaleViewError(L3netError):
    """The watch says that an object is gone, the API server that it is there."""


class Controller:
    """`clock` gives monotonic seconds; `beat` is called whenever the loop has shown that it is alive."""

    def __init__(
        self,
        datastore: Datastore,
        cluster: ClusterWriter,
        election: Election,
        settings: Settings,
        clock: Callable[[], float],
        beat: Callable[[Controller], None] = lambda _: None,
    ) -> None:
        self._datastore, self._cluster, self._election = datastore, cluster, election
        self._settings, self._clock, self._beat = settings, clock, beat
        self.declared = Declared()
        self.in_sync = False
        self.passes = 0
        self.problem = ""
        self._absent: dict[str, float] = {}  # nodes the ledger knows and the state does not: since when
        self._said: frozenset[Finding] = frozenset()
        self._pools: dict[str, PoolStatus] = {}
        self._pruned: frozenset[str] | None = None  # the nodes there were when the statuses were cleaned last
        self._ledger: tuple[Ledger, str] | None = None  # as last written or read, with its version
        self._dirty = asyncio.Event()

    @property
    def leading(self) -> bool:
        return self._election.leading

    async def run(self) -> None:
        """Until cancelled; then the lease is let go."""
        tasks = [asyncio.create_task(part()) for part in (self._listen, self._campaign, self._reconcile)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self._election.release)

    async def _listen(self) -> None:
        async for event in self._datastore.events():
            match event:
                case Changed():
                    if self.declared.take(event):
                        self._dirty.set()
                case InSync():
                    self.in_sync = True
                    self._dirty.set()
                case Rejected(partly=True):
                    log.warning("%s", event)
                case Rejected():
                    log.warning("not used, the last good version stays in force: %s", event)
                case Mended():
                    log.info("mended: %s", event.rejected)

    async def _campaign(self) -> None:
        while True:
            led = self._election.leading
            leads = await asyncio.to_thread(self._election.attempt)
            if leads != led:
                log.info("leading" if leads else f"not leading; {self._election.holder or 'nobody'} is")
                if leads:
                    self.forget()
                    self._dirty.set()
            self._beat(self)
            # S311: spreads candidates, guards nothing
            await asyncio.sleep(RETRY * (1 + random.random() / 5))  # noqa: S311

    async def _reconcile(self) -> None:
        wait = BACK_OFF[0]
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._dirty.wait(), RESYNC)
            await asyncio.sleep(QUIET)
            self._dirty.clear()
            if not (self.in_sync and self.leading):
                continue
            failed = await asyncio.to_thread(self.reconcile, self.declared.copy())
            self.problem = str(failed[0]) if failed else ""
            if not failed:
                wait = BACK_OFF[0]
                if self._absent:
                    self._wake_later(min(self._absent.values()) + self._settings.grace - self._clock())
                continue
            if not self.leading:  # no failure to wait out: whoever leads, and be it we again, begins at once
                continue
            for error in failed[:5]:
                log.warning("%s", error)
            await asyncio.sleep(wait * (0.5 + random.random() / 2))  # noqa: S311
            wait = min(wait * 2, BACK_OFF[1])
            self._dirty.set()

    def _wake_later(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(max(seconds, 0.0) + 0.1, self._dirty.set)

    def forget(self) -> None:
        """What a former leader believed is no news to a new one: another may have written since."""
        self._ledger = None
        self._said = frozenset()
        self._pools = {}
        self._pruned = None
        self._absent = {}

    # --- one pass, in a thread ---------------------------------------------------------------------------

    def reconcile(self, declared: Declared) -> list[L3netError]:
        """Decide, write the ledger, then all that follows; what failed, to be tried again."""
        try:
            decision = self._settle_ledger(declared)
        except L3netError as err:
            return [err]
        failed = self._write(decision)
        failed += self._prune(declared)
        self.passes += 1
        return failed

    def _settle_ledger(self, declared: Declared) -> Decision:
        for _ in range(3):
            if not self.leading:
                raise ConflictError("no longer the leader; nothing was written")
            before, version = self._ledger or self._read_ledger()
            decision = decide(declared, before, self._settings, self._forgotten(declared, before))
            if decision.ledger == before:
                self._ledger = before, version
                return decision
            for kind, name in owners_lost(before, decision.ledger):
                self._confirm_lost(declared, kind, name)
            values = encode(decision.ledger)
            size = sum(map(len, values.values()))
            if size > LARGE_LEDGER:
                log.warning("the ledger is %s bytes long; a ConfigMap holds 1048576", size)
            try:
                version = self._cluster.write_ledger(values, version)
            except ConflictError:
                self._ledger = None
                continue
            except L3netError:
                self._ledger = None  # it may have been written all the same
                raise
            self._ledger = decision.ledger, version
            return decision
        raise ConflictError(
            "the ledger was written by somebody else three times over; is there another leader?"
        )

    def _read_ledger(self) -> tuple[Ledger, str]:
        values, version = self._cluster.read_ledger()
        return decode(values), version

    def _forgotten(self, declared: Declared, ledger: Ledger) -> frozenset[str]:
        """Nodes gone for the grace time, which begins anew after a restart: later is safe, sooner is not."""
        now = self._clock()
        self._absent = {
            name: self._absent.get(name, now) for name in ledger.blocks if name not in declared.nodes
        }
        return frozenset(name for name, since in self._absent.items() if now - since >= self._settings.grace)

    def _confirm_lost(self, declared: Declared, kind: Kind, name: ObjectName) -> None:
        """Nothing is freed on the word of a watch alone, which may lag behind. Raises StaleViewError."""
        known = name.name in declared.nodes if kind is Kind.NODE else name in declared.services
        if not known and self._cluster.exists(kind, name):
            raise StaleViewError(f"{kind.value} {name} exists, but the watch does not know it yet")

    def _write(self, decision: Decision) -> list[L3netError]:
        calls: list[Callable[[], None]] = [
            *(partial(self._cluster.set_blocks, *entry) for entry in decision.node_blocks.items()),
            *(
                partial(self._cluster.set_load_balancer, *entry)
                for entry in decision.service_addresses.items()
            ),
        ]
        with ThreadPoolExecutor(WRITERS, "write") as pool:
            failed = [error for error in pool.map(self._attempt, calls) if error is not None]
        for name in self._pools.keys() - decision.pools.keys():
            del self._pools[name]
        for name, status in decision.pools.items():
            if self._pools.get(name) != status:
                error = self._attempt(partial(self._say_pool, name, status))
                if error is not None:
                    failed.append(error)
                else:
                    self._pools[name] = status
        self._post(decision.findings)
        return failed

    def _attempt(self, call: Callable[[], None]) -> L3netError | None:
        if not self.leading:
            return ConflictError("no longer the leader; the rest was not written")
        try:
            call()
        except GoneError:
            return None  # deleted meanwhile; the watch will say so
        except L3netError as err:
            return err
        return None

    def _prune(self, declared: Declared) -> list[L3netError]:
        """Sessions of nodes that are gone, out of the status of BGPPeers: nobody else will take them out."""
        nodes = frozenset(declared.nodes)
        if self._pruned is not None and self._pruned <= nodes:
            self._pruned = nodes
            return []
        calls = [partial(self._cluster.prune_sessions, peer, nodes) for peer in sorted(declared.peers)]
        failed = [error for error in map(self._attempt, calls) if error is not None]
        self._pruned = nodes if not failed else None
        return failed

    def _say_pool(self, name: str, status: PoolStatus) -> None:
        self._cluster.set_status(
            Kind.IP_POOL,
            ObjectName("", name),
            {"used": status.usage.used, "free": min(status.usage.free, 2**63 - 1)},
            (status.condition,),
        )

    def _post(self, findings: Iterable[Finding]) -> None:
        """Events for what is new. One that cannot be posted is not worth a retry: the log has it."""
        found = frozenset(findings)
        for finding in sorted(found - self._said, key=str):
            log.warning("%s", finding)
            with suppress(L3netError):
                self._cluster.post_event(finding.kind, finding.about, finding.reason.value, finding.message)
        self._said = found
