"""Tables of a few rules, for what l3net's own text leaves open, with packets that tell."""

from __future__ import annotations

from dataclasses import replace

from l3net.naming import BRIDGE, ENVELOPE
from packets.packet import Packet, packet

ANEW = "table inet l3net\ndelete table inet l3net\ntable inet l3net {\n"
CLIENT, FAR = "192.0.2.9", "10.1.2.3"
CLIENT6, FAR6 = "2001:db8:c::9", "fd00:1:2::3"
POD, POD6 = "10.1.1.2", "fd00:1:1::2"


def _ways(sport: int, *ports: int, protocol: str = "tcp") -> list[tuple[Packet, str]]:
    """From a client to another node's pod, in both families."""
    return [
        (packet(source, to, protocol, port, sport=sport + number), "up0")
        for number, port in enumerate(ports)
        for source, to in ((CLIENT, FAR), (CLIENT6, FAR6))
    ]


def _out(sport: int, *ports: int, protocol: str = "tcp", link: str = BRIDGE) -> list[tuple[Packet, str]]:
    """From a pod here to that client."""
    return [
        (packet(source, to, protocol, port, sport=sport + number), link)
        for number, port in enumerate(ports)
        for source, to in ((POD, CLIENT), (POD6, CLIENT6))
    ]


def _answered(sent: list[tuple[Packet, str]], link: str) -> list[tuple[Packet, str]]:
    """These, an answer to each that comes in by a link, and what follows."""
    return [each for one, by in sent for each in ((one, by), (one.answer(), link), (one.following(), by))]


def _filter(*rules: str, policy: str = "accept", name: str = "f", priority: int = 0) -> str:
    lines = (f"type filter hook forward priority {priority}; policy {policy};", *rules)
    return "\n".join((f"chain {name} {{", *lines, "}"))


def _nat(where: str, *rules: str, name: str = "n", priority: int = -100) -> str:
    return "\n".join((f"chain {name} {{", f"type nat hook {where} priority {priority};", *rules, "}"))


