"""A slim system has no /etc/protocols and no /etc/services: the rule set names none of their entries."""

from __future__ import annotations

import subprocess
from ipaddress import ip_address, ip_network

import pytest

from l3net.firewall.facts import FirewallPlan
from l3net.firewall.ruleset import ruleset
from l3net.model import Backend, VirtualServer

SERVERS = frozenset(
    VirtualServer(ip_address(address), protocol, 80, backends, backends)
    for address, backends in (
        ("10.96.0.10", (Backend(ip_address("10.1.1.2"), 8080),)),
        ("10.96.0.11", ()),
        ("fd00:96::a", (Backend(ip_address("fd00:1::2"), 8080),)),
    )
    for protocol in ("tcp", "udp", "sctp")
)
PLAN = FirewallPlan(
    servers=SERVERS, blocks=frozenset({ip_network("10.1.1.0/24"), ip_network("fd00:1::/120")})
)


@pytest.mark.netns
@pytest.mark.parametrize("text", [ruleset(PLAN), None], ids=["ours", "control"])
def test_the_rule_set_loads_without_the_name_databases(text: str | None) -> None:
    """Nothing stands in the two files, seen in a mount namespace of its own; the control names a protocol."""
    script = "mount --bind /dev/null /etc/protocols && mount --bind /dev/null /etc/services && exec nft -f -"
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--propagation=private", "sh", "-c", script],
        input=text or "table inet x {\n chain c {\n  meta l4proto ipv6-icmp accept\n }\n}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (text is not None), done.stderr
