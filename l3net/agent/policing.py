"""The agent's policies: what is heard goes into the book, pods wait for theirs, and what is forbidden ends.

Facts are noted as they come and put into the book under the table's lock alone, so that what is compared does
not change meanwhile. CNI calls hand in attachments from their threads and wait for them to be in force, where
any policy may be for the pod.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Final

from l3net.agent.counting import Counting
from l3net.agent.drops import Drops
from l3net.agent.egress import Egress
from l3net.agent.ending import Ending
from l3net.agent.shells import Kernel
from l3net.agent.table import Table
from l3net.faults import Faults
from l3net.firewall.egress import EGRESS
from l3net.firewall.policy import POLICY
from l3net.kube.scope import POLICIES, is_policy
from l3net.metering.histogram import Histogram
from l3net.model import Address, Fact, Kind, Namespace, Node, ObjectName, Pod, Policy, Selector
from l3net.policy.attached import Attached
from l3net.policy.book import PolicyBook

log = logging.getLogger("l3net.policy")

#: Its name in the status.
PART: Final = "policies"
#: Seconds that a pod's ADD waits at most for its labels and its policies.
ADMISSION_WAIT: Final = 5.0
#: The kinds whose objects are noted.
KINDS: Final = frozenset(
    (Kind.POD, Kind.NAMESPACE, Kind.NODE, Kind.NETWORK_POLICY, Kind.CLUSTER_NETWORK_POLICY)
)
#: Kinds of which nothing else in the agent depends.
ALONE: Final = KINDS - {Kind.NAMESPACE, Kind.NODE}


class Policing:
    """`note` what is declared; a ports.Admission for the CNI server. `declares` tells whether the datastore
    has every pod there is (the API does, a directory may not)."""

    def __init__(
        self,
        me: str,
        kernel: Kernel,
        wake: Callable[[], None],
        problems: dict[str, str],
        faults: Faults,
        *,
        declares: bool,
    ) -> None:
        self._me = me
        self._faults = faults
        self._broken: dict[tuple[object, ...], str] = {}  # what could not be put into the book, and why
        self._loop = asyncio.get_running_loop()
        self.book = PolicyBook()
        self._wake = wake
        self._declares = declares
        self._noted: dict[tuple[Kind, ObjectName], Fact | None] = {}
        #: Attachments, from any thread, and whether they are only being made.
        self._handed: deque[tuple[str, Attached | None, bool]] = deque()
        self._scopes: Counter[str] = Counter()  # namespaces with policies; "": policies for many
        self._policies: dict[tuple[Kind, ObjectName], str] = {}
        self._known_pods: dict[ObjectName, tuple[str, ...]] = {}  # uids, as noted
        self._awaited: dict[ObjectName, asyncio.Event] = {}
        #: Who else looks at attachments, and may have to know a pod before it is wired.
        self.egress: Egress | None = None
        self._follow: Callable[[], Awaitable[None]] | None = None
        self._table: Table | None = None
        self.ending = Ending(self.book, kernel.connections, problems)
        self.drops = Drops(kernel.drops, self.book)
        self.counting = Counting(kernel.counters, self.book, self._made)
        self.latency = Histogram()
        self._heard: float | None = None

    def stand_on(self, table: Table, follow: Callable[[], Awaitable[None]]) -> None:
        """The table to keep, and how it is brought along."""
        self._table, self._follow = table, follow
        table.prepare, table.applied = self.prepare, self.ending.applied
        self.ending.stand_on(table)

    # --- what is declared --------------------------------------------------------------------------------

    def note(self, kind: Kind, name: ObjectName, fact: Fact | None) -> None:
        """An object as it is now."""
        self._noted[kind, name] = fact
        if self._heard is None:
            self._heard = self._loop.time()
        if kind in POLICIES:
            where = fact.subject.namespaces if isinstance(fact, Policy) else name.name
            self._scope((kind, name), where if is_policy(fact) else None)
        elif kind is Kind.POD:
            if isinstance(fact, Pod) and fact.node in ("", self._me):
                self._known_pods[name] = fact.uids
            else:
                self._known_pods.pop(name, None)
            if (event := self._awaited.get(name)) is not None:
                event.set()

    def _scope(self, key: tuple[Kind, ObjectName], where: str | Selector | None) -> None:
        """Where a pod has to wait for its policies, for what is declared so."""
        before = self._policies.pop(key, None)
        if where is not None:
            now = self._policies[key] = where if isinstance(where, str) else ""
            self._scopes[now] += 1
        if before is not None:
            self._scopes[before] -= 1
            if not self._scopes[before]:
                del self._scopes[before]

    def _made(self) -> int:
        return self._table.made if self._table is not None else 0

    @property
    def refusal(self) -> str:
        """Why policies are not in force as declared; empty if they are."""
        broken = next(iter(self._broken.values()), "")
        return broken or (self._table.refusal(POLICY.name) if self._table is not None else "no table yet")

    @property
    def awaited(self) -> list[ObjectName]:
        """The pods whose ADD waits for the API server to tell of them."""
        return sorted(self._awaited)

    @property
    def unsettled(self) -> bool:
        """Whether there is anything that the book does not know."""
        return bool(self._noted or self._handed or self.book.unsettled)

    def prepare(self) -> None:
        """Put what has come into the book. Under the table's lock. What cannot be put is told, and holds up
        nothing but the pods that would have to wait for it."""
        noted, self._noted = self._noted, {}
        for (kind, name), fact in noted.items():
            with self._contained(kind.value, name):
                self._put(kind, name, fact)
        fresh: set[Address] = set()
        while self._handed:
            key, attached, new = self._handed.popleft()
            with self._contained("attachment", key):
                if attached is None:
                    self.book.detach(key)
                else:
                    self.book.attach(key, attached)
                    if new:
                        fresh.update(attached.addresses)
        with self._contained():
            self.book.settle()
        self.drops.follow()
        self.ending.look(fresh)

    @contextlib.contextmanager
    def _contained(self, *about: object) -> Iterator[None]:
        """Of tens of thousands of objects, whose names are put into words only where one fails."""
        try:
            yield
        except Exception as err:
            part = _part(about)
            self._faults.note(part, err)
            self._broken[about] = f"{part} failed ({type(err).__name__}); see the agent's log"
        else:
            if self._broken and self._broken.pop(about, None) is not None:
                self._faults.over(_part(about))

    def _put(self, kind: Kind, name: ObjectName, fact: Fact | None) -> None:
        match kind:
            case Kind.POD:
                self.book.put_pod(name, fact if isinstance(fact, Pod) else None)
            case Kind.NAMESPACE:
                self.book.put_namespace(name.name, fact.labels if isinstance(fact, Namespace) else {})
            case Kind.NODE:
                self.book.put_node(name.name, fact if isinstance(fact, Node) else None)
            case _:
                key, policy = (kind is Kind.NETWORK_POLICY, name), fact if isinstance(fact, Policy) else None
                self.book.put_policy(key, policy)
                self.drops.declared(key, policy)

    def done(self) -> None:
        """What was noted is in the kernel."""
        if self._heard is not None:
            self.latency.observe(self._loop.time() - self._heard)
            self._heard = None

    # --- attachments, from any thread --------------------------------------------------------------------

    def begin(self, attachments: Iterable[tuple[str, Attached]]) -> None:
        """Those that are there when the agent starts."""
        for key, attached in attachments:
            self._handed.append((key, attached, False))
            if self.egress is not None:
                self.egress.hand(key, attached)

    def admit(self, key: str, attached: Attached, uid: str) -> Future[str] | None:
        """See ports.Admission. It is handed in before it is looked for policies: one that comes meanwhile
        finds it."""
        self._handed.append((key, attached, True))
        leaving = False
        if self.egress is not None:
            self.egress.hand(key, attached)
            leaving = self.egress.wanted
        if not (leaving or self._scopes.get(attached.pod.namespace) or self._scopes.get("")):
            self._call(self._wake)
            return None
        return asyncio.run_coroutine_threadsafe(self._admitted(attached, uid), self._loop)

    def release(self, key: str) -> None:
        """See ports.Admission."""
        self._handed.append((key, None, False))
        if self.egress is not None:
            self.egress.hand(key, None)
        self._call(self._wake)

    def _call(self, what: Callable[[], Any]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what)

    async def _admitted(self, attached: Attached, uid: str) -> str:
        """Why the pod may not be wired yet; empty if it may."""
        pod = attached.pod
        if self._declares and attached.named and not await self._known(pod, uid):
            return f"the API server has not reported pod {pod} yet, and policies or an EgressIP may be for it"
        if self._follow is None or self._table is None:
            return "the agent has not finished its first pass"
        await self._follow()
        if why := self.refusal:
            return f"the policies for pod {pod} are not in force: {why}"
        if self.egress is not None and self.egress.wanted and (why := self._table.refusal(EGRESS.name)):
            return f"what pod {pod} leaves the cluster with is not in force: {why}"
        return ""

    async def _known(self, pod: ObjectName, uid: str) -> bool:
        """Whether the pod's labels are known, and are those of this very pod; waits for them."""

        def known() -> bool:
            uids = self._known_pods.get(pod)
            return uids is not None and (not uid or not uids or uid in uids)

        if known():
            return True
        event = self._awaited.setdefault(pod, asyncio.Event())
        try:
            async with asyncio.timeout(ADMISSION_WAIT):
                while not known():
                    event.clear()
                    await event.wait()
        except TimeoutError:
            return False
        finally:
            if self._awaited.get(pod) is event:
                del self._awaited[pod]
        return True


def _part(about: tuple[object, ...]) -> str:
    """As faults are named in the status."""
    return f"{PART}: {' '.join(map(str, about))}" if about else PART
