"""The section `protection`: what pods may not do. They send from no address that is not the node's, and do
not speak to its BGP and BFD.

From which of the node's addresses a pod may send its port's guard knows, which comes before all of this
(cni/guardrules.py). What is here holds where that is away, and for the pods of other nodes.
"""

from __future__ import annotations

import re

from l3net.firewall.contents import Contents, hook
from l3net.firewall.facts import FirewallPlan, ports_matched, widest_first
from l3net.firewall.section import NOTHING, SmallSection
from l3net.naming import PROTOCOL_NUMBERS, VETH_PREFIX


def _concern(plan: FirewallPlan) -> object:
    return (
        plan.bridge,
        plan.blocks,
        plan.bgp_ports,
        plan.error_port,
        plan.closed_ports,
        plan.pod_ranges,
        plan.allowed_sources,
    )


def _contents(plan: FirewallPlan) -> Contents:
    own = (*plan.blocks, *plan.allowed_sources)
    return Contents(
        {
            "prerouting-spoof": (
                # Before connection tracking, which need not see it.
                hook("filter", "prerouting", -300),
                # What pods send comes by the bridge, or by no way that is meant.
                f'iifname "{plan.bridge}" goto from-pods',
                f'iifname "{VETH_PREFIX}*" drop',
            ),
            "from-pods": (
                *(f"ip saddr {block} accept" for block in widest_first(4, own)),
                "meta nfproto ipv4 drop",
                # A pod tells its neighbours of its link-local address, and of an address it does not have
                # yet.
                "icmpv6 type nd-router-advert drop",
                "icmpv6 type nd-redirect drop",
                *(f"ip6 saddr {block} accept" for block in widest_first(6, own)),
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
            "forward-protect": (
                # A link-local source goes no further than its link (RFC 4291 section 2.5.6), which the kernel
                # takes the bridge for: from pod to pod it would be nobody's for a policy.
                hook("filter", "forward", -1),
                f'iifname "{plan.bridge}" ip6 saddr fe80::/10 drop',
            ),
            "input-protect": (
                hook("filter", "input", 0),
                'iifname "lo" accept',
                *(f"{ports} jump not-to-pods" for ports in ports_matched(plan.shut_ports)),
            ),
            # Of this node, and of others, whose packets come by an uplink.
            "not-to-pods": (
                f'iifname "{plan.bridge}" drop',
                *(f"ip saddr {pods} drop" for pods in widest_first(4, plan.pod_ranges)),
                *(f"ip6 saddr {pods} drop" for pods in widest_first(6, plan.pod_ranges)),
            ),
        }
    )


PROTECTION = SmallSection(
    "protection",
    own=re.compile(r"prerouting-spoof|from-pods|(input|output|forward)-protect|not-to-pods"),
    reads=NOTHING,
    concern=_concern,
    contents=_contents,
)
