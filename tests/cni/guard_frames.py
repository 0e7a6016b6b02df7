"""What pods may say, and every lie that is known, as frames: made by scapy, each with a mark of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any

from guard_net import ELSEWHERE, GATEWAY, GATEWAY_MAC, MARK, NOBODY, NODE, OUTSIDE, World
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

from l3net.cni.guard import link_local

_numbers = itertools.count(1)
_NONCE = Raw(b"\x0e\x01abcdef")  # RFC 7527
ALL_NODES_MAC = "33:33:00:00:00:01"
PLACES = {"pod": "pod", "gateway": "node", "node": "node", "elsewhere": "far", "outside": "far"}


@dataclass(frozen=True)
class Said:
    """`place`: where it arrives, if at all, beside the node's bridge; empty: it goes no further."""

    name: str
    mark: int
    frame: bytes
    place: str = ""


def _marked(name: str, packet: Any, place: str = "", *, inside: bool = False) -> Said:
    """`inside`: as the payload; else behind what the packet says its length is."""
    mark = next(_numbers)
    text = MARK + f"{mark:04d}".encode()
    frame = bytes(packet / Raw(text)) if inside else bytes(packet) + text
    return Said(name, mark, frame, place)


def made(name: str, packet: Any, place: str = "") -> list[Said]:
    return [_marked(name, packet, place, inside=True)]


def udp(source: str, target: str) -> Any:
    return _udp(6 if ":" in source else 4, source, target)


def _targets(world: World, version: int) -> dict[str, str]:
    return {
        "pod": world.theirs[version],
        "gateway": GATEWAY[version],
        "node": NODE[version],
        "elsewhere": ELSEWHERE[version],
        "outside": OUTSIDE[version],
    }


def _sources(world: World, version: int) -> dict[str, str]:
    """Those of others. The last two are the node's own, which it takes from no link."""
    found = {
        "the neighbour's": world.theirs[version],
        "nobody's": NOBODY[version],
        "another node's pod's": ELSEWHERE[version],
        "an outsider's": OUTSIDE[version],
    }
    if version == 6:
        found["a made-up link-local"] = "fe80::bad"
    return found


def _ip(version: int, source: str, target: str) -> Any:
    return IP(src=source, dst=target) if version == 4 else IPv6(src=source, dst=target)


def _udp(version: int, source: str, target: str) -> Any:
    return _ip(version, source, target) / UDP(sport=4001, dport=4002)


def routed_lies(world: World) -> Iterator[Said]:
    """Each way to send from an address or MAC that is not the pod's, to each place, in both families."""
    own = Ether(src=world.mac, dst=GATEWAY_MAC)
    for version in (4, 6):
        theirs = world.theirs[version]
        for where, target in _targets(world, version).items():
            place, to = PLACES[where], f"IPv{version} to {where}"
            for whose, source in _sources(world, version).items():
                further = "" if source.startswith("fe80") or source == target else place
                yield _marked(
                    f"{whose} address, {to}", own / _udp(version, source, target), further, inside=True
                )
            for whose, source in (("gateway's", GATEWAY[version]), ("node's", NODE[version])):
                yield _marked(f"the {whose} address, {to}", own / _udp(version, source, target), inside=True)
            mine = _udp(version, world.own[version], target)
            for whose, mac in (("neighbour's", world.their_mac), ("made-up", "02:00:00:00:00:99")):
                frame = Ether(src=mac, dst=GATEWAY_MAC) / mine
                yield _marked(f"the {whose} MAC, {to}", frame, place, inside=True)
            false = _udp(version, theirs if where != "pod" else NOBODY[version], target)
            yield _marked(f"VLAN 0, {to}", own / Dot1Q(vlan=0) / false, place, inside=True)
            yield _marked(f"VLAN 7, {to}", own / Dot1Q(vlan=7) / false, inside=True)
            yield _marked(f"true, in VLAN 0, {to}", own / Dot1Q(vlan=0) / mine, place, inside=True)
            yield _marked(f"802.1ad, {to}", own / Dot1AD(vlan=0) / false, inside=True)
            yield _marked(f"two tags, {to}", own / Dot1Q(vlan=0) / Dot1Q(vlan=0) / false, inside=True)
            reserved = Ether(src=world.mac, dst="01:80:c2:00:00:0e")
            yield _marked(f"to LLDP's MAC, {to}", reserved / mine, inside=True)
            yield from _pieces(version, own, false, to, place)


