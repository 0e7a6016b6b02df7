"""Small builders for BGP facts."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from l3net.bgp.loc_rib import LocRib
from l3net.bgp.path import Attributes, Path
from l3net.bgp.sessions import Session
from l3net.bgp.verdict import Verdict
from l3net.community import AnyCommunity, parse_community
from l3net.model import Address, Family


def session(peer: str = "10.0.0.1", **changes: object) -> Session:
    address = ip_address(peer)
    local = ip_address("10.0.0.2" if address.version == 4 else "fd00::2")
    family = Family.IPV4 if address.version == 4 else Family.IPV6
    values: dict[str, object] = {
        "name": "tor",
        "peer_address": address,
        "peer_as": 65001,
        "local_address": local,
        "local_as": 64512,
        "router_id": ip_address("10.0.0.2"),
        "families": frozenset({family}),
        "next_hops": {family: local},
    }
    name = str(changes.get("name", ""))
    if name.startswith("mesh:"):
        values["mesh_node"] = name.removeprefix("mesh:")
    return Session(**(values | changes))  # type: ignore[arg-type]


def path(prefix: str, hop: str = "10.0.0.1", **attributes: object) -> Path:
    return Path(ip_network(prefix), ip_address(hop), Attributes(**attributes))  # type: ignore[arg-type]


def community(text: str) -> AnyCommunity:
    return parse_community(text)


def counts(rib: LocRib, peer: Address) -> tuple[int, int]:
    """Paths received and accepted of a peer."""
    kinds = rib.kinds(peer)
    accepted = sum(count for entry, count in kinds if entry.judgement.verdict is Verdict.ACCEPTED)
    return sum(count for _, count in kinds), accepted
