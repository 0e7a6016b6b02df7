from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from node_rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A node and a router on one link, nothing started yet."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = Rig()
    try:
        made.up()
        yield made
    finally:
        made.down()
