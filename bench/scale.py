"""Scale: the API's load, one agent, sessions and convergence at 100, 1,000 and 5,000 nodes.

Run as root: `python bench/scale.py [--only load,agent,sessions,convergence] [--sizes 100,1000,5000]
[-o json]`. docs/scale.md has what it found, and what follows from it.

- load: an API server with the agents of the cluster at it (`scaling/load.py`): octets and requests at the
  start, in quiet, for each change, in a rolling update, after the server's restart, for status writes;
- agent: one agent on simulated ports with the cluster declared (`scaling/agent.py`): first sync, one change
  of each sort, by CPU and by operations. `bench/kube.py --services 50000 --nodes 5000` has the same of a real
  process with real nftables;
- sessions: a real speaker with so many sessions (`scaling/sessions.py`): CPU and memory for each, and for
  each prefix;
- convergence: all blocks of all nodes to all (`scaling/convergence.py`), by a model with the costs that
  `sessions` has measured, and 50 real speakers beside it.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent), str(ROOT / "tests" / "fakes")]

PARTS = ("load", "agent", "sessions", "convergence")


def of_load(options: argparse.Namespace, sizes: list[int]) -> list[dict[str, Any]]:
    from scaling import load  # noqa: PLC0415

    rows = []
    for nodes in sizes:
        watching = options.watching or (1000 if nodes <= 1000 else 100)
        for mesh in (False, True):
            row = load.measure(nodes, mesh, options.listing, watching)
            load.show([row])
            rows.append(asdict(row))
    return rows


def of_agent(_options: argparse.Namespace, sizes: list[int]) -> list[dict[str, Any]]:
    from scaling import agent  # noqa: PLC0415

    return agent.measure(sizes)


def of_sessions(_options: argparse.Namespace, _sizes: list[int]) -> list[dict[str, Any]]:
    from scaling import sessions  # noqa: PLC0415

    return sessions.measure()


def of_convergence(_options: argparse.Namespace, sizes: list[int]) -> list[dict[str, Any]]:
    from scaling import convergence  # noqa: PLC0415

    return convergence.measure(sizes)


def _parts(text: str) -> list[str]:
    if unknown := [each for each in text.split(",") if each not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    return text.split(",")


def _sizes(text: str) -> list[int]:
    if not all(each.isdecimal() and int(each) >= 2 for each in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} are not numbers of nodes, from 2 on: 100,1000")
    return [int(each) for each in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--sizes", type=_sizes, default=[100, 1000, 5000], help="numbers of nodes")
    parser.add_argument("--listing", type=int, default=2, help="agents that start from nothing")
    parser.add_argument("--watching", type=int, default=0, help="agents that watch (0: 1000, or 100 of more)")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is removed
    if options.part is None:  # a process for each: what one holds is no part of another's memory
        for part in options.only:
            argv = [sys.executable, __file__, *sys.argv[1:], "--part", part]
            with subprocess.Popen(argv) as running:
                try:
                    failed = running.wait()
                except SystemExit:
                    running.terminate()  # it removes what it made
                    raise
            if failed:
                raise SystemExit(f"{part} failed")
        return
    measured = {"load": of_load, "agent": of_agent, "sessions": of_sessions, "convergence": of_convergence}[
        options.part
    ](options, options.sizes)
    if options.output == "json":
        print(json.dumps({options.part: measured}, default=str, indent=2))


if __name__ == "__main__":
    main()
