"""Exit codes as scripts see them: the installed command, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from l3net.cli.main import cli
from l3net.naming import AGENT_SOCKET

PROGRAM = Path(sys.executable).parent / "l3net"
NOTHING = "/nonexistent/l3net"


def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *arguments], input=text, capture_output=True, text=True, check=False)


def commands(command: click.Command, *path: str) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return [path]
    context = click.Context(command)
    found = ((name, command.get_command(context, name)) for name in command.list_commands(context))
    return [each for name, below in found if below is not None for each in commands(below, *path, name)]


LONG = "/" + "x" * 300  # longer than a name may be
GOOD = "{apiVersion: v1, kind: Namespace, metadata: {name: one}}"
BAD = "{apiVersion: v1, kind: Namespace, metadata: {name: One}}"


@pytest.mark.parametrize(
    ("arguments", "text", "code", "word"),
    [
        (["validate", "-"], GOOD, 0, ""),
        (["validate", "-"], BAD, 2, ""),
        (["validate", "-", "-o", "json"], BAD, 2, ""),
        (["validate", NOTHING], "", 2, NOTHING),
        (["validate", LONG], "", 2, "File name too long"),
        (["agent", "--datastore", f"dir:{LONG}", "--run-dir", NOTHING], "", 2, "File name too long"),
        (["--version"], "", 0, ""),
        (["completion", "bash"], "", 0, ""),
        (["completion", "tcsh"], "", 2, "tcsh"),
        (["nonsense"], "", 2, "nonsense"),
        (["status", "--run-dir", NOTHING], "", 3, NOTHING),
        (["doctor", "--run-dir", NOTHING], "", 3, ""),
        (["bgp", "routes", "--run-dir", NOTHING], "", 3, NOTHING),
        (["bgp", "announced", "--run-dir", NOTHING], "", 3, NOTHING),
        (["bgp", "announced", "--run-dir", NOTHING, "--prefix", "10.0.0.0/33"], "", 2, "nor an address"),
        (["bgp", "announced", "--run-dir", NOTHING, "--prefix", "fd00:0::1"], "", 3, NOTHING),
        (["bgp", "plan", "/", "--run-dir", NOTHING], "", 3, NOTHING),
        (["policy", "list", "--run-dir", NOTHING], "", 3, NOTHING),
        (["policy", "drops", "--run-dir", NOTHING], "", 3, NOTHING),
        (["policy", "test", "a/b", "c/d", "--dir", NOTHING], "", 2, NOTHING),
        (["bgp", "plan", NOTHING], "", 2, NOTHING),
        (["speaker", "--probe", "ready", "--run-dir", NOTHING], "", 1, ""),
        (["lab", "status", "--name", "no-such-lab"], "", 3, "no-such-lab"),
        (["lab", "check", "--name", "no-such-lab"], "", 3, "no-such-lab"),
        (["lab", "down", "--name", "no-such-lab"], "", 0, ""),
        (["agent", "--datastore", f"dir:{NOTHING}", "--run-dir", NOTHING], "", 2, NOTHING),
        (["controller", "--kubeconfig", NOTHING], "", 2, NOTHING),
    ],
)
def test_exit_codes(arguments: list[str], text: str, code: int, word: str) -> None:
    done = run(*arguments, text=text)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert word in done.stderr
    assert not Path(NOTHING).parent.exists()


@pytest.mark.parametrize("output", ["table", "json"])
def test_output_that_cannot_be_written(output: str) -> None:
    """A full disk behind it: one line, and not 0, which would say that all is well."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [PROGRAM, "validate", "-", "-o", output],
            input=GOOD,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "l3net: No space left on device\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "-"],
        ["validate", "-", "-o", "json"],
        ["lab", "chaos", "--list-faults"],
        ["schema", "status"],
    ],
    ids=" ".join,
)
def test_a_pipe_that_nobody_reads_ends_it_quietly(arguments: list[str]) -> None:
    """As it ends other programs: by SIGPIPE, of which shells make 141. `validate` would exit with 2."""
    reading, writing = os.pipe()
    os.close(reading)
    argv = [PROGRAM, *arguments]
    done = subprocess.run(argv, input=BAD.encode(), stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


def test_a_pipe_that_is_read_in_part() -> None:
    def bash(text: str) -> subprocess.CompletedProcess[str]:
        argv = ["bash", "-c", f"set -o pipefail; {PROGRAM} schema status | {text}"]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    part = bash("head -1")
    assert (part.returncode in (0, 141), part.stdout, part.stderr) == (True, "{\n", "")
    assert json.loads(bash("cat").stdout)["title"] == "l3net status -o json"


def test_an_agent_that_does_not_answer_is_told_of_and_given_up(tmp_path: Path) -> None:
    """As one that is stopped: the kernel takes the connection, and nobody answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / AGENT_SOCKET))
        listener.listen()
        argv = [PROGRAM, "bgp", "summary", "--run-dir", str(tmp_path)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            assert running.stderr is not None
            assert "the agent does not answer so far" in running.stderr.readline()
            assert running.poll() is None, "it waits"
            last = running.stderr.read()
        assert (running.returncode, "has not answered for 5 s" in last) == (3, True)


#: `lab exec` hands what follows to the command that it runs.
TOLD = [path for path in commands(cli) if path != ("lab", "exec")]


@pytest.mark.parametrize("path", TOLD, ids=" ".join)
def test_a_wrong_option_of_any_command(path: tuple[str, ...]) -> None:
    """In this process, as that costs a tenth; the way out is the same for all and tried above."""
    with pytest.raises(click.UsageError) as caught:
        cli.main([*path, "--no-such-option"], standalone_mode=False)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "options",
    [
        ["--datastore", "dir:/", "--metrics-address", "foo"],
        ["--datastore", f"dir:{NOTHING}"],
        ["--datastore", "etcd:x"],
        ["--datastore", "kubernetes", "--kubeconfig", __file__],
    ],
)
def test_an_agent_that_is_told_something_wrong_makes_nothing(tmp_path: Path, options: list[str]) -> None:
    run_dir, state_dir = tmp_path / "run", tmp_path / "state"
    done = run("agent", *options, "--run-dir", str(run_dir), "--state-dir", str(state_dir))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", ["nan", "inf", "-1", "x"])
@pytest.mark.parametrize(
    "arguments",
    [["doctor", "--watch"], ["node", "leave", "--timeout"], ["controller", "--grace"]],
    ids=" ".join,
)
def test_what_is_no_number_of_seconds_is_refused(arguments: list[str], number: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        cli.main([*arguments, number], standalone_mode=False)
    assert "--" in caught.value.format_message()


def test_every_length_of_time_is_held_to_that() -> None:
    def parameters(command: click.Command) -> list[click.Parameter]:
        below = command.commands.values() if isinstance(command, click.Group) else ()
        return [*command.params, *(each for found in below for each in parameters(found))]

    assert [
        each.name for each in parameters(cli) if type(each.type) in (click.FloatRange, type(click.FLOAT))
    ] == []


def test_every_option_says_what_it_is() -> None:
    def silent(command: click.Command, path: str) -> list[str]:
        below = command.commands.items() if isinstance(command, click.Group) else ()
        own = [
            f"{path} {each.opts[-1]}"
            for each in command.params
            if isinstance(each, click.Option) and not each.hidden and not each.help
        ]
        return own + [each for name, sub in below for each in silent(sub, f"{path} {name}")]

    assert silent(cli, "l3net") == []


def test_the_store_of_a_host_without_an_agent_is_named(tmp_path: Path) -> None:
    argv = ["ipam", "--state-dir", str(tmp_path), "show"]
    told = CliRunner().invoke(cli, argv).exception
    assert "choose another --state-dir" in str(told)
    (tmp_path / "cni").mkdir()
    (tmp_path / "cni" / "leases.db").touch()
    assert f"there is one in --state-dir {tmp_path}/cni" in str(CliRunner().invoke(cli, argv).exception)


def test_an_error_of_the_system_is_a_line_also_into_a_pipe() -> None:
    """Its end closes standard output; it was flushed after that."""
    program = (
        "import l3net.cli.main as m\n"
        "def fail(**_): raise OSError(16, 'Device or resource busy', '/var/lib/l3net')\n"
        "m.cli.main = fail\n"
        "m.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == "l3net: /var/lib/l3net: Device or resource busy\n"
    assert done.returncode == 1
