"""docs/commands.md and docs/man are what `make docs` makes of the commands."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from l3net.cli.history import history
from l3net.cli.main import cli
from l3net.cli.manpages import pages
from l3net.cli.reference import reference

DOCS = Path(__file__).parents[2] / "docs"


def test_it_is_current() -> None:
    assert (DOCS / "commands.md").read_text() == reference(), "run `make docs`"


def test_the_manual_pages_are_current() -> None:
    found = {file.name: file.read_text() for file in (DOCS / "man").iterdir()}
    assert found == pages(), "run `make docs`"


def test_a_command_that_has_run_has_the_same_page() -> None:
    CliRunner().invoke(cli, ["status", "--run-dir", "/nonexistent"])
    CliRunner().invoke(history, ["--run-dir", "/nonexistent"])
    for name in ("l3net-status.1", "l3net-history.1"):
        assert pages()[name] == (DOCS / "man" / name).read_text()


def test_every_option_of_the_agent_is_in_its_own_document() -> None:
    section = reference().split("## `l3net agent`")[1].split("## ")[0]
    options = [line.split("`")[1].split()[0] for line in section.splitlines() if line.startswith("| `--")]
    assert len(options) > 8
    text = (DOCS / "agent.md").read_text()
    assert [option for option in options if option not in text] == []
