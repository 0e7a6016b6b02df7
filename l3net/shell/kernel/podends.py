"""The ends of pods' interfaces, whichever network made them: found in this namespace and in the pods'.

What is there of routes is kept as raw netlink bodies, which can be sent again as they are.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from l3net.errors import KernelError
from l3net.migrating.journal import BridgeBefore, PodBefore
from l3net.migrating.planning import Move, SeenPort
from l3net.naming import BRIDGE, VETH_PREFIX
from l3net.shell.kernel import links
from l3net.shell.kernel.linkaddresses import addresses_of
from l3net.shell.kernel.namespaces import identity, inside, is_network_namespace
from l3net.shell.kernel.netlink import Netlink, Request, attribute, attributes
from l3net.shell.kernel.podroutes import RTA_DST, RTA_OIF, RTM_GETROUTE, RTMSG, RTPROT_KERNEL

RTM_GETQDISC: Final = 38
RTM_GETNSID: Final = 90
IFLA_LINK: Final = 5
IFLA_LINK_NETNSID: Final = 37
NETNSA_NSID: Final = 1
NETNSA_FD: Final = 3
TCA_KIND: Final = 1
RTN_UNICAST: Final = 1
_TCMSG: Final = struct.Struct("=BxxxiIII")
_I32: Final = struct.Struct("=i")
#: Attributes that the kernel tells and does not take: RTA_CACHEINFO, RTA_PREF.
_TOLD_ONLY: Final = (12, 20)
#: Offset of rtm_protocol in struct rtmsg.
RTPROT_AT: Final = 5
ROOT: Final = Path("/")


def root_path(root: Path, path: str) -> str:
    """Where a path of the host is for this process, whose own root may be a container's."""
    return path if root == ROOT else f"{root}{path}"


def namespaces(
    given: Iterable[str], directories: Iterable[str], root: Path = ROOT
) -> dict[tuple[int, int], str]:
    """Paths of network namespaces by what tells them apart, without this one: those that ledgers name, the
    mounted ones, and those of processes. Paths are the host's."""
    own = namespace_of("/proc/thread-self/ns/net")
    found: dict[tuple[int, int], str] = {}
    mounted = (
        f"{each}/{path.name}"
        for each in directories
        if Path(root_path(root, each)).is_dir()
        for path in sorted(Path(root_path(root, each)).iterdir())
    )
    processes = (
        f"/proc/{each.name}/ns/net" for each in sorted(Path(root_path(root, "/proc")).glob("[0-9]*"))
    )
    for paths in (given, mounted, processes):
        for path in paths:
            which = namespace_of(root_path(root, path))
            if which is not None and which != own:
                found.setdefault(which, path)
    return found


def namespace_of(path: str) -> tuple[int, int] | None:
    """Device and inode; None if there is no such file, or a plain one: where a runtime's mounts are its own,
    its files are seen and not the namespaces that are mounted on them."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a link of /proc that leads to no path
        kernels = os.stat("/proc/thread-self/ns/net")  # noqa: PTH116
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_dev == kernels.st_dev else None


@contextmanager
def opened(path: str, home: int) -> Iterator[Netlink]:
    """A socket in a namespace. Raises KernelError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise KernelError(f"open {path}", err.errno or errno.EIO) from err
    try:
        if not is_network_namespace(descriptor) or identity(descriptor) == identity(home):
            raise KernelError(f"{path} is not a pod's network namespace", errno.EINVAL)
        with inside(descriptor, home):
            there = Netlink()
    finally:
        os.close(descriptor)
    with there:
        yield there


def seen_ports(netlink: Netlink, paths: Iterable[str], home: int, root: Path = ROOT) -> list[SeenPort]:
    """The veth ends in these namespaces whose other end is here. What vanishes meanwhile is passed over."""
    here = {link.index: (link, peer, nsid) for link, peer, nsid in _pairs(netlink)}
    names = {link.index: link.name for link in links.all_links(netlink)}
    programmed = _with_programs(netlink)
    found = []
    for path in paths:
        with suppress(KernelError, OSError), opened(root_path(root, path), home) as there:
            nsid = _nsid(netlink, root_path(root, path))
            for inner, peer, _ in _pairs(there):
                outer = here.get(peer)
                if outer is None or outer[1] != inner.index or outer[2] != nsid or nsid < 0:
                    continue
                found.append(
                    SeenPort(
                        path,
                        inner.name,
                        inner.index,
                        inner.mac,
                        peer,
                        outer[0].name,
                        names.get(outer[0].master, ""),
                        tuple(addresses_of(there, inner.index)),
                        peer in programmed,
                        outer[0].name.startswith(VETH_PREFIX) and names.get(outer[0].master) == BRIDGE,
                    )
                )
    return found


