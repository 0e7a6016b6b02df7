"""l3net's own resources (l3net.io/v1alpha1) as facts: what the schema passed, and what no schema can say."""

from __future__ import annotations

from ipaddress import IPv4Address

from l3net.community import AnyCommunity, parse_community
from l3net.kube.fields import Field
from l3net.kube.selectors import selector
from l3net.kube.times import created
from l3net.model import (
    DEFAULT_MAX_PREFIXES,
    DRAIN_TAINTS,
    EVERYTHING,
    Action,
    Address,
    AddressKind,
    AdvertisePolicy,
    BfdAuth,
    BfdAuthType,
    BfdSettings,
    BgpConfiguration,
    BgpFilter,
    BgpPeer,
    BmpCollector,
    Bogons,
    DrainPolicy,
    EgressIp,
    Family,
    FilterRule,
    FloatingIp,
    ImportPolicy,
    IpPool,
    NextHopMode,
    NodePortAddresses,
    ObjectName,
    Operations,
    PoolUse,
    PrefixOperator,
    SecretKey,
    ServiceProxy,
    Topology,
)
from l3net.naming import CONSISTENT, RANDOM

_AS_MAX = 2**32 - 1
#: Instead of prefixes in nodePortAddresses, as in kube-proxy.
PRIMARY = "primary"
_FAMILIES = {"IPv4": Family.IPV4, "IPv6": Family.IPV6}


def bgp_configuration(document: Field, name: ObjectName) -> BgpConfiguration:
    if name.name != "default":
        raise document["metadata"]["name"].wrong("only the BGPConfiguration named default is read")
    spec = document["spec"]
    advertise, imports, reflection = spec["advertise"], spec["import"], spec["routeReflector"]
    return BgpConfiguration(
        as_number=spec["asNumber"].integer(1, _AS_MAX, default=64512),
        listen_port=spec["listenPort"].integer(1, 65535, default=179),
        mesh=spec["nodeToNodeMesh"].flag(default=True),
        hold_time=_hold_time(spec["holdTime"], default=90),
        graceful_restart=_graceful_restart(spec["gracefulRestart"]),
        advertise=AdvertisePolicy(
            pod_blocks=advertise["podBlocks"].flag(default=True),
            cluster_ips=_address_kind(advertise["clusterIPs"], enabled=True),
            external_ips=_address_kind(advertise["externalIPs"], enabled=False),
            load_balancer_ips=_address_kind(advertise["loadBalancerIPs"], enabled=False),
            service_selector=selector(advertise["serviceSelector"]),
            networks=advertise["networks"].prefixes(),
            communities=_communities(advertise["communities"]),
            consistent=spec["loadBalancing"].text(default=RANDOM) == CONSISTENT,
        ),
        imports=ImportPolicy(
            cidrs=imports["cidrs"].prefixes() if imports["cidrs"].present else None,
            default_route=imports["defaultRoute"].flag(default=False),
            node_subnets=imports["nodeSubnets"].flag(default=False),
            ebgp_requires_policy=imports["ebgpRequiresPolicy"].flag(default=True),
            bogons=_bogons(imports["bogons"]),
        ),
        service_cidrs=spec["serviceCIDRs"].prefixes(),
        service_proxy=ServiceProxy(spec["serviceProxy"].text(default="Auto")),
        node_ports=_node_ports(spec["nodePortAddresses"]),
        topology=Topology(spec["topology"].text(default="Mesh")),
        cluster_id=_cluster_id(reflection["clusterID"]),
        reflector_selector=selector(reflection["nodeSelector"])
        if reflection["nodeSelector"].present
        else None,
        reflectors_from=reflection["minNodes"].integer(
            2, 100_000, default=reflection["fromNodes"].integer(2, 100_000, default=100)
        ),
        transit=spec["transit"].flag(default=False),
        bfd=_bfd(spec["bfd"], enabled=False),
        drain=_drain(spec["drain"]),
        collectors=_collectors(spec["monitoring"]["bmp"]),
    )


def _node_ports(field: Field) -> NodePortAddresses:
    items = list(field.items())
    if any(item.value == PRIMARY for item in items):
        if len(items) > 1:
            raise field.wrong(f"{PRIMARY} stands alone, without prefixes")
        return NodePortAddresses(primary=True)
    return NodePortAddresses(cidrs=field.prefixes())


def _drain(field: Field) -> DrainPolicy:
    taints = field["taints"]
    return DrainPolicy(
        on_cordon=field["onCordon"].flag(default=True),
        taints=frozenset(item.text() for item in taints.items()) if taints.present else DRAIN_TAINTS,
        wait=field["wait"].integer(0, 600, default=10),
        prepend=field["prependASPath"].integer(0, 10, default=3),
    )


