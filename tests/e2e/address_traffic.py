"""Traffic to and from addresses that move, and what was seen of it. By itself, standard library alone.

address_traffic.py serve FILE NAME PORT...      answers over UDP and TCP: `NAME SOURCE`, a line for a line
address_traffic.py ask FILE ADDRESS/PORT...     asks each all the while, four ways
address_traffic.py watch FILE PORT...           looks at every packet that comes in to or from these ports

Each writes down what it saw, how often, every 50 ms: a JSON object a line, with the time when it began to
gather (CLOCK_MONOTONIC, which all namespaces share) and `seen`, key to count. The keys of `ask` are
`ADDRESS WAY ANSWER`, those of `watch` `to|from PORT PROTOCOL SOURCE`; from these ports, of TCP only what
answers a SYN: a pod ends connections that it lost with an address by segments of its own. The ways: `udp`
and `tcp` have a socket of their own each time, `udp-stream` and `tcp-stream` keep theirs, the latter until it
breaks.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
import threading
import time
from collections import Counter

FLUSH = 0.05
EVERY = 0.1
#: Seconds to wait for an answer.
PATIENCE = 0.5
LOST = "lost"
#: The streams ask the port that is so many higher, so that packets tell what they are of.
STREAMS = 100
WAYS = ("udp", "tcp", "udp-stream", "tcp-stream")


class Seen:
    """Counts, written down now and then."""

    def __init__(self, file: str) -> None:
        self._file, self._counts, self._lock = file, Counter[str](), threading.Lock()
        self._since = time.monotonic()

    def note(self, key: str) -> None:
        with self._lock:
            self._counts[key] += 1

    def run(self) -> None:
        with open(self._file, "a", buffering=1) as out:  # noqa: PTH123 - no more imports than need be
            while True:
                time.sleep(FLUSH)
                with self._lock:
                    counts, self._counts = self._counts, Counter()
                    since, self._since = self._since, time.monotonic()
                out.write(json.dumps({"at": since, "seen": counts}) + "\n")


def bound(kind: socket.SocketKind, port: int) -> socket.socket:
    it = socket.socket(socket.AF_INET6, kind)
    it.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    it.bind(("::", port))
    return it


def answer_datagrams(name: str, port: int) -> None:
    udp = bound(socket.SOCK_DGRAM, port)
    while True:
        with contextlib.suppress(OSError):  # an ICMP error about an answer of ours
            _, whom = udp.recvfrom(2048)
            udp.sendto(f"{name} {plain(whom[0])}".encode(), whom)


def answer_connections(name: str, port: int) -> None:
    tcp = bound(socket.SOCK_STREAM, port)
    tcp.listen(512)
    while True:
        with contextlib.suppress(OSError):
            connection, whom = tcp.accept()
            line = f"{name} {plain(whom[0])}\n".encode()
            threading.Thread(target=answer_lines, args=(connection, line), daemon=True).start()


def answer_lines(connection: socket.socket, line: bytes) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(60)
        while connection.recv(2048):
            connection.sendall(line)


def plain(address: str) -> str:
    return address.removeprefix("::ffff:")


def ask(seen: Seen, address: str, port: int, way: str) -> None:
    """Until it is killed."""
    kind = socket.SOCK_DGRAM if way.startswith("udp") else socket.SOCK_STREAM
    kept: socket.socket | None = None
    while True:
        it = kept
        begun = time.monotonic()
        try:
            if it is None:
                it = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
                it.settimeout(PATIENCE)
                it.connect((address, port))
            it.sendall(b"?\n")
            said = it.recv(2048).decode().strip()
            if not said:
                raise OSError("closed")
            seen.note(f"{address} {way} {said}")
            fine = True
        except OSError:
            seen.note(f"{address} {way} {LOST}")
            fine = False
        kept = it if way == "udp-stream" or (way == "tcp-stream" and fine) else None
        if kept is None and it is not None:
            it.close()
        time.sleep(max(0.02, begun + EVERY - time.monotonic()))


def watch(seen: Seen, ports: frozenset[int]) -> None:
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))  # ETH_P_ALL
    while True:
        packet, where = packets.recvfrom(2048)
        if where[2] == 4 or where[0] == "lo":  # PACKET_OUTGOING
            continue
        if packet[0] >> 4 == 4:
            source = socket.inet_ntop(socket.AF_INET, packet[12:16])
            protocol, at = packet[9], (packet[0] & 15) * 4
        else:
            source = socket.inet_ntop(socket.AF_INET6, packet[8:24])
            protocol, at = packet[6], 40
        name = {6: "tcp", 17: "udp"}.get(protocol)
        if name is None or len(packet) < at + 14 - 6 * (name == "udp"):
            continue
        begin, end = struct.unpack("!HH", packet[at : at + 4])
        if end in ports:
            seen.note(f"to {end} {name} {source}")
        elif begin in ports and (name == "udp" or packet[at + 13] & 2):  # SYN
            seen.note(f"from {begin} {name} {source}")


def main(what: str, file: str, *rest: str) -> None:
    seen = Seen(file)
    if what == "serve":
        for port in map(int, rest[1:]):
            for answer in (answer_datagrams, answer_connections):
                threading.Thread(target=answer, args=(rest[0], port), daemon=True).start()
    elif what == "ask":
        for target in rest:
            address, _, port = target.partition("/")
            for way in WAYS:
                to = int(port) + (STREAMS if way.endswith("stream") else 0)
                threading.Thread(target=ask, args=(seen, address, to, way), daemon=True).start()
    else:
        threading.Thread(target=watch, args=(seen, frozenset(map(int, rest))), daemon=True).start()
    seen.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
