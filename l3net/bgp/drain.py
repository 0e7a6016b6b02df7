"""A node that is about to go: which stage its drain is in, and how a route says so (RFC 8326).

First every route of the node is made the last choice, so that the routers move its traffic while the node
still forwards it; after a wait it withdraws them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from l3net.bgp.path import Attributes
from l3net.bgp.sessions import Session
from l3net.community import GRACEFUL_SHUTDOWN
from l3net.model import DrainCause


class Stage(enum.IntEnum):
    """How far a drain has come. The names, in lower case, are what users see."""

    NONE = 0
    TAGGED = 1  # everything is announced as the last choice
    SERVICES_WITHDRAWN = 2  # so are blocks still; service addresses that others serve are withdrawn
    WITHDRAWN = 3  # nothing is announced
    LEFT = 4  # and no session is held


@dataclass(frozen=True, slots=True)
class DrainRecord:
    """What outlives an agent: `since` in seconds since boot; `stage` and `cause` as users see them."""

    cause: str
    since: float
    stage: str


def stage(cause: DrainCause | None, elapsed: float, wait: float, *, ending: bool) -> Stage:
    """The stage `elapsed` seconds after the drain began.

    A cordoned node goes on running pods, of DaemonSets at least: its blocks stay. So do those of a node that
    shuts down until its pods have ended; `ending` says that it is the agent's turn.
    """
    if cause is None:
        return Stage.NONE
    if elapsed < wait:
        return Stage.TAGGED
    if cause is DrainCause.LEAVE or (cause is DrainCause.SHUTDOWN and ending):
        return Stage.WITHDRAWN
    return Stage.SERVICES_WITHDRAWN


def last_choice(session: Session, attributes: Attributes, prepend: int) -> Attributes:
    """The attributes of a route that shall be used where nothing else is left.

    The community makes it so at every peer that honours RFC 8326. For those that do not, LOCAL_PREF is 0
    inside the AS, and the AS_PATH is longer outside, where LOCAL_PREF does not go (RFC 4271 section 5.1.5).
    """
    attributes = replace(attributes, communities=attributes.communities | {GRACEFUL_SHUTDOWN})
    if not session.external:
        return replace(attributes, local_preference=0)
    return attributes.prepended((session.local_as,) * prepend)
