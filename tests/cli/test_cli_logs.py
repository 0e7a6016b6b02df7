"""The log: one object a line for programs, the same lines as ever for people, bounded by kind."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import Any

import pytest

from l3net.bfdd.daemon import line
from l3net.cli.logs import BURST, MOST_KINDS, TEXT, ByKind, JsonLines, kind_of, subject_of


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    @property
    def messages(self) -> list[str]:
        return [json.loads(each)["message"] for each in self.lines]


def record(
    text: str, *arguments: Any, level: int = logging.INFO, name: str = "l3net.bgp"
) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, text, arguments, None)


# --- JSON ------------------------------------------------------------------------------------------------


def test_a_line_is_one_object_with_what_is_known() -> None:
    found = JsonLines().format(record("%s: %s", "peer fd00::1 (tor-1)", "down:\nHold Timer Expired"))
    assert "\n" not in found
    told = json.loads(found)
    assert told.pop("time").endswith("Z")
    assert told == {
        "level": "info",
        "logger": "l3net.bgp",
        "message": "peer fd00::1 (tor-1): down:\nHold Timer Expired",
        "peer": "fd00::1",
        "peerName": "tor-1",
    }


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("peer 10.0.0.1: BFD Up (No Diagnostic)", {"peer": "10.0.0.1"}),
        ("Service default/web: AddressInUse: x", {"service": "default/web"}),
        ("block 10.0.0.0/24 is no longer this node's", {"prefix": "10.0.0.0/24"}),
        ("resolved: collector a: connected", {"collector": "a"}),
        ("services are in force", {}),
        ("service proxy: on: nobody else answers", {}),
        ("wrote /etc/cni: the node's pod network is up", {}),
        ("", {}),
    ],
)
def test_fields(message: str, fields: dict[str, str]) -> None:
    assert subject_of(message) == fields


def test_what_is_no_text_is_told_all_the_same() -> None:
    told = JsonLines().format(record("link %s", b"up\xff".decode(errors="surrogateescape")))
    told.encode()
    assert json.loads(told)["message"] == "link up\\udcff"


def test_an_exception_is_a_field() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        found = logging.LogRecord("l3net", logging.DEBUG, "", 0, "x", None, sys.exc_info())
    assert "ValueError: no" in json.loads(JsonLines().format(found))["exception"]


# --- bounds ----------------------------------------------------------------------------------------------


def test_a_flood_of_one_kind_is_cut_and_counted_and_others_pass() -> None:
    kept, now = Kept(), [1000.0]
    bounded = ByKind(kept, lambda: now[0])
    for at in range(BURST + 50):
        bounded.handle(record("peer %s: refused", at))
    bounded.handle(record("another kind"))
    assert len(kept.lines) == BURST + 1 and kept.messages[-1] == "another kind"
    now[0] += 60
    bounded.handle(record("peer %s: refused", "again"))
    assert kept.messages[-2:] == ["50 lines like these left out: peer %s: refused", "peer again: refused"]


def test_what_was_left_out_is_told_at_the_end() -> None:
    kept = Kept()
    bounded = ByKind(kept, lambda: 0.0)
    for _ in range(BURST + 3):
        bounded.handle(record("x %s", 1))
    bounded.end()
    bounded.end()
    assert kept.messages[-1] == "3 lines like these left out: x %s" and len(kept.lines) == BURST + 1


def test_kinds_are_bounded_and_debugging_is_not_cut() -> None:
    kept = Kept()
    bounded = ByKind(kept, lambda: 0.0)
    for at in range(3 * MOST_KINDS):
        bounded.handle(record(f"a text of its own {chr(0x4E00 + at)}"))
    assert len(bounded._limits) == MOST_KINDS and len(kept.lines) == 3 * MOST_KINDS
    for _ in range(2 * BURST):
        bounded.handle(record("debug", level=logging.DEBUG))
    assert len(kept.lines) == 3 * MOST_KINDS + 2 * BURST


def test_kinds() -> None:
    assert kind_of(record("peer %s: refused", 1)) == kind_of(record("peer %s: refused", "x"))
    up, other = (
        record("%s: %s", f"peer {each} (tor-{at})", "established")
        for at, each in enumerate(("10.0.0.1", "fd00::1"))
    )
    assert kind_of(up) == kind_of(other) == "peer # (tor-#): established"
    assert kind_of(up) != kind_of(record("%s: %s", "peer 10.0.0.1 (tor-1)", "down: Hold Timer Expired"))


# --- as processes ----------------------------------------------------------------------------------------

SCRIPT = """
import logging
from l3net.cli.main import configure_logging
configure_logging("info", {form!r})
logging.getLogger("l3net.x").warning("peer %s: gone", "10.0.0.1")
"""


def said(form: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(form=form)], capture_output=True, text=True, check=True
    ).stderr


def test_text_stays_as_it_is() -> None:
    text = said("text")
    assert TEXT == "%(asctime)s %(levelname)s %(name)s: %(message)s"
    assert text.endswith(" WARNING l3net.x: peer 10.0.0.1: gone\n") and text.count("\n") == 1
    assert json.loads(said("json"))["peer"] == "10.0.0.1"


def test_a_wrong_format_is_wrong_usage() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "l3net.cli.main", "agent", "--log-format", "xml"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"L3NET_LOG_FORMAT": ""},
    )
    assert done.returncode == 2 and "'xml' is not one of 'text', 'json'" in done.stderr


def test_bfd_writes_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    assert line("ready", 0.0).endswith(" l3net.bfd: ready\n")
    monkeypatch.setenv("L3NET_LOG_FORMAT", "json")
    assert json.loads(line("ready", 1.25)) == {
        "time": "1970-01-01T00:00:01.250Z",
        "level": "info",
        "logger": "l3net.bfd",
        "message": "ready",
    }


# --- systemd's journal -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_journal_gets_priorities_and_no_second_time(form: str) -> None:
    """As systemd says that standard error is the journal: by device and inode of the very file."""

    def said(stream: str) -> str:
        code = (
            "import logging, os, sys; from l3net.cli.logs import configure\n"
            "found = os.fstat(2); there = f'{found.st_dev}:{found.st_ino}'\n"
            f"os.environ['JOURNAL_STREAM'] = {stream}\n"
            f"configure('info', {form!r})\n"
            "logging.getLogger('l3net.x').warning('peer 10.0.0.1: gone\\nfor ever')"
        )
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr

    lines = said("there").splitlines()
    if form == "text":
        assert lines == ["<4>l3net.x: peer 10.0.0.1: gone", "<4>for ever"]
    else:
        (only,) = lines
        assert json.loads(only.removeprefix("<4>"))["peer"] == "10.0.0.1"
    assert not said("'1:1'").startswith("<")  # a pipe that a unit's own pipe leads to
    assert line("ready", 0.0, journal=True) == "<6>l3net.bfd: ready\n"
