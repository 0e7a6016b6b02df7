"""Policies judge the pod that is reached, whatever address was called; what passes always. Both families."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest
from firewall_net import (
    BLOCKS,
    CLIENT,
    GATEWAY,
    IMPATIENCE,
    NODE,
    POD,
    PODS,
    REMOTE,
    UPLINK,
    Net,
    inside,
    udp,
)
from policy_facts import read
from truth import Document, labels, net_policy

from l3net.firewall.facts import FirewallPlan
from l3net.model import Backend, ObjectName, VirtualServer
from l3net.policy.attached import Attached
from l3net.policy.book import PolicyBook

pytestmark = pytest.mark.netns

VIP = {4: "10.96.0.10", 6: "fd00:10:96::a"}
both = pytest.mark.parametrize("version", [4, 6])
#: 8080 of pod2 is open to pod1; what is denied otherwise is everything.
TO_POD2 = net_policy(
    "default",
    "pod2",
    labels(app="pod2"),
    ingress=[{"from": [{"podSelector": labels(app="pod1")}], "ports": [{"port": 8080}]}],
)
CLOSED = [net_policy("default", name, labels(app=name), ingress=[], egress=[]) for name in PODS]


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    made = Net()
    try:
        yield made
    finally:
        made.close()


def enforce(net: Net, *policies: Document, backend: str = "") -> None:
    """These policies, and a service on port 80 with one backend."""
    book = PolicyBook()
    for name, policy in read(policies).policies.items():
        book.put_policy((True, name), policy)
    for name in PODS:
        addresses = tuple(ip_address(POD[name][version]) for version in (4, 6))
        book.attach(name, Attached(ObjectName("default", name), addresses, {"app": name}))
    book.settle()
    servers = []
    for version in (4, 6):
        if backend:
            address = POD[backend][version] if backend in POD else REMOTE[version]
            found = (Backend(ip_address(address), 8080),)
            servers.append(VirtualServer(ip_address(VIP[version]), "tcp", 80, found, found))
    net.apply(
        FirewallPlan(
            servers=frozenset(servers),
            blocks=frozenset(map(ip_network, BLOCKS)),
            node_addresses=frozenset(map(ip_address, (*NODE.values(), *UPLINK.values()))),
            policy=book.contents,
        )
    )


def answers(net: Net, role: str, version: int, address: str, port: int) -> bool:
    """What has to work may take its time."""
    return bool(net.ask(role, version, address, port))


def reaches(net: Net, role: str, version: int, address: str, port: int) -> bool:
    try:
        return bool(net.ask(role, version, address, port, IMPATIENCE))
    except OSError:
        return False


@both
def test_a_service_is_judged_by_the_pod_that_it_leads_to(net: Net, version: int) -> None:
    enforce(net, TO_POD2, backend="pod2")
    with net.serving(version):
        assert answers(net, "pod1", version, VIP[version], 80)
        for role in ("pod3", "client", "other"):
            assert not reaches(net, role, version, VIP[version], 80)
        enforce(net, backend="pod2")  # the control
        for role in ("pod3", "client", "other"):
            assert answers(net, role, version, VIP[version], 80)


@both
def test_egress_is_judged_by_the_pod_behind_a_service(net: Net, version: int) -> None:
    to_other = [{"to": [{"ipBlock": {"cidr": f"{REMOTE[version]}/{32 if version == 4 else 128}"}}]}]
    only_remote = net_policy("default", "out", labels(app="pod1"), egress=to_other)
    enforce(net, only_remote, backend="other")
    with net.serving(version):
        assert answers(net, "pod1", version, VIP[version], 80)
        enforce(net, only_remote, backend="pod2")
        assert not reaches(net, "pod1", version, VIP[version], 80)
        assert answers(net, "pod3", version, VIP[version], 80)  # of no policy


@both
def test_a_pod_reaches_itself_through_its_service(net: Net, version: int) -> None:
    """Nothing is open to anybody; the masquerade changes nothing."""
    enforce(net, *CLOSED, backend="pod1")
    with net.serving(version):
        assert net.ask("pod1", version, VIP[version], 80) == ("pod1", "8080", GATEWAY[version])
        assert not reaches(net, "pod2", version, VIP[version], 80)  # the control


@both
def test_the_node_reaches_its_pods_and_is_judged_as_any_other_by_them(net: Net, version: int) -> None:
    """Kubelet's probes, and services from the host; what a closed pod begins does not reach the node."""
    enforce(net, *CLOSED, backend="pod2")
    with net.serving(version), net.serving(version, 9000, roles=("node",)):
        assert answers(net, "node", version, POD["pod1"][version], 8080)
        assert answers(net, "node", version, VIP[version], 80)
        assert not reaches(net, "pod1", version, NODE[version], 9000)
        enforce(net)  # the control
        assert answers(net, "pod1", version, NODE[version], 9000)


