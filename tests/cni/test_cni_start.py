"""What the plugin starts with where no agent runs: a process for each call."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from l3net import model

ROOM = Path(str(model.__file__)).parents[2]
EVERYTHING = "import l3net.cli.standalone; print(*sys.modules)"
LOADED = "import sys; import {}; print(*(each for each in sys.modules if each.startswith('l3net.')))"


def loaded(module: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(module)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_it_reads_no_facts_that_it_has_no_use_for() -> None:
    """Of the datastore's facts it needs a pool, and none of BGP."""
    names = {each.partition("l3net.model.")[2] for each in loaded("l3net.cli.standalone")} - {""}
    assert names == {"bridge", "terms"}
    assert "l3net.model.bgp" in loaded("l3net.agent.loop"), "the control"


def test_it_starts_no_room_that_an_agent_has_use_for() -> None:
    """Nor what executes programs or deletes in the background; nor OpenSSL, which takes longest."""
    done = subprocess.run(
        [sys.executable, "-IS", "-c", f"import sys; sys.path.append({str(ROOM)!r}); {EVERYTHING}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = set(done.stdout.split())
    assert {"dataclasses", "sqlite3", "l3net.attach.verbs"} <= found, "the control"
    assert not found & {"subprocess", "concurrent.futures", "shutil", "hashlib", "site"}
    assert not {each for each in found if each.startswith(("l3net.policy", "l3net.attach.guard"))}
    assert not found & {"l3net.attach.reaper", "l3net.ipam.reserved", "l3net.shell.kernel.conntrack"}


def test_each_fact_is_where_the_model_says() -> None:
    """The types that are checked are those that are read."""
    (block,) = (
        each for each in ast.parse(Path(str(model.__file__)).read_text()).body if isinstance(each, ast.If)
    )
    told = {
        name.name: str(each.module).rpartition(".")[2]
        for each in block.body
        if isinstance(each, ast.ImportFrom)
        for name in each.names
    }
    assert told == dict(model._ROOM_OF)
    assert sorted(told) == sorted(model.__all__) == dir(model)
    assert all(getattr(model, name) is not None for name in told)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = model.Nothing
