"""A peer's machine: what becomes of its paths, state by state, and laws that hold after any events."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

import pytest
from bgp_facts import path, session
from examples import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from l3net.bgp.events import Opened
from l3net.bgp.known_peer import SWEEP_DELAY
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.peer_actions import (
    Action,
    Announce,
    AskReceived,
    AskRefresh,
    Drop,
    Keep,
    LookAgain,
    Reconfigure,
    Silence,
    Sweep,
    TearDown,
    Withdraw,
)
from l3net.bgp.peer_reasons import LEFT
from l3net.bgp.peer_states import OWNERS, State
from l3net.bgp.peering import REFRESH_QUIET, Peering
from l3net.bgp.verdict import ACCEPTED
from l3net.model import Family
from l3net.notification import Notification

BOTH = frozenset(Family)
IPV4, IPV6 = frozenset({Family.IPV4}), frozenset({Family.IPV6})
NEITHER: frozenset[Family] = frozenset()
SESSION = session(families=BOTH, graceful_restart=90)
PEER = SESSION.peer_address
PATHS = {
    Family.IPV4: path("192.168.7.0/24"),
    Family.IPV6: path("fd77::/64", "fd00::1"),
}


def opened(
    listed: frozenset[Family] = BOTH, *, forwarding: frozenset[Family] = BOTH, time: int | None = 30
) -> Opened:
    return Opened(PEER, 9, "10.0.0.1", time, forwarding=forwarding, preserved=listed, families=BOTH)


class World:
    """A machine beside a real RIB, with a clock."""

    def __init__(self, offered: Opened | None = None) -> None:
        self.now = 1000.0
        self.peer = Peering(SESSION, since=self.now)
        self.rib = LocRib(lambda _session, raw: (ACCEPTED, raw))
        self.rib.set_sessions({PEER: SESSION})
        self.done: list[Action] = []
        if offered is not None:
            self.up(offered)
            for family in Family:
                self.said(family)
                self.do(self.peer.end_of_rib(self.now, family))
            self.pass_time(SWEEP_DELAY)
            assert self.peer.state is State.SYNCED

    def do(self, actions: list[Action]) -> list[Action]:
        for action in actions:
            match action:
                case Keep(families):
                    for family in families:
                        self.rib.mark_stale(PEER, family)
                case Sweep(families):
                    for family in families:
                        self.rib.sweep(PEER, family)
                case Drop(families):
                    self.rib.drop(PEER, families)
                case LookAgain(family):
                    stale = self.rib.has_stale(PEER, family)
                    self.do(self.peer.refresh_answered(self.now, family, stale=stale))
                case _:
                    pass
        self.done += actions
        return actions

    def up(self, offered: Opened) -> list[Action]:
        self.peer.opened = offered
        return self.do(self.peer.came_up(self.now, fresh=True))

    def said(self, family: Family) -> None:
        self.rib.announce(PEER, [PATHS[family]])
        self.peer.updated(self.now)

    def down(self, reason: str = "closing connection") -> None:
        self.do(self.peer.went_down(self.now, reason))

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.peer.deadline) is not None and due <= end:
            self.now = max(self.now, due)
            self.do(self.peer.tick(self.now))
        self.now = end

    @property
    def has(self) -> frozenset[Family]:
        return frozenset(
            Family(entry.raw.prefix.version) for entry in self.rib.received(PEER) if not entry.stale
        )

    @property
    def keeps(self) -> frozenset[Family]:
        return frozenset(Family(entry.raw.prefix.version) for entry in self.rib.received(PEER) if entry.stale)


def received(code: int, subcode: int) -> Callable[[World], None]:
    def end(world: World) -> None:
        world.do(
            world.peer.was_notified(world.now, Notification(code, subcode, received=True), "maintenance")
        )
        world.down()

    return end


def failed(*, shares_fate: bool) -> Callable[[World], None]:
    return lambda world: world.do(world.peer.failed(world.now, "BFD down", shares_fate=shares_fate)) and None


def lost_speaker(world: World) -> None:
    world.do(world.peer.speaker_lost(world.now))


def reset_by_us(world: World) -> None:
    world.peer.resetting = True
    world.down()


def left(world: World) -> None:
    world.do(world.peer.part(world.now, True))


@pytest.mark.parametrize(
    ("offered", "end", "state", "kept"),
    [
        (opened(), World.down, State.RESTARTING, BOTH),
        (opened(IPV4), World.down, State.RESTARTING, IPV4),
        (opened(NEITHER), World.down, State.IDLE, NEITHER),  # FRR's default: a helper, which lists none
        (opened(time=None), World.down, State.IDLE, NEITHER),
        (opened(time=0), World.down, State.IDLE, NEITHER),
        (opened(), received(6, 2), State.IDLE, NEITHER),
        (opened(), lambda world: world.down("notification received (6,4)"), State.IDLE, NEITHER),
        (opened(), lambda world: world.down("notification sent (4,0)"), State.IDLE, NEITHER),  # hold timer
        (opened(), failed(shares_fate=False), State.CLOSING, NEITHER),
        (opened(), failed(shares_fate=True), State.CLOSING, NEITHER),
        (opened(), lost_speaker, State.ORPHANED, BOTH),
        (opened(NEITHER), lost_speaker, State.ORPHANED, BOTH),
        (opened(NEITHER), reset_by_us, State.RESTARTING, BOTH),
        (opened(NEITHER), left, State.RESTARTING, BOTH),
    ],
)
def test_what_stays_of_a_session_that_ends(
    offered: Opened, end: Callable[[World], None], state: State, kept: frozenset[Family]
) -> None:
    world = World(offered)
    assert world.has == BOTH
    end(world)
    assert world.peer.state is state
    assert world.keeps == kept
    assert not world.has


def test_what_is_not_offered_by_us_is_not_kept() -> None:
    world = World(opened())
    world.peer.session = session(families=BOTH, graceful_restart=0)
    world.down()
    assert world.peer.state is State.IDLE
    assert not world.keeps


@pytest.mark.parametrize(("time", "end", "wait"), [(30, World.down, 30), (30, lost_speaker, 90)])
def test_the_restart_time_bounds_the_wait(time: int, end: Callable[[World], None], wait: int) -> None:
    """The peer's own (RFC 4724 section 3); where our speaker restarts, ours."""
    world = World(opened(time=time))
    end(world)
    world.pass_time(wait - 0.1)
    assert world.keeps == BOTH
    world.pass_time(0.2)
    assert not world.keeps
    assert world.peer.state is State.IDLE


