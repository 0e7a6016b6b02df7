"""The pods' bridge, apart from what else is in the kernel: a plugin without an agent knows nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from l3net.model.terms import Address


@dataclass(frozen=True, slots=True)
class BridgePlan:
    """The node's pod bridge: its gateway addresses with the blocks' prefix lengths, MAC and MTU."""

    name: str
    mac: str
    mtu: int
    gateways: frozenset[tuple[Address, int]]
