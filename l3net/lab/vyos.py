"""VyOS's configuration (1.4 and later) for a router of a topology, as `set` commands.

VyOS runs FRR underneath, so the session options are those of `frr`. Its interfaces are named by number:
`eth0` is the management interface, `eth1` and on are the links in the order of the topology.
"""

from __future__ import annotations

from l3net.lab.addressing import sysctls
from l3net.lab.frr import HOLD_TIME, LINKS
from l3net.lab.topology import Topology

#: Forwarding is VyOS's own doing, and it refuses to have it set a second time.
_OWN_SYSCTLS = frozenset(
    {"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.default.forwarding"}
)


def vyos_interfaces(topology: Topology, host: str) -> dict[str, str]:
    """The name that VyOS has for each interface of the topology."""
    return {
        link.end(host).interface: f"eth{number}"
        for number, link in enumerate(topology.links_of(host), start=1)
    }


def vyos_commands(topology: Topology, host: str) -> str:
    """Commands of configuration mode, without `configure`, `commit` and `save`."""
    names = vyos_interfaces(topology, host)
    lines = [f"set system host-name '{host}'"]
    lines += [
        f"set system sysctl parameter {key} value '{value}'"
        for key, value in sysctls(topology, host).items()
        if key not in _OWN_SYSCTLS
    ]
    for link in topology.links_of(host):
        end, far = link.end(host), link.far_end(host)
        interface = f"set interfaces ethernet {names[end.interface]}"
        lines.append(f"{interface} description '{far.host}'")
        lines += [f"{interface} address '{address}'" for address in end.addresses]
    lines += _links(topology, host)
    bgp = "set protocols bgp"
    lines += [
        f"{bgp} system-as '{topology.as_number_of(host)}'",
        f"{bgp} parameters router-id '{topology.router_id(host)}'",
        f"{bgp} parameters bestpath as-path multipath-relax",
        f"{bgp} timers holdtime '{HOLD_TIME}'",
        f"{bgp} timers keepalive '{HOLD_TIME // 3}'",
    ]
    for version in topology.versions:
        family = f"{bgp} address-family ipv{version}-unicast"
        if topology.link_subnets(host, version):
            lines.append(f"{family} redistribute connected route-map '{LINKS}'")
        lines.append(f"{family} maximum-paths ebgp '16'")
    for session in topology.sessions(host):
        neighbour = f"{bgp} neighbor {session.remote}"
        lines += [
            f"{neighbour} remote-as '{session.remote_as}'",
            f"{neighbour} description '{session.remote_host}'",
            f"{neighbour} advertisement-interval '0'",
            f"{neighbour} timers connect '1'",
            f"{neighbour} address-family ipv{session.remote.version}-unicast",
        ]
    return "\n".join(lines) + "\n"


def _links(topology: Topology, host: str) -> list[str]:
    """The route map of what a router announces as its own (see `frr`)."""
    lines = []
    for version in topology.versions:
        rule = f"set policy route-map {LINKS} rule {version}"
        listed = "prefix-list" if version == 4 else "prefix-list6"
        subnets = topology.link_subnets(host, version)
        lines += [
            line
            for number, subnet in enumerate(subnets, start=1)
            for line in (
                f"set policy {listed} {LINKS} rule {number} action 'permit'",
                f"set policy {listed} {LINKS} rule {number} prefix '{subnet}'",
            )
        ]
        words = "ip" if version == 4 else "ipv6"
        if not subnets:  # VyOS refuses what refers to no list
            continue
        lines += [f"{rule} action 'permit'", f"{rule} match {words} address prefix-list '{LINKS}'"]
    return lines
