"""Calico's NetworkPolicy and GlobalNetworkPolicy, as far as Kubernetes' policies say the same.

A policy of a namespace whose rules all allow is a NetworkPolicy, unless one that denies comes after it. Any
other is a ClusterNetworkPolicy: of the Admin tier, if it comes before Kubernetes' NetworkPolicies (which
Calico gives the order 1000), else of the Baseline tier; and since Calico denies at the end of a tier what no
rule has matched, a policy of the Baseline tier after all others denies the rest. A policy with a rule that
cannot be said is not imported at all: half of one would open or close what nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

from l3net.addresses import contains
from l3net.errors import ManifestError
from l3net.importing.expressions import selector, union
from l3net.importing.source import Imported, Outcome, SourceObject, object_name, only, read_each
from l3net.kube.fields import Field
from l3net.model import (
    EVERYTHING,
    IpBlock,
    ObjectName,
    PodSelection,
    Policy,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Prefix,
    Requirement,
    Rule,
    Selector,
    Tier,
)

#: Of Kubernetes' NetworkPolicies in Calico's tier `default`; and where a policy without an order stands.
_KUBERNETES_ORDER: Final = 1000.0
_LAST: Final = float("inf")
#: The priority of what denies the rest.
_DENY_PRIORITY: Final = 1000
_NAME: Final = "kubernetes.io/metadata.name"
_PROTOCOLS: Final = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp", 6: "tcp", 17: "udp", 132: "sctp"}
_ALL: Final[tuple[Prefix, ...]] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
#: What is known of a policy, and of either end of a rule: another field would narrow what is meant.
_FIELDS: Final = (
    "tier", "order", "selector", "namespaceSelector", "serviceAccountSelector", "types", "ingress", "egress",
    "doNotTrack", "preDNAT", "applyOnForward", "performanceHints",
)  # fmt: skip
_ENTITY: Final = (
    "nets", "notNets", "selector", "notSelector", "namespaceSelector", "serviceAccounts", "services", "ports",
    "notPorts",
)  # fmt: skip
_ACTIONS: Final = {"Allow": Rule.ACCEPT, "Deny": Rule.DENY}


def namespace_label(name: str) -> str:
    """A label that Calico gives a namespace, as Kubernetes has it."""
    return _NAME if name == "projectcalico.org/name" else name


@dataclass(frozen=True, slots=True)
class _Draft:
    """A policy as it was read: its order and name in Calico, and its rules for each of its types.
    `namespace` is empty for one of the cluster."""

    source: SourceObject
    order: float
    namespace: str
    name: str
    rules: dict[str, tuple[PolicyRule, ...]]

    def has(self, action: Rule) -> bool:
        return any(rule.action is action for rules in self.rules.values() for rule in rules)


@dataclass(frozen=True, slots=True)
class _Read:
    """A policy that becomes a ClusterNetworkPolicy: its order and name in Calico, and what is said."""

    order: float
    name: str
    subject: PodSelection
    rules: dict[str, tuple[PolicyRule, ...]]
    types: tuple[str, ...]


def read(objects: Iterable[SourceObject], into: Imported) -> None:
    """Put policies into `into`."""
    drafts: dict[int, _Draft] = {}

    def keep(each: SourceObject) -> None:
        drafts[id(each)] = _drafted(each)

    objects = list(objects)
    read_each(objects, keep)
    denying = [(draft.order, draft.name) for draft in drafts.values() if draft.has(Rule.DENY)]
    clusterwide: list[_Read] = []
    read_each(
        [each for each in objects if id(each) in drafts],
        lambda each: _one(drafts[id(each)], into, clusterwide, denying),
        "spec",
    )
    for number, found in enumerate(sorted(clusterwide, key=lambda one: (one.order, one.name))):
        _declare(into, found, min(number, _DENY_PRIORITY - 1))


def _declare(into: Imported, found: _Read, priority: int) -> None:
    tier = Tier.ADMIN if found.order < _KUBERNETES_ORDER else Tier.BASELINE
    if any(found.rules.values()):
        name = ObjectName("", found.name)
        into.policies[name] = Policy(
            name,
            tier,
            found.subject,
            found.rules.get("Ingress") or None,
            found.rules.get("Egress") or None,
            priority,
        )
    rest = {
        "Ingress": (PolicyRule(Rule.DENY, (PodSelection(EVERYTHING),)),),
        "Egress": (PolicyRule(Rule.DENY, tuple(map(IpBlock, _ALL))),),
    }
    denied = ObjectName("", f"{found.name}-rest"[:253])
    into.policies[denied] = Policy(
        denied,
        Tier.BASELINE,
        found.subject,
        rest["Ingress"] if "Ingress" in found.types else None,
        rest["Egress"] if "Egress" in found.types else None,
        _DENY_PRIORITY,
    )


def _drafted(each: SourceObject) -> _Draft:
    """Raises ManifestError for what no policy of Kubernetes' says."""
    spec = each.spec
    only(spec, *_FIELDS)
    if spec["tier"].text(default="default") != "default":
        raise spec["tier"].wrong(
            "only policies of the tier default are imported: the two tiers of a ClusterNetworkPolicy do "
            "not pass on "
            "to one another as Calico's do"
        )
    for field in ("doNotTrack", "preDNAT", "applyOnForward"):
        if spec[field].flag(default=False):
            raise spec[field].wrong("is for a host's own traffic; l3net's policies are for pods")
    if spec["serviceAccountSelector"].text(default=""):
        raise spec["serviceAccountSelector"].wrong("Kubernetes' policies do not look at service accounts")
    namespace = (each.name.namespace or "default") if each.kind == "NetworkPolicy" else ""
    rules = {kind: _rules(each, spec[kind.lower()], kind, namespace) for kind in _types(spec)}
    return _Draft(each, _order(spec["order"]), namespace, each.name.name.removeprefix("default."), rules)


