"""Pulling the cables of a lab, and putting them back: both ends of a link go down, as when it is cut."""

from __future__ import annotations

import json
from collections.abc import Sequence

from l3net.lab.errors import LabError, UnknownNameError
from l3net.lab.machine import CheckedLab
from l3net.lab.topology import Link, Topology


def chosen_links(
    topology: Topology, between: Sequence[tuple[str, str]] = (), hosts: Sequence[str] = ()
) -> tuple[Link, ...]:
    """The links between pairs of hosts, and every link of a host. Raises UnknownNameError."""
    chosen: list[Link] = []
    for first, second in between:
        found = [link for link in topology.links_of(first) if link.far_end(first).host == second]
        if not found:
            there = ", ".join(f"{link.ends[0].host},{link.ends[1].host}" for link in topology.links)
            raise UnknownNameError(f"there is no link {first},{second}: {there}")
        chosen += found
    for host in hosts:
        if host not in topology.hosts:
            raise UnknownNameError(f"there is no host {host!r}: {', '.join(topology.hosts)}")
        chosen += topology.links_of(host)
    return tuple(dict.fromkeys(chosen))


def are_cut(lab: CheckedLab) -> tuple[Link, ...]:
    """The links of which an end is down. Of a host that does not answer nothing is known."""
    down: set[tuple[str, str]] = set()
    for host in lab.topology.hosts:
        try:
            found = json.loads(lab.host(host).run(["ip", "-j", "link", "show"]).stdout)
        except (LabError, ValueError):
            continue
        down |= {(host, each["ifname"]) for each in found if "UP" not in each["flags"]}
    return tuple(
        link
        for link in lab.topology.links
        if any((end.host, lab.interface(end.host, end.interface)) in down for end in link.ends)
    )


def cut(lab: CheckedLab, links: Sequence[Link]) -> None:
    """Take both ends down. What cannot be reached over ssh's own way is told, as LabError."""
    for link in links:
        for end in link.ends:
            name = lab.interface(end.host, end.interface)
            lab.host(end.host).run(["ip", "link", "set", "dev", name, "down"])


def mend(lab: CheckedLab) -> None:
    """Every link up, every address and route back, whatever was cut."""
    for host in lab.topology.hosts:
        lab.number(host)
