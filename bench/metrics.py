"""One scrape: l3net's own text format beside prometheus-client's, with the same families and samples.

What is compared: the time of `import`, what stays resident by it, and one scrape's time and size, with 1,000
services, 200 peers, 200 policies and 100,000 learned paths. Each side runs in processes of its own, several
times; the medians are told. `--lint` has promtool judge the text.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / room) for room in ("bgp", "agent"))]

PEERS, PATHS, SERVICES, POLICIES = 200, 100_000, 1000, 200
SIDES = ("none", "own", "library")


def resident() -> int:
    """Of this process, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def imported(side: str) -> dict[str, float]:
    """What it costs a process that has all that an agent has already."""
    import l3net.agent.loop  # noqa: PLC0415

    before, began = resident(), time.perf_counter()
    if side == "own":
        import l3net.metering.text  # noqa: F401, PLC0415
    elif side == "library":
        import prometheus_client  # noqa: F401, PLC0415
    return {"importMs": (time.perf_counter() - began) * 1000, "residentKiB": resident() - before}


def node() -> Any:
    """As much of an agent as is looked at, as large as said."""
    from bgp_facts import path, session  # noqa: PLC0415
    from test_agent_web import agent  # noqa: PLC0415

    from l3net.bgp.loc_rib import LocRib  # noqa: PLC0415
    from l3net.bgp.verdict import ACCEPTED  # noqa: PLC0415
    from l3net.model import Direction, Family, ObjectName  # noqa: PLC0415

    rib = LocRib(lambda _, found: (ACCEPTED, found))
    sessions = {
        ip_address(0x0A000001 + at): session(str(ip_address(0x0A000001 + at)), name=f"peer{at}")
        for at in range(PEERS)
    }
    rib.set_sessions(sessions)
    each = PATHS // PEERS
    for at, address in enumerate(sessions):
        rib.announce(
            address,
            [
                path(f"{ip_address(0x64000000 + (at * each + one) * 256)}/24", str(address))
                for one in range(each)
            ],
        )
    found = agent(
        rib=rib,
        routing=SimpleNamespace(usable=lambda _: True),
        monitoring=SimpleNamespace(status=list),
        bfd=SimpleNamespace(up=lambda: dict.fromkeys(sessions, True), served=True),
    )
    found.speaking.peers = {
        address: SimpleNamespace(
            session=each, established=True, flaps=1, families={Family.IPV4}, over_limit=set()
        )
        for address, each in sessions.items()
    }
    found.services.book.rejudged = {ObjectName("default", f"s{at}"): at for at in range(SERVICES)}
    found.policing.counting.totals = {
        counted(False, direction, action, ((True, ObjectName("default", f"p{at}")),)): at
        for at in range(POLICIES)
        for direction in Direction
        for action in ("accept", "deny")
    }
    return found


def counted(*fields: Any) -> Any:
    from l3net.agent.counting import Counter  # noqa: PLC0415

    return Counter(*fields)


def by_library(rows: Any, seen: Callable[[], Any]) -> Callable[[], bytes]:
    """The same rows through prometheus-client: a collector of its own, as its documentation has it."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415
    from prometheus_client.core import (  # noqa: PLC0415
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    class Collector:
        def collect(self) -> Any:
            now = seen()
            for row in rows:
                family = row.family
                if family.kind.value == "histogram":
                    made = HistogramMetricFamily(family.name, family.about, labels=family.labels)
                    for values, found in row.read(now):
                        buckets = [
                            *(
                                (str(bound), count)
                                for bound, count in zip(found.bounds, found.counts, strict=True)
                            ),
                            ("+Inf", found.count),
                        ]
                        made.add_metric([str(value) for value in values], buckets, found.sum)
                else:
                    kind = GaugeMetricFamily if family.kind.value == "gauge" else CounterMetricFamily
                    made = kind(family.name, family.about, labels=family.labels)
                    for values, value in row.read(now):
                        made.add_metric([str(each) for each in values], value)
                yield made

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return lambda: generate_latest(registry)


def scraped(side: str, lint: bool) -> dict[str, float]:
    from l3net.agent.measuring.seen import Apart, Beside, Seen  # noqa: PLC0415
    from l3net.agent.metrics import ROWS  # noqa: PLC0415
    from l3net.metering.text import exposition  # noqa: PLC0415

    found, apart = node(), Apart()

    def seen() -> Seen:
        return Seen(found, apart, Beside())

    def failed(name: str, error: Exception) -> None:
        raise AssertionError(name) from error

    rows = [row for row in ROWS if not row.family.formerly]
    if side == "none":  # what is read alone

        def scrape() -> bytes:
            now = seen()
            for row in rows:
                for _ in row.read(now):
                    pass
            return b""

    elif side == "own":

        def scrape() -> bytes:
            return exposition(rows, seen(), failed).encode()

    else:
        scrape = by_library(rows, seen)
    scrape()
    before, times, size = resident(), [], 0
    for _ in range(10):
        began = time.perf_counter()
        text = scrape()
        times.append(time.perf_counter() - began)
        size = len(text)
    if lint and text:
        subprocess.run(["promtool", "check", "metrics"], input=text, check=True)
    return {"scrapeMs": statistics.median(times) * 1000, "bytes": size, "grownKiB": resident() - before}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--lint", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("PART", "SIDE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        part, side = options.one
        print(json.dumps(imported(side) if part == "import" else scraped(side, options.lint)))
        return 0
    print(f"load {Path('/proc/loadavg').read_text().split()[0]}, Python {sys.version.split()[0]}")
    for part in ("import", "scrape"):
        for side in SIDES:
            runs = []
            for _ in range(options.runs):
                command = [
                    sys.executable,
                    __file__,
                    "--one",
                    part,
                    side,
                    *(["--lint"] if options.lint else []),
                ]
                runs.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
            told = "  ".join(f"{key} {statistics.median(run[key] for run in runs):10.1f}" for key in runs[0])
            print(f"{part:7} {side:8} {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
