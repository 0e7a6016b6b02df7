"""What a first packet meets: the order of tiers, what peers and ports match, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from l3net.model import (
    ClusterState,
    Direction,
    IpBlock,
    Namespace,
    Node,
    NodeSelection,
    ObjectName,
    Pod,
    PodPort,
    PodSelection,
    Policy,
    PolicyPort,
    PolicyRule,
    Requirement,
    Rule,
    Selector,
    Tier,
)
from l3net.policy.known_state import KnownState
from l3net.policy.verdict import Always, Packet, Verdict, Why, verdict

ACCEPT, DENY, PASS = PolicyRule(Rule.ACCEPT), PolicyRule(Rule.DENY), PolicyRule(Rule.PASS)
CLIENT, SERVER, OTHER = ObjectName("x", "client"), ObjectName("y", "server"), ObjectName("y", "other")
EVERYWHERE = PodSelection(Selector())
FAMILIES = pytest.mark.parametrize("family", [4, 6])


def address(number: int, family: int = 4) -> str:
    return f"10.244.0.{number}" if family == 4 else f"fd00:244::{number:x}"


def pod(name: ObjectName, number: int, *, ports: Iterable[PodPort] = (), **labels: str) -> Pod:
    addresses = (ip_address(address(number)), ip_address(address(number, 6)))
    return Pod(name, {"app": name.name, **labels}, addresses, "n1", ports=tuple(ports))


PODS = (
    pod(CLIENT, 1),
    pod(SERVER, 2, ports=(PodPort("web", "tcp", 80), PodPort("dns", "udp", 53))),
    pod(OTHER, 3, ports=(PodPort("web", "tcp", 8080),)),
)
NODE = Node("n1", (ip_address("192.0.2.1"), ip_address("2001:db8::1")), labels={"zone": "a"})


def named(label: str, *values: str) -> Selector:
    return Selector((Requirement(label, "In", values),))


def state(*policies: Policy, pods: Iterable[Pod] = PODS) -> ClusterState:
    found = ClusterState(
        nodes={NODE.name: NODE},
        namespaces={name: Namespace(name, {"kubernetes.io/metadata.name": name}) for name in "xyz"},
        pods={each.name: each for each in pods},
    )
    for policy in policies:
        if policy.tier is Tier.NETWORK_POLICY:
            found.policies[policy.name] = policy
        else:
            found.cluster_policies[policy.name.name] = policy
    return found


def ask(known: ClusterState, source: int, destination: int, to: str = "80/tcp", family: int = 4) -> Verdict:
    port, protocol = to.split("/")
    packet = Packet(
        ip_address(address(source, family)), ip_address(address(destination, family)), protocol, int(port)
    )
    return verdict(KnownState(known), packet)


def net_policy(name: str, namespace: str = "y", **rules: tuple[PolicyRule, ...]) -> Policy:
    return Policy(ObjectName(namespace, name), Tier.NETWORK_POLICY, PodSelection(namespace), **rules)


def cluster_policy(
    name: str, tier: Tier = Tier.ADMIN, priority: int = 10, **rules: tuple[PolicyRule, ...]
) -> Policy:
    return Policy(ObjectName("", name), tier, EVERYWHERE, priority=priority, **rules)


@FAMILIES
def test_without_policies_all_passes(family: int) -> None:
    found = ask(state(), 1, 2, family=family)
    assert found.allowed
    assert [(each.direction, each.pod, each.why) for each in found.decisions] == [
        (Direction.EGRESS, CLIENT, Why.NOT_SELECTED),
        (Direction.INGRESS, SERVER, Why.NOT_SELECTED),
    ]


@FAMILIES
def test_a_selected_pod_is_closed_and_the_policies_are_named(family: int) -> None:
    known = state(net_policy("b", ingress=()), net_policy("a", ingress=()), net_policy("c", egress=()))
    found = ask(known, 1, 2, family=family)
    denied = found.denied
    assert not found.allowed and denied is not None
    assert denied.direction is Direction.INGRESS and denied.why is Why.NOT_ACCEPTED
    assert denied.selected == (ObjectName("y", "a"), ObjectName("y", "b"))
    assert str(found) == (
        "Denied: egress of x/client is allowed since no policy selects the pod; ingress of y/server is denied"
        " since it is selected by y/a, y/b and no rule matches."
    )


def test_egress_is_judged_first_and_both_must_allow() -> None:
    closed, opened = net_policy("c", "x", egress=()), net_policy("o", ingress=(ACCEPT,))
    found = ask(state(closed, opened), 1, 2)
    assert [each.allowed for each in found.decisions] == [False, True]
    assert not found.allowed and found.denied is found.decisions[0]


def test_the_rule_that_decides_is_named() -> None:
    rules = (PolicyRule(Rule.DENY, ports=(PolicyPort("udp"),)), replace(DENY, name="nobody"))
    found = ask(state(cluster_policy("deny", ingress=rules)), 1, 2)
    by = found.decisions[1].by
    assert by is not None and (by.policy.name, by.tier, by.index, by.name) == (
        "deny",
        Tier.ADMIN,
        1,
        "nobody",
    )
    assert str(found).endswith(
        "ingress of y/server is denied by rule ingress[1] (nobody) of ClusterNetworkPolicy deny (Admin)."
    )


@pytest.mark.parametrize(
    ("admin", "network", "baseline", "allowed"),
    [
        (ACCEPT, False, DENY, True),
        (DENY, True, ACCEPT, False),
        (PASS, True, DENY, True),
        (PASS, False, ACCEPT, False),
        (PASS, None, DENY, False),
        (PASS, None, ACCEPT, True),
        (PASS, None, PASS, True),
        (None, True, DENY, True),
        (None, False, ACCEPT, False),
        (None, None, DENY, False),
        (None, None, ACCEPT, True),
        (None, None, PASS, True),
        (None, None, None, True),
    ],
)
def test_tiers_decide_in_their_order(
    admin: PolicyRule | None, network: bool | None, baseline: PolicyRule | None, allowed: bool
) -> None:
    policies = []
    if admin is not None:
        policies.append(cluster_policy("admin", ingress=(admin,)))
    if network is not None:
        policies.append(net_policy("network", ingress=(ACCEPT,) if network else ()))
    if baseline is not None:
        policies.append(cluster_policy("baseline", Tier.BASELINE, ingress=(baseline,)))
    found = ask(state(*policies), 1, 2)
    assert found.allowed is allowed
    passed = found.decisions[1].passed
    assert (passed is not None) == (admin is PASS)


def test_of_admin_policies_the_lower_priority_then_the_name_comes_first() -> None:
    for first, second in (((5, "z"), (6, "a")), ((5, "a"), (5, "b"))):
        policies = [
            cluster_policy(second[1], priority=second[0], ingress=(DENY,)),
            cluster_policy(first[1], priority=first[0], ingress=(ACCEPT,)),
        ]
        assert ask(state(*policies), 1, 2).allowed
        assert not ask(state(policies[0]), 1, 2).allowed


def test_a_pass_ends_the_admin_tier_and_a_baseline_pass_the_baseline_tier() -> None:
    for tier in (Tier.ADMIN, Tier.BASELINE):
        rules = (PASS, DENY)
        later = cluster_policy("later", tier, 20, ingress=(DENY,))
        assert ask(state(cluster_policy("p", tier, ingress=rules), later), 1, 2).allowed
        assert not ask(state(later), 1, 2).allowed


def test_a_policy_that_says_nothing_of_a_direction_has_no_say() -> None:
    found = ask(state(net_policy("e", egress=())), 1, 2)
    assert found.allowed and found.decisions[1].why is Why.NOT_SELECTED
    undecided = ask(state(cluster_policy("u", ingress=(replace(DENY, peers=()),))), 1, 2)
    assert undecided.allowed and undecided.decisions[1].why is Why.UNDECIDED
    assert undecided.decisions[1].selected == (ObjectName("", "u"),)


@FAMILIES
@pytest.mark.parametrize(
    ("peers", "allowed"),
    [
        (None, True),
        ((), False),
        ((PodSelection("x"),), True),
        ((PodSelection("y"),), False),
        ((PodSelection("x", named("app", "client")),), True),
        ((PodSelection("x", named("app", "server")),), False),
        ((PodSelection(named("kubernetes.io/metadata.name", "x")),), True),
        ((PodSelection(named("kubernetes.io/metadata.name", "y")),), False),
        ((PodSelection(Selector(), named("app", "client")),), True),
        ((PodSelection("y"), PodSelection("x")), True),
        ((IpBlock(ip_network("10.244.0.0/24")), IpBlock(ip_network("fd00:244::/64"))), True),
        ((IpBlock(ip_network("10.245.0.0/24")), IpBlock(ip_network("fd00:245::/64"))), False),
        (
            (
                IpBlock(ip_network("0.0.0.0/0"), (ip_network("10.244.0.1/32"),)),
                IpBlock(ip_network("::/0"), (ip_network("fd00:244::/120"),)),
            ),
            False,
        ),
        ((NodeSelection(Selector()),), False),
    ],
)
def test_peers(
    peers: tuple[PodSelection | IpBlock | NodeSelection, ...] | None, allowed: bool, family: int
) -> None:
    rule = PolicyRule(Rule.ACCEPT, peers)
    assert ask(state(net_policy("p", ingress=(rule,))), 1, 2, family=family).allowed is allowed


def test_the_host_network_is_its_nodes_addresses() -> None:
    on_host = Pod(ObjectName("x", "host"), {"app": "host"}, NODE.addresses, "n1", host_network=True)
    for node_address, own in zip(NODE.addresses, (address(2), address(2, 6)), strict=True):
        for peer, allowed in (
            (PodSelection("x"), False),
            (NodeSelection(named("zone", "a")), True),
            (NodeSelection(named("zone", "b")), False),
            (IpBlock(ip_network(f"{node_address}")), True),
        ):
            rule = PolicyRule(Rule.ACCEPT, (peer,))
            known = KnownState(
                state(
                    net_policy("p", ingress=(rule,)), net_policy("x", "x", egress=()), pods=(*PODS, on_host)
                )
            )
            found = verdict(known, Packet(node_address, ip_address(own), "tcp", 80))
            assert found.allowed is allowed
            assert [each.direction for each in found.decisions] == [Direction.INGRESS], "it is no subject"


@pytest.mark.parametrize(
    ("port", "to", "allowed"),
    [
        (PolicyPort("tcp"), "80/tcp", True),
        (PolicyPort("tcp"), "80/udp", False),
        (PolicyPort("tcp", 80, 80), "80/tcp", True),
        (PolicyPort("tcp", 80, 80), "81/tcp", False),
        (PolicyPort("sctp", 80, 90), "90/sctp", True),
        (PolicyPort("sctp", 80, 90), "91/sctp", False),
        (PolicyPort("sctp", 80, 90), "79/sctp", False),
        (PolicyPort("tcp", name="web"), "80/tcp", True),
        (PolicyPort("", name="web"), "80/tcp", True),
        (PolicyPort("udp", name="web"), "80/udp", False),
        (PolicyPort("udp", name="web"), "80/tcp", False),
        (PolicyPort("", name="web"), "80/udp", False),
        (PolicyPort("", name="dns"), "53/udp", True),
        (PolicyPort("tcp", name="web"), "8080/tcp", False),
        (PolicyPort("tcp", name="none"), "80/tcp", False),
        (PolicyPort("tcp"), "0/icmp", False),
        (PolicyPort("", name="web"), "0/icmp", False),
    ],
)
def test_ports(port: PolicyPort, to: str, allowed: bool) -> None:
    rule = PolicyRule(Rule.ACCEPT, ports=(port,))
    assert ask(state(net_policy("p", ingress=(rule,))), 1, 2, to).allowed is allowed
    assert ask(state(net_policy("p", "x", egress=(rule,))), 1, 2, to).allowed is allowed


def test_a_rule_without_ports_is_for_every_protocol() -> None:
    assert ask(state(net_policy("p", ingress=(ACCEPT,))), 1, 2, "0/icmp").allowed
    assert not ask(state(net_policy("p", ingress=())), 1, 2, "0/icmp").allowed


def test_a_port_is_looked_up_by_name_at_the_destination() -> None:
    rule = PolicyRule(Rule.ACCEPT, ports=(PolicyPort("tcp", name="web"),))
    for known in (state(net_policy("p", ingress=(rule,))), state(net_policy("p", "x", egress=(rule,)))):
        assert [ask(known, 1, 2, to).allowed for to in ("80/tcp", "8080/tcp")] == [True, False]
        assert [ask(known, 1, 3, to).allowed for to in ("80/tcp", "8080/tcp")] == [False, True]
    outside = state(net_policy("p", "x", egress=(rule,)))
    assert not ask(outside, 1, 99).allowed, "nobody outside names a port"


@FAMILIES
def test_what_no_policy_is_asked_of(family: int) -> None:
    closed = state(cluster_policy("all", ingress=(DENY,), egress=(DENY,)))
    mine = ask(closed, 2, 2, family=family)
    assert mine.allowed and mine.always is Always.SELF and "itself" in str(mine)
    strangers = ask(closed, 98, 99, family=family)
    assert strangers.allowed and strangers.always is Always.NO_POD
    packet = Packet(NODE.addresses[0], ip_address(address(2)), "tcp", 80)
    assert not verdict(KnownState(closed), packet).allowed
    probe = verdict(KnownState(closed), replace(packet, from_node=True))
    assert probe.allowed and probe.always is Always.FROM_NODE


def test_a_pod_reaches_itself_between_its_addresses() -> None:
    twice = replace(PODS[0], addresses=(ip_address(address(1)), ip_address(address(7))))
    closed = state(cluster_policy("all", ingress=(DENY,), egress=(DENY,)), pods=(twice,))
    assert ask(closed, 1, 7).allowed


def test_a_finished_pod_has_no_address() -> None:
    old = replace(PODS[1], name=ObjectName("z", "job"), finished=True)
    closed = net_policy("p", "z", ingress=())
    assert ask(state(closed, pods=(PODS[0], old)), 1, 2).allowed
    assert not ask(state(closed, pods=(PODS[0], replace(old, finished=False))), 1, 2).allowed
    peer = PolicyRule(Rule.ACCEPT, (PodSelection("z"),))
    known = state(net_policy("q", ingress=(peer,)), pods=(PODS[1], replace(old, addresses=PODS[0].addresses)))
    assert not ask(known, 1, 2).allowed


def test_of_two_pods_with_one_address_the_first_by_name_has_it() -> None:
    other = replace(PODS[1], name=ObjectName("a", "first"))
    for pods in ((PODS[1], other), (other, PODS[1])):
        assert KnownState(state(pods=pods)).pod_at(ip_address(address(2))) is other


def test_policies_are_found_by_every_kind_of_subject() -> None:
    subjects = {
        "all": Selector(),
        "one": named("app", "server"),
        "some": Selector((Requirement("app", "In", ("server", "server", "x")), Requirement("app", "Exists"))),
        "not": Selector((Requirement("app", "NotIn", ("server",)),)),
        "other": named("app", "client"),
        "nothing": Selector((Requirement("app", "In", ()),)),
    }
    policies = []
    for name, selector in subjects.items():
        subject = PodSelection("y", selector)
        policies.append(Policy(ObjectName("y", name), Tier.NETWORK_POLICY, subject, ingress=()))
        wide = PodSelection(named("kubernetes.io/metadata.name", "y"), selector)
        policies.append(Policy(ObjectName("", name), Tier.BASELINE, wide, ingress=()))
    known = KnownState(state(*policies))
    found = [(each.tier, each.name.name) for each in known.policies_for(PODS[1])]
    wanted = ("all", "one", "some")
    assert found == [(tier, name) for tier in (Tier.NETWORK_POLICY, Tier.BASELINE) for name in wanted]
    assert known.policies_for(PODS[0]) == ()
    changed = replace(PODS[1], labels={"app": "client"})
    assert [each.name.name for each in known.policies_for(changed)][:3] == ["all", "not", "other"]
