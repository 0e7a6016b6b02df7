"""What docs/migration.md shows is what the importer makes of it."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from click.testing import CliRunner

from l3net.cli.main import cli
from l3net.cli.routerconfig import DIALECTS

TEXT = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()


def fence(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_is_what_is_written() -> None:
    result = CliRunner().invoke(cli, ["import", "calico", "-"], input=fence("yaml calico"))
    assert result.exit_code == 2  # the field that cannot be said
    assert yaml.safe_load(fence("yaml l3net")) in list(yaml.safe_load_all(result.stdout))
    assert "spec.numAllowedLocalASNumbers" in result.stderr


def test_the_dialects_are_named() -> None:
    assert [dialect for dialect in DIALECTS if f"`{dialect}`" not in TEXT] == []


def test_links_inside_the_page_lead_somewhere() -> None:
    heads = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in TEXT.splitlines()
        if line.startswith("#")
    }
    links = set(re.findall(r"\]\(#([a-z0-9-]+)\)", TEXT))
    assert links and links <= heads
