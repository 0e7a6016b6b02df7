"""NodePorts: who reaches which endpoint by an address of the node, what is refused. Both families, real
packets."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from firewall_net import (
    BLOCKS,
    CLIENT,
    GATEWAY,
    IMPATIENCE,
    NODE,
    OTHER,
    POD,
    PODS,
    REMOTE,
    UPLINK,
    Net,
    talk,
    tcp,
    udp,
)
from sctp_chunks import ears, send
from test_firewall_conditions import Seen, stray_segment

from l3net.firewall import sticky
from l3net.firewall.facts import FirewallPlan
from l3net.firewall.ruleset import ruleset
from l3net.model import NODE_PORTS, Backend, Prefix, VirtualServer

pytestmark = pytest.mark.netns

PORT = 30080
both = pytest.mark.parametrize("version", [4, 6])
everyone = pytest.mark.parametrize("role", ["client", "other", "pod1", "node"])


@pytest.fixture(autouse=True)
def _clean(net: Net) -> Iterator[None]:
    yield
    net.apply(plan())


def backend(address: str, port: int = 8080) -> Backend:
    return Backend(ip_address(address), port)


def node_port(version: int, *backends: Backend, **changes: Any) -> VirtualServer:
    return replace(VirtualServer(NODE_PORTS[version], "tcp", PORT, backends, backends), **changes)


def on(*texts: str) -> frozenset[Prefix]:
    return frozenset(map(ip_network, texts))


def plan(*servers: VirtualServer, **changes: Any) -> FirewallPlan:
    addresses = [*NODE.values(), *UPLINK.values()]
    made = FirewallPlan(
        servers=frozenset(servers),
        blocks=frozenset(map(ip_network, BLOCKS)),
        node_addresses=frozenset(map(ip_address, addresses)),
        ports_on=on(*addresses),
    )
    return replace(made, **changes)


@both
@everyone
def test_every_endpoint_gets_its_share(net: Net, version: int, role: str) -> None:
    backends = [backend(POD[pod][version]) for pod in PODS]
    net.apply(plan(node_port(version, *backends), node_port(version, *backends, protocol="udp")))
    seen = {
        "client": CLIENT[version],
        "other": OTHER[version],
        "pod1": POD["pod1"][version],
        "node": NODE[version],
    }[role]
    with net.serving(version):
        answers = [net.ask(role, version, NODE[version], PORT) for _ in range(40)]
        answers += [net.ask_udp(role, version, NODE[version], PORT) for _ in range(20)]
    assert {answer[0] for answer in answers} == {*PODS}
    others = {answer[2] for answer in answers if answer[0] != role}
    assert others == {seen}  # the client's own address


@both
def test_a_pod_of_another_node(net: Net, version: int) -> None:
    net.apply(plan(node_port(version, backend(POD["pod2"][version]))))
    with net.serving(version):
        answer = net.ask("other", version, UPLINK[version], PORT, local=REMOTE[version])
    assert answer == ("pod2", "8080", REMOTE[version])


@both
def test_masquerade_where_the_answer_would_go_another_way(net: Net, version: int) -> None:
    remote = backend(REMOTE[version])
    net.apply(plan(node_port(version, remote), node_port(version, remote, protocol="udp")))
    with net.serving(version, roles=("other",), address=REMOTE[version]):
        for ask in (net.ask, net.ask_udp):
            assert ask("client", version, NODE[version], PORT) == ("other", "8080", UPLINK[version])
            assert ask("node", version, NODE[version], PORT) == ("other", "8080", UPLINK[version])
            assert ask("pod1", version, NODE[version], PORT) == ("other", "8080", POD["pod1"][version])


@both
def test_what_others_translate_is_not_masqueraded(net: Net, version: int) -> None:
    net.apply(plan(node_port(version, backend(POD["pod1"][version]))))
    with net.engine(version, 9000), net.serving(version):
        assert net.ask("client", version, NODE[version], 9000) == ("other", "8080", CLIENT[version])


@both
def test_a_pod_reaches_itself(net: Net, version: int) -> None:
    wanted = plan(node_port(version, backend(POD["pod1"][version])))
    net.apply(wanted)
    with net.serving(version):
        assert net.ask("pod1", version, NODE[version], PORT) == ("pod1", "8080", GATEWAY[version])
        lines = ruleset(wanted).split("\n")  # the control
        net.apply_text("\n".join(line for line in lines if "@hairpin" not in line))
        with pytest.raises(TimeoutError):
            net.ask("pod1", version, NODE[version], PORT, IMPATIENCE)


@both
@everyone
@pytest.mark.parametrize("port", [8080, PORT])
def test_an_endpoint_on_the_host_itself(net: Net, version: int, role: str, port: int) -> None:
    """Also one that listens on the very port."""
    net.apply(plan(node_port(version, backend(UPLINK[version], port))))
    with net.serving(version, port, roles=("node",), address=UPLINK[version]):
        assert net.ask(role, version, NODE[version], PORT)[:2] == ("node", str(port))
        if role != "node":
            assert net.ask(role, version, UPLINK[version], PORT)[:2] == ("node", str(port))


@both
def test_an_endpoint_on_another_host(net: Net, version: int) -> None:
    net.apply(plan(node_port(version, backend(OTHER[version]))))
    with net.serving(version):
        assert net.ask("client", version, NODE[version], PORT) == ("other", "8080", UPLINK[version])
        assert net.ask("pod1", version, NODE[version], PORT) == ("other", "8080", POD["pod1"][version])


@both
def test_traffic_policy_local(net: Net, version: int) -> None:
    every = (backend(REMOTE[version]),)
    held = [node_port(version, internal=every, external=(), protocol=each) for each in ("tcp", "udp")]
    net.apply(plan(*held))
    with net.serving(version):
        for role in ("pod1", "node"):
            assert net.ask(role, version, NODE[version], PORT)[0] == "other"
        for role in ("client", "other"):
            with pytest.raises(ConnectionRefusedError):
                net.ask(role, version, NODE[version], PORT)
            with pytest.raises(ConnectionRefusedError):
                net.ask_udp(role, version, NODE[version], PORT)
        mine = (backend(POD["pod1"][version]),)
        net.apply(plan(node_port(version, internal=(*every, *mine), external=mine)))
        answers = [net.ask("client", version, NODE[version], PORT) for _ in range(20)]
        assert set(answers) == {("pod1", "8080", CLIENT[version])}
        assert {net.ask("pod2", version, NODE[version], PORT)[0] for _ in range(40)} == {"pod1", "other"}


@both
@everyone
def test_without_endpoints_it_is_refused_at_once(net: Net, version: int, role: str) -> None:
    """Also where the host's own firewall drops what comes to it; and what is no NodePort is the host's."""
    net.apply(plan(*(node_port(version, protocol=each) for each in ("tcp", "udp"))))
    net.nft(
        "table inet host {\nchain in {\ntype filter hook input priority 10; policy drop;\n"
        "iifname lo accept\n"
        "tcp dport 8081 accept\nct state established accept\nmeta l4proto { icmp, ipv6-icmp } accept\n}\n}\n"
    )
    try:
        with net.serving(version, 8081, roles=("node",)):
            with pytest.raises(ConnectionRefusedError):
                net.ask(role, version, NODE[version], PORT)
            with pytest.raises(PermissionError if role == "node" else ConnectionRefusedError):
                net.ask_udp(role, version, NODE[version], PORT)
            assert net.ask(role, version, NODE[version], 8081)[0] == "node"
            if role != "node":
                with pytest.raises(TimeoutError):  # the control
                    net.ask(role, version, NODE[version], PORT + 1, IMPATIENCE)
    finally:
        net.nft("delete table inet host")


@both
def test_affinity(net: Net, version: int) -> None:
    backends = [backend(POD[pod][version]) for pod in PODS]
    net.apply(plan(node_port(version, *backends, affinity=60)))
    with net.serving(version):
        found = Counter(net.ask("client", version, NODE[version], PORT)[0] for _ in range(12))
        found |= Counter(net.ask("client", version, UPLINK[version], PORT)[0] for _ in range(12))
    assert len(found) == 1


def test_where_not_all_clients_are_remembered_those_of_node_ports_are_forgotten_first() -> None:
    ends = (backend("10.1.1.2"),)
    by_address = [
        VirtualServer(ip_address("10.96.0.0") + number, "tcp", 80, ends, ends, affinity=60)
        for number in range(sticky.MOST)
    ]
    on_nodes = [node_port(4, *ends, port=30000 + number, affinity=60) for number in range(10)]
    assert sticky.remembered_of([*on_nodes, *by_address]).keys() == {each.key for each in by_address}
    found = sticky.remembered_of([*on_nodes, *by_address[10:]])
    assert found.keys() == {each.key for each in (*on_nodes, *by_address[10:])}
    # And by their endpoints: what does not fit any more makes room for what does.
    many = tuple(backend(f"10.1.{number // 250}.{number % 250 + 1}") for number in range(sticky.MOST_ENDS))
    large = [replace(each, internal=many, external=()) for each in by_address[:2]]
    assert sticky.remembered_of(large).keys() == {large[0].key}
    late = replace(large[1], address=ip_address("10.97.0.0"))
    found = sticky.remembered_of([late, *by_address[2:5], *on_nodes])
    assert found.keys() == {each.key for each in (*by_address[2:5], *on_nodes)}


@both
def test_they_are_on_the_addresses_that_are_asked_for(net: Net, version: int) -> None:
    server = node_port(version, backend(POD["pod1"][version]))
    with net.serving(version):
        net.apply(plan(server, ports_on=on(f"{NODE[version]}")))
        assert net.ask("client", version, NODE[version], PORT)[0] == "pod1"
        with pytest.raises(ConnectionRefusedError):
            net.ask("client", version, UPLINK[version], PORT)
        net.apply(plan(server, ports_on=on("0.0.0.0/0", "::/0")))
        for address in (NODE[version], UPLINK[version], GATEWAY[version]):
            assert net.ask("client", version, address, PORT)[0] == "pod1"
        with pytest.raises(ConnectionRefusedError):  # of another machine
            net.ask("client", version, OTHER[version], PORT)
        with pytest.raises(ConnectionRefusedError):
            net.ask("node", version, "127.0.0.1" if version == 4 else "::1", PORT)
        net.apply(plan(server, ports_on=on("::/0" if version == 4 else "0.0.0.0/0")))  # the other family
        with pytest.raises(ConnectionRefusedError):
            net.ask("client", version, NODE[version], PORT)


@both
def test_the_ports_of_the_node_stay_its_own(net: Net, version: int) -> None:
    """A NodePort with the number of one that l3net answers takes it from nobody."""
    ports = (179, 9100, 9101, 10256)
    servers = [node_port(version, backend(POD["pod1"][version]), port=port) for port in ports]
    own = {"closed_ports": frozenset({("tcp", 9100)}), "open_ports": frozenset({("tcp", 10256)})}
    net.apply(plan(*servers, **own))
    with net.serving(version), net.serving(version, *ports, roles=("node",)):
        for role in ("client", "pod2"):
            assert net.ask(role, version, NODE[version], 10256)[0] == "node", "its own, and open to pods"
        assert net.ask("client", version, NODE[version], 179)[0] == "node"
        assert net.ask("client", version, NODE[version], 9100)[0] == "node"
        assert net.ask("client", version, NODE[version], 9101)[0] == "pod1"


@both
def test_nobody_speaks_to_another_nodes_bgp_as_this_node(net: Net, version: int) -> None:
    """A service whose endpoint is a node: masqueraded, its packets would come from a peer."""
    servers = [
        node_port(version, backend(OTHER[version], port), port=30000 + port) for port in (179, 1790, 8080)
    ]
    wanted = plan(*servers)
    nodes = wanted.node_addresses | {ip_address(OTHER[version])}
    with net.serving(version, 179, 1790, 8080, roles=("other",)):
        net.apply(replace(wanted, node_addresses=nodes, bgp_ports=frozenset({179, 1790})))
        assert net.ask("client", version, NODE[version], 38080) == ("other", "8080", UPLINK[version])
        for port in (30179, 31790):
            with pytest.raises(TimeoutError):
                net.ask("client", version, NODE[version], port, wait=IMPATIENCE)
        net.apply(wanted)  # an endpoint that is no node, such as a pod, has all its ports
        assert net.ask("client", version, NODE[version], 30179) == ("other", "179", UPLINK[version])


@both
def test_no_pod_speaks_to_a_routers_bgp_as_this_node(net: Net, version: int) -> None:
    """With natOutgoing it would come from the node's address, by itself or by a service whose endpoint is the
    router."""
    router = ip_address(OTHER[version])
    called = node_port(version, backend(OTHER[version], 179), port=30179)
    wanted = plan(called, nat_sources=on(*BLOCKS), routers=frozenset({(router, 179)}))
    with net.serving(version, 179, 8080, roles=("other",)):
        net.apply(wanted)
        assert net.ask("pod1", version, OTHER[version], 8080) == ("other", "8080", UPLINK[version])
        for role, to, port in (("pod1", OTHER, 179), ("pod1", NODE, 30179), ("client", NODE, 30179)):
            with pytest.raises(TimeoutError):
                net.ask(role, version, to[version], port, wait=IMPATIENCE)
        assert net.ask("node", version, OTHER[version], 179)[0] == "other", "the node itself"
        net.apply(replace(wanted, routers=frozenset({(None, 179)})))  # whom the node finds by itself
        with pytest.raises(TimeoutError):
            net.ask("pod1", version, OTHER[version], 179, wait=IMPATIENCE)
        net.apply(replace(wanted, routers=frozenset()))  # the control
        assert net.ask("pod1", version, OTHER[version], 179) == ("other", "179", UPLINK[version])


@both
def test_a_connection_goes_on_while_the_table_is_replaced(net: Net, version: int) -> None:
    wanted = plan(node_port(version, backend(POD["pod1"][version]), backend(REMOTE[version])))
    net.apply(wanted)
    stop = threading.Event()
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            with tcp(net.names["client"], version) as made:
                made.connect((NODE[version], PORT))
                while not stop.is_set():
                    made.sendall(b"?\n")
                    assert made.recv(64)
        except BaseException as err:
            failed.append(err)

    with net.serving(version):
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for each in threads:
            each.start()
        for _ in range(20):
            net.apply(wanted)
        stop.set()
        for each in threads:
            each.join()
    assert not failed


@both
def test_a_flow_of_the_host_from_such_a_port(net: Net, version: int) -> None:
    """Answers to what the host began go to it, whatever number its port has."""
    port = PORT + version  # what ended holds its port for a while
    net.apply(plan(*(node_port(version, protocol=each, port=port) for each in ("tcp", "udp"))))
    with (
        net.serving(version),
        tcp(net.names["node"], version) as made,
        udp(net.names["node"], version) as asks,
    ):
        made.bind(("", port))
        made.connect((OTHER[version], 8080))
        made.sendall(b"?\n")
        assert made.recv(64).split()[0] == b"other"
        asks.bind(("", port))
        asks.connect((OTHER[version], 8080))
        asks.send(b"?")
        assert asks.recv(64).split()[0] == b"other"


@both
@pytest.mark.parametrize("role", ["client", "other", "pod2", "node"])
def test_sctp(net: Net, version: int, role: str) -> None:
    net.apply(plan(node_port(version, backend(POD["pod1"][version], 9000), protocol="sctp")))
    own = 40000 + version
    with ears(net, "pod1", version) as pod:
        send(net, role, version, NODE[version], PORT, own)
        seen, port = pod.heard(own)
    assert port == 9000
    if role != "node":
        assert seen == {
            "client": CLIENT[version], "other": OTHER[version], "pod2": POD["pod2"][version]
        }[role]  # fmt: skip
    net.apply(plan(node_port(version, protocol="sctp")))
    if role == "node":
        with pytest.raises(PermissionError):
            send(net, role, version, NODE[version], PORT, own + 10)
    else:
        with ears(net, role, version) as mine:
            send(net, role, version, NODE[version], PORT, own + 10)
            mine.refused()


@both
@pytest.mark.parametrize("ruled", [True, False])
def test_a_segment_out_of_the_window_ends_no_connection(net: Net, version: int, ruled: bool) -> None:
    """It is not translated, and the host would answer it with a reset."""
    text = ruleset(plan(node_port(version, backend(POD["pod1"][version]))))
    if not ruled:  # the control
        text = "\n".join(line for line in text.split("\n") if "ct state invalid" not in line)
    net.apply_text(text)
    seen, resets = Seen(net, "pod1"), Seen(net, "client")
    try:
        with net.serving(version, roles=("pod1",)), tcp(net.names["client"], version) as made:
            made.connect((NODE[version], PORT))
            talk(made)
            mine = made.getsockname()[:2]
            sequence = seen.next_sequence(version, mine[1], 8080) + 200_000_000
            stray_segment(net, "client", version, mine, (NODE[version], PORT), sequence % 2**32)
            with udp(net.names["client"], version) as mark:  # comes after it, and is answered
                mark.connect((NODE[version], PORT + 1))
                mark.send(b"?")
                with pytest.raises(ConnectionRefusedError):
                    mark.recv(16)
            assert (resets.resets() > 0) is not ruled
            if ruled:
                assert talk(made)[0] == "pod1"
    finally:
        seen.close()
        resets.close()
