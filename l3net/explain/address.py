"""What is behind one address: a pod, a node, a learned route, or nothing that anybody knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from l3net.doctor.findings import NodeLook
from l3net.explain.announced import peer_steps
from l3net.explain.ends import end_steps
from l3net.explain.facts import End, PeerTold, Way
from l3net.explain.host import UNSEEN, host_steps, rival_steps, unjudged_steps
from l3net.explain.steps import Explanation, Step, any_bad, bad, note, ok
from l3net.model import Prefix


@dataclass(frozen=True, slots=True)
class Heard:
    """A path that a peer has announced for a prefix that holds the address, and the verdict on it."""

    prefix: Prefix
    peer: str
    next_hop: str
    verdict: str
    best: bool


@dataclass(frozen=True, slots=True)
class AddressFacts:
    """`block`: that which holds it, and the node it is of. `told`: who hears of the block, if it is this
    node's."""

    end: End
    node: str
    block: tuple[Prefix, str] | None = None
    told: tuple[Prefix, Sequence[PeerTold]] | None = None
    heard: Sequence[Heard] = ()
    host: NodeLook = UNSEEN
    pod_mtu: int = 0
    policies: Sequence[str] = ()
    unjudged: Sequence[str] = ()


def explain_address(facts: AddressFacts, subject: str = "") -> Explanation:
    """Whether this node reaches it, and whether the routers have a route to it."""
    end = facts.end
    outside = list(_outside(facts))
    data = list(_data_path(facts))
    local = facts.block is not None and facts.block[1] == facts.node
    reached = not any_bad(data)
    well = f"{end.where} is reached from {facts.node}"
    if local and not any_bad(outside):
        well += f", and routers have a route to {facts.block[0] if facts.block else ''}"
    return Explanation(
        subject or f"address {end.address}",
        (*data, *outside),
        well,
        inside=reached,
        outside=reached and not any_bad(outside) if local else None,
    )


def _data_path(facts: AddressFacts) -> Iterator[Step]:
    end = facts.end
    yield from rival_steps(facts.host, facts.node)
    yield from host_steps(facts.host, facts.node)
    yield from unjudged_steps(facts.unjudged, facts.node)
    if facts.policies:
        yield note(
            "policy", end.where, f"policies are for it: {', '.join(facts.policies[:5])}; ask with a source"
        )
    if facts.block is not None and facts.block[1] != facts.node:
        yield ok("block", end.where, f"{facts.block[0]} is node {facts.block[1]}'s")
    yield from end_steps(end, facts.node, facts.pod_mtu)
    yield from _heard(facts)


def _heard(facts: AddressFacts) -> Iterator[Step]:
    for each in facts.heard[:8]:
        seen = f"{each.prefix} via {each.next_hop}: {each.verdict}"
        if each.best:
            yield ok("learned", f"peer {each.peer}", f"{seen}, in use")
        else:
            yield note("learned", f"peer {each.peer}", seen, cause=each.verdict)


def _outside(facts: AddressFacts) -> Iterator[Step]:
    if facts.told is not None:
        yield from peer_steps(*facts.told)


def nobody(address: str, way: Way) -> Step:
    """No pod, node or service has it, and no route leads there."""
    return bad(
        "address",
        address,
        f"no object of the cluster has it{'' if way.leads else f', and no route leads there ({way})'}",
        "`l3net bgp routes` shows received and refused routes",
        "unknownAddress",
    )
