"""What the doctor concludes from what was seen."""

from __future__ import annotations

import dataclasses
import struct
from ipaddress import ip_address

import pytest

from l3net.doctor.findings import Counters, NodeLook, Peer, PeerLook, PodLook, Probe, ProbeAnswer, Severity
from l3net.doctor.node import filtered_blocks, judge_agent, judge_data_path, judge_node, judge_views
from l3net.doctor.peers import judge_peer
from l3net.model import PortUse
from l3net.notification import Notification, in_reason
from l3net.shell.probes.node import read_counters, read_message, risen

UP = Peer("tor", "10.0.0.2", 65002, "10.0.0.1", 179, 179, True, "", False, False, False, 3, 2, 2, 0)
DOWN = dataclasses.replace(UP, established=False, reason="held")
SIGNED = dataclasses.replace(DOWN, password=True)
GTSM = dataclasses.replace(DOWN, gtsm=True)
PASSIVE = dataclasses.replace(DOWN, passive=True)
PASSIVE_SIGNED = dataclasses.replace(PASSIVE, password=True)
WAITS = "has not connected to 10.0.0.1 port 179, where the node waits for it"
SILENT = PeerLook(Probe(ProbeAnswer.SILENT), Probe(ProbeAnswer.SILENT))


@pytest.mark.parametrize(
    ("peer", "look", "counters", "says"),
    [
        (DOWN, PeerLook(Probe(ProbeAnswer.UNREACHABLE, "No route to host")), Counters(), "No route to host"),
        (DOWN, PeerLook(Probe(ProbeAnswer.REFUSED)), Counters(), "refuses TCP connections to port 179"),
        (DOWN, PeerLook(Probe(ProbeAnswer.SILENT), Probe(ProbeAnswer.ACCEPTED)), Counters(), "demands GTSM"),
        (GTSM, PeerLook(Probe(ProbeAnswer.SILENT)), Counters(ttl_too_low=2), "TTL below 255"),
        (SIGNED, SILENT, Counters(md5_wrong=1), "passwords differ: it signs"),
        (SIGNED, SILENT, Counters(md5_unexpected=1), "passwords differ: it signs"),
        (SIGNED, SILENT, Counters(md5_missing=1), "does not sign"),
        (SIGNED, PeerLook(Probe(ProbeAnswer.ACCEPTED)), Counters(), "does not sign"),
        (SIGNED, SILENT, Counters(), "most likely the TCP MD5 passwords differ, or else a firewall"),
        (DOWN, SILENT, Counters(md5_unexpected=1), "we have no password for it"),
        (DOWN, SILENT, Counters(), "expects a TCP MD5 password, or a firewall"),
        (DOWN, PeerLook(Probe(ProbeAnswer.ACCEPTED, as_number=65009)), Counters(), "it is AS 65009"),
        (DOWN, PeerLook(Probe(ProbeAnswer.ACCEPTED, as_number=65002)), Counters(), "its OPEN is in order"),
        (
            dataclasses.replace(DOWN, reason="held: notification sent (4,0)"),
            PeerLook(Probe(ProbeAnswer.ACCEPTED, as_number=65002)),
            Counters(),
            "the peer demands GTSM",
        ),
        (DOWN, PeerLook(Probe(ProbeAnswer.ACCEPTED, closed=True)), Counters(), "no neighbour 10.0.0.1"),
        (
            DOWN,
            PeerLook(Probe(ProbeAnswer.ACCEPTED, notification=(6, 5))),
            Counters(),
            "Connection Rejected (6/5)",
        ),
        (  # A router that waits after our complaint (BIRD) closes at once.
            dataclasses.replace(DOWN, reason="held: NOTIFICATION sent 2/2 (Bad Peer AS)"),
            PeerLook(Probe(ProbeAnswer.ACCEPTED, closed=True)),
            Counters(),
            "it is not in AS 65002, which the BGPPeer says",
        ),
        (
            dataclasses.replace(DOWN, reason="held: notification received (2,2)"),
            PeerLook(Probe(ProbeAnswer.ACCEPTED, as_number=65002)),
            Counters(),
            "the router ended the session: Bad Peer AS (2/2)",
        ),
        (
            GTSM,
            PeerLook(Probe(ProbeAnswer.ACCEPTED, as_number=65002), near=Probe(ProbeAnswer.SILENT)),
            Counters(),
            "TTL below 255",
        ),
        (PASSIVE, PeerLook(Probe(ProbeAnswer.ACCEPTED)), Counters(), WAITS),
        # It has to dial, and need not listen at all.
        (PASSIVE, PeerLook(Probe(ProbeAnswer.REFUSED)), Counters(), WAITS),
        (PASSIVE, SILENT, Counters(), WAITS),
        (
            PASSIVE,
            PeerLook(Probe(ProbeAnswer.REFUSED)),
            Counters(md5_unexpected=1),
            "we have no password for it",
        ),
        (PASSIVE_SIGNED, PeerLook(Probe(ProbeAnswer.REFUSED)), Counters(), WAITS),
        (PASSIVE_SIGNED, SILENT, Counters(), WAITS),
        (PASSIVE_SIGNED, PeerLook(Probe(ProbeAnswer.REFUSED)), Counters(md5_missing=1), "does not sign"),
        (
            PASSIVE_SIGNED,
            PeerLook(Probe(ProbeAnswer.REFUSED)),
            Counters(md5_wrong=1),
            "passwords differ: it signs",
        ),
        (
            PASSIVE,
            PeerLook(Probe(ProbeAnswer.UNREACHABLE, "No route to host")),
            Counters(),
            "No route to host",
        ),
    ],
)
def test_each_cause_is_told_apart(peer: Peer, look: PeerLook, counters: Counters, says: str) -> None:
    (found,) = judge_peer(peer, look, counters)
    assert found.severity is Severity.PROBLEM
    assert says in found.what
    assert "held" in found.what
    assert found.remedy


