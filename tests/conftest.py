"""Shared by all tests: builders beside a test file can be imported by name."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

for room in Path(__file__).parent.iterdir():
    if room.is_dir() and not room.name.startswith("__"):
        sys.path.insert(0, str(room))

from node_rig import Rig  # noqa: E402 - found by the path above

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


@pytest.fixture
def own_netns() -> Iterator[Callable[[str], str]]:
    """The test thread in a fresh network namespace, gone with the test; the callable runs `ip ...` there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if _libc.unshare(_CLONE_NEWNET) != 0:
        os.close(home)
        pytest.skip("needs root")

    def ip(arguments: str) -> str:
        done = subprocess.run(["ip", *arguments.split()], capture_output=True, text=True, check=True)
        return done.stdout

    try:
        ip("link set lo up")
        yield ip
    finally:
        if _libc.setns(home, _CLONE_NEWNET) != 0:
            os._exit(70)  # a test process that cannot leave its namespace must not go on
        os.close(home)


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A node and a router on one link, each a host of its own, nothing started yet."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = Rig()
    try:
        made.up()
        yield made
    finally:
        made.down()
