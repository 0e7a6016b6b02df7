"""What an agent costs by itself: its start, its memory and threads, its idle CPU, and the commands' starts.

Run as root: `python bench/agent.py [--rounds 3] [--idle 60] [--only start,idle,commands] [-o json]`. The real
agent, ExaBGP and FRR, two established sessions, in network namespaces made for the run; once with a directory
of manifests, once with the tests' API server. `--beside PYTHON` measures the l3net of another interpreter
(another release's .venv/bin/python) in turns with this one, which alone makes figures of a busy machine worth
something. CPU counts the children that have ended (nft, ExaBGP's check of its configuration).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / room) for room in ("agent", "fakes"))]

from node_rig import CONFIGURATION, NODE, TOR4, TOR6, Rig, brought_up  # noqa: E402

HERTZ = os.sysconf("SC_CLK_TCK")
#: Seconds after which all that a start brings along has been done.
SETTLED = 5.0
DECLARED = (NODE, CONFIGURATION, TOR4, TOR6)
COMMANDS = (("--version",), ("--help",), ("status",), ("bgp", "--help"), ("validate", "--help"))


@dataclass
class Start:
    """Of the agent, medians: CPU seconds until the node is as declared, and `SETTLED` seconds later; wall
    seconds until then. Of the speaker: CPU seconds of its supervisor, and of ExaBGP with its relay. Memory in
    MiB (`RSS` with the files that others map too, `PSS` its share of these, `private` its alone)."""

    datastore: str
    who: str
    start_cpu: float
    children_cpu: float
    start_wall: float
    settled_cpu: float
    supervisor_cpu: float
    exabgp_cpu: float
    rss: float
    pss: float
    private: float
    peak: float
    threads: int


@dataclass
class Idle:
    """Percent of a core while nothing happens."""

    datastore: str
    who: str
    agent: float
    supervisor: float
    exabgp: float


@dataclass
class Command:
    """CPU seconds of one run, the median."""

    command: str
    who: str
    cpu: float


class Node(Rig):
    """`python`: whose l3net it runs."""

    def __init__(self, python: str, datastore: str) -> None:
        super().__init__()
        self.python, self.datastore = python, datastore

    def begin(self) -> None:
        """Router and declared state; nothing of l3net yet."""
        self.start_tor()
        if self.datastore == "cluster":
            self.node.spawn("api", [sys.executable, __file__, "--serve", str(self.directory)])
            self.until((self.directory / "kubeconfig").exists, "the API server")
        else:
            self.declare("all.yaml", *DECLARED)

    def start_speaker(self) -> None:
        self.node.spawn("speaker", [self.python, "-m", "l3net.cli.main", "speaker"])

    def start_agent(self, *options: str) -> None:
        where = (
            ["--kubeconfig", str(self.directory / "kubeconfig")]
            if self.datastore == "cluster"
            else ["--datastore", f"dir:{self.manifests}"]
        )
        argv = ["agent", *where, "--node-name", "node", *options]
        self.node.spawn("agent", [self.python, "-m", "l3net.cli.main", *argv])

    def _proc(self, pid: int) -> Path:
        return Path(f"/proc/{self.node.pid}/root/proc/{pid}")

    def pid(self, name: str) -> int:
        found = self.node.daemon_pid(name)
        assert found is not None
        return found

    def cpu(self, pid: int) -> tuple[float, float]:
        """CPU seconds of a process, and of its children that have ended."""
        fields = (self._proc(pid) / "stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / HERTZ, sum(map(int, fields[13:15])) / HERTZ

    def scheduled(self, pid: int) -> float:
        """CPU seconds of a process by the scheduler's count, which knows of less than a tick."""
        threads = (self._proc(pid) / "task").iterdir()
        return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9

    def exabgp_cpu(self) -> float:
        """Of ExaBGP and its relay."""
        exabgp = self.exabgp_pid()
        found = self.node.run(["pgrep", "-P", str(exabgp)], check=False).stdout.split()
        return sum(self.scheduled(int(pid)) for pid in (exabgp, *found) if int(pid))

    def memory(self, pid: int) -> tuple[float, float, float, float]:
        """RSS, PSS, private, peak, in MiB."""
        rows = dict(
            line.split(":") for line in (self._proc(pid) / "smaps_rollup").read_text().splitlines()[1:]
        )
        kib = {name: int(text.split()[0]) for name, text in rows.items()}
        status = dict(
            line.split(":", 1)
            for line in (self._proc(pid) / "status").read_text().splitlines()
            if ":" in line
        )
        private = kib["Private_Clean"] + kib["Private_Dirty"]
        return tuple(
            each / 1024 for each in (kib["Rss"], kib["Pss"], private, int(status["VmHWM"].split()[0]))
        )  # type: ignore[return-value]

    def threads(self, pid: int) -> int:
        return len(list((self._proc(pid) / "task").iterdir()))


