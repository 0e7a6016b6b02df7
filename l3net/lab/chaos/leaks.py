"""What a node holds in all, counted before and after: what has grown that should not have is a leak."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from l3net.lab.chaos.ground import PROCESSES, pids
from l3net.lab.chaos.kernel import leases
from l3net.lab.host import Host
from l3net.naming import RUN_DIR, STATE_DIR

#: By how much a count may be more at the end. Descriptors, threads and memory breathe; connections are
#: tracked for up to two minutes after their end, and the first count is taken when probing has just begun.
SLACK = {"descriptors": 8, "threads": 6, "MiB": 48, "connections": 6000}
#: Seconds for nft to tell of all slots of consistent balancing: a few, on a machine that is not busy.
_PATIENCE = 180.0
_COUNT = f"""
ls /sys/class/net | wc -l; ls /run/netns | wc -l
find {RUN_DIR} {STATE_DIR} -type f -o -type s | wc -l
cat /proc/sys/net/netfilter/nf_conntrack_count
ls -d /proc/[0-9]* | wc -l
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """What is counted of one host, by name."""

    host: str
    of: Mapping[str, int]


def count(host: Host) -> Counts:
    names = ("links", "namespaces", "files", "connections", "processes")
    numbers = [int(line) for line in host.run(["sh", "-c", _COUNT], check=False).stdout.split()]
    found = dict(zip(names, numbers, strict=False))
    found["leases"] = len(leases(host))
    found |= _nftables(host)
    for process in PROCESSES:
        for pid in pids(host, process)[:1]:
            found |= _process(Path(f"/proc/{host.pid}/root/proc/{pid}"), process)
        found[f"{process} processes"] = len(pids(host, process))
    return Counts(host.name, found)


def _nftables(host: Host) -> dict[str, int]:
    """Rules by chain, elements by set; but for those that time out, which traffic makes."""
    shown = json.loads(host.run(["nft", "-j", "list", "ruleset"], timeout=_PATIENCE).stdout)["nftables"]
    found: dict[str, int] = {}
    for item in shown:
        for kind in ("set", "map"):
            if (it := item.get(kind)) and not {"timeout", "dynamic"} & set(it.get("flags", [])):
                found[f"nftables {it['family']} {it['table']} {it['name']}"] = len(it.get("elem", []))
        if it := item.get("rule"):
            name = f"nftables {it['family']} {it['table']} {it['chain']}"
            found[name] = found.get(name, 0) + 1
    return found


def _process(entry: Path, name: str) -> dict[str, int]:
    try:
        status = dict(line.partition(":")[::2] for line in (entry / "status").read_text().splitlines())
        return {
            f"{name} descriptors": len(list((entry / "fd").iterdir())),
            f"{name} threads": int(status["Threads"]),
            f"{name} MiB": int(status["VmRSS"].split()[0]) // 1024,
        }
    except (OSError, KeyError, ValueError):
        return {}


def leaked(before: Counts, after: Counts) -> list[str]:
    """What there is more of than there was, in words."""
    return [
        f"{before.host}: {what}: {before.of[what]} before, {number} after"
        for what, number in after.of.items()
        if what in before.of and number > before.of[what] + SLACK.get(what.split()[-1], 0)
    ]
