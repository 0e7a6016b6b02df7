"""How many of a peer's paths are used, and why the others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from l3net.agent.loop import Agent
from l3net.bgp.loc_rib import Candidate, Received
from l3net.bgp.path import Attributes
from l3net.bgp.sessions import Session
from l3net.bgp.verdict import ACCEPTED, Judgement, Verdict
from l3net.model import Address

UNRESOLVED = Judgement(Verdict.UNRESOLVED)


def standing(agent: Agent, session: Session, entry: Received) -> Judgement:
    """What policy says of a path; of one that it accepts, also whether its next hop leads anywhere now."""
    accepted = entry.judgement.verdict is Verdict.ACCEPTED
    return (
        UNRESOLVED
        if accepted and not agent.routing.usable(Candidate(entry.path, session))
        else entry.judgement
    )


@dataclass(frozen=True, slots=True)
class Tally:
    """How many paths a peer has announced, how many are used, and why the others are not."""

    received: int
    accepted: int
    refused: Mapping[str, int]

    @classmethod
    def of(cls, agent: Agent, session: Session) -> Tally:
        """One look at each path, of which there may be hundreds of thousands."""
        entries = agent.rib.received(session.peer_address)
        told = Counter(entry.judgement for entry in entries if entry.judgement is not ACCEPTED)
        refused = Counter[str]()
        for judgement, count in told.items():
            if judgement.verdict is not Verdict.ACCEPTED:
                refused[str(judgement)] += count
        unresolved = _unresolved(agent, session, entries)
        if unresolved:
            refused[str(UNRESOLVED)] = unresolved
        return cls(len(entries), len(entries) - refused.total(), dict(refused))


def _unresolved(agent: Agent, session: Session, entries: list[Received]) -> int:
    """Accepted paths whose next hop leads nowhere. Most have next hop and attributes of the one before."""
    count, leads = 0, True
    last: tuple[Address | None, Attributes | None] = (None, None)
    for entry in entries:
        if entry.judgement is not ACCEPTED and entry.judgement.verdict is not Verdict.ACCEPTED:
            continue
        path = entry.path
        if path.next_hop is not last[0] or path.attributes is not last[1]:
            last = (path.next_hop, path.attributes)
            leads = agent.routing.usable(Candidate(path, session))
        count += not leads
    return count
