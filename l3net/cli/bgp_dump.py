"""`l3net bgp dump`: the Adj-RIB-In as an MRT file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

import click

from l3net.addresses import prefix_order
from l3net.bgp.mrt import MOST, MrtEntry, MrtPeer, peer_index_table, rib_records
from l3net.bgp.prefixes import parse_prefix
from l3net.cli import options
from l3net.cli.bgp_routes import PATIENCE
from l3net.cli.output import Progress
from l3net.cli.waiting import ask
from l3net.errors import ConfigError, L3netError, refusal
from l3net.model import Prefix
from l3net.naming import AGENT_SOCKET
from l3net.shell.files.whole import written_whole

#: Octets written at a time.
_CHUNK = 1 << 20


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    show_default="rib.NODE.YYYYMMDD.HHMM.mrt in this directory",
    help="Output file; `-` is standard output. A file is replaced as a whole or not at all.",
)
@options.run_dir()
def dump(output: Path | None, run_dir: Path) -> None:
    """Write all received routes, used or refused, to an MRT file (TABLE_DUMP_V2, RFC 6396).

    Paths are as received, before any policy. `bgpdump FILE` and most tools for route collectors' files
    read it. The time at which a path was received is unknown and written as 0.
    """
    if str(output) == "-" and sys.stdout.isatty():
        raise ConfigError("an MRT file is nothing for a terminal: name a file, or lead it on with a pipe")
    at = int(time.time())
    progress = Progress("routes", "MiB")
    answer = ask(run_dir / AGENT_SOCKET, "dump", PATIENCE, lambda octets: progress(octets / (1 << 20)))
    progress.done()
    if "paths" not in answer:
        raise ConfigError(answer.get("error") or "the agent that runs is older than this command")
    if len(answer["peers"]) > MOST:
        raise ConfigError(f"{len(answer['peers'])} peers are more than an MRT file can name ({MOST})")
    if output is None:
        output = Path(f"rib.{answer['node']}.{time.strftime('%Y%m%d.%H%M', time.gmtime(at))}.mrt")
    chunks = _chunks(at, answer)
    if str(output) == "-":
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return
    try:
        written_whole(output, chunks)
    except OSError as err:
        raise L3netError(f"{output}: {refusal(err, 'this needs the right to write there')}") from err
    paths = sum(len(row["prefixes"]) for row in answer["paths"])
    click.echo(f"{output}: {paths} paths of {len(answer['peers'])} peers", err=True)


def _chunks(at: int, answer: dict[str, Any]) -> Iterator[bytes]:
    """The file, some of it at a time."""
    waiting = bytearray(
        peer_index_table(at, IPv4Address(answer["routerID"]), answer["node"], _peers(answer["peers"]))
    )
    found: dict[Prefix, list[MrtEntry]] = {}
    for row in answer["paths"]:
        attributes = bytes.fromhex(row["attributes"])
        for prefix, path_id in row["prefixes"]:
            entry = MrtEntry(row["peer"], path_id, attributes)
            found.setdefault(parse_prefix(prefix), []).append(entry)
    rows = sorted(found.items(), key=lambda row: prefix_order(row[0]))
    for record in rib_records(at, rows):
        waiting += record
        if len(waiting) >= _CHUNK:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


def _peers(rows: list[dict[str, Any]]) -> list[MrtPeer]:
    return [
        MrtPeer(
            IPv4Address(row["routerID"] or 0),
            ip_address(row["address"]),
            row["asNumber"],
        )
        for row in rows
    ]
