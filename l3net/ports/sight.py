"""What the host shows to whoever asks why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from l3net.doctor.findings import NodeLook
    from l3net.explain.facts import Passage, Way
    from l3net.explain.foreign import Chain
    from l3net.model import Address


class Sight(Protocol):
    """Looks; nothing is changed, and nothing is sent but by `answers` and `passage`. May take a second: in
    a thread."""

    def way(self, destination: Address, source: Address | None = None) -> Way:
        """What the kernel does with a packet; never raises."""
        ...

    def answers(self, interface: str, address: Address) -> tuple[str, ...] | None:
        """The MACs of others that answer for an address on a link; None: it cannot be asked there. Never
        raises."""
        ...

    def others(self) -> tuple[Sequence[Chain], Sequence[str]]:
        """The chains of others by which they may drop what is forwarded, and in words what of others may stop
        packets and is not judged; never raises."""
        ...

    def listens(self, address: Address, protocol: str, port: int) -> bool:
        """Whether a program of this host takes what comes to an address and port; never raises."""
        ...

    def passage(self, address: Address, size: int) -> Passage | None:
        """What becomes of packets of `size` bytes to a host; None: it cannot be asked. Never raises."""
        ...

    def host(self) -> NodeLook:
        """The settings that stop packets; never raises."""
        ...
