"""One peer as a machine: (now, event) -> actions. No socket, no clock; the caller carries the actions out.

States, and what becomes of the peer's paths. "Listed" are the families in the graceful restart capability of
the peer's OPEN (RFC 4724 section 3), of those that the session carries. "Up" is SYNCING or SYNCED.

    from        event                                  to          paths
    any         the session comes up                   SYNCING     stale ones stay until they are said again;
                                                                   of a peer that has restarted, those whose
                                                                   forwarding state it has lost (F bit) go
    any         the session is found up                SYNCING     all stale; the speaker is asked for them
    SYNCING     End-of-RIB of each family, or the      SYNCED      stale ones go
                restart time is over; the speaker
                tells which of these it has seen
    up          TCP is lost                            RESTARTING  listed families stay, stale; others go
    up          TCP is lost, no family is listed       IDLE        all go
    up          NOTIFICATION, received or sent         IDLE        all go (RFC 4724 section 4)
    up          we close it to open it anew            RESTARTING  all stay, stale: it is we who restart
    up          BFD down                               CLOSING     all go (RFC 5882 section 4.2)
    up          the speaker is lost                    ORPHANED    all stay, stale: it is we who restart
    RESTARTING  BFD down, C bit set                    IDLE        all go (RFC 5882 section 4.3.1)
    RESTARTING  BFD down, C bit clear                  RESTARTING  as they are (RFC 5882 section 4.3.2)
    ORPHANED    BFD down                               IDLE        all go
    RESTARTING, the restart time is over               IDLE        all go
    ORPHANED
    CLOSING     the session is down, or does not end   IDLE        none are left

After any events in any order: no path is left that the peer does not have, once it has said End-of-RIB or its
time is over; no timer runs in a state that does not own it; nothing is announced to a peer that is not up, is
held down, or has left; a peer that flaps is told nothing before its session has held for a moment.

A NOTIFICATION ends the session without keeping, as RFC 8538 (which would keep) is not offered. A session of a
peer that is held down (it flaps, or BFD's echo has failed), or that leaves, does not count as up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from l3net.bgp.events import Opened
from l3net.bgp.known_peer import ALL, NONE, SWEEP_DELAY, KnownPeer
from l3net.bgp.peer_actions import (
    Action,
    Announce,
    AskReceived,
    AskRefresh,
    Drop,
    Keep,
    LookAgain,
    Reconfigure,
    Say,
    Silence,
    Sweep,
    TearDown,
    Withdraw,
)
from l3net.bgp.peer_reasons import LEFT, SPEAKER_LOST, Attempt, Reset
from l3net.bgp.peer_states import State, Timer
from l3net.model import Family
from l3net.notification import ADMINISTRATIVE_RESET, BFD_DOWN, Notification, in_reason

#: A refresh that the peer does not demarcate (RFC 7313) has been answered, or not, by then, in seconds.
REFRESH_QUIET: Final = 15.0
#: Seconds a session that flaps has to hold before anything is announced to it.
STEADY: Final = 1.0
#: Seconds from the withdrawals to the end of a session that we close: ExaBGP answers when a line is queued,
#: not when it is sent.
LAST_WORDS: Final = 0.2
#: A session that we tear down is gone by then, in seconds.
CLOSE_LIMIT: Final = 5.0


@dataclass(slots=True)
class Peering(KnownPeer):
    """One peer."""

    # --- the session -------------------------------------------------------------------------------------

    def came_up(self, now: float, *, fresh: bool) -> list[Action]:
        """The session is established; `fresh`: since now, else it was found so.

        Its OPEN may have come just before we were there to hear it: the speaker tells it too.
        """
        if self.parted or self.held(now):
            return []  # on its way out: routes queued for it would make ExaBGP put off the reload
        missed = fresh and self.opened is self.passed
        lost = self.not_preserved() if fresh and not missed else NONE
        actions: list[Action] = [Say(logging.INFO, "established")]
        if not fresh or self.unseen:  # what was said over an older session may not be said again
            actions.append(Keep(ALL))
        self.enter(State.SYNCING)
        self.since = self.last_update = now
        self.reason, self.told, self.notified = "", "", None
        self.unseen = self.resetting = self.replaying = self.unagreed = False
        self.last_attempt = None
        self.shown_attempt.forget()
        self.awaiting = set(self.families)
        self.refreshing.clear()
        self.unanswered.clear()
        self.found_up = not fresh
        if fresh:
            self.path_failed = False
            self.timers[Timer.END_OF_RIB, None] = now + self.time_to_say_all()
        if fresh and self.damping.shaky(now):
            self.timers[Timer.STEADY, None] = now + STEADY
        else:
            actions.append(Announce(fresh))
        if missed or not fresh:
            actions.append(AskReceived())
        if lost:
            actions.append(Sweep(lost, "forwarding state not preserved"))
        return actions

    def went_down(self, now: float, reason: str) -> list[Action]:
        """The session, or an attempt at one, ended."""
        was, state = self.established, self.state
        self.notified = self.notified or in_reason(reason)
        ended = Reset(now, reason, self.notified, self.told)
        if not was:
            if self.last_attempt is None:
                self.show(now, str(ended))
            if state is State.CLOSING:
                self.enter(State.IDLE)
            actions: list[Action] = [Silence()]
            if self.unseen:
                self.unseen = False
                actions += self._keep_or_drop(now, swept=NONE)
            self.notified, self.told = None, ""
            return actions
        swept = self.families - self.refreshing
        if self.found_up or self.resetting:  # stale for a reason of ours
            swept = NONE
        actions = self._ended(now, ended) + self._keep_or_drop(now, swept)
        self.notified, self.told = None, ""
        return actions

    def _ended(self, now: float, ended: Reset) -> list[Action]:
        """An established session has ended."""
        hold = 0.0 if self.parted else self.damping.flapped(now, lasted=now - self.since)
        self.since, self.last_reset = now, ended
        self.reason = LEFT if self.parted else str(ended)
        self.flaps += not self.parted
        actions: list[Action] = [Say(logging.WARNING, f"down: {ended}"), Silence()]
        if hold:
            actions.append(Say(logging.WARNING, f"flap-damped for {hold:.0f} s"))
            self.reason = f"held down because it flaps ({ended})"
            actions += [Reconfigure(), Reconfigure(hold + 0.1)]
        return actions

    def _keep_or_drop(self, now: float, swept: frozenset[Family]) -> list[Action]:
        """What becomes of the paths of a session that has ended; of `swept`, what was stale already goes
        (RFC 4724 section 4.2)."""
        kept = self.kept
        self.enter(State.RESTARTING if kept else State.IDLE)
        self.refreshing.clear()
        self.replaying = False
        if not kept:
            return [Drop(ALL)]
        wait = self.session.graceful_restart if self.resetting else self.restart_time
        self.timers[Timer.RESTART, None] = now + wait
        names = ", ".join(f"IPv{family.value}" for family in sorted(kept, key=lambda one: one.value))
        staying = Say(logging.INFO, f"{names} routes stay up to {wait} s while it restarts")
        gone = [Drop(ALL - kept)] if kept < ALL else []
        return [*gone, Sweep(kept & swept), Keep(kept), staying]

    def _forget(self) -> list[Action]:
        self.enter(State.IDLE)
        self.refreshing.clear()
        self.replaying = False
        return [Drop(ALL)]

    def connected(self, now: float) -> list[Action]:
        """TCP is up, and the peer's OPEN has not come."""
        if not self.established and self.last_attempt is None:
            self.show(now, "connected, waiting for its OPEN")
        return []

    def was_notified(self, now: float, notification: Notification, text: str = "") -> list[Action]:
        """A NOTIFICATION came or went; the end of the connection follows."""
        self.note(now, notification, text)
        self.told = text or self.told
        side = "received" if notification.received else "sent"
        shown = f"NOTIFICATION {side}: {notification}{': ' + text if text else ''}"
        return [Say(logging.WARNING, shown)] if self.shown_notification.news(now, shown) else []

    def attempted(self, now: float, error: str, *, outgoing: bool) -> list[Action]:
        """A connection failed before the session was up. Repeats are told now and then."""
        if self.established:
            return []
        self.last_attempt = Attempt(now, outgoing, error)
        shown = str(self.last_attempt)
        self.show(now, shown)
        if not self.shown_attempt.news(now, shown):
            return []
        return [Say(logging.WARNING, f"attempt failed: {shown}")]

    # --- what the peer says ------------------------------------------------------------------------------

    def end_of_rib(self, now: float, family: Family) -> list[Action]:
        """RFC 4724 section 2; what is stale goes a little later, for peers that say it too early."""
        if self.replaying:
            self.heard.add(family)
        elif self.established and family not in self.refreshing:
            self.timers[Timer.SWEEP, family] = now + SWEEP_DELAY
        return []

    def refresh_began(self, family: Family) -> list[Action]:
        """BoRR: what is not said again until EoRR goes (RFC 7313 section 4)."""
        if not self.established:
            return []
        self.refreshing.add(family)
        self.timers.pop((Timer.SWEEP, family), None)
        self.timers.pop((Timer.QUIET, family), None)
        self.unanswered.discard(family)
        return [Keep(frozenset({family}))]

    def refresh_ended(self, family: Family) -> list[Action]:
        """EoRR. Without a BoRR before it, it is ignored (RFC 7313 section 4)."""
        if not self.established or family not in self.refreshing:
            return []
        self.refreshing.discard(family)
        return self._said_all({family})

    def replay_began(
        self, now: float, opened: Opened, lasted: float, heard: Iterable[Family]
    ) -> list[Action]:
        """The speaker begins to tell what the peer has said on its session, `lasted` seconds old; `heard` are
        the families whose End-of-RIB has come."""
        if self.parted or self.held(now) or self.closing:
            return []
        self.opened, actions = opened, list[Action]()
        if not self.established:
            actions = [action for action in self.came_up(now, fresh=False) if action != AskReceived()]
        self.since = min(self.since, now - lasted)
        self.heard = set(heard)
        self.heard |= {family for timer, family in self.timers if timer is Timer.SWEEP and family is not None}
        over = (Timer.SWEEP, Timer.QUIET, Timer.END_OF_RIB)
        self.timers = {key: when for key, when in self.timers.items() if key[0] not in over}
        self.unanswered.clear()
        self.replaying = self.found_up = True
        return [*actions, Keep(ALL)]

    def replay_ended(self, now: float) -> list[Action]:
        """It has told all."""
        if not self.established or not self.replaying:
            return []
        self.replaying = False
        patience = self.time_to_say_all() - (now - self.since)
        if patience <= 0:
            return [Sweep(ALL - self.refreshing), *self._said_all(self.families)]
        self.timers[Timer.END_OF_RIB, None] = now + patience
        return self._said_all(self.heard)

    def replay_refused(self, now: float) -> list[Action]:
        """The speaker keeps nothing, as one older than we are: the peer has to say it again."""
        if not self.established:
            return []
        if self.opened is not None and self.opened.refresh is False:
            return self._reset(now, "its routes are not known, and it takes no ROUTE-REFRESH")
        self.asked, asked = now, sorted(self.families, key=lambda one: one.value)
        self.unanswered.update(asked)
        self.timers |= {(Timer.QUIET, family): now + REFRESH_QUIET for family in asked}
        return [AskRefresh(family) for family in asked]

    def refresh_answered(self, now: float, family: Family, *, stale: bool) -> list[Action]:
        """The peer has been quiet after a ROUTE-REFRESH; `stale`: paths are left that it has not repeated.

        Silence is no withdrawal: they go, if they go, by a session made anew.
        """
        if not self.established or family not in self.awaiting or family in self.refreshing:
            return []
        if stale or self.last_update <= self.asked:
            return self._reset(now, f"it has not answered the ROUTE-REFRESH for IPv{family.value} in full")
        self.unanswered.discard(family)
        return self._said_all({family})

    def _said_all(self, families: Iterable[Family]) -> list[Action]:
        """The peer has said all it has of these."""
        done = frozenset(families) - self.refreshing
        self.awaiting -= done
        if not self.awaiting and self.state is State.SYNCING:
            self.state, self.found_up = State.SYNCED, False
        return [Sweep(done)] if done else []

    # --- what others say ---------------------------------------------------------------------------------

    def failed(self, now: float, reason: str, *, shares_fate: bool) -> list[Action]:
        """BFD is down. `shares_fate`: the peer's BFD dies with its BGP (C bit clear), so that its loss says
        nothing of the path while that restarts (RFC 5882 section 4.3.2)."""
        if self.state is State.RESTARTING and shares_fate:
            return [Say(logging.INFO, f"{reason}, while it restarts; the routes it preserves stay")]
        self.path_failed = True
        if not self.established:
            return [] if self.closing else self._forget()
        return [*self._ended(now, Reset(now, reason)), *self._forget(), *self.close(now, BFD_DOWN)]

    def close(self, now: float, subcode: int) -> list[Action]:
        """End a session that is up at ExaBGP, whether it counts here or not. Withdraw, then tear down: ExaBGP
        closes without a NOTIFICATION under graceful restart, and the peer would keep what was announced."""
        self.enter(State.CLOSING)
        self.resetting, self.close_with = True, subcode
        self.timers[Timer.TEARDOWN, None] = now + LAST_WORDS
        self.timers[Timer.GIVE_UP, None] = now + CLOSE_LIMIT
        return [Withdraw()]

    def _reset(self, now: float, why: str) -> list[Action]:
        """Open it anew, both sides keeping their routes meanwhile (RFC 4724)."""
        if self.resetting:
            return []
        self.resetting = True
        return [Say(logging.WARNING, f"resetting the session: {why}"), TearDown(ADMINISTRATIVE_RESET)]

    def speaker_lost(self, now: float) -> list[Action]:
        """Nobody speaks to the peer, as far as is known: it is we who restart."""
        self.passed = self.opened
        if not (self.established or self.closing or self.unseen):
            return []
        closing, self.unseen = self.closing, False
        self.enter(State.IDLE if closing else State.ORPHANED)
        self.since, self.reason = now, SPEAKER_LOST
        self.replaying = False
        self.refreshing.clear()
        if closing:
            return []
        self.timers[Timer.RESTART, None] = now + self.session.graceful_restart
        return [Keep(ALL)]

    def part(self, now: float, parted: bool) -> list[Action]:
        """The node leaves, or comes back. What the peer announced is kept as when it is we who restart."""
        self.parted = parted
        actions: list[Action] = []
        if parted:
            if self.established:
                self.resetting = True
                actions = self.went_down(now, LEFT)
            self.reason = LEFT
        elif not self.established:
            self.reason = ""
        return actions

    def tick(self, now: float) -> list[Action]:
        """What is due at `now`."""
        actions: list[Action] = []
        while due := [key for key, when in self.timers.items() if when <= now]:
            key = min(due, key=lambda one: self.timers[one])
            del self.timers[key]
            actions += self._fire(now, *key)
        return actions

    def _fire(self, now: float, timer: Timer, family: Family | None) -> list[Action]:
        match timer:
            case Timer.RESTART:
                self.enter(State.IDLE)
                return [Drop(ALL, "not back within its restart time")]
            case Timer.END_OF_RIB:
                return self._said_all(self.families)
            case Timer.SWEEP if family is not None:
                return self._said_all({family})
            case Timer.QUIET if family is not None:
                still = now - self.last_update
                if still >= REFRESH_QUIET:
                    return [LookAgain(family)]
                self.timers[Timer.QUIET, family] = now + REFRESH_QUIET - still
                return []
            case Timer.STEADY:
                return [Announce(fresh=True)]
            case Timer.TEARDOWN:
                return [TearDown(self.close_with)]
            case _:
                self.enter(State.IDLE)
                self.resetting = False
                return []
