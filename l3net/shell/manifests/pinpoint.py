"""Where in a file each thing stands that is wrong, and all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import yaml

from l3net.kube.faults import every_error, walked
from l3net.ports import Rejected
from l3net.shell.manifests.documents import Document, DocumentError, parse
from l3net.shell.manifests.tree import Reading

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def pinpointed(path: str, content: bytes, reading: Reading) -> tuple[Rejected, ...]:
    """What `reading` has rejected, with the line of each field, and with all errors of each object.

    `path` and `content` are what it was made from. What cannot be found in the file stays as it is.
    """
    try:
        documents = parse(content, is_json=path.endswith(".json"))
    except DocumentError:
        return reading.rejected  # which says the line
    lines = _Lines(content)
    alone = len(documents) == 1
    found: list[Rejected] = []
    for rejected in reading.rejected:
        document = _of(rejected, documents, path, alone)
        if document is None:
            found.append(rejected)
            continue
        whole = rejected.about is not None and not rejected.partly
        errors = every_error(document.content) if whole else []
        told = [replace(rejected, field=each.field, why=each.why) for each in errors] or [rejected]
        start = f"{path}:{document.line}"
        found += sorted(
            (
                replace(each, where=f"{path}:{line}{each.where.removeprefix(start)}")
                for each in told
                if (line := lines.of(document, each.field))
            ),
            key=lambda each: int(each.where.removeprefix(f"{path}:").partition(" ")[0]),
        )
    return tuple(dict.fromkeys(found))


def _of(rejected: Rejected, documents: Sequence[Document], path: str, alone: bool) -> Document | None:
    for document in documents:
        where = document.where(path, alone=alone)
        if document.line and f"{rejected.where} ".startswith(f"{where} "):
            return document
    return None


class _Lines:
    """Of the fields of a file's documents."""

    def __init__(self, content: bytes) -> None:
        self._nodes: list[yaml.Node | None] = []
        try:
            self._nodes += yaml.compose_all(content.decode("utf-8-sig"), Loader=_LOADER)
        except (yaml.YAMLError, RecursionError):
            self._nodes = []  # JSON that is no YAML

    def of(self, document: Document, field: str) -> int:
        """The line of the field, or of the nearest thing above it."""
        if document.number > len(self._nodes):
            return document.line
        node, line = self._nodes[document.number - 1], document.line
        steps, _ = walked(document.content, field)
        for step in (*(() if document.item is None else ("items", document.item)), *steps):
            below = _below(node, step)
            if below is None:
                break
            node, line = below
        return line


def _below(node: yaml.Node | None, step: str | int) -> tuple[yaml.Node, int] | None:
    """A field's value and the line of its name; an element of a list and its line."""
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step].start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode) and name.value == step:
                return value, name.start_mark.line + 1
    return None
