"""Cilium's pools: of load balancers, and of pods."""

from __future__ import annotations

from l3net.addresses import prefix_order
from l3net.importing.cilium_told import Pools
from l3net.importing.metallb_pools import ranges
from l3net.importing.source import Imported, SourceObject, object_name
from l3net.kube.fields import Field
from l3net.kube.selectors import selector
from l3net.model import EVERYTHING, IpPool, PoolUse, Prefix, Requirement, Selector

_NAME = "kubernetes.io/metadata.name"
#: Cilium's own, of a Service.
_NAMESPACE = "io.kubernetes.service.namespace"


def balancers(each: SourceObject, into: Imported, pools: Pools) -> None:
    """A CiliumLoadBalancerIPPool: an IPPool for each prefix. Raises ManifestError."""
    spec = each.spec
    of = _namespaces(spec["serviceSelector"])
    blocks = [*spec["blocks"].items(), *spec["cidrs"].items()]
    cidrs = sorted({cidr for item in blocks for cidr in _block(item)}, key=prefix_order)
    if not cidrs:
        raise spec["blocks"].wrong("is required")
    disabled = spec["disabled"].flag(default=False)
    uses = frozenset({PoolUse.LOAD_BALANCER})
    for number, cidr in enumerate(cidrs):
        name = object_name(each.name.name, *([str(number)] if len(cidrs) > 1 else ()))
        into.add_pool(
            IpPool(
                name,
                cidr,
                cidr.max_prefixlen,
                disabled=disabled,
                namespace_selector=of,
                allowed_uses=uses,
                avoid_buggy=False,
            )
        )
    pools.balancers += cidrs
    for field in ("blocks", "cidrs", "disabled"):
        each.carried(spec[field], "IPPools, one for each prefix")
    each.carried(spec["serviceSelector"], "spec.namespaceSelector")
    if spec["allowFirstLastIPs"].text(default="Yes") == "Yes":
        each.carried(spec["allowFirstLastIPs"])
    else:
        each.unsaid(
            spec["allowFirstLastIPs"],
            "the first and the last address are given too: leave them out of the range",
        )


def _block(at: Field) -> tuple[Prefix, ...]:
    if at["cidr"].present:
        return ranges(at["cidr"])
    start = at["start"].text()
    return ranges(Field(at.path, f"{start}-{at['stop'].text(default=start)}"))


def _namespaces(at: Field) -> Selector:
    """A pool of l3net's chooses namespaces, not services."""
    if not at.present:
        return EVERYTHING
    found: list[Requirement] = []
    for each in selector(at).requirements:
        if each.key != _NAMESPACE:
            raise at.wrong(
                "a pool of some services only cannot be said, only of some namespaces; it would be open to "
                "all"
            )
        found.append(Requirement(_NAME, each.operator, each.values))
    return Selector(tuple(found))


def pods(each: SourceObject, into: Imported, pools: Pools) -> None:
    """A CiliumPodIPPool: an IPPool for each prefix. Raises ManifestError."""
    labels = each["metadata"]["labels"].labels()
    found: list[tuple[Prefix, int]] = []
    for version in (4, 6):
        at = each.spec[f"ipv{version}"]
        if at.present:
            size = at["maskSize"].integer(1, 128)
            found += [(cidr, size) for cidr in at["cidrs"].prefixes()]
    for number, (cidr, size) in enumerate(found):
        name = object_name(each.name.name, *([str(number)] if len(found) > 1 else ()))
        into.add_pool(IpPool(name, cidr, size))
        pools.pods.append((cidr, labels))
    each.changed(
        "spec",
        "IPPools for pods: a pod does not choose its pool by an annotation in l3net; "
        "spec.namespaceSelector makes a pool that of some namespaces",
    )
