"""Connections by the names of their ends, and how many of each kind there were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Final

from l3net.addresses import parse_host_or_prefix
from l3net.model import Address, Prefix
from l3net.naming import PROTOCOL_NUMBERS

#: Kinds of connections that are counted apart; all others together.
MOST_KINDS: Final = 20_000
_PROTOCOLS: Final = {number: name for name, number in PROTOCOL_NUMBERS.items()} | {1: "icmp", 58: "icmpv6"}


@dataclass(frozen=True, slots=True)
class Tracked:
    """A connection as the kernel tracks it: who began it and towards what, and who answers whom after
    translation. `port`: the destination's before, `answer_port` behind it; 0 where there are none."""

    protocol: int
    source: Address
    destination: Address
    port: int
    answers: Address
    answer_port: int
    answered_to: Address
    answered: bool = True


@dataclass(frozen=True, slots=True)
class Flow:
    """The same with names. `service`: whose address was asked; `to_port`: that of the endpoint."""

    source: str
    destination: str
    service: str
    protocol: str
    port: int
    to_port: int
    masqueraded: bool = False

    def row(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "source": self.source,
            "destination": self.destination,
            "service": self.service,
            "protocol": self.protocol,
            "port": self.port,
            "toPort": self.to_port,
            "masqueraded": self.masqueraded,
        }


@dataclass(frozen=True, slots=True)
class Names:
    """Who is at an address, and whose service a port of one is. `blocks`: the nodes of addresses whose pod is
    not known. `known`: an agent has said so."""

    pods: Mapping[str, str] = field(default_factory=dict, hash=False)
    nodes: Mapping[str, str] = field(default_factory=dict, hash=False)
    services: Mapping[str, str] = field(default_factory=dict, hash=False)
    blocks: tuple[tuple[Prefix, str], ...] = ()
    known: bool = False

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Names:
        """Of an agent's answer to `names`."""
        blocks = tuple((ip_network(text), str(node)) for text, node in answer.get("blocks", {}).items())
        return cls(answer.get("pods", {}), answer.get("nodes", {}), answer.get("services", {}), blocks, True)

    def end(self, address: Address) -> str:
        """A pod's or node's name with the address, or the address alone."""
        text = str(address)
        if pod := self.pods.get(text):
            return f"{pod} ({text})"
        if node := self.nodes.get(text):
            return f"node {node} ({text})"
        node = next((name for block, name in self.blocks if address in block), "")
        return f"{text} on {node}" if node else text

    def service(self, address: Address, protocol: str, port: int) -> str:
        """Whose service is asked; empty: nobody's."""
        found = self.services.get(f"{address} {protocol} {port}", "")
        if not found and str(address) in self.nodes:
            found = self.services.get(f"node {protocol} {port}", "")
        return found

    def flow(self, seen: Tracked) -> Flow:
        """A connection by names."""
        protocol = _PROTOCOLS.get(seen.protocol, str(seen.protocol))
        translated = (seen.answers, seen.answer_port) != (seen.destination, seen.port)
        return Flow(
            self.end(seen.source),
            self.end(seen.answers),
            self.service(seen.destination, protocol, seen.port)
            or (str(seen.destination) if translated else ""),
            protocol,
            seen.port,
            seen.answer_port,
            seen.answered_to != seen.source,
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which flows somebody asks for; what is empty is not asked for. `peers`: prefixes of an end."""

    pods: Collection[str] = ()
    services: Collection[str] = ()
    peers: Collection[Prefix] = ()

    def holds(self, seen: Tracked, flow: Flow) -> bool:
        """Whether a flow is meant: by one of the pods, to one of the services, and with one of the ends."""
        ends = (flow.source.partition(" ")[0], flow.destination.partition(" ")[0])
        if self.pods and not any(pod in ends for pod in self.pods):
            return False
        if self.services and flow.service not in self.services:
            return False
        addresses = (seen.source, seen.destination, seen.answers)
        return not self.peers or any(
            address.version == peer.version and address in peer
            for peer in self.peers
            for address in addresses
        )


class Totals:
    """How many connections of each kind; of `most` kinds, and all others together."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most or MOST_KINDS
        self.counts: Counter[Flow] = Counter()
        self.others = 0

    def add(self, flow: Flow, count: int = 1) -> None:
        """Count some more."""
        if flow in self.counts or len(self.counts) < self._most:
            self.counts[flow] += count
        else:
            self.others += count

    def rows(self, most: int | None = None) -> list[dict[str, Any]]:
        """The most frequent first."""
        return [{**flow.row(), "connections": count} for flow, count in self.counts.most_common(most)]


def peers_of(texts: Iterable[str]) -> tuple[Prefix, ...]:
    """Addresses and prefixes. Raises ValueError."""
    return tuple(parse_host_or_prefix(text, strict=True) for text in texts)
