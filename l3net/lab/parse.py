"""A topology file's document -> `Topology`, with errors that name the place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_interface, ip_network

from l3net.addresses import contains
from l3net.lab.errors import TopologyError
from l3net.lab.topology import (
    Client,
    End,
    InterfaceAddress,
    Link,
    Node,
    Pool,
    Router,
    RouterKind,
    ServiceSpec,
    Topology,
)
from l3net.model import Address, Prefix
from l3net.near import near

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?")
_RESERVED = frozenset({"lo", "l3net0", "all", "default"})
_SUPERNETS = ("10.0.0.0/16", "fd00:10::/48")
_POOLS = (
    {"name": "pods-ipv4", "cidr": "10.244.0.0/16"},
    {"name": "pods-ipv6", "cidr": "fd00:10:244::/48"},
)
_SERVICE_CIDRS = ("10.96.0.0/16", "fd00:10:96::/112")
_BLOCK_SIZE = {4: 24, 6: 120}
#: How far apart the blocks of consecutive nodes lie, as a prefix length: /120 blocks are numbered by /64.
_BLOCK_STEP = {4: 24, 6: 64}
#: Links are a /31 (RFC 3021) and a /127 (RFC 6164) at the start of a /24 and a /64 each.
_LINK_LENGTH = {4: 31, 6: 127}
_LINK_STEP = {4: 24, 6: 64}


class _Mapping:
    """A mapping of the document, read field by field; `done` refuses what nothing asked for."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, Mapping):
            raise TopologyError(where, f"expected a mapping, not {_kind(value)}")
        self._left = {str(key): item for key, item in value.items()}
        self._known: list[str] = []
        self.where = where

    def at(self, field: str) -> str:
        return f"{self.where}.{field}" if self.where else field

    def take(self, field: str, default: object = None) -> object:
        self._known.append(field)
        value = self._left.pop(field, None)
        return default if value is None else value

    def text(self, field: str, default: str | None = None) -> str:
        value = self.take(field, default)
        if not isinstance(value, str) or not value:
            raise TopologyError(
                self.at(field), "required" if value is None else f"expected text, not {_kind(value)}"
            )
        return value

    def number(self, field: str, low: int, high: int, default: int | None = None) -> int:
        value = self.take(field, default)
        if value is None:
            raise TopologyError(self.at(field), "required")
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise TopologyError(self.at(field), f"{value!r} is not a number from {low} to {high}")
        return value

    def flag(self, field: str, default: bool) -> bool:
        value = self.take(field, default)
        if not isinstance(value, bool):
            raise TopologyError(self.at(field), f"expected true or false, not {_kind(value)}")
        return value

    def items(self, field: str, default: Sequence[object] = ()) -> Iterator[tuple[str, object]]:
        value = self.take(field, default)
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise TopologyError(self.at(field), f"expected a list, not {_kind(value)}")
        for index, item in enumerate(value):
            yield f"{self.at(field)}[{index}]", item

    def mappings(self, field: str, default: Sequence[object] = ()) -> Iterator[_Mapping]:
        for where, item in self.items(field, default):
            yield _Mapping(item, where)

    def texts(self, field: str, default: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
        for where, item in self.items(field, default):
            if not isinstance(item, str):
                raise TopologyError(where, f"expected text, not {_kind(item)}")
            yield where, item

    def prefixes(self, field: str, default: Sequence[str] = ()) -> tuple[Prefix, ...]:
        return tuple(_prefix(text, where) for where, text in self.texts(field, default))

    def done(self) -> None:
        for unknown in self._left:
            close = near(unknown, self._known)
            hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(self._known)}"
            raise TopologyError(self.at(unknown), f"unknown field; {hint}")


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    return {
        "dict": "a mapping",
        "list": "a list",
        "str": "text",
        "bool": "true/false",
        "int": "a number",
    }.get(type(value).__name__, type(value).__name__)


def _prefix(text: str, where: str) -> Prefix:
    try:
        return ip_network(text)
    except ValueError as err:
        raise TopologyError(where, str(err)) from None


def _address(text: str, where: str) -> Address:
    try:
        return ip_address(text)
    except ValueError as err:
        raise TopologyError(where, str(err)) from None


