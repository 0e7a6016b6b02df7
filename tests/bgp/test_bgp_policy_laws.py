"""What holds for every prefix, path and peer: laws of the import policy and of the choice among equals."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from bgp_facts import community, session
from hypothesis import given
from hypothesis import strategies as st

from l3net.bgp.loc_rib import Candidate, LocRib
from l3net.bgp.multipath import discards
from l3net.bgp.path import Attributes, Path, Said
from l3net.bgp.policy import ImportJudge
from l3net.bgp.protected import MARTIANS, Protected
from l3net.bgp.sessions import Session
from l3net.bgp.verdict import ACCEPTED, Verdict
from l3net.community import GRACEFUL_SHUTDOWN
from l3net.model import (
    Action,
    AdvertisePolicy,
    BgpConfiguration,
    BgpFilter,
    Bogons,
    ClusterState,
    Family,
    FilterRule,
    ImportPolicy,
    Node,
    Operations,
    Prefix,
    PrefixOperator,
)

BLACKHOLE = community("65535:666")
OPEN = ClusterState(configuration=BgpConfiguration(imports=ImportPolicy(ebgp_requires_policy=False)))
JUDGE = ImportJudge(Protected.of(OPEN, "n1", (), frozenset()), {})


def _prefix(version: int, number: int, length: int) -> Prefix:
    width = 32 if version == 4 else 128
    length = min(length, width)
    number &= (1 << width) - 1
    address = IPv4Address(number) if version == 4 else IPv6Address(number)
    return ip_network((address, length), strict=False)


def _near(martian: Prefix) -> st.SearchStrategy[Prefix]:
    """Prefixes that are, hold, lie inside or beside a martian one."""
    size = 1 << (martian.max_prefixlen - martian.prefixlen)
    return st.builds(
        lambda offset, length: _prefix(
            martian.version, max(0, int(martian.network_address) + offset), length
        ),
        st.integers(-size, 2 * size),
        st.integers(1, martian.max_prefixlen),
    )


prefixes = st.one_of(
    st.sampled_from(MARTIANS).flatmap(_near),
    st.builds(_prefix, st.sampled_from([4, 6]), st.integers(0, (1 << 128) - 1), st.integers(1, 128)),
)
as_paths = st.lists(st.integers(0, 4), max_size=4).map(tuple)
identifiers = st.integers(1, 3).map(lambda number: IPv4Address(f"10.0.0.{number}"))
clusters = st.lists(identifiers, max_size=2).map(tuple)


def peer_of(prefix: Prefix, **changes: object) -> Session:
    address = "10.0.0.9" if prefix.version == 4 else "fd00::9"
    return session(address, families=frozenset(Family), **changes)


@given(prefixes)
def test_martian_is_what_equals_or_lies_inside_one(prefix: Prefix) -> None:
    """And nothing that only covers one, in either family."""
    peer = peer_of(prefix)
    verdict = JUDGE(peer, Path(prefix, peer.peer_address))[0].verdict
    inside = any(
        each.version == prefix.version and prefix.subnet_of(each)  # type: ignore[arg-type]
        for each in MARTIANS
    )
    assert verdict is (Verdict.MARTIAN if inside else Verdict.ACCEPTED)


@given(prefixes, as_paths, st.booleans(), st.booleans())
def test_no_policy_lets_as_zero_or_a_confederation_in(
    prefix: Prefix, as_path: tuple[int, ...], confederation: bool, inside: bool
) -> None:
    peer = peer_of(prefix, peer_as=64512 if inside else 65001)
    attributes = Attributes(as_path=as_path, confederation=confederation)
    verdict = JUDGE(peer, Path(prefix, peer.peer_address, attributes))[0].verdict
    if 0 in as_path:
        assert verdict is Verdict.AS_ZERO
    elif confederation:
        assert verdict is Verdict.CONFEDERATION
    else:
        assert verdict in (Verdict.ACCEPTED, Verdict.MARTIAN)


@given(prefixes, st.none() | identifiers, clusters)
def test_what_an_ebgp_peer_says_of_reflection_means_nothing(
    prefix: Prefix, originator: IPv4Address | None, seen: tuple[IPv4Address, ...]
) -> None:
    peer = peer_of(prefix, router_id=IPv4Address("10.0.0.1"), cluster_id=IPv4Address("10.0.0.2"))
    plain = Path(prefix, peer.peer_address)
    said = Path(prefix, peer.peer_address, Attributes(originator=originator, clusters=seen))
    assert JUDGE(peer, said) == JUDGE(peer, plain)
    # The control: of a peer inside the AS our own are a loop.
    inside = peer_of(
        prefix, peer_as=64512, router_id=IPv4Address("10.0.0.1"), cluster_id=IPv4Address("10.0.0.2")
    )
    looped = originator == inside.router_id or inside.cluster_id in seen
    assert (JUDGE(inside, said)[0].verdict is Verdict.REFLECTION_LOOP) is looped


@given(prefixes, st.sets(st.sampled_from(list(Family)), min_size=1))
def test_a_family_that_a_session_does_not_carry_is_refused_whatever_it_is(
    prefix: Prefix, carried: set[Family]
) -> None:
    peer = peer_of(prefix)
    peer = session(str(peer.peer_address), families=frozenset(carried))
    verdict = JUDGE(peer, Path(prefix, peer.peer_address))[0].verdict
    carries = prefix.version in {family.value for family in carried}
    assert (verdict is Verdict.FAMILY_NOT_NEGOTIATED) is not carries


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=4),
    st.permutations(range(1, 5)),
)
def test_whether_to_drop_has_nothing_to_do_with_who_is_first(
    peers: list[tuple[bool, bool]], order: list[int]
) -> None:
    """Each peer: whether it may ask for a blackhole, and whether it does. All paths are equally good."""
    prefix = ip_network("203.0.113.66/32")

    def dropped(numbers: list[int]) -> bool:
        rib = LocRib(lambda _session, learned: (ACCEPTED, learned))
        sessions = {}
        for number, (may, _) in zip(numbers, peers, strict=False):
            one = session(f"10.0.0.{number}", allow_blackhole=may)
            sessions[one.peer_address] = one
        rib.set_sessions(sessions)
        for number, (_, asks) in zip(numbers, peers, strict=False):
            hop = ip_address(f"10.0.0.{number}")
            attributes = Attributes(communities=frozenset({BLACKHOLE} if asks else ()))
            rib.announce(hop, [Path(prefix, hop, attributes)])
        best: tuple[Candidate, ...] = rib.best(prefix, lambda _candidate: True)
        assert len(best) == len(peers)
        return discards(best)

    assert dropped(list(range(1, 5))) == dropped(order) == any(may and asks for may, asks in peers)


#: Prefixes close together, in and around what policy looks at below.
near = st.builds(
    lambda base, place, length: _prefix(base[0], base[1] + (place << base[2]), length + base[3]),
    st.sampled_from(
        [(4, 0x0A010000, 8, 0), (4, 0x0A020000, 8, 0), (4, 0xC0A80000, 8, 0), (6, 0xFD << 120, 88, 16)]
    ),
    st.integers(0, 7),
    st.sampled_from([12, 15, 16, 17, 22, 24, 24, 32]),
)
states = st.builds(
    lambda cidrs, networks, rules, bogons, default: (
        ClusterState(
            configuration=BgpConfiguration(
                imports=ImportPolicy(
                    cidrs=tuple(cidrs) if cidrs else None,
                    default_route=default,
                    bogons=Bogons(prefixes=bogons, private_prefixes=bogons),
                ),
                advertise=AdvertisePolicy(networks=tuple(networks)),
            ),
            nodes={"n1": Node("n1", blocks=(ip_network("10.1.4.0/24"), ip_network("fd00:0:400::/40")))},
        ),
        {"f": BgpFilter("f", imports=tuple(rules))},
    ),
    st.lists(near, max_size=2),
    st.lists(near, max_size=2),
    st.lists(
        st.builds(
            FilterRule,
            st.sampled_from(Action),
            cidr=st.one_of(st.none(), near),
            operator=st.sampled_from(PrefixOperator),
            min_length=st.one_of(st.none(), st.integers(0, 32)),
            operations=st.builds(Operations, local_preference=st.one_of(st.none(), st.integers(1, 2))),
        ),
        max_size=2,
    ),
    st.booleans(),
    st.booleans(),
)


@given(
    states,
    st.lists(near, min_size=24, max_size=60),
    st.booleans(),
    st.sampled_from(["10.0.0.9", "10.0.0.9", "10.0.0.77"]),
    st.booleans(),
)
def test_many_are_judged_as_each_is(
    declared: tuple[ClusterState, dict[str, BgpFilter]],
    drawn: list[Prefix],
    external: bool,
    hop: str,
    shutdown: bool,
) -> None:
    """Of prefixes of a block one stands for the others, unless policy might tell them apart."""
    state, filters = declared
    connected = (ip_network("10.0.0.0/24"),)
    protected = Protected.of(
        state, "n1", connected, frozenset({ip_address("10.1.9.1"), ip_address("fd00::7")})
    )
    peer = session(
        "10.0.0.9",
        peer_as=65001 if external else 64512,
        families=frozenset(Family),
        filters=("f",),
    )
    attributes = Attributes(communities=frozenset({GRACEFUL_SHUTDOWN} if shutdown else ()), med=7)
    for version in (4, 6):
        prefixes = tuple(prefix for prefix in drawn if prefix.version == version)
        said = Said(ip_address(hop), attributes, prefixes)
        each = ImportJudge(protected, filters)
        wanted = [each(peer, path) for path in said.paths()]
        found = list(ImportJudge(protected, filters).of_all(peer, said))
        assert found == [(judgement, path.attributes) for judgement, path in wanted]
