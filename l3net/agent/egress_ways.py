"""The ways by which this node's pods leave the cluster by other nodes: there before the table marks packets
for them, and gone after it marks none any more."""

from __future__ import annotations

import logging
from typing import Final

from l3net.errors import KernelError
from l3net.model import EgressPaths, EgressWay, Envelope
from l3net.naming import ENVELOPE
from l3net.ports import EgressWays

log = logging.getLogger("l3net.egress")

#: Its name in the status.
PART: Final = "egress ways"


class Ways:
    """`begin` before the table, `end` after it."""

    def __init__(self, kernel: EgressWays, problems: dict[str, str]) -> None:
        self._kernel, self._problems = kernel, problems
        self._there: frozenset[EgressWay] | None = None  # None: not known

    def doubt(self) -> None:
        """What is in the kernel is to be looked at again."""
        self._there = None

    def begin(self, paths: EgressPaths, envelope: Envelope | None) -> None:
        """Have all that is wanted, beside what there is."""
        self._bring(wanted(paths, envelope) | (self._there or frozenset()), envelope)

    def end(self, paths: EgressPaths, envelope: Envelope | None) -> None:
        """Have what is wanted alone."""
        self._bring(wanted(paths, envelope), envelope)

    def _bring(self, ways: frozenset[EgressWay], envelope: Envelope | None) -> None:
        if ways == self._there:
            return
        mtu = envelope.mtu - envelope.around if envelope is not None else 0
        try:
            self._kernel.apply(ways, ENVELOPE, mtu)
        except KernelError as err:
            if self._problems.get(PART) != str(err):
                log.error("ways of pods that leave by other nodes: %s", err)
            self._problems[PART] = str(err)
            self._there = None
            return
        self._problems.pop(PART, None)
        self._there = ways


def wanted(paths: EgressPaths, envelope: Envelope | None) -> frozenset[EgressWay]:
    """The ways that the rules of this node's pods lead by."""
    through = {(rule.node, pod.version) for pod, rules in paths.own.items() for rule in rules if rule.node}
    return frozenset(
        EgressWay(version, end.mark, end.gateways[version, False])
        for end in (envelope.ends if envelope is not None else ())
        for version in (4, 6)
        if (end.node, version) in through
    )
