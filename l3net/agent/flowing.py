"""Connections as they begin, by names, for who looks at this node; followed while somebody asks."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from l3net.agent.loop import Agent
from l3net.agent.names import names
from l3net.explain.flows import Flow, Names, Totals, Tracked
from l3net.ports import FlowBatch, FlowLog

#: Connections that are kept one by one; kinds that are counted, and told.
KEPT: Final = 1000
KINDS: Final = 2000
TOLD_KINDS: Final = 100
#: Seconds without a question after which the kernel is listened to no more.
QUIET: Final = 15.0
#: Seconds for which names count.
NAMES: Final = 5.0


class Flowing:
    """`answer` is the answer to `flows`."""

    def __init__(self, agent: Agent, log: FlowLog) -> None:
        self._agent, self._log = agent, log
        self._loop = asyncio.get_running_loop()
        self._quiet: asyncio.TimerHandle | None = None
        self._serial = 0
        self._last: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._names = Names()
        self._policies: Mapping[str, list[str]] = {}
        self._named = float("-inf")
        self._begin()

    @property
    def following(self) -> bool:
        """Whether the kernel is asked to tell of connections."""
        return self._quiet is not None

    async def answer(self, question: str) -> dict[str, Any]:
        """`flows`: connections with a `serial` above `after`, the oldest first; `kinds`: how many of each
        kind began since somebody has looked (`sinceSeconds`), the most frequent first; `more`: those of other
        kinds; `lost`: times that more began than could be read."""
        try:
            asked = json.loads(question) if question else {}
            after = int(asked.get("after", 0))
        except (ValueError, TypeError, AttributeError, RecursionError):
            return {"error": "ask for flows with a JSON object of: after"}
        self._follow()
        return {
            "node": self._agent.node_name,
            "flows": [row for row in self._last if row["serial"] > after],
            "kinds": self._totals.rows(TOLD_KINDS),
            "more": self._totals.others,
            "lost": self._lost,
            "sinceSeconds": round(self._loop.time() - self._since, 1),
            "problem": self._log.problem,
        }

    def stop(self) -> None:
        """Listen no more, and forget. The serial numbers go on."""
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        self._log.stop()
        self._begin()

    def _begin(self) -> None:
        self._last.clear()
        self._totals, self._lost, self._since = Totals(KINDS), 0, self._loop.time()

    def _follow(self) -> None:
        """From now on for a while; names anew where they are old."""
        if self._quiet is None:
            self._begin()
        else:
            self._quiet.cancel()
        self._quiet = self._loop.call_later(QUIET, self.stop)
        self._log.start(self._heard)
        if self._loop.time() - self._named > NAMES:
            self._named = self._loop.time()
            self._names = Names.of(names(self._agent))
            self._policies = {
                str(name): sorted({str(each.name) for each in policies})
                for name, _, policies in self._agent.policing.book.here()
                if policies
            }

    def _heard(self, batch: FlowBatch) -> None:
        flows: dict[Tracked, Flow] = {}

        def named(seen: Tracked) -> Flow:
            if seen not in flows:
                flows[seen] = self._names.flow(seen)
            return flows[seen]

        for each in batch.told:
            self._serial += 1
            flow = named(each.seen)
            self._last.append(
                {
                    "serial": self._serial,
                    "time": round(each.at, 3),
                    "sourcePort": each.source_port,
                    **flow.row(),
                    "policies": self._policies_of(flow),
                }
            )
        for seen, count in batch.counts.items():
            self._totals.add(named(seen), count)
        self._totals.others += batch.uncounted
        self._lost += batch.lost

    def _policies_of(self, flow: Flow) -> list[str]:
        """Those that are for a pod of this node at either end."""
        found = (end.partition(" ")[0] for end in (flow.source, flow.destination))
        return sorted({policy for name in found for policy in self._policies.get(name, ())})
