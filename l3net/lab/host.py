"""A lab host: a process that is PID 1 of namespaces of its own, found again by a mark in its environment.

Killing that process kills everything inside, whatever became of the `l3net lab up` that made it; network
links, mounts and files in memory go with it. No file is needed to find a host: /proc says which processes
bear the mark.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from l3net.lab.errors import LabError
from l3net.lab.machine import Output
from l3net.naming import AGENT_SOCKET, RUN_DIR
from l3net.shell.sockets.agentsocket import ask

MARK = "L3NET_LAB"
HOST_MARK = "L3NET_LAB_HOST"

#: PATH of commands inside a host: the l3net that runs the lab, and where Debian keeps daemons. FRR's come
#: before /usr/sbin, where OpenBGPD has a `bgpd` too.
_PATH = (
    f"{Path(sys.executable).parent}:/usr/lib/frr:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

# PID 1 of a host. Its mounts are private; /run, /var/lib/l3net and /var/tmp are fresh, and the lab's own
# directory stays visible under its usual name. It says `ready`, then reaps whatever is orphaned until killed.
_BOOT = r"""
set -e
hostname "$1"
cd "$2/$1"  # gone if the lab is being removed: relative names from here on, so that nothing makes it anew
mkdir run
mount -t tmpfs -o mode=0755 l3net-lab run
mkdir -p "run$3" run/netns run/lock run/frr run/bird run/openbgpd /var/lib/l3net
mount --bind "$2" "run$3"
mount --rbind run /run
mount -t tmpfs -o mode=0700 l3net-lab /var/lib/l3net
mount -t tmpfs -o mode=1777 l3net-lab /var/tmp
mount -t sysfs sysfs /sys
if [ -d /etc/frr ]; then mount --bind . /etc/frr; fi
cd /
chown frr:frr /run/frr 2>/dev/null || true
ip link set lo up
echo ready
exec >/dev/null 2>&1 </dev/null
while :; do sleep 2147483647 & wait; done
"""


@dataclass(frozen=True, slots=True)
class Host:
    """A host that runs. `pid` is its holder as the machine sees it; `directory` keeps logs and files."""

    name: str
    pid: int
    directory: Path

    @property
    def python(self) -> Sequence[str]:
        return python()

    def inside(self, path: str) -> Path:
        """A path of the host's own file system, as the machine sees it."""
        return Path(f"/proc/{self.pid}/root{path}")

    def enter(self, pod: str | None = None) -> list[str]:
        """The start of a command line that runs inside the host, or in the network namespace of a pod."""
        net = "--net" if pod is None else f"--net=/proc/{self.pid}/root/run/netns/{pod}"
        return ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--pid", net, "--"]

    def run(
        self,
        argv: Sequence[str],
        *,
        text: str | None = None,
        pod: str | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float = 30,
        check: bool = True,
    ) -> Output:
        """Run a command to its end. Raises LabError if it takes too long or, with `check`, fails."""
        try:
            done = subprocess.run(
                [*self.enter(pod), *argv],
                input=text,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                cwd="/",
                env=self.environment(environment),
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name}: `{' '.join(argv)}` took more than {timeout:g} s") from None
        if check and done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip())[-600:]
            raise LabError(f"{self.name}: `{' '.join(argv)}` failed ({done.returncode}): {said}")
        return Output(done.returncode, done.stdout, done.stderr)

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        pod: str | None = None,
    ) -> None:
        """Start a daemon that outlives us; its log and its PID inside the host go to `directory`."""
        # The shell's exit leaves the daemon to PID 1 of the host; `exec` keeps the PID that is written. That
        # of an earlier daemon of this name must not be taken for this one's.
        script = 'rm -f "$1"; setsid sh -c \'echo $$ >"$0"; exec "$@"\' "$@" </dev/null >>"$0" 2>&1 &'
        self.run(
            ["sh", "-c", script, str(self.log(name)), str(self.pid_file(name)), *argv],
            pod=pod,
            environment=environment,
        )

    def kill(self, name: str, sign: int = signal.SIGTERM) -> None:
        """Signal a daemon started by `spawn`; one that is gone is fine."""
        pid = self.daemon_pid(name)
        if pid is not None:
            self.run(["kill", f"-{sign}", str(pid)], check=False)

    def daemon_pid(self, name: str) -> int | None:
        """The PID of a daemon, in the host's own numbering."""
        try:
            return int(self.pid_file(name).read_text())
        except (OSError, ValueError):
            return None

    def alive(self, name: str) -> bool:
        """Whether a daemon started by `spawn` still runs."""
        pid = self.daemon_pid(name)
        return pid is not None and Path(f"/proc/{self.pid}/root/proc/{pid}").exists()

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def pid_file(self, name: str) -> Path:
        return self.directory / f"{name}.pid"

    def read_log(self, name: str) -> str:
        """All that a daemon of this name has said; nothing if there was none."""
        try:
            return self.log(name).read_text(errors="replace")
        except OSError:
            return ""

    def status(self) -> dict[str, Any]:
        """What the agent says of itself, as `l3net status -o json` prints it. Raises NotRunningError."""
        answer = ask(self.inside(RUN_DIR) / AGENT_SOCKET, "status")
        return answer if isinstance(answer, dict) else {}

    def log_tail(self, name: str, lines: int = 12) -> str:
        """The end of a daemon's log, for an error message."""
        if not self.log(name).exists():
            return "(no log)"
        text = self.read_log(name)
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (an empty log)"

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What a program inside sees. Its home is the host's own: vtysh and others write histories there."""
        return {**_environment(), "HOME": str(self.directory), **(more or {})}


