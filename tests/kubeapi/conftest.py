"""A fake API server and datastores that follow it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apiserver import FakeApiServer
from kube_follower import BACKOFF, Follower, configuration, node

from l3net.shell.kubernetes.api import KubeApi
from l3net.shell.kubernetes.store import KubernetesDatastore


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with FakeApiServer() as server:
        server.put(node("n1", "10.0.0.1"), configuration())
        yield server


@pytest.fixture
def connect(api: FakeApiServer, tmp_path: Path) -> Iterator[Callable[..., Follower]]:
    running: list[Follower] = []

    def start(token: str | None = None, **options: Any) -> Follower:
        client = KubeApi(api.kubeconfig(tmp_path / "kubeconfig", token))
        options.setdefault("backoff", BACKOFF)
        follower = Follower(KubernetesDatastore(client, options.pop("me", "n1"), **options))
        running.append(follower.__enter__())
        return follower

    try:
        yield start
    finally:
        api.allow()
        api.thaw()
        for follower in running:
            follower.__exit__()
