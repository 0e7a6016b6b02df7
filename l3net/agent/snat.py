"""Which of the node's own addresses its pods leave the cluster with, where somebody has chosen them.

Answers come back to an address that stands on a link of the node, and to no other: one that does not is told
of and left out, and with none of a family left the kernel chooses.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from l3net.errors import KernelError
from l3net.fib.underlay import Underlay
from l3net.model import Address, ClusterState, PortUse
from l3net.naming import ANNOTATION_SNAT_ADDRESSES
from l3net.ports import Connections

log = logging.getLogger("l3net.snat")

#: Its name in the status.
PART: Final = "connections of SNAT addresses"
#: Seconds between looks at how full the ports are; so many times longer than a look took, if that is longer.
LOOK: Final = 60.0
REST: Final = 100
#: Sources that are told apart, the fullest.
MOST_SOURCES: Final = 32


class Snat:
    """`follow` what is declared and what stands on links, `forget` what went by an address that is gone.
    `used` and `missing`: of the addresses that are chosen, in their order. `ports`: how full those of source
    addresses are, as of the last look."""

    def __init__(self, me: str, connections: Connections, problems: dict[str, str]) -> None:
        self._me, self._connections, self._problems = me, connections, problems
        self.used: tuple[Address, ...] = ()
        self.missing: tuple[Address, ...] = ()
        self.ports: Sequence[PortUse] = ()
        self._gone: set[Address] = set()

    def follow(self, state: ClusterState, underlay: Underlay) -> None:
        """Decide anew. An address that is not known to be the node's alone yet (RFC 4862 section 5.4) does
        not count."""
        node = state.nodes.get(self._me)
        chosen = node.snat_addresses if node is not None else ()
        own = {each.address for each in underlay.addresses if not each.tentative}
        self._gone |= {address for address in self.used if address not in own}
        self._gone -= own
        self.used = tuple(address for address in chosen if address in own)
        self.missing = tuple(address for address in chosen if address not in own)

    async def forget(self) -> None:
        """After the table. Flows go on as they began: by an address that is gone they get no answer, and a
        client that keeps its socket would never leave with another. (Of a masquerade the kernel does it.)"""
        due, self._gone = self._gone, set()
        if not due:
            return
        try:
            await asyncio.to_thread(self._connections.forget_floating, dict.fromkeys(due))
        except KernelError as err:  # tried again with the next pass that looks for drift
            self._gone |= due
            if self._problems.get(PART) != str(err):
                log.error("connections of addresses that are gone: %s", err)
            self._problems[PART] = str(err)
            return
        self._problems.pop(PART, None)

    async def run(self) -> None:
        """Look now and then how full the ports are. Until cancelled. It reads every translated connection:
        not more than a hundredth of the time goes into it."""
        now, took = asyncio.get_running_loop().time, 0.0
        while True:
            await asyncio.sleep(max(LOOK, REST * took))
            began = now()
            try:
                self.ports = (await asyncio.to_thread(self._connections.used_ports))[:MOST_SOURCES]
            except KernelError as err:
                log.warning("the ports of source addresses cannot be counted: %s", err)
            took = now() - began

    def problems(self) -> list[str]:
        """A sentence for each address that is chosen and is not the node's."""
        return [
            f"node {self._me}: annotation {ANNOTATION_SNAT_ADDRESSES}: {address} is on no link of this node, "
            f"and answers to it would be lost: pods leave with {self._instead(address.version)}; give the "
            "address to a link, or take it out of the annotation"
            for address in self.missing
        ]

    def _instead(self, version: int) -> str:
        others = ", ".join(str(each) for each in self.used if each.version == version)
        return others or f"an IPv{version} address that the kernel chooses"
