"""What docs/day2.md has typed in a lab does what stands there, and no packet is lost by it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from runbook_commands import blocks, commands
from small_lab import RACK, lab_of
from test_lab_exercises import DOCS, _of, _tried

from l3net.lab.up import Lab

TEXT = Path(__file__).parents[2] / "docs/day2.md"

pytestmark = [
    *(pytest.mark.netns, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(400)),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


@contextmanager
def asked_all_the_while(lab: Lab) -> Iterator[None]:
    """The client asks the service, by both families; each answer that does not come is a failure."""
    script = (
        "while [ ! -e /tmp/ended ]; do for where in 10.96.0.10 '[fd00:10:96::a]'; do "
        'curl -s -m 2 "http://$where/" >/dev/null && echo ok || echo LOST; done; sleep 0.02; done'
    ).replace("/tmp/ended", str(lab.directory / "ended"))
    (lab.directory / "ended").unlink(missing_ok=True)
    argv = [*lab.host("client").enter(None), "sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as asking:
        try:
            yield
        finally:
            (lab.directory / "ended").touch()
            told, _ = asking.communicate(timeout=20)
    assert told.count("ok") > 20
    assert "LOST" not in told


def test_each_procedure_does_what_stands_there(tmp_path: Path) -> None:
    _, functions = next((kind, text) for _, kind, text in blocks(DOCS.read_text()) if text.startswith("on()"))
    with lab_of(RACK, tmp_path) as lab:
        functions = _of(lab, functions)
        for part in TEXT.read_text().split("\n## ")[1:]:
            typed = [text for _, kind, text in blocks(part) if not kind and text.startswith("$")]
            if not typed:
                continue
            # In the end the session of a node with one router is reset, as it says: nobody asks then.
            calm = typed[:2] if part.startswith("Change the AS") else typed
            with asked_all_the_while(lab):
                for text in calm:
                    for command in commands(_of(lab, text)):
                        assert (wrong := _tried(functions, command)) == "", wrong
            for text in typed[len(calm) :]:
                for command in commands(_of(lab, text)):
                    assert (wrong := _tried(functions, command)) == "", wrong


def test_the_text_is_taken_apart() -> None:
    typed = [text for _, kind, text in blocks(TEXT.read_text()) if not kind and text.startswith("$")]
    assert len(typed) == 5
    assert sum(len(command.said) for text in typed for command in commands(text)) > 10
