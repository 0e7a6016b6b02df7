"""Asks an address over TCP and UDP all the while. By itself, standard library alone.

floating_probe.py ADDRESS PORT SECONDS

Each probe is a datagram with a number, from a socket of its own port; every 4 ms. Prints a JSON object: the
longest time without an answer in milliseconds, how many were sent and answered.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time

EVERY = 0.004


def main(address: str, port: int, seconds: float) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.connect((address, port))
    sock.settimeout(EVERY)
    begin = last = time.monotonic()
    longest, sent, answered = 0.0, 0, 0
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while (now := time.monotonic()) < begin + seconds:
        try:
            sock.send(struct.pack("!I", sent))
            sent += 1
            sock.recv(64)
        except OSError:
            if time.monotonic() - now < EVERY:
                time.sleep(EVERY)
            continue
        answered += 1
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
        time.sleep(EVERY)
    json.dump({"longest": longest * 1000, "sent": sent, "answered": answered}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