def _pairs(netlink: Netlink) -> Iterator[tuple[links.KernelLink, int, int]]:
    """The veths here: each with its peer's index, and the peer's namespace as this one numbers it."""
    for _, body in netlink.dump(Request(links.RTM_GETLINK, 0, links.ifinfo())):
        link = links.decode_link(body)
        if link.kind != "veth":
            continue
        fields = dict(attributes(memoryview(body)[16:]))
        if IFLA_LINK in fields:
            nsid = fields.get(IFLA_LINK_NETNSID)
            yield link, _I32.unpack(fields[IFLA_LINK])[0], _I32.unpack(nsid)[0] if nsid else -1


def _nsid(netlink: Netlink, path: str) -> int:
    """The number that this namespace has for another, -1 for none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        body = bytes(4) + links.u32(NETNSA_FD, descriptor)
        _, told = netlink.get(Request(RTM_GETNSID, 0, body))
    finally:
        os.close(descriptor)
    fields = dict(attributes(memoryview(told)[4:]))
    return int(_I32.unpack(fields[NETNSA_NSID])[0]) if NETNSA_NSID in fields else -1


def _with_programs(netlink: Netlink) -> set[int]:
    """Links with a clsact queueing discipline: what Cilium and others hang their programs on."""
    found = set()
    for _, body in netlink.dump(Request(RTM_GETQDISC, 0, _TCMSG.pack(0, 0, 0, 0, 0))):
        kind = dict(attributes(memoryview(body)[_TCMSG.size :])).get(TCA_KIND)
        if kind is not None and bytes(kind).rstrip(b"\0") == b"clsact":
            found.add(_TCMSG.unpack_from(body)[1])
    return found


def _addresses(netlink: Netlink, index: int) -> tuple[str, ...]:
    return tuple(map(str, addresses_of(netlink, index)))


def unicast_routes(netlink: Netlink) -> Iterator[bytes]:
    """The bodies of all unicast routes here, of any table and both families."""
    for family in (socket.AF_INET, socket.AF_INET6):
        header = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for _, body in netlink.dump(Request(RTM_GETROUTE, 0, header)):
            if RTMSG.unpack_from(body)[7] == RTN_UNICAST:
                yield body


def routes_through(netlink: Netlink, index: int, *, kernel: bool = False) -> list[bytes]:
    """The routes through a link, as they can be sent again. `kernel`: also those that follow from its
    addresses."""
    found = []
    for body in unicast_routes(netlink):
        fields = dict(attributes(memoryview(body)[RTMSG.size :]))
        if RTA_OIF not in fields or _I32.unpack(fields[RTA_OIF])[0] != index:
            continue
        if (kernel or body[RTPROT_AT] != RTPROT_KERNEL) and not _is_link_local(body, fields.get(RTA_DST)):
            found.append(_without_cache_info(body))
    return found


def _hex(routes: Iterable[bytes]) -> tuple[str, ...]:
    """For the journal."""
    return tuple(each.hex() for each in routes)


def _is_link_local(route: bytes, packed: memoryview | None) -> bool:
    return route[0] == socket.AF_INET6 and packed is not None and bytes(packed[:1]) in (b"\xfe", b"\xff")


def _without_cache_info(body: bytes) -> bytes:
    """Without RTA_CACHEINFO and RTA_PREF, which are told and not taken."""
    kept = [
        attribute(kind, bytes(value))
        for kind, value in attributes(memoryview(body)[RTMSG.size :])
        if kind not in _TOLD_ONLY
    ]
    return body[: RTMSG.size] + b"".join(kept)


def pod_before(netlink: Netlink, move: Move, home: int, root: Path = ROOT) -> PodBefore:
    """What is there of a pod that is to be moved. Raises KernelError."""
    port = move.port
    outer = links.get_link_by_index(netlink, port.outer)
    if outer is None:
        raise KernelError(f"{port.host_ifname} vanished", errno.ENODEV)
    with opened(root_path(root, port.netns), home) as there:
        addresses, routes = _addresses(there, port.inner), _hex(routes_through(there, port.inner))
    return PodBefore(
        move.lease.key.container_id,
        port.ifname,
        str(move.lease.pod),
        port.netns,
        port.inner,
        port.mac,
        port.outer,
        outer.name,
        move.lease.host_ifname,
        outer.alias,
        port.master,
        outer.isolated,
        outer.hairpin,
        outer.learning,
        tuple(str(each.address) for each in move.lease.addresses),
        addresses,
        routes,
        _hex(routes_through(netlink, port.outer)) if not port.master else (),
    )


def bridge_before(netlink: Netlink, name: str) -> BridgeBefore:
    """Raises KernelError."""
    link = links.get_link(netlink, name)
    if link is None:
        raise KernelError(f"{name} vanished", errno.ENODEV)
    return BridgeBefore(
        name, link.index, _addresses(netlink, link.index), _hex(routes_through(netlink, link.index))
    )
