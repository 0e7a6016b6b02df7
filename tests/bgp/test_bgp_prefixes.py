"""Prefixes of learned routes are the same as anybody else's."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3net.addresses import host_prefix
from l3net.bgp.path import Attributes, Path, path_to
from l3net.bgp.prefixes import parse_prefix, unpacked
from l3net.model import Address, Prefix


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


@st.composite
def fields(draw: st.DrawFn, version: int) -> tuple[bytes, list[Prefix]]:
    """NLRI as they stand in an UPDATE, with bits beyond the length, and what they are."""
    width = 32 if version == 4 else 128
    octets, plain = b"", []
    for _ in range(draw(st.integers(0, 6))):
        length = draw(st.integers(0, width))
        packed = draw(st.binary(min_size=(length + 7) // 8, max_size=(length + 7) // 8))
        octets += bytes((length,)) + packed
        address = int.from_bytes(packed + bytes(width // 8 - len(packed)))
        kind = IPv4Network if version == 4 else IPv6Network
        plain.append(kind((address, length), strict=False))
    return octets, plain


@pytest.mark.parametrize("version", [4, 6])
@given(st.data())
def test_octets_are_the_prefixes_they_stand_for(version: int, data: st.DataObject) -> None:
    octets, plain = data.draw(fields(version))
    ours = unpacked(octets, version)
    assert ours == plain
    assert [(hash(each), str(each)) for each in ours] == [(hash(each), str(each)) for each in plain]
    assert sorted(ours) == sorted(plain)
    if octets:
        with pytest.raises(ValueError):
            unpacked(octets + bytes((9,)), version)
        with pytest.raises(ValueError):
            unpacked(octets + bytes((129,)) + bytes(17), version)


@given(*(st.tuples(st.integers(0, 3).map(lambda n: n << 30), st.integers(0, 3)),) * 2)
def test_none_is_taken_for_the_number_it_is(one: tuple[int, int], other: tuple[int, int]) -> None:
    """The classes are numbers for the sake of their hash, which different prefixes may share."""
    plain = [IPv4Network(each, strict=False) for each in (one, other)]
    ours = [parse_prefix(str(each)) for each in plain]
    for left, right in ((ours[0], ours[1]), (ours[0], plain[1]), (plain[0], ours[1])):
        assert (left == right, left != right) == (plain[0] == plain[1], plain[0] != plain[1])
        assert (left < right, left <= right, left > right, left >= right) == (
            *(plain[0] < plain[1], plain[0] <= plain[1], plain[0] > plain[1], plain[0] >= plain[1]),
        )
    prefix: object = ours[0]
    assert prefix
    assert f"{prefix}" == str(plain[0])
    number = hash(prefix)
    assert not (prefix == number or number == prefix)
    assert prefix != number
    assert number != prefix
    with pytest.raises(TypeError):
        format(prefix, "d")
    six = parse_prefix("::/0")
    assert prefix != six
    assert six != prefix


@pytest.mark.parametrize("width", [32, 128])
@given(st.data())
def test_prefixes_of_one_hash_are_told_apart(width: int, data: st.DataObject) -> None:
    """10.0.0.0/8 and 10.255.0.0/16 have one hash, as any whose bits between their lengths are all ones."""
    short, long = sorted(data.draw(st.lists(st.integers(0, width), min_size=2, max_size=2, unique=True)))
    address = data.draw(st.integers(0, (1 << short) - 1)) << width - short
    ones = (1 << width - short) - (1 << width - long)
    kind = IPv4Network if width == 32 else IPv6Network
    one, other = kind((address, short)), kind((address | ones, long))
    assert hash(one) == hash(other)
    ours = [parse_prefix(str(each)) for each in (one, other)]
    assert ours[0] != ours[1]
    assert {ours[0]: 1}.get(ours[1]) is None
    assert {one: 1}.get(ours[1]) is None
    assert {ours[0]: 1}.get(other) is None


@given(st.ip_addresses(), st.ip_addresses())
def test_learned_and_host_prefixes_equal_each_other(one: Address, other: Address) -> None:
    for address in (one, other):
        learned = parse_prefix(str(address))
        assert (host_prefix(one) == learned, learned == host_prefix(one)) == (one == address,) * 2
        assert ({learned: 1}.get(host_prefix(one)) is not None) is (one == address)


def test_a_path_filled_in_is_a_path() -> None:
    prefix, hop = parse_prefix("203.0.113.0/24"), ip_address("192.0.2.1")
    plain, made = Path(prefix, hop, Attributes(), "1"), path_to(prefix, hop, Attributes(), "1")
    assert (plain, hash(plain), type(plain)) == (made, hash(made), type(made))
    with pytest.raises(FrozenInstanceError):
        made.path_id = "2"  # type: ignore[misc]
