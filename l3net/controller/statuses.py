"""What pools and peers are told in their status, and what of it they say already.

An object that was deleted and made anew, or whose status somebody else wrote, says it no longer: so what was
told is held against each object as it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from l3net.controller.decide import Decision, PoolStatus
from l3net.controller.declared import Declared
from l3net.controller.floating import FloatingStatus
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


class Statuses:
    """`writes` says what is to be written, `seen` hears of objects from any thread; `wake` has the former
    asked again."""

    def __init__(self, cluster: ClusterWriter, wake: Callable[[], None]) -> None:
        self._cluster, self._wake = cluster, wake
        self._pools: dict[str, PoolStatus] = {}
        self._peers: dict[str, Condition] = {}
        self._floating: dict[ObjectName, FloatingStatus] = {}
        self._since: dict[ObjectName, tuple[str, str]] = {}  # by FloatingIP: the pod that has it, since when
        self._pruned: dict[str, frozenset[str]] = {}  # by peer: the nodes that may have sessions

    def forget(self) -> None:
        """Another may have written since."""
        self._pools, self._peers, self._pruned, self._floating = {}, {}, {}, {}

    def writes(self, declared: Declared, decision: Decision) -> Iterator[Write]:
        yield from _new(self._pools, decision.pools, "pool", self._say_pool)
        yield from _new(self._peers, decision.peers, "peer", self._say_peer)
        yield from _new(self._floating, decision.floating, "floating", self._say_floating)
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
            self._since[name] = str(status.get("pod", "")), str(status.get("since", ""))
            floats = self._floating.get(name)
            if floats is not None and not (_has(status, _fields(floats)) and _says(status, floats.condition)):
                lost = self._floating.pop(name, None) is not None
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

    def _say_floating(self, name: ObjectName, status: FloatingStatus) -> None:
        pod, since = self._since.get(name, ("", ""))
        if status.pod != pod or not since:
            since = self._cluster.now() if status.pod else ""
        self._since[name] = status.pod, since
        said = {**_fields(status), "since": since or None}
        self._cluster.set_status(Kind.FLOATING_IP, name, said, (status.condition,))

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


def _fields(status: FloatingStatus) -> dict[str, Any]:
    """As the API has them; what is empty is taken out."""
    return {
        "addresses": [str(address) for address in status.addresses] or None,
        "pod": status.pod or None,
        "node": status.node or None,
        "state": status.state.value,
        "reason": status.reason or None,
    }


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
