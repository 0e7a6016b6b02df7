"""The agent on the Kubernetes API: first sync, one endpoint's change, and doing nothing.

Run as root: `python bench/kube.py [--services 10000] [--nodes 5000] [--changes 200] [--idle 60]`. The real
agent and nftables in a network namespace of its own; the API server is the tests' fake one over HTTP, in a
process of its own; in the speaker's place is a socket that notes when a line arrives. The same with 100
services is the control: what a change costs must not depend on how many there are.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]
PEER = "10.9.0.2"
CLONE_NEWNET = 0x40000000
HERTZ = os.sysconf("SC_CLK_TCK")
#: Seconds after which an agent no longer waits for routers that are away, and all that a change brings along
#: has been done.
SETTLED = 35.0


@dataclass
class Row:
    """CPU in seconds with nft's, memory in MiB, latency in milliseconds (PUT sent to line written)."""

    services: int
    sync_cpu: float
    sync_nft_cpu: float
    sync_wall: float
    rss: float
    peak: float
    change_p50: float
    change_p99: float
    change_max: float
    change_cpu: float  # milliseconds a change
    idle_percent: float


def service(number: int) -> dict[str, Any]:
    address = str(ip_address("10.96.0.0") + number + 1)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": f"service-{number}",
            "namespace": f"team-{number % 50}",
            "labels": {"app": f"service-{number}", "team": f"team-{number % 50}"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x" * 400},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "selector": {"app": f"service-{number}"},
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
        },
    }


def endpoints(number: int, ready: bool = True) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"service-{number}-x7k2p",
            "namespace": f"team-{number % 50}",
            "labels": {"kubernetes.io/service-name": f"service-{number}"},
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": [str(ip_address("10.200.0.0") + number * 3 + index)],
                "conditions": {"ready": ready, "serving": ready, "terminating": False},
                "nodeName": f"n{index}",
                "targetRef": {"kind": "Pod", "name": f"service-{number}-{index}", "namespace": "x"},
            }
            for index in range(3)
        ],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def declared(nodes: int) -> list[dict[str, Any]]:
    """This node, its router, and other nodes; a peer that selects none of these has all of them watched."""
    own = "l3net.io/v1alpha1"
    others = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"node-{number}", "labels": {"kubernetes.io/hostname": f"node-{number}"}},
            "spec": {"podCIDRs": [f"10.{128 + number // 256}.{number % 256}.0/24"]},
            "status": {
                "addresses": [{"type": "InternalIP", "address": f"10.8.{number // 250}.{number % 250 + 1}"}]
            },
        }
        for number in range(nodes)
    ]
    selecting = {
        "apiVersion": own,
        "kind": "BGPPeer",
        "metadata": {"name": "nobody"},
        "spec": {"peerSelector": {"matchLabels": {"no": "node"}}},
    }
    return [
        *others,
        *([selecting] if nodes else []),
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "n1"},
            "spec": {"podCIDRs": ["10.244.1.0/24"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.9.0.1"}]},
        },
        {
            "apiVersion": own,
            "kind": "BGPConfiguration",
            "metadata": {"name": "default"},
            "spec": {"nodeToNodeMesh": False},
        },
        {
            "apiVersion": own,
            "kind": "BGPPeer",
            "metadata": {"name": "tor"},
            "spec": {"address": PEER, "asNumber": 65001},
        },
    ]


def serve(services: int, nodes: int, directory: Path) -> None:
    """The API server's process."""
    from apiserver import FakeApiServer  # noqa: PLC0415 - the other process need not have it

    api = FakeApiServer()
    api.put(*declared(nodes))
    api.put(*map(service, range(services)))
    api.put(*map(endpoints, range(services)))
    api.start()
    api.kubeconfig(directory / "kubeconfig.new")
    (directory / "kubeconfig.new").rename(directory / "kubeconfig")
    signal.pause()


class Speaker:
    """Answers as ExaBGP would with one established session, and notes when each prefix is spoken of."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self.announced: set[str] = set()
        self.last: dict[str, float] = {}
        self.changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        connection, _ = self._listener.accept()
        with connection.makefile("rwb") as file:
            for line in file:
                now = time.monotonic()
                if b"show neighbor" in line:
                    state = [{"peer": {"address": PEER}, "state": "up"}]
                    file.write(json.dumps(state).encode() + b"\n")
                file.write(b"done\n")
                file.flush()
                self._note(line.decode(), now)

    def _note(self, line: str, now: float) -> None:
        _, found, prefixes = line.partition(" nlri ")
        if not found:
            return
        with self.changed:
            for prefix in prefixes.split():
                (self.announced.discard if " withdraw " in line else self.announced.add)(prefix)
                self.last[prefix] = now
            self.changed.notify_all()

    def wait(self, condition: Any, seconds: float = 120) -> None:
        with self.changed:
            if not self.changed.wait_for(condition, seconds):
                raise SystemExit(f"waited {seconds:g} s in vain; {len(self.announced)} prefixes announced")


def cpu(pid: int) -> tuple[float, float]:
    """CPU seconds of a process, and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own, children = (sum(map(int, fields[first : first + 2])) / HERTZ for first in (11, 13))
    return own, children


