"""Odd conditions on real connections: whose an address is, whom a service is for, which flows go on. Both
families."""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from firewall_net import CLIENT, IMPATIENCE, POD, PODS, REMOTE, Net, inside, talk, tcp, udp
from table_side import InForce
from test_firewall_traffic import VIP, backend, both, plan, server

from l3net.firewall import sticky
from l3net.firewall.facts import FirewallPlan
from l3net.firewall.nat import guarding
from l3net.firewall.ruleset import ruleset
from l3net.model import Prefix, VirtualServer

pytestmark = pytest.mark.netns
LENGTH = {4: 32, 6: 128}
NODAD = {4: "", 6: " nodad"}


@pytest.fixture(autouse=True)
def _clean(net: Net) -> Iterator[None]:
    yield
    net.apply(plan())


# --- addresses that the host itself answers --------------------------------------------------------------


@pytest.fixture
def on_the_host(net: Net, version: int) -> Iterator[None]:
    """The service's address stands on a link of the node, and no tracking of it: as NodeLocal DNSCache has
    it."""
    ip, address = ("ip", "ip6")[version == 6], VIP[version]
    net.ip("node", f"addr add {address}/{LENGTH[version]} dev lo{NODAD[version]}")
    rules = "\n".join(
        f"chain {hook} {{\ntype filter hook {hook} priority -300;\n"
        f"{ip} daddr {address} notrack\n{ip} saddr {address} notrack\n}}"
        for hook in ("prerouting", "output")
    )
    net.nft(f"table {ip} localdns {{\n{rules}\n}}\n")
    yield
    net.nft(f"delete table {ip} localdns\n")
    net.ip("node", f"addr del {address}/{LENGTH[version]} dev lo")


@both
@pytest.mark.parametrize("role", ["pod1", "client", "node"])
@pytest.mark.usefixtures("on_the_host")
def test_an_address_on_a_link_of_the_host_is_the_hosts_to_answer(net: Net, version: int, role: str) -> None:
    net.apply(plan(*(server(version, backend(POD["pod2"][version]), protocol=p) for p in ("tcp", "udp"))))
    with net.serving(version, 80, 6443, roles=("node",), address=VIP[version]):
        for port in (80, 6443):  # one that the service has, and one that it has not
            assert net.ask(role, version, VIP[version], port)[:2] == ("node", str(port))
            assert net.ask_udp(role, version, VIP[version], port)[:2] == ("node", str(port))


@both
def test_where_it_stands_on_no_link_it_is_refused(net: Net, version: int) -> None:
    """The control of the one before."""
    net.apply(plan(server(version, backend(POD["pod2"][version]))))
    with pytest.raises(ConnectionRefusedError):
        net.ask("pod1", version, VIP[version], 6443)


@both
def test_a_floating_address_of_the_node_keeps_its_other_ports(net: Net, version: int) -> None:
    """As an external address of a service, and of keepalived in front of an API server: no Node names it."""
    floating = {4: "192.0.2.3", 6: "2001:db8:c::3"}[version]
    net.ip("node", f"addr add {floating}/{LENGTH[version]} dev to-client{NODAD[version]}")
    try:
        net.apply(plan(server(version, backend(POD["pod1"][version]), address=ip_address(floating))))
        with net.serving(version, 8080, 6443, roles=("pod1", "node")):
            for role in ("client", "pod2", "node"):
                assert net.ask(role, version, floating, 80)[0] == "pod1"
                assert net.ask(role, version, floating, 6443)[0] == "node"
    finally:
        net.ip("node", f"addr del {floating}/{LENGTH[version]} dev to-client")


# --- whom a service is for -------------------------------------------------------------------------------


def only(*prefixes: str) -> tuple[Prefix, ...]:
    return tuple(map(ip_network, prefixes))