def _collectors(field: Field) -> tuple[BmpCollector, ...]:
    found: list[BmpCollector] = []
    for item in field.items():
        name, address = item["name"].text(), _speaker_address(item["address"])
        if address.is_link_local:
            raise item["address"].wrong(
                f"{address} is a link-local address, which does not identify the link"
            )
        port = item["port"].integer(1, 65535)
        if any(name == other.name for other in found):
            raise item["name"].wrong(f"{name} is the name of another collector")
        if any((address, port) == (other.address, other.port) for other in found):
            raise item["address"].wrong(f"{address} port {port} is another collector's")
        found.append(BmpCollector(name, address, port, selector(item["nodeSelector"])))
    return tuple(found)


def _bogons(field: Field) -> Bogons:
    return Bogons(
        prefixes=field["prefixes"].flag(default=False),
        private_prefixes=field["privatePrefixes"].flag(default=False),
        as_numbers=field["asNumbers"].flag(default=False),
        private_as_numbers=field["privateASNumbers"].flag(default=False),
    )


def _cluster_id(field: Field) -> IPv4Address:
    """Four octets written as an IPv4 address (RFC 4456 section 7)."""
    try:
        return IPv4Address(field.text(default="10.0.0.1"))
    except ValueError as err:
        raise field.wrong(f"{err}; write it as an IPv4 address") from None


def _address_kind(field: Field, *, enabled: bool) -> AddressKind:
    return AddressKind(field["enabled"].flag(default=enabled), field["cidrs"].prefixes())


def _hold_time(field: Field, default: int) -> int:
    seconds = field.integer(0, 65535, default=default)
    if seconds in (1, 2):
        raise field.wrong(f"{seconds} is out of range: 0, or 3 to 65535 seconds (RFC 4271 section 4.2)")
    return seconds


def _send_hold_time(field: Field, hold_time: Field) -> int | None:
    seconds = field.optional_integer(0, 65535)
    if seconds and hold_time.present and seconds <= hold_time.integer(0, 65535, default=0):
        raise field.wrong(f"{seconds} is not greater than holdTime (RFC 9687 section 3)")
    return seconds


def _graceful_restart(field: Field) -> int:
    """Restart time in seconds, 0 when turned off. The capability has twelve bits for it (RFC 4724)."""
    seconds = field["restartTime"].integer(1, 4095, default=120)
    return seconds if field["enabled"].flag(default=True) else 0


def _communities(field: Field) -> frozenset[AnyCommunity]:
    return frozenset(community(item) for item in field.items())


def community(field: Field) -> AnyCommunity:
    """Raises ManifestError for what is none."""
    try:
        return parse_community(field.text())
    except ValueError as err:
        raise field.wrong(str(err)) from None


def bgp_peer(document: Field, name: ObjectName) -> BgpPeer:
    spec = document["spec"]
    address = _speaker_address(spec["address"]) if spec["address"].present else None
    local = _speaker_address(spec["localAddress"]) if spec["localAddress"].present else None
    multihop = spec["multihop"].optional_integer(1, 255)
    gtsm = spec["gtsm"].flag(default=False)
    ways = [
        field for field in ("address", "peerSelector", "autodiscover", "interface") if spec[field].present
    ]
    if len(ways) != 1:
        raise spec["address"].wrong("give either address, peerSelector, autodiscover or interface")
    if ways not in (["peerSelector"], ["interface"]) and not spec["asNumber"].present:
        raise spec["asNumber"].wrong(f"is required with {ways[0]}")
    if gtsm and multihop is not None:
        raise spec["gtsm"].wrong("gtsm is for a neighbor one hop away, and cannot be combined with multihop")
    if multihop is not None and spec["bfd"]["echo"].present:
        raise spec["bfd"]["echo"].wrong("BFD echo works over one hop only, not with multihop (RFC 5883)")
    if address and local and address.version != local.version:
        raise spec["localAddress"].wrong(f"{local} and address {address} must be of one family")
    if address and address.is_link_local and not spec["sourceInterface"].present:
        raise spec["sourceInterface"].wrong(f"is required, because {address} is a link-local address")
    extended = spec["extendedNextHop"].flag(default="interface" in ways)
    if "interface" in ways:
        for field in ("localAddress", "sourceInterface", "multihop"):
            if spec[field].present:
                raise spec[field].wrong("is not for a peer on an interface")
        if spec["passive"].flag(default=False):
            raise spec["passive"].wrong("a peer on an interface cannot be waited for, only dialled")
    if extended and address and address.version == 4:
        raise spec["extendedNextHop"].wrong(f"needs a session over IPv6, not with {address}")
    families = frozenset(_FAMILIES[item.text()] for item in spec["families"].items())
    return BgpPeer(
        name=name.name,
        address=address,
        peer_selector=selector(spec["peerSelector"]) if spec["peerSelector"].present else None,
        as_number=spec["asNumber"].optional_integer(1, _AS_MAX),
        port=spec["port"].integer(1, 65535, default=179),
        nodes=tuple(item.text() for item in spec["nodes"].items()),
        node_selector=selector(spec["nodeSelector"]),
        families=families or (frozenset(Family) if extended else None),
        password=_secret_key(spec["password"]["secretKeyRef"]) if spec["password"].present else None,
        local_address=local,
        source_interface=spec["sourceInterface"].optional_text(),
        passive=spec["passive"].flag(default=False),
        multihop=multihop,
        gtsm=gtsm,
        next_hop=NextHopMode(spec["nextHopMode"].text(default="Self")),
        hold_time=_hold_time(spec["holdTime"], default=0) if spec["holdTime"].present else None,
        send_hold_time=_send_hold_time(spec["sendHoldTime"], spec["holdTime"]),
        graceful_restart=_graceful_restart(spec["gracefulRestart"])
        if spec["gracefulRestart"].present
        else None,
        filters=tuple(item.text() for item in spec["filters"].items()),
        local_as=spec["localASNumber"].optional_integer(1, _AS_MAX),
        interface=spec["interface"].optional_text(),
        extended_next_hop=extended,
        default_gateway=spec["autodiscover"].present,
        max_prefixes=spec["maxPrefixes"].integer(1, 10_000_000, default=DEFAULT_MAX_PREFIXES),
        third_party_next_hops=spec["thirdPartyNextHops"].flag(default=False),
        allow_blackhole=spec["allowBlackhole"].flag(default=False),
        add_path=spec["addPath"].flag(default=False),
        bfd=_bfd(spec["bfd"], enabled=True) if spec["bfd"].present else None,
    )


