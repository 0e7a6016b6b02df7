"""The decisions about every floating address, kept, so that a change costs what depends on it and no more.

What it holds after any history is what the same facts give a new book. It looks at what is declared alone, so
that every node and the controller come to the same, whether or not they hear of one another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from l3net.floating.entitled import floating_pools, refusal
from l3net.floating.holding import FLOATING_IP, POD, Claimant, Holding, Reason
from l3net.floating.pods import choose, primary, usable
from l3net.model import (
    DEFAULT_DRAIN,
    Address,
    DrainPolicy,
    FloatingIp,
    IpPool,
    Labels,
    Node,
    ObjectName,
    Pod,
)

#: A namespace, and a label of its pods.
_Label: TypeAlias = tuple[str, str, str]
Taken: TypeAlias = Callable[[Address], tuple[Reason, str]]


def nothing_taken(_address: Address) -> tuple[Reason, str]:
    """For where no address is anything else's."""
    return Reason.HELD, ""


@dataclass(frozen=True, slots=True)
class _Claim:
    """What one claimant asks for. Of the annotation of a Pod, `fact` is None: it is for that Pod."""

    by: Claimant
    addresses: tuple[Address, ...]
    created: str
    fact: FloatingIp | None = None

    @property
    def rank(self) -> tuple[bool, str, Claimant]:
        """Of two claims to an address the older has it; without a time, as in a directory, by name."""
        return (not self.created, self.created, self.by)

    @property
    def require_ready(self) -> bool:
        return self.fact.require_ready if self.fact is not None else True


