"""`kubectl l3net`: the same program as a plugin of kubectl, which finds it on PATH by its name.

kubectl (1.26 and later) asks `kubectl_complete-l3net` how a line goes on: the words after `kubectl l3net`,
the last one as far as it was typed; it wants one value a line, and a last line of flags.
"""

from __future__ import annotations

import sys
from typing import Final

import click
from click.shell_completion import ShellComplete

from l3net.cli.completion import VARIABLE
from l3net.cli.main import cli, main

PROGRAM: Final = "kubectl l3net"
#: Of kubectl's flags: names of files are no values (ShellCompDirectiveNoFileComp), or may be (Default).
_NO_FILES: Final = 4
_DEFAULT: Final = 0


def kubectl() -> None:
    """`kubectl-l3net`."""
    main(PROGRAM)


def complete() -> None:
    """`kubectl_complete-l3net`."""
    *words, begin = sys.argv[1:] or [""]
    found = ShellComplete(cli, {}, PROGRAM, VARIABLE).get_completions(words, begin)
    values = [item.value for item in found if item.type == "plain"]
    click.echo("\n".join([*values, f":{_DEFAULT if len(values) < len(found) else _NO_FILES}"]))