def _bfd(field: Field, *, enabled: bool) -> BfdSettings | None:
    """`enabled` is what an absent `enabled` means."""
    auth = field["authentication"]
    settings = BfdSettings(
        min_interval=field["minInterval"].integer(50, 60_000, default=300),
        multiplier=field["multiplier"].integer(1, 255, default=3),
        passive=field["passive"].flag(default=False),
        echo_transmit=_echo_interval(field["echo"]["transmitInterval"]),
        echo_receive=_echo_interval(field["echo"]["receiveInterval"]),
        auth=BfdAuth(
            BfdAuthType(auth["type"].text()),
            auth["keyID"].integer(0, 255, default=1),
            _secret_key(auth["secretKeyRef"]),
        )
        if auth.present
        else None,
    )
    return settings if field["enabled"].flag(default=enabled) else None


def _echo_interval(field: Field) -> int:
    """Milliseconds; 0 for no Echo packets."""
    interval = field.integer(0, 60_000, default=0)
    if 0 < interval < 50:
        raise field.wrong(f"{interval} is out of range: 0 for none, or 50 to 60000 milliseconds")
    return interval


def _speaker_address(field: Field) -> Address:
    address = field.address()
    if address.is_multicast or address.is_unspecified:
        raise field.wrong(f"{address} is not the address of a host")
    return address


def _secret_key(field: Field) -> SecretKey:
    secret = ObjectName(field["namespace"].text(default="kube-system"), field["name"].text())
    return SecretKey(secret, field["key"].text())


def bgp_filter(document: Field, name: ObjectName) -> BgpFilter:
    spec = document["spec"]
    return BgpFilter(
        name=name.name,
        imports=tuple(_rule(item) for item in spec["import"].items()),
        exports=tuple(_rule(item) for item in spec["export"].items()),
    )


def _rule(field: Field) -> FilterRule:
    action = Action(field["action"].text())
    cidr = field["cidr"].prefix() if field["cidr"].present else None
    longest = cidr.max_prefixlen if cidr else 128
    low = field["prefixLength"]["min"].optional_integer(0, longest)
    high = field["prefixLength"]["max"].optional_integer(0, longest)
    if low is not None and high is not None and low > high:
        raise field["prefixLength"]["min"].wrong(f"min {low} is above max {high}")
    if action is Action.REJECT and field["operations"].present:
        raise field["operations"].wrong("a rule that rejects changes nothing")
    return FilterRule(
        action=action,
        cidr=cidr,
        operator=PrefixOperator(field["matchOperator"].text(default="In")),
        min_length=low,
        max_length=high,
        external={None: None, "eBGP": True, "iBGP": False}[field["peerType"].optional_text()],
        communities=_communities(field["communities"]),
        as_path_prefix=_as_numbers(field["asPathPrefix"]),
        operations=_operations(field["operations"]),
    )


def _as_numbers(field: Field) -> tuple[int, ...]:
    return tuple(item.integer(1, _AS_MAX) for item in field.items())


