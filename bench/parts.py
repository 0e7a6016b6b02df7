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


#: Of whom we stand beside, and what is to be reached.
BGP_TARGETS: Final = {
    "idle, all": ("FRR", "0.2 %"),
    "announce 10000": ("GoBGP", "100 ms"),
    "announce 100000": ("GoBGP", "1 s"),
    "receive 100000": ("BIRD", "1.5 times"),
    "one withdraw, idle": ("GoBGP", "1.3 times"),
}


def of_bgp(rows: list[dict[str, Any]]) -> Iterable[Figure]:
    for row in rows:
        beside, target = BGP_TARGETS.get(row["what"], ("GoBGP", ""))
        ours, idle = row["who"] == OURS, row["what"].startswith("idle")
        if idle and row["what"] != "idle, all" and not ours:
            continue  # each has one process
        rest = {"beside": beside, "target": target} if ours and (not idle or target) else {}
        what = row["what"].replace("idle,", "four idle sessions,")
        yield Figure.of(what, row["who"], "% of a core" if idle else "ms", row["times"], **rest)
        for process, mib in row["rss"].items() if ours else ():
            yield Figure(f"{row['what']}: memory of {process}", row["who"], "MiB", mib)


#: How the lines of bench/cni.py begin, and who that is; whom they stand beside begins with `reference`.
CNI_WHO: Final = {
    "kernel alone (floor)": "kernel alone",
    "first call, without an agent": "l3net without an agent",
    "  leaving no helper": "l3net, no helper",
    "first call, reference": "reference",
    "without an agent": "l3net without an agent",
    "  a process a call": "l3net, a process a call",
}
#: By who and how many at once: what is to be reached of ADD, DEL, pods in a second.
CNI_TARGETS: Final = {
    ("l3net", "1 at once"): ("2.5 times the kernel", "", ""),
    ("l3net", "8 at once"): ("", "", "600"),
    ("l3net", "80 at once"): ("p99 100 ms", "", ""),
    ("l3net without an agent", "first call"): ("2 times", "", ""),
    ("l3net without an agent", "1 at once"): ("0.5 times", "1 times", ""),
    ("l3net without an agent", "8 at once"): ("", "", "1 times"),
}


def of_cni(rows: list[dict[str, Any]]) -> Iterable[Figure]:
    for row in rows:
        said = row["what"]
        start = max((each for each in CNI_WHO if said.startswith(each)), key=len, default="")
        who, _, at = said.removeprefix(start).partition(", ")
        who = CNI_WHO.get(start, "") + who
        at = at or ("1 at once" if start.startswith("kernel") else "first call")
        masquerade = " with ipMasq" if "ipMasq" in who else ""
        beside = {"beside": f"reference{masquerade}"} if who.startswith(OURS) else {}
        if (who, at) == ("l3net", "1 at once"):
            beside = {"beside": "kernel alone"}
        add, delete, rate = CNI_TARGETS.get((who, at), ("", "", ""))
        yield Figure(f"ADD, {at}", who, "ms", row["add_p50"], row["add_p99"], target=add, **beside)
        yield Figure(f"DEL, {at}", who, "ms", row["delete_p50"], row["delete_p99"], target=delete, **beside)
        if at not in ("1 at once", "first call"):
            yield Figure(f"pods, {at}", who, "in a second", row["rate"], more=True, target=rate, **beside)
        if row.get("agent_cpu") is not None and who == OURS:
            yield Figure(f"agent's CPU for a pod, {at}", who, "ms", row["agent_cpu"], target="2 ms")


def of_agent(rows: list[dict[str, Any]]) -> Iterable[Figure]:
    for row in rows:
        if "command" in row:
            yield Figure(f"l3net {row['command']}: CPU", OURS, "s", row["cpu"])
            continue
        at = "directory" if row["datastore"] == "directory" else "small cluster"
        if "start_cpu" in row:
            yield Figure(f"agent's start, {at}: CPU", OURS, "s", row["start_cpu"])
            yield Figure(f"agent's memory, {at}", OURS, "MiB", row["rss"], target="50 MiB")
            yield Figure(f"agent's threads, {at}", OURS, "", row["threads"])
        else:
            yield Figure(f"agent idle, {at}", OURS, "% of a core", row["agent"], target="0.2 %")


def of_kube(rows: list[dict[str, Any]]) -> Iterable[Figure]:
    for row in rows:
        services = f"{row['services']:,} services"
        most = row["services"] >= 10_000
        both = row["sync_cpu"] + row["sync_nft_cpu"]
        yield Figure(f"first sync, {services}: CPU", OURS, "s", both, target="1.5 s" if most else "")
        yield Figure(f"first sync, {services}: until done", OURS, "s", row["sync_wall"])
        yield Figure(f"agent's memory, {services}", OURS, "MiB", row["rss"])
        yield Figure(f"agent idle, {services}", OURS, "% of a core", row["idle_percent"], target="0.2 %")
        yield Figure(f"one change, {services}", OURS, "ms", row["change_p50"], row["change_p99"])


PARTS: Final = {
    "cni": Part(("cni.py",), of_cni),
    "bgp": Part(
        ("bgp.py", "--only", "idle,announce,receive,single", "--sizes", "10000,100000", "--rounds", "3"),
        of_bgp,
    ),
    "agent": Part(("agent.py", "--idle", "30"), of_agent),
    "kube": Part(("kube.py",), of_kube),
}


def never_here() -> dict[str, str]:
    """What of the table cannot be run on this machine, and why."""
    if os.environ.get(KUBERNETES):
        return {"pods through kubelet": "no benchmark of it is here yet"}
    return {"pods through kubelet": f"needs Kubernetes' own binaries in {KUBERNETES}"}
