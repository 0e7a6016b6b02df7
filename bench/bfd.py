"""BFD figures: how fast a silent peer is given up, false flaps under load, memory and CPU.

Run as root: `python -m bench.bfd [--runs 20] [--soak MINUTES] [-o table|json]`. Everything happens in
network namespaces made for the run and removed after it. Detection is the time from SIGSTOP of the far side's
daemons, BFD, BGP and all, to the kernel's notice that the route it carried is gone (`ip -ts monitor route`),
so that BFD, agent and netlink are all in it. The soak holds sessions of both families, 3 x 50 ms and
3 x 100 ms, between two of our processes while every core is kept busy, and counts each session that leaves
Up; its control is the same process without its privilege for real-time priority, against spinners of a
real-time priority below BFD's, all on one core.

Both measure, by a probe of higher priority on each core, the moments in which the machine itself ran nothing:
no program can keep its time in those.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / room) for room in ("agent", "bfd")]

from bfd_rig import ADDRESSES, BfdRig  # noqa: E402 - of the tests, which are no package

from l3net.bfd.control import SessionState, WantedSession, decode_event, encode_wanted  # noqa: E402
from l3net.lab.host import Host  # noqa: E402

PYTHON = [sys.executable, "-m", "l3net.cli.main"]
SPIN = [sys.executable, "-ISE", "-c", "while True: pass"]
#: At a real-time priority below BFD's, which runs before it; no process without one runs beside it.
SPIN_FIRST = [
    sys.executable,
    "-ISE",
    "-c",
    "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))\nwhile True: pass",
]
#: A core that ran nothing for so long, in milliseconds, counts as a stall of the machine.
STALL = 40
HARSH_MINUTES = 0.25
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Row:
    what: str
    figure: str
    note: str = ""


def processes_in(host: Host, *words: str) -> list[int]:
    """The PIDs, as the machine numbers them, of a host's processes with any of the words in their command."""
    found = []
    space = Path(f"/proc/{host.pid}/ns/pid_for_children").readlink()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "ns/pid").readlink() == space:
                command = (entry / "cmdline").read_bytes().decode()
                if any(word in command for word in words):
                    found.append(int(entry.name))
        except OSError:
            continue
    if not found:
        raise SystemExit(f"none of {words} in {host.name}")
    return found


def removal_times(host: Host, prefix: str) -> list[float]:
    """When the kernel said that a route went, by the wall clock."""
    times, stamp = [], 0.0
    for line in host.log("monitor").read_text().splitlines():
        if line.startswith("["):
            stamp = datetime.fromisoformat(line[1:].partition("]")[0]).timestamp()
        if "Deleted " in line and prefix in line:
            times.append(stamp)
    return times


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("waited in vain")
        time.sleep(0.05)


@dataclass(frozen=True)
class Detection:
    """Milliseconds from the far side's silence to the route's end, and the longest stall of a core in it."""

    took: float
    stall: float


def detection(rig: BfdRig, watcher: Host, stopped: list[int], prefix: str) -> Detection:
    until(lambda: "192.168.7.0/24" in rig.learned() and len(rig.tor_routes()) == 2)
    rig.watched(*ADDRESSES)
    watcher.spawn("monitor", ["stdbuf", "-oL", "ip", "-ts", "monitor", "route"])
    time.sleep(0.5)
    before = len(removal_times(watcher, prefix))
    began = time.time()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: len(removal_times(watcher, prefix)) > before, 20)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        watcher.kill("monitor")
    ended = removal_times(watcher, prefix)[before]
    meanwhile = [each.length for each in stalls(rig.node) if began - 0.3 < each.ended and each.began < ended]
    return Detection((ended - began) * 1000, max(meanwhile, default=0.0))


