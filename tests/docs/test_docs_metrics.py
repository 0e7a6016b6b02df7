"""docs/metrics.md is what `make docs` makes of the rows; every metric that docs/ names is one of them."""

from __future__ import annotations

import re
from pathlib import Path

from l3net.agent.metrics import ROWS as OF_AGENT
from l3net.cli.metrics_reference import metrics_reference
from l3net.controller.metrics import ROWS as OF_CONTROLLER

DOCS = Path(__file__).parents[2] / "docs"
NAME = re.compile(r"\bl3net_[a-z0-9_]+\b")
#: Not metrics: tables of nftables.
OTHERS = {"l3net_cni", "l3net_count", "l3net_trace"}


def test_it_is_current() -> None:
    assert (DOCS / "metrics.md").read_text() == metrics_reference(), "run `make docs`"


def names() -> set[str]:
    families = [row.family for row in (*OF_AGENT, *OF_CONTROLLER)]
    return {family.name for family in families} | {family.formerly for family in families}


def unknown(text: str) -> set[str]:
    return {
        found
        for found in NAME.findall(text)
        if re.sub(r"_(bucket|sum|count)$", "", found) not in names() and found not in OTHERS
    }


def test_no_document_names_a_metric_that_there_is_not() -> None:
    found = {file.name: unknown(file.read_text()) for file in DOCS.glob("*.md")}
    assert {name: those for name, those in found.items() if those} == {}


def test_one_that_did_would_be_found() -> None:
    assert unknown("see `l3net_no_such_metric_total`") == {"l3net_no_such_metric_total"}
