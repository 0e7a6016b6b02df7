"""What `l3net flows --follow` costs a node that sees 5,000 new connections a second, beside conntrack -E.

Run as root: `python bench/flows.py [--rate 5000] [--seconds 5] [--rounds 5] [-o table|json]`. In a network
namespace made for the run, 900 UDP sockets send to one address of the host after another: each datagram is a
new connection to the kernel's tracking, 900 of a kind. First at a rate that is held, where the processor time
of whoever looks is what it costs; then as fast as it goes, where what is lost of the rate is. Rounds of all
kinds alternate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

L3NET = [sys.executable, "-m", "l3net.cli.main", "flows", "--run-dir", "/nonexistent", "--follow"]
KINDS = {
    "nobody looks": [],
    "l3net flows --every 1": [*L3NET, "--every", "1"],
    "l3net flows -o json": [*L3NET, "-o", "json"],
    "conntrack -E -e NEW": ["conntrack", "-E", "-e", "NEW"],
}
RULES = "table inet t {\n chain c {\n type filter hook output priority 0;\n ct state new accept\n }\n}\n"
SENDER = """
import random, socket, sys, time
rate, seconds = float(sys.argv[1]), float(sys.argv[2])
clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(900)]
for number, each in enumerate(clients):
    each.bind(("127.0.0.1", 20000 + number))
began, sent = time.monotonic(), 0
used = time.process_time()
while (now := time.monotonic()) < began + seconds:
    due = (now - began) * rate if rate else sent + 500
    while sent < due:
        server = sent // 900
        clients[sent % 900].sendto(b"x", (f"127.1.{server >> 8 & 255}.{server & 255}", 1024))
        sent += 1
    if rate:
        time.sleep(0.001)
print(sent / (time.monotonic() - began))
"""


def used(pid: int) -> float:
    """Processor seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(enter: list[str], command: list[str], rate: float, seconds: float) -> tuple[float, float]:
    """Connections a second, and the share of a core that whoever looks has used."""
    looker = None
    if command:
        looker = subprocess.Popen([*enter, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1.5)
    before = used(looker.pid) if looker else 0.0
    done = subprocess.run(
        [*enter, sys.executable, "-ISEc", SENDER, str(rate), str(seconds)],
        capture_output=True,
        text=True,
        check=True,
    )
    share = (used(looker.pid) - before) / seconds if looker else 0.0
    if looker:
        looker.kill()
        looker.wait()
    subprocess.run([*enter, "conntrack", "-F"], capture_output=True, check=False)
    return float(done.stdout), share


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=5000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args()
    name = f"flows-{uuid.uuid4().hex[:6]}"
    held: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    fast: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    with ExitStack() as undo:
        subprocess.run(["ip", "netns", "add", name], check=True)
        undo.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
        enter = ["ip", "netns", "exec", name]
        subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True)
        subprocess.run([*enter, "nft", "-f", "-"], input=RULES, text=True, check=True)
        for _ in range(options.rounds):
            for kind, command in KINDS.items():
                held[kind].append(measure(enter, command, options.rate, options.seconds))
                fast[kind].append(measure(enter, command, 0, options.seconds))
    base = statistics.median(rate for rate, _ in fast["nobody looks"])
    rows = [
        {
            "who": kind,
            "rateHeld": round(statistics.median(rate for rate, _ in held[kind])),
            "shareOfACore": round(statistics.median(share for _, share in held[kind]), 4),
            "fullRate": round(statistics.median(rate for rate, _ in fast[kind])),
            "ofTheRate": round(statistics.median(rate for rate, _ in fast[kind]) / base, 3),
        }
        for kind in KINDS
    ]
    if options.output == "json":
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'':24} {'held':>8} {'core':>8} {'full speed':>11} {'ratio':>7}")
    for row in rows:
        print(
            f"{row['who']:24} {row['rateHeld']:>6}/s {row['shareOfACore']:>8.1%} {row['fullRate']:>9}/s "
            f"{row['ofTheRate']:>7.3f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
