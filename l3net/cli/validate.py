"""`l3net validate`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from l3net.agent.declared import take
from l3net.cli.output import output_option, print_value
from l3net.config import ERROR_RELAY_PORT, HEALTH_PORT
from l3net.errors import ConfigError
from l3net.firewall.facts import own_ports
from l3net.ipam.crosscheck import crosscheck_state
from l3net.ipam.doubts import doubts
from l3net.ipam.findings import Contradiction, FindingReason
from l3net.model import ClusterState, Kind
from l3net.ports import Changed, Rejected
from l3net.services.verdicts import advertised
from l3net.shell.manifests.documents import MAX_BYTES, DocumentError, is_manifest, read_bytes
from l3net.shell.manifests.pinpoint import pinpointed
from l3net.shell.manifests.tree import Claim, Key, Reading, duplicate, interpret, printable


@click.command(short_help="Check manifests without applying them.")
@click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False)
)
@output_option
@click.pass_context
def validate(context: click.Context, paths: tuple[Path, ...], output: str) -> None:
    """Check manifests as the agent would. Prints one line per error: file, line, field and reason.

    A PATH is a file, a directory (its *.yaml, *.yml and *.json, without subdirectories) or - for standard
    input. Unsupported objects and fields, such as an AdminNetworkPolicy, are warnings; so are names and
    selectors that fit none of the Nodes. Exit code 2: there is an error.
    """
    readings = {str(path): _read(path) for path in files_of(paths)}
    claims: dict[Key, Claim] = {}
    rejected: list[Rejected] = []
    for reading in readings.values():
        rejected += reading.rejected
        for (kind, name), claim in reading.claims.items():
            first = claims.setdefault((kind, name), claim)
            if first is not claim:
                rejected.append(duplicate(kind, name, claim.where, first.where))
    state = ClusterState()
    for (kind, name), claim in claims.items():
        take(state, Changed(kind, name, claim.fact))
    rejected += _contradictions(state, claims, whole=any(path.is_dir() for path in paths))
    unread = [where for reading in readings.values() for where in reading.unread]
    unserved = [line for reading in readings.values() for line in reading.unserved]
    unserved += [_of(found, claims) for found in doubts(state)]
    if output == "table":
        for line in unserved:
            click.echo(f"warning: {line}")
        for line in rejected:
            click.echo(str(line))
        files = f"{len(readings)} file{'' if len(readings) == 1 else 's'}"
        objects = f"{len(claims)} object{'' if len(claims) == 1 else 's'}"
        ignored = f", {len(unread)} not read by l3net" if unread else ""
        verdict = f"{len(rejected)} wrong" if rejected else "nothing wrong"
        warned = f", {len(unserved)} warning{'' if len(unserved) == 1 else 's'}" if unserved else ""
        click.echo(f"{files}, {objects}{ignored}: {verdict}{warned}")
    else:
        answer = {
            "files": len(readings),
            "objects": [
                {"kind": kind.value, "name": str(name), **_place(claim.where)}
                for (kind, name), claim in claims.items()
            ],
            "rejected": [_line(line) for line in rejected],
            "unserved": [_line(line) for line in unserved],
            "unread": unread,
        }
        print_value(answer, output)
    if rejected:
        context.exit(2)


#: As `Document.where` writes it, with the object that an error is about.
_WHERE: Final = re.compile(
    r"(?P<file>.*?)(?::(?P<line>\d+))?(?: \(document \d+\))?(?: items\[\d+\])?(?: [A-Z]\w* \S+)?", re.DOTALL
)


def _place(where: str) -> dict[str, object]:
    """For programs: also the file, and the line, None where none is known."""
    found = _WHERE.fullmatch(where)
    file, line = (found["file"], found["line"]) if found is not None else (where, None)
    return {"where": where, "file": file, "line": int(line) if line else None}


def _line(line: Rejected) -> dict[str, object]:
    return {**_place(line.where), "field": line.field, "why": line.why}


def _of(found: Contradiction, claims: dict[Key, Claim]) -> Rejected:
    """A line about the object that it is about."""
    claim = claims.get((found.kind, found.about))
    return Rejected(claim.where if claim is not None else "", "", str(found))


def _contradictions(state: ClusterState, claims: dict[Key, Claim], *, whole: bool) -> list[Rejected]:
    """What the objects of all files say against one another.

    Unless they are the `whole` state, a directory, all filters may stand elsewhere.
    """
    return (
        [
            _of(found, claims)
            for found in crosscheck_state(state)
            if found.reason is not FindingReason.MISSING_FILTER or state.filters or whole
        ]
        + [
            Rejected(claims[Kind.SERVICE, verdict.service].where, "", f"{verdict.address}: {lost}")
            for verdict in advertised(state, "")
            for lost in verdict.lost
        ]
        + list(_ports_of_nodes(state, claims))
    )


def _ports_of_nodes(state: ClusterState, claims: dict[Key, Claim]) -> Iterator[Rejected]:
    """What services have that nodes answer themselves, as far as agents have their ports by default."""
    own = own_ports(state.configuration.listen_port, ERROR_RELAY_PORT) | {("tcp", HEALTH_PORT)}
    for name, service in sorted(state.services.items()):
        asked = [
            (f"spec.ports[{number}].nodePort", port.protocol.lower(), port.node_port)
            for number, port in enumerate(service.ports)
        ]
        for field, protocol, port in (*asked, ("spec.healthCheckNodePort", "tcp", service.health_port)):
            if (protocol, port) in own:
                why = f"{port} is not served: nodes answer to that number themselves"
                yield Rejected(claims[Kind.SERVICE, name].where, field, why)


def read_manifests(paths: Sequence[Path]) -> tuple[dict[Key, Claim], list[Rejected]]:
    """The objects of files, and what is wrong with them; of two that state the same the first holds."""
    claims: dict[Key, Claim] = {}
    rejected: list[Rejected] = []
    for reading in map(_read, paths):
        rejected += reading.rejected
        for key, claim in reading.claims.items():
            if claims.setdefault(key, claim) is not claim:
                rejected.append(duplicate(*key, claim.where, claims[key].where))
    return claims, rejected


def files_of(paths: tuple[Path, ...]) -> list[Path]:
    """The manifests that paths stand for. Raises ConfigError."""
    found: dict[Path, None] = {}
    for path in paths:
        try:
            if path.is_dir():
                found |= dict.fromkeys(sorted(entry for entry in path.iterdir() if is_manifest(entry.name)))
            elif str(path) == "-" or path.exists():
                found[path] = None
            else:
                raise ConfigError(f"{printable(path)} does not exist")
        except OSError as err:
            raise ConfigError(f"{printable(path)}: {err.strerror}") from None
    return list(found)


def _read(path: Path) -> Reading:
    if str(path) == "-":
        content = sys.stdin.buffer.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"standard input is larger than {MAX_BYTES // 2**20} MiB")
        return _interpreted("-", content)
    try:
        content, _ = read_bytes(path)
    except DocumentError as err:
        return Reading(rejected=(Rejected(printable(path), "", str(err)),))
    return _interpreted(printable(path), content)


def _interpreted(path: str, content: bytes) -> Reading:
    """What a file says; of what is wrong with it all, and where."""
    reading = interpret(path, content)
    return replace(reading, rejected=pinpointed(path, content, reading)) if reading.rejected else reading
