"""Routers as the declared state knows them: the nodes that speak to each, and what these may announce."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from typing import Final, TypeAlias

from l3net.addresses import address_order, contains, prefix_order
from l3net.bgp.session import Unusable
from l3net.bgp.sessions import Session, sessions
from l3net.model import (
    Address,
    BfdSettings,
    ClusterState,
    Node,
    PoolUse,
    Prefix,
    Secret,
    SecretKey,
)

#: Prefixes of a neighbour beyond which a router warns, at the least.
LEAST_LIMIT: Final = 100
#: Paths that are used together.
MULTIPATH: Final = 64


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A node as a router has it. Times in seconds. `password` is a placeholder for the one in a Secret;
    empty: there is none. `dials`: whether the node does, so that the router waits."""

    node: str
    address: Address
    as_number: int
    versions: tuple[int, ...]
    hold_time: int
    password: str = ""
    dials: bool = True
    port: int = 179
    multihop: int | None = None
    gtsm: bool = False
    extended: bool = False  # RFC 8950
    add_path: bool = False
    bfd: BfdSettings | None = None


@dataclass(frozen=True, slots=True)
class Permit:
    """Prefixes inside `prefix` whose length is from `low` to `high`."""

    prefix: Prefix
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Router:
    """One router: the BGPPeers that are it, its addresses, and what is configured on it. `secrets`:
    placeholder to what stands for it."""

    peers: tuple[str, ...]
    addresses: tuple[Address, ...]
    as_number: int
    port: int
    neighbors: tuple[Neighbor, ...]
    permits: tuple[Permit, ...]
    limit: int
    secrets: tuple[tuple[str, str], ...] = ()

    @property
    def versions(self) -> tuple[int, ...]:
        """IP versions that any session carries."""
        return tuple(sorted({version for each in self.neighbors for version in each.versions}))

    @property
    def router_id(self) -> str:
        """Its IPv4 address; empty if it has none that is known."""
        return next((str(each) for each in self.addresses if each.version == 4), "")

    def of(self, version: int) -> tuple[Permit, ...]:
        """What nodes may announce of one family."""
        return tuple(each for each in self.permits if each.prefix.version == version)

    def carrying(self, version: int) -> tuple[Neighbor, ...]:
        return tuple(each for each in self.neighbors if version in each.versions)


@dataclass(frozen=True, slots=True)
class Known:
    """The routers, and what of the declared state says too little."""

    routers: tuple[Router, ...]
    notes: tuple[str, ...]


#: Stand for gateways of default routes, which the nodes alone know: addresses that no router has (RFC 7600,
#: RFC 6666).
_GATEWAYS: Final = (ip_address("192.0.0.8"), ip_address("100::1"))

#: An address of a router; and of a gateway that nodes find, the BGPPeer by which they do.
_End: TypeAlias = tuple[Address, str]
_Rows: TypeAlias = dict[_End, list[tuple[str, Session]]]


def routers(state: ClusterState, peers: Collection[str] = (), nodes: Collection[str] = ()) -> Known:
    """Every router that a BGPPeer names by its address, or has nodes find as their gateway; with `peers`
    those of these, taken for one router, and with `nodes` the sessions of these nodes alone."""
    state = _with_secrets(state)
    found: _Rows = {}
    notes: dict[str, None] = {}
    for name in sorted(state.nodes):
        if nodes and name not in nodes:
            continue
        node = state.nodes[name]
        known = partial(_source, node)
        held = sessions(state, name, known, tuple(filter(known, _GATEWAYS)))
        for refusal in held.refusals:
            if (declared := _declared(refusal.name)) not in (peers or state.peers):
                continue  # the mesh: no router is concerned
            why = f"node {name}: {refusal}"
            if refusal.reason is Unusable.NO_LOCAL_ADDRESS:
                why = (
                    f"node {name}: peer {declared}: neither has the Node an InternalIP of its family, "
                    "nor the BGPPeer a localAddress"
                )
            notes[why] = None
        for address, session in held.by_address.items():
            if not session.mesh and not session.to_node and (not peers or _declared(session.name) in peers):
                by = _declared(session.name) if address in _GATEWAYS else ""
                found.setdefault((address, by), []).append((name, session))
    for peer in state.peers.values():
        if peer.interface and (not peers or peer.name in peers):
            notes[
                f"BGPPeer {peer.name}: its routers are found on an interface, and known to the nodes alone"
            ] = None
    permits, limit = _permits(state, notes), _limit(state)
    groups = [sorted(found, key=_end_order)] if peers and found else _paired(found)
    rows = [[row for end in group for row in found[end]] for group in groups]
    return Known(tuple(_router(state, each, permits, limit) for each in rows), tuple(notes))


