"""ExaBGP 5.0.15's lines as they were seen, and what must not upset the decoder."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from bgp_facts import community
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutated

from l3net.bgp.events import Attempted, EndOfRib, Notified, Opened, Refresh, StateChanged, Updated
from l3net.bgp.exabgp.configuration import MARKER
from l3net.bgp.exabgp.decoder import Decoder, LineBuffer
from l3net.bgp.exabgp.messages import (
    Announced,
    Done,
    Failed,
    Neighbors,
    Queue,
    Queues,
    ReplayBegan,
    ReplayEnded,
)
from l3net.bgp.path import Origin
from l3net.model import Family

PEER = ip_address("10.90.0.2")


UNICAST = ("ipv4/unicast", "ipv6/unicast")


def event(kind: str, peer: str = "10.90.0.2", **neighbor: object) -> bytes:
    return json.dumps(
        {
            "exabgp": "5.0.0",
            "type": kind,
            "neighbor": {
                "address": {"local": "10.90.0.1", "peer": peer},
                "asn": {"local": 65001, "peer": 65002},
                "direction": "receive",
                **neighbor,
            },
        }
    ).encode()


def update(**message: object) -> bytes:
    return event("update", message={"update": message})


def test_answers() -> None:
    decoder = Decoder()
    assert decoder.decode(b"done") == Done()
    assert decoder.decode(b"error") == Failed()
    assert decoder.decode(b"reload in progress") is None
    assert decoder.undecodable == 0


def test_states_and_notifications() -> None:
    decoder = Decoder()
    assert decoder.decode(event("state", state="up")) == StateChanged(PEER, "up")
    assert decoder.decode(event("state", state="down", reason="r")) == StateChanged(PEER, "down", "r")
    notification = {"code": 4, "subcode": 0, "data": "0x", "message": ""}
    assert decoder.decode(event("notification", notification=notification)) == Notified(
        PEER, 4, 0, received=True
    )
    sent = event("notification", notification=notification, direction="send")
    assert decoder.decode(sent) == Notified(PEER, 4, 0, received=False)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ('Shutdown Communication: "maintenance [ticket 7], back at 9"', "maintenance [ticket 7], back at 9"),
        ('Shutdown Communication: "a "quoted" word"', 'a "quoted" word'),
        ('Shutdown Communication: "\x1b[31mred\u202e"', "?[31mred?"),
        ("invalid Shutdown Communication (too large) length : 200", ""),
        ("", ""),
    ],
)
def test_what_a_peers_operator_says_of_a_shutdown(message: str, text: str) -> None:
    """RFC 9003; nothing in it moves a terminal."""
    notification = {"code": 6, "subcode": 2, "data": "0x", "message": message}
    found = Decoder().decode(event("notification", notification=notification))
    assert isinstance(found, Notified)
    assert found.text == text


def test_update_with_every_attribute() -> None:
    message = Decoder().decode(
        update(
            attribute={
                "origin": "igp",
                "as-path": {
                    "0": {"element": "as-sequence", "value": [65002, 65003]},
                    "1": {"element": "as-set", "value": [7, 8, 9]},
                },
                "med": 5,
                "local-preference": 200,
                "community": [[65001, 7], [65535, 0]],
                "large-community": [[65001, 1, 2]],
            },
            announce={"ipv4 unicast": {"10.90.0.2": [{"nlri": "10.92.10.0/24"}, {"nlri": "10.92.11.0/24"}]}},
            withdraw={"ipv4 unicast": [{"nlri": "10.92.12.0/24"}]},
        )
    )
    assert isinstance(message, Updated)
    assert [str(path.prefix) for path in message.announced] == ["10.92.10.0/24", "10.92.11.0/24"]
    assert message.withdrawn == (ip_network("10.92.12.0/24"),)
    attributes = message.announced[0].attributes
    assert attributes.as_path == (65002, 65003, 7, 8, 9)
    assert attributes.as_path_length == 3  # the set counts one (RFC 4271 section 9.1.2.2)
    assert (attributes.origin, attributes.med, attributes.local_preference) == (Origin.IGP, 5, 200)
    assert attributes.communities == {community("65001:7"), community("65535:0"), community("65001:1:2")}


def test_bits_beyond_a_prefix_length_are_irrelevant() -> None:
    """RFC 4271 section 4.3: a prefix that carries some must not cost the others of its UPDATE."""
    withdrawn = [{"nlri": "113.0.0.0/4"}, {"nlri": "192.168.7.0/24"}]
    assert Decoder().decode(update(withdraw={"ipv4 unicast": withdrawn})) == Updated(
        PEER, (), (ip_network("112.0.0.0/4"), ip_network("192.168.7.0/24"))
    )


def test_a_prefix_with_two_next_hops_takes_the_global_one() -> None:
    """ExaBGP lists each prefix of a 32-byte IPv6 next hop twice (RFC 2545 section 3)."""
    for hops in (("fd90::2", "fe80::1"), ("fe80::1", "fd90::2")):
        message = Decoder().decode(
            update(
                attribute={"origin": "igp"},
                announce={"ipv6 unicast": {hop: [{"nlri": "fd77::/64"}] for hop in hops}},
            )
        )
        assert isinstance(message, Updated)
        assert [str(path.next_hop) for path in message.announced] == ["fd90::2"]


def test_a_link_local_next_hop_alone_is_kept() -> None:
    message = Decoder().decode(
        update(attribute={"origin": "igp"}, announce={"ipv6 unicast": {"fe80::1": [{"nlri": "fd77::/64"}]}})
    )
    assert isinstance(message, Updated)
    assert str(message.announced[0].next_hop) == "fe80::1"


@pytest.mark.parametrize(
    ("attribute", "hop"), [({}, "10.90.0.2"), ({"origin": "igp"}, "no-nexthop"), ({"origin": 7}, "10.90.0.2")]
)
def test_without_a_mandatory_attribute_the_routes_are_withdrawn(
    attribute: dict[str, object], hop: str
) -> None:
    """RFC 7606 section 3 d."""
    message = Decoder().decode(
        update(attribute=attribute, announce={"ipv4 unicast": {hop: [{"nlri": "10.92.10.0/24"}]}})
    )
    assert message == Updated(PEER, (), (ip_network("10.92.10.0/24"),))


def test_end_of_rib_and_refresh() -> None:
    decoder = Decoder()
    assert decoder.decode(event("update", message={"eor": {"afi": "ipv6", "safi": "unicast"}})) == EndOfRib(
        PEER, Family.IPV6
    )
    refresh = {"afi": "ipv4", "safi": "unicast", "subtype": "end"}
    assert decoder.decode(event("refresh", **{"route-refresh": refresh})) == Refresh(PEER, Family.IPV4, "end")


def test_open_tells_of_graceful_restart_with_the_flags_unswapped() -> None:
    capability = {
        "name": "graceful restart",
        "time": 120,
        "address-family-flags": {"ipv4/unicast": [], "ipv6/unicast": ["restart"]},
        "restart-flags": ["forwarding"],
    }
    message = Decoder().decode(
        event(
            "open",
            open={
                "version": 4,
                "asn": 23456,
                "hold_time": 9,
                "router_id": "10.90.0.2",
                "capabilities": {
                    "1": {
                        "name": "multiprotocol",
                        "families": ["ipv4/unicast", "ipv6/unicast", "l2vpn/evpn"],
                    },
                    "2": {"name": "route-refresh", "variant": "RFC"},
                    "64": capability,
                    "65": {"name": "asn4", "asn4": 4_200_000_000},
                },
            },
        )
    )
    assert message == Opened(
        PEER,
        9,
        "10.90.0.2",
        graceful_restart=120,
        restarting=True,
        forwarding=frozenset({Family.IPV6}),
        extended_next_hops=False,
        as_number=4_200_000_000,
        families=frozenset(Family),
        preserved=frozenset(Family),
        refresh=True,
        capabilities=("multiprotocol", "route-refresh", "graceful-restart", "asn4"),
    )


def test_a_peer_without_capabilities_speaks_ipv4_alone() -> None:
    """RFC 4760 section 8; it has not said that it takes a ROUTE-REFRESH either (RFC 2918)."""
    message = Decoder().decode(event("open", open={"asn": 65002, "hold_time": 9, "router_id": "10.90.0.2"}))
    assert isinstance(message, Opened)
    assert message.families == {Family.IPV4}
    assert message.refresh is False
    assert message.graceful_restart is None


def test_segments_of_a_confederation_are_known_and_do_not_count() -> None:
    """RFC 5065 section 5.3."""
    segments = {
        "0": {"element": "as-confed-sequence", "value": [65010, 65011]},
        "1": {"element": "as-sequence", "value": [65002]},
    }
    line = update(
        attribute={"origin": "igp", "as-path": segments},
        announce={"ipv4 unicast": {"10.90.0.2": [{"nlri": "192.168.7.0/24"}]}},
    )
    message = Decoder().decode(line)
    assert isinstance(message, Updated)
    attributes = message.announced[0].attributes
    assert attributes.confederation
    assert (attributes.as_path, attributes.as_path_length) == ((65010, 65011, 65002), 1)


def test_what_our_exabgp_tells_of_a_session() -> None:
    opened = {"asn": 65002, "hold_time": 9, "router_id": "10.90.0.2"}
    begin = {"token": "ab12", "state": "begin", "up-seconds": 7.5, "open": opened, "eor": ["ipv6 unicast"]}
    message = Decoder().decode(event("replay", replay=begin))
    assert isinstance(message, ReplayBegan)
    assert (message.token, message.lasted, message.heard) == ("ab12", 7.5, {Family.IPV6})
    assert message.opened == Decoder().decode(event("open", open=opened))
    end = Decoder().decode(event("replay", replay={"token": "ab12", "state": "end"}))
    assert end == ReplayEnded(PEER, "ab12")
    attempt = Decoder().decode(event("attempt", attempt={"direction": "in", "error": "no\nway"}))
    assert attempt == Attempted(PEER, False, "no?way")
    queues = Decoder().decode(b'{"l3net-peers": [{"peer": "10.90.0.2", "queued": 3, "unsent-seconds": 1.5}]}')
    assert queues == Queues({PEER: Queue(3, 1.5)})


def test_questions() -> None:
    decoder = Decoder()
    offered = {"address": "10.90.0.2", "id": "10.90.0.9", "hold": 9}
    neighbors = [
        {"state": "up", "peer": {**offered, "capabilities": {"graceful-restart": True}}},
        {"state": "down", "peer": {"address": "fd90::2"}},
        {"state": "down", "peer": {"address": str(MARKER)}, "local": {"id": "1.2.3.4"}},
    ]
    assert decoder.decode(json.dumps(neighbors).encode()) == Neighbors(
        {PEER: True, ip_address("fd90::2"): False},
        frozenset({"1.2.3.4"}),
        {PEER: Opened(PEER, 9, "10.90.0.9", graceful_restart=120)},
    )
    line = {
        "peer": {"address": "10.90.0.2"},
        "route": {"nlri": {"prefix": "10.92.10.0/24"}, "attributes": {}},
    }
    assert decoder.decode(json.dumps(line).encode()) == Announced(PEER, ip_network("10.92.10.0/24"))


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b'{"type": "update"',
        b'{"type": "update", "neighbor": {"address": {"peer": "nonsense"}, "message": {}}}',
        b'{"type": "state", "neighbor": {"address": {"peer": "10.0.0.1"}}}',
        b'{"type": "update", "neighbor": {"address": {"peer": "10.0.0.1"}, "message": {"update": []}}}',
        b'{"type": "state", "neighbor": {"address": {"peer": 1e999}, "state": "up"}}',
        b"[1, 2]",
        b"\xff\xfe{",
        b"{" * 100_000,
    ],
)
def test_garbage_is_counted_or_ignored_and_never_raises(line: bytes) -> None:
    decoder = Decoder()
    assert decoder.decode(line) is None
    assert decoder.decode(b"done") == Done()


@given(st.binary(max_size=200))
def test_no_line_raises(line: bytes) -> None:
    Decoder().decode(line)
    Decoder().decode(b'{"type": "update", "neighbor": ' + line)


@given(st.lists(st.binary(max_size=20).filter(lambda part: b"\n" not in part)), st.integers(1, 7))
def test_lines_do_not_depend_on_how_bytes_arrive(lines: list[bytes], size: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    buffer = LineBuffer()
    received = [
        line for start in range(0, len(data), size) for line in buffer.receive(data[start : start + size])
    ]
    assert received == lines


def test_a_line_without_end_is_dropped_not_hoarded() -> None:
    buffer = LineBuffer()
    for _ in range(10):
        buffer.receive(b"x" * (1 << 20))
    assert buffer.dropped >= 1
    assert buffer.receive(b"\ndone\n")[-1] == b"done"


#: One line of each kind, with every part that is read.
LINES = (
    event("state", state="down", reason="r"),
    event("notification", notification={"code": 4, "subcode": 0, "data": "0x", "message": ""}),
    update(
        attribute={
            "origin": "igp",
            "as-path": {
                "0": {"element": "as-sequence", "value": [65002]},
                "1": {"element": "as-set", "value": [7]},
            },
            "med": 5,
            "local-preference": 200,
            "community": [[65001, 7]],
            "large-community": [[65001, 1, 2]],
            "extended-community": [{"value": 842122, "string": "target:1:2"}],
            "originator-id": "10.0.0.1",
            "cluster-list": ["10.0.0.1"],
        },
        announce={"ipv4 unicast": {"10.90.0.2": [{"nlri": "10.92.10.0/24", "path-information": "0.0.0.1"}]}},
        withdraw={"ipv6 unicast": [{"nlri": "fd00::/64", "path-information": "0.0.0.1"}]},
    ),
    update(eor={"afi": "ipv4", "safi": "unicast"}),
    event(
        "open",
        open={
            "version": 4,
            "asn": 65002,
            "hold_time": 9,
            "router_id": "10.0.0.2",
            "capabilities": {"64": {"name": "graceful restart", "time": 120, "address family flags": {}}},
        },
    ),
    event("refresh", route_refresh={"afi": "ipv4", "safi": "unicast", "subtype": "begin"}),
)


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(LINES).flatmap(lambda line: mutated(json.loads(line))))
def test_no_value_in_a_line_ends_the_reader(document: Any) -> None:
    decoder = Decoder()
    for text in (json.dumps(document, default=str), json.dumps([document], default=str)):
        decoder.decode(text.encode(errors="surrogatepass"))
    assert decoder.decode(b"done") == Done()


def test_what_no_parser_bears_is_counted() -> None:
    decoder = Decoder()
    for line in (b'{"a":' * 100_000, b"[" * 100_000, b'{"asn": ' + b"9" * 5000 + b"}", b'{"a": "\xff"}'):
        assert decoder.decode(line) is None
    assert decoder.undecodable == 4
