"""A client, a router with ECMP, and nodes with a pod each, in network namespaces: for services whose address
the router spreads over the nodes. What the nodes do is decided from one declared state."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import selectors
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TypeVar

from firewall_net import inside
from pyroute2 import netns

from l3net.config import ERROR_RELAY_PORT
from l3net.fib.envelope import envelope
from l3net.firewall.facts import FirewallPlan, plan
from l3net.firewall.ruleset import table
from l3net.firewall.section import Held
from l3net.firewall.sections import SECTIONS
from l3net.model import (
    AddressKind,
    AdvertisePolicy,
    BgpConfiguration,
    ClusterState,
    Endpoint,
    EndpointSlice,
    Node,
    ObjectName,
    Service,
    ServicePort,
    VirtualServer,
)
from l3net.naming import ENVELOPE
from l3net.services.servers import virtual_servers
from l3net.shell.kernel.envelope import KernelEnvelope
from l3net.shell.kernel.errorrelay import ErrorRelay
from l3net.shell.kernel.nft import NftTable

T = TypeVar("T")
VIP = {4: "203.0.113.1", 6: "2001:db8:ff::1"}
CLIENT = {4: "192.0.2.2", 6: "2001:db8:c::2"}
PORTS = {"TCP": 80, "UDP": 53}
#: Asks for an answer that no narrow link lets through: so many octets over TCP, a packet full over UDP.
LARGE, DOWNLOAD = b"large\n", 50_000
QUIET = 0.5  # seconds without an answer after which no more come


def node_address(number: int) -> dict[int, str]:
    return {4: f"192.0.{10 + number}.2", 6: f"2001:db8:{10 + number}::2"}


def pod_address(number: int) -> dict[int, str]:
    return {4: f"10.1.{number}.2", 6: f"fd00:1:{number}::2"}


@dataclass
class _OnNode:
    """What one node has by its decisions."""

    kernel: KernelEnvelope
    table: NftTable
    held: dict[str, Held]
    servers: Mapping[object, VirtualServer]


class SpreadNet:
    """`declare` says which nodes have an endpoint; `route` over which of them the router spreads."""

    def __init__(
        self, nodes: int, *, consistent: bool = True, outer: int = 4, affinity: int = 0, local: bool = False
    ) -> None:
        self._undo = ExitStack()
        self._tag = uuid.uuid4().hex[:8]
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.outer = outer
        self._on: dict[str, _OnNode] = {}
        policy = AdvertisePolicy(
            cluster_ips=AddressKind(enabled=False),
            external_ips=AddressKind(
                enabled=True, cidrs=(ip_network("203.0.113.0/24"), ip_network("2001:db8:ff::/64"))
            ),
            consistent=consistent,
        )
        self.state = ClusterState(configuration=BgpConfiguration(advertise=policy))
        self.service = Service(
            ObjectName("default", "web"),
            cluster_ips=(ip_address("10.96.0.1"), ip_address("fd00:96::1")),
            external_ips=tuple(map(ip_address, VIP.values())),
            ports=tuple(ServicePort(name, name, port) for name, port in PORTS.items()),
            affinity_timeout=affinity,
            external_traffic_local=local,
        )
        self.state.services[self.service.name] = self.service
        self.targets: dict[str, int] = {}  # where pods answer, by the port's name, but on 8080
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def name(self, role: str) -> str:
        return f"sp{self._tag}-{role}"

    def run(self, role: str, call: Callable[[], T]) -> T:
        with inside(self.name(role)):
            return call()

    # --- namespaces --------------------------------------------------------------------------------------

    def _build(self) -> None:
        for role in ("client", "router", *self.nodes, *(f"p{node}" for node in self.nodes)):
            netns.create(self.name(role))
            self._undo.callback(netns.remove, self.name(role))
            self.ip(role, "link set lo up")
            self.set(role, "net/ipv6/conf/default/accept_dad", "0")
        for role in ("router", *self.nodes):
            # Strict, as distributions have it, but for the router, which would have to hear of the address.
            self.set(role, "net/ipv4/conf/default/rp_filter", "0" if role == "router" else "1")
            self.set(role, "net/ipv4/conf/all/rp_filter", "0" if role == "router" else "1")
            self.set(role, "net/ipv4/ip_forward", "1")
            self.set(role, "net/ipv6/conf/all/forwarding", "1")
        self.set("router", "net/ipv4/fib_multipath_hash_policy", "1")
        self.set("router", "net/ipv6/fib_multipath_hash_policy", "1")
        self._link("router", "to-client", "client", "eth0", {4: "192.0.2.1", 6: "2001:db8:c::1"}, CLIENT)
        for number, node in enumerate(self.nodes, start=1):
            own = node_address(number)
            hop = {4: own[4][:-1] + "1", 6: own[6][:-1] + "1"}
            self._link("router", f"to-{node}", node, "up0", hop, own)
            pod = pod_address(number)
            gateway = {4: pod[4][:-1] + "1", 6: pod[6][:-1] + "1"}
            self._link(node, "l3net0", f"p{node}", "eth0", gateway, pod)
            for prefix, version in ((f"10.1.{number}.0/24", 4), (f"fd00:1:{number}::/64", 6)):
                self.ip("router", f"route add {prefix} via {own[version]}")
        self.declare(self.nodes)

    def _link(
        self, near: str, link: str, far: str, peer: str, one: Mapping[int, str], other: Mapping[int, str]
    ) -> None:
        self.ip(near, f"link add {link} type veth peer name {peer} netns {self.name(far)}")
        for role, end, addresses in ((near, link, one), (far, peer, other)):
            self.ip(
                role,
                f"addr add {addresses[4]}/24 dev {end}",
                f"addr add {addresses[6]}/64 dev {end} nodad",
                f"link set {end} up",
            )
        self.ip(far, f"route add default via {one[4]}", f"route add default via {one[6]}")

    def ip(self, role: str, *lines: str) -> None:
        command = ["ip", "-n", self.name(role), "-batch", "-"]
        subprocess.run(command, input="\n".join(lines).encode(), check=True)

    def set(self, role: str, path: str, value: str) -> None:
        self.run(role, lambda: Path("/proc/sys", path).write_text(value))

    def forget(self, role: str) -> None:
        """A node knows no connection any more."""
        self.run(role, lambda: subprocess.run(["conntrack", "-F"], check=True, capture_output=True))

    def tracked(self, role: str) -> int:
        """Connections that a node tracks."""
        path = Path("/proc/sys/net/netfilter/nf_conntrack_count")
        return self.run(role, lambda: int(path.read_text()))

    def enveloped(self, role: str) -> int:
        """Packets that a node has got by the envelope."""

        def read() -> int:
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
            return next(int(line.split()[2]) for line in lines if line.split()[0] == f"{ENVELOPE}:")

        return self.run(role, read)

    def close(self) -> None:
        for each in self._on.values():
            each.kernel.close()
        self._undo.close()

    # --- the router --------------------------------------------------------------------------------------

    def route(self, nodes: Collection[str]) -> None:
        """Over these, in this order: another order is another hash."""
        for version, vip in VIP.items():
            hops = (node_address(self.nodes.index(node) + 1)[version] for node in nodes)
            there = " ".join(f"nexthop via {hop}" for hop in hops)
            self.ip("router", f"route replace {vip} {there}")

    def narrow(self, mtu: int) -> None:
        """The router's link to the client, as the router sees it."""
        self.ip("router", f"link set to-client mtu {mtu}")

    @contextlib.contextmanager
    def errors_go_to(self, node: str) -> Iterator[None]:
        """The router sends ICMP errors about the service to this node, wherever connections go."""
        rules = []
        for version, protocol in ((4, "icmp"), (6, "ipv6-icmp")):
            hop = node_address(self.nodes.index(node) + 1)[version]
            self.ip("router", f"route replace {VIP[version]} via {hop} table 100")
            rules.append(f"to {VIP[version]} ipproto {protocol} table 100 priority 100")
        for each in rules:
            self._rule("add", each)
        try:
            yield
        finally:
            for each in rules:
                self._rule("del", each)

    def _rule(self, what: str, rule: str) -> None:
        family = "-6" if ":" in rule else "-4"
        subprocess.run(["ip", "-n", self.name("router"), family, "rule", what, *rule.split()], check=True)

    # --- what is declared --------------------------------------------------------------------------------

    def declare(
        self,
        endpoints: Collection[str],
        *,
        waning: Collection[str] = (),
        unready: Collection[str] = (),
        nodes: Collection[str] | None = None,
        dead: Collection[str] = (),
        only: Collection[str] | None = None,
    ) -> None:
        """Which nodes there are and have an endpoint; `dead` ones are known to be, and nodes but `only` these
        do not hear of it yet."""
        known = self.nodes if nodes is None else nodes
        versions = (4, 6) if self.outer == 4 else (6,)
        self.state.nodes = {
            node: Node(
                node,
                tuple(ip_address(node_address(number)[version]) for version in versions),
                (ip_network(f"10.1.{number}.0/24"), ip_network(f"fd00:1:{number}::/64")),
                ready=node not in dead,
            )
            for number, node in enumerate(self.nodes, start=1)
            if node in known
        }
        self.state.slices = {}
        for version in (4, 6):
            name = ObjectName("default", f"web-{version}")
            found = tuple(
                Endpoint(
                    ip_address(pod_address(number)[version]),
                    ready=node in endpoints,
                    serving=node in endpoints or node in waning,
                    terminating=node in waning,
                    node=node,
                )
                for number, node in enumerate(self.nodes, start=1)
                if node in (*endpoints, *waning, *unready)
            )
            ports = {
                each.name: (each.protocol, self.targets.get(each.name, 8080)) for each in self.service.ports
            }
            self.state.slices[name] = EndpointSlice(name, self.service.name, found, ports)
        for node in self.state.nodes:
            if node not in dead and (only is None or node in only):
                self.run(node, lambda node=node: self._decide(node))  # type: ignore[misc]

    def _decide(self, node: str) -> None:
        on = self._on.get(node)
        if on is None:
            on = self._on[node] = _OnNode(KernelEnvelope(), NftTable(), {}, {})
        servers = {each.key: each for each in virtual_servers(self.state, node)}
        wanted = self._plan(node, on, servers)
        if not on.held:
            made = {section.name: section.made(wanted) for section in SECTIONS}
            on.held = {name: each.held for name, each in made.items()}
            on.table.apply(table(made.values()))
        else:
            changed = {
                key: servers.get(key)  # type: ignore[call-overload]
                for key in {**on.servers, **servers}
                if on.servers.get(key) != servers.get(key)  # type: ignore[call-overload]
            }
            steps = [each.change(replace(wanted, servers=frozenset()), changed) for each in on.held.values()]
            on.table.amend("".join(step.text for step in steps))
            for step in steps:
                step.take()
        on.servers = servers  # type: ignore[assignment]

    def _plan(self, node: str, on: _OnNode, servers: Mapping[object, VirtualServer]) -> FirewallPlan:
        wanted = None
        if any(server.spread for server in servers.values()):
            wanted = envelope(self.state.nodes, node, 1500)
            assert wanted is not None
            wanted = replace(wanted, index=on.kernel.apply(wanted))
        return plan(self.state, node, servers.values(), envelope=wanted, error_port=ERROR_RELAY_PORT)

    @contextlib.contextmanager
    def relaying(self) -> Iterator[dict[str, ErrorRelay]]:
        """Every node hands ICMP errors on, all on one thread."""
        made = {node: ErrorRelay(ERROR_RELAY_PORT) for node in self.nodes}
        loop = asyncio.new_event_loop()
        addresses = {node: list(each.addresses) for node, each in self.state.nodes.items()}

        async def start() -> None:
            for node, relay in made.items():
                relay.is_service = lambda address: str(address) in VIP.values()
                relay.update(list(addresses.values()), addresses[node])
                with inside(self.name(node)):
                    relay.start()

        async def stop() -> None:
            for relay in made.values():
                relay.stop()

        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(start(), loop).result(10)
            yield made
        finally:
            asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    # --- traffic -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Every pod answers with its name."""
        pods = Pods()
        try:
            for number, node in enumerate(self.nodes, start=1):
                for address in pod_address(number).values():
                    self.run(f"p{node}", lambda: pods.listen(node, address))  # noqa: B023 - at once
            pods.start()
            yield
        finally:
            pods.close()

    def rejoin(self, node: str) -> None:
        """A node whose link is down is there again."""
        own = node_address(self.nodes.index(node) + 1)
        hop = {4: own[4][:-1] + "1", 6: own[6][:-1] + "1"}
        self.ip(
            node,
            "link set up0 up",
            f"addr replace {own[6]}/64 dev up0 nodad",
            f"route replace default via {hop[4]}",
            f"route replace default via {hop[6]}",
        )

    def flows(self, protocol: str, version: int, count: int) -> Flows:
        return self.run("client", lambda: Flows(protocol, version, count))


