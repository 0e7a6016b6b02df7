"""What becomes of a packet on a node: one of these for each way that chance may have it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from l3net.model import Address
from packets.choices import Chosen
from packets.conntrack import Noted
from packets.meeting import Step
from packets.packet import Packet


@dataclass(frozen=True, slots=True)
class Effects:
    """What the packet leaves behind, once it is taken to have gone this way (SimStack.take)."""

    noted: Noted | None = None
    counted: tuple[str, ...] = ()
    logged: tuple[tuple[str, int], ...] = ()
    filled: tuple[tuple[Any, Any, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`copies`: what became of copies that were sent on the way. `chosen` is what chance had to choose,
    `steps` the rules that did something. Two of the same end are equal."""

    packet: Packet
    copies: tuple[Outcome, ...] = ()
    chosen: tuple[Chosen, ...] = field(default=(), compare=False, repr=False)
    steps: tuple[Step, ...] = field(default=(), compare=False, repr=False)
    effects: Effects = field(default=Effects(), compare=False, repr=False)

    @property
    def words(self) -> str:
        return f"{self.packet}"

    def __str__(self) -> str:
        lines = [self.words]
        lines += (f"  {chain}: {rule}" for chain, rule in self.steps)
        lines += (f"  by chance {what}: {which}" for what, which in self.chosen)
        lines += (f"  a copy: {each.words}" for each in self.copies)
        return "\n".join(lines)

    def everywhere(self) -> Iterator[Outcome]:
        """It and what became of its copies."""
        yield self
        for each in self.copies:
            yield from each.everywhere()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered(Outcome):
    """It arrives at a pod, by its key, or (empty) at the host itself."""

    to: str = ""

    @property
    def words(self) -> str:
        return f"{self.packet} arrives at {f'pod {self.to}' if self.to else 'the host'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded(Outcome):
    """It leaves by a link, to a gateway or (None) to its destination, which is on that link."""

    interface: str
    gateway: Address | None = None

    @property
    def mark(self) -> int:
        return self.packet.mark

    @property
    def handed(self) -> Packet:
        """As it comes to another machine: a mark is a host's own."""
        return replace(self.packet, mark=0)

    @property
    def words(self) -> str:
        return f"{self.packet} leaves by {self.interface}" + (f" to {self.gateway}" if self.gateway else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped(Outcome):
    """`by` is the chain and its rule, or the kernel and its reason."""

    by: Step

    @property
    def words(self) -> str:
        return f"{self.packet} is dropped by {': '.join(self.by)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(Outcome):
    """Whoever sent it is told: `how` as nft names it, or time-exceeded."""

    how: str
    by: Step

    @property
    def words(self) -> str:
        return f"{self.packet} is rejected ({self.how}) by {': '.join(self.by)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost(Outcome):
    """Nothing leads to where it goes."""

    why: str

    @property
    def words(self) -> str:
        return f"{self.packet} is lost: {self.why}"
