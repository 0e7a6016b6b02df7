"""The decisions about every EgressIP, kept, so that a Pod's change costs what depends on it.

What it holds after any history is what the same facts give a new book.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from l3net.egress.choosing import chosen, holders
from l3net.egress.holding import EgressHolding, Reason
from l3net.fib.envelope import takes_part
from l3net.floating.pods import usable
from l3net.model import (
    DEFAULT_DRAIN,
    Address,
    DrainPolicy,
    EgressIp,
    EgressRule,
    EgressRules,
    IpPool,
    Labels,
    Node,
    ObjectName,
    Pod,
    PoolUse,
)

Taken: TypeAlias = Callable[[Address], tuple[Reason, str]]
VERSIONS: Final = (4, 6)
#: For the node that a book is kept on: no node has such a name.
HERE: Final = "."


def nothing_taken(_address: Address) -> tuple[Reason, str]:
    """For where no address is anything else's."""
    return Reason.HELD, ""


def egress_pools(pools: Iterable[IpPool]) -> tuple[IpPool, ...]:
    """Those that egress addresses come from, by name."""
    return tuple(
        sorted((each for each in pools if PoolUse.EGRESS in each.allowed_uses), key=lambda each: each.name)
    )


def rank(fact: EgressIp) -> tuple[bool, str, str]:
    """Of two the older comes first; without a time, as in a directory, by name."""
    return (not fact.created, fact.created, fact.name)


@dataclass(frozen=True, slots=True)
class Attachment:
    """The addresses that a pod has on this node, whatever is declared of it yet. `labels` count where nothing
    is: those that the runtime told."""

    addresses: tuple[Address, ...]
    labels: Labels = field(default_factory=dict, hash=False)


