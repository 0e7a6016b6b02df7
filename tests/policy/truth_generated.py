"""Every dimension of a NetworkPolicy around one that stands in the middle: what policy-assistant (cyclonus,
kubernetes-sigs/network-policy-api) generates, 230 cases, written anew.

Each value of a dimension comes with what it means, as pods or ports; the matrix of a case is the union of
what its rules mean, over nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from itertools import combinations
from typing import Any

from truth import GRID, GRID_PODS, Case, Document, Port, Step, World, among, labels, net_policy

SUITE = "policy-assistant"
#: Pods that rules mean, as patterns.
Pods = tuple[str, ...]
ANYONE: Pods = ("*",)


@dataclass(frozen=True)
class Peers:
    """Peers of a rule; no manifests: anyone."""

    name: str
    manifests: tuple[Document, ...]
    pods: Pods


@dataclass(frozen=True)
class Ports:
    """Ports of a rule; no manifests: all."""

    name: str
    manifests: tuple[Document, ...]
    ports: tuple[Port, ...]


@dataclass(frozen=True)
class Rule:
    peers: Peers
    ports: Ports

    def manifest(self, side: str) -> Document:
        found: Document = {}
        if self.peers.manifests or self.peers.name == "empty":
            found[side] = list(self.peers.manifests)
        if self.ports.manifests or self.ports.name == "empty":
            found["ports"] = list(self.ports.manifests)
        return found


NOBODY_IN_PARTICULAR = Peers("", (), ANYONE)
EVERY_PORT = Ports("", (), GRID)


def _of(*protocols: str, numbers: Iterable[int] = (80, 81)) -> tuple[Port, ...]:
    return tuple((number, protocol) for protocol in protocols for number in numbers)


TCP80 = Ports("80/tcp", ({"protocol": "TCP", "port": 80},), _of("tcp", numbers=[80]))
DNS = Rule(
    NOBODY_IN_PARTICULAR,
    Ports("53", ({"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}), ()),
)
OPEN = Rule(NOBODY_IN_PARTICULAR, EVERY_PORT)
AB, BC = among("pod", "In", "a", "b"), among("pod", "In", "b", "c")
XY, YZ = among("ns", "In", "x", "y"), among("ns", "In", "y", "z")
A = labels(pod="a")


@dataclass(frozen=True)
class Net:
    """A NetworkPolicy and what it means: the pods it is for, and its rules, None: all passes."""

    name: str
    namespace: str
    selector: Document
    subjects: Pods
    ingress: tuple[Rule, ...] | None = None
    egress: tuple[Rule, ...] | None = None

    def manifest(self) -> Document:
        ingress = None if self.ingress is None else [each.manifest("from") for each in self.ingress]
        egress = None if self.egress is None else [each.manifest("to") for each in self.egress]
        return net_policy(self.namespace, self.name, self.selector, ingress=ingress, egress=egress)


BASE = Net(
    "base",
    "x",
    A,
    ("x/a",),
    (Rule(Peers("", ({"podSelector": BC, "namespaceSelector": XY},), ("x/[bc]", "y*/[bc]")), TCP80),),
    (Rule(Peers("", ({"podSelector": AB, "namespaceSelector": YZ},), ("y*/[ab]", "z/[ab]")), TCP80), DNS),
)


def meant(*policies: Net) -> str:
    """The matrix of policies together, each of which is for the same pods as any other of its direction."""
    found = []
    for rules, subject in _together((each.egress, each.subjects) for each in policies):
        found.append(f"- {subject} > *")
        found += [
            f"+ {subject} > {','.join(each.peers.pods)} @{_shown(each.ports.ports)}"
            for each in rules
            if each.peers.pods and each.ports.ports
        ]
    for rules, subject in _together((each.ingress, each.subjects) for each in policies):
        for port in GRID:
            pods = {pod for each in rules if port in each.ports.ports for pod in each.peers.pods}
            found.append(f"! {','.join(sorted(pods)) or 'nobody'} > {subject} @{_shown([port])}")
    return "\n".join(found)


def _together(said: Iterable[tuple[tuple[Rule, ...] | None, Pods]]) -> Iterator[tuple[list[Rule], str]]:
    """All rules of a direction, by the pods that they are for."""
    found: dict[Pods, list[Rule]] = {}
    for rules, subjects in said:
        if rules is not None:
            found.setdefault(subjects, []).extend(rules)
    assert len(found) <= 1
    for subjects, together in found.items():
        yield together, ",".join(subjects)


def _shown(ports: Iterable[Port]) -> str:
    return ",".join(f"{number}/{protocol}" for number, protocol in ports)


def _peers(world: World) -> list[Peers]:
    """Eight ways to name pods, and two blocks: one around z/c's addresses, one without those next to it."""
    every: Document = {}
    c, x = labels(pod="c"), labels(ns="x")

    def selected(name: str, pods: Document | None, namespaces: Document | None, *meant: str) -> Peers:
        found = {} if pods is None else {"podSelector": pods}
        found |= {} if namespaces is None else {"namespaceSelector": namespaces}
        return Peers(name, (found,), meant)

    wide, narrow = world.blocks("z/c", 24, 120), world.blocks("z/c", 28, 124)
    simple = tuple({"ipBlock": {"cidr": each}} for each in wide)
    excepted = tuple(
        {"ipBlock": {"cidr": cidr, "except": [one]}} for cidr, one in zip(wide, narrow, strict=True)
    )
    inside = {name for name in GRID_PODS if _within(world, name, wide)}
    near = {name for name in GRID_PODS if _within(world, name, narrow)}
    return [
        selected("all pods of the policy's namespace", every, None, "x/*"),
        selected("pods by label", c, None, "x/c"),
        selected("all namespaces", None, every, *ANYONE),
        selected("all pods of all namespaces", every, every, *ANYONE),
        selected("pods by label of all namespaces", c, every, "*/c"),
        selected("a namespace by label", None, x, "x/*"),
        selected("all pods of a namespace by label", every, x, "x/*"),
        selected("pods by label of a namespace by label", c, x, "x/c"),
        Peers("a block", simple, tuple(sorted(inside))),
        Peers("a block with an exception", excepted, tuple(sorted(inside - near))),
    ]


