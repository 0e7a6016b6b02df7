"""The policies there are, as rows and one by one: what `l3net policy list` and `show` answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from l3net.errors import ConfigError
from l3net.model import Direction, Kind, ObjectName, Policy, Tier
from l3net.policy.manifest import manifest
from l3net.policy.tenants import PREFIX
from l3net.policy.verdict import kind_of
from l3net.policy.view import Whereabouts
from l3net.policy.words import direction_words, subject_words


def rows(view: Whereabouts) -> Iterable[dict[str, Any]]:
    """A row a policy, in the order in which they are asked."""
    subjects = view.subjects()
    for policy in view.policies:
        yield row(policy, subjects.get((policy.tier, policy.name), ()))


def row(policy: Policy, pods: Sequence[ObjectName]) -> dict[str, Any]:
    """`ingress` and `egress` are numbers of rules, None where the policy says nothing of that."""
    cluster = policy.tier is not Tier.NETWORK_POLICY
    return {
        "kind": kind_of(policy.tier).value,
        "namespace": policy.name.namespace,
        "name": policy.name.name,
        "tier": policy.tier.shown,
        "priority": policy.priority if cluster else None,
        "subject": subject_words(policy),
        "pods": list(map(str, pods)),
        **{each.value: None if (rules := policy.rules(each)) is None else len(rules) for each in Direction},
        "logsDrops": policy.log_drops,
        "derived": policy.name.name.startswith(PREFIX),
    }


_KINDS = (Kind.NETWORK_POLICY, Kind.CLUSTER_NETWORK_POLICY)


def find(view: Whereabouts, name: str, kind: str = "") -> Policy:
    """The policy of a name, NAMESPACE/NAME for a NetworkPolicy. Raises ConfigError.

    `kind`: that of the policy, in any case, where the name alone does not tell.
    """
    found = [each for each in view.policies if str(each.name) == name and _is(each, kind)]
    if not found and "/" not in name:
        found = [each for each in view.policies if each.name.name == name and _is(each, kind)]
    if len(found) == 1:
        return found[0]
    if not found and kind and kind.lower() not in (each.value.lower() for each in _KINDS):
        raise ConfigError(
            f"{kind} is not a kind of policy: there are {' and '.join(each.value for each in _KINDS)}"
        )
    if not found:
        raise ConfigError(f"no policy {name} is in force; `l3net policy list` names all")
    names = ", ".join(f"{kind_of(each.tier).value} {each.name}" for each in found)
    raise ConfigError(f"{name} may be each of {names}: say NAMESPACE/NAME, or KIND before the name")


def _is(policy: Policy, kind: str) -> bool:
    return not kind or kind.lower() == kind_of(policy.tier).value.lower()


def one(
    view: Whereabouts, policy: Policy, counters: Mapping[tuple[Direction, str], int] | None
) -> dict[str, Any]:
    """All of one policy. `counters`: packets by direction and action (`accept`, `deny`); None: there are
    none."""
    pods = view.subjects().get((policy.tier, policy.name), ())
    return {
        **row(policy, pods),
        "rules": {each.value: direction_words(policy, each) for each in Direction},
        "packets": None
        if counters is None
        else [
            {"direction": direction.value, "action": action, "packets": count}
            for (direction, action), count in sorted(
                counters.items(), key=lambda item: (item[0][0].value, item[0][1])
            )
        ],
        "manifest": manifest(policy),
    }
