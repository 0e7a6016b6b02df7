"""What counting new connections by service costs a node of so many services.

Run as root: `python bench/service_counts.py [--services 10000] [--rounds 6] [--seconds 1]`, in network
namespaces made for the run: new connections a second from outside to a pod by a ClusterIP (a byte there and
back), for themselves and for a second of CPU, with and without the table that counts, in turn; how long it
takes to make, to read, and to change by one service; what the kernel holds for it.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent), str(ROOT / "tests" / "fakes")]
sys.path.insert(1, str(ROOT / "tests" / "firewall"))

from contextlib import ExitStack  # noqa: E402

from balancers import ways  # noqa: E402
from balancers.declared import ECHO, cluster_ip, plan, pod  # noqa: E402
from cni import sh  # noqa: E402
from policies.packets import connect  # noqa: E402

from l3net.firewall.ruleset import ruleset  # noqa: E402
from l3net.firewall.servicecounts import TABLE  # noqa: E402
from l3net.shell.kernel.servicecounts import NftServiceCounts  # noqa: E402

CLONE_NEWNET = 0x40000000
SOURCE = Path(__file__).parent / "policies" / "connections.c"


def packets(version: int, options: argparse.Namespace, program: Path) -> None:
    """Connections a second, with and without, in turn."""
    node = ways.NODE[version]
    wanted = plan(version, options.services, ways.ENDPOINTS, node)
    rows = {on: ways.Row("counted" if on else "not counted", "outside to ClusterIP") for on in (False, True)}
    with ExitStack() as undo:
        place = ways.Place(undo, version)
        server = place.start(0, str(program), "serve", str(pod(version)), str(ECHO))
        undo.callback(server.wait)
        undo.callback(server.kill)
        place.settled(str(pod(version)))
        place.run("nft", "-f", "-", text=ruleset(wanted))
        keys = [each.key for each in wanted.servers]
        for turn in range(options.rounds):
            for on in (False, True) if turn % 2 == 0 else (True, False):
                place.nft(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")
                counts = NftServiceCounts()
                if on:
                    with place.inside(place.host):
                        counts.follow(keys, wanted.ports_on)
                address = str(cluster_ip(version))
                connect(place, rows[on], ways.OUTSIDE, (address, ECHO), options.seconds, program, server.pid)
                if on:
                    with place.inside(place.host):
                        assert sum(counts.read().values()) > 0
    without, counted = (rows[on] for on in (False, True))
    for of, what in (("rate", "connections/s"), ("rate_of_cpu", "connections/s of CPU")):
        before, now = (statistics.median(getattr(row, of)) for row in (without, counted))
        ratio = ways.ratio(counted, without, of)
        print(f"IPv{version} {what:24} not counted {before:8.0f}  counted {now:8.0f}  ratio {ratio:.3f}")


def slab() -> int:
    """KiB that the kernel holds in slabs and a processor's own memory."""
    found = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(found[name].split()[0]) for name in ("Slab", "Percpu"))


def table(options: argparse.Namespace) -> None:
    """In a network namespace of this process's own."""
    if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        raise SystemExit("needs root")
    keys = []
    for version in (4, 6):
        wanted = plan(version, options.services, ways.ENDPOINTS, ways.NODE[version], ports=False)
        keys += [each.key for each in wanted.servers]
    counts, before = NftServiceCounts(), slab()
    print(f"\n{len(keys)} addresses and ports, milliseconds (processor time):")
    for what, work in (
        ("made", lambda: counts.follow(keys, ())),
        ("read", counts.read),
        ("one service goes", lambda: counts.follow(keys[:-1], ())),
        ("one service comes", lambda: counts.follow(keys, ())),
        ("taken over by the next agent", lambda: NftServiceCounts().follow(keys, ())),
    ):
        began, spent = time.perf_counter(), time.process_time()
        work()
        took, used = time.perf_counter() - began, time.process_time() - spent
        print(f"  {what:30} {took * 1e3:8.1f} ({used * 1e3:.1f})")
    print(f"  in the kernel: {(slab() - before) / len(keys) * 1024:.0f} octets for each")
    subprocess.run(["nft", "delete", "table", "inet", TABLE], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="l3bench") as directory:
        program = Path(directory) / "connections"
        sh("gcc", "-O2", "-o", str(program), str(SOURCE))
        for version in (4, 6):
            packets(version, options, program)
    table(options)


if __name__ == "__main__":
    main()
