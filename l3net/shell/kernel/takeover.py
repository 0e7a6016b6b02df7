"""A pod's interface of another network made one of l3net's, without a new pair, and put back.

The pair stays: its host end changes the bridge and is renamed, and the pod's end gets addresses of full
length and routes through l3net's gateway, before the old ones go.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from l3net.addresses import host_prefix, parse_address, parse_interface
from l3net.cni.host_end import host_routes, interface_address
from l3net.cni.result import InterfaceAddress, PodRoute
from l3net.errors import KernelError
from l3net.ipam.lease import Lease
from l3net.migrating.journal import BridgeBefore, PodBefore
from l3net.model import Address
from l3net.naming import BRIDGE, RTPROT_L3NET
from l3net.shell.kernel import links, sysctl
from l3net.shell.kernel.linkaddresses import addresses_of, delete_address, put_address
from l3net.shell.kernel.localroutes import RTM_DELROUTE, settled, stand_in
from l3net.shell.kernel.neighbours import delete_neighbour, neighbours_of, put_forwarding, put_neighbour
from l3net.shell.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Netlink,
    Request,
    attribute,
    attributes,
)
from l3net.shell.kernel.podends import (
    ROOT,
    RTPROT_AT,
    opened,
    root_path,
    routes_through,
    unicast_routes,
)
from l3net.shell.kernel.podroutes import (
    RTA_DST,
    RTA_OIF,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    RTMSG,
    RTPROT_KERNEL,
    put_route,
)


def alive(netlink: Netlink, pod: PodBefore) -> bool:
    """Whether a pod's interface is there yet: a pod that ends takes it along."""
    outer = links.get_link_by_index(netlink, pod.outer)
    return outer is not None and outer.name in (pod.host_ifname, pod.new_ifname)


def hold(netlink: Netlink, pods: Iterable[PodBefore]) -> None:
    """A route to each pod by the way it has now: what l3net's bridge brings changes nothing until the pod is
    moved. They are l3net's (protocol 108), so that an agent clears away what a crash leaves. KernelError."""
    for pod in pods:
        master = links.get_link(netlink, pod.master) if pod.master else None
        index = master.index if master is not None else pod.outer
        for address in _parsed(pod.texts):
            code = netlink.transact([_host_route(index, address)])[0]
            if code and alive(netlink, pod):
                raise KernelError(f"hold {address}", code)


def move(netlink: Netlink, pod: PodBefore, lease: Lease, alias: str, home: int, root: Path = ROOT) -> None:
    """Make a pod l3net's. Raises KernelError; what was done of it then is for `back`."""
    bridge = links.get_link(netlink, BRIDGE)
    if bridge is None:
        raise KernelError(f"{BRIDGE} vanished", errno.ENODEV)
    full = [interface_address(each) for each in lease.addresses]
    with opened(root_path(root, pod.netns), home) as there:
        _ready(there, pod, lease, full)
        known = [delete_neighbour(pod.inner, each) for each in neighbours_of(there, pod.inner)]
        _switch(netlink, pod, bridge.index, full)
        there.transact(known)  # the gateway has another MAC now: until here the pod's packets are lost
        _plug(netlink, pod, alias)
        _settle(there, pod, lease, full)


def _ready(there: Netlink, pod: PodBefore, lease: Lease, full: Sequence[InterfaceAddress]) -> None:
    """The pod's side, as far as it changes nothing for the old network: a default route through the gateway.

    IPv4 has the address twice for a while; IPv6 has an address once, with one length.
    """
    have = set(addresses_of(there, pod.inner))
    requests = [put_address(pod.inner, each) for each in full if each.version == 4 and each not in have]
    requests += [put_route(pod.inner, each) for each in host_routes(lease.addresses)]
    _all(there, requests, f"prepare {pod.ifname} of {pod.pod or pod.container_id}")


def _switch(netlink: Netlink, pod: PodBefore, bridge: int, full: Sequence[InterfaceAddress]) -> None:
    """The host's end into l3net's bridge, and the way to the pod through it, in one call of the kernel."""
    requests = [put_neighbour(bridge, each.ip, pod.mac) for each in full]
    requests.append(links.set_link(pod.outer, links.u32(links.IFLA_MASTER, bridge), up=True))
    requests.append(put_forwarding(pod.outer, pod.mac))
    requests += [_host_route(bridge, each.ip) for each in full]
    _all(netlink, requests, f"put {pod.host_ifname} into {BRIDGE}")


def _plug(netlink: Netlink, pod: PodBefore, alias: str) -> None:
    """The host's end as a port of l3net's, with its name and alias."""
    _rename(netlink, pod.outer, pod.new_ifname)
    port = links.set_port(pod.outer, isolated=True, hairpin=False, learning=False, alias=alias, quiet=True)
    netlink.request(port, f"set up the port {pod.new_ifname}")
    sysctl.write(f"net/ipv6/conf/{pod.new_ifname}/accept_ra", "0")


