"""A transaction of elements is the same by netlink as by nft, as the kernel lists it."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable

import pytest
from table_side import listed

from l3net.errors import RefusedError
from l3net.firewall.facts import FirewallPlan
from l3net.firewall.policycontents import PolicyContents
from l3net.firewall.ruleset import ruleset
from l3net.shell.kernel import nftelements
from l3net.shell.kernel.netlink import attribute
from l3net.shell.kernel.nft import NftTable

pytestmark = pytest.mark.netns

SETS = {"peers4-a": "type ipv4_addr", "peers6-a": "type ipv6_addr"}
NAMED = "typeof {} daddr . meta l4proto . th dport"
PUT, GONE = "add element inet l3net", "delete element inet l3net"
CHANGES = [
    f"{PUT} peers4-a {{ 10.0.0.1, 10.0.0.2 }}\n{PUT} peers6-a {{ fd00::1 }}\n",
    f"{GONE} peers4-a {{ 10.0.0.1 }}\n{PUT} peers4-a {{ 10.0.0.2, 10.0.0.3 }}\n",
    f"{PUT} named4-a {{ 10.0.0.1 . 6 . 80, 10.0.0.1 . 17 . 53 }}\n"
    f"{PUT} named6-a {{ fd00::1 . 132 . 65535 }}\n",
    f"{PUT} egress4 {{ 10.0.0.1 : goto mix-a }}\n"
    f"{PUT} ingress6 {{ fd00::1 : goto mix-a, fd00::2 : goto mix-b }}\n"
    f"{PUT} self4 {{ 10.0.0.1 . 10.0.0.1 }}\n{PUT} self6 {{ fd00::1 . fd00::1 }}\n",
    f"{GONE} egress4 {{ 10.0.0.1 }}\n{PUT} egress4 {{ 10.0.0.1 : goto mix-b }}\n",
    f"{GONE} ingress6 {{ fd00::1 }}\n{GONE} self6 {{ fd00::1 . fd00::1 }}\n",
    f"{PUT} services4 {{ 10.96.0.1 . 6 . 80 : goto lb4-2 }}\n{PUT} vips4 {{ 10.96.0.1 }}\n"
    f"{PUT} backends4 {{ 10.96.0.1 . 6 . 80 . 0 : 10.0.0.1 . 8080 }}\n"
    f"{PUT} backends4 {{ 10.96.0.1 . 6 . 80 . 1 : 10.0.0.2 . 65535 }}\n"
    f"{PUT} services6-external {{ fd00:96::1 . 132 . 443 : goto lb6-1 }}\n"
    f"{PUT} backends6-external {{ fd00:96::1 . 132 . 443 . 257 : fd00::1 . 1 }}\n"
    f"{PUT} guarded6 {{ fd00:96::1 . 17 . 53 : goto refuse6 }}\n",
    f"{GONE} backends4 {{ 10.96.0.1 . 6 . 80 . 1 : 10.0.0.2 . 65535 }}\n"
    f"{GONE} services4 {{ 10.96.0.1 . 6 . 80 : goto lb4-2 }}\n"
    f"{PUT} services4 {{ 10.96.0.1 . 6 . 80 : goto lb4-1 }}\n",
    f"{PUT} services4-node {{ 6 . 30080 : goto refused4, 17 . 65535 : goto refused4 }}\n"
    f"{PUT} services6-node-internal {{ 132 . 30080 : goto refused6 }}\n"
    f"{PUT} backends4-node {{ 6 . 30080 . 0 : 10.0.0.1 . 8080, 6 . 30080 . 258 : 10.0.0.2 . 80 }}\n"
    f"{PUT} backends6-node-external {{ 17 . 30080 . 1 : fd00::1 . 53 }}\n"
    f"{PUT} ports4-tcp {{ 30080, 30081 }}\n{PUT} ports6-sctp {{ 30080 }}\n",
    f"{GONE} ports4-tcp {{ 30080 }}\n{GONE} services4-node {{ 6 . 30080 : goto refused4 }}\n"
    f"{GONE} backends4-node {{ 6 . 30080 . 0 : 10.0.0.1 . 8080 }}\n",
    f"{PUT} peers4-a {{ {', '.join(f'10.1.{each >> 8}.{each & 255}' for each in range(1, 1000))} }}\n",
]


def made() -> NftTable:
    contents = PolicyContents()
    for version, ip in ((4, "ip"), (6, "ip6")):
        contents.put_set(f"peers{version}-a", f"type ipv{version}_addr")
        contents.put_set(f"named{version}-a", NAMED.format(ip))
    for chain in ("mix-a", "mix-b"):
        contents.put_chain(chain, ("drop",))
    table = NftTable()
    table.apply(ruleset(FirewallPlan(policy=contents)))
    return table


def by_nft(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


def test_both_ways_come_to_the_same(own_netns: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    table = made()
    found = []
    monkeypatch.setattr(table, "_run", lambda *_: pytest.fail("nft was called"))
    for change in CHANGES:
        table.amend(change)
        found.append(listed())
    assert table.intact()
    monkeypatch.undo()
    made()
    for change, expected in zip(CHANGES, found, strict=True):
        by_nft(change)
        assert listed() == expected


def test_what_the_kernel_refuses_changes_nothing(own_netns: Callable[[str], str]) -> None:
    table = made()
    before = listed()
    for wrong in (
        "add element inet l3net peers4-a { 10.0.0.9 }\ndelete element inet l3net peers4-a { 10.0.0.1 }\n",
        "add element inet l3net egress4 { 10.0.0.1 : goto mix-none }\n",
        "add element inet l3net peers4-none { 10.0.0.9 }\n",
    ):
        with pytest.raises(RefusedError) as refused:
            table.amend(wrong)
        assert refused.value.code == errno.ENOENT
        assert listed() == before
    with pytest.raises(RefusedError) as refused:  # a map has one value for a key
        table.amend("add element inet l3net egress4 { 10.0.0.1 : goto mix-a, 10.0.0.1 : goto mix-b }\n")
    assert refused.value.code == errno.EEXIST and listed() == before


@pytest.mark.parametrize(
    "text",
    [
        "add chain inet l3net mix-c\n" + CHANGES[0],
        "add element inet l3net backends4 { 10.0.0.1 . tcp . 80 . 0 : 10.0.0.2 . 80 }\n",
        "add element inet l3net peers4-a { 10.0.0.0/24 }\n",
        "add element inet l3net named4-a { 10.0.0.1 . tcp . 80 }\n",
        "add element ip l3net asking { 10.0.0.1 . 6 . 80 . 0 timeout 5s : 10.0.0.1 }\n",
        "add element ip6 l3net peers4-a { 10.0.0.1 }\n",
        "add element inet l3net ended4 { 10.0.0.1 . 1 . 10.0.0.2 . 2 timeout 5s }\n",
        "add element inet l3net peers4-a { " + ", ".join(["10.0.0.1"] * (nftelements.MOST + 1)) + " }\n",
    ],
)
def test_everything_else_is_left_to_nft(text: str) -> None:
    assert nftelements.requests(text) is None


@pytest.mark.parametrize("length", [*range(1, 41), 300])
def test_an_element_alone_is_as_one_with_more_to_it(length: int) -> None:
    """What stands around a key is packed once for all of its length."""
    key, more = bytes(range(1, 41))[:length].ljust(length, b"\7"), attribute(4, b"\1\2\3\4")
    alone, other = nftelements.element_of(key), nftelements.element_of(key, more=more)
    assert len(alone) == len(other) - len(more)
    assert alone[2:] == other[2 : len(alone)]  # all but the length of the whole
    assert int.from_bytes(alone[:2], sys.byteorder) == len(alone)
