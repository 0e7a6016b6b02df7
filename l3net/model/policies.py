"""Network policies as facts: NetworkPolicy (networking.k8s.io/v1) and ClusterNetworkPolicy
(policy.networking.k8s.io/v1alpha2) are one shape, told apart by their tier."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from l3net.model.selectors import EVERYTHING, Selector
from l3net.model.terms import ObjectName, Prefix


class Tier(enum.IntEnum):
    """The tiers in the order in which they decide; the first that does is final."""

    ADMIN = 0
    NETWORK_POLICY = 1
    BASELINE = 2

    @property
    def shown(self) -> str:
        return ("Admin", "NetworkPolicy", "Baseline")[self]


class Rule(enum.Enum):
    """What a rule does with what it matches (ClusterNetworkPolicyRuleAction)."""

    ACCEPT = "Accept"
    DENY = "Deny"
    PASS = "Pass"  # noqa: S105 - on to the NetworkPolicy tier, or from Baseline to the default


class Direction(enum.Enum):
    """As a pod sees it."""

    INGRESS = "ingress"
    EGRESS = "egress"


@dataclass(frozen=True, slots=True)
class PodSelection:
    """Pods by their labels, in the one namespace of that name or in those that a selector chooses.

    Pods on their node's network are never among them.
    """

    namespaces: str | Selector
    pods: Selector = EVERYTHING


@dataclass(frozen=True, slots=True)
class IpBlock:
    """Addresses of a prefix but for some of them (IPBlock)."""

    cidr: Prefix
    excepts: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeSelection:
    """Nodes by their labels: all their addresses."""

    nodes: Selector


PolicyPeer: TypeAlias = PodSelection | IpBlock | NodeSelection


@dataclass(frozen=True, slots=True)
class PolicyPort:
    """Destination ports: `protocol` is tcp, udp or sctp. `first` to `last`; 0 and 0: every port of it.

    With a `name` it is the port that the destination pod calls so, of this protocol, or (empty) of any.
    """

    protocol: str
    first: int = 0
    last: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A rule of one direction. `peers` None: everybody, outside the cluster too; empty: nobody. `ports` None:
    every port and protocol. `name` is what the API has for people, if any."""

    action: Rule
    peers: tuple[PolicyPeer, ...] | None = None
    ports: tuple[PolicyPort, ...] | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy for the pods of `subject`.

    `ingress` and `egress` None: it says nothing of that direction. Of the NetworkPolicy tier all rules
    accept, and what none of them accepts is denied; of the others the first rule that matches decides, and
    policies stand in the order of `priority` (lower first), then of names. `log_drops`: what it denies is
    told (annotation l3net.io/log-drops).
    """

    name: ObjectName
    tier: Tier
    subject: PodSelection
    ingress: tuple[PolicyRule, ...] | None = None
    egress: tuple[PolicyRule, ...] | None = None
    priority: int = 0
    log_drops: bool = False

    def rules(self, direction: Direction) -> tuple[PolicyRule, ...] | None:
        """Those of a direction, None if it says nothing of it."""
        return self.ingress if direction is Direction.INGRESS else self.egress

    @property
    def order(self) -> tuple[int, int, str, str]:
        """Which policy is asked first."""
        return (self.tier, self.priority, self.name.namespace, self.name.name)
