"""The chains of the section `services` that stand whatever the services are: hooks into the maps before
translation, and what becomes of a packet that none translated."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from l3net.firewall.contents import IP, Rules, hook, translating, twice
from l3net.firewall.facts import FirewallPlan, ports_matched, widest_first
from l3net.firewall.nat import KEY, REFUSED, Side, answering
from l3net.firewall.strays import LONGEST, TYPES
from l3net.naming import ENVELOPE, ERROR_LOG_GROUP, PROTOCOL_NUMBERS

#: ICMP errors handed on in a second: each goes to every other node.
STRAYS = 20
#: Addresses that no NodePort is on, whatever is asked for: loopback and link-local ones.
NOBODY_ELSE = {4: ("127.0.0.0/8",), 6: ("::1", "fe80::/10")}
_ICMP = {4: "icmp", 6: "icmpv6"}

#: Priority of the chains that translate destinations: before kube-proxy's and others' (dstnat, -100).
TRANSLATION: Final = -102


def chains(plan: FirewallPlan, guarded: Collection[int]) -> dict[str, Rules]:
    """The chains by name; `guarded` are the families in which a service is for some clients only."""
    found: dict[str, Rules] = {}
    for version in IP:
        found[f"untranslated{version}"] = _untranslated(plan, version)
    for version in IP:
        found[f"refuse{version}"] = _refuse(version)
    for own, side, on_node in (
        ("internal", Side.INTERNAL, Side.NODE_INTERNAL),
        ("external", Side.EXTERNAL, Side.NODE_EXTERNAL),
    ):
        for version in IP:
            found[f"node{version}-{own}"] = _node_ports(plan, version, on_node)
        found[own] = (
            *(_lookup(version, each) for version in IP for each in (Side.BOTH, side)),
            *(
                f"{IP[version]} daddr {prefix} jump node{version}-{own}"
                for version in IP
                for prefix in widest_first(version, plan.ports_on)
            ),
        )
    arriving = (f'iifname "{plan.bridge}" goto internal', "goto external")
    found |= translating("prerouting", TRANSLATION, arriving)
    found |= translating("output", TRANSLATION, ("goto internal",))
    # Before translation: whom a service is for.
    restrictions = [
        f"ct state new {ip} daddr . {KEY} vmap @guarded{version}"
        for version, ip in IP.items()
        if version in guarded
    ]
    if restrictions:
        for where in ("prerouting", "output"):
            names = (f"{where}-sources", f"{where}-sources-again")
            found |= twice("filter", where, -111, names, tuple(restrictions))
    found |= _after(plan)
    return found


def _after(plan: FirewallPlan) -> Iterator[tuple[str, Rules]]:
    """The chains after translation."""
    yield "invalid-ports", _invalid_ports(plan)
    yield "invalid", _invalid(plan)
    after = (
        # Almost all packets: translated or not, it was decided by their first one.
        "ct state established accept",
        "ct state invalid jump invalid",
        *(f"{ip} daddr @vips{version} jump refuse{version}" for version, ip in IP.items()),
    )
    strays = [_strays(version) for version in IP] if plan.error_port else []
    yield "prerouting-refuse", (hook("filter", "prerouting", -99), *strays, *after)
    # Where nothing else leads to a service range the bridge does (fib.desired): no pod is to get that.
    unknown = [
        f'oifname "{plan.bridge}" {IP[each.version]} daddr {each} reject with icmpx host-unreachable'
        for each in sorted(plan.service_cidrs, key=str)
    ]
    # What the envelope takes to another node is for that one to judge.
    yield "output-refuse", (hook("filter", "output", 0), f'oifname "{ENVELOPE}" accept', *after, *unknown)
    if unknown:
        yield "forward-refuse", (hook("filter", "forward", 0), *unknown)


def _lookup(version: int, side: Side) -> str:
    return f"{answering(version, side)} vmap @services{version}{side.value}"


def _node_ports(plan: FirewallPlan, version: int, side: Side) -> Rules:
    """Where the address is one that NodePorts are on: of this node, and not those by which nobody else
    reaches it. What the node itself answers for l3net is no service's."""
    return (
        *(f"{IP[version]} daddr {prefix} return" for prefix in NOBODY_ELSE[version]),
        "fib daddr type != local return",
        *(f"{ports} return" for ports in ports_matched(plan.own_ports)),
        _lookup(version, Side.NODE),
        _lookup(version, side),
    )


def _invalid(plan: FirewallPlan) -> Rules:
    """Of translated flows: answers out of the window, and segments to a NodePort, which would be answered by
    a reset."""
    return (
        *(
            f"{ip} saddr . meta l4proto . th sport @ends{version} jump untranslated{version}"
            for version, ip in IP.items()
        ),
        f"meta l4proto {PROTOCOL_NUMBERS['tcp']} jump invalid-ports",
    )


def _invalid_ports(plan: FirewallPlan) -> Rules:
    """Segments of a NodePort's flow that were not translated, and would be answered by a reset."""
    return (
        *(f"{ports} return" for ports in ports_matched(plan.own_ports)),
        *(
            f"{ip} daddr {prefix} tcp dport @ports{version}-tcp fib daddr type local drop"
            for version, ip in IP.items()
            for prefix in widest_first(version, plan.ports_on)
        ),
    )


def _refuse(version: int) -> Rules:
    """What still bears a service's address after translation, in one look-up a packet.

    It has no backend, or its port or protocol is not served: routed on, it would come back from the peer
    that we told of the address. An address on a link of the host is the host's to answer: a cache of names
    on the cluster's DNS address, a floating one of its API server; one of another node is that node's. What
    connection tracking calls invalid was not translated, and would be answered by a reset, which ends the
    connection. What has been sent on before (its entry is confirmed) and has no answer yet began while there
    was no table: it is lost, not refused, and once its entry is forgotten the next try is translated.
    """
    tcp, udp = PROTOCOL_NUMBERS["tcp"], PROTOCOL_NUMBERS["udp"]
    return (
        f"meta l4proto {tcp} ct state invalid drop",
        f"{IP[version]} daddr @spared{version} return",
        "fib daddr type local return",
        f"meta l4proto {{ {tcp}, {udp} }} ct state new ct status confirmed drop",
        *REFUSED,
    )


def _strays(version: int) -> str:
    """ICMP errors about a connection that another node translates, if any does: the agent hands them on."""
    types = ", ".join(map(str, TYPES[version]))
    ours = f"{_ICMP[version]} type {{ {types} }} {IP[version]} daddr @vips{version} fib daddr type != local"
    return f"{ours} limit rate {STRAYS}/second log group {ERROR_LOG_GROUP} snaplen {LONGEST}"


def _untranslated(plan: FirewallPlan, version: int) -> Rules:
    """Invalid answers of an endpoint: dropped where they come from or go to a pod of this node or the node
    itself, which saw both directions. What only passes may have gone another way in the other one, and goes
    on."""
    return (
        f'iifname "{plan.bridge}" drop',
        "fib daddr type local drop",
        *(f"{IP[version]} daddr {block} drop" for block in widest_first(version, plan.blocks)),
    )
