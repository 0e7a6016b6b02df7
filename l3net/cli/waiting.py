"""Asking the agent of this node; and telling whoever waits that there is no answer so far."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from l3net.shell.sockets import agentsocket
from l3net.shell.sockets.agentsocket import TIMEOUT

#: Seconds of silence after which it is told.
SILENCE: Final = 2.0


@contextmanager
def waiting(limit: float, whom: str = "the agent does") -> Iterator[Callable[[], None]]:
    """While somebody is asked who may take `limit` seconds. What it yields is called once an answer comes."""
    said = f"l3net: {whom} not answer so far; waiting, at most {limit:g} s"
    timer = threading.Timer(SILENCE, click.echo, (said,), {"err": True})
    timer.daemon = True
    timer.start()
    try:
        yield timer.cancel
    finally:
        timer.cancel()


def ask(
    path: Path,
    question: str,
    patience: float = TIMEOUT,
    told: Callable[[int], None] = lambda _octets: None,
) -> dict[str, Any]:
    """As agentsocket.ask, and after two seconds without an answer that is told. Raises NotRunningError."""
    with waiting(patience) as comes:

        def heard(octets: int) -> None:
            comes()
            told(octets)

        return agentsocket.ask(path, question, patience, heard)
