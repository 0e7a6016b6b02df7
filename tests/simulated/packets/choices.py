"""What is left to chance, gone through in order: every outcome of every choice, each once.

A walk is done once for each line of choices, from its beginning: the first time it takes the first outcome of
each, then the next one of the last, until there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
#: What was chosen: what chose, and which outcome.
Chosen = tuple[str, str]
#: More than these outcomes of one packet are a fault of whoever walks.
MOST = 100_000


class Choices:
    """The choices of one walk. `exact`: a hash is calculated and not left open."""

    __slots__ = ("_at", "_counts", "_script", "chosen", "exact", "kept", "known")

    def __init__(self, script: list[int], *, exact: bool) -> None:
        self._script, self._at = script, 0
        self._counts: list[int] = []
        self.chosen: list[tuple[str, object]] = []
        self.exact = exact
        self.known: dict[object, frozenset[int]] = {}  # of hashes, which numbers they still may be

    def of(self, what: str, outcomes: Sequence[T], said: Sequence[object] | None = None) -> T:
        """One of these, of which there is at least one; `said`: as they are called."""
        if len(outcomes) == 1 and said is None:
            return outcomes[0]
        at = self._at
        self._at += 1
        if at == len(self._script):
            self._script.append(0)
        self._counts.append(len(outcomes))
        which = self._script[at]
        self.chosen.append((what, (said or outcomes)[which]))
        return outcomes[which]

    def said(self) -> tuple[Chosen, ...]:
        return tuple((what, str(which)) for what, which in self.chosen)

    def following(self) -> list[int] | None:
        """The script of the next walk; None: this was the last one."""
        script = self._script[: len(self._counts)]
        while script:
            script[-1] += 1
            if script[-1] < self._counts[len(script) - 1]:
                return script
            script.pop()
        return None


def lines(*, exact: bool) -> Iterator[Choices]:
    """One after the other; each is to be used up before the next is asked for."""
    script: list[int] | None = []
    for _ in range(MOST):
        if script is None:
            return
        choices = Choices(script, exact=exact)
        yield choices
        script = choices.following()
    raise RuntimeError("a packet has too many outcomes")
