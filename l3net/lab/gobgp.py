"""GoBGP's configuration (3.x, TOML) for a router of a topology.

GoBGP keeps no kernel routes of its own, and its Zebra client does not speak FRR 8.4's dialect (it dies on the
first interface message), so `rib_follower` carries its best paths into the kernel. Graceful restart is off:
as a helper GoBGP keeps the routes of a neighbour that fell silent for the whole restart time (120 s).
"""

from __future__ import annotations

from l3net.lab.frr import HOLD_TIME
from l3net.lab.topology import Topology


def gobgp_config(topology: Topology, host: str) -> str:
    parts = [
        "[global.config]\n"
        f"  as = {topology.as_number_of(host)}\n"
        f'  router-id = "{topology.router_id(host)}"\n'
        "[global.use-multiple-paths.config]\n"
        "  enabled = true\n"
    ]
    parts += [
        "[[neighbors]]\n"
        "  [neighbors.config]\n"
        f'    neighbor-address = "{session.remote}"\n'
        f"    peer-as = {session.remote_as}\n"
        f'    description = "{session.remote_host}"\n'
        "  [neighbors.transport.config]\n"
        f'    local-address = "{session.local}"\n'
        "  [neighbors.timers.config]\n"
        "    connect-retry = 1\n"
        "    idle-hold-time-after-reset = 1\n"
        f"    hold-time = {HOLD_TIME}\n"
        f"    keepalive-interval = {HOLD_TIME // 3}\n"
        "  [[neighbors.afi-safis]]\n"
        "    [neighbors.afi-safis.config]\n"
        f'      afi-safi-name = "ipv{session.remote.version}-unicast"\n'
        for session in topology.sessions(host)
    ]
    return "".join(parts)
