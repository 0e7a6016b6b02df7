"""A peer that sends what no good peer sends: malformed UPDATEs (RFC 7606), hijacks, noise."""

from __future__ import annotations

import random
import sys
import time
from ipaddress import ip_network
from pathlib import Path

import pytest
from node_rig import CONFIGURATION, NODE, Rig, peer
from wire_speaker import UPDATE, message

pytestmark = pytest.mark.netns

SPEAKER = Path(__file__).with_name("wire_speaker.py")
ORIGIN = bytes.fromhex("40010100")
AS_PATH = bytes.fromhex("400206 0201 0000fdea".replace(" ", ""))  # 65002
NEXT_HOP = bytes.fromhex("400304 0a5a0002".replace(" ", ""))  # 10.90.0.2
NEXT_HOP6 = bytes.fromhex("fd900000000000000000000000000002")
GOOD, GOOD6 = "198.51.100.0/24", "2001:db8:77::/48"


def nlri(prefix: str) -> bytes:
    network = ip_network(prefix)
    return bytes([network.prefixlen]) + network.network_address.packed[: (network.prefixlen + 7) // 8]


def update(attributes: bytes, routes: bytes = b"", withdrawn: bytes = b"") -> bytes:
    body = len(withdrawn).to_bytes(2, "big") + withdrawn + len(attributes).to_bytes(2, "big") + attributes
    return message(UPDATE, body + routes)


def announce(prefix: str, attributes: bytes = b"") -> bytes:
    if ip_network(prefix).version == 4:
        return update(ORIGIN + AS_PATH + NEXT_HOP + attributes, nlri(prefix))
    reach = bytes.fromhex("000201") + bytes([16]) + NEXT_HOP6 + b"\0" + nlri(prefix)
    return update(ORIGIN + AS_PATH + attributes + bytes([0x80, 14, len(reach)]) + reach)


def converse(rig: Rig, updates: list[bytes]) -> None:
    """Bring the session up, let the far side say all of it, and wait for the good prefixes that come last."""
    file = rig.tor.directory / "updates"
    file.write_text("\n".join(one.hex() for one in [*updates, announce(GOOD), announce(GOOD6)]))
    rig.tor.spawn("wire", [sys.executable, str(SPEAKER), "10.90.0.2", "65002", str(file)])
    rig.declare("node.yaml", NODE, CONFIGURATION, peer("tor4", "10.90.0.2", families=["IPv4", "IPv6"]))
    rig.start_speaker()
    rig.start_agent()
    rig.until(lambda: {GOOD, GOOD6} <= learned(rig), "the good prefixes that were sent last")


def learned(rig: Rig) -> set[str]:
    text = rig.kernel("-4 route show proto 108") + rig.kernel("-6 route show proto 108")
    return {line.split()[0] for line in text.splitlines() if "via" in line}


def said(rig: Rig) -> list[str]:
    return rig.tor.log("wire").read_text().split("\n")


def attribute(flags: int, code: int, value: bytes) -> bytes:
    return bytes([flags, code, len(value)]) + value


BASE = ORIGIN + AS_PATH + NEXT_HOP
#: RFC 7606 section 7: errors that withdraw the routes, or discard the attribute; never a session lost.
MALFORMED = {
    "origin of a value that is none": attribute(0x40, 1, b"\x07") + AS_PATH + NEXT_HOP,
    "origin of two octets": attribute(0x40, 1, b"\0\0") + AS_PATH + NEXT_HOP,
    "origin missing": AS_PATH + NEXT_HOP,
    "AS_PATH with a segment that runs past its end": ORIGIN
    + attribute(0x40, 2, b"\x02\x09\0\0\xfd\xea")
    + NEXT_HOP,
    "AS_PATH with a segment type that is none": ORIGIN
    + attribute(0x40, 2, b"\x09\x01\0\0\xfd\xea")
    + NEXT_HOP,
    "next hop of three octets": ORIGIN + AS_PATH + attribute(0x40, 3, b"\x0a\x5a\0"),
    "next hop missing": ORIGIN + AS_PATH,
    "MED of three octets": BASE + attribute(0x80, 4, b"\0\0\1"),
    "LOCAL_PREF of two octets": BASE + attribute(0x40, 5, b"\0\1"),
    "ATOMIC_AGGREGATE with a value": BASE + attribute(0x40, 6, b"\1"),
    "AGGREGATOR of five octets": BASE + attribute(0xC0, 7, b"\0\0\0\0\1"),
    "communities of five octets": BASE + attribute(0xC0, 8, b"\0\1\0\2\0"),
    "ORIGINATOR_ID of two octets": BASE + attribute(0x80, 9, b"\0\1"),
    "CLUSTER_LIST of three octets": BASE + attribute(0x80, 10, b"\0\1\2"),
    "extended communities of seven octets": BASE + attribute(0xC0, 16, b"\0" * 7),
    "an extended community of a FlowSpec rate that is no number": BASE
    + attribute(0xC0, 16, bytes.fromhex("8006fdea7fc00000")),
    "large communities of eleven octets": BASE + attribute(0xC0, 32, b"\0" * 11),
    "flags of origin wrong": bytes([0xC0]) + ORIGIN[1:] + AS_PATH + NEXT_HOP,
    "origin twice": ORIGIN + ORIGIN + AS_PATH + NEXT_HOP,
    "an unknown optional transitive attribute": BASE + attribute(0xC0, 213, b"noise"),
    "an unknown optional non-transitive attribute": BASE + attribute(0x80, 214, b"noise"),
}
#: The attribute alone is discarded, and the route is used; all the others withdraw it. (LOCAL_PREF from an
#: eBGP peer could be discarded too; ExaBGP 5.0.15 withdraws the route, which is safe.)
KEPT = frozenset(
    {
        "ATOMIC_AGGREGATE with a value",
        "AGGREGATOR of five octets",
        "origin twice",  # the first counts
        "ORIGINATOR_ID of two octets",  # of an external peer, whose it is to be discarded (RFC 7606)
        "CLUSTER_LIST of three octets",
        "an unknown optional transitive attribute",
        "an unknown optional non-transitive attribute",
    }
)


def test_malformed_updates_cost_no_session(rig: Rig) -> None:
    """All of them over one session, each for a prefix of its own."""
    prefixes = {name: f"203.0.113.{8 * at}/29" for at, name in enumerate(sorted(MALFORMED))}
    converse(rig, [update(MALFORMED[name], nlri(prefix)) for name, prefix in prefixes.items()])
    goes_on(rig)
    used = learned(rig)
    assert {name for name, prefix in prefixes.items() if prefix in used} == KEPT


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(MALFORMED))
def test_each_alone_costs_no_session(rig: Rig, name: str) -> None:
    converse(rig, [update(MALFORMED[name], nlri("203.0.113.0/24"))])
    goes_on(rig)
    assert ("203.0.113.0/24" in learned(rig)) == (name in KEPT)


