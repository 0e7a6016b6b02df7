"""The whole table of a node as one nftables transaction (nft 1.0.6 and later, kernel 5.15 and later).

Nothing outside `table inet l3net` is read or written, so that kube-proxy, Docker or a firewall of the host
may stand beside it.

No packet may be lost while the table is replaced. Rules change at once for every packet, but on some kernels
(seen on 6.18) a set of ranges that is made in the same transaction is empty for most of a millisecond to the
rules that look something up in it. So what decides whether a packet is dropped, and mostly also whether it is
masqueraded, is compared in rules; there are few such prefixes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from l3net.firewall.nat import Side, ends_of, named_set, service_maps
from l3net.firewall.plan import BFD_PORTS, FirewallPlan, collapsed
from l3net.firewall.strays import LONGEST, TYPES
from l3net.model import Backend, Prefix
from l3net.naming import ERROR_LOG_GROUP, NFT_TABLE, PROTOCOL_NUMBERS

#: So many of the widest prefixes inside the cluster are compared; pools and service ranges are among them.
COMPARED = 32
#: ICMP errors handed on in a second: each goes to every other node.
STRAYS = 20
_IP = {4: "ip", 6: "ip6"}
_ICMP = {4: "icmp", 6: "icmpv6"}
_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}


def ruleset(plan: FirewallPlan, clients: Mapping[str, Sequence[str]] | None = None) -> str:
    """The text for `nft -f -` that replaces the table by what the plan wants, all or nothing.

    `clients` are the members of sets that packets fill, by the set's name: they are put back.
    """
    recalled = (
        f"add element inet {NFT_TABLE} {name} {{ {', '.join(found)} }}"
        for name, found in sorted((clients or {}).items())
        if found
    )
    return "\n".join((*_lines(plan), *recalled)) + "\n"


def deletion() -> str:
    """The text that removes the table, if it is there."""
    return f"table inet {NFT_TABLE}\ndelete table inet {NFT_TABLE}\n"


def _lines(plan: FirewallPlan) -> Iterator[str]:
    # Declared first, or deleting would fail where it is not there yet.
    yield f"table inet {NFT_TABLE}"
    yield f"delete table inet {NFT_TABLE}"
    yield f"table inet {NFT_TABLE} {{"
    maps = {version: service_maps(plan.servers, version) for version in _IP}
    inside = {version: _of(version, plan.inside) for version in _IP}
    for version in _IP:
        yield from _sets(plan, version, inside[version][COMPARED:])
        yield from maps[version].definitions()
    yield from _protection(plan)
    yield from _untranslated(plan)
    for version in _IP:
        yield from _refuse(version)
    internal = [maps[version].lookup(side) for version in _IP for side in (Side.BOTH, Side.INTERNAL)]
    external = [maps[version].lookup(side) for version in _IP for side in (Side.BOTH, Side.EXTERNAL)]
    yield from _chain("internal", internal)
    yield from _chain("external", external)
    yield from _chain(
        "prerouting-nat",
        [
            "type nat hook prerouting priority -100; policy accept;",
            f'iifname "{plan.bridge}" goto internal',
            "goto external",
        ],
    )
    yield from _chain("output-nat", ["type nat hook output priority -100; policy accept;", "goto internal"])
    # Before translation: whom a service is for.
    restrictions = [line for version in _IP for line in maps[version].restrictions()]
    if restrictions:
        for hook in ("prerouting", "output"):
            first = f"type filter hook {hook} priority -110; policy accept;"
            yield from _chain(f"{hook}-sources", [first, *restrictions])
    # After translation.
    after = [
        line
        for version, ip in _IP.items()
        for line in (
            f"ct state invalid {ip} saddr . meta l4proto . th sport @ends{version} "
            f"jump untranslated{version}",
            f"{ip} daddr @vips{version} jump refuse{version}",
        )
    ]
    strays = [line for version in _IP for line in _strays(version)] if plan.error_port else []
    yield from _chain(
        "prerouting-refuse", ["type filter hook prerouting priority -99; policy accept;", *strays, *after]
    )
    # Where nothing else leads to a service range the bridge does (fib.desired): no pod is to get that.
    unknown = [
        f'oifname "{plan.bridge}" {_IP[each.version]} daddr {each} reject with icmpx host-unreachable'
        for each in sorted(plan.service_cidrs, key=str)
    ]
    yield from _chain(
        "output-refuse", ["type filter hook output priority 0; policy accept;", *after, *unknown]
    )
    if unknown:
        yield from _chain("forward-refuse", ["type filter hook forward priority 0; policy accept;", *unknown])
    yield from _masquerade(plan, {version: found[:COMPARED] for version, found in inside.items()})
    yield "}"


def _refuse(version: int) -> Iterator[str]:
    """What still bears a service's address after translation, in one look-up a packet.

    It has no backend, or its port or protocol is not served: routed on, it would come back from the peer
    that we told of the address. An address on a link of the host is the host's to answer: a cache of names
    on the cluster's DNS address, a floating one of its API server; one of another node is that node's. What
    connection tracking calls invalid was not translated, and would be answered by a reset, which ends the
    connection.
    """
    ip, tcp = _IP[version], PROTOCOL_NUMBERS["tcp"]
    yield from _chain(
        f"refuse{version}",
        [
            f"meta l4proto {tcp} ct state invalid drop",
            f"{ip} daddr @spared{version} return",
            "fib daddr type local return",
            f"meta l4proto {tcp} reject with tcp reset",
            "reject with icmpx port-unreachable",
        ],
    )


def _strays(version: int) -> Iterator[str]:
    """ICMP errors about a connection that another node translates, if any does: the agent hands them on."""
    ip = _IP[version]
    types = ", ".join(map(str, TYPES[version]))
    ours = f"{_ICMP[version]} type {{ {types} }} {ip} daddr @vips{version} fib daddr type != local"
    yield f"{ours} limit rate {STRAYS}/second log group {ERROR_LOG_GROUP} snaplen {LONGEST}"


def _untranslated(plan: FirewallPlan) -> Iterator[str]:
    """Invalid answers of an endpoint: dropped where they come from or go to a pod of this node or the node
    itself, which saw both directions. What only passes may have gone another way in the other one, and goes
    on."""
    for version, ip in _IP.items():
        yield from _chain(
            f"untranslated{version}",
            [
                f'iifname "{plan.bridge}" drop',
                "fib daddr type local drop",
                *(f"{ip} daddr {block} drop" for block in _of(version, plan.blocks)),
            ],
        )


def _sets(plan: FirewallPlan, version: int, inside: Iterable[Prefix]) -> Iterator[str]:
    """The sets of one family: what else is inside, service addresses, hairpins."""
    of = f"type {_TYPE[version]}"
    yield from named_set(f"inside{version}", of, map(str, sorted(inside)), ranges=True)
    vips = {server.address for server in plan.servers if server.address.version == version}
    yield from named_set(f"vips{version}", of, map(str, sorted(vips)))
    # A service's address that is also a node's own has other ports, which are the node's to answer.
    yield from named_set(f"spared{version}", of, map(str, sorted(vips & plan.node_addresses)))
    mine = [server for server in plan.servers if server.address.version == version]
    ends = {end for server in mine for end in ends_of(server)}
    typed = f"typeof {_IP[version]} saddr . meta l4proto . th sport"
    yield from named_set(f"ends{version}", typed, sorted(ends))
    local = sorted(
        {
            backend.address
            for server in plan.servers
            for backend in (*server.internal, *server.external)
            if backend.address.version == version and _within(backend, plan.blocks)
        }
    )
    ip = _IP[version]
    yield from named_set(
        f"hairpin{version}",
        f"typeof {ip} saddr . {ip} daddr",
        (f"{address} . {address}" for address in local),
    )


def _of(version: int, prefixes: Iterable[Prefix]) -> list[Prefix]:
    """The prefixes of a family, the widest first."""
    mine = collapsed(prefix for prefix in prefixes if prefix.version == version)
    return sorted(mine, key=lambda prefix: (prefix.prefixlen, prefix))


def _within(backend: Backend, blocks: frozenset[Prefix]) -> bool:
    return any(backend.address in block for block in blocks)


def _protection(plan: FirewallPlan) -> Iterator[str]:
    """What pods may not do: send from addresses that are not the node's, or speak to its BGP and BFD."""
    yield from _chain(
        "prerouting-spoof",
        [
            # Before connection tracking, which need not see it.
            "type filter hook prerouting priority -300; policy accept;",
            f'iifname != "{plan.bridge}" accept',
            *(f"ip saddr {block} accept" for block in _of(4, plan.blocks)),
            "meta nfproto ipv4 drop",
            # A pod tells its neighbours of its link-local address, and of an address it does not have yet.
            "icmpv6 type nd-router-advert drop",
            "icmpv6 type nd-redirect drop",
            *(f"ip6 saddr {block} accept" for block in _of(6, plan.blocks)),
            "ip6 saddr fe80::/10 accept",
            f"ip6 saddr :: meta l4proto {PROTOCOL_NUMBERS['ipv6-icmp']} accept",
            "meta nfproto ipv6 drop",
        ],
    )
    yield from _chain(
        "output-protect",
        [
            "type filter hook output priority 0; policy accept;",
            # What goes from pod to pod leaves by the bridge it came in on, and the kernel tells the pod of
            # the shorter way (RFC 4861 section 8.2), which isolated ports refuse. IPv6 has no send_redirects.
            f'oifname "{plan.bridge}" icmpv6 type nd-redirect drop',
        ],
    )
    pods = f'iifname "{plan.bridge}"'
    closed = (*BFD_PORTS, plan.error_port) if plan.error_port else BFD_PORTS
    bgp, udp = (", ".join(map(str, ports)) for ports in (sorted(plan.bgp_ports), closed))
    yield from _chain(
        "input-protect",
        [
            "type filter hook input priority 0; policy accept;",
            f"{pods} tcp dport {{ {bgp} }} drop",
            f"{pods} udp dport {{ {udp} }} drop",
        ],
    )


