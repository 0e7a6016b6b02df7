"""How much of the cluster is followed: which Nodes, Pods and Secrets; and policies, floating and egress
addresses, which wait until those that they speak of are known.

Pods are tens of thousands, and each starts, runs and ends in a dozen changes: all of them are followed where
a policy is declared, a pool of floating addresses or an EgressIP, and else those of this node alone. A policy
is in force only as far as its peers are known: told before all Pods are, it would deny what it allows, a
floating address would go to the one pod that is known, and an egress address to the one node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final, Protocol

from l3net.kube.registry import KINDS as DECLARED
from l3net.kube.scope import (
    MOVING,
    POLICIES,
    any_floating,
    every_node,
    every_pod,
    is_floating,
    is_moving,
    is_policy,
    names_nodes,
    secrets_of,
)
from l3net.model import ClusterState, Fact, Kind, ObjectName
from l3net.ports import Changed
from l3net.shell.kubernetes.selection import NOTHING, OnNode, Selection

#: Seconds for which all Pods are followed after the last policy has gone: another often takes its place.
LINGER: Final = 300.0


class Followed(Protocol):
    """What is followed."""

    def complete(self, *kinds: Kind) -> bool:
        """Whether everything of these has been delivered."""
        ...

    def known(self, *kinds: Kind) -> tuple[int, ...] | None:
        """In which scopes everything of these has been delivered; None if it has not."""
        ...

    def follow(self, kind: Kind, only: Selection) -> None:
        """Follow these of a kind from now on."""
        ...

    def follow_secrets(self, names: frozenset[ObjectName]) -> None: ...

    def drained(self) -> bool:
        """Whether everything that was delivered has been taken."""
        ...

    def wake(self) -> None:
        """Look again, although nothing was heard."""
        ...


class Reach:
    """Of the node `me`; empty: of none, so that without policies no Pod is followed, and none for EgressIPs:
    what leaves with which address is the nodes' to decide. `linger` in seconds."""

    def __init__(
        self,
        feeds: Followed,
        me: str,
        *,
        all_nodes: bool,
        secrets: bool,
        kinds: tuple[Kind, ...],
        linger: float,
    ) -> None:
        self._feeds, self._me, self._all_nodes, self._secrets = feeds, me, all_nodes, secrets
        self._kinds, self._linger = kinds, linger
        self._state = ClusterState()  # what decides
        self._wide = self._heard_all = False
        self._unneeded_since: float | None = None  # by the loop's clock
        self._waiting: dict[tuple[Kind, ObjectName], Changed] = {}

    @property
    def of_policies(self) -> tuple[Kind, ...]:
        """Those that a policy, or who has a floating or egress address, has to know all of."""
        both = names_nodes(self._state) or any_floating(self._state) or bool(self._state.egress)
        return (Kind.POD, Kind.NODE) if both else (Kind.POD,)

    @property
    def waits(self) -> bool:
        """Whether a policy does."""
        return bool(self._waiting)

    def take(self, event: Changed) -> bool:
        """Hear of an object; whether it may be told now."""
        kind, name = event.kind, event.name
        own = kind is Kind.NODE and name.name == self._me
        moving = kind in MOVING
        if kind not in POLICIES and not moving:
            if own or DECLARED[kind].names_secrets:
                DECLARED[kind].put(self._state, name, event.fact)
            return True
        acts = self._moves(event.fact) if moving else is_policy(event.fact)
        DECLARED[kind].put(self._state, name, event.fact if acts else None)
        self._waiting.pop((kind, name), None)
        if not acts or Kind.POD not in self._kinds:
            return True
        self._waiting[kind, name] = event
        return False

    def release(self) -> Iterator[Changed]:
        """What waited."""
        waiting, self._waiting = self._waiting, {}
        yield from waiting.values()

    def follow(self) -> None:
        """Have followed what is needed by what is known now."""
        feeds, state = self._feeds, self._state
        if feeds.complete(*(kind for kind in self._kinds if DECLARED[kind].names_secrets)):
            every = self._all_nodes or every_node(state, self._me)
            feeds.follow(Kind.NODE, None if every else ObjectName("", self._me))
            if self._secrets:
                feeds.follow_secrets(secrets_of(state))
        if Kind.POD in self._kinds and self._policies_known():
            feeds.follow(Kind.POD, None if self._every_pod() else OnNode(self._me) if self._me else NOTHING)

    def _moves(self, fact: Fact | None) -> bool:
        """Whether it speaks of Pods that this process has to know all of."""
        return is_moving(fact) if self._me else is_floating(fact)

    def _policies_known(self) -> bool:
        """Whether all have been heard of, so that Pods are not listed twice at the start."""
        if not self._heard_all:
            of = [kind for kind in self._kinds if kind in POLICIES or kind in MOVING]
            # What was delivered is among what is heard before it is complete: in this order.
            self._heard_all = self._feeds.complete(*of) and self._feeds.drained()
        return self._heard_all

    def _every_pod(self) -> bool:
        if every_pod(self._state):
            self._wide, self._unneeded_since = True, None
        elif self._wide:
            loop = asyncio.get_running_loop()
            if self._unneeded_since is None:
                self._unneeded_since = loop.time()
                loop.call_later(self._linger, self._feeds.wake)
            self._wide = loop.time() < self._unneeded_since + self._linger
        return self._wide
