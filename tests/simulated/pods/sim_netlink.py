"""Netlink as the kernel of a simulated machine answers it: the very requests that the code packs are read,
and it is told what it decodes. What is not modelled is an error.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address, ip_network

from sim_links import Link, SimLinks, Space

from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.errors import KernelError
from l3net.model import Address
from l3net.shell.kernel import linkaddresses, links, localroutes, neighbours, podroutes, ratelimit
from l3net.shell.kernel.netlink import NLM_F_EXCL, Netlink, Request, attribute, attributes
from l3net.shell.kernel.sandbox import Sandboxes

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBi")
_NDMSG = struct.Struct("=BxHiHBB")
_RTMSG = struct.Struct("=BBBBBBBBI")


class SimNetlink(Netlink):
    """A socket in a namespace."""

    def __init__(self, kernel: SimLinks, space: Space) -> None:
        self.kernel, self.space = kernel, space
        self.same = False  # the last request has changed nothing

    def close(self) -> None:
        pass

    @property
    def port(self) -> int:
        return 1

    def transact(self, requests: Sequence[Request]) -> list[int]:
        """The kernel carries out all of a datagram, or gets none of it."""
        if not requests:
            return []
        what = _NAMES[requests[0].type]
        self.kernel.step(what)
        self.kernel.trouble(what, after=False)
        codes = [self._do(each) for each in requests]
        self.kernel.trouble(what, after=True)
        self.kernel.step(f"{what} done")
        return codes

    def get(self, request: Request) -> tuple[int, bytes]:
        if request.type == podroutes.RTM_GETROUTE:
            return self._lookup(ip_address(dict(_fields(request.body[_RTMSG.size :]))[podroutes.RTA_DST]))
        self.kernel.step("get link")
        self.kernel.trouble("get", after=False)
        link = self._meant(*_link(request.body))
        if link is None:
            raise KernelError("netlink get", errno.ENODEV)
        return links.RTM_NEWLINK, _told(link)

    def _lookup(self, address: Address) -> tuple[int, bytes]:
        """Where a packet to it goes: the work queue's turn comes after the first who asks."""
        self.kernel.step("get route")
        self.kernel.trouble("get", after=False)
        late = {key for key in self.space.unheard if key[1] == address}
        self.space.unheard -= late
        if late or not any(held == address for _, held in self.space.addresses):
            raise KernelError("netlink get", errno.ENETUNREACH)
        kind = localroutes.RTN_LOCAL
        return podroutes.RTM_NEWROUTE, _RTMSG.pack(10, 128, 0, 0, 0, podroutes.RTPROT_KERNEL, 0, kind, 0)

    def dump(self, request: Request) -> list[tuple[int, bytes]]:
        self.kernel.step("dump")
        self.kernel.trouble("dump", after=False)
        return [(request.type, each) for each in _DUMPS[request.type](self.space, request.body)]

    def _do(self, request: Request) -> int:
        name = _NAMES[request.type]
        if code := self.kernel.refusal(name):
            return code
        self.same = False
        code = _DOES[request.type](self, request)
        if code == 0 and not self.same:
            self.kernel.changes += 1
        return code

    def _meant(self, index: int, _flags: int, _change: int, found: dict[int, bytes]) -> Link | None:
        if index:
            return self.space.links.get(index)
        return self.space.link(_text(found[links.IFLA_IFNAME])) if links.IFLA_IFNAME in found else None

    # --- requests ----------------------------------------------------------------------------------------

    def new_link(self, request: Request) -> int:
        index, flags, change, found = _link(request.body)
        info = _nested(found.get(links.IFLA_LINKINFO, b""))
        if request.flags & NLM_F_EXCL:
            return self._pair(found, info)
        link = self._meant(index, flags, change, found)
        if link is None:
            return errno.ENODEV
        if _text(info.get(links.IFLA_INFO_SLAVE_KIND, b"")) == "bridge" and not link.master:
            return errno.EINVAL
        if links.IFLA_MASTER in found:
            master = _number(found[links.IFLA_MASTER])
            if master and master not in self.space.links:
                return errno.ENODEV
            if master != link.master:
                self.kernel.leave(link)
                link.master = master
        if links.IFLA_GROUP in found:
            link.group = _number(found[links.IFLA_GROUP])
        if links.IFLA_IFALIAS in found:
            link.alias = _text(found[links.IFLA_IFALIAS])
        if links.IFLA_MTU in found:
            link.mtu = _number(found[links.IFLA_MTU])
        if change & links.IFF_UP:
            link.up = bool(flags & links.IFF_UP)
            if not link.up:
                for key in [key for key, (at, _) in self.space.routes.items() if at == link.index]:
                    del self.space.routes[key]
        port = _nested(info.get(links.IFLA_INFO_SLAVE_DATA, b""))
        for kind, name in _PORT.items():
            if kind in port:
                setattr(link, name, port[kind][0] if name == "state" else bool(port[kind][0]))
        return 0

    def _pair(self, found: dict[int, bytes], info: dict[int, bytes]) -> int:
        if _text(info[links.IFLA_INFO_KIND]) != "veth":
            raise NotImplementedError(info)
        far = _nested(info[links.IFLA_INFO_DATA])[links.VETH_INFO_PEER]
        _, _, _, peer = _link(far)
        descriptor = int(struct.unpack("=I", peer[links.IFLA_NET_NS_FD])[0])
        space = self.kernel.of(descriptor)
        if space is None:
            return errno.EBADF
        name, inner = _text(found[links.IFLA_IFNAME]), _text(peer[links.IFLA_IFNAME])
        if self.space.link(name) is not None or space.link(inner) is not None:
            return errno.EEXIST
        master = _number(found.get(links.IFLA_MASTER, bytes(4)))
        mtu = _number(found.get(links.IFLA_MTU, struct.pack("=I", 1500)))
        mac = ":".join(f"{each:02x}" for each in peer.get(links.IFLA_ADDRESS, b"\x02\0\0\0\0\1"))
        inside = self.kernel.add(space, inner, "veth", mac=mac, mtu=mtu)
        outside = self.kernel.add(self.space, name, "veth", mtu=mtu, up=True)
        outside.mac = f"02:00:00:00:{outside.index >> 8 & 255:02x}:{outside.index & 255:02x}"
        inside.peer, outside.peer = outside, inside
        if master and master not in self.space.links:
            self.kernel.delete(outside)
            return errno.ENODEV
        outside.master = master
        return 0

    def delete_link(self, request: Request) -> int:
        index, _, _, found = _link(request.body)
        if links.IFLA_GROUP in found:
            group = _number(found[links.IFLA_GROUP])
            doomed = [link for link in self.space.links.values() if link.group == group]
        else:
            link = self._meant(index, 0, 0, found)
            doomed = [link] if link is not None else []
        for each in doomed:
            self.kernel.delete(each)
        return 0 if doomed else errno.ENODEV

    def new_address(self, request: Request) -> int:
        _, length, _, _, index = _IFADDR.unpack_from(request.body)
        found = dict(_fields(request.body[_IFADDR.size :]))
        address = ip_address(found[linkaddresses.IFA_LOCAL])
        if index not in self.space.links:
            return errno.ENODEV
        if address.version == 6 and self.space.without_ipv6:
            return errno.EACCES
        if (index, address) in self.space.addresses:
            return errno.EEXIST
        self.space.addresses[index, address] = length
        if address.version == 6:
            self.space.unheard.add((index, address))
        return 0

    def delete_address(self, request: Request) -> int:
        *_, index = _IFADDR.unpack_from(request.body)
        address = ip_address(dict(_fields(request.body[_IFADDR.size :]))[linkaddresses.IFA_LOCAL])
        self.space.unheard.discard((index, address))
        return 0 if self.space.addresses.pop((index, address), None) is not None else errno.EADDRNOTAVAIL

    def new_route(self, request: Request) -> int:
        family, length, *_ = _RTMSG.unpack_from(request.body)
        found = dict(_fields(request.body[_RTMSG.size :]))
        index = _number(found[podroutes.RTA_OIF])
        link = self.space.links.get(index)
        if link is None:
            return errno.ENODEV
        if not link.up:
            return errno.ENETDOWN
        empty = bytes(4) if family == 2 else bytes(16)
        prefix = ip_network((found.get(podroutes.RTA_DST, empty), length))
        if prefix.version == 6 and self.space.without_ipv6:
            return errno.EACCES
        gateway = ""
        if podroutes.RTA_GATEWAY in found:
            hop = ip_address(found[podroutes.RTA_GATEWAY])
            gateway = str(hop)
            if not any(
                at == index and not through and hop in ip_network(text)
                for (text, _), (at, through) in self.space.routes.items()
            ):
                return errno.ENETUNREACH if prefix.version == 4 else errno.EHOSTUNREACH
        self.space.routes[str(prefix), 254] = (index, gateway)
        return 0

    def new_neighbour(self, request: Request) -> int:
        _family, _pad, index, _state, flags, _ = _NDMSG.unpack_from(request.body)
        found = dict(_fields(request.body[_NDMSG.size :]))
        mac = links.mac_text(found[neighbours.NDA_LLADDR])
        link = self.space.links.get(index)
        if link is None:
            return errno.ENODEV
        if flags & neighbours.NTF_MASTER:
            if not link.master:
                return errno.EINVAL
            self.same = (index, mac) in self.space.forwarding
            self.space.forwarding[index, mac] = True
            return 0
        key = index, ip_address(found[neighbours.NDA_DST])
        self.same = self.space.neighbours.get(key) == mac
        self.space.neighbours[key] = mac
        return 0

    def delete_neighbour(self, request: Request) -> int:
        _, _, index, *_ = _NDMSG.unpack_from(request.body)
        address = ip_address(dict(_fields(request.body[_NDMSG.size :]))[neighbours.NDA_DST])
        if index not in self.space.links:
            return errno.ENODEV
        return 0 if self.space.neighbours.pop((index, address), None) is not None else errno.ENOENT

    def new_rate(self, _request: Request) -> int:
        return 0


