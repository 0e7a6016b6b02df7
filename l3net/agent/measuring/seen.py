"""What is looked at for one scrape, each thing once, however many families are read of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from l3net.agent.loop import Agent
from l3net.agent.tally import Tally
from l3net.bgp.peering import Peering
from l3net.metering.bounded import Bounded
from l3net.model import Address, Direction, ObjectName


@dataclass(frozen=True, slots=True)
class PolicyCount:
    """What the rules of a policy do."""

    kind: str
    policy: str
    direction: Direction
    action: str


@dataclass(frozen=True, slots=True)
class DeniedCount:
    """What no rule of some NetworkPolicies accepts."""

    policies: str
    direction: Direction


@dataclass(slots=True)
class Apart:
    """Who is told apart in the families that are bounded: it lasts from scrape to scrape."""

    services: Bounded[ObjectName] = field(default_factory=Bounded)
    connections: Bounded[ObjectName] = field(default_factory=Bounded)
    policies: Bounded[PolicyCount] = field(default_factory=Bounded)
    denied: Bounded[DeniedCount] = field(default_factory=Bounded)


@dataclass(frozen=True, slots=True)
class Beside:
    """What runs beside the agent's loop: the history, how full it is and what went by untold; questions to
    the socket, by their first word; Events that were posted, and left out; requests to the API server, by
    method and status."""

    history: Callable[[], tuple[int, int]] = lambda: (0, 0)
    asked: Callable[[], Mapping[str, int]] = dict
    events: Callable[[], tuple[int, int]] = lambda: (0, 0)
    answers: Callable[[], Mapping[tuple[str, str], int]] = dict


class Seen:
    """An agent at the time of one scrape."""

    def __init__(self, agent: Agent, apart: Apart, beside: Beside) -> None:
        self.agent, self.apart, self.beside = agent, apart, beside

    @cached_property
    def sessions(self) -> list[tuple[tuple[object, ...], Address, Peering, Tally]]:
        """Each with the values of its labels: peer, address, as."""
        found: list[tuple[tuple[object, ...], Address, Peering, Tally]] = []
        for address, peer in self.agent.speaking.peers.items():
            session = peer.session
            labels = session.name, address, session.peer_as
            found.append((labels, address, peer, Tally.of(self.agent, session)))
        return found

    @cached_property
    def collectors(self) -> list[tuple[tuple[object, ...], Mapping[str, Any]]]:
        """Each with the values of its labels: collector, address, port."""
        return [((row["name"], row["address"], row["port"]), row) for row in self.agent.monitoring.status()]

    @cached_property
    def pods(self) -> Mapping[str, Any]:
        """Figures of the CNI server."""
        return self.agent.pods.status()

    @cached_property
    def spread(self) -> Mapping[str, int]:
        """Of consistent load balancing."""
        return self.agent.services.spread
