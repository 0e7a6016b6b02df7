"""The fixed pods of the truth tables for real: two nodes in network namespaces, each with a book of policies
and the rules that follow from it, and probes that tell which first packets arrive."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, TypeAlias

from firewall_net import inside
from policy_facts import read
from policy_following import GATEWAYS, NODES, FollowedPolicies
from pyroute2 import netns
from truth import ADDRESSES, PODS

from l3net.model import ClusterState
from l3net.shell.kernel.nft import NftTable

Address: TypeAlias = IPv4Address | IPv6Address
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
#: Seconds without another arrival after which no more are waited for, once all are there that have to be.
QUIET = 0.01
#: Seconds in which they have to be.
PATIENCE = 3.0
_NAMED = {str(address): name for name, addresses in ADDRESSES.items() for address in addresses}
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
#: (source, destination, protocol, destination port), the ends by name.
Probe: TypeAlias = tuple[str, str, str, int, int]


class PolicyNode(FollowedPolicies):
    """What is in force in the kernel of a node."""

    def __init__(self, name: str, place: str) -> None:
        self.place = place
        with inside(place):
            self.table = NftTable()
        super().__init__(name)

    def apply(self, text: str) -> None:
        with inside(self.place):
            self.table.apply(text)

    def amend(self, text: str) -> None:
        with inside(self.place):
            self.table.amend(text)


class PolicyNet:
    """Two nodes, joined by a link, with all pods of the truth tables."""

    def __init__(self, pods: Iterable[str] = tuple(PODS)) -> None:
        self._undo = ExitStack()
        tag = uuid.uuid4().hex[:8]
        self.pods = [name for name in pods if not PODS[name].host]
        self.places = {node: f"po{tag}-{node}" for node in NODES}
        self.places |= {name: f"po{tag}-{number}" for number, name in enumerate(self.pods)}
        self.places |= {name: self.places[pod.node] for name, pod in PODS.items() if pod.host}
        self._receivers: dict[int, tuple[str, int, str]] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._senders: dict[tuple[str, int, str], socket.socket] = {}
        self._poll = select.epoll()
        self._serial = 0
        try:
            self._build()
            self.nodes = {node: PolicyNode(node, self.places[node]) for node in NODES}
            self._open()
            self._warm()
        except BaseException:
            self.close()
            raise

    # --- made --------------------------------------------------------------------------------------------

    def _build(self) -> None:
        for place in dict.fromkeys(self.places.values()):
            netns.create(place)
            self._undo.callback(netns.remove, place)
        for node in NODES:
            self._ip(node, self._node_lines(node))
        for name in self.pods:
            self._ip(name, self._pod_lines(name))
        for node in NODES:
            with inside(self.places[node]):
                for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
                    Path("/proc/sys/net", key).write_text("1")
                Path("/proc/sys/net/ipv4/conf/all/send_redirects").write_text("0")
                Path("/proc/sys/net/ipv4/conf/l3net0/send_redirects").write_text("0")

    def _ip(self, where: str, lines: list[str]) -> None:
        command = ["ip", "-n", self.places[where], "-batch", "-"]
        subprocess.run(command, input="\n".join(lines).encode(), check=True)

    def _node_lines(self, node: str) -> list[str]:
        other = "n2" if node == "n1" else "n1"
        v4, v6 = GATEWAYS[node]
        lines = [
            "link set lo up",
            "link add l3net0 type bridge stp_state 0 mcast_snooping 0",
            f"addr add {v4}/24 dev l3net0",
            f"addr add {v6}/112 dev l3net0 nodad",
            f"link set l3net0 address {_mac(255, int(node[1]))} up",
        ]
        if node == "n1":
            lines.append(f"link add between type veth peer name between netns {self.places['n2']}")
        lines += [
            f"addr add 192.0.2.{node[1]}/24 dev between",
            f"addr add 2001:db8::{node[1]}/64 dev between nodad",
            "link set between up",
            f"route add 10.244.{other[1]}.0/24 via 192.0.2.{other[1]}",
            f"route add fd00:244:{other[1]}::/112 via 2001:db8::{other[1]}",
        ]
        for number, name in enumerate(self.pods):
            if PODS[name].node == node:
                lines += [
                    f"link add l3v{number} type veth"
                    f" peer name eth0 address {_mac(0, number)} netns {self.places[name]}",
                    f"link set l3v{number} master l3net0",
                    f"link set l3v{number} type bridge_slave isolated on",
                    f"link set l3v{number} up",
                    *(
                        f"neigh add {address} lladdr {_mac(0, number)} dev l3net0 nud permanent"
                        for address in ADDRESSES[name]
                    ),
                ]
        return lines

    def _pod_lines(self, name: str) -> list[str]:
        v4, v6 = ADDRESSES[name]
        gateway4, gateway6 = GATEWAYS[PODS[name].node]
        return [
            "link set lo up",
            f"addr add {v4}/32 dev eth0",
            f"addr add {v6}/128 dev eth0 nodad",
            "link set eth0 up",
            f"route add {gateway4} dev eth0 scope link",
            f"route add default via {gateway4}",
            f"route add {gateway6} dev eth0",
            f"route add default via {gateway6}",
            *(
                f"neigh add {gateway} lladdr {_mac(255, int(PODS[name].node[1]))} dev eth0 nud permanent"
                for gateway in (gateway4, gateway6)
            ),
        ]

    def _open(self) -> None:
        for name in (*self.pods, *(name for name, pod in PODS.items() if pod.host), *NODES):
            for version in (4, 6):
                for protocol, number in PROTOCOLS.items():
                    with inside(self.places[name]):
                        made = socket.socket(_FAMILY[version], socket.SOCK_RAW, number)
                    self._undo.callback(made.close)
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                    made.setblocking(False)
                    if name in PODS and PODS[name].host:  # of the addresses of a node the one that is meant
                        with inside(self.places[name]):
                            sender = socket.socket(_FAMILY[version], socket.SOCK_RAW, number)
                        self._undo.callback(sender.close)
                        sender.bind((str(ADDRESSES[name][0 if version == 4 else 1]), 0))
                        self._senders[name, version, protocol] = sender
                    else:
                        self._senders[name, version, protocol] = made
                    if name not in NODES:
                        self._sockets[made.fileno()] = made
                        self._receivers[made.fileno()] = (name, version, protocol)
                        self._poll.register(made.fileno(), select.EPOLLIN)

    def _warm(self) -> None:
        """Until everybody knows its neighbours: who is asked for holds up few packets."""
        probes: set[Probe] = {
            (source, destination, "tcp", 9, version)
            for source in self.pods
            for destination in self.pods
            if source != destination
            for version in (4, 6)
        }
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if not (probes := probes - self.arrived(probes)):
                return
            time.sleep(0.05)
        raise TimeoutError(f"{len(probes)} ways between pods do not work")

    # --- what holds --------------------------------------------------------------------------------------

    def apply(self, documents: Iterable[Mapping[str, Any]]) -> ClusterState:
        """The state that manifests declare is in force."""
        state = read(dict(each) for each in documents)
        self.follow(state)
        return state

    def follow(self, state: ClusterState) -> None:
        """The state is in force on both nodes."""
        for node in self.nodes.values():
            node.follow(state)

    def wrong(self, wanted: Mapping[Probe, bool]) -> list[str]:
        """The probes (source, destination, protocol, port, version) that arrive and must not, or do not."""
        arrived = self.arrived(wanted, {probe for probe, allowed in wanted.items() if allowed})
        return [
            f"{probe} {'passes' if probe in arrived else 'is dropped'}"
            for probe, allowed in wanted.items()
            if (probe in arrived) is not allowed
        ]

    def arrived(self, probes: Iterable[Probe], awaited: Collection[Probe] = ()) -> set[Probe]:
        """Those whose packet arrives; a while is waited for what is awaited, and a little for more. Each call
        has a source port of its own, so that no connection is known."""
        self._serial = self._serial % 40000 + 1
        mark = 20000 + self._serial
        wanted = list(dict.fromkeys(probes))
        missing = set(awaited)
        found: set[Probe] = set()
        for start in range(0, len(wanted), 200):
            for source, destination, protocol, port, version in wanted[start : start + 200]:
                self._send(source, destination, protocol, port, version, mark)
            self._collect(found, mark, 0)
        deadline = time.monotonic() + PATIENCE
        while not missing <= found and time.monotonic() < deadline:
            self._collect(found, mark, QUIET)
        self._collect(found, mark, QUIET)
        return found & set(wanted)

    def _send(self, source: str, destination: str, protocol: str, port: int, version: int, mark: int) -> None:
        from_, to = (ADDRESSES[name][0 if version == 4 else 1] for name in (source, destination))
        packet = _first(protocol, from_, to, mark, port)
        self._senders[source, version, protocol].sendto(packet, (str(to), 0))

    def _collect(self, found: set[Probe], mark: int, quiet: float) -> None:
        """What has arrived, until nothing more does for some seconds."""
        while ready := self._poll.poll(quiet):
            for descriptor, _ in ready:
                name, version, protocol = self._receivers[descriptor]
                with contextlib.suppress(BlockingIOError):
                    while True:
                        data, sender = self._sockets[descriptor].recvfrom(2048)
                        if version == 4:
                            data = data[(data[0] & 15) * 4 :]
                        source_port, port = struct.unpack_from("!HH", data)
                        source = _NAMED.get(sender[0].partition("%")[0])
                        if source_port == mark and source is not None:
                            found.add((source, name, protocol, port, version))

    def close(self) -> None:
        self._poll.close()
        self._undo.close()


def _mac(of: int, number: int) -> str:
    return f"0a:58:00:00:{of:02x}:{number:02x}"


def _first(protocol: str, source: Address, destination: Address, source_port: int, port: int) -> bytes:
    """The first packet of a connection, behind the IP header."""
    if protocol == "udp":
        body = struct.pack("!HHHH", source_port, port, 8, 0)
        check = _checksum(_pseudo(source, destination, 17, 8) + body) or 0xFFFF
        return struct.pack("!HHHH", source_port, port, 8, check)
    if protocol == "tcp":
        header = (source_port, port, 1, 0, 5 << 12 | 2, 65535)
        body = struct.pack("!HHIIHHHH", *header, 0, 0)
        check = _checksum(_pseudo(source, destination, 6, 20) + body)
        return struct.pack("!HHIIHHHH", *header, check, 0)
    # INIT with an initiate tag, a window, streams and a TSN (RFC 9260 section 3.3.2)
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 7, 65535, 1, 1, 1)
    header = struct.pack("!HHI", source_port, port, 0)
    return header + struct.pack("<I", _crc32c(header + b"\0\0\0\0" + chunk)) + chunk


def _pseudo(source: Address, destination: Address, protocol: int, length: int) -> bytes:
    both = source.packed + destination.packed
    return both + (
        struct.pack(
            "!BBH" if source.version == 4 else "!IHBB",
            *((0, protocol, length) if source.version == 4 else (length, 0, 0, protocol)),
        )
    )


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _crc_table() -> list[int]:
    table = []
    for number in range(256):
        crc = number
        for _ in range(8):
            crc = (crc >> 1) ^ 0x82F63B78 if crc & 1 else crc >> 1
        table.append(crc)
    return table


_TABLE = _crc_table()
