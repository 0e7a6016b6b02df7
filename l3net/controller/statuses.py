"""What pools, peers, FloatingIPs and EgressIPs are told in their status, and what of it they say already.

An object that was deleted and made anew, or whose status somebody else wrote, says it no longer: so what was
told is held against each object as it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from l3net.controller.decide import Decision, PoolStatus
from l3net.controller.declared import Declared
from l3net.controller.writes import Write
from l3net.model import Kind, ObjectName
from l3net.ports import ClusterWriter, Condition

_T = TypeVar("_T")
_K = TypeVar("_K", str, ObjectName)
_Status: TypeAlias = Mapping[str, Any]


class OfKind(Protocol):
    """Where objects of a kind are; that it is of this kind is all that is asked."""

    @property
    def kind(self) -> Kind: ...


class AddressStatus(Protocol):
    """What is said of who has the addresses of an object, but for since when."""

    @property
    def fields(self) -> dict[str, Any]:
        """As the API has them; what is empty is None."""
        ...

    @property
    def condition(self) -> Condition: ...


class _Addressed:
    """Objects of a kind that have addresses: `holder` is the field that says who has them."""

    def __init__(self, kind: Kind, holder: str, cluster: ClusterWriter) -> None:
        self._kind, self._holder, self._cluster = kind, holder, cluster
        self._told: dict[ObjectName, AddressStatus] = {}
        self._since: dict[ObjectName, tuple[Any, str]] = {}  # who has the addresses, and since when

    def forget(self) -> None:
        self._told = {}

    def writes(self, wanted: Mapping[ObjectName, AddressStatus]) -> Iterator[Write]:
        yield from _new(self._told, wanted, self._kind.value, self._say)

    def seen(self, name: ObjectName, status: _Status) -> bool:
        """An object as it was read; whether it does not say what it was told."""
        self._since[name] = status.get(self._holder), str(status.get("since", ""))
        told = self._told.get(name)
        if told is None or (_has(status, told.fields) and _says(status, told.condition)):
            return False
        return self._told.pop(name, None) is not None

    def _say(self, name: ObjectName, status: AddressStatus) -> None:
        fields = status.fields
        before, since = self._since.get(name, (None, ""))
        now = fields[self._holder]
        if now != before or not since:
            since = self._cluster.now() if now else ""
        self._since[name] = now, since
        said = {**fields, "since": since or None}
        self._cluster.set_status(self._kind, name, said, (status.condition,))


class Statuses:
    """`writes` says what is to be written, `seen` hears of objects from any thread; `wake` has the former
    asked again."""

    def __init__(self, cluster: ClusterWriter, wake: Callable[[], None]) -> None:
        self._cluster, self._wake = cluster, wake
        self._pools: dict[str, PoolStatus] = {}
        self._peers: dict[str, Condition] = {}
        self._floating = _Addressed(Kind.FLOATING_IP, "pod", cluster)
        self._egress = _Addressed(Kind.EGRESS_IP, "holders", cluster)
        self._pruned: dict[str, frozenset[str]] = {}  # by peer: the nodes that may have sessions

    def forget(self) -> None:
        """Another may have written since."""
        self._pools, self._peers, self._pruned = {}, {}, {}
        self._floating.forget()
        self._egress.forget()

    def writes(self, declared: Declared, decision: Decision) -> Iterator[Write]:
        yield from _new(self._pools, decision.pools, "pool", self._say_pool)
        yield from _new(self._peers, decision.peers, "peer", self._say_peer)
        yield from self._floating.writes(decision.floating)
        yield from self._egress.writes(decision.egress)
        yield from self._pruning(declared)

    def seen(self, kind: OfKind, name: ObjectName, document: Mapping[str, Any]) -> None:
        """An object as it was read."""
        found, key = document.get("status"), name.name
        status: _Status = found if isinstance(found, Mapping) else {}
        lost = False
        if kind.kind is Kind.IP_POOL:
            told = self._pools.get(key)
            if told is not None and not (_has(status, _numbers(told)) and _says(status, told.condition)):
                lost = self._pools.pop(key, None) is not None
        elif kind.kind is Kind.FLOATING_IP:
            lost = self._floating.seen(name, status)
        elif kind.kind is Kind.EGRESS_IP:
            lost = self._egress.seen(name, status)
        elif kind.kind is Kind.BGP_PEER:
            condition, nodes = self._peers.get(key), self._pruned.get(key)
            if condition is not None and not _says(status, condition):
                lost = self._peers.pop(key, None) is not None
            if nodes is not None and not _session_nodes(status) <= nodes:
                lost = self._pruned.pop(key, None) is not None or lost
        if lost:
            self._wake()

    def _say_pool(self, name: str, status: PoolStatus) -> None:
        self._cluster.set_status(Kind.IP_POOL, ObjectName("", name), _numbers(status), (status.condition,))

    def _say_peer(self, name: str, condition: Condition) -> None:
        self._cluster.set_status(Kind.BGP_PEER, ObjectName("", name), {}, (condition,))

    def _pruning(self, declared: Declared) -> Iterator[Write]:
        """Sessions of nodes that are gone, out of the status of BGPPeers: nobody else will take them out."""
        nodes, pruned = frozenset(declared.nodes), self._pruned
        for peer in pruned.copy().keys() - declared.peers.keys():
            pruned.pop(peer, None)
        for peer in sorted(declared.peers):
            before = pruned.get(peer)
            if before is not None and before <= nodes:
                pruned[peer] = nodes
            else:
                call = partial(_told, pruned, self._cluster.prune_sessions, peer, nodes)
                yield Write(("sessions", peer), nodes, call)


def _new(
    told: dict[_K, _T], wanted: Mapping[_K, _T], sort: str, say: Callable[[_K, _T], None]
) -> Iterator[Write]:
    for name in told.copy().keys() - wanted.keys():
        told.pop(name, None)
    for name, value in wanted.items():
        if told.get(name) != value:
            yield Write((sort, str(name)), value, partial(_told, told, say, name, value))


def _told(told: dict[_K, _T], say: Callable[[_K, _T], None], name: _K, value: _T) -> None:
    """It is taken to be said from before it is: what is read meanwhile may be of another object already."""
    told[name] = value
    try:
        say(name, value)
    except BaseException:
        told.pop(name, None)
        raise


def _numbers(status: PoolStatus) -> dict[str, int]:
    return {"used": status.usage.used, "free": min(status.usage.free, 2**63 - 1)}


def _has(status: _Status, fields: Mapping[str, Any]) -> bool:
    return all(status.get(key) == value for key, value in fields.items())


def _says(status: _Status, condition: Condition) -> bool:
    """Whether a condition is as it was told."""
    for each in _entries(status, "conditions"):
        if each.get("type") == condition.type:
            found = each.get("status"), each.get("reason"), each.get("message")
            return found == (str(condition.holds), condition.reason, condition.message)
    return condition.if_said


def _session_nodes(status: _Status) -> frozenset[str]:
    return frozenset(str(each.get("node")) for each in _entries(status, "sessions"))


def _entries(status: _Status, key: str) -> Sequence[Mapping[str, Any]]:
    found = status.get(key)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
