"""Packets lost when the speaker or the agent is killed, with FRR, BIRD and GoBGP as the far side.

Run as root: `python bench/restart.py [--rounds N] [-o json]`. A stream of 15,000 packets at 1,000 a second
runs each way between an address in the node's block and one behind the router; one second in, ExaBGP (or the
agent) is killed with SIGKILL, and found running again. The control has graceful restart turned off. GoBGP
keeps no kernel routes: its RIB, stale paths included, is carried to the kernel by the lab's follower.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

for room in ("agent", "interop"):
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / room))

from stage import FAR_ADDRESS, Stage  # noqa: E402
from test_interop_restart import BEHIND_PREFIX, kill_exabgp, together  # noqa: E402

PACKETS = 15_000


@dataclass
class Row:
    """Worst of the rounds: packets lost of those sent, to the node and from it, and seconds until the
    sessions were established again."""

    far_side: str
    family: str
    what: str
    lost_to_node: int
    lost_from_node: int
    back_after: float


def once(kind: str, version: int, what: str) -> Row:
    stage = Stage()
    try:
        stage.up()
        spec: dict[str, object] = (
            {"gracefulRestart": {"enabled": False}} if what.startswith("control") else {}
        )
        together(stage, kind, BEHIND_PREFIX, **spec)
        stage.stream(version, PACKETS)
        time.sleep(1)
        started = time.monotonic()
        if what == "agent killed":
            stage.node.kill("agent", signal.SIGKILL)
            stage.until(lambda: not stage.node.alive("agent"), "the agent to die")
            stage.start_agent()
        else:
            kill_exabgp(stage)
        stage.established(*FAR_ADDRESS.values())
        back = time.monotonic() - started
        lost = stage.streamed(version, PACKETS / 1000 + 30)
        return Row(kind, f"IPv{version}", what, lost["stream-node"], lost["stream-behind"], round(back, 1))
    finally:
        stage.down()


def worst(rows: list[Row]) -> Row:
    first = rows[0]
    return Row(
        first.far_side,
        first.family,
        first.what,
        max(row.lost_to_node for row in rows),
        max(row.lost_from_node for row in rows),
        max(row.back_after for row in rows),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--far-side", choices=["frr", "bird", "gobgp"], action="append")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args()
    cases = [
        (kind, version, what)
        for kind in options.far_side or ("frr", "bird", "gobgp")
        for what in ("speaker killed", "agent killed", "control: speaker killed, no graceful restart")
        for version in (4, 6)
    ]
    measured = (worst([once(*case) for _ in range(options.rounds)]) for case in cases)
    if options.output == "json":
        print(json.dumps([asdict(row) for row in measured], indent=2))
        return
    print(f"Lost of {PACKETS} packets at 1,000/s, worst of {options.rounds}\n")
    print(f"{'far side':8} {'':5} {'what':46} {'to node':>8} {'from node':>10} {'back after':>11}")
    for row in measured:
        print(
            f"{row.far_side:8} {row.family:5} {row.what:46} {row.lost_to_node:8} {row.lost_from_node:10} "
            f"{row.back_after:9.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
