"""Who has a floating address: whatever has happened before, it is what a new book says."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from l3net.floating.book import FloatingBook, sources_of
from l3net.floating.declared import Blocks, book_of, fill, follow
from l3net.floating.giving import wishes_of
from l3net.floating.holding import Claimant, Reason
from l3net.ipam.giving import plan_giving
from l3net.model import (
    Address,
    ClusterState,
    FloatingIp,
    IpPool,
    Kind,
    Namespace,
    Node,
    ObjectName,
    Pod,
    PoolUse,
    Requirement,
    Selector,
)

SPACES = ("a", "b")
ADDRESSES: list[Address] = [ip_address(f"203.0.113.{number}") for number in (1, 2, 3)] + [
    ip_address("2001:db8::1")
]
POOLS = {
    "four": IpPool(
        "four",
        ip_network("203.0.113.0/30"),
        32,
        allowed_uses=frozenset({PoolUse.FLOATING}),
        avoid_buggy=False,
    ),
    "six": IpPool(
        "six",
        ip_network("2001:db8::/64"),
        128,
        namespace_selector=Selector((Requirement("team", "In", ("x",)),)),
        allowed_uses=frozenset({PoolUse.FLOATING}),
    ),
    "pods": IpPool("pods", ip_network("10.0.0.0/16"), 24),
}
APP = Selector((Requirement("app", "In", ("web",)),))
ANY = Selector((Requirement("app", "Exists"),))


def stamp(rng: random.Random) -> str:
    return f"2026-01-01T00:00:0{rng.randrange(4)}Z"


def some_pod(rng: random.Random, name: ObjectName) -> Pod:
    return Pod(
        name,
        labels={"app": rng.choice(("web", "db"))} if rng.random() < 0.9 else {},
        addresses=tuple(
            each for each in (ip_address("10.0.0.9"), ip_address("fd00::9")) if rng.random() < 0.8
        ),
        node=rng.choice(("n1", "n2", "n3", "")),
        host_network=rng.random() < 0.1,
        finished=rng.random() < 0.1,
        created=stamp(rng),
        ready_since=None if rng.random() < 0.3 else stamp(rng),
        deleting=rng.random() < 0.2,
        floating=tuple(rng.sample(ADDRESSES, 1)) if rng.random() < 0.3 else (),
    )


def some_claim(rng: random.Random, name: ObjectName) -> FloatingIp:
    return FloatingIp(
        name,
        rng.choice((APP, ANY)),
        wanted=tuple(rng.sample(ADDRESSES, rng.choice((0, 1, 1)))),
        versions=rng.choice(((), (4,))),
        require_ready=rng.random() < 0.8,
        given=tuple(rng.sample(ADDRESSES[:3], 1)) if rng.random() < 0.5 else (),
        created=rng.choice(("", stamp(rng))),
    )


class Story:
    """Random changes to a state, told to a book as they come."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.state = ClusterState(
            pools=dict(POOLS),
            namespaces={"a": Namespace("a", {"team": "x"}), "b": Namespace("b")},
            nodes={name: Node(name) for name in ("n1", "n2", "n3")},
        )
        self.taken: set[Address] = set()
        self.book = FloatingBook(self._taken)
        fill(self.book, self.state)

    def _taken(self, address: Address) -> tuple[Reason, str]:
        return (Reason.SERVICE, "") if address in self.taken else (Reason.HELD, "")

    def step(self) -> None:
        rng, state = self.rng, self.state
        name = ObjectName(rng.choice(SPACES), f"o{rng.randrange(4)}")
        match rng.randrange(7):
            case 0 | 1 | 2:
                pod = None if rng.random() < 0.25 else some_pod(rng, name)
                self._put(state.pods, name, pod)
                self.book.put_pod(name, pod)
            case 3:
                claim = None if rng.random() < 0.25 else some_claim(rng, name)
                self._put(state.floating, name, claim)
                self.book.put_floating(name, claim)
            case 4:
                node = replace(state.nodes["n1"], name=rng.choice(("n1", "n2")), ready=rng.random() < 0.5)
                state.nodes[node.name] = node
                self.book.put_node(node.name, node)
            case 5:
                if rng.random() < 0.5:
                    labels = {"team": rng.choice(("x", "y"))}
                    state.namespaces[name.namespace] = Namespace(name.namespace, labels)
                    self.book.put_namespace(name.namespace, labels)
                else:
                    pool = rng.choice(("four", "six"))
                    self._put(state.pools, pool, POOLS[pool] if rng.random() < 0.6 else None)
                    follow(self.book, state)
            case _:
                address = rng.choice(ADDRESSES)
                self.taken ^= {address}
                self.book.look_at((address,))

    @staticmethod
    def _put(held: dict, key: object, value: object) -> None:  # type: ignore[type-arg]
        if value is None:
            held.pop(key, None)
        else:
            held[key] = value


