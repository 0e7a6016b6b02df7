"""Who reaches whom in a namespace: what `l3net policy matrix` answers.

Pods of one namespace with the same labels, the same named ports and the same side of every edge of a block of
addresses that any policy names are judged alike: one of them is asked for all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Any, Final

from l3net.errors import ConfigError
from l3net.model import Address, IpBlock, Pod, PodSelection, Policy
from l3net.policy.places import Place, Port
from l3net.policy.verdict import Packet, verdict
from l3net.policy.view import Whereabouts

#: What a cell says of a family: all of the row reach all of the column, none do, or some.
YES, NO, SOME = "yes", "no", "some"
OUTSIDE: Final = "outside"
#: The first address of each family that may be anybody's.
_FIRST: Final = {4: int(ip_address("1.0.0.0")), 6: int(ip_address("2000::"))}
#: Pods looked at before others may have their turn.
_AT_ONCE: Final = 200


class Matrix:
    """`steps` work it out, and between two of them others may have their turn; `answer` then tells."""

    def __init__(self, view: Whereabouts, namespace: str, port: Port) -> None:
        self._view, self._namespace, self._port = view, namespace, port
        self._known = view.known
        self._edges = _edges(view.policies)
        self._by_address: dict[str, bool] = {}  # by pod
        self._columns: list[list[Place]] = []
        self._rows: dict[str, list[list[Place]]] = {}  # by name of the row
        self._cells: dict[tuple[str, int], dict[int, set[bool]]] = {}  # row and column: answers by version

    def steps(self) -> Iterator[None]:
        """Raises ConfigError where nobody runs in the namespace."""
        yield from self._group()
        for number, column in enumerate(self._columns):
            for name, alike in self._rows.items():
                for sources in alike:
                    self._judge(name, sources, number, column)
                    yield
            self._judge_outside(number, column[0])
            yield

    def _group(self) -> Iterator[None]:
        found: dict[object, list[Place]] = defaultdict(list)
        for number, pod in enumerate(self._view.pods()):
            if number % _AT_ONCE == _AT_ONCE - 1:
                yield
            addresses = self._view.addresses(pod)
            if addresses and not pod.host_network:
                place = Place(str(pod.name), addresses, pod, self._view.node_of(pod))
                found[self._likeness(pod, addresses)].append(place)
        self._columns = [each for each in found.values() if _namespace(each) == self._namespace]
        if not self._columns:
            why = f": {self._view.partial}" if self._view.partial else ""
            raise ConfigError(f"no pod of namespace {self._namespace} is known to run{why}")
        self._rows = {_called(each): [each] for each in self._columns}
        for each in found.values():
            if (namespace := _namespace(each)) != self._namespace:
                self._rows.setdefault(f"namespace {namespace}", []).append(each)

    def _likeness(self, pod: Pod, addresses: Iterable[Address]) -> object:
        where = tuple(
            (each.version, bisect_right(self._edges[each.version], int(each))) for each in addresses
        )
        return pod.name.namespace, frozenset(pod.labels.items()), pod.ports, where

    def _judge(self, row: str, sources: list[Place], column: int, destinations: list[Place]) -> None:
        """One of each for all; a pod that is alone reaches itself."""
        source, destination = sources[0], destinations[-1]
        versions = [each.version for each in source.addresses]
        both = [each.version for each in destination.addresses if each.version in versions]
        if self._goes_by_address(source) or self._goes_by_address(destination):
            for version in both:
                self._say(row, column, version, self._allowed(source, destination, version))
        elif both:
            allowed = self._allowed(source, destination, both[0])
            for version in both:
                self._say(row, column, version, allowed)

    def _allowed(self, source: Place, destination: Place, version: int) -> bool:
        one, other = (
            next(address for address in place.addresses if address.version == version)
            for place in (source, destination)
        )
        packet = Packet(one, other, self._port.protocol, self._port.number)
        return verdict(self._known, packet).allowed

    def _goes_by_address(self, place: Place) -> bool:
        """Whether a policy for a pod names addresses or nodes, so that families may be judged apart."""
        found = self._by_address.get(place.label)
        if found is None:
            assert place.pod is not None  # noqa: S101 - for the type checker
            found = self._by_address[place.label] = any(
                not isinstance(peer, PodSelection)
                for policy in self._known.policies_for(place.pod)
                for rule in (*(policy.ingress or ()), *(policy.egress or ()))
                for peer in rule.peers or ()
            )
        return found

    def _judge_outside(self, column: int, destination: Place) -> None:
        """An address between two edges of the blocks that the pod's policies name stands for all there."""
        assert destination.pod is not None  # noqa: S101 - for the type checker
        edges = _edges(self._known.policies_for(destination.pod))
        for to in destination.addresses:
            for number in (_FIRST[to.version], *edges[to.version]):
                address = _address(to.version, number)
                if address is not None and self._known.pod_at(address) is None:
                    packet = Packet(address, to, self._port.protocol, self._port.number)
                    self._say(OUTSIDE, column, to.version, verdict(self._known, packet).allowed)

    def _say(self, row: str, column: int, version: int, allowed: bool) -> None:
        self._cells.setdefault((row, column), {}).setdefault(version, set()).add(allowed)

    def answer(self) -> dict[str, Any]:
        """As plain values: `columns` are pods that are reached alike, `rows` who calls them."""
        notes = [self._view.partial] if self._view.partial else []
        if self._view.placed:
            placed = len(self._view.placed)
            notes.append(f"pods without an address yet: {placed}; no block is taken to name them")
        return {
            "namespace": self._namespace,
            "port": str(self._port),
            "columns": [
                {"name": _called(each), "pods": [place.label for place in each]} for each in self._columns
            ],
            "rows": [
                {
                    "from": name,
                    "pods": sum(map(len, self._rows.get(name, ()))),
                    "to": [self._cell(name, number) for number in range(len(self._columns))],
                }
                for name in (*self._rows, OUTSIDE)
            ],
            "notes": notes,
        }

    def _cell(self, row: str, column: int) -> dict[str, str]:
        found = self._cells.get((row, column), {})
        return {f"IPv{version}": _told(answers) for version, answers in sorted(found.items())}


def _told(answers: set[bool]) -> str:
    return SOME if len(answers) > 1 else YES if True in answers else NO


def _namespace(alike: list[Place]) -> str:
    return alike[0].label.partition("/")[0]


def _called(alike: list[Place]) -> str:
    """Pods that are alike, by the first of them."""
    name = alike[0].label.partition("/")[2]
    return f"{name} (+{len(alike) - 1})" if len(alike) > 1 else name


def _edges(policies: Iterable[Policy]) -> dict[int, list[int]]:
    """By version the numbers of the addresses at which a block of any policy begins, or has just ended."""
    found: dict[int, set[int]] = {4: set(), 6: set()}
    for policy in policies:
        for rule in (*(policy.ingress or ()), *(policy.egress or ())):
            for peer in rule.peers or ():
                if isinstance(peer, IpBlock):
                    for prefix in (peer.cidr, *peer.excepts):
                        first, last = int(prefix.network_address), int(prefix.broadcast_address)
                        found[prefix.version] |= {first, last + 1}
    return {version: sorted(edges) for version, edges in found.items()}


def _address(version: int, number: int) -> Address | None:
    """None beyond the last, and for the first, which is nobody's."""
    if not 0 < number < 1 << (32 if version == 4 else 128):
        return None
    return ip_address(number.to_bytes(4 if version == 4 else 16, "big"))
