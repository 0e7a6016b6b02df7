"""docs/metrics.md, from the rows of the agent and the controller and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from l3net.agent.metrics import SUBJECTS
from l3net.controller.metrics import ROWS
from l3net.metering.family import Family

_INTRO = """\
# Metrics

All that agents and controllers export at `/metrics`, made from the code by `make docs`. Off unless an address
is given: `l3net agent --metrics-address 127.0.0.1:9618`, `l3net controller --metrics-address 127.0.0.1:9619`
(docs/kubernetes.md has the chart's values). Each family is there at every scrape with its HELP and TYPE; one
about things that there are none of (peers, collectors, pools) has no samples then. Alerts on these are in
docs/alerts.md.

A counter by name is bounded: of services and of policies, 200 are told apart and the others are counted
together; who is told apart stays so, so that no counter goes back because another came.

A name that changed is exported under its former name too for one release; the column has it.

## What a scrape costs

`python bench/metrics.py` renders one node's metrics (200 peers with 100,000 paths, 1,000 services, 200
policies: 2,600 samples, 171 kB) with l3net's own text format (`l3net/metering/text.py`, 55 lines) and with
prometheus-client 0.26 by a collector of the same rows. Medians of five runs on one core of a machine that
others used (load 1.5), Python 3.11:

| | own | prometheus-client |
|---|---|---|
| import, beside all that an agent has | 2 ms, 12 KiB resident | 18 ms, 2,280 KiB resident |
| one scrape, of which 44 ms are the reading | 48 ms | 54 ms |

The library would cost each node 2.2 MiB and 16 ms at the start for what is 55 lines here: the values are
l3net's own counters already, and its registry, exporters and multi-process mode would not be used. So agent
and controller do without; the tests read what they write with prometheus-client's parser and with `promtool
check metrics`. The reading is of paths: each is looked at once, to tell how many can be used.
"""


def metrics_reference() -> str:
    """docs/metrics.md, complete."""
    lines = [_INTRO, "## The agent", ""]
    for subject, rows in SUBJECTS.items():
        lines += [f"### {subject}", "", *_table(row.family for row in rows), ""]
    lines += ["## The controller", "", *_table(row.family for row in ROWS)]
    return "\n".join(lines).rstrip() + "\n"


def _table(families: Iterable[Family]) -> Iterator[str]:
    yield "| name | type | labels | meaning |"
    yield "|---|---|---|---|"
    for family in families:
        name = f"`{family.name}`" + (f" (formerly `{family.formerly}`)" if family.formerly else "")
        labels = ", ".join(f"`{label}`" for label in family.labels)
        yield f"| {name} | {family.kind.value} | {labels} | {family.about} |"
