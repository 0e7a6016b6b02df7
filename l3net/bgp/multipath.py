"""The next hops of equal paths, with weights where the peers say how wide their ways are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from l3net.bgp.loc_rib import Candidate
from l3net.community import BLACKHOLE
from l3net.model import Address, NextHop

#: The kernel's weights go from 1 to 256 (rtnetlink(7), rtnh_hops); the widest path gets this one.
WIDEST = 128


def discard(candidate: Candidate) -> bool:
    """Whether a path asks for packets to be dropped (RFC 7999), of a peer that may.

    It needs no way on: its next hop may be one that leads nowhere, as in RFC 5635 section 4.
    """
    return candidate.session.allow_blackhole and BLACKHOLE in candidate.path.attributes.communities


def discards(best: Sequence[Candidate]) -> bool:
    """Whether a prefix is to be dropped: one of its best paths asks for it.

    One is enough. Such a path has no way on of its own, so that its next hop counts among no others'; and
    whichever of equal paths came with the lowest address has nothing to do with it.
    """
    return any(map(discard, best))


def weighted(hops: Sequence[tuple[Candidate, frozenset[NextHop]]]) -> frozenset[NextHop]:
    """One next hop for each gateway and interface.

    If every path carries a link bandwidth community (draft-ietf-idr-link-bandwidth), weights are in
    proportion to it; if one lacks it, all are equal, as the draft has it.
    """
    if len(hops) == 1:
        return hops[0][1]
    widths = [candidate.path.attributes.link_bandwidth for candidate, _ in hops]
    widest = max((width for width in widths if width is not None), default=0.0)
    share = widest > 0 and None not in widths and len(set(widths)) > 1
    found: dict[tuple[Address | None, str], NextHop] = {}
    for candidate, resolved in hops:
        width = candidate.path.attributes.link_bandwidth or 0.0
        scale = max(1, round(WIDEST * width / widest)) if share else 1
        for hop in resolved:
            key = (hop.gateway, hop.interface)
            before = found.get(key)
            weight = min(256, hop.weight * scale)
            if before is None or (share and before.weight < weight):
                found[key] = replace(hop, weight=weight)
    return frozenset(found.values())
