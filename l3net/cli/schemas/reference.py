"""docs/json.md, from the schemas and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from l3net.cli.schemas import COMMANDS, VERSION, file_name
from l3net.cli.schemas.shapes import Schema

_INTRO: Final = f"""\
# JSON for programs

Every command that shows something has `-o json` (and `-o yaml` with the same values). A JSON Schema (2020-12)
describes its output. `l3net schema` lists the commands, and `l3net schema COMMAND` prints one schema. The
installed package contains the files too: `l3net/cli/schemas/json/`.

    l3net status -o json | jq -r '.peers[] | select(.state != "established") | .name'
    l3net schema status > status.json && l3net status -o json | check-jsonschema --schemafile status.json -

## What may change

Schemas have a version, the `v{VERSION}` in their `$id` (`urn:l3net:json:v{VERSION}:status`). Within a
version:

- No field is removed, renamed, made optional, or given another type, unit or meaning.
- Fields and values of an `enum` may be added. Objects are closed in a schema (`additionalProperties` is
  false), so validate with the schema of the release that printed the output: take it from `l3net schema`. A
  program should ignore unknown fields.
- The order of fields and the text for people (`what`, `why`, `reason`, `detail`, `answer`, `advice`,
  `problems`) may change at any time. Programs should use enumerations and `cause`.

A change that breaks these rules increases the version, and CHANGELOG.md describes it.

With `--node` and `--all-nodes` another node's agent answers, in the format of its own release. If that does
not fit, use that node's `l3net schema`.

## Forms

With several nodes (`--all-nodes`, or `--node` more than once) an object becomes a list of objects, and each
row has its `node`. With `--follow` a command prints one object per line. A schema has each form as an
alternative (`anyOf`). Errors are text on standard error. The exit code then gives the kind of error
([commands.md](commands.md)), and standard output may be empty.

## Commands

| command | what it prints | file |
|---|---|---|
"""


def reference() -> str:
    """docs/json.md, complete."""
    return _INTRO + "".join(
        f"| `l3net {command}` | {_shape(COMMANDS[command])} | `{file_name(command)}` |\n"
        for command in COMMANDS
    )


def _shape(found: Schema) -> str:
    """In a few words."""
    return "; or ".join(_forms(found, []))


def _forms(found: Schema, known: list[list[str]]) -> Iterator[str]:
    """Each alternative; `known` are the fields of those before."""
    for each in found.get("anyOf", ()):
        yield from _forms(each, known)
    if found.get("type") not in ("array", "object"):
        return
    fields = list(found.get("items", found)["properties"])
    listed = "a list of " * (found["type"] == "array")
    if [each for each in fields if each != "node"] in known and "node" in fields:
        yield f"{listed}the same with `node`"
    elif fields in known:
        yield f"{listed}the same"
    else:
        yield listed + ", ".join(f"`{name}`" for name in fields)
    known.append(fields)
