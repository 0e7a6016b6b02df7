"""ADD and DEL side by side: l3net through its agent, l3net without one, and the reference plugins bridge +
host-local.

Run as root: `python bench/cni.py [--pods 100] [--rounds 3] [--only agent|alone] [-o table|json]`. Without an
agent there is a helper, or there is none ("a process a call"); what has to be compared alternates, round by
round. The first call finds a host with no bridge, no store and no helper. Everything happens in network
namespaces made for the run and removed after it. Each figure is the time from executing the plugin to
its exit, as a runtime sees it; the floor is the same kernel work in a loop, with no plugin, lease or socket.
"""

from __future__ import annotations

import argparse
import gc
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
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from figures import percentile

from l3net.attach.reaper import DOOMED_GROUP
from l3net.attach.server import CniServer
from l3net.cni.host_end import host_routes, interface_address
from l3net.cni.ifname import host_ifname
from l3net.cni.parts import BridgePort, Sandbox
from l3net.cni.setup import NodeNetwork
from l3net.ipam.lease import LeasedAddress, LeaseKey
from l3net.ipam.ranges import first_address
from l3net.model import BridgePlan
from l3net.shell.files.cniinstall import STANDALONE, standalone_script
from l3net.shell.kernel import links
from l3net.shell.kernel.bridge import KernelBridge
from l3net.shell.kernel.namespaces import open_own, setns
from l3net.shell.kernel.netlink import Netlink
from l3net.shell.kernel.sandbox import Sandboxes

BLOCKS = tuple(map(ip_network, ("10.244.0.0/18", "fd00:10:244:1::/114")))
REFERENCE = Path("/usr/lib/cni")
#: Pods that a node begins at once after it was empty.
MANY = 80


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
    #: Of ADD, DEL and the rate: how many times the reference's of the same line of calls.
    ratios: tuple[float, float, float] | None = None


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


class Times:
    """What one plugin took, over all rounds."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.adds: list[float] = []
        self.deletes: list[float] = []
        self.rates: list[float] = []

    def round(self, runtime: Runtime, pods: list[str], at_once: int) -> None:
        marks = [(f"b{uuid.uuid4().hex}", pod) for pod in pods]
        with ThreadPoolExecutor(at_once) as pool:
            started = time.perf_counter()
            self.adds += pool.map(lambda mark: runtime.call("ADD", *mark), marks)
            self.rates.append(len(pods) / (time.perf_counter() - started))
            self.deletes += pool.map(lambda mark: runtime.call("DEL", *mark), marks)
        time.sleep(0.3)  # the last batch of links

    def row(self, reference: Times | None = None) -> Row:
        found = Row(
            self.what,
            percentile(self.adds, 0.5),
            percentile(self.adds, 0.99),
            percentile(self.deletes, 0.5),
            percentile(self.deletes, 0.99),
            statistics.median(self.rates),
        )
        if reference is not None:
            theirs = reference.row()
            found.ratios = (
                found.add_p50 / theirs.add_p50,
                found.delete_p50 / theirs.delete_p50,
                found.rate / theirs.rate,
            )
        return found


def measure(what: str, runtime: Runtime, pods: list[str], at_once: int, rounds: int) -> Row:
    times = Times(what)
    for _ in range(rounds):
        times.round(runtime, pods, at_once)
    return times.row()


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
    gc.set_threshold(100_000, 20, 100)  # as the agent does
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


class Machine:
    """Where a run takes place: pods, and hosts, of which this process is in one. All goes with `undo`."""

    def __init__(self, undo: ExitStack, pods: int) -> None:
        self._undo = undo
        self._hosts = 0
        self.base = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="l3bench")))
        sh("sh", str(Path(__file__).parents[1] / "plugin" / "build.sh"), str(self.base / "bin"))
        standalone = self.base / "bin" / STANDALONE
        standalone.write_text(standalone_script())
        standalone.chmod(0o755)
        self._tag = f"l3b{uuid.uuid4().hex[:6]}"
        home = open_own()
        undo.callback(lambda: setns(home))
        self.pods = [self._namespace(f"{self._tag}p{number}") for number in range(pods)]
        self.enter_new_host()

    def _namespace(self, name: str) -> str:
        sh("ip", "netns", "add", name)
        self._undo.callback(sh, "ip", "netns", "del", name)
        return name

    def enter_new_host(self) -> None:
        self._hosts += 1
        with Path(f"/run/netns/{self._namespace(f'{self._tag}h{self._hosts}')}").open() as entry:
            setns(entry.fileno())
        sh("ip", "link", "set", "lo", "up")

    def alone(self, data: str, idle: int, *, masquerade: bool = False) -> Runtime:
        """l3net without an agent, with the reference's configuration; `idle`: of its helper, 0 for none."""
        conf = reference_conf(self.base / data, masquerade)
        conf |= {
            "name": f"l3net{int(masquerade)}",
            "type": "l3net-cni",
            "bridge": f"l3alone{int(masquerade)}",
        }
        conf["ipam"] |= {"type": "l3net-ipam"}
        environment = {
            "PATH": os.environ["PATH"],
            "L3NET_CNI_HELPERS": str(self.base / "helpers"),
            "L3NET_CNI_HELPER_IDLE": str(idle),
        }
        return Runtime(self.base / "bin" / "l3net-cni", conf, environment)

    def reference(self, data: str, *, masquerade: bool = False) -> Runtime:
        conf = reference_conf(self.base / data, masquerade)
        return Runtime(REFERENCE / "bridge", conf, {"PATH": os.environ["PATH"]})

    def end_helpers(self) -> None:
        for path in (self.base / "helpers").glob("*.pid"):
            for _ in range(1000):  # it says which process it is soon after the call that leaves it
                if path.read_text():
                    break
                time.sleep(0.001)
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(path.read_text()), signal.SIGKILL)
            path.unlink()


