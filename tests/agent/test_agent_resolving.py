"""How next hops are resolved: a connected eBGP peer's on its link, every other one's by any route."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from bgp_facts import path, session

from l3net.agent.resolving import Resolver, off_link
from l3net.bgp.loc_rib import Candidate
from l3net.bgp.sessions import Session
from l3net.fib.underlay import InterfaceAddress, Underlay, UnderlayHop, UnderlayRoute
from l3net.model import NextHop

PEER = {4: "10.0.0.1", 6: "fd00::1"}
GATEWAY = {4: "10.1.0.1", 6: "fd01::1"}
OTHER_LINK = {4: "10.1.0.9", 6: "fd01::9"}
AWAY = {4: "192.0.2.1", 6: "2001:db8::1"}
LINKS = {4: {"up0": "10.0.0.2/24", "up1": "10.1.0.2/24"}, 6: {"up0": "fd00::2/64", "up1": "fd01::2/64"}}


def underlay(version: int, *up: str, addresses: bool = True) -> Underlay:
    """Links, of which some are up, and a default route by up1. `addresses`: those of a dead link stay."""
    found, routes = [], []
    for name, text in LINKS[version].items():
        bare, _, length = text.partition("/")
        if name in up or addresses:
            found.append(InterfaceAddress(name, ip_address(bare), int(length)))
        if name in up:
            routes.append(UnderlayRoute(ip_network(text, strict=False), (UnderlayHop(name),)))
            routes.append(UnderlayRoute(ip_network("fe80::/64"), (UnderlayHop(name),)))
    hop = UnderlayHop("up1", ip_address(GATEWAY[version]))
    routes.append(UnderlayRoute(ip_network("0.0.0.0/0" if version == 4 else "::/0"), (hop,)))
    return Underlay(routes, found)


def resolved(under: Underlay, of: Session, hop: str) -> frozenset[NextHop]:
    resolver = Resolver()
    resolver.follow(under)
    return resolver.resolve(Candidate(path("203.0.113.0/24", hop), of))


def on(link: str, hop: str) -> frozenset[NextHop]:
    return frozenset({NextHop(ip_address(hop), link)})


both = pytest.mark.parametrize("version", [4, 6])


@both
@pytest.mark.parametrize("addresses", [True, False])
def test_a_connected_peers_next_hop_goes_with_its_link(version: int, addresses: bool) -> None:
    """Whether or not its addresses go too, as those of IPv6 do when a link is set down."""
    neighbour = session(PEER[version])
    assert neighbour.connected
    up, down = underlay(version, "up0", "up1"), underlay(version, "up1", addresses=addresses)
    assert resolved(up, neighbour, PEER[version]) == on("up0", PEER[version])
    for hop in (PEER[version], AWAY[version], OTHER_LINK[version]):
        assert resolved(down, neighbour, hop) == frozenset()
        if hop != PEER[version]:
            assert resolved(up, neighbour, hop) == frozenset()


@both
@pytest.mark.parametrize(
    "change",
    [{"peer_as": 64512}, {"multihop": 2}, {"to_node": True}, {"name": "mesh:n2", "multihop": 64}],
    ids="".join,
)
def test_every_other_ones_is_looked_up(version: int, change: dict[str, object]) -> None:
    other = session(PEER[version], **change)
    down = underlay(version, "up1")
    for hop in (PEER[version], AWAY[version]):
        assert resolved(down, other, hop) == on("up1", GATEWAY[version])
    assert resolved(down, other, OTHER_LINK[version]) == on("up1", OTHER_LINK[version])


def test_one_hop_is_a_connected_peer() -> None:
    assert session(multihop=1).connected and not session(multihop=2).connected


@both
def test_a_link_local_next_hop_is_on_the_link_of_its_session(version: int) -> None:
    near = session(PEER[version])
    both_up, one_up = underlay(version, "up0", "up1"), underlay(version, "up1")
    assert resolved(both_up, near, "fe80::1") == on("up0", "fe80::1")
    assert resolved(one_up, near, "fe80::1") == frozenset()
    bound = session("fe80::1", source_interface="up0")
    assert resolved(both_up, bound, "fe80::1") == on("up0", "fe80::1")
    assert resolved(one_up, bound, "fe80::1") == frozenset()
    assert resolved(both_up, replace(bound, source_interface="up1"), "fe80::1") == on("up1", "fe80::1")


def test_link_local_addresses_of_ipv4_are_like_any_other() -> None:
    """A provider's link may have no others; routes tell where they are."""
    link = UnderlayRoute(ip_network("169.254.7.0/30"), (UnderlayHop("up0"),))
    under = Underlay([link], [InterfaceAddress("up0", ip_address("169.254.7.2"), 30)])
    near = session("169.254.7.1")
    assert resolved(under, near, "169.254.7.1") == on("up0", "169.254.7.1")
    assert resolved(under, near, "169.254.8.1") == frozenset()
    assert not off_link(under, near)
    assert resolved(Underlay([], under.addresses), near, "169.254.7.1") == frozenset()


@both
def test_a_session_that_is_bound_to_a_link_is_on_no_other(version: int) -> None:
    under = underlay(version, "up0", "up1")
    assert resolved(under, session(PEER[version], source_interface="up0"), PEER[version]) == on(
        "up0", PEER[version]
    )
    assert resolved(under, session(PEER[version], source_interface="up1"), PEER[version]) == frozenset()


def test_another_rule_is_told_of_and_forgets() -> None:
    under, near = underlay(4, "up1"), session(PEER[4])
    resolver = Resolver()
    resolver.follow(under)
    assert resolver.set_sessions({near.peer_address: near}) == set(), "one that is new has no paths"
    assert resolver.resolve(Candidate(path("203.0.113.0/24", PEER[4]), near)) == frozenset()
    far = replace(near, multihop=2)
    assert resolver.set_sessions({near.peer_address: replace(near, hold_time=3)}) == set()
    assert resolver.set_sessions({near.peer_address: far}) == {near.peer_address}
    trusted = replace(far, allow_blackhole=True)
    assert resolver.set_sessions({near.peer_address: trusted}) == {near.peer_address}
    assert resolver.resolve(Candidate(path("203.0.113.0/24", PEER[4]), far)) == on("up1", GATEWAY[4])


@both
def test_a_peer_on_no_link_is_told_from_one_whose_link_is_down(version: int) -> None:
    near, far = session(PEER[version]), session(AWAY[version])
    assert off_link(underlay(version, "up0", "up1"), far)
    assert not off_link(underlay(version, "up0", "up1"), near)
    assert not off_link(underlay(version, "up1"), near), "its link is down, as the doctor says"
    assert not off_link(underlay(version, "up0"), replace(far, multihop=2))
