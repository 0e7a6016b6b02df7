"""A schedule of faults as data: what happens when, to whom and for how long. Drawn, written and read as
YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import yaml

from l3net.errors import ConfigError


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """One fault. `at` and `seconds` (how long it lasts) are seconds; `choice` is what it draws from, if at
    all."""

    at: float
    fault: str
    target: str
    seconds: float
    choice: int = 0

    @property
    def until(self) -> float:
        return self.at + self.seconds


def hosts_of(target: str) -> tuple[str, ...]:
    """The hosts that a target concerns."""
    return tuple(target.split(","))


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything a run does, in the order of time. `topology` is a topology file's document, None the
    default."""

    seed: int
    seconds: float
    steps: tuple[Step, ...]
    topology: Mapping[str, object] | None = None

    def only(self, steps: tuple[Step, ...]) -> Schedule:
        return replace(self, steps=steps)


def written(schedule: Schedule) -> str:
    """The YAML that `--plan` prints and `--schedule` reads."""
    text = f"seed: {schedule.seed}\nseconds: {schedule.seconds:.12g}\n"
    if schedule.topology is not None:
        within = {"topology": dict(schedule.topology)}
        text += yaml.safe_dump(within, sort_keys=False, default_flow_style=None, width=110)
    if not schedule.steps:
        return f"{text}steps: []\n"
    lines = [
        yaml.safe_dump(asdict(step), sort_keys=False, default_flow_style=True, width=1000).strip()
        for step in schedule.steps
    ]
    return text + "steps:\n" + "".join(f"- {line}\n" for line in lines)


def parsed(text: str, where: str, known: Mapping[str, object]) -> Schedule:
    """A schedule file. `known` are the names of faults. Raises ConfigError, which says the place."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ConfigError(f"{where}: not YAML: {err}") from None
    if not isinstance(document, dict) or not isinstance(document.get("steps"), list):
        raise ConfigError(f"{where}: expected a mapping with `steps`, as `l3net lab chaos --plan` prints it")
    if unknown := set(map(str, document)) - {"seed", "seconds", "topology", "steps"}:
        raise ConfigError(f"{where}: unknown field {sorted(unknown)[0]!r}")
    topology = document.get("topology")
    if topology is not None and not isinstance(topology, dict):
        raise ConfigError(f"{where}: topology: expected a mapping, as in a topology file")
    steps = tuple(
        _step(entry, f"{where}: steps[{index}]", known) for index, entry in enumerate(document["steps"])
    )
    _refuse_two_at_one_place(steps, text, where)
    last = max((step.until for step in steps), default=0.0)
    seconds = _number(document.get("seconds", last + 10), f"{where}: seconds")
    if last > seconds:
        raise ConfigError(f"{where}: seconds: {seconds:g}, but the last fault ends at {last:g}")
    return Schedule(
        _whole(document.get("seed", 0), f"{where}: seed"), seconds, tuple(sorted(steps)), topology
    )


def _refuse_two_at_one_place(steps: Sequence[Step], text: str, where: str) -> None:
    """Faults that meet at a host would undo each other's deeds, and a loss could be put down to neither.

    Raises ConfigError."""
    lines = _lines(text)
    by_host: dict[str, list[tuple[Step, int]]] = {}
    for index, step in enumerate(steps):
        for host in hosts_of(step.target):
            by_host.setdefault(host, []).append((step, index))
    for host, there in by_host.items():
        for (one, first), (other, second) in pairwise(sorted(there)):
            if other.at < one.until:
                raise ConfigError(
                    f"{where}: steps[{second}] (line {lines[second]}): {other.fault} at {other.at:g} s, while"
                    f" {one.fault} of steps[{first}] (line {lines[first]}) is at {host} until {one.until:g}"
                )


def _lines(text: str) -> list[int]:
    """The line of each step of a file that has been read."""
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(document, yaml.MappingNode)  # noqa: S101 - it is read already
    steps = next(value for key, value in document.value if key.value == "steps")
    return [step.start_mark.line + 1 for step in steps.value]


def _step(entry: object, where: str, known: Mapping[str, object]) -> Step:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: expected a mapping")
    if unknown := set(map(str, entry)) - {"at", "fault", "target", "seconds", "choice"}:
        raise ConfigError(f"{where}: unknown field {sorted(unknown)[0]!r}")
    fault = entry.get("fault")
    if not isinstance(fault, str) or fault not in known:
        raise ConfigError(
            f"{where}.fault: {fault!r} is not a fault; `l3net lab chaos --list-faults` lists them"
        )
    return Step(
        _number(entry.get("at"), f"{where}.at"),
        fault,
        str(entry.get("target", "")),
        _number(entry.get("seconds", 0), f"{where}.seconds"),
        _whole(entry.get("choice", 0), f"{where}.choice"),
    )


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ConfigError(f"{where}: {value!r} is not a number from 0 on")
    return value


def _whole(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{where}: {value!r} is not a whole number from 0 on")
    return value