def _within(world: World, name: str, blocks: Sequence[str]) -> bool:
    """Whether a pod's addresses are in blocks, of both families or of none."""
    found = {
        ip_address(address) in ip_network(block)
        for address, block in zip(world.addresses[name], blocks, strict=True)
    }
    assert len(found) == 1, "an address plan where families differ has no one matrix"
    return found.pop()


def _port(name: str, ports: tuple[Port, ...], **manifest: Any) -> Ports:
    return Ports(name, (manifest,), ports)


def _single_ports() -> Iterator[Ports]:
    for protocol in ("", "tcp", "udp", "sctp"):
        for number in (0, 80, 81):
            manifest: Document = {"protocol": protocol.upper()} if protocol else {}
            manifest |= {"port": number} if number else {}
            meant = _of(protocol or "tcp", numbers=[number] if number else (80, 81))
            yield Ports(f"{number or 'any'}/{protocol or 'no protocol'}", (manifest,), meant)
    for protocol in ("tcp", "udp", "sctp"):
        for number in (80, 81):
            name = f"serve-{number}-{protocol}"
            yield _port(name, _of(protocol, numbers=[number]), protocol=protocol.upper(), port=name)
    for protocol in ("tcp", "udp", "sctp"):
        for last, numbers in ((80, [80]), (84, [80, 81])):
            manifest = {"protocol": protocol.upper(), "port": 53, "endPort": last}
            yield Ports(f"53-{last}/{protocol}", (manifest,), _of(protocol, numbers=numbers))
    yield _port("a name of another protocol", (), protocol="TCP", port="serve-81-udp")
    yield _port("a name that no pod has", (), protocol="TCP", port="serve-7981-udp")
    yield _port("a port that no pod serves", (), protocol="TCP", port=7981)