class SimSandboxes(Sandboxes):
    """The real ones, on such a kernel."""

    def __init__(self, kernel: SimLinks, home: int) -> None:
        super().__init__(SimNetlink(kernel, kernel.host), home)
        self.kernel = kernel

    __slots__ = ("kernel",)

    def _space(self, netns: int) -> Space:
        found = self.kernel.of(netns)
        if found is None:
            raise KernelError("enter network namespace", errno.EBADF)
        return found

    def check(self, netns: int, path: str, *, own_allowed: bool) -> None:
        found = self.kernel.of(netns)
        if found is None or (found is self.kernel.host and not own_allowed):
            raise CniError(failure.INVALID_NETNS, f"{path!r} is not a network namespace")

    def opened(self, netns: int) -> Netlink:
        self.kernel.step("open")
        self.kernel.trouble("open", after=False)
        return SimNetlink(self.kernel, self._space(netns))

    def set_here(self, path: str, value: str) -> None:
        self.kernel.step("setting")
        self.kernel.settings["host", path] = value

    def set_inside(self, netns: int, path: str, value: str) -> None:
        self.kernel.step("setting")
        space = self._space(netns)
        if path.endswith("disable_ipv6") and value == "0":
            space.without_ipv6 = False
        self.kernel.settings[space.name, path] = value