class Pods:
    """Answer each line or datagram with a name and the address it came from, or at length if asked to, all on
    one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._stop, self._stopped = os.pipe()
        self._selector.register(self._stop, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def listen(self, name: str, address: str) -> None:
        """In the namespace of the caller."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, 8080), family=family, backlog=512)
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        datagrams.bind((address, 8080))
        for each, answer in ((listener, self._accept), (datagrams, self._datagram)):
            self._selector.register(each, selectors.EVENT_READ, (name, answer))

    def start(self) -> None:
        self._thread.start()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                name, answer = key.data
                answer(key.fileobj, name)

    def _accept(self, listener: socket.socket, name: str) -> None:
        accepted, _ = listener.accept()
        self._selector.register(accepted, selectors.EVENT_READ, (name, self._stream))

    def _stream(self, stream: socket.socket, name: str) -> None:
        with contextlib.suppress(OSError):
            if asked := stream.recv(65536):
                if asked == LARGE:
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * DOWNLOAD)
                    stream.send(bytes(DOWNLOAD))
                    return
                stream.sendall(f"{name} {stream.getpeername()[0]}\n".encode())
                return
        self._selector.unregister(stream)
        stream.close()

    def _datagram(self, datagrams: socket.socket, name: str) -> None:
        asked, peer = datagrams.recvfrom(65536)
        if asked == LARGE:
            with contextlib.suppress(OSError):  # the error of the one before
                datagrams.sendto(bytes(1400), peer)
            return
        datagrams.sendto(f"{name} {peer[0]}\n".encode(), peer)

    def close(self) -> None:
        os.write(self._stopped, b".")
        if self._thread.is_alive():
            self._thread.join()
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        os.close(self._stop)
        os.close(self._stopped)