def parse_topology(document: object, router_kind: RouterKind | None = None) -> Topology:
    """Check and number a topology; `router_kind` overrides the kind of every router. Raises TopologyError."""
    root = _Mapping(document, "")
    as_number = root.number("asNumber", 1, 2**32 - 1, 64512)
    supernets = root.prefixes("linkSupernets", _SUPERNETS)
    pools = tuple(_pool(entry) for entry in root.mappings("pools", _POOLS))
    routers = tuple(_router(entry, router_kind) for entry in root.mappings("routers"))
    nodes = tuple(_node(entry, index, pools) for index, entry in enumerate(root.mappings("nodes")))
    clients = tuple(_client(entry) for entry in root.mappings("clients"))
    _check_hosts(routers, nodes, clients)
    links = _links(root, supernets, {h.name for hosts in (routers, nodes, clients) for h in hosts})
    service_cidrs = root.prefixes("serviceCIDRs", _SERVICE_CIDRS)
    pods = [pod for node in nodes for pod in node.pods]
    services = tuple(_service(entry, pods, service_cidrs) for entry in root.mappings("services"))
    mesh = root.flag("nodeToNodeMesh", True)
    root.done()
    topology = Topology(as_number, routers, nodes, clients, links, pools, services, service_cidrs, mesh)
    _check(topology)
    return topology


def _name(entry: _Mapping) -> str:
    name = entry.text("name")
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise TopologyError(
            entry.at("name"),
            f"{name!r} is not a name here: 1 to 12 of a-z, 0-9 and '-' (it becomes an interface name), "
            f"none of {', '.join(sorted(_RESERVED))}",
        )
    return name


def _router(entry: _Mapping, override: RouterKind | None) -> Router:
    name = _name(entry)
    kind = entry.text("kind", "frr")
    if kind not in {known.value for known in RouterKind}:
        raise TopologyError(entry.at("kind"), f"{kind!r} is none of {', '.join(k.value for k in RouterKind)}")
    router = Router(name, entry.number("asNumber", 1, 2**32 - 1), override or RouterKind(kind))
    entry.done()
    return router


def _client(entry: _Mapping) -> Client:
    client = Client(_name(entry))
    entry.done()
    return client


def _pool(entry: _Mapping) -> Pool:
    name = entry.text("name")
    cidr = _prefix(entry.text("cidr"), entry.at("cidr"))
    size = entry.number("blockSize", cidr.prefixlen, cidr.max_prefixlen - 2, _BLOCK_SIZE[cidr.version])
    pool = Pool(name, cidr, size, entry.flag("natOutgoing", False))
    entry.done()
    return pool


def _node(entry: _Mapping, index: int, pools: Sequence[Pool]) -> Node:
    name = _name(entry)
    pods: list[str] = []
    for where, pod in entry.texts("pods"):
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", pod):
            raise TopologyError(where, f"{pod!r} is not a pod name: a-z, 0-9 and '-', at most 32")
        pods.append(pod)
    blocks = entry.prefixes("blocks") or tuple(_numbered_block(pool, index, entry) for pool in pools)
    for block in blocks:
        if not any(contains(pool.cidr, block) for pool in pools):
            raise TopologyError(entry.at("blocks"), f"{block} lies in no pool")
    entry.done()
    return Node(name, blocks, tuple(pods))


def _numbered_block(pool: Pool, index: int, entry: _Mapping) -> Prefix:
    """The block of the index-th node, numbered from 1 so that the first one reads as the node's number."""
    step = min(max(_BLOCK_STEP[pool.cidr.version], pool.cidr.prefixlen), pool.block_size)
    if pool.block_size < _BLOCK_STEP[pool.cidr.version]:
        step = pool.block_size
    return _nth(pool.cidr, step, pool.block_size, index + 1, entry.where)


def _nth(supernet: Prefix, step: int, length: int, index: int, where: str) -> Prefix:
    if index >= 1 << (step - supernet.prefixlen):
        raise TopologyError(where, f"{supernet} has no room for number {index} in steps of /{step}")
    base = int(supernet.network_address) + (index << (supernet.max_prefixlen - step))
    return ip_network((base, length))


