"""Asking pod servers from hosts and pods."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from l3net.lab import probe
from l3net.lab.errors import LabError
from l3net.lab.machine import CheckedLab, LabPod, Machine
from l3net.lab.topology import ServiceSpec
from l3net.model import Address

#: As an argument, since the host may be another machine, which has no such file.
_PROBE = Path(probe.__file__).read_text(encoding="utf-8")
_ANSWER = re.compile(r"(?P<host>\S+) (?P<pod>\S+) client=(?P<client>\S+)")


@dataclass(frozen=True, slots=True)
class Answers:
    """What servers said: who answered how often, whom they saw, what failed."""

    pods: Counter[str]
    clients: frozenset[str]
    failures: tuple[str, ...]

    def told(self) -> str:
        parts = [f"{pod} {times}x" if times > 1 else pod for pod, times in sorted(self.pods.items())]
        if self.clients:
            parts.append(f"from {' and '.join(sorted(self.clients))}")
        parts += sorted(set(self.failures))
        return ", ".join(parts)


def ask(
    host: Machine, targets: Sequence[tuple[Address, int, int]], pod: str | None = None, size: int = 0
) -> list[Answers]:
    """Ask each (address, port, times) from a host or a pod; all of them in one process. `size`: bytes that a
    request has beside its own."""
    text = json.dumps([(str(address), port, times, size) for address, port, times in targets])
    seconds = 30 + 4 * len(targets)
    done = host.run([*host.python, "-c", _PROBE], text=text, pod=pod, timeout=seconds)
    return [_answers(answers) for answers in json.loads(done.stdout)]


def _answers(lines: Sequence[str]) -> Answers:
    matched = [match for line in lines if (match := _ANSWER.fullmatch(line))]
    return Answers(
        Counter(match["pod"] for match in matched),
        frozenset(match["client"] for match in matched),
        tuple(line for line in lines if not _ANSWER.fullmatch(line)),
    )


def pods(lab: CheckedLab) -> list[LabPod]:
    """Every pod of the topology. Raises LabError if one is not there."""
    return [lab.pod(name) for name in lab.topology.pods]


def client(lab: CheckedLab) -> Machine:
    """The first client. Raises LabError if there is none."""
    if not lab.topology.clients:
        raise LabError("this topology has no client to ask from")
    return lab.host(lab.topology.clients[0].name)


def services(lab: CheckedLab) -> list[ServiceSpec]:
    return [service for service in lab.topology.services if service.pods]
