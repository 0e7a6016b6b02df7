"""Reading manifest files: bytes on disk into parsed documents, with bounds on what a file may cost."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from l3net.errors import ConfigError

#: What is read as a manifest; names that begin with a dot are left alone (editors, and `..data` of mounts).
SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 16 * 1024 * 1024
#: Values (names of fields among them) a document may hold, once its aliases are written out: while YAML is
#: read each costs up to 700 bytes and 8 us. Three thousand Services in one List are as many; documents of one
#: file are read one by one.
MAX_VALUES = 250_000
#: Levels of nesting; Kubernetes objects have about twenty. libyaml's composer has no bound but the stack.
MAX_DEPTH = 100
#: Digits of a number; Kubernetes' have at most twenty.
MAX_DIGITS = 100

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DocumentError(ConfigError):
    """A file cannot be read or parsed. `line` counts from 1; 0 is the file as a whole."""

    def __init__(self, why: str, line: int = 0) -> None:
        super().__init__(why)
        self.line = line


class TooLargeError(DocumentError):
    """A file or a document holds more than is read."""


def bounded(content: bytes) -> bytes:
    """The content of a file. Raises TooLargeError for more than MAX_BYTES."""
    if len(content) > MAX_BYTES:
        raise TooLargeError(f"is larger than {MAX_BYTES // 2**20} MiB; split it")
    return content


class _Loader(_BASE):  # type: ignore[misc]
    """YAML as Kubernetes reads it: no dates, no base 60 (`64512:10` is a string), no key twice."""

    _depth = 0
    _values = 0

    def get_node(self) -> Any:
        self._values = 0
        return super().get_node()

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        """Called by the composer for each node, and so the place to bound their depth."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise DocumentError(f"is nested too deeply: more than {MAX_DEPTH} levels")
        self._values += 1
        if self._values > MAX_VALUES:
            raise TooLargeError(f"holds a document of more than {MAX_VALUES} values; split it")

    def ascend_resolver(self) -> None:
        self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(names)) < len(names):
            seen: set[str] = set()
            for key, _ in node.value:
                # What a merge (<<) has brought from elsewhere may be overridden.
                here = node.start_mark.index <= key.start_mark.index < node.end_mark.index
                if here and isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        raise DocumentError(f"the key {key.value!r} appears twice", key.start_mark.line + 1)
                    seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_yaml_int(self, node: yaml.ScalarNode) -> Any:
        if len(node.value) > MAX_DIGITS:
            why = f"a number of {len(node.value)} digits"
            raise DocumentError(why, node.start_mark.line + 1)
        return super().construct_yaml_int(node)


def _without(tags: Iterable[str]) -> dict[str, list[tuple[str, Any]]]:
    dropped = set(tags)
    return {
        first: [(tag, pattern) for tag, pattern in found if tag not in dropped]
        for first, found in _BASE.yaml_implicit_resolvers.items()
    }


_TIMESTAMP, _INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("timestamp", "int", "float"))
_Loader.add_constructor(_INT, _Loader.construct_yaml_int)
# Numbers as the YAML 1.2 core schema has them.
_Loader.yaml_implicit_resolvers = _without((_TIMESTAMP, _INT, _FLOAT))
_Loader.add_implicit_resolver(
    _INT, re.compile(r"^(?:[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o?[0-7]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$"),
    list("-+0123456789."),
)


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed object of a file. `number` counts documents and `line` lines, both from 1."""

    content: Mapping[str, object]
    number: int
    line: int
    item: int | None = None  # its index in a List

    def where(self, path: str, *, alone: bool = False) -> str:
        place = f"{path}:{self.line}" if self.line else path
        if not alone and self.number:
            place += f" (document {self.number})"
        return place if self.item is None else f"{place} items[{self.item}]"


@dataclass(frozen=True, slots=True)
class Contents:
    """The documents of a file, and the stamp that tells whether it has changed since (None: look again)."""

    documents: tuple[Document, ...]
    stamp: Stamp | None


Stamp = tuple[int, int, int, int, int]


def stamp_of(status: os.stat_result) -> Stamp:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def is_manifest(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith(".")


def read_bytes(path: Path | str) -> tuple[bytes, Stamp]:
    """The file's content, at most MAX_BYTES, and its stamp from before reading. Raises DocumentError."""
    try:
        # Non-blocking, so that a named pipe cannot hold us up.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise DocumentError("is not a regular file")
            content = _read(descriptor, status.st_size)
        finally:
            os.close(descriptor)
    except OSError as err:
        raise DocumentError(f"cannot be read: {err.strerror}") from err
    return bounded(content), stamp_of(status)


