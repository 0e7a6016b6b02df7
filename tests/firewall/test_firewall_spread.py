"""Connections through a router that spreads a service's address over nodes, and spreads it anew at any time:
they live, whichever node comes or goes, and pods see the client's address."""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from spread_net import CLIENT, VIP, SpreadNet, changed, node_address

from l3net.fib.envelope import mac_of
from l3net.naming import ENVELOPE_PORT, ENVELOPE_VNI

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

FLOWS = 60
KINDS = tuple(itertools.product(("TCP", "UDP"), (4, 6)))


@pytest.fixture(scope="module")
def net() -> Iterator[SpreadNet]:
    made = SpreadNet(5)
    try:
        with made.serving():
            yield made
    finally:
        made.close()


class Watched:
    """Flows of every kind, and who answered each at first."""

    def __init__(self, net: SpreadNet) -> None:
        self.flows = {kind: net.flows(*kind, FLOWS) for kind in KINDS}
        self.first = self.ask()

    def ask(self) -> dict[tuple[str, int], list[str]]:
        return {kind: each.ask() for kind, each in self.flows.items()}

    def others(self, lost: str = "") -> int:
        """How many are answered otherwise, but for those of a node that was lost."""
        found = 0
        for kind, now in self.ask().items():
            pairs = zip(self.first[kind], now, strict=True)
            kept = [(one, other) for one, other in pairs if not lost or not one.startswith(lost)]
            found += changed([one for one, _ in kept], [other for _, other in kept])
        return found

    def close(self) -> None:
        for each in self.flows.values():
            each.close()


def survive(net: SpreadNet) -> None:
    """The scenario: a new hash, a node cut off, found dead, back with its endpoint, a fifth, a new hash."""
    four = net.nodes[:4]
    net.declare(four, nodes=four)
    net.route(four)
    watched = Watched(net)
    try:
        for (_, version), answers in watched.first.items():
            assert {each.split()[1] for each in answers} == {CLIENT[version]}
            assert len(set(answers)) == 4
        # Who hands on keeps nothing: each flow is known on one node.
        assert sum(net.tracked(node) for node in net.nodes) <= len(KINDS) * FLOWS * 1.1 + 20
        net.route(four[::-1])
        assert watched.others() == 0
        net.ip("n4", "link set up0 down")
        net.route(four[:3])
        assert watched.others("n4") == 0
        net.declare(four[:3], unready=["n4"], nodes=four, dead=["n4"])
        assert watched.others("n4") == 0
        net.rejoin("n4")
        net.declare(four)
        net.route(four)
        assert watched.others("n4") == 0
        # Nodes hear of it one by one, and the router before all of them.
        net.route([*net.nodes[::-1]])
        for heard in ("n5", "n2", "n1", "n4", "n3"):
            net.declare(net.nodes, only=[heard])
            assert watched.others("n4") == 0, heard
        new = Watched(net)
        new.close()
        for (_, version), answers in new.first.items():
            assert {each.split()[1] for each in answers} == {CLIENT[version]}
            assert any(each.startswith("n5") for each in answers)
    finally:
        watched.close()


def test_connections_live_whichever_node_comes_or_goes(net: SpreadNet) -> None:
    survive(net)


def test_so_they_do_in_a_cluster_whose_nodes_have_ipv6_alone() -> None:
    six = SpreadNet(5, outer=6)
    try:
        with six.serving():
            survive(six)
    finally:
        six.close()


def test_the_control_without_it_breaks_most() -> None:
    random = SpreadNet(4, consistent=False)
    try:
        random.route(random.nodes)
        with random.serving():
            watched = Watched(random)
            try:
                assert all(all(answers) for answers in watched.first.values())
                random.route(random.nodes[::-1])
                assert watched.others() > len(KINDS) * FLOWS / 2
            finally:
                watched.close()
    finally:
        random.close()


