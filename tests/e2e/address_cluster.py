"""Two nodes whose pods have a floating address, or leave with an egress address, all the while in traffic.

A step does something, says what is to be afterwards, and looks at every packet and answer from its beginning
to its end: no pod's packet may have left with an address that was right neither before nor after, and no pod
may have answered that had the address neither before nor after.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import address_traffic
import yaml
from address_rig import Rig, own, pools
from address_traffic import LOST, STREAMS, WAYS
from small_lab import RACK

from l3net.lab.host import Host, python
from l3net.lab.machine import LabPod
from l3net.lab.manifests import cluster_manifests
from l3net.lab.nodes import node_environment
from l3net.lab.pods import add_pod, delete_pod, find_plugin, read_pod
from l3net.lab.up import Lab

NODES = ("n1", "n2")
#: Two pods for floating addresses, and two that leave with egress addresses.
PODS = {"web-1": "n1", "web-2": "n2", "out-1": "n1", "out-2": "n2"}
TOPOLOGY: dict[str, Any] = {
    **RACK,
    "nodes": [{"name": node, "pods": [pod for pod, at in PODS.items() if at == node]} for node in NODES],
}
FLOATING = {4: "203.0.113.10", 6: "2001:db8:f::10"}
#: Both are at home on n2 (rendezvous hashing).
EGRESS = {4: "198.51.100.10", 6: "2001:db8:e::10"}
HOME = "n2"
ANSWERS = 7001
#: Where each pod asks outside: what leaves is told apart by it.
PORTS = {pod: 7101 + number for number, pod in enumerate(PODS)}
NOTHING: frozenset[str] = frozenset()
_SECONDS = 40.0

#: Connections that are translated. What a client sends to an address that routers know still and nobody has
#: is forwarded, and tracked as it is for half a minute.
_TRACKED = """
import socket, sys
from ipaddress import ip_address
from l3net.shell.kernel.conntrack import CT_GET, CTA_STATUS, IPS_DST_NAT, IPS_SRC_NAT, NFGENMSG
from l3net.shell.kernel.netlink import NETLINK_NETFILTER, Netlink, Request, attributes
wanted = [ip_address(each).packed for each in sys.argv[1:]]
with Netlink(NETLINK_NETFILTER) as netlink:
    for family in (socket.AF_INET, socket.AF_INET6):
        for _, body in netlink.dump(Request(CT_GET, 0, NFGENMSG.pack(family, 0, 0))):
            parts = dict(attributes(memoryview(body)[NFGENMSG.size :]))
            status = int.from_bytes(parts[CTA_STATUS], "big")
            if status & (IPS_SRC_NAT | IPS_DST_NAT) and any(each in body for each in wanted):
                print(body.hex())
