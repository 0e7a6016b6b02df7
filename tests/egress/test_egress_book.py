"""Who holds an egress address, and what pods leave with: laws, and the rules one by one."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from l3net.cli.plan import declared_now
from l3net.egress.book import EgressBook
from l3net.egress.declared import announced_by, book_of, fill, floating_in, holdings_of
from l3net.egress.giving import wishes_of
from l3net.egress.holding import EgressHolding, Reason
from l3net.floating.declared import follow
from l3net.floating.holding import State
from l3net.ipam.giving import plan_giving
from l3net.model import (
    Address,
    BgpPeer,
    ClusterState,
    EgressIp,
    FloatingIp,
    IpPool,
    Kind,
    Labels,
    Namespace,
    Node,
    ObjectName,
    Pod,
    PoolUse,
    Requirement,
    Selector,
    Service,
)
from l3net.naming import ANNOTATION_TAKES_PART

EGRESS = frozenset({PoolUse.EGRESS})
POOLS = {
    "four": IpPool("four", ip_network("203.0.113.0/29"), 32, allowed_uses=EGRESS, avoid_buggy=False),
    "six": IpPool("six", ip_network("2001:db8:e::/125"), 128, allowed_uses=EGRESS),
    "pods": IpPool("pods", ip_network("10.0.0.0/16"), 24),
}
ADDRESSES: list[Address] = [
    *(ip_address(f"203.0.113.{number}") for number in (1, 2, 3)),
    ip_address("2001:db8:e::1"),
    ip_address("198.51.100.1"),  # in no pool
]
SPACES = ("a", "b")
NODES = ("n1", "n2", "n3")


def label(key: str, value: str) -> Selector:
    return Selector((Requirement(key, "In", (value,)),))


ANY = Selector(())


def stamp(rng: random.Random) -> str:
    return f"2026-01-01T00:00:0{rng.randrange(4)}Z"


def some_egress(rng: random.Random, name: str) -> EgressIp:
    return EgressIp(
        name,
        namespaces=rng.choice((ANY, label("team", "x"))),
        pods=rng.choice((ANY, label("app", "web"))),
        destinations=rng.choice(((), (ip_network("192.0.2.0/24"),), (ip_network("2001:db8:9::/48"),))),
        nodes=rng.choice((ANY, label("zone", "b"))),
        wanted=tuple(rng.sample(ADDRESSES, rng.randrange(3))),
        versions=rng.choice(((), (4,), (4, 6))),
        given=tuple(rng.sample(ADDRESSES[:4], 1)) if rng.random() < 0.5 else (),
        created=rng.choice(("", stamp(rng))),
    )


def some_pod(rng: random.Random, name: ObjectName) -> Pod:
    own = [ip_address(f"10.0.0.{rng.randrange(3)}"), ip_address(f"fd00::{rng.randrange(3)}")]
    return Pod(
        name,
        labels={"app": rng.choice(("web", "db"))},
        addresses=tuple(each for each in own if rng.random() < 0.8),
        node="n1",
        host_network=rng.random() < 0.1,
        finished=rng.random() < 0.1,
        created=stamp(rng),
    )


class Story:
    """Random changes to a state, told to a book as they come."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.state = ClusterState(pools=dict(POOLS), nodes={name: Node(name) for name in NODES})
        self.lost: frozenset[str] = frozenset()
        self.taken: set[Address] = set()
        self.book = EgressBook(self._taken)
        fill(self.book, self.state)

    def _taken(self, address: Address) -> tuple[Reason, str]:
        return (Reason.SERVICE, "") if address in self.taken else (Reason.HELD, "")

    def step(self) -> None:
        rng, state, book = self.rng, self.state, self.book
        there = rng.random() < 0.75
        match rng.randrange(8):
            case 0 | 1 | 2:
                key = ObjectName(rng.choice(SPACES), f"p{rng.randrange(4)}")
                pod = some_pod(rng, key) if there else None
                put(state.pods, key, pod)
                book.put_pod(key, pod)
            case 3:
                name = f"e{rng.randrange(3)}"
                fact = some_egress(rng, name) if there else None
                put(state.egress, name, fact)
                book.put_egress(name, fact)
            case 4:
                name = rng.choice(SPACES)
                labels: Labels | None = rng.choice(({}, {"team": "x"})) if there else None
                put(state.namespaces, name, None if labels is None else Namespace(name, labels))
                book.put_namespace(name, labels)
            case 5:
                name = rng.choice(NODES)
                zone = {"zone": rng.choice("ab")}
                node = Node(name, labels=zone, ready=rng.random() < 0.7) if there else None
                put(state.nodes, name, node)
                book.put_node(name, node)
            case 6:
                name = rng.choice(sorted(POOLS))
                put(state.pools, name, POOLS[name] if there else None)
                follow(book, state)
            case _:
                self.taken ^= {rng.choice(ADDRESSES)}
                book.look_again()
                self.lost = frozenset(rng.sample(NODES, rng.randrange(2)))
                book.lose(self.lost)

    def anew(self) -> EgressBook:
        book = EgressBook(self._taken)
        book.lose(self.lost)
        fill(book, self.state)
        book.settle()
        return book