def test_counters_of_others_accuse_no_peer_that_answers() -> None:
    (found,) = judge_peer(DOWN, PeerLook(Probe(ProbeAnswer.REFUSED)), Counters(5, 5, 5, 5))
    assert "refuses" in found.what


def test_a_session_that_is_up_is_well_or_warns() -> None:
    (well,) = judge_peer(UP, None, Counters())
    assert well.severity is Severity.OK
    (echo,) = judge_peer(dataclasses.replace(UP, accepted=0, refused={"asPathLoop": 2}), None, Counters())
    assert echo.severity is Severity.OK, "a router that sends our own routes back"
    odd = dataclasses.replace(
        UP, accepted=0, announced=0, flaps=9, refused={"ownBlock": 2}, over_limit=("IPv4",)
    )
    found = judge_peer(odd, None, Counters())
    assert [each.severity for each in found] == [Severity.PROBLEM] + [Severity.WARNING] * 3
    assert "2 ownBlock" in found[1].what


STATUS = {
    "version": "1",
    "node": "n1",
    "ready": True,
    "unready": "",
    "reconciled": True,
    "inSync": True,
    "blocks": ["10.244.1.0/24"],
    "peers": [{}],
    "routes": [{"prefix": "10.244.2.0/24", "inKernel": True, "nextHops": []}],
    "problems": [],
    # what lasts is among the problems already
    "pods": {"adopted": 0, "faults": [{"part": "audit", "count": 2, "last": "x", "lasting": True}]},
}


def test_an_agent_that_is_well_has_no_problem() -> None:
    assert {each.severity for each in judge_agent(STATUS)} == {Severity.OK}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"ready": False, "reconciled": False, "unready": "the declared state is not complete yet"},
            "not complete yet",
        ),
        ({"problems": ["peer tor: missingSecret"]}, "missingSecret"),
        (
            {"speakerConnected": False, "problems": ["the speaker cannot be reached; is it running?"]},
            "does not answer the agent",
        ),
        ({"blocks": []}, "no block"),
        ({"peers": []}, "no BGP peer"),
        ({"pods": {"adopted": 3, "faults": []}}, "3 running attachments"),
        ({"pods": {"faults": [{"part": "audit", "count": 2, "last": "EIO", "lasting": False}]}}, "EIO"),
        ({"routes": [{"prefix": "10.244.2.0/24", "inKernel": False, "nextHops": []}]}, "10.244.2.0/24"),
    ],
)
def test_what_an_agent_lacks(change: dict[str, object], says: str) -> None:
    bad = [each for each in judge_agent({**STATUS, **change}) if each.severity is not Severity.OK]
    assert len(bad) == 1
    assert says in bad[0].what
    assert bad[0].remedy


