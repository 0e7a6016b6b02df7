"""Looks at a node from outside the agent: the peers' BGP ports, the kernel's counters, files and settings.

Nothing is changed. A probe is one TCP connection to a peer whose session is down, from the session's own
address, closed as soon as the peer has spoken.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from l3net.doctor.findings import Counters, NodeLook, Peer, PeerLook, Probe, ProbeAnswer, Rival
from l3net.doctor.tracking import FILLING
from l3net.errors import KernelError, L3netError
from l3net.model import PORTS_OF_ADDRESS, PortUse
from l3net.naming import BRIDGE, CNI_PLUGIN, QUARANTINE
from l3net.shell.kernel import sysctl
from l3net.shell.kernel.links import all_links
from l3net.shell.kernel.netlink import Netlink
from l3net.shell.kernel.nftcommand import find_nft
from l3net.shell.kernel.snatports import refused, used_ports
from l3net.shell.kernel.underlay import KernelUnderlay
from l3net.shell.probes.asks import who_has

_COUNTER_NAMES: Final = {
    "TCPMD5Failure": "md5_wrong",
    "TCPMD5NotFound": "md5_missing",
    "TCPMD5Unexpected": "md5_unexpected",
    "TCPMinTTLDrop": "ttl_too_low",
}
_MARKER: Final = b"\xff" * 16
_HEADER: Final = 19  # RFC 4271 section 4.1
_OPEN, _NOTIFICATION = 1, 3
_AS_TRANS: Final = 23456  # RFC 6793
_CAPABILITIES, _FOUR_OCTET_AS = 2, 65  # RFC 5492, RFC 6793
#: Seconds for a connection, and then for the peer's first message.
CONNECT: Final = 4.5  # longer than ARP and neighbour discovery try, 3 seconds
SPEAK: Final = 2.0
_MOST_AT_ONCE: Final = 16
#: Own addresses for which a host asks whether another answers.
_MOST_ADDRESSES: Final = 64
_IP_MINTTL: Final = 21
_IPV6_MINHOPCOUNT: Final = 73
_UNREACHABLE: Final = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)


def read_counters(path: Path = Path("/proc/self/net/netstat")) -> Counters:
    """The counters as they stand; those this kernel lacks are 0."""
    found: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError):
        lines = [line.split() for line in path.read_text().splitlines() if line.startswith("TcpExt:")]
        for names, values in zip(lines[::2], lines[1::2], strict=False):
            for name, value in zip(names[1:], values[1:], strict=False):
                if name in _COUNTER_NAMES:
                    found[_COUNTER_NAMES[name]] = int(value)
    return Counters(**found)


def risen(before: Counters, after: Counters) -> Counters:
    return Counters(
        **{each.name: getattr(after, each.name) - getattr(before, each.name) for each in fields(Counters)}
    )


def look_at_peers(
    peers: Sequence[Peer], watch: float, *, listen: bool = False
) -> tuple[dict[str, PeerLook], Counters]:
    """Probes each, for at least `watch` seconds in all; looks by address, and how the counters rose.

    `listen`: have a socket, without a password, on each session's address where there is none. The kernel
    judges a peer's packets only when there is one; nothing is ever accepted on it.
    """
    before, started = read_counters(), time.monotonic()
    looks: dict[str, PeerLook] = {}
    with contextlib.ExitStack() as ends:
        for address, port in {(peer.local_address, peer.listen_port) for peer in peers if listen}:
            _listen_at(ends, address, port)
        if peers:
            with ThreadPoolExecutor(min(len(peers), _MOST_AT_ONCE)) as pool:
                looks = dict(zip((peer.address for peer in peers), pool.map(_look, peers), strict=True))
            time.sleep(max(0.0, watch - (time.monotonic() - started)))
    return looks, risen(before, read_counters())


def _listen_at(ends: contextlib.ExitStack, address: str, port: int) -> None:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    ends.callback(sock.close)
    with contextlib.suppress(OSError):  # somebody listens already: just as good
        sock.bind((address, port))
        sock.listen(1)


def _look(peer: Peer) -> PeerLook:
    plain = probe(peer, 255 if peer.gtsm else None)
    if plain.answer is ProbeAnswer.SILENT and not peer.gtsm:
        return PeerLook(plain, probe(peer, 255))
    if plain.answer is ProbeAnswer.ACCEPTED and peer.gtsm:
        return PeerLook(plain, near=probe(peer, 255, demand=255))
    return PeerLook(plain)


def probe(peer: Peer, ttl: int | None, demand: int = 0) -> Probe:
    """One unsigned connection to the peer's port from the session's address. `ttl`: of its packets; `demand`:
    the least TTL that packets of the peer's must have."""
    family = socket.AF_INET6 if ":" in peer.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(CONNECT)
        try:
            if ttl is not None and family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            elif ttl is not None:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
            if demand and family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, demand)
            elif demand:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, demand)
            # A link-local address means nothing without its link.
            scope = (0, socket.if_nametoindex(peer.interface)) if peer.interface else ()
            if peer.local_address:
                sock.bind((peer.local_address, 0, *scope))
            sock.connect((peer.address, peer.port, *scope))
        except TimeoutError:
            return Probe(ProbeAnswer.SILENT)
        except OSError as err:
            text = err.strerror or str(err)
            if err.errno == errno.ECONNREFUSED:
                return Probe(ProbeAnswer.REFUSED)
            if err.errno == errno.ETIMEDOUT:
                return Probe(ProbeAnswer.SILENT)
            if err.errno in _UNREACHABLE:
                return Probe(ProbeAnswer.UNREACHABLE, text)
            return Probe(ProbeAnswer.ACCEPTED, text, closed=True)  # a reset in the midst of it
        return _first_words(sock)


