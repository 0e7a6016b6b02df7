"""The host end of an attachment: the addresses and MAC behind it, and what its alias tells."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network
from typing import Final

from l3net.cni.ifname import sha256
from l3net.cni.result import AssignedAddress, InterfaceAddress, PodRoute, shown
from l3net.ipam.lease import Lease, LeasedAddress, LeaseKey
from l3net.model import Address

#: Locally administered prefix of pod MACs; the rest is the IPv4 address, so a reused address keeps its MAC
#: and no neighbour cache is left wrong.
MAC_PREFIX: Final = "0a:58"
RT_SCOPE_LINK: Final = 253
ALIAS_PREFIX: Final = "l3net/1"
_ALIAS_LIMIT = 255  # IFALIASZ - 1


def mac_for(addresses: Iterable[Address]) -> str:
    """The MAC that goes with a pod's addresses."""
    found = list(addresses)
    chosen = next((address for address in found if address.version == 4), found[0] if found else None)
    if chosen is None:
        return ""
    tail = chosen.packed if chosen.version == 4 else sha256(chosen.packed).digest()[:4]
    return f"{MAC_PREFIX}:{tail.hex(':')}"


def host_routes(addresses: Iterable[LeasedAddress]) -> tuple[PodRoute, ...]:
    """A pod with a full-length prefix: its gateway on-link, everything else through it."""
    gateways = [leased.gateway for leased in addresses if leased.gateway is not None]
    return tuple(route for gateway in gateways for route in _through(gateway))


@lru_cache(maxsize=256)
def _through(gateway: Address) -> tuple[PodRoute, PodRoute]:
    everything = ip_network("0.0.0.0/0" if gateway.version == 4 else "::/0")
    return PodRoute(ip_network(gateway), scope=RT_SCOPE_LINK), PodRoute(everything, gateway)


@lru_cache(maxsize=4096)
def interface_address(leased: LeasedAddress) -> InterfaceAddress:
    kind = IPv4Interface if leased.address.version == 4 else IPv6Interface
    return kind((int(leased.address), leased.prefix_length))  # from the number: no text to write and read


def assigned(lease: Lease, interface: int | None) -> tuple[AssignedAddress, ...]:
    """A lease as the result's `ips`."""
    return tuple(
        AssignedAddress(interface_address(leased), leased.gateway, interface) for leased in lease.addresses
    )


def alias_of(lease: Lease, mac: str = "") -> str:
    """What the host end's alias says, so that the store can be rebuilt from the kernel; empty if too long.

    After the addresses comes the identity of the store that answers for the lease, the proof that the link is
    its own, and then the pod's MAC if it is another than its addresses give it.
    """
    addresses = ",".join(shown(interface_address(leased)) for leased in lease.addresses)
    key = lease.key
    found = f"{ALIAS_PREFIX} {key.network} {key.container_id} {key.ifname} {addresses}"
    if lease.store:
        found += f" {lease.store}"
        if mac and mac != mac_for(leased.address for leased in lease.addresses):
            found += f" {mac}"
    return found if len(found) <= _ALIAS_LIMIT else ""


def lease_of_alias(alias: str, link: str) -> Lease | None:
    """The lease an alias speaks of, None if it is not ours."""
    parts = alias.split(" ")
    if not 5 <= len(parts) <= 7 or parts[0] != ALIAS_PREFIX:
        return None
    try:
        addresses = tuple(
            LeasedAddress(entry.ip, entry.network.prefixlen)
            for entry in map(ip_interface, parts[4].split(","))
        )
    except ValueError:
        return None
    store = parts[5] if len(parts) > 5 else ""
    return Lease(LeaseKey(*parts[1:4]), 0, addresses, host_ifname=link, store=store)


def mac_of_alias(alias: str) -> str:
    """The MAC of the pod's end, as its link's alias tells; empty if it does not (an older release's)."""
    lease = lease_of_alias(alias, "")
    if lease is None or not lease.store:
        return ""
    parts = alias.split(" ")
    return parts[6] if len(parts) == 7 else mac_for(leased.address for leased in lease.addresses)