def test_an_endpoint_that_ends_keeps_its_connections_and_gets_no_new_ones(net: SpreadNet) -> None:
    four = net.nodes[:4]
    net.declare(four)
    net.route(four)
    watched = Watched(net)
    try:
        for gone in ({"waning": ["n2"]}, {"unready": ["n2"]}):
            net.declare(["n1", "n3", "n4"], **gone)
            net.route(four[::-1])
            now = watched.ask()
            for version in (4, 6):
                assert changed(watched.first["TCP", version], now["TCP", version]) == 0
        new = Watched(net)
        new.close()
        assert not any(each.startswith("n2") for answers in new.first.values() for each in answers)
        # And one that is gone altogether is refused at once.
        net.declare(["n1", "n3", "n4"])
        ended = [at for at, each in enumerate(watched.first["TCP", 4]) if each.startswith("n2")]
        net.forget("n2")
        assert watched.flows["TCP", 4].silent(ended, wait=5.0) == 0
    finally:
        watched.close()


@pytest.mark.parametrize("local", [False, True])
def test_a_client_comes_back_to_its_endpoint_by_whichever_node(local: bool) -> None:
    net = SpreadNet(3, affinity=600, local=local)
    try:
        with net.serving():
            found = set[str]()
            for nodes in (net.nodes, net.nodes[::-1], net.nodes[:1], net.nodes[1:]):
                net.route(nodes)
                flows = net.flows("TCP", 4, 20)
                found |= set(flows.ask())
                flows.close()
            assert len(found) == 1 and found.pop().endswith(CLIENT[4])
    finally:
        net.close()


# --- sizes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
def test_packets_as_large_as_the_link_pass_and_segments_are_kept_smaller(
    net: SpreadNet, version: int
) -> None:
    net.declare(net.nodes)
    net.route(["n1"])
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    headers = 28 if version == 4 else 48
    level, discover = (socket.IPPROTO_IP, 10) if version == 4 else (socket.IPPROTO_IPV6, 23)
    answers = set[str]()
    for fragments, size in ((False, 1500 - headers), (True, 4000)):
        for _ in range(12):
            with net.run("client", lambda: socket.socket(family, socket.SOCK_DGRAM)) as made:
                made.settimeout(5)
                made.setsockopt(level, discover, 0 if fragments else 2)  # IP_PMTUDISC_DO
                made.connect((VIP[version], 53))
                made.send(bytes(size))
                answers.add(made.recv(2048).decode().split()[0])
    assert len(answers) == 5
    for _ in range(8):
        with net.run("client", lambda: socket.socket(family, socket.SOCK_STREAM)) as made:
            made.settimeout(5)
            made.connect((VIP[version], 80))
            # 1500 less the envelope (50) and the headers, of which the timestamps are the sender's to count.
            longest = 1500 - 50 - (40 if version == 4 else 60)
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= longest


# --- who may use the envelope ----------------------------------------------------------------------------


def _datagram(node: str, number: int) -> bytes:
    """What another node would hand on to this one: a question to the service over UDP, from the client."""
    payload = b"?\n"
    udp = struct.pack("!HHHH", 4000 + number, 53, 8 + len(payload), 0) + payload
    source, vip = ip_address(CLIENT[4]).packed, ip_address(VIP[4]).packed
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source, vip)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    to = bytes.fromhex(mac_of(ip_address(node)).replace(":", ""))
    frame = to + b"\x0a\x6c\x01\x02\x03\x04" + b"\x08\x00" + head + udp
    return struct.pack("!II", 0x08000000, ENVELOPE_VNI << 8) + frame


@pytest.mark.parametrize(
    ("role", "passes"), [("n2", True), ("client", False), ("pn1", False), ("pn2", False)]
)
def test_nodes_alone_hand_on(net: SpreadNet, role: str, passes: bool) -> None:
    net.declare(["n1"])
    net.route(["n1"])
    node = node_address(1)[4]
    heard = net.run("client", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with heard, net.run(role, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as made:
        number = {"n2": 1, "client": 2, "pn1": 3, "pn2": 4}[role]
        heard.bind((CLIENT[4], 4000 + number))
        heard.settimeout(5 if passes else 0.5)
        made.sendto(_datagram(node, number), (node, ENVELOPE_PORT))
        if passes:
            assert heard.recv(2048) == f"n1 {CLIENT[4]}\n".encode()
        else:
            with pytest.raises(TimeoutError):
                heard.recv(2048)
