"""Sends probes with ever larger TTLs and tells who answers, a line of JSON each: `python -m
l3net.shell.probes.prober`, in the network namespace to send from.

Reads a JSON object: source, destination, protocol (tcp, udp, icmp), port, sourcePort, maxHops, tries, wait
(seconds for an answer). Packets are scapy's. Every probe bears the same ports, so that routers, ECMP and the
kernel's connection tracking take all of them for one flow.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)

#: ICMP errors but for time exceeded, by family, type and code (RFC 792, RFC 1812, RFC 4443).
_ERRORS = {
    (4, 3, 0): "network unreachable",
    (4, 3, 1): "host unreachable",
    (4, 3, 2): "protocol unreachable",
    (4, 3, 4): "packet too big",
    (4, 3, 9): "prohibited",
    (4, 3, 10): "prohibited",
    (4, 3, 13): "prohibited",
    (6, 1, 0): "no route",
    (6, 1, 1): "prohibited",
    (6, 1, 3): "address unreachable",
    (6, 1, 5): "prohibited",
    (6, 1, 6): "prohibited",
    (6, 2, 0): "packet too big",
}


def probe(asked: dict[str, Any], ttl: int) -> Any:
    """The packet with this TTL."""
    from scapy.all import ICMP, IP, TCP, UDP, ICMPv6EchoRequest, IPv6, Raw  # noqa: PLC0415

    six = ":" in asked["destination"]
    network = (
        IPv6(src=asked["source"], dst=asked["destination"], hlim=ttl)
        if six
        else IP(src=asked["source"], dst=asked["destination"], ttl=ttl, id=0x6C33 + ttl)
    )
    match asked["protocol"]:
        case "tcp":
            return network / TCP(sport=asked["sourcePort"], dport=asked["port"], flags="S", seq=1000 + ttl)
        case "udp":
            return network / UDP(sport=asked["sourcePort"], dport=asked["port"]) / Raw(b"l3net trace")
        case _:
            echo = ICMPv6EchoRequest if six else ICMP
            return network / echo(id=asked["sourcePort"], seq=ttl)


def read(packet: Any) -> tuple[str, str]:
    """Who answered, and what."""
    from scapy.all import ICMP, IP, TCP, UDP, ICMPv6DestUnreach, ICMPv6EchoReply, IPv6  # noqa: PLC0415
    from scapy.layers.inet6 import ICMPv6PacketTooBig, ICMPv6TimeExceeded  # noqa: PLC0415

    network = packet[IPv6] if packet.haslayer(IPv6) else packet[IP]
    source = str(network.src)
    if packet.haslayer(ICMPv6TimeExceeded):
        return source, "exceeded"
    for layer in (ICMPv6DestUnreach, ICMPv6PacketTooBig):
        if packet.haslayer(layer):
            found = packet[layer]
            closed = found.type == 1 and found.code == 4
            return source, "closed" if closed else _ERRORS.get((6, found.type, found.code), "unreachable")
    if packet.haslayer(ICMPv6EchoReply):
        return source, "answered"
    if network.version == 4 and packet.haslayer(ICMP):
        found = packet[ICMP]
        if found.type == 11:
            return source, "exceeded"
        if found.type == 0:
            return source, "answered"
        closed = (found.type, found.code) == (3, 3)
        return source, "closed" if closed else _ERRORS.get((4, found.type, found.code), "unreachable")
    if packet.haslayer(TCP):
        return source, "open" if "S" in str(packet[TCP].flags) else "closed"
    return source, "answered" if packet.haslayer(UDP) else "unreachable"


def trace(asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Hop by hop, until the destination answers, an error says that it goes no further, or nobody has
    answered three times."""
    from scapy.all import L3RawSocket, L3RawSocket6, conf  # noqa: PLC0415

    conf.verb = 0
    six = ":" in asked["destination"]
    with L3RawSocket6() if six else L3RawSocket() as sock:
        silent = 0
        for ttl in range(1, asked["maxHops"] + 1):
            row = _try(sock, asked, ttl)
            yield row
            silent = 0 if row["address"] else silent + 1
            if silent == 3 or row["answer"] not in ("", "exceeded"):
                return


def _try(sock: Any, asked: dict[str, Any], ttl: int) -> dict[str, Any]:
    packet = probe(asked, ttl)
    for _ in range(asked["tries"]):
        began = time.monotonic()
        answer = sock.sr1(packet, timeout=asked["wait"], verbose=0)
        if answer is not None:
            address, said = read(answer)
            took = round((time.monotonic() - began) * 1000, 2)
            return {"ttl": ttl, "address": address, "answer": said, "milliseconds": took}
    return {"ttl": ttl, "address": "", "answer": "", "milliseconds": None}


def main() -> None:
    """Exit code 3: scapy is not installed; 4: no packet can be sent."""
    asked = json.load(sys.stdin)
    try:
        for row in trace(asked):
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()
    except ImportError as err:
        sys.stderr.write(f"{err}\n")
        sys.exit(3)
    except OSError as err:
        sys.stderr.write(f"{err.strerror or err}\n")
        sys.exit(4)


if __name__ == "__main__":
    main()
