"""Manual pages in man(7), from the commands' own help: `l3net(1)`, and one for each command with all of its
subcommands.

click-man writes a page for each subcommand and looks at commands that are loaded, which ours are when they
are called; it knows no text that stands as it is, and no environment variables.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from l3net import __version__
from l3net.cli.main import COMMANDS, cli
from l3net.cli.reference import paragraphs

#: man(7) wants a date; pages change with the release and not with the day they were made.
DATE: Final = "2026-11-29"
_EXIT: Final = (
    ("0", "done"),
    ("1", "failed"),
    ("2", "wrong usage or configuration"),
    ("3", "no l3net process answers"),
)


def pages() -> dict[str, str]:
    """By file name."""
    top = click.Context(cli, info_name="l3net", **cli.context_settings)
    found = {"l3net.1": "\n".join(_first_page(top)) + "\n"}
    for name in cli.list_commands(top):
        command = cli.get_command(top, name)
        if command is not None and not command.hidden:
            lines = _page(command, click.Context(command, info_name=name, parent=top), COMMANDS[name][2])
            found[f"l3net-{name}.1"] = "\n".join(lines) + "\n"
    return found


def write_pages(directory: Path) -> None:
    """All of them, and none that there is no more. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    found = pages()
    for stale in directory.glob("l3net*.1"):
        if stale.name not in found:
            stale.unlink()
    for name, text in found.items():
        (directory / name).write_text(text, encoding="utf-8")


def _first_page(context: click.Context) -> Iterator[str]:
    yield from _head("l3net", "pods and services as plain, routable IP destinations")
    yield from _synopsis("l3net", ["[OPTIONS]", "COMMAND", "[ARGS]..."])
    yield ".SH DESCRIPTION"
    yield from _text(cli.help or "")
    yield from _options(cli, context, ".SH OPTIONS")
    yield ".SH COMMANDS"
    for name in cli.list_commands(context):
        yield from (".TP", f".BR l3net\\-{_escaped(name)} (1)", _line(COMMANDS[name][2]))
    yield from _foot()


def _page(command: click.Command, context: click.Context, short: str) -> Iterator[str]:
    yield from _head(context.command_path.replace(" ", "-"), short.rstrip("."))
    leaves = list(_leaves(command, context))
    yield ".SH SYNOPSIS"
    for number, (leaf, its) in enumerate(leaves):
        if number:
            yield ".br"
        yield _usage(its.command_path, leaf.collect_usage_pieces(its))
    yield ".SH DESCRIPTION"
    yield from _text(command.help or short)
    if not isinstance(command, click.Group):
        yield from _options(command, context, ".SH OPTIONS")
    else:
        yield ".SH COMMANDS"
        for leaf, its in leaves:
            yield f".SS {_escaped(its.command_path)}"
            yield from _text(leaf.help or leaf.get_short_help_str())
            yield from _options(leaf, its, "")
    yield from _foot()


def _leaves(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """The commands that do something, in order."""
    if not isinstance(command, click.Group):
        yield command, context
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None and not found.hidden:
            yield from _leaves(found, click.Context(found, info_name=name, parent=context))


def _head(name: str, short: str) -> Iterator[str]:
    yield f'.TH "{_escaped(name.upper())}" "1" "{DATE}" "l3net {__version__}" "l3net"'
    yield ".SH NAME"
    yield f"{_escaped(name)} \\- {_escaped(short[0].lower() + short[1:])}"


def _synopsis(path: str, pieces: list[str]) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    yield _usage(path, pieces)


def _usage(path: str, pieces: list[str]) -> str:
    return f"\\fB{_escaped(path)}\\fR {_escaped(' '.join(pieces))}".rstrip()


def _text(text: str) -> Iterator[str]:
    for number, (paragraph, as_it_is) in enumerate(paragraphs(text)):
        if as_it_is:
            yield from (".PP", ".nf", ".RS 2", *map(_line, paragraph.splitlines()), ".RE", ".fi")
        else:
            yield from (".PP", _line(paragraph)) if number else (_line(paragraph),)


def _options(command: click.Command, context: click.Context, title: str) -> Iterator[str]:
    found = False
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is None:
            continue
        if not found and title:
            yield title
        found = True
        option, meaning = record
        if "--help" in parameter.opts:  # click keeps it as the first caller made it, whoever that was
            option = ", ".join(cli.context_settings["help_option_names"])
        yield from (".TP", f"\\fB{_escaped(option)}\\fR")
        envvar = f" Environment: {parameter.envvar}." if parameter.envvar else ""
        yield _line(" ".join((meaning + envvar).split()) or "See above.")


def _foot() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for code, meaning in _EXIT:
        yield from (".TP", f".B {code}", meaning)
    yield ".SH SEE ALSO"
    yield ".BR l3net (1)"


def _line(text: str) -> str:
    """One that begins with no macro."""
    escaped = _escaped(text)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _escaped(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return escaped.replace('"', "\\(dq").replace("^", "\\(ha").replace("~", "\\(ti")
