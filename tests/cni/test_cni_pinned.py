"""A pod with raw sockets (CAP_NET_RAW, a container's default) cannot draw its neighbours' traffic."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest

from l3net.model import BridgePlan
from l3net.shell.kernel import links
from l3net.shell.kernel.bridge import KernelBridge
from l3net.shell.kernel.links import mac_bytes
from l3net.shell.kernel.neighbours import delete_neighbour
from l3net.shell.kernel.netlink import Netlink

if TYPE_CHECKING:
    from conftest import Host

pytestmark = pytest.mark.netns

#: Sends the frame given in hexadecimal out of eth0, as any process with CAP_NET_RAW may.
SEND = (
    "import socket,sys;s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW);s.bind(('eth0',0));"
    "[s.send(bytes.fromhex(each)) for each in sys.argv[1:]]"
)
GATEWAYS = {4: "10.244.0.1", 6: "fd00:10:244:1::1"}


def addresses(result: dict[str, Any]) -> dict[int, str]:
    found = [entry["address"].split("/")[0] for entry in result["ips"]]
    return {6 if ":" in each else 4: each for each in found}


def forged(version: int, address: str, mac: str) -> list[bytes]:
    """ "This address is at this MAC": ARP, asked and answered; neighbour advertisements, with override."""
    own, claimed = mac_bytes(mac), ip_address(address).packed
    bridge = mac_bytes("02:6c:33:00:00:01")
    gateway = ip_address(GATEWAYS[version]).packed
    if version == 4:
        ethernet = own + b"\x08\x06" + b"\0\x01\x08\0\x06\x04"
        return [
            b"\xff" * 6 + ethernet + b"\0\x01" + own + claimed + bytes(6) + gateway,
            bridge + ethernet + b"\0\x02" + own + claimed + bridge + gateway,
        ]
    message = b"\x88\0\0\0" + b"\x60\0\0\0" + claimed + b"\x02\x01" + own  # solicited and override
    length = len(message).to_bytes(4, "big")
    total = claimed + gateway + length + b"\0\0\0\x3a" + message
    check = sum(int.from_bytes(total[place : place + 2], "big") for place in range(0, len(total), 2))
    while check >> 16:
        check = (check & 0xFFFF) + (check >> 16)
    message = message[:2] + (check ^ 0xFFFF).to_bytes(2, "big") + message[4:]
    header = b"\x60\0\0\0" + len(message).to_bytes(2, "big") + b"\x3a\xff" + claimed + gateway
    return [bridge + own + b"\x86\xdd" + header + message]


def unguard(host: Host) -> None:
    """Have frames pass that the ports' guard would drop: what stands here holds without it as well."""
    host.stop()  # it would put the table back
    subprocess.run(["ip", "netns", "exec", host.name, "nft", "delete table bridge l3net"], check=True)


def send(pod: str, frames: list[bytes]) -> None:
    argv = ["ip", "netns", "exec", pod, "python3", "-c", SEND, *(frame.hex() for frame in frames)]
    subprocess.run(argv, check=True)


def neighbour(host: Host, address: str) -> dict[str, Any]:
    found = host.ip("neigh", "show", address, "dev", "l3net0")
    return found[0] if found else {}


def mac_of(host: Host, pod: str) -> str:
    (link,) = host.ip("link", "show", "dev", "eth0", netns=pod)
    return str(link["address"])


