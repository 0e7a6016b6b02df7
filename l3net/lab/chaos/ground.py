"""The lab a run is made on: pods that echo, what is declared for the probes, and hands for the faults."""

from __future__ import annotations

import json
import random
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from l3net.lab.chaos import declared as documents
from l3net.lab.chaos import echo
from l3net.lab.chaos.path import ECHO_PORT, Declared, Place
from l3net.lab.chaos.step import Step
from l3net.lab.host import Host, python
from l3net.lab.machine import LabPod
from l3net.lab.manifests import Document, cluster_manifests, render
from l3net.lab.nodes import start_agent, start_speaker, wait_agent, write_manifests
from l3net.lab.pods import add_pod, find_plugin
from l3net.lab.topology import Topology
from l3net.lab.up import Lab, each
from l3net.lab.wait import until

#: What each process of a node is told by, in its command line.
PROCESSES = {
    "agent": "l3net.cli.main agent",
    "speaker": "l3net.cli.main speaker",
    "exabgp": "l3net.shell.speaker.exabgp",
    "relay": "l3net/shell/relay.py",
}


@dataclass
class Ground:
    """A lab under faults. `topology` has the services that are declared for the probes; what faults find
    wrong by themselves they `tell`."""

    lab: Lab
    plugin: Path
    topology: Topology
    declared: Declared
    places: dict[str, Place]
    told: list[str] = field(default_factory=list)
    unready: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def host(self, name: str) -> Host:
        return self.lab.host(name)

    def chance(self, step: Step) -> random.Random:
        """What a fault chooses by: the same each time the step is run."""
        return random.Random(step.choice)  # noqa: S311 - no secret

    def tell(self, what: str) -> None:
        self.told.append(what)

    def pids(self, host: str, process: str) -> list[int]:
        """The processes of that name in the host's numbering, the oldest first."""
        return pids(self.host(host), process)

    def signal(self, host: str, process: str, sign: int) -> None:
        for pid in self.pids(host, process):
            self.host(host).run(["kill", f"-{int(sign)}", str(pid)], check=False)

    def start_agent(self, name: str) -> None:
        """Start a node's agent unless it runs, and wait until it has reconciled."""
        host = self.host(name)
        if not host.alive("agent"):
            start_agent(host, self.lab.datastore(name))
        wait_agent(host, 120)  # its first pass makes the table anew, and others want the processors too

    def start_speaker(self, name: str) -> None:
        host = self.host(name)
        if not host.alive("speaker"):
            start_speaker(host)

    def ended(self, name: str, process: str) -> None:
        host = self.host(name)
        until(lambda: not host.alive(process), 10, f"{name}: the {process} does not end")

    def declare(self, file: str, items: Iterable[Document]) -> None:
        write_manifests(self.lab.manifests, {file: render(items)})

    def ready(self, host: str, ready: bool) -> None:
        """Whether the endpoints on a host are."""
        with self.lock:
            (self.unready.discard if ready else self.unready.add)(host)
            self.declare(
                "chaos-slices.yaml",
                documents.slices(self.topology, self.declared.endpoints, frozenset(self.unready)),
            )


def pids(host: Host, process: str) -> list[int]:
    """A host's processes of that name, in its own numbering."""
    mark, found = PROCESSES[process], []
    root = Path(f"/proc/{host.pid}/root/proc")
    for entry in sorted((e for e in root.iterdir() if e.name.isdigit()), key=lambda e: int(e.name)):
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if mark in command and "nsenter" not in command and not command.startswith("setpriv"):
                found.append(int(entry.name))
    return found


def prepare(lab: Lab) -> Ground:
    """Declare what the probes need, make its pods, and let every pod and client echo. Raises LabError."""
    plugin, topology = find_plugin(), lab.topology
    write_manifests(
        lab.manifests,
        {
            "bgp.yaml": render(
                documents.with_ranges(cluster_manifests(topology)["bgp.yaml"], topology.versions)
            ),
            "chaos.yaml": render(documents.fixed_documents(topology)),
        },
    )
    homes = [node.name for node in topology.nodes if node.pods]
    wanted = [(f"closed-{home}", home, documents.CLOSED) for home in homes]
    wanted += [
        (f"tenant-{i}", homes[-i % len(homes)], name) for i, name in enumerate(documents.TENANTS) if homes
    ]
    extra = {pod: _place(add_pod(lab.host(home), pod, plugin, {"K8S_POD_NAMESPACE": namespace}), home)
             for pod, home, namespace in wanted}  # fmt: skip
    places = {pod: _place(lab.pod(pod), node.name) for pod, node in topology.pods.items()} | extra
    ids = {pod: container for home in homes for pod, (container, _) in live_pods(lab.host(home)).items()}
    pods = [documents.pod(extra[pod], namespace, ids[pod]) for pod, _, namespace in wanted]
    write_manifests(lab.manifests, {"chaos-pods.yaml": render(pods)})
    each(lambda place: _echo(lab.host(place.host), place.pod), places.values())
    cluster, _, outer = documents.addresses(topology)
    declared = Declared(
        cluster,
        outer,
        tuple(places[node.pods[0]] for node in topology.nodes if node.pods),
        tuple(extra[pod] for pod, _, namespace in wanted if namespace == documents.CLOSED),
        tuple(extra[pod] for pod, _, namespace in wanted if namespace != documents.CLOSED),
    )
    ground = Ground(lab, plugin, documents.judged(topology, declared), declared, places)
    ground.declare("chaos-slices.yaml", documents.slices(topology, declared.endpoints))
    return ground


def _place(pod: LabPod, home: str) -> Place:
    return Place(pod.name, home, pod.addresses)


def _echo(host: Host, pod: str) -> None:
    host.spawn(f"pod-{pod}-echo", [*python(), str(Path(echo.__file__)), str(ECHO_PORT)], pod=pod)


def live_pods(host: Host) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Pods that the lab made on a host: name -> container ID, addresses as text."""
    found = {}
    for path in sorted(host.directory.glob("pod-*.json")):
        with suppress(OSError, ValueError, KeyError):
            record = json.loads(path.read_text())
            addresses = tuple(entry["address"].partition("/")[0] for entry in record["result"]["ips"])
            found[path.stem.removeprefix("pod-")] = (record["containerID"], addresses)
    return found


STOP, GO, KILL, END = signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL, signal.SIGTERM
