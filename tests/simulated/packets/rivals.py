"""Services that claim the same addresses and ports, come, go and are made anew: the older one answers
(docs/services.md, "Conflicting services"), by the book that an agent keeps and the changes that follow.

What is expected is worked out from the documents alone, by tests/services/service_reference.py.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from service_reference import Answer, Document, Fate, Packet, answer
from services_cluster import ME, cluster, declared, made, packets
from table_side import InForce

from l3net.firewall.facts import plan
from l3net.model import ClusterState
from l3net.services.book import ServiceBook
from l3net.services.endpoints import here
from packets.table import SimTable

EXTERNAL = {4: ("198.18.0.1", "198.18.0.2"), 6: ("fd00:18::1", "fd00:18::2")}
NODE_PORTS = (30001, 30002, 30003)
#: So many services, of which some are there.
SERVICES, STEPS = 7, 5


class Rivals:
    """`documents` is what is declared by now, `table` what a node makes of it by changes."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(f"rivals {seed}")
        self._services: dict[str, list[Document]] = {}
        self._there: set[str] = set()
        self._beside = _open(cluster())
        found = made(seed, SERVICES)
        for document in found:
            labels, metadata = document["metadata"].get("labels", {}), document["metadata"]
            name = labels.get("kubernetes.io/service-name", metadata["name"])
            self._services.setdefault(name, []).append(document)
        for each in self._services.values():
            self._contend(each[0])
        self._book, self._told = ServiceBook(), ClusterState()
        self._held: InForce | None = None
        self.table = SimTable()

    @property
    def node(self) -> Document:
        return self._beside[0]

    @property
    def documents(self) -> list[Document]:
        return [each for name in sorted(self._there) for each in self._services[name]]

    def _contend(self, service: Document) -> None:
        """It claims what others may have."""
        chance, spec = self._chance, service["spec"]
        self._date(service)
        versions = sorted({6 if ":" in each else 4 for each in spec["clusterIPs"] if each != "None"})
        if versions and chance.random() < 0.6:
            spec["externalIPs"] = [chance.choice(EXTERNAL[chance.choice(versions)])]
        if versions and chance.random() < 0.2:  # somebody's ClusterIP
            of = chance.choice([each[0]["spec"] for each in self._services.values()])
            spec["externalIPs"] = [
                each for each in of["clusterIPs"] if each not in ("None", *spec["clusterIPs"])
            ]
        for port in spec["ports"]:
            if "nodePort" in port:
                port["nodePort"] = chance.choice(NODE_PORTS)

    def _date(self, service: Document) -> None:
        day = self._chance.randint(1, 5)
        service["metadata"]["creationTimestamp"] = f"2026-01-{day:02}T00:00:00Z"

    def step(self) -> None:
        """Some come, some go, some are made anew: one after the other, or all at once."""
        chance = self._chance
        for name in sorted(self._services):
            if chance.random() < 0.5:
                continue
            if name in self._there:
                self._there.discard(name)
                if chance.random() < 0.4:
                    self._date(self._services[name][0])
                    self._there.add(name)
            else:
                self._there.add(name)
            if chance.random() < 0.5:
                self._follow()
        self._follow()

    def _follow(self) -> None:
        state, book = declared([*self._beside, *self.documents]), self._book
        for name in sorted({*state.services, *self._told.services}):
            book.put_service(name, state.services.get(name))
        for name in sorted({*state.slices, *self._told.slices}):
            book.put_slice(name, state.slices.get(name))
        self._told = state
        for node_name, node in state.nodes.items():
            book.put_node(node_name, node)
        book.stand(here(state.nodes, ME), state.configuration.advertise)
        book.settle()
        wanted = plan(state, ME, book.servers.values())
        if self._held is None:
            self._held = InForce(wanted)
            self.table = self.table.amended(self._held.text)
        else:
            self.table = self.table.amended(self._held.follow(wanted))

    def calls(self) -> list[tuple[Packet, Answer]]:
        """Each packet to any of them, and what is to become of it."""
        documents = sorted(self.documents, key=_age)
        return [
            (called, expected)
            for called in dict.fromkeys(packets(documents))
            if (expected := answered(documents, self.node, called)) is not Fate.NO_SERVICE
        ]


def answered(documents: Sequence[Document], node: Document, called: Packet) -> Answer:
    """By documents in the order of their age: a ClusterIP is its service's, whoever else names it."""
    for each in documents:
        if each["kind"] == "Service" and called.address in each["spec"].get("clusterIPs", ()):
            own = [one for one in documents if one is each or one["kind"] != "Service"]
            return answer(own, node, called)
    return answer(documents, node, called)


def _age(document: Document) -> tuple[bool, str, str]:
    found = document["metadata"]
    return document["kind"] != "Service", found.get("creationTimestamp", ""), found["name"]


def _open(documents: list[Document]) -> list[Document]:
    """With ClusterIPs among the addresses that are allowed outside."""
    for each in documents:
        for allowed in each["spec"].get("advertise", {}).values():
            allowed["cidrs"] = [*allowed["cidrs"], "10.96.0.0/16", "fd00:96::/64"]
    return documents
