"""ICMP errors that meet a node which does not translate their connection: a download passes a narrow link
all the same, since the node hands them on. Two nodes, a router that spreads errors another way than
connections."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address, ip_network

import pytest
from firewall_net import inside, tcp, udp
from pyroute2 import netns

from l3net.config import ERROR_RELAY_PORT
from l3net.firewall.facts import FirewallPlan
from l3net.firewall.ruleset import ruleset
from l3net.firewall.strays import about_service
from l3net.model import Backend, VirtualServer
from l3net.shell.kernel import errorrelay
from l3net.shell.kernel.errorrelay import ErrorRelay
from l3net.shell.kernel.nft import NftTable

both = pytest.mark.parametrize("version", [4, 6])
VIP = {4: "10.96.0.10", 6: "fd00:10:96::a"}
NODES = {"a": {4: "10.0.1.2", 6: "fd01::2"}, "b": {4: "10.0.2.2", 6: "fd02::2"}}
GATEWAY = {"a": {4: "10.0.1.1", 6: "fd01::1"}, "b": {4: "10.0.2.1", 6: "fd02::1"}}
POD = {4: "10.1.1.2", 6: "fd00:1:1::2"}
BRIDGE = {4: "10.1.1.1", 6: "fd00:1:1::1"}
CLIENT = {4: "192.0.2.2", 6: "2001:db8::2"}
ROUTER = {4: "192.0.2.1", 6: "2001:db8::1"}
SIZE = 300_000


class Fabric:
    """`a` translates and has the pod; `b` gets the errors; `router` has a narrow link to `client`."""

    def __init__(self) -> None:
        tag = uuid.uuid4().hex[:8]
        self.names = {role: f"st{tag}-{role}" for role in ("a", "b", "router", "client", "pod")}
        self.tables: dict[str, NftTable] = {}
        self.undo = ExitStack()
        try:
            self.build()
        except BaseException:
            self.undo.close()
            raise

    def build(self) -> None:
        for name in self.names.values():
            netns.create(name)
            self.undo.callback(netns.remove, name)
        for left, one, right, two in (
            ("a", "wan", "router", "to-a"),
            ("b", "wan", "router", "to-b"),
            ("client", "eth0", "router", "to-client"),
            ("pod", "eth0", "a", "l3net0"),
        ):
            self.ip(left, f"link add {one} type veth peer name {two} netns {self.names[right]}")
            self.ip(left, f"link set {one} up", "link set lo up")
            self.ip(right, f"link set {two} up")
        for role in ("a", "b"):
            for version, length in ((4, 30), (6, 126)):
                self.address("router", GATEWAY[role][version], length, f"to-{role}")
                self.address(role, NODES[role][version], length, "wan")
                self.ip(role, f"route add default via {GATEWAY[role][version]}", version=version)
        for version, length in ((4, 24), (6, 64)):
            self.address("client", CLIENT[version], length, "eth0")
            self.address("router", ROUTER[version], length, "to-client")
            self.ip("client", f"route add default via {ROUTER[version]}", version=version)
            self.address("a", BRIDGE[version], length, "l3net0")
            self.address("pod", POD[version], length, "eth0")
            self.ip("pod", f"route add default via {BRIDGE[version]}", version=version)
            # Connections meet a, errors meet b.
            protocol = "icmp" if version == 4 else "ipv6-icmp"
            self.ip(
                "router",
                f"route add {VIP[version]} via {NODES['a'][version]}",
                f"route add {VIP[version]} via {NODES['b'][version]} table 100",
                f"rule add ipproto {protocol} to {VIP[version]} table 100 priority 100",
                version=version,
            )
        self.ip("router", "link set to-client mtu 1400")
        for role in ("a", "b", "router"):
            with inside(self.names[role]):
                for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
                    with open(f"/proc/sys/net/{key}", "w") as file:  # noqa: PTH123
                        file.write("1")
        for role in ("a", "b"):
            with inside(self.names[role]):
                self.tables[role] = NftTable()

    def address(self, role: str, address: str, length: int, link: str) -> None:
        self.ip(
            role,
            f"addr add {address}/{length} dev {link}" + (" nodad" if ":" in address else ""),
            version=6 if ":" in address else 4,
        )

    def ip(self, role: str, *lines: str, version: int = 4) -> None:
        command = ["ip", "-n", self.names[role], f"-{version}", "-batch", "-"]
        subprocess.run(command, input="\n".join(lines).encode(), check=True)

    def rule(self, version: int, error_port: int) -> None:
        served = VirtualServer(
            ip_address(VIP[version]), "tcp", 80, *([(Backend(ip_address(POD[version]), 8080),)] * 2)
        )
        blocks = frozenset({ip_network("10.1.1.0/24"), ip_network("fd00:1:1::/64")})
        for role in ("a", "b"):
            own = blocks if role == "a" else frozenset()
            plan = FirewallPlan(frozenset({served}), own, error_port=error_port)
            with inside(self.names[role]):
                self.tables[role].apply(ruleset(plan))

    @contextmanager
    def relay(self, role: str) -> Iterator[ErrorRelay]:
        """A node's relay, in a thread of its namespace."""
        made = ErrorRelay(ERROR_RELAY_PORT)
        made.is_service = lambda address: str(address) in VIP.values()
        nodes = {name: [ip_address(each) for each in found.values()] for name, found in NODES.items()}
        made.update(list(nodes.values()), nodes[role])
        ready, done = threading.Event(), asyncio.Event()
        loops: list[asyncio.AbstractEventLoop] = []

        async def serve() -> None:
            loops.append(asyncio.get_running_loop())
            made.start()
            ready.set()
            await done.wait()
            made.stop()

        def run() -> None:
            with inside(self.names[role]):
                asyncio.run(serve())

        thread = threading.Thread(target=run)
        thread.start()
        assert ready.wait(10)
        assert made.port
        try:
            yield made
        finally:
            loops[0].call_soon_threadsafe(done.set)
            thread.join()

    def download(self, version: int, patience: float) -> int:
        """Octets that came until nothing did for so long."""
        listener = tcp(self.names["pod"], version)
        listener.bind(("", 8080))
        listener.listen(1)

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.settimeout(patience + 1)
                try:
                    accepted.sendall(bytes(SIZE))
                except OSError:
                    accepted.close()

        thread = threading.Thread(target=serve)
        thread.start()
        count = 0
        with listener, tcp(self.names["client"], version) as made:
            made.connect((VIP[version], 80))
            made.settimeout(patience)
            try:
                while data := made.recv(65536):
                    count += len(data)
                    if count == SIZE:
                        break
            except TimeoutError:
                pass
        thread.join(30)
        return count