@both
def test_the_gateway_is_found_by_a_pod_that_may_reach_nobody(net: Net, version: int) -> None:
    """Neighbour discovery passes; an echo request is traffic like any other."""
    enforce(net, *CLOSED)
    net.ip("pod1", f"neigh del {GATEWAY[version]} dev eth0")
    with net.serving(version):
        assert answers(net, "node", version, POD["pod1"][version], 8080)  # which answers through the gateway


SEND_TOO_BIG = """
import sys
from scapy.all import ICMP, IP, UDP, ICMPv6PacketTooBig, IPv6, send, conf
conf.verb = 0
pod, sport, client, port = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
if ":" in pod:
    about = IPv6(src=pod, dst=client) / UDP(sport=port, dport=sport) / b"an answer"
    send(IPv6(dst=pod) / ICMPv6PacketTooBig(mtu=1300) / about)
else:
    about = IP(src=pod, dst=client) / UDP(sport=port, dport=sport) / b"an answer"
    send(IP(dst=pod) / ICMP(type=3, code=4, nexthopmtu=1300) / about)
"""


@both
def test_path_mtu_is_told_through_a_policy(net: Net, version: int) -> None:
    """An error about a connection that is allowed passes, from whomever; one about none does not."""
    open_to_client = net_policy(
        "default",
        "pod2",
        labels(app="pod2"),
        ingress=[
            {
                "from": [{"ipBlock": {"cidr": f"{CLIENT[version]}/{32 if version == 4 else 128}"}}],
                "ports": [{"port": 8080, "protocol": "UDP"}],
            }
        ],
        egress=[],
    )
    enforce(net, open_to_client)
    with net.serving(version), udp(net.names["client"], version) as made:
        made.connect((POD["pod2"][version], 8080))
        made.send(b"?")
        made.recv(100)
        port = made.getsockname()[1]
        for sport, expected in ((port ^ 1, False), (port, True)):
            command = ["ip", "netns", "exec", net.names["other"], sys.executable, "-c", SEND_TOO_BIG]
            arguments = [POD["pod2"][version], str(sport), CLIENT[version], "8080"]
            subprocess.run([*command, *arguments], check=True, capture_output=True)
            command = ["ip", "-n", net.names["pod2"], "route", "get", CLIENT[version]]
            shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert ("mtu 1300" in shown) is expected, shown


@both
def test_datagrams_are_answered_where_only_the_question_is_allowed(net: Net, version: int) -> None:
    opened = net_policy(
        "default",
        "pod2",
        labels(app="pod2"),
        ingress=[{"ports": [{"port": 8080, "protocol": "UDP"}]}],
        egress=[],
    )
    enforce(net, opened)
    with net.serving(version):
        assert net.ask_udp("client", version, POD["pod2"][version], 8080)[0] == "pod2"
        assert not reaches(net, "client", version, POD["pod2"][version], 8080)  # TCP is not opened
        with inside(net.names["pod2"]):
            asking = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        with asking:
            asking.settimeout(IMPATIENCE)
            asking.connect((REMOTE[version], 8080))
            asking.send(b"?")
            with pytest.raises(TimeoutError):  # the control: what it asks itself is denied
                asking.recv(100)


@both
def test_policies_that_the_kernel_refuses_close_the_pods_they_are_for(net: Net, version: int) -> None:
    """What is in force then: nobody reaches them, everybody else is as before."""
    from l3net.firewall.policy import POLICY
    from l3net.firewall.ruleset import table
    from l3net.firewall.sections import SECTIONS

    enforce(net, TO_POD2)
    book = PolicyBook()
    for name, policy in read([TO_POD2]).policies.items():
        book.put_policy((True, name), policy)
    for name in PODS:
        addresses = tuple(ip_address(POD[name][each]) for each in (4, 6))
        book.attach(name, Attached(ObjectName("default", name), addresses, {"app": name}))
    book.settle()
    plan = FirewallPlan(blocks=frozenset(map(ip_network, BLOCKS)), policy=book.contents)
    bare = POLICY.bare(plan)
    made = [bare if section is POLICY else section.made(plan) for section in SECTIONS]
    net.apply_text(table(made))
    with net.serving(version):
        assert not reaches(net, "pod1", version, POD["pod2"][version], 8080)
        assert answers(net, "pod1", version, POD["pod3"][version], 8080)
        step = bare.held.change(plan, {})  # and from there to what is wanted
        with inside(net.names["node"]):
            net.table.amend(step.text)
        assert answers(net, "pod1", version, POD["pod2"][version], 8080)
        assert not reaches(net, "pod3", version, POD["pod2"][version], 8080)