@both
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_only_its_sources_reach_a_service(net: Net, version: int, protocol: str) -> None:
    ask = net.ask if protocol == "tcp" else net.ask_udp
    made = server(version, backend(POD["pod2"][version]), protocol=protocol)
    near = f"{CLIENT[version]}/{LENGTH[version]}"
    pod = f"{POD['pod1'][version]}/{LENGTH[version]}"
    with net.serving(version):
        for sources, let_in in (
            (None, {"client", "pod1", "node"}),
            (only(near), {"client"}),
            (only(pod), {"pod1"}),
            (only(near, pod), {"client", "pod1"}),
            ((), set()),
        ):
            net.apply(
                plan(replace(made, sources=sources), server(version, backend(POD["pod3"][version]), port=81))
            )
            for role in ("client", "pod1", "node"):
                if role in let_in:
                    assert ask(role, version, VIP[version], 80)[0] == "pod2"
                else:  # to a process of the node the kernel says so before a datagram is out
                    with pytest.raises((TimeoutError, PermissionError)):
                        ask(role, version, VIP[version], 80, 0.2)
                assert net.ask(role, version, VIP[version], 81)[0] == "pod3"


@both
@pytest.mark.parametrize("shorter", [0, 8])
def test_many_sources_cost_a_packet_as_few_do(net: Net, version: int, shorter: int) -> None:
    """And hold as they do: those of one length are one rule."""
    made = server(version, backend(POD["pod2"][version]))
    length = LENGTH[version] - shorter
    first = int(ip_address("198.18.0.0" if version == 4 else "2001:db8:f::"))
    far = {ip_network((ip_address(first + (number << shorter)), length)) for number in range(300)}
    near = ip_network(f"{CLIENT[version]}/{length}", strict=False)
    with net.serving(version):
        for sources, let_in in ((far, set()), ({*far, near}, {"client"})):
            guarded = replace(made, sources=tuple(sorted(sources)))
            (rules,) = guarding(version, {"sources": tuple(sources)}).values()
            assert len(rules) == 2
            net.apply(plan(guarded))
            for role in ("client", "pod1"):
                if role in let_in:
                    assert net.ask(role, version, VIP[version], 80)[0] == "pod2"
                else:
                    with pytest.raises(TimeoutError):
                        net.ask(role, version, VIP[version], 80, 0.2)


@both
def test_sources_that_change_leave_connections_that_are_there(net: Net, version: int) -> None:
    """As in kube-proxy: new connections are judged."""
    made = server(version, backend(POD["pod1"][version]))
    net.apply(plan(made))
    with net.serving(version), tcp(net.names["client"], version) as kept:
        kept.connect((VIP[version], 80))
        assert talk(kept)[0] == "pod1"
        net.apply(plan(replace(made, sources=())))
        assert talk(kept)[0] == "pod1"
        with pytest.raises(TimeoutError):
            net.ask("client", version, VIP[version], 80, 0.2)


# --- segments that tracking calls invalid ----------------------------------------------------------------


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data if len(data) % 2 == 0 else data + b"\0"))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def stray_segment(
    net: Net,
    role: str,
    version: int,
    source: tuple[str, int],
    to: tuple[str, int],
    seq: int,
    flags: int = 0x18,
) -> None:
    """One TCP segment with two octets of data, sent from a host as it is."""
    ends = ip_address(source[0]).packed + ip_address(to[0]).packed
    segment = struct.pack("!HHIIBBHHH", source[1], to[1], seq, 1, 5 << 4, flags, 1000, 0, 0) + b"x\0"
    pseudo = ends + struct.pack("!IHBB" if version == 6 else "!HHBB", *_pseudo(version, len(segment)))
    value = checksum(pseudo + segment)
    segment = segment[:16] + struct.pack("!H", value) + segment[18:]
    with inside(net.names[role]):
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
            raw.bind((source[0], 0))
            raw.sendto(segment, (to[0], 0))


def _pseudo(version: int, length: int) -> tuple[int, int, int, int]:
    return (length, 0, 0, socket.IPPROTO_TCP) if version == 6 else (0x0006, length, 0, 0)