def shown(values: Iterable[Detection]) -> str:
    every = list(values)
    calm = [each for each in every if not each.stall]

    def figures(some: list[Detection]) -> str:
        ordered = sorted(each.took for each in some)
        if not ordered:
            return "none"
        return f"p50 {statistics.median(ordered):.0f} ms, worst {ordered[-1]:.0f} ms of {len(ordered)}"

    longest = max((each.stall for each in every), default=0.0)
    return f"{figures(every)}; without a stall of the machine: {figures(calm)} (longest {longest:.0f} ms)"


def measure_detection(runs: int) -> list[Row]:
    ours, theirs = [], []
    for _ in range(runs):  # in hosts of their own, since a session that flaps is held down
        rig = BfdRig()
        rig.up()
        try:
            rig.start()
            start_probes(rig.node)
            far = processes_in(rig.tor, "bfdd", "bgpd", "zebra")
            ours.append(detection(rig, rig.node, far, "192.168.7.0/24"))
            far = processes_in(rig.node, "l3net.bfdd.daemon", "l3net.cli.main", "exabgp")
            theirs.append(detection(rig, rig.tor, far, "10.244.1.0/24"))
        finally:
            rig.down()
    return [
        Row("FRR silent, 3 x 100 ms: route gone from the node's kernel", shown(ours)),
        Row("node silent, 3 x 100 ms: route gone from FRR's kernel", shown(theirs)),
    ]


class Watcher:
    """Speaks to a BFD process as the agent does, and counts."""

    def __init__(self, host: Host, wanted: list[WantedSession]) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        path = f"/proc/{host.pid}/root/run/l3net/bfd.sock"
        until(lambda: Path(path).exists())
        time.sleep(0.2)
        self._socket.connect(path)
        self._socket.sendall(encode_wanted(wanted))
        self._socket.settimeout(1.0)
        self._rest = b""
        self.states: dict[str, SessionState] = {}

    def look(self) -> None:
        try:
            *lines, self._rest = (self._rest + self._socket.recv(1 << 16)).split(b"\n")
        except TimeoutError:
            return
        for line in lines:
            event = decode_event(line)
            if isinstance(event, SessionState):
                self.states[str(event.peer)] = event

    @property
    def up(self) -> bool:
        return len(self.states) == 2 and all(state.state == "Up" for state in self.states.values())

    @property
    def flaps(self) -> int:
        return sum(state.flaps for state in self.states.values())


PROBE = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
last = time.monotonic()
while True:
    time.sleep(0.005)
    now = time.monotonic()
    if now - last > float(sys.argv[2]) / 1000:
        print(f"{time.time():.3f} core {sys.argv[1]} {(now - last) * 1000:.0f} ms", flush=True)
    last = now
