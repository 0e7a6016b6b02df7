"""Truth tables of network policies: what public suites say of who reaches whom, as data.

`cases()` gives all of them over one fixed set of pods (PODS), which a test may declare as facts or make for
real. A case is a list of steps; each step is a whole state (`documents`) and a matrix (`expected`). Policies
that name addresses are written for the addresses that the pods have: hand others in where they are others'.

A matrix is written as a few lines, each an exception from what stands above it, all allowed at first:

    - * > x/*                     nobody reaches the pods of x
    + y/a,y/b > x/a @81/tcp       but these do, on this port
    ! y/a > x/b @80/tcp           of those who reached x/b on this port so far, only y/a still does

Names are patterns, several separated by commas. A pod always reaches itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, TypeAlias

Document: TypeAlias = dict[str, Any]
Address: TypeAlias = IPv4Address | IPv6Address
Addresses: TypeAlias = Mapping[str, Sequence[Address]]
#: A destination port: number and protocol.
Port: TypeAlias = tuple[int, str]


@dataclass(frozen=True)
class TruthPod:
    """A pod of the fixed set: `name` is namespace/name; `ports` are those that it serves, by their names, if
    they have any. `host`: on its node's network. `later`: not there at the beginning of a case."""

    name: str
    node: str
    labels: Mapping[str, str]
    ports: tuple[tuple[Port, str], ...]
    host: bool = False
    later: bool = False

    @property
    def serves(self) -> tuple[Port, ...]:
        return tuple(port for port, _ in self.ports)


def _ports(text: str) -> tuple[Port, ...]:
    """Of 80/tcp,53/udp."""
    return tuple((int(each.split("/")[0]), each.split("/")[1]) for each in text.split(","))


GRID = _ports("80/tcp,81/tcp,80/udp,81/udp,80/sctp,81/sctp")
HOUSE = _ports("80/tcp,8080/tcp,53/udp,5353/udp,9003/sctp,9005/sctp")
FOREST = _ports("34345/tcp,34346/tcp,34347/udp,34348/udp,34349/sctp,34350/sctp")
HOUSES = ("gryffindor", "slytherin", "hufflepuff", "ravenclaw")

#: Namespaces and their labels. w and y-2 come later in some cases.
NAMESPACES: Mapping[str, Mapping[str, str]] = {
    **{name: {"kubernetes.io/metadata.name": name, "ns": name} for name in ("x", "y", "z", "w")},
    "y-2": {"kubernetes.io/metadata.name": "y-2", "ns": "y"},
    **{name: {"kubernetes.io/metadata.name": name, "house": name} for name in (*HOUSES, "forest")},
}
LATER_NAMESPACES = ("w", "y-2")


def _pods() -> Iterator[TruthPod]:
    named = tuple(((number, protocol), f"serve-{number}-{protocol}") for number, protocol in GRID)
    for place, name in enumerate(f"{ns}/{pod}" for ns in "xyz" for pod in "abc"):
        yield TruthPod(name, f"n{place % 2 + 1}", {"pod": name[-1]}, named)
    for place, name in enumerate(("x/d", "y-2/a", "y-2/b", "w/a")):
        yield TruthPod(name, f"n{place % 2 + 1}", {"pod": name[-1]}, named, later=True)
    names = {(80, "tcp"): "web", (53, "udp"): "dns"}
    served = tuple((port, names.get(port, "")) for port in HOUSE)
    for house in HOUSES:
        for place in (0, 1):
            yield TruthPod(f"{house}/p{place}", f"n{place + 1}", {"house": house}, served)
    on_host = tuple((port, "") for port in FOREST)
    for place in (0, 1):
        yield TruthPod(f"forest/p{place}", f"n{place + 1}", {"house": "forest"}, on_host, host=True)


PODS: Mapping[str, TruthPod] = {pod.name: pod for pod in _pods()}
#: The pods of Kubernetes' own suite, and of what policy-assistant generates.
GRID_PODS = tuple(name for name, pod in PODS.items() if name[0] in "xyz" and not pod.later)
#: Those of the network-policy-api's.
HOUSE_PODS = tuple(name for name in PODS if name.split("/")[0] in (*HOUSES, "forest"))


