"""One TCP connection that asks an echo and waits for each answer, until its standard input ends. By itself,
standard library alone.

egress_stream.py ADDRESS PORT

Then it asks once more, and prints how many were answered, or the error that ended it.
"""

from __future__ import annotations

import select
import socket
import sys

ASKED = b"x" * 100


def main(address: str, port: int) -> None:
    answered = 0
    with socket.create_connection((address, port), 5) as connection:
        connection.settimeout(30)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        try:
            while True:
                last = bool(select.select([sys.stdin], [], [], 0.02)[0])
                connection.sendall(ASKED)
                left = len(ASKED)
                while left:
                    received = connection.recv(left)
                    if not received:
                        raise OSError("closed")
                    left -= len(received)
                answered += 1
                if last:
                    break
        except OSError as err:
            sys.stdout.write(f"error: {err} after {answered}\n")
            return
    sys.stdout.write(f"{answered}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
