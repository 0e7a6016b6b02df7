"""What clients were told of a cluster, and how objects of Kubernetes are read."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, TypeAlias

from sim_etcd import Object

from l3net.errors import ManifestError
from l3net.kube.translate import translate
from l3net.model import Fact, Kind, ObjectName
from l3net.naming import ANNOTATION_BLOCKS
from l3net.ports import Changed, DatastoreEvent, InSync

if TYPE_CHECKING:
    from cluster_laws import Laws
    from cluster_world import Client

Key: TypeAlias = tuple[Kind, ObjectName]

#: Seconds for which a node must be gone, in these controllers.
GRACE = 60.0


def blocks_of(node: Object) -> tuple[str, ...]:
    added = (node["metadata"].get("annotations") or {}).get(ANNOTATION_BLOCKS, "")
    return (*(node["spec"].get("podCIDRs") or ()), *filter(None, added.split(",")))


def ingress_of(service: Object) -> tuple[str, ...]:
    if service["spec"].get("type") != "LoadBalancer":
        return ()
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return tuple(each["ip"] for each in ingress)


@lru_cache(4096)
def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text)


def overlapping(first: str, second: str) -> bool:
    one, other = _network(first), _network(second)
    return one.version == other.version and one.overlaps(other)  # type: ignore[arg-type]


def fact_of(document: Object) -> Fact | None:
    try:
        found = translate(document, [])
    except ManifestError:
        return None
    return found[2] if found is not None else None


def is_wrong(document: Object) -> bool:
    """Whether it cannot be used."""
    try:
        translate(document, [])
    except ManifestError:
        return True
    return False


class View:
    """What one follower was told."""

    def __init__(self, laws: Laws, client: Client) -> None:
        self._laws, self.client = laws, client
        self.kinds: tuple[Kind, ...] = ()
        self.facts: dict[Key, Fact] = {}
        self.told: dict[Key, float] = {}
        self.in_sync = False
        self.began = laws.now
        self.first = laws.usable()
        self._gone: dict[Key, float] = {}
        self._policed = False
        #: Whether a store that was put back may have grown past what is known, unnoticed: where one was cut
        #: off for less than a watch may be silent. It knows everything again with the next list.
        self.blind = False

    def hear(self, event: DatastoreEvent) -> None:
        match event:
            case Changed(kind=kind, name=name, fact=None):
                if self.facts.pop((kind, name), None) is not None:
                    self._gone[kind, name] = self._laws.now
                    self._laws.judge_gone(self, (kind, name))
            case Changed(kind=kind, name=name, fact=fact) if fact is not None:
                self.told.setdefault((kind, name), self._laws.now)
                self.facts[kind, name] = fact
                if kind is Kind.NETWORK_POLICY and not self._policed:
                    self._policed = True
                    self._laws.judge_policy(self, name)
            case InSync():
                if self.in_sync:
                    self._laws.broken("in-sync", f"{self.client.name} is told twice")
                self.in_sync = True
                self._laws.judge_sync(self)

    def lacks_since(self, key: Key, now: float) -> float:
        """Since when it knows of none; `now` if it knows it."""
        return now if key in self.facts else self._gone.get(key, self.began)