@pytest.mark.parametrize(
    ("again", "kept"),
    [
        (opened(), BOTH),
        (opened(forwarding=IPV6), IPV6),
        (opened(time=None, forwarding=NEITHER), NEITHER),
    ],
)
def test_a_peer_that_is_back_without_its_forwarding_state(again: Opened, kept: frozenset[Family]) -> None:
    """RFC 4724 section 4.2: a family not listed, or without the F bit, goes at once."""
    world = World(opened())
    world.down()
    world.up(again)
    assert world.keeps == kept
    # It says IPv4 again, and nothing of IPv6.
    world.said(Family.IPV4)
    for family in Family:
        world.do(world.peer.end_of_rib(world.now, family))
    world.pass_time(SWEEP_DELAY)
    assert (world.has, world.keeps) == (IPV4, NEITHER)
    assert world.peer.state is State.SYNCED


def test_where_we_have_restarted_the_bits_mean_nothing() -> None:
    world = World(opened())
    reset_by_us(world)
    world.up(opened(forwarding=NEITHER))
    assert world.keeps == BOTH


def test_attempts_that_fail_cost_nothing() -> None:
    """Not by a NOTIFICATION either: of two connections that collide, one ends so (RFC 4271 section 6.8)."""
    world = World(opened())
    world.down()
    for reason in ("notification received (6,7)", "notification sent (6,7)", "closing connection"):
        world.down(reason)
        world.do(world.peer.attempted(world.now, "connection refused", outgoing=True))
    assert world.keeps == BOTH
    world.up(opened())
    for family in Family:
        world.said(family)
    world.down()
    assert world.keeps == BOTH, "what an attempt ended with is none of the next session's"


