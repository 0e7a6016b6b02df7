"""EgressIPs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from l3net.model.selectors import EVERYTHING, Selector
from l3net.model.terms import Address, Prefix


@dataclass(frozen=True, slots=True)
class EgressIp:
    """An EgressIP: addresses that what some pods send out of the cluster leaves with.

    `namespaces` and `pods` select the pods, `nodes` those that may hold an address; `destinations` are what
    it is for (empty: all that is outside the cluster). `wanted` are the addresses that it names; of the IP
    `versions` it is to be given `replicas` each, out of `pool` (empty: any pool for it). `given` are those
    that the controller gave it (status.addresses). `created` is its creationTimestamp, as a Service's.
    """

    name: str
    namespaces: Selector = EVERYTHING
    pods: Selector = EVERYTHING
    destinations: tuple[Prefix, ...] = ()
    nodes: Selector = EVERYTHING
    wanted: tuple[Address, ...] = ()
    pool: str = ""
    versions: tuple[int, ...] = ()
    replicas: int = 1
    given: tuple[Address, ...] = ()
    created: str = ""

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Those it has: what it names, and of the other families what it was given."""
        named = {address.version for address in self.wanted}
        return (*self.wanted, *(each for each in self.given if each.version not in named))

    def covers(self, version: int) -> bool:
        """Whether it is for packets of an IP version, whether or not it has an address of that."""
        return version in self.versions or any(each.version == version for each in self.wanted)


@dataclass(frozen=True, slots=True)
class EgressRule:
    """What of a pod an EgressIP (`by`) is for, and what becomes of that: it leaves with `address` by `node`,
    or not at all where these are none. No `destinations`: all that leaves the cluster."""

    by: str
    destinations: tuple[Prefix, ...] = ()
    address: Address | None = None
    node: str = ""


#: Of one pod and one family, the first that is for a packet counts; none: it leaves as others do.
EgressRules: TypeAlias = tuple[EgressRule, ...]


@dataclass(frozen=True, slots=True)
class EgressPaths:
    """What a node has to do: `own` are its pods with their rules, `others` pods of other nodes that leave by
    this one; `held` are the addresses that it holds. `wanted`: whether there is any EgressIP at all."""

    wanted: bool = False
    own: Mapping[Address, EgressRules] = field(default_factory=dict, hash=False)
    others: Mapping[Address, EgressRules] = field(default_factory=dict, hash=False)
    held: frozenset[Address] = frozenset()


NO_EGRESS = EgressPaths()


@dataclass(frozen=True, slots=True)
class EgressWay:
    """The way by which packets of one family with a mark leave this node: to another node's `gateway` behind
    the envelope's device. `mark` is one of naming.EGRESS_MARKS; equality is all that is compared."""

    version: int
    mark: int
    gateway: Address
