"""The values of the chart that docs/distributions.md names are there, and reach what they are for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_chart import CHART, documents

TEXT = (Path(__file__).parents[2] / "docs/distributions.md").read_text()
INSTALLS = [
    dict(re.findall(r"--set (\S+?)=(\S+)", command.replace("\\\n", " ")))
    for command in re.findall(r"^helm install(?:.*\\\n)*.*$", TEXT, re.MULTILINE)
]


def test_there_are_some() -> None:
    assert len(INSTALLS) == 3
    assert any("paths.cniBin" in each for each in INSTALLS)


@pytest.mark.parametrize("given", INSTALLS)
def test_the_values_are_known_and_are_rendered(given: dict[str, str]) -> None:
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    for path, value in given.items():
        *above, name = path.split(".")
        place = values
        for key in above:
            place = place[key]
        assert name in place, f"the chart has no {path}"
        place[name] = value
    rendered = json.dumps(documents(values))
    for value in given.values():
        assert value in rendered