class EgressBook:
    """Feed it with `put_...`; `settle` decides. `taken` says what else has an address; who changes that says
    so by `look_again`. `said`: agents write on their Nodes whether they take what is handed on."""

    def __init__(self, taken: Taken = nothing_taken, *, said: bool = False) -> None:
        self._taken, self._said = taken, said
        self._egress: dict[str, EgressIp] = {}
        self._pools: tuple[IpPool, ...] = ()
        self._nodes: dict[str, Node] = {}
        self._lost: frozenset[str] = frozenset()
        self._drain = DEFAULT_DRAIN
        self._namespaces: dict[str, Labels] = {}
        self._pods: dict[ObjectName, Pod] = {}
        self._attached: dict[ObjectName, Attachment] = {}
        self._in: dict[str, dict[ObjectName, None]] = {}  # pods by namespace
        #: EgressIPs by the namespaces that they select, in order.
        self._of: dict[str, tuple[EgressIp, ...]] = {}
        self._whole = True  # who holds what has to be decided
        self._others: set[str] = set()  # EgressIPs that are others than before
        self._dirty: dict[ObjectName, None] = {}
        self._rules_of: dict[ObjectName, dict[Address, EgressRules]] = {}
        self._at: dict[Address, dict[ObjectName, None]] = {}  # pods that are selected, by address
        self._nodes_of: dict[Address, str] = {}
        #: What came of each address, by EgressIP.
        self.holdings: Mapping[str, tuple[EgressHolding, ...]] = {}
        #: What each pod that is selected is to do, by its own address.
        self.rules: dict[Address, EgressRules] = {}

    @property
    def addresses(self) -> frozenset[Address]:
        """All that EgressIPs name or were given."""
        return frozenset(address for each in self._egress.values() for address in each.addresses)

    # --- facts -------------------------------------------------------------------------------------------

    def put_egress(self, name: str, fact: EgressIp | None) -> None:
        """An EgressIP as it is now; None: there is none any more."""
        if fact == self._egress.get(name):
            return
        if fact is None:
            del self._egress[name]
        else:
            self._egress[name] = fact
        self._others.add(name)
        self._whole = True

    def put_pools(self, pools: Iterable[IpPool]) -> None:
        found = egress_pools(pools)
        self._whole |= found != self._pools
        self._pools = found

    def put_node(self, name: str, node: Node | None) -> None:
        before = self._nodes.get(name)
        if node == before:
            return
        self._whole |= _concern(node) != _concern(before)
        if node is None:
            del self._nodes[name]
        else:
            self._nodes[name] = node

    def drain_by(self, drain: DrainPolicy) -> None:
        """What makes a node drain."""
        self._whole |= drain != self._drain
        self._drain = drain

    def lose(self, nodes: frozenset[str]) -> None:
        """These nodes cannot be reached, whatever is declared."""
        self._whole |= nodes != self._lost
        self._lost = nodes

    def look_again(self) -> None:
        """What `taken` says may be another."""
        self._whole = True

    def put_namespace(self, name: str, labels: Labels | None) -> None:
        if labels == self._namespaces.get(name):
            return
        if labels is None:
            del self._namespaces[name]
        else:
            self._namespaces[name] = labels
        self._of.pop(name, None)
        self._dirty |= dict.fromkeys(self._in.get(name, ()))

    def put_pod(self, name: ObjectName, pod: Pod | None) -> None:
        before = self._pods.get(name)
        if pod == before:
            return
        if pod is None:
            del self._pods[name]
        else:
            self._pods[name] = pod
        self._index(name)
        if _about(pod) != _about(before):
            self._dirty[name] = None

    def attach(self, name: ObjectName, attachment: Attachment | None) -> None:
        """What a pod has on this node; None: it is not attached any more."""
        if attachment == self._attached.get(name):
            return
        if attachment is None:
            del self._attached[name]
        else:
            self._attached[name] = attachment
        self._index(name)
        self._dirty[name] = None

    def _index(self, name: ObjectName) -> None:
        those = self._in.setdefault(name.namespace, {})
        if name in self._pods or name in self._attached:
            those[name] = None
        else:
            those.pop(name, None)
        if not those:
            del self._in[name.namespace]

    # --- decisions ---------------------------------------------------------------------------------------

    def settle(self) -> bool:
        """Decide what was touched; whether anything is another than before."""
        if not (self._whole or self._dirty):
            return False
        due, before = self._dirty, self.holdings
        if self._whole:
            there, claims = frozenset(self._there()), self._claims()
            self.holdings = {
                name: tuple(self._verdicts(fact, there, claims)) for name, fact in self._egress.items()
            }
            due |= dict.fromkeys(self._concerned(before))
        self._whole, self._dirty = False, {}
        changed = self.holdings != before
        touched: dict[Address, None] = {}
        for name in due:
            touched |= self._settle_pod(name)
        # Pods first, all of them: an address may have gone from one that is no more to one that is new.
        for address in touched:
            changed |= self._settle_address(address)
        return changed

    def _concerned(self, before: Mapping[str, tuple[EgressHolding, ...]]) -> Iterator[ObjectName]:
        """The pods of namespaces that an EgressIP selects, or did, which is another or is held otherwise."""
        others = {
            name
            for name in {*before, *self.holdings, *self._others}
            if name in self._others or before.get(name) != self.holdings.get(name)
        }
        did = {space for space, those in self._of.items() if any(each.name in others for each in those)}
        if self._others:
            self._of.clear()
            self._others.clear()
        for space, pods in self._in.items():
            if space in did or any(each.name in others for each in self.selecting(space)):
                yield from pods

    def _settle_pod(self, name: ObjectName) -> dict[Address, None]:
        """Decide what a pod's packets are to do; the addresses for which that may be another than before."""
        before = self._rules_of.pop(name, {})
        now = dict(self._decided(name))
        if now:
            self._rules_of[name] = now
        for address in before.keys() - now.keys():
            del self._at[address][name]
        for address in now:
            self._at.setdefault(address, {})[name] = None
        return dict.fromkeys((*before, *now))

    def _settle_address(self, address: Address) -> bool:
        """Of a pod that is gone the object may be there still, while another has its address."""
        before = self.rules.pop(address, None), self._nodes_of.pop(address, None)
        if self._at[address]:
            name = self._whose(address)
            self.rules[address] = self._rules_of[name][address]
            attached = self._attached.get(name)
            here = attached is not None and address in attached.addresses
            self._nodes_of[address] = HERE if here else self._pods[name].node
        else:
            del self._at[address]
        return (self.rules.get(address), self._nodes_of.get(address)) != before

    def _whose(self, address: Address) -> ObjectName:
        def order(name: ObjectName) -> tuple[bool, str, ObjectName]:
            attached, pod = self._attached.get(name), self._pods.get(name)
            here = attached is not None and address in attached.addresses
            return here, pod.created if pod is not None else "", name

        return max(self._at[address], key=order)

    def node_of(self, address: Address) -> str:
        """Where the pod is that is selected and has an address; HERE: it is attached here, whatever is
        declared."""
        return self._nodes_of[address]

    def _decided(self, name: ObjectName) -> Iterator[tuple[Address, EgressRules]]:
        pod, attached = self._pods.get(name), self._attached.get(name)
        if pod is not None and (pod.host_network or pod.finished):
            return
        labels = pod.labels if pod is not None else attached.labels if attached is not None else {}
        selecting = [each for each in self.selecting(name.namespace) if each.pods.matches(labels)]
        if not selecting:
            return
        declared = pod.addresses if pod is not None else ()
        for own in dict.fromkeys((*(attached.addresses if attached is not None else ()), *declared)):
            rules = (self._rule(fact, name, own.version) for fact in selecting if fact.covers(own.version))
            if found := tuple(rule for rule in rules if rule is not None):
                yield own, found

    def selecting(self, namespace: str) -> tuple[EgressIp, ...]:
        """The EgressIPs that select a namespace, in the order in which they are looked at."""
        known = self._of.get(namespace)
        if known is None:
            labels = self._namespaces.get(namespace, {})
            those = (each for each in self._egress.values() if each.namespaces.matches(labels))
            known = self._of[namespace] = tuple(sorted(those, key=rank))
        return known

    def _rule(self, fact: EgressIp, pod: ObjectName, version: int) -> EgressRule | None:
        held = {
            each.address: each.node
            for each in self.holdings[fact.name]
            if each.held and each.address.version == version
        }
        destinations = tuple(each for each in fact.destinations if each.version == version)
        if fact.destinations and not destinations:
            return None  # it is for those of the other family alone
        address = chosen(pod, held)
        return EgressRule(
            fact.name, destinations, address, held.get(address, "") if address is not None else ""
        )

    def _verdicts(
        self, fact: EgressIp, there: frozenset[str], claims: Mapping[Address, Sequence[EgressIp]]
    ) -> Iterator[EgressHolding]:
        refused = {address: self._refusal(fact, address, claims[address]) for address in fact.addresses}
        good = tuple(address for address, (reason, _) in refused.items() if reason is Reason.HELD)
        nodes = {name for name, node in self._nodes.items() if fact.nodes.matches(node.labels)}
        at = {
            address: node
            for version in VERSIONS
            for address, node in holders(
                [each for each in good if each.version == version], nodes, nodes & there
            ).items()
        }
        for address, (reason, why) in refused.items():
            if reason is not Reason.HELD:
                yield EgressHolding(address, fact.name, reason, why)
            elif address in at:
                yield EgressHolding(address, fact.name, node=at[address])
            elif nodes:
                said = "no selected node is ready and accepts forwarded packets"
                yield EgressHolding(address, fact.name, Reason.NOT_READY, said)
            else:
                yield EgressHolding(address, fact.name, Reason.NO_NODE, "its nodeSelector selects no node")

    def _claims(self) -> Mapping[Address, Sequence[EgressIp]]:
        """Who has each address."""
        found: dict[Address, list[EgressIp]] = {}
        for fact in self._egress.values():
            for address in fact.addresses:
                found.setdefault(address, []).append(fact)
        return found

    def _there(self) -> set[str]:
        """The nodes that can hold an address now."""
        return {
            name
            for name, node in self._nodes.items()
            if name not in self._lost and usable(node, self._drain) and takes_part(node, said=self._said)
        }

    def _refusal(self, fact: EgressIp, address: Address, rivals: Sequence[EgressIp]) -> tuple[Reason, str]:
        reason, why = self._own_refusal(fact, address)
        if reason is not Reason.HELD:
            return reason, why
        first = min((each for each in rivals if self._own_refusal(each, address)[0] is Reason.HELD), key=rank)
        if first.name == fact.name:
            return Reason.HELD, ""
        return Reason.CONFLICT, f"EgressIP {first.name} is older and has {address}"

    def _own_refusal(self, fact: EgressIp, address: Address) -> tuple[Reason, str]:
        reason, why = self._taken(address)
        if reason is not Reason.HELD:
            return reason, why
        pool = fact.pool if address not in fact.wanted else ""
        if any(address in each.cidr for each in self._pools if pool in ("", each.name)):
            return Reason.HELD, ""
        where = f"IPPool {pool} does not hold" if pool else "no IPPool with allowedUses: [Egress] holds"
        return Reason.OUTSIDE_POOLS, f"{where} {address}"


def _concern(node: Node | None) -> object:
    """All of a Node that a decision looks at."""
    if node is None:
        return None
    return (
        node.labels,
        node.annotations,
        node.ready,
        node.deleting,
        node.shutting_down,
        node.taints,
        node.unschedulable,
    )


def _about(pod: Pod | None) -> object:
    """All of a Pod that a decision looks at."""
    if pod is None:
        return None
    return (pod.labels, pod.addresses, pod.host_network, pod.finished, pod.created)