def test_a_notification_to_another_connection_does_not_end_this_one() -> None:
    world = World(opened())
    world.do(world.peer.was_notified(world.now, Notification(6, 7, received=False)))
    world.down()
    assert world.keeps == BOTH


@pytest.mark.parametrize(("shares_fate", "kept"), [(True, IPV4), (False, NEITHER)])
def test_bfd_while_the_peer_restarts(shares_fate: bool, kept: frozenset[Family]) -> None:
    """RFC 5882 section 4.3: only what graceful restart keeps is kept at all."""
    world = World(opened(IPV4))
    world.down()
    failed(shares_fate=shares_fate)(world)
    assert world.keeps == kept


def test_a_session_found_up_is_told_by_the_speaker_and_silence_is_no_withdrawal() -> None:
    world = World(opened())
    lost_speaker(world)
    actions = world.do(world.peer.came_up(world.now, fresh=False))
    assert AskReceived() in actions
    world.pass_time(3600)
    assert world.keeps == BOTH, "nobody has said that they are gone"
    world.do(world.peer.replay_began(world.now, opened(), 4000.0, BOTH))
    world.said(Family.IPV4)
    world.pass_time(3600)
    world.do(world.peer.replay_ended(world.now))
    assert (world.has, world.keeps) == (IPV4, NEITHER)
    assert world.peer.state is State.SYNCED


def test_a_replay_of_a_session_whose_peer_has_not_said_all_yet() -> None:
    world = World()
    world.do(world.peer.came_up(world.now, fresh=False))
    world.do(world.peer.replay_began(world.now, opened(), 1.0, IPV4))
    world.said(Family.IPV4)
    world.do(world.peer.replay_ended(world.now))
    assert world.peer.awaiting == IPV6
    world.do(world.peer.end_of_rib(world.now, Family.IPV6))
    world.pass_time(SWEEP_DELAY)
    assert world.peer.state is State.SYNCED


def test_an_open_that_came_before_we_did_is_told_by_the_speaker() -> None:
    world = World()
    assert AskReceived() in world.do(world.peer.came_up(world.now, fresh=True))
    world.do(world.peer.replay_began(world.now, opened(), 0.0, NEITHER))
    world.do(world.peer.replay_ended(world.now))
    for family in Family:
        world.said(family)
    world.down()
    assert world.keeps == BOTH
    assert AskReceived() not in world.up(opened()), "it is known"


def test_an_open_of_the_last_session_says_nothing_of_one_that_came_up_meanwhile() -> None:
    """Its F bits least of all. What is stale is not gone because the peer has not said it yet."""
    world = World(opened(forwarding=NEITHER))
    world.down()
    lost_speaker(world)
    actions = world.do(world.peer.came_up(world.now, fresh=True))
    assert AskReceived() in actions
    world.do(world.peer.replay_began(world.now, opened(time=60), 0.0, NEITHER))
    world.said(Family.IPV4)
    world.do(world.peer.replay_ended(world.now))
    assert (world.has, world.keeps) == (IPV4, IPV6)
    world.do(world.peer.end_of_rib(world.now, Family.IPV6))
    world.pass_time(SWEEP_DELAY)
    assert (world.has, world.keeps) == (IPV4, NEITHER)


@pytest.mark.parametrize(
    ("answered", "resets"), [(NEITHER, True), (IPV4, True), (BOTH, False)], ids=["not", "in part", "in full"]
)
def test_a_speaker_that_keeps_nothing(answered: frozenset[Family], resets: bool) -> None:
    """An older one: the peer is asked, and one that does not say all has its session made anew, with what it
    said kept meanwhile."""
    world = World(opened())
    lost_speaker(world)
    world.do(world.peer.came_up(world.now, fresh=False))
    assert world.do(world.peer.replay_refused(world.now)) == [AskRefresh(family) for family in Family]
    world.pass_time(1)
    for family in answered:
        world.said(family)
    world.pass_time(2 * REFRESH_QUIET)
    torn_down = [action for action in world.done if isinstance(action, TearDown)]
    assert bool(torn_down) is resets
    assert world.keeps == (BOTH - answered)
    if resets:
        world.down()
        assert world.keeps == BOTH


