"""`l3net history`."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any, Final

import click

from l3net.cli.nodes import Agents, agents_option, checked
from l3net.cli.output import json_text, output_option, print_table, print_value
from l3net.cli.unknown import refuse_unknown
from l3net.cli.values import known
from l3net.errors import NotRunningError
from l3net.history.asking import select
from l3net.history.entry import EntryKind
from l3net.shell.files.historyfile import HistoryFile

#: Seconds between two questions of --follow; of other nodes.
_AGAIN: Final = 0.5
_AGAIN_AFAR: Final = 2.0
_COLUMNS: Final = ("TIME", "KIND", "SUBJECT", "WHAT", "PEER", "BEFORE", "SINCE", "REASON")
#: Seconds of what a length of time is told in.
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Moment(click.types.FloatParamType):
    """`90s`, `10m`, `2h`, `1d` ago, or a time of ISO 8601; seconds since 1970."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        number, unit = text[:-1], text[-1:]
        if unit in _UNITS and number.isdecimal() and len(number) < 9:
            return time.time() - int(number) * _UNITS[unit]
        try:
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(
                f"{value} is neither like 90s, 10m, 2h or 1d nor a time like 2026-03-01T12:00", param, ctx
            )


@click.command(short_help="Show the decisions of this node, with time and reason.")
@click.argument(
    "subject",
    required=False,
    default="",
    shell_complete=known("services", "peers", "prefixes", "service-addresses"),
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([kind.value for kind in EntryKind]),
    help="Only entries of this kind. Repeatable.",
)
@click.option(
    "--since",
    type=Moment(),
    default=None,
    metavar="AGO|TIME",
    help="Only entries since then: 10m, 2h, 2026-03-01T12:00.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Maximum number of entries, the last ones.",
)
@click.option("--follow", "-f", is_flag=True, help="Continue with new entries until interrupted.")
@agents_option
@output_option
def history(
    subject: str,
    kinds: tuple[str, ...],
    since: float | None,
    limit: int,
    follow: bool,
    agents: Agents,
    output: str,
) -> None:
    """Show the last decisions of this node: changes of announcements and kernel routes, sessions up and
    down, verdicts on service addresses, drains, and changes of the declared state.

    SUBJECT is a prefix or address (with every prefix that contains it), a service NAMESPACE/NAME, a peer
    by name or address, or the name of a declared object. The last thousand entries of each kind are kept;
    they survive the agent's restart, but not the node's. If no agent answers, the command shows what the
    last agent wrote. With --follow, `-o json` prints one object per line. Entries of several nodes are
    sorted by time.

    \b
    l3net history                          the last 50 decisions
    l3net history 10.96.0.10 --since 1h    why was this address withdrawn?
    l3net history tor1 --kind session      when was this session down?
    l3net history default/web -o json
    """
    asked = {"subject": subject, "kinds": list(kinds), "since": since or 0.0, "limit": limit}
    rows = _rows(asked, agents, follow=follow)
    if subject and not rows and not follow:
        _refuse_unknown(agents, subject)
    if not follow:
        _show(rows, agents, output)
        return
    if output == "yaml":
        raise click.UsageError("--follow prints a table or, with -o json, one object a line")
    shown: set[str] = set()
    while True:
        for row in rows:
            if json.dumps(row) not in shown:
                cells = _cells(row, agents)
                click.echo(json_text(row) if output == "json" else "  ".join(filter(None, cells)))
        shown = {json.dumps(row) for row in rows}
        try:
            time.sleep(_AGAIN if agents.here else _AGAIN_AFAR)
        except KeyboardInterrupt:
            return
        rows = _rows(asked, agents, follow=True)


def _refuse_unknown(agents: Agents, subject: str) -> None:
    """Raises ConfigError. Any address or prefix may have been decided about."""
    try:
        ip_network(subject, strict=False)
    except ValueError:
        name = subject.rsplit(maxsplit=1)[-1] if subject.split() else ""
        refuse_unknown(agents, "object or peer", name, ["services", "peers"], "declared nodes pods policies")


def _rows(asked: dict[str, Any], agents: Agents, *, follow: bool) -> list[dict[str, Any]]:
    """Of the agents; without one, of the file that it has left on this node."""
    older = "the agent that runs is older than this command and keeps no history"

    def entries(answer: dict[str, Any]) -> list[dict[str, Any]]:
        rows = list(checked(answer, "entries", older)["entries"])
        for row in rows:  # one that cannot be shown is of another release, whoever wants what of it
            _words(row)
        return rows

    try:
        found = agents.each(f"history {json.dumps(asked)}", entries)
    except NotRunningError as err:
        kept = HistoryFile(agents.run_dir).read() if agents.here else ()
        if follow or not kept:
            raise
        click.echo(f"l3net: {err}; this is what the last one has written down", err=True)
        kinds = {EntryKind(kind) for kind in asked["kinds"]}
        return [
            entry.row() for entry in select(kept, asked["subject"], kinds, asked["since"], asked["limit"])
        ]
    if not agents.several:
        return found[0][1]
    rows: list[dict[str, Any]] = sorted(agents.named(found), key=lambda row: float(row["at"]))
    return rows[-asked["limit"] :]


def _show(rows: list[dict[str, Any]], agents: Agents, output: str) -> None:
    if output != "table":
        print_value(rows, output)
    elif rows:
        columns = [_COLUMNS[0], *(["NODE"] if agents.several else []), *_COLUMNS[1:]]
        cells = [_cells(row, agents) for row in rows]
        print_table("", columns, cells, spare=("KIND", "BEFORE"), text=("PEER", "SINCE"))
    else:
        click.echo("there is no such entry, or it is older than the history")


def _cells(row: dict[str, Any], agents: Agents) -> list[str]:
    when, *told = _words(row)
    return [when, *([row["node"]] if agents.several else []), *told]


def _words(row: dict[str, Any]) -> list[str]:
    """What a line shows of an entry but its node."""
    more = f" and {row['count'] - 1} more" if row["count"] > 1 else ""
    about = row["prefixes"][0] if row["kind"] == EntryKind.SERVICE.value and row["prefixes"] else ""
    when = datetime.fromtimestamp(row["at"], UTC).astimezone().isoformat(" ", "milliseconds")
    subject = f"{row['subject']}{' ' * bool(about)}{about}{more}"
    told = (row["kind"], subject, row["what"], row["peer"], row["old"], row["new"], row["reason"])
    return [when[:23], *map(str, told)]
