"""kube-router: the flags of its DaemonSet, and its annotations of Nodes and Services.

A node of kube-router's has a session with every other of its AS, and with routers by flags or annotations.
These hear its pods' range and addresses of services as the flags say; it takes what they say but a default
route, and what is the node's own, which is what l3net refuses too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Final

from l3net.addresses import parse_address, parse_prefix
from l3net.errors import ManifestError
from l3net.importing import kube_router_nodes
from l3net.importing.flags import Flags, arguments, holds_workload, number
from l3net.importing.kube_router_flags import KINDS, SWITCHES, told_of
from l3net.importing.kube_router_nodes import NodePolicy, Router
from l3net.importing.source import Imported, Outcome, SourceObject, object_name, read_each
from l3net.kube.fields import Field
from l3net.model import (
    EVERYTHING,
    Action,
    AddressKind,
    AdvertisePolicy,
    BgpConfiguration,
    BgpFilter,
    BgpPeer,
    FilterRule,
    ImportPolicy,
    IpPool,
    Kind,
    NodePortAddresses,
    ObjectName,
    Operations,
    PoolUse,
    Prefix,
    Requirement,
    SecretKey,
    Selector,
    Topology,
)
from l3net.naming import ANNOTATION_ADVERTISE

_PROGRAM: Final = "kube-router"
_DOMAIN: Final = "kube-router.io/"
_HOSTNAME: Final = "kubernetes.io/hostname"
_AS: Final = 64512


def imported(objects: Iterable[tuple[Mapping[str, object], str]], secrets: str = "kube-system") -> Imported:
    """What kube-router's flags and annotations come to. `secrets` is the namespace in which Secrets with its
    passwords are to be put: it has none itself."""
    into = Imported()
    workloads: list[tuple[SourceObject, list[str]]] = []
    nodes: list[SourceObject] = []
    services: list[SourceObject] = []
    for content, where in objects:
        found = SourceObject(content, where, into)
        try:
            words = arguments(found, _PROGRAM) if holds_workload(content) else None
        except ManifestError as err:
            found.note(Outcome.UNSAID, err.field, err.why)
            continue
        if words is not None:
            workloads.append((found, words))
        elif found.api_version == "v1" and found.kind in ("Node", "Service"):
            (nodes if found.kind == "Node" else services).append(found)
        else:
            into.skipped += 1
    if workloads or nodes:
        _KubeRouter(into, secrets).read(workloads, nodes, services)
    return into


@dataclass(slots=True)
class _Global:
    """What the flags say for all nodes."""

    routers: list[Router]
    multihop: int | None = None
    restart: int = 0
    hold_time: int = 90


class _KubeRouter:
    def __init__(self, into: Imported, secrets: str) -> None:
        self._into, self._secrets = into, secrets
        self._global = _Global([])
        self._nodes = kube_router_nodes.Nodes(into)
        self._advertised = dict.fromkeys(KINDS, False)

    def read(
        self,
        workloads: list[tuple[SourceObject, list[str]]],
        nodes: list[SourceObject],
        services: list[SourceObject],
    ) -> None:
        words = {id(source): found for source, found in workloads}
        self._into.configuration = BgpConfiguration(
            as_number=_AS,
            graceful_restart=0,
            advertise=AdvertisePolicy(cluster_ips=AddressKind(False)),
            imports=ImportPolicy(ebgp_requires_policy=False),
        )
        read_each(nodes, self._nodes.read)
        read_each(
            [source for source, _ in workloads[:1]],
            lambda each: self._flags(each, Flags(each, words[id(each)], SWITCHES)),
        )
        for source, _ in workloads[1:]:
            source.note(Outcome.UNSAID, "", "the flags of one kube-router are imported; here is another")
        read_each(services, self._service)
        self._reflect()
        self._nodes.compare_prepended(self._into.configuration.as_number)
        self._peers()

    # --- flags -------------------------------------------------------------------------------------------

    def _flags(self, each: SourceObject, flags: Flags) -> None:
        found = self._into.configuration
        assert found is not None  # noqa: S101 - made before
        kinds = {kind: flags.on(f"advertise-{word}", default=False) for kind, word in KINDS.items()}
        self._advertised = kinds
        ranges = {
            kind: _prefixes(flags.listed(name))
            for kind, name in (
                ("clusterip", "service-cluster-ip-range"), ("externalip", "service-external-ip-range"),
                ("loadbalancerip", "loadbalancer-ip-range"),
            )
        }  # fmt: skip
        for kind in ("externalip", "loadbalancerip"):
            if kinds[kind] and not ranges[kind]:
                flags.unsaid(
                    f"advertise-{KINDS[kind]}",
                    "l3net announces such addresses of ranges that are named alone (CVE-2020-8554): put "
                    "them into BGPConfiguration default spec.advertise",
                )
        self._into.configuration = replace(
            found,
            as_number=flags.number("cluster-asn", 1, 2**32 - 1, _AS),
            mesh=flags.on("enable-ibgp", default=True),
            listen_port=flags.number("bgp-port", 1, 65535, 179),
            hold_time=flags.seconds("bgp-holdtime", 90),
            graceful_restart=min(flags.seconds("bgp-graceful-restart-time", 90), 4095)
            if flags.on("bgp-graceful-restart", default=False)
            else 0,
            service_cidrs=ranges["clusterip"],
            node_ports=NodePortAddresses(cidrs=(parse_prefix("0.0.0.0/0"), parse_prefix("::/0")))
            if flags.on("nodeport-bindon-all-ip", default=False)
            else NodePortAddresses(),
            advertise=AdvertisePolicy(
                pod_blocks=flags.on("advertise-pod-cidr", default=True),
                cluster_ips=AddressKind(kinds["clusterip"]),
                external_ips=AddressKind(
                    kinds["externalip"] and bool(ranges["externalip"]), ranges["externalip"]
                ),
                load_balancer_ips=AddressKind(
                    kinds["loadbalancerip"] and bool(ranges["loadbalancerip"]), ranges["loadbalancerip"]
                ),
            ),
        )
        self._routers(flags)
        self._pools(each, flags, ranges["loadbalancerip"])
        told_of(each, flags)
        flags.passed_over()

    def _routers(self, flags: Flags) -> None:
        addresses, numbers = flags.listed("peer-router-ips"), flags.listed("peer-router-asns")
        if len(addresses) != len(numbers):
            raise ManifestError("--peer-router-asns", "has to have as many entries as --peer-router-ips")
        ports, secret = flags.listed("peer-router-ports"), flags.listed("peer-router-passwords")
        hidden = flags.given("peer-router-passwords-file")
        hops = flags.number("peer-router-multihop-ttl", 0, 255, 0)
        self._global.multihop = hops if hops > 1 else None
        for place, (address, of) in enumerate(zip(addresses, numbers, strict=True)):
            port = number(ports[place], 65535) if place < len(ports) and ports[place].value else 179
            locked = hidden or (place < len(secret) and bool(secret[place].value))
            self._global.routers.append(
                Router(kube_router_nodes.address(address), number(of, 2**32 - 1), port, locked=locked)
            )
        where = f"the BGPPeers refer to Secrets {self._secrets}/kube-router-..., key password: make them"
        flags.unsaid("peer-router-passwords", f"passwords stand in the flag; {where}")
        flags.unsaid("peer-router-passwords-file", f"passwords stand in a file of the nodes; {where}")

    def _pools(self, each: SourceObject, flags: Flags, balancers: tuple[Prefix, ...]) -> None:
        masquerade = flags.on("enable-pod-egress", default=True)
        cidrs = _prefixes(flags.listed("cluster-cidr"))
        for place, cidr in enumerate(cidrs):
            size = self._nodes.block_size(cidr) or (24 if cidr.version == 4 else 64)
            name = object_name("pods", *([str(place)] if place else ()))
            self._into.add_pool(IpPool(name, cidr, max(size, cidr.prefixlen), nat_outgoing=masquerade))
        if masquerade and not cidrs:
            each.note(
                Outcome.CHANGED, "--enable-pod-egress",
                "pods leave the cluster with their own addresses until an IPPool with natOutgoing: true "
                "has their range (kube-router does not name it)",
            )  # fmt: skip
        flags.carried("cluster-cidr", "IPPool pods")
        flags.carried("enable-pod-egress", "spec.natOutgoing")
        if flags.on("run-loadbalancer", default=False):
            uses = frozenset({PoolUse.LOAD_BALANCER})
            for place, cidr in enumerate(balancers):
                name = f"balancers-{place}"
                self._into.add_pool(
                    IpPool(name, cidr, cidr.max_prefixlen, allowed_uses=uses, avoid_buggy=False)
                )
        flags.carried("run-loadbalancer", "IPPools balancers-..., with allowedUses: [LoadBalancer]")
        flags.changed("loadbalancer-default-class", "`--load-balancers all` of the controller, or `class`")

    # --- peers -------------------------------------------------------------------------------------------

    def _reflect(self) -> None:
        clusters = sorted(set(self._nodes.servers.values()))
        if not clusters or self._into.configuration is None:
            return
        text = clusters[0]
        identity = IPv4Address(int(text)) if text.isdecimal() and int(text) < 2**32 else parse_address(text)
        if isinstance(identity, IPv4Address):
            self._into.configuration = replace(
                self._into.configuration, mesh=True, topology=Topology.REFLECTORS, cluster_id=identity
            )

    def _peers(self) -> None:
        """Routers of all nodes, but those whose policies of their own are other than the rest's; and of
        some."""
        policies = {name: found for name, found in self._nodes.policies.items() if found != NodePolicy()}
        groups: dict[NodePolicy, list[str]] = {}
        for name, policy in sorted(policies.items()):
            groups.setdefault(policy, []).append(name)
        everywhere = len(groups) == 1 and policies.keys() == self._nodes.names
        apart = () if everywhere else tuple(sorted(policies))
        rest = Selector((Requirement(_HOSTNAME, "NotIn", apart),)) if apart else EVERYTHING
        names = {policy: object_name(_PROGRAM, str(place)) for place, policy in enumerate(groups)}
        for policy, name in names.items():
            self._into.filters[name] = _filter(name, policy)
        for router in self._global.routers:
            base = self._peer(router, object_name(_PROGRAM, str(router.address).replace(":", "-")))
            of_all = names[next(iter(groups))] if everywhere else None
            self._into.add_peer(replace(base, node_selector=rest, filters=(of_all,) if of_all else ()))
            for policy, nodes in () if everywhere else groups.items():
                name = object_name(base.name, names[policy].removeprefix(f"{_PROGRAM}-"))
                self._into.add_peer(replace(base, name=name, nodes=tuple(nodes), filters=(names[policy],)))
        for node, routers in sorted(self._nodes.routers.items()):
            for router in routers:
                name = object_name(_PROGRAM, node, str(router.address).replace(":", "-"))
                policy = policies.get(node, NodePolicy())
                filters = (names[policy],) if policy in names else ()
                self._into.add_peer(replace(self._peer(router, name), nodes=(node,), filters=filters))

    def _peer(self, router: Router, name: str) -> BgpPeer:
        return BgpPeer(
            name=name,
            address=router.address,
            as_number=router.as_number,
            port=router.port,
            local_address=router.local,
            multihop=self._global.multihop,
            password=SecretKey(ObjectName(self._secrets, name), "password") if router.locked else None,
        )

    # --- services ----------------------------------------------------------------------------------------

    def _service(self, each: SourceObject) -> None:
        notes = each["metadata"]["annotations"]
        said: dict[str, bool] = {}
        for key in notes.labels():
            word = key.removeprefix(_DOMAIN)
            if word == key:
                continue
            kind = word.removeprefix("service.advertise.")
            if kind in KINDS:
                said[kind] = notes[key].text() == "true"
            elif word == "service.hairpin":
                each.carried(notes[key], "as ever: a pod reaches itself by its service")
            elif word == "service.local":
                each.unsaid(
                    notes[key],
                    "set spec.internalTrafficPolicy and spec.externalTrafficPolicy of the Service to Local",
                )
            else:
                each.unsaid(notes[key], "l3net has nothing like it")
        if not said:
            return
        name = ObjectName(each.name.namespace or "default", each.name.name)
        wanted = set(said.values())
        off = [kind for kind, told in said.items() if told and not self._advertised[kind]]
        on = [kind for kind, told in self._advertised.items() if told]
        if len(wanted) > 1 or (off and on):
            self._tell_all(
                each, notes, said, "one annotation is for all addresses of a Service: by kind is not said"
            )
            return
        if off:
            self._opt_in(off)
        self._into.annotate(
            Kind.SERVICE, name, **{ANNOTATION_ADVERTISE: "true" if True in wanted else "false"}
        )
        for kind in said:
            each.changed(
                notes[f"{_DOMAIN}service.advertise.{kind}"],
                f"annotation {ANNOTATION_ADVERTISE}, of all addresses of the Service that are announced",
            )

    def _tell_all(self, each: SourceObject, notes: Field, said: Mapping[str, bool], why: str) -> None:
        for kind in said:
            each.unsaid(notes[f"{_DOMAIN}service.advertise.{kind}"], why)

    def _opt_in(self, kinds: Iterable[str]) -> None:
        """Announce kinds of addresses of Services that say so, and of no other."""
        found = self._into.configuration
        assert found is not None  # noqa: S101 - made before
        advertise = found.advertise
        nobody = Selector((Requirement(ANNOTATION_ADVERTISE, "Exists"),))  # a label that no Service has
        advertise = replace(advertise, service_selector=nobody)
        if "clusterip" in kinds:
            advertise = replace(advertise, cluster_ips=replace(advertise.cluster_ips, enabled=True))
        if "externalip" in kinds:
            advertise = replace(advertise, external_ips=replace(advertise.external_ips, enabled=True))
        if "loadbalancerip" in kinds:
            advertise = replace(
                advertise, load_balancer_ips=replace(advertise.load_balancer_ips, enabled=True)
            )
        self._into.configuration = replace(found, advertise=advertise)


def _filter(name: str, policy: NodePolicy) -> BgpFilter:
    operations = Operations(add_communities=policy.communities, prepend=policy.prepend)
    return BgpFilter(
        name,
        imports=tuple(FilterRule(Action.REJECT, cidr) for cidr in policy.rejects),
        exports=(FilterRule(Action.ACCEPT, operations=operations),) if operations != Operations() else (),
    )


def _prefixes(fields: list[Field]) -> tuple[Prefix, ...]:
    return tuple(each.prefix() for each in fields if each.value)
