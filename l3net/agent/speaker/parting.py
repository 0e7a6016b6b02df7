"""Make before break: mesh sessions that a new topology does not want stay until the new ones have taken over.

From full mesh to route reflectors, a node that closed its old sessions at once would be without routes until
a reflector had spoken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from l3net.bgp.sessions import Session
from l3net.model import Address

#: Seconds for which old sessions stay after the new ones have said all: the peer may be a little later.
LINGER = 10.0
#: Seconds after which they go in any case.
PATIENCE = 120.0
#: Seconds for which a reflector goes on after it is one no longer.
REFLECT_ON = 30.0


class Parting:
    """Times are of a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._kept: dict[Address, Session] = {}
        self._released: set[Address] = set()
        self._reflecting: dict[Address, float] = {}
        self._deadline = 0.0
        self._settled_since: float | None = None

    def merge(
        self,
        wanted: Mapping[Address, Session],
        before: Mapping[Address, Session],
        nodes: frozenset[str],
        now: float,
    ) -> dict[Address, Session]:
        """The sessions to hold now: those wanted, and old mesh sessions with nodes that are still there."""
        self._released &= before.keys() - wanted.keys()
        parting = {
            address: session
            for address, session in before.items()
            if session.mesh_node in nodes and address not in wanted and address not in self._released
        }
        wanted = self._still_reflecting(wanted, before, now)
        mesh_goes_on = any(session.mesh for session in wanted.values())
        if mesh_goes_on and parting.keys() - self._kept.keys():
            self._deadline, self._settled_since = now + PATIENCE, None
        self._kept = parting if mesh_goes_on else {}
        return {**self._kept, **wanted}

    def _still_reflecting(
        self, wanted: Mapping[Address, Session], before: Mapping[Address, Session], now: float
    ) -> dict[Address, Session]:
        """A reflector that is one no longer goes on for a while, and its clients go on believing it: the
        sessions that take its place are being opened meanwhile."""
        found: dict[Address, Session] = {}
        for address, session in wanted.items():
            old = before.get(address)
            lost = old is not None and (
                (old.reflector and not session.reflector)
                or (old.cluster_id is not None and session.cluster_id is None)
            )
            if lost and old is not None:
                until = self._reflecting.setdefault(address, now + REFLECT_ON)
                if now < until:
                    found[address] = replace(
                        session, client=old.client, reflector=old.reflector, cluster_id=old.cluster_id
                    )
                    continue
            self._reflecting.pop(address, None)
            found[address] = session
        return found

    @property
    def pending(self) -> bool:
        return bool(self._kept)

    def reflected_until(self) -> float | None:
        """When the last of those that reflect no longer may stop, None if there are none."""
        return max(self._reflecting.values(), default=None)

    def finished(self, settled: bool, now: float) -> bool:
        """Whether the old sessions may go: the new ones are settled for a while, or patience is over."""
        if not self._kept:
            return False
        if not settled:
            self._settled_since = None
        elif self._settled_since is None:
            self._settled_since = now
        lingered = self._settled_since is not None and now - self._settled_since >= LINGER
        if lingered or now >= self._deadline:
            self._released = set(self._kept)
            self._kept = {}
            return True
        return False
