"""What agent and BFD process say to each other, and which sessions are asked for."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from bgp_facts import session
from hypothesis import given
from hypothesis import strategies as st

from l3net.agent.bfd import wanted_session
from l3net.bfd import control
from l3net.bfd.authentication import Key
from l3net.model import BfdAuth, BfdAuthType, BfdSettings, ObjectName, SecretKey

STATE = control.SessionState(
    peer=ip_address("fd00::1"),
    state="Up",
    remote_state="Up",
    since=12.5,
    diagnostic="none",
    remote_diagnostic="none",
    detection_time=300.0,
    transmit_interval=100.0,
    failed=False,
    shares_fate=True,
    flaps=3,
)
wanted_sessions = st.builds(
    control.WantedSession,
    peer=st.ip_addresses(),
    local=st.ip_addresses(),
    interface=st.none() | st.sampled_from(["eth0"]),
    multihop=st.booleans(),
    min_interval=st.integers(50, 60_000),
    multiplier=st.integers(1, 255),
    passive=st.booleans(),
    key=st.none()
    | st.builds(Key, st.sampled_from(BfdAuthType), st.integers(0, 255), st.binary(min_size=1, max_size=16)),
    begin=st.booleans(),
)


@given(st.lists(wanted_sessions, max_size=5))
def test_what_is_wanted_arrives(wanted: list[control.WantedSession]) -> None:
    line = control.encode_wanted(wanted)
    assert line.count(b"\n") == 1
    assert control.decode_command(line) == tuple(wanted)


def test_events_and_forgiveness_arrive() -> None:
    hello = control.Hello(7, "no real-time priority")
    assert control.decode_event(control.encode_hello(hello)) == hello
    assert control.decode_event(control.encode_state(STATE)) == STATE
    assert control.decode_command(control.encode_forgive(STATE.peer)) == STATE.peer


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"{}", b'{"sessions":[{}]}', b'{"forgive":"x"}', b'{"pid":1}']
)
def test_anything_else_is_named(line: bytes) -> None:
    for decode in (control.decode_command, control.decode_event):
        with pytest.raises(control.ControlError):
            decode(line)


def test_intervals_are_bounded() -> None:
    fast = control.WantedSession(
        ip_address("10.0.0.1"), ip_address("10.0.0.2"), min_interval=1, multiplier=999
    )
    [read] = control.decode_command(control.encode_wanted([fast]))  # type: ignore[misc]
    assert (read.min_interval, read.multiplier) == (50, 255)


def adjacent(_address: object) -> bool:
    return True


def far(_address: object) -> bool:
    return False


def test_hops() -> None:
    """One hop on a link of ours, several elsewhere and where the BGPPeer says so; a mesh TTL says nothing."""
    plain = session(bfd=BfdSettings())
    assert wanted_session(session(), adjacent) is None
    for given_session, near, several in (
        (plain, adjacent, False),
        (plain, far, True),
        (replace(plain, multihop=2), adjacent, True),
        (replace(plain, multihop=64, name="mesh:n2", mesh_node="n2"), adjacent, False),
        (replace(plain, multihop=64, name="mesh:n2", mesh_node="n2"), far, True),
        (replace(plain, peer_address=ip_address("fe80::1")), far, False),
    ):
        found = wanted_session(given_session, near)
        assert found is not None
        assert found.multihop is several


def test_echo_is_for_one_hop() -> None:
    given_session = session(bfd=BfdSettings(echo_transmit=100, echo_receive=50))
    for near, echo in ((adjacent, (100, 50)), (far, (0, 0))):
        found = wanted_session(given_session, near)
        assert found is not None
        assert (found.echo_transmit, found.echo_receive) == echo


def test_no_authentication_without_its_secret() -> None:
    auth = BfdAuth(BfdAuthType.KEYED_SHA1, 5, SecretKey(ObjectName("kube-system", "bfd"), "password"))
    with_auth = session(bfd=BfdSettings(auth=auth))
    assert wanted_session(with_auth, adjacent) is None
    found = wanted_session(replace(with_auth, bfd_secret=b"x"), adjacent)
    assert found is not None
    assert found.key == Key(BfdAuthType.KEYED_SHA1, 5, b"x")
    assert "b'x'" not in repr(found)
