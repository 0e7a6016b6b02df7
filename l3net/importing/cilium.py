"""Cilium's BGP control plane (cilium.io): CiliumBGPClusterConfig and what it names, the older
CiliumBGPPeeringPolicy, and pools of addresses.

A node of Cilium's announces what advertisements name, and takes nothing of its peers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from l3net.addresses import prefix_order
from l3net.importing import cilium_policy, cilium_pools, cilium_told
from l3net.importing.cilium_told import Advert, Pools, Speaking, told
from l3net.importing.source import Imported, Outcome, SourceObject, as_number, object_name, only, read_each
from l3net.importing.telling import Peering, declare
from l3net.kube.fields import Field
from l3net.kube.selectors import selector
from l3net.model import (
    AddressKind,
    AdvertisePolicy,
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
from l3net.naming import ANNOTATION_AS_NUMBER, ANNOTATION_LOAD_BALANCER_IPS, ANNOTATION_SHARING_KEY

_GROUP: Final = "cilium.io"
_HOSTNAME: Final = "kubernetes.io/hostname"
_ELSEWHERE: Final = {
    "CiliumL2AnnouncementPolicy": "l3net announces addresses over BGP alone, not by ARP and neighbour "
    "discovery",
    "CiliumNetworkPolicy": "write it as NetworkPolicy or ClusterNetworkPolicy (docs/policy.md)",
    "CiliumClusterwideNetworkPolicy": "write it as ClusterNetworkPolicy (docs/policy.md)",
    "CiliumEgressGatewayPolicy": "an EgressIP says the like (docs/addresses.md)",
}
_IPS: Final = ("lbipam.cilium.io/ips", "io.cilium/lb-ipam-ips")
_SHARING: Final = ("lbipam.cilium.io/sharing-key", "io.cilium/lb-ipam-sharing-key")
_DOMAINS: Final = ("lbipam.cilium.io/", "io.cilium/")


def imported(objects: Iterable[tuple[Mapping[str, object], str]], secrets: str = "kube-system") -> Imported:
    """What Cilium's objects come to. `secrets` is the namespace in which its Secrets are."""
    into = Imported()
    by_kind: dict[str, list[SourceObject]] = {}
    for content, where in objects:
        found = SourceObject(content, where, into)
        service = (found.api_version, found.kind) == ("v1", "Service") and any(
            key.startswith(_DOMAINS) for key in _notes(found)
        )
        if found.api_version.rpartition("/")[0] == _GROUP or service:
            by_kind.setdefault(found.kind, []).append(found)
        else:
            into.skipped += 1
    if by_kind:
        _Cilium(into, secrets).read(by_kind)
    return into


def _notes(found: SourceObject) -> list[str]:
    metadata = found.document.value
    inside = metadata.get("metadata") if isinstance(metadata, Mapping) else None
    notes = inside.get("annotations") if isinstance(inside, Mapping) else None
    return [str(key) for key in notes] if isinstance(notes, Mapping) else []


