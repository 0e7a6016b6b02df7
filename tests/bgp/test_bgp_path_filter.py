"""Which paths are asked for: AS path patterns against Python's `re`, and what a question may say."""

from __future__ import annotations

import re
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3net.bgp.as_path_pattern import MOST_STATES, AsPathPattern
from l3net.bgp.path import Attributes
from l3net.bgp.path_filter import PathFilter
from l3net.bgp.segments import Segment, kept, runs, shown
from l3net.community import parse_community
from l3net.errors import ConfigError

FOUND = (
    *("65002", "_65002_", "^65001_", "_174$", "^65001 65002 174$", "_(1|174)_", "^[0-9]+ 65002", "6500."),
    *("^_65001", "(65001|9)( 65002)*_174", "174|9", ".*", "^65001( 65002)? 174?", "_174_$", "[^9] 174"),
)


def test_patterns_as_routers_take_them() -> None:
    path = Attributes(as_path=(65001, 65002, 174))
    for text in FOUND:
        assert AsPathPattern(text).found_in(path), text
    for text in ("_6500_", "^65002", "_65001$", "^$", "^(65001|65002)$", "_17_", "65002 65001", "[9]"):
        assert not AsPathPattern(text).found_in(path), text
    empty = Attributes()
    assert AsPathPattern("^$").found_in(empty) and not AsPathPattern("_1_").found_in(empty)


def test_sets_are_looked_for_as_they_are_shown() -> None:
    segments = ((Segment.AS_SEQUENCE, (1, 2)), (Segment.AS_SET, (3, 4)))
    path = Attributes(as_path=(1, 2, 3, 4), as_path_length=3, segments=kept(segments))
    assert shown(path) == "1 2 {3,4}" and tuple(runs(path)) == segments
    assert AsPathPattern("_3_").found_in(path) and AsPathPattern("2 {3,4}").found_in(path)
    longer = path.prepended((9, 9))
    assert shown(longer) == "9 9 1 2 {3,4}" and longer.as_path_length == 5
    inner = Attributes(as_path=(3, 4), as_path_length=1, segments=((1, 2),))
    assert shown(inner.prepended((7,))) == "7 {3,4}"
    assert kept([(Segment.AS_SEQUENCE, (1,))]) == () == kept([])


@pytest.mark.parametrize(
    "text", ["", "(", "a", "*1", "[", "[]", "[z]", "1)", "(1", "\\d", "1{2", "9" * 201, "_+\x02"]
)
def test_what_is_no_pattern_is_said_so(text: str) -> None:
    if text == "1{2":  # a brace is one of a set
        AsPathPattern(text)
        return
    with pytest.raises(ConfigError):
        AsPathPattern(text)


_ATOMS = st.sampled_from(["1", "2", " ", ".", "^", "$", "_", "[12]", "[^1]", "12"])
_PATTERNS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from("*+?")).map(lambda pair: f"({pair[0]}){pair[1]}"),
    ),
    max_leaves=8,
)


@given(_PATTERNS, st.lists(st.integers(1, 22), max_size=5))
def test_it_finds_what_a_regular_expression_finds(text: str, numbers: list[int]) -> None:
    """`re` on the same: an anchor may stand where nothing is read, so that `^` and `$` are marks here too."""
    path = Attributes(as_path=tuple(numbers))
    marked = f"<<{' '.join(map(str, numbers))}>>"
    translated = text.replace("[^1]", "[^1<>]").replace(".", "[^<>]").replace("_", "[ <>]")
    translated = re.sub(r"(?<!\[)\^", "<", translated).replace("$", ">")
    assert AsPathPattern(text).found_in(path) == bool(re.search(translated, marked))


def test_a_pattern_that_takes_re_for_ever_reads_each_character_once() -> None:
    pattern = AsPathPattern("^((1*)*)*((1|1 )*)*2$")
    path = Attributes(as_path=(1,) * 400)
    assert not pattern.found_in(path)
    assert len(pattern._known) < 50 < MOST_STATES


def test_a_question_in_words() -> None:
    found = PathFilter.of(
        {"prefix": "10.1.2.3/8", "community": "65001:1 no-export", "asPath": "65001", "peer": "FD90:0::2"}
    )
    assert found.prefix == ip_network("10.0.0.0/8") and found.as_number == 65001
    assert found.wants_peer(ip_network("fd90::2/128").network_address, "tor") and found.peer == "fd90::2"
    carried = frozenset(map(parse_community, ("65001:1", "no-export", "1:1")))
    assert found.wants(Attributes(as_path=(65001,), communities=carried))
    assert not found.wants(Attributes(as_path=(65001,), communities=frozenset({parse_community("65001:1")})))
    assert not found.wants(Attributes(as_path=(6500, 1), communities=carried))
    assert list(map(str, PathFilter.of({"prefix": "0.0.0.1"}).looked_up()))[::31] == [
        "0.0.0.1/32",
        "0.0.0.0/1",
    ]
    assert len(list(PathFilter.of({"prefix": "fd00::1"}).looked_up())) == 129
    inside = PathFilter.of({"prefix": "10.0.0.0/8", "longer": True})
    assert inside.wants_prefix(ip_network("10.9.0.0/16")) and not inside.wants_prefix(
        ip_network("11.0.0.0/16")
    )
    assert list(inside.looked_up()) == [] == list(PathFilter().looked_up())


@pytest.mark.parametrize(
    "asked",
    [
        *({"prefix": "10.0.0.0/33"}, {"prefix": "fe80::1%eth0"}, {"community": "x"}, {"asPath": "(("}),
        *({"colour": "red"}, {"peer": 3}, {"best": "yes"}, {"longer": True}),
        *({"rejected": True, "best": True}, {"best": True, "advertised": True}),
        {"rejected": True, "advertised": True},
    ],
)
def test_a_wrong_question_is_refused(asked: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        PathFilter.of(asked)
