"""docs/metrics.md, from the rows of the agent and the controller and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from l3net.agent.metrics import SUBJECTS
from l3net.controller.metrics import ROWS
from l3net.metering.family import Family

_INTRO = """\
# Metrics

This page lists all metrics that agents and controllers export at `/metrics`. It is generated from the code by
`make docs`. Metrics are off unless you set an address: `l3net agent --metrics-address 127.0.0.1:9618`,
`l3net controller --metrics-address 127.0.0.1:9619` ([kubernetes.md](kubernetes.md#metrics-and-readiness) has
the chart's values). Alerts on these metrics are in [alerts.md](alerts.md).

- Every scrape contains the HELP and TYPE of each family. A family without objects (peers, collectors, pools)
  has no samples.
- Counters by name are limited: 200 services and 200 policies are counted separately, the others together. An
  object that is counted separately stays so, so no counter goes back.
- A renamed metric is also exported under its former name for one release; the column shows it.

## Cost of a scrape

`python bench/metrics.py` renders one node's metrics (200 peers with 100,000 paths, 1,000 services, 200
policies: 2,600 samples, 171 kB) with l3net's own text format (`l3net/metering/text.py`, 55 lines) and with
prometheus-client 0.26 by a collector of the same rows. Medians of five runs on one core of a shared machine
(load 1.5), Python 3.11:

| | own | prometheus-client |
|---|---|---|
| import, in addition to an agent's imports | 2 ms, 12 KiB resident | 18 ms, 2,280 KiB resident |
| one scrape, of which 44 ms are reading | 48 ms | 54 ms |

The library would cost each node 2.2 MiB and 16 ms at the start, and replace 55 lines. The values are l3net's
own counters already, and l3net would not use the library's registry, exporters and multi-process mode. So
agent and controller do not use it. The tests check the output with prometheus-client's parser and with
`promtool check metrics`. Most of the reading is one check of each path, to count the usable ones.
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