class _Cilium:
    def __init__(self, into: Imported, secrets: str) -> None:
        self._into, self._secrets = into, secrets
        self._pools = Pools()
        self._adverts: list[tuple[SourceObject, list[Advert]]] = []
        self._configs: dict[str, SourceObject] = {}
        self._speaking: list[Speaking] = []
        self._ports: set[int] = set()

    def read(self, by_kind: dict[str, list[SourceObject]]) -> None:
        take, into, pools = by_kind.pop, self._into, self._pools
        read_each(
            take("CiliumLoadBalancerIPPool", ()),
            lambda each: cilium_pools.balancers(each, into, pools),
            "spec",
        )
        read_each(take("CiliumPodIPPool", ()), lambda each: cilium_pools.pods(each, into, pools), "spec")
        read_each(take("CiliumBGPAdvertisement", ()), self._advertisement)
        for each in take("CiliumBGPPeerConfig", ()):
            self._configs[each.name.name] = each
        read_each(take("CiliumBGPClusterConfig", ()), self._cluster, "spec")
        read_each(
            take("CiliumBGPPeeringPolicy", ()),
            lambda each: self._speaking.extend(cilium_policy.read(each, self._secrets)),
            "spec",
        )
        read_each(take("CiliumBGPNodeConfigOverride", ()), self._override, "spec")
        read_each(take("Service", ()), self._service)
        for kind, objects in by_kind.items():
            for each in objects:
                if kind in _ELSEWHERE:
                    each.note(Outcome.UNSAID, "", _ELSEWHERE[kind])
                else:
                    into.skipped += 1
        self._declare()

    # --- what is told ------------------------------------------------------------------------------------

    def _advertisement(self, each: SourceObject) -> None:
        self._adverts.append((each, cilium_told.read(each)))
        each.carried("spec", "the export rules of the BGPFilters cilium-...")

    def _declare(self) -> None:
        used = [advert for one in self._speaking for adverts in one.adverts.values() for advert in adverts]
        networks: set[Prefix] = set()
        for _ in range(2):  # aggregates that one peer hears are withheld from others
            peerings = []
            for one in self._speaking:
                rules = [
                    rule
                    for version in sorted(one.adverts)
                    for rule in told(one.adverts[version], version, self._pools, networks)
                ]
                peerings.append((one, Peering(one.peer, rules)))
        numbers = Counter(one.own for one in self._speaking if one.own is not None).most_common(1)
        number = numbers[0][0] if numbers else BgpConfiguration().as_number
        self._into.configuration = self._configuration(used, number, networks)
        for one, peering in peerings:
            if one.own not in (None, number):
                peering.peer = replace(peering.peer, local_as=one.own)
        declare(self._into, "cilium", [peering for _, peering in peerings])

    def _configuration(self, used: list[Advert], number: int, networks: set[Prefix]) -> BgpConfiguration:
        kinds = {advert.kind for advert in used}
        for advert in used:
            if advert.lengths:
                advert.source.changed(
                    advert.at["service"],
                    "BGPConfiguration default spec.advertise.networks: every node announces the aggregate, "
                    "also one that serves no address of it",
                )
            if advert.kind == "ExternalIP":
                advert.source.unsaid(
                    advert.at,
                    "l3net announces external addresses of ranges that are named alone (CVE-2020-8554): "
                    "put them into BGPConfiguration default spec.advertise.externalIPs.cidrs",
                )
        balancers = tuple(sorted(self._pools.balancers, key=prefix_order))
        return BgpConfiguration(
            as_number=number,
            mesh=False,
            listen_port=self._ports.pop() if len(self._ports) == 1 else 179,
            advertise=AdvertisePolicy(
                pod_blocks=bool(kinds & {"PodCIDR", "CiliumPodIPPool"}),
                cluster_ips=AddressKind("ClusterIP" in kinds),
                load_balancer_ips=AddressKind("LoadBalancerIP" in kinds, balancers),
                service_selector=self._services(used),
                networks=tuple(sorted(networks, key=prefix_order)),
            ),
        )

    def _services(self, used: list[Advert]) -> Selector:
        """One choice of services holds for all that l3net announces."""
        first: Selector | None = None
        for advert in used:
            if advert.kind not in cilium_told.SERVICES:
                continue
            if advert.chosen is None:
                advert.source.changed(
                    advert.at, "no selector, so that Cilium announces no service: others' holds"
                )
            elif first is None:
                first = advert.chosen
            elif advert.chosen != first:
                advert.source.unsaid(
                    advert.at["selector"],
                    "one choice of services (advertise.serviceSelector) holds for all that nodes announce, "
                    "and the first is taken; the annotation l3net.io/advertise of a Service goes before it",
                )
        return first or Selector()

    # --- peers -------------------------------------------------------------------------------------------

    def _cluster(self, each: SourceObject) -> None:
        nodes = selector(each.spec["nodeSelector"])
        each.carried("spec.nodeSelector", "BGPPeer spec.nodeSelector")
        for instance in each.spec["bgpInstances"].items():
            name = instance["name"].text()
            own = as_number(instance["localASN"]) if instance["localASN"].present else None
            if instance["localPort"].present:
                self._ports.add(instance["localPort"].integer(1, 65535))
            each.carried(instance["name"], "the names of its BGPPeers")
            each.carried(instance["localASN"], "BGPConfiguration default spec.asNumber, or localASNumber")
            each.changed(
                instance["localPort"], "spec.listenPort; nodes listen for peers that are passive alone"
            )
            for item in instance["peers"].items():
                self._speaking.append(self._peer(each, item, name, own, nodes))

    def _peer(
        self, each: SourceObject, at: Field, instance: str, own: int | None, nodes: Selector
    ) -> Speaking:
        only(at, "name", "peerAddress", "peerASN", "autoDiscovery", "peerConfigRef")
        name = object_name(each.name.name, instance, at["name"].text())
        discovery = at["autoDiscovery"]
        mode = discovery["mode"].text(default="")
        interface = discovery["unnumbered"]["interface"].text() if mode == "Unnumbered" else None
        gateway = mode == "DefaultGateway"
        number = at["peerASN"].value or None
        if number is None and interface is None:
            raise at["peerASN"].wrong("a peer with an address has to have an AS number")
        peer = BgpPeer(
            name=name,
            address=None if mode else at["peerAddress"].address(),
            interface=interface,
            default_gateway=gateway,
            as_number=as_number(at["peerASN"]) if number else None,
            node_selector=nodes,
            graceful_restart=0,
            families=frozenset(Family),
        )
        found = Speaking(peer, own, instance, at["name"].text())
        config = at["peerConfigRef"]["name"].text(default="")
        if config and config not in self._configs:
            raise at["peerConfigRef"].wrong(
                f"there is no CiliumBGPPeerConfig {config[:60]} among the objects"
            )
        if config:
            self._configured(self._configs[config], found)
        if gateway:
            each.changed(discovery, "autodiscover: DefaultGateway, of the default routes of both families")
        else:
            each.carried(discovery, "BGPPeer spec.interface")
        each.carried(at, f"BGPPeer {name}")
        return found

    def _configured(self, config: SourceObject, found: Speaking) -> None:
        """A CiliumBGPPeerConfig: timers, families, and what these announce."""
        spec, peer = config.spec, found.peer
        hops = spec["ebgpMultihop"].integer(1, 255, default=1)
        restart = spec["gracefulRestart"]
        restarting = restart["restartTimeSeconds"].integer(1, 4095, default=120)
        secret = spec["authSecretRef"].text(default="")
        families = list(spec["families"].items())
        for item in families:
            only(item, "afi", "safi", "advertisements")
            version = {"ipv4": 4, "ipv6": 6}.get(item["afi"].text())
            if version is None or item["safi"].text() != "unicast":
                config.unsaid(item, "l3net carries IPv4 and IPv6 unicast alone")
                continue
            chosen = selector(item["advertisements"]) if item["advertisements"].present else None
            found.adverts[version] = [
                advert
                for each, adverts in self._adverts
                if chosen is not None and chosen.matches(each["metadata"]["labels"].labels())
                for advert in adverts
            ]
        found.peer = replace(
            peer,
            port=spec["transport"]["peerPort"].integer(1, 65535, default=179),
            hold_time=spec["timers"]["holdTimeSeconds"].optional_integer(3, 65535),
            password=SecretKey(ObjectName(self._secrets, secret), "password") if secret else None,
            graceful_restart=restarting if restart["enabled"].flag(default=False) else 0,
            multihop=hops if hops > 1 else None,
            families=frozenset(Family(version) for version in found.adverts) or peer.families,
        )
        config.carried(spec["transport"], "BGPPeer spec.port")
        config.carried(spec["timers"]["holdTimeSeconds"], "BGPPeer spec.holdTime")
        cilium_policy.told_of_timers(config, spec["timers"], "keepAliveTimeSeconds")
        config.carried(spec["authSecretRef"], f"password.secretKeyRef {self._secrets}/{secret}, key password")
        config.carried(spec["gracefulRestart"], "BGPPeer spec.gracefulRestart")
        config.carried(spec["ebgpMultihop"], "BGPPeer spec.multihop")
        for item in families:
            config.carried(item, "BGPPeer spec.families, and the export rules of its BGPFilter")
        config.passed_over("spec")

    # --- of one node -------------------------------------------------------------------------------------

    def _override(self, each: SourceObject) -> None:
        node = each.spec["nodeRef"].text(default=each.name.name)
        for instance in each.spec["bgpInstances"].items():
            name = instance["name"].text(default="")
            if instance["localASN"].present and name:
                number = str(as_number(instance["localASN"]))
                self._into.annotate(Kind.NODE, ObjectName("", node), **{ANNOTATION_AS_NUMBER: number})
                each.carried(instance["localASN"], f"annotation {ANNOTATION_AS_NUMBER} of the Node")
            each.unsaid(instance["routerID"], "the router ID is the node's first IPv4 InternalIP")
            each.unsaid(instance["localPort"], "all nodes listen on one port (spec.listenPort)")
            each.carried(instance["name"])
            for item in instance["peers"].items():
                self._peer_of_node(each, item, name, node)

    def _peer_of_node(self, each: SourceObject, at: Field, instance: str, node: str) -> None:
        """The node has the peer by a BGPPeer of its own."""
        each.unsaid(at["localPort"], "sessions are dialled from any port")
        for one in list(self._speaking):
            if (one.instance, one.name) != (instance, at["name"].text()) or not at["localAddress"].present:
                continue
            other = Requirement(_HOSTNAME, "NotIn", (node,))
            own = replace(
                one.peer,
                name=object_name(one.peer.name, node),
                nodes=(node,),
                local_address=at["localAddress"].address(),
            )
            self._speaking.append(replace(one, peer=own))
            one.peer = replace(
                one.peer, node_selector=Selector((*one.peer.node_selector.requirements, other))
            )
            each.carried(at["localAddress"], f"BGPPeer {own.name} spec.localAddress")
            each.carried(at["name"])

    def _service(self, each: SourceObject) -> None:
        notes = each["metadata"]["annotations"]
        name = ObjectName(each.name.namespace or "default", each.name.name)
        for key in notes.labels():
            if key in _IPS:
                self._into.annotate(Kind.SERVICE, name, **{ANNOTATION_LOAD_BALANCER_IPS: notes[key].text()})
                each.carried(notes[key], f"annotation {ANNOTATION_LOAD_BALANCER_IPS}")
            elif key in _SHARING:
                self._into.annotate(Kind.SERVICE, name, **{ANNOTATION_SHARING_KEY: notes[key].text()})
                each.changed(notes[key], f"annotation {ANNOTATION_SHARING_KEY}: inside one namespace alone")
            elif key.startswith(_DOMAINS):
                each.unsaid(notes[key], "l3net import does not know this annotation")
        if each.spec["loadBalancerClass"].text(default=""):
            each.unsaid(
                "spec.loadBalancerClass",
                "l3net gives addresses to the class l3net.io/bgp, or to none; a Service has to be made "
                "anew to change it",
            )
