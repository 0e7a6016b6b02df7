"""UPDATEs read in one go say what ExaBGP's own reading of them says, and are refused as it refuses them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest
from exabgp.bgp.message import Action, Notify, Update
from exabgp.bgp.message.direction import Direction
from exabgp.bgp.message.update.attribute import MPRNLRI, MPURNLRI
from exabgp.bgp.message.update.nlri import NLRI
from exabgp.environment import getenv
from exabgp.logger import log
from exabgp.protocol.family import AFI, SAFI
from exabgp.reactor.api.response.json import JSON
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from l3net.bgp.events import Updated
from l3net.bgp.exabgp.decoder import Decoder
from l3net.shell.speaker import exabgp_packed, exabgp_received
from l3net.shell.speaker.exabgp_keys import key_of, keys_of, nlri_of, octets_of
from l3net.shell.speaker.exabgp_packed import Whole

ORIGIN = bytes.fromhex("40010100")
AS_PATH = bytes.fromhex("4002060201") + struct.pack("!I", 65002)
NEXT_HOP = bytes.fromhex("400304c0000201")


class Paths:
    """Families with path identifiers (RFC 7911)."""

    def __init__(self, *families: int) -> None:
        self._families = families

    def receive(self, afi: int, _safi: int) -> bool:
        return afi in self._families


def negotiated(*paths: int) -> Any:
    return SimpleNamespace(
        families=[(AFI.ipv4, SAFI.unicast), (AFI.ipv6, SAFI.unicast)],
        addpath=Paths(*paths),
        nexthop=[(AFI.ipv4, SAFI.unicast, AFI.ipv6)],
        asn4=True,
        cached_wire=b"",
        cached_attributes=None,
        local_as=65001,
        peer_as=65002,
        aigp=False,
        neighbor=None,
    )


class Ours:
    """ExaBGP as it is, and as we change it, in one process."""

    def __init__(self) -> None:
        self.plain = Update.unpack_message.__func__
        self.tell = JSON._update
        self._was = [(kind, kind.__dict__["unpack"]) for kind in (MPRNLRI, MPURNLRI)]
        self._update = Update.__dict__["unpack_message"]
        exabgp_packed.install()
        log.init(getenv())

    def restore(self) -> None:
        for kind, unpack in self._was:
            kind.unpack = unpack
        Update.unpack_message, JSON._update = self._update, self.tell
        exabgp_packed.Form.packed = False


@pytest.fixture
def ours() -> Iterator[Ours]:
    found = Ours()
    yield found
    found.restore()


def said(message: Any) -> tuple[set[Any], ...]:
    """What an agent learns of an event's `message`."""
    line = json.dumps({"type": "update", "neighbor": {"address": {"peer": "192.0.2.1"}, "message": message}})
    decoder = Decoder()
    found = decoder.decode(line.encode())
    assert decoder.undecodable == 0
    if not isinstance(found, Updated):
        return (set(),)
    paths = {(path.prefix, path.path_id): path for path in found.announced}
    assert len(paths) == len(set(paths.values()))
    return set(paths.values()), set(found.withdrawn), set(found.withdrawn_paths)


def read(read: Any, tell: Any, data: bytes, *paths: int) -> Any:
    """What becomes of an UPDATE: an event's words, or the NOTIFICATION, or the name of another error."""
    encoder = JSON("5.0.15")
    try:
        update = read(Update, data, Direction.IN, negotiated(*paths))
    except Notify as err:
        return err.code, err.subcode, err.data
    except Exception as err:
        return type(err).__name__
    return json.loads(tell(encoder, update)["message"])


def attribute(flags: int, code: int, value: bytes) -> bytes:
    return struct.pack("!BBH", flags | 0x10, code, len(value)) + value


def field(octets: bytes) -> bytes:
    return struct.pack("!H", len(octets)) + octets


