"""Policies on a simulated node: documents, attachments, and what a book made anew says of the table."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from fate import Fate
from scene import Scene
from sim_node import document

from l3net.errors import RefusedError
from l3net.model import Address, Kind, Namespace, Node, ObjectName, Pod, Policy, Tracked
from l3net.policy.attached import Attached
from l3net.policy.book import PolicyBook

WEB_POD, GOOD, BAD = "10.244.1.9", "10.244.2.8", "10.244.2.7"
NAMES = ("web", "good", "bad", "other")


def pod(name: str, *addresses: str, on: str = "n2", uid: str = "", **labels: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"labels": labels}
    if uid:
        metadata["uid"] = uid
    status = {"phase": "Running", "podIPs": [{"ip": each} for each in addresses]}
    spec = {"nodeName": on, "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80}]}]}
    return document(
        "Pod", name, namespace="default", version="v1", metadata=metadata, spec=spec, status=status
    )


def policy(
    name: str, selects: Mapping[str, str], *froms: Mapping[str, str], port: object = 80
) -> dict[str, Any]:
    """Pods with these labels are reached on a port by pods with those."""
    peers = [{"podSelector": {"matchLabels": dict(each)}} for each in froms]
    return document(
        "NetworkPolicy",
        name,
        namespace="default",
        version="networking.k8s.io/v1",
        spec={
            "podSelector": {"matchLabels": dict(selects)},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": peers, "ports": [{"port": port, "protocol": "TCP"}]}] if peers else [],
        },
    )


def attached(name: str, *addresses: str, **labels: str) -> Attached:
    return Attached(ObjectName("default", name), tuple(map(ip_address, addresses)), labels)


def connection(source: str, destination: str, port: int, protocol: int = 6) -> Tracked:
    return Tracked(protocol, ip_address(source), 40000, ip_address(destination), port)


def of_policies(scene: Scene) -> dict[str, Any]:
    """What the table has of the section, but for what is there in any case."""
    table = scene.firewall.table
    return {
        "chains": {
            name: tuple(rules) for name, rules in table.chains.items() if name[:4] in ("pol-", "mix-")
        },
        "sets": {name: held for name, held in table.sets.items() if _is_policys(name)},
        "counters": table.counters,
        "held": {"policy-held", "held4", "held6"} & {*table.chains, *table.sets},
    }


def wanted(scene: Scene) -> dict[str, Any]:
    """The same of a book made anew."""
    book = PolicyBook()
    for (kind, name), event in scene.datastore.objects.items():
        match event.fact:
            case Pod():
                book.put_pod(name, event.fact)
            case Namespace():
                book.put_namespace(name.name, event.fact.labels)
            case Node():
                book.put_node(name.name, event.fact)
            case Policy():
                book.put_policy((kind is Kind.NETWORK_POLICY, name), event.fact)
    for key, each in scene.pods.wired.items():
        book.attach(key, each)
    book.settle()
    return {
        "chains": book.contents.chains,
        "sets": {name: {*live.elements} for name, live in book.contents.sets.items()},
        "counters": book.contents.counters,
        "held": set(),
    }


def _is_policys(name: str) -> bool:
    return re.match(r"egress-mac$|(egress|ingress|self)[46]$|(peers|named|nodes|nets)[46]-", name) is not None


def one_pod_an_address(scene: Scene) -> None:
    """Which of two has it depends on who was told of last, and an agent that starts is told in any order."""
    taken: set[Address] = set()
    for event in list(scene.datastore.objects.values()):
        if isinstance(event.fact, Pod):
            if taken.isdisjoint(event.fact.addresses):
                taken.update(event.fact.addresses)
            else:
                scene.datastore.delete(pod(event.name.name))


class PolicyFate(Fate):
    """Policies, pods and attachments come, change and go, too."""

    def _labels(self) -> dict[str, str]:
        return {"app": self.drawn.choice(("web", "db")), "role": self.drawn.choice(("good", "bad"))}

    async def pod_changes(self) -> None:
        name = self.drawn.choice(NAMES)
        one = pod(name, f"10.244.2.{self.drawn.randrange(6, 10)}", on="n2", **self._labels())
        self.scene.datastore.apply(one)

    async def pod_goes(self) -> None:
        self.scene.datastore.delete(pod(self.drawn.choice(NAMES)))

    async def policy_changes(self) -> None:
        froms = [self._labels() for _ in range(self.drawn.randrange(3))]
        port = self.drawn.choice((80, 443, "http"))
        name = self.drawn.choice(("one", "two"))
        self.scene.datastore.apply(policy(name, {"app": self.drawn.choice(("web", "db"))}, *froms, port=port))

    async def policy_goes(self) -> None:
        self.scene.datastore.delete(policy(self.drawn.choice(("one", "two")), {}))

    async def pod_is_attached(self) -> None:
        if self.scene.running:
            name = self.drawn.choice(NAMES)
            await self.scene.pods.add(
                name, attached(name, f"10.244.1.{6 + NAMES.index(name)}", **self._labels())
            )

    async def pod_is_detached(self) -> None:
        if self.scene.running:
            self.scene.pods.delete(self.drawn.choice(NAMES))

    async def policies_are_refused(self) -> None:
        """For a while, and whatever comes meanwhile."""
        self.scene.firewall.refuses = refusing_policies
        await self.policy_changes()
        if self.drawn.random() < 0.3:
            self.scene.firewall.flush()
        if self.drawn.random() < 0.5:
            await self.restart()
        await asyncio.sleep(self.pause(0.1, 3, 70))
        self.scene.firewall.refuses = lambda _text: None


def refusing_policies(text: str) -> RefusedError | None:
    """As nft refuses whatever has to do with chains of policies."""
    if any(words in text for words in ("chain inet l3net pol-", "chain inet l3net mix-", "\nchain mix-")):
        return RefusedError("nft cannot change table inet l3net (No buffer space available)", 105)
    return None


def addresses_in(scene: Scene, name: str) -> set[str]:
    """Keys of a set or map that is in force."""
    return {each.partition(" ")[0] for each in scene.firewall.table.sets.get(name, ())}
