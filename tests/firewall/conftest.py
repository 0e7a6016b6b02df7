"""The node, its pods and its neighbours, one net for a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from firewall_net import Net


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    made = Net()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def _new_flows(request: pytest.FixtureRequest) -> None:
    """A datagram from a port that an earlier test had is none of its flow: a module shares one net."""
    if "net" in request.fixturenames and isinstance(found := request.getfixturevalue("net"), Net):
        found.forget()
