"""A topology as a picture: for the terminal, or as SVG, DOT (Graphviz) or Mermaid text."""

from __future__ import annotations

from collections.abc import Collection
from html import escape

from l3net.lab.layout import Box, layout
from l3net.lab.topology import Link, Topology

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_STROKES = {
    0: " ", _UP: "│", _DOWN: "│", _UP | _DOWN: "│", _LEFT: "─", _RIGHT: "─", _LEFT | _RIGHT: "─",
    _DOWN | _RIGHT: "┌", _DOWN | _LEFT: "┐", _UP | _RIGHT: "└", _UP | _LEFT: "┘",
    _UP | _DOWN | _RIGHT: "├", _UP | _DOWN | _LEFT: "┤",
    _DOWN | _LEFT | _RIGHT: "┬", _UP | _LEFT | _RIGHT: "┴",
    _UP | _DOWN | _LEFT | _RIGHT: "┼",
}  # fmt: skip
_GAP = 4
_BREAK = "<br/>"
_CROSS = "╳"


class _Canvas:
    """Characters, and strokes that join where they meet. A vertical that passes a horizontal crosses it."""

    def __init__(self) -> None:
        self._text: dict[tuple[int, int], str] = {}
        self._strokes: dict[tuple[int, int], int] = {}

    def write(self, row: int, column: int, text: str) -> None:
        for offset, character in enumerate(text):
            self._text[row, column + offset] = character

    def vertical(self, column: int, top: int, bottom: int) -> None:
        for row in range(top, bottom + 1):
            ends = (_UP if row > top else 0) | (_DOWN if row < bottom else 0)
            self._strokes[row, column] = self._strokes.get((row, column), 0) | ends

    def horizontal(self, row: int, left: int, right: int) -> None:
        for column in range(left, right + 1):
            ends = (_LEFT if column > left else 0) | (_RIGHT if column < right else 0)
            self._strokes[row, column] = self._strokes.get((row, column), 0) | ends

    def box(self, row: int, column: int, width: int, lines: tuple[str, ...]) -> None:
        self.horizontal(row, column, column + width - 1)
        self.horizontal(row + len(lines) + 1, column, column + width - 1)
        self.vertical(column, row, row + len(lines) + 1)
        self.vertical(column + width - 1, row, row + len(lines) + 1)
        for offset, line in enumerate(lines):
            self.write(row + 1 + offset, column + 2, line.ljust(width - 4))

    def __str__(self) -> str:
        cells = {**{at: _STROKES[strokes] for at, strokes in self._strokes.items()}, **self._text}
        height = max((row for row, _ in cells), default=-1) + 1
        lines = []
        for row in range(height):
            width = max((column for at, column in cells if at == row), default=-1) + 1
            lines.append("".join(cells.get((row, column), " ") for column in range(width)).rstrip())
        return "\n".join(lines) + "\n"


def terminal(topology: Topology, cut: Collection[Link] = ()) -> str:
    """Boxes and lines in characters; a link that is `cut` has a cross."""
    apart = {frozenset(end.host for end in link.ends) for link in cut}
    plan = layout(topology)
    canvas = _Canvas()
    widths = {box.host: max(map(len, box.lines)) + 4 for row in plan.rows for box in row}
    row_width = [sum(widths[box.host] for box in row) + _GAP * (len(row) - 1) for row in plan.rows]
    full = max(row_width)
    left: dict[str, int] = {}
    for row, width in zip(plan.rows, row_width, strict=True):
        # Rows spread over the whole width, so that boxes stand above what they are linked to.
        gap = (full - width) / len(row)
        column = gap / 2
        for box in row:
            left[box.host] = round(column)
            column += widths[box.host] + _GAP + gap
    beside: list[str] = []
    crossing: list[list[tuple[str, str]]] = [[] for _ in plan.rows]
    for link in plan.links:
        ends = sorted((plan.box(end.host) for end in link.ends), key=lambda box: box.row)
        if ends[1].row - ends[0].row == 1:
            crossing[ends[0].row].append((ends[0].host, ends[1].host))
        else:
            beside.append(f"{ends[0].host} {_CROSS if link in cut else '─'} {ends[1].host}")
    y = 0
    for index, row in enumerate(plan.rows):
        height = max(len(box.lines) for box in row) + 2
        for box in row:
            canvas.box(y, left[box.host], widths[box.host], box.lines)
        pairs = crossing[index]
        bottom = y + height + max(len(pairs), 1)
        for track, (upper, lower) in enumerate(_tracks(pairs, left)):
            _wire(
                canvas, pairs, plan.box(upper), (upper, lower), left, widths, (y, y + height + track, bottom)
            )
            if frozenset((upper, lower)) in apart:
                canvas.write(y + height + track, _middle(pairs, (upper, lower), left, widths), _CROSS)
        y = bottom if index < len(plan.rows) - 1 else y + height
    text = str(canvas)
    text += f"and: {', '.join(beside)}\n" if beside else ""
    return text + (f"cut: {', '.join(map(named, cut))}\n" if cut else "")


def named(link: Link) -> str:
    """Its two hosts."""
    return " - ".join(end.host for end in link.ends)


def _tracks(pairs: list[tuple[str, str]], left: dict[str, int]) -> list[tuple[str, str]]:
    return sorted(pairs, key=lambda pair: (left[pair[0]], -left[pair[1]]))


def _wire(
    canvas: _Canvas,
    pairs: list[tuple[str, str]],
    upper_box: Box,
    pair: tuple[str, str],
    left: dict[str, int],
    widths: dict[str, int],
    rows: tuple[int, int, int],
) -> None:
    """One link: down from the upper box, along a track of its own, down to the lower box."""
    x1, x2 = _columns(pairs, pair, left, widths)
    top, track, bottom = rows
    canvas.vertical(x1, top + len(upper_box.lines) + 1, track)
    canvas.horizontal(track, min(x1, x2), max(x1, x2))
    canvas.vertical(x2, track, bottom)


