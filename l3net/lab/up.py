"""Bringing a lab up and taking it down."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from l3net.lab import state
from l3net.lab.addressing import addressing, links, sysctls
from l3net.lab.errors import LabError
from l3net.lab.host import Host, find_hosts, kill_holders, start_holder, wait_ready
from l3net.lab.routers import check_software, start_router
from l3net.lab.state import TopologySource
from l3net.lab.topology import RouterKind, Topology

T = TypeVar("T")
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that runs."""

    name: str
    topology: Topology
    directory: Path
    hosts: dict[str, Host]

    @property
    def manifests(self) -> Path:
        """The datastore directory that every node reads."""
        return self.directory / "manifests"

    def host(self, name: str) -> Host:
        try:
            return self.hosts[name]
        except KeyError:
            raise LabError(
                f"there is no host {name!r} running in lab {self.name!r}: {', '.join(self.hosts)}"
            ) from None


def open_lab(name: str) -> Lab:
    """The lab of that name, as it is. Raises NoLabError, or LabError if a host of it is gone."""
    directory, topology = state.load(name)
    hosts = find_hosts(name, directory)
    missing = [host for host in topology.hosts if host not in hosts]
    if missing:
        raise LabError(
            f"lab {name!r} lacks {', '.join(missing)}: take it down (`l3net lab down`) and up again"
        )
    return Lab(name, topology, directory, {host: hosts[host] for host in topology.hosts})


def bring_up(name: str, source: TopologySource, progress: Progress) -> Lab:
    """Make a lab; whatever fails or interrupts leaves the rest to `take_down`."""
    topology = source.topology()
    check_software(topology)
    directory = state.create(name, source)
    progress(f"making {len(topology.hosts)} hosts, each in namespaces of its own")
    hosts = make_hosts(name, topology, directory)
    lab = Lab(name, topology, directory, hosts)
    progress(f"linking and numbering them: {len(topology.links)} links")
    wire(lab)
    others = [router for router in topology.routers if router.kind is not RouterKind.L3NET]
    if others:
        progress(
            "starting routers: " + ", ".join(f"{r.name} ({r.kind.value}, AS {r.as_number})" for r in others)
        )
        each(lambda router: start_router(topology, hosts[router.name]), others)
    return lab


def make_hosts(name: str, topology: Topology, directory: Path) -> dict[str, Host]:
    """Start every host's holder."""
    starting = {host: start_holder(name, host, directory) for host in topology.hosts}
    for host, holder in starting.items():
        wait_ready(host, holder)
    found = find_hosts(name, directory)
    return {host: found[host] for host in topology.hosts}


def wire(lab: Lab) -> None:
    """Sysctls first, since a link takes its settings from `default`; then links; then addresses."""
    each(lambda host: _sysctl(lab, host), lab.hosts.values())
    text = links(lab.topology, {name: host.pid for name, host in lab.hosts.items()})
    done = subprocess.run(["ip", "-batch", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"the links could not be made: {done.stderr.strip()}")
    each(lambda host: number(lab, host), lab.hosts.values())


def number(lab: Lab, host: Host) -> None:
    """Give a host its addresses and default routes, again if need be."""
    host.run(["ip", "-batch", "-"], text=addressing(lab.topology, host.name))


def _sysctl(lab: Lab, host: Host) -> None:
    wanted = sysctls(lab.topology, host.name)
    # -e: a kernel without one of them (icmp rate limits differ by version) is fine.
    host.run(["sysctl", "-q", "-e", "-w", *(f"{key}={value}" for key, value in wanted.items())])


def take_down(name: str) -> int:
    """Remove a lab, running, broken or half made; the number of hosts it had."""
    state.set_aside(name)
    killed = kill_holders(name)
    state.remove_aside(name)
    return killed


def each(do: Callable[[T], object], things: Iterable[T]) -> None:
    """Do something to several things at once; the first failure is raised when all have ended."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        for done in [pool.submit(do, thing) for thing in things]:
            done.result()
