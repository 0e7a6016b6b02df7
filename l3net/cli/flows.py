"""`l3net flows`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import click

from l3net.cli import options
from l3net.cli.output import json_text, output_option, print_table, print_value
from l3net.cli.policy import drop_line
from l3net.cli.unknown import no_such
from l3net.cli.values import known
from l3net.cli.waiting import ask
from l3net.errors import NotRunningError
from l3net.explain.flows import MOST_KINDS, Flow, Names, Totals, Tracked, Wanted, peers_of
from l3net.naming import AGENT_SOCKET
from l3net.shell.kernel.flowevents import Event, FlowEvents, present

#: Seconds between questions for names, and for drops.
_NAMES_AGAIN: Final = 5.0
_DROPS_AGAIN: Final = 0.5
_PATIENCE: Final = 30.0
#: Seconds for names: connections can be shown without.
_NAMES_PATIENCE: Final = 4.0
#: Lines a second on a terminal; of more, the number is told.
_LINES: Final = 200
_COLUMNS: Final = ("SOURCE", "DESTINATION", "SERVICE", "PORT", "TO PORT", "CONNECTIONS", "UNANSWERED")
_SPARE: Final = ("TO PORT", "SERVICE")


@click.command(short_help="Show connections and drops, with names of pods and services.")
@click.option(
    "--pod",
    "pods",
    multiple=True,
    metavar="NS/NAME",
    help="Only connections of this pod. Repeatable.",
    shell_complete=known("pods"),
)
@click.option(
    "--service",
    "services",
    multiple=True,
    metavar="NS/NAME",
    help="Only connections to this service.",
    shell_complete=known("services"),
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="ADDRESS|CIDR",
    help="Only connections with this address, or an address in this range.",
)
@click.option("--follow", "-f", is_flag=True, help="Show connections as they begin, until interrupted.")
@click.option("--ended", is_flag=True, help="With --follow: also show when connections end.")
@click.option(
    "--every",
    type=options.Seconds(0.1, 3600),
    metavar="SECONDS",
    help="With --follow: instead of each connection, show how many of each kind began in this interval.",
)
@click.option(
    "--drops", is_flag=True, help="Show packets dropped by policies instead (those with l3net.io/log-drops)."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="Maximum number of kinds to show.",
)
@options.run_dir()
@output_option
def flows(
    pods: tuple[str, ...],
    services: tuple[str, ...],
    peers: tuple[str, ...],
    follow: bool,
    ended: bool,
    every: float | None,
    drops: bool,
    limit: int,
    run_dir: Path,
    output: str,
) -> None:
    """Show the connections that this node tracks, with pods and services: how many of each kind, and how
    many are unanswered.

    The command reads the kernel's connection tracking itself, in its own network namespace, and only
    while it runs. Names come from the agent; without an agent it shows addresses. With --follow, `-o
    json` prints one object per line.

    \b
    l3net flows --service default/web          who asks this service?
    l3net flows --pod default/web-0 --follow   connections of a pod as they begin
    l3net flows --follow --every 5             how many of each kind in five seconds
    l3net flows --drops --follow -o json       what policies drop
    """
    if (ended or every is not None) and not follow:
        raise click.UsageError("--ended and --every need --follow")
    if follow and output == "yaml":
        raise click.UsageError("--follow prints lines or, with -o json, one object a line")
    try:
        wanted = Wanted(pods, services, peers_of(peers))
    except ValueError as err:
        raise click.UsageError(f"--peer: {err}") from None
    try:
        if drops:
            _drops(run_dir, wanted, follow, limit, output)
        elif follow:
            _follow(run_dir, wanted, ended, every, limit, output)
        else:
            _present(run_dir, wanted, limit, output)
    except KeyboardInterrupt:
        return


def _names(run_dir: Path, before: Names | None = None) -> Names:
    """As the agent has them; those of before, or none, where it does not answer."""
    try:
        answer = ask(run_dir / AGENT_SOCKET, "names", _NAMES_PATIENCE)
    except NotRunningError as err:
        if before is None:
            click.echo(f"l3net: {err}; addresses are shown without names", err=True)
        return before or Names()
    return Names.of(answer)


def _refuse_unknown(names: Names, wanted: Wanted, *, follow: bool = False) -> None:
    """Raises ConfigError for a pod or service that the agent of this node has no address of; who follows is
    told, as it may come."""
    if not names.known:
        return
    for what, asked, there in (
        ("pod", wanted.pods, names.pods),
        ("service", wanted.services, names.services),
    ):
        known = set(there.values())
        for name in asked:
            if name not in known:
                wrong = no_such(what, name, known, "with an address that this node knows")
                if not follow:
                    raise wrong
                click.echo(f"l3net: {wrong}; waiting for it", err=True)


def _present(run_dir: Path, wanted: Wanted, limit: int, output: str) -> None:
    names = _names(run_dir)
    _refuse_unknown(names, wanted)
    totals, unanswered = Totals(), Totals()
    for seen, flow in _named(present(), names, wanted):
        totals.add(flow)
        if not seen.answered:
            unanswered.add(flow)
    rows = [
        {**flow.row(), "connections": count, "unanswered": unanswered.counts[flow]}
        for flow, count in totals.counts.most_common(limit)
    ]
    if output != "table":
        print_value(rows, output)
        return
    print_table("", _COLUMNS, map(_cells, rows), spare=_SPARE)
    if (more := len(totals.counts) - len(rows)) > 0:
        click.echo(f"{more} more kinds; --limit shows them")


def _named(found: Iterator[Tracked], names: Names, wanted: Wanted) -> Iterator[tuple[Tracked, Flow]]:
    known: dict[Tracked, Flow | None] = {}
    for seen in found:
        if seen not in known:
            flow = names.flow(seen)
            known[seen] = flow if wanted.holds(seen, flow) else None
        if (flow_or_none := known[seen]) is not None:
            yield seen, flow_or_none


class _Naming:
    """Names for events, asked for anew now and then; what was named before is not named again meanwhile."""

    def __init__(self, run_dir: Path, wanted: Wanted) -> None:
        self._run_dir, self._wanted = run_dir, wanted
        self._names = _names(run_dir)
        _refuse_unknown(self._names, wanted, follow=True)
        self._asked = time.monotonic()
        self._known: dict[
            int, tuple[Tracked, Flow | None]
        ] = {}  # by identity: what is there again is the same

    def flow(self, seen: Tracked) -> Flow | None:
        """None for what is not asked for."""
        known = self._known.get(id(seen))
        if known is None:
            flow = self._names.flow(seen)
            known = seen, flow if self._wanted.holds(seen, flow) else None
            if len(self._known) >= MOST_KINDS:
                self._known.clear()
            self._known[id(seen)] = known
        return known[1]

    def refresh(self) -> None:
        """Ask again, if it is time."""
        if time.monotonic() - self._asked > _NAMES_AGAIN:
            self._names = _names(self._run_dir, self._names)
            self._asked = time.monotonic()
            self._known.clear()


def _follow(run_dir: Path, wanted: Wanted, ended: bool, every: float | None, limit: int, output: str) -> None:
    naming, events = _Naming(run_dir, wanted), FlowEvents(ends=ended)
    printer, totals = _Printer(output), Totals()
    told = time.monotonic()
    try:
        while True:
            for event in events.read(min(every or 1.0, 1.0)):
                flow = naming.flow(event.seen)
                if flow is None:
                    continue
                if every is None:
                    printer.event(event, flow)
                elif not event.ended:
                    totals.add(flow)
            naming.refresh()
            printer.lost(events)
            if every is not None and time.monotonic() - told >= every:
                printer.totals(totals, limit, time.monotonic() - told)
                totals, told = Totals(), time.monotonic()
    finally:
        events.close()


class _Printer:
    """Lines for people, not more than they can read; objects for programs, all of them."""

    def __init__(self, output: str) -> None:
        self._json, self._terminal = output == "json", sys.stdout.isatty()
        self._second, self._lines, self._untold, self._lost = 0.0, 0, 0, 0

    def event(self, event: Event, flow: Flow) -> None:
        """A connection that began or ended."""
        what = "ended" if event.ended else "began"
        if self._json:
            row = {"at": round(time.time(), 3), "event": what, "sourcePort": event.source_port, **flow.row()}
            sys.stdout.write(json_text(row) + "\n")
            return
        if self._terminal and not self._room():
            return
        when = datetime.now().astimezone().isoformat(" ", "milliseconds")[11:23]
        by = f" by {flow.service}" if flow.service else ""
        port = f":{flow.to_port}" if flow.to_port else ""
        click.echo(f"{when} {what} {flow.source} -> {flow.destination}{port}/{flow.protocol}{by}")

    def _room(self) -> bool:
        now = time.monotonic()
        if now - self._second >= 1.0:
            if self._untold:
                click.echo(f"... and {self._untold} more")
            self._second, self._lines, self._untold = now, 0, 0
        self._lines += 1
        self._untold += self._lines > _LINES
        return self._lines <= _LINES

    def totals(self, totals: Totals, limit: int, seconds: float) -> None:
        """How many of each kind began."""
        rows = totals.rows(limit)
        if self._json:
            told = {"at": round(time.time(), 3), "seconds": round(seconds, 3), "flows": rows}
            sys.stdout.write(json_text(told) + "\n")
        else:
            click.echo(f"{sum(totals.counts.values()) + totals.others} connections in {seconds:.1f} s")
            print_table("", _COLUMNS[:-1], [_cells(row)[:-1] for row in rows], spare=_SPARE)
        sys.stdout.flush()

    def lost(self, events: FlowEvents) -> None:
        """Tell what the kernel could not hand over, and let a pipe have what was written."""
        if events.lost > self._lost:
            click.echo("l3net: connections began faster than they were read; some are not shown", err=True)
            self._lost = events.lost
        sys.stdout.flush()


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    port = f"{row['port']}/{row['protocol']}" if row["port"] else row["protocol"]
    return (
        row["source"],
        row["destination"],
        row["service"],
        port,
        row["toPort"] if row["toPort"] != row["port"] else "",
        row["connections"],
        row.get("unanswered") or "",
    )


def _drops(run_dir: Path, wanted: Wanted, follow: bool, limit: int, output: str) -> None:
    """What the agent has heard of packets that policies dropped."""
    after = 0
    _refuse_unknown(_names(run_dir) if wanted.pods or wanted.services else Names(), wanted, follow=follow)
    while True:
        question = f"policy drops {json.dumps({'after': str(after)})}"
        answer = ask(run_dir / AGENT_SOCKET, question, _PATIENCE)
        rows = [row for row in answer["drops"] if _dropped(row, wanted)][-limit:]
        if answer["drops"]:
            after = answer["drops"][-1]["serial"]
        if not answer["logging"] and not rows and not follow:
            click.echo('no policy logs what it drops: annotate one with l3net.io/log-drops: "true"', err=True)
        if not follow:
            _show_drops(rows, output)
            return
        for row in rows:
            click.echo(json_text(row) if output == "json" else drop_line(row))
        sys.stdout.flush()
        time.sleep(_DROPS_AGAIN)


def _dropped(row: dict[str, Any], wanted: Wanted) -> bool:
    ends = (row["source"], row["destination"])
    if wanted.pods and not any(end["name"] in wanted.pods for end in ends):
        return False
    addresses = [ip_address(end["address"]) for end in ends]
    return not wanted.peers or any(
        each.version == peer.version and each in peer for each in addresses for peer in wanted.peers
    )


def _show_drops(rows: list[dict[str, Any]], output: str) -> None:
    if output != "table":
        print_value(rows, output)
        return
    for row in rows:
        click.echo(drop_line(row))
