"""What this host shows (ports.Sight)."""

from __future__ import annotations

from pathlib import Path

from l3net.doctor.findings import NodeLook
from l3net.explain.facts import Passage, Way
from l3net.explain.foreign import Chain
from l3net.model import Address
from l3net.shell.probes.asks import who_has
from l3net.shell.probes.foreign import others
from l3net.shell.probes.listening import listens
from l3net.shell.probes.node import look_at_node
from l3net.shell.probes.sizes import passage
from l3net.shell.probes.way import way_to

_NOWHERE = Path("/nonexistent")


class HostSight:
    """In the network namespace of the thread that asks."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def way(self, destination: Address, source: Address | None = None) -> Way:
        """What the kernel does with a packet."""
        return way_to(destination, source)

    def answers(self, interface: str, address: Address) -> tuple[str, ...] | None:
        """Who on a link answers for an address."""
        return who_has(interface, address)

    def others(self) -> tuple[tuple[Chain, ...], tuple[str, ...]]:
        """Chains of others at the hooks of forwarding, and what is not judged."""
        return others()

    def listens(self, address: Address, protocol: str, port: int) -> bool:
        """Whether a program of this host has a port."""
        return listens(address, protocol, port)

    def passage(self, address: Address, size: int) -> Passage | None:
        """What becomes of packets of a size."""
        return passage(address, size)

    def host(self) -> NodeLook:
        """Its settings; of CNI files and links of peers nothing."""
        return look_at_node(self._state_dir, _NOWHERE, _NOWHERE, wants_pods=False)
