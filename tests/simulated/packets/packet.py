"""A packet as rules look at it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address

from l3net.model import Address

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
NUMBERS = {"tcp": TCP, "udp": UDP, "sctp": SCTP, "icmp": ICMP, "ipv6-icmp": ICMPV6, "icmpv6": ICMPV6}
PORTED = frozenset({TCP, UDP, SCTP})
#: Flags of TCP (RFC 9293 section 3.1).
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
FLAGS = {"fin": FIN, "syn": SYN, "rst": RST, "psh": PSH, "ack": ACK, "urg": URG}
#: Types of ICMP and ICMPv6 errors: they carry the packet that they are about.
ERRORS = {4: frozenset({3, 11, 12}), 6: frozenset({1, 2, 3, 4})}
ECHO = {4: (8, 0), 6: (128, 129)}


@dataclass(frozen=True, slots=True)
class Packet:
    """`protocol` is IANA's number. Of an echo, `sport` is its identifier. `about` is what an ICMP error
    carries. `group`: the frame around it was for a group. `in_window`: whether connection tracking takes it
    for part of its connection. `mac`: its frame's sender. `mss`: of a SYN, 0 without that option."""

    source: Address
    destination: Address
    protocol: int = TCP
    sport: int = 0
    dport: int = 0
    flags: int = 0
    ttl: int = 64
    icmp: int = 0
    about: Packet | None = None
    mark: int = 0
    group: bool = False
    in_window: bool = True
    mac: str = ""
    mss: int = 0

    @property
    def version(self) -> int:
        return self.source.version

    def __str__(self) -> str:
        if self.protocol not in PORTED:
            about = f" about ({self.about})" if self.about else ""
            return f"{self.source} > {self.destination} {self.protocol} type {self.icmp}{about}"
        name = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}[self.protocol]
        flags = " ".join(each for each, bit in FLAGS.items() if self.flags & bit)
        ends = f"{self.source}:{self.sport} > {self.destination}:{self.dport}"
        return " ".join(filter(None, (ends, name, flags)))

    def answer(self) -> Packet:
        """What whoever it has reached sends back: the next of a handshake, or an echo's answer."""
        flags = 0
        if self.protocol == TCP:
            flags = SYN | ACK if self.flags & (SYN | ACK) == SYN else ACK
        icmp = self.icmp
        if self.protocol in (ICMP, ICMPV6):
            asked, answered = ECHO[self.version]
            icmp = answered if icmp == asked else asked
        return replace(
            self,
            source=self.destination,
            destination=self.source,
            sport=self.sport if self.protocol not in PORTED else self.dport,
            dport=self.dport if self.protocol not in PORTED else self.sport,
            flags=flags,
            icmp=icmp,
            ttl=64,
            mark=0,
            group=False,
            mac="",
            mss=self.mss if flags & SYN else 0,
        )

    def following(self) -> Packet:
        """One more of the same sender in the same connection."""
        return replace(self, flags=ACK if self.protocol == TCP else 0, mss=0)

    def error(self, sender: Address, icmp: int) -> Packet:
        """An ICMP error about it."""
        protocol = ICMP if self.version == 4 else ICMPV6
        return Packet(sender, self.source, protocol, icmp=icmp, about=self)


def packet(
    source: str, destination: str, protocol: str = "tcp", dport: int = 0, *, sport: int = 40000
) -> Packet:
    """The first of a connection."""
    number = NUMBERS[protocol]
    made = Packet(ip_address(source), ip_address(destination), number)
    if number in PORTED:
        return replace(made, sport=sport, dport=dport, flags=SYN if number == TCP else 0)
    return replace(made, sport=sport, icmp=ECHO[made.version][0])