def _declared(name: str) -> str:
    """The BGPPeer of a session's name."""
    return name.partition("/")[0]


def _end_order(end: _End) -> tuple[tuple[int, int], str]:
    return address_order(end[0]), end[1]


def _source(node: Node, address: Address) -> tuple[Address, tuple[Address, ...]] | None:
    """Sessions leave from the addresses of the Node: no link is known."""
    own = next((each for each in node.addresses if each.version == address.version), None)
    return (own, node.addresses) if own else None


def _with_secrets(state: ClusterState) -> ClusterState:
    """Passwords are not read: a session that has one is taken for one that has."""
    secrets = dict(state.secrets)
    for peer in state.peers.values():
        keys = [peer.password, peer.bfd.auth.password if peer.bfd and peer.bfd.auth else None]
        for key in filter(None, keys):
            values = dict(secrets[key.secret].values) if key.secret in secrets else {}
            secrets[key.secret] = Secret(key.secret, {**values, key.key: b"not-read"})
    return replace(state, secrets=secrets)


def _paired(found: _Rows) -> list[list[_End]]:
    """Ends of both families with the same AS and nodes, of which there is one each, are one router's."""
    alike: dict[tuple[int, str, tuple[str, ...]], list[_End]] = {}
    for end in sorted(found, key=_end_order):
        rows = found[end]
        nodes = tuple(sorted(name for name, _ in rows))
        alike.setdefault((rows[0][1].peer_as, end[1], nodes), []).append(end)
    groups: list[list[_End]] = []
    for ends in alike.values():
        both = len(ends) == 2 and len({address.version for address, _ in ends}) == 2
        groups += [ends] if both else [[each] for each in ends]
    return sorted(groups, key=lambda group: _end_order(group[0]))


def _router(
    state: ClusterState, rows: list[tuple[str, Session]], permits: tuple[Permit, ...], limit: int
) -> Router:
    secrets: dict[str, str] = {}
    neighbors = []
    for name, session in rows:
        peer = state.peers.get(_declared(session.name))
        placeholder = ""
        if peer is not None and peer.password is not None:
            placeholder = _placeholder(peer.password)
            secrets[placeholder] = f"Secret {peer.password.secret}, key {peer.password.key}"
        neighbors.append(
            Neighbor(
                name,
                session.local_address,
                session.local_as,
                tuple(sorted(family.value for family in session.families)),
                session.hold_time,
                placeholder,
                not session.passive,
                session.listen_port,
                session.multihop if session.external else None,
                session.gtsm,
                session.extended_next_hop,
                session.add_path,
                session.bfd,
            )
        )
    first = rows[0][1]
    return Router(
        tuple(dict.fromkeys(_declared(session.name) for _, session in rows)),
        tuple(dict.fromkeys(one.peer_address for _, one in rows if one.peer_address not in _GATEWAYS)),
        first.peer_as,
        first.port,
        tuple(neighbors),
        permits,
        limit,
        tuple(secrets.items()),
    )


def _placeholder(key: SecretKey) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "-", f"{key.secret.namespace}-{key.secret.name}-{key.key}")
    return f"PASSWORD-{words}"