@pytest.mark.parametrize("seed", range(40))
def test_history_does_not_matter(seed: int) -> None:
    story = Story(seed)
    told: dict[Address, object] = {}
    for _ in range(60):
        for _ in range(story.rng.randrange(1, 4)):
            story.step()
        changed = story.book.settle()
        fresh = FloatingBook(story._taken)
        fill(fresh, story.state)
        fresh.settle()
        assert story.book.holdings == fresh.holdings
        assert set(story.book.claimants) == set(fresh.claimants)
        for by in fresh.claimants:
            assert story.book.verdicts(by) == fresh.verdicts(by)
        # What it says has changed is all that has.
        assert {
            each for each in {*told, *fresh.holdings} if told.get(each) != fresh.holdings.get(each)
        } <= set(changed)
        told = dict(fresh.holdings)
        assert not story.book.settle(), "the second time is quiet"


@pytest.mark.parametrize("seed", range(40, 60))
def test_nobody_takes_an_address_from_a_pod_that_stays_ready(seed: int) -> None:
    """Pods come, fail and come back with later times, as kubelet writes them: who has it keeps it."""
    rng = random.Random(seed)
    space = "a"
    claim = FloatingIp(ObjectName(space, "web"), APP, wanted=(ADDRESSES[0],))
    book = FloatingBook()
    book.put_pools(POOLS.values())
    book.put_floating(claim.name, claim)
    pods: dict[ObjectName, Pod] = {}
    for clock in range(10, 70):
        name = ObjectName(space, f"web-{rng.randrange(5)}")
        before = book.holdings.get(ADDRESSES[0])
        pod = pods.get(name)
        since = f"2026-01-01T00:00:{clock}Z"
        if pod is None:
            pod = Pod(name, {"app": "web"}, (ip_address("10.0.0.1"),), "n1", created=since, ready_since=None)
        elif pod.ready_since is None:
            pod = replace(pod, ready_since=since)
        else:
            pod = replace(pod, ready_since=None)
        pods[name] = pod
        book.put_pod(name, pod)
        book.settle()
        now = book.holdings.get(ADDRESSES[0])
        assert (now is not None) is any(each.ready_since is not None for each in pods.values())
        if before is not None and before.pod != name:
            assert now == before


def test_a_pod_sends_from_the_oldest_of_its_addresses() -> None:
    pod = Pod(ObjectName("a", "web"), {"app": "web"}, (ip_address("10.0.0.1"),), "n1")
    state = ClusterState(pools=dict(POOLS), pods={pod.name: pod})
    for number, (name, created) in enumerate((("a", "2026-01-02T00:00:00Z"), ("z", "2026-01-01T00:00:00Z"))):
        key = ObjectName("a", name)
        state.floating[key] = FloatingIp(key, APP, wanted=(ADDRESSES[number],), created=created)
    book = book_of(state)
    assert sources_of(book.holdings.values()) == {ip_address("10.0.0.1"): ADDRESSES[1]}
    assert len(book.holdings) == 2


def test_where_no_pool_is_for_it_nobody_has_anything() -> None:
    state = ClusterState(pools={"pods": POOLS["pods"]})
    key = ObjectName("a", "web")
    state.floating[key] = FloatingIp(key, APP, wanted=(ADDRESSES[0],))
    book = book_of(state)
    (verdict,) = book.verdicts(Claimant("FloatingIP", key))
    assert verdict.reason is Reason.OUTSIDE_POOLS and not book.holdings


