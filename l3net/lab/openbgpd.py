"""OpenBGPD's configuration (bgpd.conf, 7.7 and later) for a router of a topology.

Debian's OpenBGPD keeps no kernel routes (it is built without libmnl), so `rib_follower` carries its best
paths into the kernel, equal ones together, as it knows no multipath itself. Graceful restart is off: as a
helper OpenBGPD keeps the routes of a neighbour that fell silent for the whole restart time (120 s).
"""

from __future__ import annotations

from l3net.lab.frr import HOLD_TIME
from l3net.lab.topology import BgpSession, Topology


def openbgpd_config(topology: Topology, host: str) -> str:
    """One bgpd.conf, which OpenBGPD wants readable by its owner alone."""
    lines = [
        f"AS {topology.as_number_of(host)}",
        f"router-id {topology.router_id(host)}",
        f"holdtime {HOLD_TIME}",
        "connect-retry 1",
        *(f"network {subnet}" for subnet in topology.link_subnets(host)),
    ]
    for session in topology.sessions(host):
        lines += _neighbour(session)
    # It refuses by default, what it announces itself included (RFC 8212).
    return "\n".join([*lines, "allow from any", "allow to any"]) + "\n"


def _neighbour(session: BgpSession) -> list[str]:
    return [
        f"neighbor {session.remote} {{",
        f"  remote-as {session.remote_as}",
        f'  descr "{session.remote_host}"',
        f"  local-address {session.local}",
        *(
            f"  announce IPv{version} {'unicast' if version == session.remote.version else 'none'}"
            for version in (4, 6)
        ),
        "  announce restart no",
        "}",
    ]
