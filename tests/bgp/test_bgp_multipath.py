"""Weights of equal paths, and several paths of one peer."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from bgp_facts import community, counts, path, session
from test_bgp_messages import update

from l3net.bgp.events import Updated
from l3net.bgp.exabgp.decoder import Decoder
from l3net.bgp.loc_rib import Candidate, LocRib
from l3net.bgp.multipath import WIDEST, discards, weighted
from l3net.bgp.verdict import ACCEPTED
from l3net.model import NextHop

PREFIX = "192.168.0.0/24"


def candidate(hop: str, bandwidth: float | None) -> tuple[Candidate, frozenset[NextHop]]:
    carried = frozenset() if bandwidth is None else frozenset({community(f"bandwidth:65002:{bandwidth:.0f}")})
    one = Candidate(path(PREFIX, hop, communities=carried), session(hop))
    return one, frozenset({NextHop(ip_address(hop), "eth0")})


def weights(*given: tuple[str, float | None]) -> dict[str, int]:
    return {str(hop.gateway): hop.weight for hop in weighted([candidate(*each) for each in given])}


def asks(hop: str, *, trusted: bool, marked: bool = True) -> Candidate:
    carried = frozenset({community("blackhole")}) if marked else frozenset()
    return Candidate(path(PREFIX, hop, communities=carried), session(hop, allow_blackhole=trusted))


def test_one_trusted_blackhole_among_equal_paths_is_enough() -> None:
    """Whatever the addresses: the order of equal paths says nothing."""
    plain, asking = asks("10.0.0.1", trusted=False, marked=False), asks("10.0.0.3", trusted=True)
    assert discards([plain, asking])
    assert discards([asking, plain])
    assert not discards([plain, asks("10.0.0.3", trusted=False)])
    assert not discards([plain, asks("10.0.0.3", trusted=True, marked=False)])
    assert not discards([])


def test_without_bandwidths_all_are_equal() -> None:
    assert weights(("10.0.0.1", None), ("10.0.0.3", None)) == {"10.0.0.1": 1, "10.0.0.3": 1}
    assert weights(("10.0.0.1", 5.0), ("10.0.0.3", None)) == {"10.0.0.1": 1, "10.0.0.3": 1}
    assert weights(("10.0.0.1", 5.0), ("10.0.0.3", 5.0)) == {"10.0.0.1": 1, "10.0.0.3": 1}


def test_weights_are_in_proportion_to_the_bandwidth() -> None:
    assert weights(("10.0.0.1", 4e9), ("10.0.0.3", 1e9)) == {"10.0.0.1": WIDEST, "10.0.0.3": WIDEST // 4}
    assert weights(("10.0.0.1", 4e9), ("10.0.0.3", 1.0))["10.0.0.3"] == 1


def test_the_link_bandwidth_community_is_read() -> None:
    """Type 0x40 (non-transitive), sub-type 4, AS 65002, 1.25e9 octets a second, as ExaBGP 5.0.15 shows."""
    message = Decoder().decode(
        update(
            attribute={"origin": "igp", "extended-community": [{"value": 4613091101116793593, "string": ""}]},
            announce={"ipv4 unicast": {"10.90.0.2": [{"nlri": PREFIX}]}},
        )
    )
    assert isinstance(message, Updated)
    assert message.announced[0].attributes.link_bandwidth == 1.25e9


def test_several_paths_of_one_peer_are_kept_apart() -> None:
    """RFC 7911: a path is withdrawn by its identifier, the others stay."""
    address = ip_address("10.0.0.1")
    rib = LocRib(lambda _session, learned: (ACCEPTED, learned))
    rib.set_sessions({address: session("10.0.0.1", peer_as=64512, add_path=True)})
    entries = {
        "10.0.0.5": [{"nlri": PREFIX, "path-information": "0.0.0.1"}],
        "10.0.0.6": [{"nlri": PREFIX, "path-information": "0.0.0.2"}],
    }
    decoder = Decoder()
    message = decoder.decode(update(attribute={"origin": "igp"}, announce={"ipv4 unicast": entries}))
    assert isinstance(message, Updated)
    rib.announce(address, message.announced)
    assert counts(rib, address) == (2, 2)

    def hops() -> list[str]:
        return [str(each.path.next_hop) for each in rib.best(ip_network(PREFIX), lambda _candidate: True)]

    assert hops() == ["10.0.0.5", "10.0.0.6"]
    gone = decoder.decode(
        update(withdraw={"ipv4 unicast": [{"nlri": PREFIX, "path-information": "0.0.0.1"}]})
    )
    assert isinstance(gone, Updated)
    assert gone.withdrawn == ()
    for prefix, path_id in gone.withdrawn_paths:
        rib.withdraw(address, [prefix], path_id)
    assert hops() == ["10.0.0.6"]
