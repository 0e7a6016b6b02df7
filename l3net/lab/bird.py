"""BIRD's configuration (2.0 and later) for a router of a topology."""

from __future__ import annotations

from l3net.lab.frr import HOLD_TIME
from l3net.lab.topology import BgpSession, Topology


def bird_config(topology: Topology, host: str) -> str:
    """One bird.conf: device, direct and kernel protocols, one BGP protocol a session."""
    channels = " ".join(_links(topology, host, version) for version in topology.versions)
    parts = [
        f"log stderr all;\nrouter id {topology.router_id(host)};\n",
        "protocol device { scan time 5; }\n",
        f"protocol direct {{ {channels} check link yes; }}\n",
    ]
    parts += [
        f"protocol kernel kernel{version} {{\n"
        "  merge paths yes limit 16;\n"
        f"  ipv{version} {{ import none; export where source = RTS_BGP; }};\n"
        "}\n"
        for version in topology.versions
    ]
    parts += [_bgp(topology, host, session) for session in topology.sessions(host)]
    return "\n".join(parts)


def session_name(session: BgpSession) -> str:
    """The protocol name birdc knows a session by. A symbol of BIRD's begins with no digit."""
    name = session.interface.replace("-", "_")
    return f"{'_' * name[0].isdigit()}{name}_ipv{session.remote.version}"


def _links(topology: Topology, host: str, version: int) -> str:
    """The channel by which a router announces its links, and no network by which a machine is managed."""
    found = ", ".join(map(str, topology.link_subnets(host, version)))
    accepted = f"where net ~ [ {found} ]" if found else "none"
    return f"ipv{version} {{ import {accepted}; }};"


def _bgp(topology: Topology, host: str, session: BgpSession) -> str:
    return (
        f"protocol bgp {session_name(session)} {{\n"
        f"  local {session.local} as {topology.as_number_of(host)};\n"
        f"  neighbor {session.remote} as {session.remote_as};\n"
        "  direct;\n"
        "  check link yes;\n"
        f"  hold time {HOLD_TIME};\n"
        "  connect delay time 1;\n"
        "  connect retry time 1;\n"
        "  error wait time 1, 2;\n"
        f"  ipv{session.remote.version} {{\n"
        "    import all;\n"
        "    export where source ~ [ RTS_BGP, RTS_DEVICE ];\n"
        "    next hop self;\n"
        "  };\n"
        "}\n"
    )
