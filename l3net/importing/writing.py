"""Facts as the manifests that state them; what the rest of l3net would refuse is left out and told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from l3net.errors import ManifestError
from l3net.importing.source import Finding, Imported, Outcome
from l3net.ipam.crosscheck import crosscheck_state
from l3net.kube.registry import KINDS
from l3net.kube.translate import translate
from l3net.model import (
    EVERYTHING,
    AddressKind,
    BfdSettings,
    BgpConfiguration,
    BgpFilter,
    BgpPeer,
    ClusterState,
    Family,
    FilterRule,
    IpBlock,
    IpPool,
    Kind,
    NextHopMode,
    NodeSelection,
    ObjectName,
    Operations,
    PodSelection,
    Policy,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    PoolUse,
    PrefixOperator,
    SecretKey,
    Selector,
    Tier,
    Topology,
)
from l3net.model.bgp import DEFAULT_MAX_PREFIXES
from l3net.naming import API_VERSION

Manifest: TypeAlias = dict[str, Any]
_DEFAULTS = BgpConfiguration()


def manifests(imported: Imported) -> list[Manifest]:
    """All of them, each as `l3net validate` wants it. What is refused, and what contradicts another object,
    becomes a finding of `imported`."""
    state = ClusterState()
    kept: list[Manifest] = []
    for each in _every(imported):
        try:
            found = translate(each)
        except ManifestError as err:
            _refused(imported, each, err)
            continue
        if found is not None:
            kind, name, fact = found
            if kind not in (Kind.NODE, Kind.SERVICE):  # they are there already
                KINDS[kind].put(state, name, fact)
        kept.append(each)
    for contradiction in crosscheck_state(state):
        imported.findings.append(
            Finding(
                Outcome.UNSAID, contradiction.kind.value, str(contradiction.about), "", str(contradiction)
            )
        )
    return kept


def _refused(imported: Imported, manifest: Manifest, err: ManifestError) -> None:
    imported.findings.append(
        Finding(
            Outcome.UNSAID, manifest["kind"], manifest["metadata"]["name"], err.field,
            f"l3net refuses it, and it is not written: {err.why}",
        )
    )  # fmt: skip


def _every(imported: Imported) -> Iterator[Manifest]:
    if imported.configuration is not None:
        yield _ours(Kind.BGP_CONFIGURATION, "default", _configuration(imported.configuration))
    for pool in _in_order(imported.pools):
        yield _ours(Kind.IP_POOL, pool.name, _pool(pool))
    for filtering in _in_order(imported.filters):
        yield _ours(Kind.BGP_FILTER, filtering.name, _filter(filtering))
    for peer in _in_order(imported.peers):
        yield _ours(Kind.BGP_PEER, peer.name, _peer(peer))
    for policy in _in_order(imported.policies):
        yield _policy(policy)
    for (kind, name), noted in sorted(
        imported.annotations.items(), key=lambda each: (each[0][0].value, each[0][1])
    ):
        metadata = {"name": name.name, "annotations": dict(sorted(noted.items()))}
        if name.namespace:
            metadata["namespace"] = name.namespace
        yield {"apiVersion": "v1", "kind": kind.value, "metadata": metadata}


def _in_order(facts: Mapping[Any, Any]) -> list[Any]:
    return [facts[name] for name in sorted(facts)]


def _ours(kind: Kind, name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": API_VERSION, "kind": kind.value, "metadata": {"name": name}, "spec": spec}


def _said(**fields: Any) -> Manifest:
    """Without what is None or empty."""
    return {name: value for name, value in fields.items() if value not in (None, [], {}, "")}


def _texts(values: Iterable[object]) -> list[str]:
    return [str(value) for value in values]


def _selector(selector: Selector) -> Manifest | None:
    if selector == EVERYTHING:
        return None
    labels: dict[str, str] = {}
    expressions: list[Manifest] = []
    for each in selector.requirements:
        if each.operator == "In" and len(each.values) == 1 and each.key not in labels:
            labels[each.key] = each.values[0]
        else:
            expressions.append(_said(key=each.key, operator=each.operator, values=list(each.values)))
    return _said(matchLabels=labels, matchExpressions=expressions)


def _secret(key: SecretKey | None) -> Manifest | None:
    if key is None:
        return None
    return {"secretKeyRef": {"name": key.secret.name, "key": key.key, "namespace": key.secret.namespace}}


def _configuration(found: BgpConfiguration) -> Manifest:
    advertise = found.advertise
    reflection = None
    if found.topology is not Topology.MESH:
        reflection = _said(
            clusterID=str(found.cluster_id),
            nodeSelector=_selector(found.reflector_selector) if found.reflector_selector else None,
        )
    return _said(
        asNumber=found.as_number,
        listenPort=found.listen_port if found.listen_port != _DEFAULTS.listen_port else None,
        nodeToNodeMesh=found.mesh,
        topology=found.topology.value if found.topology is not Topology.MESH else None,
        routeReflector=reflection,
        holdTime=found.hold_time if found.hold_time != _DEFAULTS.hold_time else None,
        gracefulRestart=_restart(found.graceful_restart, _DEFAULTS.graceful_restart),
        serviceCIDRs=_texts(found.service_cidrs),
        nodePortAddresses=_texts(found.node_ports.cidrs),
        advertise=_said(
            podBlocks=advertise.pod_blocks,
            clusterIPs=_kind(advertise.cluster_ips),
            externalIPs=_kind(advertise.external_ips),
            loadBalancerIPs=_kind(advertise.load_balancer_ips),
            serviceSelector=_selector(advertise.service_selector),
            networks=_texts(advertise.networks),
            communities=sorted(_texts(advertise.communities)),
        ),
        **{
            "import": _said(
                cidrs=_texts(found.imports.cidrs) if found.imports.cidrs else None,
                defaultRoute=found.imports.default_route or None,
                ebgpRequiresPolicy=None if found.imports.ebgp_requires_policy else False,
            )
        },
    )


def _kind(kind: AddressKind) -> Manifest:
    return _said(enabled=kind.enabled, cidrs=_texts(kind.cidrs))


def _restart(found: int | None, default: int | None = None) -> Manifest | None:
    if found == default:
        return None
    return {"enabled": False} if not found else {"restartTime": found}


def _bfd(found: BfdSettings | None) -> Manifest | None:
    if found is None:
        return None
    echo = _said(transmitInterval=found.echo_transmit or None, receiveInterval=found.echo_receive or None)
    return _said(
        minInterval=found.min_interval, multiplier=found.multiplier, passive=found.passive or None, echo=echo
    )


def _peer(peer: BgpPeer) -> Manifest:
    families = sorted(f"IPv{family.value}" for family in peer.families) if peer.families else None
    if peer.interface is not None and peer.families == frozenset(Family):
        families = None
    spec = _said(
        address=str(peer.address) if peer.address else None,
        peerSelector=None if peer.peer_selector is None else _selector(peer.peer_selector),
        interface=peer.interface,
        autodiscover="DefaultGateway" if peer.default_gateway else None,
        asNumber=peer.as_number,
        localASNumber=peer.local_as,
        port=peer.port if peer.port != 179 else None,
        nodes=list(peer.nodes),
        nodeSelector=_selector(peer.node_selector),
        families=families,
        password=_secret(peer.password),
        localAddress=str(peer.local_address) if peer.local_address else None,
        sourceInterface=peer.source_interface,
        passive=peer.passive or None,
        multihop=peer.multihop,
        gtsm=peer.gtsm or None,
        nextHopMode=peer.next_hop.value if peer.next_hop is not NextHopMode.SELF else None,
        holdTime=peer.hold_time,
        gracefulRestart=_restart(peer.graceful_restart),
        bfd=_bfd(peer.bfd),
        maxPrefixes=peer.max_prefixes if peer.max_prefixes != DEFAULT_MAX_PREFIXES else None,
        filters=list(peer.filters),
    )
    if peer.peer_selector == EVERYTHING:
        spec["peerSelector"] = {}
    return spec


def _filter(found: BgpFilter) -> Manifest:
    return _said(
        export=[_rule(rule) for rule in found.exports], **{"import": [_rule(rule) for rule in found.imports]}
    )


def _rule(rule: FilterRule) -> Manifest:
    length = {} if rule.min_length is None else {"min": rule.min_length}
    if rule.max_length is not None:
        length["max"] = rule.max_length
    peers = {None: None, True: "eBGP", False: "iBGP"}[rule.external]
    return _said(
        action=rule.action.value,
        cidr=str(rule.cidr) if rule.cidr else None,
        matchOperator=rule.operator.value if rule.operator is not PrefixOperator.IN else None,
        prefixLength=length,
        peerType=peers,
        communities=sorted(_texts(rule.communities)),
        asPathPrefix=list(rule.as_path_prefix),
        operations=_operations(rule.operations),
    )


def _operations(found: Operations) -> Manifest:
    told = _said(
        addCommunities=sorted(_texts(found.add_communities)),
        removeCommunities=sorted(_texts(found.remove_communities)),
        prependASPath=list(found.prepend),
        setLocalPreference=found.local_preference,
        setMED=found.med,
    )
    if found.set_communities is not None:
        told["setCommunities"] = sorted(_texts(found.set_communities))
    return told


def _gives_addresses(pool: IpPool) -> bool:
    """Whether .0 and .255 matter: of IPv4, where not blocks alone are given."""
    return pool.cidr.version == 4 and PoolUse.LOAD_BALANCER in pool.allowed_uses


def _pool(pool: IpPool) -> Manifest:
    uses = sorted(use.value for use in pool.allowed_uses)
    return _said(
        cidr=str(pool.cidr),
        blockSize=pool.block_size if PoolUse.PODS in pool.allowed_uses else None,
        natOutgoing=pool.nat_outgoing or None,
        natExceptCIDRs=_texts(pool.nat_excepts),
        disabled=pool.disabled or None,
        advertise=None if pool.advertise else False,
        avoidBuggyIPs=None if pool.avoid_buggy or not _gives_addresses(pool) else False,
        nodeSelector=_selector(pool.node_selector),
        namespaceSelector=_selector(pool.namespace_selector),
        allowedUses=None if uses == ["Pods"] else uses,
    )


# --- policies ----------------------------------------------------------------------------------------------


def _policy(policy: Policy) -> Manifest:
    return _network_policy(policy) if policy.tier is Tier.NETWORK_POLICY else _cluster_policy(policy)


def _network_policy(policy: Policy) -> Manifest:
    types = [
        name for name, rules in (("Ingress", policy.ingress), ("Egress", policy.egress)) if rules is not None
    ]
    spec: Manifest = {"podSelector": _selector(policy.subject.pods) or {}, "policyTypes": types}
    for key, peers, rules in (("ingress", "from", policy.ingress), ("egress", "to", policy.egress)):
        if rules:
            spec[key] = [
                _said(
                    **{peers: None if rule.peers is None else [_whom(peer, policy) for peer in rule.peers]},
                    ports=None if rule.ports is None else [_port(port) for port in rule.ports],
                )
                for rule in rules
            ]
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": policy.name.name, "namespace": policy.name.namespace}, "spec": spec,
    }  # fmt: skip


def _whom(peer: PolicyPeer, policy: Policy) -> Manifest:
    if isinstance(peer, IpBlock):
        return {"ipBlock": _said(cidr=str(peer.cidr), **{"except": _texts(peer.excepts)})}
    assert isinstance(peer, PodSelection)  # noqa: S101 - a NetworkPolicy has no nodes
    pods = _selector(peer.pods) or {}
    if peer.namespaces == policy.name.namespace:
        return {"podSelector": pods}
    assert isinstance(peer.namespaces, Selector)  # noqa: S101 - of its own namespace or of some
    return {"namespaceSelector": _selector(peer.namespaces) or {}, **({"podSelector": pods} if pods else {})}


def _port(port: PolicyPort) -> Manifest:
    told: Manifest = {"protocol": port.protocol.upper()}
    if port.name or port.first:
        told["port"] = port.name or port.first
    if port.last > port.first:
        told["endPort"] = port.last
    return told


def _cluster_policy(policy: Policy) -> Manifest:
    spec = _said(
        tier=policy.tier.shown,
        subject=_pods(policy.subject),
        ingress=[_cluster_rule(rule, "from") for rule in policy.ingress or ()],
        egress=[_cluster_rule(rule, "to") for rule in policy.egress or ()],
    )
    metadata = {"name": policy.name.name}
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata":
        metadata, "spec": {"priority": policy.priority, **spec},
    }  # fmt: skip


def _pods(found: PodSelection) -> Manifest:
    assert isinstance(found.namespaces, Selector)  # noqa: S101 - a policy of the cluster has no namespace
    namespaces = _selector(found.namespaces) or {}
    if found.pods == EVERYTHING:
        return {"namespaces": namespaces}
    return {"pods": {"namespaceSelector": namespaces, "podSelector": _selector(found.pods) or {}}}


def _cluster_rule(rule: PolicyRule, peers: str) -> Manifest:
    whom: list[Manifest] = []
    networks = [str(peer.cidr) for peer in rule.peers or () if isinstance(peer, IpBlock)]
    for peer in rule.peers or ():
        if isinstance(peer, NodeSelection):
            whom.append({"nodes": _selector(peer.nodes) or {}})
        elif isinstance(peer, PodSelection):
            whom.append(_pods(peer))
    if networks:
        whom.append({"networks": networks})
    told: Manifest = {"action": rule.action.value, peers: whom}
    if rule.name:
        told["name"] = rule.name
    if rule.ports is not None:
        told["protocols"] = [_protocol(port) for port in rule.ports]
    return told


def _protocol(port: PolicyPort) -> Manifest:
    if port.name:
        return {"destinationNamedPort": port.name}
    first, last = (port.first, port.last) if port.first else (1, 65535)
    place = {"number": first} if first == last else {"range": {"start": first, "end": last}}
    return {port.protocol: {"destinationPort": place}}


def ordered_name(manifest: Manifest) -> tuple[str, ObjectName]:
    """Kind and name of a manifest."""
    metadata = manifest["metadata"]
    return manifest["kind"], ObjectName(metadata.get("namespace", ""), metadata["name"])
