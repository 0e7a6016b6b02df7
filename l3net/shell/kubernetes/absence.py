"""Kinds that an API server need not know: where their CRD is not applied, there are none of them."""

from __future__ import annotations

from random import Random
from typing import Final

from l3net.kube.registry import DeclaredKind
from l3net.shell.kubernetes.api import ApiError

#: Seconds for which an API server that has just begun may not know its CRDs; what was read before is not
#: given up sooner.
UNSURE: Final = 60.0
#: Seconds between two questions whether there is such a kind now, in the first of these seconds and later.
#: A few thousand nodes ask.
SOON: Final = (5.0, 10.0)
LATER: Final = (120.0, 300.0)


class Absence:
    """Whether a kind is known to the API server. Times are monotonic seconds."""

    def __init__(self, row: DeclaredKind, random: Random) -> None:
        self._optional, self._random = row.optional, random
        self._since: float | None = None

    def met(self, err: ApiError, now: float, *, held: bool) -> float | None:
        """How long to wait before the next question where this error says that there is no such kind.

        None: it is a failure like any other, as it is for a while where objects of it are `held`.
        """
        if not (self._optional and err.not_found):
            return None
        if self._since is None:
            self._since = now
        unsure = now - self._since < UNSURE
        if unsure and held:
            return None
        return self._random.uniform(*(SOON if unsure else LATER))

    def over(self) -> None:
        """It is known."""
        self._since = None