def scheduled(pid: int) -> float:
    """CPU seconds of a process by the scheduler's count, which knows of less than a tick: CPUCLOCK_SCHED of
    linux/posix-timers.h."""
    return time.clock_gettime(~pid << 3 | 2)


def memory(pid: int, key: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


@contextmanager
def process(argv: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        running = subprocess.Popen(argv, stdout=file, stderr=file, cwd=ROOT)
    try:
        yield running
    finally:
        running.terminate()
        running.wait(10)


def put(url: str, document: dict[str, Any]) -> None:
    metadata = document["metadata"]
    path = f"/apis/discovery.k8s.io/v1/namespaces/{metadata['namespace']}/endpointslices/{metadata['name']}"
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url + path, json.dumps(document).encode(), headers, method="PUT")  # noqa: S310
    urllib.request.urlopen(request, timeout=10).read()  # noqa: S310


def measure(services: int, nodes: int, changes: int, idle: float) -> Row:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="l3net-bench-")))
        run = directory / "run"
        run.mkdir(mode=0o700)
        me = [sys.executable, str(Path(__file__).resolve())]
        stack.enter_context(
            process(
                [*me, "--serve", str(services), "--nodes", str(nodes), "--directory", str(directory)],
                directory / "api.log",
            )
        )
        config = directory / "kubeconfig"
        while not config.exists():
            time.sleep(0.05)
        url = json.loads(config.read_text())["clusters"][0]["cluster"]["server"]
        speaker = Speaker(run / "speaker.sock")
        argv = [sys.executable, "-m", "l3net.cli.main", "agent", "--kubeconfig", str(config)]
        argv += ["--node-name", "n1", "--run-dir", str(run), "--state-dir", str(directory / "state")]
        began = time.monotonic()
        agent = stack.enter_context(process(argv, directory / "agent.log"))
        try:
            speaker.wait(lambda: len(speaker.announced) == services + 1)
        except SystemExit:
            print((directory / "agent.log").read_text()[-3000:], file=sys.stderr)
            raise
        wall = time.monotonic() - began
        own, nft = cpu(agent.pid)
        time.sleep(1)
        rss, peak = memory(agent.pid, "VmRSS"), memory(agent.pid, "VmHWM")
        latencies, spent = change(speaker, url, services, changes, agent.pid)
        time.sleep(SETTLED)
        before = scheduled(agent.pid) + cpu(agent.pid)[1]
        time.sleep(idle)
        share = (scheduled(agent.pid) + cpu(agent.pid)[1] - before) / idle * 100
    ordered = sorted(latencies)
    return Row(
        services=services,
        sync_cpu=round(own, 2),
        sync_nft_cpu=round(nft, 2),
        sync_wall=round(wall, 2),
        rss=round(rss, 1),
        peak=round(peak, 1),
        change_p50=round(ordered[len(ordered) // 2] * 1000, 1),
        change_p99=round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 1),
        change_max=round(ordered[-1] * 1000, 1),
        change_cpu=round(spent / len(ordered) * 1000, 2),
        idle_percent=round(share, 3),
    )


def change(speaker: Speaker, url: str, services: int, changes: int, pid: int) -> tuple[list[float], float]:
    """Endpoints of one service go and come; the time of each until the line arrives, and the agent's CPU."""
    latencies = []
    before = sum(cpu(pid))
    for turn in range(changes):
        number = turn // 2 * 37 % services
        prefix = f"{ip_address('10.96.0.0') + number + 1}/32"
        sent = time.monotonic()
        put(url, endpoints(number, ready=bool(turn % 2)))
        speaker.wait(lambda prefix=prefix, sent=sent: speaker.last.get(prefix, 0) >= sent, 30)
        latencies.append(speaker.last[prefix] - sent)
        time.sleep(0.03)  # so that each is a change by itself
    return latencies, sum(cpu(pid)) - before


def own_network() -> None:
    """This process and its children in a network namespace that ends with them."""
    if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        raise SystemExit("needs root")
    for command in (
        "link set lo up",
        "link add up0 type veth peer name down0",
        "link set up0 up",
        "link set down0 up",
        "addr add 10.9.0.1/24 dev up0",
    ):
        subprocess.run(["ip", *command.split()], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=0, help="others than this one, all watched")
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds, best a multiple of 30")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve, options.nodes, options.directory)
        return
    own_network()
    rows = [
        measure(number, options.nodes, options.changes, options.idle) for number in (100, options.services)
    ]
    if options.output == "json":
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for name in asdict(rows[0]):
        print(f"{name:14}" + "".join(f"{getattr(row, name):>12}" for row in rows))


if __name__ == "__main__":
    main()
