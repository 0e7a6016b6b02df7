"""Connections as they begin, told in batches while somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from l3net.explain.flows import Tracked


@dataclass(frozen=True, slots=True)
class Began:
    """A connection: when it began (seconds since 1970), and its client's port (0 where there is none)."""

    at: float
    seen: Tracked
    source_port: int = 0


@dataclass(frozen=True, slots=True)
class FlowBatch:
    """What has begun since the batch before. `told` are the first of them one by one; `counts` all, but for
    `uncounted`, by who speaks to whom. `lost`: times that the kernel had more than could be taken."""

    told: Sequence[Began]
    counts: Mapping[Tracked, int]
    uncounted: int = 0
    lost: int = 0


class FlowLog(Protocol):
    """The connections of the node. Until it is started the kernel is not asked to tell of any."""

    #: Why it is not heard, though it was started.
    problem: str

    def start(self, heard: Callable[[FlowBatch], None]) -> None:
        """`heard` is called in the event loop of the caller. A second time is no error."""
        ...

    def stop(self) -> None:
        """A second time is no error."""
        ...
