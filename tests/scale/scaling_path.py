"""Importing this puts bench/ on the path, last, where it hides nothing of the tests' own."""

from __future__ import annotations

import sys
from pathlib import Path

_BENCH = str(Path(__file__).parents[2] / "bench")
if _BENCH not in sys.path:
    sys.path.append(_BENCH)
