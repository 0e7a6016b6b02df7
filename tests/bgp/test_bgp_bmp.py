"""BMP messages, and what a collector ends with, whatever happens while it is slow."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterable
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path as FilePath

import pytest
from bgp_facts import path, session
from bmp_reader import Collected
from hypothesis import given, settings
from hypothesis import strategies as st

from l3net.bgp.bmp import feed as feeds
from l3net.bgp.bmp.ending import why_down
from l3net.bgp.bmp.feed import Feed, StillStale
from l3net.bgp.bmp.messages import (
    Monitored,
    Opens,
    initiation,
    peer_down,
    peer_up,
    route_monitoring,
    statistics,
    termination,
)
from l3net.bgp.path import Attributes, Path
from l3net.bgp.peer_reasons import SPEAKER_LOST, Reset
from l3net.bgp.peer_states import State
from l3net.bgp.peering import Peering
from l3net.bgp.segments import Segment, kept
from l3net.bgp.wire.messages import announcements, end_of_rib, made_up_open, notification, withdrawals
from l3net.community import parse_community
from l3net.model import Address, Prefix
from l3net.notification import Notification

AT = 1_700_000_000.25
TOR4 = Monitored(ip_address("10.0.0.1"), 4_200_000_001, IPv4Address("192.0.2.1"))
TOR6 = Monitored(ip_address("fd00::1"), 65001, IPv4Address("192.0.2.1"))
OPENS = Opens(
    made_up_open(64512, 90, IPv4Address("10.0.0.2").packed, (4, 6)),
    made_up_open(4_200_000_001, 9, IPv4Address("192.0.2.1").packed, (4,)),
    *(ip_address("10.0.0.2"), 40000, 179),
)
COMMUNITIES = frozenset(map(parse_community, ("65001:2", "4200000001:1:2", "rt:65001:7")))
FULL = Attributes(
    as_path=(4_200_000_001, 7, 8),
    as_path_length=3,
    segments=kept([(Segment.AS_SEQUENCE, (4_200_000_001, 7)), (Segment.AS_SET, (8,))]),
    med=50,
    communities=COMMUNITIES,
)


def every_message() -> list[bytes]:
    four, six = ip_network("192.0.2.0/25"), ip_network("2001:db8::/47")
    hop4, hop6 = ip_address("10.0.0.1"), ip_address("fd00::1")
    told = [initiation("n1", "l3net"), peer_up(TOR4, OPENS, AT), peer_up(TOR6, OPENS, AT)]
    for peer, prefix, hop in ((TOR4, four, hop4), (TOR6, six, hop6), (TOR6, four, hop6)):
        (update,) = announcements(FULL, hop, [(prefix, "")])
        told += [route_monitoring(peer, update, AT, out=out) for out in (False, True)]
    told += [route_monitoring(TOR6, end_of_rib(version), AT, out=False) for version in (4, 6)]
    for prefix in (four, six):
        (update,) = withdrawals([(prefix, "")])
        told.append(route_monitoring(TOR6, update, AT, out=True))
    told.append(statistics(TOR4, AT, {4: 3, 6: 1}, {4: 2}))
    told.append(peer_down(TOR4, bytes([3]) + notification(6, 2, "bye"), AT))
    return [*told, peer_down(TOR6, why_down(None), AT), termination()]


def test_every_message_is_read_as_it_was_meant() -> None:
    found = Collected(b"".join(every_message()[:-3]))
    assert found.initiation == {1: "l3net", 2: "n1"}
    four, six = found.peers["10.0.0.1"], found.peers["fd00::1"]
    assert four.opens == (OPENS.sent, OPENS.received) and four.ports == (40000, 179)
    assert six.ends == [(False, 4), (False, 6)] and four.times == [AT, AT]
    assert found.prefixes("fd00::1") == {"192.0.2.0/25", "2001:db8::/47"}
    assert found.prefixes("fd00::1", out=True) == set()
    attributes = four.tables[False, ip_network("192.0.2.0/25"), ""]
    assert attributes[2] == struct.pack("!BBLLBBL", 2, 2, 4_200_000_001, 7, 1, 1, 8)
    assert attributes[3] == ip_address("10.0.0.1").packed and attributes[4] == struct.pack("!L", 50)
    assert four.statistics == {7: 4, (9, 0, 1, 1): 3, (9, 0, 2, 1): 1, 15: 2, (17, 0, 1, 1): 2}
    ended = Collected(b"".join(every_message()))
    assert ended.terminated == 0 and not ended.peers["10.0.0.1"].up
    assert ended.peers["10.0.0.1"].downs == [b"\x03" + notification(6, 2, "bye")]


SHOWN = (
    *("Type: Initiation Message (4)", "Type: Termination Message (5)", "Type: Statistics Report (1)"),
    *("Reason: Remote System, Notification (3)", "(Configuration reasons) (5)", "4200000001 7 {8}"),
    *("192.0.2.0/25", "2001:db8::/47", "Number of routes in post-policy Adj-RIBs-Out: 2", "Adj-RIB-Out: Set"),
    *("Shutdown Communication: bye", "My AS: 23456 (AS_TRANS)", "Large communities: 4200000001:1:2"),
)


def test_tshark_reads_the_same(tmp_path: FilePath) -> None:
    """A decoder that nobody here has written."""
    if shutil.which("tshark") is None or shutil.which("text2pcap") is None:
        pytest.skip("needs tshark")
    octets = b"".join(every_message())
    rows = [octets[at : at + 16].hex(" ") for at in range(0, len(octets), 16)]
    text = "\n".join(f"{16 * number:06x} {row}" for number, row in enumerate(rows))
    pcap = tmp_path / "bmp.pcap"
    subprocess.run(["text2pcap", "-q", "-T", "40000,1790", "-", pcap], input=text, text=True, check=True)
    argv = ["tshark", "-r", pcap, "-d", "tcp.port==1790,bmp", "-V"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "Malformed" not in told and "Unknown" not in told.replace("Unknown (0x00)", "")
    for words in SHOWN:
        assert words in told, words


def down(**how: object) -> bytes:
    peer = Peering(session(), since=0.0)
    peer.state = State.IDLE
    for name, value in how.items():
        setattr(peer, name, value)
    return why_down(peer)


def test_why_a_session_ended() -> None:
    received = Notification(6, 4, received=True)
    assert down(last_reset=Reset(0, "x", received, "new policy")) == b"\x03" + notification(
        6, 4, "new policy"
    )
    assert down(last_reset=Reset(0, "x", Notification(4, 0, False), "no")) == b"\x01" + notification(4, 0)
    assert down(last_reset=Reset(0, "connection reset")) == b"\x04"
    assert down(reason=SPEAKER_LOST, last_reset=Reset(0, "of long ago", received)) == b"\x02\0\0"
    assert down(state=State.CLOSING, last_reset=Reset(0, "BFD down")) == b"\x02\0\0"
    assert down(parted=True) == b"\x01" + notification(6, 2)
    assert why_down(None) == b"\x05"


def test_what_has_no_room_in_one_update_is_told_in_several() -> None:
    prefixes = [ip_network((0x64000000 + 256 * number, 24)) for number in range(3000)]
    updates = list(announcements(FULL, ip_address("10.0.0.1"), [(each, "") for each in prefixes]))
    updates += announcements(FULL, ip_address("fd00::1"), [(each, "") for each in prefixes])
    assert len(updates) > 6 and max(map(len, updates)) <= 4096
    assert sum(map(len, withdrawals([(each, "") for each in prefixes]))) > 4 * 3000
    longest = Attributes(as_path=tuple(range(1, 400)), communities=frozenset(
        parse_community(f"1:{number}") for number in range(500)))  # fmt: skip
    (update,) = announcements(longest, ip_address("10.0.0.1"), [(prefixes[0], "")])
    assert len(update) <= 4096


class Tables(dict[tuple[Address, bool, Prefix, str], Path]):
    """feed.Ribs"""

    stale: frozenset[Prefix] = frozenset()

    def path(self, peer: Address, prefix: Prefix, path_id: str, *, out: bool) -> Path | None:
        if prefix in self.stale:
            raise StillStale
        return self.get((peer, out, prefix, path_id))

    def complete(self, peer: Address, version: int, *, out: bool) -> bool:
        return True

    def of(self, peer: Address) -> dict[tuple[bool, int, str], list[Prefix]]:
        found: dict[tuple[bool, int, str], list[Prefix]] = {}
        for address, out, prefix, path_id in self:
            if address == peer:
                found.setdefault((out, prefix.version, path_id), []).append(prefix)
        return found


PREFIXES = [ip_network(f"10.{number}.0.0/16") for number in range(6)] + [
    ip_network(f"fd00:{n}::/32") for n in (1, 2)
]
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"),
            st.sampled_from([TOR4, TOR6]),
            st.booleans(),
            st.sampled_from(PREFIXES),
            st.integers(1, 3),
        ),
        st.tuples(st.just("gone"), st.sampled_from([TOR4, TOR6]), st.booleans(), st.sampled_from(PREFIXES)),
        st.tuples(st.sampled_from(["up", "down", "tell"]), st.sampled_from([TOR4, TOR6])),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_a_collector_ends_with_what_there_is(steps: list[tuple[object, ...]]) -> None:
    """Whatever came in whatever order, and however seldom it was told."""
    tables, told = Tables(), bytearray(initiation("n1", "x"))
    feed = Feed(tables)
    up: set[Address] = set()
    for kind, peer, *rest in steps:
        assert isinstance(peer, Monitored)
        address = peer.address
        match kind, rest:
            case "put", (bool() as out, prefix, int() as number):
                hop = "10.0.0.9" if prefix.version == 4 else "fd00::9"  # type: ignore[attr-defined]
                tables[address, out, prefix, ""] = path(str(prefix), hop, as_path=(number,))  # type: ignore[index]
                feed.changed(address, [prefix], out=out)  # type: ignore[list-item]
            case "gone", (bool() as out, prefix):
                tables.pop((address, out, prefix, ""), None)  # type: ignore[arg-type]
                feed.changed(address, [prefix], out=out)  # type: ignore[list-item]
            case "up", _ if address not in up:
                up.add(address)
                feed.up(peer, peer_up(peer, OPENS, AT), (4, 6), tables.of(address))
            case "down", _ if address in up:
                up.discard(address)
                feed.down(address, peer_down(peer, why_down(None), AT))
            case "tell", _:
                told += feed.next(AT)
    while not feed.idle:
        told += feed.next(AT)
    told += feed.next(AT)
    found = Collected(bytes(told))
    wanted = {
        (str(address), out, prefix): each.attributes.as_path
        for (address, out, prefix, _), each in tables.items()
        if address in up
    }
    got = {
        (peer, out, prefix): struct.unpack("!xxL", attributes[2])
        for peer, state in found.peers.items()
        for (out, prefix, _), attributes in state.tables.items()
    }
    assert got == wanted and {peer for peer, state in found.peers.items() if state.up} == set(map(str, up))
    for address in up:
        assert sorted(found.peers[str(address)].ends[-4:]) == [(False, 4), (False, 6), (True, 4), (True, 6)]
    assert feed.waiting == 0 and not feed.overrun


def test_the_last_word_is_told_and_no_more_waits_than_prefixes() -> None:
    tables = Tables()
    feed = Feed(tables)
    feed.up(TOR4, peer_up(TOR4, OPENS, AT), (4,), {})
    prefix = ip_network("10.0.0.0/8")
    for number in range(1, 5000):
        tables[TOR4.address, False, prefix, ""] = path("10.0.0.0/8", as_path=(number,))
        feed.changed(TOR4.address, [prefix], out=False)
    assert feed.waiting == 1
    found = Collected(initiation("n1", "") + feed.next(AT) + feed.next(AT))
    assert found.peers["10.0.0.1"].tables[False, prefix, ""][2] == struct.pack("!BBL", 2, 1, 4999)
    tables.stale = frozenset({prefix})
    feed.changed(TOR4.address, [prefix], out=False)
    assert feed.next(AT) == b"" and feed.idle, "of a stale path nothing is said"


def test_a_collector_that_falls_behind_begins_anew() -> None:
    def prefixes(start: int, count: int) -> Iterable[Prefix]:
        return (ip_network((0x0A000000 + 256 * number, 24)) for number in range(start, start + count))

    feed = Feed(Tables(), most=100)
    feed.up(TOR4, b"", (4,), {(False, 4, ""): list(prefixes(0, 1000))})
    assert feed.waiting == 1000 and not feed.overrun, "what there is may wait, however much"
    feed.changed(TOR4.address, prefixes(1000, 100), out=False)
    assert not feed.overrun
    feed.changed(TOR4.address, prefixes(1100, 1), out=False)
    assert feed.overrun
    other = Feed(Tables())
    for _ in range(feeds.MOST_MESSAGES + 1):
        other.say(b"x")
    assert other.overrun


def test_paths_with_identifiers_are_told_apart() -> None:
    """RFC 7911: the OPENs say that prefixes have them."""
    tables, prefix = Tables(), ip_network("10.0.0.0/8")
    feed = Feed(tables)
    for number in (1, 2):
        tables[TOR4.address, False, prefix, f"0.0.0.{number}"] = path("10.0.0.0/8", as_path=(number,))
    told = initiation("n1", "")
    feed.up(TOR4, peer_up(TOR4, OPENS, AT), (4,), tables.of(TOR4.address))
    del tables[TOR4.address, False, prefix, "0.0.0.1"]
    feed.changed(TOR4.address, [prefix], "0.0.0.1", out=False)
    while not feed.idle:
        told += feed.next(AT)
    found = Collected(told, frozenset({"10.0.0.1"})).peers["10.0.0.1"].tables
    assert {identifier for _, _, identifier in found} == {"0.0.0.2"}
