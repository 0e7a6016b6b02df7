"""Policies: packets, one pod's change, the first sync and ADD, beside no policies and kube-router's design.

Run as root: `python bench/policy.py [--only packets,deciding,real] [--rounds 8] [--seconds 1] [-o json]`,
in network namespaces made for the run. What is measured:

- packets: throughput (iperf3) and new connections a second between two pods of one node that has 110, with
  0, 10, 1,000 and 10,000 policies in the cluster, and both for a second of CPU, which others on the machine
  change little; ratios are of that, to a table without the section `policy`, medians of rounds in turn; the
  same policies as the published design of kube-router has them, as nftables rules;
- deciding: in this process, without an API server: the first sync of 50,000 pods and 5,000 policies by its
  steps, and each change from the fact to the kernel, with the CPU of this process and of nft;
- real: the real agent on the tests' API server over HTTP, pods by the real plugin: the first sync (CPU, RSS),
  a pod elsewhere that comes or goes from the request until the kernel tells of it, a policy with 10,000
  peers, and ADD of 110 pods with policies for them and in a cluster without any.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent), str(ROOT / "tests" / "fakes")]

from cni import percentile, sh  # noqa: E402
from policies import deciding, declared, packets, real  # noqa: E402

PARTS = ("packets", "deciding", "real")
POLICIES = (0, 10, 1000, 10_000)
CLONE_NEWNET = 0x40000000
SOURCE = Path(__file__).parent / "policies" / "connections.c"


def of_packets(rounds: int, seconds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="l3bench") as directory:
        program = Path(directory) / "connections"
        sh("gcc", "-O2", "-o", str(program), str(SOURCE))
        found = {}
        for version in (4, 6):
            rows = packets.measure(rounds, seconds, POLICIES, program, version)
            found[f"IPv{version}"] = rows
            titles = ("Gbit/s", "of CPU", "ratio", "conn/s", "of CPU", "ratio", "p50 us", "p99 us")
            print("\n" + f"IPv{version}".ljust(28) + "".join(f"{each:>9}" for each in titles))
            for row in rows:
                figures = [packets.best(row.throughput), statistics.median(row.throughput_of_cpu)]
                figures += [packets.ratio(row, rows[0], "throughput_of_cpu"), packets.best(row.rate)]
                figures += [statistics.median(row.rate_of_cpu), packets.ratio(row, rows[0], "rate_of_cpu")]
                figures += [min(row.p50), min(row.p99)]
                places = (1, 1, 3, 0, 0, 3, 0, 0)
                told = "".join(f"{each:9.{place}f}" for each, place in zip(figures, places, strict=True))
                print(f"{row.what:28}{told}", flush=True)
    return found


def of_deciding(pods: int, policies: int, turns: int) -> dict[str, Any]:
    """In a network namespace of this process's own."""
    if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        raise SystemExit("needs root")
    answers = list(deciding.pages(declared.cluster(pods, policies)))
    size = sum(len(each) for _, each in answers) >> 20
    print(f"\n{pods} pods of {declared.size()} bytes, {policies} policies: {size} MiB")
    made = deciding.Deciding()
    spent = deciding.first(made, answers, pods)
    answers.clear()
    steps = {name: round(value, 2) for name, value in spent.items() if name not in ("MiB", "text")}
    print(f"first sync, CPU s: {steps}, together {sum(steps.values()):.2f}; {spent['MiB']:.0f} MiB more")
    costs = [*deciding.changes(made, pods, turns), *deciding.wide(made, pods)]
    _changes(costs)
    return {"first": spent, "changes": costs}


def of_real(base: Path, pods: int, policies: int, turns: int) -> dict[str, Any]:
    sh("sh", str(ROOT / "plugin" / "build.sh"), str(base / "bin"))
    syncs: list[real.Sync] = []
    adds: dict[str, list[float]] = {}
    events: list[real.Event] = []
    for number, what in ((0, "no policies"), (policies, f"{policies} policies")):
        with ExitStack() as undo:
            place_base = Path(undo.enter_context(tempfile.TemporaryDirectory(dir=base)))
            place = real.Place(undo, place_base, base / "bin" / "l3net-cni", pods, number)
            syncs.append(place.start(f"{what}, no pods here", 0))
            place.settled()
            adds[f"ADD, {what}"] = place.add()
            place.delete()
            adds[f"ADD, {what}"] += place.add()
            if number:
                attached = place.judged()
                place.kill()
                syncs.append(place.start(f"{what}, {len(place.local)} pods here", attached))
                place.settled()
                events += real.events(place, turns)
    print(f"\n{'first sync':40} {'s':>6} {'CPU s':>6} {'nft s':>6} {'RSS':>6} {'peak':>6} MiB")
    for each in syncs:
        figures = f"{each.seconds:6.1f} {each.own:6.2f} {each.nft:6.2f} {each.rss:6.0f} {each.peak:6.0f}"
        print(f"{each.what:40} {figures}")
    _changes(events)
    print(f"\n{'':46} {'p50':>8} {'p99':>8} ms")
    for what, times in adds.items():
        print(f"{what:46} {percentile(times, 0.5):8.2f} {percentile(times, 0.99):8.2f}")
    return {"first": syncs, "changes": events, "add": adds}


def _changes(costs: Iterable[deciding.Cost | real.Event]) -> None:
    print(f"\n{'milliseconds':46} {'p50':>8} {'p99':>8} {'own CPU':>8} {'nft CPU':>8} {'bytes':>8}")
    for each in costs:
        p50, p99 = (f"{percentile(each.times, share):.2f}" if each.times else "" for share in (0.5, 0.99))
        size = each.most if isinstance(each, deciding.Cost) else ""
        print(f"{each.what:46} {p50:>8} {p99:>8} {each.own:8.2f} {each.nft:8.2f} {size:>8}", flush=True)


def _plain(value: object) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=1, help="of each measurement of packets")
    parser.add_argument("--pods", type=int, default=50_000)
    parser.add_argument("--policies", type=int, default=5_000)
    parser.add_argument("--turns", type=int, default=100, help="changes of each sort")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        real.serve(options.serve, options.pods, options.policies)
        return
    if options.part is None:  # a process for each: they enter namespaces, and memory is counted
        for part in options.only.split(","):
            argv = [sys.executable, __file__, *sys.argv[1:], "--part", part]
            if subprocess.run(argv, check=False).returncode:
                raise SystemExit(f"{part} failed")
        return
    if options.part == "packets":
        found = of_packets(options.rounds, options.seconds)
    elif options.part == "deciding":
        found = of_deciding(options.pods, options.policies, options.turns)
    else:
        with tempfile.TemporaryDirectory(prefix="l3bench") as directory:
            found = of_real(Path(directory), options.pods, options.policies, options.turns)
    if options.output == "json":
        print(json.dumps({options.part: found}, default=_plain, indent=2))


if __name__ == "__main__":
    main()
