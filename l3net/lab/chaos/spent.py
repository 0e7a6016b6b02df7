"""Processor time that a run takes, by whom: the probes, the lab's own daemons, the run and its looks."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from pathlib import Path

from l3net.lab.chaos import echo, prober
from l3net.lab.host import Host

_PROBES = tuple(Path(str(module.__file__)).name.encode() for module in (prober, echo))
_TICKS = os.sysconf("SC_CLK_TCK")
#: Fields of /proc/PID/stat after the name: utime, stime, and both of the children that were waited for
#: (proc(5)).
_TIMES = slice(11, 15)


def own() -> float:
    """Seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def within(hosts: Iterable[Host]) -> tuple[float, float]:
    """Seconds of the probes, and of everything else that has run in the hosts since they were made."""
    probes = rest = 0
    for host in hosts:
        for entry in Path(f"/proc/{host.pid}/root/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_bytes()
            except OSError:  # it has ended; its parent has its time
                continue
            ticks = sum(map(int, fields[_TIMES]))
            if any(b"/chaos/" + name in command for name in _PROBES):
                probes += ticks
            else:
                rest += ticks
    return probes / _TICKS, rest / _TICKS
