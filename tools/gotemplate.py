"""The part of Go's text/template, of Sprig and of Helm that l3net's chart uses, for machines without helm.

Actions with pipelines, variables, if/else/with/range/define/include and the functions in `FUNCTIONS`; what is
not known raises TemplateError. tests/deploy compares the result with Go's own engine where Go is installed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


class TemplateError(Exception):
    """A template that cannot be parsed or rendered."""


@dataclass
class _Node:
    """Text, an action, or a block with branches of (pipeline, body); an empty pipeline is the else branch."""

    kind: str  # text, action, if, with, range
    text: str = ""
    branches: list[tuple[str, list[_Node]]] = field(default_factory=list)


_ACTION = re.compile(
    r"\{\{(-\s)?(/\*.*?\*/|(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^}]|\}(?!\}))*?)(\s-)?\}\}", re.S
)
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:\\.|[^"\\])*")|(?P<raw>`[^`]*`)|(?P<number>-?\d+)|(?P<assign>:?=)"""
    r"""|(?P<sign>[|(),])|(?P<path>\$?[A-Za-z_][\w]*(?:\.\w+)*|\$(?:\.\w+)*|(?:\.\w+)+|\.))"""
)


class Templates:
    """A chart's templates, parsed; `define`d ones are shared among them, as in Helm."""

    def __init__(self) -> None:
        self._defined: dict[str, list[_Node]] = {}

    def parse(self, source: str) -> list[_Node]:
        pieces: list[tuple[str, str]] = []
        end = 0
        trim_next = False
        for match in _ACTION.finditer(source):
            text = source[end : match.start()]
            if trim_next:
                text = text.lstrip(" \t\r\n")
            if match[1]:
                text = text.rstrip(" \t\r\n")
            pieces.append(("text", text))
            if not match[2].startswith("/*"):
                pieces.append(("action", match[2].strip()))
            trim_next, end = bool(match[3]), match.end()
        tail = source[end:]
        pieces.append(("text", tail.lstrip(" \t\r\n") if trim_next else tail))
        nodes, rest = self._block(pieces, 0)
        if rest != len(pieces):
            raise TemplateError(f"unexpected {pieces[rest][1]!r}")
        return nodes

    def _block(self, pieces: list[tuple[str, str]], at: int) -> tuple[list[_Node], int]:
        nodes: list[_Node] = []
        while at < len(pieces):
            kind, text = pieces[at]
            word = text.split(None, 1)[0] if kind == "action" and text else ""
            if kind == "text":
                if text:
                    nodes.append(_Node("text", text))
                at += 1
            elif word in ("end", "else"):
                return nodes, at
            elif word in ("if", "with", "range"):
                node = _Node(word)
                condition = text[len(word) :].strip()
                while True:
                    body, at = self._block(pieces, at + 1)
                    node.branches.append((condition, body))
                    if at >= len(pieces):
                        raise TemplateError(f"{word} without end")
                    closing = pieces[at][1]
                    if closing == "end":
                        break
                    condition = closing.removeprefix("else").strip().removeprefix("if").strip()
                nodes.append(node)
                at += 1
            elif word == "define":
                body, at = self._block(pieces, at + 1)
                self._defined[text.split(None, 1)[1].strip().strip('"')] = body
                at += 1
            else:
                nodes.append(_Node("action", text))
                at += 1
        return nodes, at

    def render(self, nodes: list[_Node], root: Mapping[str, Any]) -> str:
        return self._render(nodes, root, {"$": root})

    def _render(self, nodes: list[_Node], dot: Any, names: dict[str, Any]) -> str:
        out: list[str] = []
        for node in nodes:
            if node.kind == "text":
                out.append(node.text)
            elif node.kind == "action":
                value = self._pipeline(node.text, dot, names)
                out.append("" if value is _NOTHING else _printed(value))
            else:
                out.append(self._branch(node, dot, names))
        return "".join(out)

    def _branch(self, node: _Node, dot: Any, names: dict[str, Any]) -> str:
        for index, (condition, body) in enumerate(node.branches):
            if not condition and index:
                return self._render(body, dot, dict(names))
            if node.kind == "range" and index == 0:
                text = self._range(condition, body, dot, names)
                if text is not None:
                    return text
                continue
            scope = dict(names)
            value = self._pipeline(condition, dot, scope)
            if _true(value):
                return self._render(body, value if node.kind == "with" and index == 0 else dot, scope)
        return ""

    def _range(self, condition: str, body: list[_Node], dot: Any, names: dict[str, Any]) -> str | None:
        variables: list[str] = []
        if ":=" in condition:
            left, condition = condition.split(":=", 1)
            variables = [name.strip() for name in left.split(",")]
        found = self._pipeline(condition, dot, names)
        if not _true(found):
            return None
        pairs = sorted(found.items()) if isinstance(found, Mapping) else list(enumerate(found))
        out = []
        for key, value in pairs:
            given = (value,) if len(variables) == 1 else (key, value)
            out.append(self._render(body, value, {**names, **dict(zip(variables, given, strict=False))}))
        return "".join(out)

    # --- pipelines ---------------------------------------------------------------------------------------

    def _pipeline(self, text: str, dot: Any, names: dict[str, Any]) -> Any:
        tokens = _tokens(text)
        if len(tokens) > 1 and tokens[1][0] == "assign":
            names[tokens[0][1]] = self._piped(tokens[2:], dot, names)
            return _NOTHING
        return self._piped(tokens, dot, names)

    def _piped(self, tokens: list[tuple[str, str]], dot: Any, names: dict[str, Any]) -> Any:
        value: Any = _NOTHING
        for command in _split(tokens):
            value = self._command(command, dot, names, value)
        return value

    def _command(self, tokens: list[tuple[str, str]], dot: Any, names: dict[str, Any], piped: Any) -> Any:
        name = tokens[0][1]
        is_function = tokens[0][0] == "path" and (name in FUNCTIONS or name in ("include", "and", "or"))
        arguments = self._arguments(tokens[1:] if is_function else tokens, dot, names)
        if piped is not _NOTHING:
            arguments.append(piped)
        if not is_function:
            if len(arguments) != 1:
                raise TemplateError(f"{name} is no function of those known")
            return arguments[0]
        if name == "include":
            if arguments[0] not in self._defined:
                raise TemplateError(f"no template {arguments[0]!r}")
            return self._render(self._defined[arguments[0]], arguments[1], {"$": arguments[1]})
        if name in ("and", "or"):
            stop = name == "or"
            return next((value for value in arguments if _true(value) == stop), arguments[-1])
        return FUNCTIONS[name](*arguments)

    def _arguments(self, tokens: list[tuple[str, str]], dot: Any, names: dict[str, Any]) -> list[Any]:
        found: list[Any] = []
        at = 0
        while at < len(tokens):
            kind, text = tokens[at]
            if text == "(" and kind == "sign":
                depth, start = 1, at + 1
                while depth:
                    at += 1
                    depth += {"(": 1, ")": -1}.get(tokens[at][1], 0) if tokens[at][0] == "sign" else 0
                found.append(self._piped(tokens[start:at], dot, names))
            elif kind == "string":
                found.append(yaml.safe_load(text))
            elif kind == "raw":
                found.append(text[1:-1])
            elif kind == "number":
                found.append(int(text))
            elif text in ("true", "false"):
                found.append(text == "true")
            else:
                found.append(_looked_up(text, dot, names))
            at += 1
        return found


