"""The section `masquerade`: whose packets leave with an address of this node, so that answers come back.

Source ports are drawn (`fully-random`), for two reasons. Two new flows that get the same tuple in one
instant, before either is confirmed, cost the later one its first packet, and a TCP client a second: the
kernel looks for a free port from the client's own on, so that flows meet there; ports that are drawn hardly
do (kubernetes/kubernetes#76699, kube-proxy since #78547). And who cannot guess a port cannot write into a
flow (RFC 6056). A port below 512, or below 1024, becomes another such; the number of an echo is drawn as
ports are. It is right for each rule here, as none of them has promised anybody a port. SCTP keeps its ports
where they are free: an association has one port at all addresses (RFC 9260 section 1.3), and each path to a
peer of several addresses is a flow of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from l3net.firewall.contents import IP, Contents, NamedSet, Rules, translating
from l3net.firewall.facts import BFD_PORTS, FirewallPlan, ports_matched, texts_of, widest_first
from l3net.firewall.nat import PORT_PROTOCOLS
from l3net.firewall.section import SmallSection
from l3net.firewall.sticky import SEED
from l3net.model import Address, Prefix
from l3net.naming import ENVELOPE, PROTOCOL_NUMBERS

#: So many of the widest prefixes inside the cluster are compared; pools and service ranges are among them.
COMPARED = 32


def _concern(plan: FirewallPlan) -> object:
    return (
        *(plan.bridge, plan.blocks, plan.nat_sources, plan.nat_excepts, plan.inside, plan.ports_on),
        *(plan.node_addresses, plan.shut_ports, plan.routers, plan.egress.wanted, plan.snat_addresses),
    )


def _peering(plan: FirewallPlan, version: int) -> Iterator[str]:
    """What would speak to a router's BGP or BFD with this node's address: the router would take it for the
    node, and with graceful restart end the node's own session for it (RFC 4724 section 5)."""
    ports = sorted({port for _, port in plan.routers})
    for port in ports:
        those = {address for address, its in plan.routers if its == port}
        known = sorted(str(each) for each in those if each is not None and each.version == version)
        of = "" if None in those else f"{IP[version]} daddr {{ {', '.join(known)} }} "
        if of == "" or known:
            yield f"{of}tcp dport {port} drop"
            yield f"{of}udp dport {{ {', '.join(map(str, BFD_PORTS))} }} drop"


def _from_the_node(match: str = "") -> Rules:
    """What meets the conditions leaves with an address of this node."""
    return (
        f"{match}meta l4proto {PROTOCOL_NUMBERS['sctp']} masquerade",
        f"{match}masquerade fully-random",
    )


def _outward(version: int, chosen: Sequence[Address]) -> Rules:
    """Pods leave with the addresses that are chosen. Of several, a pod keeps one for all that it sends, since
    servers tell a client by its address (RFC 4787 section 4.1)."""
    ip = IP[version]
    mine = [str(each) for each in chosen if each.version == version]
    if not mine:
        return _from_the_node()
    to = mine[0]
    if len(mine) > 1:
        slots = ", ".join(f"{slot} : {address}" for slot, address in enumerate(mine))
        to = f"jhash {ip} saddr mod {len(mine)} seed {SEED} map {{ {slots} }}"
    return (
        f"meta l4proto {PROTOCOL_NUMBERS['sctp']} snat {ip} to {to}",
        f"snat {ip} to {to} fully-random",
    )


def staying(version: int, inside: Sequence[Prefix]) -> Rules:
    """What stays in the cluster leaves the chain. `inside`: widest first; those beyond COMPARED are in the
    set (see `ruleset` on sets of ranges)."""
    ip = IP[version]
    compared = (f"{ip} daddr {prefix} return" for prefix in inside[:COMPARED])
    return (*compared, f"{ip} daddr @inside{version} return")


def _contents(plan: FirewallPlan) -> Contents:
    chains: dict[str, Rules] = {}
    sets: dict[str, NamedSet] = {}
    rules: list[str] = []
    if plan.egress.wanted:
        # The node that holds the address translates.
        rules.append(f'oifname "{ENVELOPE}" accept')
    for version, ip in IP.items():
        inside = widest_first(version, plan.inside)
        beyond = frozenset(map(str, inside[COMPARED:]))
        sets[f"inside{version}"] = NamedSet(f"type ipv{version}_addr", beyond, ranges=True)
        own = [f"{ip} daddr {block} return" for block in widest_first(version, plan.blocks)]
        nodes = texts_of(version, plan.node_addresses)
        sets[f"node-addresses{version}"] = NamedSet(f"type ipv{version}_addr", nodes)
        # By a service whose endpoint is a node a pod would speak to that one's BGP as this node, a peer.
        closed = (
            f"{ip} daddr @node-addresses{version} {each} drop" for each in ports_matched(plan.shut_ports)
        )
        peering = tuple(_peering(plan, version))
        chains[f"elsewhere{version}"] = (*own, *closed, *peering, *_from_the_node())
        # `ct original proto-dst` is no part of a concatenation in nft 1.0.6.
        chains[f"by-port{version}"] = tuple(
            f"meta l4proto {PROTOCOL_NUMBERS[protocol]}"
            f" ct original proto-dst @ports{version}-{protocol} goto elsewhere{version}"
            for protocol in PORT_PROTOCOLS
        )
        outward = _outward(version, plan.snat_addresses)
        chains[f"outside{version}"] = (*staying(version, inside), *peering, *outward)
        rules += [
            # A pod that calls its own service: the answer must come back through us.
            *_from_the_node(f"ct status dnat {ip} saddr . {ip} daddr @hairpin{version} "),
            # From outside to an endpoint elsewhere: the answer must come back through us, too. What others
            # translate (published ports of a container engine) is not ours to masquerade.
            f'iifname != "{plan.bridge}" ct status dnat ct original {ip} daddr @vips{version}'
            f" jump elsewhere{version}",
            *(
                f'iifname != "{plan.bridge}" ct status dnat ct original {ip} daddr {prefix}'
                f" jump by-port{version}"
                for prefix in widest_first(version, plan.ports_on)
            ),
            *(
                f"{ip} saddr {source} {ip} daddr {destination} return"
                for source, destination in sorted(plan.nat_excepts, key=str)
                if source.version == version
            ),
            *(
                f"{ip} saddr {source} jump outside{version}"
                for source in widest_first(version, plan.nat_sources)
            ),
        ]
    chains |= translating("postrouting", 99, tuple(rules))
    return Contents(chains, sets)


MASQUERADE = SmallSection(
    "masquerade",
    own=re.compile(r"inside[46]|node-addresses[46]|(elsewhere|outside|by-port)[46]|postrouting-(nat|again)"),
    reads=re.compile(r"(hairpin|vips)[46]|ports[46]-.*"),  # of services
    concern=_concern,
    contents=_contents,
)
