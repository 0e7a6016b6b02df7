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
