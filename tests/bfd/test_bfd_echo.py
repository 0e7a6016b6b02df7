"""The Echo function in simulated time (RFC 5880 sections 6.8.3 and 6.8.9), and its packets (RFC 5881)."""

from __future__ import annotations

import itertools
import random
from ipaddress import ip_address

import pytest
from bfd_pair import Pair, pair, timing
from hypothesis import given, settings
from hypothesis import strategies as st

from l3net.bfd.echo import Echo, discriminator_of
from l3net.bfd.echo_packet import RETURNED_TTL, checksum, echo_packet, payload_of
from l3net.bfd.packet import Diagnostic, State
from l3net.bfd.session import BfdSession

seeds = st.integers(0, 2**32)


def working(seed: int = 1, *, echo: int = 100, takes: int = 50, multiplier: int = 3) -> Pair:
    """`a` sends Echo packets, `b` returns them."""
    both = pair(timing(multiplier=multiplier, echo=echo), timing(takes=takes), seed=seed)
    both.run(8)
    assert both.up
    both.changes.clear()
    return both


def nothing(_source: str, _payload: bytes, _now: float) -> None:
    return None


@given(seeds, st.integers(50, 400), st.integers(50, 400), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_lost_echo_takes_the_session_down_in_time_and_not_before(
    seed: int, echo: int, takes: int, multiplier: int
) -> None:
    both = working(seed, echo=echo, takes=takes, multiplier=multiplier)
    interval = max(echo, takes) / 1000
    assert both.a.echo.works
    assert both.a.echo.detection_time == pytest.approx(multiplier * interval)
    both.run(both.now + 30)
    assert not both.changes
    cut = both.now
    both.loops = nothing
    # The last one that came back was sent an interval ago at the most; the last missed has a quarter of one.
    both.run(cut + (multiplier + 0.25) * interval + 4 * both.delay)
    assert [(name, change.diagnostic) for name, change in both.changes][:2] == [
        ("a", Diagnostic.ECHO_FAILED),
        ("b", Diagnostic.NEIGHBOR_SIGNALED_DOWN),
    ]
    first = both.changes[0][1]
    assert first.failure
    assert first.at - cut >= (multiplier - 1) * 0.75 * interval - 4 * both.delay
    assert both.a.echo_lost
    # Control packets still pass: it comes up, at ever longer intervals, as long as nothing is returned.
    both.run(both.now + 300)
    failed = [change.at for name, change in both.changes if name == "a" and change.failure]
    waited = [late - early for early, late in itertools.pairwise(failed)]
    assert 10 <= len(failed) <= 16
    assert waited[:6] == pytest.approx([1, 2, 4, 8, 16, 30], abs=1.2 + (multiplier + 1) * interval)
    assert max(waited) < 33.5
    assert both.a.echo_lost
    both.loops = lambda _source, payload, _now: payload
    both.run(both.now + 33)
    assert not both.a.echo_lost
    both.changes.clear()
    both.run(both.now + 10)
    assert both.up
    assert not both.changes


def test_the_control_without_echo_nothing_is_sent_and_nothing_happens() -> None:
    both = pair(timing(), timing(takes=50))
    both.loops = nothing
    both.run(30)
    assert both.up
    assert not both.echoes
    assert not any(change.failure for _, change in both.changes)


def test_control_packets_come_once_a_second_while_echo_works() -> None:
    """Section 6.8.3; told by a poll sequence, and taken back by another, and nothing flaps."""
    both = working()
    assert both.b.transmit_interval == 1.0
    assert both.a.transmit_interval == pytest.approx(0.1)
    assert both.a.detection_time == pytest.approx(3.0)
    told = [packet for when, name, packet in both.sent if name == "a" and when > 5]
    assert {packet.required_min_rx for packet in told} == {1_000_000}
    assert not any(packet.poll for packet in told)
    both.a.set_timing(timing(), both.now)
    both.run(both.now + 5)
    assert both.b.transmit_interval == pytest.approx(0.1)
    assert both.a.detection_time == pytest.approx(0.3)
    sent = len(both.echoes)
    both.run(both.now + 5)
    assert len(both.echoes) == sent
    assert not both.changes


def test_a_far_side_that_is_heard_no_more_or_echo_turned_off_is_not_held_against_bgp() -> None:
    """`echo_lost` says that BGP proves nothing: as long as Control packets pass, and echo is wanted."""
    both = working()
    both.loops = nothing
    both.run(both.now + 0.5)
    assert both.a.echo_lost
    both.passes = lambda *_: False
    both.run(both.now + 10)
    assert not both.a.echo_lost
    both = working()
    both.loops = nothing
    both.run(both.now + 0.5)
    assert both.a.echo_lost
    both.a.set_timing(timing(), both.now)
    assert not both.a.echo_lost
    both.run(both.now + 3)
    assert both.up


def test_silence_is_noticed_by_echo_though_control_packets_are_rare() -> None:
    both = working()
    both.passes = lambda *_: False
    both.loops = nothing
    both.run(both.now + 0.35)
    assert both.a.state is State.DOWN
    assert both.a.diagnostic is Diagnostic.ECHO_FAILED


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_no_faster_than_the_far_side_takes_but_for_the_jitter(seed: int) -> None:
    both = working(seed, echo=60, takes=200)
    times = [when for when, _, _ in both.echoes if when > 5]
    gaps = [late - early for early, late in itertools.pairwise(times)]
    assert min(gaps) >= 0.150 - 1e-9
    assert max(gaps) <= 0.200 + 1e-9


def test_none_is_sent_to_a_far_side_that_takes_none_or_in_a_session_that_is_not_up() -> None:
    both = pair(timing(echo=50), timing())
    both.run(10)
    assert both.up
    assert not both.echoes
    both = working()
    both.passes = lambda *_: False
    both.loops = nothing
    both.run(both.now + 4)
    both.echoes.clear()
    both.run(both.now + 20)
    assert not both.echoes


def test_echo_that_never_came_back_is_no_failure() -> None:
    """A far side that says it takes Echo packets and does not forward keeps its session, at full pace."""
    both = pair(timing(echo=50), timing(takes=50))
    both.loops = nothing
    both.run(30)
    assert both.up
    assert both.echoes
    assert not both.a.echo.works
    assert both.a.detection_time == pytest.approx(0.3)
    assert not any(change.failure for _, change in both.changes)


def test_both_ways() -> None:
    both = pair(timing(echo=50, takes=50), timing(echo=50, takes=50))
    both.run(30)
    assert both.up
    assert both.a.echo.works
    assert both.b.echo.works
    assert both.a.transmit_interval == both.b.transmit_interval == 1.0
    assert not any(change.failure for _, change in both.changes)


@pytest.mark.parametrize("kind", ["another token", "another session", "repeated", "cut short", "made up"])
def test_what_is_not_an_answer_to_a_packet_that_is_out_keeps_no_session_up(kind: str) -> None:
    both = working()
    first = both.echoes[-1][2]

    def forge(_source: str, payload: bytes, _now: float) -> bytes:
        return {
            "another token": payload[:-12] + bytes(12),
            "another session": payload[:4] + bytes(4) + payload[8:],
            "repeated": first,
            "cut short": payload[:-1],
            "made up": b"\x01" * len(payload),
        }[kind]

    both.loops = forge
    both.run(both.now + 0.5)
    assert [change.diagnostic for name, change in both.changes if name == "a" and change.failure] == [
        Diagnostic.ECHO_FAILED
    ]


def test_a_process_that_was_held_up_gives_nobody_up() -> None:
    """It was away for many intervals: what it did not send is not missed, and what came meanwhile counts."""
    end = Echo(7, random.Random(1).random)
    end.run(100_000, 3, 0.0)
    end.expire(0.0)
    assert end.returned(end.take()[0], 0.001)
    end.expire(0.1)
    [lost] = end.take()
    now = 5.0
    assert not end.expire(now), "one packet without an answer is not three"
    now = end.deadline or 0.0
    assert not end.expire(now), "nor are two"
    assert end.deadline == pytest.approx(now + 0.025), "the third was sent just now, and has a moment"
    assert end.returned(lost, now + 0.01)
    assert not end.expire(now + 0.025)
    # The control: three without an answer, each with its time.
    for _ in range(20):
        now = end.deadline or 0.0
        if end.expire(now):
            break
    else:
        pytest.fail("never given up")


@given(st.lists(st.tuples(st.sampled_from([0, 50, 300]), st.sampled_from([0, 50, 300])), max_size=6), seeds)
@settings(max_examples=25, deadline=None)
def test_changed_echo_flaps_nothing(steps: list[tuple[int, int]], seed: int) -> None:
    both = pair(seed=seed)
    both.run(5)
    both.changes.clear()
    for number, (echo, takes) in enumerate(steps):
        (both.a if number % 2 else both.b).set_timing(timing(echo=echo, takes=takes), both.now)
        both.run(both.now + random.Random(seed).choice([0.05, 0.5, 3]))
    both.run(both.now + 5)
    assert not both.changes
    assert both.up


def test_a_process_that_follows_goes_on_with_echo() -> None:
    both = working()
    both.a = BfdSession.resumed(both.a.snapshot(), timing(echo=100), both.now + 0.2, random.Random(3).random)
    both.now += 0.2
    both.run(both.now + 10)
    assert not both.changes
    assert both.a.echo.works
    both.loops = nothing
    both.run(both.now + 0.5)
    assert both.changes[0][1].diagnostic is Diagnostic.ECHO_FAILED


@pytest.mark.parametrize(
    ("local", "peer", "goes_to"),
    [
        ("10.0.0.1", "10.0.0.2", "10.0.0.1"),
        ("fd00::1", "fd00::2", "fd00::1"),
        ("fe80::1", "fe80::2", "fe80::2"),
    ],
)
def test_packets_come_back_by_forwarding_or_where_nobody_forwards_by_the_far_sides_bfd(
    local: str, peer: str, goes_to: str
) -> None:
    for payload in (b"even", b"odd"):
        packet = echo_packet(ip_address(local), ip_address(peer), 50000, payload)
        assert payload_of(packet) == payload
        assert payload_of(packet + b"padding") == payload
        assert payload_of(packet[:-1]) == b""
        four = packet[0] >> 4 == 4
        destination = packet[16:20] if four else packet[24:40]
        assert ip_address(destination) == ip_address(goes_to)
        assert packet[8 if four else 7] == RETURNED_TTL + 1
        datagram = packet[20:] if four else packet[40:]
        ends = packet[12:20] if four else packet[8:40]
        assert datagram[2:4] == (3785).to_bytes(2, "big")
        assert checksum(ends + (17).to_bytes(4, "big") + len(datagram).to_bytes(4, "big") + datagram) == 0


@given(st.binary(max_size=80))
def test_noise_is_no_echo(noise: bytes) -> None:
    end = Echo(7, random.Random(1).random)
    end.run(100_000, 3, 0.0)
    end.expire(0.0)
    assert not end.returned(noise, 0.1)
    assert discriminator_of(noise) is None or noise[2:4] == b"l3"
    payload_of(noise)
