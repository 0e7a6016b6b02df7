"""ADD and DEL side by side: l3net through its agent, and the reference plugins bridge + host-local.

Run as root: `python bench/cni.py [--pods 100] [--rounds 3] [-o table|json]`. Everything happens in network
namespaces made for the run and removed after it. Each figure is the time from executing the plugin to
its exit, as a runtime sees it; the floor is the same kernel work in a loop, with no plugin, lease or socket.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from l3net.attach.reaper import DOOMED_GROUP
from l3net.attach.server import CniServer
from l3net.cni.host_end import host_ifname, host_routes, interface_address
from l3net.cni.parts import BridgePort, Sandbox
from l3net.cni.setup import NodeNetwork
from l3net.ipam.lease import LeasedAddress, LeaseKey
from l3net.ipam.ranges import first_address
from l3net.model import BridgePlan
from l3net.shell.kernel import links
from l3net.shell.kernel.bridge import KernelBridge
from l3net.shell.kernel.namespaces import open_own, setns
from l3net.shell.kernel.netlink import Netlink
from l3net.shell.kernel.sandbox import Sandboxes

BLOCKS = tuple(map(ip_network, ("10.244.0.0/18", "fd00:10:244:1::/114")))
REFERENCE = Path("/usr/lib/cni")


@dataclass
class Row:
    """One measurement: times in milliseconds, rate in pods a second."""

    what: str
    add_p50: float
    add_p99: float
    delete_p50: float
    delete_p99: float
    rate: float
    agent_cpu: float | None = None  # milliseconds of CPU a pod (ADD and DEL together), the kernel's included


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def sh(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


class Runtime:
    """Executes a plugin as a runtime does, in this process's namespace, without `subprocess`'s weight."""

    def __init__(self, plugin: Path, conf: dict[str, Any], environment: dict[str, str]) -> None:
        self._plugin = str(plugin)
        self._conf = json.dumps(conf).encode()
        self._environment = environment

    def call(self, command: str, container: str, netns: str) -> float:
        read, write = os.pipe()
        os.write(write, self._conf)
        os.close(write)
        environment = {
            **self._environment,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": f"/run/netns/{netns}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(REFERENCE),
        }
        started = time.perf_counter()
        actions = [
            (os.POSIX_SPAWN_DUP2, read, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
        ]
        pid = os.posix_spawn(self._plugin, [self._plugin], environment, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        elapsed = (time.perf_counter() - started) * 1000
        os.close(read)
        if status:
            raise SystemExit(f"{self._plugin} {command} {container}: wait status {status}")
        return elapsed


def measure(what: str, runtime: Runtime, pods: list[str], at_once: int, rounds: int) -> Row:
    adds: list[float] = []
    deletes: list[float] = []
    rates = []
    for _ in range(rounds):
        marks = [(f"b{uuid.uuid4().hex}", pod) for pod in pods]
        with ThreadPoolExecutor(at_once) as pool:
            started = time.perf_counter()
            adds += pool.map(lambda mark: runtime.call("ADD", *mark), marks)
            rates.append(len(pods) / (time.perf_counter() - started))
            deletes += pool.map(lambda mark: runtime.call("DEL", *mark), marks)
        time.sleep(0.3)  # the last batch of links
    return Row(
        what,
        percentile(adds, 0.5),
        percentile(adds, 0.99),
        percentile(deletes, 0.5),
        percentile(deletes, 0.99),
        statistics.median(rates),
    )


def floor(pods: list[str], rounds: int) -> Row:
    """The kernel's part alone: the pair, the addresses, the routes; deleted in groups of thirty."""
    sandboxes = Sandboxes(Netlink(), open_own())
    adds: list[float] = []
    deletes: list[float] = []
    rates = []
    cpu = time.process_time()
    for _ in range(rounds):
        started = time.perf_counter()
        names = []
        for number, pod in enumerate(pods):
            leased = [
                LeasedAddress(block[number + 2], block.max_prefixlen, first_address(block))
                for block in BLOCKS
            ]
            key = LeaseKey("floor", pod, "eth0")
            plan = Sandbox(
                key,
                host_ifname(key),
                "",
                1500,
                tuple(map(interface_address, leased)),
                host_routes(leased),
                BridgePort("l3net0"),
            )
            descriptor = os.open(f"/run/netns/{pod}", os.O_RDONLY)
            before = time.perf_counter()
            sandboxes.wire(plan, descriptor)
            adds.append((time.perf_counter() - before) * 1000)
            os.close(descriptor)
            names.append(plan.host_ifname)
        rates.append(len(pods) / (time.perf_counter() - started))
        for start in range(0, len(names), 30):
            batch = names[start : start + 30]
            before = time.perf_counter()
            doom = [links.set_link(0, links.u32(links.IFLA_GROUP, DOOMED_GROUP), name=name) for name in batch]
            sandboxes.host.transact([*doom, links.delete_group(DOOMED_GROUP)])
            each = (time.perf_counter() - before) * 1000 / len(batch)
            deletes += [each] * len(batch)
    return Row(
        "kernel alone (floor)",
        percentile(adds, 0.5),
        percentile(adds, 0.99),
        percentile(deletes, 0.5),
        percentile(deletes, 0.99),
        statistics.median(rates),
        (time.process_time() - cpu) * 1000 / (len(pods) * rounds),
    )


