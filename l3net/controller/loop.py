"""The controller: follows the declared state, and while it leads, writes what follows from it.

A pass writes the ledger first, by compare-and-swap, and tells nodes and services only what that ledger says.
Two controllers that both think they lead therefore cannot give one block to two nodes: the second's write of
the ledger is refused, and it reads and decides anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final

from l3net.controller.complaining import Complaining
from l3net.controller.decide import Decision, Settings, decide, owners_lost
from l3net.controller.declared import Declared
from l3net.controller.election import RETRY, Election
from l3net.controller.statuses import OfKind, Statuses
from l3net.controller.writes import BACK_OFF, Write, Writes
from l3net.errors import ConflictError, L3netError
from l3net.ipam.findings import Contradiction
from l3net.ipam.ledger import Ledger, decode, encode
from l3net.model import Address, Kind, ObjectName
from l3net.ports import Changed, ClusterWriter, Datastore, InSync, Mended, Rejected
from l3net.ratelimit import RateLimit
from l3net.retry import Backoff

log = logging.getLogger(__name__)

#: Seconds of quiet that batch changes into a pass, and between two full passes.
QUIET: Final = 0.1
RESYNC: Final = 60.0
#: Events that all is well: so many at once, and then so many in a second.
TELLING: Final = (50, 1.0)
#: A ledger larger than this is near what a ConfigMap may hold (1 MiB).
LARGE_LEDGER: Final = 900_000


class Controller:
    """`clock` gives monotonic seconds, `random` values in [0, 1), which spread attempts.

    `beat` is called whenever the loop has shown that it is alive.
    `distrust` is called when the datastore's view proves stale; it has everything listed anew.
    `executor` makes the threads that write: how many, and how they are called.
    """

    def __init__(
        self,
        datastore: Datastore,
        cluster: ClusterWriter,
        election: Election,
        settings: Settings,
        clock: Callable[[], float],
        random: Callable[[], float],
        beat: Callable[[Controller], None] = lambda _: None,
        distrust: Callable[[], None] = lambda: None,
        executor: Callable[[int, str], Executor] = ThreadPoolExecutor,
    ) -> None:
        self._datastore, self._cluster, self._election = datastore, cluster, election
        self._settings, self._clock, self._random, self._beat = settings, clock, random, beat
        self.declared = Declared()
        self.in_sync = False
        self.passes = 0
        self._problem = ""
        self._absent: dict[str, float] = {}  # nodes the ledger knows and the state does not: since when
        self.said: frozenset[Contradiction] = frozenset()
        self._statuses = Statuses(cluster, lambda: self._retry(0))
        self.decision: Decision | None = None  # of the last pass while this one leads
        self._ledger: tuple[Ledger, str] | None = None  # as last written or read, with its version
        self._read_at = clock()
        self._dirty = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._distrust = distrust
        self._complaining = Complaining(clock)
        self._telling = RateLimit(*TELLING)
        self.writes = Writes(lambda: self.leading, clock, self._retry, random, executor=executor)

    @property
    def problem(self) -> str:
        """What keeps the ledger, or else an object, from being as decided; empty if nothing does."""
        return self._problem or next(iter(self.writes.problems()), "")

    @property
    def leading(self) -> bool:
        return self._election.leading

    async def run(self) -> None:
        """Until cancelled; then the lease is let go."""
        self._loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(part()) for part in (self._listen, self._campaign, self._reconcile)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.writes.close()
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
                self.decision = None
                if leads:
                    self.forget()
                    self._dirty.set()
            self._beat(self)
            await asyncio.sleep(RETRY * (1 + self._random() / 5))

    async def _reconcile(self) -> None:
        failures: Backoff[str] = Backoff(*BACK_OFF, self._random)
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._dirty.wait(), RESYNC)
            await asyncio.sleep(QUIET)
            self._dirty.clear()
            if not (self.in_sync and self.leading):
                continue
            if self._clock() - self._read_at >= RESYNC:
                self._ledger = None  # somebody may have edited or deleted it
            error = await asyncio.to_thread(self.reconcile, self.declared.copy())
            self._problem = str(error) if error else ""
            if error is None:
                failures.forget("ledger")
                if self._absent:
                    self._wake_later(min(self._absent.values()) + self._settings.grace - self._clock())
                continue
            if not self.leading:  # no failure to wait out: whoever leads, and be it we again, begins at once
                continue
            log.warning("%s", error)
            now = self._clock()
            await asyncio.sleep(failures.failed("ledger", now) - now)
            self._dirty.set()

    def _wake_later(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(max(seconds, 0.0) + 0.1, self._dirty.set)

    def _retry(self, seconds: float) -> None:
        """From any thread: look again after this time."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._wake_later, seconds)

    def seen(self, kind: OfKind, name: ObjectName, document: Mapping[str, Any]) -> None:
        """From any thread: an object as it was read, whatever it says of itself."""
        self._statuses.seen(kind, name, document)

    def forget(self) -> None:
        """What a former leader believed is no news to a new one: another may have written since."""
        self.decision = None
        self._ledger = None
        self.said = frozenset()
        self._statuses.forget()
        self._absent = {}

    # --- one pass, in a thread ---------------------------------------------------------------------------

    def reconcile(self, declared: Declared) -> L3netError | None:
        """Decide, write the ledger, and have all that follows written; what kept the ledger from being so.

        What follows is written object by object, each with its own back-off: none waits for another.
        """
        try:
            decision = self._settle_ledger(declared)
        except L3netError as err:
            return err
        self.decision = decision
        self.writes.want(
            [
                *self._blocks(decision),
                *self._statuses.writes(declared, decision),
                *self._events([*decision.findings, *self._complaining.standing(declared)]),
            ]
        )
        self.passes += 1
        return None

    def _settle_ledger(self, declared: Declared) -> Decision:
        unsure: set[tuple[Kind, ObjectName]] = set()
        attempts = 0
        while attempts < 3:
            if not self.leading:
                raise ConflictError("no longer the leader; nothing was written")
            before, version = self._ledger or self._read_ledger()
            names = {name.name for kind, name in unsure if kind is Kind.NODE}
            decision = decide(
                declared,
                before,
                self._settings,
                self._forgotten(declared, before) - names,
                unsure,
            )
            if decision.ledger == before:
                self._ledger = before, version
                return decision
            lost = set(owners_lost(before, decision.ledger)) - unsure
            doubtful = {owner for owner in lost if not self._is_lost(declared, *owner)}
            if doubtful:
                unsure |= doubtful
                continue
            values = encode(decision.ledger)
            size = sum(map(len, values.values()))
            if size > LARGE_LEDGER:
                log.warning("the ledger is %s bytes long; a ConfigMap holds 1048576", size)
            attempts += 1
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
            "another process has written the ledger three times in a row; is there another leader?"
        )

    def _read_ledger(self) -> tuple[Ledger, str]:
        self._read_at = self._clock()
        values, version = self._cluster.read_ledger()
        return decode(values), version

    def _forgotten(self, declared: Declared, ledger: Ledger) -> frozenset[str]:
        """Nodes gone for the grace time, which begins anew after a restart: later is safe, sooner is not."""
        now = self._clock()
        self._absent = {
            name: self._absent.get(name, now) for name in ledger.blocks if name not in declared.nodes
        }
        return frozenset(name for name, since in self._absent.items() if now - since >= self._settings.grace)

    def _is_lost(self, declared: Declared, kind: Kind, name: ObjectName) -> bool:
        """Nothing is freed on the word of a watch alone, which may lag behind, or be stale for good.

        Where the API server has the object, or does not answer, its owner keeps what it holds for now.
        """
        if declared.has(kind, name):
            return True  # it is there, and has let go
        try:
            if not self._cluster.exists(kind, name):
                return True
        except L3netError as err:
            log.warning("%s %s: it keeps what it holds: %s", kind.value, name, err)
        else:
            log.warning("%s %s exists, but the watch does not know it; listing everything", kind.value, name)
            self._distrust()
        self._retry(BACK_OFF[0])
        return False

    def _blocks(self, decision: Decision) -> Iterator[Write]:
        for node, held in decision.node_blocks.items():
            yield Write(("blocks", node), held, partial(self._cluster.set_blocks, node, held))
        for name, addresses in decision.service_addresses.items():
            call = partial(self._give, name, addresses)
            yield Write(("address", str(name)), addresses, call)

    def _give(self, name: ObjectName, addresses: tuple[Address, ...]) -> None:
        """Tell a service its addresses, and who looks at it that it has them."""
        self._cluster.set_load_balancer(name, addresses)
        reason, message = "AddressReleased", "it has no address of an IPPool any more"
        if addresses:
            reason, message = "AddressAssigned", f"{', '.join(map(str, addresses))} out of the IPPools"
        passes, _ = self._telling.take(self._clock())
        if passes:  # a thousand services that are made at once have it in their status
            with suppress(L3netError):
                self._cluster.post_event(Kind.SERVICE, name, reason, message, normal=True)

    def _events(self, findings: list[Contradiction]) -> Iterator[Write]:
        """Events for what is new. One that cannot be posted is not worth a retry: the log has it."""
        found = frozenset(findings)
        for finding in sorted(found - self.said, key=str):
            log.warning("%s", finding)
            yield Write(("event", str(finding)), None, partial(self._post, finding))
        self.said = found

    def _post(self, finding: Contradiction) -> None:
        with suppress(L3netError):
            self._cluster.post_event(finding.kind, finding.about, finding.reason.value, finding.message)
