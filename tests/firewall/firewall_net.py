"""A node with three pods, a client and another node, in network namespaces, for tests of the firewall."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from pyroute2 import netns

from l3net.firewall.facts import FirewallPlan
from l3net.firewall.ruleset import ruleset
from l3net.shell.kernel import namespaces
from l3net.shell.kernel.nft import NftTable

PATIENCE = 10.0  # seconds before a connection that should work is given up
IMPATIENCE = 0.5  # seconds after which one that must not work is taken to hang

CLIENT = {4: "192.0.2.2", 6: "2001:db8:c::2"}
NODE = {4: "192.0.2.1", 6: "2001:db8:c::1"}  # as the client sees it
UPLINK = {4: "192.0.3.1", 6: "2001:db8:d::1"}  # as the other node sees it
OTHER = {4: "192.0.3.2", 6: "2001:db8:d::2"}
REMOTE = {4: "10.1.2.2", 6: "fd00:1:2::2"}  # a pod of the other node
GATEWAY = {4: "10.1.1.1", 6: "fd00:1:1::1"}
PODS = ("pod1", "pod2", "pod3")
POD = {name: {4: f"10.1.1.{number}", 6: f"fd00:1:1::{number}"} for number, name in enumerate(PODS, start=2)}
BLOCKS = ("10.1.1.0/24", "fd00:1:1::/120")
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Run in a network namespace; a socket made there stays there."""
    home = namespaces.open_own()
    there = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Of this thread alone: another may be elsewhere at the same time.
        with namespaces.inside(there, home):
            yield
    finally:
        os.close(there)
        os.close(home)


def tcp(name: str, version: int) -> socket.socket:
    with inside(name):
        made = socket.socket(_FAMILY[version], socket.SOCK_STREAM)
    made.settimeout(PATIENCE)
    return made


def udp(name: str, version: int) -> socket.socket:
    with inside(name):
        made = socket.socket(_FAMILY[version], socket.SOCK_DGRAM)
    made.settimeout(PATIENCE)
    return made


class Server:
    """Answers each line (TCP) or datagram (UDP) with its name, its port and the address it saw."""

    def __init__(self, name: str, place: str, version: int, ports: tuple[int, ...], address: str) -> None:
        self._name = name
        self._stop, self._stopped = os.pipe()
        self._sockets: dict[socket.socket, int] = {}
        for port in ports:
            listener = tcp(place, version)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(512)
            datagrams = udp(place, version)
            datagrams.bind((address, port))
            self._sockets |= {listener: port, datagrams: port}
        self._listeners = set(self._sockets)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._stop, *self._sockets], [], [])
            for found in ready:
                if found == self._stop:
                    return
                self._answer(found)

    def _answer(self, found: socket.socket) -> None:
        port = self._sockets[found]
        if found.type == socket.SOCK_DGRAM:
            _, peer = found.recvfrom(2048)
            found.sendto(f"{self._name} {port} {peer[0]}\n".encode(), peer)
        elif found in self._listeners:
            accepted, _ = found.accept()
            self._sockets[accepted] = port
        else:
            try:
                text = found.recv(2048)
                if text:
                    found.sendall(f"{self._name} {port} {found.getpeername()[0]}\n".encode())
                    return
            except OSError:
                pass
            del self._sockets[found]
            found.close()

    def close(self) -> None:
        os.write(self._stopped, b".")
        self._thread.join()
        for found in self._sockets:
            found.close()
        os.close(self._stop)
        os.close(self._stopped)


