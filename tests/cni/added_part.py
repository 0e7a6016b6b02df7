"""A part that is added to what an attachment consists of: one value, one applier; a test gives it its row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from l3net.attach.applying import Place
from l3net.cni.failure import KERNEL_REFUSED, CniError
from l3net.cni.ifname import host_ifname
from l3net.cni.parts import Facts, Held
from l3net.cni.result import Result


@dataclass(frozen=True, slots=True)
class PolicyChain:
    """It is undone by itself, and told by the attachment alone."""

    port: str

    stops_traffic: ClassVar[bool] = False

    @classmethod
    def wanted(cls, facts: Facts) -> PolicyChain:
        return cls(host_ifname(facts.lease.key))

    @classmethod
    def left(cls, held: Held) -> PolicyChain:
        return cls(host_ifname(held.key))

    @property
    def undo(self) -> PolicyChain:
        return self


@dataclass
class ChainApplier:
    """Keeps its chains in a set; `refuses` makes no more."""

    of: ClassVar = PolicyChain
    chains: set[str] = field(default_factory=set)
    refuses: bool = False

    def apply(self, part: PolicyChain, place: Place) -> None:
        if self.refuses:
            raise CniError(KERNEL_REFUSED, "no chain")
        self.chains.add(part.port)

    def undo(self, undo: PolicyChain, place: Place) -> None:
        self.chains.discard(undo.port)

    def missing(self, part: PolicyChain, place: Place, previous: Result) -> list[str]:
        return [] if part.port in self.chains else [f"chain of {part.port} is missing"]
