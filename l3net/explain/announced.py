"""Whether routers have a route to a prefix: each peer, and all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from l3net.bgp.verdict import Export
from l3net.explain.facts import PeerTold
from l3net.explain.neighbours import trouble
from l3net.explain.steps import Step, bad, note, ok
from l3net.explain.words import OF_EXPORT
from l3net.model import Prefix


def peer_steps(prefix: Prefix, peers: Sequence[PeerTold]) -> list[Step]:
    """A step for each peer outside the mesh. One that is told suffices; none is bad."""
    routers = [peer for peer in peers if not peer.mesh]
    outside = [peer for peer in routers if peer.carries] or routers
    reached = [peer for peer in outside if _hears(peer)]
    if not outside:
        return [
            bad(
                "peers",
                "",
                "no BGP peer outside the cluster is declared for this node, so no router gets a route",
                "declare a BGPPeer that selects this node",
                "noPeer",
            )
        ]
    return [
        replace(_told(prefix, peer, stops=not reached), prefix=str(prefix), peer=str(peer.address))
        for peer in outside
    ]


def unannounced(block: Prefix, node: str) -> Step:
    """A block of this node's that no source of announcements has."""
    return bad(
        "block",
        node,
        f"{block} is not announced: its IPPool has advertise: false, advertise.podBlocks is off, or another "
        "node has the block",
        "see the IPPool and the BGPConfiguration",
        "blockNotAnnounced",
    )


def _hears(peer: PeerTold) -> bool:
    there = peer.established and peer.speaker and not peer.path_failed and not _misled(peer)
    return there and peer.verdict is Export.ANNOUNCED


def _misled(peer: PeerTold) -> tuple[str, str, str] | None:
    """What is wrong with the neighbour entry by which packets and answers go to the router."""
    return trouble(peer.hop, peer.address) if peer.hop is not None else None


def _told(prefix: Prefix, peer: PeerTold, *, stops: bool) -> Step:
    what = f"announcement of {prefix}"
    if _hears(peer):
        if peer.said:
            return ok(what, peer.where, "announced, as decided", since=peer.since)
        return note(what, peer.where, "decided, and waits to be sent", cause="queued")
    seen, advice, cause = _refused(peer)
    if stops:
        return bad(what, peer.where, seen, advice, cause, since=peer.since)
    return note(what, peer.where, f"{seen}; other peers get it", advice, cause)


def _refused(peer: PeerTold) -> tuple[str, str, str]:
    if not peer.speaker:
        seen = "not announced: the node's own speaker (`l3net speaker`) does not answer the agent"
        return seen, "start it: `systemctl status l3net-speaker`, or its pod, and its log", "speakerDown"
    if found := _misled(peer):
        return found
    if peer.path_failed:
        seen = f"not announced: BFD has lost the path ({peer.state})"
        return seen, "look at the path: link, BFD on the router, firewall for UDP 3784", "bfdDown"
    verdict = peer.verdict
    if verdict is Export.ANNOUNCED or verdict is Export.SESSION_DOWN or not peer.established:
        seen, advice = f"not announced: the session is down ({peer.state})", OF_EXPORT[Export.SESSION_DOWN][1]
        return seen, advice, "sessionDown"
    words, advice = OF_EXPORT[verdict]
    by = f" ({peer.by})" if peer.by else ""
    return (
        f"not announced: {words}{by}",
        advice,
        verdict.value if verdict is not Export.FILTERED else "filtered",
    )
