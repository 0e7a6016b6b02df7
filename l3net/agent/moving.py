"""Addresses that move from node to node, those of pods and those that pods leave the cluster with; and those
of the node itself that they leave with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from l3net.agent.egress import Egress
from l3net.agent.egress_ways import Ways
from l3net.agent.floating import Floating
from l3net.agent.policing import Policing
from l3net.agent.reachable import Reachable
from l3net.agent.servicing import Servicing
from l3net.agent.shells import Kernel
from l3net.agent.snat import Snat
from l3net.bgp.loc_rib import LocRib
from l3net.fib.underlay import Underlay
from l3net.floating.declared import Occupied
from l3net.kube.scope import any_floating
from l3net.model import Address, ClusterState, Prefix


class Moving:
    """All of them, of one node: what services and policies have in force follows them. `established`: of each
    session that is up whether it is one of the mesh."""

    def __init__(
        self,
        me: str,
        kernel: Kernel,
        services: Servicing,
        policing: Policing,
        problems: dict[str, str],
        rib: LocRib,
        established: Callable[[], Collection[bool]],
        wake: Callable[[], None],
        *,
        said: bool,
    ) -> None:
        self._services = services
        self._occupied = Occupied(services.book.has_address)
        shared = (me, kernel.connections, problems, self._occupied, rib.announced)
        reachable = Reachable(
            lambda prefix: (session.mesh for session, _ in rib.holding(prefix)), established
        )
        self.floating = Floating(*shared, wake)
        self.egress = Egress(*shared, reachable, wake, said=said)
        self.snat = Snat(me, kernel.connections, problems)
        services.floating, services.egress, services.snat = self.floating, self.egress, self.snat
        services.ways = Ways(kernel.egress_ways, problems)
        policing.egress = self.egress

    def settle(
        self, state: ClusterState, *, changed: bool, services: bool, touched: Collection[Prefix]
    ) -> frozenset[Prefix]:
        """Decide what was touched; the prefixes of which this node announces others than before."""
        if changed and (any_floating(state) or state.floating or state.egress):
            self._occupied.follow(state)
        return self.floating.settle(state, changed=changed, services=services) | self.egress.settle(
            state, changed=changed, services=services, touched=touched
        )

    def established(self, told: Callable[[Address, bool], None]) -> Callable[[Address, bool], None]:
        """What is to be called with each session that is up, and whether it came up now: it tells `told`."""

        def heard(address: Address, fresh: bool) -> None:
            told(address, fresh)
            if fresh:
                self.egress.returned()

        return heard

    def parts(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What runs beside the passes, by name."""
        return {
            "connections of egress addresses": self.egress.leaving.run,
            "ports of source addresses": self.snat.run,
        }

    @property
    def changed(self) -> bool:
        """Whether the table has to follow."""
        return self.floating.changed or self.egress.changed

    def taken(self, state: ClusterState, underlay: Underlay) -> None:
        """The table is to follow what there is by now."""
        self.snat.follow(state, underlay)
        self.floating.changed = self.egress.changed = False

    async def forget(self) -> None:
        """After the table: connections go on as they began."""
        await self.floating.forget()
        await self.snat.forget()
        await self.egress.leaving.forget(self._services.inside)
