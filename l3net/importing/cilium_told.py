"""What Cilium's nodes announce: advertisements with their attributes, as rules for a peer.

Addresses of services are host routes and blocks of pods never are, by which the rules tell them apart where
no range is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Final

from l3net.community import WELL_KNOWN, AnyCommunity, Community
from l3net.importing.source import SourceObject, one_of, standard_community
from l3net.importing.telling import Told, hosts
from l3net.kube.fields import Field
from l3net.kube.resources import community
from l3net.kube.selectors import selector
from l3net.model import BgpPeer, Labels, Prefix, Selector

WHOLE: Final[dict[int, Prefix]] = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
#: Names that GoBGP has for communities, beside those that l3net has.
_NAMES: Final = {
    "internet": (0, 0), "planned-shut": (65535, 0), "accept-own": (65535, 1),
    "route-filter-translated-v4": (65535, 2), "route-filter-v4": (65535, 3),
    "route-filter-translated-v6": (65535, 4), "route-filter-v6": (65535, 5),
}  # fmt: skip
#: Aggregates that one pool may come to.
_MOST_NETWORKS: Final = 64
SERVICES: Final = ("LoadBalancerIP", "ClusterIP", "ExternalIP")


@dataclass(frozen=True, slots=True)
class Attributes:
    communities: frozenset[AnyCommunity] = frozenset()
    local_preference: int | None = None


@dataclass(frozen=True, slots=True)
class Advert:
    """One kind of route, of the services or pools that `chosen` selects (None: none), with attributes.

    `lengths`: prefix lengths that service addresses are aggregated to, by IP version.
    """

    source: SourceObject
    at: Field
    kind: str  # PodCIDR, CiliumPodIPPool, or one of SERVICES
    attributes: Attributes
    chosen: Selector | None = None
    lengths: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True)
class Pools:
    """Ranges of load balancers, and of pods by the pool's name with its labels."""

    balancers: list[Prefix] = field(default_factory=list)
    pods: list[tuple[Prefix, Labels]] = field(default_factory=list)


@dataclass(slots=True)
class Speaking:
    """A peer, the AS that nodes speak to it as, and what it hears, by IP version."""

    peer: BgpPeer
    own: int | None
    instance: str = ""
    name: str = ""  # of the peer in its instance
    adverts: dict[int, list[Advert]] = field(default_factory=dict)


def read(each: SourceObject) -> list[Advert]:
    """The adverts of a CiliumBGPAdvertisement. Raises ManifestError."""
    found: list[Advert] = []
    for item in each.spec["advertisements"].items():
        attributes = _attributes(item["attributes"])
        chosen = selector(item["selector"]) if item["selector"].present else None
        kind = item["advertisementType"].text()
        if kind in ("PodCIDR", "CiliumPodIPPool"):
            found.append(Advert(each, item, kind, attributes, chosen))
        elif kind == "Service":
            lengths = tuple(
                (version, at.integer(0, 127))
                for version in (4, 6)
                if (at := item["service"][f"aggregationLengthIPv{version}"]).present
            )
            found += [
                Advert(each, item, one_of(at, *SERVICES), attributes, chosen, lengths)
                for at in item["service"]["addresses"].items()
            ]
        else:
            each.unsaid(item, f"l3net import does not know the advertisementType {kind[:40]}")
    return found


def _attributes(at: Field) -> Attributes:
    return Attributes(communities(at["communities"]), at["localPreference"].optional_integer(0, 2**32 - 1))


def communities(at: Field) -> frozenset[AnyCommunity]:
    """Of a CRD's `communities`. Raises ManifestError."""
    found = {standard_community(item) for item in at["standard"].items()}
    for item in at["wellKnown"].items():
        name = item.text()
        if name not in WELL_KNOWN and name not in _NAMES:
            raise item.wrong(f"{name[:40]} is not a name of a community that is known")
        found.add(WELL_KNOWN[name] if name in WELL_KNOWN else Community(_NAMES[name]))
    found |= {community(item) for item in at["large"].items()}
    return frozenset(found)


def told(adverts: Iterable[Advert], version: int, pools: Pools, networks: set[Prefix]) -> list[Told]:
    """What a peer hears of one family. Aggregates come into `networks`."""
    found: list[Told] = []
    host = WHOLE[version].max_prefixlen
    balancers = [cidr for cidr in pools.balancers if cidr.version == version]
    services = False
    for advert in adverts:
        how = advert.attributes.communities, advert.attributes.local_preference
        if advert.kind == "PodCIDR":
            found.append(Told(WHOLE[version], None, host - 1, *how))
        elif advert.kind == "CiliumPodIPPool":
            found += [
                Told(cidr, None, host - 1, *how)
                for cidr, labels in pools.pods
                if cidr.version == version and advert.chosen is not None and advert.chosen.matches(labels)
            ]
        elif advert.kind == "LoadBalancerIP":
            services = True
            length = dict(advert.lengths).get(version, host)
            for cidr in balancers:
                found += _served(advert, cidr, length, networks)
        elif advert.lengths:
            advert.source.unsaid(advert.at["service"], "only addresses of load balancers are aggregated")
        else:
            found.append(Told(WHOLE[version], host, None, *how))
    if not services:  # else rules for other services would tell them too
        found += [Told(cidr, host, withheld=True) for cidr in balancers]
    aggregates = {network for network in networks if network.version == version}
    mentioned = {one.cidr for one in found if not one.withheld}
    found += [Told(network, None, network.prefixlen, withheld=True) for network in aggregates - mentioned]
    return found


def _served(advert: Advert, cidr: Prefix, length: int, networks: set[Prefix]) -> list[Told]:
    how = advert.attributes.communities, advert.attributes.local_preference
    if length >= cidr.max_prefixlen:
        one = hosts(cidr)
        return [Told(one.cidr, one.shortest, None, *how)]
    if length <= cidr.prefixlen:
        aggregates = [cidr.supernet(new_prefix=length)]
    elif 2 ** (length - cidr.prefixlen) > _MOST_NETWORKS:
        advert.source.unsaid(
            advert.at["service"], f"{cidr} comes to more than {_MOST_NETWORKS} aggregates of /{length}"
        )
        return []
    else:
        aggregates = list(cidr.subnets(new_prefix=length))
    networks.update(aggregates)
    return [Told(one, None, one.prefixlen, *how) for one in aggregates]