def _operations(field: Field) -> Operations:
    return Operations(
        set_communities=_communities(field["setCommunities"]) if field["setCommunities"].present else None,
        remove_communities=_communities(field["removeCommunities"]),
        add_communities=_communities(field["addCommunities"]),
        prepend=_as_numbers(field["prependASPath"]),
        local_preference=field["setLocalPreference"].optional_integer(0, _AS_MAX),
        med=field["setMED"].optional_integer(0, _AS_MAX),
    )


def ip_pool(document: Field, name: ObjectName) -> IpPool:
    spec = document["spec"]
    cidr = spec["cidr"].prefix()
    if cidr.is_multicast or cidr.is_loopback or cidr.is_link_local or cidr.prefixlen == 0:
        raise spec["cidr"].wrong(f"{cidr} is not a range that pods or services can use")
    uses = frozenset(PoolUse(item.text()) for item in spec["allowedUses"].items()) or frozenset(
        {PoolUse.PODS}
    )
    default = max(24 if cidr.version == 4 else 120, cidr.prefixlen)
    size = spec["blockSize"].integer(1, cidr.max_prefixlen, default=default)
    if size < cidr.prefixlen:
        raise spec["blockSize"].wrong(f"a block (/{size}) cannot be larger than its pool ({cidr})")
    # Network, gateway and broadcast are never a pod's; one address at least must be left.
    if PoolUse.PODS in uses and size > cidr.max_prefixlen - 2:
        raise spec["blockSize"].wrong(
            f"a block of /{size} has no room for a pod; at most {cidr.max_prefixlen - 2}"
        )
    excepts = spec["natExceptCIDRs"].prefixes()
    if excepts and not spec["natOutgoing"].flag(default=False):
        raise spec["natExceptCIDRs"].wrong("is an exception from natOutgoing: true, which is not set")
    if wrong := [each for each in excepts if each.version != cidr.version]:
        raise spec["natExceptCIDRs"].wrong(f"{wrong[0]} is not of the pool's family")
    return IpPool(
        name=name.name,
        cidr=cidr,
        block_size=size,
        nat_outgoing=spec["natOutgoing"].flag(default=False),
        nat_excepts=excepts,
        disabled=spec["disabled"].flag(default=False),
        advertise=spec["advertise"].flag(default=True),
        node_selector=selector(spec["nodeSelector"]),
        namespace_selector=selector(spec["namespaceSelector"]),
        allowed_uses=uses,
        allowed_sources=spec["allowedAddresses"].prefixes(),
        avoid_buggy=spec["avoidBuggyIPs"].flag(default=True),
    )


def floating_ip(document: Field, name: ObjectName) -> FloatingIp:
    spec = document["spec"]
    wanted = tuple(item.address() for item in spec["addresses"].items())
    versions = [address.version for address in wanted]
    chosen = selector(spec["selector"])
    if chosen == EVERYTHING:
        raise spec["selector"].wrong("an empty selector would give the addresses to any pod; name a label")
    if len(set(versions)) < len(versions):
        raise spec["addresses"].wrong("has two of one family; make a FloatingIP for each")
    families = tuple(_FAMILIES[item.text()].value for item in spec["ipFamilies"].items())
    if not wanted and not families:
        families = (4,)
    return FloatingIp(
        name=name,
        selector=chosen,
        wanted=wanted,
        pool=spec["pool"].text(default=""),
        versions=tuple(version for version in families if version not in versions),
        require_ready=spec["requireReady"].flag(default=True),
        given=document["status"]["addresses"].each(Field.address),
        created=created(document["metadata"]),
    )


def egress_ip(document: Field, name: ObjectName) -> EgressIp:
    spec = document["spec"]
    wanted = tuple(item.address() for item in spec["addresses"].items())
    if len(set(wanted)) < len(wanted):
        raise spec["addresses"].wrong("has one address twice")
    if not spec["namespaceSelector"].present:
        raise spec["namespaceSelector"].wrong("is required; {} selects the pods of every namespace")
    versions = {address.version for address in wanted}
    families = tuple(_FAMILIES[item.text()].value for item in spec["ipFamilies"].items())
    if not wanted and not families:
        families = (4,)
    return EgressIp(
        name=name.name,
        namespaces=selector(spec["namespaceSelector"]),
        pods=selector(spec["podSelector"]),
        destinations=spec["destinationCIDRs"].prefixes(),
        nodes=selector(spec["nodeSelector"]),
        wanted=wanted,
        pool=spec["pool"].text(default=""),
        versions=tuple(version for version in families if version not in versions),
        replicas=spec["replicas"].integer(1, 16, default=1),
        given=document["status"]["addresses"].each(Field.address),
        created=created(document["metadata"]),
    )
