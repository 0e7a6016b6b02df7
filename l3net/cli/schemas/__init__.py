"""What commands print with `-o json`, as JSON Schema (2020-12): a row a command, by its words.

The same is in the files of json/, which `make docs` writes. Tests hold every JSON that commands print while
they are tested against it, and objects are closed, so that neither can change without the other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from l3net.cli.schemas import asking, bgp, node, policy
from l3net.cli.schemas.shapes import Schema

#: Counts up when something is taken away or means something else; docs/json.md has the promise.
VERSION: Final = 1

COMMANDS: Final[dict[str, Schema]] = dict(
    sorted({**bgp.SCHEMAS, **node.SCHEMAS, **policy.SCHEMAS, **asking.SCHEMAS}.items())
)


def document(command: str) -> dict[str, Any]:
    """The schema of a command (`bgp routes`), whole. Raises KeyError."""
    name = file_name(command)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:l3net:json:v{VERSION}:{name.removesuffix('.json')}",
        "title": f"l3net {command} -o json",
        **COMMANDS[command],
    }


def file_name(command: str) -> str:
    """Words are parted by `-`; one in a word is written as `_`."""
    return f"{command.replace('-', '_').replace(' ', '-')}.json"


def write(directory: Path) -> None:
    """A file a command, and none beside."""
    directory.mkdir(exist_ok=True)
    names = {file_name(command): document(command) for command in COMMANDS}
    for file in directory.iterdir():
        if file.name not in names:
            file.unlink()
    for name, found in names.items():
        (directory / name).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
