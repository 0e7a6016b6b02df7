"""Old names of commands and options: they work for one release, are not shown, and tell the new name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def _tell(old: str, new: str) -> None:
    click.echo(f"l3net: {old} is called {new} now; the old name goes with the next release", err=True)


def alias(group: click.Group, old: str, new: str) -> None:
    """Let a subcommand of a group answer to its old name as well."""
    command = group.commands[new]
    found = copy.copy(command)
    found.name, found.hidden = old, True

    def invoke(ctx: click.Context) -> Any:
        path = ctx.parent.command_path if ctx.parent is not None else "l3net"
        _tell(f"`{path} {old}`", f"`{path} {new}`")
        return command.invoke(ctx)

    found.invoke = invoke  # type: ignore[method-assign]
    group.add_command(found, old)


def old_flag(old: str, new: str) -> Callable[[F], F]:
    """A flag's old name: a hidden flag that sets the new one."""
    target = new.removeprefix("--").replace("-", "_")

    def take(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            _tell(old, new)
            ctx.params[target] = True

    return click.option(old, is_flag=True, hidden=True, expose_value=False, callback=take)
