"""Faults of the disk and the clock: full, read-only, and another time for the agent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from l3net.lab.chaos.fault import Fault, nodes
from l3net.lab.chaos.ground import KILL, Ground
from l3net.lab.chaos.step import Step
from l3net.lab.host import Host
from l3net.lab.nodes import l3net_command, node_environment, start_agent
from l3net.lab.wait import until
from l3net.naming import STATE_DIR

_FAKETIME = tuple(
    Path(f"/usr/lib/{machine}-linux-gnu/faketime/libfaketime.so.1") for machine in ("x86_64", "aarch64")
)


@contextmanager
def full(ground: Ground, step: Step, *, where: str) -> Iterator[None]:
    """The tmpfs shrinks to what it holds."""
    host = ground.host(step.target)
    used = int(host.run(["df", "--output=used", "-B1", where]).stdout.split()[1])
    try:
        host.run(["mount", "-o", f"remount,size={used}", where])
        yield
    finally:
        host.run(["mount", "-o", "remount,size=50%", where])
        if not host.alive("agent"):
            ground.tell(f"{step.target}: the agent ended with {where} full")
        ground.start_agent(step.target)


@contextmanager
def read_only(ground: Ground, step: Step) -> Iterator[None]:
    """The agent is killed and started again on a state directory that it cannot write."""
    host = ground.host(step.target)

    def kill() -> None:
        ground.signal(step.target, "agent", KILL)
        until(lambda: not host.alive("agent"), 10, f"{step.target}: the agent does not end")

    kill()
    try:
        host.run(["mount", "--bind", STATE_DIR, STATE_DIR])
        host.run(["mount", "-o", "remount,bind,ro", STATE_DIR])
        start_agent(host, ground.lab.datastore(step.target))
        yield
    finally:
        kill()
        host.run(["umount", STATE_DIR], check=False)
        ground.start_agent(step.target)


def no_faketime() -> str:
    if any(path.exists() for path in _FAKETIME):
        return ""
    return "libfaketime is missing: `apt-get install faketime`. The machine's own clock is not touched"


@contextmanager
def stepped(ground: Ground, step: Step) -> Iterator[None]:
    """The agent, started again under libfaketime, sees its clock jump an hour ahead or back, and once
    more."""
    host = ground.host(step.target)
    rc = host.directory / "faketime"
    library = next(path for path in _FAKETIME if path.exists())
    hours = ("+1h", "-1h") if step.choice % 2 else ("-1h", "+2h")
    environment = {
        **node_environment(),
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(rc),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    try:
        rc.write_text("+0\n")
        _end(ground, step.target, host)
        datastore = ground.lab.datastore(step.target)
        argv = l3net_command("agent", "--datastore", f"dir:{datastore}", "--node-name", host.name)
        host.spawn("agent", argv, environment=environment)
        ground.start_agent(step.target)
        rc.write_text(f"{hours[0]}\n")
        yield
        rc.write_text(f"{hours[1]}\n")
        host.run(["sleep", "1"])
        if not re.match(r"\d", host.run(["cat", host.pid_file("agent").as_posix()]).stdout):
            ground.tell(f"{step.target}: the agent ended as its clock jumped")
    finally:
        _end(ground, step.target, host)
        ground.start_agent(step.target)


def _end(ground: Ground, name: str, host: Host) -> None:
    ground.signal(name, "agent", KILL)
    until(lambda: not host.alive("agent"), 10, f"{name}: the agent does not end")


FAULTS = (
    Fault("state-full", "disk", "The state directory's file system is full.",
          nodes, partial(full, where=STATE_DIR), (2, 8)),
    Fault("run-full", "disk", "/run is full.", nodes, partial(full, where="/run"), (2, 8)),
    Fault("state-read-only", "disk",
          "The agent is killed and started again on a state directory it cannot write.",
          nodes, read_only, (2, 6)),
    Fault("clock-stepped", "clock", "The agent's clock (libfaketime) jumps by hours, ahead and back.",
          nodes, stepped, (3, 6), missing=no_faketime),
)  # fmt: skip
