"""When what has failed is tried again: each by itself, later each time. No clock: `now` is handed in."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Backoff(Generic[K]):
    """Waits by key, in seconds: `first`, then doubled up to `longest`, until the key is forgotten.

    `random` gives values in [0, 1), by which a wait is cut, to a half at the most: not all come at once.
    """

    __slots__ = ("_due", "_first", "_longest", "_random", "_waits")

    def __init__(self, first: float, longest: float, random: Callable[[], float] = lambda: 1.0) -> None:
        self._first, self._longest, self._random = first, longest, random
        self._waits: dict[K, float] = {}
        self._due: dict[K, float] = {}

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, key: object) -> bool:
        return key in self._due

    def __iter__(self) -> Iterator[K]:
        return iter(self._due)

    def failed(self, key: K, now: float) -> float:
        """It has failed, once more; when it is due again."""
        wait = self._waits.get(key)
        self._waits[key] = wait = self._first if wait is None else min(2 * wait, self._longest)
        self._due[key] = due = now + wait * (0.5 + self._random() / 2)
        return due

    def forget(self, key: K) -> None:
        """It has succeeded, or nobody wants it any more."""
        if self._due:
            self._due.pop(key, None)
            self._waits.pop(key, None)

    def hasten(self, key: K, due: float) -> None:
        """What stood against it may have gone: it is due then at the latest. The next wait grows on."""
        if key in self._due:
            self._due[key] = min(self._due[key], due)

    def change(self, key: K, now: float) -> None:
        """Something else is wanted of it, which may succeed: soon, but not with every change."""
        self.hasten(key, now + self._first)

    def waits(self, key: K, now: float) -> bool:
        """Whether it has failed, and it is not yet time to try again."""
        return self._due.get(key, now) > now

    def due(self, now: float) -> list[K]:
        """What has failed and is to be tried again now."""
        return [key for key, when in self._due.items() if when <= now]

    def next_due(self) -> float | None:
        """When the first is to be tried again; None: nothing has failed."""
        return min(self._due.values(), default=None)


def until_beat(now: float, every: float) -> float:
    """Seconds until `now`, a clock's, is the next multiple of `every`.

    All who look around in turns by this do so at the same moment: an idle process wakes up once for them.
    What is almost here is past: a loop calls early what is due within its clock's resolution.
    """
    wait = every - now % every
    return wait if wait > every / 100 else wait + every