@pytest.fixture
def fabric() -> Iterator[Fabric]:
    made = Fabric()
    try:
        yield made
    finally:
        made.undo.close()


@pytest.mark.netns
@both
def test_a_download_passes_a_narrow_link_although_another_node_is_told(fabric: Fabric, version: int) -> None:
    fabric.rule(version, ERROR_RELAY_PORT)
    with fabric.relay("a") as first, fabric.relay("b") as second:
        assert fabric.download(version, 10) == SIZE
        assert second.handed > 0
        assert first.taken > 0


@pytest.mark.netns
@both
def test_it_hangs_without(fabric: Fabric, version: int) -> None:
    """The control: what reaches the client fits into no more than the first window of small segments."""
    fabric.rule(version, 0)
    assert fabric.download(version, 1) < SIZE


def error(version: int, **changes: int | str) -> bytes:
    """A packet too big about a segment from the service to a client, as a router sends it."""
    to = ip_address(str(changes.get("to", VIP[version]))).packed
    source = ip_address(str(changes.get("inner", VIP[version]))).packed
    kind, protocol = int(changes.get("kind", 3 if version == 4 else 2)), 1 if version == 4 else 58
    client, router = ip_address(CLIENT[version]).packed, ip_address(ROUTER[version]).packed
    if version == 4:
        inner = bytes((0x45, 0, 5, 220, 0, 0, 0x40, 0, 64, 6, 0, 0)) + source + client + bytes(8)
        body = bytes((kind, 4)) + bytes(6) + inner
        head = bytes(
            (0x45, 0, 0, 20 + len(body), 0, 0, 0, 0, 64, int(changes.get("protocol", protocol)), 0, 0)
        )
        return head + router + to + body
    inner = bytes((0x60, 0, 0, 0, 5, 180, 6, 64)) + source + client + bytes(8)
    body = bytes((kind, 0)) + bytes(6) + inner
    head = bytes((0x60, 0, 0, 0, 0, len(body), int(changes.get("protocol", protocol)), 64))
    return head + router + to + body


@both
def test_what_is_no_error_about_a_service_is_not_handed_on(version: int) -> None:
    def judged(packet: bytes) -> object:
        return about_service(packet, lambda address: str(address) == VIP[version])

    assert judged(error(version)) == ip_address(VIP[version])
    assert judged(error(version, to=CLIENT[version])) is None
    assert judged(error(version, inner=CLIENT[version])) is None, "about no connection of the service"
    assert judged(error(version, kind=8 if version == 4 else 128)) is None, "an echo request"
    assert judged(error(version, protocol=6)) is None
    assert judged(error(version) + bytes(2000)) is None
    for length in range(len(error(version)) - 8):
        packet = error(version)[:length]
        assert judged(packet) is None or length >= len(packet)
    assert judged(b"") is None
    assert judged(b"\x00" * 64) is None


@pytest.mark.netns
@both
def test_only_nodes_are_listened_to_and_not_without_end(
    fabric: Fabric, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fabric.rule(version, ERROR_RELAY_PORT)
    monkeypatch.setattr(errorrelay, "TAKEN", 5)
    to = (NODES["a"][version], ERROR_RELAY_PORT)
    with (
        fabric.relay("a") as relay,
        udp(fabric.names["b"], version) as node,
        udp(fabric.names["client"], version) as stranger,
    ):
        deadline = time.monotonic() + 10
        while not relay.taken and time.monotonic() < deadline:  # until links and neighbours are there
            node.sendto(error(version), to)
            time.sleep(0.1)
        time.sleep(1.1)  # another second's share
        before = relay.taken
        for sender in (stranger, node):
            sender.sendto(b"garbage", to)
            for _ in range(50):
                sender.sendto(error(version), to)
            time.sleep(0.3)
            allowed = 0 if sender is stranger else 10  # a second may end amid
            assert relay.taken <= before + allowed
        assert relay.taken > before
