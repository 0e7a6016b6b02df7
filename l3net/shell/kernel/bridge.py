"""The pod bridge: read back, made so, and its ports put back after somebody deleted it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_interface
from typing import Final

from l3net.cni.host_end import mac_for, mac_of_alias
from l3net.cni.result import InterfaceAddress
from l3net.errors import KernelError
from l3net.ipam.lease import Lease
from l3net.model import Address, BridgePlan
from l3net.naming import VETH_PREFIX
from l3net.shell.kernel import links, sysctl
from l3net.shell.kernel.linkaddresses import addresses_of, delete_address, put_address
from l3net.shell.kernel.localroutes import settled
from l3net.shell.kernel.neighbours import delete_neighbour, neighbours_of, put_forwarding, put_neighbour
from l3net.shell.kernel.netlink import Netlink, Request, attribute

#: Sysctls of the node that its pods' traffic needs. send_redirects is the OR of `all` and the link's.
NODE_SYSCTLS: Final = (
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    # Every packet of a pod is routed; if br_netfilter showed it to the IP hooks a second time, as bridged,
    # a service connection between two pods of the node would be translated on the bridge and break.
    ("net/bridge/bridge-nf-call-iptables", "0"),
    ("net/bridge/bridge-nf-call-ip6tables", "0"),
)
#: Sysctls of the bridge: addresses at once, no router advertisements believed (CVE-2020-10749), no redirects.
BRIDGE_SYSCTLS: Final = (
    ("net/ipv6/conf/{name}/disable_ipv6", "0"),
    ("net/ipv6/conf/{name}/accept_dad", "0"),
    ("net/ipv6/conf/{name}/accept_ra", "0"),
    ("net/ipv6/conf/{name}/forwarding", "1"),
    ("net/ipv4/conf/{name}/forwarding", "1"),
    ("net/ipv4/conf/{name}/send_redirects", "0"),
)

#: Seconds that the agent's loop stands still at most, until a new gateway is heard.
_PATIENCE: Final = 1.0


class KernelBridge:
    """`ports.Bridges` in the network namespace of the thread that makes this object, or of a socket."""

    def __init__(self, netlink: Netlink | None = None) -> None:
        self._netlink = netlink or Netlink()

    def close(self) -> None:
        self._netlink.close()

    def read(self, name: str) -> BridgePlan | None:
        link = links.get_link(self._netlink, name)
        if link is None or link.kind != "bridge" or not link.up:
            return None
        if any(sysctl.read(path) not in (value, None) for path, value in _sysctls(name)):
            return None  # not as it should be: apply() puts it right
        if link.group_forwarded != links.GROUP_FORWARDED:
            return None
        gateways = frozenset(
            (each.ip, each.network.prefixlen) for each in addresses_of(self._netlink, link.index)
        )
        return BridgePlan(name, link.mac, link.mtu, gateways)

    def apply(self, plan: BridgePlan) -> None:
        """Everything on the bridge is ours: addresses not planned go."""
        link = links.get_link(self._netlink, plan.name)
        if link is not None and link.kind != "bridge":
            raise KernelError(f"{plan.name} exists and is not a bridge; remove it", errno.EEXIST)
        if link is None:
            self._netlink.request(
                links.create_bridge(plan.name, mtu=plan.mtu, mac=plan.mac), f"create bridge {plan.name}"
            )
            link = links.get_link(self._netlink, plan.name)
            if link is None:
                raise KernelError(f"{plan.name} vanished", errno.ENODEV)
        for path, value in _sysctls(plan.name):
            sysctl.ensure(path, value)
        wanted = {ip_interface(f"{address}/{length}") for address, length in plan.gateways}
        seen = set(addresses_of(self._netlink, link.index))
        requests = [("set up", links.set_link(link.index, *_settings(plan, link), up=True))]
        requests += [(f"delete {each}", delete_address(link.index, each)) for each in seen - wanted]
        requests += [(f"add {each}", put_address(link.index, each)) for each in wanted - seen]
        codes = self._netlink.transact([request for _, request in requests])
        for (what, _), code in zip(requests, codes, strict=True):
            if code not in (0, errno.EEXIST, errno.EADDRNOTAVAIL):
                raise KernelError(f"{plan.name}: {what}", code)
        settled(self._netlink, wanted - seen, _PATIENCE)

    def ensure(self, plan: BridgePlan, *, force_address: bool = False, promiscuous: bool = False) -> None:
        """Standalone: make the bridge if it is not there and add its gateways, leaving others' addresses.

        An address that overlaps a wanted one is replaced if `force_address`, otherwise refused. KernelError.
        """
        link = links.get_link(self._netlink, plan.name)
        if link is None:
            # a MAC of its own: otherwise it is the lowest of the ports', and pods' neighbour caches go wrong
            mac = plan.mac or links.mac_text(b"\x0a\x58" + os.urandom(4))
            code = self._netlink.transact([links.create_bridge(plan.name, mtu=plan.mtu, mac=mac)])[0]
            if code not in (0, errno.EEXIST):
                raise KernelError(f"create bridge {plan.name}", code)
            link = links.get_link(self._netlink, plan.name)
        if link is None or link.kind != "bridge":
            raise KernelError(f"{plan.name} exists and is not a bridge", errno.EEXIST)
        wanted = {ip_interface(f"{address}/{length}") for address, length in plan.gateways}
        if wanted or not link.up or promiscuous:
            self._ready(plan.name, link, wanted, promiscuous=promiscuous)
        seen = set(addresses_of(self._netlink, link.index)) if wanted else set()
        for each in sorted(wanted - seen, key=str):
            for other in seen:
                if other.version == each.version and other.network.overlaps(each.network):
                    if not force_address:
                        raise KernelError(f"{plan.name} has {other} already, wanted {each}", errno.EEXIST)
                    self._netlink.transact([delete_address(link.index, other)])
            code = self._netlink.transact([put_address(link.index, each)])[0]
            if code not in (0, errno.EEXIST):
                raise KernelError(f"{plan.name}: add {each}", code)
        settled(self._netlink, wanted - seen, _PATIENCE)

    def _ready(
        self, name: str, link: links.KernelLink, wanted: set[InterfaceAddress], *, promiscuous: bool
    ) -> None:
        paths = [(path.format(name=name), value) for path, value in BRIDGE_SYSCTLS if "ipv6" in path]
        paths += [("net/ipv4/ip_forward", "1")] if any(each.version == 4 for each in wanted) else []
        if any(each.version == 6 for each in wanted):
            paths.append(("net/ipv6/conf/all/forwarding", "1"))
        for path, value in paths if wanted else ():
            sysctl.ensure(path, value)
        if not link.up or promiscuous:
            flags = links.IFF_UP | (links.IFF_PROMISC if promiscuous else 0)
            request = Request(links.RTM_NEWLINK, 0, links.ifinfo(link.index, flags, flags))
            self._netlink.request(request, f"set {name} up")

    def attach_ports(
        self, name: str, leases: Callable[[], Iterable[Lease]], *, isolated: bool = True
    ) -> list[str]:
        """Put host ends back on the bridge, as after it was made anew, and pin their MACs; returns the moved.

        `leases` is asked after the kernel: whoever is there has his lease before his interface.
        """
        bridge = links.get_link(self._netlink, name)
        if bridge is None:
            return []
        found = {link.name: link for link in links.all_links(self._netlink)}
        known = neighbours_of(self._netlink, bridge.index)
        changed: list[str] = []
        pins: list[Request] = []
        held: set[Address] = set()
        for lease in leases():
            addresses = [each.address for each in lease.addresses]
            held.update(addresses)
            link = found.get(lease.host_ifname)
            if link is None or not link.name.startswith(VETH_PREFIX) or not of_bridge(lease):
                continue
            mac = mac_of_alias(link.alias) or confirmed_mac(addresses, known)
            if link.master != bridge.index or link.isolated != isolated or not link.up:
                master = links.set_link(link.index, links.u32(links.IFLA_MASTER, bridge.index), up=True)
                codes = self._netlink.transact([master, links.set_port(link.index, isolated=isolated)])
                if any(codes):
                    continue
                changed.append(link.name)
            if mac:
                if link.learning or link.name in changed:  # each setting is told to all who listen
                    pins.append(links.set_port(link.index, learning=False))
                pins.append(put_forwarding(link.index, mac))
                pins += [
                    put_neighbour(bridge.index, address, mac)
                    for address in addresses
                    if known.get(address) != (mac, True)
                ]
        pins += [
            delete_neighbour(bridge.index, address)
            for address, (_, permanent) in known.items()
            if permanent and address not in held
        ]
        self._netlink.transact(pins)
        return changed


def of_bridge(lease: Lease) -> bool:
    """Whether an attachment is to the node's bridge: pods of other bridges have their subnet's length."""
    return all(each.prefix_length == each.address.max_prefixlen for each in lease.addresses)


def confirmed_mac(addresses: Sequence[Address], known: Mapping[Address, tuple[str, bool]]) -> str:
    """The MAC that goes with the addresses, if the neighbours say so too: an older release noted none."""
    mac = mac_for(addresses)
    return mac if any(known.get(address, ("", False))[0] == mac for address in addresses) else ""


def _sysctls(name: str) -> tuple[tuple[str, str], ...]:
    return NODE_SYSCTLS + tuple((path.format(name=name), value) for path, value in BRIDGE_SYSCTLS)


def _settings(plan: BridgePlan, link: links.KernelLink) -> list[bytes]:
    parts = [links.bridge_settings(links.GROUP_FORWARDED)]
    if plan.mtu and plan.mtu != link.mtu:
        parts.append(links.u32(links.IFLA_MTU, plan.mtu))
    if plan.mac and plan.mac != link.mac:
        parts.append(attribute(links.IFLA_ADDRESS, links.mac_bytes(plan.mac)))
    return parts
