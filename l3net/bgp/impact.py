"""What a change of the declared state does to sessions and announcements, before it is made."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from l3net.addresses import address_order, prefix_order
from l3net.bgp.adj_rib_out import AdjRibOut
from l3net.bgp.sessions import Session
from l3net.model import Address, Prefix


class Impact(enum.IntEnum):
    """How deep a changed field cuts; the greater the worse."""

    LIVE = 0  # takes effect in the agent alone
    SOFT = 1  # routes are announced or judged again over the same session
    RESET = 2  # the session is closed and opened again; graceful restart keeps the routes meanwhile


#: Every field of a session. ExaBGP resets a neighbour when anything in its block changes but the description,
#: so RESET is exactly what stands in the rest of the block.
IMPACT: Final[Mapping[str, Impact]] = {
    "name": Impact.LIVE,
    "peer_address": Impact.RESET,
    "peer_as": Impact.RESET,
    "local_address": Impact.RESET,
    "local_as": Impact.RESET,
    "router_id": Impact.RESET,
    "families": Impact.RESET,
    "next_hops": Impact.SOFT,
    "port": Impact.RESET,
    "listen_port": Impact.RESET,
    "hold_time": Impact.RESET,
    "send_hold_time": Impact.LIVE,
    "graceful_restart": Impact.RESET,
    "passive": Impact.RESET,
    "listen": Impact.RESET,
    "gtsm": Impact.RESET,
    "multihop": Impact.RESET,
    "password": Impact.RESET,
    "source_interface": Impact.RESET,
    "next_hop_mode": Impact.SOFT,
    "filters": Impact.SOFT,
    "max_prefixes": Impact.SOFT,
    "third_party_next_hops": Impact.SOFT,
    "allow_blackhole": Impact.LIVE,
    "add_path": Impact.RESET,
    "extended_next_hop": Impact.RESET,
    "any_as": Impact.LIVE,
    "client": Impact.SOFT,
    "reflector": Impact.SOFT,
    "cluster_id": Impact.SOFT,
    "mesh_node": Impact.LIVE,
    "to_node": Impact.LIVE,
    "bfd": Impact.LIVE,
    "bfd_secret": Impact.LIVE,
}


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """What happens to one session. `action`: added, removed, reset, soft, live or unchanged.

    `fields` names what differs, without values, since one of them is the password. `announce` and `withdraw`
    are prefixes the peer will newly hear, hear changed, or no longer hear.
    """

    peer: Address
    name: str
    action: str
    fields: tuple[str, ...] = ()
    announce: tuple[Prefix, ...] = ()
    withdraw: tuple[Prefix, ...] = ()


def changed_fields(before: Session, after: Session) -> tuple[str, ...]:
    return tuple(
        each.name for each in fields(Session) if getattr(before, each.name) != getattr(after, each.name)
    )


def impact_of(before: Session, after: Session) -> Impact | None:
    """The deepest cut of all that differs; None if nothing does. On a session that does not listen, and on a
    passive one, the port that is not used does not count."""
    changed = [
        name
        for name in changed_fields(before, after)
        if not (name == "listen_port" and not (before.listen or after.listen))
        and not (name == "port" and before.passive and after.passive)
    ]
    return max((IMPACT[name] for name in changed), default=None)


def plan(
    before: Mapping[Address, tuple[Session, AdjRibOut]], after: Mapping[Address, tuple[Session, AdjRibOut]]
) -> tuple[SessionPlan, ...]:
    """One entry for each peer before or after, in order of address."""
    peers = sorted({*before, *after}, key=address_order)
    return tuple(_of(peer, before.get(peer), after.get(peer)) for peer in peers)


def _of(
    peer: Address, before: tuple[Session, AdjRibOut] | None, after: tuple[Session, AdjRibOut] | None
) -> SessionPlan:
    old, new = (before[1] if before else {}), (after[1] if after else {})
    announce = tuple(
        sorted((prefix for prefix, path in new.items() if old.get(prefix) != path), key=prefix_order)
    )
    withdraw = tuple(sorted((prefix for prefix in old if prefix not in new), key=prefix_order))
    if before is None and after is not None:
        return SessionPlan(peer, after[0].name, "added", (), announce, withdraw)
    if after is None and before is not None:
        return SessionPlan(peer, before[0].name, "removed", (), announce, withdraw)
    assert before is not None and after is not None  # noqa: S101 - the peer stands in one of them
    impact = impact_of(before[0], after[0])
    if impact is None:
        action = "soft" if announce or withdraw else "unchanged"
    else:
        action = impact.name.lower()
        if impact is Impact.LIVE and (announce or withdraw):
            action = "soft"
    return SessionPlan(peer, after[0].name, action, changed_fields(before[0], after[0]), announce, withdraw)