class _Nothing:
    pass


_NOTHING = _Nothing()


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    text = text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.end() == at:
            raise TemplateError(f"cannot read {text[at:]!r}")
        found.append((str(match.lastgroup), match[str(match.lastgroup)]))
        at = match.end()
    if not found:
        raise TemplateError("an action without content")
    return found


def _split(tokens: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Commands between the pipes that stand in no parentheses."""
    found: list[list[tuple[str, str]]] = [[]]
    depth = 0
    for kind, text in tokens:
        if kind == "sign":
            depth += {"(": 1, ")": -1}.get(text, 0)
            if text == "|" and not depth:
                found.append([])
                continue
        found[-1].append((kind, text))
    return found


def _looked_up(path: str, dot: Any, names: dict[str, Any]) -> Any:
    if path == ".":
        return dot
    first, *rest = path.split(".")
    if first == "":
        value = dot
    elif first in names:
        value = names[first]
    else:
        raise TemplateError(f"{first} is not known")
    for name in rest:
        # a field of nothing is an error in Go, a missing one of a map is nothing
        if not isinstance(value, Mapping):
            raise TemplateError(f"{path}: nil pointer evaluating {name}")
        value = value.get(name)
    return value


def _true(value: Any) -> bool:
    return bool(value) and value is not _NOTHING


def _printed(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _to_yaml(value: Any) -> str:
    return (
        yaml.safe_dump(value, sort_keys=True, default_flow_style=False, width=10_000)
        .rstrip("\n")
        .removesuffix("\n...")
    )


def _indent(count: int, text: str) -> str:
    return "\n".join(" " * count + line for line in text.split("\n"))


def _quote(value: Any) -> str:
    text = _printed(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "default": lambda fallback, value=None: value if _true(value) else fallback,
    "eq": lambda first, *others: first in others,
    "ne": lambda first, second: first != second,
    "not": lambda value: not _true(value),
    "quote": _quote,
    "toYaml": _to_yaml,
    "indent": _indent,
    "nindent": lambda count, text: "\n" + _indent(count, text),
    "regexFind": lambda pattern, text: found[0] if (found := re.search(pattern, text)) else "",
    "trimAll": lambda characters, text: text.strip(characters),
    "trimSuffix": lambda suffix, text: text.removesuffix(suffix),
}


def render_chart(
    chart: Path,
    values: Mapping[str, Any] | None = None,
    *,
    release: str = "l3net",
    namespace: str = "kube-system",
    texts: dict[str, str] | None = None,
) -> dict[str, str]:
    """`helm template`: what each template gives, by file name. Values are merged over the chart's own.

    `texts` stand in place of the templates of that name.
    """
    merged = _merged(yaml.safe_load((chart / "values.yaml").read_text()), values or {})
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    root = {
        "Values": merged,
        "Chart": {key[0].upper() + key[1:]: value for key, value in about.items()},
        "Release": {"Name": release, "Namespace": namespace, "Service": "Helm"},
    }
    templates = Templates()
    found = {path.name: path.read_text() for path in sorted((chart / "templates").iterdir())} | (texts or {})
    parsed = {name: templates.parse(text) for name, text in found.items()}
    return {name: templates.render(nodes, root) for name, nodes in parsed.items() if not name.startswith("_")}


def _merged(base: Any, over: Any) -> Any:
    """As Helm merges: maps key by key, null deletes, everything else is replaced."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    found = dict(base)
    for key, value in over.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = _merged(found.get(key), value) if key in found else value
    return found