def put(held: dict[Any, Any], key: object, value: object) -> None:
    if value is None:
        held.pop(key, None)
    else:
        held[key] = value


@pytest.mark.parametrize("seed", range(60))
def test_history_does_not_matter(seed: int) -> None:
    story = Story(seed)
    for _ in range(60):
        for _ in range(story.rng.randrange(1, 6)):
            story.step()
        before = dict(story.book.holdings), dict(story.book.rules)
        changed = story.book.settle()
        book = story.anew()
        now = dict(story.book.holdings), dict(story.book.rules)
        assert now == (book.holdings, book.rules)
        assert changed is (now != before)
        assert not story.book.settle()


def book(*facts: EgressIp, **more: Any) -> EgressBook:
    state = ClusterState(**{"pools": POOLS, "nodes": {name: Node(name) for name in NODES}} | more)
    state.egress = {each.name: each for each in facts}
    return book_of(state)


def verdicts(found: EgressBook, name: str) -> list[Reason]:
    return [each.reason for each in found.holdings[name]]


ONE, TWO, THREE, SIX, OUTSIDE = ADDRESSES


def test_an_address_goes_from_a_pod_that_is_gone_to_one_that_is_new() -> None:
    """In one batch, in whatever order."""
    own = (ip_address("10.0.0.1"),)
    old, new = (Pod(ObjectName("a", name), {}, own, "n1") for name in ("old", "new"))
    for first in (old, new):
        found = book(EgressIp("e", wanted=(ONE,)), pods={old.name: old})
        for pod in (first, new if first is old else old):
            found.put_pod(pod.name, new if pod is new else None)
        found.settle()
        assert set(found.rules) == set(own)
        found.put_pod(new.name, None)
        assert found.settle() and not found.rules


def test_of_two_the_older_has_the_address() -> None:
    younger = EgressIp("a", wanted=(ONE, TWO), created="2026-02-01T00:00:00Z")
    older = EgressIp("b", wanted=(ONE,), created="2026-01-01T00:00:00Z")
    found = book(younger, older)
    assert verdicts(found, "a") == [Reason.CONFLICT, Reason.HELD]
    assert verdicts(found, "b") == [Reason.HELD]
    assert "EgressIP b is older" in found.holdings["a"][0].why
    assert verdicts(book(younger, replace(older, created="")), "b") == [Reason.CONFLICT]
    # One that may not have it itself keeps nobody from it.
    assert verdicts(book(younger, replace(older, wanted=(), given=(ONE,), pool="six")), "a")[0] is Reason.HELD


