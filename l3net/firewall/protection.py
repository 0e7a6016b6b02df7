"""The section `protection`: what pods may not do. They send from no address that is not the node's, and do
not speak to its BGP and BFD."""

from __future__ import annotations

import re

from l3net.firewall.contents import Contents, hook
from l3net.firewall.facts import BFD_PORTS, FirewallPlan, widest_first
from l3net.firewall.section import NOTHING, SmallSection
from l3net.naming import PROTOCOL_NUMBERS


def _concern(plan: FirewallPlan) -> object:
    return plan.bridge, plan.blocks, plan.bgp_ports, plan.error_port


def _contents(plan: FirewallPlan) -> Contents:
    pods = f'iifname "{plan.bridge}"'
    closed = (*BFD_PORTS, plan.error_port) if plan.error_port else BFD_PORTS
    bgp, udp = (", ".join(map(str, ports)) for ports in (sorted(plan.bgp_ports), closed))
    return Contents(
        {
            "prerouting-spoof": (
                # Before connection tracking, which need not see it.
                hook("filter", "prerouting", -300),
                f'iifname != "{plan.bridge}" accept',
                *(f"ip saddr {block} accept" for block in widest_first(4, plan.blocks)),
                "meta nfproto ipv4 drop",
                # A pod tells its neighbours of its link-local address, and of an address it does not have
                # yet.
                "icmpv6 type nd-router-advert drop",
                "icmpv6 type nd-redirect drop",
                *(f"ip6 saddr {block} accept" for block in widest_first(6, plan.blocks)),
                "ip6 saddr fe80::/10 accept",
                f"ip6 saddr :: meta l4proto {PROTOCOL_NUMBERS['ipv6-icmp']} accept",
                "meta nfproto ipv6 drop",
            ),
            "output-protect": (
                hook("filter", "output", 0),
                # What goes from pod to pod leaves by the bridge it came in on, and the kernel tells the pod
                # of the shorter way (RFC 4861 section 8.2), which isolated ports refuse. IPv6 has no
                # send_redirects.
                f'oifname "{plan.bridge}" icmpv6 type nd-redirect drop',
            ),
            "input-protect": (
                hook("filter", "input", 0),
                f"{pods} tcp dport {{ {bgp} }} drop",
                f"{pods} udp dport {{ {udp} }} drop",
            ),
        }
    )


PROTECTION = SmallSection(
    "protection",
    own=re.compile(r"prerouting-spoof|(input|output)-protect"),
    reads=NOTHING,
    concern=_concern,
    contents=_contents,
)
