"""One endpoint of one service changes among many, and all change at once: how long, and what is lost."""

from __future__ import annotations

import resource
import socket
import subprocess
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from policies.packets import Two

from balancers import kubeproxy
from balancers.declared import (
    ECHO,
    ELSEWHERE,
    IPERF,
    SERVICE,
    backends,
    cluster_ip,
    node_port,
    plan,
    pod,
)
from balancers.ways import NODE, OUTSIDE, Place
from l3net.fib.envelope import envelope
from l3net.firewall.facts import FirewallPlan
from l3net.firewall.handing import HANDING
from l3net.firewall.ruleset import table
from l3net.firewall.section import Held
from l3net.firewall.sections import SECTIONS
from l3net.firewall.services import SERVICES
from l3net.model import Backend, Node, Placed, ServerKey, Spread, VirtualServer
from l3net.model.servers import NODE_PORTS
from l3net.shell.kernel.envelope import KernelEnvelope
from l3net.shell.kernel.nft import NftTable

ENDPOINTS = 10


@dataclass
class Cost:
    """Milliseconds of each change until the kernel has it, and of CPU (own and nft's) a change."""

    what: str
    times: list[float] = field(default_factory=list)
    own: float = 0.0


def _spent() -> float:
    return sum(
        getattr(resource.getrusage(who), part)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        for part in ("ru_utime", "ru_stime")
    )


class InForce:
    """Our table, as the agent brings it along."""

    def __init__(self, wanted: FirewallPlan) -> None:
        self.table, self.plan = NftTable(), wanted
        self.replace(wanted)

    def replace(self, wanted: FirewallPlan) -> None:
        made = [section.made(wanted) for section in SECTIONS]
        self.held: list[Held] = [
            each.held for each, section in zip(made, SECTIONS, strict=True) if section in (SERVICES, HANDING)
        ]
        self.table.apply(table(made))
        self.plan = wanted

    def change(self, *servers: VirtualServer) -> None:
        changed: dict[ServerKey, VirtualServer | None] = {each.key: each for each in servers}
        steps = [each.change(self.plan, changed) for each in self.held]
        self.table.amend("".join(step.text for step in steps))
        for step in steps:
            step.take()


def single(version: int, count: int, turns: int) -> list[Cost]:
    """One endpoint goes and comes, of ClusterIPs, of NodePorts, and in kube-proxy's design."""
    found = []
    node = NODE[version]
    mine = InForce(plan(version, count, ENDPOINTS, node))
    for what, on_node in ((f"l3net, ClusterIP of {count}", False), (f"l3net, NodePort of {count}", True)):
        cost, spent = Cost(what), _spent()
        for turn in range(turns):
            number = SERVICE + 1 + (turn * 37) % (count - 2)
            every = backends(version, number, ENDPOINTS, ECHO)
            address = NODE_PORTS[version] if on_node else cluster_ip(version, number)
            port = node_port(number, ECHO) if on_node else ECHO
            for each in (every[:-1], every):
                began = time.perf_counter()
                mine.change(VirtualServer(address, "tcp", port, each, each))
                cost.times.append((time.perf_counter() - began) * 1e3)
        cost.own = (_spent() - spent) / len(cost.times) * 1e3
        found.append(cost)
    mine.table.remove()
    _nft(kubeproxy.removal(version) + kubeproxy.nftables(version, count, ENDPOINTS, node))
    cost, spent = Cost(f"{kubeproxy.NFT}, of {count}"), _spent()
    for turn in range(min(turns, 20)):
        number = SERVICE + 1 + (turn * 37) % (count - 2)
        every = backends(version, number, ENDPOINTS, ECHO)
        for each in (every[:-1], every):
            began = time.perf_counter()
            _nft(_as_kube_proxy(version, number, each, last=len(each) < ENDPOINTS))
            cost.times.append((time.perf_counter() - began) * 1e3)
    cost.own = (_spent() - spent) / len(cost.times) * 1e3
    _nft(kubeproxy.removal(version))
    return [*found, cost]


def consistent(version: int, endpoints: int, count: int, turns: int) -> Cost:
    """One endpoint of one of so many consistent services goes, and another comes that nobody knew."""
    device = KernelEnvelope()
    nodes = {
        f"n{number}": Node(f"n{number}", (ip_address(f"192.0.2.{number}"), ip_address(f"fd00::{number}")))
        for number in range(1, 101)
    }
    found = envelope(nodes, "n1", 1500)
    assert found is not None
    found = replace(found, index=device.apply(found))
    places = {number: list(range(endpoints)) for number in range(count)}
    servers = {_balanced(version, number, every) for number, every in places.items()}
    mine = InForce(FirewallPlan(servers=frozenset(servers), envelope=found))
    mine.plan = FirewallPlan(envelope=found)  # servers that change are told one by one
    cost, spent, following = Cost(f"l3net, consistent: {count} of {endpoints} endpoints"), _spent(), endpoints
    for turn in range(turns):
        every = places[turn % count]
        gone = every.pop((turn * 7) % endpoints)
        for come in ([], [following - following % 100 + 100 + gone % 100]):
            every += come
            server = _balanced(version, turn % count, every)
            began = time.perf_counter()
            mine.change(server)
            cost.times.append((time.perf_counter() - began) * 1e3)
        following += 100
    cost.own = (_spent() - spent) / len(cost.times) * 1e3
    mine.table.remove()
    device.remove()
    device.close()
    return cost