def test_what_is_something_elses_is_refused() -> None:
    asks = EgressIp("e", wanted=(ONE,))
    node = Node("n1", addresses=(ONE,))
    both = IpPool("four", POOLS["four"].cidr, 32, allowed_uses=EGRESS | {PoolUse.FLOATING})
    floats = FloatingIp(ObjectName("a", "f"), wanted=(ONE,))
    name = ObjectName("a", "s")
    cases: list[tuple[dict[str, Any], Reason]] = [
        ({"services": {name: Service(name, load_balancer_ips=(ONE,))}}, Reason.SERVICE),
        ({"nodes": {"n1": node}}, Reason.NODE),
        ({"peers": {"p": BgpPeer("p", address=ONE)}}, Reason.NODE),
        ({"nodes": {"n1": Node("n1", blocks=(ip_network("203.0.113.0/30"),))}}, Reason.BLOCK),
        ({"pools": {"four": both}, "floating": {floats.name: floats}}, Reason.FLOATING),
        # One that may not have it takes it from nobody.
        ({"floating": {floats.name: floats}}, Reason.HELD),
        ({"pools": {}}, Reason.OUTSIDE_POOLS),
        ({"nodes": {}}, Reason.NO_NODE),
        ({"nodes": {"n1": Node("n1", ready=False)}}, Reason.NOT_READY),
        ({"nodes": {"n1": Node("n1", unschedulable=True)}}, Reason.NOT_READY),
        ({"nodes": {"n1": Node("n1", annotations={ANNOTATION_TAKES_PART: "false"})}}, Reason.NOT_READY),
    ]
    for more, reason in cases:
        found = book(asks, **more)
        assert verdicts(found, "e") == [reason], more
        (holding,) = holdings_of(found)
        assert bool(holding.why) is not holding.held
        waits = reason in (Reason.NO_NODE, Reason.NOT_READY)
        assert (holding.reason.state is State.WAITING) is waits
    assert verdicts(book(EgressIp("e", wanted=(OUTSIDE,))), "e") == [Reason.OUTSIDE_POOLS]


def test_the_annotation_of_a_pod_takes_an_address_only_where_it_may() -> None:
    asks = {ObjectName("a", "p"): Pod(ObjectName("a", "p"), {}, (), floating=(ONE,))}
    for selector, expected in ((ANY, frozenset()), (label("team", "x"), frozenset({ONE}))):
        uses = EGRESS | {PoolUse.FLOATING}
        both = IpPool("four", POOLS["four"].cidr, 32, namespace_selector=selector, allowed_uses=uses)
        spaces = {"a": Namespace("a", {"team": "x"})}
        state = ClusterState(pools={"four": both}, namespaces=spaces, pods=asks)
        assert floating_in(state) == expected


def test_agents_say_whether_their_nodes_take_what_others_hand_on() -> None:
    state = ClusterState(pools=POOLS, nodes={"n1": Node("n1")}, egress={"e": EgressIp("e", wanted=(ONE,))})
    assert announced_by(book_of(state), "n1") == {ip_network(f"{ONE}/32")}
    assert verdicts(book_of(state, said=True), "e") == [Reason.NOT_READY]
    state.nodes["n1"] = Node("n1", annotations={ANNOTATION_TAKES_PART: "true"})
    assert book_of(state, said=True).holdings["e"] == (EgressHolding(ONE, "e", node="n1"),)


def test_what_a_pod_leaves_with() -> None:
    """Of several the oldest first; by families; dropped where nobody holds an address."""
    own4, own6 = ip_address("10.0.0.1"), ip_address("fd00::1")
    name = ObjectName("a", "p")
    pods = {name: Pod(name, {"app": "web"}, (own4, own6), "n1")}
    cidr4, cidr6 = ip_network("192.0.2.0/24"), ip_network("2001:db8:9::/48")
    young = EgressIp("all", wanted=(ONE, TWO), created="2026-02-01T00:00:00Z")
    old = EgressIp("some", destinations=(cidr4, cidr6), wanted=(THREE, SIX), created="2026-01-01T00:00:00Z")
    found = book(young, old, pods=pods)
    first, second = found.rules[own4]
    assert (first.by, first.destinations, first.address) == ("some", (cidr4,), THREE)
    assert (second.by, second.destinations) == ("all", ()) and second.address in (ONE, TWO)
    assert {first.node, second.node} <= set(NODES)
    assert [(each.by, each.destinations, each.address) for each in found.rules[own6]] == [
        ("some", (cidr6,), SIX)
    ]
    # A family that it is for, and has no address of: dropped.
    (rule,) = book(EgressIp("e", versions=(6,)), pods=pods).rules[own6]
    assert (rule.address, rule.node) == (None, "")
    (rule,) = book(EgressIp("e", wanted=(ONE,)), pods=pods, nodes={}).rules[own4]
    assert (rule.address, rule.node) == (None, "")
    # It selects another namespace, other pods; a pod on its node's network leaves as the node does.
    spaces = {"a": Namespace("a", {"team": "y"})}
    assert not book(EgressIp("e", namespaces=label("team", "x")), pods=pods, namespaces=spaces).rules
    assert not book(EgressIp("e", pods=label("app", "db"), wanted=(ONE,)), pods=pods).rules
    assert book(
        EgressIp("e", namespaces=label("team", "y"), wanted=(ONE,)), pods=pods, namespaces=spaces
    ).rules
    host = {name: replace(pods[name], host_network=True)}
    assert not book(EgressIp("e", wanted=(ONE,)), pods=host).rules


