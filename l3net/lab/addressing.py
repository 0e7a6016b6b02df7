"""What a host's kernel is given before l3net or BGP start: sysctls, addresses, default routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from l3net.lab.topology import Topology
from l3net.model import Prefix

#: IPv6 addresses are usable at once and survive a link that goes down, as they do on a configured router.
_COMMON = {
    "net.ipv6.conf.all.disable_ipv6": 0,
    "net.ipv6.conf.default.disable_ipv6": 0,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv6.conf.all.accept_dad": 0,
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.all.accept_ra": 0,
    "net.ipv6.conf.default.accept_ra": 0,
    "net.ipv6.conf.all.keep_addr_on_down": 1,
    "net.ipv6.conf.default.keep_addr_on_down": 1,
    # Flows, not destinations, are spread over equal paths (layer 4 hash).
    "net.ipv4.fib_multipath_hash_policy": 1,
    "net.ipv6.fib_multipath_hash_policy": 1,
    # traceroute must not depend on how fast it asks.
    "net.ipv4.icmp_ratelimit": 0,
    "net.ipv6.icmp.ratelimit": 0,
}
_ROUTER = {
    "net.ipv4.ip_forward": 1,
    "net.ipv6.conf.all.forwarding": 1,
    "net.ipv6.conf.default.forwarding": 1,
}


def sysctls(topology: Topology, host: str) -> dict[str, int]:
    """Settings of a host's network namespace. A node's forwarding is the agent's to set."""
    return {**_COMMON, **(_ROUTER if topology.router(host) is not None else {})}


def addressing(
    topology: Topology,
    host: str,
    *,
    towards: Sequence[Prefix] = (),
    names: Mapping[str, str] | None = None,
) -> str:
    """Commands for `ip -batch` that give a host its addresses and, unless a router, its routes.

    Every command may be repeated: the same text mends a host whose links were down. The routes are default
    routes, or with `towards` routes to these prefixes alone, for a host whose default route is another's
    business. Two routers make them multipath, as DHCP or router advertisements would on a dual-homed machine.
    `names` are the interfaces' names where they are not the topology's.
    """
    lines = ["link set dev lo up"]

    def name(interface: str) -> str:
        return (names or {}).get(interface, interface)

    for link in topology.links_of(host):
        end = link.end(host)
        for address in end.addresses:
            flags = " nodad" if address.version == 6 else ""
            lines.append(f"address replace {address} dev {name(end.interface)}{flags}")
        lines.append(f"link set dev {name(end.interface)} up")
    if topology.router(host) is None:
        own = set(topology.link_subnets(host))
        for version in topology.versions:
            hops = [
                f"via {gateway.ip} dev {name(link.end(host).interface)}"
                for link in topology.links_of(host)
                for gateway in link.far_end(host).addresses
                if gateway.version == version
            ]
            way = hops[0] if len(hops) == 1 else " ".join(f"nexthop {hop}" for hop in hops)
            there = [str(prefix) for prefix in towards if prefix.version == version and prefix not in own]
            anywhere = "0.0.0.0/0" if version == 4 else "::/0"
            lines += [f"route replace {prefix} proto static {way}" for prefix in there or [anywhere]]
    return "\n".join(lines) + "\n"


def lab_prefixes(topology: Topology) -> tuple[Prefix, ...]:
    """Everything that is inside a lab: the links' subnets, the pools, the service ranges."""
    subnets = [subnet for link in topology.links for subnet in link.subnets]
    return (*subnets, *(pool.cidr for pool in topology.pools), *topology.service_cidrs)


def links(topology: Topology, holders: dict[str, int]) -> str:
    """Commands for `ip -batch` that make every veth pair with both ends born in the holders' namespaces."""
    return "".join(
        f"link add name {near.interface} netns {holders[near.host]} type veth "
        f"peer name {far.interface} netns {holders[far.host]}\n"
        for near, far in (link.ends for link in topology.links)
    )
