"""What an attachment asks for beyond its interface: published ports, bandwidth, masquerade, source pinning.

Recorded in the store before it is carried out, so that DEL and GC find it whatever happened in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from l3net.addresses import parse_address
from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.cni.request import Request
from l3net.cni.result import shown
from l3net.model import Address
from l3net.naming import PROTOCOL_NUMBERS

if TYPE_CHECKING:  # a plugin begins with this, for each pod where no agent runs
    from l3net.model import Stale

PROTOCOLS: Final = ("tcp", "udp", "sctp")
TABLE: Final = "l3net_cni"


@dataclass(frozen=True, slots=True, order=True)
class PublishedPort:
    """A port of the host that leads to a port of the pod. `host_address` empty: every address of the host."""

    protocol: str
    host_port: int
    pod_port: int
    host_address: str = ""


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Rates in bits a second and bursts in bits; ingress is towards the pod. 0: unlimited."""

    ingress_rate: int = 0
    ingress_burst: int = 0
    egress_rate: int = 0
    egress_burst: int = 0


UNLIMITED: Final = Bandwidth()


@dataclass(frozen=True, slots=True)
class Extras:
    """Everything the firewall must know of an attachment. `mac` not empty: the port may send from it only.

    `labels` are the pod's, as the runtime told: policies go by them after the agent's restart too.
    """

    bridge: str
    port: str  # the host end
    addresses: tuple[str, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    masquerade: bool = False
    mac: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __bool__(self) -> bool:
        return bool(self.ports or self.masquerade or self.mac or self.labels)

    def encode(self) -> str:
        ports = [[each.protocol, each.host_port, each.pod_port, each.host_address] for each in self.ports]
        parts: list[object] = [self.bridge, self.port, self.addresses, ports, self.masquerade, self.mac]
        return json.dumps([*parts, dict(self.labels)] if self.labels else parts)

    @staticmethod
    def decode(text: str) -> Extras:
        bridge, port, addresses, ports, masquerade, mac, *labels = json.loads(text)
        return Extras(
            bridge,
            port,
            tuple(addresses),
            tuple(PublishedPort(*each) for each in ports),
            masquerade,
            mac,
            *labels,
        )


def published_ports(request: Request) -> tuple[PublishedPort, ...]:
    """runtimeConfig.portMappings. Raises CniError 7."""
    found = request.runtime_config.get("portMappings") or []
    if not isinstance(found, list):
        raise CniError(failure.INVALID_CONFIG, "portMappings is not a list")
    ports = []
    for entry in found:
        if not isinstance(entry, Mapping):
            raise CniError(failure.INVALID_CONFIG, "portMappings contains something that is not an object")
        if not entry.get("hostPort"):
            continue  # "hostPort 0 or absent: not published" (the reference portmap skips it too)
        protocol = str(entry.get("protocol") or "tcp").lower()
        if protocol not in PROTOCOLS:
            raise CniError(failure.INVALID_CONFIG, f"portMappings: {protocol!r} is not tcp, udp or sctp")
        host, pod = entry.get("hostPort"), entry.get("containerPort")
        for port in (host, pod):
            if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
                raise CniError(failure.INVALID_CONFIG, f"portMappings: {port!r} is not a port")
        address = _host_address(entry.get("hostIP"))
        ports.append(PublishedPort(protocol, int(host or 0), int(pod or 0), address))
    return tuple(dict.fromkeys(ports))


def extras_of(
    request: Request,
    bridge: str,
    port: str,
    addresses: Sequence[Address],
    *,
    masquerade: bool,
    mac: str,
    labels: Mapping[str, str],
) -> Extras | None:
    """What a request and its setup want of the firewall; None if that is nothing. Raises CniError 7."""
    ports = published_ports(request)
    if not (ports or masquerade or mac or labels):
        return None
    return Extras(bridge, port, tuple(map(shown, addresses)), ports, masquerade, mac, labels)


def _host_address(value: object) -> str:
    if not value:
        return ""
    try:
        address = parse_address(str(value))
    except ValueError as err:
        raise CniError(failure.INVALID_CONFIG, f"portMappings: hostIP: {err}") from None
    return "" if address.is_unspecified else str(address)


def bandwidth(request: Request) -> Bandwidth:
    """runtimeConfig.bandwidth, or the same keys in the configuration. Raises CniError 7."""
    found: Any = request.runtime_config.get("bandwidth") or request.conf.get("bandwidth") or {}
    if not isinstance(found, Mapping):
        raise CniError(failure.INVALID_CONFIG, "bandwidth is not an object")
    values = []
    for key in ("ingressRate", "ingressBurst", "egressRate", "egressBurst"):
        value = found.get(key) or 0
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise CniError(failure.INVALID_CONFIG, f"bandwidth.{key}: {value!r} is not a number of bits")
        values.append(value)
    return Bandwidth(*values)


#: Source ports are drawn, but for SCTP's (132) towards the outside: see firewall/masquerade.py.
_RULES: Final = """\
add table inet {table}
add set inet {table} masq4 {{ type ipv4_addr; }}
add set inet {table} masq6 {{ type ipv6_addr; }}
add set inet {table} own4 {{ type ipv4_addr . ifname; }}
add set inet {table} own6 {{ type ipv6_addr . ifname; }}
add map inet {table} ports4 {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
add map inet {table} ports6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
add map inet {table} at4 {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
add map inet {table} at6 {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }}
add chain inet {table} publish
add chain inet {table} prerouting {{ type nat hook prerouting priority dstnat; }}
add chain inet {table} output {{ type nat hook output priority -100; }}
add chain inet {table} postrouting {{ type nat hook postrouting priority srcnat; }}
flush chain inet {table} publish
flush chain inet {table} prerouting
flush chain inet {table} output
flush chain inet {table} postrouting
add rule inet {table} publish dnat ip to ip daddr . meta l4proto . th dport map @at4
add rule inet {table} publish dnat ip6 to ip6 daddr . meta l4proto . th dport map @at6
add rule inet {table} publish meta nfproto ipv4 dnat ip to meta l4proto . th dport map @ports4
add rule inet {table} publish meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @ports6
add rule inet {table} prerouting fib daddr type local jump publish
add rule inet {table} output fib daddr type local jump publish
add rule inet {table} postrouting ct status dnat ip saddr . oifname @own4 masquerade fully-random
add rule inet {table} postrouting ct status dnat ip6 saddr . oifname @own6 masquerade fully-random
add rule inet {table} postrouting ct status dnat ip saddr 127.0.0.0/8 masquerade
add rule inet {table} postrouting ip saddr . oifname @own4 accept
add rule inet {table} postrouting ip6 saddr . oifname @own6 accept
add rule inet {table} postrouting ip saddr @masq4 ip daddr != 224.0.0.0/4 meta l4proto 132 masquerade
add rule inet {table} postrouting ip saddr @masq4 ip daddr != 224.0.0.0/4 masquerade fully-random
add rule inet {table} postrouting ip6 saddr @masq6 ip6 daddr != ff00::/8 meta l4proto 132 masquerade
add rule inet {table} postrouting ip6 saddr @masq6 ip6 daddr != ff00::/8 masquerade fully-random
"""
_PIN_RULES: Final = """\
add table bridge {table}
add set bridge {table} pinned {{ type ifname . ether_addr; }}
add set bridge {table} ports {{ type ifname; }}
add chain bridge {table} prerouting {{ type filter hook prerouting priority -300; }}
flush chain bridge {table} prerouting
add rule bridge {table} prerouting iifname @ports iifname . ether saddr != @pinned drop
"""


def _elements(extras: Extras) -> list[tuple[str, str, str]]:
    """(family and set, key, value or '') of every element of an attachment."""
    addresses = [ip_address(each) for each in extras.addresses]
    found: list[tuple[str, str, str]] = []
    inet = f"inet {TABLE}"
    for address in addresses:
        version = address.version
        if extras.masquerade:
            found.append((f"{inet} masq{version}", str(address), ""))
        if extras.masquerade or extras.ports:
            found.append((f"{inet} own{version}", f'{address} . "{extras.bridge}"', ""))
    for published in extras.ports:
        for version in (4, 6):
            target: Address | None = next((each for each in addresses if each.version == version), None)
            host = ip_address(published.host_address) if published.host_address else None
            if target is None or (host is not None and host.version != version):
                continue
            key = f"{PROTOCOL_NUMBERS[published.protocol]} . {published.host_port}"
            value = f"{target} . {published.pod_port}"
            if host is None:
                found.append((f"{inet} ports{version}", key, value))
            else:
                found.append((f"{inet} at{version}", f"{host} . {key}", value))
    if extras.mac:
        found.append((f"bridge {TABLE} pinned", f'"{extras.port}" . {extras.mac}', ""))
        found.append((f"bridge {TABLE} ports", f'"{extras.port}"', ""))
    return found


def stale_connections(extras: Extras, local: frozenset[Address], *, published: bool) -> list[Stale]:
    """The connections that publishing ports, or its end, leaves with a translation that is not in force.

    TCP is not among them: a new connection asks anew, and one to a pod that is gone ends by itself. `local`
    are the addresses of the host, to which a port without a host address applies.
    """
    from l3net.model import Stale  # noqa: PLC0415

    found = []
    for port in extras.ports:
        if port.protocol == "tcp":
            continue
        hosts = frozenset({ip_address(port.host_address)}) if port.host_address else local
        for target in map(ip_address, extras.addresses):
            destinations = frozenset(each for each in hosts if each.version == target.version)
            if not destinations:
                continue
            found.append(
                Stale(
                    PROTOCOL_NUMBERS[port.protocol],
                    destinations,
                    port.host_port,
                    None if published else target,
                    frozenset({(target, port.pod_port)}) if published else frozenset(),
                )
            )
    return found


def put_script(extras: Extras) -> str:
    """An nft(8) script: tables and rules as they must be, and the attachment's elements; repeatable.

    A published port another attachment has is refused by the kernel (a map holds one value a key).
    """
    script = ""
    if extras.ports or extras.masquerade:
        script += _RULES.format(table=TABLE)
    if extras.mac:
        script += _PIN_RULES.format(table=TABLE)
    lines = [
        f"add element {where} {{ {key}{f' : {value}' if value else ''} }}"
        for where, key, value in _elements(extras)
    ]
    return script + "\n".join(lines) + "\n"


def delete_commands(extras: Extras) -> list[str]:
    """One nft(8) command an element; alone, so that what is gone already does not stop the rest."""
    return [
        f"delete element {where} {{ {key}{f' : {value}' if value else ''} }}"
        for where, key, value in _elements(extras)
    ]


def extras_in(ruleset: Iterable[Mapping[str, Any]], port: str, addresses: Iterable[str]) -> Extras:
    """An attachment's extras as the tables hold them (libnftables-json(5)), for one whose record is lost."""
    held = tuple(addresses)
    elements = {
        each["name"]: each.get("elem", [])
        for entry in ruleset
        for each in (entry.get("set"), entry.get("map"))
        if isinstance(each, Mapping) and each.get("table") == TABLE
    }
    ports: list[PublishedPort] = []
    for version in (4, 6):
        for key, value in elements.get(f"ports{version}", ()):
            (protocol, host_port), (target, pod_port) = key["concat"], value["concat"]
            if target in held:
                ports.append(PublishedPort(_protocol(protocol), host_port, pod_port))
        for key, value in elements.get(f"at{version}", ()):
            (host, protocol, host_port), (target, pod_port) = key["concat"], value["concat"]
            if target in held:
                ports.append(PublishedPort(_protocol(protocol), host_port, pod_port, host))
    own = [each["concat"] for version in (4, 6) for each in elements.get(f"own{version}", ())]
    bridge = next((name for address, name in own if address in held), "")
    masquerade = any(each in held for version in (4, 6) for each in elements.get(f"masq{version}", ()))
    pinned = dict(each["concat"] for each in elements.get("pinned", ()))
    return Extras(
        bridge=bridge,
        port=port,
        addresses=held if ports or masquerade else (),
        ports=tuple(sorted(set(ports))),
        masquerade=masquerade,
        mac=pinned.get(port, ""),
    )


def _protocol(said: object) -> str:
    """nft writes a name where /etc/protocols is there, otherwise the number."""
    names = {number: name for name, number in PROTOCOL_NUMBERS.items()}
    return names[said] if isinstance(said, int) else str(said)
