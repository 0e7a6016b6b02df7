"""The envelope's device (VXLAN), its neighbours, forwarding entries and routes: made so, and taken away."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_interface
from typing import Final

from l3net.errors import KernelError
from l3net.fib.envelope import GATEWAYS, OWN
from l3net.model import Address, Envelope
from l3net.naming import ENVELOPE, ENVELOPE_PORT, ENVELOPE_VNI
from l3net.shell.kernel import links, sysctl
from l3net.shell.kernel.linkaddresses import RT_SCOPE_HOST, addresses_of, put_address
from l3net.shell.kernel.neighbours import (
    delete_fdb,
    delete_neighbour,
    fdb_of,
    neighbours_of,
    put_fdb,
    put_neighbour,
)
from l3net.shell.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Netlink,
    Request,
    attribute,
    attributes,
)

#: linux/if_link.h
IFLA_VXLAN_ID: Final = 1
IFLA_VXLAN_LOCAL: Final = 4
IFLA_VXLAN_LEARNING: Final = 7
IFLA_VXLAN_PORT: Final = 15
IFLA_VXLAN_LOCAL6: Final = 17

#: What passes whole: the longest IP packet with all that stands around it. The kernel cuts the outer packet.
LONGEST: Final = 65535 - 70
#: Octets of the shortest link that IPv6 runs on (RFC 8200 section 5).
_LEAST: Final = 1280

_SYSCTLS: Final = (
    # Packets come from clients that are elsewhere: any route back will do.
    ("net/ipv4/conf/{name}/rp_filter", "2"),
    ("net/ipv4/conf/{name}/forwarding", "1"),
    ("net/ipv4/conf/{name}/send_redirects", "0"),
    ("net/ipv4/conf/{name}/accept_redirects", "0"),
    ("net/ipv4/conf/{name}/arp_ignore", "8"),
    ("net/ipv6/conf/{name}/disable_ipv6", "0"),
    ("net/ipv6/conf/{name}/accept_ra", "0"),
    ("net/ipv6/conf/{name}/accept_redirects", "0"),
    ("net/ipv6/conf/{name}/forwarding", "1"),
)
_RTMSG: Final = struct.Struct("=BBBBBBBBI")  # struct rtmsg, rtnetlink(7)
_RTM_NEWROUTE: Final = 24
_RTM_GETROUTE: Final = 26
_FIB_MATCH: Final = 0x2000  # RTM_F_FIB_MATCH: the entry itself, not what follows from it
_MAIN, _STATIC, _LINK, _UNICAST = 254, 4, 253, 1
_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_METRICS = 1, 4, 6, 8
_RTAX_LOCK, _RTAX_MTU = 1, 2
_LINK_LOCAL: Final = IPv6Network("fe80::/64")


class KernelEnvelope:
    """`ports.EnvelopeDevice` in the network namespace of the thread that makes this object."""

    def __init__(self) -> None:
        self._netlink = Netlink()

    def close(self) -> None:
        self._netlink.close()

    def apply(self, plan: Envelope) -> int:
        """Make it so, and answer with the device's index. Idempotent. Raises KernelError."""
        link = self._device(plan)
        for path, value in _SYSCTLS:
            sysctl.ensure(path.format(name=ENVELOPE), value)
        self._change("set up", self._settings(plan, link))
        own = ip_interface(f"{OWN}/32")
        if own not in addresses_of(self._netlink, link.index):
            self._change("address", [put_address(link.index, own, scope=RT_SCOPE_HOST)])
        # The way to each gateway has an MTU that no message about the outer packet changes.
        length = _mtu(plan)
        ways = [
            _way(link.index, each, length)
            for each in (GATEWAYS, _LINK_LOCAL)
            if not self._leads(link.index, each, length)
        ]
        self._change("routes", ways, but=(errno.EEXIST, errno.EOPNOTSUPP, errno.EACCES, errno.ENODEV))
        self._change("neighbours", self._entries(plan, link.index), but=(errno.ENOENT, errno.EACCES))
        return link.index

    def remove(self) -> None:
        """Take it away; already gone is success. Raises KernelError."""
        link = links.get_link(self._netlink, ENVELOPE)
        if link is not None and link.kind == "vxlan":
            self._change("delete", [links.delete_link(link.index)], but=(errno.ENODEV,))

    def _device(self, plan: Envelope) -> links.KernelLink:
        link = links.get_link(self._netlink, ENVELOPE)
        if link is not None and link.kind != "vxlan":
            raise KernelError(f"{ENVELOPE} exists and is not a vxlan device; remove it", errno.EEXIST)
        if link is not None and self._made(link.index) != _parameters(plan):
            self._change("delete", [links.delete_link(link.index)], but=(errno.ENODEV,))
            link = None
        if link is None:
            self._change("create", [_create(plan)])
            link = links.get_link(self._netlink, ENVELOPE)
            if link is None:
                raise KernelError(f"{ENVELOPE} vanished", errno.ENODEV)
            # No address that follows from the MAC, nor the neighbour discovery that it brings.
            quiet = attribute(links.IFLA_INET6_ADDR_GEN_MODE, b"\x01")  # IN6_ADDR_GEN_MODE_NONE
            spec = links.nested(links.IFLA_AF_SPEC, links.nested(socket.AF_INET6, quiet))
            self._change("quieten", [links.set_link(link.index, spec)], but=(errno.EAFNOSUPPORT,))
        return link

    def _made(self, index: int) -> tuple[int, int, bytes]:
        """Network, port and own address of the device that there is."""
        _, body = self._netlink.get(Request(links.RTM_GETLINK, 0, links.ifinfo(index)))
        fields = dict(attributes(memoryview(body)[16:]))  # struct ifinfomsg
        info = dict(attributes(fields.get(links.IFLA_LINKINFO, memoryview(b""))))
        found = dict(attributes(info.get(links.IFLA_INFO_DATA, memoryview(b""))))
        own = found.get(IFLA_VXLAN_LOCAL) or found.get(IFLA_VXLAN_LOCAL6) or b""
        port = int.from_bytes(found.get(IFLA_VXLAN_PORT, b""), "big")
        return int(struct.unpack("=I", found[IFLA_VXLAN_ID])[0]), port, bytes(own)

    def _settings(self, plan: Envelope, link: links.KernelLink) -> list[Request]:
        parts = [links.u32(links.IFLA_MTU, _mtu(plan))] if link.mtu != _mtu(plan) else []
        if link.mac != plan.mac:
            parts.append(attribute(links.IFLA_ADDRESS, links.mac_bytes(plan.mac)))
        return [] if link.up and not parts else [links.set_link(link.index, *parts, up=True)]

    def _entries(self, plan: Envelope, index: int) -> Iterator[Request]:
        wanted: dict[Address, str] = {
            gateway: end.asking_mac if asking else end.mac
            for end in plan.ends
            for (_, asking), gateway in end.gateways.items()
        }
        seen = neighbours_of(self._netlink, index)
        for gateway in seen.keys() - wanted.keys():
            if not gateway.is_multicast:
                yield delete_neighbour(index, gateway)
        for gateway, mac in wanted.items():
            if seen.get(gateway) != (mac, True):
                yield put_neighbour(index, gateway, mac)
        to = {mac: end.address for end in plan.ends for mac in (end.mac, end.asking_mac)}
        there = fdb_of(self._netlink, index)
        for mac, address in there.items():
            if to.get(mac) != address:
                yield delete_fdb(index, mac, address)
        for mac, address in to.items():
            if there.get(mac) != address:
                yield put_fdb(index, mac, address)

    def _leads(self, index: int, prefix: IPv4Network | IPv6Network, mtu: int) -> bool:
        """Whether there is the route already: each change of one is told to all who listen."""
        family = socket.AF_INET if prefix.version == 4 else socket.AF_INET6
        body = _RTMSG.pack(family, prefix.max_prefixlen, 0, 0, 0, 0, 0, 0, _FIB_MATCH)
        body += attribute(_RTA_DST, prefix[1].packed) + links.u32(_RTA_OIF, index)
        try:
            _, found = self._netlink.get(Request(_RTM_GETROUTE, 0, body))
        except KernelError:
            return False
        length = _RTMSG.unpack_from(found)[1]
        fields = dict(attributes(memoryview(found)[_RTMSG.size :]))
        metrics = dict(attributes(fields.get(_RTA_METRICS, memoryview(b""))))
        return length == prefix.prefixlen and {
            kind: int.from_bytes(value, sys.byteorder) for kind, value in metrics.items()
        } == {_RTAX_LOCK: 1 << _RTAX_MTU, _RTAX_MTU: mtu}

    def _change(self, what: str, requests: Iterable[Request], but: tuple[int, ...] = ()) -> None:
        """`but` are failures that are none."""
        bad = {code for code in self._netlink.transact(list(requests)) if code not in (0, *but)}
        if bad:
            raise KernelError(f"{ENVELOPE}: {what}", min(bad))


