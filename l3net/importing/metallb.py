"""MetalLB's resources (metallb.io), and those of frr-k8s, through which it speaks in a newer form.

A node of MetalLB's announces addresses of load balancers by the BGPAdvertisements that name their pool, and
takes nothing of its peers; with frr-k8s, what an FRRConfiguration lets in. It has no part in pods' networks:
what is written announces no blocks, which l3net does unless told otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from l3net.addresses import prefix_order
from l3net.community import AnyCommunity
from l3net.errors import ManifestError
from l3net.importing import frr_k8s, metallb_pools
from l3net.importing.neighbors import (
    bfd,
    community,
    hold_time,
    password,
    peer_as,
    told_of_timers,
    without_echo,
)
from l3net.importing.source import Imported, Outcome, SourceObject, as_number, object_name, read_each
from l3net.importing.telling import Peering, Told, declare, hosts
from l3net.kube.fields import Field
from l3net.kube.selectors import selector
from l3net.model import (
    EVERYTHING,
    AddressKind,
    AdvertisePolicy,
    BfdSettings,
    BgpConfiguration,
    BgpPeer,
    Family,
    Kind,
    ObjectName,
    Prefix,
    Requirement,
    SecretKey,
    Selector,
)
from l3net.naming import ANNOTATION_LOAD_BALANCER_IPS, ANNOTATION_SHARING_KEY

_GROUP: Final = "metallb.io"
_FRR_GROUP: Final = "frrk8s.metallb.io"
_DOMAINS: Final = ("metallb.io/", "metallb.universe.tf/")
#: The TTL of FRR's `ebgp-multihop` without a number.
_ANY_TTL: Final = 255
#: Aggregates that one pool may come to.
_MOST_NETWORKS: Final = 64
_ELSEWHERE: Final = {
    "L2Advertisement": "l3net announces addresses over BGP alone, not by ARP and neighbour discovery: give "
    "the nodes a router to peer with",
    "AddressPool": "write it as IPAddressPool and BGPAdvertisement first, as MetalLB's documentation says",
}


@dataclass(frozen=True, slots=True)
class _Advertisement:
    source: SourceObject
    told: dict[str, tuple[Told, ...]]  # by pool
    peers: frozenset[str]  # empty: all
    nodes: Selector | None  # None: one of several, which cannot be said


def imported(
    objects: Iterable[tuple[Mapping[str, object], str]], secrets: str = "metallb-system"
) -> Imported:
    """What MetalLB's objects come to. `secrets` is the namespace in which its Secrets are."""
    into = Imported()
    by_kind: dict[str, list[SourceObject]] = {}
    for content, where in objects:
        found = SourceObject(content, where, into)
        group = found.api_version.rpartition("/")[0]
        service = (found.api_version, found.kind) == ("v1", "Service") and _noted(found)
        if group in (_GROUP, _FRR_GROUP) or service:
            by_kind.setdefault(found.kind, []).append(found)
        else:
            into.skipped += 1
    if by_kind:
        _MetalLb(into, secrets).read(by_kind)
    return into


def _noted(service: SourceObject) -> bool:
    """Whether it has an annotation of MetalLB's."""
    metadata = service.document.value
    found = metadata.get("metadata") if isinstance(metadata, Mapping) else None
    notes = found.get("annotations") if isinstance(found, Mapping) else None
    return isinstance(notes, Mapping) and any(str(key).startswith(_DOMAINS) for key in notes)


