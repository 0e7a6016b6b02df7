"""Calico's resources (projectcalico.org/v3, and crd.projectcalico.org/v1 in which they are stored).

What they mean for BGP is read from the templates that Calico makes BIRD's configuration of (confd): a node
announces blocks of pools that export, the ranges of services, and addresses of services with
externalTrafficPolicy Local; it takes whatever a peer says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from l3net.addresses import contains, parse_address
from l3net.community import AnyCommunity
from l3net.importing import calico_filters, calico_nodes, calico_policies
from l3net.importing.expressions import selector
from l3net.importing.source import Finding, Imported, Outcome, SourceObject, as_number, read_each, seconds
from l3net.kube.fields import Field
from l3net.kube.resources import community
from l3net.model import (
    EVERYTHING,
    Action,
    Address,
    AddressKind,
    AdvertisePolicy,
    BfdSettings,
    BgpConfiguration,
    BgpFilter,
    BgpPeer,
    FilterRule,
    ImportPolicy,
    IpPool,
    NextHopMode,
    ObjectName,
    Operations,
    PoolUse,
    Prefix,
    SecretKey,
)

GROUPS: Final = ("projectcalico.org", "crd.projectcalico.org")
#: Configuration that has no place in l3net, and what there is instead.
_ELSEWHERE: Final = {
    "IPReservation": "l3net has no such object: `reserved` of the CNI configuration holds addresses back "
    "on a node (docs/cni.md); for load balancers leave them out of the pool's cidr",
    "HostEndpoint": "l3net's policies are for pods; the host's own firewall is the host's",
    "GlobalNetworkSet": "l3net has no sets of networks; write the networks into the policies",
    "NetworkSet": "l3net has no sets of networks; write the networks into the policies",
    "FelixConfiguration": "what it sets for Felix is no configuration of l3net's; see docs/agent.md",
    "KubeControllersConfiguration": "l3net's controller has nothing of it to set; see docs/kubernetes.md",
    "Tier": "ClusterNetworkPolicy has two tiers, Admin and Baseline",
    "StagedGlobalNetworkPolicy": "`l3net plan` shows what a policy would change before it is applied",
    "StagedNetworkPolicy": "`l3net plan` shows what a policy would change before it is applied",
    "StagedKubernetesNetworkPolicy": "`l3net plan` shows what a policy would change before it is applied",
}
_COMMUNITIES: Final = "calico-communities"
_MESH: Final = "calico-node-mesh"
#: A session over several hops has this TTL in BIRD, unless told otherwise.
_ANY_TTL: Final = 255
_RESTART: Final = 120  # seconds, BIRD's
_IMPORTS: Final = (
    "Calico takes every route of a peer. With import.ebgpRequiresPolicy: false l3net takes all but what "
    "draws the cluster's own traffic, and a default route only with import.defaultRoute: true"
)
#: Calico's, for each IP version.
_BLOCK_SIZES: Final = {4: 26, 6: 122}


def imported(objects: Iterable[tuple[Mapping[str, object], str]], secrets: str = "kube-system") -> Imported:
    """What Calico's objects come to. `objects` are parsed documents, and where each stands; `secrets` is the
    namespace of calico-node, in which its Secrets are."""
    into = Imported()
    by_kind: dict[str, list[SourceObject]] = {}
    for content, where in objects:
        found = SourceObject(content, where, into)
        group = found.api_version.rpartition("/")[0]
        if group in GROUPS or (found.api_version == "v1" and found.kind == "Node"):
            by_kind.setdefault(found.kind, []).append(found)
        else:
            into.skipped += 1
    if not by_kind:
        return into
    _Calico(into, secrets).read(by_kind)
    return into


class _Calico:
    def __init__(self, into: Imported, secrets: str) -> None:
        self._into, self._secrets = into, secrets
        self._nodes = calico_nodes.Nodes()
        self._restart = _RESTART
        self._tagged = False

    def read(self, by_kind: dict[str, list[SourceObject]]) -> None:
        into = self._into
        read_each(by_kind.pop("Node", ()), lambda each: self._nodes.read(each, into))
        into.configuration = BgpConfiguration(
            advertise=AdvertisePolicy(cluster_ips=AddressKind(False)),
            imports=ImportPolicy(ebgp_requires_policy=False),
        )
        if by_kind.keys() & {"BGPConfiguration", "BGPPeer"}:
            into.findings.append(Finding(Outcome.CHANGED, "BGPConfiguration", "default", "", _IMPORTS))
        read_each(by_kind.pop("BGPConfiguration", ()), self._configuration, "spec")
        read_each(by_kind.pop("IPPool", ()), lambda each: _pool(each, into), "spec")
        read_each(by_kind.pop("BGPFilter", ()), lambda each: calico_filters.read(each, into), "spec")
        read_each(by_kind.pop("BGPPeer", ()), self._peer, "spec")
        calico_policies.read(
            [*by_kind.pop("NetworkPolicy", ()), *by_kind.pop("GlobalNetworkPolicy", ())], into
        )
        for kind, objects in by_kind.items():
            for each in objects:
                if kind in _ELSEWHERE:
                    each.note(Outcome.UNSAID, "", _ELSEWHERE[kind])
                else:
                    into.skipped += 1  # blocks, handles and the like: state, not configuration

    # --- BGPConfiguration --------------------------------------------------------------------------------

    def _configuration(self, each: SourceObject) -> None:
        if each.name.name != "default":
            each.unsaid(
                "spec", "l3net has no BGPConfiguration of one node; BGPPeers and annotations are per node"
            )
            return
        spec = each.spec
        found = self._into.configuration
        assert found is not None  # noqa: S101 - made before
        if spec["asNumber"].present:
            found = replace(found, as_number=as_number(spec["asNumber"]))
        found = replace(
            found,
            mesh=spec["nodeToNodeMeshEnabled"].flag(default=True),
            listen_port=spec["listenPort"].integer(1, 65535, default=179),
        )
        for name, into in (
            ("asNumber", "asNumber"),
            ("nodeToNodeMeshEnabled", "nodeToNodeMesh"),
            ("listenPort", "listenPort"),
        ):
            each.carried(spec[name], f"BGPConfiguration default spec.{into}")
        self._into.configuration = self._services(each, found)
        self._communities(each)
        self._mesh(each)
        each.changed(spec["logSeverityScreen"], "`--log-level` of the agent")
        each.carried(spec["ignoredInterfaces"], "l3net announces no subnets of links")
        each.changed(
            spec["bindMode"], "l3net listens on the addresses of sessions with peers that are passive"
        )
        each.unsaid(
            spec["localWorkloadPeeringIPV4"], "l3net's nodes have no BGP sessions with their own pods"
        )
        each.unsaid(
            spec["localWorkloadPeeringIPV6"], "l3net's nodes have no BGP sessions with their own pods"
        )

    def _services(self, each: SourceObject, found: BgpConfiguration) -> BgpConfiguration:
        """Calico announces the ranges from every node, and host routes of services with a Local policy."""
        advertise = found.advertise
        networks = list(advertise.networks)
        kinds: dict[str, AddressKind] = {}
        for field, into in (
            ("serviceClusterIPs", "cluster_ips"),
            ("serviceExternalIPs", "external_ips"),
            ("serviceLoadBalancerIPs", "load_balancer_ips"),
        ):
            cidrs = tuple(item["cidr"].prefix() for item in each.spec[field].items() if item["cidr"].present)
            kinds[into] = AddressKind(bool(cidrs), cidrs)
            apart = each.spec["serviceLoadBalancerAggregation"].text(default="Enabled") == "Disabled"
            if field == "serviceLoadBalancerIPs" and apart:
                each.carried(each.spec[field], "spec.advertise.loadBalancerIPs")
                each.carried(
                    each.spec["serviceLoadBalancerAggregation"], "no range in spec.advertise.networks"
                )
                continue
            networks += [cidr for cidr in cidrs if cidr not in networks]
            if cidrs:
                each.changed(
                    each.spec[field],
                    "the ranges are in advertise.networks, as Calico announces them; host routes are "
                    "announced of all services that nodes serve, not only of those with "
                    "externalTrafficPolicy: Local. A BGPFilter that rejects them leaves the ranges alone",
                )
        each.carried(each.spec["serviceLoadBalancerAggregation"], "spec.advertise.networks")
        advertise = replace(
            advertise,
            networks=tuple(networks),
            cluster_ips=kinds["cluster_ips"],
            external_ips=kinds["external_ips"],
            load_balancer_ips=kinds["load_balancer_ips"],
        )
        return replace(found, advertise=advertise)

    def _communities(self, each: SourceObject) -> None:
        named: dict[str, AnyCommunity] = {}
        for item in each.spec["communities"].items():
            named[item["name"].text()] = community(item["value"])
        tagged: dict[Prefix, set[AnyCommunity]] = {}
        for item in each.spec["prefixAdvertisements"].items():
            found = {
                named[word.text()] if word.text() in named else community(word)
                for word in item["communities"].items()
            }
            tagged.setdefault(item["cidr"].prefix(), set()).update(found)
        if not tagged:
            each.carried(each.spec["communities"], "no prefixAdvertisements uses them")
            return
        rules = []
        for cidr in sorted(tagged, key=lambda one: (one.version, -one.prefixlen, int(one.network_address))):
            # Every range that a prefix lies in counts in Calico, here the first rule alone
            found = {tag for outer, tags in tagged.items() if contains(outer, cidr) for tag in tags}
            rules.append(FilterRule(Action.ACCEPT, cidr, operations=Operations(frozenset(found))))
        self._into.filters[_COMMUNITIES] = BgpFilter(_COMMUNITIES, exports=tuple(rules))
        self._tagged = True
        each.carried(each.spec["communities"], f"BGPFilter {_COMMUNITIES}")
        if each.spec["nodeToNodeMeshEnabled"].flag(default=True):
            each.changed(
                each.spec["prefixAdvertisements"],
                f"BGPFilter {_COMMUNITIES} of every BGPPeer; nodes do not tag what they tell one another",
            )
        else:
            each.carried(each.spec["prefixAdvertisements"], f"BGPFilter {_COMMUNITIES} of every BGPPeer")

    def _mesh(self, each: SourceObject) -> None:
        restart, password = each.spec["nodeMeshMaxRestartTime"], each.spec["nodeMeshPassword"]
        found = self._into.configuration
        assert found is not None  # noqa: S101 - made before
        if restart.present:
            found = replace(found, graceful_restart=max(1, min(seconds(restart), 4095)))
            each.carried(restart, "BGPConfiguration default spec.gracefulRestart.restartTime")
        if password.present:
            found = replace(found, mesh=False)
            self._into.peers[_MESH] = BgpPeer(
                name=_MESH, peer_selector=EVERYTHING, password=self._password(each, password)
            )
            each.changed(
                each.spec["nodeToNodeMeshEnabled"],
                f"the mesh of l3net has no password: it is BGPPeer {_MESH}, of every node with every other",
            )
        self._into.configuration = found

    def _password(self, each: SourceObject, at: Field) -> SecretKey:
        ref = at["secretKeyRef"]
        each.carried(at, f"password.secretKeyRef, in namespace {self._secrets}")
        return SecretKey(ObjectName(self._secrets, ref["name"].text()), ref["key"].text())

    # --- BGPPeer -----------------------------------------------------------------------------------------

    def _peer(self, each: SourceObject) -> None:
        spec, name = each.spec, each.name.name
        if spec["localWorkloadSelector"].present:
            each.unsaid("spec", "l3net's nodes have no BGP sessions with their own pods")
            return
        address, port = _address_and_port(spec["peerIP"]) if spec["peerIP"].present else (None, 179)
        remote = selector(spec["peerSelector"]) if spec["peerSelector"].present else None
        if remote is not None and self._into.configuration is not None:
            reflecting = self._nodes.reflecting(each, remote, self._into.configuration)
            if reflecting is not None:
                self._into.configuration = reflecting
                return
        number = spec["asNumber"]
        configuration = self._into.configuration
        default = configuration.as_number if configuration else None
        peer = BgpPeer(
            name=name,
            address=address,
            port=port,
            peer_selector=remote,
            as_number=as_number(number) if number.present else (default if remote is None else None),
            local_as=as_number(spec["localASNumber"]) if spec["localASNumber"].present else None,
            nodes=(spec["node"].text(),) if spec["node"].text(default="") else (),
            node_selector=selector(spec["nodeSelector"]),
            password=self._password(each, spec["password"]) if spec["password"].present else None,
            next_hop=_next_hop(spec),
            graceful_restart=max(1, min(seconds(spec["maxRestartTime"]), 4095))
            if spec["maxRestartTime"].present
            else (_RESTART if configuration and configuration.graceful_restart != _RESTART else None),
            filters=(
                *(item.text() for item in spec["filters"].items()), *((_COMMUNITIES,) if self._tagged else ())
            ),
            multihop=self._multihop(each, address),
            gtsm=spec["ttlSecurity"].value == 1,
            bfd=BfdSettings(min_interval=500, multiplier=16) if _bfd(spec) else None,
        )  # fmt: skip
        if peer.gtsm:
            peer = replace(peer, multihop=None)
        self._into.add_peer(peer)
        self._told_of_peer(each)

    def _told_of_peer(self, each: SourceObject) -> None:
        spec = each.spec
        for field, into in (
            ("node", "nodes"), ("nodeSelector", "nodeSelector"), ("peerIP", "address"), ("asNumber",
            "asNumber"), ("localASNumber", "localASNumber"), ("peerSelector", "peerSelector"), ("filters",
            "filters"), ("maxRestartTime", "gracefulRestart.restartTime"), ("keepOriginalNextHop",
            "nextHopMode"), ("nextHopMode", "nextHopMode"),
        ):  # fmt: skip
            each.carried(spec[field], f"BGPPeer {each.name.name} spec.{into}")
        if spec["ttlSecurity"].value == 1:
            each.carried(spec["ttlSecurity"], "spec.gtsm")
        else:
            each.unsaid(spec["ttlSecurity"], "GTSM is for a neighbour one hop away (spec.gtsm)")
        if spec["sourceAddress"].text(default="UseNodeIP") == "None":
            each.carried(spec["sourceAddress"])
        else:
            each.changed(
                spec["sourceAddress"],
                "the address is that of the link the route to the peer leaves by; spec.localAddress sets "
                "another",
            )
        if spec["numAllowedLocalASNumbers"].value:
            each.unsaid(
                spec["numAllowedLocalASNumbers"], "l3net has no allowas-in; give each node its own AS"
            )
        else:
            each.carried(spec["numAllowedLocalASNumbers"])
        each.changed(spec["keepaliveTime"], "keepalives go out at a third of holdTime")
        each.unsaid(spec["reachableBy"], "l3net sets no static route to a peer: have the host set it")
        each.unsaid(spec["reversePeering"], "peers of a peerSelector have the session by their own BGPPeer")
        if _bfd(spec):
            each.carried(spec["failureDetectionMode"], "spec.bfd, with 500 ms and a multiplier of 16")
        else:
            each.carried(spec["failureDetectionMode"])

    def _multihop(self, each: SourceObject, address: Address | None) -> int | None:
        """Calico's sessions pass any number of hops; l3net has to be told of a peer that is on no link."""
        if address is None or self._nodes.on_link(address):
            return None
        if self._nodes.known(address.version):
            return _ANY_TTL
        each.note(
            Outcome.CHANGED,
            "spec.peerIP",
            "taken for a neighbour on a link of the nodes: spec.multihop is for one that is further away. "
            "Import the Nodes as well, and it is set where it has to be",
        )
        return None