def _balanced(version: int, number: int, places: Iterable[int]) -> VirtualServer:
    """An endpoint's place is the node's and, in hundreds, which of its."""
    first = ELSEWHERE[version] + 10_000 * number
    ends = tuple(
        sorted(Placed(Backend(ip_address(first + place), ECHO), f"n{place % 100 + 1}") for place in places)
    )
    backends = tuple(each.backend for each in ends)
    return VirtualServer(cluster_ip(version, number), "tcp", ECHO, backends, backends, spread=Spread(ends))


def _nft(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True)


def _as_kube_proxy(version: int, number: int, each: tuple[Backend, ...], *, last: bool) -> str:
    """The transaction of a service that has other endpoints: its chains are flushed and written anew."""
    table_name = f"{kubeproxy.IP[version]} kube-proxy"
    name = kubeproxy.chain_of(number, ECHO, "tcp")
    gone = f"endpoint-{number}-tcp-{ECHO}-{len(each)}"
    text = f"flush chain {table_name} {name}\nflush chain {table_name} external-{name}\n"
    text += "".join(
        f"add chain {table_name} endpoint-{number}-tcp-{ECHO}-{index}\n"
        f"flush chain {table_name} endpoint-{number}-tcp-{ECHO}-{index}\n"
        for index in range(len(each))
    )
    body = kubeproxy.service_chain(version, number, ECHO, "tcp", each)
    text += f"table {table_name} {{\n{body}}}\n"
    return text + (f"flush chain {table_name} {gone}\ndelete chain {table_name} {gone}\n" if last else "")


@dataclass
class Replaced:
    """Seconds of each time that all services were replaced by others; and of new flows meanwhile, how many
    were sent, refused, and not answered."""

    what: str
    seconds: list[float] = field(default_factory=list)
    sent: int = 0
    refused: int = 0
    lost: int = 0


def whole(version: int, count: int, turns: int, *, ports: bool) -> Replaced:
    """The table with all services is replaced by one with other endpoints, under a stream of new flows."""
    what = f"{count} services of {ENDPOINTS} endpoints"
    found = Replaced(f"{what}{' and NodePorts' if ports else ''}")
    with ExitStack() as undo:
        place = Place(undo, version)
        one = plan(version, count, ENDPOINTS, NODE[version], ports=ports)
        other = replace(one, servers=frozenset(map(_shifted, one.servers)))
        with place.inside(place.host):
            mine = InForce(one)
        stop = threading.Event()
        threads = [
            threading.Thread(target=each, args=(place, version, stop, found))
            for each in (_answering, _asking)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        try:
            for turn in range(turns):
                with place.inside(place.host):
                    began = time.perf_counter()
                    mine.replace(one if turn % 2 else other)
                    found.seconds.append(time.perf_counter() - began)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    return found


def _shifted(server: VirtualServer) -> VirtualServer:
    """The same with other endpoints, but for the service that is called."""
    if server.internal[0].address == pod(server.address.version):
        return server
    moved = tuple(Backend(ip_address(int(each.address) + 5), each.port) for each in server.internal)
    return replace(server, internal=moved, external=moved)


def _sockets(place: Two, name: str, version: int) -> socket.socket:
    with place.inside(name):
        return socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)


def _answering(place: Place, version: int, stop: threading.Event, _found: Replaced) -> None:
    with _sockets(place, place.pods[0], version) as made:
        made.bind((str(pod(version)), IPERF))
        made.settimeout(0.2)
        while not stop.is_set():
            try:
                _, peer = made.recvfrom(64)
                made.sendto(b"x", peer)
            except TimeoutError:
                continue


def _asking(place: Place, version: int, stop: threading.Event, found: Replaced) -> None:
    to = (str(cluster_ip(version)), IPERF)
    with place.inside(place.pods[OUTSIDE]):
        while not stop.is_set():
            with socket.socket(
                socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM
            ) as made:
                made.settimeout(1)
                made.connect(to)
                found.sent += 1
                try:
                    made.send(b"?")
                    made.recv(64)
                except ConnectionRefusedError:
                    found.refused += 1
                except TimeoutError:
                    found.lost += 1
