"""A fake API server and controllers that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apiserver import FakeApiServer
from controller_rig import Running
from realapi import RealApiServer

from l3net.controller.decide import Settings


@pytest.fixture
def api(request: pytest.FixtureRequest) -> Iterator[FakeApiServer | RealApiServer]:
    """The fake one, unless a test asks for both (`both` of controller_rig)."""
    if getattr(request, "param", "fake") == "fake":
        with FakeApiServer() as server:
            yield server
        return
    server = request.getfixturevalue("real")
    server.wipe()
    yield server


@pytest.fixture
def start(api: FakeApiServer | RealApiServer, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def start(name: str = "one", settings: Settings | None = None, **options: Any) -> Running:
        running.append(Running(api, tmp_path, name, settings=settings or Settings(), **options))
        return running[-1]

    try:
        yield start
    finally:
        api.allow()
        api.thaw()
        for each in running:
            each.stop()
