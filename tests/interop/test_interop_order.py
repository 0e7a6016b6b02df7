"""A route that goes and comes back amid a burst.

ExaBGP 5.0.15 sends what it is told by attributes, not in order: a withdrawal with attributes of its own may
be sent after the announcement that followed it. l3net mends that where ExaBGP is its own release
(test_interop_exabgp_quick.py has the control), and withdraws with the attributes of the announcement.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path

import pytest
from bgp_facts import session
from node_rig import CONFIGURATION, NODE, TOR4, Rig

from l3net.bgp.exabgp.commands import announce, withdraw
from l3net.bgp.path import Attributes
from l3net.model import Prefix

pytestmark = pytest.mark.netns

FLAPPING = ip_network("203.0.113.7/32")
HOP = ip_address("10.90.0.1")


def burst(number: int) -> list[Prefix]:
    return list(IPv4Network(f"100.64.{number}.0/24").subnets(new_prefix=32))[:100]


@pytest.mark.parametrize("as_announced", [True, False], ids=["as-announced", "attributes-unknown"])
def test_a_route_that_flaps_in_a_burst_is_there_in_the_end(rig: Rig, as_announced: bool) -> None:
    """As right after an agent's restart, too, when it does not know with what attributes it was announced."""
    rig.start_tor()
    rig.declare("node.yaml", NODE, CONFIGURATION, TOR4)
    rig.start_speaker()
    rig.start_agent()
    rig.established("10.90.0.2")
    rig.node.kill("agent", 9)
    rig.until(lambda: not rig.node.alive("agent"), "the agent to end")
    tor, plain = session("10.90.0.2"), Attributes()
    lines = []
    for number in range(6):
        lines.append(announce(tor, HOP, plain, burst(number)))
        if number >= 2:
            gone = withdraw(tor, [FLAPPING], HOP, plain) if as_announced else withdraw(tor, [FLAPPING])
            lines += [gone, announce(tor, HOP, plain, [FLAPPING])]
    with socket.socket(socket.AF_UNIX) as relay:
        path = Path(f"/proc/{rig.node.pid}/root/run/l3net/speaker.sock")
        relay.connect(str(path))
        relay.sendall((announce(tor, HOP, plain, [FLAPPING]) + "\n").encode())
        rig.until(lambda: str(FLAPPING) in rig.tor_routes(), "the route")
        relay.sendall("".join(f"{line}\n" for line in lines).encode())
        last = {str(prefix) for prefix in burst(5)}
        rig.until(lambda: last <= rig.tor_routes(), "the burst")
        rig.until(lambda: str(FLAPPING) in rig.tor_routes(), "the route that flapped")
