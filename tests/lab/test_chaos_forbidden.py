"""What the prober takes for an answer to what is forbidden: an answer to that very probe, and no other."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from l3net.lab.chaos import prober


@pytest.fixture(params=["127.0.0.1", "::1"])
def echo(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """Whoever is probed. It says back what it is told to."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        made.bind((request.param, 0))
        made.settimeout(5)
        yield made


def look(sockets: prober.Sockets) -> None:
    """At what has come, when it has."""
    flows = [each for flows in sockets._flows.values() for each in flows]
    assert select.select(flows, [], [], 5)[0]
    sockets.look()


def test_an_answer_counts_for_its_own_path_and_probe(echo: socket.socket, tmp_path: Path) -> None:
    losses = prober.Losses(os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT))
    sockets = prober.Sockets()
    address, port = echo.getsockname()[:2]
    allowed, forbidden = (
        kind(number, address, port, losses, sockets)
        for number, kind in enumerate((prober.Udp, prober.Forbidden))
    )
    assert allowed.flows == forbidden.flows, "they share their sockets"

    def probed(path: prober.Udp, at: float) -> tuple[bytes, object]:
        path.send(at)
        said: tuple[bytes, object] = echo.recvfrom(100)
        return said

    now = time.monotonic()
    said, whom = probed(allowed, now)
    unanswered, _ = probed(forbidden, now)
    echo.sendto(said, whom)
    look(sockets)
    assert not allowed.pending and forbidden.pending and not losses.total, "another path's answer"
    forbidden.expire(now + prober.LOST + 1)
    echo.sendto(unanswered, whom)
    look(sockets)
    assert not losses.total, "an answer that nobody waits for any more"
    said, whom = probed(forbidden, now)
    echo.sendto(said, whom)
    look(sockets)
    assert losses.total == 1, "the control"
    echo.sendto(said, whom)
    look(sockets)
    assert losses.total == 1, "twice the same"
    for flows in sockets._flows.values():
        for each in flows:
            each.close()