def nlri(version: int, number: int, length: int, *, cut: int = 0) -> bytes:
    width = 32 if version == 4 else 128
    packed = (number & (1 << width) - 1).to_bytes(width // 8, "big")[: (min(length, width) + 7) // 8]
    return bytes((length,)) + packed[: len(packed) - cut]


def nlris(version: int) -> st.SearchStrategy[bytes]:
    """Some prefixes, a few of them twice; seldom malformed."""
    width = 32 if version == 4 else 128
    good = st.builds(
        nlri, st.just(version), st.integers(0, 7).map(lambda each: each << width - 8), st.integers(0, width)
    )
    bad = st.one_of(
        st.just(bytes((width + 1,)) + bytes(width // 8 + 1)),
        st.builds(nlri, st.just(version), st.integers(0, 7), st.just(24), cut=st.just(1)),
    )
    usual = st.lists(good, max_size=6).map(b"".join)
    return st.one_of(usual, usual, usual, st.tuples(usual, bad).map(b"".join))


HOPS = ["192.0.2.9", "fd00::9"]


def reach(version: int, prefixes: bytes, hops: tuple[str, ...]) -> bytes:
    packed = b"".join(ip_address(hop).packed for hop in hops)
    head = struct.pack("!HBB", 1 if version == 4 else 2, 1, len(packed))
    return attribute(0x80, 14, head + packed + b"\0" + prefixes)


def unreach(version: int, prefixes: bytes) -> bytes:
    return attribute(0x80, 15, struct.pack("!HB", 1 if version == 4 else 2, 1) + prefixes)


both = st.sampled_from([4, 6])
reaches = both.flatmap(
    lambda version: st.builds(
        reach,
        st.just(version),
        nlris(version),
        st.sampled_from([("fd00::9",), ("fd00::9", "fe80::9"), ("fe80::9", "fe80::9"), ("192.0.2.9",), ()]),
    )
)
unreaches = both.flatmap(lambda version: st.builds(unreach, st.just(version), nlris(version)))
OTHERS = [
    b"",
    attribute(0x80, 4, struct.pack("!I", 7)),
    attribute(0xC0, 8, bytes.fromhex("fde80007")),
    attribute(0x80, 4, b"\0\1"),  # malformed: treat-as-withdraw (RFC 7606)
    attribute(0xC0, 7, b"\0\0\1"),  # malformed: the attribute is discarded
    attribute(0xC0, 99, b"\1\2"),
]
updates = st.builds(
    lambda gone, base, other, at, un, new: field(gone) + field(base + other + at + un) + new,
    nlris(4),
    st.sampled_from([ORIGIN + AS_PATH + NEXT_HOP, ORIGIN + AS_PATH, AS_PATH + NEXT_HOP, b""]),
    st.sampled_from(OTHERS),
    st.one_of(st.just(b""), reaches),
    st.one_of(st.just(b""), unreaches),
    nlris(4),
)


#: IPv4 prefixes both in the UPDATE's own field and in MP_REACH_NLRI, with other next hops (RFC 8950).
TWICE = field(b"") + field(ORIGIN + AS_PATH + NEXT_HOP + reach(4, b"\x08\5", ("fd00::9",))) + b"\x08\6"


@example(TWICE, True, ())
@example(TWICE, False, ())
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(updates, st.booleans(), st.sampled_from([(), (1,), (2,)]))
def test_it_says_what_exabgp_says(ours: Ours, data: bytes, packed: bool, paths: tuple[int, ...]) -> None:
    exabgp_packed.Form.packed = packed
    wanted = read(ours.plain, ours.tell, data, *paths)
    found = read(Update.unpack_message.__func__, JSON._update, data, *paths)
    if not isinstance(wanted, dict) or "update" not in wanted:
        assert found == wanted
        return
    assert found["update"].get("attribute") == wanted["update"].get("attribute")
    assert said(found) == said(wanted)


def test_the_prefixes_are_octets_and_no_objects(ours: Ours) -> None:
    """What is measured: without this, all above would hold of ExaBGP's own way too."""
    many = b"".join(nlri(4, number << 8, 24) for number in range(500))
    six = b"".join(nlri(6, number << 80, 48) for number in range(100))
    attributes = ORIGIN + AS_PATH + NEXT_HOP + reach(6, six, ("fd00::9",)) + unreach(6, nlri(6, 1 << 120, 8))
    update = Update.unpack_message(
        field(nlri(4, 0, 8)) + field(attributes) + many, Direction.IN, negotiated()
    )
    assert type(update) is Whole
    assert update.nlris == []
    exabgp_packed.Form.packed = True
    told = json.loads(JSON._update(JSON("5.0.15"), update)["message"])["update"]
    assert told["announce"] == {
        "ipv4 unicast": {"192.0.2.1": many.hex()},
        "ipv6 unicast": {"fd00::9": six.hex()},
    }
    assert told["withdraw"] == {"ipv4 unicast": "0800", "ipv6 unicast": "0801"}


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(updates)
def test_it_is_held_as_exabgps_own_reading_is(ours: Ours, data: bytes) -> None:
    tables = []
    for unpack in (ours.plain, Update.unpack_message.__func__):
        try:
            update = unpack(Update, data, Direction.IN, negotiated())
        except Exception:
            return
        held = exabgp_received.AdjRibIn()
        take = held.take_whole if type(update) is Whole else held.take
        if isinstance(update, Update):
            take(update)
        tables.append(
            {
                (family, key): (what.attributes, set(what.hops))
                for family, table in held.tables.items()
                for key, what in table.held.items()
            }
        )
    assert tables[0] == tables[1]


@given(both, st.lists(st.tuples(st.integers(0, (1 << 128) - 1), st.integers(0, 128)), max_size=9))
def test_keys_are_those_of_exabgps_prefixes(version: int, drawn: list[tuple[int, int]]) -> None:
    family, width = (1, 32) if version == 4 else (2, 128)
    octets = b"".join(nlri(version, number, min(length, width)) for number, length in drawn)
    keys = keys_of(family, octets)
    assert keys is not None
    log.init(getenv())
    plain, left = [], octets
    while left:
        one, left = NLRI.unpack_nlri(AFI.create(family), SAFI.unicast, left, Action.ANNOUNCE, False)
        plain.append(one)
    assert keys == [key_of(each) for each in plain]
    again = keys_of(family, octets_of(keys))
    assert again == keys
    assert len({nlri_of(family, key) for key in keys}) == len(set(keys))
