"""The last entries of each kind: what happens often takes no room from what happens seldom."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import merge
from typing import Final

from l3net.history.entry import Entry, EntryKind

#: Entries of a kind that are kept, and prefixes that these name.
MOST: Final = 1000
MOST_PREFIXES: Final = 10_000


class Ring:
    """Bounded: at most MOST entries of each kind, and fewer where these name many prefixes."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._kept: dict[EntryKind, deque[Entry]] = {kind: deque() for kind in EntryKind}
        self._named = dict.fromkeys(EntryKind, 0)
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Keep one more; the oldest of its kind goes where there is no room."""
        kept = self._kept[entry.kind]
        kept.append(entry)
        self._named[entry.kind] += len(entry.prefixes)
        while len(kept) > MOST or (self._named[entry.kind] > MOST_PREFIXES and len(kept) > 1):
            self._named[entry.kind] -= len(kept.popleft().prefixes)

    def entries(self) -> Iterator[Entry]:
        """The oldest first."""
        return merge(*self._kept.values(), key=lambda entry: entry.at)

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))