def _pool(each: SourceObject, into: Imported) -> None:
    spec, name = each.spec, each.name.name
    cidr = spec["cidr"].prefix()
    uses = {item.text() for item in spec["allowedUses"].items()} or {"Workload", "Tunnel"}
    known = {"Workload": PoolUse.PODS, "LoadBalancer": PoolUse.LOAD_BALANCER}
    ours = frozenset(known[use] for use in uses if use in known)
    if not ours:
        each.unsaid("spec", "a pool for tunnels alone: l3net has no tunnels")
        return
    if "Tunnel" in uses:
        each.carried(spec["allowedUses"], "spec.allowedUses; there are no tunnels to give addresses to")
    else:
        each.carried(spec["allowedUses"], "spec.allowedUses")
    manual = spec["assignmentMode"].text(default="Automatic") == "Manual"
    if manual:
        each.unsaid(
            spec["assignmentMode"], "there is no pool that only gives what is asked for: it is disabled"
        )
    else:
        each.carried(spec["assignmentMode"])
    for mode in ("ipipMode", "vxlanMode"):
        text = spec[mode].text(default="Never")
        if text == "Never":
            each.carried(spec[mode], "no tunnel")
        elif text == "CrossSubnet":
            each.changed(
                spec[mode], "no tunnel: routers between the nodes' subnets have to have the pods' routes"
            )
        else:
            each.unsaid(spec[mode], "no tunnel: what is between the nodes has to have the pods' routes")
    into.add_pool(
        IpPool(
            name=name,
            cidr=cidr,
            block_size=spec["blockSize"].integer(1, 128, default=_BLOCK_SIZES[cidr.version]),
            nat_outgoing=spec["natOutgoing"].flag(default=False),
            disabled=spec["disabled"].flag(default=False) or manual,
            advertise=not spec["disableBGPExport"].flag(default=False),
            node_selector=selector(spec["nodeSelector"]),
            namespace_selector=selector(spec["namespaceSelector"], calico_policies.namespace_label),
            allowed_uses=ours,
            avoid_buggy=False,
        )
    )
    for field, now in (
        ("cidr", "cidr"), ("blockSize", "blockSize"), ("natOutgoing", "natOutgoing"), ("disabled",
        "disabled"), ("disableBGPExport", "advertise"), ("nodeSelector", "nodeSelector"),
        ("namespaceSelector", "namespaceSelector"),
    ):  # fmt: skip
        each.carried(spec[field], f"IPPool {name} spec.{now}")


def _bfd(spec: Field) -> bool:
    return spec["failureDetectionMode"].text(default="None") == "BFDIfDirectlyConnected"


def _next_hop(spec: Field) -> NextHopMode:
    keep = (
        spec["keepOriginalNextHop"].flag(default=False) or spec["nextHopMode"].text(default="Auto") == "Keep"
    )
    return NextHopMode.KEEP if keep else NextHopMode.SELF


def _address_and_port(at: Field) -> tuple[Address, int]:
    """`10.0.0.1`, `10.0.0.1:1790`, `fd00::1` or `[fd00::1]:1790`."""
    text = at.text()
    host, port = text, "179"
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":") or "179"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        found = parse_address(host)
        number = int(port)
    except ValueError:
        raise at.wrong(f"{text[:60]!r} is not an address with or without a port") from None
    if not 0 < number < 2**16:
        raise at.wrong(f"{number} is not a port")
    return found, number