def seldom(condition: Callable[[], object], what: str) -> None:
    """Wait; each look is CPU of the agent, of which little is to be counted."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.25)


@contextmanager
def started(python: str, datastore: str, who: str) -> Iterator[tuple[Node, Start]]:
    with brought_up(Node(python, datastore)) as node:
        node.begin()
        node.start_speaker()
        began = time.monotonic()
        node.start_agent()
        seldom(lambda: node.status().get("reconciled"), "the node to be as declared")
        wall = time.monotonic() - began
        pid = node.pid("agent")
        own, children = node.cpu(pid)
        peers = node.peers
        seldom(lambda: {row["state"] for row in peers().values()} == {"established"}, "the sessions")
        time.sleep(SETTLED)
        settled = sum(node.cpu(pid))
        start = Start(
            *(datastore, who, own, children, wall, settled),
            *(sum(node.cpu(node.pid("speaker"))), node.exabgp_cpu()),
            *node.memory(pid),
            node.threads(pid),
        )
        yield node, start


def idle(node: Node, start: Start, seconds: float) -> Idle:
    def now() -> tuple[float, float, float]:
        return (
            *(node.scheduled(node.pid(name)) + node.cpu(node.pid(name))[1] for name in ("agent", "speaker")),
            node.exabgp_cpu(),
        )

    time.sleep(SETTLED)
    before = now()
    time.sleep(seconds)
    shares = [round((after - then) / seconds * 100, 3) for then, after in zip(before, now(), strict=True)]
    return Idle(start.datastore, start.who, *shares)


def command(python: str, who: str, words: Sequence[str]) -> Command:
    process = subprocess.Popen(
        [python, "-m", "l3net.cli.main", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"},
    )
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    return Command(" ".join(words), who, used.ru_utime + used.ru_stime)


def medians(rows: Sequence[Any]) -> Any:
    """A row of the medians of their numbers."""
    kind, each = type(rows[0]), [asdict(row) for row in rows]
    return kind(
        **{
            name: value if isinstance(value, str) else round(statistics.median(row[name] for row in each), 3)
            for name, value in each[0].items()
        }
    )


def table(rows: Sequence[Any]) -> None:
    """Print rows of one kind."""
    cells = [list(asdict(rows[0])), *([str(value) for value in asdict(row).values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    print(flush=True)


def serve(directory: Path) -> None:
    """The API server's process."""
    from apiserver import FakeApiServer  # noqa: PLC0415 - only here

    api = FakeApiServer()
    api.put(*DECLARED)
    api.start()
    api.kubeconfig(directory / "kubeconfig.new")
    (directory / "kubeconfig.new").rename(directory / "kubeconfig")
    signal.pause()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=float, default=60, help="seconds")
    parser.add_argument("--only", default="start,idle,commands")
    parser.add_argument("--datastore", choices=["directory", "cluster"], action="append")
    parser.add_argument("--beside", metavar="PYTHON", help="an interpreter that has another l3net")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve)
        return
    only = options.only.split(",")
    who = {"this": sys.executable} | ({"beside": options.beside} if options.beside else {})
    rows: list[Any] = []
    if "commands" in only:
        times = [
            command(python, name, words)
            for _ in range(options.rounds * 3 + 1)
            for words in COMMANDS
            for name, python in who.items()
        ]
        rows += [
            medians([row for row in times if row.command == " ".join(words) and row.who == name])
            for words in COMMANDS
            for name in who
        ]
    for datastore in options.datastore or ("directory", "cluster"):
        starts: dict[str, list[Start]] = {name: [] for name in who}
        idles: dict[str, list[Idle]] = {name: [] for name in who}
        for _ in range(options.rounds if {"start", "idle"} & {*only} else 0):
            for name, python in who.items():
                with started(python, datastore, name) as (node, start):
                    starts[name].append(start)
                    if "idle" in only:
                        idles[name].append(idle(node, start, options.idle))
        rows += [medians(found) for found in (*starts.values(), *idles.values()) if found]
    if options.output == "json":
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for kind in (Command, Start, Idle):
        if found := [row for row in rows if isinstance(row, kind)]:
            table(found)


if __name__ == "__main__":
    main()