"""


@dataclass(frozen=True)
class Stall:
    """A core that ran not even the probe, for `length` milliseconds until `ended`, by the wall clock."""

    ended: float
    core: str
    length: float

    @property
    def began(self) -> float:
        return self.ended - self.length / 1000


def start_probes(host: Host) -> None:
    for core in range(os.cpu_count() or 1):
        host.spawn(f"probe{core}", [sys.executable, "-ISE", "-c", PROBE, str(core), str(STALL)])


def stalls(host: Host) -> list[Stall]:
    """As the probes have told so far."""
    found = []
    for core in range(os.cpu_count() or 1):
        for line in host.log(f"probe{core}").read_text().splitlines():
            ended, _, name, length, _ = line.split()
            found.append(Stall(float(ended), name, float(length)))
    return found


def stolen() -> float:
    """Seconds for which the hypervisor ran something else, of all cores."""
    return int(Path("/proc/stat").read_text().split()[8]) / TICKS


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@dataclass(frozen=True)
class Soaked:
    """`flaps`: sessions that left Up, at each end; `unexplained`: of those, without a stall of the machine in
    the second before. CPU in percent and RSS in MiB are of one of the two processes."""

    flaps: int
    unexplained: int
    stalls: int
    share: float
    resident: float


def soak(minutes: float, *, real_time: bool, harsh: bool = False) -> Soaked:
    """Every core is kept busy, or with `harsh` the one core that both processes are bound to."""
    rig = BfdRig()
    rig.up()
    try:
        limits = [] if real_time else ["setpriv", "--bounding-set", "-sys_nice", "--inh-caps", "-all", "--"]
        last_core = str((os.cpu_count() or 1) - 1)
        bound = ["taskset", "-c", last_core] if harsh else []
        ends = []
        for host, mine, other in ((rig.node, 1, 2), (rig.tor, 2, 1)):
            host.spawn("bfd", [*bound, *limits, *PYTHON, "bfd"])
            ends.append(
                Watcher(
                    host,
                    [
                        WantedSession(
                            ip_address(f"10.90.0.{other}"), ip_address(f"10.90.0.{mine}"), min_interval=50
                        ),
                        WantedSession(
                            ip_address(f"fd90::{other}"), ip_address(f"fd90::{mine}"), min_interval=100
                        ),
                    ],
                )
            )
        deadline = time.monotonic() + 30
        while not all(end.up for end in ends):
            for end in ends:
                end.look()
            if time.monotonic() > deadline:
                raise SystemExit("the sessions do not come up")
        if harsh:
            rig.node.spawn("spin", [*bound, *SPIN_FIRST])
        else:
            for number in range(os.cpu_count() or 1):
                rig.node.spawn(f"spin{number}", SPIN)
        start_probes(rig.node)
        stolen_before = stolen()
        pid = processes_in(rig.node, "l3net.bfdd.daemon")[0]
        used, began = cpu_seconds(pid), time.monotonic()
        while time.monotonic() - began < 60 * minutes:
            for end in ends:
                end.look()
        seen = stalls(rig.node)
        unexplained = 0
        for host in (
            rig.node,
            rig.tor,
        ):  # each flap, and each stall that a process of higher priority saw too
            for line in host.log("bfd").read_text().splitlines():
                if ": Down" in line:
                    at = datetime.fromisoformat(line[:19]).timestamp()  # the second it was in
                    unexplained += not any(at - 1 < each.ended and each.began < at + 1 for each in seen)
                    print(f"  {host.name}: {line}", file=sys.stderr)
        for each in seen:
            when = datetime.fromtimestamp(each.ended).strftime("%H:%M:%S.%f")[:-3]
            print(f"  stall: {when} core {each.core} {each.length:.0f} ms", file=sys.stderr)
        print(f"  stolen by the hypervisor: {stolen() - stolen_before:.1f} s", file=sys.stderr)
        share = 100 * (cpu_seconds(pid) - used) / (time.monotonic() - began)
        status = Path(f"/proc/{pid}/status").read_text()
        resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
        return Soaked(sum(end.flaps for end in ends), unexplained, len(seen), share, resident)
    finally:
        rig.down()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="runs of each detection (default 20)")
    parser.add_argument("--soak", type=float, default=10, metavar="MINUTES", help="0 leaves it out")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args()
    # Ended from outside it takes its spinners along: they would have a core to themselves for good.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = measure_detection(options.runs) if options.runs else []
    if options.soak:
        soaked = soak(options.soak, real_time=True)
        note = f"{soaked.unexplained} without a stall of the machine, of which there were {soaked.stalls}"
        rows.append(Row(f"false flaps in {options.soak:g} min, all cores busy", str(soaked.flaps), note))
        rows.append(Row("CPU of one process, sessions 3 x 50 ms and 3 x 100 ms", f"{soaked.share:.2f} %"))
        rows.append(Row("RSS of the process", f"{soaked.resident:.1f} MiB"))
        for what, real_time in (("with", True), ("control: without", False)):
            soaked = soak(min(options.soak, HARSH_MINUTES), real_time=real_time, harsh=True)
            note = "beside a spinner at SCHED_FIFO 5 on their core"
            rows.append(
                Row(f"flaps in {60 * HARSH_MINUTES:g} s {what} real-time priority", str(soaked.flaps), note)
            )
    if options.output == "json":
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for row in rows:
        print(f"{row.what:<62} {row.figure}{f'  ({row.note})' if row.note else ''}")


if __name__ == "__main__":
    main()
