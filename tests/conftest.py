"""Shared by all tests: builders beside a test file can be imported by name."""

from __future__ import annotations

import sys
from pathlib import Path

for room in Path(__file__).parent.iterdir():
    if room.is_dir() and not room.name.startswith("__"):
        sys.path.insert(0, str(room))
