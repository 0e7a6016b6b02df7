"""RUN_DIR/history.jsonl: whole after any end of its writer, bounded, and shown where no agent answers."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path

import pytest
from click.testing import CliRunner

from l3net.cli.history import history
from l3net.errors import NotRunningError
from l3net.history.entry import Entry, EntryKind
from l3net.shell.files import historyfile
from l3net.shell.files.historyfile import FILE, OLD, HistoryFile, HistoryFileError


def entry(number: int, **more: object) -> Entry:
    return Entry(float(number), EntryKind.SERVICE, f"default/s{number}", "decided", **more)  # type: ignore[arg-type]


def test_what_is_written_is_read_and_torn_lines_are_passed_over(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path)
    assert file.read() == []
    first = entry(1, prefixes=(ip_network("fd00::1/128"),), old="advertise", new="noEndpoints")
    file.append([first])
    with (tmp_path / FILE).open("ab") as torn:
        torn.write(b'{"at": 3, "kind": "serv')
    file.append([entry(2)])
    with (tmp_path / FILE).open("ab") as odd:
        odd.write(b'[]\n\xff\n{"at": "x"}\n' + b"[" * 100_000 + b"\n")
    assert file.read() == [first, entry(2)]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_both_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(historyfile, "LONGEST", 2000)
    file = HistoryFile(tmp_path)
    for number in range(200):
        file.append([entry(number)])
    assert (tmp_path / OLD).stat().st_size < 2500
    assert (tmp_path / FILE).stat().st_size < 2500 if (tmp_path / FILE).exists() else True
    assert file.read()[-1] == entry(199)


def test_what_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(HistoryFileError, match=r"history.jsonl: No such file"):
        HistoryFile(tmp_path / "gone").append([entry(1)])


def test_without_an_agent_the_command_shows_what_the_last_one_has_written(tmp_path: Path) -> None:
    asked = ["--run-dir", str(tmp_path), "-o", "json"]
    found = CliRunner().invoke(history, asked)
    assert isinstance(found.exception, NotRunningError)
    HistoryFile(tmp_path).append([entry(1), entry(2)])
    found = CliRunner().invoke(history, [*asked, "default/s2"])
    assert [row["subject"] for row in json.loads(found.stdout)] == ["default/s2"]
    assert "the last one has written down" in found.stderr


@pytest.mark.parametrize("since", ["10", "x", "-5m", "99999999999d", "2026-13-01"])
def test_a_time_that_is_none_is_wrong_usage(tmp_path: Path, since: str) -> None:
    HistoryFile(tmp_path).append([entry(1)])
    found = CliRunner().invoke(history, ["--run-dir", str(tmp_path), "--since", since])
    assert found.exit_code == 2, since
