"""Communities as text and as octets, in filters, in commands and in what ExaBGP says."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from bgp_facts import community, path, session
from hypothesis import assume, given
from hypothesis import strategies as st
from test_bgp_messages import update

from l3net.announce.source import NodeView
from l3net.announce.sources import desired
from l3net.bgp.events import Updated
from l3net.bgp.exabgp.commands import announce
from l3net.bgp.exabgp.decoder import Decoder
from l3net.bgp.filters import apply_operations, rule_matches
from l3net.bgp.impact import plan
from l3net.bgp.loc_rib import Candidate, best_paths
from l3net.bgp.path import Attributes
from l3net.community import (
    LLGR_STALE,
    NO_EXPORT,
    WELL_KNOWN,
    AnyCommunity,
    ExtendedCommunity,
    parse_community,
)
from l3net.model import Action, BgpConfiguration, ClusterState, FilterRule, Node, Operations

PREFIX = "192.168.0.0/24"
#: Text to the octets of RFC 4360 sections 3 to 5, RFC 5668 and draft-ietf-idr-link-bandwidth.
OCTETS = {
    "rt:64512:100": "0002fc0000000064",
    "rt:65535:4294967295": "0002ffffffffffff",
    "rt:10.0.0.1:5": "01020a0000010005",
    "rt:4200000000:7": "0202fa56ea000007",
    "rt:64512L:7": "02020000fc000007",
    "soo:64512:100": "0003fc0000000064",
    "soo:10.0.0.1:5": "01030a0000010005",
    "soo:4200000000:7": "0203fa56ea000007",
    "bandwidth:65001:1250000000": "4004fde94e9502f9",
    "bandwidth-transitive:65001:1250000000": "0004fde94e9502f9",
    "bandwidth:0:0": "4004000000000000",
    "raw:0x030c00000000000d": "030c00000000000d",
    "raw:0x8006fde94e9502f9": "8006fde94e9502f9",
}


def octets(*texts: str) -> frozenset[AnyCommunity]:
    return frozenset(map(community, texts))


@pytest.mark.parametrize(("text", "expected"), OCTETS.items())
def test_text_and_octets(text: str, expected: str) -> None:
    found = parse_community(text)
    assert isinstance(found, ExtendedCommunity)
    assert found.octets.hex() == expected
    assert str(found) == text
    assert parse_community(f"raw:0x{expected}") == found


@given(st.binary(min_size=8, max_size=8))
def test_whatever_is_shown_is_read_back(given_octets: bytes) -> None:
    found = ExtendedCommunity(given_octets)
    assume(found.octets[1] not in (0x06, 0x0C))  # of these not all can be said
    assert parse_community(str(found)) == found


@given(st.sampled_from([0x00, 0x01, 0x02, 0x40]), st.integers(2, 4), st.binary(min_size=6, max_size=6))
def test_so_is_what_has_a_name(kind: int, subtype: int, rest: bytes) -> None:
    found = ExtendedCommunity(bytes([kind, subtype]) + rest)
    assert parse_community(str(found)) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("70000:1", "at most 65535"),
        ("1:2:4294967296", "RFC 8092"),
        ("rt:64512:4294967296", "the value is at most 4294967295"),
        ("rt:70000:65536", "four octets (RFC 5668) the value is at most 65535"),
        ("soo:10.0.0.1:65536", "an IPv4 address the value is at most 65535"),
        ("rt:10.0.0.300:5", "Octet 300"),
        ("rt:4294967296:5", "an AS number is at most 4294967295"),
        ("rt:64512", "is not a community"),
        ("rt:64512:1:2", "is not a community"),
        ("bandwidth:70000:1", "23456 (AS_TRANS"),
        ("bandwidth:1:1234567890123456789", "at most 18 digits"),
        ("bandwidth:1:1e9", "is not a community"),
        ("raw:0x0002", "eight octets"),
        ("raw:0x0002fc000000006g", "eight octets"),
        ("raw:0002fc0000000064", "eight octets"),
        ("raw:0x8006fde97fc00000", "FlowSpec rate (RFC 8955 section 7) that is not a number"),
        ("raw:0x800cfde9ff800000", "FlowSpec rate (RFC 8955 section 7) that is not a number"),
        ("no-exports", "is not a community"),
        ("1:2:3:4", "is not a community"),
        ("", "is not a community"),
        ("\u0661:1", "is not a community"),
    ],
)
def test_what_is_wrong_with_it_is_said(text: str, why: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_community(text)
    assert why in str(caught.value)
    assert text in str(caught.value)


def test_well_known_names() -> None:
    assert {name: str(known) for name, known in WELL_KNOWN.items()} == {
        "graceful-shutdown": "65535:0",
        "llgr-stale": "65535:6",
        "no-llgr": "65535:7",
        "blackhole": "65535:666",
        "no-export": "65535:65281",
        "no-advertise": "65535:65282",
        "no-export-subconfed": "65535:65283",
        "no-peer": "65535:65284",
    }


def test_exabgp_is_told_octets() -> None:
    """The names that ExaBGP 5.0.15 has cannot say a four-octet AS."""
    attributes = Attributes(communities=octets("64512:1", "1:2:3", "rt:4200000000:7", "bandwidth:65001:0"))
    line = announce(session(), path(PREFIX).next_hop, attributes, [ip_network(PREFIX)])
    assert " community [ 64512:1 ] large-community [ 1:2:3 ]" in line
    assert " extended-community [ 0x0202fa56ea000007 0x4004fde900000000 ] nlri" in line


def test_received_ones_are_read_beside_the_others() -> None:
    values = [{"value": int(text, 16), "string": "x"} for text in OCTETS.values()]
    message = Decoder().decode(
        update(
            attribute={"origin": "igp", "community": [[64512, 1]], "extended-community": values},
            announce={"ipv4 unicast": {"10.90.0.2": [{"nlri": PREFIX}]}},
        )
    )
    assert isinstance(message, Updated)
    assert message.announced[0].attributes.communities == octets("64512:1", *OCTETS)


def test_a_rule_matches_by_every_kind() -> None:
    rule = FilterRule(Action.ACCEPT, communities=octets("rt:64512:100", "64512:1"))
    assert rule_matches(rule, path(PREFIX, communities=octets("rt:64512:100", "64512:1")), external=True)
    for fewer in ("64512:1", "rt:64512:100", "soo:64512:100"):
        assert not rule_matches(rule, path(PREFIX, communities=octets(fewer)), external=True)


def test_communities_are_set_then_removed_then_added() -> None:
    before = Attributes(communities=octets("64512:1", "rt:64512:1"))
    operations = Operations(
        add_communities=octets("64512:3", "soo:64512:1"), remove_communities=octets("rt:64512:1", "64512:9")
    )
    assert apply_operations(before, operations).communities == octets("64512:1", "64512:3", "soo:64512:1")
    operations = Operations(
        set_communities=octets("64512:2", "64512:4"),
        remove_communities=octets("64512:4"),
        add_communities=octets("64512:4", "1:2:3"),
    )
    assert apply_operations(before, operations).communities == octets("64512:2", "64512:4", "1:2:3")
    assert apply_operations(before, Operations(set_communities=frozenset())).communities == frozenset()


def test_a_link_has_one_bandwidth() -> None:
    """What a filter adds takes the place of what came; of several that came the least counts."""
    wide, narrow = "bandwidth:65001:2000000000", "bandwidth-transitive:65002:1000000000"
    both = Attributes(communities=octets(wide, narrow, "rt:64512:1"))
    assert both.link_bandwidth == 1e9
    assert Attributes(communities=octets("rt:64512:1", "64512:1")).link_bandwidth is None
    assert Attributes(communities=octets("bandwidth:65001:0")).link_bandwidth is None
    added = apply_operations(both, Operations(octets("bandwidth:65001:5000")))
    assert added.communities == octets("bandwidth:65001:5000", "rt:64512:1")
    assert added.link_bandwidth == 5000


def passed_on(peer_as: int, *texts: str) -> frozenset[AnyCommunity] | None:
    """What communities a router with `transit` passes on to a peer; None if not even the path."""
    state = ClusterState(nodes={"n1": Node("n1")}, configuration=BgpConfiguration(transit=True))
    to = session("10.0.0.9", peer_as=peer_as)
    prefix = ip_network(PREFIX)
    learned = {prefix: Candidate(path(PREFIX, communities=octets(*texts)), session())}
    found = desired(NodeView(state, "n1"), to, learned).get(prefix)
    return found.attributes.communities if found is not None else None


def test_non_transitive_ones_stay_in_the_as() -> None:
    """RFC 4360 section 6."""
    texts = ("rt:64512:1", "bandwidth:65001:5", "bandwidth-transitive:65001:5", "raw:0x4306000000000000")
    assert passed_on(65009, *texts) == octets("rt:64512:1", "bandwidth-transitive:65001:5")
    assert passed_on(64512, *texts) == octets(*texts)


def test_a_stale_path_is_the_last_choice_here_and_further_on() -> None:
    """RFC 9494 sections 4.3 and 4.6; LOCAL_PREF does not lift it."""
    plain = Candidate(path(PREFIX, "10.0.0.1", local_preference=0, as_path=(1, 2, 3)), session("10.0.0.1"))
    stale = Candidate(
        path(PREFIX, "10.0.0.3", local_preference=900, communities=frozenset({LLGR_STALE})),
        session("10.0.0.3"),
    )
    assert best_paths([stale, plain]) == (plain,)
    assert best_paths([stale]) == (stale,)
    told = Candidate(path(PREFIX, "10.0.0.3", local_preference=900), session("10.0.0.3"))
    assert best_paths([told, plain]) == (told,), "the control"
    assert passed_on(65009, "llgr-stale") is None
    assert passed_on(64512, "llgr-stale") == {LLGR_STALE, NO_EXPORT}
    assert passed_on(65009, "no-llgr") == octets("no-llgr")


def test_a_change_of_communities_costs_no_session() -> None:
    """What `l3net bgp plan` says of it: the route is announced again over the session as it is."""
    one = session()
    before = {ip_network(PREFIX): path(PREFIX, communities=octets("rt:64512:100"))}
    after = {ip_network(PREFIX): path(PREFIX, communities=octets("rt:64512:101"))}
    (row,) = plan({one.peer_address: (one, before)}, {one.peer_address: (one, after)})
    assert (row.action, row.announce) == ("soft", (ip_network(PREFIX),))
    (row,) = plan({one.peer_address: (one, before)}, {one.peer_address: (one, dict(before))})
    assert row.action == "unchanged"