def _first_words(sock: socket.socket) -> Probe:
    sock.settimeout(SPEAK)
    data, closed = b"", False
    with contextlib.suppress(OSError):
        while len(data) < _HEADER or len(data) < int.from_bytes(data[16:18], "big"):
            chunk = sock.recv(4096)
            if not chunk:
                closed = True
                break
            data += chunk
    return read_message(data, closed)


def read_message(data: bytes, closed: bool) -> Probe:
    """What the peer's first BGP message says (RFC 4271 sections 4.2 and 4.5); anything else says nothing."""
    if len(data) < _HEADER or data[:16] != _MARKER:
        return Probe(ProbeAnswer.ACCEPTED, closed=closed)
    kind, body = data[18], data[_HEADER:]
    if kind == _NOTIFICATION and len(body) >= 2:
        return Probe(ProbeAnswer.ACCEPTED, notification=(body[0], body[1]), closed=closed)
    if kind == _OPEN and len(body) >= 10:
        return Probe(ProbeAnswer.ACCEPTED, as_number=_as_number(body), closed=closed)
    return Probe(ProbeAnswer.ACCEPTED, closed=closed)


def _as_number(body: bytes) -> int:
    """Of an OPEN's body; the four-octet one of the capability, if there is one."""
    short = int.from_bytes(body[1:3], "big")
    rest = body[10 : 10 + body[9]]
    while len(rest) >= 2:
        kind, value, rest = rest[0], rest[2 : 2 + rest[1]], rest[2 + rest[1] :]
        while kind == _CAPABILITIES and len(value) >= 2:
            code, content, value = value[0], value[2 : 2 + value[1]], value[2 + value[1] :]
            if code == _FOUR_OCTET_AS and len(content) == 4:
                return int.from_bytes(content, "big")
    return short


def look_at_node(
    state_dir: Path,
    bin_dir: Path,
    conf_dir: Path,
    wants_pods: bool,
    peers: Sequence[Mapping[str, Any]] = (),
    services: Sequence[str] = (),
) -> NodeLook:
    """Settings and files of this host. `wants_pods`: it has blocks, so a runtime is to use the plugin.

    `peers` (rows of the agent's status) are looked at for their links, `services` (addresses) for a route to
    them.
    """
    version_4, version_6 = sysctl.read("net/ipv4/ip_forward"), sysctl.read("net/ipv6/conf/all/forwarding")
    count, limit = (
        sysctl.read("net/netfilter/nf_conntrack_count"),
        sysctl.read("net/netfilter/nf_conntrack_max"),
    )
    ports, refusals = _translations()
    plugin, configuration, ours = None, None, True
    if wants_pods and (bin_dir.is_dir() or conf_dir.is_dir()):
        plugin = os.access(bin_dir / CNI_PLUGIN, os.X_OK)
        configuration, ours = _first_configuration(conf_dir)
    return NodeLook(
        forwarding={
            version: None if value is None else value != "0"
            for version, value in ((4, version_4), (6, version_6))
        },
        strict_rp_filter=_strict(),
        conntrack=(int(count), int(limit)) if count and limit else None,
        ports=ports,
        insert_failed=refusals.get("insert_failed", 0),
        state_free=_free(state_dir),
        plugin=plugin,
        network_configuration=configuration,
        ours_first=ours,
        quarantine=_quarantine(state_dir / QUARANTINE),
        not_forwarding=_not_forwarding(),
        dropping=_dropping(),
        dead_links=_dead_links(peers),
        rivals=_rivals(),
        unroutable=tuple(each for each in services if not _has_route(each)),
    )


def _translations() -> tuple[tuple[PortUse, ...], Mapping[str, int]]:
    """The source addresses whose ports are nearly used up, and what connection tracking has refused."""
    try:
        return used_ports(int(FILLING * PORTS_OF_ADDRESS)), refused()
    except KernelError:
        return (), {}