def test_one_that_takes_no_refresh_is_reset_at_once() -> None:
    world = World()
    world.peer.opened = Opened(PEER, 9, "10.0.0.1", None, refresh=False)
    world.do(world.peer.came_up(world.now, fresh=False))
    actions = world.do(world.peer.replay_refused(world.now))
    assert [action for action in actions if isinstance(action, (TearDown, AskRefresh))] == [TearDown(4)]


def test_a_refresh_that_the_peer_demarcates_purges() -> None:
    """RFC 7313 section 4, of one family; without its beginning, an end means nothing."""
    world = World(opened())
    world.do(world.peer.refresh_ended(Family.IPV4))
    assert world.has == BOTH
    world.do(world.peer.refresh_began(Family.IPV4))
    assert (world.has, world.keeps) == (IPV6, IPV4)
    world.pass_time(3600)
    assert world.keeps == IPV4, "no end, no purge"
    world.do(world.peer.refresh_ended(Family.IPV4))
    assert (world.has, world.keeps) == (IPV6, NEITHER)


def test_a_session_that_ends_within_a_refresh_keeps_what_was_not_said_again() -> None:
    world = World(opened())
    world.do(world.peer.refresh_began(Family.IPV4))
    world.down()
    assert world.keeps == BOTH


def test_a_second_restart_before_all_was_said() -> None:
    """RFC 4724 section 4.2: what is stale already is not kept twice."""
    world = World(opened())
    world.down()
    world.up(opened())
    world.said(Family.IPV4)
    world.down()
    assert world.keeps == IPV4


def test_the_reason_of_the_end_outlives_failed_attempts() -> None:
    world = World(opened())
    received(6, 2)(world)
    said = 'NOTIFICATION received: Administrative Shutdown (6/2): "maintenance"'
    assert world.peer.reason == said
    world.do(world.peer.attempted(world.now + 3, "connection refused", outgoing=True))
    assert world.peer.reason == f"connection refused; last session: {said}"
    world.down()
    assert world.peer.reason == f"connection refused; last session: {said}"
    assert str(world.peer.last_reset) == said
    assert world.peer.last_attempt is not None
    assert world.peer.last_attempt.error == "connection refused"


def test_a_peer_that_accepts_and_says_nothing_has_a_reason() -> None:
    world = World()
    world.do(world.peer.connected(world.now))
    assert world.peer.reason == "connected, waiting for its OPEN"
    world.do(world.peer.attempted(world.now, "connection refused", outgoing=True))
    world.do(world.peer.connected(world.now))
    assert world.peer.reason == "connection refused", "what the last attempt ended with says more"


def test_repeats_are_logged_now_and_then() -> None:
    world = World()
    lines = []
    for _ in range(400):
        lines += world.do(world.peer.attempted(world.now, "connection refused", outgoing=True))
        world.now += 3
    assert 3 <= len(lines) <= 6


def test_nothing_counts_while_the_node_has_left_or_the_session_is_held() -> None:
    world = World()
    world.do(world.peer.part(world.now, True))
    assert world.peer.reason == LEFT
    world.up(opened())
    assert not world.peer.established
    world.do(world.peer.part(world.now, False))
    world.peer.echo_lost = True
    world.up(opened())
    assert not world.peer.established
    world.peer.echo_lost = False
    world.up(opened())
    assert world.peer.established


@pytest.mark.parametrize("back", [True, False])
def test_what_was_said_before_a_session_was_known_goes_with_a_lost_speaker(back: bool) -> None:
    """An UPDATE, and the speaker is gone before it has told that there was a session."""
    world = World()
    world.said(Family.IPV4)
    world.do(world.peer.speaker_lost(world.now))
    assert world.keeps == {Family.IPV4}, "it may be that it is said again"
    if back:
        world.up(opened())
        world.do(world.peer.end_of_rib(world.now, Family.IPV4))
        world.do(world.peer.end_of_rib(world.now, Family.IPV6))
    world.pass_time(2000.0)
    assert not world.has and not world.keeps


