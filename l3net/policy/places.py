"""Ends of a connection as people name them: a pod, a service, an address."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Final

from l3net.errors import ConfigError
from l3net.model import Address, ObjectName, Pod, Service
from l3net.policy.verdict import PORT_PROTOCOLS
from l3net.policy.view import Whereabouts

PORT: Final = "80/tcp"
#: Protocols without ports that may be asked for.
_PORTLESS: Final = ("icmp", "icmpv6", "igmp", "gre", "esp", "ah")


@dataclass(frozen=True, slots=True)
class Port:
    """A destination port; a protocol alone has number 0."""

    number: int
    protocol: str

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}" if self.number else self.protocol


@dataclass(frozen=True, slots=True)
class Place:
    """One end: how people call it, its addresses, its pod if it is one of the pod network, and its node if
    that is known. `port`: of an endpoint of a service, its own."""

    label: str
    addresses: tuple[Address, ...]
    pod: Pod | None = None
    node: str = ""
    port: Port | None = None
    service: str = ""


def port_of(text: str) -> Port:
    """Of `80/tcp`, `80` (of TCP), or a protocol without ports, as in `icmp`. Raises ConfigError."""
    number, slash, protocol = text.lower().partition("/")
    if not slash and number in _PORTLESS:
        return Port(0, number)
    protocol = protocol if slash else "tcp"
    if not (number.isascii() and number.isdigit() and 0 < int(number) < 65536) or (
        protocol not in PORT_PROTOCOLS
    ):
        raise ConfigError(f"port {text}: is none such as 80/tcp, 53/udp or 9000/sctp, nor {_or(_PORTLESS)}")
    return Port(int(number), protocol)


def _or(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def named(text: str, what: str) -> ObjectName:
    """Raises ConfigError."""
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise ConfigError(f"{what} {text}: say NAMESPACE/NAME")
    return ObjectName(namespace, name)


def places(view: Whereabouts, text: str, port: Port | None = None) -> tuple[Place, ...]:
    """What a word means: one place, or each endpoint of a service. `port` is that which is called, if any.

    Raises ConfigError, also where it may be a pod or a service.
    """
    kind, slash, rest = text.partition("/")
    if slash and "/" in rest and kind in ("pod", "service", "svc"):
        name = named(rest, kind)
        return (_pod(view, name),) if kind == "pod" else _endpoints(view, name, port)
    if "/" in text:
        name = named(text, "pod or service")
        pod, service = view.pod(name), view.state.services.get(name)
        if pod is not None and service is not None:
            raise ConfigError(f"{name} is a pod and a service: say pod/{name} or service/{name}")
        return _endpoints(view, name, port) if service is not None else (_pod(view, name),)
    try:
        address = ip_address(text)
    except ValueError:
        raise ConfigError(f"{text} is neither NAMESPACE/NAME nor an address") from None
    for name, each in view.state.services.items():
        if address in (*each.cluster_ips, *each.external_ips, *each.load_balancer_ips):
            return _endpoints(view, name, port, address.version)
    return (at(view, address),)


def at(view: Whereabouts, address: Address) -> Place:
    """Who is at an address."""
    pod = view.known.pod_at(address)
    if pod is not None:
        return Place(str(pod.name), (address,), pod, view.node_of(pod))
    node = view.node_at(address)
    if node is not None:
        return Place(f"{address} (node {node.name})", (address,), node=node.name)
    return Place(str(address), (address,))


def _pod(view: Whereabouts, name: ObjectName) -> Place:
    pod = view.pod(name)
    if pod is None:
        raise ConfigError(f"no pod and no service {name} is known{': ' * bool(view.partial)}{view.partial}")
    addresses = view.addresses(pod)
    if not addresses:
        why = "has ended" if pod.finished else "has no address yet"
        raise ConfigError(f"pod {name} {why}: it cannot reach anything, and nothing can reach it")
    if pod.host_network:
        where = f" {pod.node}" if pod.node else ""
        return Place(f"{name} (on the network of node{where})", addresses, node=pod.node)
    # What policies are for is whoever has the address.
    return Place(str(name), addresses, pod, view.node_of(pod))


def _endpoints(
    view: Whereabouts, name: ObjectName, port: Port | None, version: int | None = None
) -> tuple[Place, ...]:
    service = view.state.services.get(name)
    if service is None:
        raise ConfigError(f"no service {name} is known")
    found: dict[tuple[str, Port | None, str], Place] = {}
    for place in _of_slices(view, service, port, version):
        key = place.label, place.port, place.service
        before = found.get(key)
        both = dict.fromkeys((*before.addresses, *place.addresses)) if before is not None else place.addresses
        found[key] = replace(place, addresses=tuple(sorted(both, key=lambda each: each.version)))
    if found:
        return tuple(found.values())
    ports = ", ".join(f"{each.port}/{each.protocol.lower()}" for each in service.ports)
    if port is not None and not any(_is(port, each.port, each.protocol) for each in service.ports):
        raise ConfigError(f"service {name} has no port {port}, but {ports or 'none'}")
    raise ConfigError(f"service {name} has no endpoint that is ready")


def _of_slices(
    view: Whereabouts, service: Service, port: Port | None, version: int | None
) -> Iterator[Place]:
    wanted = [each for each in service.ports if port is None or _is(port, each.port, each.protocol)]
    for each in sorted(view.state.slices.values(), key=lambda each: each.name):
        if each.service != service.name:
            continue
        for served in wanted:
            target = each.ports.get(served.name)
            if target is None or target[0] != served.protocol:
                continue
            number = Port(target[1], target[0].lower())
            for endpoint in each.endpoints:
                address = endpoint.address
                if (endpoint.ready or service.publish_not_ready) and version in (None, address.version):
                    place = at(view, address)
                    yield Place(
                        place.label,
                        place.addresses,
                        place.pod,
                        place.node or endpoint.node or "",
                        number,
                        f"{service.name} port {served.port}/{served.protocol.lower()}",
                    )


def _is(port: Port, number: int, protocol: str) -> bool:
    return port == Port(number, protocol.lower())
