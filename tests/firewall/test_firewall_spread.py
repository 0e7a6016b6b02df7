"""Connections through a router that spreads a service's address over nodes, and spreads it anew at any time:
they live, whichever node comes or goes, and pods see the client's address."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from spread_net import CLIENT, DOWNLOAD, LARGE, PORTS, VIP, SpreadNet, changed, node_address, pod_address

from l3net.fib.envelope import mac_of
from l3net.firewall import ranking
from l3net.naming import ENVELOPE_PORT, ENVELOPE_VNI

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

FLOWS = 60
WHOLE = ranking.SIZES
KINDS = tuple(itertools.product(("TCP", "UDP"), (4, 6)))


@pytest.fixture(scope="module", autouse=True)
def _small_tables() -> Iterator[None]:
    """How many slots there are changes nothing here but what nft has to read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "SIZES", ((16, 256), (48, 1024)))
        yield


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

    def lose(self, node: str) -> None:
        """Its flows are watched no more: each would be waited for."""
        for kind, each in self.flows.items():
            gone = [at for at, one in enumerate(self.first[kind]) if one.startswith(node)]
            each.drop(gone)
            self.first[kind] = [one for one in self.first[kind] if not one.startswith(node)]

    def others(self) -> int:
        """How many are answered otherwise."""
        return sum(changed(self.first[kind], now) for kind, now in self.ask().items())

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
        watched.lose("n4")
        assert watched.others() == 0
        net.declare(four[:3], unready=["n4"], nodes=four, dead=["n4"])
        assert watched.others() == 0
        net.rejoin("n4")
        net.declare(four)
        net.route(four)
        assert watched.others() == 0
        # Nodes hear of it one by one, and the router before all of them.
        net.route([*net.nodes[::-1]])
        for heard in ("n5", "n2", "n1", "n4", "n3"):
            net.declare(net.nodes, only=[heard])
            assert watched.others() == 0, heard
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
            six.declare(["n1"])
            six.route(["n3"])
            for version in (4, 6):
                told_to_send_less(six, version)
    finally:
        six.close()


@pytest.mark.soak
@pytest.mark.parametrize("outer", [4, 6])
def test_many_connections_live_with_tables_as_large_as_they_are(
    outer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "SIZES", WHOLE)
    monkeypatch.setattr(sys.modules[__name__], "FLOWS", 240)
    many = SpreadNet(5, outer=outer)
    try:
        with many.serving():
            survive(many)
    finally:
        many.close()