def _read(descriptor: int, size: int) -> bytes:
    """All there is, at most an octet more than MAX_BYTES: a file may not tell its size."""
    content = os.read(descriptor, min(size, MAX_BYTES) + 1)
    if len(content) == size:
        return content
    parts = [content]
    left = MAX_BYTES + 1 - len(content)
    while left and (part := os.read(descriptor, min(left, 1 << 16))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def parse(content: bytes, *, is_json: bool = False) -> tuple[Document, ...]:
    """The objects of a file; lists (`kind: List`) are opened, empty documents left out.

    Raises DocumentError for what is not YAML (JSON), not an object, or too large once aliases are expanded.
    """
    try:
        return tuple(_opened(_parse_json(content) if is_json else _parse_yaml(content)))
    except RecursionError:
        raise DocumentError(f"is nested too deeply: more than {MAX_DEPTH} levels") from None
    except UnicodeDecodeError as err:
        raise DocumentError(f"is not UTF-8 text (byte {err.start})") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DocumentError(f"the key {twice!r} appears twice")
    return found


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise DocumentError(f"a number of {len(text)} digits")
    return int(text)


def _constant(text: str) -> object:
    raise DocumentError(f"is not JSON: {text}")


_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_constant=_constant)


def _parse_json(content: bytes) -> Iterator[Document]:
    if not content.strip():
        return
    _bound_json(content)
    try:
        value = _JSON.decode(content.decode("utf-8-sig"))
    except json.JSONDecodeError as err:
        raise DocumentError(f"is not JSON: {err.msg}", err.lineno) from None
    yield _document(value, 1, 1)


_JSON_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_JSON_NEST = re.compile(rb"[\[{]|[\]}]")


def _bound_json(content: bytes) -> None:
    """Refuse what is nested too deeply or holds too much, before memory is spent on it."""
    if len(content) <= MAX_VALUES and content.count(b"{") + content.count(b"[") <= MAX_DEPTH:
        return  # as nearly every file: it can be neither
    bare = _JSON_STRING.sub(b"", content)
    if sum(bare.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise TooLargeError(f"holds more than {MAX_VALUES} values; split it")
    depth = 0
    for mark in _JSON_NEST.finditer(bare):
        depth += 1 if mark[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            raise DocumentError(f"is nested too deeply: more than {MAX_DEPTH} levels")


def _parse_yaml(content: bytes) -> Iterator[Document]:
    for value, number, line in _values(content):
        yield _document(value, number, line)


def one_value(content: bytes) -> object:
    """What a YAML file of one document holds, whatever it is; None for nothing. Raises DocumentError."""
    try:
        found = list(_values(content))
    except RecursionError:
        raise DocumentError(f"is nested too deeply: more than {MAX_DEPTH} levels") from None
    except UnicodeDecodeError as err:
        raise DocumentError(f"is not UTF-8 text (byte {err.start})") from None
    if len(found) > 1:
        raise DocumentError("holds more than one document", found[1][2])
    return found[0][0] if found else None


def _values(content: bytes) -> Iterator[tuple[object, int, int]]:
    """Each document that holds something, its number and line."""
    aliases = b"*" in content and b"&" in content
    text = content.decode("utf-8-sig")
    loader = _Loader(text)
    try:
        number = 0
        while loader.check_node():
            node = loader.get_node()
            number += 1
            line = node.start_mark.line + 1
            if aliases:
                _bound(node, line)
            value = loader.construct_document(node)
            if value is not None:
                yield value, number, line
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        why = ", ".join(part for part in (err.problem, err.context) if part)
        # At the end of the file libyaml's mark is on a line that is not there.
        line = min(mark.line, content.rstrip().count(b"\n")) + 1 if mark else 0
        raise DocumentError(f"is not YAML: {why}", line) from None
    except yaml.YAMLError as err:
        raise DocumentError(f"is not YAML: {' '.join(str(err).split())}") from None
    except (ValueError, TypeError) as err:
        # Constructors of scalars: an integer of thousands of digits, an unhashable key.
        raise DocumentError(f"is not YAML: {err}") from None
    finally:
        loader.dispose()


def _bound(root: yaml.Node, line: int) -> None:
    """Refuse aliases that grow beyond bounds ("billion laughs") or contain themselves."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        key = id(node)
        if key in open_nodes:
            raise DocumentError("an alias contains itself", line)
        if key not in sizes:
            open_nodes.add(key)
            total = 1
            if isinstance(node, yaml.SequenceNode):
                total += sum(map(size, node.value))
            elif isinstance(node, yaml.MappingNode):
                total += sum(size(name) + size(value) for name, value in node.value)
            open_nodes.discard(key)
            sizes[key] = total
        return sizes[key]

    if size(root) > MAX_VALUES:
        raise DocumentError(f"holds more than {MAX_VALUES} values once its aliases are expanded", line)


def _document(value: object, number: int, line: int) -> Document:
    if not isinstance(value, dict):
        raise DocumentError(f"document {number} is not an object with apiVersion and kind", line)
    return Document(value, number, line)


def _opened(documents: Iterable[Document]) -> Iterator[Document]:
    """Lists as their items; those of a typed list (`ServiceList`) take its apiVersion and kind."""
    for document in documents:
        kind, items = document.content.get("kind"), document.content.get("items")
        if kind == "List" and not isinstance(items, list | None):
            raise DocumentError("items is not a list", document.line)
        if not (isinstance(kind, str) and kind.endswith("List") and isinstance(items, list)):
            yield document
            continue
        of = {"apiVersion": document.content.get("apiVersion"), "kind": kind.removesuffix("List")}
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                raise DocumentError(f"items[{index}] is not an object", document.line)
            content = item if kind == "List" else {**of, **item}
            yield Document(content, document.number, document.line, index)
