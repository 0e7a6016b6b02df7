"""Which addresses the controller gives FloatingIPs that name none."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from l3net.floating.entitled import may_take_of
from l3net.ipam.giving import Wish
from l3net.model import FloatingIp, Labels, ObjectName


def wishes_of(
    floating: Mapping[ObjectName, FloatingIp], namespaces: Mapping[str, Labels]
) -> dict[ObjectName, Wish]:
    """One address of each family that a FloatingIP wants and names none of, out of pools that are open to its
    namespace."""
    return {
        name: Wish(
            dict.fromkeys(fact.versions, 1),
            fact.pool,
            fact.given,
            partial(may_take_of, namespaces=namespaces, namespace=name.namespace),
        )
        for name, fact in floating.items()
    }
