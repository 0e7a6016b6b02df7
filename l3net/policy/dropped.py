"""What a packet that a policy dropped is told as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from l3net.model import Address
from l3net.policy.book import PolicyBook
from l3net.policy.compiling import Origin
from l3net.policy.mixing import PolicyKey
from l3net.policy.packet import Seen, seen
from l3net.policy.verdict import RuleName, shown


@dataclass(frozen=True, slots=True)
class Drop:
    """Ends with the names of pods or nodes as of then (empty: neither), and the reason in words. `when` in
    seconds since 1970; `origin` None: what decided is in force no more."""

    when: float
    packet: Seen
    source: str
    destination: str
    origin: Origin | None
    policies: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        packet = self.packet
        direction = f"{self.origin.direction.value}: " if self.origin is not None else ""
        source = _end(self.source, packet.source, packet.source_port)
        destination = _end(self.destination, packet.destination, packet.port)
        return f"{direction}{source} -> {destination} {packet.protocol}: {self.reason}"

    def row(self) -> dict[str, Any]:
        """As plain values."""
        packet = self.packet
        return {
            "time": self.when,
            "direction": self.origin.direction.value if self.origin is not None else "",
            "source": {
                "name": self.source,
                "address": str(packet.source),
                "port": packet.source_port,
            },
            "destination": {
                "name": self.destination,
                "address": str(packet.destination),
                "port": packet.port,
            },
            "protocol": packet.protocol,
            "policies": list(self.policies),
            "reason": self.reason,
        }


def dropped(book: PolicyBook, when: float, about: str, packet: bytes) -> Drop | None:
    """What is known of it by now; None for what is no IP packet. `about` is what the rule was to say."""
    found = seen(packet)
    if found is None:
        return None
    origin = book.compiling.origin(about)
    policies = tuple(_named(book, key) for key in origin.policies) if origin is not None else ()
    ends = _name(book, found.source), _name(book, found.destination)
    return Drop(when, found, *ends, origin, policies, _reason(book, origin, policies))


def _reason(book: PolicyBook, origin: Origin | None, policies: tuple[str, ...]) -> str:
    if origin is None:
        return "a policy that is in force no more"
    if origin.rule is None:
        return f"no rule of {', '.join(policies)} accepts it"
    policy = book.policy(origin.policies[0])
    if policy is None:
        return f"rule {origin.direction.value}[{origin.rule}] of {policies[0]}"
    rules = policy.rules(origin.direction) or ()
    name = rules[origin.rule].name if origin.rule < len(rules) else ""
    return str(RuleName(policy.name, policy.tier, origin.direction, origin.rule, name))


def _named(book: PolicyBook, key: PolicyKey) -> str:
    policy = book.policy(key)
    if policy is None:
        return str(key[1])
    return shown(policy.name, policy.tier)


def _name(book: PolicyBook, address: Address) -> str:
    pod = book.pod_at(address)
    if pod is not None:
        return str(pod.name)
    node = book.compiling.node_at(address)
    return f"node {node.name}" if node is not None else ""


def _end(name: str, address: Address, port: int) -> str:
    text = str(address)
    if port:
        text = f"[{text}]:{port}" if address.version == 6 else f"{text}:{port}"
    return f"{name} ({text})" if name else text
