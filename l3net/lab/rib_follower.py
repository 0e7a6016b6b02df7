"""The best paths of a daemon that keeps no kernel routes, into the kernel. On the standard library alone.

    rib_follower.py gobgp PREFIX...      (the prefixes to announce as this router's own)
    rib_follower.py openbgpd             (which announces them by its configuration)

Shortly after each change, which GoBGP tells and OpenBGPD is asked for, it makes the routes with protocol
`bgp` equal to the paths that share the best path's preference, AS path length, origin and MED (RFC 4271
section 9.1.2.2, a to c).
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

_QUIET = 0.1
_RESCAN = 2.0
_POLL = 0.2

#: Prefix to next hops.
Routes = dict[str, frozenset[str]]
Path = dict[str, Any]


def _best(paths: list[Path], rank: Callable[[Path], tuple[int, int, int, int]]) -> list[Path]:
    ranked: dict[tuple[int, int, int, int], list[Path]] = {}
    for path in paths:
        ranked.setdefault(rank(path), []).append(path)
    return ranked[min(ranked)] if ranked else []


# --- GoBGP -----------------------------------------------------------------------------------------------


def _gobgp_rank(path: Path) -> tuple[int, int, int, int]:
    attributes = {attribute["type"]: attribute for attribute in path["attrs"]}
    segments = attributes.get(2, {}).get("as_paths") or []
    return (
        -int(attributes.get(5, {}).get("value", 100)),
        sum(1 if segment.get("segment_type") == 1 else len(segment["asns"]) for segment in segments),
        int(attributes.get(1, {}).get("value", 0)),
        int(attributes.get(4, {}).get("metric", 0)),
    )


def gobgp_best_paths(paths: list[Path]) -> list[Path]:
    """The paths that share the traffic of one prefix, from its entry of `gobgp global rib -j`."""
    return _best(paths, _gobgp_rank)


def gobgp_next_hops(paths: list[Path]) -> frozenset[str]:
    """The next hops of these; none for a prefix of our own."""
    hops = set()
    for path in gobgp_best_paths(paths):
        attributes = {attribute["type"]: attribute for attribute in path["attrs"]}
        hops.add(attributes.get(3, {}).get("nexthop") or attributes.get(14, {}).get("nexthop") or "")
    # Our own announcements have the unspecified next hop: connected, not learned.
    return frozenset() if hops & {"0.0.0.0", "::", ""} else frozenset(hops)  # noqa: S104


def _gobgp_routes() -> Iterator[tuple[int, Routes]]:
    for version in (4, 6):
        done = subprocess.run(
            ["gobgp", "global", "rib", "-a", f"ipv{version}", "-j"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            continue
        try:
            rib = json.loads(done.stdout or "{}")
        except ValueError:  # an empty table is told in words
            rib = {}
        wanted = {prefix: gobgp_next_hops(paths) for prefix, paths in rib.items()}
        yield version, {prefix: hops for prefix, hops in wanted.items() if hops}


def _gobgp_changes(own: list[str]) -> Iterator[None]:
    for prefix in own:
        version = 6 if ":" in prefix else 4
        while subprocess.run(
            ["gobgp", "global", "rib", "add", prefix, "-a", f"ipv{version}"], check=False
        ).returncode:
            time.sleep(0.1)
    monitors = [
        subprocess.Popen(["gobgp", "monitor", "global", "rib", *family], stdout=subprocess.PIPE)
        for family in ([], ["-a", "ipv6"])
    ]
    streams = [monitor.stdout for monitor in monitors if monitor.stdout is not None]
    while True:
        yield
        ready, _, _ = select.select(streams, [], [], _RESCAN)
        while ready:
            for stream in ready:
                if not stream.read1(65536):  # type: ignore[attr-defined]
                    streams.remove(stream)
            ready, _, _ = select.select(streams, [], [], _QUIET)


# --- OpenBGPD --------------------------------------------------------------------------------------------


def _openbgpd_rank(path: Path) -> tuple[int, int, int, int]:
    # An AS_SET, in braces, counts once.
    plain, _, _ = path["aspath"].partition("{")
    return (
        -int(path["localpref"]),
        len(plain.split()) + path["aspath"].count("{"),
        ["IGP", "EGP", "incomplete"].index(path["origin"]),
        int(path["metric"]),
    )


def openbgpd_best_paths(rib: list[Path]) -> dict[str, list[Path]]:
    """Prefix to the paths that share its traffic, from `bgpctl -j show rib`; none for a prefix of our own."""
    found: dict[str, list[Path]] = {}
    for path in rib:
        if path.get("valid"):
            found.setdefault(path["prefix"], []).append(path)
    return {
        prefix: _best(paths, _openbgpd_rank)
        for prefix, paths in found.items()
        if not any(path["neighbor"].get("description") == "LOCAL" for path in paths)
    }


def _openbgpd_routes() -> Iterator[tuple[int, Routes]]:
    done = subprocess.run(["bgpctl", "-j", "show", "rib"], capture_output=True, text=True, check=False)
    try:
        rib = json.loads(done.stdout)["rib"]
    except (ValueError, KeyError):  # it does not run, or not yet
        return
    best = openbgpd_best_paths(rib)
    for version in (4, 6):
        yield (
            version,
            {
                prefix: frozenset(path["exit_nexthop"] for path in paths)
                for prefix, paths in best.items()
                if (":" in prefix) == (version == 6)
            },
        )


def _openbgpd_changes() -> Iterator[None]:
    while True:
        yield
        time.sleep(_POLL)


# --- the kernel ------------------------------------------------------------------------------------------


def kernel_routes(shown: str, version: int) -> Routes:
    """Prefix to next hops, from `ip -j route show`."""
    found: Routes = {}
    for route in json.loads(shown or "[]"):
        prefix = {"default": "0.0.0.0/0" if version == 4 else "::/0"}.get(route["dst"], route["dst"])
        prefix = prefix if "/" in prefix else f"{prefix}/{32 if version == 4 else 128}"
        ways = route.get("nexthops", [route])
        hops = {way.get("gateway") or way.get("via", {}).get("host", "") for way in ways}
        found[prefix] = frozenset(hops)
    return found


def _installed(version: int) -> Routes:
    listing = ["ip", "-j", f"-{version}", "route", "show", "proto", "bgp"]
    return kernel_routes(subprocess.run(listing, capture_output=True, text=True, check=False).stdout, version)


def _apply(version: int, old: Routes, new: Routes) -> None:
    lines: list[str] = []
    for prefix, hops in new.items():
        if old.get(prefix) != hops:
            via = "via inet6" if version == 4 else "via"  # RFC 8950
            way = " ".join(f"nexthop {via if ':' in hop else 'via'} {hop}" for hop in sorted(hops))
            lines.append(f"route replace {prefix} proto bgp metric 20 {way}")
    lines += [f"route del {prefix} proto bgp metric 20" for prefix in old if prefix not in new]
    if lines:
        batch = ["ip", f"-{version}", "-force", "-batch", "-"]
        subprocess.run(batch, input="\n".join(lines) + "\n", text=True, check=False)


def main(kind: str, own: list[str]) -> None:
    installed: dict[int, Routes] = {}
    read_back = 0.0
    routes = _gobgp_routes if kind == "gobgp" else _openbgpd_routes
    for _ in _gobgp_changes(own) if kind == "gobgp" else _openbgpd_changes():
        if time.monotonic() > read_back:  # a link that goes down takes its routes along
            installed = {version: _installed(version) for version in (4, 6)}
            read_back = time.monotonic() + _RESCAN
        for version, wanted in routes():
            _apply(version, installed[version], wanted)
            installed[version] = wanted


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
