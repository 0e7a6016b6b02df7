"""What becomes of a packet from one end to another, as this node sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from l3net.doctor.findings import NodeLook
from l3net.explain.address import nobody
from l3net.explain.announced import peer_steps, unannounced
from l3net.explain.diversion import diversion_steps
from l3net.explain.egress import leaving_step
from l3net.explain.ends import back_steps, end_steps, passage_steps
from l3net.explain.facts import UNKNOWN, End, PeerTold, Way
from l3net.explain.host import UNSEEN, host_steps, rival_steps, strict_steps, unjudged_steps
from l3net.explain.service import MOST_ENDS, ServiceFacts, endpoint_targets, explain_service, proxy_steps
from l3net.explain.steps import Explanation, Mark, Step, any_bad, bad, note, ok
from l3net.explain.words import OF_REASON
from l3net.model import Address, EgressRule, Prefix, ServerKey


@dataclass(frozen=True, slots=True)
class Served:
    """A service that the destination address is of: the service's own facts, and the port asked for.

    `closed`: the source is in none of its source ranges. `answers`: the port is one of its ports.
    """

    facts: ServiceFacts
    key: ServerKey | None
    answers: bool = True
    closed: bool = False


@dataclass(frozen=True, slots=True)
class PathFacts:
    """`source` and `destination` as they were found; `served`, if the destination is a service's.

    `told`: who hears of the destination, where it is this node's own; `source_told` the same of the source.
    `unannounced`: this node's block that holds the destination, or else the source, and of which nobody is
    told. `back`: the kernel's way to the source; `to_service`: the host's own to the service.
    `masquerades`: what is sent leaves with the node's address, with one of `snat` if it names any of the
    family; `leaves`: with this floating address, or
    with that of an EgressIP that this node holds, and `source_told` is of that. `egress`: what an EgressIP
    says, `unheld`: why nobody holds an address of its.
    """

    source: End
    destination: End
    node: str
    port: str = ""
    served: Served | None = None
    ends: Sequence[End] = ()
    told: tuple[Prefix, Sequence[PeerTold]] | None = None
    source_told: tuple[Prefix, Sequence[PeerTold]] | None = None
    back: Way = UNKNOWN
    masquerades: bool = False
    snat: Sequence[Address] = ()
    leaves: Address | None = None
    egress: EgressRule | None = None
    unheld: str = ""
    host: NodeLook = UNSEEN
    pod_mtu: int = 0
    unannounced: Prefix | None = None
    unjudged: Sequence[str] = ()
    nobody: bool = False
    to_service: Way = UNKNOWN


def explain_path(facts: PathFacts) -> Explanation:
    """From the source to each endpoint that it may meet, and back."""
    source, destination = facts.source, facts.destination
    port = f":{facts.port}" if facts.port else ""
    subject = f"{source.pod or source.address} -> {destination.pod or destination.address}{port}"
    steps = list(_steps(facts))
    met = facts.ends[0].where if facts.ends else str(destination.address)
    more = f" and {len(facts.ends) - 1} more" if len(facts.ends) > 1 else ""
    ends = str(source.address), str(destination.address), facts.port
    return Explanation(subject, tuple(steps), f"packets pass, to {met}{more}", ends=ends)


def _steps(facts: PathFacts) -> Iterator[Step]:
    yield from rival_steps(facts.host, facts.node)
    yield from _source(facts)
    if _from_beyond(facts.source) and not facts.source.here:
        yield from _reaches_us(facts)
    yield from host_steps(facts.host, facts.node)
    yield from unjudged_steps(facts.unjudged, facts.node)
    if facts.served is not None:
        served = list(_service(facts, facts.served))
        yield from served
        if any_bad(served):
            return
    if facts.nobody:
        yield nobody(str(facts.destination.address), facts.ends[0].way if facts.ends else UNKNOWN)
        return
    ends = [list(end_steps(end, facts.node, facts.pod_mtu)) for end in facts.ends[:MOST_ENDS]]
    failing = sum(map(any_bad, ends))
    for steps in ends:
        yield from steps
    if not failing or failing < len(ends):
        yield from _back(facts)


def _from_beyond(end: End) -> bool:
    """Whether it is neither a pod nor a node that is known."""
    return not end.pod and not end.node


def _source(facts: PathFacts) -> Iterator[Step]:
    source = facts.source
    if source.here and source.attached:
        yield ok("source", source.where, "a pod of this node; it may send from its own addresses alone")
    elif source.here and source.pod:
        yield bad(
            "source",
            source.where,
            "no local pod has this address: the guard of the pods' ports drops its packets",
            "ask from an address that a pod has: `l3net ipam show`",
            "spoofed",
        )
    elif source.node and source.node != facts.node:
        yield note(
            "source",
            source.where,
            f"runs on {source.node}: that node judges its egress and translates what it asks of services",
            f"ask there, too: l3net explain --node {source.node}",
        )
    elif _from_beyond(source):
        yield ok("source", str(source.address), "beyond the cluster")


def _reaches_us(facts: PathFacts) -> Iterator[Step]:
    """From beyond the cluster: whether routers send it here at all."""
    told = facts.told
    if facts.served is not None:
        verdicts = [
            each
            for each in facts.served.facts.verdicts
            if each.address == facts.destination.address and each.advertised
        ]
        if not verdicts:
            only = replace(facts.served.facts, only=facts.destination.address)
            found = [step for step in explain_service(only).steps if step.what == "address"]
            yield from found
            return
        told = facts.served.facts.told.get(facts.destination.address)
    if told is None and facts.unannounced is not None:
        yield unannounced(facts.unannounced, facts.node)
    if told is None:
        return
    steps = peer_steps(*told)
    yield from steps
    if any_bad(steps):
        return
    arrives = frozenset(
        peer.interface for peer in told[1] if peer.said and peer.established and peer.interface
    )
    yield from strict_steps(facts.host, arrives, facts.back.interfaces, facts.node)


def _service(facts: PathFacts, served: Served) -> Iterator[Step]:
    its = served.facts
    yield from proxy_steps(its)
    for each in its.diversions:
        if each.key == served.key:
            yield from diversion_steps(each, endpoint_targets(its), its.name, facts.node)
    if not served.answers:
        ports = ", ".join(f"{port.port}/{port.protocol}" for port in its.service.ports) if its.service else ""
        yield bad(
            "service",
            its.name,
            f"it does not answer on {facts.port}",
            f"its ports are {ports or 'none'}",
            "noSuchPort",
        )
        return
    if served.closed:
        yield bad(
            "source ranges",
            its.name,
            f"{facts.source.address} lies in none of its loadBalancerSourceRanges",
            "add the client's range to spec.loadBalancerSourceRanges",
            "sourceRanges",
        )
        return
    if facts.source.node == facts.node and not facts.source.pod and not facts.to_service.leads:
        yield bad(
            "route",
            facts.node,
            f"processes of the host have no route to {facts.destination.address} ({facts.to_service}): the "
            "kernel refuses before anything is translated",
            "name the range in serviceCIDRs of the BGPConfiguration, or give the host a default route",
            "noHostRoute",
        )
        return
    verdict = next((each for each in its.verdicts if each.address == facts.destination.address), None)
    if not facts.ends and verdict is not None and served.key not in its.servers and not verdict.advertised:
        words, advice = OF_REASON[verdict.reason]
        yield bad(
            "address",
            facts.node,
            f"{verdict.address} ({verdict.kind.value}) is not served: {words}",
            advice,
            verdict.reason.value,
        )
        return
    if not facts.ends:
        inner = [
            step for step in explain_service(its).steps if step.mark is Mark.BAD and step.what == "endpoints"
        ]
        yield from inner or [
            bad(
                "endpoints",
                facts.node,
                "no endpoint takes connections of this kind on this node",
                "with traffic policy Local only nodes with endpoints serve it"
                + (f": {', '.join(its.elsewhere[:5])}" if its.elsewhere else ""),
                "noLocalEndpoints" if its.elsewhere else "noEndpoints",
            )
        ]
        return
    yield ok("service", its.name, f"leads to {len(facts.ends)} endpoint{'s' * (len(facts.ends) != 1)}")


def _back(facts: PathFacts) -> Iterator[Step]:
    """Whether the answer finds its way."""
    source = facts.source
    beyond = not facts.destination.pod and not facts.destination.node and facts.served is None
    if source.here and source.attached and beyond:
        if facts.egress is not None:
            yield leaving_step(facts.egress, facts.node, facts.unheld)
            if facts.leaves is None:
                return
        if facts.leaves is not None:
            yield from _back_to(facts, facts.leaves)
            return
        if facts.masquerades:
            chosen = [str(each) for each in facts.snat if each.version == facts.source.address.version]
            which = f": {' or '.join(chosen)}" if chosen else ""
            yield ok("masquerade", facts.node, f"leaves with an address of this node{which}")
            return
        block = facts.source_told[0] if facts.source_told is not None else facts.unannounced
        if block is not None:
            if facts.source_told is None or any_bad(peer_steps(*facts.source_told)):
                yield bad(
                    "way back",
                    facts.node,
                    f"the pod's address leaves as it is, and no router has a route to {block}: "
                    "answers are lost",
                    "announce the block, or set natOutgoing of its IPPool",
                    "noWayBack",
                )
            else:
                yield ok("way back", facts.node, f"routers have a route to {block}")
        return
    if source.here or facts.back.kind == "unknown":
        return
    if facts.back.leads:
        yield from back_steps(source.address, facts.back)
        yield from passage_steps(source)
        yield ok("way back", facts.node, f"to {source.address}: {facts.back}")
    else:
        yield bad(
            "way back",
            facts.node,
            f"{facts.node} has no way back to {source.address}: {facts.back}",
            "announce the client's prefix to this node, or let the routers announce a default route",
            "noWayBack",
        )


def _back_to(facts: PathFacts, address: Address) -> Iterator[Step]:
    if facts.egress is None:
        yield ok("floating", facts.node, f"leaves with the floating address {address}")
    if facts.source_told is not None and not any_bad(peer_steps(*facts.source_told)):
        yield ok("way back", facts.node, f"routers have a route to {address}")
        return
    yield bad(
        "way back",
        facts.node,
        f"no router has a route to {address}: answers are lost",
        f"`l3net explain address {address}` says why",
        "noWayBack",
    )
