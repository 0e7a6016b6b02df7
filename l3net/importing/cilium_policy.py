"""The older CiliumBGPPeeringPolicy (cilium.io/v2alpha1)."""

from __future__ import annotations

from collections.abc import Iterator

from l3net.addresses import parse_prefix
from l3net.community import AnyCommunity
from l3net.importing.cilium_told import SERVICES, Advert, Attributes, Speaking, communities
from l3net.importing.source import SourceObject, as_number, object_name
from l3net.kube.fields import Field
from l3net.kube.selectors import selector
from l3net.model import EVERYTHING, Address, BgpPeer, Family, ObjectName, SecretKey, Selector

#: The kind of route that a selectorType is of.
_SELECTED = {
    "PodCIDR": "PodCIDR",
    "CiliumLoadBalancerIPPool": "LoadBalancerIP",
    "CiliumPodIPPool": "CiliumPodIPPool",
}


def read(each: SourceObject, secrets: str) -> list[Speaking]:
    """Its peers. Raises ManifestError."""
    nodes = selector(each.spec["nodeSelector"])
    each.carried("spec.nodeSelector", "BGPPeer spec.nodeSelector")
    return [
        found
        for number, router in enumerate(each.spec["virtualRouters"].items())
        for found in _router(each, router, number, nodes, secrets)
    ]


def _router(
    each: SourceObject, router: Field, number: int, nodes: Selector, secrets: str
) -> Iterator[Speaking]:
    own = as_number(router["localASN"])
    adverts: list[tuple[str, Selector | None]] = []
    if router["exportPodCIDR"].flag(default=False):
        adverts.append(("PodCIDR", None))
    if router["podIPPoolSelector"].present:
        adverts.append(("CiliumPodIPPool", selector(router["podIPPoolSelector"])))
    if router["serviceSelector"].present:
        kinds = [item.text() for item in router["serviceAdvertisements"].items()] or ["LoadBalancerIP"]
        for kind in kinds:
            if kind not in SERVICES:
                raise router["serviceAdvertisements"].wrong(f"must be of {', '.join(SERVICES)}")
            adverts.append((kind, selector(router["serviceSelector"])))
    for field in (
        "localASN",
        "exportPodCIDR",
        "podIPPoolSelector",
        "serviceSelector",
        "serviceAdvertisements",
    ):
        each.carried(router[field], "BGPConfiguration default, and the BGPFilters cilium-...")
    for place, item in enumerate(router["neighbors"].items()):
        peer = _neighbor(each, item, object_name(each.name.name, str(number), str(place)), nodes, secrets)
        told = [_advert(each, router, item, kind, chosen) for kind, chosen in adverts]
        versions = [family.value for family in peer.families or ()]
        yield Speaking(peer, own, adverts={version: list(told) for version in versions})


def _neighbor(each: SourceObject, at: Field, name: str, nodes: Selector, secrets: str) -> BgpPeer:
    hops = at["eBGPMultihopTTL"].integer(1, 255, default=1)
    restart = at["gracefulRestart"]
    secret = at["authSecretRef"].text(default="")
    versions = set()
    for item in at["families"].items():
        version = {"ipv4": 4, "ipv6": 6}.get(item["afi"].text())
        if version is None or item["safi"].text() != "unicast":
            each.unsaid(item, "l3net carries IPv4 and IPv6 unicast alone")
            continue
        versions.add(version)
        each.carried(item, "BGPPeer spec.families")
    peer = BgpPeer(
        name=name,
        address=_host(at["peerAddress"]),
        as_number=as_number(at["peerASN"]),
        port=at["peerPort"].integer(1, 65535, default=179),
        node_selector=nodes,
        families=frozenset(Family(version) for version in versions or (4, 6)),
        password=SecretKey(ObjectName(secrets, secret), "password") if secret else None,
        hold_time=at["holdTimeSeconds"].optional_integer(3, 65535),
        graceful_restart=restart["restartTimeSeconds"].integer(1, 4095, default=120)
        if restart["enabled"].flag(default=False)
        else 0,
        multihop=hops if hops > 1 else None,
    )
    for field, into in (
        ("peerAddress", "address"), ("peerASN", "asNumber"), ("peerPort", "port"),
        ("eBGPMultihopTTL", "multihop"), ("gracefulRestart", "gracefulRestart"),
        ("authSecretRef", "password"), ("holdTimeSeconds", "holdTime"),
    ):  # fmt: skip
        each.carried(at[field], f"BGPPeer {name} spec.{into}")
    told_of_timers(each, at, "keepAliveTimeSeconds")
    return peer


def _host(at: Field) -> Address:
    """Written as a prefix of full length."""
    try:
        found = parse_prefix(at.text())
    except ValueError:
        raise at.wrong(f"{at.text()[:60]!r} is not an address") from None
    if found.prefixlen != found.max_prefixlen:
        raise at.wrong(f"{found} is more than one address")
    return found.network_address


def _advert(each: SourceObject, router: Field, neighbor: Field, kind: str, chosen: Selector | None) -> Advert:
    """The attributes of a kind of route are those that the neighbour's list has for it."""
    tags: frozenset[AnyCommunity] = frozenset()
    preference = None
    for item in neighbor["advertisedPathAttributes"].items():
        of = item["selectorType"].text()
        if _SELECTED.get(of) != kind:
            continue
        if item["selector"].present and selector(item["selector"]) != EVERYTHING:
            each.unsaid(
                item["selector"],
                "attributes are of all routes of a kind that a peer hears, not of some pools'",
            )
            continue
        each.carried(item, "the export rules of the BGPFilter cilium-...")
        tags |= communities(item["communities"])
        preference = item["localPreference"].optional_integer(0, 2**32 - 1)
    return Advert(each, router, kind, Attributes(tags, preference), chosen)


def told_of_timers(each: SourceObject, at: Field, keepalive: str) -> None:
    """Keepalives and the time between attempts, which l3net works out itself."""
    hold, found = at["holdTimeSeconds"].value or 90, at[keepalive]
    if isinstance(found.value, int) and isinstance(hold, int) and found.value * 3 == hold:
        each.carried(found, "a third of holdTime, as ever")
    else:
        each.changed(found, "keepalives go out at a third of holdTime")
    each.changed(at["connectRetryTimeSeconds"], "l3net dials anew by a timer of its own")
