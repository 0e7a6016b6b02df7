"""Faults of a node's processes: killed, stopped, started anew, out of memory or descriptors, at another
time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from l3net.lab.chaos.fault import Allowance, Fault, Which, nodes
from l3net.lab.chaos.ground import END, GO, KILL, STOP, Ground
from l3net.lab.chaos.step import Step
from l3net.lab.topology import RouterKind, Topology
from l3net.lab.wait import until

#: Routers that keep a node's routes while its speaker is away (RFC 4724), as the lab configures them.
_HELPERS = (RouterKind.FRR, RouterKind.BIRD, RouterKind.L3NET)


def of_speaker(topology: Topology, node: str) -> tuple[Allowance, ...]:
    """Nothing behind helpers; behind others what the node announces, until it is back."""
    kinds = {router.name: router.kind for router in topology.routers}
    around = [link.far_end(node).host for link in topology.links_of(node)]
    if all(kinds[host] in _HELPERS for host in around if host in kinds):
        return ()
    return (Allowance(Which.NODE, node, whole=True, end=15), Allowance(Which.CROSSING, whole=True, end=15))


#: How a process that nobody else starts again is started, unless it runs.
_START: dict[str, Callable[[Ground, str], None]] = {
    "agent": Ground.start_agent,
    "speaker": Ground.start_speaker,
}


def _end(ground: Ground, step: Step, process: str, sign: int) -> None:
    ground.signal(step.target, process, sign)
    ground.ended(step.target, process)


def gone(process: str) -> Callable[[Ground, Step], AbstractContextManager[None]]:
    """Killed, and started again when the fault is over."""

    @contextmanager
    def act(ground: Ground, step: Step) -> Iterator[None]:
        try:
            _end(ground, step, process, KILL)
            yield
        finally:
            _START[process](ground, step.target)

    return act


def restarted(process: str) -> Callable[[Ground, Step], AbstractContextManager[None]]:
    """Ended as by its service, and started at once."""

    @contextmanager
    def act(ground: Ground, step: Step) -> Iterator[None]:
        try:
            _end(ground, step, process, END)
        finally:
            _START[process](ground, step.target)
        yield

    return act


def killed(process: str) -> Callable[[Ground, Step], AbstractContextManager[None]]:
    """What its parent starts again."""

    @contextmanager
    def act(ground: Ground, step: Step) -> Iterator[None]:
        before = ground.pids(step.target, process)
        ground.signal(step.target, process, KILL)
        yield
        until(
            lambda: bool(set(ground.pids(step.target, process)) - set(before)),
            15,
            f"{step.target}: {process} is not started again",
        )

    return act


def stopped(process: str) -> Callable[[Ground, Step], AbstractContextManager[None]]:
    """SIGSTOP; SIGCONT to whatever of it is still there."""

    @contextmanager
    def act(ground: Ground, step: Step) -> Iterator[None]:
        host = ground.host(step.target)
        found = [str(pid) for pid in ground.pids(step.target, process)]
        try:
            host.run(["kill", f"-{int(STOP)}", *found], check=False)
            yield
        finally:
            host.run(["kill", f"-{int(GO)}", *found], check=False)

    return act


@contextmanager
def limited(ground: Ground, step: Step, *, limit: str) -> Iterator[None]:
    """prlimit(1) on the agent as it runs: hardly more than it has."""
    host = ground.host(step.target)
    pid = next(iter(ground.pids(step.target, "agent")), None)
    if pid is None:
        ground.tell(f"{step.target}: there is no agent to limit")
        yield
        return
    if limit == "nofile":
        most = len(host.run(["ls", f"/proc/{pid}/fd"]).stdout.split()) + 2
    else:
        status = host.run(["cat", f"/proc/{pid}/status"]).stdout
        most = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmSize"))) * 1024
        most += 4 << 20
    asked = ["prlimit", f"--pid={pid}", f"--{limit}", "--raw", "--noheadings", "--output", "SOFT,HARD"]
    soft, hard = host.run(asked).stdout.split()
    try:
        host.run(["prlimit", f"--pid={pid}", f"--{limit}={most}:{hard}"])
        yield
    finally:
        # The agent may have ended by it, which it must not; then there is nothing to lift.
        host.run(["prlimit", f"--pid={pid}", f"--{limit}={soft}:{hard}"], check=False)
        if not host.alive("agent"):
            ground.tell(f"{step.target}: the agent ended for want of {limit}")
        ground.start_agent(step.target)


FAULTS = (
    Fault("agent-killed", "processes", "SIGKILL of the agent, which is started again when the time is over.",
          nodes, gone("agent"), (0.5, 6)),
    Fault("agent-restarted", "processes", "The agent ends by SIGTERM and is started again at once.",
          nodes, restarted("agent"), (1, 2)),
    Fault("agent-stopped", "processes",
          "SIGSTOP of the agent, and SIGCONT.", nodes, stopped("agent"), (1, 8)),
    Fault("speaker-killed", "processes", "SIGKILL of the speaker's supervisor, with which ExaBGP goes.",
          nodes, gone("speaker"), (0.5, 5), of_speaker, touches=True),
    Fault("speaker-restarted", "processes", "The speaker ends by SIGTERM and is started again at once.",
          nodes, restarted("speaker"), (1, 2), of_speaker, touches=True),
    Fault("exabgp-killed", "processes", "SIGKILL of ExaBGP, which the speaker starts again.",
          nodes, killed("exabgp"), (1, 2), of_speaker, touches=True),
    Fault("exabgp-stopped", "processes",
          "SIGSTOP of ExaBGP: it is given up and replaced, or goes on by SIGCONT.",
          nodes, stopped("exabgp"), (1, 8), of_speaker, touches=True),
    Fault("relay-killed", "processes", "SIGKILL of the relay, ExaBGP's only API process.",
          nodes, killed("relay"), (1, 3), of_speaker, touches=True),
    Fault("relay-stopped", "processes", "SIGSTOP of the relay, and SIGCONT.",
          nodes, stopped("relay"), (1, 8), of_speaker, touches=True),
    Fault("descriptors-short", "resources", "The agent may open two files more than it has open.",
          nodes, partial(limited, limit="nofile"), (2, 8)),
    Fault("memory-short", "resources", "The agent may map 4 MiB more than it has mapped.",
          nodes, partial(limited, limit="as"), (2, 8)),
)  # fmt: skip
