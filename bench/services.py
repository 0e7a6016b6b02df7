"""Services: packets and connections through them, one change among many, all replaced at once.

Run as root: `python bench/services.py [--only packets,between,changes,whole] [--rounds 8] [--seconds 1]
[-o json]`, in network namespaces made for the run. What is measured:

- packets: new connections a second (a byte there and back) and packets a second (iperf3, UDP, 100 octets),
  for themselves and for a second of CPU, which others on the machine change little: from pod to pod and from
  outside to a pod directly, by a ClusterIP and by a NodePort, with 100 and 10,000 services; beside them the
  rule sets of kube-proxy's nftables and iptables modes as its documents describe them, in turn;
- between: the same from a client, through a router and two nodes, to an endpoint on the node that packets
  meet or on the other one, and packets a second that the endpoint answers with: kube-proxy's nftables mode,
  which masquerades then, our random and our consistent balancing, in turn;
- changes: one endpoint of a service among so many comes and goes, from the decision until the kernel has it;
  the same of services with consistent balancing;
- whole: all services replaced by others in one transaction, under a stream of new flows to one that stays.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent), str(ROOT / "tests" / "fakes")]
sys.path.insert(1, str(ROOT / "tests" / "firewall"))

from balancers import between, changes, kubeproxy, ways  # noqa: E402
from cni import percentile, sh  # noqa: E402

PARTS = ("packets", "between", "changes", "whole")
CLONE_NEWNET = 0x40000000
SOURCE = Path(__file__).parent / "policies" / "connections.c"


def of_packets(options: argparse.Namespace) -> dict[str, Any]:
    counts = [int(each) for each in options.services.split(",")]
    found = {}
    with tempfile.TemporaryDirectory(prefix="l3bench") as directory:
        program = Path(directory) / "connections"
        sh("gcc", "-O2", "-o", str(program), str(SOURCE))
        for version in (4, 6):
            rows = ways.measure(
                version, options.rounds, options.seconds, counts, options.iptables_most, program
            )
            found[f"IPv{version}"] = [asdict(row) for row in rows]
            _packets(version, rows)
    return found


def of_between(options: argparse.Namespace) -> dict[str, Any]:
    found = {}
    with tempfile.TemporaryDirectory(prefix="l3bench") as directory:
        program = Path(directory) / "connections"
        sh("gcc", "-O2", "-o", str(program), str(SOURCE))
        for version in (4, 6):
            rows = between.measure(version, options.rounds, options.seconds, program)
            found[f"IPv{version}"] = [asdict(row) for row in rows]
            _packets(version, rows)
            _rates(rows)
    return found


_RATIOS = {
    "of kube-proxy's connections": "rate",
    "packets": "packets",
    "answers": "answers",
    "of CPU": "answers_of_cpu",
}


def _rates(rows: list[ways.Row]) -> None:
    """Of what comes through, whoever pays for it: what the way between nodes costs is nobody's process's."""
    peers = {row.way: row for row in rows if row.table == kubeproxy.NFT}
    for row in rows:
        if row is not peers[row.way]:
            told = (f"{name} {ways.ratio(row, peers[row.way], of):.3f}" for name, of in _RATIOS.items())
            print(f"{row.table}, {row.way}: {', '.join(told)}", flush=True)


def _packets(version: int, rows: list[ways.Row]) -> None:
    """Ratios are of what a second of CPU does: to kube-proxy's nftables mode with as many services."""
    titles = ("conn/s", "of CPU", "ratio", "p50 us", "p99 us", "kpkt/s", "of CPU", "ratio")
    print("\n" + f"IPv{version}".ljust(50) + "".join(f"{each:>9}" for each in titles))
    peers = {(_services(row), row.way): row for row in rows if row.table.startswith(kubeproxy.NFT)}
    for row in rows:
        base = peers.get((_services(row), row.way))
        ratios = [
            f"{ways.ratio(row, base, of):9.3f}" if base else " " * 9
            for of in ("rate_of_cpu", "packets_of_cpu")
        ]
        median = {
            of: statistics.median(getattr(row, of))
            for of in ("rate", "rate_of_cpu", "p50", "p99", "packets", "packets_of_cpu")
        }
        print(
            f"{row.table + ', ' + row.way:50}{median['rate']:9.0f}{median['rate_of_cpu']:9.0f}{ratios[0]}"
            f"{median['p50']:9.0f}{median['p99']:9.0f}"
            f"{median['packets'] / 1e3:9.0f}{median['packets_of_cpu'] / 1e3:9.0f}{ratios[1]}",
            flush=True,
        )


def _services(row: ways.Row) -> str:
    """How many there are, as the table's name says; empty where it does not."""
    last = row.table.rpartition(" ")[2]
    return last if last.isdigit() else ""


def of_changes(options: argparse.Namespace) -> list[dict[str, Any]]:
    """In a network namespace of this process's own."""
    if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        raise SystemExit("needs root")
    print(f"\n{'one endpoint, milliseconds':46} {'p50':>8} {'p99':>8} {'CPU':>8}")
    found = []
    for cost in _all_changes(options):
        p50, p99 = (f"{percentile(cost.times, share):.2f}" for share in (0.5, 0.99))
        print(f"{cost.what:46} {p50:>8} {p99:>8} {cost.own:8.2f}", flush=True)
        found.append(asdict(cost))
    return found


def _all_changes(options: argparse.Namespace) -> Iterator[changes.Cost]:
    for count in (int(each) for each in options.services.split(",")):
        yield from changes.single(4, count, options.turns)
    for endpoints, count in (
        (10, 1),
        (10, 16),
        (50, 1),
        (100, 1),
    ):  # the second has as many slots as there are
        yield changes.consistent(
            4, endpoints, count, options.turns if endpoints == 10 else options.turns // 4
        )


def of_whole(options: argparse.Namespace) -> list[dict[str, Any]]:
    print(f"\n{'all at once, seconds':46} {'p50':>8} {'worst':>8} {'flows':>8} {'refused':>8} {'lost':>8}")
    found = []
    for version, ports in ((4, False), (6, False), (4, True)):
        each = changes.whole(version, 10_000, options.replaced, ports=ports)
        what = f"IPv{version}, {each.what}"
        print(
            f"{what:46} {statistics.median(each.seconds):8.2f} {max(each.seconds):8.2f}"
            f" {each.sent:8} {each.refused:8} {each.lost:8}",
            flush=True,
        )
        found.append(asdict(each))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=1, help="of each measurement of packets")
    parser.add_argument("--services", default="100,10000", help="how many there are, of each table")
    parser.add_argument(
        "--iptables-most",
        type=int,
        default=1000,
        help="no iptables rules for more services: they load for minutes",
    )
    parser.add_argument("--turns", type=int, default=200, help="changes of each sort")
    parser.add_argument("--replaced", type=int, default=10, help="how often all are replaced")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part is None:  # a process for each: they enter namespaces
        for part in options.only.split(","):
            argv = [sys.executable, __file__, *sys.argv[1:], "--part", part]
            if subprocess.run(argv, check=False).returncode:
                raise SystemExit(f"{part} failed")
        return
    measured = {"packets": of_packets, "between": of_between, "changes": of_changes, "whole": of_whole}[
        options.part
    ](options)
    if options.output == "json":
        print(json.dumps({options.part: measured}, default=str, indent=2))


if __name__ == "__main__":
    main()