class Seen:
    """The sequence numbers of what a host receives of a connection."""

    def __init__(self, net: Net, role: str) -> None:
        with inside(net.names[role]):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
        self._socket.settimeout(5)

    def next_sequence(self, version: int, source_port: int, port: int) -> int:
        """What the next segment from a port would begin with."""
        while True:
            packet = self._socket.recv(2048)
            at = 20 if version == 4 else 40
            if packet[0] >> 4 != version or len(packet) < at + 20:
                continue
            here, there, sequence = struct.unpack_from("!HHI", packet, at)
            if (here, there) == (source_port, port):
                size = (
                    int.from_bytes(packet[2:4], "big") - 20
                    if version == 4
                    else int.from_bytes(packet[4:6], "big")
                )
                return int(sequence) + size - (packet[at + 12] >> 4) * 4

    def resets(self) -> int:
        """How many segments with RST have come since it was asked last."""
        found = 0
        self._socket.setblocking(False)
        try:
            while True:
                packet = self._socket.recv(2048)
                at = 20 if packet[0] >> 4 == 4 else 40
                proto = packet[9] if at == 20 else packet[6]
                found += proto == socket.IPPROTO_TCP and bool(packet[at + 13] & 4)
        except BlockingIOError:
            return found

    def close(self) -> None:
        self._socket.close()


@both
@pytest.mark.parametrize("ruled", [True, False])
@pytest.mark.parametrize("side", ["endpoint", "client"])
def test_a_segment_out_of_the_window_ends_no_connection(
    net: Net, version: int, side: str, ruled: bool
) -> None:
    """It is not translated, so that the other end knows no such flow, and would answer it with a reset."""
    text = ruleset(plan(server(version, backend(POD["pod1"][version]))))
    if not ruled:  # the control
        text = "\n".join(line for line in text.split("\n") if "ct state invalid" not in line)
    net.apply_text(text)
    seen = Seen(net, "client" if side == "endpoint" else "pod1")
    resets = Seen(net, "pod1" if side == "endpoint" else "client")
    try:
        with net.serving(version, roles=("pod1",)), tcp(net.names["client"], version) as made:
            made.connect((VIP[version], 80))
            talk(made)
            mine, pod = made.getsockname(), (POD["pod1"][version], 8080)
            if side == "endpoint":
                sequence = seen.next_sequence(version, 80, mine[1]) + 200_000_000
                stray_segment(net, "pod1", version, pod, (mine[0], mine[1]), sequence % 2**32)
            else:
                sequence = seen.next_sequence(version, mine[1], 8080) + 200_000_000
                stray_segment(
                    net, "client", version, (mine[0], mine[1]), (VIP[version], 80), sequence % 2**32
                )
            time.sleep(0.1)
            assert (resets.resets() > 0) is not ruled
            if ruled:
                assert talk(made)[0] == "pod1"
    finally:
        seen.close()
        resets.close()


@both
def test_what_only_passes_goes_on_although_tracking_calls_it_invalid(net: Net, version: int) -> None:
    """An answer of another node's endpoint, whose question went another way."""
    net.apply(plan(server(version, backend(REMOTE[version]))))
    seen = Seen(net, "client")
    try:
        # SYN and ACK of a connection that the node has not seen the beginning of.
        stray_segment(net, "other", version, (REMOTE[version], 8080), (CLIENT[version], 40000), 7, flags=0x12)
        assert seen.next_sequence(version, 8080, 40000) == 9
    finally:
        seen.close()


# --- clients that come back ------------------------------------------------------------------------------


CLIENTS = 40


@pytest.fixture
def clients(net: Net, version: int) -> Iterator[list[str]]:
    more = [f"192.0.2.{n}" if version == 4 else f"2001:db8:c::{n:x}" for n in range(100, 100 + CLIENTS)]
    net.ip("client", *(f"addr add {each}/{LENGTH[version]} dev eth0{NODAD[version]}" for each in more))
    yield more
    net.ip("client", *(f"addr del {each}/{LENGTH[version]} dev eth0" for each in more))


def met(net: Net, version: int, clients: list[str]) -> dict[str, str]:
    """Which backend each client meets: name and port."""
    found = {}
    for source in clients:
        with tcp(net.names["client"], version) as made:
            made.bind((source, 0))
            made.connect((VIP[version], 80))
            found[source] = " ".join(talk(made)[:2])
    return found