def test_a_directory_declares_one(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("""
apiVersion: l3net.io/v1alpha1
kind: IPPool
metadata: {name: out}
spec: {cidr: 203.0.113.0/24, allowedUses: [Egress]}
---
apiVersion: l3net.io/v1alpha1
kind: EgressIP
metadata: {name: shop}
spec: {namespaceSelector: {}, addresses: [203.0.113.1]}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
""")
    assert announced_by(book_of(declared_now(tmp_path, None)), "n1") == {ip_network("203.0.113.1/32")}


def given(
    held: dict[str, list[str]], *facts: EgressIp, pools: dict[str, IpPool] = POOLS, **more: Any
) -> tuple[dict[str, list[str]], list[str]]:
    plan = plan_giving(
        Kind.EGRESS_IP,
        PoolUse.EGRESS,
        wishes_of({ObjectName("", each.name): each for each in facts}),
        pools,
        {ObjectName("", name): tuple(map(ip_address, texts)) for name, texts in held.items()},
        **more,
    )
    found = {name.name: list(map(str, addresses)) for name, addresses in plan.held.items()}
    return found, [each.message for each in plan.findings]


def test_so_many_of_each_family_are_given() -> None:
    one = EgressIp("one", versions=(4, 6), replicas=2)
    two = EgressIp("two", wanted=(SIX,), versions=(4,), replicas=3)
    found, said = given({}, one, two, taken=[SIX, ip_address("203.0.113.0")])
    assert not said
    assert found == {
        "one": ["203.0.113.1", "203.0.113.2", "2001:db8:e::", "2001:db8:e::2"],
        "two": ["203.0.113.3", "203.0.113.4", "203.0.113.5"],
    }
    # More and fewer: those that it has stay, the first of them.
    more, _ = given(found, replace(one, replicas=1), replace(two, replicas=4))
    assert more == {"one": ["203.0.113.1", "2001:db8:e::"], "two": [*found["two"], "203.0.113.0"]}
    # Gone, and nobody knows whether it is.
    assert given(found, two)[0] == {"two": found["two"]}
    unsure = {ObjectName("", "one")}
    assert given(found, two, EgressIp("new", versions=(4,)), unsure=unsure)[0]["one"] == found["one"]
    # Not enough: as many as there are, and it is told once.
    found, said = given({}, EgressIp("all", versions=(4,), replicas=16))
    assert len(found["all"]) == 8 and said == ["no IPv4 address is free in the pools it may use: four"]
    shut = {name: replace(pool, disabled=True) for name, pool in POOLS.items()}
    assert given(found, EgressIp("all", versions=(4,), replicas=8), pools=shut) == (found, [])
    _, said = given({}, one, pools=shut)
    assert said == [
        f"no IPPool with allowedUses: [Egress] and IPv{version} addresses gives any" for version in (4, 6)
    ]


def test_a_pool_that_is_not_there_is_named_and_the_one_that_was_meant() -> None:
    _, said = given({}, EgressIp("one", versions=(4,), pool="fuor"))
    remedy = "create it with allowedUses: [Egress], or correct `pool`"
    assert said == [f"there is no IPPool fuor; {remedy} (did you mean four?)"]
