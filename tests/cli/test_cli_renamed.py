"""Old names of commands and options: they work, tell the new one in one line, and are not shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from l3net.cli.lab import check, lab
from l3net.cli.main import cli
from l3net.shell.files.drainfile import LEAVE


@pytest.mark.parametrize(("old", "new", "there"), [("leave", "drain", True), ("return", "undrain", False)])
def test_an_old_command_does_what_the_new_one_does(tmp_path: Path, old: str, new: str, there: bool) -> None:
    (tmp_path / LEAVE).touch()
    if there:
        (tmp_path / LEAVE).unlink()
    for name in (old, new):
        found = CliRunner().invoke(cli, ["node", name, "--no-wait", "--run-dir", str(tmp_path)])
        assert (found.exit_code, (tmp_path / LEAVE).exists()) == (0, there)
        assert (f"`cli node {new}`" in found.output) is (name == old)
    shown = CliRunner().invoke(cli, ["node", "--help"]).output
    assert new in shown and f"  {old} " not in shown


def test_an_old_option_sets_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []

    def chosen(_only: object, _skip: object, non_disruptive: bool, silent_failure: bool) -> list[object]:
        seen.append((non_disruptive, silent_failure))
        raise SystemExit(9)

    monkeypatch.setattr("l3net.cli.lab._chosen", chosen)
    for options in (["--gently", "--silent"], ["--non-disruptive", "--silent-failure"], ["--gently"], []):
        assert CliRunner().invoke(check, options).exit_code == 9
    assert seen == [(True, True), (True, True), (True, False), (False, False)]
    told = CliRunner().invoke(check, ["--gently"]).output
    assert told.count("\n") == 1 and "--gently is called --non-disruptive now" in told
    shown = CliRunner().invoke(lab, ["check", "--help"]).output
    assert "--gently" not in shown and "--non-disruptive" in shown
