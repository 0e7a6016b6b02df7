"""Flags of a program that a workload's container runs, and what became of each. A value is shown in no
finding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from l3net.importing.source import Outcome, SourceObject, seconds
from l3net.kube.fields import Field

_TRUE: Final = ("true", "t", "1", "TRUE", "True", "T")
_FALSE: Final = ("false", "f", "0", "FALSE", "False", "F")


class Flags:
    """As pflag reads them: `--name=value`, `--name value`, or `--name` for those of `switches`. The last
    counts, but lists are added to."""

    def __init__(self, source: SourceObject, words: Sequence[str], switches: Iterable[str]) -> None:
        self._source = source
        self._given: dict[str, list[str]] = {}
        self._told: set[str] = set()
        switching, waiting = set(switches), ""
        for word in words:
            if waiting:
                self._given.setdefault(waiting, []).append(word)
                waiting = ""
            elif word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                if equals or name in switching:
                    self._given.setdefault(name, []).append(value if equals else "true")
                else:
                    waiting = name
        if waiting:
            self._given.setdefault(waiting, []).append("")

    def given(self, name: str) -> bool:
        return name in self._given

    def field(self, name: str) -> Field:
        """Its value, with a path that names the flag."""
        values = self._given.get(name)
        return Field(f"--{name}", values[-1] if values else None)

    def on(self, name: str, *, default: bool) -> bool:
        at = self.field(name)
        if not at.present:
            return default
        if at.value not in (*_TRUE, *_FALSE):
            raise at.wrong("must be true or false")
        return at.value in _TRUE

    def number(self, name: str, low: int, high: int, default: int) -> int:
        at = self.field(name)
        return Field(at.path, _whole(at.value)).integer(low, high, default=default)

    def seconds(self, name: str, default: int) -> int:
        at = self.field(name)
        return seconds(at) if at.present else default

    def listed(self, name: str) -> list[Field]:
        """The elements of a list, which commas and further flags part; empty ones too."""
        words = [word.strip() for value in self._given.get(name, ()) for word in value.split(",")]
        return [Field(f"--{name}", word) for word in words]

    def carried(self, name: str, into: str = "") -> None:
        self._tell(Outcome.CARRIED, name, into)

    def changed(self, name: str, how: str) -> None:
        self._tell(Outcome.CHANGED, name, how)

    def unsaid(self, name: str, why: str) -> None:
        self._tell(Outcome.UNSAID, name, why)

    def _tell(self, outcome: Outcome, name: str, detail: str) -> None:
        if name in self._given:
            self._told.add(name)
            self._source.note(outcome, f"--{name}", detail)

    def passed_over(self) -> None:
        """Tell of the flags that nobody has told of."""
        for name in self._given:
            if name not in self._told:
                self.unsaid(name, "l3net import does not know this flag")


def number(at: Field, high: int) -> int:
    """A text that is a number from 1 on."""
    return Field(at.path, _whole(at.value)).integer(1, high)


def _whole(value: object) -> object:
    return (
        int(value)
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20
        else value
    )


def arguments(source: SourceObject, program: str) -> list[str] | None:
    """What the container of a workload that runs `program` is started with; None: it has none. Raises
    ManifestError, with no value in it: some are passwords."""
    template = source.spec["template"]["spec"] if source.spec["template"].present else source.spec
    for container in template["containers"].items():
        command, words = list(container["command"].items()), list(container["args"].items())
        if any(program in str(at.value) for at in (container["image"], *command)):
            return [quoted(at) for at in (*command, *words)]
    return None


def quoted(at: Field) -> str:
    """A text. Raises ManifestError without what stands there instead."""
    if not isinstance(at.value, str):
        raise at.wrong("must be a string; quote it")
    return at.value


def holds_workload(content: Mapping[str, object]) -> bool:
    """Whether it is of a kind that runs containers."""
    return str(content.get("kind")) in ("DaemonSet", "Deployment", "Pod")
