"""Findings of many nodes as one list: a row a problem, with the nodes that have it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from l3net.addresses import parse_address, parse_prefix
from l3net.doctor.findings import Counters, Finding, Peer, Severity
from l3net.doctor.node import judge_agent, peers_of, speaker_away
from l3net.doctor.peers import judge_peer

#: Sessions of the node-to-node mesh bear this before the node's name.
MESH: Final = "mesh:"
#: Worst first.
_ORDER: Final = (Severity.PROBLEM, Severity.WARNING, Severity.OK)
_WORD: Final = re.compile(r"[A-Za-z0-9_.:/%-]*[A-Za-z0-9_%]")
_NUMBER: Final = re.compile(r"\d+(\.\d+)?(s|ms|%|MiB)?")


@dataclass(frozen=True, slots=True)
class Row:
    """One problem. `subjects` are what it is about, each once; `what` and `remedy` are the first node's
    words, and `differs` tells that others have other names, addresses or numbers in them."""

    check: str
    severity: Severity
    subjects: tuple[str, ...]
    what: str
    remedy: str
    nodes: tuple[str, ...]
    differs: bool = False


def judge_status(status: Mapping[str, Any], draining: frozenset[str] = frozenset()) -> list[Finding]:
    """What an agent's status alone tells; without `routes` nothing of them. Sessions of nodes that drain are
    meant to be down: of this one, and of the mesh with those in `draining`."""
    drain = status["drain"]
    if "cause" in drain:
        what = f"drains ({drain['cause']}): {drain['stage']}"
        remedy = "if this is not intended: `l3net node undrain` there, or `kubectl uncordon`"
        others = [each for each in judge_agent(status) if not each.what.startswith("not ready")]
        return [Finding("drain", status["node"], Severity.WARNING, what, remedy), *others]
    found = judge_agent(status)
    for peer in peers_of(status):
        if speaker_away(status):
            continue
        if peer.established:
            found += judge_peer(peer, None, Counters())
        elif peer.name.partition("/")[0].removeprefix(MESH) not in draining or not peer.name.startswith(MESH):
            found.append(_down(peer))
    return found


def _down(peer: Peer) -> Finding:
    """Nobody has probed it from here."""
    return Finding(
        "peer",
        f"{peer.name} ({peer.address})",
        Severity.PROBLEM,
        f"down: {peer.reason or 'no session yet'}",
        "`l3net doctor` on the node finds out why; `l3net bgp neighbor` has its last words",
    )


def together(findings: Iterable[tuple[str, Finding]], names: Iterable[str]) -> list[Row]:
    """Rows, the worst and the most frequent first, out of (node, finding). Findings are alike that differ
    only in `names` (of nodes), addresses and numbers."""
    known = frozenset(names)
    groups: dict[tuple[object, ...], list[tuple[str, Finding]]] = {}
    for node, each in findings:
        subject = "" if each.severity is Severity.OK else each.subject  # what is well is told once
        texts = (_shape(text, known) for text in (subject, each.what, each.remedy))
        groups.setdefault((each.check, each.severity, *texts), []).append((node, each))
    rows = [_row(group) for group in groups.values()]
    return sorted(rows, key=lambda row: (_ORDER.index(row.severity), -len(row.nodes), row.check, row.what))


def _row(group: Sequence[tuple[str, Finding]]) -> Row:
    first = group[0][1]
    return Row(
        first.check,
        first.severity,
        tuple(dict.fromkeys(each.subject for _, each in group)),
        first.what,
        first.remedy,
        tuple(dict.fromkeys(node for node, _ in group)),
        len({(each.what, each.remedy) for _, each in group}) > 1,
    )


def _shape(text: str, names: frozenset[str]) -> str:
    """The text without what differs from node to node."""
    return _WORD.sub(lambda found: _kind(found[0], names), text)


def _kind(word: str, names: frozenset[str]) -> str:
    if word in names:
        return "NODE"
    if _NUMBER.fullmatch(word):
        return "NUMBER"
    if _is_address(word):
        return "ADDRESS"
    for mark in "/:":  # http://ADDRESS:NUMBER/NODE, mesh:NODE
        before, found, after = word.partition(mark)
        if found:
            return f"{_kind(before, names)}{mark}{_kind(after, names)}"
    parts = word.split("-")  # NODE-tor, tor-NODE
    for count in range(len(parts) - 1, 0, -1):
        if "-".join(parts[:count]) in names:
            return "-".join(["NODE", *parts[count:]])
        if "-".join(parts[-count:]) in names:
            return "-".join([*parts[:-count], "NODE"])
    return word


def _is_address(word: str) -> bool:
    if "." not in word and ":" not in word:
        return False
    try:
        parse_prefix(word) if "/" in word else parse_address(word.partition("%")[0])
    except ValueError:
        return False
    return True
