"""The table `bridge l3net` as nft reads it: what a pod's port may send, whatever the pod is.

Looked at is what enters by a port in the set `guarded`, before the bridge and so before connection tracking:
source MAC, IPv4 and IPv6 source, ARP's sender, what neighbour discovery claims. Every other kind of frame (a
VLAN tag, a protocol beside IPv4, IPv6 and ARP) is dropped, as is what only a router or a DHCP server says.

No rule has a set or map of its own: those go with the rule when an agent that starts writes the rules anew,
and a frame that began under the old ones finds such a map empty (it looks up what is there by now).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from l3net.cni.guard import GUARDED, MACS, OPTIONS, RANGES, SETS, SOURCES, TARGETS, Element
from l3net.naming import NFT_TABLE

_TYPES: Final = {
    GUARDED: "type ifname;",
    MACS: "type ifname . ether_addr;",
    SOURCES[4]: "type ifname . ipv4_addr;",
    SOURCES[6]: "type ifname . ipv6_addr;",
    TARGETS: "typeof iifname . @th,64,128;",
    OPTIONS: "typeof iifname . @th,192,64;",
    RANGES[4]: "type ifname . ipv4_addr; flags interval;",
    RANGES[6]: "type ifname . ipv6_addr; flags interval;",
}
#: Addresses that a bridge takes for itself (IEEE 802.1Q table 8-1): such a frame would come to the host by
#: the port, as if there were no bridge.
_RESERVED: Final = "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00"
_OWN_OPTION: Final = "iifname . @th,192,64 @options"
_OWN_TARGET: Final = "iifname . @th,64,128"
#: Where what is sought cannot be read: it is in a fragment before this one, or in none.
_NO_HEADER: Final = ("frag frag-off != 0 goto own-ipv6", "drop")
_ALONE: Final = "ip6 nexthdr != 58 drop"

#: By name; the first line of one that hangs on a hook is that hook.
CHAINS: Final[dict[str, tuple[str, ...]]] = {
    # What a pod has to say is in one frame and behind no other header (RFC 6980, and RFC 7112 for the rest),
    # and its options are those alone that can be looked at: one, of a known length.
    "own-ipv6": (
        "iifname . ip6 saddr @sources6 accept",
        "iifname . ip6 saddr @ranges6 accept",
        "drop",
    ),
    "nd-router-asked": (
        _ALONE,
        "ip6 length 8 goto own-ipv6",
        "ip6 length 16 iifname . @th,64,64 @options goto own-ipv6",
        "drop",
    ),
    # Nobody asks whether an address is free that is not his (RFC 4862 section 5.4); the option is a nonce
    # (RFC 7527).
    "nd-is-it-free": (
        f"{_OWN_TARGET} != @targets drop",
        "ip6 length 24 accept",
        "ip6 length 32 @th,192,16 0x0e01 accept",
        "drop",
    ),
    "nd-asked": (
        _ALONE,
        "ip6 saddr :: goto nd-is-it-free",
        "ip6 length 24 goto own-ipv6",
        f"ip6 length 32 {_OWN_OPTION} goto own-ipv6",
        "drop",
    ),
    "nd-answered": (
        _ALONE,
        f"{_OWN_TARGET} != @targets drop",
        "ip6 length 24 goto own-ipv6",
        f"ip6 length 32 {_OWN_OPTION} goto own-ipv6",
        "drop",
    ),
    # Before a pod has an address (RFC 3590).
    "mld": ("ip6 saddr :: accept", "goto own-ipv6"),
    "from-icmpv6": (
        "icmpv6 type 135 goto nd-asked",
        "icmpv6 type 136 goto nd-answered",
        "icmpv6 type 133 goto nd-router-asked",
        "icmpv6 type 134 drop",  # a router's advertisement
        "icmpv6 type 137 drop",  # a redirect
        *(f"icmpv6 type {kind} goto mld" for kind in (131, 132, 143)),
        "icmpv6 type != 134 goto own-ipv6",
        *_NO_HEADER,
    ),
    # What a client would take for an answer: by the server's port, and by its own.
    "from-udpv6": ("udp sport 547 drop", "udp dport 546 drop", "udp dport != 546 goto own-ipv6", *_NO_HEADER),
    "from-ipv6": (
        "meta l4proto 58 goto from-icmpv6",
        "meta l4proto 17 goto from-udpv6",
        "meta l4proto != 58 goto own-ipv6",
        "drop",  # headers that cannot be read to their end
    ),
    "from-ipv4": (
        "udp sport 67 drop",
        "udp dport 68 drop",
        "icmp type 5 drop",  # redirect
        "icmp type 9 drop",  # router advertisement
        "iifname . ip saddr @sources4 accept",
        "iifname . ip saddr @ranges4 accept",
        "drop",
    ),
    "from-arp": (
        "arp htype != 1 drop",
        "arp ptype != 0x0800 drop",
        "arp hlen != 6 drop",
        "arp plen != 4 drop",
        "arp operation < 1 drop",
        "arp operation > 2 drop",
        "iifname . arp saddr ether != @macs drop",
        "iifname . arp saddr ip @sources4 accept",
        "iifname . arp saddr ip @ranges4 accept",
        # A probe (RFC 5227): of an address of its own alone.
        "arp saddr ip 0.0.0.0 arp operation 1 iifname . arp daddr ip @sources4 accept",
        "drop",
    ),
    "prerouting": (
        "type filter hook prerouting priority -300; policy accept;",
        "iifname != @guarded accept",
        f"{_RESERVED} drop",
        "iifname . ether saddr != @macs drop",
        # The frame's own field: with a VLAN tag, `meta protocol` tells what is behind it.
        "@ll,96,16 0x0800 goto from-ipv4",
        "@ll,96,16 0x86dd goto from-ipv6",
        "@ll,96,16 0x0806 goto from-arp",
        "drop",
    ),
    # These do not come by prerouting.
    "input": (
        "type filter hook input priority -300; policy accept;",
        f"iifname @guarded {_RESERVED} drop",
    ),
}


def script(elements: Iterable[Element], *, anew: bool) -> str:
    """A transaction that makes the table with these elements, or has its rules as they must be and adds to
    its elements; with `anew` whatever there is goes, as it may be anything."""
    table = f"bridge {NFT_TABLE}"
    lines = [f"add table {table}", f"delete table {table}", f"add table {table}"] if anew else []
    if not anew:
        lines.append(f"add table {table}")
    lines += [f"add set {table} {name} {{ {_TYPES[name]} }}" for name in SETS]
    for name, rules in CHAINS.items():
        head = f" {{ {rules[0]} }}" if _hooked(rules) else ""
        lines += [f"add chain {table} {name}{head}", f"flush chain {table} {name}"]
    for name, rules in CHAINS.items():
        lines += [f"add rule {table} {name} {rule}" for rule in rules[_hooked(rules) :]]
    by_set: dict[str, list[str]] = {}
    for each in sorted(elements):
        by_set.setdefault(each.set, []).append(_text(each))
    lines += [f"add element {table} {name} {{ {', '.join(found)} }}" for name, found in by_set.items()]
    return "\n".join(lines) + "\n"


def _hooked(rules: tuple[str, ...]) -> bool:
    return rules[0].startswith("type ")


def _text(element: Element) -> str:
    """As nft reads it."""
    name, value = f'"{element.port}"', element.key[16:]
    match element.set:
        case "guarded":
            return name
        case "macs":
            return f"{name} . {value[:6].hex(':')}"
        case "targets" | "options":
            return f"{name} . 0x{value.hex()}"
        case _:
            last = f"-{ip_address(element.end[16:])}" if element.end else ""
            return f"{name} . {ip_address(value)}{last}"