def _environment() -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("TERM", "LANG", "LC_ALL") if key in os.environ}
    return {**kept, "PATH": _PATH, "HOME": "/"}


def start_holder(lab: str, name: str, directory: Path) -> subprocess.Popen[bytes]:
    """Begin to start a host; `wait_ready` ends it. `directory` is the lab's."""
    (directory / name).mkdir(mode=0o755, exist_ok=True)
    inside = str(directory).removeprefix("/run")
    return subprocess.Popen(
        [
            "unshare",
            "--net",
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation=private",
            "--",
            "sh",
            "-c",
            _BOOT,
            "sh",
            name,
            str(directory),
            inside,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**_environment(), MARK: lab, HOST_MARK: name},
        start_new_session=True,
        cwd="/",
    )


def wait_ready(name: str, holder: subprocess.Popen[bytes], timeout: float = 20) -> None:
    """Wait until a holder has its namespaces. Raises LabError with what it said."""
    assert holder.stdout is not None and holder.stderr is not None  # noqa: S101
    deadline = time.monotonic() + timeout
    if not _readable(holder.stdout, deadline) or holder.stdout.readline() != b"ready\n":
        holder.kill()
        said = holder.stderr.read().decode(errors="replace").strip()
        raise LabError(f"{name}: its namespaces could not be made: {said or 'no answer'}")
    holder.stdout.close()
    holder.stderr.close()


def _readable(stream: IO[bytes], deadline: float) -> bool:
    return bool(select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0])


def find_holders(lab: str | None = None) -> dict[tuple[str, str], list[int]]:
    """(lab, host) -> the processes that hold it, the namespaces' PID 1 last."""
    found: dict[tuple[str, str], list[int]] = {}
    for entry in sorted((p for p in Path("/proc").iterdir() if p.name.isdigit()), key=lambda p: int(p.name)):
        try:
            environment = (entry / "environ").read_bytes()
            if f"{HOST_MARK}=".encode() not in environment:
                continue
            if (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
        except OSError:
            continue
        marks = dict(item.partition("=")[::2] for item in environment.decode(errors="replace").split("\0"))
        if MARK not in marks or HOST_MARK not in marks or (lab is not None and marks[MARK] != lab):
            continue
        found.setdefault((marks[MARK], marks[HOST_MARK]), []).append(int(entry.name))
    return found


def find_hosts(lab: str, directory: Path) -> dict[str, Host]:
    """The running hosts of a lab."""
    hosts: dict[str, Host] = {}
    for (_, name), pids in find_holders(lab).items():
        for pid in pids:
            if _is_init(pid):
                hosts[name] = Host(name, pid, directory / name)
    return hosts


def _is_init(pid: int) -> bool:
    """Whether a process is PID 1 of a PID namespace below ours."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
    return len(numbers) > 1 and numbers[-1] == "1"


def kill_holders(lab: str, timeout: float = 20) -> int:
    """Kill every host of a lab and wait until they are gone; the number there were. Raises LabError."""
    deadline = time.monotonic() + timeout
    seen: set[str] = set()
    while holders := find_holders(lab):
        seen |= {host for _, host in holders}
        for pids in holders.values():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        if time.monotonic() > deadline:
            raise LabError(f"lab {lab}: hosts {sorted(h for _, h in holders)} do not die; look at /proc")
        time.sleep(0.02)
    return len(seen)


def python() -> list[str]:
    """This interpreter without site packages: for the lab's own small scripts, which start fast."""
    return [sys.executable, "-ISE"]
