"""Blocks and their exceptions as prefixes: as many addresses as are left, and no more work for thousands."""

from __future__ import annotations

from ipaddress import ip_network
from random import Random

import pytest

from l3net.model import IpBlock, Prefix
from l3net.policy.blocks import prefixes_of


@pytest.mark.parametrize(("block", "bits"), [("10.0.0.0/24", 32), ("fd00::/120", 128)])
def test_what_is_left_is_what_no_exception_holds(block: str, bits: int) -> None:
    chance = Random(1)
    cidr: Prefix = ip_network(block)
    for _ in range(50):
        excepts = tuple(
            ip_network((int(cidr.network_address) + (chance.randrange(256) >> free << free), bits - free))
            for free in (chance.choice((0, 1, 3, 5)) for _ in range(chance.randrange(6)))
        )
        found = prefixes_of([IpBlock(cidr, excepts)])
        left = {each for each in cidr if not any(each in hole for hole in excepts)}
        assert {each for prefix in found for each in prefix} == left
        assert sum(prefix.num_addresses for prefix in found) == len(left)


def test_thousands_of_exceptions_do_not_hold_up_the_agent() -> None:
    """Whoever may write a policy may write ten thousand: compared one by one they took minutes."""
    excepts = tuple(ip_network((0x0A000000 + each * 2, 32)) for each in range(10_000))
    found = prefixes_of([IpBlock(ip_network("10.0.0.0/8"), excepts)])
    assert sum(prefix.num_addresses for prefix in found) == (1 << 24) - 10_000