def _addresses() -> Iterator[tuple[str, tuple[Address, ...]]]:
    for place, pod in enumerate(PODS.values(), 2):
        node = pod.node[1:]
        if pod.host:
            yield pod.name, (ip_address(f"192.0.2.{node}"), ip_address(f"2001:db8::{node}"))
        else:
            yield pod.name, (ip_address(f"10.244.{node}.{place}"), ip_address(f"fd00:244:{node}::{place:x}"))


#: Where nobody says otherwise. Those of a pod on its node's network are the node's.
ADDRESSES: Addresses = dict(_addresses())


@dataclass(frozen=True)
class Line:
    """One line of a matrix. Without ports it is for all of them."""

    sign: str
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    ports: tuple[Port, ...] = ()

    def say(self, allowed: bool, source: str, destination: str, port: Port) -> bool:
        """What holds after this line, of what held before it."""
        if (self.ports and port not in self.ports) or not _is_one(destination, self.destinations):
            return allowed
        named = _is_one(source, self.sources)
        if self.sign == "!":
            return allowed and named
        return self.sign == "+" if named else allowed


@cache
def _is_one(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, each) for each in patterns)


@cache
def matrix(text: str) -> tuple[Line, ...]:
    """The lines of a matrix, from the notation above."""
    found = []
    for line in filter(None, (each.strip() for each in text.splitlines())):
        sign, rest = line[0], line[1:].strip()
        pair, _, ports = rest.partition("@")
        sources, arrow, destinations = pair.partition(">")
        assert sign in "+-!" and arrow, line
        names = (tuple(each.strip() for each in part.split(",")) for part in (sources, destinations))
        found.append(Line(sign, *names, _ports(ports.strip()) if ports else ()))
    return tuple(found)


@dataclass(frozen=True)
class Check:
    """One cell of a matrix."""

    source: str
    destination: str
    port: Port
    allowed: bool


@dataclass(frozen=True)
class Step:
    """A state and who reaches whom in it. `policies` are the policies' manifests, `others` those of nodes,
    namespaces and pods; `pods` are the names of those that are there."""

    name: str
    policies: tuple[Document, ...]
    others: tuple[Document, ...]
    pods: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def documents(self) -> list[Document]:
        return [*self.others, *self.policies]

    def expected(self, source: str, destination: str, port: int, protocol: str) -> bool:
        if source == destination:
            return True
        allowed = True
        for line in self.lines:
            allowed = line.say(allowed, source, destination, (port, protocol))
        return allowed


@dataclass(frozen=True)
class Case:
    """A test of a suite: `source` is its name there. `pods` are those it is about, `ports` what the suite
    itself tries (the matrix holds for every port that a pod serves)."""

    suite: str
    name: str
    source: str
    pods: tuple[str, ...]
    ports: tuple[Port, ...]
    steps: tuple[Step, ...]

    @property
    def documents(self) -> list[Document]:
        """Of the first step."""
        return self.steps[0].documents

    def expected(self, source: str, destination: str, port: int, protocol: str) -> bool:
        """In the first step."""
        return self.steps[0].expected(source, destination, port, protocol)

    def checks(self, step: Step, ports: Iterable[Port] | None = None) -> Iterator[Check]:
        """All cells of a step, over the ports that the destination serves, or those among them. The pods that
        come later are in it while they are there."""
        wanted = None if ports is None else set(ports)
        there = [name for name in step.pods if name in self.pods or PODS[name].later]
        for destination in there:
            for number, protocol in PODS[destination].serves:
                if wanted is None or (number, protocol) in wanted:
                    for source in there:
                        if not PODS[source].host:
                            allowed = step.expected(source, destination, number, protocol)
                            yield Check(source, destination, (number, protocol), allowed)