"""


@dataclass
class Declared:
    """A pod as it is declared."""

    name: str
    node: str
    since: int
    ready: bool = True
    addresses: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        stamp = f"2026-01-01T00:00:{self.since:02}Z"
        condition = {"type": "Ready", "status": str(self.ready), "lastTransitionTime": stamp}
        status = {
            "phase": "Running",
            "podIPs": [{"ip": each} for each in self.addresses],
            "conditions": [condition],
        }
        labels = {"app": self.name.partition("-")[0], "pod": self.name}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": "default", "name": self.name, "labels": labels},
            "spec": {"nodeName": self.node},
            "status": status if self.addresses else {"phase": "Pending"},
        }


@dataclass(frozen=True)
class Expected:
    """`holder`: the pod that answers at the floating addresses, `at`: the node that announces them, `by`: the
    one that announces the egress addresses; `leaving`: with which addresses a pod's packets arrive outside,
    `unanswered`: whose answers do not find back."""

    holder: str | None
    at: str | None
    by: str | None
    leaving: Mapping[str, frozenset[str]]
    unanswered: frozenset[str] = NOTHING

    def but(self, leaving: Mapping[str, frozenset[str]] | None = None, **more: Any) -> Expected:
        return replace(self, leaving={**self.leaving, **(leaving or {})}, **more)


@dataclass
class Cluster(Rig):
    """What is declared, what runs, and what was seen."""

    lab: Lab
    pods: dict[str, Declared] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=lambda: dict(PODS))
    pools: bool = True
    claims: list[dict[str, Any]] = field(default_factory=list)
    policies: list[dict[str, Any]] = field(default_factory=list)
    away: set[str] = field(default_factory=set)
    cordoned: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)
    had: dict[str, frozenset[str]] = field(default_factory=dict)  # addresses of their own
    now: Expected = field(init=False)

    # --- what is declared --------------------------------------------------------------------------------

    def base(self) -> None:
        """The pods of n2 have been ready longest."""
        for name in PODS:
            since = 2 if name.endswith("1") else 1
            self.pods[name] = Declared(name, self.places[name], since, addresses=self.addresses(name))

    def declare(self) -> None:
        found: list[dict[str, Any]] = []
        if self.pools:
            found += pools("Floating", "203.0.113.0/24", "2001:db8:f::/64")
            found += pools("Egress", "198.51.100.0/24", "2001:db8:e::/64")
        found += [each.document() for each in self.pods.values()]
        self.write("matrix.yaml", [*found, *self.claims, *self.policies])

    def declare_nodes(self) -> None:
        documents = json.loads(json.dumps(cluster_manifests(self.lab.topology)["nodes.yaml"]))
        for each in documents:
            name = each["metadata"]["name"]
            if name in self.away:
                each["status"]["conditions"][0]["status"] = "Unknown"
            if name in self.cordoned:
                each["spec"]["unschedulable"] = True
        self.write("nodes.yaml", documents)

    def pod(self, name: str) -> LabPod:
        return read_pod(self.lab.host(self.places[name]), name)

    def addresses(self, name: str) -> tuple[str, ...]:
        found = tuple(map(str, self.pod(name).addresses))
        self.had[name] = self.had.get(name, NOTHING) | {*found}
        return found

    # --- what runs ---------------------------------------------------------------------------------------

    def start(self) -> None:
        client = self.lab.host("client")
        ports = [str(each + more) for each in PORTS.values() for more in (0, STREAMS)]
        self._spawn(client, "serve", "outside", *ports)
        self._spawn(client, "watch", *ports, str(ANSWERS), str(ANSWERS + STREAMS))
        self._spawn(client, "ask", *(f"{each}/{ANSWERS}" for each in FLOATING.values()))
        for name in PODS:
            self.run(name)

    def run(self, name: str) -> None:
        """What a pod runs."""
        host = self.lab.host(self.places[name])
        targets = [f"{self.outside(version)}/{PORTS[name]}" for version in (4, 6)]
        self._spawn(host, "ask", *targets, pod=name)
        if name.startswith("web"):
            self._spawn(host, "serve", name, str(ANSWERS), str(ANSWERS + STREAMS), pod=name)

    def _spawn(self, host: Host, what: str, *words: str, pod: str | None = None) -> None:
        name = f"{what}-{pod or host.name}"
        command = [*python(), str(Path(address_traffic.__file__)), what, str(self._file(name)), *words]
        host.spawn(name, command, pod=pod)

    def _file(self, name: str) -> Path:
        return self.lab.directory / f"{name}.seen"

    def end(self, name: str) -> None:
        """A pod ends as by a runtime: its processes, then DEL."""
        host = self.lab.host(self.places[name])
        for what in ("ask", "serve"):
            host.kill(f"{what}-{name}", 9)
        delete_pod(host, name, find_plugin())

    def make(self, name: str, node: str) -> None:
        """A pod is made as in a cluster: declared, wired, its addresses told."""
        since = 2 if name.endswith("1") else 1
        self.places[name] = node
        self.pods[name] = Declared(name, node, since)
        self.declare()
        add_pod(self.lab.host(node), name, find_plugin())
        self.run(name)
        self.pods[name].addresses = self.addresses(name)
        self.declare()

    # --- what was seen -----------------------------------------------------------------------------------

    def seen(self, name: str, since: float) -> Counter[str]:
        found: Counter[str] = Counter()
        for at, counts in self._lines(name):
            if at >= since:
                found.update(counts)
        return found

    def _lines(self, name: str) -> Iterator[tuple[float, dict[str, int]]]:
        """The last first; what is being written is left out."""
        try:
            text = self._file(name).read_text()
        except FileNotFoundError:
            return
        for line in text[: text.rfind("\n") + 1].splitlines():
            told = json.loads(line)
            yield told["at"], told["seen"]

    def _askers(self, expected: Expected) -> dict[str, list[str]]:
        """Who asks whom."""
        found = {"ask-client": [*FLOATING.values()]}
        for name in expected.leaving:
            if name in self.pods and self.pods[name].addresses:
                found[f"ask-{name}"] = [self.outside(version) for version in (4, 6)]
        return found

    def window(self, expected: Expected) -> float:
        """A time since which everybody has asked everything in every way, and all of it is written down."""
        begin = time.monotonic()

        def full() -> bool:
            for asker, addresses in self._askers(expected).items():
                seen = self.seen(asker, begin)
                asked = Counter(" ".join(key.split()[:2]) for key in seen.elements())
                if any(asked[f"{address} {way}"] < 2 for address in addresses for way in WAYS):
                    return False
            return True

        self.until(full, "somebody does not ask", _SECONDS)
        done = time.monotonic()
        names = ["watch-client", *self._askers(expected)]
        self.until(
            lambda: all(any(at > done for at, _ in self._lines(name)) for name in names), "not written", 20
        )
        return begin

    def left_with(self, since: float, *, streams: bool = True) -> dict[str, frozenset[str]]:
        """With which addresses each pod's packets arrived. A stream of a pod that has got a floating address
        goes on as it began; without `streams` those of such pods are left out."""
        found: dict[str, set[str]] = {name: set() for name in PODS}
        names = {str(port): name for name, port in PORTS.items()}
        more = {str(port + STREAMS): name for name, port in PORTS.items()}
        names |= {port: name for port, name in more.items() if streams or name.startswith("out")}
        for key in self.seen("watch-client", since):
            direction, port, _, source = key.split()
            if direction == "to" and port in names:
                found[names[port]].add(source)
        return {name: frozenset(each) for name, each in found.items()}

    def answered(self, asker: str, since: float) -> dict[tuple[str, str], Counter[str]]:
        """(address, way) -> answer -> how often."""
        found: dict[tuple[str, str], Counter[str]] = {}
        for key, count in self.seen(asker, since).items():
            address, way, answer = key.split(" ", 2)
            found.setdefault((address, way), Counter())[answer] += count
        return found

    def complaints(self, expected: Expected, since: float) -> list[str]:
        """What is not as expected, of all that was seen since."""
        wrong = []
        for (address, way), answers in self.answered("ask-client", since).items():
            version = 6 if ":" in address else 4
            right = {f"{expected.holder} {self.outside(version)}"} if expected.holder else {LOST}
            if set(answers) != right:
                wrong.append(f"{address} by {way}: {dict(answers)}, not {right}")
        for asker in self._askers(expected):
            if asker == "ask-client":
                continue
            pod = asker.removeprefix("ask-")
            lost = bool(pod in expected.unanswered or not expected.leaving[pod])
            for (address, way), answers in self.answered(asker, since).items():
                if (set(answers) - {LOST} and lost) or (LOST in answers and not lost):
                    wrong.append(f"{pod} to {address} by {way}: {dict(answers)}")
        left = self.left_with(since, streams=False)
        for pod, sources in expected.leaving.items():
            if left[pod] != sources:
                wrong.append(f"{pod} left with {sorted(left[pod])}, not {sorted(sources)}")
        for address, node in [(a, expected.at) for a in FLOATING.values()] + [
            (a, expected.by) for a in EGRESS.values()
        ]:
            if (at := self.announcers(address)) != ({node} if node else set()):
                wrong.append(f"{address}: the router has it by {sorted(at)}, not {node}")
        return wrong

    def offences(self, before: Expected, after: Expected, since: float) -> list[str]:
        """What never may have been, neither as it was nor as it is."""
        wrong = []
        left = self.left_with(since)
        for pod in PODS:
            allowed = before.leaving.get(pod, NOTHING) | after.leaving.get(pod, NOTHING)
            if pod.startswith("web") and allowed & {*FLOATING.values()}:
                allowed |= self.had[pod]
            if left[pod] - allowed:
                wrong.append(f"{pod} left with {sorted(left[pod] - allowed)}; allowed {sorted(allowed)}")
        pods = {each for each in (before.holder, after.holder) if each}
        for (address, way), answers in self.answered("ask-client", since).items():
            for answer in set(answers) - {LOST}:
                pod, source = answer.split()
                if pod not in pods or source != self.outside(6 if ":" in address else 4):
                    wrong.append(f"{address} by {way} was answered by {answer}; of {sorted(pods)}")
        for key in self.seen("watch-client", since):
            direction, _port, protocol, source = key.split()
            if direction == "from" and source not in FLOATING.values():
                wrong.append(f"an answer ({protocol}) came from {source}")
        return wrong

    # --- a step ------------------------------------------------------------------------------------------

    def settle(self, expected: Expected, what: str) -> None:
        """Wait until it is as expected, for everything that is asked once more."""
        deadline = time.monotonic() + _SECONDS
        while wrong := self.complaints(expected, self.window(expected)):
            assert time.monotonic() < deadline, f"{what}: {'; '.join(wrong)}"

    def step(self, what: str, act: Callable[[], object], after: Expected) -> None:
        """Do it; what is expected afterwards must not be so before, where it is another."""
        before = self.now
        if before != after:
            assert self.complaints(after, self.window(before)), f"{what}: the control finds it done before"
        begin = time.monotonic()
        act()
        self.settle(after, what)
        wrong = self.offences(before, after, begin)
        self.now = after
        self.told.append(f"{what}: {self._counts(begin)}")
        assert not wrong, f"{what}: {'; '.join(wrong)}"

    def declared(self, what: str, after: Expected) -> None:
        """As a step: what has changed in the fields is declared."""
        self.step(what, self.declare, after)

    def _counts(self, since: float) -> str:
        """Streams and single requests, answered of all."""
        words = []
        for who, askers in (("floating", ["ask-client"]), ("egress", ["ask-out-1", "ask-out-2"])):
            for way in WAYS:
                asked, fine = 0, 0
                for asker in askers:
                    for (_, by), answers in self.answered(asker, since).items():
                        if by == way:
                            asked += answers.total()
                            fine += answers.total() - answers[LOST]
                words.append(f"{who} {way} {fine}/{asked}")
        return ", ".join(words)

    # --- what is left ------------------------------------------------------------------------------------

    def remains(self) -> dict[str, str]:
        """Kinds of traces of either address, with one of each."""
        found: dict[str, str] = {}
        addresses = [*FLOATING.values(), *EGRESS.values()]
        for address in addresses:
            if at := self.announcers(address):
                found[f"route {address}"] = str(at)
        for node in NODES:
            host = self.lab.host(node)
            tables = self.tables(node)
            for mark in (
                *addresses,
                "floating-leave",
                "postrouting-egress",
                "prerouting-egress",
                "table ip l3net",
            ):
                if mark in tables:
                    found[f"nft {mark.split()[0]}"] = f"{node}: {mark}"
            if "10800:" in (rules := self.rules(node)):
                found["rule"] = f"{node}: {rules}"
            routes = "".join(
                host.run(["ip", family, "route", "show", "table", "all"]).stdout for family in ("-4", "-6")
            )
            for line in routes.splitlines():
                way = "dev l3nvx0" in line and "default" in line
                if way or any(f"{each} " in line for each in addresses):
                    found["kernel route"] = f"{node}: {line}"
            command = [sys.executable, "-c", _TRACKED, *addresses]
            if tracked := host.run(command, environment=node_environment()).stdout.split():
                found["connection"] = f"{node}: {len(tracked)}, such as {tracked[0]}"
        return found


def floating_ip(name: str = "web", *, created: int = 5, **labels: str) -> dict[str, Any]:
    spec = {"addresses": [*FLOATING.values()], "selector": {"matchLabels": labels or {"app": "web"}}}
    made = own("FloatingIP", name, spec)
    made["metadata"] |= {"namespace": "default", "creationTimestamp": f"2026-01-01T00:00:{created:02}Z"}
    return made


def egress_ip(
    name: str = "out", addresses: Mapping[int, str] = EGRESS, *, created: int = 5, **labels: str
) -> dict[str, Any]:
    spec = {
        "addresses": [*addresses.values()],
        "namespaceSelector": {},
        "podSelector": {"matchLabels": labels or {"app": "out"}},
    }
    made = own("EgressIP", name, spec)
    made["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{created:02}Z"
    return made


def policy(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)
    return found