def _rename(netlink: Netlink, index: int, name: str) -> None:
    """Linux renames a link that is up since 6.2; before, it is down for an instant."""
    change = links.set_link(index, links.text(links.IFLA_IFNAME, name))
    code = netlink.transact([change])[0]
    if code == errno.EBUSY:
        down, up = links.set_link(index, up=False), links.set_link(index, up=True)
        code = next(filter(None, netlink.transact([down, change, up])), 0)
    if code:
        raise KernelError(f"rename interface {index} to {name}", code)


def _settle(there: Netlink, pod: PodBefore, lease: Lease, full: Sequence[InterfaceAddress]) -> None:
    """The rest of the pod's side: nothing but l3net's addresses and routes stay."""
    before = [parse_interface(each) for each in pod.addresses]
    requests = [delete_address(pod.inner, each) for each in before if each not in full]
    requests += [put_address(pod.inner, each) for each in full if each.version == 6]
    # IPv6's routes through an address's own prefix went with it, and so may have the default.
    requests += [put_route(pod.inner, each) for each in host_routes(lease.addresses)]
    with delivered(there, pod.inner, full):
        there.transact(requests)
    have = set(addresses_of(there, pod.inner))
    if missing := [each for each in full if each not in have]:
        raise KernelError(
            f"{pod.ifname} of {pod.pod or pod.container_id} did not take {missing[0]}", errno.EIO
        )
    wanted = host_routes(lease.addresses)
    gone = [body for body in routes_through(there, pod.inner, kernel=True) if not _is_of(body, wanted)]
    there.transact([Request(RTM_DELROUTE, 0, each) for each in gone])


@contextmanager
def delivered(there: Netlink, index: int, addresses: Iterable[InterfaceAddress]) -> Iterator[None]:
    """What comes for IPv6 addresses is delivered while each goes and comes back with another length."""
    kept = [each for each in addresses if each.version == 6]
    there.transact([stand_in(index, each.ip) for each in kept])
    try:
        yield
        settled(there, kept)
    finally:
        there.transact([stand_in(index, each.ip, put=False) for each in kept])


def _is_of(body: bytes, wanted: Iterable[PodRoute]) -> bool:
    """Whether a route is one of these, by prefix, or the kernel's own for an address."""
    family, length = body[0], body[1]
    fields = dict(attributes(memoryview(body)[RTMSG.size :]))
    packed = bytes(fields.get(RTA_DST, bytes(4 if family == socket.AF_INET else 16)))
    if body[RTPROT_AT] == RTPROT_KERNEL and length == len(packed) * 8:
        return True
    return any(
        each.prefix.prefixlen == length and each.prefix.network_address.packed == packed for each in wanted
    )


def take_off(netlink: Netlink, bridge: BridgeBefore) -> None:
    """The old bridge keeps no address: what leads to pods is l3net's."""
    requests = [delete_address(bridge.index, parse_interface(each)) for each in bridge.addresses]
    _all(netlink, requests, f"take the addresses off {bridge.name}", but=errno.EADDRNOTAVAIL)


def outlet(netlink: Netlink, address: Address) -> str:
    """The link by which the kernel would send to an address now, empty if by none."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = RTMSG.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    try:
        _, told = netlink.get(Request(RTM_GETROUTE, 0, body + attribute(RTA_DST, address.packed)))
    except KernelError:  # unreachable, or a blackhole
        return ""
    fields = dict(attributes(memoryview(told)[RTMSG.size :]))
    link = links.get_link_by_index(netlink, int.from_bytes(fields.get(RTA_OIF, b""), sys.byteorder))
    return link.name if link is not None else ""


def release(netlink: Netlink, pods: Iterable[PodBefore]) -> None:
    """Take the routes of `hold` and `move` away: the bridge's own route leads to the pods now."""
    bridge = links.get_link(netlink, BRIDGE)
    indices = {bridge.index} if bridge is not None else set()
    for pod in pods:
        indices.add(pod.outer)
        if pod.master and (master := links.get_link(netlink, pod.master)) is not None:
            indices.add(master.index)
    routes = [
        _host_route(index, address) for pod in pods for address in _parsed(pod.texts) for index in indices
    ]
    netlink.transact([Request(RTM_DELROUTE, 0, each.body) for each in routes])


def back(netlink: Netlink, pod: PodBefore, home: int, root: Path = ROOT) -> bool:
    """Give a pod back to the network it was of; False if it and its interface are gone. KernelError."""
    if not alive(netlink, pod):
        return False
    with opened(root_path(root, pod.netns), home) as there:
        inner = links.get_link_by_index(there, pod.inner)
        if inner is None or inner.name != pod.ifname:
            raise KernelError(
                f"{pod.netns} has no {pod.ifname} of {pod.pod or pod.container_id}", errno.ENODEV
            )
        _unplug(netlink, pod)
        _restore(there, pod)
    return True


