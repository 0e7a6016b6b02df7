"""Who has a floating address, and what becomes of packets to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from l3net.explain.steps import Step, bad, note, ok
from l3net.floating.holding import Holding, Reason

_ADVICE: Final = {
    Reason.NO_POD: "compare spec.selector of the FloatingIP with `kubectl get pods --show-labels`",
    Reason.NOT_READY: "`kubectl describe pod` tells why no selected pod is ready, or has an address",
    Reason.NO_FAMILY: "give the pods' nodes blocks of that family, or take the address out",
    Reason.HOST_NETWORK: "select pods that are not on their node's network",
    Reason.OUTSIDE_POOLS: "add it to an IPPool with allowedUses: [Floating], or name another",
    Reason.NAMESPACE: "see namespaceSelector of the IPPool; a Pod's annotation needs a pool that has one",
    Reason.CONFLICT: "take the address out of one of the two",
    Reason.SERVICE: "take the address out of the Service, or name another",
    Reason.NODE: "name an address that no node and no BGP peer has",
    Reason.BLOCK: "name an address outside the blocks of nodes",
}


def floating_steps(claims: Iterable[Holding], me: str) -> Iterator[Step]:
    """What came of each claim to an address. One that is refused is bad where nobody has the address."""
    found = list(claims)
    held = next((each for each in found if each.held), None)
    for each in sorted(found, key=lambda each: not each.held):
        if each.held:
            here = "this node" if each.node == me else f"node {each.node}"
            yield ok("floating", str(each.by), f"pod {each.pod} ({each.target}) on {here} has {each.address}")
        elif held is not None:
            yield note("floating", str(each.by), each.why, cause=cause_of(each))
        else:
            seen = f"nobody has {each.address}: {each.why}"
            yield bad("floating", str(each.by), seen, _ADVICE.get(each.reason, ""), cause_of(each))
    if held is not None and held.node != me:
        ask = f"ask there for the rest: --node {held.node}"
        yield note("node", me, f"node {held.node} announces and translates {held.address}", ask)


def cause_of(holding: Holding) -> str:
    """The stable word for programs."""
    return f"floating{holding.reason.value}"
