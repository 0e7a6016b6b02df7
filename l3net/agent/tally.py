"""How many of a peer's paths are used, and why the others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from l3net.agent.loop import Agent
from l3net.bgp.kept import Received
from l3net.bgp.loc_rib import Candidate
from l3net.bgp.sessions import Session
from l3net.bgp.verdict import Judgement, Verdict

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
        """One look at each kind of path: of paths there may be hundreds of thousands."""
        refused = Counter[str]()
        received = 0
        for entry, count in agent.rib.kinds(session.peer_address):
            received += count
            judgement = standing(agent, session, entry)
            if judgement.verdict is not Verdict.ACCEPTED:
                refused[str(judgement)] += count
        return cls(received, received - refused.total(), dict(refused))