def _unplug(netlink: Netlink, pod: PodBefore) -> None:
    bridge = links.get_link(netlink, BRIDGE)
    master = links.get_link(netlink, pod.master) if pod.master else None
    if pod.master and master is None:
        raise KernelError(
            f"bridge {pod.master} is gone: nothing to give {pod.pod or pod.netns} back to", errno.ENODEV
        )
    change = links.set_link(pod.outer, links.u32(links.IFLA_MASTER, master.index if master else 0), up=True)
    netlink.request(change, f"take {pod.new_ifname} out of {BRIDGE}")
    _rename(netlink, pod.outer, pod.host_ifname)
    netlink.transact([links.set_link(pod.outer, attribute(links.IFLA_IFALIAS, pod.alias.encode()))])
    if master is not None:
        port = links.set_port(pod.outer, isolated=pod.isolated, hairpin=pod.hairpin, learning=pod.learning)
        netlink.request(port, f"set up the port {pod.host_ifname}")
    requests = [_again(each) for each in pod.host_routes]
    if bridge is not None:
        requests = [delete_neighbour(bridge.index, each) for each in _parsed(pod.texts)] + requests
        requests += [
            Request(RTM_DELROUTE, 0, _host_route(bridge.index, each).body) for each in _parsed(pod.texts)
        ]
    netlink.transact(requests)


def _restore(there: Netlink, pod: PodBefore) -> None:
    """A pod's own addresses and routes as they were."""
    before = [parse_interface(each) for each in pod.addresses]
    surplus = set(addresses_of(there, pod.inner)) - set(before)
    with delivered(there, pod.inner, before):
        requests = [delete_address(pod.inner, each) for each in surplus if each.version == 6]
        there.transact(requests + [put_address(pod.inner, each, create=False) for each in before])
    there.transact([delete_address(pod.inner, each) for each in surplus if each.version == 4])
    now = routes_through(there, pod.inner)
    # Twice: a route through a gateway wants the route to the gateway first.
    for _ in range(2):
        there.transact([_again(each) for each in pod.routes])
    kept = {_prefix(bytes.fromhex(each)) for each in pod.routes}
    there.transact([Request(RTM_DELROUTE, 0, each) for each in now if _prefix(each) not in kept])
    there.transact([_again(each, NLM_F_CREATE | NLM_F_EXCL) for each in pod.routes])
    there.transact([delete_neighbour(pod.inner, each) for each in neighbours_of(there, pod.inner)])


def _prefix(route: bytes) -> tuple[int, int, bytes]:
    """Family, length and network of a route."""
    fields = dict(attributes(memoryview(route)[RTMSG.size :]))
    return route[0], route[1], bytes(fields.get(RTA_DST, b""))


def leave_tunnel(netlink: Netlink, index: int) -> int:
    """Delete the routes through a device to prefixes that l3net has a route to; their number. They stand
    before l3net's, which have a large metric."""
    ours = {_prefix(body) for body in unicast_routes(netlink) if body[RTPROT_AT] == RTPROT_L3NET}
    theirs = [body for body in routes_through(netlink, index) if _prefix(body) in ours]
    return netlink.transact([Request(RTM_DELROUTE, 0, each) for each in theirs]).count(0)


def put_on(netlink: Netlink, bridge: BridgeBefore) -> bool:
    """A bridge's addresses and routes as they were; False if it is gone: its plugin makes another."""
    link = links.get_link(netlink, bridge.name)
    if link is None:
        return False
    addresses = [parse_interface(each) for each in bridge.addresses]
    requests = [put_address(link.index, each, create=False) for each in addresses]
    routes = [_again(each) for each in bridge.routes]
    _all(netlink, requests, f"put the addresses back on {bridge.name}", but=errno.EEXIST)
    settled(netlink, addresses)
    if link.index == bridge.index:
        netlink.transact(routes)
    return True


def _again(route: str, flags: int = NLM_F_CREATE | NLM_F_REPLACE) -> Request:
    """A route as it was read."""
    return Request(RTM_NEWROUTE, flags, bytes.fromhex(route))


def _host_route(index: int, address: Address) -> Request:
    """A route of l3net's to one address through a link."""
    made = put_route(index, PodRoute(host_prefix(address)))
    body = bytearray(made.body)
    body[RTPROT_AT] = RTPROT_L3NET
    return replace(made, body=bytes(body))


def _parsed(texts: Iterable[str]) -> list[Address]:
    return [parse_address(each) for each in texts]


def _all(netlink: Netlink, requests: Sequence[Request], what: str, but: int = 0) -> None:
    for code in netlink.transact(requests):
        if code and code != but:
            raise KernelError(what, code)
