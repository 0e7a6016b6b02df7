"""The ways of EgressIPs: rules that lead packets with a mark to tables of one route each (ip-rule(8))."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from l3net.errors import KernelError
from l3net.model import EgressWay
from l3net.naming import BRIDGE, EGRESS_MARKS, EGRESS_PRIORITY, EGRESS_TABLES, RTPROT_L3NET
from l3net.shell.kernel import links
from l3net.shell.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Netlink,
    Request,
    attribute,
    attributes,
)

RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26
RTM_NEWRULE: Final = 32
RTM_DELRULE: Final = 33
RTM_GETRULE: Final = 34
RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_PRIORITY: Final = 6
RTA_PREFSRC: Final = 7
RTA_METRICS: Final = 8
RTA_MULTIPATH: Final = 9
RTA_TABLE: Final = 15
RTA_VIA: Final = 18
RTAX_MTU: Final = 2
RT_TABLE_MAIN: Final = 254
RTN_UNICAST: Final = 1
RTNH_F_ONLINK: Final = 4
#: linux/fib_rules.h
FRA_IIFNAME: Final = 3
FRA_PRIORITY: Final = 6
FRA_FWMARK: Final = 10
FRA_SUPPRESS_PREFIXLEN: Final = 14
FRA_TABLE: Final = 15
FRA_FWMASK: Final = 16
FRA_PROTOCOL: Final = 21
FRA_DPORT_RANGE: Final = 24
FR_ACT_TO_TBL: Final = 1
FIB_RULE_INVERT: Final = 2

_RULE: Final = struct.Struct("=BBBBBBBBI")  # struct fib_rule_hdr
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_U32: Final = struct.Struct("=I")
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
#: Times that the rules are looked at in one pass.
_ATTEMPTS: Final = 4
#: What the kernel says of a table or a family that it does not have.
_NONE: Final = (errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP)
#: Of a table's number, what tells the way.
_NUMBERS: Final = EGRESS_MARKS >> 16
#: The metric that the kernel gives a route that names none (IP6_RT_PRIO_USER).
_METRICS: Final = {socket.AF_INET: 0, socket.AF_INET6: 1024}

Place = tuple[int, int]  # family and table


@dataclass(frozen=True, slots=True)
class _Held:
    """A rule or a route of ours: what it says, and its message. Of routes with one `key` a table has one."""

    place: Place
    said: tuple[object, ...]
    body: bytes
    key: object = None


class KernelEgressWays:
    """`ports.EgressWays` in the network namespace of the thread that makes this object.

    Rules are read whole: a node has few. Routes are read table by table, but for the first time: there may be
    a full table of others.
    """

    def __init__(self) -> None:
        self._netlink = Netlink(strict=True)
        self._tables: set[Place] | None = None  # that may hold a route of ours; None: not known

    def close(self) -> None:
        self._netlink.close()

    def apply(self, ways: Collection[EgressWay], device: str, mtu: int) -> None:
        """What comes: the route, then the rule that leads to it. What goes: the rule, then the route. What
        the kernel refuses keeps nothing else back, and is told of at the end."""
        wanted = {_place(way): way for way in ways}
        rules = self._rules()
        places = {*wanted, *(rule.place for rule in rules)}
        routes = self._routes(None if self._tables is None else places | self._tables)
        self._tables = {*places, *(route.place for route in routes)}
        failed: list[KernelError] = []
        led = self._lead(wanted, routes, device, mtu, failed)
        for _ in range(_ATTEMPTS):
            if not self._point(wanted, led, rules, failed):
                break
            # The kernel deletes the first rule that says all that is asked for, and may say more: ours.
            rules = self._rules()
        for route in routes:
            if route.place not in wanted:
                self._delete(RTM_DELROUTE, route, failed)
        if failed:
            raise failed[0]
        self._tables = set(wanted)

    def _lead(
        self,
        wanted: Mapping[Place, EgressWay],
        routes: Collection[_Held],
        device: str,
        mtu: int,
        failed: list[KernelError],
    ) -> list[Place]:
        """Put the routes; the places that have theirs now."""
        link = links.get_link(self._netlink, device) if wanted else None
        if link is None:
            if wanted:
                failed.append(KernelError(f"egress: no device {device}", errno.ENODEV))
            return []
        led = []
        for place, way in wanted.items():
            new = _route_held(_route(way, link.index, mtu))
            there = [route for route in routes if route.place == place]
            if new.said not in (each.said for each in there):
                ours = any(each.key == new.key for each in there)
                flags = NLM_F_CREATE | (NLM_F_REPLACE if ours else NLM_F_EXCL)
                code = self._netlink.transact([Request(RTM_NEWROUTE, flags, new.body)])[0]
                if code:
                    failed.append(_unled(way, device, code))
                    continue
                there = [each for each in there if each.key != new.key]
            for each in there:
                if each.said != new.said:
                    self._delete(RTM_DELROUTE, each, failed)
            led.append(place)
        return led

    def _point(
        self,
        wanted: Mapping[Place, EgressWay],
        led: Collection[Place],
        rules: Collection[_Held],
        failed: list[KernelError],
    ) -> bool:
        """Put the rules of the places that have their routes, and delete those that are for nothing; whether
        there were any. A place that lost its route keeps its rule: it is to be there again."""
        kept = set()
        for place, way in wanted.items():
            new = _rule_held(_rule(way))
            kept.add(new.said)
            if place in led and not any(each.said == new.said for each in rules):
                code = self._netlink.transact([Request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, new.body)])[0]
                if code not in (0, errno.EEXIST):
                    failed.append(KernelError(f"egress: put the rule for mark {way.mark:#x}", code))
        seen: set[object] = set()
        deleted = False
        for rule in rules:
            if rule.said not in kept or rule.said in seen:
                self._delete(RTM_DELRULE, rule, failed)
                deleted = True
            seen.add(rule.said)
        return deleted

    def _delete(self, kind: int, held: _Held, failed: list[KernelError]) -> None:
        code = self._netlink.transact([Request(kind, 0, held.body)])[0]
        if code not in (0, errno.ENOENT, errno.ESRCH, errno.ENODEV):
            what = "rule" if kind == RTM_DELRULE else "route"
            failed.append(KernelError(f"egress: delete a {what} of table {held.place[1]:#x}", code))

    def _rules(self) -> list[_Held]:
        found = []
        for family in _FAMILIES:
            for body in self._dump(RTM_GETRULE, _RULE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
                held = _rule_held(body)
                fields = dict(attributes(memoryview(body)[_RULE.size :]))
                protocol, priority = fields.get(FRA_PROTOCOL), fields.get(FRA_PRIORITY)
                if (
                    body[0] == family
                    and protocol is not None
                    and protocol[0] == RTPROT_L3NET
                    and priority is not None
                    and _U32.unpack(priority)[0] == EGRESS_PRIORITY
                ):
                    found.append(held)
        return found

    def _routes(self, places: set[Place] | None) -> list[_Held]:
        """Those of these tables, or (None) of all that can be ours."""
        asked: list[Place] = [(family, 0) for family in _FAMILIES] if places is None else sorted(places)
        found = []
        for family, table in asked:
            header = _ROUTE.pack(family, 0, 0, 0, 0, RTPROT_L3NET, 0, 0, 0)
            body = header + (links.u32(RTA_TABLE, table) if table else b"")
            for each in self._dump(RTM_GETROUTE, body):
                if each[0] == family and each[4] != RT_TABLE_MAIN and each[5] == RTPROT_L3NET:
                    held = _route_held(each)
                    if held.place[1] & ~_NUMBERS == EGRESS_TABLES:
                        found.append(held)
        return found

    def _dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        try:
            for _, each in self._netlink.dump(Request(kind, 0, body)):
                yield each
        except KernelError as err:
            if err.code not in _NONE:
                raise


def _family(way: EgressWay) -> socket.AddressFamily:
    return socket.AF_INET if way.version == 4 else socket.AF_INET6


def _place(way: EgressWay) -> Place:
    return _family(way), EGRESS_TABLES | way.mark >> 16


def _rule(way: EgressWay) -> bytes:
    """Packets that come in by the bridge alone: the envelope's own packet has the mark of what is in it, and
    would be led into the envelope again (vxlan_xmit_one)."""
    family, table = _place(way)
    return b"".join(
        (
            _RULE.pack(family, 0, 0, 0, 0, 0, 0, FR_ACT_TO_TBL, 0),
            links.text(FRA_IIFNAME, BRIDGE),
            links.u32(FRA_PRIORITY, EGRESS_PRIORITY),
            links.u32(FRA_FWMARK, way.mark),
            links.u32(FRA_FWMASK, EGRESS_MARKS),
            links.u32(FRA_TABLE, table),
            attribute(FRA_PROTOCOL, bytes((RTPROT_L3NET,))),
        )
    )


def _route(way: EgressWay, index: int, mtu: int) -> bytes:
    """The sender of what is too long for the MTU hears so, as with a link's (ip_forward, ip6_forward)."""
    family, table = _place(way)
    return b"".join(
        (
            _ROUTE.pack(family, 0, 0, 0, 0, RTPROT_L3NET, 0, RTN_UNICAST, RTNH_F_ONLINK),
            links.u32(RTA_TABLE, table),
            attribute(RTA_GATEWAY, way.gateway.packed),
            links.u32(RTA_OIF, index),
            links.nested(RTA_METRICS, links.u32(RTAX_MTU, mtu)),
        )
    )


