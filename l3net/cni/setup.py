"""What one call's configuration comes to: bridge, ranges, routes and extras, before anything is done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from l3net.addresses import parse_interface
from l3net.cni import failure
from l3net.cni.extras import published_ports
from l3net.cni.failure import CniError
from l3net.cni.request import Request
from l3net.cni.result import PodRoute, decode_routes
from l3net.ipam.lease import LeaseKey, PodName, Wanted
from l3net.ipam.ranges import RangeSet, block_sets
from l3net.model import Address, Prefix
from l3net.naming import BRIDGE

if TYPE_CHECKING:  # a plugin begins with this, for each pod where no agent runs
    from l3net.ipam.reserved import ReservedPool

DEFAULT_COOL_DOWN: Final = 60.0
#: In CNI_ARGS: labels of the pod, as `app=web,tier=front`.
LABELS_ARG: Final = "L3NET_LABELS"
# Kubernetes' syntax of label keys, with a prefix or without, and of values.
# Text: compiled when they are needed, for a plugin begins with this.
_LABEL: Final = r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_VALUE: Final = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"


@dataclass(frozen=True, slots=True)
class NodeNetwork:
    """What the agent knows of its node, exchanged as a whole. No blocks yet: ADD answers 11.

    `retained` are no longer the node's: what is attached out of them stays, and nothing new is.

    `blocks` are for the pods of namespaces that none of `pools` is reserved for; `namespaces` are all that
    are known, if there are such pools. `own_ports`: protocol and port of what the node itself answers (BGP,
    BFD, metrics); published for a pod, they would draw the routers' packets to it.
    """

    blocks: tuple[Prefix, ...] = ()
    mtu: int = 0  # 0: the kernel's default
    bridge: str = BRIDGE
    reserved: tuple[Address, ...] = ()
    cool_down: float = DEFAULT_COOL_DOWN
    pools: tuple[ReservedPool, ...] = ()
    namespaces: frozenset[str] = frozenset()
    retained: tuple[Prefix, ...] = ()
    own_ports: frozenset[tuple[str, int]] = frozenset()

    @property
    def every_block(self) -> tuple[Prefix, ...]:
        """All that pods may have addresses of."""
        return (*self.blocks, *(block for pool in self.pools for block in pool.blocks), *self.retained)


@dataclass(frozen=True, slots=True)
class Setup:
    """How to attach. Times in seconds.

    `host_routes`: full-length prefixes with a route to the gateway (the node's blocks); otherwise addresses
    carry their subnet's length as the reference bridge plugin does. `manage_bridge`: the plugin makes the
    bridge itself (no agent does), with the gateway addresses on it if `is_gateway`.
    """

    bridge: str
    sets: tuple[RangeSet, ...] = ()
    mtu: int = 0
    host_routes: bool = True
    isolated: bool = True
    hairpin: bool = False
    promiscuous: bool = False
    pin_source: bool = False
    manage_bridge: bool = False
    is_gateway: bool = False
    force_address: bool = False
    default_gateway: bool = False
    masquerade: bool = False
    enabled: bool = True
    routes: tuple[PodRoute, ...] = ()
    dns: Mapping[str, Any] | None = None
    resolv_conf: str = ""  # file the dns is read from
    delegate: str = ""  # the IPAM plugin to execute
    store: str = ""  # directory of the lease store; empty: the default
    cool_down: float = DEFAULT_COOL_DOWN
    sticky: bool = False
    exclusive: bool = False  # the ranges are the node's own, whatever the network's name


def _labels(request: Request) -> Mapping[str, Any]:
    """`args.cni` of the configuration."""
    args = request.conf.get("args")
    found = args.get("cni") if isinstance(args, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def asked_addresses(request: Request) -> tuple[Address, ...]:
    """Addresses demanded by name: runtimeConfig.ips, args.cni.ips, CNI_ARGS IP. Raises CniError 7."""
    labelled = _labels(request).get("ips")
    found: list[str] = []
    for source in (request.runtime_config.get("ips"), labelled):
        if isinstance(source, list):
            found += map(str, source)
    found += filter(None, request.args.get("IP", "").split(","))
    try:
        addresses = [parse_interface(each).ip for each in found]
    except ValueError as err:
        raise CniError(failure.INVALID_CONFIG, f"address asked for is not valid: {err}") from None
    return tuple(dict.fromkeys(addresses))


def asked_mac(request: Request) -> str:
    """The MAC demanded: runtimeConfig.mac, args.cni.mac or CNI_ARGS MAC; empty if none. Raises CniError 7."""
    labelled = _labels(request).get("mac")
    found = (
        request.runtime_config.get("mac") or labelled or request.args.get("MAC") or request.conf.get("mac")
    )
    if not found:
        return ""
    parts = str(found).lower().replace("-", ":").split(":")
    try:
        packed = [int(part, 16) for part in parts]
    except ValueError:
        packed = []
    if len(packed) != 6 or any(not 0 <= byte <= 255 for byte in packed) or packed[0] & 1 or not any(packed):
        raise CniError(failure.INVALID_CONFIG, f"MAC address asked for is not valid: {str(found)[:40]!r}")
    return ":".join(f"{byte:02x}" for byte in packed)


def pod_of(request: Request) -> PodName:
    """The pod as the runtime names it in CNI_ARGS."""
    args = request.args
    return PodName(
        args.get("K8S_POD_NAMESPACE", ""), args.get("K8S_POD_NAME", ""), args.get("K8S_POD_UID", "")
    )


def pod_labels(request: Request) -> dict[str, str]:
    """The labels that the runtime or the configuration gives a pod that nobody declares: `args.cni.labels`
    (CONVENTIONS.md of the CNI project: objects of `key` and `value`; a plain object too), and CNI_ARGS
    L3NET_LABELS (`key=value,...`), which goes first. Raises CniError 7."""
    found: dict[str, str] = {}
    said = _labels(request).get("labels") or []
    pairs: list[tuple[object, object]] = [*(said.items() if isinstance(said, Mapping) else _pairs(said))]
    for each in filter(None, request.args.get(LABELS_ARG, "").split(",")):
        key, _, value = each.partition("=")
        pairs.append((key, value))
    for key, value in pairs:  # type: ignore[assignment]
        if not isinstance(key, str) or not isinstance(value, str) or not re.fullmatch(_LABEL, key):
            raise CniError(
                failure.INVALID_CONFIG,
                f"labels of the pod ({LABELS_ARG}, args.cni.labels): {str(key)[:80]!r} is not a "
                "valid label name",
            )
        if value and not re.fullmatch(_LABEL_VALUE, value):
            raise CniError(
                failure.INVALID_CONFIG, f"labels of the pod: {key}: {value[:80]!r} is not a valid label value"
            )
        found[key] = value
    return found


def _pairs(said: object) -> list[tuple[object, object]]:
    if not isinstance(said, list) or not all(isinstance(each, Mapping) for each in said):
        raise CniError(failure.INVALID_CONFIG, "labels: must be a list of objects with key and value")
    return [(each.get("key"), each.get("value", "")) for each in said]


def sticky_owner(pod: PodName) -> str:
    """The lasting identity of a StatefulSet's pod (`name-0`), empty for any other pod."""
    _, sign, ordinal = pod.name.rpartition("-")
    return str(pod) if sign and ordinal.isdigit() else ""


def wanted_addresses(request: Request, setup: Setup, key: LeaseKey, host_ifname: str = "") -> Wanted:
    """What is asked of the lease store; without `host_ifname` for another plugin's interface. CniError 7."""
    pod = pod_of(request)
    return Wanted(
        key=key,
        sets=setup.sets,
        asked=asked_addresses(request),
        pod=pod,
        netns=request.netns,
        host_ifname=host_ifname,
        cool_down=setup.cool_down,
        sticky_owner=sticky_owner(pod) if setup.sticky else "",
        exclusive=setup.exclusive,
    )


def number_key(conf: Mapping[str, Any], key: str, default: float = 0, *, most: float = 1 << 31) -> float:
    """A non-negative number of the configuration. Raises CniError 7."""
    value = conf.get(key, default)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise CniError(failure.INVALID_CONFIG, f"{key}: {value!r} is not a number from 0 to {most:g}")
    return value


def flag_key(conf: Mapping[str, Any], key: str, *, default: bool = False) -> bool:
    value = conf.get(key, default)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise CniError(failure.INVALID_CONFIG, f"{key}: {value!r} is neither true nor false")
    return value


def dns_of(request: Request) -> Mapping[str, Any] | None:
    """`dns`, passed through: the runtime's (capability dns) before the configuration's."""
    runtime = request.runtime_config.get("dns")
    if isinstance(runtime, Mapping) and runtime:
        renamed = {"servers": "nameservers", "searches": "search"}
        return {renamed.get(str(key), str(key)): value for key, value in runtime.items()}
    conf = request.conf.get("dns")
    return conf if isinstance(conf, Mapping) and conf else None


def node_setup(request: Request, node: NodeNetwork) -> Setup:
    """An attachment to the node's own blocks, those for the pod's namespace.

    Raises CniError 11 while the node has none, 7 for a port of the node's own that a pod would publish, and
    PoolMissingError while it has none of a reserved pool.
    """
    if request.command == "ADD":
        _refuse_own_ports(request, node)
    blocks = _blocks(request, node)
    if not blocks:
        raise CniError(
            failure.TRY_AGAIN_LATER,
            "node has no block yet",
            "the Node object has no spec.podCIDRs, or the agent has not read it; see `l3net status`",
        )
    conf = request.conf
    return Setup(
        bridge=node.bridge,
        sets=block_sets(blocks, node.reserved),
        mtu=int(number_key(conf, "mtu", most=65535)) or node.mtu,
        dns=dns_of(request),
        cool_down=number_key(conf, "coolDown", node.cool_down),
        sticky=flag_key(conf, "sticky"),
        exclusive=True,
    )


def _refuse_own_ports(request: Request, node: NodeNetwork) -> None:
    """What is attached stays as it is: only ADD is held to it."""
    for published in published_ports(request):
        if (published.protocol, published.host_port) in node.own_ports:
            raise CniError(
                failure.INVALID_CONFIG,
                f"host port {published.host_port}/{published.protocol} is the node's own (BGP, BFD, what "
                "nodes tell one another, metrics, health checks, or kube-proxy's); use another host port",
            )


def _blocks(request: Request, node: NodeNetwork) -> tuple[Prefix, ...]:
    """What is attached stays valid whatever its namespace has become: only ADD is held to it."""
    if request.command != "ADD":
        return node.every_block
    from l3net.ipam.reserved import NamespaceUnknownError, blocks_for  # noqa: PLC0415

    namespace = pod_of(request).namespace
    try:
        return blocks_for(namespace, node.blocks, node.pools, node.namespaces)
    except NamespaceUnknownError:
        raise CniError(
            failure.TRY_AGAIN_LATER,
            f"namespace {namespace} is not known yet, and some IPPools are for certain namespaces only",
            "the agent reads namespaces from the API server, or Namespaces from the manifests",
        ) from None


def node_ipam_setup(request: Request, node: NodeNetwork) -> Setup:
    """The IPAM plugin over the node's blocks: addresses carry the block's length, for any plugin's bridge."""
    setup = node_setup(request, node)
    sets = tuple(
        RangeSet(tuple(replace(entry, prefix_length=entry.subnet.prefixlen) for entry in each.ranges))
        for each in setup.sets
    )
    ipam = request.conf.get("ipam")
    routes = decode_routes(ipam.get("routes") or ()) if isinstance(ipam, Mapping) else ()
    return replace(setup, sets=sets, host_routes=False, routes=routes)
