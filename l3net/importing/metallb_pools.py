"""MetalLB's IPAddressPool as IPPools: one for each prefix that its ranges come to."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

from l3net.addresses import parse_address, parse_prefix, prefix_order
from l3net.importing.source import Imported, SourceObject, object_name
from l3net.kube.fields import Field
from l3net.kube.selectors import selector
from l3net.model import EVERYTHING, IpPool, Labels, PoolUse, Prefix, Requirement, Selector

_NAME = "kubernetes.io/metadata.name"
#: Prefixes that one pool may come to.
_MOST = 256
#: Addresses of a pool of which l3net avoids none (IpPool.avoids).
_SMALL = 2


@dataclass(frozen=True, slots=True)
class Pool:
    cidrs: tuple[Prefix, ...]
    labels: Labels


def read(each: SourceObject, into: Imported) -> Pool:
    """Put its IPPools into `into`. Raises ManifestError."""
    spec = each.spec
    cidrs = tuple(
        sorted({cidr for item in spec["addresses"].items() for cidr in ranges(item)}, key=prefix_order)
    )
    if not cidrs:
        raise spec["addresses"].wrong("is required")
    if len(cidrs) > _MOST:
        raise spec["addresses"].wrong(f"comes to more than {_MOST} prefixes; widen the ranges to prefixes")
    manual = not spec["autoAssign"].flag(default=True)
    base = IpPool(
        name="",
        cidr=cidrs[0],
        block_size=0,
        disabled=manual,
        allowed_uses=frozenset({PoolUse.LOAD_BALANCER}),
        namespace_selector=_namespaces(each, spec["serviceAllocation"]),
        avoid_buggy=spec["avoidBuggyIPs"].flag(default=False),
    )
    name = object_name(each.name.name)
    names = [name if len(cidrs) == 1 else object_name(name, str(number)) for number in range(len(cidrs))]
    for one, cidr in zip(names, cidrs, strict=True):
        into.add_pool(replace(base, name=one, cidr=cidr, block_size=cidr.max_prefixlen))
    shown = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}, one for each prefix"
    each.carried(spec["addresses"], f"IPPool {shown}")
    if manual:
        each.unsaid(
            spec["autoAssign"],
            "there is no pool that only gives what is asked for: it is disabled, and services keep what "
            "they have",
        )
    else:
        each.carried(spec["autoAssign"])
    _tell_buggy(each, base.avoid_buggy, cidrs)
    return Pool(cidrs, each["metadata"]["labels"].labels())


def _tell_buggy(each: SourceObject, avoided: bool, cidrs: tuple[Prefix, ...]) -> None:
    """l3net's default is the other one: it stands in the IPPool both ways."""
    given = [
        str(address)
        for cidr in cidrs
        if avoided and cidr.version == 4 and cidr.num_addresses <= _SMALL
        for address in cidr
        if int(address) & 0xFF in (0, 0xFF)
    ]
    at = each.spec["avoidBuggyIPs"]
    if given:
        each.changed(
            at,
            f"of a prefix of one or two addresses l3net gives all: {', '.join(given)}. Leave them out of the "
            "ranges",
        )
    else:
        each.carried(at, "spec.avoidBuggyIPs" if avoided else "spec.avoidBuggyIPs: false")


def ranges(at: Field) -> tuple[Prefix, ...]:
    """A prefix, or two addresses with a dash, as prefixes."""
    text = at.text()
    first, dash, last = text.partition("-")
    try:
        if not dash:
            return (parse_prefix(text),)
        low, high = parse_address(first.strip()), parse_address(last.strip())
        if low.version != high.version:
            raise at.wrong(f"{text[:90]!r} begins and ends in different families")
        return tuple(ipaddress.summarize_address_range(low, high))
    except (ValueError, TypeError):
        raise at.wrong(f"{text[:90]!r} is neither a prefix nor a range such as 10.0.0.1-10.0.0.9") from None


def _namespaces(each: SourceObject, at: Field) -> Selector:
    names = [item.text() for item in at["namespaces"].items()]
    selectors = [selector(item) for item in at["namespaceSelectors"].items()]
    each.unsaid(
        at["serviceSelectors"], "a pool cannot choose services by their labels, only namespaces by theirs"
    )
    each.changed(at["priority"], "pools are asked in the order of their names")
    if any(True for _ in at["serviceSelectors"].items()):
        # Without it the pool would be open to services that it is closed to
        raise at["serviceSelectors"].wrong(
            "a pool of some services only cannot be said; it would be open to all"
        )
    if (names and selectors) or len(selectors) > 1:
        raise at.wrong("names namespaces in two ways, of which one has to match: no LabelSelector says that")
    each.carried(at["namespaces"], "spec.namespaceSelector")
    each.carried(at["namespaceSelectors"], "spec.namespaceSelector")
    if selectors:
        return selectors[0]
    return Selector((Requirement(_NAME, "In", tuple(sorted(names))),)) if names else EVERYTHING