def _rule_held(body: bytes) -> _Held:
    family, to, source, tos, _, _, _, action, flags = _RULE.unpack_from(body)
    fields = {
        kind: bytes(value)
        for kind, value in attributes(memoryview(body)[_RULE.size :])
        # What a later kernel says more is not what a rule of ours can differ in.
        if kind <= FRA_DPORT_RANGE and (kind, bytes(value)) != (FRA_SUPPRESS_PREFIXLEN, b"\xff" * 4)
    }
    table = _U32.unpack(fields.get(FRA_TABLE, bytes(4)))[0]
    said = (family, to, source, tos, action, flags & FIB_RULE_INVERT, frozenset(fields.items()))
    return _Held((family, table), said, body)


def _route_held(body: bytes) -> _Held:
    family, length, source, tos, _, protocol, scope, kind, flags = _ROUTE.unpack_from(body)
    fields = {each: bytes(value) for each, value in attributes(memoryview(body)[_ROUTE.size :])}
    table = _U32.unpack(fields.get(RTA_TABLE, bytes(4)))[0]
    default = _METRICS.get(family, 0)
    metric = _U32.unpack(fields[RTA_PRIORITY])[0] if RTA_PRIORITY in fields else default
    key = (length, fields.get(RTA_DST), tos, metric)
    metrics = frozenset((each, bytes(value)) for each, value in attributes(fields.get(RTA_METRICS, b"")))
    hop = (fields.get(RTA_GATEWAY), fields.get(RTA_OIF), fields.get(RTA_MULTIPATH), fields.get(RTA_VIA))
    said = (*key, source, kind, flags & RTNH_F_ONLINK, *hop, fields.get(RTA_PREFSRC), metrics)
    # How the link is now (RTNH_F_DEAD, RTNH_F_LINKDOWN) is nothing to ask for.
    bare = _ROUTE.pack(family, length, source, tos, 0, protocol, scope, kind, flags & RTNH_F_ONLINK)
    return _Held((family, table), said, bare + body[_ROUTE.size :], key)


def _unled(way: EgressWay, device: str, code: int) -> KernelError:
    table = EGRESS_TABLES | way.mark >> 16
    if code == errno.EEXIST:
        why = f"table {table:#x} has another program's default route, which stays; delete it"
        return KernelError(f"egress: no way to {way.gateway}: {why}", code)
    return KernelError(f"egress: put the route via {way.gateway} dev {device}", code)