def test_a_session_that_does_not_end_is_given_up() -> None:
    world = World(opened())
    failed(shares_fate=False)(world)
    world.pass_time(1)
    assert world.done[-1] == TearDown(10)
    world.pass_time(10)
    assert world.peer.state is State.IDLE


class AnyOrder(RuleBasedStateMachine):
    """Events in any order, as far as one connection to ExaBGP can bring them. `held` is what the peer has
    announced on its session, by ExaBGP's knowledge; it is told in order, so that the RIB follows."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.exabgp_up = False  # ExaBGP has a session
        self.connected = True
        self.held: set[Family] = set()
        self.told = False  # the session has been told what it is wanted to have

    def look(self, actions: list[Action]) -> None:
        """Nothing is announced to a session that does not count, nor afresh to one that has been told."""
        peer = self.world.peer
        for action in actions:
            if isinstance(action, Announce):
                assert peer.established and not peer.parted and not peer.held(self.world.now)
                assert not (action.fresh and self.told)
                self.told = True
            elif isinstance(action, Silence | Withdraw):
                self.told = False

    def do(self, actions: list[Action]) -> None:
        self.world.do(actions)
        self.look(actions)
        for action in actions:
            if action == AskReceived() and self.exabgp_up:
                peer, now = self.world.peer, self.world.now
                self.world.do(peer.replay_began(now, peer.opened or opened(), 1.0, NEITHER))
                for family in self.held:
                    self.world.said(family)
                self.world.do(peer.replay_ended(now))

    @precondition(lambda self: self.connected and not self.exabgp_up)
    @rule(listed=st.frozensets(st.sampled_from(Family)), kept=st.frozensets(st.sampled_from(Family)))
    def comes_up(self, listed: frozenset[Family], kept: frozenset[Family]) -> None:
        self.exabgp_up, self.held = True, set()
        self.world.peer.opened = opened(listed, forwarding=listed & kept)
        self.do(self.world.peer.came_up(self.world.now, fresh=True))

    @precondition(lambda self: self.exabgp_up)
    @rule(family=st.sampled_from(Family))
    def announces(self, family: Family) -> None:
        self.held.add(family)
        if self.connected and not (self.world.peer.path_failed or self.world.peer.closing):
            self.world.said(family)

    @precondition(lambda self: self.exabgp_up)
    @rule(family=st.sampled_from(Family))
    def withdraws(self, family: Family) -> None:
        self.held.discard(family)
        if self.connected:
            self.world.rib.withdraw(PEER, [PATHS[family].prefix])

    @precondition(lambda self: self.connected and self.exabgp_up)
    @rule(family=st.sampled_from(Family))
    def ends_rib(self, family: Family) -> None:
        self.do(self.world.peer.end_of_rib(self.world.now, family))

    @precondition(lambda self: self.connected and self.exabgp_up)
    @rule(family=st.sampled_from(Family), again=st.booleans())
    def refreshes(self, family: Family, again: bool) -> None:
        self.do(self.world.peer.refresh_began(family))
        if again and family in self.held and not (self.world.peer.path_failed or self.world.peer.closing):
            self.world.said(family)
        elif not again:
            self.held.discard(family)
        self.do(self.world.peer.refresh_ended(family))

    @rule(
        reason=st.sampled_from(
            ["closing connection", "notification sent (4,0)", "notification received (6,2)"]
        )
    )
    def goes_down(self, reason: str) -> None:
        self.exabgp_up, self.held = False, set()
        if self.connected:
            self.do(self.world.peer.went_down(self.world.now, reason))

    @precondition(lambda self: self.connected and self.exabgp_up)
    @rule(again=st.frozensets(st.sampled_from(Family)), ends=st.booleans())
    def restarts(self, again: frozenset[Family], ends: bool) -> None:
        """Gracefully, and says a part of what it had; `ends`: and that this is all."""
        self.goes_down("closing connection")
        self.comes_up(BOTH, BOTH)
        for family in sorted(again, key=lambda one: one.value):
            self.announces(family)
        for family in Family if ends else ():
            self.ends_rib(family)

    @precondition(lambda self: self.connected)
    @rule(shares_fate=st.booleans())
    def bfd_fails(self, shares_fate: bool) -> None:
        self.do(self.world.peer.failed(self.world.now, "BFD down", shares_fate=shares_fate))

    @rule()
    def bfd_recovers(self) -> None:
        self.world.peer.path_failed = False

    @precondition(lambda self: self.connected)
    @rule(too=st.booleans())
    def connection_is_lost(self, too: bool) -> None:
        """`too`: ExaBGP with it."""
        self.connected = self.told = False
        if too:
            self.exabgp_up, self.held = False, set()
        self.do(self.world.peer.speaker_lost(self.world.now))

    @precondition(lambda self: not self.connected)
    @rule()
    def connection_is_back(self) -> None:
        self.connected = True

    @precondition(lambda self: self.connected and self.exabgp_up)
    @rule()
    def is_found_up(self) -> None:
        """As the agent does that asks for the neighbours."""
        peer, now = self.world.peer, self.world.now
        if peer.parted or peer.established or peer.closing:
            return
        self.do(peer.close(now, 10) if peer.path_failed else peer.came_up(now, fresh=False))

    @rule(parted=st.booleans())
    def leaves(self, parted: bool) -> None:
        if parted is not self.world.peer.parted:
            self.do(self.world.peer.part(self.world.now, parted))

    @rule(seconds=st.sampled_from([0.5, 5.0, 40.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        before = len(self.world.done)
        self.world.pass_time(seconds)
        self.look(self.world.done[before:])

    def teardown(self) -> None:
        """Whatever has happened: once time has passed, the RIB holds nothing that the peer does not have."""
        self.time_passes(2000.0)
        peer, told = self.world.peer, self.connected and not self.world.peer.path_failed
        paths = self.world.has | self.world.keeps
        assert peer.state in (State.IDLE, State.SYNCING, State.SYNCED)
        if peer.established and told and self.exabgp_up:
            assert paths <= self.held
        elif not peer.established and not peer.unseen:
            assert not paths

    @precondition(lambda self: self.connected and self.exabgp_up and self.world.peer.established)
    @rule(said=st.frozensets(st.sampled_from(Family)), ends=st.booleans())
    def says_all(self, said: frozenset[Family], ends: bool) -> None:
        """Restarts, says what it has now, maybe that this is all; and is given the time for it."""
        self.restarts(said, ends=ends)
        self.time_passes(40.0)
        assert not self.world.keeps

    @invariant()
    def who_is_to_say_more_is_syncing(self) -> None:
        """A peer counts as synced when it has said all of each family, and not before."""
        peer = self.world.peer
        assert not peer.awaiting or peer.established
        assert peer.state is not State.SYNCED or not peer.awaiting
        assert peer.awaiting <= peer.families

    @invariant()
    def no_timer_without_an_owner(self) -> None:
        peer = self.world.peer
        assert all(peer.state in OWNERS[timer] for timer, _ in peer.timers)

    @invariant()
    def no_path_of_a_peer_that_is_gone(self) -> None:
        if self.world.peer.state in (State.IDLE, State.CLOSING) and not self.world.peer.unseen:
            assert not self.world.rib.received(PEER)

    @invariant()
    def paths_that_are_not_kept_for_a_restart_are_the_peers(self) -> None:
        """Of a synced session the RIB is what the peer has, no more and no less."""
        peer = self.world.peer
        if peer.state is State.SYNCED and self.connected and self.exabgp_up and not peer.path_failed:
            assert self.world.has | self.world.keeps == self.held

    @invariant()
    def whoever_is_not_established_is_waited_for_or_gone(self) -> None:
        peer = self.world.peer
        if peer.state in (State.RESTARTING, State.ORPHANED, State.CLOSING):
            assert peer.deadline is not None

    @invariant()
    def a_hold_down_ends(self) -> None:
        held = [action for action in self.world.done if isinstance(action, Reconfigure) and action.seconds]
        assert not self.world.peer.damping.held(self.world.now) or held


AnyOrder.TestCase.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def test_the_paths_of_the_tests_are_of_both_families() -> None:
    assert {path.prefix for path in PATHS.values()} == {ip_network("192.168.7.0/24"), ip_network("fd77::/64")}
