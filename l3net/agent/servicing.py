"""The agent's services: decided where something changed, and the firewall brought along by elements."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace

from l3net.agent.histogram import Histogram
from l3net.errors import KernelError
from l3net.firewall.changes import Change, TableContents
from l3net.firewall.plan import FirewallPlan, plan
from l3net.firewall.ruleset import ruleset
from l3net.firewall.sticky import MOST, remembering
from l3net.model import (
    ClusterState,
    EndpointSlice,
    Fact,
    Kind,
    ObjectName,
    Service,
    Stale,
    VirtualServer,
)
from l3net.naming import PROTOCOL_NUMBERS
from l3net.ports import Connections, Firewall
from l3net.services.book import ServiceBook, Settled
from l3net.services.endpoints import here
from l3net.services.verdicts import ServerKey

log = logging.getLogger("l3net.services")

#: More changed servers than this, and more than a tenth of all, replace the table.
ELEMENTS_AT_ONCE = 1000
UDP = "udp"


class Servicing:
    """`note` what changed, `settle` what follows. `problems` is where a refusal of the kernel is told."""

    def __init__(
        self, me: str, firewall: Firewall, connections: Connections, problems: dict[str, str]
    ) -> None:
        self._me = me
        self._firewall = firewall
        self._connections = connections
        self._stale: dict[ServerKey, Stale] = {}  # whose connections are to be forgotten
        self._problems = problems
        self._contents: TableContents | None = None  # None: what is in force is not known
        self._rest: FirewallPlan | None = None  # the plan in force but for its servers
        self._heard: float | None = None  # when the first change was that is not dealt with
        self.error_port = 0  # by which ICMP errors are handed on, 0: they are not
        self.latency = Histogram()
        self.book = ServiceBook()

    @property
    def forgetful(self) -> int:
        """How many sticky servers there are beyond those whose clients the table remembers."""
        sticky = sum(1 for server in self.book.servers.values() if server.affinity)
        return max(0, sticky - MOST)

    # --- decisions ---------------------------------------------------------------------------------------

    def note(self, kind: Kind, name: ObjectName, fact: Fact | None) -> None:
        """A Service or EndpointSlice as it is now."""
        if self._heard is None:
            self._heard = asyncio.get_running_loop().time()
        if kind is Kind.SERVICE:
            self.book.put_service(name, fact if isinstance(fact, Service) else None)
        elif kind is Kind.ENDPOINT_SLICE:
            self.book.put_slice(name, fact if isinstance(fact, EndpointSlice) else None)

    def settle(self, state: ClusterState, *, draining: bool = False) -> Settled:
        """Decide what was touched, as this node and the policy are now."""
        node = here(state.nodes, self._me, draining=draining, drain=state.configuration.drain)
        self.book.stand(node, state.configuration.advertise)
        return self.book.settle()

    def done(self) -> None:
        """What was settled is in the kernel and on its way to the peers."""
        if self._heard is not None:
            self.latency.observe(asyncio.get_running_loop().time() - self._heard)
            self._heard = None

    def doubt(self) -> None:
        """What is in force is not known any more: the table is replaced as a whole."""
        self._contents = None

    # --- kernel ------------------------------------------------------------------------------------------

    def touched(self, generation: int | None) -> None:
        """The table was changed, by whomever: see ports.Firewall."""
        self._firewall.touched(generation)

    async def apply(self, state: ClusterState, settled: Settled, *, rest: bool, check: bool) -> None:
        """Bring the table to what is wanted: by elements where that does.

        `rest`: more than services may have changed. `check`: see whether someone else changed the table.
        """
        wanted = self._rest
        if rest or wanted is None:
            wanted = plan(state, self._me, (), error_port=self.error_port)
        self._outdate(settled.servers)
        try:
            transaction = self._transaction(settled.servers, wanted)
            if transaction is None:
                await self._replace(wanted)
            elif transaction:
                await asyncio.to_thread(self._firewall.amend, transaction)
            if check and transaction is not None and not await asyncio.to_thread(self._firewall.intact):
                log.warning("the nftables table is not as it was left; it is put back")
                self._contents = None
                self._outdate({})
                await self._replace(wanted)
        except KernelError as err:
            self._contents = None
            if self._problems.get("firewall") != str(err):
                log.error("firewall: %s", err)
            self._problems["firewall"] = str(err)
            return
        self._problems.pop("firewall", None)
        await self._forget()

    def _outdate(self, changed: Mapping[ServerKey, Change]) -> None:
        """Note whose flows go on as they began, though the translation is another. Like kube-proxy, of UDP
        alone: a TCP connection ends with its endpoint, and a new one is translated anew. But one that began
        while nothing translated it, before there was a server or while the table was gone, would knock in
        vain until its client gives up."""
        if self._contents is None:  # what was in force is not known
            changed = {key: (None, server) for key, server in self.book.servers.items()} | dict(changed)
        for key, (before, now) in changed.items():
            if key[1] == UDP:
                self._stale[key] = _stale(key, now)
            elif before is None and now is not None and (now.internal or now.external):
                self._stale[key] = replace(_stale(key, None), untouched=True)

    async def _forget(self) -> None:
        """After the table: a flow that begins meanwhile is translated as it should be."""
        if not self._stale:
            return
        try:
            await asyncio.to_thread(self._connections.forget, tuple(self._stale.values()))
        except KernelError as err:  # they are tried again with the next change, or the next look for drift
            if self._problems.get("connections") != str(err):
                log.error("connections of changed services: %s", err)
            self._problems["connections"] = str(err)
            return
        self._stale.clear()
        self._problems.pop("connections", None)

    def _transaction(self, changed: Mapping[ServerKey, Change], wanted: FirewallPlan) -> str | None:
        """What to change in the table in force; None: replace it."""
        if self._contents is None or wanted != self._rest:
            return None
        if len(changed) > max(ELEMENTS_AT_ONCE, len(self.book.servers) // 10):
            return None
        return self._contents.change(changed.values())

    async def _replace(self, rest: FirewallPlan) -> None:
        self._contents = None
        whole = rest.serving(self.book.servers.values())

        def replace() -> TableContents:
            names = remembering(whole.servers)
            clients = self._firewall.clients(names) if names else {}
            self._firewall.apply(ruleset(whole, clients))
            return TableContents(whole)

        self._contents = await asyncio.to_thread(replace)
        self._rest = rest


def _stale(key: ServerKey, server: VirtualServer | None) -> Stale:
    """The connections to an address and port that none of its endpoints answers, or no longer should."""
    address, protocol, port = key
    lasting = (*server.internal, *server.external, *server.lasting) if server is not None else ()
    kept = frozenset((backend.address, backend.port) for backend in lasting)
    return Stale(PROTOCOL_NUMBERS[protocol], frozenset({address}), port, kept=kept)