def _one(draft: _Draft, into: Imported, clusterwide: list[_Read], denying: list[tuple[float, str]]) -> None:
    """`denying` are the places of policies that deny something: those of the Admin tier are asked before
    NetworkPolicies, so that one that comes later in Calico must not be."""
    each, spec = draft.source, draft.source.spec
    before = any((draft.order, draft.name) < other < (_KUBERNETES_ORDER, "") for other in denying)
    if draft.namespace and not draft.has(Rule.DENY) and not before:
        name = ObjectName(draft.namespace, draft.name)
        into.policies[name] = Policy(
            name,
            Tier.NETWORK_POLICY,
            PodSelection(draft.namespace, selector(spec["selector"])),
            draft.rules.get("Ingress"),
            draft.rules.get("Egress"),
        )
        each.carried("spec", f"NetworkPolicy {name}")
        return
    named = object_name("calico", draft.namespace, draft.name) if draft.namespace else object_name(draft.name)
    found = {
        kind: tuple(_of_cluster(rule, kind, draft.namespace) for rule in rules)
        for kind, rules in draft.rules.items()
    }
    clusterwide.append(_Read(draft.order, named, _subject(spec, draft.namespace), found, tuple(found)))
    if draft.order < _KUBERNETES_ORDER:
        each.carried("spec", f"ClusterNetworkPolicy {named} (Admin) and {named}-rest (Baseline)")
    else:
        each.changed(
            "spec",
            f"ClusterNetworkPolicy {named} and {named}-rest, of the Baseline tier: they are not asked "
            "about pods "
            "that a NetworkPolicy selects",
        )
    if "Ingress" in found:
        each.note(
            Outcome.UNSAID,
            "spec.ingress",
            "a ClusterNetworkPolicy says nothing of connections from outside the cluster: they are allowed "
            "unless a "
            "NetworkPolicy selects the pods. Write one in each namespace",
        )


def _types(spec: Field) -> tuple[str, ...]:
    named = tuple(item.text() for item in spec["types"].items())
    if named:
        return tuple(kind for kind in ("Ingress", "Egress") if kind in named)
    ingress, egress = (any(True for _ in spec[key].items()) for key in ("ingress", "egress"))
    return (("Ingress",) if ingress or not egress else ()) + (("Egress",) if egress else ())


def _order(at: Field) -> float:
    if not at.present:
        return _LAST
    if isinstance(at.value, int | float) and not isinstance(at.value, bool):
        return float(at.value)
    raise at.wrong("must be a number")


def _subject(spec: Field, namespace: str) -> PodSelection:
    spaces = _space(namespace) if namespace else selector(spec["namespaceSelector"], namespace_label)
    return _within(spec["selector"], spaces, selector(spec["selector"]))


def _space(namespace: str) -> Selector:
    return Selector((Requirement(_NAME, "In", (namespace,)),))


def _within(at: Field, spaces: Selector, pods: Selector) -> PodSelection:
    """What Calico says of a pod's namespace by labels of the pod is said of the namespace."""
    kept: list[Requirement] = []
    of_space = list(spaces.requirements)
    for each in pods.requirements:
        if each.key == "projectcalico.org/namespace":
            of_space.append(Requirement(_NAME, each.operator, each.values))
        elif each.key == "projectcalico.org/orchestrator" and each.operator in ("In", "Exists"):
            continue  # of every pod
        elif each.key.startswith(("projectcalico.org/", "pcns.", "pcsa.")):
            raise at.wrong(f"looks at {each.key}, a label that Calico alone gives pods")
        else:
            kept.append(each)
    return PodSelection(Selector(tuple(of_space)), Selector(tuple(kept)))


def _rules(each: SourceObject, field: Field, kind: str, namespace: str) -> tuple[PolicyRule, ...]:
    found: list[PolicyRule] = []
    for item in field.items():
        action = item["action"].text()
        if action == "Log":
            each.changed(
                item, "logs nothing: the annotation l3net.io/log-drops tells of what a policy denies"
            )
            continue
        if action not in _ACTIONS:
            raise item["action"].wrong(
                f"{action[:20]} cannot be said: a policy that passes on skips all of its tier"
            )
        found.append(_rule(item, _ACTIONS[action], kind, namespace))
    return tuple(found)


