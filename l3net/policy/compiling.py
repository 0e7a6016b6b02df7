"""The chains of policies and of their combinations as long as a pod of this node needs them, and with them
the sets that they look into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from l3net.firewall.policycontents import PolicyContents
from l3net.model import Address, Direction, Labels, Node, Policy
from l3net.policy.membership import Membership
from l3net.policy.mixing import Mix, PolicyKey, Use, key_of, mix_name, mixed
from l3net.policy.rules import Chains, compiled
from l3net.policy.sets import NodeSet


@dataclass(slots=True)
class _Joined:
    """A combination, the policies it is of, and how many pods have it."""

    where: str
    keys: tuple[PolicyKey, ...]
    mix: Mix
    pods: int = 0


@dataclass(frozen=True, slots=True)
class Origin:
    """What decided about a packet: a rule of a policy, or (`rule` None) that the rules of these
    NetworkPolicies all do not accept it."""

    direction: Direction
    policies: tuple[PolicyKey, ...]
    rule: int | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """A counter by its name, and the `action` (accept or deny) that it counts: of the rules of one policy, or
    (`default`) of what no rule of the NetworkPolicies accepts."""

    name: str
    action: str
    by: Origin
    default: bool = False


class Compiling:
    """`join` and `part` pods and combinations; `exchange` policies that have changed."""

    def __init__(self, contents: PolicyContents, members: Membership) -> None:
        self._contents = contents
        self._members = members
        self._joined: dict[str, _Joined] = {}
        self._policies: Mapping[PolicyKey, Policy] = {}
        self._used: Counter[Use] = Counter()
        self._chains: dict[Use, Chains] = {}
        self._plain: Counter[str] = Counter()  # sets of prefixes, and counters
        self._nodes: dict[str, Node] = {}
        self._node_sets: Counter[NodeSet] = Counter()

    # --- combinations ------------------------------------------------------------------------------------

    def join(self, where: str, policies: Sequence[Policy]) -> str:
        """One more pod has these policies at a map: the chain it leads to."""
        name = mix_name(where, policies)
        joined = self._joined.get(name)
        if joined is None:
            mix = mixed(where, policies)
            keys = tuple(map(key_of, policies))
            joined = self._joined[name] = _Joined(where, keys, mix)
            self._put(mix)
        joined.pods += 1
        return name

    def part(self, name: str) -> None:
        """One less pod leads to a combination's chain."""
        joined = self._joined[name]
        joined.pods -= 1
        if not joined.pods:
            del self._joined[name]
            self._drop(joined.mix)

    def _put(self, mix: Mix) -> None:
        for use in mix.uses:
            self._use(use)
        if mix.counter:
            self._contents.put_counter(mix.counter)
        for name, rules in mix.chains.items():
            self._contents.put_chain(name, rules)

    def _drop(self, mix: Mix) -> None:
        for name in mix.chains:
            self._contents.drop_chain(name)
        if mix.counter:
            self._contents.drop_counter(mix.counter)
        for use in mix.uses:
            self._leave(use)

    def exchange(self, changed: Iterable[PolicyKey], policies: Mapping[PolicyKey, Policy]) -> None:
        """These policies are others now, or gone; gone are only those that no pod has after this."""
        self._policies = policies
        changed = {key for key in changed if key in policies}
        if not changed:
            return
        for use in [use for use in self._chains if use.policy in changed]:
            old, new = self._chains[use], self._compiled(use)
            self._chains[use] = new
            self._hold(new)
            for name, rules in new.chains.items():
                self._contents.put_chain(name, rules)
            for name in old.chains.keys() - new.chains.keys():
                self._contents.drop_chain(name)
            self._release(old)
        for joined in self._joined.values():
            if not changed.isdisjoint(joined.keys) and all(key in policies for key in joined.keys):
                self._again(joined)

    def _again(self, joined: _Joined) -> None:
        """A combination whose policies are still those, but may pass or log otherwise."""
        old = joined.mix
        ordered = sorted((self._policies[key] for key in joined.keys), key=lambda policy: policy.order)
        new = mixed(joined.where, ordered)
        if new == old or new.name != old.name:  # in another order they are another one, which pods will join
            return
        joined.mix = new
        self._put(new)
        for name in old.chains.keys() - new.chains.keys():
            self._contents.drop_chain(name)
        if old.counter and not new.counter:
            self._contents.drop_counter(old.counter)
        for use in old.uses:
            self._leave(use)

    # --- policies ----------------------------------------------------------------------------------------

    def _compiled(self, use: Use) -> Chains:
        return compiled(self._policies[use.policy], use.direction, use.passing)

    def _use(self, use: Use) -> None:
        self._used[use] += 1
        if self._used[use] > 1:
            return
        made = self._chains[use] = self._compiled(use)
        self._hold(made)
        for name, rules in made.chains.items():
            self._contents.put_chain(name, rules)

    def _leave(self, use: Use) -> None:
        self._used[use] -= 1
        if self._used[use]:
            return
        del self._used[use]
        made = self._chains.pop(use)
        for name in made.chains:
            self._contents.drop_chain(name)
        self._release(made)

    def _hold(self, made: Chains) -> None:
        for of in made.pods:
            self._members.use(of)
        for nodes in made.nodes:
            self._use_nodes(nodes)
        for name, (kind, elements) in made.nets.items():
            self._plain[name] += 1
            self._contents.put_set(name, kind, elements)
        for name in made.counters:
            self._plain[name] += 1
            self._contents.put_counter(name)
        self._contents.refusing.update(_refusing(made))

    def _release(self, made: Chains) -> None:
        refusing = self._contents.refusing
        for name in _refusing(made):
            refusing[name] -= 1
            if not refusing[name]:
                del refusing[name]
        for of in made.pods:
            self._members.leave(of)
        for nodes in made.nodes:
            self._leave_nodes(nodes)
        for name in (*made.nets, *made.counters):
            self._plain[name] -= 1
            if not self._plain[name]:
                del self._plain[name]
                (self._contents.drop_set if name in made.nets else self._contents.drop_counter)(name)

    # --- what chains and counters are of -----------------------------------------------------------------

    def origin(self, about: str) -> Origin | None:
        """What a logged packet was denied by: `about` is what rules.log_statement was given. None: by what is
        in force no more."""
        joined = self._joined.get(about)
        if joined is not None:
            return _accepting(joined)
        name, _, number = about.rpartition("-")
        if not number.isdecimal():
            return None
        for use, made in self._chains.items():
            if made.name == name:
                return Origin(use.direction, (use.policy,), int(number))
        return None

    def counted(self) -> Iterator[Counted]:
        """The counters in use, each once."""
        seen: set[str] = set()
        for use, made in self._chains.items():
            for name in made.counters - seen:
                seen.add(name)
                yield Counted(name, name.rpartition("-")[2], Origin(use.direction, (use.policy,)))
        for joined in self._joined.values():
            if joined.mix.counter:
                yield Counted(joined.mix.counter, "deny", _accepting(joined), default=True)

    # --- nodes -------------------------------------------------------------------------------------------

    def put_node(self, name: str, node: Node | None) -> None:
        """A Node as it is declared."""
        before = self._nodes.get(name)
        if node is None:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = node
        if _same(before, node):
            return
        for each in self._node_sets:
            self._of_node(each, node, 1)
            self._of_node(each, before, -1)

    def _of_node(self, of: NodeSet, node: Node | None, difference: int) -> None:
        if node is None or not of.nodes.matches(node.labels):
            return
        change = self._contents.add if difference > 0 else self._contents.remove
        for address in node.addresses:
            change(of.name(address.version), str(address))

    def _use_nodes(self, of: NodeSet) -> None:
        self._node_sets[of] += 1
        if self._node_sets[of] > 1:
            return
        for version in (4, 6):
            self._contents.put_set(of.name(version), of.type_of(version))
        for node in self._nodes.values():
            self._of_node(of, node, 1)

    def _leave_nodes(self, of: NodeSet) -> None:
        self._node_sets[of] -= 1
        if not self._node_sets[of]:
            del self._node_sets[of]
            for version in (4, 6):
                self._contents.drop_set(of.name(version))

    def node_at(self, address: Address) -> Node | None:
        """The node that has an address."""
        return next((node for node in self._nodes.values() if address in node.addresses), None)

    def node_labels_at(self, address: Address) -> Labels | None:
        """Its labels."""
        node = self.node_at(address)
        return node.labels if node is not None else None


def _accepting(joined: _Joined) -> Origin:
    return Origin(Direction(joined.where), tuple(key for key in joined.keys if key[0]))


def _refusing(made: Chains) -> Iterator[str]:
    """The sets that may refuse whoever comes into them."""
    if made.refuses:
        for version in (4, 6):
            yield from (of.name(version) for of in made.pods)
            yield from (of.name(version) for of in made.nodes)


def _same(before: Node | None, node: Node | None) -> bool:
    """Whether sets of nodes hold them alike."""
    if before is None or node is None:
        return before is node
    return before.addresses == node.addresses and before.labels == node.labels
