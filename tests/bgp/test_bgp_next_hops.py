"""Next hops that no router can have."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from bgp_facts import path, session

from l3net.bgp.next_hops import martian_next_hop
from l3net.bgp.policy import ImportJudge
from l3net.bgp.protected import Protected
from l3net.bgp.verdict import Verdict
from l3net.model import ClusterState, Family, Prefix

CONNECTED: tuple[Prefix, ...] = tuple(
    map(
        ip_network,
        ("10.0.0.0/24", "10.1.0.0/31", "10.2.0.0/30", "10.3.0.9/32", "fd00::/64", "fd01::/127", "fd02::/126"),
    )
)
MARTIANS = (
    *(
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.9.9.9",
        "224.0.0.5",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
    ),
    *("10.0.0.0", "10.0.0.255", "10.2.0.0", "10.2.0.3"),
    *("::", "::1", "ff02::1", "::ffff:10.0.0.1", "fd00::", "fd02::", "fe80::"),
)
SOUND = (
    *(
        "1.0.0.1",
        "169.254.1.1",
        "192.0.2.1",
        "100.64.0.1",
        "10.0.0.1",
        "10.0.0.254",
        "10.0.1.255",
        "10.9.0.0",
    ),
    *("10.1.0.0", "10.1.0.1", "10.2.0.1", "10.2.0.2", "10.3.0.9"),
    *("fd00::1", "fd00::ffff:ffff:ffff:ffff", "fd01::", "fd01::1", "fd02::3", "fe80::1", "2001:db8::", "::2"),
)


@pytest.mark.parametrize("hop", MARTIANS)
def test_these_are_nobodys(hop: str) -> None:
    assert martian_next_hop(ip_address(hop), CONNECTED)


@pytest.mark.parametrize("hop", SOUND)
def test_these_may_be_somebodys(hop: str) -> None:
    assert not martian_next_hop(ip_address(hop), CONNECTED)


@pytest.mark.parametrize("hop", [*MARTIANS, *SOUND])
@pytest.mark.parametrize("of", [{}, {"peer_as": 64512}, {"multihop": 3}, {"third_party_next_hops": True}])
def test_of_whatever_peer_the_verdict_names_it(hop: str, of: dict[str, object]) -> None:
    judge = ImportJudge(Protected.of(ClusterState(), "n1", CONNECTED, frozenset()), {})
    learned = path("203.0.113.0/24", hop)
    judgement, _ = judge(session("10.0.0.1", families=frozenset(Family), **of), learned)
    assert (judgement.verdict is Verdict.NEXT_HOP_INVALID) is (hop in MARTIANS)


def test_a_link_local_next_hop_of_ipv4_is_a_third_partys() -> None:
    """One of IPv6 is on the session's link; of IPv4 nothing says so."""
    judge = ImportJudge(Protected.of(ClusterState(), "n1", CONNECTED, frozenset()), {})
    assert judge(session(), path("203.0.113.0/24", "169.254.9.9"))[0].verdict is Verdict.NEXT_HOP_UNKNOWN
    assert judge(session(), path("203.0.113.0/24", "fe80::9"))[0].verdict is not Verdict.NEXT_HOP_UNKNOWN
