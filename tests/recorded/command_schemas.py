"""Printed JSON held against the schemas of commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match


def commands(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command by its words, hidden ones too."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        if below is not None:
            yield from commands(below, *path, name)


def prints_json(command: click.Command) -> bool:
    """Whether it has `-o json`."""
    return any(
        "-o" in each.opts and "json" in getattr(each.type, "choices", ())
        for each in command.params
        if isinstance(each, click.Option)
    )


@cache
def names() -> dict[str, str]:
    """Of the function of a command, its words."""
    from l3net.cli.main import cli

    return {
        f"{each.callback.__module__}:{each.callback.__name__}": words
        for words, each in commands(cli)
        if each.callback is not None and prints_json(each)
    }


@cache
def validator(words: str) -> Draft202012Validator:
    from l3net.cli.schemas import document

    return Draft202012Validator(document(words))


def fault(words: str, printed: Any) -> str:
    """What is wrong with what a command has printed, and where; empty: nothing."""
    wrong = best_match(validator(words).iter_errors(printed))
    return "" if wrong is None else f"l3net {words} -o json: {_deepest(wrong)}"


def _deepest(wrong: ValidationError) -> str:
    """Of the alternatives, the one that fits furthest."""
    while wrong.context:
        wrong = max(wrong.context, key=lambda each: len(each.absolute_path))
    return f"{wrong.json_path}: {wrong.message[:300]}"


def faults(file: Path) -> str:
    """Of a file that printed_json has written."""
    found = json.loads(file.read_text())
    words = names().get(found["command"])
    return fault(words, json.loads(found["printed"])) if words else f"{found['command']} has no schema"