def until(condition: Callable[[], object], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def index_of(host: Host, name: str) -> int:
    return int(host.ip("link", "show", "dev", name)[0]["ifindex"])


def transact(host: Host, *requests: Any) -> list[int]:
    def run() -> list[int]:
        with Netlink() as netlink:
            return netlink.transact(requests)

    return host.inside(run)


@pytest.mark.parametrize("version", [4, 6])
def test_a_forged_claim_moves_nothing(host: Host, version: int, ping: Any) -> None:
    victim, attacker = host.pod(), host.pod()
    address = addresses(host.add("victim", victim))[version]
    host.add("attacker", attacker)
    unguard(host)
    mine, theirs = mac_of(host, attacker), mac_of(host, victim)
    assert ping(host.name, address)
    for _ in range(5):
        send(attacker, forged(version, address, mine))
    entry = neighbour(host, address)
    assert (entry["lladdr"], entry["state"]) == (theirs, ["PERMANENT"])
    assert ping(host.name, address)
    # the control: without the entry the same packets move the address to the attacker
    bridge = index_of(host, "l3net0")
    assert transact(host, delete_neighbour(bridge, ip_address(address))) == [0]
    assert ping(host.name, address)
    assert neighbour(host, address)["lladdr"] == theirs

    def moved() -> bool:
        send(attacker, forged(version, address, mine))
        return bool(neighbour(host, address).get("lladdr") == mine)

    assert until(moved), "the forged packets are none the kernel would believe"


def test_a_forged_source_moves_no_mac(host: Host, ping: Any, run: Any) -> None:
    """Frames with a neighbour's MAC as their source do not bring its traffic to the sender's port."""
    victim, attacker = host.pod(), host.pod()
    address = addresses(host.add("victim", victim))[4]
    host.add("attacker", attacker)
    unguard(host)
    theirs = mac_bytes(mac_of(host, victim))
    frame = mac_bytes("02:6c:33:00:00:01") + theirs + b"\x08\x06" + bytes(28)

    def port_of_victim() -> str:
        shown = run("ip", "netns", "exec", host.name, "bridge", "fdb", "show", "br", "l3net0")
        (line,) = (each for each in shown.splitlines() if each.startswith(mac_of(host, victim)))
        return str(line.split()[2])

    port = port_of_victim()
    send(attacker, [frame] * 5)
    assert port_of_victim() == port
    assert ping(host.name, address)
    # the control: where the bridge learns, they do
    (other,) = (each for each in host.veths() if each != port)
    run("ip", "netns", "exec", host.name, "bridge", "link", "set", "dev", other, "learning", "on")
    forget = f"bridge fdb del {mac_of(host, victim)} dev {port} master"
    run("ip", "netns", "exec", host.name, *forget.split())
    send(attacker, [frame] * 5)
    assert port_of_victim() == other


def permanent(host: Host) -> set[str]:
    return {
        each["dst"]
        for family in ("-4", "-6")
        for each in host.ip(family, "neigh", "show", "dev", "l3net0")
        if "PERMANENT" in each["state"]
    }


def test_entries_come_and_go_with_the_lease(host: Host, run: Any, ping: Any) -> None:
    """ADD, DEL, an ADD that fails, a bridge made anew, entries that somebody deletes or leaves."""
    server = host.server
    assert server
    one, two = host.pod(), host.pod()
    first = set(addresses(host.add("c1", one)).values())
    second = set(addresses(host.add("c2", two)).values())
    assert permanent(host) == first | second
    mapping = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}
    conf = {**host.conf, "runtimeConfig": {"portMappings": [mapping, {**mapping, "containerPort": 81}]}}
    assert host.cni("ADD", "c3", host.pod(), conf=conf).code == 1
    assert permanent(host) == first | second
    assert host.cni("DEL", "c1", None).code == 0
    assert permanent(host) == second
    assert host.inside(server.reattach_ports) == []
    assert permanent(host) == second
    for family in ("-4", "-6"):
        run("ip", "-n", host.name, family, "neigh", "flush", "dev", "l3net0", "nud", "permanent")
    run(*f"ip -n {host.name} neigh add 10.244.0.99 lladdr 02:00:00:00:00:01 dev l3net0".split())
    assert not permanent(host) & second
    host.inside(server.reattach_ports)
    assert permanent(host) == second
    run("ip", "-n", host.name, "link", "del", "l3net0")
    assert server.network
    host.inside(lambda: remake(host))
    assert server.settle()  # the first pod's link may wait for its batch
    assert host.inside(server.reattach_ports) == host.veths()
    assert permanent(host) == second
    assert all(ping(host.name, each) for each in second)
    shown = run("ip", "netns", "exec", host.name, "bridge", "-d", "link", "show")
    assert shown.count("learning off") == 1


def remake(host: Host) -> None:
    gateways = frozenset({(ip_address("10.244.0.1"), 20), (ip_address("fd00:10:244:1::1"), 116)})
    bridge = KernelBridge()
    bridge.apply(BridgePlan("l3net0", "02:6c:33:00:00:01", 1500, gateways))
    bridge.close()


def test_a_mac_that_was_asked_for(host: Host, run: Any, ping: Any) -> None:
    """It is in the alias, so that it is found again when the bridge is made anew."""
    conf = {**host.conf, "runtimeConfig": {"mac": "02:11:22:33:44:55"}}
    pod = host.pod()
    found = addresses(host.add("c1", pod, conf=conf))
    server = host.server
    assert server
    run("ip", "-n", host.name, "link", "del", "l3net0")
    host.inside(lambda: remake(host))
    host.inside(server.reattach_ports)
    assert {neighbour(host, each)["lladdr"] for each in found.values()} == {"02:11:22:33:44:55"}
    assert all(ping(host.name, each) for each in found.values())


def test_pods_of_an_older_release_are_pinned_where_it_is_sure(host: Host, run: Any, ping: Any) -> None:
    """Their links note no MAC: it is taken from the address only if the neighbours say the same."""
    server = host.server
    assert server
    usual, asked = host.pod(), host.pod()
    first = addresses(host.add("c1", usual))
    conf = {**host.conf, "runtimeConfig": {"mac": "02:11:22:33:44:55"}}
    second = addresses(host.add("c2", asked, conf=conf))
    for link in host.ip("link"):
        if words := link.get("ifalias", "").split():
            transact(host, links.set_port(0, link["ifname"], alias=" ".join(words[:5]), learning=True))
    for family in ("-4", "-6"):
        run("ip", "-n", host.name, family, "neigh", "flush", "dev", "l3net0", "nud", "permanent")
    assert all(ping(host.name, each) for each in (*first.values(), *second.values()))
    host.inside(server.reattach_ports)
    assert permanent(host) == set(first.values())
    assert all(ping(host.name, each) for each in (*first.values(), *second.values()))
