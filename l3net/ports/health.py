"""What load balancers ask a node over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """`well` is status 200, else 503. `body` is told as JSON, with `headers` beside the usual ones.

    `age`: seconds since it was last so that all was well; told as times of day, and not with None.
    """

    well: bool
    body: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    age: float | None = None


#: Gets the path, and the IP version of who asks; None: there is no such page.
Answer: TypeAlias = Callable[[str, int], HealthAnswer | None]


class HealthPorts(Protocol):
    """TCP ports of the node, on all its addresses of both families."""

    async def listen(self, port: int, answer: Answer) -> None:
        """Answer there from now on, until closed. Raises KernelError, with nothing left open."""
        ...

    def close(self, port: int) -> None:
        """A port that is not open is well."""
        ...
