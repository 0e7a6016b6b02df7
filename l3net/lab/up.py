"""Bringing a lab up and taking it down."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from l3net.lab import state
from l3net.lab.addressing import addressing, links, sysctls
from l3net.lab.converge import wait_converged
from l3net.lab.errors import LabError, UnknownNameError
from l3net.lab.host import Host, find_hosts, kill_holders, start_holder, wait_ready
from l3net.lab.machine import LabPod
from l3net.lab.manifests import (
    cluster_manifests,
    endpoint_slices,
    pools,
    render,
    router_manifests,
    service_documents,
)
from l3net.lab.nodes import start_agent, start_speaker, wait_agent, write_manifests
from l3net.lab.pods import add_pod, check_pod, delete_pod, find_plugin, read_pod, start_server
from l3net.lab.routers import check_software, start_router
from l3net.lab.state import TopologySource
from l3net.lab.topology import RouterKind, Topology
from l3net.lab.wait import until
from l3net.model import Address

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
    def patience(self) -> float:
        return 1.0

    @property
    def manifests(self) -> Path:
        """The datastore directory that every node reads."""
        return self.directory / "manifests"

    def datastore(self, host: str) -> Path:
        """The directory an agent reads: a router's own, or the one of all nodes."""
        return self.manifests if self.topology.router(host) is None else self.directory / host / "manifests"

    def pod(self, name: str) -> LabPod:
        """A pod as it is now. Raises LabError if it is not there."""
        return read_pod(self.host(self.topology.pods[name].name), name)

    def host(self, name: str) -> Host:
        try:
            return self.hosts[name]
        except KeyError:
            raise UnknownNameError(
                f"there is no host {name!r} running in lab {self.name!r}: {', '.join(self.hosts)}"
            ) from None

    def interface(self, host: str, interface: str) -> str:
        return interface

    def number(self, host: str) -> None:
        """Give a host its addresses and default routes, again if need be."""
        self.host(host).run(["ip", "-batch", "-"], text=addressing(self.topology, host))

    def set_nat_outgoing(self, nat_outgoing: bool | None) -> None:
        write_manifests(self.manifests, {"pools.yaml": render(pools(self.topology, nat_outgoing))})

    def set_consistent(self, consistent: bool) -> None:
        documents = service_documents(self.topology, consistent=consistent)
        write_manifests(self.manifests, {"services.yaml": render(documents)})

    def delete_pod(self, name: str) -> None:
        delete_pod(self.host(self.topology.pods[name].name), name, find_plugin())

    def make_pod(self, name: str) -> LabPod:
        pod = add_pod(self.host(self.topology.pods[name].name), name, find_plugin())
        write_slices(self)
        return pod

    def complaint(self, pod: str) -> str | None:
        return check_pod(self.host(self.topology.pods[pod].name), pod, find_plugin())

    def kill_agent(self, node: str) -> None:
        host = self.host(node)
        host.kill("agent", signal.SIGKILL)
        until(lambda: not host.alive("agent"), 5, f"{node}: the agent does not die")

    def start_agent(self, node: str) -> None:
        start_agent(self.host(node), self.datastore(node))
        wait_agent(self.host(node))


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
    """Make a lab; whatever fails or interrupts leaves the rest to `take_down`.

    But for LabExistsError, which tells of another's lab.
    """
    state.refuse_taken(name)  # first: no other error may make whoever cleans up take it down
    topology = source.topology()
    check_software(topology)
    plugin = find_plugin() if topology.pods else None
    directory = state.create(name, source)
    progress(f"making {len(topology.hosts)} hosts, each in namespaces of its own")
    hosts = make_hosts(name, topology, directory)
    lab = Lab(name, topology, directory, hosts)
    progress(f"linking and numbering them: {len(topology.links)} links")
    wire(lab)
    speakers = [
        *(r.name for r in topology.routers if r.kind is RouterKind.L3NET),
        *(n.name for n in topology.nodes),
    ]
    told = ", ".join(f"{r.name} ({r.kind.value}, AS {r.as_number})" for r in topology.routers)
    progress(f"starting routers: {told}")
    if topology.nodes:
        progress(f"starting the speaker and agent of {', '.join(speakers)}")
    each(lambda start: start(), [*_router_starts(lab), *_agent_starts(lab, speakers)])
    each(lambda client: start_server(hosts[client.name], client.name), topology.clients)
    each(lambda host: wait_agent(hosts[host]), speakers)
    if plugin is not None:
        progress(f"adding {len(topology.pods)} pods by executing {plugin.name}")
        make_pods(lab, plugin)
    if topology.routers:
        progress("waiting until every router has learned every block and service")
        wait_converged(lab)
    return lab


def _router_starts(lab: Lab) -> list[Callable[[], object]]:
    kinds = {router.name: router.kind for router in lab.topology.routers}
    return [
        partial(start_router, lab.topology, lab.hosts[n])
        for n, k in kinds.items()
        if k is not RouterKind.L3NET
    ]


def _agent_starts(lab: Lab, names: Iterable[str]) -> list[Callable[[], object]]:
    """Speaker and agent of each host that runs them; its manifests are there before it starts."""
    write_manifests(lab.manifests, {f: render(d) for f, d in cluster_manifests(lab.topology).items()})

    def start(host: Host) -> None:
        datastore = lab.datastore(host.name)
        if lab.topology.router(host.name) is not None:
            files = router_manifests(lab.topology, host.name)
            write_manifests(datastore, {file: render(documents) for file, documents in files.items()})
        start_speaker(host)
        start_agent(host, datastore)

    return [partial(start, lab.hosts[name]) for name in names]


def make_pods(lab: Lab, plugin: Path) -> None:
    """Every node's pods, then the EndpointSlices that name their addresses."""
    each(lambda item: add_pod(lab.host(item[1].name), item[0], plugin), lab.topology.pods.items())
    write_slices(lab)


def write_slices(lab: Lab) -> None:
    """EndpointSlices of the pods as they are now."""
    addresses: dict[str, tuple[Address, ...]] = {}
    for pod, node in lab.topology.pods.items():
        with suppress(LabError):  # a pod that is not there has no endpoint
            addresses[pod] = read_pod(lab.host(node.name), pod).addresses
    write_manifests(lab.manifests, {"slices.yaml": render(endpoint_slices(lab.topology, addresses))})


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
    each(lab.number, lab.hosts)


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
