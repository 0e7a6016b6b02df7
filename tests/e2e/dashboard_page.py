"""deploy/monitoring/dashboard.json drawn as one page: each panel's queries, answered by a real Prometheus.

Grafana itself is not at hand where tests run; this draws lines, titles and legends, and nothing else of it.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

COLOURS = ("#2f6f9f", "#c2571a", "#3b8132", "#8d3a8b", "#a08000", "#b02a37", "#0f7b7b", "#5b5b5b")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 410, 150, 48, 18, 6

#: A query -> the series: labels, and (time, value) pairs.
Ask = Callable[[str], list[tuple[Mapping[str, str], list[tuple[float, float]]]]]


def page(board: Mapping[str, Any], ask: Ask, about: str) -> str:
    """The whole page."""
    parts = [
        "<!doctype html><meta charset=utf-8><style>",
        "body{font:13px 'DejaVu Sans',sans-serif;margin:14px;width:1290px;background:#fff;color:#222}",
        "h1{font-size:18px;margin:0}p{margin:2px 0 8px;color:#555}h2{font-size:14px;margin:10px 0 4px}",
        ".g{display:grid;grid-template-columns:repeat(3,424px);gap:8px}",
        ".p{border:1px solid #ccc;padding:4px 6px}.p b{font-size:12px}.l{font-size:10px;color:#333}",
        ".l span{margin-right:8px;white-space:nowrap}i{display:inline-block;width:9px;height:3px;margin:2px}",
        f"</style><h1>{html.escape(board['title'])}</h1><p>{html.escape(about)}</p>",
    ]
    open_grid = False
    for panel in board["panels"]:
        if panel["type"] == "row":
            parts.append("</div>" * open_grid + f"<h2>{html.escape(panel['title'])}</h2><div class=g>")
            open_grid = True
        else:
            parts.append("".join(_panel(panel, ask)))
    return "".join(parts) + "</div>"


def plain(expression: str) -> str:
    """A query without the dashboard's variables."""
    return expression.replace("$__rate_interval", "20s").replace("$instance", ".*")


def _panel(panel: Mapping[str, Any], ask: Ask) -> Iterator[str]:
    lines: list[tuple[str, list[tuple[float, float]]]] = []
    for target in panel["targets"]:
        for labels, points in ask(plain(target["expr"])):
            name = re.sub(
                r"\{\{(\w+)\}\}", lambda found, of=labels: of.get(found[1], ""), target["legendFormat"]
            )
            lines.append((name, [each for each in points if math.isfinite(each[1])]))
    yield f"<div class=p><b>{html.escape(panel['title'])}</b>"
    yield "".join(_drawing(lines, panel["fieldConfig"]["defaults"]["unit"]))
    yield "<div class=l>"
    for at, (name, _) in enumerate(lines[:8]):
        yield f"<span><i style='background:{COLOURS[at % len(COLOURS)]}'></i>{html.escape(name)}</span>"
    yield "</div></div>"


def _drawing(lines: list[tuple[str, list[tuple[float, float]]]], unit: str) -> Iterator[str]:
    points = [each for _, found in lines for each in found]
    first, last = min((at for at, _ in points), default=0), max((at for at, _ in points), default=1)
    top = max((value for _, value in points), default=0) * 1.08 or 1
    across, up = WIDTH - LEFT, HEIGHT - TOP - BOTTOM
    yield f"<svg width={WIDTH} height={HEIGHT} font-size=9 fill=#555>"
    for step in range(3):
        y = TOP + up - up * step / 2
        yield f"<line x1={LEFT} x2={WIDTH} y1={y} y2={y} stroke=#ddd />"
        yield f"<text x={LEFT - 4} y={y + 3} text-anchor=end>{_value(top * step / 2, unit)}</text>"
    for at, (_, found) in enumerate(lines):
        drawn = " ".join(
            f"{LEFT + across * (when - first) / max(last - first, 1):.1f},{TOP + up - up * value / top:.1f}"
            for when, value in found
        )
        yield f"<polyline points='{drawn}' fill=none stroke={COLOURS[at % len(COLOURS)]} stroke-width=1.5 />"
    yield f"<text x={LEFT} y={HEIGHT - 5}>{last - first:.0f} s ago</text>"
    yield f"<text x={WIDTH} y={HEIGHT - 5} text-anchor=end>now</text></svg>"
    if not points:
        yield "<div class=l>no samples in this lab</div>"


def _value(value: float, unit: str) -> str:
    match unit:
        case "s":
            return f"{value * 1000:.3g} ms"
        case "bytes":
            return f"{value / (1 << 20):.4g} MiB"
        case "percentunit":
            return f"{value * 100:.3g} %"
        case _:
            return f"{value:.3g}"