class Net:
    """The namespaces, by the names `client`, `node`, `other`, `pod1`..."""

    def __init__(self) -> None:
        self._undo = ExitStack()
        tag = uuid.uuid4().hex[:8]
        self.names = {role: f"fw{tag}-{role}" for role in ("client", "node", "other", *PODS)}
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        for name in self.names.values():
            netns.create(name)
            self._undo.callback(netns.remove, name)
        self._ip("node", ["link set lo up", *_node(self.names)])
        self._ip("client", ["link set lo up", *_host("eth0", CLIENT, NODE)])
        self._ip("other", ["link set lo up", *_host("eth0", OTHER, UPLINK)])
        self._ip("other", [f"addr add {REMOTE[version]}/{_full(version)} dev lo" for version in (4, 6)])
        for pod in PODS:
            self._ip(pod, ["link set lo up", *_pod(pod)])
        with inside(self.names["node"]):
            for key, value in (
                ("ipv4/ip_forward", "1"),
                ("ipv6/conf/all/forwarding", "1"),
                ("ipv4/conf/all/send_redirects", "0"),
                ("ipv4/conf/l3net0/send_redirects", "0"),
                # br_netfilter would translate on the bridge, and then bridge what has to be routed.
                ("bridge/bridge-nf-call-iptables", "0"),
                ("bridge/bridge-nf-call-ip6tables", "0"),
            ):
                path = Path("/proc/sys/net", key)
                if path.exists() or not key.startswith("bridge"):
                    path.write_text(value)
            self.table = NftTable()

    def _ip(self, role: str, lines: list[str]) -> None:
        command = ["ip", "-n", self.names[role], "-batch", "-"]
        subprocess.run(command, input="\n".join(lines).encode(), check=True)

    def ip(self, role: str, *lines: str) -> None:
        self._ip(role, list(lines))

    def nft(self, text: str) -> None:
        with inside(self.names["node"]):
            subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True)

    @contextlib.contextmanager
    def engine(self, version: int, port: int) -> Iterator[None]:
        """Somebody else's table on the node, which publishes the other node's pod on a port."""
        ip = "ip" if version == 4 else "ip6"
        to = f"{REMOTE[version]}:8080" if version == 4 else f"[{REMOTE[version]}]:8080"
        self.nft(
            f"table {ip} engine {{\nchain c {{\ntype nat hook prerouting priority -100;\n"
            f"{ip} daddr {NODE[version]} tcp dport {port} dnat to {to}\n}}\n}}\n"
        )
        try:
            yield
        finally:
            self.nft(f"delete table {ip} engine")

    def apply(self, plan: FirewallPlan) -> None:
        self.apply_text(ruleset(plan))

    def apply_text(self, text: str) -> None:
        with inside(self.names["node"]):
            self.table.apply(text)

    def intact(self) -> bool:
        with inside(self.names["node"]):
            return self.table.intact()

    def forget(self) -> None:
        """The node knows no connection any more."""
        with inside(self.names["node"]):
            subprocess.run(["conntrack", "-F"], check=True, capture_output=True)

    def remove_table(self) -> None:
        with inside(self.names["node"]):
            self.table.remove()

    @contextlib.contextmanager
    def serving(
        self, version: int, *ports: int, roles: tuple[str, ...] = (*PODS, "other"), address: str = ""
    ) -> Iterator[None]:
        with ExitStack() as stack:
            for role in roles:
                server = Server(role, self.names[role], version, ports or (8080,), address)
                stack.callback(server.close)
            yield

    def ask(
        self, role: str, version: int, address: str, port: int, wait: float = PATIENCE, local: str = ""
    ) -> tuple[str, ...]:
        """Connect, and return who answered: name, port, and the address it saw. Raises OSError."""
        with tcp(self.names[role], version) as made:
            made.settimeout(wait)
            made.bind((local, 0))
            made.connect((address, port))
            return talk(made)

    def ask_udp(
        self, role: str, version: int, address: str, port: int, wait: float = PATIENCE, local: str = ""
    ) -> tuple[str, ...]:
        with udp(self.names[role], version) as made:
            made.settimeout(wait)
            made.bind((local, 0))
            made.connect((address, port))
            made.send(b"?")
            return tuple(made.recv(2048).decode().split())

    def wait_for_link_local(self) -> None:
        """Until the bridge's link-local address has passed duplicate-address detection."""
        for _ in range(400):
            found = self._show("node", "-6", "addr", "show", "dev", "l3net0", "scope", "link")
            if "inet6 fe80" in found and "tentative" not in found:
                return
            time.sleep(0.02)
        raise TimeoutError("no link-local address on the bridge")

    def learned_routes(self, role: str) -> str:
        """What redirects taught the kernel."""
        return self._show(role, "-6", "route", "show", "cache")

    def _show(self, role: str, *arguments: str) -> str:
        command = ["ip", "-n", self.names[role], *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def close(self) -> None:
        self._undo.close()


def talk(connected: socket.socket) -> tuple[str, ...]:
    connected.sendall(b"?\n")
    return tuple(connected.recv(2048).decode().split())


def _full(version: int) -> int:
    return 32 if version == 4 else 128


def _host(link: str, own: dict[int, str], gateway: dict[int, str]) -> list[str]:
    return [
        f"addr add {own[4]}/24 dev {link}",
        f"addr add {own[6]}/64 dev {link} nodad",
        f"link set {link} up",
        f"route add default via {gateway[4]}",
        f"route add default via {gateway[6]}",
    ]


def _pod(pod: str) -> list[str]:
    return [
        f"addr add {POD[pod][4]}/32 dev eth0",
        f"addr add {POD[pod][6]}/128 dev eth0 nodad",
        "link set eth0 up",
        f"route add {GATEWAY[4]} dev eth0 scope link",
        f"route add default via {GATEWAY[4]}",
        f"route add {GATEWAY[6]} dev eth0",
        f"route add default via {GATEWAY[6]}",
    ]


def _node(names: dict[str, str]) -> list[str]:
    lines = [
        "link add l3net0 type bridge stp_state 0 mcast_snooping 0",
        f"addr add {GATEWAY[4]}/24 dev l3net0",
        f"addr add {GATEWAY[6]}/120 dev l3net0 nodad",
        "link set l3net0 up",
        f"link add to-client type veth peer name eth0 netns {names['client']}",
        f"addr add {NODE[4]}/24 dev to-client",
        f"addr add {NODE[6]}/64 dev to-client nodad",
        "link set to-client up",
        f"link add to-other type veth peer name eth0 netns {names['other']}",
        f"addr add {UPLINK[4]}/24 dev to-other",
        f"addr add {UPLINK[6]}/64 dev to-other nodad",
        "link set to-other up",
        f"route add 10.1.2.0/24 via {OTHER[4]}",
        f"route add fd00:1:2::/120 via {OTHER[6]}",
        f"route add default via {OTHER[4]}",
        f"route add default via {OTHER[6]}",
    ]
    for pod in PODS:
        lines += [
            f"link add l3v{pod} type veth peer name eth0 netns {names[pod]}",
            f"link set l3v{pod} master l3net0",
            f"link set l3v{pod} type bridge_slave isolated on",
            f"link set l3v{pod} up",
        ]
    return lines