def told_to_send_less(net: SpreadNet, version: int) -> None:
    """The client hears that a packet is too big for the way between nodes, and a smaller one passes."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    level, discover = (socket.IPPROTO_IP, 10) if version == 4 else (socket.IPPROTO_IPV6, 23)
    headers = 28 if version == 4 else 48
    with net.run("client", lambda: socket.socket(family, socket.SOCK_DGRAM)) as made:
        made.setsockopt(level, discover, 2)  # IP_PMTUDISC_DO
        made.setsockopt(level, 11 if version == 4 else 25, 1)  # IP_RECVERR: it is told
        made.settimeout(5)
        made.connect((VIP[version], PORTS["UDP"]))
        with pytest.raises(OSError, match="Message too long"):
            made.send(bytes(1500 - headers))
            made.recv(2048)
        made.send(bytes(1430 - headers))
        assert made.recv(2048).startswith(b"n1")


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
    for node in net.nodes:
        net.forget(node)  # a datagram from a port that another test had is one of the flow that was
    net.declare(four)
    net.route(four)
    for node in net.nodes:  # a port that is used again would be known
        net.forget(node)
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


@pytest.mark.parametrize("version", [4, 6])
def test_nodes_that_disagree_do_not_hand_a_packet_to_one_another_for_ever(
    net: SpreadNet, version: int
) -> None:
    two = net.nodes[:2]
    net.declare(two)
    net.route(two)
    flows = net.flows("TCP", version, 20)
    try:
        assert all(flows.ask())
        # The second has heard of its endpoint. The first takes itself for the owner, and asks it next.
        net.declare(["n1"], unready=["n2"])
        net.declare(two, only=["n2"])
        for node in two:
            net.forget(node)
        before = sum(net.enveloped(node) for node in two)
        flows.ask()
        # With each segment sent again a few times.
        assert 0 < sum(net.enveloped(node) for node in two) - before < 20 * 17 * 10
    finally:
        flows.close()
        net.declare(net.nodes)


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
    for fragments, size in ((False, 1500 - headers), (True, 4000)):
        answers = set[str]()
        for _ in range(200):  # each is met by chance
            with net.run("client", lambda: socket.socket(family, socket.SOCK_DGRAM)) as made:
                made.settimeout(5)
                made.setsockopt(level, discover, 0 if fragments else 2)  # IP_PMTUDISC_DO
                made.connect((VIP[version], 53))
                made.send(bytes(size))
                answers.add(made.recv(2048).decode().split()[0])
            if len(answers) == len(net.nodes):
                break
        assert len(answers) == len(net.nodes)
    for _ in range(8):
        with net.run("client", lambda: socket.socket(family, socket.SOCK_STREAM)) as made:
            made.settimeout(5)
            made.connect((VIP[version], 80))
            # 1500 less the envelope (50) and the headers, of which the timestamps are the sender's to count.
            longest = 1500 - 50 - (40 if version == 4 else 60)
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= longest


def large(net: SpreadNet, protocol: str, version: int, *, patience: float) -> bool:
    """Whether a large answer comes whole."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    with net.run("client", lambda: socket.socket(family, kind)) as made:
        made.connect((VIP[version], PORTS[protocol]))
        if protocol == "UDP":
            made.settimeout(patience / 5)
            for _ in range(5):  # after the first the pod knows
                made.send(LARGE)
                with contextlib.suppress(TimeoutError):
                    return len(made.recv(2048)) > 1000
            return False
        made.settimeout(patience)
        made.send(LARGE)
        came = 0
        with contextlib.suppress(TimeoutError):
            while came < DOWNLOAD and (data := made.recv(65536)):
                came += len(data)
        return came == DOWNLOAD


@pytest.mark.parametrize("version", [4, 6])
def test_large_answers_pass_a_narrow_link_whichever_node_hears_of_it(net: SpreadNet, version: int) -> None:
    net.narrow(1400 if version == 4 else 1300)
    try:
        # Handed on by one node, answered by another, and a third is told.
        net.declare(["n1"])
        net.route(["n3"])
        with net.errors_go_to("n2"):
            for protocol in PORTS:  # the control: nobody hands the errors on
                assert not large(net, protocol, version, patience=0.5)
            with net.relaying() as relays:
                for protocol in PORTS:
                    assert large(net, protocol, version, patience=10.0)
                assert relays["n2"].handed and relays["n1"].taken
        net.declare(["n2", "n4"])
        net.route(net.nodes)
        with net.relaying():
            assert all(large(net, "TCP", version, patience=10.0) for _ in range(8))
    finally:
        net.narrow(1500)


# --- who may use the envelope ----------------------------------------------------------------------------


def _datagram(node: str, number: int, client: str = CLIENT[4]) -> bytes:
    """What another node would hand on to this one: a question to the service over UDP, from a client."""
    payload = b"?\n"
    udp = struct.pack("!HHHH", 4000 + number, 53, 8 + len(payload), 0) + payload
    source, vip = ip_address(client).packed, ip_address(VIP[4]).packed
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


def test_a_pod_does_not_come_from_elsewhere_as_a_client(net: SpreadNet) -> None:
    """It would be masqueraded as one that meets itself: as the node, which no policy holds back."""
    net.declare(["n1"])
    net.route(["n1"])
    node, pod = node_address(1)[4], pod_address(1)[4]
    heard = net.run("pn1", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with heard, net.run("n2", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as made:
        heard.bind((pod, 4005))
        heard.settimeout(0.5)
        made.sendto(_datagram(node, 5, client=pod), (node, ENVELOPE_PORT))
        with pytest.raises(TimeoutError):
            heard.recv(2048)
