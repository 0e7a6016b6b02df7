"""Tenants kept apart: what the label of a Namespace stands for, as policies that people can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from l3net.model import (
    Labels,
    Namespace,
    ObjectName,
    PodSelection,
    Policy,
    PolicyRule,
    Requirement,
    Rule,
    Selector,
    Tier,
)
from l3net.naming import LABEL_TENANT

#: The last of the Admin tier: whatever an administrator says before it goes first.
PRIORITY: Final = 1000
#: A colon is in no name of the API, so that no declared policy is called so.
PREFIX: Final = "l3net:tenant:"


class Tenants:
    """The tenants that there are, as namespaces come, go and are labelled."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}  # by namespace
        self._spaces: Counter[str] = Counter()

    def label(self, namespace: str, labels: Labels) -> Iterator[tuple[Policy, bool]]:
        """A namespace's labels, none when it is gone: the policies that are there by that, and (False) those
        that are not any more."""
        before, now = self._of.get(namespace), labels.get(LABEL_TENANT)
        if before == now:
            return
        if now is not None:
            self._of[namespace] = now
            self._spaces[now] += 1
            if self._spaces[now] == 1:
                yield tenant_policy(now), True
        else:
            del self._of[namespace]
        if before is not None:
            self._spaces[before] -= 1
            if not self._spaces[before]:
                del self._spaces[before]
                yield tenant_policy(before), False


def tenant_policies(namespaces: Iterable[Namespace]) -> tuple[Policy, ...]:
    """A policy for each tenant that namespaces name, in the order of their names.

    An empty value is a tenant like any other.
    """
    tenants = {each.labels[LABEL_TENANT] for each in namespaces if LABEL_TENANT in each.labels}
    return tuple(tenant_policy(tenant) for tenant in sorted(tenants))


def tenant_policy(tenant: str) -> Policy:
    """What isolates a tenant: its namespaces and those of other tenants do not reach one another. Namespaces
    without a tenant are shared. Pods on their node's network are that node, and in no tenant."""
    others = Selector((Requirement(LABEL_TENANT, "Exists"), Requirement(LABEL_TENANT, "NotIn", (tenant,))))
    deny = (PolicyRule(Rule.DENY, (PodSelection(others),), name="other tenants"),)
    return Policy(
        ObjectName("", f"{PREFIX}{tenant}"),
        Tier.ADMIN,
        PodSelection(Selector((Requirement(LABEL_TENANT, "In", (tenant,)),))),
        ingress=deny,
        egress=deny,
        priority=PRIORITY,
    )
