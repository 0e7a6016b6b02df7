"""What prefixes of a peer have in common, kept once; and how policy is asked about many of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from l3net.bgp.path import Attributes, Path, Said
from l3net.bgp.sessions import Session
from l3net.bgp.verdict import Judgement, Verdict
from l3net.model import Prefix

Judge = Callable[[Session, Path], tuple[Judgement, Path]]
#: The same for all prefixes of what is said, in their order: the judgement, and the attributes after policy.
JudgeAll = Callable[[Session, Said], Iterable[tuple[Judgement, Attributes]]]


@dataclass(frozen=True, slots=True)
class Received:
    """A path as it came, what policy said of it, and the path after policy."""

    raw: Path
    judgement: Judgement
    path: Path
    stale: bool = False


class Kept:
    """What prefixes of one source have in common: all of a path but the prefix, and what policy made of it.

    One object for all of an UPDATE that policy treats alike, so that a prefix costs its place in a table.
    """

    __slots__ = ("attributes", "judgement", "next_hop", "path_id", "raw", "stale")

    def __init__(
        self,
        said: Said,
        judgement: Judgement,
        attributes: Attributes,
        *,
        stale: bool = False,
    ) -> None:
        self.next_hop, self.raw, self.path_id = said.next_hop, said.attributes, said.path_id
        self.judgement, self.attributes, self.stale = judgement, attributes, stale

    def says(self, said: Said) -> bool:
        """Whether it came from the same words."""
        mine, theirs = self.raw, said.attributes
        return self.next_hop == said.next_hop and (mine is theirs or mine == theirs)

    def of(self, prefix: Prefix) -> Received:
        """The entry of one prefix."""
        raw = Path(prefix, self.next_hop, self.raw, self.path_id)
        same = self.attributes is self.raw
        path = raw if same else Path(prefix, self.next_hop, self.attributes, self.path_id)
        return Received(raw, self.judgement, path, self.stale)

    def as_stale(self) -> Kept:
        """The same, until it is heard again."""
        said = Said(self.next_hop, self.raw, (), self.path_id)
        return Kept(said, self.judgement, self.attributes, stale=True)


_NOTHING: Final = Said(IPv4Address(0), Attributes(), ())
#: In a table while policy is asked.
UNJUDGED: Final = Kept(_NOTHING, Judgement(Verdict.NO_POLICY), _NOTHING.attributes)


class Alike:
    """One `Kept` for what policy has treated alike."""

    def __init__(self, said: Said, *, stale: bool = False) -> None:
        self._said, self._stale = said, stale
        self._made: dict[tuple[Judgement, int], Kept] = {}  # by the judgement, and which attributes

    def of(self, judgement: Judgement, attributes: Attributes) -> Kept:
        key = (judgement, id(attributes))
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = Kept(self._said, judgement, attributes, stale=self._stale)
        return made


def one_by_one(judge: Judge) -> JudgeAll:
    """That which asks about each path."""

    def judge_all(session: Session, said: Said) -> Iterator[tuple[Judgement, Attributes]]:
        for path in said.paths():
            judgement, found = judge(session, path)
            yield judgement, found.attributes

    return judge_all
