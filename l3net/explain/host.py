"""What of a whole host stops packets, whatever the address."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from l3net.doctor.findings import NodeLook, Severity
from l3net.doctor.node import judge_node
from l3net.explain.steps import Step, bad, doubt, note

#: A host of which nothing was seen.
UNSEEN: Final = NodeLook()
#: What the doctor's findings that concern packets are filed under.
_PACKETS: Final = "kernel"


def host_steps(look: NodeLook, node: str) -> Iterator[Step]:
    """Findings of the doctor that concern packets."""
    for finding in judge_node(look, ecmp=False):
        if finding.check != _PACKETS or finding.severity is Severity.OK:
            continue
        cause = "conntrackFull" if finding.subject == "conntrack" else "forwardingOff"
        stops = finding.severity is Severity.PROBLEM and (cause != "conntrackFull" or _full(look))
        make = bad if stops else note
        yield make("host", node, finding.what, finding.remedy, cause)


def rival_steps(look: NodeLook, node: str) -> Iterator[Step]:
    """Before all else: whoever shares an address with this node takes its sessions and its packets."""
    for finding in judge_node(look, ecmp=False):
        if finding.check == "address":
            where = f"{finding.subject} of {node}"
            yield bad("address", where, finding.what, finding.remedy, "duplicateAddress")


def unjudged_steps(found: Sequence[str], node: str) -> Iterator[Step]:
    """What of others' may stop packets and is not judged."""
    if found:
        listed = ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
        yield doubt(
            "firewall",
            node,
            f"what others have put in on {node} is not judged: {listed}",
            "`l3net trace` sends real packets; `nft list ruleset` and `ip rule` show the actual state",
            "unjudged",
        )


def _full(look: NodeLook) -> bool:
    """Whether one connection more is dropped: the doctor warns before that."""
    if look.conntrack is None:
        return False
    entries, limit = look.conntrack
    return bool(limit) and entries >= limit


def strict_steps(
    look: NodeLook, arrives: frozenset[str], leaves: frozenset[str], node: str
) -> Iterator[Step]:
    """rp_filter: what comes in by a link by which the answer would not go is dropped where it is strict."""
    caught = sorted(set(look.strict_rp_filter) & (arrives - leaves))
    if caught and leaves:
        yield bad(
            "rp_filter",
            node,
            f"rp_filter of {', '.join(caught)} is strict, and answers leave by {', '.join(sorted(leaves))}: "
            "what comes in there is dropped",
            "set net.ipv4.conf.all.rp_filter and that of the interface to 2 (loose) or 0",
            "rpFilter",
        )
