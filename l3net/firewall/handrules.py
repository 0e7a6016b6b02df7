"""The chains of the section `handing`, which stand whatever the services are: one for each size of a table.

A packet from outside for a spread address meets them after connection tracking and before translation. What
this node translates already stays here. Else the slot says: a copy goes to the node that answers, by the
envelope, and the packet ends here before its connection is noted down; or it is translated here.

A segment in the middle of a connection that nobody here knows goes on to the next node of the slot's order,
and at the end of that is refused: so a connection is found where an endpoint has come meanwhile, whichever
node a router picks. A datagram does not say whether it is the first: for a while after a slot has moved, its
new owner asks the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from l3net.firewall.contents import IP, Rules, hook
from l3net.firewall.nat import KEY
from l3net.firewall.ranking import LEAST, MOST
from l3net.firewall.sticky import SEED
from l3net.model import Prefix
from l3net.naming import ENVELOPE, ENVELOPE_PORT, PROTOCOL_NUMBERS

#: How often a packet may go on from node to node, which `ASKED` and its owner fit in. Nodes that know
#: different endpoints hand it to one another: `dup` counts its hops down, but past nought, too.
HOPS: Final = 16
#: The maps: what a chain is led to by, and what slots hold.
LEADING: Final = ("spread", "placed")
SLOTS: Final = {"owners": False, "next": False, "here": True, "returning": False}  # whether with a port
#: Of slots that have come here, for a while: whom to ask for flows of datagrams.
ASKING: Final = "asking"
#: Of the chain that translates to endpoints of this node: before all others of services.
BEFORE_TRANSLATION: Final = -103
_SIZES: Final = tuple(1 << bits for bits in range(LEAST.bit_length() - 1, MOST.bit_length()))
_TCP: Final = PROTOCOL_NUMBERS["tcp"]
_FLAGS: Final = "tcp flags & (fin | syn | rst | ack)"


@dataclass(frozen=True, slots=True)
class HandFacts:
    """What the chains depend on: names of links, the kernel's number of the envelope's device, and the octets
    of a packet that passes the envelope whole. `pods`: whose packets come to leave the cluster here."""

    bridge: str
    index: int
    room: int
    pods: tuple[Prefix, ...] = ()


def variant(slots: int, *, by_client: bool) -> str:
    """The end of the names of the chains for a table."""
    return f"{slots}{'-client' if by_client else ''}"


def chains(version: int, facts: HandFacts) -> dict[str, Rules]:
    """The chains of one family by name, in order."""
    # What asked for goes on as any other, which the kernel routes by.
    found: dict[str, Rules] = {"stays": (f'iifname "{ENVELOPE}" meta pkttype set host', "accept")}
    for slots in _SIZES:
        for by_client in (False, True):
            found |= _of_size(version, slots, by_client=by_client)
    return found | _hooks(version, facts)


def _of_size(version: int, slots: int, *, by_client: bool) -> dict[str, Rules]:
    ip, name = IP[version], variant(slots, by_client=by_client)
    flow = f"{ip} saddr" if by_client else f"{ip} saddr . th sport"
    slot = f"{ip} daddr . {KEY} . jhash {flow} mod {slots} seed {SEED}"
    to = f'dup to {slot} map @{{}} device "{ENVELOPE}" drop'
    away = f'iifname != "{ENVELOPE}" {to.format("owners")}'
    begins, other = f"{_FLAGS} == syn accept", f"meta l4proto != {_TCP}"
    unknown = "ct state new,invalid"
    left = "ip ttl" if version == 4 else "ip6 hoplimit"
    few = f"{left} > {HOPS} {left} set {HOPS}"
    return {
        f"own-{name}": (
            f"{other} goto own-datagrams-{name}",
            begins,
            few,
            f"{left} < 2 drop",
            f"{unknown} {to.format('next')}",
            # Out of the window, or the end of something that is over: a reset would end what lives.
            "ct state invalid drop",
            f"ct state new meta l4proto {_TCP} reject with tcp reset",
        ),
        # A slot that has just come here: who had it may know the flow, and sends back what it does not know.
        f"own-datagrams-{name}": (
            f'iifname "{ENVELOPE}" {few}',
            f'iifname "{ENVELOPE}" meta pkttype multicast goto asked-{name}',
            f"{left} > 1 {to.format(ASKING)}",
        ),
        f"asked-{name}": (f"{left} > 1 {to.format('returning')}", "goto stays"),
        f"hand-{name}": ("ct status dnat goto stays", away, f"goto own-{name}"),
        # Nothing of the service's is on this node, as far as it knows.
        f"outside-{name}": (
            "ct status dnat goto stays",
            away,
            f'iifname != "{ENVELOPE}" accept',
            f"{other} goto own-datagrams-{name}",
            begins,
            few,
            f"{left} < 2 drop",
            f"{unknown} {to.format('owners')}",
            f"{unknown} drop",
        ),
        f"here-{name}": (f"dnat {ip} to {slot} map @here",),
    }


def _hooks(version: int, facts: HandFacts) -> dict[str, Rules]:
    ip = IP[version]
    key = f"{ip} daddr . {KEY}"
    answered = f"ct original {ip} daddr . meta l4proto . ct original proto-dst"
    longest = facts.room - (40 if version == 4 else 60)
    outer = f"udp dport {ENVELOPE_PORT}"
    return {
        "prerouting-envelope": (
            # Nodes alone; and the packets around have no connections to be tracked.
            hook("filter", "prerouting", -300),
            f"{outer} fib daddr type local goto from-nodes",
        ),
        "from-nodes": (
            f'iifname "{facts.bridge}" drop',
            f"{ip} saddr != @nodes drop",
            "notrack",
        ),
        "prerouting-hand": (
            hook("filter", "prerouting", -150),
            # Almost all packets of what is translated here: no look-up.
            f'ct status dnat iifname != "{ENVELOPE}" accept',
            f'iifname "{facts.bridge}" accept',
            # This node's own do not come from elsewhere, though any way back will do for others (rp_filter).
            f'iifname "{ENVELOPE}" fib saddr oifname "{facts.bridge}" drop',
            f'iifname "{ENVELOPE}" fib saddr type local drop',
            *(
                f'iifname "{ENVELOPE}" {ip} saddr {pods} accept'
                for pods in facts.pods
                if pods.version == version
            ),
            f"{key} vmap @spread",
            f'iifname "{ENVELOPE}" drop',
        ),
        "prerouting-here": (
            hook("nat", "prerouting", BEFORE_TRANSLATION),
            f'iifname "{facts.bridge}" accept',
            f"{key} vmap @placed",
        ),
        "output-envelope": (hook("filter", "output", -300), f"{outer} notrack"),
        "postrouting-envelope": (
            hook("filter", "postrouting", -150),
            f'{_FLAGS} == syn|ack oifname != "{facts.bridge}" ct status dnat {answered} @keys '
            f"tcp option maxseg size > {longest} tcp option maxseg size set {longest}",
        ),
    }


def declarations(version: int) -> Iterator[tuple[str, str, str]]:
    """The sets and maps of one family: kind, name, type of the elements."""
    ip = IP[version]
    key = f"{ip} daddr . {KEY}"
    yield "set", "nodes", f"type ipv{version}_addr"
    yield "set", "keys", f"typeof {key}"
    for name in LEADING:
        yield "map", name, f"typeof {key} : verdict"
    slot = f"{key} . numgen random mod 2"
    for name, ported in SLOTS.items():
        to = f"{ip} daddr . th dport" if ported else f"{ip} daddr"
        yield "map", name, f"typeof {slot} : {to}"
    yield "map", ASKING, f"typeof {slot} : {ip} daddr\nflags timeout"
