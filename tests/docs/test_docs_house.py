"""The house's bounds (docs/architecture.md): sizes, and rooms that do no I/O and read no clock."""

from __future__ import annotations

import ast
import statistics
from functools import cache
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2] / "l3net"
FILES = sorted(HOUSE.rglob("*.py"))
#: What of asyncio makes sockets, pipes or processes; what is left is timers and tasks, on the clock of
#: whoever runs the loop, and `to_thread`, which asks the loop.
WORLD = (
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "add_reader",
    "add_writer",
    "add_signal_handler",
    "create_server",
    "create_connection",
    "create_datagram_endpoint",
    "sock_connect",
    "sock_recv",
    "connect_read_pipe",
)
#: Of pathlib and builtins: what touches a file.
FILE_ACCESS = ("read_text", "read_bytes", "write_text", "write_bytes", "is_dir", "is_file", "open")
FILE_ACCESS += ("unlink", "mkdir", "rename", "iterdir", "glob", "stat")


@cache
def defined() -> list[tuple[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    """Each class and function, and where it is."""
    return [
        (each, f"{file.relative_to(HOUSE)}: {each.name}")
        for file in FILES
        for each in ast.walk(ast.parse(file.read_text()))
        if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def definitions(kind: type | tuple[type, ...]) -> list[tuple[str, int]]:
    """Name and lines of each."""
    return [
        (name, (each.end_lineno or 0) - each.lineno + 1) for each, name in defined() if isinstance(each, kind)
    ]


def test_modules_are_small() -> None:
    sizes = {str(file.relative_to(HOUSE)): len(file.read_text().splitlines()) for file in FILES}
    assert {name: size for name, size in sizes.items() if size > 450} == {}
    assert statistics.median(sizes.values()) <= 150


@pytest.mark.parametrize(
    ("kind", "bound"), [(ast.ClassDef, 300), ((ast.FunctionDef, ast.AsyncFunctionDef), 80)]
)
def test_classes_and_functions_are_small(kind: type | tuple[type, ...], bound: int) -> None:
    assert [(name, lines) for name, lines in definitions(kind) if lines > bound] == []


def test_the_bounds_are_looked_at() -> None:
    """The control: there is something near each of them."""
    assert max(lines for _, lines in definitions(ast.ClassDef)) > 150
    assert max(lines for _, lines in definitions(ast.FunctionDef)) > 40


@pytest.mark.parametrize("room", ["agent", "controller", "announce"])
def test_a_room_that_decides_reaches_the_world_by_its_ports_alone(room: str) -> None:
    """import-linter holds the imports; this, what the event loop and paths would give."""
    found = []
    for file in sorted((HOUSE / room).rglob("*.py")):
        for each in ast.walk(ast.parse(file.read_text())):
            if isinstance(each, ast.Attribute) and each.attr in (*WORLD, *FILE_ACCESS):
                found.append(f"{file.name}:{each.lineno}: .{each.attr}")
            elif isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == "open":
                found.append(f"{file.name}:{each.lineno}: open()")
    assert found == []
