"""What `python -m bench table` runs: benchmarks of this directory, and how their JSON becomes figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from figures import OURS, Figure

HERE: Final = Path(__file__).parent
KUBERNETES: Final = "KUBEBUILDER_ASSETS"


class NotRunError(Exception):
    """A benchmark did not come to its end."""


@dataclass(frozen=True)
class Part:
    """`argv` begins with the script's name; `figures` reads what it prints with `-o json`."""

    argv: tuple[str, ...]
    figures: Callable[[Any], Iterable[Figure]]

    def measure(self) -> list[Figure]:
        """What the benchmark says meanwhile goes on to standard error. Raises NotRunError."""
        command = [sys.executable, str(HERE / self.argv[0]), *self.argv[1:], "-o", "json"]
        done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise NotRunError(f"{self.argv[0]} ended with {done.returncode}; what it said is above")
        try:
            return list(self.figures(json.loads(done.stdout)))
        except (ValueError, KeyError, TypeError) as err:
            raise NotRunError(f"{self.argv[0]} printed something else: {err!r}") from None


def of_bgp(rows: list[dict[str, Any]]) -> Iterable[Figure]:
    targets = {
        "announce 10000": ("GoBGP", "100 ms"),
        "announce 100000": ("GoBGP", "1 s"),
        "receive 100000": ("BIRD", "1.5 times BIRD"),
        "one withdraw, idle": ("GoBGP", "1.3 times GoBGP"),
    }
    for row in rows:
        beside, target = targets.get(row["what"], ("GoBGP", ""))
        ours = row["who"] == OURS
        rest = {"beside": beside, "target": target} if ours else {}
        yield Figure.of(row["what"], row["who"], "ms", row["times"], **rest)
        for process, mib in row["rss"].items() if ours else ():
            yield Figure(f"{row['what']}: memory of {process}", row["who"], "MiB", mib)


def of_cni(rows: list[dict[str, Any]]) -> Iterable[Figure]:
    for row in rows:
        who, _, how = row["what"].partition(", ")
        one = how == "1 at once" or not how
        ours = who.startswith(OURS)
        rest = {"beside": "reference"} if ours else {}
        at = how or "1 at once"
        yield Figure(f"ADD, {at}", who, "ms", row["add_p50"], row["add_p99"], **rest)
        yield Figure(f"DEL, {at}", who, "ms", row["delete_p50"], row["delete_p99"], **rest)
        if not one:
            yield Figure(f"pods in a second, {at}", who, "1/s", row["rate"], more=True, **rest)
        if row.get("agent_cpu") is not None and how:
            yield Figure(f"CPU of the agent, a pod, {at}", who, "ms", row["agent_cpu"])


def of_kube(rows: list[dict[str, Any]]) -> Iterable[Figure]:
    for row in rows:
        services = f"{row['services']:,} services"
        most = row["services"] >= 10_000
        both = row["sync_cpu"] + row["sync_nft_cpu"]
        yield Figure(f"first sync, {services}: CPU", OURS, "s", both, target="1.5 s" if most else "")
        yield Figure(f"first sync, {services}: until done", OURS, "s", row["sync_wall"])
        yield Figure(f"agent's memory, {services}", OURS, "MiB", row["rss"], target="" if most else "50 MiB")
        yield Figure(f"agent idle, {services}", OURS, "% of a core", row["idle_percent"], target="0.2 %")
        yield Figure(f"one change, {services}", OURS, "ms", row["change_p50"], row["change_p99"])


PARTS: Final = {
    "cni": Part(("cni.py",), of_cni),
    "bgp": Part(
        ("bgp.py", "--only", "announce,receive,single", "--sizes", "10000,100000", "--rounds", "3"), of_bgp
    ),
    "kube": Part(("kube.py",), of_kube),
}


def never_here() -> dict[str, str]:
    """What of the table cannot be run on this machine, and why."""
    if os.environ.get(KUBERNETES):
        return {"pods through kubelet": "no benchmark of it is here yet"}
    return {"pods through kubelet": f"needs Kubernetes' own binaries in {KUBERNETES}"}
