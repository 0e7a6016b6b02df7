"""The probers of a run: started, and what they have told so far."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from l3net.lab.chaos import prober
from l3net.lab.chaos.ground import END, Ground
from l3net.lab.chaos.losses import Loss
from l3net.lab.chaos.path import ProbePath
from l3net.lab.errors import LabError
from l3net.lab.host import Host, python
from l3net.lab.wait import until

#: Seconds between probes of a path.
EVERY = 0.01


@dataclass
class Probing:
    """One prober a network namespace. Times are told from `zero`, the monotonic clock at the run's
    beginning."""

    paths: Sequence[ProbePath]
    every: float = EVERY
    zero: float = 0.0
    losses: list[Loss] = field(default_factory=list)
    sent: int = 0
    lost: int = 0
    _probers: list[tuple[Host, str]] = field(default_factory=list)
    _read: dict[str, int] = field(default_factory=dict)

    def start(self, ground: Ground) -> None:
        """Returns when all of them probe."""
        places: dict[tuple[str, str | None], list[tuple[int, str, str, int]]] = {}
        for number, path in enumerate(self.paths):
            wanted = (number, path.kind.value, str(path.address), path.port)
            places.setdefault((path.source, path.pod), []).append(wanted)
        for (name, pod), wanted_ in places.items():
            host = ground.host(name)
            daemon = f"pod-{pod}-probe" if pod else "probe"
            configuration = host.directory / f"{daemon}.paths"
            configuration.write_text(json.dumps(wanted_))
            self._told(host, daemon).unlink(missing_ok=True)
            self._probers.append((host, daemon))
            words = (Path(prober.__file__), self._told(host, daemon), configuration, self.every)
            host.spawn(daemon, [*python(), *map(str, words)], pod=pod)
        until(
            lambda: all(self._told(*each).exists() for each in self._probers), 15, "a prober does not start"
        )

    def stop(self) -> None:
        """End them, and read the rest. Raises LabError if one has ended by itself."""
        for host, daemon in self._probers:
            if not host.alive(daemon):
                raise LabError(f"{host.name}: a prober ended:\n{host.log_tail(daemon)}")
            host.kill(daemon, END)
        until(lambda: not any(host.alive(name) for host, name in self._probers), 15, "a prober does not end")
        self.read()

    def read(self) -> list[Loss]:
        """What has been told since the last time."""
        new: list[Loss] = []
        for host, daemon in self._probers:
            path = self._told(host, daemon)
            with suppress(OSError), path.open("rb") as file:
                file.seek(self._read.get(str(path), 0))
                text = file.read()
                whole = text[: text.rfind(b"\n") + 1]
                self._read[str(path)] = self._read.get(str(path), 0) + len(whole)
                for line in whole.splitlines():
                    new += self._noted(json.loads(line))
        self.losses += new
        return new

    def _noted(self, told: dict[str, object]) -> list[Loss]:
        totals = told.get("totals")
        if isinstance(totals, list):
            self.sent += totals[0]
            self.lost += totals[1]
        if "path" not in told:
            return []
        first, last, number, count = (float(str(told[key])) for key in ("first", "last", "path", "count"))
        path = self.paths[int(number)]
        return [Loss(path, first - self.zero, last - self.zero, int(count), str(told["why"]))]

    @staticmethod
    def _told(host: Host, daemon: str) -> Path:
        return host.directory / f"{daemon}.jsonl"