def _columns(
    pairs: list[tuple[str, str]], pair: tuple[str, str], left: dict[str, int], widths: dict[str, int]
) -> tuple[int, int]:
    """Where a link leaves the upper box and comes to the lower one."""
    upper, lower = pair
    below = sorted((low for up, low in pairs if up == upper), key=lambda host: left[host])
    above = sorted((up for up, low in pairs if low == lower), key=lambda host: left[host])
    x1 = _port(left[upper], widths[upper], below.index(lower), len(below))
    x2 = _port(left[lower], widths[lower], above.index(upper), len(above))
    return (x1, x1) if abs(x1 - x2) <= 1 and len(below) == len(above) == 1 else (x1, x2)


def _middle(
    pairs: list[tuple[str, str]], pair: tuple[str, str], left: dict[str, int], widths: dict[str, int]
) -> int:
    return sum(_columns(pairs, pair, left, widths)) // 2


def _port(left: int, width: int, index: int, count: int) -> int:
    return left + round(width * (index + 1) / (count + 1))


def dot(topology: Topology, cut: Collection[Link] = ()) -> str:
    """Graphviz text, for `dot -Tpng`."""
    newline = "\\n"  # as DOT spells it
    lines = ["graph lab {", "  node [shape=box, fontname=monospace];"]
    for row in layout(topology).rows:
        lines.append("  { rank=same; " + " ".join(f'"{box.host}";' for box in row) + " }")
        lines += [f'  "{box.host}" [label="{newline.join(box.lines)}"];' for box in row]
    for link in topology.links:
        label = newline.join(map(str, link.subnets))
        style = ", style=dashed, color=red" if link in cut else ""
        lines.append(f'  "{link.ends[0].host}" -- "{link.ends[1].host}" [label="{label}"{style}];')
    return "\n".join([*lines, "}"]) + "\n"


def mermaid(topology: Topology, cut: Collection[Link] = ()) -> str:
    """A Mermaid flowchart, for Markdown."""
    number = {host: f"h{index}" for index, host in enumerate(topology.hosts)}
    lines = ["graph TD"]
    for row in layout(topology).rows:
        lines += [f'  {number[box.host]}["{_BREAK.join(box.lines)}"]' for box in row]
    order = {box.host: box.row for row in layout(topology).rows for box in row}
    for link in topology.links:
        upper, lower = sorted((end.host for end in link.ends), key=lambda host: order[host])
        line, label = (
            ("-.-x", ["cut", *map(str, link.subnets)]) if link in cut else ("---", map(str, link.subnets))
        )
        lines.append(f'  {number[upper]} {line}|"{_BREAK.join(label)}"| {number[lower]}')
    return "\n".join(lines) + "\n"


def svg(topology: Topology, cut: Collection[Link] = ()) -> str:
    """A picture without dependencies: hosts, links with their subnets, dashed where a link is `cut`."""
    plan = layout(topology)
    columns = max(len(row) for row in plan.rows)
    box_width, line_height, gap_x, gap_y, margin = 190, 18, 40, 90, 20
    width = columns * (box_width + gap_x) - gap_x + 2 * margin
    centre: dict[str, tuple[float, float, float]] = {}
    shapes: list[str] = []
    y = margin
    for row in plan.rows:
        tall = max(len(box.lines) for box in row) * line_height + 14
        for index, box in enumerate(row):
            x = margin + (width - 2 * margin) * (index + 0.5) / len(row)
            height = len(box.lines) * line_height + 14
            centre[box.host] = (x, y, y + height)
            shapes.append(
                f'<rect x="{x - box_width / 2:.0f}" y="{y}" width="{box_width}" height="{height}" rx="6"/>'
            )
            for offset, line in enumerate(box.lines):
                style = ' class="name"' if offset == 0 else ""
                shapes.append(
                    f'<text x="{x:.0f}" y="{y + 20 + offset * line_height}"{style}>{escape(line)}</text>'
                )
        y += tall + gap_y
    wires: list[str] = []
    labels: list[str] = []
    for link in plan.links:
        (x1, top1, low1), (x2, top2, low2) = (centre[end.host] for end in link.ends)
        start, end = ((x1, low1), (x2, top2)) if top1 <= top2 else ((x1, top1), (x2, low2))
        state = ' class="cut"' if link in cut else ""
        wires.append(
            f'<line x1="{start[0]:.0f}" y1="{start[1]:.0f}" x2="{end[0]:.0f}" y2="{end[1]:.0f}"{state}/>'
        )
        # Nearer to the lower box than to the upper, where links that leave one box have spread.
        x, y0 = (start[index] + 0.6 * (end[index] - start[index]) for index in (0, 1))
        labels += [
            f'<text x="{x:.0f}" y="{y0 + offset * 12 - 2:.0f}" class="subnet">{subnet}</text>'
            for offset, subnet in enumerate(link.subnets)
        ]
    style = (
        "rect{fill:#f6f8fa;stroke:#57606a}line{stroke:#57606a;stroke-width:1.5}"
        ".cut{stroke:#cf222e;stroke-dasharray:6 5}"
        "text{font:13px monospace;text-anchor:middle;fill:#24292f}.name{font-weight:bold}"
        ".subnet{font-size:10px;fill:#57606a;paint-order:stroke;stroke:#fff;stroke-width:3px}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y - gap_y + margin}">'
        f"<style>{style}</style>\n" + "\n".join([*wires, *shapes, *labels]) + "\n</svg>\n"
    )


FORMATS = {"terminal": terminal, "svg": svg, "dot": dot, "mermaid": mermaid}
