"""The chart is checked and packed without helm: what `helm lint` looks at is found, packs are the same."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from deploy_chart import CHART, ROOT, render_chart, tool


def write(path: str, old: str, new: str) -> Callable[[Path], object]:
    def change(chart: Path) -> None:
        text = (chart / path).read_text()
        assert old in text
        (chart / path).write_text(text.replace(old, new, 1))

    return change


def add(path: str, text: str) -> Callable[[Path], object]:
    return lambda chart: (chart / path).write_text(text)


CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"


def test_nothing_is_wrong_with_the_chart() -> None:
    assert tool.lint(CHART) == []
    shown = [where for where, _ in tool.documented(yaml.safe_load((CHART / "values.yaml").read_text()))]
    assert len(shown) > 10, "the control: documents show values"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (write("Chart.yaml", "apiVersion: v2", "apiVersion: v3"), "Chart.yaml: apiVersion must be v2"),
        (write("Chart.yaml", "name: l3net", "name: L3 net"), "Chart.yaml: name must be a DNS name"),
        (write("Chart.yaml", "version: 0.1.0", "version: 0.1"), "Chart.yaml: version must be a string"),
        (write("Chart.yaml", "type: application", "type: app"), "Chart.yaml: type must be"),
        (write("Chart.yaml", "description", "descripton"), "descripton is no field of a chart"),
        (write("Chart.yaml", "type: application", "icon: l3net.png"), "icon must be a URL"),
        (write("Chart.yaml", "name: l3net", "name: [l3net"), "Chart.yaml: cannot be read"),
        (add("values.yaml", "events: maybe\n"), "values: values.yaml: events"),
        (write("values.yaml", "\nglass:", "\nglas:"), "Additional properties are not allowed"),
        (add("templates/more.json", "{}"), "more.json: templates end in"),
        (add("templates/more.yaml", "a: {{ nothing }}\n"), "templates: with default values"),
        (add("templates/more.yaml", "a: [\n"), "more.yaml with default values: is not YAML"),
        (add("templates/more.yaml", CONFIG % "Upper"), "metadata.name must be a DNS name"),
        (add("templates/more.yaml", f"{CONFIG % 'a'}---\n{CONFIG % 'a'}"), "ConfigMap a is there twice"),
        (
            add("templates/more.yaml", "kind: ConfigMap\nmetadata: {name: a}\n"),
            "apiVersion or kind is missing",
        ),
        (lambda chart: (chart / "templates/NOTES.txt").unlink(), "NOTES.txt is missing"),
        (add("crds/more.yaml", CONFIG % "a"), "belongs into templates/"),
    ],
)
def test_what_is_wrong_is_told(
    tmp_path: Path, change: Callable[[Path], object], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "documented", lambda defaults: [])  # each is half a second
    broken = tmp_path / "l3net"
    shutil.copytree(CHART, broken)
    change(broken)
    assert any(told in each for each in tool.lint(broken)), tool.lint(broken)


def test_values_that_a_document_shows_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "documented", lambda defaults: [("docs/x.md:1", {"agent": {"mto": 9000}})])
    assert any("docs/x.md:1: agent: Additional properties" in each for each in tool.lint(CHART))


def test_the_pack_is_the_same_twice_and_holds_the_chart(tmp_path: Path) -> None:
    """As `helm package` lays it out: files below a directory of the chart's name."""
    again = tmp_path / "again/l3net"
    shutil.copytree(CHART, again, copy_function=shutil.copyfile)  # with other times and modes
    packs = [tool.pack(where, tmp_path / name, 1) for where, name in ((CHART, "one"), (again, "two"))]
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert packs[0].name == f"l3net-{about['version']}.tgz"
    assert packs[0].read_bytes() == packs[1].read_bytes()
    with tarfile.open(packs[0]) as archive:
        names = archive.getnames()
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert names[0] == "l3net/Chart.yaml"
    assert {*names} == {f"l3net/{p.relative_to(CHART)}" for p in CHART.rglob("*") if p.is_file()}
    assert render_chart(tmp_path / "unpacked/l3net", {}) == render_chart(CHART, {})


def test_version_is_the_projects() -> None:
    """An image of the chart's own release is what it starts."""
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    text = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{about["version"]}"' in text and about["appVersion"] == about["version"]
