"""MRT files, read by Debian's bgpdump."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path as FilePath

import pytest
from bgp_facts import path

from l3net.bgp.mrt import MrtEntry, MrtPeer, attributes_of, peer_index_table, rib_records
from l3net.bgp.path import Origin, Path
from l3net.bgp.segments import Segment, kept
from l3net.community import parse_community
from l3net.model import Prefix

AT = 1_700_000_000
PEERS = (
    MrtPeer(IPv4Address("192.0.2.1"), ip_address("10.0.0.1"), 65001),
    MrtPeer(IPv4Address("192.0.2.2"), ip_address("fd00::1"), 4_200_000_001),
)
SET = ((Segment.AS_SEQUENCE, (4_200_000_001, 7)), (Segment.AS_SET, (8, 9)))
FULL = {
    "as_path": (4_200_000_001, 7, 8, 9),
    "as_path_length": 3,
    "segments": kept(SET),
    "origin": Origin.EGP,
    "med": 50,
    "local_preference": 200,
    "communities": frozenset(
        map(parse_community, ("65001:2", "65535:65281", "4200000001:1:2", "rt:65001:7"))
    ),
}


def read_back(file: FilePath, *options: str) -> str:
    program = shutil.which("bgpdump")
    if program is None:
        pytest.skip("needs bgpdump")
    done = subprocess.run([program, *options, str(file)], capture_output=True, text=True, check=True)
    assert "ERROR" not in done.stderr and "WARN" not in done.stderr, done.stderr
    return done.stdout


def rows() -> Iterator[tuple[Prefix, list[MrtEntry]]]:
    def entry(found: Path, peer: int, identifier: str = "") -> MrtEntry:
        return MrtEntry(peer, identifier, attributes_of(found))

    plain, six = path("10.1.0.0/17", as_path=(65001,)), path("2001:db8::/47", "fd00::1", **FULL)
    yield plain.prefix, [entry(plain, 0), entry(path("10.1.0.0/17", "10.0.0.9", **FULL), 1)]
    yield ip_network("10.2.0.0/16"), [entry(path("10.2.0.0/16", "fd00::1", as_path=(1,)), 1)]  # RFC 8950
    yield ip_network("10.3.0.0/16"), [entry(plain, 0, f"0.0.0.{number}") for number in (1, 2)]
    yield six.prefix, [entry(six, 1), entry(path("2001:db8::/47", "fd00::2", as_path=()), 1)]
    yield ip_network("0.0.0.0/0"), [entry(plain, 0)]
    yield ip_network("::1/128"), [entry(path("::1/128", "fd00::1", as_path=tuple(range(1, 301))), 1)]


def test_bgpdump_reads_all_of_it(tmp_path: FilePath) -> None:
    file = tmp_path / "rib.mrt"
    table = peer_index_table(AT, IPv4Address("10.9.9.9"), "n1", PEERS)
    file.write_bytes(table + b"".join(rib_records(AT, rows())))
    long = " ".join(map(str, range(1, 301)))
    full, rest = "4200000001 7 {8,9}|EGP", "200|50|65001:2 no-export|NAG||"
    assert read_back(file, "-m").splitlines() == [
        "TABLE_DUMP2|1700000000|B|10.0.0.1|65001|10.1.0.0/17|65001|IGP|10.0.0.1|0|0||NAG||",
        f"TABLE_DUMP2|1700000000|B|fd00::1|4200000001|10.1.0.0/17|{full}|10.0.0.9|{rest}",
        "TABLE_DUMP2|1700000000|B|fd00::1|4200000001|10.2.0.0/16|1|IGP|fd00::1|0|0||NAG||",
        "TABLE_DUMP2_AP|1700000000|B|10.0.0.1|65001|10.3.0.0/16|1|65001|IGP|10.0.0.1|0|0||NAG||",
        "TABLE_DUMP2_AP|1700000000|B|10.0.0.1|65001|10.3.0.0/16|2|65001|IGP|10.0.0.1|0|0||NAG||",
        f"TABLE_DUMP2|1700000000|B|fd00::1|4200000001|2001:db8::/47|{full}|fd00::1|{rest}",
        "TABLE_DUMP2|1700000000|B|fd00::1|4200000001|2001:db8::/47||IGP|fd00::2|0|0||NAG||",
        "TABLE_DUMP2|1700000000|B|10.0.0.1|65001|0.0.0.0/0|65001|IGP|10.0.0.1|0|0||NAG||",
        f"TABLE_DUMP2|1700000000|B|fd00::1|4200000001|::1/128|{long}|IGP|fd00::1|0|0||NAG||",
    ]
    told = read_back(file)
    assert "UNKNOWN_ATTR(192, 16, 8): 00 02 fd e9 00 00 00 07" in told  # bgpdump knows no extended ones
    assert "LARGE_COMMUNITY: 4200000001:1:2" in told and told.count("ADDPATH") == 2