def given(
    held: dict[ObjectName, tuple[Address, ...]],
    *claims: FloatingIp,
    pools: dict[str, IpPool] | None = None,
    **more: object,
) -> tuple[dict[str, list[str]], list[str]]:
    plan = plan_giving(
        Kind.FLOATING_IP,
        PoolUse.FLOATING,
        wishes_of({each.name: each for each in claims}, {"a": {"team": "x"}, "b": {}}),
        POOLS if pools is None else pools,
        held,
        **more,  # type: ignore[arg-type]
    )
    found = {name.name: list(map(str, addresses)) for name, addresses in plan.held.items()}
    return found, [each.message for each in plan.findings]


def ask(name: str, *versions: int, space: str = "a", **more: object) -> FloatingIp:
    return FloatingIp(ObjectName(space, name), APP, versions=versions, **more)  # type: ignore[arg-type]


def test_addresses_are_given_kept_and_freed() -> None:
    one, two = ask("one", 4, 6), ask("two", 4)
    found, said = given({}, one, two, taken=[ip_address("203.0.113.0")])
    assert found == {"one": ["203.0.113.1", "2001:db8::"], "two": ["203.0.113.2"]} and not said
    held = {ObjectName("a", name): tuple(map(ip_address, each)) for name, each in found.items()}
    # One that is gone frees its own, and nobody else's moves.
    found, _ = given(held, two, ask("three", 4))
    assert found == {"two": ["203.0.113.2"], "three": ["203.0.113.0"]}
    # Nobody takes it away by naming it.
    found, _ = given(held, one, two, taken=[ip_address("203.0.113.1"), ip_address("2001:db8::")])
    assert found == {"one": ["203.0.113.1", "2001:db8::"], "two": ["203.0.113.2"]}
    # While nobody knows whether it is gone, it keeps them.
    found, _ = given(held, two, ask("three", 4), unsure={one.name})
    assert found["one"] == ["203.0.113.1", "2001:db8::"] and found["three"] == ["203.0.113.0"]
    # Its pool is gone: it keeps what it has, which may be written down elsewhere.
    found, _ = given(held, one, two, pools={"pods": POOLS["pods"]})
    assert found == {"one": ["203.0.113.1", "2001:db8::"], "two": ["203.0.113.2"]}


def test_what_a_status_says_is_kept_where_the_ledger_is_lost() -> None:
    one = ask("one", 4, given=(ip_address("203.0.113.3"),))
    thief = ask("a-thief", 4, given=(ip_address("203.0.113.3"),))
    found, _ = given({}, one, thief)
    assert sorted(map(tuple, found.values())) == [("203.0.113.0",), ("203.0.113.3",)]
    found, _ = given({one.name: one.given}, one, thief)
    assert found["one"] == ["203.0.113.3"]


def test_there_is_none_left_or_none_open() -> None:
    claims = [ask(f"c{number}", 4) for number in range(5)]
    found, said = given({}, *claims)
    assert len(found) == 4 and said == ["no IPv4 address is free in the pools it may use: four"]
    _, said = given({}, ask("one", 6, space="b"))
    assert said == ["no IPPool with allowedUses: [Floating] and IPv6 addresses is open to its namespace"]
    _, said = given({}, ask("one", 4, pool="six"))
    assert said == ["no IPPool with allowedUses: [Floating] and IPv4 addresses is open to its namespace"]


def test_whether_an_address_lies_in_a_block() -> None:
    """As each block by itself says."""
    rng = random.Random(1)
    cidrs = (
        "10.0.0.0/8",
        "10.1.2.0/24",
        "0.0.0.0/0",
        "10.9.0.7/32",
        "fd00::/8",
        "fd00:1::/64",
        "::/0",
        "::a09:7/128",
    )
    tried = [
        ip_address(each)
        for each in ("10.1.2.0", "10.1.2.255", "10.1.3.0", "10.9.0.7", "10.9.0.8", "11.0.0.0")
    ]
    tried += [ip_address(each) for each in ("fd00::1", "fd00:1::ffff", "fd00:1:0:1::", "::a09:7", "fe80::1")]
    for _ in range(50):
        blocks = tuple(ip_network(each) for each in rng.sample(cidrs, rng.randrange(4)))
        found = Blocks([Node("n1", blocks=blocks[:1]), Node("n2", blocks=blocks[1:])])
        for address in tried:
            assert (address in found) is any(address in block for block in blocks), (address, blocks)
