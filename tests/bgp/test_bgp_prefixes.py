"""Prefixes of learned routes are the same as anybody else's."""

from __future__ import annotations

import copy
import pickle
from ipaddress import ip_network
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3net.bgp.prefixes import parse_prefix
from l3net.model import Prefix


@given(
    st.one_of(st.ip_addresses(v=4).map(lambda a: (a, 32)), st.ip_addresses(v=6).map(lambda a: (a, 128))),
    st.data(),
)
def test_they_equal_the_plain_ones(address: tuple[object, int], data: st.DataObject) -> None:
    text = f"{address[0]}/{data.draw(st.integers(0, address[1]))}"
    plain: Prefix = ip_network(text, strict=False)
    ours = parse_prefix(text)
    assert (ours, hash(ours), str(ours)) == (plain, hash(plain), str(plain))
    assert {ours: 1}[plain] == {plain: 1}[ours] == 1
    assert ours.version == plain.version
    assert ours.broadcast_address == plain.broadcast_address
    if ours.prefixlen:
        assert ours.supernet() == plain.supernet()
    assert list(islice(ours.subnets(), 2)) == list(islice(plain.subnets(), 2))
    assert (ours.netmask, ours.num_addresses, ours < plain, ours.overlaps(plain)) == (
        *(plain.netmask, plain.num_addresses),
        *(False, True),
    )
    for again in (copy.copy(ours), copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):  # noqa: S301 - ours
        assert (again, hash(again)) == (plain, hash(plain))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0/8",
        "10.0.0.0.0/8",
        "10.0.0.256/32",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "::/129",
        "::/-1",
        "x::/8",
        "/8",
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_prefix(text)


def test_an_address_is_a_prefix_of_its_full_length() -> None:
    assert parse_prefix("10.0.0.1") == ip_network("10.0.0.1/32")
    assert parse_prefix("fd00::1") == ip_network("fd00::1/128")
