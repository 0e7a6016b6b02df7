"""Whether an endpoint can be reached from this node: policy, route, neighbour, the pod's port."""

from __future__ import annotations

from collections.abc import Iterator

from l3net.explain.facts import DEAD, End, Hop, Way
from l3net.explain.neighbours import trouble
from l3net.explain.steps import Mark, Step, bad, doubt, note, ok
from l3net.model import Address


def end_steps(end: End, me: str, pod_mtu: int = 0) -> Iterator[Step]:
    """Of one endpoint, in the order in which a packet meets them."""
    if end.decision:
        make_ok = ok("policy", end.where, end.decision)
        yield (
            make_ok
            if end.allowed
            else bad(
                "policy",
                end.where,
                end.decision,
                "`l3net policy show` has the rule; `l3net policy matrix` which pods it affects",
                "policy",
            )
        )
    if end.policies:
        yield doubt(
            "policy",
            end.where,
            f"policies are for {end.pod or end.address} ({', '.join(end.policies[:3])}), and who is let in "
            "depends on the source",
            "ask with a source: l3net explain SOURCE DESTINATION",
            "policies",
        )
    if end.seen_as:
        yield doubt(
            "policy",
            end.where,
            f"policies on {end.node} see node {me} ({end.seen_as}) as the source: the packet is masqueraded",
            f"ask there: l3net explain --node {end.node} {end.seen_as} {end.address}",
            "masqueraded",
        )
    if end.dropped:
        make = bad if end.surely else doubt
        yield make(
            "firewall",
            end.where,
            end.dropped,
            "let that firewall accept forwarded packets from and to l3net0 and the uplinks",
            "foreignFirewall",
        )
    if end.here and not end.attached:
        yield bad(
            "endpoint",
            end.where,
            "it lies in this node's block, and no pod here has it: the endpoint is of a pod that is gone",
            "see whether the EndpointSlice is stale, or the pod's address another's: `l3net ipam show`",
            "endpointGone",
        )
        return
    yield _route(end, me)
    for hop in end.way.hops:
        yield from _hop(end, hop, pod_mtu)
    yield from passage_steps(end)


def passage_steps(end: End) -> Iterator[Step]:
    """Whether large packets come as far as small ones, and small ones to what nobody here knows."""
    if end.passage is None:
        return
    if end.passage.silent and not end.pod and (end.block or not end.node):
        yield doubt(
            "echo",
            end.where,
            "it answers no echo request: nothing may have the address, or a firewall drops these",
            f"`traceroute {end.address}` shows how far packets come",
            "noEcho",
        )
    if not (end.passage.lost or end.passage.told):
        return
    size = end.passage.size
    if end.passage.told:
        seen = f"a link on the way carries {end.passage.told} bytes, and the sender of {size} is told so"
        yield note("MTU", end.where, seen, cause="mtu")
        return
    echo = size - (28 if end.address.version == 4 else 48)
    make = bad if end.pod or end.node else doubt  # others may have a firewall against large echo requests
    yield make(
        "MTU",
        end.where,
        f"packets of {size} bytes are lost on the way there or back, small ones are answered, and no router "
        "says why: a link carries less, and its ICMP errors are dropped",
        f"find the link (`ping -M do -s {echo} {end.address}`, then less), give it the MTU of others, let "
        "ICMP `fragmentation needed` and ICMPv6 `packet too big` through, or give the agent a lower --mtu",
        "mtu",
    )


def back_steps(address: Address, way: Way) -> Iterator[Step]:
    """What stops answers on the links by which they leave: of one of several ways a share of them."""
    for hop in way.hops:
        if found := trouble(hop, hop.gateway or address):
            yield _stops(len(way.hops) == 1, "way back", f"{address} dev {hop.interface}", *found)


def _route(end: End, me: str) -> Step:
    way = end.way
    if way.kind == "unknown":
        return note("route", end.where, "the kernel could not be asked")
    if not way.leads:
        learned = "; the route of its block, learned over BGP, is missing" if not end.here else ""
        return bad(
            "route",
            end.where,
            f"{me} has no way there: {way}{learned}",
            "`l3net bgp routes` shows who announces it and the verdict on that; `l3net history` when it went",
            "blackhole" if way.kind != "none" else "noRoute",
        )
    if end.here and any(hop.gateway is not None for hop in way.hops):
        return bad(
            "route",
            end.where,
            f"another program's route leads away from the pod: {way}",
            f"`ip route del {way.prefix}`; find who put it there",
            "routeAstray",
        )
    if way.prefix is not None and not way.prefix.prefixlen and end.block and not end.here:
        return doubt(
            "route",
            end.where,
            f"no route to {end.node}'s block has been learned, only the default route leads there ({way}): "
            "whether the router knows the way cannot be seen here",
            "`l3net doctor --cluster` shows blocks that no node receives; `l3net history` when the "
            "route was removed",
            "defaultRouteOnly",
        )
    return ok("route", end.where, str(way))


def _hop(end: End, hop: Hop, pod_mtu: int) -> Iterator[Step]:
    where = f"{hop.gateway or end.address} dev {hop.interface}"
    only = len(end.way.hops) == 1
    if not hop.carrier:
        yield _stops(
            only,
            "link",
            where,
            f"the link {hop.interface} has no carrier",
            "look at the cable and the far port",
            "linkDown",
        )
        return
    if hop.neighbour in DEAD:
        yield _stops(
            only,
            "neighbour",
            where,
            f"no host answers for {hop.gateway or end.address} on {hop.interface} (neighbour "
            f"{hop.neighbour})",
            "see whether that host is up, and its address and VLAN",
            "neighbourFailed",
        )
        return
    if found := trouble(hop, hop.gateway or end.address):
        yield _stops(only, "neighbour", where, *found)
        return
    if end.mac and hop.gateway is None and hop.link_address and hop.link_address != end.mac:
        yield bad(
            "neighbour",
            where,
            f"the neighbour entry is {hop.link_address}, the pod's address is {end.mac}: another answers "
            "for it, or somebody changed the entry",
            "the agent puts it back within seconds; find who else has the address (`l3net ipam check`)",
            "neighbourWrong",
        )
        return
    if end.here and end.attached and hop.gateway is None:
        if hop.neighbour == "":
            yield note("neighbour", where, "there is no neighbour entry; it is resolved when a packet comes")
        elif hop.port == "":
            yield bad(
                "port",
                where,
                f"no port of the bridge {hop.interface} leads to {hop.link_address}",
                "the pod's interface is gone or off the bridge: `l3net doctor`, or delete the pod",
                "portGone",
            )
            return
        elif hop.port is not None and not hop.port_forwards:
            yield bad(
                "port",
                where,
                f"the bridge port {hop.port} is down",
                "`ip link show` of the port; the agent sets it up again within a second: who sets it down?",
                "portDown",
            )
            return
    if pod_mtu and hop.mtu and hop.mtu < pod_mtu:
        yield note(
            "MTU",
            where,
            f"{hop.interface} carries {hop.mtu} bytes, pods send {pod_mtu}: larger need path MTU discovery",
            "give the link the MTU of the others, or the agent --mtu",
            "mtu",
        )
    if hop.neighbour:
        yield ok("neighbour", where, f"{hop.link_address or 'no address'} ({hop.neighbour})")


def _stops(only: bool, what: str, where: str, seen: str, advice: str, cause: str) -> Step:
    """One of several equal ways that fails takes its share of the packets."""
    return Step(what, where, Mark.BAD if only else Mark.NOTE, seen, advice, cause)
