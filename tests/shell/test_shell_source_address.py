"""From which of its addresses a node speaks with a peer: in a real kernel, beside what that would choose."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from l3net.shell.kernel.underlay import KernelUnderlay

pytestmark = pytest.mark.netns
Ip = Callable[[str], str]


@pytest.fixture
def wired(own_netns: Ip) -> Ip:
    own_netns("link add up0 type veth peer name far0")
    for name in ("up0", "far0"):
        own_netns(f"link set {name} up")
    own_netns("addr add 10.90.0.5/24 dev up0")
    own_netns("addr add fd90::5/64 dev up0 nodad")
    return own_netns


def chosen(peer: str, *preferred: str, held: str | None = None) -> str:
    found = (
        KernelUnderlay()
        .read()[0]
        .source(ip_address(peer), list(map(ip_address, preferred)), ip_address(held) if held else None)
    )
    assert found is not None
    return str(found[0])


def kernels(ip: Ip, peer: str) -> str:
    return str(json.loads(ip(f"-j route get {peer}"))[0]["prefsrc"])


@pytest.mark.parametrize(
    ("virtual", "peer", "own"),
    [("10.90.0.3/24", "10.90.0.9", "10.90.0.5"), ("fd90::3/64", "fd90::9", "fd90::5")],
)
def test_a_virtual_address_in_the_peers_subnet_changes_nothing(
    wired: Ip, virtual: str, peer: str, own: str
) -> None:
    """It sorts before the node's own, and was taken for that."""
    assert chosen(peer) == own
    wired(f"addr add {virtual} dev up0 {'nodad' if ':' in virtual else ''}")
    bare = virtual.partition("/")[0]
    assert chosen(peer, own) == own
    assert chosen(peer, held=own) == own
    assert chosen(peer, bare) == bare, "a node's own address comes first, which that is"
    assert chosen(peer, bare, held=own) == own, "and a session stays where it is"
    wired(f"addr del {own}/{virtual.partition('/')[2]} dev up0")
    if ":" in virtual:  # IPv4 loses the secondary addresses of the subnet too
        assert chosen(peer, own, held=own) == bare, "until its address is gone"


def test_as_the_kernel_chooses(wired: Ip) -> None:
    wired("addr add 10.90.0.3/24 dev up0")
    assert chosen("10.90.0.9") == kernels(wired, "10.90.0.9") == "10.90.0.5"
    wired("route add 10.91.0.0/24 via 10.90.0.9 src 10.90.0.3")
    assert chosen("10.91.0.1") == kernels(wired, "10.91.0.1") == "10.90.0.3"
    wired("addr add fd90::3/64 dev up0 nodad preferred_lft 0")
    assert chosen("fd90::9") == kernels(wired, "fd90::9") == "fd90::5"
    wired("route add fd91::/64 via fd90::9 src fd90::3")
    assert chosen("fd91::1") == kernels(wired, "fd91::1") == "fd90::3"


def test_an_address_that_is_tentative_is_not_used(wired: Ip) -> None:
    wired("addr del fd90::5/64 dev up0")
    wired("addr add fd90::5/64 dev up0 nodad preferred_lft 0")
    wired("addr add fd90::4/64 dev up0")
    entries = {entry.address: entry for entry in KernelUnderlay().read()[0].addresses}
    if entries[ip_address("fd90::4")].tentative:  # duplicate address detection takes a second
        assert chosen("fd90::9") == "fd90::5"
    deadline = time.monotonic() + 20
    while chosen("fd90::9") != "fd90::4":
        assert time.monotonic() < deadline
        time.sleep(0.05)