def _permits(state: ClusterState, notes: dict[str, None]) -> tuple[Permit, ...]:
    advertise = state.configuration.advertise
    found: list[Permit] = []
    if advertise.pod_blocks:
        pools = [
            pool for pool in state.pools.values() if PoolUse.PODS in pool.allowed_uses and pool.advertise
        ]
        found += [Permit(pool.cidr, pool.block_size, pool.block_size) for pool in pools]
        blocks = [block for node in state.nodes.values() for block in node.blocks]
        silent = [pool.cidr for pool in state.pools.values() if not pool.advertise]
        found += [
            Permit(block, block.prefixlen, block.prefixlen)
            for block in blocks
            if not any(_permitted(permit, block) for permit in found)
            and not any(contains(cidr, block) for cidr in silent)
        ]
    found += [Permit(network, network.prefixlen, network.prefixlen) for network in advertise.networks]
    hosts = [
        pool.cidr for pool in state.pools.values() if pool.allowed_uses & {PoolUse.FLOATING, PoolUse.EGRESS}
    ]
    if advertise.cluster_ips.enabled:
        ranges = tuple(advertise.cluster_ips.cidrs or state.service_ranges)
        hosts += ranges
        if not ranges:
            notes["no range of ClusterIPs is declared (serviceCIDRs): routers would refuse them"] = None
    for kind in (advertise.external_ips, advertise.load_balancer_ips):
        hosts += kind.cidrs if kind.enabled else ()
    found += [Permit(cidr, cidr.max_prefixlen, cidr.max_prefixlen) for cidr in hosts]
    return tuple(sorted(set(found), key=lambda each: (prefix_order(each.prefix), each.low)))


def _permitted(permit: Permit, prefix: Prefix) -> bool:
    return contains(permit.prefix, prefix) and permit.low <= prefix.prefixlen <= permit.high


def _limit(state: ClusterState) -> int:
    """Twice what a node may announce as declared now, and some."""
    advertise = state.configuration.advertise
    blocks = max((len(node.blocks) for node in state.nodes.values()), default=0)
    addresses = sum(
        (len(each.cluster_ips) if advertise.cluster_ips.enabled else 0)
        + len(each.external_ips) + len(each.load_balancer_ips)
        for each in state.services.values()
    )  # fmt: skip
    return max(LEAST_LIMIT, 2 * (blocks + len(advertise.networks) + addresses))


def header(router: Router, mark: str, title: str, *more: str) -> list[str]:
    """Comments that begin a configuration, of a dialect whose comments begin with `mark`."""
    names = " and ".join(str(each) for each in router.addresses) or "that is the nodes' gateway"
    lines = [
        f"Router {names} (BGPPeer {', '.join(router.peers)}), AS {router.as_number}, in {title}.",
        "Written by l3net router-config from the declared state; merge it into the router's configuration.",
        "Neighbours are the addresses of the Nodes, or localAddress: a node of several links may speak "
        "from another.",
        *more,
        *(f"Replace {placeholder} by the password in {what}." for placeholder, what in router.secrets),
    ]
    if not router.router_id:
        lines.append("It has no IPv4 address that is known here: choose its router ID.")
    if any(each.bfd and each.bfd.auth for each in router.neighbors):
        lines.append("BFD is authenticated on the nodes' side (spec.bfd.authentication): not written here.")
    return [f"{mark} {line}" for line in lines]


#: In every vendor's output.
NOT_RUN: Final = "NOT RUN on such a device: written after the vendor's documents. Try it in yours first."


def profiles(router: Router) -> Iterator[tuple[str, BfdSettings]]:
    """Each setting of BFD once, with a name."""
    seen: dict[str, BfdSettings] = {}
    for each in router.neighbors:
        if each.bfd is not None:
            seen.setdefault(profile_name(each.bfd), each.bfd)
    yield from seen.items()


def profile_name(bfd: BfdSettings) -> str:
    return f"L3NET-{bfd.min_interval}-{bfd.multiplier}"
