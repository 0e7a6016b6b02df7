"""Filters of many prefixes at a time say what they say of each."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from bgp_facts import session
from hypothesis import given
from hypothesis import strategies as st

from l3net.addresses import host_prefix, parse_address
from l3net.bgp.adj_rib_out import adj_rib_out, export_verdict
from l3net.bgp.drain import Stage
from l3net.bgp.filters import Alike, run_filters
from l3net.bgp.path import Attributes, Path
from l3net.bgp.verdict import Export, Verdict
from l3net.community import AnyCommunity, parse_community
from l3net.model import Action, BgpFilter, ClusterState, Family, FilterRule, Operations, PrefixOperator

COMMUNITIES = st.frozensets(st.sampled_from([parse_community("64512:1"), parse_community("64512:2")]))
PREFIXES = st.sampled_from(
    [
        *map(
            ip_network, ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "11.0.0.0/8", "fd00::/16", "fd00::1/128")
        ),
        *(host_prefix(parse_address(text)) for text in ("10.1.2.3", "10.1.2.4", "fd00::1")),
    ]
)
LENGTHS = st.none() | st.sampled_from([8, 16, 32])
OPERATIONS = st.builds(
    Operations,
    add_communities=COMMUNITIES,
    prepend=st.sampled_from([(), (64512,)]),
    med=st.none() | st.just(7),
)
RULES = st.builds(
    FilterRule,
    st.sampled_from(Action),
    cidr=st.none() | PREFIXES,
    operator=st.sampled_from(PrefixOperator),
    min_length=LENGTHS,
    max_length=LENGTHS,
    external=st.none() | st.booleans(),
    communities=COMMUNITIES,
    as_path_prefix=st.sampled_from([(), (64512,)]),
    operations=OPERATIONS,
)
FILTERS = st.dictionaries(st.sampled_from("abc"), st.lists(RULES, max_size=4).map(tuple)).map(
    lambda found: {name: BgpFilter(name, imports=rules, exports=rules) for name, rules in found.items()}
)
NAMES = st.lists(st.sampled_from("abc"), max_size=3, unique=True).map(tuple)


@given(FILTERS, NAMES, COMMUNITIES, st.sets(PREFIXES), st.booleans())
def test_they_say_the_same(
    filters: dict[str, BgpFilter],
    names: tuple[str, ...],
    communities: frozenset[AnyCommunity],
    prefixes: set[object],
    importing: bool,
) -> None:
    peer = session(filters=names)
    attributes = Attributes(communities=communities)
    alike = Alike(filters, peer, attributes, importing=importing)
    for prefix in prefixes:
        path = Path(prefix, ip_address("10.0.0.2"), attributes)  # type: ignore[arg-type]
        judgement, after = run_filters(filters, peer, path, importing=importing)
        assert alike.run(path.prefix) == (judgement, after.attributes)


@given(FILTERS, NAMES, st.sets(PREFIXES), st.sets(st.sampled_from(Family)), st.sets(st.sampled_from(Family)))
def test_what_a_peer_hears_is_what_each_verdict_says(
    filters: dict[str, BgpFilter],
    names: tuple[str, ...],
    prefixes: set[object],
    families: set[Family],
    with_hops: set[Family],
) -> None:
    hops = {Family.IPV4: ip_address("10.0.0.2"), Family.IPV6: ip_address("fd00::2")}
    hops = {family: hop for family, hop in hops.items() if family in with_hops}
    peer = session(filters=names, families=frozenset(families), next_hops=hops)
    state = ClusterState(filters=filters)
    wanted = adj_rib_out(state, peer, prefixes)  # type: ignore[arg-type]
    attributes = Attributes(communities=state.configuration.advertise.communities)
    for prefix in prefixes:
        family = Family(prefix.version)  # type: ignore[attr-defined]
        export, by = export_verdict(state, peer, prefix, Stage.NONE, mesh=True)  # type: ignore[arg-type]
        expected: tuple[Export, str] = Export.ANNOUNCED, ""
        if family not in families:
            expected = Export.FAMILY_NOT_NEGOTIATED, ""
        elif family not in hops:
            expected = Export.NO_NEXT_HOP, ""
        else:
            path = Path(prefix, hops[family], attributes)  # type: ignore[arg-type]
            judgement, path = run_filters(filters, peer, path, importing=False)
            if judgement.verdict is not Verdict.ACCEPTED:
                expected = Export.FILTERED, judgement.by
            else:
                assert wanted[path.prefix] == path
        assert (export, by) == expected
        assert (prefix in wanted) is (export is Export.ANNOUNCED)
