"""Where this node stands in its drain: kept over an agent's restart, so that none begins anew."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from l3net.bgp.drain import DrainRecord, Stage, stage
from l3net.errors import L3netError
from l3net.model import DrainCause, DrainPolicy, Node
from l3net.ports import DrainMemory

log = logging.getLogger("l3net.agent")


class Draining:
    """`look` again whenever something may have changed; `due` says when that is the case by itself."""

    def __init__(self, memory: DrainMemory) -> None:
        self._memory = memory
        self._since = 0.0
        self._wait = 0.0
        self._asked = False
        self.cause: DrainCause | None = None
        self.stage = Stage.NONE
        self.ending = False  # the agent was told to stop, and the node goes
        self.problem = ""
        #: Called when the stage or its cause is another.
        self.on_changed: Callable[[], None] = lambda: None
        record = memory.read()
        if record is not None and record.cause in {each.value for each in DrainCause}:
            self._since, self.cause = record.since, DrainCause(record.cause)
            self.stage = next((each for each in Stage if stage_name(each) == record.stage), Stage.NONE)

    def overtaken(self) -> bool:
        """Whether the node was told to leave, or to return, since the last look."""
        return self._memory.asked() is not self._asked

    async def touched(self) -> None:
        """Until it may have been told so."""
        await self._memory.touched()

    @property
    def final(self) -> bool:
        """Whether the node is to leave for good: it shuts down, or was told to."""
        return self.cause in (DrainCause.SHUTDOWN, DrainCause.LEAVE)

    def look(self, node: Node, policy: DrainPolicy) -> bool:
        """Find the stage of now; whether it is another than before."""
        self._asked = self._memory.asked()
        cause = DrainCause.LEAVE if self._asked else policy.cause(node)
        if cause is not None and self.cause is None:
            self._since = self._memory.now()
        before, self.cause, self._wait = (self.cause, self.stage), cause, policy.wait
        # What is withdrawn is not announced again because the wait was made longer.
        elapsed = math.inf if self.stage > Stage.TAGGED else self._memory.now() - self._since
        found = stage(cause, elapsed, self._wait, ending=self.ending)
        # A node that has left is not back until it shall be.
        if not (found is Stage.WITHDRAWN and self.stage is Stage.LEFT):
            self.stage = found
        return self._changed(before)

    def left(self) -> None:
        """Everything is withdrawn and every session closed."""
        before, self.stage = (self.cause, self.stage), Stage.LEFT
        self._changed(before)

    def _changed(self, before: tuple[DrainCause | None, Stage]) -> bool:
        if before == (self.cause, self.stage):
            return False
        if self.cause is None:
            log.info("draining: over")
            record = None
        else:
            log.info("draining (%s): %s", self.cause.value, stage_name(self.stage))
            record = DrainRecord(self.cause.value, self._since, stage_name(self.stage))
        try:
            self._memory.write(record)
            self.problem = ""
        except L3netError as err:
            self.problem = str(err)
            log.error("%s", err)
        self.on_changed()
        return before[1] is not self.stage

    def due(self) -> float | None:
        """Seconds until the next stage, None if time alone brings none."""
        if self.stage is not Stage.TAGGED:
            return None
        return max(0.0, self._since + self._wait - self._memory.now())

    def status(self) -> dict[str, Any]:
        """What is shown of it."""
        if self.cause is None:
            return {"stage": stage_name(self.stage)}
        return {
            "stage": stage_name(self.stage),
            "cause": self.cause.value,
            "sinceSeconds": round(self._memory.now() - self._since, 1),
        }


def stage_name(found: Stage) -> str:
    """`servicesWithdrawn` for SERVICES_WITHDRAWN."""
    first, *others = found.name.lower().split("_")
    return first + "".join(map(str.capitalize, others))