class Flows:
    """Connections, or datagrams from as many ports, of the client to the service."""

    def __init__(self, protocol: str, version: int, count: int) -> None:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
        self._protocol = protocol
        self.sockets = [socket.socket(family, kind | socket.SOCK_NONBLOCK) for _ in range(count)]
        for each in self.sockets:
            with contextlib.suppress(BlockingIOError):
                each.connect((VIP[version], PORTS[protocol]))
        self._wait_for_writable()

    def _wait_for_writable(self) -> None:
        poll, until = select.poll(), time.monotonic() + 10
        waiting = {each.fileno() for each in self.sockets}
        for number in waiting:
            poll.register(number, select.POLLOUT)
        while waiting and time.monotonic() < until:
            for number, _ in poll.poll(1000):
                poll.unregister(number)
                waiting.discard(number)

    def ask(self, wait: float = 10.0) -> list[str]:
        """Who answers each, by which address it saw; empty where nobody does. What is lost on the way, as
        datagrams may be, is sent again."""
        answers = [""] * len(self.sockets)
        for _ in range(3 if self._protocol == "UDP" else 1):
            self._ask(answers, wait)
            if all(answers):
                break
        return answers

    def _ask(self, answers: list[str], wait: float) -> None:
        waiting: dict[socket.socket, int] = {}
        for number, each in enumerate(self.sockets):
            if answers[number]:
                continue
            with contextlib.suppress(OSError):
                each.send(b"?\n")
                waiting[each] = number
        poll = select.poll()
        by_number = {each.fileno(): each for each in waiting}
        for number in by_number:
            poll.register(number, select.POLLIN)
        until = time.monotonic() + wait
        while by_number and time.monotonic() < until:
            found = poll.poll(QUIET * 1000)
            if not found:
                break
            for number, _ in found:
                each = by_number.pop(number)
                poll.unregister(number)
                with contextlib.suppress(OSError):
                    answers[waiting[each]] = each.recv(2048).decode().strip()

    def silent(self, of: Collection[int], wait: float) -> int:
        """How many of these, by number, get neither an answer nor a refusal to what they send."""
        waiting = {self.sockets[number].fileno(): self.sockets[number] for number in of}
        poll, until = select.poll(), time.monotonic() + wait
        for each in waiting.values():
            with contextlib.suppress(OSError):
                each.send(b"?\n")
            poll.register(each, select.POLLIN)
        while waiting and time.monotonic() < until:
            for number, _ in poll.poll(100):
                poll.unregister(number)
                del waiting[number]
        return len(waiting)

    def drop(self, which: Collection[int]) -> None:
        """These, by number, are no more; others move up."""
        for number in sorted(which, reverse=True):
            self.sockets.pop(number).close()

    def close(self) -> None:
        for each in self.sockets:
            each.close()


def changed(before: list[str], now: list[str]) -> int:
    """How many are answered by another or by nobody."""
    return sum(1 for one, other in zip(before, now, strict=True) if one != other)


assert os.geteuid() == 0