@dataclass
class World:
    """Makes steps over the fixed pods, at given addresses."""

    addresses: Addresses = field(default_factory=lambda: ADDRESSES)

    def step(
        self,
        expected: str,
        *policies: Document,
        name: str = "",
        namespaces: Mapping[str, Mapping[str, str]] | None = None,
        pods: Mapping[str, Mapping[str, str]] | None = None,
        later: Sequence[str] = (),
    ) -> Step:
        """`namespaces` and `pods`: what has other labels than it had, and `later` pods that are there now."""
        spaces = {ns: labels for ns, labels in NAMESPACES.items() if ns not in LATER_NAMESPACES}
        spaces |= {each.split("/")[0]: NAMESPACES[each.split("/")[0]] for each in later}
        for ns, labels in (namespaces or {}).items():
            spaces[ns] = {"kubernetes.io/metadata.name": ns, **labels}
        there = [pod for pod in PODS.values() if not pod.later or pod.name in later]
        others = [*self._nodes(), *(_namespace(ns, labels) for ns, labels in spaces.items())]
        others += [self.pod(pod.name, labels=(pods or {}).get(pod.name)) for pod in there]
        return Step(name, policies, tuple(others), tuple(pod.name for pod in there), matrix(expected))

    def pod(self, name: str, *, labels: Mapping[str, str] | None = None) -> Document:
        """A pod's manifest, as the API server has it."""
        of = PODS[name]
        namespace, short = name.split("/")
        ports = [
            {"containerPort": number, "protocol": protocol.upper(), **({"name": called} if called else {})}
            for (number, protocol), called in of.ports
        ]
        texts = [str(each) for each in self.addresses[name]]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": namespace, "name": short, "labels": dict(labels or of.labels)},
            "spec": {
                "nodeName": of.node,
                "hostNetwork": of.host,
                "containers": [{"name": "server", "image": "server", "ports": ports}],
            },
            "status": {"phase": "Running", "podIP": texts[0], "podIPs": [{"ip": each} for each in texts]},
        }

    def _nodes(self) -> Iterator[Document]:
        for pod in PODS.values():
            if pod.host:
                yield {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {"name": pod.node, "labels": {"kubernetes.io/os": "linux"}},
                    "spec": {},
                    "status": {
                        "addresses": [
                            {"type": "InternalIP", "address": str(each)} for each in self.addresses[pod.name]
                        ]
                    },
                }

    def blocks(self, name: str, v4: int = 32, v6: int = 128) -> list[str]:
        """The prefixes of these lengths that hold a pod's addresses."""
        return [
            f"{ip_address(int(each) >> (bits := each.max_prefixlen - length) << bits)}/{length}"
            for each in self.addresses[name]
            for length in [v4 if each.version == 4 else v6]
        ]


def _namespace(name: str, labels: Mapping[str, str]) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}


def net_policy(
    namespace: str,
    name: str,
    pods: Document | None,
    *,
    ingress: Sequence[Document] | None = None,
    egress: Sequence[Document] | None = None,
) -> Document:
    """A NetworkPolicy; the directions that are given are its policyTypes."""
    spec: Document = {"podSelector": pods, "policyTypes": []}
    for kind, rules in (("Ingress", ingress), ("Egress", egress)):
        if rules is not None:
            spec["policyTypes"].append(kind)
            spec[kind.lower()] = list(rules)
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def cluster_policy(
    name: str,
    tier: str,
    priority: int,
    subject: Document,
    *,
    ingress: Sequence[Document] = (),
    egress: Sequence[Document] = (),
) -> Document:
    """A ClusterNetworkPolicy."""
    spec = {"tier": tier, "priority": priority, "subject": subject}
    spec |= {"ingress": list(ingress)} if ingress else {}
    spec |= {"egress": list(egress)} if egress else {}
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def labels(**pairs: str) -> Document:
    """A selector by labels; none: of everything."""
    return {"matchLabels": pairs} if pairs else {}


def among(key: str, operator: str, *values: str) -> Document:
    """A selector by one expression."""
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def cases(addresses: Addresses | None = None) -> list[Case]:
    """All cases of all suites."""
    import truth_cluster
    import truth_generated
    import truth_kubernetes

    world = World(addresses if addresses is not None else ADDRESSES)
    return [
        case for suite in (truth_kubernetes, truth_cluster, truth_generated) for case in suite.cases(world)
    ]