def view(listed: float | None, bookmark: float | None, kind: str = "Service") -> dict[str, object]:
    return {"kind": kind, "listedSeconds": listed, "bookmarkSeconds": bookmark}


def test_a_view_that_hears_nothing_is_a_problem() -> None:
    """Of one kind, while the others hear: as when its watch is from a version that is still to come."""
    (stale,) = judge_views({**STATUS, "views": [view(3000, 2000), view(2000, 40, "Node")]})
    assert (stale.severity, stale.subject) == (Severity.PROBLEM, "Service")
    assert "2000 s" in stale.what
    assert stale.remedy


@pytest.mark.parametrize(
    "views",
    [[view(3000, 50)], [view(5, None)], [view(5, 5), view(4000, 100, "Node")]],
    ids=["old list", "new", "both"],
)
def test_a_view_that_hears_is_well_and_its_age_is_told(views: list[dict[str, object]]) -> None:
    (well,) = judge_views({**STATUS, "views": views})
    assert well.severity is Severity.OK
    assert "within the last" in well.what


def test_a_directory_has_no_view_to_judge() -> None:
    assert judge_views(STATUS) == []
    assert judge_views({**STATUS, "views": [view(None, None)]}) == []


def _ports(used: int) -> PortUse:
    return PortUse(ip_address("198.51.100.1"), 17, ip_address("192.0.2.9"), 53, used)


@pytest.mark.parametrize(
    ("look", "ecmp", "says"),
    [
        (NodeLook(forwarding={4: False, 6: True}), False, "net.ipv4.ip_forward"),
        (NodeLook(forwarding={4: True, 6: False}), False, "net.ipv6.conf.all.forwarding"),
        (NodeLook(strict_rp_filter=("eth0",)), True, "rp_filter"),
        (NodeLook(conntrack=(95, 100)), False, "95 of 100"),
        (NodeLook(ports=(_ports(64000),), insert_failed=7), False, "64000 of 64512 are taken by UDP"),
        (NodeLook(ports=(_ports(50000),)), False, "192.0.2.9 port 53"),
        (NodeLook(state_free=0.01), False, "1.0%"),
        (NodeLook(plugin=False), False, "plugin"),
        (NodeLook(plugin=True, network_configuration=""), False, "no network configuration"),
        (NodeLook(plugin=True, network_configuration="00-x.conf", ours_first=False), False, "first"),
    ],
)
def test_what_a_host_lacks(look: NodeLook, ecmp: bool, says: str) -> None:
    bad = [each for each in judge_node(look, ecmp) if each.severity is not Severity.OK]
    assert len(bad) == 1
    assert says in bad[0].what


def test_a_host_that_is_well() -> None:
    look = NodeLook({4: True, 6: True}, ("eth0",), (1, 100), 0.5, True, "05-l3net.conflist")
    assert {each.severity for each in judge_node(look, ecmp=False)} == {Severity.OK}


def message(kind: int, body: bytes) -> bytes:
    return b"\xff" * 16 + struct.pack("!HB", 19 + len(body), kind) + body


def test_the_first_message_of_a_peer() -> None:
    four = bytes([2, 6, 65, 4]) + (4_200_000_001).to_bytes(4, "big")
    opened = bytes([4]) + struct.pack("!HH4sB", 23456, 90, bytes(4), len(four)) + four
    assert read_message(message(1, opened), closed=False).as_number == 4_200_000_001
    short = bytes([4]) + struct.pack("!HH4sB", 65002, 90, bytes(4), 0)
    assert read_message(message(1, short), closed=False).as_number == 65002
    assert read_message(message(3, bytes([6, 5])), closed=True).notification == (6, 5)
    assert read_message(b"", closed=True) == Probe(ProbeAnswer.ACCEPTED, closed=True)


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-x", message(1, b"\x04"), message(1, bytes(9) + b"\xff" + b"\x02\x09\x41")]
)
def test_nonsense_says_nothing_and_harms_nothing(data: bytes) -> None:
    read_message(data, closed=False)


