"""Routes that the kernel has refused: each is set aside, and tried again by itself, later each time."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final

from l3net.errors import KernelError
from l3net.model import Prefix, Route
from l3net.retry import Backoff

RouteKey = tuple[Prefix, int]

#: Seconds until a route is tried again, doubled from the first to the longest.
FIRST: Final = 1.0
LONGEST: Final = 60.0


@dataclass(slots=True)
class _Refusal:
    wanted: Route | None  # what was put, None: it was to go
    why: str
    code: int


class Refused:
    """By prefix and metric. Times are of the event loop's clock."""

    def __init__(self) -> None:
        self._found: dict[RouteKey, _Refusal] = {}
        self._backoff: Backoff[RouteKey] = Backoff(FIRST, LONGEST)

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, key: object) -> bool:
        return key in self._found

    def note(self, key: RouteKey, wanted: Route | None, error: KernelError, now: float) -> bool:
        """The kernel has refused to put or, with None, to delete a route; whether that is new."""
        before = self._found.get(key)
        same = before is not None and before.wanted == wanted and before.code == error.code
        if not same:
            self._backoff.forget(key)
        self._backoff.failed(key, now)
        self._found[key] = _Refusal(wanted, str(error), error.code)
        return not same

    def forget(self, key: RouteKey) -> None:
        """It is as it should be, or nobody wants it any more."""
        if self._found:
            self._found.pop(key, None)
            self._backoff.forget(key)

    def waits(self, key: RouteKey, wanted: Route | None, now: float) -> bool:
        """Whether it is not yet time to try the same again."""
        found = self._found.get(key)
        return found is not None and found.wanted == wanted and self._backoff.waits(key, now)

    def retry(self, key: RouteKey) -> bool:
        """What stood against it may have gone: it is due; whether there is such a route."""
        self._backoff.hasten(key, 0.0)
        return key in self._found

    def retry_all(self) -> None:
        """Links, addresses or others' routes have changed. What is in the way of a route of ours as somebody
        else's stays so until that one goes, which is told of."""
        for key, found in self._found.items():
            if found.code != errno.EEXIST:
                self._backoff.hasten(key, 0.0)

    def due(self, now: float) -> list[RouteKey]:
        return self._backoff.due(now)

    def next_due(self) -> float | None:
        return self._backoff.next_due()

    def words(self) -> str:
        """The first and how many more; empty if there is none."""
        if not self._found:
            return ""
        first = next(iter(self._found.values()))
        return first.why + (f" (and {len(self._found) - 1} more)" if len(self._found) > 1 else "")
