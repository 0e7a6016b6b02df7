"""A node of the real kernel, in a network namespace, whose links are read and written here: what a packet
meets is seen as soon as it has been written, since the kernel does all of it at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path

from firewall_net import inside
from pyroute2 import netns
from sim_node import SimKernel

from l3net.cni.extras import TABLE
from l3net.fib.underlay import UnderlayHop, UnderlayRoute
from l3net.model import BridgePlan, EgressWay
from l3net.naming import BRIDGE, ENVELOPE
from l3net.shell.kernel.egress_ways import KernelEgressWays
from l3net.shell.kernel.nft import NftTable
from packets.packet import ICMP, ICMPV6, SCTP, TCP, UDP, Packet
from packets.wire import decoded, decoded_body, encoded

_TUNSETIFF, _TUN, _NO_HEADER = 0x400454CA, 1, 0x1000
#: Addresses of its links, in the order of their numbers. The bridge is a link like the others: what is in it
#: is not this kernel's to decide.
ADDRESSES = {
    "up0": ("192.0.2.1/24", "2001:db8:c::1/64"),
    "up1": ("192.0.3.1/24", "2001:db8:d::1/64"),
    ENVELOPE: ("240.109.255.254/15",),
    BRIDGE: ("10.1.1.1/24", "fd00:1:1::1/120", "10.1.4.1/24", "fd00:1:4::1/120"),
}
#: Prefix, and gateways with their links; without any a blackhole.
ROUTES: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("10.1.2.0/24", (("192.0.3.2", "up1"),)),
    ("fd00:1:2::/120", (("2001:db8:d::2", "up1"),)),
    ("198.51.100.0/24", (("192.0.2.2", "up0"), ("192.0.3.3", "up1"))),
    ("2001:db8:e::/64", (("2001:db8:c::2", "up0"), ("2001:db8:d::3", "up1"))),
    ("203.0.113.0/24", ()),
    ("2001:db8:f::/64", ()),
    ("0.0.0.0/0", (("192.0.2.2", "up0"),)),
    ("::/0", (("2001:db8:c::2", "up0"),)),
)
#: By the envelope, of packets with a mark from the bridge.
WAYS = tuple(
    EgressWay(version, number << 16, ip_address(gateway))
    for number, gateways in ((5, ("240.108.0.5", "fe80::5")), (6, ("240.108.0.6", "fe80::6")))
    for version, gateway in zip((4, 6), gateways, strict=True)
)
#: What the host's own processes would say of packets that come to them is dropped by its mark: those are
#: heard by raw sockets before.
_QUIET = """
table inet quiet {
chain input { type filter hook input priority 400; meta mark set 0x77; }
chain output { type filter hook output priority -400; meta mark 0x77 drop; }
}
"""
_SETTINGS = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/accept_ra": "0",
    "ipv6/conf/default/addr_gen_mode": "1",
    "ipv4/icmp_ratelimit": "0",
    "ipv6/icmp/ratelimit": "0",
    "ipv4/icmp_msgs_per_sec": "1000000",
    "ipv4/icmp_msgs_burst": "1000000",
    "ipv4/fwmark_reflect": "1",
    "ipv6/fwmark_reflect": "1",
}
_PROTOCOLS = {4: (TCP, UDP, SCTP, ICMP), 6: (TCP, UDP, SCTP, ICMPV6)}
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class KernelNode:
    """`heard` are packets with the link that they have left by, or `host`."""

    def __init__(self) -> None:
        self._undo = ExitStack()
        self._name = f"pk{uuid.uuid4().hex[:10]}"
        self._links: dict[str, int] = {}
        self._ears: list[tuple[int, socket.socket]] = []
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        netns.create(self._name)
        self._undo.callback(netns.remove, self._name)
        with inside(self._name):
            for key, value in _SETTINGS.items():
                path = Path("/proc/sys/net", key)
                if path.exists():
                    path.write_text(value)
            for name in ADDRESSES:
                self._links[name] = self._tun(name)
            for version, protocols in _PROTOCOLS.items():
                for protocol in protocols:
                    made = socket.socket(_FAMILY[version], socket.SOCK_RAW, protocol)
                    self._undo.callback(made.close)
                    made.setblocking(False)
                    if version == 6:
                        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
                    self._ears.append((version, made))
            self._mouths = {
                version: socket.socket(_FAMILY[version], socket.SOCK_RAW, socket.IPPROTO_RAW)
                for version in (4, 6)
            }
            for each in self._mouths.values():
                self._undo.callback(each.close)
            self._nft(_QUIET)
            self.table = NftTable()
        self._ip(["link set lo up", *_lines()])
        with inside(self._name):
            ways = KernelEgressWays()
            ways.apply(WAYS, ENVELOPE, 1450)
            ways.close()
        self.heard()

    def _tun(self, name: str) -> int:
        made = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._undo.callback(os.close, made)
        fcntl.ioctl(made, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TUN | _NO_HEADER))
        return made

    def _ip(self, lines: Sequence[str]) -> None:
        command = ["ip", "-n", self._name, "-batch", "-"]
        subprocess.run(command, input="\n".join(lines).encode(), check=True)

    def _nft(self, text: str) -> None:
        subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True)

    def apply(self, ruleset: str) -> None:
        with inside(self._name):
            self.table.apply(ruleset)

    def amend(self, transaction: str) -> None:
        with inside(self._name):
            self.table.amend(transaction)

    def publish(self, script: str) -> None:
        """The table of the CNI server, made anew."""
        with inside(self._name):
            self._nft(f"add table inet {TABLE}\ndelete table inet {TABLE}\n{script}")

    def forget(self) -> None:
        """It knows no connection any more."""
        with inside(self._name):
            subprocess.run(["conntrack", "-F"], check=True, capture_output=True)

    def receive(self, packet: Packet, interface: str, *, answers: bool = False) -> list[tuple[str, Packet]]:
        """A packet comes in by a link: what is heard then."""
        os.write(self._links[interface], encoded(packet, answers=answers))
        return self.heard()

    def send(self, packet: Packet, *, answers: bool = False) -> list[tuple[str, Packet]]:
        """The host sends a packet."""
        octets = encoded(packet, answers=answers)
        with contextlib.suppress(PermissionError, OSError):  # it was dropped
            self._mouths[packet.version].sendto(octets, (str(packet.destination), 0))
        return self.heard()

    def heard(self) -> list[tuple[str, Packet]]:
        """All that has left or arrived since."""
        found = [(name, octets) for name, link in self._links.items() for octets in _read(link)]
        packets = [(name, packet) for name, octets in found if (packet := decoded(octets)) is not None]
        return packets + [("host", packet) for packet in self._arrived()]

    def _arrived(self) -> Iterator[Packet]:
        for version, ear in self._ears:
            with contextlib.suppress(BlockingIOError):
                while True:
                    octets, beside, _, sender = ear.recvmsg(4096, 256)
                    made = decoded(octets) if version == 4 else _of_six(ear.proto, octets, beside, sender[0])
                    if made is not None:
                        yield made

    def close(self) -> None:
        self._undo.close()


def _of_six(
    protocol: int, body: bytes, beside: Iterable[tuple[int, int, bytes]], sender: str
) -> Packet | None:
    """IPv6 tells of its header by the side."""
    told = {kind: value for level, kind, value in beside if level == socket.IPPROTO_IPV6}
    destination = IPv6Address(told[socket.IPV6_PKTINFO][:16])
    (ttl,) = struct.unpack("i", told[socket.IPV6_HOPLIMIT])
    return decoded_body(IPv6Address(sender.partition("%")[0]), destination, protocol, ttl, body)


def _read(link: int) -> Iterator[bytes]:
    with contextlib.suppress(BlockingIOError):
        while True:
            yield os.read(link, 4096)


def _lines() -> Iterator[str]:
    for name, addresses in ADDRESSES.items():
        for address in addresses:
            yield f"addr add {address} dev {name}{' nodad' if ':' in address else ''}"
        yield f"link set {name} up"
    yield f"route add fe80::/64 dev {ENVELOPE}"
    for prefix, hops in ROUTES:
        if not hops:
            yield f"route add blackhole {prefix}"
        else:
            ways = " ".join(f"nexthop via {gateway} dev {link}" for gateway, link in hops)
            yield f"route add {prefix} {ways}"


def twin() -> SimKernel:
    """The same node without a kernel."""
    made = SimKernel()
    made.add_link("lo", "127.0.0.1/8")
    for name, addresses in ADDRESSES.items():
        if name != BRIDGE:
            made.add_link(name, *addresses)
    gateways = (each.split("/") for each in ADDRESSES[BRIDGE])
    plan = frozenset((ip_address(address), int(length)) for address, length in gateways)
    made.bridge = BridgePlan(BRIDGE, "0a:00:00:00:00:01", 1500, plan)
    for prefix, ways in ROUTES:
        found = ip_network(prefix)
        hops = tuple(UnderlayHop(link, ip_address(gateway)) for gateway, link in ways)
        made.others[found, 0] = UnderlayRoute(found, hops, discard=not hops)
    return made