def test_counters_are_read_from_this_kernel() -> None:
    now = read_counters()
    assert risen(now, now) == Counters()


def test_what_was_received_and_what_was_sent_are_told_apart() -> None:
    assert str(in_reason("peer reset, message [notification received (2,2)]")) == "Bad Peer AS (2/2)"
    told = 'connection refused; last session: NOTIFICATION received: Administrative Shutdown (6/2): "(4,0)"'
    assert str(in_reason(told)) == "Administrative Shutdown (6/2)"
    for known in (Notification(4, 0, received=False), Notification(2, 2, received=True)):
        side = "received" if known.received else "sent"
        assert in_reason(f"NOTIFICATION {side}: {known}") == known
    sent = in_reason("held: notification sent (4,0)")
    assert sent is not None and not sent.received
    assert str(sent) == "Hold Timer Expired (4/0)"
    assert str(in_reason("notification received (200,1)")) == "unknown error (200/1)"
    assert in_reason("closing connection") is None


@pytest.mark.parametrize("peer", [UP, DOWN, SIGNED])
def test_a_dead_link_is_said_before_all_else(peer: Peer) -> None:
    (found,) = judge_peer(peer, SILENT, Counters(), "eth1")
    assert found.severity is Severity.PROBLEM
    assert "eth1 has no carrier" in found.what


EXPORTS = [
    {"peer": "10.0.0.2", "kind": "block", "prefix": "10.244.1.0/24", "verdict": "filteredBy:no-pods"},
    {"peer": "10.0.0.2", "kind": "block", "prefix": "fd00::/120", "verdict": "familyNotNegotiated"},
    {"peer": "10.0.0.2", "kind": "clusterIP", "prefix": "10.96.0.1/32", "verdict": "filteredBy:x"},
    {"peer": "10.0.0.9", "kind": "block", "prefix": "10.244.1.0/24", "verdict": "announced"},
]


def test_an_own_block_that_a_filter_rejects_is_no_ok() -> None:
    filtered = filtered_blocks(EXPORTS, "10.0.0.2")
    assert filtered == ["10.244.1.0/24 (filteredBy:no-pods)"]
    (found,) = judge_peer(UP, None, Counters(), filtered=filtered)
    assert found.severity is Severity.WARNING
    assert "no-pods" in found.what
    assert filtered_blocks(EXPORTS, "10.0.0.9") == []


@pytest.mark.parametrize(
    ("look", "dropping", "severity", "says"),
    [
        (PodLook({4: True, 6: True}, {4: True, 6: True}), (), Severity.OK, "IPv4 and IPv6"),
        (
            PodLook({4: False, 6: True}, {4: True}),
            ("ip filter FORWARD",),
            Severity.PROBLEM,
            "ip filter FORWARD",
        ),
        (PodLook({4: False}, {4: False}), (), Severity.PROBLEM, "gateway"),
        (PodLook({4: True}, {4: True}), ("ip filter FORWARD",), Severity.WARNING, "ip filter FORWARD"),
        (PodLook(refused="no block"), (), Severity.PROBLEM, "no block"),
        (PodLook(skipped="Operation not permitted"), (), Severity.WARNING, "not permitted"),
    ],
)
def test_what_pods_meet(look: PodLook, dropping: tuple[str, ...], severity: Severity, says: str) -> None:
    found = judge_data_path(look, dropping)[-1]
    assert found.severity is severity
    assert says in found.what
    assert found.remedy or severity is Severity.OK


def test_what_a_host_does_not_forward_and_cannot_route() -> None:
    found = judge_node(NodeLook(not_forwarding=("eth0",), unroutable=("10.96.0.10",)), ecmp=False)
    assert [each.severity for each in found if each.check != "cni"] == [Severity.PROBLEM] * 2
    assert any("eth0" in each.subject for each in found)
    assert any("10.96.0.10" in each.what for each in found)
