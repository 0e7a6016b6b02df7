"""A host with a real agent, and the plugin that attaches its pods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pod_node import Node, built


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("cni-bin"))


@pytest.fixture
def host(tmp_path: Path, plugin: Path) -> Iterator[Node]:
    with ExitStack() as undo:
        yield Node(tmp_path, plugin, undo)