def goes_on(rig: Rig) -> None:
    words = said(rig)
    lost = [word for word in words if word.startswith(("notification", "closed"))]
    assert not lost, words
    assert rig.status()["problems"] == []


def test_a_session_that_flaps_is_held_down(rig: Rig) -> None:
    """RFC 4271 section 8.1.1: a peer whose every word ends the session cannot make it flap for ever."""
    file = rig.tor.directory / "updates"
    file.write_text(update(BASE, b"\x21" + bytes(5)).hex())  # a prefix of 33 bits
    rig.tor.spawn("wire", [sys.executable, str(SPEAKER), "10.90.0.2", "65002", str(file)])
    rig.declare("node.yaml", NODE, CONFIGURATION, peer("tor4", "10.90.0.2"))
    rig.start_speaker()
    rig.start_agent()
    rig.until(lambda: "established" in said(rig), "a session")
    speaking = rig.exabgp_pid()
    rig.until(
        lambda: "flaps" in rig.peers().get("10.90.0.2", {}).get("reason", ""), "the session to be held down"
    )

    def quiet() -> bool:
        before = len(said(rig))
        time.sleep(3)
        return len(said(rig)) == before

    rig.until(quiet, "ExaBGP to be told")
    assert len((rig.node.directory / "speaker.log").read_text().splitlines()) < 200
    # Other peers' sessions go on: ExaBGP has not been restarted for it.
    assert rig.exabgp_pid() == speaking
    assert "restarting it" not in (rig.node.directory / "agent.log").read_text()
    rig.tor.kill("wire", 9)
    rig.until(lambda: not rig.tor.alive("wire"), "the flapping to end")
    rig.start_tor()
    rig.until(lambda: "192.168.7.0/24" in learned(rig), "the session to be tried again", seconds=60)


