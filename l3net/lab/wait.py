"""Waiting for something to become true, with an end."""

from __future__ import annotations

import time
from collections.abc import Callable

from l3net.lab.errors import LabError


def until(
    true: Callable[[], bool], seconds: float, otherwise: Callable[[], str] | str, every: float = 0.05
) -> float:
    """Poll until `true()`; the seconds it took. Raises LabError with `otherwise` when time is up."""
    start = time.monotonic()
    while not true():
        if time.monotonic() - start > seconds:
            raise LabError(otherwise if isinstance(otherwise, str) else otherwise())
        time.sleep(every)
    return time.monotonic() - start
