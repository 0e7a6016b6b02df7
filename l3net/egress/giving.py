"""Which addresses the controller gives EgressIPs that name none."""

from __future__ import annotations

from collections.abc import Mapping

from l3net.ipam.giving import Wish
from l3net.model import EgressIp, ObjectName


def wishes_of(egress: Mapping[ObjectName, EgressIp]) -> dict[ObjectName, Wish]:
    """`replicas` addresses of each family that an EgressIP wants and names none of."""
    return {
        name: Wish(dict.fromkeys(fact.versions, fact.replicas), fact.pool, fact.given)
        for name, fact in egress.items()
    }
