"""The sessions of one declared peer, with its secrets, addresses and families; or why it has none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv6Address

from l3net.bgp.session import (
    UNKNOWN_AS,
    Gateways,
    Links,
    OnLink,
    Refusal,
    Session,
    SourceLookup,
    Unusable,
    family_of,
    node_as_number,
    router_id,
)
from l3net.model import (
    Address,
    BgpPeer,
    ClusterState,
    Family,
    Node,
    ObjectName,
    Secret,
    SecretKey,
)
from l3net.near import did_you_mean

#: Octets of a TCP MD5 key that the kernel takes (TCP_MD5SIG_MAXKEYLEN of linux/tcp.h).
LONGEST_PASSWORD = 80


#: What the name of an interface may hold to be named in ExaBGP's configuration.
INTERFACE = re.compile(r"[A-Za-z0-9_./:@%+-]+")


def bad_interface(name: str, interface: str) -> Refusal:
    return Refusal(name, Unusable.BAD_INTERFACE, f"ExaBGP does not support an interface named {interface!r}")


def _local_as(state: ClusterState, peer: BgpPeer, node: Node) -> int:
    return peer.local_as if peer.local_as is not None else node_as_number(state, node)


def internal_routers(state: ClusterState, peer: BgpPeer, node: Node, link: OnLink) -> tuple[IPv6Address, ...]:
    """Routers that are of our own AS where any other is wanted. They are asked on: it may change."""
    if peer.as_number is not None:
        return ()
    ours = _local_as(state, peer, node)
    return tuple(router for router in link.routers if link.as_numbers.get(router) == ours)


def one_of_each_family(addresses: tuple[Address, ...]) -> list[Address]:
    first: dict[Family, Address] = {}
    for address in addresses:
        first.setdefault(family_of(address), address)
    return list(first.values())


def far_ends(
    state: ClusterState, peer: BgpPeer, node: Node, gateways: Gateways, links: Links
) -> list[tuple[str, Address, int | None]]:
    if peer.address is not None:
        return [(peer.name, peer.address, peer.as_number)]
    if peer.interface is not None:
        link = links.get(peer.interface, OnLink())
        internal = set(internal_routers(state, peer, node, link))
        return [
            (
                peer.name if len(link.routers) == 1 else f"{peer.name}/{router}",
                router,
                UNKNOWN_AS
                if router in internal
                else peer.as_number or link.as_numbers.get(router, UNKNOWN_AS),
            )
            for router in link.routers
        ]
    if peer.default_gateway:
        return [(f"{peer.name}/{gateway}", gateway, peer.as_number) for gateway in gateways]
    ends: list[tuple[str, Address, int | None]] = []
    for other in sorted(state.nodes.values(), key=lambda other: other.name):
        if (
            other.name != node.name
            and peer.peer_selector is not None
            and peer.peer_selector.matches(other.labels)
        ):
            as_number = peer.as_number if peer.as_number is not None else node_as_number(state, other)
            ends += [
                (f"{peer.name}/{other.name}", address, as_number)
                for address in one_of_each_family(other.addresses)
                if any(mine.version == address.version for mine in node.addresses)
            ]
    return ends


def session_of(
    state: ClusterState,
    node: Node,
    peer: BgpPeer,
    name: str,
    address: Address,
    as_number: int | None,
    source: SourceLookup,
    links: Links,
    own: frozenset[Address] | None,
) -> Session | Refusal:
    """The session with one far end of a declared peer, or why there is none."""
    configuration = state.configuration
    if as_number is None:
        return Refusal(name, Unusable.NO_AS_NUMBER)
    if address in node.addresses:
        detail = f"{address} is an address of this node; set the router's in BGPPeer {peer.name}"
        return Refusal(name, Unusable.OWN_ADDRESS, detail)
    for wanted in peer.filters:
        if wanted not in state.filters:
            # Without its filter a peer would import and export too much: no session is the safe state.
            hint = did_you_mean(wanted, state.filters)
            why = f"{wanted}; create the BGPFilter, or correct `filters` in BGPPeer {peer.name}{hint}"
            return Refusal(name, Unusable.MISSING_FILTER, why)
    password = _password(state, name, peer)
    if isinstance(password, Refusal):
        return password
    bfd_secret = _bfd_secret(state, name, peer)
    if isinstance(bfd_secret, Refusal):
        return bfd_secret
    interface = peer.interface or peer.source_interface
    if interface is not None and not INTERFACE.fullmatch(interface):
        # Left out of the configuration it would be a session over any link.
        return bad_interface(name, interface)
    found = _local_address(name, peer, address, interface, source, links, own)
    if isinstance(found, Refusal):
        return found
    local, siblings = found
    families = peer.families or frozenset({family_of(address)})
    selected = peer.peer_selector is not None
    return Session(
        name=name,
        peer_address=address,
        peer_as=as_number,
        local_address=local,
        local_as=_local_as(state, peer, node),
        router_id=router_id(node),
        families=families,
        next_hops=next_hops_of(node, local, siblings, families, extended=peer.extended_next_hop),
        port=peer.port,
        listen_port=configuration.listen_port,
        hold_time=peer.hold_time if peer.hold_time is not None else configuration.hold_time,
        send_hold_time=peer.send_hold_time,
        graceful_restart=(
            peer.graceful_restart if peer.graceful_restart is not None else configuration.graceful_restart
        ),
        passive=peer.passive or (selected and int(local) > int(address)),
        listen=peer.passive or (selected and int(local) > int(address)),
        gtsm=peer.gtsm,
        multihop=peer.multihop,
        password=password,
        source_interface=interface,
        next_hop_mode=peer.next_hop,
        filters=peer.filters,
        max_prefixes=peer.max_prefixes,
        third_party_next_hops=peer.third_party_next_hops,
        allow_blackhole=peer.allow_blackhole,
        add_path=peer.add_path,
        extended_next_hop=peer.extended_next_hop,
        any_as=peer.interface is not None and peer.as_number is None,
        bfd=peer.bfd,
        bfd_secret=bfd_secret,
        to_node=selected,
    )


def next_hops_of(
    node: Node,
    local: Address,
    siblings: tuple[Address, ...],
    families: frozenset[Family],
    *,
    extended: bool = False,
) -> dict[Family, Address]:
    """What we announce as next hop, by family: the session's own address, one beside it, or the node's.

    `extended`: the session's own IPv6 address for IPv4 too (RFC 8950). A link-local address is one only on a
    session between link-local addresses, whose peer knows the link.
    """
    hops: dict[Family, Address] = {}
    for family in families:
        if local.version == 6 and ((extended and family is Family.IPV4) or local.is_link_local):
            if extended or family is Family.IPV6:
                hops[family] = local
            continue
        for candidate in (local, *siblings, *node.addresses):
            if family_of(candidate) is family and not candidate.is_link_local:
                hops[family] = candidate
                break
    return hops


def _password(state: ClusterState, name: str, peer: BgpPeer) -> bytes | Refusal | None:
    """Of the session (RFC 2385)."""
    if peer.password is None:
        return None
    found = _secret(state.secrets, peer.password)
    if found is None:  # never fall back to no password
        return _missing(state.secrets, name, peer.password, "password")
    if len(found) > LONGEST_PASSWORD:
        named = f"{peer.password.secret}[{peer.password.key}]"
        detail = f"{named} has {len(found)} bytes, a TCP MD5 key at most {LONGEST_PASSWORD}"
        return Refusal(name, Unusable.LONG_PASSWORD, detail)
    return found


def _bfd_secret(state: ClusterState, name: str, peer: BgpPeer) -> bytes | Refusal | None:
    """Of BFD beside the session (RFC 5880 section 6.7)."""
    if peer.bfd is None or peer.bfd.auth is None:
        return None
    wanted, longest = peer.bfd.auth.password, peer.bfd.auth.type.longest_secret
    found = _secret(state.secrets, wanted)
    if found is None:  # nor BFD without its authentication
        return _missing(state.secrets, name, wanted, "bfd.authentication")
    if len(found) > longest:
        detail = f"{wanted.secret}[{wanted.key}], at most {longest} bytes"
        return Refusal(name, Unusable.LONG_BFD_SECRET, detail)
    return found


def _local_address(
    name: str,
    peer: BgpPeer,
    address: Address,
    interface: str | None,
    source: SourceLookup,
    links: Links,
    own: frozenset[Address] | None,
) -> tuple[Address, tuple[Address, ...]] | Refusal:
    """Our address of the session, and those beside it on its link."""
    if peer.local_address is not None and own is not None and peer.local_address not in own:
        detail = f"localAddress {peer.local_address} is on no link of this node"
        return Refusal(name, Unusable.NO_LOCAL_ADDRESS, detail)
    looked_up = source(address)
    if address.is_link_local and interface is not None:  # no route tells which link it is on
        on_link = links.get(interface, OnLink()).local
        looked_up = (on_link, ()) if on_link is not None else None
    local = peer.local_address or (looked_up[0] if looked_up else None)
    if local is None or local.version != address.version:
        where = f"no link-local address on {interface}" if address.is_link_local else f"no route to {address}"
        return Refusal(name, Unusable.NO_LOCAL_ADDRESS, where)
    return local, looked_up[1] if looked_up else ()


def _missing(secrets: Mapping[ObjectName, Secret], name: str, wanted: SecretKey, field: str) -> Refusal:
    """Which of the two is missing, and what was probably meant. No value is ever part of it."""
    held = secrets.get(wanted.secret)
    remedy = f"or correct `{field}` in BGPPeer {name.partition('/')[0]}"
    if held is None:
        hint = did_you_mean(str(wanted.secret), map(str, secrets))
        why = f"there is no Secret {wanted.secret}; create it, {remedy}{hint}"
    elif wanted.key in held.values:
        why = f"the key {wanted.key} of Secret {wanted.secret} is empty; fill it, {remedy}"
    else:
        hint = did_you_mean(wanted.key, held.values)
        why = f"Secret {wanted.secret} has no key {wanted.key}; add it, {remedy}{hint}"
    return Refusal(name, Unusable.MISSING_SECRET, why)


def _secret(secrets: Mapping[ObjectName, Secret], wanted: SecretKey) -> bytes | None:
    secret = secrets.get(wanted.secret)
    value = secret.values.get(wanted.key) if secret is not None else None
    return value or None  # an empty password is no password
