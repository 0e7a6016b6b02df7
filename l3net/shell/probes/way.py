"""What the kernel would do with a packet: its route, who takes it, and behind which port of a bridge.

Read with pyroute2, in the network namespace of the thread that asks; nothing is sent and nothing is changed.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any, Final

from l3net.explain.facts import Hop, Way
from l3net.model import Address

_FIB_MATCH: Final = 0x2000  # RTM_F_FIB_MATCH, linux/rtnetlink.h: the route itself, not what follows from it
_KINDS: Final = {1: "unicast", 2: "local", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
#: What the kernel answers where a route leads nowhere (fib_props in net/ipv4/fib_semantics.c).
_ERRORS: Final = {
    errno.EINVAL: "blackhole",
    errno.EHOSTUNREACH: "unreachable",
    errno.EACCES: "prohibit",
    errno.ENETUNREACH: "none",
    errno.ESRCH: "none",
}
#: linux/neighbour.h
_STATES: Final = {
    0x01: "incomplete",
    0x02: "reachable",
    0x04: "stale",
    0x08: "delay",
    0x10: "probe",
    0x20: "failed",
    0x40: "noarp",
    0x80: "permanent",
}
_FORWARDING: Final = 3  # BR_STATE_FORWARDING
_AF_BRIDGE: Final = 7


def way_to(destination: Address, source: Address | None = None) -> Way:
    """The route that a packet takes; `unknown` where the kernel cannot be asked."""
    from pyroute2 import IPRoute  # noqa: PLC0415 - 100 ms that only who asks pays
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    asked: dict[str, Any] = {"dst": str(destination)}
    if source is not None and source.version == destination.version:
        asked["src"] = str(source)
    try:
        with IPRoute() as ip:
            try:
                found = list(ip.route("get", flags=_FIB_MATCH, **asked))
            except NetlinkError as err:
                if err.code != errno.EINVAL or "src" not in asked:
                    return Way(_ERRORS.get(err.code, "unknown"))
                return way_to(destination)  # an address that is not this host's can be no source here
            if not found:
                return Way("none")
            return _way(ip, found[0], destination)
    except OSError:
        return Way("unknown")


def _way(ip: Any, route: Any, destination: Address) -> Way:
    kind = _KINDS.get(route["type"], "unknown")
    base = route.get_attr("RTA_DST") or ("0.0.0.0" if destination.version == 4 else "::")  # noqa: S104
    prefix = ip_network(f"{base}/{route['dst_len']}", strict=False)
    several = route.get_attr("RTA_MULTIPATH") or ()
    pairs = [(each["oif"], each.get_attr("RTA_GATEWAY") or _other(each)) for each in several]
    if not pairs and (index := route.get_attr("RTA_OIF")):
        pairs = [(index, route.get_attr("RTA_GATEWAY") or _other(route))]
    if kind == "local":
        return Way(kind, prefix, route["proto"])
    hops = tuple(_hop(ip, index, gateway, destination) for index, gateway in pairs)
    return Way(kind, prefix, route["proto"], hops)


def _other(route: Any) -> str | None:
    """A gateway of the other family (RFC 8950)."""
    via = route.get_attr("RTA_VIA")
    return str(via["addr"]) if via else None


def _hop(ip: Any, index: int, gateway: str | None, destination: Address) -> Hop:
    taker = ip_address(gateway) if gateway else destination
    name, carrier, mtu, bridge = f"if{index}", True, 0, False
    with suppress(Exception):  # a link may go while it is looked at
        link = ip.get_links(index)[0]
        name, mtu = link.get_attr("IFLA_IFNAME"), link.get_attr("IFLA_MTU")
        carrier = bool(link["flags"] & 0x10000)
        info = link.get_attr("IFLA_LINKINFO")
        bridge = bool(info) and info.get_attr("IFLA_INFO_KIND") == "bridge"
    state, mac = "", ""
    with suppress(Exception):
        for entry in ip.get_neighbours(ifindex=index, dst=str(taker), family=2 if taker.version == 4 else 10):
            state, mac = _STATES.get(entry["state"], ""), entry.get_attr("NDA_LLADDR") or ""
    port, forwards = (_port(ip, index, mac) if mac else ("", True)) if bridge else (None, True)
    return Hop(name, taker if gateway else None, state, mac, carrier, mtu, port, forwards)


def _port(ip: Any, bridge: int, mac: str) -> tuple[str, bool]:
    """Behind which port of a bridge a MAC is, and whether it forwards."""
    with suppress(Exception):
        for entry in ip.fdb("dump"):
            if entry.get_attr("NDA_LLADDR") != mac or entry.get_attr("NDA_MASTER") != bridge:
                continue
            link = ip.get_links(entry["ifindex"])[0]
            info = link.get_attr("IFLA_LINKINFO")
            data = info.get_attr("IFLA_INFO_SLAVE_DATA") if info else None
            state = data.get_attr("IFLA_BRPORT_STATE") if data else _FORWARDING
            up = bool(link["flags"] & 0x1) and bool(link["flags"] & 0x10000)
            return link.get_attr("IFLA_IFNAME"), up and state == _FORWARDING
    return "", True
