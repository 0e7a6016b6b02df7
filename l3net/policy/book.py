"""The policies in force on a node: facts are put, what the kernel is to hold follows, piece by piece.

An event costs what it changes: a pod elsewhere the sets that it is in, a pod here its own combination of
policies, a policy the pods here that it is for. `contents` is what the nftables section is to hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from l3net.firewall.policycontents import EGRESS, EGRESS_MAC, MAPS, PolicyContents
from l3net.model import Address, Labels, Node, ObjectName, Pod, PodSelection, Policy
from l3net.policy.attached import Attached
from l3net.policy.compiling import Compiling
from l3net.policy.known import chooses
from l3net.policy.membership import Membership
from l3net.policy.mixing import PolicyKey, counts, key_of
from l3net.policy.sets import PodEntry
from l3net.policy.tenants import Tenants

#: Pods whose policies are remembered, until any policy changes.
MOST_REMEMBERED: Final = 4096


@dataclass(slots=True)
class _Subject:
    """A pod of this node: the policies that are for it, and where each map leads its addresses to."""

    labels: Labels
    addresses: tuple[Address, ...]
    macs: tuple[str, ...] = ()
    policies: dict[PolicyKey, Policy] = field(default_factory=dict)
    mixes: dict[str, str] = field(default_factory=dict)  # by map
    shown: tuple[tuple[Address, ...], tuple[str, ...]] = (
        (),
        (),
    )  # what the maps have


class PolicyBook:
    """`put_*` facts and attachments, then `settle`. A `policy.known.Known` of what has been put."""

    def __init__(self) -> None:
        self.contents = PolicyContents()
        self.members = Membership(self.contents)
        self.compiling = Compiling(self.contents, self.members)
        self._pods: dict[ObjectName, Pod] = {}
        self._attached: dict[str, Attached] = {}
        self._here: dict[ObjectName, set[str]] = {}  # attachments by pod
        self._at: dict[Address | str, tuple[ObjectName, ...]] = {}  # MACs too; the last is who has it
        self._subjects: dict[ObjectName, _Subject] = {}
        self._policies: dict[PolicyKey, Policy] = {}
        self._of_namespace: dict[str, set[PolicyKey]] = {}  # policies for the pods of one namespace
        self._of_many: set[PolicyKey] = set()
        self._tenants = Tenants()
        self._chosen: dict[ObjectName, tuple[Labels, list[Policy]]] = {}  # policies for pods asked about
        self._dirty: set[ObjectName] = set()
        self._changed: set[PolicyKey] = set()

    # --- facts -------------------------------------------------------------------------------------------

    def put_pod(self, name: ObjectName, pod: Pod | None) -> None:
        """A Pod as it is declared; one that is gone keeps its policies as long as it is attached here."""
        before = self._pods.get(name)
        if pod == before:
            return
        claimed = set(_peer_addresses(before)) if before is not None else set()
        if pod is not None:
            self._pods[name] = pod
            for address in _peer_addresses(pod):
                if address not in claimed:
                    self._claim(address, name)
            claimed -= set(_peer_addresses(pod))
        else:
            self._pods.pop(name, None)
        for address in claimed:
            if not self._has_here(name, address):
                self._disclaim(address, name)
        self._renew(name)

    def _claim(self, address: Address | str, name: ObjectName, *, here: bool = False) -> None:
        """The last who claims an address has it, but nobody takes it from who has it on this node."""
        held = self._at.get(address, ())
        others = tuple(each for each in held if each != name)
        if others and not here and self._has_here(others[-1], address):
            claimed = (*others[:-1], name, others[-1])
        else:
            claimed = (*others, name)
        if claimed != held:
            self._at[address] = claimed
            self._renew_known(others)

    def _disclaim(self, address: Address | str, name: ObjectName) -> None:
        rest = tuple(each for each in self._at.get(address, ()) if each != name)
        if rest:
            self._at[address] = rest
            self._renew_known(rest)
        else:
            self._at.pop(address, None)

    def _has_here(self, name: ObjectName, address: Address | str) -> bool:
        here = (self._attached[key] for key in self._here.get(name, ()))
        return any(address in each.addresses or address == each.mac for each in here)

    def _has(self, name: ObjectName, address: Address | str) -> bool:
        return self._at.get(address, ())[-1:] == (name,)

    def _renew_known(self, names: Iterable[ObjectName]) -> None:
        for each in names:
            if each in self._here or each in self._pods:
                self._renew(each)

    def attach(self, key: str, attached: Attached) -> None:
        """A pod's addresses on this node; `key` names the attachment."""
        if self._attached.get(key) == attached:
            return
        self.detach(key)
        self._attached[key] = attached
        self._here.setdefault(attached.pod, set()).add(key)
        for address in _claims(attached):
            self._claim(address, attached.pod, here=True)
        self._renew(attached.pod)

    def detach(self, key: str) -> None:
        """The attachment is gone; unknown is well."""
        attached = self._attached.pop(key, None)
        if attached is None:
            return
        here = self._here[attached.pod]
        here.discard(key)
        if not here:
            del self._here[attached.pod]
        pod = self._pods.get(attached.pod)
        kept = _peer_addresses(pod) if pod is not None else ()
        for address in _claims(attached):
            if address not in kept and not self._has_here(attached.pod, address):
                self._disclaim(address, attached.pod)
        self._renew(attached.pod)

    @property
    def attachments(self) -> Collection[str]:
        return self._attached.keys()

    def _renew(self, name: ObjectName) -> None:
        """A pod as sets and maps have it."""
        pod = self._pods.get(name)
        here = [self._attached[key] for key in sorted(self._here.get(name, ()))]
        # Of two pods that claim one address, the later one has it, or who is attached here.
        own = tuple(dict.fromkeys(a for each in here for a in each.addresses if self._has(name, a)))
        macs = tuple(dict.fromkeys(each.mac for each in here if each.mac and self._has(name, each.mac)))
        addresses = dict.fromkeys(a for a in _peer_addresses(pod) if self._has(name, a)) if pod else {}
        if pod is None or not pod.finished:
            addresses |= dict.fromkeys(own)
        subject = self._subjects.get(name)
        if pod is not None:
            labels = pod.labels
        elif subject is not None and not any(each.labels for each in here):
            labels = subject.labels
        else:
            labels = {key: value for each in here for key, value in each.labels.items()}
        entry = _entry(addresses, pod, local=bool(own)) if addresses else None
        self.members.put(name, labels, entry)
        if own:
            if subject is None:
                subject = self._subjects[name] = _Subject(labels, own, macs)
                self._dirty.add(name)
            elif (subject.addresses, subject.macs, subject.labels) != (own, macs, labels):
                subject.labels, subject.addresses, subject.macs = labels, own, macs
                self._dirty.add(name)
        elif subject is not None:
            subject.addresses = subject.macs = ()
            self._dirty.add(name)

    def put_namespace(self, name: str, labels: Labels) -> None:
        """The labels of a namespace; none when it is gone."""
        if self.members.labels_of(name) == labels:
            return
        self.members.label(name, labels)
        self._chosen.clear()
        self._dirty |= {each for each in self._subjects if each.namespace == name}
        for policy, there in self._tenants.label(name, labels):
            self.put_policy(key_of(policy), policy if there else None)

    def put_policy(self, key: PolicyKey, policy: Policy | None) -> None:
        """A policy as it is declared."""
        before = self._policies.get(key)
        if policy == before:
            return
        if before is not None:
            self._scope(before.subject).discard(key)
        if policy is None:
            del self._policies[key]
        else:
            self._policies[key] = policy
            self._scope(policy.subject).add(key)
        self._changed.add(key)
        self._chosen.clear()
        for name, subject in self._subjects.items():
            chosen = policy is not None and self._selects(policy.subject, name, subject.labels)
            if chosen or key in subject.policies:
                self._dirty.add(name)

    def _scope(self, subject: PodSelection) -> set[PolicyKey]:
        where = subject.namespaces
        return self._of_namespace.setdefault(where, set()) if isinstance(where, str) else self._of_many

    def put_node(self, name: str, node: Node | None) -> None:
        self.compiling.put_node(name, node)

    # --- what follows ------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Bring `contents` to what has been put."""
        for name in self._dirty:
            subject = self._subjects[name]
            subject.policies = {
                key: policy
                for key, policy in self._candidates(name.namespace)
                if subject.addresses and self._selects(policy.subject, name, subject.labels)
            }
        self.compiling.exchange(self._changed, self._policies)
        for name in self._dirty:
            self._lead(name, self._subjects[name])
        self._dirty.clear()
        self._changed.clear()

    @property
    def unsettled(self) -> bool:
        """Whether something that was put has not been settled."""
        return bool(self._dirty or self._changed)

    def _lead(self, name: ObjectName, subject: _Subject) -> None:
        """The maps lead a pod's addresses to its combinations."""
        contents = self.contents
        ordered = sorted(subject.policies.values(), key=lambda policy: policy.order)
        new: dict[str, str] = {}
        for where in MAPS:
            having = [policy for policy in ordered if counts(policy, where)]
            if having:
                new[where] = self.compiling.join(where, having)
        old, shown = subject.mixes, subject.shown
        for (addresses, macs), mixes, change in (
            ((subject.addresses, subject.macs), new, contents.add),
            (shown, old, contents.remove),
        ):
            if EGRESS in mixes:
                for mac in macs:
                    change(EGRESS_MAC, f"{mac} : goto {mixes[EGRESS]}")
            for address in addresses:
                for where, mix in mixes.items():
                    change(f"{where}{address.version}", f"{address} : goto {mix}")
                if mixes:
                    change(f"self{address.version}", f"{address} . {address}")
        for mix in old.values():
            self.compiling.part(mix)
        judged = contents.judged
        for text in map(str, subject.addresses if new else ()):
            judged[text] = judged.get(text, 0) + 1
        for text in map(str, shown[0] if old else ()):  # which another pod may have by now
            judged[text] -= 1
            if not judged[text]:
                del judged[text]
        subject.mixes, subject.shown = new, (subject.addresses, subject.macs)
        if not subject.addresses:
            del self._subjects[name]

    def _candidates(self, namespace: str) -> Iterator[tuple[PolicyKey, Policy]]:
        for key in (*self._of_namespace.get(namespace, ()), *self._of_many):
            yield key, self._policies[key]

    def _selects(self, selection: PodSelection, name: ObjectName, labels: Labels) -> bool:
        return chooses(selection, name.namespace, self.members.labels_of(name.namespace), labels)

    def may_select(self, namespace: str) -> bool:
        """Whether any policy may be for a pod of a namespace, whatever its labels."""
        return bool(self._of_namespace.get(namespace) or self._of_many)

    # --- what is known -----------------------------------------------------------------------------------

    def pod(self, name: ObjectName) -> Pod | None:
        """A Pod as it is declared."""
        return self._pods.get(name)

    def pod_at(self, address: Address) -> Pod | None:
        """See policy.known.Known; a pod that is attached here may be declared no more, or not yet."""
        names = self._at.get(address)
        if not names:
            return None
        name = names[-1]
        pod = self._pods.get(name)
        subject = self._subjects.get(name)
        if pod is None and subject is not None:
            return Pod(name, subject.labels, subject.addresses)
        return pod

    def namespace_labels(self, namespace: str) -> Labels:
        return self.members.labels_of(namespace)

    def node_labels_at(self, address: Address) -> Labels | None:
        return self.compiling.node_labels_at(address)

    def policies_for(self, pod: Pod) -> Iterable[Policy]:
        known = self._chosen.get(pod.name)
        if known is None or known[0] != pod.labels:
            if len(self._chosen) > MOST_REMEMBERED:
                self._chosen.clear()
            found = [
                policy
                for _, policy in self._candidates(pod.name.namespace)
                if self._selects(policy.subject, pod.name, pod.labels)
            ]
            found.sort(key=lambda policy: policy.order)
            known = self._chosen[pod.name] = pod.labels, found
        return known[1]

    @property
    def policies(self) -> Collection[Policy]:
        """All, those for tenants among them."""
        return self._policies.values()

    def policy(self, key: PolicyKey) -> Policy | None:
        """One that is declared, or that a tenant's label stands for."""
        return self._policies.get(key)

    def here(self) -> Iterator[tuple[ObjectName, tuple[Address, ...], tuple[Policy, ...]]]:
        """The pods of this node: their addresses, and the policies that are for them."""
        for name, subject in self._subjects.items():
            if subject.addresses:
                yield name, subject.addresses, tuple(subject.policies.values())


def _claims(attached: Attached) -> tuple[Address | str, ...]:
    """What only one pod of the node can have."""
    return (*attached.addresses, attached.mac) if attached.mac else attached.addresses


def _peer_addresses(pod: Pod) -> tuple[Address, ...]:
    return () if pod.finished or pod.host_network else pod.addresses


def _entry(addresses: Iterable[Address], pod: Pod | None, *, local: bool) -> PodEntry:
    ports = pod.ports if pod is not None else ()
    return PodEntry(
        tuple(str(each) for each in addresses if each.version == 4),
        tuple(str(each) for each in addresses if each.version == 6),
        tuple((each.name, each.protocol, each.port) for each in ports),
        local,
    )
