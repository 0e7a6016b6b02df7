"""The session machine against the rules of RFC 5880 section 6, in simulated time."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from bfd_pair import pair, timing
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from l3net.bfd.packet import Diagnostic, Packet, PacketError, State
from l3net.bfd.session import BfdSession

intervals = st.integers(50, 2000)
multipliers = st.integers(1, 10)
seeds = st.integers(0, 2**32)


def drop_all(*_flight: object) -> bool:
    return False


@given(intervals, intervals, multipliers, multipliers, seeds)
@settings(max_examples=examples(30), deadline=None)
def test_two_ends_come_up_and_stay_up(a: int, b: int, mult_a: int, mult_b: int, seed: int) -> None:
    both = pair(timing(a, mult_a), timing(b, mult_b), seed=seed)
    both.run(5 * max(1.0, a / 1000, b / 1000))
    assert both.up
    both.changes.clear()
    # With multiplier 1 a packet that is late by the delay itself may be missed; jitter leaves a tenth.
    both.run(both.now + 60)
    assert not both.changes
    agreed = max(a, b) / 1000
    assert both.a.transmit_interval == both.b.transmit_interval == agreed
    assert both.a.detection_time == pytest.approx(mult_b * agreed)  # section 6.8.4
    assert both.b.detection_time == pytest.approx(mult_a * agreed)


@given(intervals, multipliers, seeds)
@settings(max_examples=examples(20), deadline=None)
def test_silence_is_detected_in_time_and_not_before(interval: int, multiplier: int, seed: int) -> None:
    both = pair(timing(interval, multiplier), timing(interval, multiplier), seed=seed)
    both.run(8 * max(1.0, interval / 1000))
    assert both.up
    both.changes.clear()
    cut = both.now
    both.passes = drop_all
    both.run(cut + multiplier * interval / 1000 + 2 * both.delay)
    assert [name for name, change in both.changes if change.failure] in (["a", "b"], ["b", "a"])
    for _, change in both.changes:
        assert change.diagnostic is Diagnostic.DETECTION_TIME_EXPIRED
        # The last packet was sent before the cut, by an interval at the most.
        assert change.at - cut >= (multiplier - 1) * interval / 1000 - 2 * both.delay


def test_an_end_that_is_told_goes_down_at_once() -> None:
    both = pair()
    both.run(5)
    both.passes = lambda source, _payload, _now: source == "b"  # b hears nothing and is heard
    both.run(both.now + 0.4)
    assert both.a.state is State.DOWN
    assert both.a.diagnostic is Diagnostic.NEIGHBOR_SIGNALED_DOWN
    assert both.b.diagnostic is Diagnostic.DETECTION_TIME_EXPIRED


@given(seeds, st.floats(0.0, 0.15))
@settings(max_examples=25, deadline=None)
def test_losses_delay_but_do_not_prevent(seed: int, loss: float) -> None:
    chance = random.Random(seed)
    both = pair(seed=seed)
    both.passes = lambda *_: chance.random() >= loss
    both.run(20)
    both.passes = lambda *_: True
    both.run(both.now + 10)
    assert both.up


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_jitter_is_a_quarter_at_the_most(seed: int) -> None:
    """Section 6.8.7: 75 to 100 % of the interval, 75 to 90 % with a multiplier of 1."""
    for multiplier, most in ((3, 0.100), (1, 0.090)):
        both = pair(timing(100, multiplier), seed=seed)
        both.run(10)
        times = [when for when, name, packet in both.sent if name == "a" and when > 5 and not packet.final]
        gaps = [late - early for early, late in itertools.pairwise(times)]
        assert min(gaps) >= 0.075 - 1e-9
        assert max(gaps) <= most + 1e-9
        assert max(gaps) - min(gaps) > 0.005


def test_a_session_that_is_not_up_sends_once_a_second() -> None:
    """Section 6.8.3."""
    both = pair()
    both.passes = drop_all
    both.run(10)
    times = [when for when, name, _ in both.sent if name == "a"]
    assert 10 <= len(times) <= 14
    assert all(packet.desired_min_tx >= 1_000_000 for _, _, packet in both.sent)


def test_coming_up_is_polled_and_answered() -> None:
    """Section 6.5: the faster interval is announced with P, and ends with F."""
    both = pair()
    both.run(5)
    polls = [(name, when) for when, name, packet in both.sent if packet.poll]
    finals = [name for _, name, packet in both.sent if packet.final]
    assert {name for name, _ in polls} == {"a", "b"} == set(finals)
    assert max(when for _, when in polls) < 3
    assert not any(packet.poll and packet.final for _, _, packet in both.sent)


def test_slower_sending_waits_for_the_far_side() -> None:
    """Section 6.8.3: an interval that grows takes effect when the poll sequence ends, and nothing flaps."""
    both = pair()
    both.run(5)
    both.changes.clear()
    both.passes = lambda source, _payload, _now: source == "a"  # the answers are lost for a moment
    both.a.set_timing(timing(1000), both.now)
    both.run(both.now + 0.15)
    assert both.a.transmit_interval == pytest.approx(0.1)
    both.passes = lambda *_: True
    both.run(both.now + 5)
    assert both.a.transmit_interval == pytest.approx(1.0)
    assert both.b.detection_time == pytest.approx(3.0)
    assert not both.changes


@given(st.lists(intervals, min_size=1, max_size=6), seeds)
@settings(max_examples=25, deadline=None)
def test_changed_timers_flap_nothing(steps: list[int], seed: int) -> None:
    both = pair(seed=seed)
    both.run(5)
    both.changes.clear()
    for number, step in enumerate(steps):
        (both.a if number % 2 else both.b).set_timing(timing(step), both.now)
        both.run(both.now + 3)
    assert not both.changes
    assert both.up


def test_passive_says_nothing_first() -> None:
    both = pair(timing(passive=True), timing(passive=True))
    both.run(20)
    assert not both.sent
    both = pair(timing(passive=True))
    both.run(5)
    assert both.up
    both.passes = drop_all
    both.run(both.now + 10)
    last = max(when for when, name, _ in both.sent if name == "a")
    assert last < 6  # section 6.8.7: nothing is known of the far side any more


def test_admin_down_is_no_failure() -> None:
    """Sections 6.8.16 and RFC 5882 section 3.2, with the control: silence is one."""
    both = pair()
    both.run(5)
    both.changes.clear()
    both.a.disable(both.now)
    both.run(both.now + 20)
    assert [(name, change.after) for name, change in both.changes] == [
        ("a", State.ADMIN_DOWN),
        ("b", State.DOWN),
    ]
    assert not any(change.failure for _, change in both.changes)
    assert both.a.finished
    assert both.b.diagnostic is Diagnostic.NEIGHBOR_SIGNALED_DOWN


def test_a_far_side_that_begins_anew_is_noticed_and_followed() -> None:
    both = pair()
    both.run(5)
    both.b = BfdSession(0x33, timing(), both.now, random.Random(5).random)
    both.changes.clear()
    both.run(both.now + 5)
    assert both.up
    assert ("a", State.DOWN) in [(name, change.after) for name, change in both.changes]
    assert both.a.remote_discriminator == 0x33


def test_demand_and_zero_interval_stop_periodic_packets() -> None:
    """Section 6.8.7: a far side in demand mode, or one that wants none, gets answers only."""
    for wish in ({"demand": True}, {"required_min_rx": 0}):
        end = BfdSession(7, timing(), 0.0, random.Random(1).random)
        far = Packet(State.DOWN, 9, detect_multiplier=255, required_min_rx=100_000)
        end.receive(far.encode(), 0.0)
        end.receive(replace(far, state=State.INIT, your_discriminator=7).encode(), 0.1)
        end.receive(replace(far, state=State.UP, your_discriminator=7, final=True).encode(), 0.2)
        assert end.state is State.UP
        wishing = replace(far, state=State.UP, your_discriminator=7, **wish)  # type: ignore[arg-type]
        end.receive(wishing.encode(), 0.3)
        end.take()
        for step in range(1, 50):
            end.expire(0.3 + step / 10)
        assert not end.take()
        end.receive(replace(wishing, poll=True).encode(), 6.0)
        [answer] = end.take()
        assert answer[1] & 0x10


def test_late_is_not_lost() -> None:
    """An end that was held up hands in what waits before it looks at the time."""
    both = pair()
    both.run(5)
    waiting = Packet(State.UP, 0x22, 0x11, desired_min_tx=100_000, required_min_rx=100_000).encode()
    both.a.receive(waiting, both.now + 5)
    both.a.expire(both.now + 5)
    assert both.a.state is State.UP


@given(st.lists(st.tuples(st.binary(max_size=64), st.floats(0, 0.3)), max_size=60))
@settings(max_examples=examples(75), deadline=None)
def test_noise_changes_nothing(noise: list[tuple[bytes, float]]) -> None:
    both = pair()
    both.run(5)
    both.changes.clear()
    for payload, later in noise:
        if len(payload) >= 8 and payload[4:8] != b"\0\0\0\0" and payload[0] >> 5 == 1:
            continue
        with pytest.raises(PacketError):
            both.a.receive(payload, both.now)
        both.run(both.now + later)
    assert not both.changes
