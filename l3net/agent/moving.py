"""Addresses that move from node to node: those of pods, and those that pods leave the cluster with."""

from __future__ import annotations

from collections.abc import Callable, Collection

from l3net.agent.egress import Egress
from l3net.agent.egress_ways import Ways
from l3net.agent.floating import Floating
from l3net.agent.policing import Policing
from l3net.agent.servicing import Servicing
from l3net.agent.shells import Kernel
from l3net.model import ClusterState, Prefix


class Moving:
    """Both, of one node: what services and policies have in force follows them. `heard`: whether a peer
    announces a prefix; `connected`: whether any is there."""

    def __init__(
        self,
        me: str,
        kernel: Kernel,
        services: Servicing,
        policing: Policing,
        problems: dict[str, str],
        heard: Callable[[Prefix], bool],
        connected: Callable[[], bool],
        wake: Callable[[], None],
        *,
        said: bool,
    ) -> None:
        self._services = services
        shared = (me, kernel.connections, problems, services.book.has_address, heard)
        self.floating = Floating(*shared, wake)
        self.egress = Egress(*shared, connected, wake, said=said)
        services.floating, services.egress = self.floating, self.egress
        services.ways = Ways(kernel.egress_ways, problems)
        policing.egress = self.egress

    def settle(
        self, state: ClusterState, *, changed: bool, services: bool, touched: Collection[Prefix]
    ) -> frozenset[Prefix]:
        """Decide what was touched; the prefixes of which this node announces others than before."""
        return self.floating.settle(state, changed=changed, services=services) | self.egress.settle(
            state, changed=changed, services=services, touched=touched
        )

    @property
    def changed(self) -> bool:
        """Whether the table has to follow."""
        return self.floating.changed or self.egress.changed

    def taken(self) -> None:
        """The table is to follow what there is by now."""
        self.floating.changed = self.egress.changed = False

    async def forget(self) -> None:
        """After the table: connections go on as they began."""
        await self.floating.forget()
        await self.egress.connections.forget(self._services.inside)
