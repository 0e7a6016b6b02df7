"""Resource versions of an API server: they grow, unless its store was put back to an older snapshot.

They are etcd's revisions, and comparable as integers (Kubernetes KEP-5504); one that is no number is not
compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: Seconds between two questions for a version.
CHECK_EVERY: Final = 2.0


def behind(version: str, other: str) -> bool:
    """Whether a version is from before another."""
    return _comparable(version) and _comparable(other) and int(version) < int(other)


def _comparable(version: str) -> bool:
    return 0 < len(version) < 40 and version.isascii() and version.isdecimal()


class Versions:
    """The latest version that anybody heard of each collection, told to whoever writes to one.

    Collections apart, since some may be kept in another etcd. Safe to call from several threads.
    """

    def __init__(self) -> None:
        self._latest: dict[str, str] = {}
        self._listed: dict[str, str] = {}  # of collections that may be listed
        self._checked_at = -CHECK_EVERY
        #: Called when the answer to a write is from before what was heard.
        self.on_rewound: Callable[[], None] = lambda: None

    def latest(self, collection: str) -> str:
        return self._latest.get(collection, "")

    def heard(self, collection: str, version: str) -> None:
        if not behind(version, self.latest(collection)):
            self._latest[collection] = version

    def listed(self, collection: str, version: str) -> None:
        """Heard of one that may be listed."""
        self.heard(collection, version)
        if not behind(version, self._listed.get(collection, "")):
            self._listed[collection] = version

    def furthest(self) -> tuple[str, str]:
        """The collection to ask where the store stands, and what was heard of it: the latest of all.

        Another's may be from before the snapshot to which the store was put back, and would tell nothing.
        """
        found = [each for each in self._listed.copy().items() if _comparable(each[1])]
        return max(found, key=lambda each: int(each[1]), default=("", ""))

    def wrote(self, collection: str, version: str, before: str) -> None:
        """A write made a new version; `before` is the latest that was heard before it was asked for."""
        if version == before or behind(version, before):
            self.forget()
            self._latest[collection] = version
            self.on_rewound()
        else:
            self.heard(collection, version)

    def check_due(self, now: float) -> bool:
        """Whether to ask for a version after a connection broke: one of those who meet that does."""
        if now < self._checked_at + CHECK_EVERY:
            return False
        self._checked_at = now
        return True

    def forget(self) -> None:
        """They went back."""
        self._latest.clear()
        self._listed.clear()