def _mtu(plan: Envelope) -> int:
    """An outer IPv6 packet is not cut for what is passed on: the sender hears that its packet is too big."""
    return LONGEST if plan.address.version == 4 else max(_LEAST, plan.mtu - plan.around)


def _parameters(plan: Envelope) -> tuple[int, int, bytes]:
    return ENVELOPE_VNI, ENVELOPE_PORT, plan.address.packed


def _create(plan: Envelope) -> Request:
    local = IFLA_VXLAN_LOCAL if plan.address.version == 4 else IFLA_VXLAN_LOCAL6
    body = b"".join(
        (
            links.ifinfo(),
            links.text(links.IFLA_IFNAME, ENVELOPE),
            links.u32(links.IFLA_MTU, _mtu(plan)),
            attribute(links.IFLA_ADDRESS, links.mac_bytes(plan.mac)),
            links.nested(
                links.IFLA_LINKINFO,
                links.text(links.IFLA_INFO_KIND, "vxlan"),
                links.nested(
                    links.IFLA_INFO_DATA,
                    links.u32(IFLA_VXLAN_ID, ENVELOPE_VNI),
                    attribute(local, plan.address.packed),
                    attribute(IFLA_VXLAN_LEARNING, b"\0"),
                    attribute(IFLA_VXLAN_PORT, ENVELOPE_PORT.to_bytes(2, "big")),
                ),
            ),
        )
    )
    return Request(links.RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def _way(index: int, prefix: IPv4Network | IPv6Network, mtu: int) -> Request:
    family = socket.AF_INET if prefix.version == 4 else socket.AF_INET6
    scope = _LINK if prefix.version == 4 else 0
    body = _RTMSG.pack(family, prefix.prefixlen, 0, 0, _MAIN, _STATIC, scope, _UNICAST, 0)
    body += attribute(_RTA_DST, prefix.network_address.packed) + links.u32(_RTA_OIF, index)
    body += links.u32(_RTA_PRIORITY, 256)
    metrics = links.u32(_RTAX_MTU, mtu) + links.u32(_RTAX_LOCK, 1 << _RTAX_MTU)
    body += links.nested(_RTA_METRICS, metrics)
    return Request(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)
