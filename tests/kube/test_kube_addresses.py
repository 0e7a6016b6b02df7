"""Addresses out of text are the same as anybody else's."""

from __future__ import annotations

import copy
import pickle
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3net.addresses import host_prefix, parse_address


@given(st.ip_addresses())
def test_they_equal_the_plain_ones(plain: IPv4Address | IPv6Address) -> None:
    for ours in (parse_address(str(plain)), parse_address(plain.exploded)):
        assert (ours, hash(ours), str(ours), repr(ours)) == (plain, hash(plain), str(plain), repr(plain))
        assert {ours: 1}[plain] == {plain: 1}[ours] == 1
        assert (ours.version, ours.packed, int(ours)) == (plain.version, plain.packed, int(plain))
        assert (f"{ours}", f"{ours:x}", str(ours)) == (f"{plain}", f"{plain:x}", str(plain))
        assert ours + 0 == plain
        for again in (copy.copy(ours), copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):  # noqa: S301
            assert (again, hash(again)) == (plain, hash(plain))


@given(st.ip_addresses())
def test_so_do_their_prefixes(plain: IPv4Address | IPv6Address) -> None:
    network = IPv4Network(plain) if isinstance(plain, IPv4Address) else IPv6Network(plain)
    for ours in (host_prefix(plain), host_prefix(parse_address(str(plain)))):
        assert (ours, hash(ours), str(ours), repr(ours)) == (
            network,
            hash(network),
            str(network),
            repr(network),
        )
        assert {ours: 1}[network] == {network: 1}[ours] == 1
        assert (ours.prefixlen, ours.netmask, ours.broadcast_address) == (
            *(network.prefixlen, network.netmask),
            network.broadcast_address,
        )
        assert list(ours.hosts()) == list(network.hosts()) == [plain]
        assert (ours.supernet(), list(ours.subnets())) == (network.supernet(), list(network.subnets()))
        for again in (copy.copy(ours), copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):  # noqa: S301
            assert (again, hash(again)) == (network, hash(network))


_PIECES = st.sampled_from(["0", "1", "01", "00", "255", "256", "+1", "-1", " 1", "1_0", "\u0661", "a", ""])


@given(
    st.one_of(
        st.lists(_PIECES, min_size=3, max_size=5).map(".".join),
        st.lists(st.sampled_from(["0", "ffff", "g", "", "00001", "1.2.3.4"]), max_size=9).map(":".join),
        st.text(max_size=8),
    )
)
def test_what_is_none_is_refused_in_the_same_words(text: str) -> None:
    try:
        expected = ip_address(text)
    except ValueError as err:
        with pytest.raises(ValueError) as raised:
            parse_address(text)
        assert "%" in text or str(raised.value) == str(err)
    else:
        assert "%" in text or parse_address(text) == expected


@pytest.mark.parametrize("text", ["fe80::1%eth0", "1.2.3.4\n", "1.2.3.4 ", "1.2.3"])
def test_zones_and_blanks_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)
