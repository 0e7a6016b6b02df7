"""Why a service is reached or not: from the cluster, and from beyond it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from l3net.doctor.findings import NodeLook
from l3net.explain.announced import peer_steps
from l3net.explain.diversion import Diversion, diversion_steps
from l3net.explain.ends import end_steps
from l3net.explain.facts import End, PeerTold
from l3net.explain.foreign import Target
from l3net.explain.host import UNSEEN, host_steps, rival_steps, unjudged_steps
from l3net.explain.shortage import unserved_steps
from l3net.explain.steps import Explanation, Mark, Step, any_bad, bad, note, ok
from l3net.explain.words import OF_REASON
from l3net.model import Address, Prefix, ServerKey, Service, VirtualServer
from l3net.services.verdicts import Reason, ServiceAddressKind, ServiceVerdict

#: Endpoints that are looked at one by one.
MOST_ENDS = 8
#: Why a ClusterIP is not announced where nobody expects it to be.
_MEANT = (Reason.KIND_DISABLED, Reason.NOT_SELECTED, Reason.OPTED_OUT)
_MEND = "correct the manifest; `l3net validate` checks it before you apply it"
_NOT_HERE = (Reason.NO_LOCAL_ENDPOINTS, Reason.NODE_DRAINING)


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """Of one service at one node. `told`: by address, each peer; `servers`: what the node's table answers.

    `ends`: the endpoints that it sends to; `elsewhere`: other nodes that have endpoints; `proxy`: why this
    node does not translate services itself, empty if it does; `other_proxy`: the kube-proxy that answers;
    `refusal`: why the table is not as decided; `diversions`: what others take first; `unserved`: why it
    has no address of a load balancer, and the cause.
    """

    service: Service | None
    name: str
    node: str
    known: Sequence[str] = ()
    rejected: str = ""
    verdicts: Sequence[ServiceVerdict] = ()
    told: Mapping[Address, tuple[Prefix, Sequence[PeerTold]]] = field(default_factory=dict)
    servers: Mapping[ServerKey, VirtualServer] = field(default_factory=dict)
    ends: Sequence[End] = ()
    declared_endpoints: int = 0
    elsewhere: Sequence[str] = ()
    proxy: str = ""
    other_proxy: str = ""
    refusal: str = ""
    ranges: Sequence[Prefix] = ()
    host: NodeLook = UNSEEN
    pod_mtu: int = 0
    only: Address | None = None
    connections: int | None = None  # that have begun on this node
    unjudged: Sequence[str] = ()
    diversions: Sequence[Diversion] = ()
    unserved: tuple[str, str] | None = None
    refused_peers: Sequence[str] = ()  # with why: the node has no session with them


def explain_service(facts: ServiceFacts) -> Explanation:
    """Of all of its addresses, or of `only` one."""
    subject = f"service {facts.name}"
    if facts.service is None:
        seen = facts.rejected or f"no service {facts.name} is declared"
        advice = f"there are: {', '.join(facts.known[:10]) or 'none'}"
        if facts.rejected:
            advice = _MEND
        step = bad("service", "", seen, advice, "rejected" if facts.rejected else "noService")
        return Explanation(subject, (step,), "", inside=False, outside=False)
    verdicts = [each for each in facts.verdicts if facts.only in (None, each.address)]
    if facts.rejected and not verdicts:
        step = bad("service", "", facts.rejected, _MEND, "rejected")
        return Explanation(subject, (step,), "", inside=False, outside=False)
    if not verdicts:
        seen = "it has no address" if facts.only is None else f"{facts.only} is none of its addresses"
        step = note("service", "", f"{seen}: a headless service is resolved to its pods", cause="headless")
        return Explanation(
            subject, (step,), f"{facts.name} is headless: its pods are asked directly", None, None
        )
    data = list(_data_path(facts))
    wanted = [each for each in verdicts if not _inward(each, verdicts, facts)]
    outside: list[Step] = []
    announced = False
    for version in (4, 6):  # an address that is reached excuses others of its own family alone
        of_family = [each for each in verdicts if each.address.version == version]
        each_of = [(each, _address(each, facts, expected=each in wanted)) for each in of_family]
        reached_here = any(each.advertised and not any_bad(found) for each, found in each_of)
        announced = announced or reached_here
        for _, found in each_of:
            outside += map(_softened, found) if reached_here else found
    wrong = [note("service", "", facts.rejected, _MEND, "rejected")] if facts.rejected else []
    if facts.only is None:
        wrong += unserved_steps(facts.unserved, facts.name, reached=announced)
    counted = []
    if facts.connections is not None:
        counted = [ok("connections", facts.node, f"{facts.connections} to the service have begun here")]
    refused = [note("peer", facts.node, each, _MEND, "refusedPeer") for each in facts.refused_peers]
    steps = (*wrong, *rival_steps(facts.host, facts.node), *outside, *refused, *data, *counted)
    reached = not any_bad(data)
    expected = bool(wanted)
    well = _well(facts, announced=announced, expected=expected)
    return Explanation(subject, steps, well, inside=reached, outside=reached and announced)


def _inward(verdict: ServiceVerdict, all_of_them: Sequence[ServiceVerdict], facts: ServiceFacts) -> bool:
    """A ClusterIP that is kept inside on purpose, unless it is what was asked for."""
    if verdict.kind is not ServiceAddressKind.CLUSTER_IP or facts.only is not None:
        return False
    return verdict.reason in _MEANT


def _address(verdict: ServiceVerdict, facts: ServiceFacts, *, expected: bool) -> list[Step]:
    where = f"{verdict.address} ({verdict.kind.value}) on {facts.node}"
    steps = [
        note("address", where, lost, "use another port or address; the older service keeps it", "conflict")
        for lost in verdict.lost
    ]
    if verdict.reason is not Reason.ADVERTISE:
        words, advice = OF_REASON[verdict.reason]
        if verdict.reason in _NOT_HERE and facts.elsewhere:
            words += f"; endpoints run on {', '.join(facts.elsewhere[:5])}"
        make = bad if expected else note
        return [*steps, make("address", where, f"not announced: {words}", advice, verdict.reason.value)]
    prefix, peers = facts.told[verdict.address]
    return [*steps, ok("address", where, "to be announced"), *peer_steps(prefix, peers)]


def _softened(step: Step) -> Step:
    """Another address of the service is reached: this is worth knowing, and not the answer."""
    if step.mark is not Mark.BAD:
        return step
    return replace(step, mark=Mark.NOTE)


def _data_path(facts: ServiceFacts) -> Iterator[Step]:
    """What a packet to the service meets on this node."""
    yield from host_steps(facts.host, facts.node)
    yield from unjudged_steps(facts.unjudged, facts.node)
    yield from proxy_steps(facts)
    for each in facts.diversions:
        if facts.only in (None, each.key[0]):
            yield from diversion_steps(each, endpoint_targets(facts), facts.name, facts.node)
    if not facts.proxy and not facts.refusal and not facts.servers:
        yield bad(
            "services",
            facts.node,
            "this node answers to none of its ports",
            "another service has them, or it has no ports: `l3net status` names it",
            "notServed",
        )
    usable = [server for server in facts.servers.values() if server.internal or server.external]
    if facts.servers and not usable:
        declared = facts.declared_endpoints
        seen = f"none of its {declared} endpoints is ready" if declared else "no endpoint is declared"
        here = (
            ""
            if not facts.elsewhere
            else f" on this node (traffic policy Local); there are on {', '.join(facts.elsewhere[:5])}"
        )
        words = OF_REASON[Reason.NO_ENDPOINTS][1]
        yield bad(
            "endpoints",
            facts.node,
            seen + here,
            words,
            "noEndpoints" if not facts.elsewhere else "noLocalEndpoints",
        )
    if facts.ranges:
        listed = ", ".join(map(str, facts.ranges[:5]))
        yield note(
            "source ranges",
            facts.node,
            f"its load-balancer addresses answer to {listed} alone",
            cause="sourceRanges",
        )
    yield from _ends(facts)


def endpoint_targets(facts: ServiceFacts) -> frozenset[Target]:
    """Addresses and ports of the endpoints, all of them."""
    return frozenset((end.address, int(end.port) if end.port.isdecimal() else None) for end in facts.ends)


def proxy_steps(facts: ServiceFacts) -> Iterator[Step]:
    """Who translates services on the node, and whether its table is in force."""
    if facts.proxy and facts.other_proxy:
        seen = f"kube-proxy ({facts.other_proxy}) translates services here: {facts.proxy}"
        yield note("services", facts.node, seen, cause="otherProxy")
    elif facts.proxy:
        yield bad(
            "services",
            facts.node,
            f"nothing translates services here: {facts.proxy}, and no kube-proxy answers",
            "set serviceProxy of the BGPConfiguration to Auto or Enabled, or start the other proxy",
            "noProxy",
        )
    elif facts.refusal:
        yield bad(
            "services",
            facts.node,
            f"the service table is not in force: {facts.refusal}",
            "see the agent's log",
            "table",
        )


def _ends(facts: ServiceFacts) -> Iterator[Step]:
    """Bad only where no endpoint is reached; else that one fails takes its share of connections."""
    ends = facts.ends[:MOST_ENDS]
    each = [list(end_steps(end, facts.node, facts.pod_mtu)) for end in ends]
    failing = sum(map(any_bad, each))
    for steps in each:
        yield from steps if failing == len(ends) else map(_share, steps)
    if len(facts.ends) > len(ends):
        yield note(
            "endpoints", facts.node, f"{len(facts.ends) - len(ends)} more endpoints were not looked at"
        )


def _share(step: Step) -> Step:
    if step.mark is not Mark.BAD:
        return step
    seen = f"{step.seen}; connections that are given to this endpoint fail, others do not"
    return replace(step, seen=seen)


def _well(facts: ServiceFacts, *, announced: bool, expected: bool) -> str:
    ready = len({end.address for end in facts.ends})
    ends = f"{ready} endpoint{'s' * (ready != 1)}"
    if announced:
        return f"{facts.name} is reached from the cluster and from outside: {ends}, announced by {facts.node}"
    if not expected:
        return f"{facts.name} is reached from the cluster ({ends}), and not announced, as configured"
    return f"{facts.name} is reached from the cluster ({ends})"
