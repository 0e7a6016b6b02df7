"""The device by which packets for services go on to the node that answers: there while a service needs it."""

from __future__ import annotations

import logging
from dataclasses import replace

from l3net.errors import KernelError
from l3net.fib.envelope import envelope, takes_part
from l3net.model import ClusterState, Envelope
from l3net.naming import ENVELOPE
from l3net.ports import EnvelopeDevice

log = logging.getLogger("l3net.kernel")


class Enveloping:
    """`follow` before the table that sends packets by it, `end` after the one that does no more."""

    def __init__(
        self, me: str, device: EnvelopeDevice, problems: dict[str, str], *, said: bool = False
    ) -> None:
        self._me = me
        self._said = said
        self._device = device
        self._problems = problems
        self._there: bool | None = None  # None: not known, as at the start
        self.mtu = 1500  # of the links between nodes
        self.apart: tuple[str, ...] = ()  # other nodes that take no part

    def follow(self, state: ClusterState, *, wanted: bool) -> Envelope | None:
        """Bring it to the nodes of now. None: no packet can go on, so that each node answers by itself."""
        plan = envelope(state.nodes, self._me, self.mtu, said=self._said) if wanted else None
        if plan is None:
            self.apart = ()
            return None
        others = (node for name, node in sorted(state.nodes.items()) if name != self._me)
        self.apart = tuple(node.name for node in others if not takes_part(node, said=self._said))
        try:
            index = self._device.apply(plan)
        except KernelError as err:
            if self._problems.get("envelope") != str(err):
                log.error("envelope: %s", err)
            self._problems["envelope"] = str(err)
            return None
        if self._there is not True:
            log.info("%s: %d other nodes", ENVELOPE, len(plan.ends))
        self._there = True
        self._problems.pop("envelope", None)
        return replace(plan, index=index)

    @property
    def there(self) -> bool:
        """Whether this node takes what others hand on to it."""
        return self._there is True and "envelope" not in self._problems

    def end(self) -> None:
        """Nothing needs it any more."""
        if self._there is False:
            return
        try:
            self._device.remove()
        except KernelError as err:
            self._problems["envelope"] = str(err)
            return
        self._there = False
        self._problems.pop("envelope", None)