_TWICE = _ways(30000, 80) * 2
TABLES: tuple[tuple[str, list[tuple[Packet, str]]], ...] = (
    # What is not there to be compared ends a rule, also with !=.
    (_filter("ip saddr != 10.0.0.1 accept", policy="drop"), _ways(30010, 80)),
    (
        _filter("tcp dport != 80 accept", policy="drop"),
        [*_ways(30020, 80, 81), *_ways(30030, 80, protocol="udp")],
    ),
    (_filter("ct status dnat accept", "ct status & dnat == 0 drop"), _ways(30040, 80)),
    # A connection that nobody has answered is new, however often it begins.
    (_filter("ct state established drop", "ct state new accept", policy="drop"), _TWICE),
    # Who has come is remembered, for each family apart.
    (
        "set clients4-a {\ntype ipv4_addr\nflags dynamic,timeout\nsize 16\n}\n"
        + _filter(
            "ip saddr @clients4-a drop",
            "update @clients4-a { ip saddr timeout 100s }",
            "meta nfproto ipv6 tcp dport 80 accept",
            "meta nfproto ipv6 drop",
        ),
        [*_ways(30050, 80, 81), *_ways(30060, 80)],
    ),
    # Of two chains on one hook with one priority, the later one is met first.
    (_filter("reject with icmpx host-unreachable") + "\n" + _filter("drop", name="later"), _ways(30070, 80)),
    (_filter("drop") + "\n" + _filter("reject with tcp reset", name="later"), _ways(30080, 80)),
    # accept ends a chain and not the hook.
    (_filter("accept") + "\n" + _filter("tcp dport 81 drop", name="b", priority=1), _ways(30090, 80, 81)),
    # Chains: goto does not come back, jump and return do.
    (
        "chain aside {\ntcp dport 80 return\ntcp dport 81 accept\ntcp dport 82 drop\n}\n"
        + _filter("tcp dport { 80, 82 } jump aside", "tcp dport 81-83 goto aside", policy="drop"),
        _ways(30100, 80, 81, 82, 83, 84),
    ),
    (
        "chain one {\ngoto two\naccept\n}\nchain two {\ntcp dport 80 return\n}\n"
        + _filter("jump one", "drop"),
        _ways(30110, 80, 81),
    ),
    # Sets of exact values, of prefixes, and those that stand in the rule.
    (
        "set some {\ntype ipv4_addr\nflags interval\nelements = {\n192.0.2.0/28,\n10.1.2.4\n}\n}\n"
        "map led {\ntypeof ip daddr . meta l4proto . th dport : verdict\n"
        "elements = {\n10.1.2.3 . 6 . 80 : drop,\n10.1.2.3 . 17 . 80 : accept\n}\n}\n"
        + _filter(
            "ip daddr . meta l4proto . th dport vmap @led",
            "ip saddr @some tcp dport vmap { 81 : drop, 82-85 : accept }",
            "ip6 saddr & ffff:ffff:: 2001:db8:: tcp dport { 81, 83-84 } reject",
            policy="drop",
        ),
        [*_ways(30120, 80, 81, 82, 84, 90), *_ways(30130, 80, protocol="udp")],
    ),
    # Marks, links by their beginning, types of addresses.
    (
        "chain marking {\ntype filter hook prerouting priority -50;\ntcp dport 81 meta mark set 0x5\n"
        "tcp dport 82 ct mark set 0x7\n}\n"
        + _filter(
            'iifname "up*" meta mark 0x5 drop',
            "ct mark 0x7 reject",
            'oifname != "up1" drop',
            "fib saddr type local drop",
            'fib saddr oifname "up0" accept',
            policy="drop",
        ),
        _ways(30140, 80, 81, 82),
    ),
    # Translation, in the order of priorities, by the first chain that says something.
    (
        _nat("prerouting", "meta nfproto ipv4 tcp dport 80 dnat ip to 10.1.2.4:8080", priority=-90)
        + "\n"
        + _nat(
            "prerouting",
            "tcp dport 80 accept",
            "ip daddr 10.1.2.3 tcp dport 81 dnat ip to 10.1.1.5",
            "meta nfproto ipv6 tcp dport 81 dnat ip6 to [fd00:1:2::4]:90",
            name="first",
            priority=-110,
        )
        + "\n"
        + _nat(
            "postrouting", "ct status dnat ip saddr 192.0.2.0/24 snat ip to 192.0.3.1", name="s", priority=7
        ),
        _ways(30150, 80, 81, 82),
    ),
    # Nobody tracks it, so that nothing translates it.
    (
        "chain untracked {\ntype filter hook prerouting priority raw;\ntcp dport 80 notrack\n}\n"
        + _nat("prerouting", "dnat ip to 10.1.2.4")
        + "\n"
        + _filter("ct state untracked accept", "ct state new reject", policy="drop"),
        _ways(30160, 80, 81),
    ),
    # Hop counts and segment sizes that rules write.
    (
        _filter(
            "ip ttl > 16 ip ttl set 9",
            "ip6 hoplimit < 64 ip6 hoplimit set 12",
            "tcp flags & (syn | ack) == syn tcp option maxseg size > 1000 tcp option maxseg size set 900",
        ),
        [(replace(each, mss=size), link) for size in (800, 1400) for each, link in _ways(30170 + size, 80)],
    ),
    # A mark has a way for what comes by the bridge and is not for the host (kernel_node.WAYS).
    (
        "chain marking {\ntype filter hook prerouting priority -90;\n"
        'iifname "l3net0" meta mark set 0x12345\n'
        "tcp dport 80 meta mark set meta mark & 0x0000ffff | 0x00050000\n"
        "tcp dport 81 meta mark set meta mark & 0x0000ffff | 0x00070000\n"
        "tcp dport 82 meta mark set meta mark | 0x00060000\n"
        "tcp dport 83 meta mark set 0x6ffff\ntcp dport 84 meta mark set 0x5\n"
        "tcp dport 85 meta mark set meta mark & 0xff\n}\n"
        + _filter(
            "meta mark & 0xffff0000 == 0x00050000 meta mark & 0x0000ffff != 0x2345 reject",
            'meta mark & 0xffff0000 == { 0x00070000, 0x00080000 } oifname "up0" drop',
            "meta mark 0x45 drop",
        ),
        [
            *_out(30200, 80, 81, 82, 83, 84, 85),
            *_ways(30210, 80, 83),
            (packet(POD, "10.1.1.1", dport=83, sport=30220), BRIDGE),
            (packet(POD6, "2001:db8:c::1", dport=83, sport=30221), BRIDGE),
        ],
    ),
    # The direction of a connection: answers take no way; what nobody tracks has none.
    (
        "chain untracked {\ntype filter hook prerouting priority raw;\nudp dport 81 notrack\n}\n"
        "chain marking {\ntype filter hook prerouting priority -90;\n"
        "ct direction original meta mark set meta mark & 0x0000ffff | 0x00050000\n"
        "ct direction reply ct mark set meta mark & 0x000000ff | 0x00000700\n}\n"
        + _filter(
            "ct direction != original udp sport 90 drop", "ct mark 0x700 ct direction original ip ttl set 9"
        ),
        [
            *_answered(_out(30230, 80, 81, 90, protocol="udp"), "up0"),
            *_answered(
                [
                    (packet(source, to, "udp", 80, sport=30240), "up0")
                    for source, to in ((CLIENT, POD), (CLIENT6, POD6))
                ],
                BRIDGE,
            ),
        ],
    ),
    # What comes by the envelope leaves from an address that stands on no link; its port stays if it can.
    (
        _nat(
            "postrouting",
            f'iifname "{ENVELOPE}" ip saddr 10.1.1.0/24 snat ip to 192.0.2.77',
            f'iifname "{ENVELOPE}" ip6 saddr fd00:1:1::/64 snat ip6 to 2001:db8:c::77',
            f'iifname "{ENVELOPE}" drop',
            priority=97,
        ),
        [
            *_out(30250, 80, link=ENVELOPE),
            *(
                (packet(to, "192.0.2.77" if to == CLIENT else "2001:db8:c::77", dport=30250, sport=80), "up0")
                for to in (CLIENT, CLIENT6)
            ),
            (packet("10.1.2.3", CLIENT, dport=80, sport=30250), ENVELOPE),
            (packet("10.1.1.3", CLIENT, dport=80, sport=30250), ENVELOPE),
            *_out(30250, 81),
        ],
    ),
    # One of several addresses, by a hash of the source.
    (
        _nat(
            "postrouting",
            "tcp dport 80 snat ip to jhash ip saddr mod 3 seed 0x5 map { 0 : 192.0.2.70, 1 : 192.0.2.71, "
            "2 : 192.0.2.72 }",
            "tcp dport 80 snat ip6 to jhash ip6 saddr mod 2 seed 0x5 map { 0 : 2001:db8:c::70, "
            "1 : 2001:db8:c::71 }",
        ),
        [
            (packet(f"{net}{number:{form}}", to, dport=port, sport=30300 + number), BRIDGE)
            for number in range(2, 12)
            for port in (80, 81)
            for net, form, to in (("10.1.1.", "d", CLIENT), ("fd00:1:1::", "x", CLIENT6))
        ],
    ),
    # Ports that are drawn.
    (
        _nat(
            "postrouting",
            "tcp dport 80 masquerade fully-random",
            "tcp dport 81 snat ip to 192.0.2.77 fully-random",
        )
        + "\n"
        + _nat(
            "postrouting",
            "meta l4proto udp snat ip6 to 2001:db8:c::77 fully-random",
            "masquerade fully-random",
            name="m",
            priority=101,
        ),
        [
            *(each for sport in (300, 700, 40000) for each in _out(sport, 80, 81)),
            *_out(40010, 80, protocol="udp"),
            *_out(40011, 0, protocol="icmp")[:1],
            *_out(40012, 0, protocol="icmpv6")[1:],
        ],
    ),
)
