"""Network policies: what is in force, what they let through, how fast a change is.

Packets are those of the last reading; only such as begin a connection are ever judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from l3net.agent.measuring.seen import DeniedCount, PolicyCount, Seen
from l3net.metering.family import Row, Sample, counter, gauge, histogram, one
from l3net.policy.verdict import kind_of


def _packets(seen: Seen) -> Iterator[Sample]:
    book, apart = seen.agent.policing.book, seen.apart.policies
    totals: dict[PolicyCount, int] = {}
    for each, packets in seen.agent.policing.counting.totals.items():
        if not each.default:
            key = each.policies[0]
            policy = book.policy(key)
            kind = kind_of(policy.tier).value if policy is not None else ""
            count = PolicyCount(kind, str(key[1]), each.direction, each.action)
            totals[count] = totals.get(count, 0) + packets
    for found, packets in apart.follow(totals):
        yield (found.kind, found.policy, found.direction.value, found.action), packets
    if apart.others:
        yield ("", "others", "", ""), apart.others


def _denied(seen: Seen) -> Iterator[Sample]:
    apart = seen.apart.denied
    totals: dict[DeniedCount, int] = {}
    for each, packets in seen.agent.policing.counting.defaults():
        count = DeniedCount(",".join(sorted(str(key[1]) for key in each.policies)), each.direction)
        totals[count] = totals.get(count, 0) + packets
    for found, packets in apart.follow(totals):
        yield (found.policies, found.direction.value), packets
    if apart.others:
        yield ("others", ""), apart.others


POLICIES: Final[tuple[Row[Seen], ...]] = (
    gauge("l3net_policies", "Policies in force.", one(lambda seen: len(seen.agent.policing.book.policies))),
    gauge(
        "l3net_policy_pods",
        "Pods of this node that policies select.",
        one(lambda seen: sum(1 for _, _, policies in seen.agent.policing.book.here() if policies)),
    ),
    gauge(
        "l3net_policy_selections",
        "Selections of pods that rules in force use.",
        one(lambda seen: seen.agent.policing.book.members.selections),
    ),
    gauge(
        "l3net_policy_elements",
        "Elements of all sets and maps of policies.",
        one(lambda seen: sum(len(live.elements) for live in seen.agent.policing.book.contents.sets.values())),
    ),
    histogram(
        "l3net_policy_change_seconds",
        "Time from receiving a changed pod, namespace, node or policy until the kernel has it.",
        one(lambda seen: seen.agent.policing.latency),
    ),
    counter(
        "l3net_policy_connections_ended_total",
        "Connections ended because a changed policy forbids them.",
        one(lambda seen: seen.agent.policing.ending.ended),
    ),
    counter(
        "l3net_policy_drops_logged_total",
        "Dropped packets that were logged, for policies that log drops.",
        one(lambda seen: seen.agent.policing.drops.seen),
    ),
    counter(
        "l3net_policy_packets_total",
        "First packets of connections that a policy's rules accepted or denied. 200 combinations "
        "of labels are counted separately; policy `others` is the rest.",
        _packets,
        "kind",
        "policy",
        "direction",
        "action",
    ),
    counter(
        "l3net_policy_denied_packets_total",
        "First packets of connections that no rule of these NetworkPolicies accepted. 200 "
        "combinations of policies and directions are counted separately; `others` is the rest.",
        _denied,
        "policies",
        "direction",
    ),
)