# --- octets ----------------------------------------------------------------------------------------------

_PORT = {
    links.IFLA_BRPORT_STATE: "state",
    links.IFLA_BRPORT_MODE: "hairpin",
    links.IFLA_BRPORT_LEARNING: "learning",
    links.IFLA_BRPORT_ISOLATED: "isolated",
}
_NAMES = {
    links.RTM_NEWLINK: "link",
    links.RTM_DELLINK: "delete link",
    linkaddresses.RTM_NEWADDR: "address",
    linkaddresses.RTM_DELADDR: "delete address",
    podroutes.RTM_NEWROUTE: "route",
    neighbours.RTM_NEWNEIGH: "neighbour",
    neighbours.RTM_DELNEIGH: "delete neighbour",
    ratelimit.RTM_NEWQDISC: "rate",
}
_DOES: dict[int, Callable[[SimNetlink, Request], int]] = {
    links.RTM_NEWLINK: SimNetlink.new_link,
    links.RTM_DELLINK: SimNetlink.delete_link,
    linkaddresses.RTM_NEWADDR: SimNetlink.new_address,
    linkaddresses.RTM_DELADDR: SimNetlink.delete_address,
    podroutes.RTM_NEWROUTE: SimNetlink.new_route,
    neighbours.RTM_NEWNEIGH: SimNetlink.new_neighbour,
    neighbours.RTM_DELNEIGH: SimNetlink.delete_neighbour,
    ratelimit.RTM_NEWQDISC: SimNetlink.new_rate,
}