class _MetalLb:
    def __init__(self, into: Imported, secrets: str) -> None:
        self._into, self._secrets = into, secrets
        self._pools: dict[str, metallb_pools.Pool] = {}
        self._communities: dict[str, AnyCommunity] = {}
        self._bfd: dict[str, BfdSettings] = {}
        self._peerings: dict[str, Peering] = {}
        self._own: dict[str, int] = {}  # the AS that each peer is spoken to as
        self._advertisements: list[_Advertisement] = []
        self._networks: set[Prefix] = set()

    def read(self, by_kind: dict[str, list[SourceObject]]) -> None:
        take = by_kind.pop
        into = self._into
        read_each(take("IPAddressPool", ()), self._pool, "spec")
        read_each(take("Community", ()), self._community, "spec")
        read_each(take("BFDProfile", ()), self._profile, "spec")
        read_each(take("BGPPeer", ()), self._peer, "spec")
        read_each(take("BGPAdvertisement", ()), self._advertisement)
        native = bool(self._peerings)
        frr = frr_k8s.Reader(into, self._secrets, self._peerings, self._own, self._networks)
        read_each(take("FRRConfiguration", ()), lambda each: frr.read(each, native=native), "spec")
        read_each(take("Service", ()), self._service)
        for kind, objects in by_kind.items():
            for each in objects:
                if kind in _ELSEWHERE:
                    each.note(Outcome.UNSAID, "", _ELSEWHERE[kind])
                else:
                    into.skipped += 1
        self._advertise()
        into.configuration = self._configuration()
        declare(into, "metallb", self._spoken_as(into.configuration.as_number))

    def _configuration(self) -> BgpConfiguration:
        cidrs = sorted({cidr for pool in self._pools.values() for cidr in pool.cidrs}, key=prefix_order)
        own = Counter(self._own.values()).most_common(1)
        return BgpConfiguration(
            as_number=own[0][0] if own else BgpConfiguration().as_number,
            mesh=False,
            advertise=AdvertisePolicy(
                pod_blocks=False,
                cluster_ips=AddressKind(False),
                load_balancer_ips=AddressKind(bool(cidrs), tuple(cidrs)),
                networks=tuple(sorted(self._networks, key=prefix_order)),
            ),
        )

    def _spoken_as(self, number: int) -> list[Peering]:
        """Nodes are of one AS in l3net; to peers for whom they were of another they speak as that."""
        for name, each in self._peerings.items():
            if self._own[name] != number:
                each.peer = replace(each.peer, local_as=self._own[name])
        return list(self._peerings.values())

    # --- pools, communities, profiles --------------------------------------------------------------------

    def _pool(self, each: SourceObject) -> None:
        self._pools[each.name.name] = metallb_pools.read(each, self._into)

    def _community(self, each: SourceObject) -> None:
        for item in each.spec["communities"].items():
            self._communities[item["name"].text()] = community(item["value"])
        each.carried("spec.communities", "the numbers, where they are used")

    def _profile(self, each: SourceObject) -> None:
        self._bfd[each.name.name] = bfd(each, each.spec)

    # --- BGPPeer -----------------------------------------------------------------------------------------

    def _peer(self, each: SourceObject) -> None:
        spec, name = each.spec, object_name(each.name.name)
        own = as_number(spec["myASN"])
        interface = spec["interface"].text(default="") or None
        source = spec["sourceAddress"]
        peer = BgpPeer(
            name=name,
            address=spec["peerAddress"].address() if not interface else None,
            interface=interface,
            as_number=peer_as(each, spec, "peerASN", own, interface),
            port=spec["peerPort"].integer(1, 65535, default=179) or 179,
            node_selector=_one_of(spec["nodeSelectors"]),
            families=frozenset(Family) if spec["dualStackAddressFamily"].flag(default=False) else None,
            password=self._password(each),
            local_address=source.address() if source.present else None,
            multihop=_ANY_TTL if spec["ebgpMultiHop"].flag(default=False) else None,
            hold_time=hold_time(spec["holdTime"]),
            graceful_restart=None if spec["enableGracefulRestart"].flag(default=False) else 0,
            bfd=self._profile_of(spec["bfdProfile"]),
        )
        peer = without_echo(each, spec["bfdProfile"], peer)
        if name in self._peerings:
            raise ManifestError("metadata.name", f"a BGPPeer {name} is imported already")
        self._peerings[name], self._own[name] = Peering(peer), own
        for field, into in (
            ("myASN", "localASNumber, or the BGPConfiguration's asNumber"), ("interface", "interface"),
            ("peerASN", "asNumber"), ("peerAddress", "address"), ("peerPort", "port"),
            ("nodeSelectors", "nodeSelector"), ("dualStackAddressFamily", "families"),
            ("sourceAddress", "localAddress"), ("ebgpMultiHop", "multihop"), ("holdTime", "holdTime"),
            ("enableGracefulRestart", "gracefulRestart"), ("bfdProfile", "bfd"),
        ):  # fmt: skip
            each.carried(spec[field], f"BGPPeer {name} spec.{into}")
        told_of_timers(each, spec)
        each.unsaid(spec["routerID"], "the router ID is the node's first IPv4 InternalIP")
        each.unsaid(spec["vrf"], "l3net speaks in the host's own table alone, in no VRF")
        if spec["disableMP"].flag(default=False):
            each.carried(spec["disableMP"], "a session carries the family of its addresses")
        else:
            each.changed(
                spec["disableMP"], "a session carries the family of its addresses; spec.families adds another"
            )

    def _password(self, each: SourceObject) -> SecretKey | None:
        return password(each, each.spec, object_name("metallb", each.name.name), self._secrets)

    def _profile_of(self, at: Field) -> BfdSettings | None:
        name = at.text(default="")
        if not name:
            return None
        if name not in self._bfd:
            raise at.wrong(f"there is no BFDProfile {name[:60]} among the objects")
        return self._bfd[name]

    # --- BGPAdvertisement --------------------------------------------------------------------------------

    def _advertisement(self, each: SourceObject) -> None:
        spec = each.spec
        tags = frozenset(self._tag(item) for item in spec["communities"].items())
        preference = spec["localPref"].integer(0, 2**32 - 1, default=0) or None
        lengths = {
            4: spec["aggregationLength"].integer(1, 32, default=32),
            6: spec["aggregationLengthV6"].integer(1, 128, default=128),
        }
        told: dict[str, tuple[Told, ...]] = {}
        for name in self._chosen(spec):
            parts: list[Told] = []
            for cidr in self._pools[name].cidrs:
                parts += self._announced(each, cidr, lengths[cidr.version])
            told[name] = tuple(replace(one, communities=tags, local_preference=preference) for one in parts)
        peers = frozenset(object_name(item.text()) for item in spec["peers"].items())
        self._advertisements.append(_Advertisement(each, told, peers, _chosen_nodes(spec["nodeSelectors"])))
        for field in ("communities", "localPref", "ipAddressPools", "ipAddressPoolSelectors", "peers"):
            each.carried(spec[field], "BGPFilters metallb-..., of each BGPPeer")
        for version, field in ((4, "aggregationLength"), (6, "aggregationLengthV6")):
            if lengths[version] == (32 if version == 4 else 128):
                each.carried(spec[field], "a host route for each address")
            else:
                each.changed(
                    spec[field],
                    "BGPConfiguration default spec.advertise.networks: every node announces the aggregate, "
                    "also one that serves no address of it",
                )

    def _chosen(self, spec: Field) -> list[str]:
        names = [item.text() for item in spec["ipAddressPools"].items()]
        selectors = [selector(item) for item in spec["ipAddressPoolSelectors"].items()]
        for at in spec["ipAddressPools"].items():
            if at.text() not in self._pools:
                raise at.wrong(f"there is no IPAddressPool {at.text()[:60]} among the objects")
        if not names and not selectors:
            return sorted(self._pools)
        return [
            name
            for name, pool in sorted(self._pools.items())
            if name in names or any(one.matches(pool.labels) for one in selectors)
        ]

    def _announced(self, each: SourceObject, cidr: Prefix, length: int) -> list[Told]:
        """Host routes, or aggregates, which become networks that every node announces."""
        if length == cidr.max_prefixlen:
            return [hosts(cidr)]
        if length <= cidr.prefixlen:
            networks = [cidr.supernet(new_prefix=length)]
        elif 2 ** (length - cidr.prefixlen) > _MOST_NETWORKS:
            each.unsaid(
                "spec.aggregationLength",
                f"{cidr} comes to more than {_MOST_NETWORKS} aggregates of /{length}",
            )
            return [hosts(cidr)]
        else:
            networks = list(cidr.subnets(new_prefix=length))
        self._networks.update(networks)
        return [Told(network, longest=network.prefixlen) for network in networks]

    def _tag(self, at: Field) -> AnyCommunity:
        return self._communities[at.text()] if at.text() in self._communities else community(at)

    def _advertise(self) -> None:
        """Nodes are chosen for a peer in l3net: it can be said where all that a peer is told comes from the
        same."""
        for name, peering in self._peerings.items():
            those = [each for each in self._advertisements if not each.peers or name in each.peers]
            for each in those:
                peering.told += [one for told in each.told.values() for one in told]
            choices = {each.nodes for each in those}
            chosen = choices.pop() if len(choices) == 1 else None
            if chosen is not None:
                peering.peer = replace(peering.peer, node_selector=_both(peering.peer.node_selector, chosen))
            for each in those:
                if each.nodes == EVERYTHING:
                    each.source.carried("spec.nodeSelectors")
                elif chosen is not None:
                    how = f"BGPPeer {name} spec.nodeSelector: other nodes do not have the session at all"
                    each.source.changed("spec.nodeSelectors", how)
                else:
                    each.source.unsaid(
                        "spec.nodeSelectors",
                        f"nodes are chosen for a peer, not for what it is told: all that have BGPPeer "
                        f"{name} announce",
                    )
        for each in self._advertisements:
            if not any(not each.peers or name in each.peers for name in self._peerings):
                each.source.unsaid("spec", "no BGPPeer among the objects hears it")
            each.source.passed_over("spec")

    # --- Service -----------------------------------------------------------------------------------------

    def _service(self, each: SourceObject) -> None:
        notes = each["metadata"]["annotations"]
        name = ObjectName(each.name.namespace or "default", each.name.name)
        for key in notes.labels():
            if not key.startswith(_DOMAINS):
                continue
            word = key.partition("/")[2]
            if word == "loadBalancerIPs":
                self._into.annotate(Kind.SERVICE, name, **{ANNOTATION_LOAD_BALANCER_IPS: notes[key].text()})
                each.carried(notes[key], f"annotation {ANNOTATION_LOAD_BALANCER_IPS}")
            elif word == "allow-shared-ip":
                self._into.annotate(Kind.SERVICE, name, **{ANNOTATION_SHARING_KEY: notes[key].text()})
                each.changed(notes[key], f"annotation {ANNOTATION_SHARING_KEY}: inside one namespace alone")
            elif word == "ip-allocated-from-pool":
                each.carried(notes[key], "not needed: MetalLB's own note")
            else:
                each.unsaid(
                    notes[key],
                    f"a pool cannot be asked for; {ANNOTATION_LOAD_BALANCER_IPS} asks for addresses",
                )
        if each.spec["loadBalancerClass"].text(default=""):
            each.unsaid("spec.loadBalancerClass", "l3net gives addresses to the class l3net.io/bgp, or to "
                                                  "none; a Service "
                        "has to be made anew to change it")  # fmt: skip


def _one_of(field: Field) -> Selector:
    """LabelSelectors of which one has to match, as one. Raises ManifestError where none says that."""
    found = [selector(item) for item in field.items()]
    if not found:
        return EVERYTHING
    if len(found) == 1 or EVERYTHING in found:
        return EVERYTHING if EVERYTHING in found else found[0]
    keys = {one.key for each in found for one in each.requirements}
    if len(keys) == 1 and all(
        len(each.requirements) == 1 and each.requirements[0].operator == "In" for each in found
    ):
        values = {value for each in found for value in each.requirements[0].values}
        return Selector((Requirement(keys.pop(), "In", tuple(sorted(values))),))
    raise field.wrong("are several, of which one has to match: no LabelSelector says that")


def _chosen_nodes(field: Field) -> Selector | None:
    try:
        return _one_of(field)
    except ManifestError:
        return None


def _both(first: Selector, second: Selector) -> Selector:
    return Selector(tuple(dict.fromkeys((*first.requirements, *second.requirements))))
