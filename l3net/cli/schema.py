"""`l3net schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem

#: Made by `make docs` of the package beside it; a file a command, by its words.
PLACE: Final = Path(__file__).parent / "schemas" / "json"


def commands() -> list[list[str]]:
    """The words of each command that has a schema."""
    stems = (file.stem for file in sorted(PLACE.glob("*.json")))
    return [[word.replace("_", "-") for word in stem.split("-")] for stem in stems]


def _next_word(context: click.Context, parameter: click.Parameter, begin: str) -> list[CompletionItem]:
    """What may come after the words so far."""
    before = list(context.params.get(parameter.name or "") or ())
    at = len(before)
    found = dict.fromkeys(words[at] for words in commands() if words[:at] == before and len(words) > at)
    return [CompletionItem(word) for word in found if word.startswith(begin)]


@click.command(short_help="Print the JSON schema of what a command prints with -o json.")
@click.argument("words", metavar="[COMMAND]...", nargs=-1, shell_complete=_next_word)
def schema(words: tuple[str, ...]) -> None:
    """Print the JSON Schema (2020-12) of COMMAND's output with `-o json`. Without COMMAND, list the commands
    that have a schema.

    A schema belongs to the release that prints it. Within a version (the `v1` of its `$id`) fields and
    enumeration values may be added; none is removed, renamed or changes its meaning.

    \b
    l3net schema
    l3net schema bgp routes
    l3net schema status > status.json
    """
    if not words:
        click.echo("\n".join(" ".join(each) for each in commands()))
        return
    if list(words) not in commands():
        raise click.UsageError(
            f"no command `{' '.join(words)}` has a schema; `l3net schema` lists those that do"
        )
    name = "-".join(word.replace("-", "_") for word in words)
    click.echo((PLACE / f"{name}.json").read_text(encoding="utf-8"), nl=False)
