"""Which node holds an egress address, and with which address a pod leaves the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from l3net.egress.holding import EgressHolding, Reason
from l3net.explain.steps import Step, bad, note, ok
from l3net.model import EgressRule, Kind

_ADVICE: Final = {
    Reason.NO_NODE: "compare spec.nodeSelector of the EgressIP with `kubectl get nodes --show-labels`",
    Reason.NOT_READY: "`kubectl get nodes` tells which are ready; `l3net doctor --cluster` why one is not",
    Reason.OUTSIDE_POOLS: "add it to an IPPool with allowedUses: [Egress], or name another",
    Reason.CONFLICT: "take the address out of one of the two",
    Reason.SERVICE: "take the address out of the Service, or name another",
    Reason.NODE: "name an address that no node and no BGP peer has",
    Reason.BLOCK: "name an address outside the blocks of nodes",
    Reason.FLOATING: "take the address out of the FloatingIP, or name another",
}


def egress_steps(found: Iterable[EgressHolding], me: str) -> Iterator[Step]:
    """What came of an address for each EgressIP that has it."""
    those = sorted(found, key=lambda each: (not each.held, each.by))
    held = next((each for each in those if each.held), None)
    for each in those:
        by = f"{Kind.EGRESS_IP.value} {each.by}"
        if each.held:
            yield ok("egress", by, f"{_node(each.node, me)} holds {each.address}")
        elif held is not None:
            yield note("egress", by, each.why, cause=cause_of(each))
        else:
            seen = f"no node holds {each.address}: {each.why}"
            yield bad("egress", by, seen, _ADVICE.get(each.reason, ""), cause_of(each))
    if held is not None and held.node != me:
        ask = f"ask there for the rest: --node {held.node}"
        yield note("node", me, f"node {held.node} announces and translates {held.address}", ask)


def leaving_step(rule: EgressRule, me: str, why: str = "") -> Step:
    """What becomes of a packet that a rule is for. `why`: nobody holds an address for it."""
    by = f"{Kind.EGRESS_IP.value} {rule.by}"
    if rule.address is None:
        seen = f"selects the pod; what the pod sends is dropped: {why or 'it has no address of this family'}"
        advice = "correct the EgressIP, or delete it: the pod then leaves as others do"
        return bad("egress", by, seen, advice, "egressNoAddress")
    return ok("egress", by, f"leaves with {rule.address}, by {_node(rule.node, me)}")


def _node(node: str, me: str) -> str:
    return "this node" if node == me else f"node {node}"


def cause_of(holding: EgressHolding) -> str:
    """The stable word for programs."""
    return f"egress{holding.reason.value}"
