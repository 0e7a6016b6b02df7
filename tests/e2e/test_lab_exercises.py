"""The exercises of docs/lab.md about addresses that move, as they are typed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from runbook_commands import Command, blocks, commands, missing
from small_lab import lab_of

import l3net.lab
from l3net.lab.up import Lab

DOCS = Path(__file__).parents[2] / "docs/lab.md"
TOPOLOGY = Path(l3net.lab.__file__).parent / "topologies/default.yaml"
_SECONDS = 60.0

pytestmark = [
    *(pytest.mark.netns, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(400)),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


def _of(lab: Lab, text: str) -> str:
    """As it stands there, for the lab of the test."""
    for word in ("exec", "break", "repair"):
        text = text.replace(f"l3net lab {word}", f"l3net lab {word} --name {lab.name}")
    return text.replace("/run/l3net-lab/l3net", str(lab.directory))


def _bash(functions: str, line: str) -> tuple[int, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"{functions}\n{line}"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _tried(functions: str, command: Command) -> str:
    """What is wrong in the end; what is seen follows what was done, in its time."""
    deadline = time.monotonic() + _SECONDS
    while True:
        code, output = _bash(functions, command.line)
        lacks = missing(command, output)
        if code == command.code and not lacks:
            return ""
        if time.monotonic() > deadline or not command.said:
            return f"$ {command.line}\nexits with {code}, lacks {lacks}:\n{output}"


def test_addresses_move_as_the_exercises_say(tmp_path: Path) -> None:
    text = DOCS.read_text()
    parts = {part.partition(".")[0]: part for part in text.split("\n### ")}
    _, functions = next((kind, content) for _, kind, content in blocks(text) if content.startswith("on()"))
    with lab_of(yaml.safe_load(TOPOLOGY.read_text()), tmp_path, None) as lab:
        functions = _of(lab, functions)
        for number, name in (("11", "floating.yaml"), ("12", "egress.yaml")):
            for _, kind, content in blocks(parts[number]):
                if kind == "yaml":
                    (lab.manifests / name).write_text(content)
                elif content.startswith("pod()"):
                    functions += _of(lab, content)
                else:
                    for command in commands(_of(lab, content)):
                        assert (wrong := _tried(functions, command)) == "", f"exercise {number}: {wrong}"


def test_the_exercises_are_taken_apart() -> None:
    found = {part.partition(".")[0]: part for part in DOCS.read_text().split("\n### ")}
    for number in ("11", "12"):
        typed = [content for _, kind, content in blocks(found[number]) if not kind and content[0] == "$"]
        told = [each for content in typed for each in commands(content)]
        assert len([each for each in told if each.said]) >= 6, "the control: something is promised"
