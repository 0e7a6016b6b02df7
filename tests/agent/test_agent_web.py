"""Metrics and probes over HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from l3net.agent.health import PATIENCE, unreachable, unready
from l3net.agent.metrics import metrics
from l3net.bgp.drain import Stage
from l3net.bgp.loc_rib import LocRib
from l3net.config import listen_address
from l3net.errors import ConfigError
from l3net.faults import Faults
from l3net.ipam.lease import Usage
from l3net.metering.histogram import FINE, Histogram
from l3net.model import ClusterState, EgressPaths, Family, Kind, Node, ObjectName
from l3net.policy.book import PolicyBook
from l3net.ports import View
from l3net.services.book import ServiceBook
from l3net.shell.kernel.process import OwnProcess
from l3net.shell.sockets.web import WebServer

PEER = ip_address("192.0.2.1")


def web(port: int, found: Any) -> WebServer:
    return WebServer(("127.0.0.1", port), partial(metrics, found), partial(unready, found))


def agent(**changes: Any) -> Any:
    """As much of an agent as is looked at."""
    state = ClusterState(nodes={"n1": Node("n1")})
    session = SimpleNamespace(name='to"r', peer_as=65001, peer_address=PEER)
    peer = SimpleNamespace(
        session=session, established=True, flaps=0, families={Family.IPV4}, over_limit=set()
    )
    fields: dict[str, Any] = {
        "in_sync": True,
        "node_name": "n1",
        "state": state,
        "passes": 3,
        "failed_passes": 1,
        "pass_seconds": Histogram(),
        "shells": SimpleNamespace(
            process=OwnProcess(),
            kernel=SimpleNamespace(connections=SimpleNamespace(refused=lambda: {"drop": 1})),
        ),
        "views": {Kind.NODE: View(5.0, None)},
        "verdicts": (),
        "draining": SimpleNamespace(stage=Stage.NONE),
        "rib": LocRib(lambda *_: None),  # type: ignore[arg-type,return-value]
        "kernel": SimpleNamespace(desired={}, mirror={}, problems={}, refused=()),
        "pods": SimpleNamespace(
            status=lambda: {
                "leases": 5,
                "adopted": 1,
                "conflicts": 0,
                "quarantined": 0,
                "faults": [{"part": "audit", "count": 2, "last": "x", "lasting": True}],
            },
            timings=lambda: {"all": Histogram(FINE)},
        ),
        "faults": Faults(),
        "podnet": SimpleNamespace(room=lambda: [(Family.IPV6, 2**64, Usage(3, 1))]),
        "bfd": SimpleNamespace(up=lambda: {PEER: False}, served=True),
        "monitoring": SimpleNamespace(status=list),
        "floating": SimpleNamespace(held={}, came=2, left=1),
        "egress": SimpleNamespace(
            came=2,
            left=1,
            paths=EgressPaths(held=frozenset((ip_address("198.51.100.10"),))),
            leaving=SimpleNamespace(counts={"198.51.100.10": 3}),
        ),
        "moving": SimpleNamespace(snat=SimpleNamespace(ports=(), missing=())),
        "services": SimpleNamespace(
            book=ServiceBook(),
            counting=SimpleNamespace(totals={ObjectName("default", "web"): 3}),
            latency=Histogram(),
            kernel_latency=Histogram(),
            spread={"servers": 2, "slots": 8192, "short": 0},
        ),
        "proxying": SimpleNamespace(standing=SimpleNamespace(on=True)),
        "checks": SimpleNamespace(opened={10256}, refused=0, health=SimpleNamespace(healthy=True)),
        "policing": SimpleNamespace(
            book=PolicyBook(),
            latency=Histogram(),
            ending=SimpleNamespace(ended=3),
            drops=SimpleNamespace(seen=0),
            counting=SimpleNamespace(totals={}, defaults=lambda: iter(())),
        ),
        "speaking": SimpleNamespace(
            peers={PEER: peer},
            connected=True,
            parted=False,
            undecodable=0,
            queues=SimpleNamespace(announced=lambda _: 7, out_queue=lambda _: 2),
            settled=lambda _: False,
        ),
    }
    found = SimpleNamespace(**(fields | changes))
    found.declared = SimpleNamespace(
        rejected=set(), holding=lambda: "" if found.state.nodes else "no Node named n1"
    )
    return found


def down(found: Any, *, flaps: int = 0) -> Any:
    found.speaking.peers[PEER].established = False
    found.speaking.peers[PEER].flaps = flaps
    return found


# --- ready -----------------------------------------------------------------------------------------------


def test_ready() -> None:
    assert unready(agent()) == ""


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (agent(in_sync=False), "not complete"),
        (agent(state=ClusterState()), "no Node named n1"),
        (agent(passes=0), "first pass"),
        (down(agent()), "waiting for the sessions with 192.0.2.1"),
        (down(agent(), flaps=1), "no session is established"),
    ],
)
def test_not_ready(found: Any, why: str) -> None:
    assert why in unready(found)


def test_after_the_start_one_session_is_enough() -> None:
    found = agent()
    other = SimpleNamespace(session=SimpleNamespace(name="b", peer_as=1), established=False, flaps=0)
    found.speaking.peers[ip_address("192.0.2.2")] = other
    assert "192.0.2.2" in unready(found), "right after the start all are waited for"
    found.speaking.settled = lambda _: True
    assert unready(found) == "", "but not for ever"
    found.speaking.settled = lambda _: False
    other.flaps = 1
    assert unready(found) == "", "nor for one that was up and went down"


def test_without_peers_it_is_ready() -> None:
    found = agent()
    found.speaking.peers.clear()
    assert unready(found) == unreachable(found) == ""


def test_pods_wait_for_the_sessions_for_a_while() -> None:
    """A host whose routers are away has its containers all the same; what is not declared, it waits for."""
    found = down(agent())
    assert "waiting for the sessions with 192.0.2.1" in unreachable(found)
    found.speaking.settled = lambda grace: grace == PATIENCE
    assert unreachable(found) == "" and unready(found)
    for broken in (agent(in_sync=False), agent(state=ClusterState()), agent(passes=0)):
        broken.speaking.settled = lambda _: True
        assert unreachable(broken) == unready(broken) != ""


# --- HTTP ------------------------------------------------------------------------------------------------


@pytest.fixture
def port(unused_port: Callable[[], int]) -> int:
    return unused_port()


@pytest.fixture
def unused_port() -> Callable[[], int]:
    def find() -> int:
        import socket

        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            return int(found.getsockname()[1])

    return find


def ask(port: int, found: Any, *requests: bytes) -> list[bytes]:
    """The answers of a server that runs for as long as this takes."""

    async def main() -> list[bytes]:
        server = asyncio.create_task(web(port, found).run())
        answers = []
        try:
            for request in requests:
                for _ in range(100):
                    try:
                        reader, writer = await asyncio.open_connection("127.0.0.1", port)
                        break
                    except OSError:
                        await asyncio.sleep(0.02)
                writer.write(request)
                await writer.drain()
                answers.append(await reader.read())
                writer.close()
        finally:
            server.cancel()
        return answers

    return asyncio.run(main())


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def test_probes(port: int) -> None:
    well, alive = ask(port, agent(), get("/readyz"), get("/healthz"))
    assert well.startswith(b"HTTP/1.1 200")
    assert alive.startswith(b"HTTP/1.1 200")
    ill, alive, other = ask(port, agent(in_sync=False), get("/readyz"), get("/healthz"), get("/status"))
    assert ill.startswith(b"HTTP/1.1 503")
    assert b"not complete" in ill
    assert alive.startswith(b"HTTP/1.1 200"), "an API server that is away is no reason to be restarted"
    assert other.startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(
    "request_", [b"POST /metrics HTTP/1.1\r\n\r\n", b"GET /\r\n\r\n", b"\xff\xfe\r\n\r\n"]
)
def test_what_is_no_request(port: int, request_: bytes) -> None:
    (answer,) = ask(port, agent(), request_)
    assert answer.startswith(b"HTTP/1.1 405")


def test_a_long_request_is_cut_off_and_the_next_served(port: int) -> None:
    long, well = ask(port, agent(), b"GET /" + b"x" * 100_000, get("/healthz"))
    assert long == b""
    assert well.startswith(b"HTTP/1.1 200")


SAMPLE = re.compile(
    r'[a-z_0-9]+(\{[a-z]+="([^"\\\n]|\\["\\n])*"(,[a-z]+="([^"\\\n]|\\["\\n])*")*\})? -?[0-9.e+-]+'
)


def test_metrics_are_well_formed(port: int) -> None:
    found = agent()
    found.services.latency.observe(0.004)
    found.services.latency.observe(30)
    (answer,) = ask(port, found, get("/metrics"))
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert "text/plain; version=0.0.4" in head
    typed = set()
    for line in body.splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            assert name not in typed
            typed.add(name)
        elif not line.startswith("# HELP "):
            assert SAMPLE.fullmatch(line), line
            assert re.sub(r"_(bucket|sum|count)$", "", line.split("{")[0].split(" ")[0]) in typed
    assert not found.faults.found(), "every row could be read"
    assert r'l3net_bgp_session_up{peer="to\"r",address="192.0.2.1",as="65001"} 1' in body
    assert "l3net_bgp_prefixes_announced" in body
    assert 'l3net_service_change_seconds_bucket{le="0.005"} 1' in body
    assert 'l3net_service_change_seconds_bucket{le="+Inf"} 2' in body


@pytest.mark.parametrize("text", ["127.0.0.1:9618", "[::1]:9618"])
def test_addresses(text: str) -> None:
    assert listen_address(text)[1] == 9618


@pytest.mark.parametrize(
    "text", ["9618", ":9618", "localhost:9618", "::1:9618", "1.2.3.4:0", "1.2.3.4:x", ""]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9618"):
        listen_address(text)


def test_an_address_in_use_is_said(port: int, tmp_path: Path) -> None:
    async def main() -> None:
        first = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
        async with first:
            await web(port, agent()).run()

    with pytest.raises(ConfigError, match="in use"):
        asyncio.run(main())