def _two_ports() -> Iterator[Ports]:
    pairs: list[tuple[list[Document], tuple[Port, ...]]] = [
        ([{}, {"port": 80}], _of("tcp")),
        ([{}, {"port": "serve-80-tcp"}], _of("tcp")),
        ([{}, {"protocol": "UDP"}], _of("tcp", "udp")),
        ([{"port": 80}, {"port": 81}], _of("tcp")),
        ([{"port": 80}, {"port": "serve-81-tcp"}], _of("tcp")),
        ([{"port": 80}, {"protocol": "UDP", "port": "serve-81-udp"}], ((80, "tcp"), (81, "udp"))),
        ([{"protocol": "UDP", "port": 80}, {"protocol": "UDP", "port": "serve-81-udp"}], _of("udp")),
    ]
    for manifests, ports in pairs:
        name = " and ".join(f"{each.get('port', 'any')}/{each.get('protocol', '')}" for each in manifests)
        yield Ports(name, tuple(manifests), ports)


Row = tuple[str, list[Step]]


def _with(side: str, **change: Any) -> Net:
    """The base with its first rule of a direction changed."""
    rules = BASE.ingress if side == "ingress" else BASE.egress
    assert rules is not None
    changed = (replace(rules[0], **change), *rules[1:])
    return replace(BASE, ingress=changed) if side == "ingress" else replace(BASE, egress=changed)


