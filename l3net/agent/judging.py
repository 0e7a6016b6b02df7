"""The import policy of now, as the Loc-RIB asks it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat

from l3net.bgp.path import Attributes, Path, Said
from l3net.bgp.policy import ImportJudge
from l3net.bgp.sessions import Session
from l3net.bgp.verdict import ACCEPTED, Judgement


class Judging:
    """Until a policy is known, all is accepted: there is no session yet."""

    def __init__(self) -> None:
        self._judge: ImportJudge | None = None

    def follow(self, judge: ImportJudge | None) -> None:
        """The policy of now; None: that of before."""
        self._judge = judge or self._judge

    def __call__(self, session: Session, path: Path) -> tuple[Judgement, Path]:
        return self._judge(session, path) if self._judge is not None else (ACCEPTED, path)

    def of_all(self, session: Session, said: Said) -> Iterable[tuple[Judgement, Attributes]]:
        """Of many at once."""
        if self._judge is not None:
            return self._judge.of_all(session, said)
        return repeat((ACCEPTED, said.attributes), len(said.prefixes))