def first_calls(machine: Machine, times: int) -> list[Row]:
    """ADD and DEL on a new host each; DEL is the first call again, with nothing left warm."""
    ours, theirs = Times("first call, without an agent"), Times("first call, reference")
    cold = Times("  leaving no helper")
    for number in range(times):
        for found, runtime in (
            (ours, machine.alone(f"first{number}", 60)),
            (cold, machine.alone(f"first-cold{number}", 0)),
            (theirs, machine.reference(f"first{number}")),
        ):
            machine.enter_new_host()
            mark = f"b{uuid.uuid4().hex}", machine.pods[0]
            found.adds.append(runtime.call("ADD", *mark))
            found.rates.append(1000 / found.adds[-1])
            machine.end_helpers()
            found.deletes.append(runtime.call("DEL", *mark))
            machine.end_helpers()
            time.sleep(0.1)
    return [ours.row(theirs), cold.row(theirs), theirs.row()]


def alone(pods: int, rounds: int) -> list[Row]:
    """Without an agent, beside the reference."""
    rows: list[Row] = []
    with ExitStack() as undo:
        machine = Machine(undo, pods)
        undo.callback(machine.end_helpers)
        rows += first_calls(machine, 5 * rounds)
        machine.enter_new_host()
        for masquerade in (False, True):
            also = " with ipMasq" if masquerade else ""
            for at_once in (1, 8):
                warm = Times(f"without an agent{also}, {at_once} at once")
                cold = Times(f"  a process a call{also}, {at_once} at once")
                theirs = Times(f"reference{also}, {at_once} at once")
                for _ in range(rounds):
                    warm.round(machine.alone("data", 60, masquerade=masquerade), machine.pods, at_once)
                    cold.round(machine.alone("data", 0, masquerade=masquerade), machine.pods[:16], at_once)
                    theirs.round(machine.reference("data", masquerade=masquerade), machine.pods, at_once)
                rows += [warm.row(theirs), cold.row(theirs), theirs.row()]
    return rows


def run(pods_wanted: int, rounds: int) -> list[Row]:
    """With the agent."""
    rows: list[Row] = []
    with ExitStack() as undo:
        machine = Machine(undo, pods_wanted)
        base, pods = machine.base, machine.pods
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
        for at_once in (1, 8, MANY):
            before = cpu_of(agent.pid)
            row = measure(f"l3net, {at_once} at once", ours, pods, at_once, rounds)
            row.agent_cpu = (cpu_of(agent.pid) - before) * 1000 / (len(pods) * rounds)
            rows.append(row)
        if (REFERENCE / "bridge").exists():
            theirs = machine.reference("data")
            rows.append(measure(f"reference, {MANY} at once", theirs, pods, MANY, rounds))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["agent", "alone"], help="With the agent, or without one.")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    rows = run(options.pods, options.rounds) if options.only != "alone" else []
    if options.only != "agent" and (REFERENCE / "bridge").exists():
        rows += alone(options.pods, options.rounds)
    if options.output == "json":
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    print(
        f"{'':42} {'ADD p50':>8} {'p99':>8} {'DEL p50':>8} {'p99':>8} {'pods/s':>7} {'agent CPU':>10}"
        "  times the reference's ADD, DEL, rate"
    )
    for row in rows:
        ratios = "  ".join(f"{each:.2f}" for each in row.ratios) if row.ratios is not None else ""
        cpu = f"{row.agent_cpu:7.2f} ms" if row.agent_cpu is not None else ""
        print(
            f"{row.what:42} {row.add_p50:8.2f} {row.add_p99:8.2f} {row.delete_p50:8.2f} "
            f"{row.delete_p99:8.2f} {row.rate:7.0f} {cpu:>10}  {ratios}"
        )


if __name__ == "__main__":
    main()