class FloatingBook:
    """Feed it with `put_...`; `settle` decides what they touched. `taken` says what else has an address: a
    service, a node or BGP peer, a block; who changes that says so by `look_at`."""

    def __init__(self, taken: Taken = nothing_taken) -> None:
        self._taken = taken
        self._claims: dict[Claimant, _Claim] = {}
        self._by_address: dict[Address, dict[Claimant, None]] = {}
        self._pods: dict[ObjectName, Pod] = {}
        self._in: dict[str, dict[ObjectName, None]] = {}  # pods by namespace
        self._on: dict[str, dict[ObjectName, None]] = {}  # and by node
        self._keys: Counter[tuple[str, str]] = Counter()  # namespace and key by which claims find their pods
        self._labelled: dict[_Label, dict[ObjectName, None]] = {}
        self._by_label: dict[_Label, dict[Claimant, None]] = {}
        self._unlabelled: dict[str, dict[Claimant, None]] = {}
        self._namespaces: dict[str, Labels] = {}
        self._pools: tuple[IpPool, ...] = ()
        self._nodes: dict[str, Node] = {}
        self._usable: set[str] = set()  # nodes
        self._drain = DEFAULT_DRAIN
        self._dirty: set[Claimant] = set()
        self._verdicts: dict[Claimant, tuple[Holding, ...]] = {}
        self.holdings: dict[Address, Holding] = {}

    @property
    def claimants(self) -> Iterable[Claimant]:
        """All that ask for an address."""
        return self._claims.keys()

    def verdicts(self, by: Claimant) -> tuple[Holding, ...]:
        """What came of each address that somebody asks for, as settled last."""
        return self._verdicts.get(by, ())

    def claims_to(self, address: Address) -> Iterator[Holding]:
        """What came of every claim to an address."""
        for by in sorted(self._by_address.get(address, ())):
            yield from (each for each in self._verdicts.get(by, ()) if each.address == address)

    def runs(self, name: ObjectName, address: Address | None) -> bool:
        """Whether a pod is still there, with this address of its own."""
        pod = self._pods.get(name)
        return pod is not None and not pod.finished and address in pod.addresses

    # --- what is declared --------------------------------------------------------------------------------

    def put_floating(self, name: ObjectName, fact: FloatingIp | None) -> None:
        """A FloatingIP as it is now; None: it is gone."""
        by = Claimant(FLOATING_IP, name)
        self._put(by, None if fact is None else _Claim(by, fact.addresses, fact.created, fact))

    def put_pod(self, name: ObjectName, pod: Pod | None) -> None:
        """A Pod as it is now; None: it is gone."""
        before = self._pods.get(name)
        if before == pod:
            return
        if before is not None:
            self._index(before, add=False)
            del self._pods[name]
        if pod is not None:
            self._pods[name] = pod
            self._index(pod, add=True)
        by = Claimant(POD, name)
        if pod is not None and pod.floating:
            self._put(by, _Claim(by, pod.floating, pod.created))
        elif before is not None and before.floating:
            self._put(by, None)
        for each in (before, pod):
            if each is not None:
                self._dirty.update(self._claims_for(each))

    def put_namespace(self, name: str, labels: Labels) -> None:
        """The labels of a Namespace as they are now."""
        if self._namespaces.get(name, {}) != labels:
            self._namespaces[name] = labels
            self._dirty.update(by for by in self._claims if by.name.namespace == name)

    def put_pools(self, pools: Iterable[IpPool]) -> None:
        """All IPPools as they are now."""
        found = floating_pools(pools)
        if found != self._pools:
            self._pools = found
            self._dirty.update(self._claims)

    def put_node(self, name: str, node: Node | None) -> None:
        """A Node as it is now; None: it is gone, or not followed."""
        if node is None:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = node
        self._look_at_node(name)

    def drain_by(self, policy: DrainPolicy) -> None:
        """What makes a node one that drains."""
        if policy != self._drain:
            self._drain = policy
            for name in list(self._nodes):
                self._look_at_node(name)

    def look_at(self, addresses: Iterable[Address]) -> None:
        """Something else has these now, or has them no more."""
        for address in addresses:
            self._dirty.update(self._by_address.get(address, ()))

    @property
    def addresses(self) -> Iterable[Address]:
        """All that anybody asks for."""
        return self._by_address.keys()

    def _look_at_node(self, name: str) -> None:
        good = usable(self._nodes.get(name), self._drain)
        if good is (name in self._usable):
            return
        (self._usable.add if good else self._usable.discard)(name)
        for pod in self._on.get(name, ()):
            self._dirty.update(self._claims_for(self._pods[pod]))

    def _put(self, by: Claimant, claim: _Claim | None) -> None:
        before = self._claims.get(by)
        if before == claim:
            return
        if before is not None:
            self._unclaim(before)
        if claim is not None:
            self._claim(claim)
        self._dirty.add(by)
        for each in (before, claim):
            if each is not None:  # whoever comes after it may have the address now, or lose it
                self.look_at(each.addresses)

    def _claim(self, claim: _Claim) -> None:
        self._claims[claim.by] = claim
        for address in claim.addresses:
            self._by_address.setdefault(address, {})[claim.by] = None
        if claim.fact is None:
            return
        space, label = claim.by.name.namespace, primary(claim.fact.selector)
        if label is None:
            self._unlabelled.setdefault(space, {})[claim.by] = None
            return
        self._by_label.setdefault((space, *label), {})[claim.by] = None
        self._keys[space, label[0]] += 1
        if self._keys[space, label[0]] == 1:
            for name in self._in.get(space, ()):
                self._label(self._pods[name], label[0], add=True)

    def _unclaim(self, claim: _Claim) -> None:
        del self._claims[claim.by]
        for address in claim.addresses:
            _drop(self._by_address, address, claim.by)
        if claim.fact is None:
            return
        space, label = claim.by.name.namespace, primary(claim.fact.selector)
        if label is None:
            _drop(self._unlabelled, space, claim.by)
            return
        _drop(self._by_label, (space, *label), claim.by)
        self._keys[space, label[0]] -= 1
        if not self._keys[space, label[0]]:
            del self._keys[space, label[0]]
            for name in self._in.get(space, ()):
                self._label(self._pods[name], label[0], add=False)

    def _index(self, pod: Pod, *, add: bool) -> None:
        space = pod.name.namespace
        for held, key in ((self._in, space), (self._on, pod.node)):
            if add:
                held.setdefault(key, {})[pod.name] = None
            else:
                _drop(held, key, pod.name)
        for key in pod.labels:
            if (space, key) in self._keys:
                self._label(pod, key, add=add)

    def _label(self, pod: Pod, key: str, *, add: bool) -> None:
        value = pod.labels.get(key)
        if value is None:
            return
        label = (pod.name.namespace, key, value)
        if add:
            self._labelled.setdefault(label, {})[pod.name] = None
        else:
            _drop(self._labelled, label, pod.name)

    def _claims_for(self, pod: Pod) -> Iterator[Claimant]:
        """The claims that a pod may be a candidate of."""
        space = pod.name.namespace
        for key, value in pod.labels.items():
            if (space, key) in self._keys:
                yield from self._by_label.get((space, key, value), ())
        yield from self._unlabelled.get(space, ())
        if pod.floating:
            yield Claimant(POD, pod.name)

    # --- decisions ---------------------------------------------------------------------------------------

    def settle(self) -> frozenset[Address]:
        """Decide what was touched; the addresses whose holders are others now."""
        due, self._dirty = self._dirty, set()
        # Of several claims to an address, who loses it depends on who may have it.
        rivals = {
            rival
            for by in due
            if (claim := self._claims.get(by)) is not None
            for address in claim.addresses
            for rival in self._by_address[address]
        }
        touched: set[Address] = set()
        for by in due | rivals:
            touched.update(each.address for each in self._verdicts.pop(by, ()))
            if (claim := self._claims.get(by)) is not None:
                self._verdicts[by] = self._judge(claim)
                touched.update(claim.addresses)
        return frozenset(address for address in touched if self._decide(address))

    def _decide(self, address: Address) -> bool:
        before = self.holdings.pop(address, None)
        for by in self._by_address.get(address, ()):
            for each in self._verdicts.get(by, ()):
                if each.address == address and each.held:
                    self.holdings[address] = each
        return self.holdings.get(address) != before

    def _judge(self, claim: _Claim) -> tuple[Holding, ...]:
        if not claim.addresses:
            return ()
        pod, reason, why = self._chosen(claim)
        return tuple(self._one(claim, address, pod, reason, why) for address in claim.addresses)

    def _one(self, claim: _Claim, address: Address, pod: Pod | None, reason: Reason, why: str) -> Holding:
        refused, said = self._refusal(claim, address)
        if refused is not Reason.HELD:
            return Holding(address, claim.by, refused, said)
        if pod is None:
            return Holding(address, claim.by, reason, why)
        target = next((each for each in pod.addresses if each.version == address.version), None)
        if target is None:
            lacks = f"pod {pod.name} has no IPv{address.version} address"
            return Holding(address, claim.by, Reason.NO_FAMILY, lacks)
        return Holding(address, claim.by, Reason.HELD, "", pod.name, pod.node, target, claim.created)

    def _refusal(self, claim: _Claim, address: Address) -> tuple[Reason, str]:
        reason, why = self._own_refusal(claim, address)
        if reason is not Reason.HELD:
            return reason, why
        rivals = (self._claims[by] for by in self._by_address[address])
        first = min(
            (rival for rival in rivals if self._own_refusal(rival, address)[0] is Reason.HELD),
            key=lambda rival: rival.rank,
        )
        if first is claim:
            return Reason.HELD, ""
        return Reason.CONFLICT, f"{first.by} is older and has {address}"

    def _own_refusal(self, claim: _Claim, address: Address) -> tuple[Reason, str]:
        """Whoever else asks for it."""
        labels = self._namespaces.get(claim.by.name.namespace, {})
        fact = claim.fact
        pool = fact.pool if fact is not None and address not in fact.wanted else ""
        reason, why = refusal(address, self._pools, labels, annotated=fact is None, pool=pool)
        return (reason, why) if reason is not Reason.HELD else self._taken(address)

    def _chosen(self, claim: _Claim) -> tuple[Pod | None, Reason, str]:
        return choose(
            self._candidates(claim),
            require_ready=claim.require_ready,
            node_usable=lambda name: name in self._usable,
        )

    def _candidates(self, claim: _Claim) -> Iterator[Pod]:
        fact, space = claim.fact, claim.by.name.namespace
        if fact is None:
            yield self._pods[claim.by.name]
            return
        label = primary(fact.selector)
        names = self._in.get(space, {}) if label is None else self._labelled.get((space, *label), {})
        for name in names:
            pod = self._pods[name]
            if fact.selector.matches(pod.labels):
                yield pod


def _drop(held: dict, key: object, value: object) -> None:  # type: ignore[type-arg]
    """Take a member out, and with the last one its key."""
    found = held.get(key)
    if found is not None:
        found.pop(value, None)
        if not found:
            del held[key]


def sources_of(holdings: Iterable[Holding]) -> dict[Address, Address]:
    """By a pod's own address, the floating address that it sends from: of several, that of the oldest
    claim."""
    found: dict[Address, Address] = {}
    for each in sorted(
        holdings, key=lambda each: (not each.created, each.created, each.by, int(each.address))
    ):
        if each.target is not None:
            found.setdefault(each.target, each.address)
    return found