def _not_forwarding() -> tuple[str, ...]:
    """Interfaces with an IPv4 address whose own switch is off; for IPv6 there is none for each."""
    found = []
    with contextlib.suppress(KernelError):
        underlay, _ = KernelUnderlay().read()
        names = {each.interface for each in underlay.addresses if each.address.version == 4} - {"lo"}
        found = [name for name in sorted(names) if sysctl.read(f"net/ipv4/conf/{name}/forwarding") == "0"]
    return tuple(found)


def _dropping() -> tuple[str, ...]:
    """Base chains at the forward hook of tables that are not ours, with the policy to drop."""
    try:
        done = subprocess.run(
            [find_nft(), "-j", "list", "chains"],
            capture_output=True,
            timeout=20,
            check=True,
            env={"LC_ALL": "C"},
        )
        listed = json.loads(done.stdout)["nftables"]
    except (OSError, ValueError, KeyError, L3netError, subprocess.SubprocessError):
        return ()
    chains = (entry["chain"] for entry in listed if "chain" in entry)
    return tuple(
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if chain.get("hook") == "forward" and chain.get("policy") == "drop"
    )


def _rivals() -> tuple[Rival, ...]:
    """Hosts that answer for the addresses of this one on the links to others."""
    try:
        underlay, _ = KernelUnderlay().read()
    except KernelError:
        return ()
    asked = [
        each
        for each in underlay.addresses
        if each.interface not in ("lo", BRIDGE) and not each.address.is_link_local
    ][:_MOST_ADDRESSES]
    if not asked:
        return ()
    with ThreadPoolExecutor(min(len(asked), _MOST_AT_ONCE)) as pool:
        answers = list(pool.map(lambda each: who_has(each.interface, each.address) or (), asked))
    own = _own_macs() if any(answers) else frozenset()
    found = zip(asked, (tuple(mac for mac in macs if mac not in own) for macs in answers), strict=True)
    return tuple(Rival(str(each.address), each.interface, macs) for each, macs in found if macs)


def _own_macs() -> frozenset[str]:
    """Of two links of a host on one segment either answers for the addresses of both."""
    try:
        with Netlink() as netlink:
            return frozenset(link.mac for link in all_links(netlink))
    except KernelError:
        return frozenset()


def _dead_links(peers: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The link towards each peer, where it has no carrier or is off: that of the session's own address, or
    the one whose subnet holds the peer's."""
    try:
        underlay, _ = KernelUnderlay().read()
        with Netlink() as netlink:
            dead = {link.name for link in all_links(netlink) if not link.carrier}
    except KernelError:
        return {}
    found: dict[str, str] = {}
    for row in peers:
        with contextlib.suppress(ValueError, KeyError):
            address, interface = ip_address(row["address"]), row.get("interface", "")
            for own in underlay.addresses:
                if str(own.address) == row.get("localAddress") or own.holds(address):
                    interface = interface or own.interface
            if interface in dead:
                found[row["address"]] = interface
    return found


def _has_route(address: str) -> bool:
    """Whether a process of the host may send there; nothing is sent."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((address, 9))
        except OSError as err:
            return err.errno not in _UNREACHABLE
        return True


def _quarantine(directory: Path) -> tuple[str, int] | None:
    try:
        count = sum(1 for _ in directory.iterdir())
    except OSError:
        return None
    return (str(directory), count) if count else None


def _strict() -> tuple[str, ...]:
    """Interfaces whose rp_filter is in effect strict: the larger of its own and that of `all` counts."""
    overall = int(sysctl.read("net/ipv4/conf/all/rp_filter") or 0)
    found = []
    for _, name in socket.if_nameindex():
        own = int(sysctl.read(f"net/ipv4/conf/{name}/rp_filter") or 0)
        if name != "lo" and max(overall, own) == 1:
            found.append(name)
    return tuple(found)


def _free(directory: Path) -> float | None:
    try:
        seen = os.statvfs(directory)
    except OSError:
        return None
    return seen.f_bavail / seen.f_blocks if seen.f_blocks else None


def _first_configuration(conf_dir: Path) -> tuple[str, bool]:
    """The file a runtime takes (the first by name, as in libcni), and whether it names our plugin."""
    with contextlib.suppress(OSError):
        for path in sorted(conf_dir.iterdir()):
            if path.suffix not in (".conf", ".conflist", ".json"):
                continue
            try:
                content: Any = json.loads(path.read_text())
                plugins = content.get("plugins", [content])
                ours = any(str(plugin.get("type", "")).startswith("l3net") for plugin in plugins)
            except (OSError, ValueError, AttributeError):
                ours = False
            return str(path), ours
    return "", True