def _links(root: _Mapping, supernets: Sequence[Prefix], hosts: set[str]) -> tuple[Link, ...]:
    links: list[Link] = []
    used: dict[tuple[str, str], int] = {}

    def interface(host: str, far: str) -> str:
        used[host, far] = used.get((host, far), 0) + 1
        return far if used[host, far] == 1 else f"{far}-{used[host, far]}"

    for index, entry in enumerate(root.mappings("links")):
        between = [name for _, name in entry.texts("between")]
        if len(between) != 2 or between[0] == between[1]:
            raise TopologyError(entry.at("between"), "expected the names of two different hosts")
        for name in between:
            if name not in hosts:
                close = near(name, hosts)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise TopologyError(entry.at("between"), f"there is no host {name!r}{hint}")
        subnets = entry.prefixes("subnets") or tuple(
            _nth(
                net,
                max(net.prefixlen, min(_LINK_STEP[net.version], _LINK_LENGTH[net.version])),
                _LINK_LENGTH[net.version],
                index + 1,
                entry.where,
            )
            for net in supernets
        )
        if len({subnet.version for subnet in subnets}) != len(subnets):
            raise TopologyError(entry.at("subnets"), "one subnet a family")
        entry.done()
        first, second = (
            tuple(_end_address(subnet, end, entry.where) for subnet in subnets) for end in (0, 1)
        )
        links.append(
            Link(
                (
                    End(between[0], interface(between[0], between[1]), first),
                    End(between[1], interface(between[1], between[0]), second),
                )
            )
        )
    return tuple(links)


def _end_address(subnet: Prefix, end: int, where: str) -> InterfaceAddress:
    spare = 0 if subnet.max_prefixlen - subnet.prefixlen == 1 else 1
    if subnet.num_addresses < 2:
        raise TopologyError(where, f"{subnet} has no room for two ends")
    return ip_interface(f"{subnet[spare + end]}/{subnet.prefixlen}")


def _service(entry: _Mapping, pods: Sequence[str], cidrs: Sequence[Prefix]) -> ServiceSpec:
    name = entry.text("name")
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise TopologyError(entry.at("name"), f"{name!r} is not a service name (RFC 1035 label)")
    addresses = tuple(_address(text, where) for where, text in entry.texts("clusterIPs"))
    for address in addresses:
        if not any(address in cidr for cidr in cidrs):
            raise TopologyError(entry.at("clusterIPs"), f"{address} lies in no serviceCIDRs")
    backing: list[str] = []
    for where, pod in entry.texts("pods"):
        if pod not in pods:
            raise TopologyError(where, f"no node runs a pod {pod!r}")
        backing.append(pod)
    policy = entry.text("internalTrafficPolicy", "Cluster")
    if policy not in {"Cluster", "Local"}:
        raise TopologyError(entry.at("internalTrafficPolicy"), f"{policy!r} is neither Cluster nor Local")
    service = ServiceSpec(
        name, addresses, tuple(backing), entry.number("port", 1, 65535, 80), policy == "Local"
    )
    entry.done()
    return service


def _check_hosts(routers: Sequence[Router], nodes: Sequence[Node], clients: Sequence[Client]) -> None:
    _unique("hosts", [h.name for hosts in (routers, nodes, clients) for h in hosts])
    _unique("pods", [pod for node in nodes for pod in node.pods])


def _unique(where: str, names: Sequence[object]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise TopologyError(where, f"{name} is there twice")


def _check(topology: Topology) -> None:
    if not topology.hosts:
        raise TopologyError("", "it names no host")
    _unique("services", [service.name for service in topology.services])
    _unique("clusterIPs", [str(ip) for service in topology.services for ip in service.cluster_ips])
    _unique("pools", [pool.name for pool in topology.pools])
    routers = {router.name for router in topology.routers}
    families = {tuple(subnet.version for subnet in link.subnets) for link in topology.links}
    if len(families) > 1:
        raise TopologyError("links", "every link needs a subnet of the same families")
    for host in topology.hosts:
        ends = [link.far_end(host).host for link in topology.links_of(host)]
        if host in routers:
            continue
        if not ends:
            raise TopologyError("links", f"{host} has no link")
        if any(far not in routers for far in ends):
            raise TopologyError("links", f"{host} must be linked to routers only")
    taken: list[tuple[Prefix, str]] = []
    claims = [
        (subnet, f"link {link.ends[0].host} - {link.ends[1].host}")
        for link in topology.links
        for subnet in link.subnets
    ]
    claims += [(pool.cidr, f"pool {pool.name}") for pool in topology.pools]
    claims += [(cidr, "serviceCIDRs") for cidr in topology.service_cidrs]
    for prefix, claimant in claims:
        for other, owner in taken:
            if prefix.version == other.version and prefix.overlaps(other):
                raise TopologyError("addresses", f"{prefix} of {claimant} overlaps {other} of {owner}")
        taken.append((prefix, claimant))
