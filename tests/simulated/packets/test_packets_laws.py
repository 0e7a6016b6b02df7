"""What packets meet on simulated nodes is what Kubernetes' documents, the verdict and the truth tables of the
suites say: thousands of clusters, one after the other by what changes, without a kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest
from policy_facts import read
from policy_following import BLOCKS, GATEWAYS, NODES, FollowedPolicies
from random_policies import Place, cluster
from service_reference import Answer, Fate, Origin, answer
from service_reference import Packet as Called
from services_cluster import ME, declared, made, packets
from services_cluster import cluster as services_cluster
from sim_node import SimKernel
from table_side import InForce
from truth import ADDRESSES, PODS, cases

from l3net.firewall.facts import plan
from l3net.firewall.policycontents import NO_POLICY
from l3net.model import Address, Backend, BridgePlan, ClusterState, VirtualServer
from l3net.naming import BRIDGE
from l3net.policy.known_state import KnownState
from l3net.policy.verdict import verdict
from l3net.services.servers import virtual_servers
from packets import chains, sets
from packets.kernel_node import twin
from packets.laws import LIVING, Met, broken
from packets.outcomes import Delivered, Dropped, Forwarded, Lost, Rejected
from packets.packet import Packet, packet
from packets.random_nodes import OWN, REMOTE, RandomNode
from packets.rivals import STEPS, Rivals
from packets.stack import SimStack
from packets.statements import DROP
from packets.table import SimTable

LATER = 2 * 3600.0  # seconds after the tables were made

# --- services --------------------------------------------------------------------------------------------


def met(stack: SimStack, called: Called) -> Answer:
    """What a packet meets: every endpoint that chance may have it reach, or its fate."""
    sent = packet(called.source, called.address, called.protocol.lower(), called.port)
    match called.origin:
        case Origin.OUTSIDE:
            outcomes = stack.receive(sent, "up0")
        case Origin.POD:
            outcomes = stack.from_pod(sent)
        case Origin.NODE:
            outcomes = stack.send(sent)
    if all(isinstance(each, Rejected) for each in outcomes):
        return Fate.REFUSED
    if all(isinstance(each, Dropped) for each in outcomes):
        return Fate.DROPPED
    return frozenset(
        (str(each.packet.destination), each.packet.dport)
        if isinstance(each, Delivered | Forwarded | Lost)
        else (str(each), 0)  # some of them
        for each in outcomes
    )


def called_by_documents(batches: Iterable[int], size: int) -> list[str]:
    """Each batch of services in place of the one before it, by what has changed."""
    table, held = SimTable(), None
    wrong: list[str] = []
    for batch in batches:
        services = made(batch, size)
        node, state = services_cluster()[0], declared([*services_cluster(), *services])
        wanted = plan(state, ME, virtual_servers(state, ME))
        if held is None:
            held = InForce(wanted)
            table = table.amended(held.text)
        else:
            table = table.amended(held.follow(wanted))
        stack = SimStack(twin(), lambda table=table: table, dict)  # type: ignore[misc]
        for called in packets(services):
            expected = answer(services, node, called)
            if expected is not Fate.NO_SERVICE and (found := met(stack, called)) != expected:
                wrong.append(f"batch {batch}: {called} meets {found}, not {expected}")
    return wrong


def test_services_are_what_the_documents_say() -> None:
    assert called_by_documents(range(6), 30) == []


@pytest.mark.soak
@pytest.mark.parametrize("few", range(16))
def test_services_are_what_the_documents_say_for_longer(few: int) -> None:
    assert called_by_documents(range(25 * few, 25 * few + 25), 40)[:4] == []


def rivals_answer(seed: int) -> list[str]:
    """Of those that claim the same the older answers, whatever came first."""
    rivals, wrong = Rivals(seed), []
    for _ in range(STEPS):
        rivals.step()
        stack = SimStack(twin(), lambda: rivals.table, dict)
        for called, expected in rivals.calls():
            if (found := met(stack, called)) != expected:
                wrong.append(f"seed {seed}: {called} meets {found}, not {expected}")
    return wrong


def test_of_rivals_the_older_answers() -> None:
    assert [each for seed in range(12) for each in rivals_answer(seed)][:2] == []


# --- policies --------------------------------------------------------------------------------------------


class PolicySide(FollowedPolicies):
    """One of two nodes, on one link."""

    def __init__(self, name: str) -> None:
        self.table = SimTable()
        super().__init__(name)
        kernel, other = SimKernel(), "n2" if name == "n1" else "n1"
        kernel.add_link("lo", "127.0.0.1/8")
        kernel.add_link("up0", f"192.0.2.{name[1]}/24", f"2001:db8::{name[1]}/64")
        for prefix, gateway in zip(
            BLOCKS[other], (f"192.0.2.{other[1]}", f"2001:db8::{other[1]}"), strict=True
        ):
            kernel.other_route(str(prefix), "up0", gateway)
        gateways = zip(GATEWAYS[name], BLOCKS[name], strict=True)
        plan = frozenset((ip_address(address), block.prefixlen) for address, block in gateways)
        kernel.bridge = BridgePlan(BRIDGE, "0a:00:00:00:00:01", 1500, plan)
        self.stack = SimStack(kernel, lambda: self.table, dict)

    def apply(self, text: str) -> None:
        self.table = SimTable.of(text)

    def amend(self, text: str) -> None:
        self.table = self.table.amended(text)


class TwoNodes:
    def __init__(self) -> None:
        self.sides = {name: PolicySide(name) for name in NODES}

    def follow(self, state: ClusterState) -> None:
        for side in self.sides.values():
            side.follow(state)

    def arrives(self, sent: Packet) -> bool:
        """Whether it gets from its sender to its destination; each end is a pod or a node."""
        at = next(name for name in NODES if _is_of(name, sent.source))
        side = self.sides[at]
        pod = any(sent.source in block for block in BLOCKS[at])
        (outcome,) = side.stack.from_pod(sent) if pod else side.stack.send(sent)
        if isinstance(outcome, Forwarded):
            other = self.sides["n2" if at == "n1" else "n1"]
            (outcome,) = other.stack.receive(outcome.packet, "up0")
        assert not isinstance(outcome, Forwarded | Rejected), outcome
        return not isinstance(outcome, Dropped)


def _is_of(node: str, address: Address) -> bool:
    own = (f"192.0.2.{node[1]}", f"2001:db8::{node[1]}")
    return str(address) in own or any(address in block for block in BLOCKS[node])


def test_policies_are_what_the_suites_say() -> None:
    """Each case follows the one before it, by what has changed alone."""
    nodes = TwoNodes()
    wrong: list[str] = []
    for case in cases():
        for step in case.steps:
            nodes.follow(read(dict(each) for each in step.documents))
            checks = [each for each in case.checks(step, case.ports) if each.source != each.destination]
            for check in checks[:: max(1, len(checks) // 12)]:
                for source, to in zip(ADDRESSES[check.source], ADDRESSES[check.destination], strict=True):
                    sent = packet(str(source), str(to), check.port[1], check.port[0])
                    if nodes.arrives(sent) is not check.allowed:
                        wrong.append(f"{case.name} {step.name}: {sent}, {'not ' * check.allowed}allowed")
    assert wrong[:4] == []


PLACES = [Place(pod.node, ADDRESSES[name]) for name, pod in PODS.items() if not pod.host][:14]
NODE_PLACES = [Place(node, ADDRESSES[name]) for node, name in (("n1", "forest/p0"), ("n2", "forest/p1"))]


def judged_as_said(seeds: Sequence[int]) -> list[str]:
    nodes = TwoNodes()
    wrong: list[str] = []
    for seed in seeds:
        drawn = cluster(seed, places=PLACES, nodes=NODE_PLACES, outside=(), packets=40)
        nodes.follow(drawn.state)
        known = KnownState(drawn.state)
        for each in drawn.packets:
            if each.source != each.destination:
                sent = packet(str(each.source), str(each.destination), each.protocol, each.port)
                if nodes.arrives(sent) is not verdict(known, each).allowed:
                    wrong.append(f"seed {seed}: {sent}, which is said to be otherwise")
    return wrong


def test_policies_are_what_the_verdict_says() -> None:
    assert judged_as_said(range(40))[:4] == []


@pytest.mark.soak
@pytest.mark.parametrize("batch", range(16))
def test_policies_are_what_the_verdict_says_for_longer(batch: int) -> None:
    assert judged_as_said(range(250 * batch, 250 * batch + 250))[:4] == []


# --- one node's edges ------------------------------------------------------------------------------------


def edges_hold(seed: int, packets: int = 60) -> list[tuple[str, str]]:
    """What is promised of any packet (laws.py), on a node that changes."""
    node = RandomNode(seed, "edges")
    held = InForce(node.plan)
    table = SimTable.of(held.text)
    wrong: list[tuple[str, str]] = []
    sport = 20000
    for change in range(3):
        if change:
            table = table.amended(held.follow(node.change()))
        stack = SimStack(twin(), lambda table=table: table, lambda: LIVING, now=lambda: LATER)  # type: ignore[misc]
        for _ in range(packets):
            sport += 1
            sent, link = node.packet(sport)
            outcomes = stack.receive(sent, link) if link else stack.send(sent)
            wrong += broken(Met(node.plan, sent, link, outcomes))
    return wrong


@pytest.mark.parametrize("ten", range(2))
def test_edges_hold(ten: int) -> None:
    for seed in range(10 * ten, 10 * ten + 10):
        assert edges_hold(seed)[:2] == [], seed


# --- clients that come back ------------------------------------------------------------------------------


def clients_come_back(seed: int) -> list[str]:
    """Whom a service with affinity has led to an endpoint is led there again, whatever else changes, as long
    as that endpoint is one (docs/services.md, sessionAffinity)."""
    node = RandomNode(seed, "affinity")
    _stick(node)
    held = InForce(node.plan)
    table = SimTable.of(held.text)
    stack = SimStack(twin(), lambda: table, dict, exact=True)
    led: dict[tuple[object, int], tuple[Address, int]] = {}
    wrong: list[str] = []
    for change in range(3):
        if change:
            node.change()
            _stick(node)
            table = table.amended(held.follow(node.plan))
        before, led = led, {}
        for key, server in sorted(node.servers.items(), key=str):
            for number in range(12 if server.affinity else 0):
                ends = {(each.address, each.port) for each in server.external}
                found = _called(stack, server, number, sport=30000 + 100 * change + number)
                if found not in ends:
                    continue  # where the port is the node's own
                had = before.get((key, number))
                if had in ends and found != had:
                    wrong.append(f"seed {seed}: client {number} of {key} meets {found}, and before {had}")
                led[key, number] = found
    return wrong


def _stick(node: RandomNode) -> None:
    """All of its servers have affinity and endpoints, and are for everybody; no policies."""
    for key, server in list(node.servers.items()):
        ends = (
            server.external
            or server.internal
            or (Backend(ip_address(REMOTE[0][server.address.version]), 80),)
        )
        node.servers[key] = replace(
            server, internal=ends, external=ends, sources=None, spread=None, affinity=10800
        )
    node.plan = replace(
        node.plan,
        servers=frozenset(node.servers.values()),
        policy=NO_POLICY,
        envelope=None,
        routers=frozenset(),
    )


def _called(stack: SimStack, server: VirtualServer, number: int, sport: int) -> tuple[Address, int]:
    """Where a client of this number comes to."""
    version = server.address.version
    to = OWN[0][version] if server.on_node else str(server.address)
    client = f"198.51.100.{20 + number}" if version == 4 else f"2001:db8:e::{20 + number}"
    outcome, *_ = stack.receive(packet(client, to, server.protocol, server.port, sport=sport), "up0")
    taken = stack.take(outcome).packet
    stack.tracking.clear()
    return taken.destination, taken.dport


def test_clients_come_back() -> None:
    assert [each for seed in range(6) for each in clients_come_back(seed)][:2] == []


# --- history ---------------------------------------------------------------------------------------------


def history_does_not_matter(seed: int) -> None:
    """By changes a node comes to what it has where all is made anew: for every packet, once the time is over
    for which other nodes are asked about slots that have moved."""
    node = RandomNode(seed)
    held = InForce(node.plan)
    table = SimTable.of(held.text)
    for _ in range(3):
        table = table.amended(held.follow(node.change()))
    anew = SimTable.of(InForce(node.plan).text)
    changed, fresh = (_later(each) for each in (table, anew))
    for sport in range(20000, 20060):
        sent, link = node.packet(sport)
        both = [each.receive(sent, link) if link else each.send(sent) for each in (changed, fresh)]
        assert set(both[0]) == set(both[1]), f"seed {seed}: {sent} by {link}"


def _later(table: SimTable) -> SimStack:
    return SimStack(twin(), lambda: table, dict, now=lambda: LATER)


@pytest.mark.parametrize("ten", range(3))
def test_history_does_not_matter(ten: int) -> None:
    for seed in range(10 * ten, 10 * ten + 10):
        history_does_not_matter(seed)


@pytest.mark.soak
@pytest.mark.parametrize("batch", range(1, 21))
def test_history_does_not_matter_for_longer(batch: int) -> None:
    for seed in range(50 * batch, 50 * batch + 50):
        history_does_not_matter(seed)


# --- controls --------------------------------------------------------------------------------------------


def test_a_wrong_look_up_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = sets.NamedSet.get

    def get(self: sets.NamedSet, key: object, now: float) -> object:
        """Those of an odd port are not found."""
        odd = isinstance(key, tuple) and any(isinstance(each, int) and each % 2 for each in key[1:])
        return None if odd else real(self, key, now)

    monkeypatch.setattr(sets.NamedSet, "get", get)
    assert called_by_documents(range(1), 10)


def test_what_is_accepted_in_place_of_a_drop_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "ACCEPT", DROP)
    assert judged_as_said(range(3))


def test_a_change_that_is_lost_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = SimTable.amended

    def amended(self: SimTable, text: str) -> SimTable:
        return self if self.tables else real(self, text)

    monkeypatch.setattr(SimTable, "amended", amended)
    with pytest.raises(AssertionError):
        for seed in range(5):
            history_does_not_matter(seed)