def _pieces(version: int, own: Any, false: Any, to: str, place: str) -> Iterator[Said]:
    """A false address in a fragment, and behind other headers."""
    if version == 4:
        first, last = false.copy(), false.copy()
        first.flags, first.id = "MF", 77
        first[UDP].len = 800
        yield _marked(f"a first fragment, {to}", own / first, inside=True)
        last.frag, last.id = 100, 78
        yield _marked(f"a last fragment, {to}", own / last, inside=True)
        return
    header, udp = false.copy(), false[UDP].copy()
    header.remove_payload()
    for name, extra in (
        ("hop-by-hop options", IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)])),
        ("destination options", IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])),
        ("an atomic fragment", IPv6ExtHdrFragment(id=79)),
    ):
        yield _marked(f"behind {name}, {to}", own / header / extra / udp, place, inside=True)
    yield _marked(
        f"a last fragment, {to}", own / header / IPv6ExtHdrFragment(id=80, offset=100, nh=17), inside=True
    )


def link_lies(world: World) -> Iterator[Said]:
    """What the gateway, which is the bridge, must not hear."""
    own = Ether(src=world.mac, dst=GATEWAY_MAC)
    everyone = Ether(src=world.mac, dst="ff:ff:ff:ff:ff:ff")
    other = "02:00:00:00:00:99"
    for whose, address in (
        ("the neighbour", world.theirs[4]),
        ("the gateway", GATEWAY[4]),
        ("the node", NODE[4]),
        ("nobody", NOBODY[4]),
        ("an outsider", OUTSIDE[4]),
    ):
        for op in (1, 2):
            arp = ARP(op=op, hwsrc=world.mac, psrc=address, pdst=GATEWAY[4], hwdst=GATEWAY_MAC)
            yield _marked(f"ARP {op} as {whose}", own / arp)
            gratuitous = ARP(op=op, hwsrc=world.mac, psrc=address, pdst=address)
            yield _marked(f"gratuitous ARP {op} as {whose}", everyone / gratuitous)
        yield _marked(
            f"ARP probe for {whose}", everyone / ARP(op=1, hwsrc=world.mac, psrc="0.0.0.0", pdst=address)
        )
    mine = {"psrc": world.own[4], "pdst": GATEWAY[4]}
    yield _marked("ARP of another MAC", own / ARP(op=2, hwsrc=other, **mine))
    yield _marked("ARP from another MAC", Ether(src=other, dst=GATEWAY_MAC) / ARP(op=2, hwsrc=other, **mine))
    yield _marked("ARP in VLAN 0", own / Dot1Q(vlan=0) / ARP(op=1, hwsrc=world.mac, **mine))
    yield _marked("ARP of another operation", own / ARP(op=9, hwsrc=world.mac, **mine))
    yield _marked("ARP of short addresses", own / ARP(op=1, hwlen=4, hwsrc=world.mac, **mine))
    yield _marked(
        "reverse ARP", Ether(src=world.mac, dst=GATEWAY_MAC, type=0x8035) / ARP(op=3, hwsrc=world.mac, **mine)
    )
    for name, kind in (("PPPoE", 0x8864), ("MPLS", 0x8847), ("LLDP", 0x88CC), ("a frame of no type", 0x0042)):
        yield _marked(name, Ether(src=world.mac, dst=GATEWAY_MAC, type=kind) / Raw(b"\0" * 46))
    yield _marked(
        "STP", Ether(src=world.mac, dst="01:80:c2:00:00:00", type=38) / Raw(b"\x42\x42\x03" + b"\0" * 43)
    )
    dhcp = IP(src=world.own[4], dst="255.255.255.255")
    yield _marked("DHCP offer", everyone / dhcp / UDP(sport=67, dport=68) / Raw(b"\x02\x01\x06"))
    yield _marked(
        "DHCP offer from another port", everyone / dhcp / UDP(sport=1067, dport=68) / Raw(b"\x02\x01\x06")
    )
    yield _marked(
        "DHCP from 0.0.0.0", everyone / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)
    )
    for kind in (5, 9):
        message = IP(src=world.own[4], dst=GATEWAY[4]) / ICMP(type=kind)
        yield _marked(f"ICMP {kind}", own / message)
    yield from _discovery_lies(world, own, other)


