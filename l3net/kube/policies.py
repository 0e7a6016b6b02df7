"""NetworkPolicy (networking.k8s.io/v1) and ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2) as facts.

A policy protects. One with a value that is wrong is refused whole, and the last good version stays in force.
What is not understood at all, because the API has learned a kind of peer or port that this release does not
know, fails closed, as the API asks for (clusternetworkpolicy_types.go): it is left out of a rule that
accepts, and a rule that denies or passes on denies everybody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias, TypeVar

from l3net.addresses import contains
from l3net.errors import ManifestError
from l3net.kube.fields import Field, shown, type_name
from l3net.kube.pods import protocol
from l3net.kube.selectors import selector
from l3net.model import (
    EVERYTHING,
    IpBlock,
    NodeSelection,
    ObjectName,
    PodSelection,
    Policy,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Prefix,
    Rule,
    Selector,
    Tier,
)
from l3net.naming import ANNOTATION_LOG_DROPS

#: Rules of a direction, and peers, ports and networks of a rule (kubebuilder markers of v1alpha2).
MOST: Final = 25
HIGHEST_PRIORITY: Final = 1000
_HIGHEST_PORT = 65535
_LONGEST_RULE_NAME = 100
_T = TypeVar("_T")
#: Kinds of peers, and how each is read: one entry may name several.
_Peers: TypeAlias = Mapping[str, Callable[[Field], Iterable[PolicyPeer]]]


def network_policy(document: Field, name: ObjectName) -> Policy:
    """A NetworkPolicy: its rules accept, and what none accepts is denied in the directions it speaks of."""
    spec = document["spec"]
    ingress, egress = _directions(spec)
    return Policy(
        name=name,
        tier=Tier.NETWORK_POLICY,
        subject=PodSelection(name.namespace, _selector(spec["podSelector"])),
        ingress=_rules(spec["ingress"], "from", name.namespace) if ingress else None,
        egress=_rules(spec["egress"], "to", name.namespace) if egress else None,
        log_drops=_log_drops(document["metadata"]),
    )


def _directions(spec: Field) -> tuple[bool, bool]:
    """Whether it speaks of ingress and of egress. Where nothing is said: of ingress, and of egress if it has
    rules of it (SetDefaults_NetworkPolicy)."""
    types = [_direction(item) for item in spec["policyTypes"].items()]
    if types:
        return "Ingress" in types, "Egress" in types
    return True, any(True for _ in spec["egress"].items())


def _direction(field: Field) -> str:
    text = field.text()
    if text not in ("Ingress", "Egress"):
        raise field.wrong("must be Ingress or Egress")
    return text


def _rules(field: Field, peers: str, namespace: str) -> tuple[PolicyRule, ...]:
    return _understood(field, lambda item: _accepting(item, peers, namespace))[0]


def _accepting(field: Field, peers: str, namespace: str) -> PolicyRule:
    """No peers, in whatever way that is said, are everybody, and no ports all of them."""
    if not field.present:
        raise field.wrong("must be an object, not null")
    _nothing_else(field, peers, "ports")
    whom, ports = _listed(field[peers]), _listed(field["ports"])
    return PolicyRule(
        Rule.ACCEPT,
        _understood(whom, lambda item: _peer(item, namespace))[0] if whom.present else None,
        _understood(ports, _port)[0] if ports.present else None,
    )


def _listed(field: Field) -> Field:
    """A list; an empty one is none."""
    return field if any(True for _ in field.items()) else Field(field.path, None)


def _peer(field: Field, namespace: str) -> PolicyPeer:
    """Raises _NotUnderstoodError for one with no field that is known."""
    pods, spaces, block = field["podSelector"], field["namespaceSelector"], field["ipBlock"]
    if not (pods.present or spaces.present or block.present):
        raise _NotUnderstoodError(
            field.path, "names no peer that is known: podSelector, namespaceSelector or ipBlock"
        )
    _nothing_else(field, "podSelector", "namespaceSelector", "ipBlock")
    if block.present:
        if pods.present or spaces.present:
            raise block.wrong("stands alone, without selectors")
        return _ip_block(block)
    return PodSelection(_selector(spaces) if spaces.present else namespace, _selector(pods))


def _ip_block(field: Field) -> IpBlock:
    _nothing_else(field, "cidr", "except")
    cidr = _cidr(field["cidr"])
    return IpBlock(cidr, tuple(_except(item, cidr) for item in field["except"].items()))


def _except(field: Field, cidr: Prefix) -> Prefix:
    found = _cidr(field)
    if found == cidr or not contains(cidr, found):
        raise field.wrong(f"{found} is not a part of {cidr}")
    return found


def _cidr(field: Field) -> Prefix:
    """As the API server takes it: host bits are dropped, leading zeros read as decimal (ParseCIDRSloppy)."""
    text = field.text()
    plain = re.sub(r"(?<![0-9])0+(?=[0-9])", "", text) if ":" not in text else text
    return Field(field.path, plain).prefix(masked=True)


def _port(field: Field) -> PolicyPort:
    _nothing_else(field, "protocol", "port", "endPort")
    of, port, end = protocol(field["protocol"]), field["port"], field["endPort"]
    if isinstance(port.value, str):
        if end.present:
            raise end.wrong("goes with a port number, not with a name")
        return PolicyPort(of, name=_port_name(port))
    if not port.present:
        if end.present:
            raise end.wrong("goes with port")
        return PolicyPort(of)
    first = port.integer(1, _HIGHEST_PORT)
    return PolicyPort(of, first, end.integer(first, _HIGHEST_PORT, default=first))


def _port_name(field: Field) -> str:
    """An IANA service name (RFC 6335 section 5.1), as the API server has it."""
    text = field.text()
    if not (len(text) <= 15 and _PORT_NAME.fullmatch(text) and re.search("[a-z]", text)):
        hint = "; leave out the quotes of a number" if text.isdecimal() else ""
        raise field.wrong(f"{shown(text)!r} is not a port name{hint}")
    return text


_PORT_NAME = re.compile("[a-z0-9]+(-[a-z0-9]+)*")


def cluster_network_policy(document: Field, name: ObjectName) -> Policy:
    """A ClusterNetworkPolicy: the first of its rules that matches decides."""
    spec = document["spec"]
    return Policy(
        name=name,
        tier=_one_of(spec["tier"], _TIERS),
        subject=_subject(spec["subject"]),
        ingress=_deciding(spec["ingress"], "from", _CLUSTER_PEERS),
        egress=_deciding(spec["egress"], "to", _EGRESS_PEERS),
        priority=spec["priority"].integer(0, HIGHEST_PRIORITY),
        log_drops=_log_drops(document["metadata"]),
    )


_TIERS: Final = {"Admin": Tier.ADMIN, "Baseline": Tier.BASELINE}
_ACTIONS: Final = {each.value: each for each in Rule}


def _one_of(field: Field, values: dict[str, _T]) -> _T:
    text = field.text()
    if text not in values:
        raise field.wrong(f"{shown(text)} is not known; it must be one of {', '.join(values)}")
    return values[text]


def _subject(field: Field) -> PodSelection:
    key = _only_key(field)
    if key not in ("namespaces", "pods"):
        raise field.wrong("must be either namespaces or pods")
    return _of_namespaces(field[key]) if key == "namespaces" else _of_pods(field[key])


def _deciding(field: Field, peers: str, known: _Peers) -> tuple[PolicyRule, ...] | None:
    """Without rules it says nothing of a direction."""
    items = list(field.items())
    _bounded(field, items, 0)
    return tuple(_cluster_rule(item, peers, known) for item in items) or None


def _cluster_rule(field: Field, peers: str, known: _Peers) -> PolicyRule:
    action, name = _one_of(field["action"], _ACTIONS), field["name"].text(default="")
    if len(name) > _LONGEST_RULE_NAME:
        raise field["name"].wrong(f"is too long: {_LONGEST_RULE_NAME} characters")

    def peers_of(item: Field) -> tuple[PolicyPeer, ...]:
        key = _only_key(item)
        if key not in known:
            raise _NotUnderstoodError(item.path, f"names no peer that is known: {', '.join(known)}")
        return tuple(known[key](item[key]))

    _bounded(field[peers], list(field[peers].items()), 1)
    _bounded(field["protocols"], list(field["protocols"].items()), 1 if field["protocols"].present else 0)
    whom, everyone = _understood(field[peers], peers_of)
    ports, every_port = _understood(field["protocols"], _cluster_port)
    if action is not Rule.ACCEPT and not (everyone and every_port):
        return PolicyRule(Rule.DENY, None, None, name)
    return PolicyRule(
        action,
        tuple(peer for several in whom for peer in several),
        ports if field["protocols"].present else None,
        name,
    )


def _of_namespaces(field: Field) -> PodSelection:
    return PodSelection(_selector(field))


def _of_pods(field: Field) -> PodSelection:
    _nothing_else(field, "namespaceSelector", "podSelector")
    return PodSelection(_selector(field["namespaceSelector"]), _selector(field["podSelector"]))


def _networks(field: Field) -> tuple[IpBlock, ...]:
    items = list(field.items())
    _bounded(field, items, 1)
    return tuple(IpBlock(_cidr(item)) for item in items)


_CLUSTER_PEERS: Final[_Peers] = {
    "namespaces": lambda field: (_of_namespaces(field),),
    "pods": lambda field: (_of_pods(field),),
}
_EGRESS_PEERS: Final[_Peers] = {
    **_CLUSTER_PEERS,
    "networks": _networks,
    "nodes": lambda field: (NodeSelection(_selector(field)),),
}


def _cluster_port(field: Field) -> PolicyPort:
    key = _only_key(field)
    if key == "destinationNamedPort":
        return PolicyPort("", name=_port_name(field[key]))
    if key not in ("tcp", "udp", "sctp") or _only_key(field[key]) != "destinationPort":
        raise _NotUnderstoodError(
            field.path,
            "names no ports that are known: tcp, udp, sctp with a destinationPort, destinationNamedPort",
        )
    port = field[key]["destinationPort"]
    kind = _only_key(port)
    if kind == "number":
        number = port["number"].integer(1, _HIGHEST_PORT)
        return PolicyPort(key, number, number)
    if kind != "range":
        raise port.wrong("must be either a number or a range")
    first = port["range"]["start"].integer(1, _HIGHEST_PORT - 1)
    return PolicyPort(key, first, port["range"]["end"].integer(first + 1, _HIGHEST_PORT))


# --- of both -----------------------------------------------------------------------------------------------


class _NotUnderstoodError(ManifestError):
    """Something is of a kind, or has a field, that is not known. Outside of lists of peers, ports and rules
    it is an error like any other."""


def _understood(field: Field, read: Callable[[Field], _T]) -> tuple[tuple[_T, ...], bool]:
    """What is understood of a list, and whether that is all of it; the rest is noted."""
    found: list[_T] = []
    whole = True
    for item in field.items():
        try:
            found.append(read(item))
        except _NotUnderstoodError as err:
            if item.skipped is None:
                raise
            item.skipped.append(err)
            whole = False
    return tuple(found), whole


def _selector(field: Field) -> Selector:
    """A LabelSelector; an empty one selects everything, so that a name written wrong would widen it."""
    if not field.present:
        return EVERYTHING
    _nothing_else(field, "matchLabels", "matchExpressions")
    return selector(field)


def _only_key(field: Field) -> str:
    """The one field that an object has; empty if it has none or several."""
    keys = _keys(field)
    return keys[0] if len(keys) == 1 else ""


def _keys(field: Field) -> list[str]:
    """The fields that an object has; an absent one has none."""
    if field.value is None:
        return []
    if not isinstance(field.value, Mapping):
        raise field.wrong(f"must be an object, not {type_name(field.value)}")
    return [str(key) for key, value in field.value.items() if value is not None]


def _nothing_else(field: Field, *known: str) -> None:
    """Refuse unknown fields: each field of these objects narrows what is meant."""
    for key in _keys(field):
        if key not in known:
            why = f"has an unknown field, {shown(key)}; there are {', '.join(known)}"
            raise _NotUnderstoodError(field.path, why)


def _bounded(field: Field, items: list[Field], least: int) -> None:
    if not least <= len(items) <= MOST:
        raise field.wrong(f"must have {least} to {MOST} entries, not {len(items)}")


def _log_drops(metadata: Field) -> bool:
    field = metadata["annotations"][ANNOTATION_LOG_DROPS]
    return any(field.alone(_true)) if field.present else False


def _true(field: Field) -> bool:
    if field.text() not in ("true", "false"):
        raise field.wrong('must be "true" or "false"')
    return field.value == "true"