class Table:
    """A table brought along by elements, as the agent does it."""

    def __init__(self, net: Net, made: FirewallPlan) -> None:
        self._net, self._plan = net, made
        net.apply(made)
        self._contents = InForce(made)

    def change(self, before: VirtualServer, now: VirtualServer) -> None:
        transaction = self._contents.change([(before, now)])
        assert transaction
        with inside(self._net.names["node"]):
            self._net.table.amend(transaction)

    def replace(self, made: FirewallPlan) -> None:
        with inside(self._net.names["node"]):
            kept = self._net.table.clients(InForce(made).filled)
            self._net.table.apply(ruleset(made, kept))


@both
def test_a_client_moves_only_where_it_has_to(net: Net, version: int, clients: list[str]) -> None:
    ends = [backend(POD[pod][version], port) for pod in PODS for port in (8080, 8081)]
    few, more = (server(version, *sorted(ends[:n]), affinity=10800) for n in (5, 6))
    table = Table(net, plan(few))
    with net.serving(version, 8080, 8081):
        first = met(net, version, clients)
        assert len(set(first.values())) == 5
        assert met(net, version, clients) == first
        table.change(few, more)
        assert met(net, version, clients) == first, "one more endpoint moves nobody"
        table.replace(plan(more))
        assert met(net, version, clients) == first, "nor does a table made anew"
        # An endpoint that goes moves its clients, and nobody else.
        gone = more.internal[0]
        left = replace(more, internal=more.internal[1:], external=more.external[1:])
        table = Table(net, plan())
        table.replace(plan(more))
        first = met(net, version, clients)
        Table.change(table_of(net, more), more, left)
        now = met(net, version, clients)
        name = {f"{POD[pod][version]} {port}": f"{pod} {port}" for pod in PODS for port in (8080, 8081)}
        lost = name[f"{gone.address} {gone.port}"]
        assert {each for each in clients if first[each] != now[each]} == {
            each for each in clients if first[each] == lost
        }
        assert lost in first.values()


def table_of(net: Net, made: VirtualServer) -> Table:
    """The table in force, which holds one server, without touching it."""
    table = object.__new__(Table)
    table._net, table._plan = net, plan(made)
    table._contents = InForce(table._plan)
    return table


@both
def test_a_client_is_remembered_for_the_services_timeout(net: Net, version: int, clients: list[str]) -> None:
    """After it the hash of all endpoints there are now decides; within it each connection begins it anew."""
    ends = sorted(backend(POD[pod][version]) for pod in PODS)
    one, all_ = (server(version, *ends[:n], affinity=4) for n in (1, 3))
    table = Table(net, plan(one))
    with net.serving(version):
        met(net, version, clients)
        table.change(one, all_)
        began = time.monotonic()
        while time.monotonic() < began + 4.5:
            assert len(set(met(net, version, clients[:1]).values())) == 1
            time.sleep(0.2)
        assert met(net, version, clients[:1]) == {clients[0]: "pod1 8080"}, "it came again and again"
        assert len(set(met(net, version, clients[1:]).values())) == 3, "these did not"


def test_the_same_client_meets_the_same_endpoint_on_every_node() -> None:
    """What decides where nobody is remembered depends on nothing but the endpoints."""
    ends = [backend(f"10.1.1.{n}") for n in range(2, 12)]
    made = server(4, *ends, affinity=60)
    text = ruleset(plan(made)).replace("sticky4", "")
    assert text == ruleset(plan(replace(made))).replace("sticky4", "")
    draws = [line for line in ruleset(plan(made)).splitlines() if line.startswith("jhash")]
    other = server(4, *reversed(ends), affinity=60)
    assert sorted(draws[0].split()) == sorted(
        next(line for line in ruleset(plan(other)).splitlines() if line.startswith("jhash")).split()
    )


