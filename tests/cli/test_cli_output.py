"""Tables: what others wrote into them stands there as it is."""

from __future__ import annotations

import pytest

from l3net.cli.output import print_table


def test_a_cell_is_no_markup_and_is_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    said = "moved [to] rack [bold]7[/bold] [/x] " + "word " * 60
    print_table("Peers", ["NAME", "REASON"], [["tor", said]])
    printed = capsys.readouterr().out
    assert said.strip() in printed
    assert all(line == line.rstrip() or len(line) < 600 for line in printed.splitlines())
