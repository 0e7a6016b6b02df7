"""Laws of the verdict, over random clusters (random_policies.py), and the clusters themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_facts import read
from random_policies import RandomCluster, cluster

from l3net.model import (
    ClusterState,
    Direction,
    IpBlock,
    ObjectName,
    PodSelection,
    Policy,
    PolicyRule,
    Requirement,
    Rule,
    Selector,
    Tier,
)
from l3net.policy.known_state import KnownState
from l3net.policy.manifest import manifest
from l3net.policy.verdict import Always, Packet, Verdict, Why, verdict

SEEDS = st.integers(0, 2**32)
NOBODY = Selector((Requirement("app", "In", ("nobody",)),))


def answers(state: ClusterState, packets: tuple[Packet, ...]) -> list[Verdict]:
    known = KnownState(state)
    return [verdict(known, packet) for packet in packets]


def allowed(state: ClusterState, packets: tuple[Packet, ...]) -> list[bool]:
    return [each.allowed for each in answers(state, packets)]


def with_policies(state: ClusterState, *policies: Policy) -> ClusterState:
    """The same with these in place of its policies."""
    network = {each.name: each for each in policies if each.tier is Tier.NETWORK_POLICY}
    others = {each.name.name: each for each in policies if each.tier is not Tier.NETWORK_POLICY}
    return replace(state, policies=network, cluster_policies=others)


def policies_of(state: ClusterState) -> list[Policy]:
    return [*state.policies.values(), *state.cluster_policies.values()]


@given(SEEDS, st.data())
@settings(max_examples=examples(40), deadline=None)
def test_a_rule_more_of_a_network_policy_never_denies_more(seed: int, data: st.DataObject) -> None:
    """To policies that speak of the direction already: one that begins to speak of it closes it."""
    made = cluster(seed, packets=30)
    other = cluster(data.draw(SEEDS), packets=0)
    rules = [
        rule
        for each in other.state.policies.values()
        for side in Direction
        for rule in each.rules(side) or ()
    ]
    rule = data.draw(st.sampled_from([*rules, PolicyRule(Rule.ACCEPT)]))
    before = allowed(made.state, made.packets)
    for policy in made.state.policies.values():
        ingress = None if policy.ingress is None else (*policy.ingress, rule)
        egress = None if policy.egress is None else (rule, *policy.egress)
        wider = replace(policy, ingress=ingress, egress=egress)
        others = [each for each in policies_of(made.state) if each is not policy]
        after = allowed(with_policies(made.state, *others, wider), made.packets)
        assert all(now or not then for then, now in zip(before, after, strict=True))


@given(SEEDS, st.sampled_from(list(Tier)))
@settings(max_examples=examples(40), deadline=None)
def test_a_policy_for_nobody_changes_nothing(seed: int, tier: Tier) -> None:
    made = cluster(seed, packets=30)
    network = tier is Tier.NETWORK_POLICY
    subject = PodSelection("x" if network else Selector(), NOBODY)
    rules = () if network else (PolicyRule(Rule.DENY),)
    policy = Policy(ObjectName("x" if network else "", "a"), tier, subject, rules, rules)
    more = with_policies(made.state, policy, *policies_of(made.state))
    assert answers(more, made.packets) == answers(made.state, made.packets)


@given(SEEDS, st.randoms(use_true_random=False))
@settings(max_examples=examples(40), deadline=None)
def test_network_policies_have_no_order(seed: int, chance: object) -> None:
    """Nor do the names of policies, or the order of rules within one, decide."""
    made = cluster(seed, packets=30)
    network = list(made.state.policies.values())
    chance.shuffle(network)  # type: ignore[attr-defined]
    renamed = [
        replace(
            each,
            name=ObjectName(each.name.namespace, f"q{place}"),
            ingress=each.ingress and each.ingress[::-1],
            egress=each.egress and each.egress[::-1],
        )
        for place, each in enumerate(network)
    ]
    others = made.state.cluster_policies.values()
    changed = with_policies(made.state, *others, *renamed)
    assert allowed(changed, made.packets) == allowed(made.state, made.packets)


@given(SEEDS)
@settings(max_examples=examples(40), deadline=None)
def test_ingress_and_egress_are_independent(seed: int) -> None:
    """What is said of a direction depends on the rules of that direction alone, and both must allow."""
    made = cluster(seed, packets=30)
    whole = answers(made.state, made.packets)
    for direction, other in ((Direction.INGRESS, "egress"), (Direction.EGRESS, "ingress")):
        halves = [replace(each, **{other: None}) for each in policies_of(made.state)]
        half = answers(with_policies(made.state, *halves), made.packets)
        for one, two in zip(whole, half, strict=True):
            assert [d for d in one.decisions if d.direction is direction] == [
                d for d in two.decisions if d.direction is direction
            ]
    for each in whole:
        assert each.allowed == all(decision.allowed for decision in each.decisions)


@given(SEEDS)
@settings(max_examples=examples(25), deadline=None)
def test_a_pod_always_reaches_itself(seed: int) -> None:
    made = cluster(seed, packets=0)
    known = KnownState(made.state)
    for pod in made.state.pods.values():
        for address in pod.addresses:
            assert verdict(known, Packet(address, address, "tcp", 80)).allowed


@given(SEEDS)
@settings(max_examples=examples(40), deadline=None)
def test_the_families_differ_by_blocks_alone(seed: int) -> None:
    """Without blocks the answer for an address of a pod or node is that for its other address."""
    made = cluster(seed, packets=30)
    known = KnownState(with_policies(made.state, *map(without_blocks, policies_of(made.state))))
    hosts = {
        mine: other
        for each in (*made.state.pods.values(), *made.state.nodes.values())
        for mine, other in zip(each.addresses, each.addresses[::-1], strict=True)
    }
    for packet in made.packets:
        if packet.source in hosts and packet.destination in hosts:
            source, destination = hosts[packet.source], hosts[packet.destination]
            twin = replace(packet, source=source, destination=destination)
            assert verdict(known, twin) == verdict(known, packet)


def without_blocks(policy: Policy) -> Policy:
    def kept(rules: tuple[PolicyRule, ...] | None) -> tuple[PolicyRule, ...] | None:
        if rules is None:
            return None
        return tuple(
            replace(rule, peers=tuple(each for each in rule.peers if not isinstance(each, IpBlock)))
            if rule.peers is not None
            else rule
            for rule in rules
        )

    return replace(policy, ingress=kept(policy.ingress), egress=kept(policy.egress))


@given(SEEDS)
@settings(max_examples=examples(80), deadline=None)
def test_what_is_drawn_is_read_back_from_its_manifests(seed: int) -> None:
    policies = policies_of(cluster(seed, packets=0).state)
    found = read([manifest(each) for each in policies])
    assert policies_of(found) == sorted(policies, key=lambda each: each.tier is not Tier.NETWORK_POLICY)


def test_the_same_seed_gives_the_same() -> None:
    assert [cluster(seed) for seed in range(5)] == [cluster(seed) for seed in range(5)]
    assert cluster(1) != cluster(2)


@pytest.fixture(scope="module")
def many() -> list[RandomCluster]:
    return [cluster(seed) for seed in range(150)]


def test_about_half_is_denied(many: list[RandomCluster]) -> None:
    found = [answer for each in many for answer in allowed(each.state, each.packets)]
    assert len(found) == 60 * len(many)
    assert 0.4 < sum(found) / len(found) < 0.6


def test_everything_decides_somewhere(many: list[RandomCluster]) -> None:
    """Tiers, actions, defaults, protocols, families: none is left out by the way they are drawn."""
    seen: set[object] = set()
    for each in many:
        for packet, answer in zip(each.packets, answers(each.state, each.packets), strict=True):
            seen |= {answer.always, packet.protocol, f"IPv{packet.source.version}"}
            for decision in answer.decisions:
                tier = decision.by.tier if decision.by is not None else None
                passed = decision.passed is not None
                seen |= {decision.why, (decision.direction, decision.allowed), (tier, decision.allowed)}
                seen.add(f"passed {passed}")
    assert seen == {
        *(None, Always.SELF, Always.FROM_NODE),
        *("tcp", "udp", "sctp", "IPv4", "IPv6", "passed True", "passed False"),
        *Why,
        *((direction, answer) for direction in Direction for answer in (True, False)),
        *((tier, answer) for tier in (Tier.ADMIN, Tier.BASELINE, None) for answer in (True, False)),
        (Tier.NETWORK_POLICY, True),
    }
