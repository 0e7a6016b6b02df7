"""The book answers as the declared state does, whatever came before, and in whatever order it came."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address

from examples import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_policies import cluster

from l3net.model import (
    ClusterState,
    ObjectName,
    Pod,
    PodSelection,
    Policy,
    PolicyRule,
    Requirement,
    Rule,
    Selector,
    Tier,
)
from l3net.naming import LABEL_TENANT
from l3net.policy.attached import Attached
from l3net.policy.book import PolicyBook
from l3net.policy.known_state import KnownState
from l3net.policy.mixing import key_of
from l3net.policy.sets import PodSet
from l3net.policy.tenants import tenant_policies
from l3net.policy.verdict import verdict

SEEDS = st.integers(0, 2**32)
HERE = "n1"


def changes(book: PolicyBook, before: ClusterState, now: ClusterState) -> list[Callable[[], None]]:
    """What there is to be put, each by itself."""
    found: list[Callable[[], None]] = [
        partial(book.put_node, name, now.nodes.get(name))
        for name in sorted(before.nodes.keys() | now.nodes.keys())
    ]
    for name in sorted(before.namespaces.keys() | now.namespaces.keys()):
        space = now.namespaces.get(name)
        found.append(partial(book.put_namespace, name, space.labels if space is not None else {}))
    for name in sorted(before.pods.keys() | now.pods.keys()):
        pod = now.pods.get(name)
        found.append(partial(book.put_pod, name, pod))
        if pod is not None and pod.node == HERE and not pod.host_network and not pod.finished:
            found.append(partial(book.attach, str(name), Attached(name, pod.addresses)))
        else:
            found.append(partial(book.detach, str(name)))
    old = {key_of(each) for each in (*before.policies.values(), *before.cluster_policies.values())}
    new = {key_of(each): each for each in (*now.policies.values(), *now.cluster_policies.values())}
    found += [partial(book.put_policy, key, new.get(key)) for key in sorted(old | new.keys())]
    return found


def with_tenants(state: ClusterState, chance: random.Random) -> ClusterState:
    for name, space in state.namespaces.items():
        if tenant := chance.choice(("", "red", "blue")):
            labels = {**space.labels, LABEL_TENANT: tenant}
            state.namespaces[name] = type(space)(name, labels)
    return state


def kept(book: PolicyBook) -> tuple[object, ...]:
    """What the kernel is to hold."""
    contents = book.contents
    sets = {name: (live.of, live.elements) for name, live in contents.sets.items()}
    return contents.chains, sets, sorted(contents.counters), contents.judged


@given(SEEDS, SEEDS)
@example(590, 0)  # a policy that passes no more took the chain of those for whom it never did with it
@example(2, 0)  # an address that went from one pod to another was not judged any more
@settings(max_examples=examples(50), deadline=None)
def test_history_does_not_matter(first: int, second: int) -> None:
    book, before = PolicyBook(), ClusterState()
    for seed in (first, second):
        chance = random.Random(seed)
        made = cluster(seed, packets=40)
        now = with_tenants(made.state, chance)
        put = changes(book, before, now)
        chance.shuffle(put)
        for each in put:
            each()
            if chance.random() < 0.2:
                book.settle()
        book.settle()
        known = KnownState(now, tenant_policies(now.namespaces.values()))
        for packet in made.packets:
            assert verdict(book, packet) == verdict(known, packet)
        fresh = PolicyBook()
        for each in changes(fresh, ClusterState(), now):
            each()
        fresh.settle()
        assert kept(book) == kept(fresh)
        before = now


def test_an_address_is_of_who_has_it_here_whatever_is_declared() -> None:
    """A Pod that claims the address of one that is attached here is in no set with it; and a pod that has
    finished is nobody's peer, though it is still attached."""
    book = PolicyBook()
    thief, evil, db = (ObjectName("shop", name) for name in ("thief", "evil", "db"))
    addresses = (ip_address("10.0.0.1"), ip_address("fd00::1"))
    web = PodSelection("shop", Selector((Requirement("app", "In", ("web",)),)))
    rules = (PolicyRule(Rule.ACCEPT, (web,)),)
    subject = PodSelection("shop", Selector((Requirement("app", "In", ("db",)),)))
    book.put_policy((True, db), Policy(db, Tier.NETWORK_POLICY, subject, rules))
    book.attach("db", Attached(db, (ip_address("10.0.0.9"),), {"app": "db"}))
    book.attach("evil", Attached(evil, addresses, mac="0a:58:0a:00:00:01"))
    book.put_pod(thief, Pod(thief, {"app": "web"}, addresses, "n2"))
    book.settle()
    peers = {
        element
        for name, live in book.contents.sets.items()
        if name.startswith("peers")
        for element in live.elements
    }
    assert peers == set() and {book.pod_at(each).name for each in addresses} == {evil}  # type: ignore[union-attr]
    book.detach("evil")
    book.settle()
    assert book.contents.sets[PodSet(web).name(4)].elements == {"10.0.0.1": 1}
    book.put_pod(thief, None)
    book.attach("evil", Attached(evil, addresses))
    for finished in (False, True):
        book.put_pod(evil, Pod(evil, {"app": "web"}, addresses, "n1", finished=finished))
        book.settle()
        assert bool(book.contents.sets[PodSet(web).name(6)].elements) is not finished