class Generator:
    """All rows over one world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def step(self, *policies: Net, **more: Any) -> Step:
        return self.world.step(meant(*policies), *(each.manifest() for each in policies), **more)

    def targets(self) -> Iterator[Row]:
        for namespace in "xyz":
            changed = replace(BASE, namespace=namespace, subjects=(f"{namespace}/a",))
            yield f"target: namespace {namespace}", [self.step(changed)]
        for name, selector, subjects in (("all", {}, "x/*"), ("a", A, "x/a"), ("a and b", AB, "x/[ab]")):
            changed = replace(BASE, selector=selector, subjects=(subjects,))
            yield f"target: pods {name}", [self.step(changed)]

    def rules(self) -> Iterator[Row]:
        for name, rules in (("deny all", ()), ("allow all", (OPEN,))):
            yield f"egress: {name}", [self.step(replace(BASE, egress=rules))]
            yield f"ingress: {name}", [self.step(replace(BASE, ingress=rules))]

    def peers(self) -> Iterator[Row]:
        ways = _peers(self.world)
        empty = Peers("empty", (), ANYONE)
        pairs = [
            Peers(f"{one.name}, {two.name}", one.manifests + two.manifests, one.pods + two.pods)
            for one, two in combinations(ways, 2)
        ]
        for side in ("ingress", "egress"):
            for peers in (empty, *ways, *pairs):
                yield f"{side}, peers: {peers.name}", [self.step(_with(side, peers=peers))]

    def ports(self) -> Iterator[Row]:
        empty = Ports("empty", (), GRID)
        for side in ("egress", "ingress"):
            for ports in (empty, *_single_ports(), *_two_ports()):
                yield f"{side}, ports: {ports.name}", [self.step(_with(side, ports=ports))]

    def example(self) -> Iterator[Row]:
        named = Ports("", ({"port": "serve-81-tcp"},), ((81, "tcp"),))
        policy = Net("named", "x", labels(), ("x/*",), (Rule(NOBODY_IN_PARTICULAR, named),))
        steps = [self.step(policy), self.step(policy, later=["w/a"]), self.step(policy)]
        yield "a pod and its namespace come and go", steps

    def actions(self) -> Iterator[Row]:
        without = self.world.step("")
        yield "a policy comes and goes", [self.step(BASE), without]
        named = Ports("", ({"protocol": "UDP", "port": "serve-81-udp"},), ((81, "udp"),))
        yield "a policy changes", [self.step(BASE), self.step(_with("ingress", ports=named))]
        new = self.step(BASE, later=["y-2/a", "y-2/b"])
        yield "a namespace comes and goes", [self.step(BASE), new, self.step(BASE)]
        wanted: Document = {"namespaceSelector": labels(new="qrs")}
        before, after = (_with("ingress", peers=Peers("", (wanted,), pods)) for pods in ((), ("y/*",)))
        changed = self.step(after, namespaces={"y": {"ns": "y", "new": "qrs"}})
        yield "a namespace gets a label and loses it", [self.step(before), changed, self.step(before)]
        yield "a pod comes and goes", [self.step(BASE), self.step(BASE, later=["x/d"]), self.step(BASE)]
        wanted = {"podSelector": labels(new="abc"), "namespaceSelector": YZ}
        before, after = (_with("ingress", peers=Peers("", (wanted,), pods)) for pods in ((), ("y/b",)))
        changed = self.step(after, pods={"y/b": {"pod": "b", "new": "abc"}})
        yield "a pod gets a label and loses it", [self.step(before), changed, self.step(before)]

    def conflicts(self) -> Iterator[Row]:
        """Policies that allow and policies that leave closed, for one pod, or at both ends."""
        every = Rule(Peers("", ({"namespaceSelector": {}},), ANYONE), EVERY_PORT)
        blocks = tuple({"ipBlock": {"cidr": each}} for each in ("0.0.0.0/0", "::/0"))
        anywhere = Rule(Peers("", blocks, ANYONE), EVERY_PORT)
        blocks = tuple({"ipBlock": {"cidr": each}} for each in ("0.0.0.0/31", "::/127"))
        nowhere = Rule(Peers("", blocks, ()), EVERY_PORT)
        never: Document = {"namespaceSelector": labels(never="qrs")}
        nobody = Rule(Peers("", (never,), ()), EVERY_PORT)

        def source(name: str, *rules: Rule) -> Net:
            return Net(name, "x", labels(pod="b"), ("x/b",), egress=rules)

        def target(name: str, *rules: Rule) -> Net:
            return Net(name, "y", labels(pod="c"), ("y/c",), ingress=rules)

        dns = source("dns", DNS)
        yield "egress closed, ingress open", [self.step(source("s"), target("t", OPEN), dns)]
        yield "egress open, ingress closed", [self.step(source("s", OPEN), target("t"), dns)]
        ways = [
            ("closed + open", (), (OPEN,)),
            ("closed + all pods", (), (every,)),
            ("closed + all addresses", (), (anywhere,)),
            ("no address + all pods", (nowhere,), (every,)),
            ("no pod + all addresses", (nobody,), (anywhere,)),
        ]
        for name, one, two in ways:
            yield f"egress: {name}", [self.step(source("one", *one), source("two", *two), dns)]
            yield f"ingress: {name}", [self.step(target("one", *one), target("two", *two))]
        for name, rule in (("no address", nowhere), ("no pod", nobody)):
            yield f"egress: {name}", [self.step(source("one", rule), dns)]
            yield f"ingress: {name}", [self.step(target("one", rule))]

    def namespaces(self) -> Iterator[Row]:
        selector = labels(**{"kubernetes.io/metadata.name": "z"})
        peers = Peers("", ({"namespaceSelector": selector},), ("z/*",))
        for side in ("ingress", "egress"):
            yield f"{side}: a namespace by its name", [self.step(_with(side, peers=peers))]

    def upstream(self) -> Iterator[Row]:
        """Kubernetes' own cases that are among them, as they stand there."""
        import truth_kubernetes

        wanted = (
            "deny ingress",
            "deny all",
            "several pods, several namespaces",
            "stacked policies",
            "allow all",
            "ingress, a named port",
            "an updated policy",
            "an updated namespace",
            "an updated pod as a peer",
            "an updated pod as subject",
            "both directions",
            "the client's side denies",
            "a deleted policy",
        )
        theirs = {each.name: each for each in truth_kubernetes.cases(self.world)}
        for name in wanted:
            yield f"upstream: {name}", list(theirs[name].steps)


def cases(world: World) -> Iterator[Case]:
    made = Generator(world)
    groups = {
        "TargetTestCases": made.targets(),
        "RulesTestCases": made.rules(),
        "PeersTestCases": made.peers(),
        "PortProtocolTestCases": made.ports(),
        "ExampleTestCases": made.example(),
        "ActionTestCases": made.actions(),
        "ConflictTestCases": made.conflicts(),
        "NamespaceTestCases": made.namespaces(),
        "UpstreamE2ETestCases": made.upstream(),
    }
    for source, rows in groups.items():
        for name, steps in rows:
            yield Case(SUITE, name, source, GRID_PODS, GRID, tuple(steps))
