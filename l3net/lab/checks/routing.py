"""Checks of what routers hold."""

from __future__ import annotations

from collections.abc import Iterator

from l3net.lab.checks.report import CheckResult
from l3net.lab.expected import difference, expected_ribs
from l3net.lab.machine import CheckedLab
from l3net.lab.ribs import read_rib, read_sessions


def sessions(lab: CheckedLab) -> Iterator[CheckResult]:
    """Every session of every router is established."""
    for router in lab.topology.routers:
        seen = read_sessions(lab.topology, lab.host(router.name))
        wanted = lab.topology.sessions(router.name)
        down = [
            f"{s.remote_host} ({s.remote})"
            for s in wanted
            if s.remote not in seen or not seen[s.remote].established
        ]
        yield CheckResult(
            "sessions",
            f"{router.name} with its neighbours",
            not down,
            f"{len(wanted)} established",
            f"{len(wanted) - len(down)} established" + (f", not {', '.join(down)}" if down else ""),
        )


def ribs(lab: CheckedLab) -> Iterator[CheckResult]:
    """Each router's own RIB: exactly the blocks and service addresses, by the expected neighbours."""
    for name, want in expected_ribs(lab.topology).items():
        seen = read_rib(lab.topology, lab.host(name))
        for version in lab.topology.versions:
            wanted = {prefix: hops for prefix, hops in want.items() if prefix.version == version}
            there = {prefix: hops for prefix, hops in seen.items() if prefix.version == version}
            wrong = difference(wanted, there)
            shared = sum(1 for hops in wanted.values() if len(hops) > 1)
            told = (
                f"{len(there)} prefixes, {sum(1 for hops in there.values() if len(hops) > 1)} by several ways"
            )
            kind = next(router.kind.value for router in lab.topology.routers if router.name == name)
            yield CheckResult(
                "router-rib",
                f"{name} ({kind})",
                not wrong,
                f"{len(wanted)} prefixes, {shared} by several ways",
                "; ".join(wrong) or told,
                version,
            )
