"""The reference of all commands as Markdown, from the commands themselves and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from l3net.cli.main import cli

_INTRO = """\
# Commands

         This page lists every command and option, as `--help` shows them. Exit codes of every command: 0
         success, 1 failure, 2 wrong usage or configuration, 3 no l3net process answers. `l3net completion
         bash|zsh|fish` prints a completion script. docs/man has the same text as manual pages.
"""


def reference() -> str:
    """docs/commands.md, complete."""
    return (
        "\n".join(
            [_INTRO, *_command(cli, click.Context(cli, info_name="l3net", **cli.context_settings))]
        ).rstrip()
        + "\n"
    )


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    if not isinstance(command, click.Group):
        pieces = " ".join(command.collect_usage_pieces(context))
        yield f"## `{context.command_path}`"
        yield ""
        yield f"    {context.command_path} {pieces}".rstrip()
        yield ""
        yield from _text(command.help or "")
        yield from _options(command, context)
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None and not found.hidden:
            yield from _command(found, click.Context(found, info_name=name, parent=context))


def _text(text: str) -> Iterator[str]:
    for paragraph, as_it_is in paragraphs(text):
        yield from (f"    {line}".rstrip() for line in paragraph.splitlines()) if as_it_is else (paragraph,)
        yield ""


def paragraphs(text: str) -> Iterator[tuple[str, bool]]:
    """Those of a help; and whether click is told not to wrap it, so that it stands as it is."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            yield inspect.cleandoc(paragraph.removeprefix("\b")), True
        else:
            yield " ".join(paragraph.split()), False


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            option, meaning = record
            envvar = f" Environment: `{parameter.envvar}`." if parameter.envvar else ""
            rows.append((option, meaning + envvar))
    if not rows:
        return
    yield "| Option | |"
    yield "|---|---|"
    yield from (f"| `{_cell(option)}` | {_cell(meaning)} |" for option, meaning in rows)
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
