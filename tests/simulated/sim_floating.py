"""Floating addresses on a simulated node: documents, and what routers hear."""

from __future__ import annotations

from typing import Any

from packets.packet import packet
from sim_node import document
from test_packets_node import POD, Walked, short

#: By IP version.
FLOATING = {4: "203.0.113.10", 6: "2001:db8:f::10"}
SECOND = {4: "203.0.113.11", 6: "2001:db8:f::11"}
POOLS = tuple(
    document("IPPool", f"public{version}", spec={"cidr": cidr, "allowedUses": ["Floating"]})
    for version, cidr in ((4, "203.0.113.0/24"), (6, "2001:db8:f::/112"))
)
SHOP = document("Namespace", "default", version="v1", metadata={"labels": {"team": "shop"}})


def floating(
    name: str, *addresses: str, created: str = "2026-01-01T00:00:00Z", **spec: Any
) -> dict[str, Any]:
    """For the pods with the label app=web."""
    body = {
        "selector": {"matchLabels": {"app": "web"}},
        **({"addresses": list(addresses)} if addresses else {}),
    }
    return document(
        "FloatingIP",
        name,
        namespace="default",
        metadata={"creationTimestamp": created},
        spec={**body, **spec},
    )


def pod(
    name: str,
    *addresses: str,
    on: str = "n1",
    ready: str | None = "2026-01-01T00:00:00Z",
    deleting: bool = False,
    created: str = "2026-01-01T00:00:00Z",
    annotations: dict[str, str] | None = None,
    phase: str = "Running",
    **labels: str,
) -> dict[str, Any]:
    """A Pod that has been ready since a moment, or is not."""
    metadata: dict[str, Any] = {"labels": labels or {"app": "web"}, "creationTimestamp": created}
    if annotations:
        metadata["annotations"] = annotations
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    condition = {"type": "Ready", "status": "False" if ready is None else "True"}
    condition["lastTransitionTime"] = ready or "2026-01-03T00:00:00Z"
    status = {"phase": phase, "podIPs": [{"ip": each} for each in addresses], "conditions": [condition]}
    return document(
        "Pod",
        name,
        namespace="default",
        version="v1",
        metadata=metadata,
        spec={"nodeName": on},
        status=status,
    )


class Floated(Walked):
    """A node with one pod and floating addresses, and another node."""

    def announces(self, version: int = 4) -> set[str]:
        """The floating addresses that the router of a family hears."""
        return {
            each.partition("/")[0]
            for each in self.heard(self.tor4 if version == 4 else self.tor6)
            if each.startswith(("203.0.113.", "2001:db8:f:"))
        }

    def arriving(self, address: str, version: int = 4, source: str = "", **more: Any) -> set[str]:
        """What becomes of a packet from outside."""
        outside = source or {4: "192.0.2.77", 6: "2001:db8::77"}[version]
        return self.by_link(outside, address, more.pop("port", 80), **more)

    def leaving(self, to: str, version: int = 4, **more: Any) -> set[str]:
        """What becomes of a packet of the pod."""
        return short(self.stack.from_pod(packet(POD[version], to, dport=443, **more)))