def _fields(body: bytes) -> Iterator[tuple[int, bytes]]:
    for kind, value in attributes(body):
        yield kind, bytes(value)


def _nested(body: bytes) -> dict[int, bytes]:
    return dict(_fields(body))


def _link(body: bytes) -> tuple[int, int, int, dict[int, bytes]]:
    _, _, index, flags, change = _IFINFO.unpack_from(body)
    return index, flags, change, dict(_fields(body[_IFINFO.size :]))


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode()


def _number(value: bytes) -> int:
    return int(struct.unpack("=I", value)[0])


def _told(link: Link) -> bytes:
    """As the kernel tells of it."""
    body = _IFINFO.pack(0, 0, link.index, links.IFF_UP | links.IFF_LOWER_UP if link.up else 0, 0)
    body += links.text(links.IFLA_IFNAME, link.name)
    body += attribute(links.IFLA_ADDRESS, links.mac_bytes(link.mac) if link.mac else bytes(6))
    body += links.u32(links.IFLA_MTU, link.mtu) + links.u32(links.IFLA_GROUP, link.group)
    if link.master:
        body += links.u32(links.IFLA_MASTER, link.master)
    if link.alias:
        body += links.text(links.IFLA_IFALIAS, link.alias)
    parts = [links.text(links.IFLA_INFO_KIND, link.kind)]
    if link.kind == "bridge":
        mask = struct.pack("=H", links.GROUP_FORWARDED)
        parts.append(links.nested(links.IFLA_INFO_DATA, attribute(links.IFLA_BR_GROUP_FWD_MASK, mask)))
    if link.master:
        told = [attribute(kind, bytes([int(getattr(link, name))])) for kind, name in _PORT.items()]
        parts += [
            links.text(links.IFLA_INFO_SLAVE_KIND, "bridge"),
            links.nested(links.IFLA_INFO_SLAVE_DATA, *told),
        ]
    return body + links.nested(links.IFLA_LINKINFO, *parts)


def _links(space: Space, _asked: bytes) -> Iterator[bytes]:
    return (_told(each) for each in list(space.links.values()))


def _addresses(space: Space, _asked: bytes) -> Iterator[bytes]:
    for (index, address), length in space.addresses.items():
        head = _IFADDR.pack(2 if address.version == 4 else 10, length, 0, 0, index)
        yield head + attribute(linkaddresses.IFA_LOCAL, address.packed)


def _routes(space: Space, asked: bytes) -> Iterator[bytes]:
    for (text, _), (index, gateway) in space.routes.items():
        prefix = ip_network(text)
        if (prefix.version == 4) != (asked[0] == 2):
            continue
        body = _RTMSG.pack(asked[0], prefix.prefixlen, 0, 0, 254, 4, 0, 1, 0)
        body += links.u32(podroutes.RTA_OIF, index)
        if prefix.prefixlen:
            body += attribute(podroutes.RTA_DST, prefix.network_address.packed)
        yield body + (attribute(podroutes.RTA_GATEWAY, ip_address(gateway).packed) if gateway else b"")


def _neighbours(space: Space, asked: bytes) -> Iterator[bytes]:
    for (index, address), mac in space.neighbours.items():
        if (address.version == 4) == (asked[0] == 2):
            head = _NDMSG.pack(asked[0], 0, index, neighbours.NUD_PERMANENT, 0, 0)
            body = attribute(neighbours.NDA_DST, address.packed)
            yield head + body + attribute(neighbours.NDA_LLADDR, links.mac_bytes(mac))


_DUMPS: dict[int, Callable[[Space, bytes], Iterator[bytes]]] = {
    links.RTM_GETLINK: _links,
    linkaddresses.RTM_GETADDR: _addresses,
    podroutes.RTM_GETROUTE: _routes,
    neighbours.RTM_GETNEIGH: _neighbours,
}
