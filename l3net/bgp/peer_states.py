"""The states of a peer's machine (`l3net.bgp.peering`), and which timers run in each."""

from __future__ import annotations

import enum
from typing import Final


class State(enum.Enum):
    """Of a peer; its transitions are in `l3net.bgp.peering`."""

    IDLE = "idle"
    SYNCING = "syncing"
    SYNCED = "synced"
    RESTARTING = "restarting"
    ORPHANED = "orphaned"
    CLOSING = "closing"


class Timer(enum.Enum):
    """What may be due; `OWNERS` says in which states."""

    RESTART = "restart"  # how long a peer that has gone is waited for
    END_OF_RIB = "end of rib"  # how long one that is back has to say all
    SWEEP = "sweep"  # of a family, after its End-of-RIB
    QUIET = "quiet"  # of a family, after a ROUTE-REFRESH
    STEADY = "steady"  # until a session that flaps is told anything
    TEARDOWN = "teardown"  # after the last withdrawals
    GIVE_UP = "give up"  # a session that does not end


#: A timer outlives none of its states.
OWNERS: Final = {
    Timer.RESTART: {State.RESTARTING, State.ORPHANED},
    Timer.END_OF_RIB: {State.SYNCING, State.SYNCED},
    Timer.SWEEP: {State.SYNCING, State.SYNCED},
    Timer.QUIET: {State.SYNCING, State.SYNCED},
    Timer.STEADY: {State.SYNCING, State.SYNCED},
    Timer.TEARDOWN: {State.CLOSING},
    Timer.GIVE_UP: {State.CLOSING},
}