def serve(base: Path) -> None:
    """The agent's CNI side, as a process of its own."""
    server = CniServer(base / "run" / "cni.sock", base / "state")
    server.start()
    gateways = frozenset((first_address(block), block.prefixlen) for block in BLOCKS)
    KernelBridge().apply(BridgePlan("l3net0", "02:6c:33:00:00:01", 1500, gateways))
    server.update(NodeNetwork(BLOCKS, 1500))
    print("ready", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while True:
            signal.pause()
    finally:
        server.stop()


def cpu_of(pid: int) -> float:
    """CPU seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reference_conf(base: Path, masquerade: bool) -> dict[str, Any]:
    number = int(masquerade)
    return {
        "cniVersion": "1.0.0",
        "name": f"reference{number}",
        "type": "bridge",
        "bridge": f"cni{number}",
        "isGateway": True,
        "ipMasq": masquerade,
        "ipam": {
            "type": "host-local",
            "dataDir": str(base / "host-local"),
            "ranges": [[{"subnet": f"10.{90 + number}.0.0/16"}], [{"subnet": f"fd00:{90 + number}::/112"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    }


def run(pods_wanted: int, rounds: int) -> list[Row]:
    rows: list[Row] = []
    with ExitStack() as undo:
        base = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="l3bench")))
        sh("sh", str(Path(__file__).parents[1] / "plugin" / "build.sh"), str(base / "bin"))
        tag = f"l3b{uuid.uuid4().hex[:6]}"

        def namespace(name: str) -> str:
            sh("ip", "netns", "add", name)
            undo.callback(sh, "ip", "netns", "del", name)
            return name

        host = namespace(tag)
        pods = [namespace(f"{tag}p{number}") for number in range(pods_wanted)]
        with Path(f"/run/netns/{host}").open() as entry:
            home = open_own()
            undo.callback(lambda: setns(home))
            setns(entry.fileno())
        sh("ip", "link", "set", "lo", "up")
        agent = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(base)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        undo.callback(agent.wait)
        undo.callback(agent.terminate)
        assert agent.stdout is not None
        agent.stdout.readline()
        rows.append(floor(pods, rounds))
        conf: dict[str, Any] = {"cniVersion": "1.0.0", "name": "l3net", "type": "l3net-cni"}
        environment = {"PATH": os.environ["PATH"], "L3NET_CNI_SOCKET": str(base / "run" / "cni.sock")}
        ours = Runtime(base / "bin" / "l3net-cni", conf, environment)
        for at_once in (1, 8):
            before = cpu_of(agent.pid)
            row = measure(f"l3net, {at_once} at once", ours, pods, at_once, rounds)
            row.agent_cpu = (cpu_of(agent.pid) - before) * 1000 / (len(pods) * rounds)
            rows.append(row)
        if (REFERENCE / "bridge").exists():
            for masquerade in (False, True):
                theirs = Runtime(REFERENCE / "bridge", reference_conf(base, masquerade), environment)
                for at_once in (1, 8):
                    what = f"reference{' with ipMasq' if masquerade else ''}, {at_once} at once"
                    rows.append(measure(what, theirs, pods, at_once, rounds))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    rows = run(options.pods, options.rounds)
    if options.output == "json":
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    print(f"{'':32} {'ADD p50':>8} {'p99':>8} {'DEL p50':>8} {'p99':>8} {'pods/s':>7} {'agent CPU':>10}")
    for row in rows:
        cpu = f"{row.agent_cpu:7.2f} ms" if row.agent_cpu is not None else ""
        print(
            f"{row.what:32} {row.add_p50:8.2f} {row.add_p99:8.2f} {row.delete_p50:8.2f} "
            f"{row.delete_p99:8.2f} {row.rate:7.0f} {cpu:>10}"
        )


if __name__ == "__main__":
    main()
