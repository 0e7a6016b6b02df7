"""The kernel lets pass what the suites' truth tables say, between real pods on two nodes, both families."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from policy_net import PolicyNet, Probe
from random_policies import Place, cluster
from truth import ADDRESSES, GRID_PODS, PODS, Case, World, cases, cluster_policy, labels

from l3net.naming import LABEL_TENANT
from l3net.policy.attached import Attached
from l3net.policy.book import PolicyBook
from l3net.policy.known_state import KnownState
from l3net.policy.verdict import verdict

pytestmark = pytest.mark.netns

ALL = cases()
PLACES = [Place(pod.node, ADDRESSES[name]) for name, pod in PODS.items() if not pod.host][:14]
NODES = [Place(node, ADDRESSES[name]) for node, name in (("n1", "forest/p0"), ("n2", "forest/p1"))]
_NAME = {address: name for name, addresses in ADDRESSES.items() for address in addresses}
#: Clusters of a batch, and packets of each.
CLUSTERS, PACKETS = 125, 30
SUITES = ("kubernetes", "network-policy-api", "policy-assistant")


@pytest.fixture(scope="module")
def net() -> Iterator[PolicyNet]:
    made = PolicyNet()
    yield made
    made.close()


def probes(case: Case, place: int) -> dict[Probe, bool]:
    step = case.steps[place]
    return {
        (each.source, each.destination, each.port[1], each.port[0], version): each.allowed
        for each in case.checks(step, case.ports)
        if each.source != each.destination
        for version in (4, 6)
    }


@pytest.mark.parametrize(
    ("suite", "every"),
    [
        *((suite, 1) for suite in SUITES[:2]),
        (SUITES[2], 4),
        pytest.param(SUITES[2], 1, marks=pytest.mark.soak),
    ],
)
def test_the_kernel_does_as_the_suites_say(net: PolicyNet, suite: str, every: int) -> None:
    """Each case follows the one before it, by what has changed alone. Of the 230 generated ones `make test`
    has every fourth, and the first of each kind."""
    wrong: list[str] = []
    kinds: set[str] = set()
    for at, case in enumerate(each for each in ALL if each.suite == suite):
        if at % every and case.source in kinds:
            continue
        kinds.add(case.source)
        for place, step in enumerate(case.steps):
            net.apply(step.documents)
            found = net.wrong(probes(case, place))
            wrong += [f"{case.name} {step.name}: {each}" for each in found]
    assert wrong[:8] == [], len(wrong)


@pytest.mark.parametrize(
    "batch", [0, *(pytest.param(batch, marks=pytest.mark.soak) for batch in range(1, 80))]
)
def test_the_kernel_does_as_the_verdict_says(net: PolicyNet, batch: int) -> None:
    """Random clusters, one after the other in place, and packets at the edges of what their policies say; in
    `make soak` 10,000."""
    wrong: list[str] = []
    for seed in range(batch * CLUSTERS, (batch + 1) * CLUSTERS):
        made = cluster(seed, places=PLACES, nodes=NODES, outside=(), packets=PACKETS)
        net.follow(made.state)
        known = KnownState(made.state)
        wanted: dict[Probe, bool] = {}
        for packet in made.packets:
            ends = _NAME[packet.source], _NAME[packet.destination]
            if ends[0] != ends[1]:
                probe = (*ends, packet.protocol, packet.port, packet.source.version)
                wanted[probe] = verdict(known, packet).allowed
        found = net.wrong(wanted)
        wrong += [f"seed {seed}: {each}" for each in found]
    assert wrong[:8] == [], len(wrong)


def test_history_does_not_matter(net: PolicyNet) -> None:
    """What came about by changes is what is made anew of the same state."""
    node = net.nodes["n1"]
    for seed in range(40):
        net.follow(cluster(1000 + seed, places=PLACES, nodes=NODES, packets=0).state)
        fresh = PolicyBook()
        for name, space in node.state.namespaces.items():
            fresh.put_namespace(name, space.labels)
        for key, policy in {
            **{(False, each.name): each for each in node.state.cluster_policies.values()},
            **{(True, each.name): each for each in node.state.policies.values()},
        }.items():
            fresh.put_policy(key, policy)
        for pod in node.state.pods.values():
            if pod.node == node.name and not pod.host_network and not pod.finished:
                fresh.attach(str(pod.name), Attached(pod.name, pod.addresses))
            fresh.put_pod(pod.name, pod)
        for name, each in node.state.nodes.items():
            fresh.put_node(name, each)
        fresh.settle()
        held, wanted = node.book.contents, fresh.contents
        assert held.chains == wanted.chains and held.counters == wanted.counters
        assert {name: (each.of, each.elements) for name, each in held.sets.items()} == {
            name: (each.of, each.elements) for name, each in wanted.sets.items()
        }


def test_tenants_are_apart_by_a_label(net: PolicyNet) -> None:
    """x and w are one tenant's, y is another's, z is shared; a rule of an administrator goes before that."""
    tenants = {"x": "red", "w": "red", "y": "blue"}
    spaces = {name: {LABEL_TENANT: tenant} for name, tenant in tenants.items()}
    there = [*GRID_PODS, "w/a"]
    probes = {
        (source, destination, protocol, 80, version)
        for source in there
        for destination in there
        if source != destination
        for protocol in ("tcp", "udp", "sctp")
        for version in (4, 6)
    }

    def apart(source: str, destination: str) -> bool:
        one, other = (tenants.get(name.split("/")[0]) for name in (source, destination))
        return one is not None and other is not None and one != other

    step = World().step("", namespaces=spaces, later=["w/a"])
    net.apply(step.documents)
    assert net.wrong({probe: not apart(probe[0], probe[1]) for probe in probes}) == []
    pods_a = {"pods": {"namespaceSelector": {}, "podSelector": labels(pod="a")}}
    exempt = cluster_policy(
        "exempt",
        "Admin",
        10,
        {"namespaces": {}},
        ingress=[{"action": "Accept", "from": [pods_a]}],
        egress=[{"action": "Accept", "to": [{"namespaces": {}}]}],
    )
    net.apply([*step.others, exempt])
    assert net.wrong({probe: not apart(probe[0], probe[1]) or probe[0][2] == "a" for probe in probes}) == []
    net.apply(World().step("", later=["w/a"]).documents)  # the control: without the labels
    assert net.wrong(dict.fromkeys(probes, True)) == []
