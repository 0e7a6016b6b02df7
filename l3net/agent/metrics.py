"""What the agent measures, in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

from typing import Final

from l3net.agent.loop import Agent
from l3net.agent.measuring.bgp import BGP
from l3net.agent.measuring.egress import EGRESS
from l3net.agent.measuring.floating import FLOATING
from l3net.agent.measuring.kernel import KERNEL
from l3net.agent.measuring.node import NODE
from l3net.agent.measuring.pods import PODS
from l3net.agent.measuring.policies import POLICIES
from l3net.agent.measuring.seen import Apart, Beside, Seen
from l3net.agent.measuring.services import SERVICES
from l3net.metering.family import Row
from l3net.metering.text import exposition

#: By subject, in the order in which they are told.
SUBJECTS: Final[dict[str, tuple[Row[Seen], ...]]] = {
    "The agent": NODE,
    "BGP, BFD and BMP": BGP,
    "Services": SERVICES,
    "Network policies": POLICIES,
    "Floating addresses": FLOATING,
    "Egress addresses": EGRESS,
    "The kernel": KERNEL,
    "Pods": PODS,
}
#: All that is measured.
ROWS: Final[tuple[Row[Seen], ...]] = tuple(row for rows in SUBJECTS.values() for row in rows)


class Metering:
    """Of one agent; `beside` is what runs beside its loop."""

    def __init__(self, agent: Agent, beside: Beside | None = None) -> None:
        self._agent, self._beside, self._apart = agent, beside or Beside(), Apart()

    def text(self) -> str:
        """Everything, as one scrape."""
        seen = Seen(self._agent, self._apart, self._beside)

        def failed(name: str, error: Exception) -> None:
            self._agent.faults.note(f"metric: {name}", error, lasting=False)

        return exposition(ROWS, seen, failed)


def metrics(agent: Agent) -> str:
    """One scrape of an agent that nothing runs beside."""
    return Metering(agent).text()