def _discovery_lies(world: World, own: Any, other: str) -> Iterator[Said]:
    mine, local = world.own[6], str(link_local(world.mac))
    flags = {"R": 0, "S": 1, "O": 1}
    their_local, gateway_local = str(link_local(world.their_mac)), str(link_local(GATEWAY_MAC))
    for whose, address in (
        ("the neighbour", world.theirs[6]),
        ("the neighbour's link-local", their_local),
        ("the gateway", GATEWAY[6]),
        ("the gateway's link-local", gateway_local),
        ("nobody", NOBODY[6]),
    ):
        answer = ICMPv6ND_NA(tgt=address, **flags) / ICMPv6NDOptDstLLAddr(lladdr=world.mac)
        for source in (mine, local, address):
            said = f"NA for {whose} from {'it' if source == address else source}"
            yield _marked(said, own / IPv6(src=source, dst=GATEWAY[6], hlim=255) / answer)
        yield _marked(
            f"NA for {whose} to all",
            Ether(src=world.mac, dst=ALL_NODES_MAC) / IPv6(src=local, dst="ff02::1", hlim=255) / answer,
        )
        ask = ICMPv6ND_NS(tgt=address)
        yield _marked(f"DAD for {whose}", own / IPv6(src="::", dst=_solicited(address), hlim=255) / ask)
        yield _marked(
            f"DAD for {whose} with a nonce",
            own / IPv6(src="::", dst=_solicited(address), hlim=255) / ask / _NONCE,
        )
        asked = ICMPv6ND_NS(tgt=GATEWAY[6]) / ICMPv6NDOptSrcLLAddr(lladdr=world.mac)
        yield _marked(f"NS as {whose}", own / IPv6(src=address, dst=GATEWAY[6], hlim=255) / asked)
        solicit = ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=world.mac)
        yield _marked(f"RS as {whose}", own / IPv6(src=address, dst="ff02::2", hlim=255) / solicit)
    to_gateway = own / IPv6(src=local, dst=GATEWAY[6], hlim=255)
    true, false = ICMPv6NDOptSrcLLAddr(lladdr=world.mac), ICMPv6NDOptSrcLLAddr(lladdr=other)
    target = ICMPv6NDOptDstLLAddr(lladdr=other)
    ns, na = ICMPv6ND_NS(tgt=GATEWAY[6]), ICMPv6ND_NA(tgt=mine, **flags)
    yield _marked("NS with another MAC", to_gateway / ns / false)
    yield _marked("NS with two MACs", to_gateway / ns / true / false)
    yield _marked("NS with a MAC behind a nonce", to_gateway / ns / _NONCE / false)
    yield _marked(
        "DAD with a MAC", own / IPv6(src="::", dst=_solicited(mine), hlim=255) / ICMPv6ND_NS(tgt=mine) / false
    )
    yield _marked("NA with another MAC", to_gateway / na / target)
    yield _marked("NA with two MACs", to_gateway / na / ICMPv6NDOptDstLLAddr(lladdr=world.mac) / target)
    yield _marked("RS with another MAC", to_gateway / ICMPv6ND_RS() / false)
    yield _marked("RS from nowhere", own / IPv6(src="::", dst="ff02::2", hlim=255) / ICMPv6ND_RS())
    router = ICMPv6ND_RA(routerlifetime=1800) / ICMPv6NDOptPrefixInfo(prefix="2001:db8:bad::", prefixlen=64)
    redirect = ICMPv6ND_Redirect(tgt=local, dst=OUTSIDE[6])
    answer = ICMPv6ND_NA(tgt=world.theirs[6], **flags) / ICMPv6NDOptDstLLAddr(lladdr=world.mac)
    hidden = {"router advertisement": router, "redirect": redirect, "NA of the neighbour's": answer}
    headers = {
        "": None,
        "hop-by-hop options": IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]),
        "destination options": IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]),
        "routing header": IPv6ExtHdrRouting(addresses=[]),
        "atomic fragment": IPv6ExtHdrFragment(id=81),
        "first fragment": IPv6ExtHdrFragment(id=82, m=1),
        "two headers": IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]) / IPv6ExtHdrFragment(id=83),
    }
    for name, message in hidden.items():
        for behind, extra in headers.items():
            start = own / IPv6(src=local, dst="ff02::1", hlim=255)
            yield _marked(
                f"{name}, {behind or 'plain'}", start / message if extra is None else start / extra / message
            )
    unreadable = IPv6ExtHdrFragment(id=84, m=1, nh=60) / Raw(b"\x3a\x08\x01\x04" + bytes(4))
    yield _marked(
        "a first fragment that ends within a header",
        own / IPv6(src=local, dst="ff02::1", hlim=255) / unreadable,
    )
    v6 = own / IPv6(src=local, dst="ff02::1:2")
    yield _marked("DHCPv6 advertisement", v6 / UDP(sport=547, dport=546) / Raw(b"\x02\0\0\x01"))
    yield _marked(
        "DHCPv6 advertisement from another port", v6 / UDP(sport=1547, dport=546) / Raw(b"\x02\0\0\x01")
    )
    yield _marked("anything from ::", own / IPv6(src="::", dst=GATEWAY[6]) / ICMPv6EchoRequest())