def _rule(item: Field, action: Rule, kind: str, namespace: str) -> PolicyRule:
    for field in ("notProtocol", "icmp", "notICMP", "http"):
        if item[field].present:
            raise item[field].wrong("Kubernetes' policies do not look at it")
    only(item, "action", "ipVersion", "protocol", "source", "destination", "metadata")
    source, destination = item["source"], item["destination"]
    for entity in (source, destination):
        only(entity, *_ENTITY)
    whom, other = (source, destination) if kind == "Ingress" else (destination, source)
    for field in (
        "nets",
        "notNets",
        "selector",
        "notSelector",
        "namespaceSelector",
        "serviceAccounts",
        "services",
    ):
        if other[field].value not in (None, "", []):
            raise other[field].wrong("the policy's own pods are chosen by spec.selector alone")
    for at in (source["ports"], source["notPorts"], destination["notPorts"]):
        if any(True for _ in at.items()):
            raise at.wrong("Kubernetes' policies look at destination ports alone, one by one or by range")
    peers = _peers(whom, namespace)
    version = item["ipVersion"].value
    if version is not None and (
        peers is None or not all(isinstance(one, IpBlock) and one.cidr.version == version for one in peers)
    ):
        raise item["ipVersion"].wrong("is said of networks alone, by writing those of one family")
    return PolicyRule(action, peers, _ports(item, destination["ports"]))


def _ports(item: Field, field: Field) -> tuple[PolicyPort, ...] | None:
    named = item["protocol"].value
    ports = list(field.items())
    if named is None:
        if ports:
            raise item["protocol"].wrong("is required with ports")
        return None
    protocol = _PROTOCOLS.get(named.upper() if isinstance(named, str) else named)
    if protocol is None:
        raise item["protocol"].wrong(f"{str(named)[:20]} cannot be said: there are TCP, UDP and SCTP")
    return tuple(_port(at, protocol) for at in ports) or (PolicyPort(protocol),)


def _port(at: Field, protocol: str) -> PolicyPort:
    if isinstance(at.value, str):
        first, colon, last = at.value.partition(":")
        if first.isdecimal() and (last.isdecimal() or not colon):
            low, high = int(first), int(last or first)
            if not 1 <= low <= high <= 65535:
                raise at.wrong(f"{at.value[:20]} is not a range of ports")
            return PolicyPort(protocol, low, high)
        return PolicyPort(protocol, name=at.value)
    number = at.integer(1, 65535)
    return PolicyPort(protocol, number, number)


def _peers(whom: Field, namespace: str) -> tuple[PolicyPeer, ...] | None:
    for field in ("notSelector", "services", "serviceAccounts"):
        if whom[field].value not in (None, ""):
            raise whom[field].wrong("Kubernetes' policies do not look at it")
    nets, without = whom["nets"].prefixes(), whom["notNets"].prefixes()
    pods, spaces = whom["selector"].text(default=""), whom["namespaceSelector"].text(default="")
    if (nets or without) and (pods or spaces):
        raise whom["nets"].wrong("stands beside a selector, both of which have to match: no policy says that")
    if nets or without:
        return _blocks(nets or _ALL, without)
    if not pods and not spaces:
        return None
    if "global()" in spaces.replace(" ", ""):
        raise whom["namespaceSelector"].wrong("global() is of hosts and sets of networks")
    found: list[PolicyPeer] = []
    for space in union(whom["namespaceSelector"], namespace_label):
        for pod in union(whom["selector"]):
            within = _within(whom["selector"], space, pod)
            if namespace and not spaces and within.namespaces == EVERYTHING:
                within = PodSelection(namespace, within.pods)
            found.append(within)
    return tuple(found)


def _blocks(nets: Sequence[Prefix], without: Sequence[Prefix]) -> tuple[IpBlock, ...]:
    return tuple(
        IpBlock(net, tuple(each for each in without if contains(net, each) and each != net))
        for net in nets
        if not any(contains(each, net) for each in without)
    )


def _of_cluster(rule: PolicyRule, kind: str, namespace: str) -> PolicyRule:
    """As a ClusterNetworkPolicy says it. Raises ManifestError for what it does not."""
    where = f"spec.{kind.lower()}"
    peers = rule.peers
    if peers is None:
        peers = (PodSelection(EVERYTHING),) if kind == "Ingress" else tuple(map(IpBlock, _ALL))
    found: list[PolicyPeer] = []
    for peer in peers:
        if isinstance(peer, IpBlock) and (kind == "Ingress" or peer.excepts):
            raise ManifestError(
                where,
                "a ClusterNetworkPolicy has networks in egress alone, and none without a part: write "
                "NetworkPolicies",
            )
        if isinstance(peer, PodSelection) and isinstance(peer.namespaces, str):
            found.append(PodSelection(_space(namespace), peer.pods))
        else:
            found.append(peer)
    return PolicyRule(rule.action, tuple(found), rule.ports, rule.name)
