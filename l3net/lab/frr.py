"""FRR's configuration (frr.conf, 8.4 and later) for a router of a topology."""

from __future__ import annotations

from l3net.lab.topology import Topology

#: Seconds; short enough to see a node vanish, long enough for two busy cores.
HOLD_TIME = 9
#: The route map of what a router announces as its own: no network by which a machine is managed.
LINKS = "links"


def frr_config(topology: Topology, host: str) -> str:
    """One file for zebra and bgpd, as vtysh reads it."""
    lines = [
        "frr defaults traditional",
        f"hostname {host}",
        "log stdout informational",
        "service integrated-vtysh-config",
        "!",
        *_links(topology, host),
        "!",
        f"router bgp {topology.as_number_of(host)}",
        f" bgp router-id {topology.router_id(host)}",
        " no bgp ebgp-requires-policy",
        " no bgp default ipv4-unicast",
        # Two racks are two ASes: paths of equal length are equal.
        " bgp bestpath as-path multipath-relax",
        # The default of 1 s delays the first UPDATE after a session opens.
        " coalesce-time 100",
        f" timers bgp {HOLD_TIME // 3} {HOLD_TIME}",
    ]
    sessions = topology.sessions(host)
    for session in sessions:
        lines += [
            f" neighbor {session.remote} remote-as {session.remote_as}",
            f" neighbor {session.remote} description {session.remote_host}",
            f" neighbor {session.remote} timers connect 1",
            f" neighbor {session.remote} advertisement-interval 0",
        ]
    for version in topology.versions:
        lines += [
            " !",
            f" address-family ipv{version} unicast",
            f"  redistribute connected route-map {LINKS}",
            "  maximum-paths 16",
        ]
        lines += [f"  neighbor {s.remote} activate" for s in sessions if s.remote.version == version]
        lines.append(" exit-address-family")
    lines += ["exit", "!", "end"]
    return "\n".join(lines) + "\n"


def _links(topology: Topology, host: str) -> list[str]:
    """The route map."""
    words = {4: "ip", 6: "ipv6"}
    lines = [
        f"{words[subnet.version]} prefix-list {LINKS} permit {subnet}"
        for version in topology.versions
        for subnet in topology.link_subnets(host, version)
    ]
    for sequence, version in enumerate(topology.versions, start=1):
        lines.append(f"route-map {LINKS} permit {sequence}")
        lines.append(f" match {words[version]} address prefix-list {LINKS}")
        lines.append("exit")
    return lines
