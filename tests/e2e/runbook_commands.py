"""The runbook of docs/operating.md as what it promises: sections, files, commands with their output."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TEXT = Path(__file__).parents[2] / "docs/operating.md"
_PROMPT = re.compile(r"^(?P<host>[a-z0-9]*)\$ (?P<line>.*?)(?:\s+# exits with (?P<code>\d+))?$")


@dataclass
class Command:
    """`host` is empty for any machine; `said` has to be in the output line by line, `...` is anything."""

    host: str
    line: str
    code: int
    said: list[str] = field(default_factory=list)


@dataclass
class Section:
    """`files` by name."""

    title: str
    files: dict[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)


def sections(text: str) -> list[Section]:
    """Those from `## Runbook` to the end of `## Day by day`."""
    begin = text.index("\n## Runbook\n")
    end = text.index("\n## ", text.index("\n## Day by day\n") + 5)
    found: list[Section] = []
    for part in text[begin:end].split("\n### ")[1:]:
        title, _, body = part.partition("\n")
        section = Section(title)
        for before, kind, content in blocks(body):
            if kind == "yaml":
                name = re.findall(r"`([a-z.]+)`:\s*$", before)
                section.files[name[0]] = content
            else:
                section.commands += commands(content)
        found.append(section)
    return found


def blocks(body: str) -> Iterator[tuple[str, str, str]]:
    """What stands before a fenced block, its language, its content."""
    pieces = body.split("```")
    for before, block in zip(pieces[::2], pieces[1::2], strict=False):
        kind, _, content = block.partition("\n")
        yield before, kind.strip(), content


def commands(content: str) -> list[Command]:
    """What is typed in a block, with what it says."""
    found: list[Command] = []
    for line in content.splitlines():
        prompt = _PROMPT.match(line)
        if prompt is not None:
            found.append(Command(prompt["host"], prompt["line"], int(prompt["code"] or 0)))
        elif line.strip():
            found[-1].said.append(line)
    return found


def missing(command: Command, output: str) -> list[str]:
    """Lines that are promised and not there."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    return [said for said in command.said if not any(_pattern(said).search(line) for line in lines)]


def _pattern(said: str) -> re.Pattern[str]:
    parts = [re.escape(" ".join(part.split())) for part in said.split("...")]
    return re.compile(r".*".join(part.strip() for part in parts))
