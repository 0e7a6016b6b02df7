"""What is odd about policies: those that are for no pod, and names of ports that no pod has.

Neither is an error, as pods may be still to come; but what was written wrong looks just so, and protects
nobody or lets nobody in.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from l3net.ipam.findings import Contradiction, FindingReason
from l3net.model import (
    EVERYTHING,
    Labels,
    Namespace,
    Pod,
    PodSelection,
    Policy,
    PolicyPort,
    PolicyRule,
)
from l3net.policy.known import chooses
from l3net.policy.verdict import kind_of

#: Protocol and name of a port.
_Named = tuple[str, str]
_ANYWHERE = PodSelection(EVERYTHING)


def complaints(
    policies: Iterable[Policy], pods: Iterable[Pod], namespaces: Mapping[str, Namespace]
) -> tuple[Contradiction, ...]:
    """About each policy, in their order."""
    known = _Pods(pods, namespaces)
    return tuple(
        Contradiction(
            kind_of(policy.tier),
            policy.name,
            reason,
            message,
        )
        for policy in policies
        for reason, message in _about(policy, known)
    )


def _about(policy: Policy, pods: _Pods) -> Iterator[tuple[FindingReason, str]]:
    own = pods.ports(policy.subject)
    if own is None:
        yield FindingReason.SELECTS_NO_PODS, "it is for no pod: its selectors choose none of those there are"
    else:
        missing = (each for rule in policy.ingress or () for each in _missing(rule, own))
        for name in dict.fromkeys(missing):
            yield FindingReason.UNKNOWN_PORT_NAME, f"ingress: none of its pods has a port {name}"
    missing = (each for rule in policy.egress or () for each in _missing(rule, _reached(rule, pods)))
    for name in dict.fromkeys(missing):
        yield FindingReason.UNKNOWN_PORT_NAME, f"egress: none of the pods that it leads to has a port {name}"


def _reached(rule: PolicyRule, pods: _Pods) -> frozenset[_Named] | None:
    """The ports of the pods that an egress rule speaks of; None where there are none, or not pods alone."""
    selections = [each for each in rule.peers or () if isinstance(each, PodSelection)]
    if rule.peers is None:
        selections = [_ANYWHERE]
    elif len(selections) < len(rule.peers):
        return None
    found = [ports for each in selections if (ports := pods.ports(each)) is not None]
    return frozenset().union(*found) if found else None


def _missing(rule: PolicyRule, there: frozenset[_Named] | None) -> Iterator[str]:
    for port in rule.ports or ():
        if port.name and there is not None and not _has(there, port):
            yield f"named {port.name}{f' ({port.protocol.upper()})' if port.protocol else ''}"


def _has(there: frozenset[_Named], port: PolicyPort) -> bool:
    protocols = (port.protocol,) if port.protocol else ("tcp", "udp", "sctp")
    return any((protocol, port.name) in there for protocol in protocols)


@dataclass(slots=True)
class _Group:
    """The pods of a namespace with the same labels, by the names of their ports."""

    namespace: str
    labels: Labels
    ports: set[_Named] = field(default_factory=set)


class _Pods:
    """Those that policies can be for, to be asked by selection."""

    def __init__(self, pods: Iterable[Pod], namespaces: Mapping[str, Namespace]) -> None:
        self._namespaces = namespaces
        self._groups: dict[str, dict[frozenset[tuple[str, str]], _Group]] = {}
        self._labelled: dict[tuple[str, str], list[_Group]] = {}
        self._found: dict[PodSelection, frozenset[_Named] | None] = {}
        for pod in pods:
            if pod.finished or pod.host_network:
                continue
            of_namespace = self._groups.setdefault(pod.name.namespace, {})
            identity = frozenset(pod.labels.items())
            group = of_namespace.get(identity)
            if group is None:
                group = of_namespace[identity] = _Group(pod.name.namespace, pod.labels)
                for label in identity:
                    self._labelled.setdefault(label, []).append(group)
            group.ports.update((port.protocol, port.name) for port in pod.ports)

    def ports(self, selection: PodSelection) -> frozenset[_Named] | None:
        """The named ports of those that are selected; None: there are no such pods."""
        if selection not in self._found:
            found = list(self._selected(selection))
            self._found[selection] = frozenset().union(*(each.ports for each in found)) if found else None
        return self._found[selection]

    def _selected(self, selection: PodSelection) -> Iterator[_Group]:
        for group in self._possible(selection):
            known = self._namespaces.get(group.namespace)
            labels = known.labels if known is not None else {}
            if chooses(selection, group.namespace, labels, group.labels):
                yield group

    def _possible(self, selection: PodSelection) -> Iterable[_Group]:
        """Those that may be: of the one namespace, else with a label that is asked for, else all."""
        if isinstance(selection.namespaces, str):
            return self._groups.get(selection.namespaces, {}).values()
        for each in selection.pods.requirements:
            if each.operator == "In":
                of_values = (self._labelled.get((each.key, value), ()) for value in set(each.values))
                return itertools.chain.from_iterable(of_values)
        return itertools.chain.from_iterable(each.values() for each in self._groups.values())
