"""Who answers on a link, whether large packets pass, whether a port is taken: against this kernel."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import pytest

from l3net.explain.facts import Passage
from l3net.shell.probes.asks import who_has
from l3net.shell.probes.listening import listens
from l3net.shell.probes.sizes import passage

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture
def segment(own_netns: Callable[[str], str]) -> Iterator[list[tuple[str, str]]]:
    """Two other hosts on a bridge: both have .2, the first .3 as well. Their names and MACs."""
    name = f"as{uuid.uuid4().hex[:6]}"
    with ExitStack() as undo:
        own_netns("link add br0 type bridge")
        own_netns("addr add 10.9.1.1/24 dev br0")
        own_netns("addr add fd09:1::1/64 dev br0 nodad")
        own_netns("link set br0 up")
        for number in (1, 2):
            far = f"{name}{number}"
            own_netns(f"netns add {far}")
            undo.callback(subprocess.run, ["ip", "netns", "del", far], check=False)
            own_netns(f"link add p{number} type veth peer name eth0 netns {far}")
            own_netns(f"link set p{number} master br0 up")
            for last in (2, 3)[: 3 - number]:
                own_netns(f"-n {far} addr add 10.9.1.{last}/24 dev eth0")
                own_netns(f"-n {far} addr add fd09:1::{last}/64 dev eth0 nodad")
            own_netns(f"-n {far} link set eth0 up")
        yield [
            (f"{name}{number}", own_netns(f"-n {name}{number} -br link show eth0").split()[2])
            for number in (1, 2)
        ]


@pytest.mark.parametrize("net", ["10.9.1.", "fd09:1::"])
def test_each_that_answers_is_told(segment: list[tuple[str, str]], net: str) -> None:
    macs_of = [mac for _, mac in segment]
    wanted = {f"{net}2": sorted(macs_of), f"{net}3": macs_of[:1], f"{net}1": [], f"{net}9": []}
    for address, macs in wanted.items():
        for _ in range(100):  # links come up a little later
            found = who_has("br0", ip_address(address))
            if found is not None and list(found) == macs:
                break
            time.sleep(0.05)
        assert list(who_has("br0", ip_address(address)) or ()) == macs, address
    assert who_has("lo", ip_address(f"{net}2")) is None
    assert who_has("nowhere", ip_address(f"{net}2")) is None


@pytest.mark.parametrize("net", ["10.9.1.", "fd09:1::"])
def test_large_packets_are_told_from_small_ones(
    segment: list[tuple[str, str]], own_netns: Callable[[str], str], net: str
) -> None:
    address = ip_address(f"{net}3")

    def comes(wanted: Passage | None) -> bool:
        for _ in range(40):
            if passage(address, 1500) == wanted:
                return True
            time.sleep(0.05)
        return False

    assert comes(Passage(1500))
    own_netns("link set p1 mtu 1400")  # and so the bridge: this host itself says so
    assert comes(Passage(1500, told=0))
    own_netns("link set p1 mtu 1500")
    own_netns("link set br0 mtu 1500")
    far, _ = segment[0]
    own_netns(f"-n {far} link set eth0 mtu 1400")
    assert comes(Passage(1500, lost=True))
    assert passage(ip_address(f"{net}9"), 1500) == Passage(1500, silent=True)


def test_a_port_that_a_program_has(own_netns: Callable[[str], str]) -> None:
    own_netns("link set lo up")
    four, six = ip_address("127.0.0.1"), ip_address("::1")
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        assert listens(four, "tcp", port)
        assert not listens(six, "tcp", port)
        assert not listens(ip_address("10.9.9.9"), "tcp", port)
        assert not listens(four, "udp", port)
    assert not listens(four, "tcp", port)
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as all_of_them:
        port = all_of_them.getsockname()[1]
        assert listens(four, "tcp", port) and listens(six, "tcp", port)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("::1", 0))
        assert listens(six, "udp", datagrams.getsockname()[1])
        assert not listens(six, "sctp", datagrams.getsockname()[1])
