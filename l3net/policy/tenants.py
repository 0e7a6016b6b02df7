"""Tenants kept apart: what the label of a Namespace stands for, as policies that people can read."""

from __future__ import annotations

from typing import Final

from l3net.model import ObjectName, PodSelection, Policy, PolicyRule, Requirement, Rule, Selector, Tier
from l3net.naming import LABEL_TENANT

#: The last of the Admin tier: whatever an administrator says before it goes first.
PRIORITY: Final = 1000


def tenant_policy(tenant: str) -> Policy:
    """What isolates a tenant: its namespaces and those of other tenants do not reach one another. Namespaces
    without a tenant are shared."""
    others = Selector((Requirement(LABEL_TENANT, "Exists"), Requirement(LABEL_TENANT, "NotIn", (tenant,))))
    deny = (PolicyRule(Rule.DENY, (PodSelection(others),), name="other tenants"),)
    return Policy(
        ObjectName("", f"l3net:tenant:{tenant}"),
        Tier.ADMIN,
        PodSelection(Selector((Requirement(LABEL_TENANT, "In", (tenant,)),))),
        ingress=deny,
        egress=deny,
        priority=PRIORITY,
    )
