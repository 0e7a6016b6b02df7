"""GoBGP's best paths into the kernel, for a router of kind gobgp. Runs by itself, on the standard library.

    gobgp_fib.py PREFIX...      (the prefixes to announce as this router's own)

Follows `gobgp monitor global rib` and, shortly after each change, makes the routes with protocol `bgp` equal
to the paths that share the best path's preference, AS path length, origin and MED (RFC 4271 section 9.1.2.2,
a to c).
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from typing import Any

_QUIET = 0.1
_RESCAN = 2.0

Routes = dict[str, frozenset[str]]


def best_paths(paths: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The paths that share the traffic of one prefix, from its entry of `gobgp global rib -j`."""
    ranked: dict[tuple[int, int, int, int], list[dict[str, Any]]] = {}
    for path in paths:
        attributes = {attribute["type"]: attribute for attribute in path["attrs"]}
        segments = attributes.get(2, {}).get("as_paths") or []
        rank = (
            -int(attributes.get(5, {}).get("value", 100)),
            sum(1 if segment.get("segment_type") == 1 else len(segment["asns"]) for segment in segments),
            int(attributes.get(1, {}).get("value", 0)),
            int(attributes.get(4, {}).get("metric", 0)),
        )
        ranked.setdefault(rank, []).append(path)
    return ranked[min(ranked)] if ranked else []


def best_next_hops(paths: list[dict[str, Any]]) -> frozenset[str]:
    """The next hops of `best_paths`; none for a prefix of our own."""
    hops = set()
    for path in best_paths(paths):
        attributes = {attribute["type"]: attribute for attribute in path["attrs"]}
        hops.add(attributes.get(3, {}).get("nexthop") or attributes.get(14, {}).get("nexthop") or "")
    # Our own announcements have the unspecified next hop: connected, not learned.
    return frozenset() if hops & {"0.0.0.0", "::", ""} else frozenset(hops)  # noqa: S104


def _read_rib(version: int) -> Routes | None:
    done = subprocess.run(
        ["gobgp", "global", "rib", "-a", f"ipv{version}", "-j"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return None
    try:
        rib = json.loads(done.stdout or "{}")
    except ValueError:  # an empty table is told in words
        rib = {}
    wanted = {prefix: best_next_hops(paths) for prefix, paths in rib.items()}
    return {prefix: hops for prefix, hops in wanted.items() if hops}


def _apply(
    version: int, old: dict[str, frozenset[str]], new: dict[str, frozenset[str]]
) -> dict[str, frozenset[str]]:
    lines: list[tuple[str, str]] = []
    for prefix, hops in new.items():
        if old.get(prefix) != hops:
            via = "via inet6" if version == 4 else "via"  # RFC 8950
            way = " ".join(f"nexthop {via if ':' in hop else 'via'} {hop}" for hop in sorted(hops))
            lines.append((prefix, f"route replace {prefix} proto bgp metric 20 {way}"))
    lines += [(prefix, f"route del {prefix} proto bgp metric 20") for prefix in old if prefix not in new]
    if not lines:
        return old
    subprocess.run(
        ["ip", f"-{version}", "-force", "-batch", "-"],
        input="\n".join(line for _, line in lines) + "\n",
        text=True,
        check=False,
    )
    return new


def main(own: list[str]) -> None:
    for prefix in own:
        version = 6 if ":" in prefix else 4
        while subprocess.run(
            ["gobgp", "global", "rib", "add", prefix, "-a", f"ipv{version}"], check=False
        ).returncode:
            time.sleep(0.1)
    monitor = subprocess.Popen(["gobgp", "monitor", "global", "rib"], stdout=subprocess.PIPE)
    monitor6 = subprocess.Popen(["gobgp", "monitor", "global", "rib", "-a", "ipv6"], stdout=subprocess.PIPE)
    streams = [stream for stream in (monitor.stdout, monitor6.stdout) if stream is not None]
    installed: dict[int, Routes] = {4: {}, 6: {}}
    while True:
        for version in (4, 6):
            rib = _read_rib(version)
            if rib is not None:
                installed[version] = _apply(version, installed[version], rib)
        ready, _, _ = select.select(streams, [], [], _RESCAN)
        while ready:
            for stream in ready:
                if not stream.read1(65536):  # type: ignore[attr-defined]
                    streams.remove(stream)
            ready, _, _ = select.select(streams, [], [], _QUIET)


if __name__ == "__main__":
    main(sys.argv[1:])
