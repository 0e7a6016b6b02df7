"""What the plugin starts with where no agent runs: a process for each call."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from l3net import model

ROOM = Path(str(model.__file__)).parents[2]
#: What a call begins with, and what it is carried out with.
BEGINNING, CALL = "l3net.cli.standalone", "l3net.cli.standalone, l3net.cli.onecall"
LOADED = "import sys; import {}; print(*(each for each in sys.modules if each.startswith('l3net.')))"


def loaded(module: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(module)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def started(modules: str) -> set[str]:
    """Everything that an interpreter has loaded that starts as the plugin's does."""
    code = f"import sys; sys.path.append({str(ROOM)!r}); import {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_it_reads_no_facts_that_it_has_no_use_for() -> None:
    """Of the datastore's facts it needs a pool, and none of BGP."""
    names = {each.partition("l3net.model.")[2] for each in loaded(CALL)} - {""}
    assert names == {"bridge", "terms"}
    assert "l3net.model.bgp" in loaded("l3net.agent.loop"), "the control"


def test_it_starts_no_room_that_an_agent_has_use_for() -> None:
    """Nor what executes programs or deletes in the background; nor OpenSSL, which takes longest."""
    found = started(CALL)
    assert {"dataclasses", "_sqlite3", "l3net.attach.verbs"} <= found, "the control"
    assert not found & {"subprocess", "concurrent.futures", "shutil", "hashlib", "site"}
    assert not {each for each in found if each.startswith(("l3net.policy", "l3net.attach.guard"))}
    assert not found & {"l3net.attach.reaper", "l3net.ipam.reserved", "l3net.shell.kernel.conntrack"}
    assert not found & {"l3net.attach.removal", "l3net.cni.check", "l3net.cni.guard", "l3net.cli.cnihelper"}


def test_it_spares_what_takes_long_of_the_standard_library() -> None:
    """A millisecond or more each, for nothing that a call does."""
    spared = {"inspect", "ast", "dis", "traceback", "textwrap", "tokenize"}
    spared |= {
        "logging",
        "string",
        "weakref",
        "pathlib",
        "urllib.parse",
        "socket",
        "selectors",
        "datetime",
        "sqlite3",
        "random",
        "copy",
    }
    assert not started(f"{CALL}, l3net.shell.kernel.conntrack") & spared  # of which DEL forgets connections
    assert spared <= started(f"{CALL}, {', '.join(spared)}"), "the control"


def test_what_is_logged_goes_to_the_system_all_the_same() -> None:
    """The first line, and each once."""
    code = f"""
import sys, syslog
sys.path.append({str(ROOM)!r})
from l3net.cli import onecall, standalone
said = []
syslog.syslog = lambda level, line: said.append(line)
assert "logging" not in sys.modules
standalone.os._exit = lambda code: said.append(code)
sys.stdin = open("/dev/null")
standalone.os.environ |= {{"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1"}}
standalone.main()
onecall.log.warning("and %s", "more")
print(*said, sep="|")
"""
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    answer, told = done.stdout.splitlines()
    assert "required environment variables are missing" in answer
    first, exit_code, second = told.split("|")
    assert first.startswith("ADD c1 -: code 4: ") and (exit_code, second) == ("1", "and more")


def test_what_a_delete_begins_with() -> None:
    """While the kernel deletes its interface it reads the rest."""
    found = started(f"{BEGINNING}, l3net.attach.removal, l3net.cni.ifname")
    assert {"l3net.shell.kernel.netlink", "l3net.cni.request"} <= found, "the control"
    assert not found & {"_sqlite3", "_ctypes", "ipaddress", "l3net.ipam.ranges", "l3net.attach.verbs"}


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
