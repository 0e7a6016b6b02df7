"""Router advertisements and solicitations: what we send is valid, and a router's word is read."""

from __future__ import annotations

import pytest

from l3net.bgp.router_discovery import advertisement, message_type, solicitation

MAC = bytes.fromhex("02005e000001")
#: By hand after RFC 4861 section 4.2: hop limit 64, lifetime 1800 s, a source link-layer address.
ROUTER = bytes.fromhex("86003c7a4000070800000000000000000101021122334455")


@pytest.mark.parametrize("mac", [MAC, b""])
def test_what_we_send_is_valid(mac: bytes) -> None:
    assert message_type(advertisement(mac), 255) == 134
    assert message_type(solicitation(mac), 255) == 133
    assert len(advertisement(mac)) % 8 == 0


def test_nobody_takes_us_for_a_default_router() -> None:
    lifetime = advertisement(MAC)[6:8]
    assert lifetime == b"\0\0"
    assert advertisement(MAC).endswith(b"\x01\x01" + MAC)


def test_a_routers_advertisement_is_read() -> None:
    assert message_type(ROUTER, 255) == 134


@pytest.mark.parametrize(
    ("message", "hop_limit"),
    [
        (ROUTER, 254),  # a router has passed it on
        (ROUTER, 0),
        (b"", 255),
        (ROUTER[:15], 255),
        (b"\x86\x01" + ROUTER[2:], 255),  # a code that is none
        (b"\x87" + ROUTER[1:], 255),  # a neighbour solicitation
    ],
)
def test_what_is_no_advertisement_is_left_alone(message: bytes, hop_limit: int) -> None:
    assert message_type(message, hop_limit) is None
