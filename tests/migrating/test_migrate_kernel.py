"""What a move asks of the kernel, in a network namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

_TWO_LENGTHS = """
from ipaddress import ip_interface
from l3net.shell.kernel import links
from l3net.shell.kernel.linkaddresses import addresses_of, delete_address, put_address
from l3net.shell.kernel.netlink import Netlink

with Netlink() as netlink:
    netlink.request(links.create_bridge("b0", up=True), "make")
    index = links.get_link(netlink, "b0").index
    for first, second in (("/24", "/32"), ("/32", "/24")):
        for length in (first, second):
            netlink.request(put_address(index, ip_interface("10.244.1.5" + length)), "put")
        for length in (second, first):
            netlink.request(delete_address(index, ip_interface("10.244.1.5" + length)), "delete")
            print(*addresses_of(netlink, index))
"""


def in_namespace(script: str) -> str:
    argv = ["unshare", "--net", sys.executable, "-c", script]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout


def test_an_address_with_two_lengths_loses_the_one_that_is_named() -> None:
    """Without the length the kernel takes the first: a pod that was given back kept the wrong one."""
    assert in_namespace(_TWO_LENGTHS).splitlines() == ["10.244.1.5/24", "", "10.244.1.5/32", ""]