@both
@pytest.mark.parametrize(("bound", "value"), [("MOST", 1), ("MOST_ENDS", 5)])
def test_beyond_a_bound_the_address_alone_binds_a_client(
    net: Net,
    version: int,
    clients: list[str],
    monkeypatch: pytest.MonkeyPatch,
    bound: str,
    value: int,
) -> None:
    """As nft would take ever longer; a server that comes when there is room again is remembered."""
    monkeypatch.setattr(sticky, bound, value)
    ends = sorted(backend(POD[pod][version]) for pod in PODS)
    first = server(version, *ends, affinity=60, port=79)
    second = server(version, *ends, affinity=60)
    table = Table(net, plan(first, second))
    text = ruleset(plan(first, second))
    assert text.count("flags dynamic,timeout") == 3
    with net.serving(version):
        once = met(net, version, clients)
        assert met(net, version, clients) == once
        assert len(set(once.values())) == 3
        fewer = replace(second, internal=tuple(ends[:2]), external=tuple(ends[:2]))
        table.change(second, fewer)
        assert set(met(net, version, clients).values()) == {"pod1 8080", "pod2 8080"}
        table.change(first, replace(first, affinity=0))
        table.change(fewer, second)  # there is room
        once = met(net, version, clients)
        more = replace(
            second, internal=(*ends, backend(REMOTE[version])), external=(*ends, backend(REMOTE[version]))
        )
        table.change(second, more)
        assert met(net, version, clients) == once
        monkeypatch.setattr(sticky, "MOST_ENDS", 3)
        table.change(more, second)
        table.change(second, more)  # has grown beyond it
        assert set(met(net, version, clients).values()) == {f"{pod} 8080" for pod in (*PODS, "other")}


# --- UDP ------------------------------------------------------------------------------------------------


def forget(net: Net, version: int, *kept: str, port: int = 53) -> int:
    from l3net.agent.servicing import stale_of
    from l3net.shell.kernel.conntrack import forget_stale

    now = server(version, *map(backend, kept), protocol="udp", port=port)
    with inside(net.names["node"]):
        return forget_stale([stale_of((ip_address(VIP[version]), "udp", port), now)])


@both
def test_a_udp_flow_goes_on_with_the_endpoints_there_are(net: Net, version: int) -> None:
    old, new = (
        server(version, backend(POD[pod][version]), protocol="udp", port=53) for pod in ("pod1", "pod2")
    )
    with (
        net.serving(version),
        udp(net.names["client"], version) as flow,
        udp(net.names["client"], version) as late,
    ):
        for each in (flow, late):
            each.connect((VIP[version], 53))
            each.settimeout(IMPATIENCE)
        # One that began before there was a service: it is not translated, and nobody answers.
        late.send(b"?")
        with pytest.raises((TimeoutError, OSError)):
            late.recv(100)
        for each in (flow, late):
            each.settimeout(30)
        net.apply(plan(old))
        forget(net, version, POD["pod1"][version])
        assert asked(late) == asked(flow) == "pod1"
        net.apply(plan(new))
        assert asked(flow) == "pod1", "the control: the entry outlives the endpoint's membership"
        assert forget(net, version, POD["pod2"][version]) == 2
        assert asked(late) == asked(flow) == "pod2"
        assert forget(net, version, POD["pod2"][version]) == 0, "what is as it should be is left"
        net.apply(plan())
        assert forget(net, version) == 2
        flow.settimeout(IMPATIENCE)
        with pytest.raises(OSError):
            asked(flow)


def asked(flow: socket.socket) -> str:
    flow.send(b"?")
    return flow.recv(100).decode().split()[0]


def test_nothing_is_left_of_these(net: Net) -> None:
    """Sets and chains of services that are gone are gone, after changes by elements as well."""
    made = server(4, backend(POD["pod1"][4]), affinity=60)
    table = Table(net, plan(made))
    table.change(made, replace(made, affinity=0))
    with inside(net.names["node"]):
        listed = subprocess.run(
            ["nft", "list", "table", "inet", "l3net"], capture_output=True, check=True, text=True
        )
    assert not [word for word in ("clients4-", "sticky4-", "end4-") if word in listed.stdout]
