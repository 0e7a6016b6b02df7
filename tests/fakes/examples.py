"""How many examples a property is tried with."""

from __future__ import annotations

import os


def examples(few: int) -> int:
    """`few` in `make test`, ten times as many in `make soak`, which runs all properties once more."""
    return few * int(os.environ.get("L3NET_TEST_EXAMPLES", "1"))
