"""What the agent measures of policies."""

from __future__ import annotations

from collections.abc import Iterator

from l3net.agent.exposition import counter, gauge, histogram
from l3net.agent.loop import Agent
from l3net.policy.mixing import PolicyKey
from l3net.policy.verdict import kind_of


def policy_metrics(agent: Agent) -> Iterator[str]:
    """The packets are those of the last reading; only such as begin a connection are ever judged."""
    policing = agent.policing
    book, counting = policing.book, policing.counting
    here = list(book.here())
    yield from gauge("l3net_policies", "Policies in force.", [({}, len(book.policies))])
    yield from gauge(
        "l3net_policy_pods",
        "Pods of this node that policies are for.",
        [({}, sum(1 for _, _, policies in here if policies))],
    )
    yield from gauge(
        "l3net_policy_selections",
        "Selections of pods that rules in force look into.",
        [({}, book.members.selections)],
    )
    yield from gauge(
        "l3net_policy_elements",
        "Elements of all sets and maps of policies.",
        [({}, sum(len(live.elements) for live in book.contents.sets.values()))],
    )
    yield from histogram(
        "l3net_policy_change_seconds",
        "From hearing of a changed pod, namespace, node or policy until the kernel had it.",
        policing.latency,
    )
    yield from counter(
        "l3net_policy_connections_ended_total",
        "Connections that a changed policy forbade and ended.",
        [({}, policing.ending.ended)],
    )
    yield from counter(
        "l3net_policy_drops_logged_total",
        "Dropped packets that were told of, of policies that ask for it.",
        [({}, policing.drops.seen)],
    )

    def named(key: PolicyKey) -> tuple[str, str]:
        policy = book.policy(key)
        return (kind_of(policy.tier).value if policy is not None else "", str(key[1]))

    yield from counter(
        "l3net_policy_packets_total",
        "First packets of connections that a policy's rules accepted or denied.",
        [
            (
                {
                    "kind": named(each.policies[0])[0],
                    "policy": named(each.policies[0])[1],
                    "direction": each.direction.value,
                    "action": each.action,
                },
                packets,
            )
            for each, packets in counting.totals.items()
            if not each.default
        ],
    )
    yield from counter(
        "l3net_policy_denied_packets_total",
        "First packets of connections that no rule of these NetworkPolicies accepted.",
        [
            (
                {
                    "policies": ",".join(sorted(str(key[1]) for key in each.policies)),
                    "direction": each.direction.value,
                },
                packets,
            )
            for each, packets in counting.defaults()
        ],
    )
