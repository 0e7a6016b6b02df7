"""When the kernel delivers for an IPv6 address that it has been given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from ipaddress import ip_interface

import pytest

from l3net.shell.kernel import links
from l3net.shell.kernel.linkaddresses import delete_address, put_address
from l3net.shell.kernel.localroutes import settled, stand_in
from l3net.shell.kernel.netlink import Netlink
from l3net.shell.kernel.takeover import delivered

Ip = Callable[[str], str]

pytestmark = pytest.mark.netns


@pytest.fixture
def ip(own_netns: Ip) -> Ip:
    for words in ("link add v0 type veth peer name v1", "link set v1 up", "link set v0 up"):
        own_netns(words)
    return own_netns


def local(ip: Ip) -> list[str]:
    """The routes that deliver for the addresses of the tests."""
    shown = ip("-6 route show table local")
    return sorted(line.split(" dev ")[1] for line in shown.splitlines() if line.startswith("local fd00::"))


def test_it_waits_until_the_route_is_there(ip: Ip) -> None:
    """The control: an address that nobody has."""
    with Netlink() as netlink:
        index = links.get_link(netlink, "v0").index  # type: ignore[union-attr]
        late = ip_interface("fd00::1/128")
        assert not settled(netlink, [late], 0.05)
        coming = threading.Timer(0.3, lambda: ip("addr add fd00::1/128 dev v0 nodad"))
        coming.start()
        assert settled(netlink, [ip_interface("10.0.0.1/32"), late], 30)
        coming.join()
        assert local(ip) == ["v0 proto kernel metric 0 pref medium"]
        assert not any(netlink.transact([delete_address(index, late)]))
        assert not settled(netlink, [late], 0)


def test_something_delivers_while_an_address_gets_another_length(ip: Ip) -> None:
    with Netlink() as netlink:
        index = links.get_link(netlink, "v0").index  # type: ignore[union-attr]
        long, short = ip_interface("fd00::1/128"), ip_interface("fd00::1/64")
        assert not any(netlink.transact([put_address(index, short)])) and settled(netlink, [short])
        assert not any(netlink.transact([stand_in(index, short.ip), delete_address(index, short)]))
        assert local(ip) == ["v0 proto 108 metric 1 pref medium"]
        assert not settled(netlink, [short], 0.05)  # which is not the kernel's own
        assert not any(netlink.transact([put_address(index, long)])) and settled(netlink, [long])
        assert not any(netlink.transact([stand_in(index, short.ip, put=False)]))
        assert local(ip) == ["v0 proto kernel metric 0 pref medium"]


def test_a_move_has_something_that_delivers_all_the_while(ip: Ip) -> None:
    with Netlink() as netlink:
        index = links.get_link(netlink, "v0").index  # type: ignore[union-attr]
        both = [ip_interface("fd00::1/64"), ip_interface("10.0.0.1/24")]
        assert not any(netlink.transact([put_address(index, each) for each in both]))
        with delivered(netlink, index, both):
            assert not any(netlink.transact([delete_address(index, both[0])]))
            assert local(ip) == ["v0 proto 108 metric 1 pref medium"]
            assert not any(netlink.transact([put_address(index, ip_interface("fd00::1/128"))]))
        assert local(ip) == ["v0 proto kernel metric 0 pref medium"]