HIJACKS = {
    "0.0.0.0/0": "defaultRoute",
    "::/0": "defaultRoute",
    "10.244.1.0/24": "ownBlock",
    "10.244.1.5/32": "ownBlock",
    "fd00:10:244:1::/120": "ownBlock",
    "fd00:10:244:1::5/128": "ownBlock",
    "10.96.0.0/16": "serviceCIDR",
    "10.96.0.10/32": "serviceCIDR",
    "fd00:10:96::/112": "serviceCIDR",
    "fd00:10:96::a/128": "serviceCIDR",
    "10.90.0.0/24": "nodeSubnet",
    "10.90.0.77/32": "nodeSubnet",
    "fd90::/64": "nodeSubnet",
    "10.91.0.3/32": "nodeSubnet",  # another node's address
    "127.0.0.0/8": "martian",
}


def test_hijacks_are_refused_by_name_and_reach_no_kernel(rig: Rig) -> None:
    """Both families, for as long as the peer insists; the control is the good prefix beside them."""
    other = {
        **NODE,
        "metadata": {"name": "other"},
        "spec": {"podCIDRs": ["10.244.9.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.91.0.3"}]},
    }
    rig.declare("other.yaml", other)
    ranges = {"serviceCIDRs": ["10.96.0.0/16", "fd00:10:96::/112"], "nodeToNodeMesh": False}
    own = CONFIGURATION["spec"]
    configuration = {**CONFIGURATION, "spec": {**own, **ranges}}  # type: ignore[dict-item]
    file = rig.tor.directory / "updates"
    file.write_text(
        "\n".join(one.hex() for one in [*map(announce, HIJACKS), announce(GOOD), announce(GOOD6)])
    )
    rig.tor.spawn("wire", [sys.executable, str(SPEAKER), "10.90.0.2", "65002", str(file)])
    rig.declare("node.yaml", NODE, configuration, peer("tor4", "10.90.0.2", families=["IPv4", "IPv6"]))
    rig.start_speaker()
    rig.start_agent()
    rig.until(lambda: {GOOD, GOOD6} <= learned(rig), "the good prefixes")
    assert learned(rig) == {GOOD, GOOD6}
    counts: dict[str, int] = {}
    for reason in HIJACKS.values():
        counts[reason] = counts.get(reason, 0) + 1
    # On a busy machine the session may have begun anew amid.
    rig.until(lambda: rig.peers()["10.90.0.2"]["refused"] == counts, f"refusals as in {counts}")
    time.sleep(2)
    assert learned(rig) == {GOOD, GOOD6}


def test_noise_never_upsets_agent_or_node(rig: Rig) -> None:
    """Random bytes in well-framed UPDATEs: whatever ExaBGP makes of each, all runs on and is right after."""
    source = random.Random(7)
    noise = [message(UPDATE, source.randbytes(source.randrange(4, 60))) for _ in range(50)]
    file = rig.tor.directory / "noise"
    file.write_text("\n".join(one.hex() for one in noise))
    rig.tor.spawn("wire", [sys.executable, str(SPEAKER), "10.90.0.2", "65002", str(file)])
    rig.declare("node.yaml", NODE, CONFIGURATION, peer("tor4", "10.90.0.2"))
    rig.start_speaker()
    rig.start_agent()
    rig.until(lambda: "established" in said(rig), "a session")
    time.sleep(3)
    assert rig.node.alive("agent")
    assert rig.node.alive("speaker")
    rig.tor.kill("wire", 9)
    rig.until(lambda: not rig.tor.alive("wire"), "the noise to end")
    rig.start_tor()
    rig.until(lambda: "192.168.7.0/24" in learned(rig), "routes of a good peer")
