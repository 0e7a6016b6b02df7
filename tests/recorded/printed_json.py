"""The JSON that commands print under test, written down: in this process and (sitecustomize.py) in those that
tests start. tests/conftest.py holds it against the commands' schemas. The program knows nothing of it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

PLACE = "L3NET_TEST_PRINTED"
_WATCHED = "l3net.cli.output"


class _Recording(MetaPathFinder):
    """Finds the one module as everybody does, and changes it once it is there."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _WATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Changed(spec.loader)
        return spec


class _Changed(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        changed: Any = module
        plain = changed.json_text

        def json_text(value: Any, indent: int | None = None) -> str:
            text: str = plain(value, indent)
            with contextlib.suppress(OSError):  # a host of the test may have no such directory
                record(text)
            return text

        changed.json_text = json_text


def install() -> None:
    """From now on, in this process, if it has not been done."""
    if _WATCHED not in sys.modules and not any(isinstance(each, _Recording) for each in sys.meta_path):
        sys.meta_path.insert(0, _Recording())


def record(text: str) -> None:
    """One file for each text: the function of the command, and what it printed."""
    import click

    context = click.get_current_context(silent=True)
    if context is None or context.command.callback is None:
        return
    called = f"{context.command.callback.__module__}:{context.command.callback.__name__}"
    handle, name = tempfile.mkstemp(suffix=".part", dir=os.environ[PLACE])
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({"command": called, "printed": text}, file)
    Path(name).rename(name.removesuffix(".part") + ".json")