def _masquerade(plan: FirewallPlan, inside: Mapping[int, Iterable[Prefix]]) -> Iterator[str]:
    rules = ["type nat hook postrouting priority 100; policy accept;"]
    for version, ip in _IP.items():
        yield from _chain(
            f"elsewhere{version}",
            [*(f"{ip} daddr {block} return" for block in _of(version, plan.blocks)), "masquerade"],
        )
        yield from _chain(
            f"outside{version}",
            [
                *(f"{ip} daddr {prefix} return" for prefix in inside[version]),
                f"{ip} daddr @inside{version} return",
                "masquerade",
            ],
        )
        rules += [
            # A pod that calls its own service: the answer must come back through us.
            f"ct status dnat {ip} saddr . {ip} daddr @hairpin{version} masquerade",
            # From outside to an endpoint elsewhere: the answer must come back through us, too. What others
            # translate (published ports of a container engine) is not ours to masquerade.
            f'iifname != "{plan.bridge}" ct status dnat ct original {ip} daddr @vips{version}'
            f" jump elsewhere{version}",
            *(f"{ip} saddr {source} jump outside{version}" for source in _of(version, plan.nat_sources)),
        ]
    yield from _chain("postrouting-nat", rules)


def _chain(name: str, rules: list[str]) -> Iterator[str]:
    yield f"chain {name} {{"
    yield from rules
    yield "}"
