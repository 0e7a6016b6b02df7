from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from bfd_rig import BfdRig


@pytest.fixture
def rig() -> Iterator[BfdRig]:
    """A node and a router on one link, nothing started yet."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = BfdRig()
    try:
        made.up()
        yield made
    finally:
        made.down()
