"""Packets and their authentication: what goes out comes in, and nothing else does (RFC 5880 section 4)."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from bfd_pair import pair
from hypothesis import given
from hypothesis import strategies as st

from l3net.bfd.authentication import Key, Verifier, sign
from l3net.bfd.packet import Packet, PacketError, State, decode, diagnostic_text
from l3net.model import BfdAuthType

word = st.integers(0, 2**32 - 1)
packets = st.builds(
    Packet,
    state=st.sampled_from(State),
    my_discriminator=st.integers(1, 2**32 - 1),
    your_discriminator=st.integers(1, 2**32 - 1),
    diagnostic=st.integers(0, 31),
    poll=st.booleans(),
    final=st.booleans(),
    control_plane_independent=st.booleans(),
    demand=st.booleans(),
    detect_multiplier=st.integers(1, 255),
    desired_min_tx=word,
    required_min_rx=word,
    required_min_echo_rx=word,
    authentication=st.none() | st.binary(min_size=2, max_size=28),
)
PACKET = Packet(State.UP, 0x01020304, 0x05060708, desired_min_tx=100_000, required_min_rx=100_000)


@given(packets)
def test_round_trip(packet: Packet) -> None:
    assert decode(packet.encode()) == packet
    assert decode(packet.encode() + b"beyond the length") == packet


@given(st.binary(max_size=80))
def test_any_bytes_are_a_packet_or_an_error(payload: bytes) -> None:
    with contextlib.suppress(PacketError):
        decode(payload)


def test_the_layout_of_the_rfc() -> None:
    packet = replace(PACKET, diagnostic=1, poll=True, control_plane_independent=True, required_min_echo_rx=7)
    assert packet.encode().hex(" ") == (
        "21 e8 03 18 01 02 03 04 05 06 07 08 00 01 86 a0 00 01 86 a0 00 00 00 07"
    )


def damaged(index: int, value: int) -> bytes:
    payload = bytearray(PACKET.encode())
    payload[index] = value
    return bytes(payload)


@pytest.mark.parametrize(
    ("what", "payload"),
    [
        ("short", PACKET.encode()[:-1]),
        ("version", damaged(0, 0x00)),
        ("length too small", damaged(3, 23)),
        ("length beyond the datagram", damaged(3, 25)),
        ("authenticated, yet no section", damaged(1, 0xC4)),
        ("detect multiplier 0", damaged(2, 0)),
        ("multipoint", damaged(1, 0xC1)),
        ("my discriminator 0", replace(PACKET, my_discriminator=0).encode()),
        ("your discriminator 0 and up", replace(PACKET, your_discriminator=0).encode()),
        ("your discriminator 0 and init", replace(PACKET, your_discriminator=0, state=State.INIT).encode()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_section_6_8_6_discards(what: str, payload: bytes) -> None:
    with pytest.raises(PacketError):
        decode(payload)


def test_diagnostics_have_names() -> None:
    assert diagnostic_text(1) == "detectionTimeExpired"
    assert diagnostic_text(30) == "reserved30"


every_type = pytest.mark.parametrize("kind", BfdAuthType, ids=lambda kind: kind.value)


@every_type
def test_authentication(kind: BfdAuthType) -> None:
    key = Key(kind, 3, b"secret")
    payload = sign(key, PACKET, 1000)
    packet = decode(payload)
    assert Verifier(key).accepts(packet, payload)
    assert not Verifier(Key(kind, 3, b"Secret")).accepts(packet, payload)
    assert not Verifier(Key(kind, 4, b"secret")).accepts(packet, payload)
    assert not Verifier(None).accepts(packet, payload)
    assert not Verifier(key).accepts(PACKET, PACKET.encode())
    if kind is not BfdAuthType.SIMPLE_PASSWORD:
        changed = bytearray(payload)
        changed[16] ^= 1
        assert not Verifier(key).accepts(decode(bytes(changed)), bytes(changed))
    assert "secret" not in repr(key)


@every_type
def test_replays(kind: BfdAuthType) -> None:
    """Sections 6.7.3 and 6.7.4: numbers go up, by three detection times at the most."""
    if kind is BfdAuthType.SIMPLE_PASSWORD:
        return
    key = Key(kind, 1, b"x")
    seen = Verifier(key)

    def accepts(sequence: int) -> bool:
        payload = sign(key, PACKET, sequence)
        return seen.accepts(decode(payload), payload)

    assert accepts(2**32 - 1)
    assert accepts(2**32)  # wraps round
    assert accepts(2**32) is not key.meticulous
    assert not accepts(2**32 - 1)
    assert not accepts(2**32 + 10)
    assert accepts(2**32 + 9)
    seen.forget()
    assert accepts(5)


@every_type
def test_sessions_with_authentication(kind: BfdAuthType) -> None:
    key = Key(kind, 1, b"0123456789abcdef")
    both = pair(key_a=key, key_b=key)
    both.run(30)
    assert both.up
    wrong = pair(key_a=key, key_b=Key(kind, 1, b"0123456789abcdeF"))
    wrong.run(30)
    assert not wrong.up
    assert wrong.discarded
    lone = pair(key_a=key)
    lone.run(30)
    assert lone.a.state is lone.b.state is State.DOWN