def honest(world: World) -> Iterator[Said]:
    """What a pod's stack says, or may."""
    own = Ether(src=world.mac, dst=GATEWAY_MAC)
    everyone = Ether(src=world.mac, dst="ff:ff:ff:ff:ff:ff")
    for version in (4, 6):
        for where, target in _targets(world, version).items():
            place, to = PLACES[where], f"IPv{version} to {where}"
            head = _ip(version, world.own[version], target)
            yield _marked(f"UDP, {to}", own / _udp(version, world.own[version], target), place, inside=True)
            yield _marked(f"TCP, {to}", own / head / TCP(dport=81, flags="S"), place, inside=True)
            echo = ICMP() if version == 4 else ICMPv6EchoRequest()
            yield _marked(f"echo, {to}", own / head / echo, place, inside=True)
            yield _marked(f"SCTP, {to}", own / _proto(version, head, 132), place, inside=True)
            yield _marked(f"ESP, {to}", own / _proto(version, head, 50), place, inside=True)
    mine, local, address = world.own[6], str(link_local(world.mac)), world.own[4]
    yield _marked("ARP question", everyone / ARP(op=1, hwsrc=world.mac, psrc=address, pdst=GATEWAY[4]))
    yield _marked("ARP answer", own / ARP(op=2, hwsrc=world.mac, psrc=address, pdst=GATEWAY[4]))
    yield _marked("gratuitous ARP", everyone / ARP(op=1, hwsrc=world.mac, psrc=address, pdst=address))
    yield _marked("ARP probe", everyone / ARP(op=1, hwsrc=world.mac, psrc="0.0.0.0", pdst=address))
    fragment = IP(src=address, dst=GATEWAY[4], proto=17, frag=20, id=85)
    yield _marked("a fragment", own / fragment, inside=True)
    yield _marked(
        "IGMP",
        Ether(src=world.mac, dst="01:00:5e:00:00:16")
        / IP(src=address, dst="224.0.0.22", proto=2, ttl=1)
        / Raw(b"\x22" + bytes(7)),
    )
    linked = ICMPv6NDOptSrcLLAddr(lladdr=world.mac)
    for source in (mine, local):
        start = own / IPv6(src=source, dst=GATEWAY[6], hlim=255)
        yield _marked(f"NS from {source}", start / ICMPv6ND_NS(tgt=GATEWAY[6]) / linked)
        yield _marked(f"NS without a MAC from {source}", start / ICMPv6ND_NS(tgt=GATEWAY[6]))
        for target in (mine, local):
            answer = ICMPv6ND_NA(tgt=target, R=0, S=1, O=1)
            yield _marked(
                f"NA for {target} from {source}", start / answer / ICMPv6NDOptDstLLAddr(lladdr=world.mac)
            )
            yield _marked(f"NA without a MAC for {target} from {source}", start / answer)
    for target in (mine, local):
        dad = own / IPv6(src="::", dst=_solicited(target), hlim=255) / ICMPv6ND_NS(tgt=target)
        yield _marked(f"DAD for {target}", dad)
        yield _marked(f"DAD for {target} with a nonce", dad / _NONCE)
    yield _marked("RS", own / IPv6(src=local, dst="ff02::2", hlim=255) / ICMPv6ND_RS() / linked)
    for source in ("::", local):
        alert = IPv6(src=source, dst="ff02::16", hlim=1) / IPv6ExtHdrHopByHop(options=[RouterAlert()])
        yield _marked(f"MLD from {source}", own / alert / ICMPv6MLReport2())
    head = own / IPv6(src=mine, dst=GATEWAY[6])
    yield _marked(
        "UDP behind options", head / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]) / UDP(), inside=True
    )
    yield _marked(
        "a first fragment of an echo",
        head / IPv6ExtHdrFragment(id=86, m=1) / ICMPv6EchoRequest(),
        inside=True,
    )
    yield _marked(
        "a last fragment of an echo",
        head / IPv6ExtHdrFragment(id=86, offset=9, nh=58) / Raw(b"12345678"),
        inside=True,
    )


def _proto(version: int, head: Any, number: int) -> Any:
    packet = head.copy()
    if version == 4:
        packet.proto = number
    else:
        packet.nh = number
    return packet / Raw(bytes(16))


def _solicited(address: str) -> str:
    """RFC 4291 section 2.7.1."""
    return str(IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(IPv6Address(address)) & 0xFFFFFF))
