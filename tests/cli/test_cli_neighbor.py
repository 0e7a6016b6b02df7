"""`l3net bgp neighbor`: one peer in full, from what an agent tells."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner, Result

from l3net.cli import nodes
from l3net.cli.main import cli

pytestmark = pytest.mark.foreign_answers

ROW: dict[str, Any] = {
    "name": "tor1",
    "address": "10.0.1.1",
    "asNumber": 65001,
    "localAddress": "10.0.1.2",
    "password": True,
    "gtsm": False,
    "passive": False,
    "type": "eBGP",
    "state": "established",
    "reason": "",
    "sinceSeconds": 7500.0,
    "flaps": 1,
    "received": 12,
    "accepted": 10,
    "announced": 31,
    "bfd": None,
    "syncing": ["IPv6"],
    "stale": 2,
    "unansweredRefresh": ["IPv4"],
    "outQueue": 5,
    "stuckSeconds": 17.2,
    "negotiated": {
        "routerID": "10.0.1.1",
        "families": ["IPv4"],
        "holdTime": 90,
        "keepaliveTime": 30,
        "capabilities": [],
        "software": "FRRouting/9.1",
        "routeRefresh": False,
        "gracefulRestart": {"restartTime": 120, "families": [], "preserved": [], "kept": []},
    },
    "lastReset": {
        "sinceSeconds": 7500.0,
        "reason": 'NOTIFICATION received: Administrative Reset (6/4): "[b]maintenance[/b]"',
    },
    "lastAttempt": {"sinceSeconds": 3.0, "direction": "in", "error": "no OPEN"},
}


def shown(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], *words: str) -> Result:
    answer = {"neighbors": rows} if rows else {"error": "ask for: alive, status"}
    monkeypatch.setattr(nodes, "ask", lambda *_words: answer)
    return CliRunner().invoke(cli, ["bgp", "neighbor", *words])


def test_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    result = shown(monkeypatch, [ROW], "tor1")
    assert result.exit_code == 0, result.output
    for line in (
        "tor1 (10.0.1.1): established for 2h05m",
        "session:           eBGP, AS 65001, from 10.0.1.2, TCP MD5",
        "hold time:         90 s, a KEEPALIVE every 30 s",
        "peer offers:       no capabilities",
        "graceful restart:  offered as a helper alone: nothing is kept when the session ends",
        "routes in:         12 received, 10 accepted, 2 stale",
        "prefixes out:      31 sent, 5 queued, nothing taken for 17 s",
        "not all said yet:  IPv6",
        "refresh:           no answer to the ROUTE-REFRESH for IPv4",
        'Administrative Reset (6/4): "[b]maintenance[/b]"',
        "last attempt:      0m03s ago, the peer dialled in: no OPEN",
    ):
        assert line in result.output


@pytest.mark.parametrize(
    ("offered", "words"),
    [
        (None, "not offered: nothing is kept when the session ends"),
        ({"restartTime": 30, "families": ["IPv4"], "preserved": [], "kept": ["IPv4"]}, "IPv4 kept for 30 s"),
        ({"restartTime": 0, "families": ["IPv4"], "preserved": [], "kept": []}, "nothing kept for 0 s"),
    ],
)
def test_what_a_restart_would_keep(
    monkeypatch: pytest.MonkeyPatch, offered: dict[str, Any] | None, words: str
) -> None:
    row = {**ROW, "negotiated": {**ROW["negotiated"], "gracefulRestart": offered}}
    assert words in shown(monkeypatch, [row]).output


def test_a_peer_that_is_not_there_and_an_older_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    for spelt in ("FD90:0::61", "fd90::61"):
        assert shown(monkeypatch, [{**ROW, "address": "fd90::61"}], spelt).exit_code == 0
    result = shown(monkeypatch, [ROW], "tor2")
    assert result.exit_code == 1
    assert "no peer tor2 on this node" in str(result.exception)
    result = shown(monkeypatch, [])
    assert "older than this command" in str(result.exception)
    assert shown(monkeypatch, [ROW], "-o", "json").exit_code == 0
