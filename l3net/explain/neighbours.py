"""Whether who takes the packets on a link is who answers for the address there."""

from __future__ import annotations

from l3net.explain.facts import Hop
from l3net.model import Address


def trouble(hop: Hop, taker: Address) -> tuple[str, str, str] | None:
    """What is wrong with the neighbour entry of `taker`, what to do, and the cause; None: nothing is."""
    on = f"on {hop.interface}"
    if not hop.answers:  # not asked, or nobody answered: dead neighbours are another matter
        return None
    if len(hop.answers) > 1:
        return (
            f"{len(hop.answers)} hosts answer for {taker} {on} ({', '.join(hop.answers)}): packets go to "
            "whichever answered last",
            f"find the one that is not {taker} by its MAC, and give it another address",
            "duplicateAddress",
        )
    if hop.link_address and hop.link_address not in hop.answers:
        return (
            f"the neighbour entry of {taker} {on} is {hop.link_address} ({hop.neighbour or 'no state'}), and "
            f"{hop.answers[0]} answers for it: packets go to a host that is gone",
            f"`ip neigh del {taker} dev {hop.interface}`; a permanent entry was set by another "
            "program: find it",
            "neighbourStale",
        )
    return None
