"""The kernel's routes of ours: read back by protocol number, changed in netlink batches."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from l3net.delta import Delta
from l3net.errors import KernelError
from l3net.model import Route
from l3net.naming import RTPROT_L3NET
from l3net.shell.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Netlink, Request
from l3net.shell.kernel.routecodec import (
    RT_TABLE_MAIN,
    RTM_DELROUTE,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    RTMSG,
    RouteDecoder,
    RouteKey,
    encode_routes,
    family_of,
    hop_order,
    key_of,
    rival,
)

#: rt_protos of iproute2, the common ones.
PROTOCOLS: Final = {
    2: "kernel",
    3: "boot",
    4: "static",
    9: "ra",
    11: "zebra",
    12: "bird",
    16: "dhcp",
    186: "bgp",
    196: "static (FRR)",
}

_ADD: Final = NLM_F_CREATE | NLM_F_EXCL
_PUT: Final = NLM_F_CREATE | NLM_F_REPLACE


def _conflict(route: Route, protocol: int) -> KernelError:
    return KernelError(
        f"route {route.prefix} metric {route.metric} is somebody else's (protocol "
        f"{PROTOCOLS.get(protocol, protocol)}) and stays; ours is not set. Give theirs another metric",
        errno.EEXIST,
    )


def _refusal(route: Route, code: int, *, deleting: bool) -> KernelError:
    doing = "delete" if deleting else "put"
    hops = [
        f"via {hop.gateway} dev {hop.interface}" if hop.gateway else f"dev {hop.interface}"
        for hop in sorted(route.next_hops, key=hop_order)
    ]
    more = f" (and {len(hops) - 1} more next hops)" if len(hops) > 1 else ""
    where = f" {hops[0]}{more}" if hops and not deleting else ""
    return KernelError(f"{doing} route {route.prefix} metric {route.metric}{where}", code)


class KernelRoutes:
    """ports.RouteTable on the network namespace of the thread that made it."""

    def __init__(self) -> None:
        self._netlink = Netlink()
        self._held: dict[RouteKey, Route] = {}  # of ours, as read back or put

    @property
    def port(self) -> int:
        """Of its netlink socket: see KernelMonitor."""
        return self._netlink.port

    def read(self) -> dict[RouteKey, Route]:
        decoder = RouteDecoder({index: name for name, index in links().items()}, self._held)
        found: dict[RouteKey, Route] = {}
        others: set[RouteKey] = set()
        for family in (socket.AF_INET, socket.AF_INET6):
            header = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            for _kind, body in self._netlink.dump(Request(RTM_GETROUTE, 0, header)):
                if body[5] != RTPROT_L3NET:
                    theirs = rival(body)
                    if theirs is not None:
                        others.add(theirs)
                    continue
                decoded = decoder.decode(body)
                if decoded is None or decoded[0] != RT_TABLE_MAIN:
                    continue
                route = decoded[2]
                key = (route.prefix, route.metric)
                before = found.get(key)
                if (
                    before is not None
                ):  # IPv6 lists each next hop of a route added apart as a route of its own
                    route = replace(route, next_hops=before.next_hops | route.next_hops)
                found[key] = route
        self._held = dict(found)
        for key in others:  # IPv4 may list theirs before ours: theirs would be replaced
            self._held.pop(key, None)
        return found

    def apply(self, delta: Delta[RouteKey, Route]) -> dict[RouteKey, KernelError]:
        """`prepare`, and carry it out."""
        return self.prepare(delta)()

    def prepare(self, delta: Delta[RouteKey, Route]) -> Callable[[], dict[RouteKey, KernelError]]:
        """Puts first, in the order given, then deletes (fib.order says why); a put replaces in place, so that
        no moment is without a route.

        Only a route of ours is replaced: NLM_F_REPLACE looks at prefix and metric alone, and would take
        somebody else's, who then loses it when ours goes.
        """
        known = links()
        failed: dict[RouteKey, KernelError] = {}
        put, bodies = encode_routes(delta.put, known, failed)
        held = self._held
        flags = [_PUT if key in held else _ADD for key in put] if held else [_ADD] * len(put)
        puts = self._netlink.pack_alike(RTM_NEWROUTE, flags, bodies)
        gone, bare = encode_routes(delta.delete, known, failed, bare=True) if delta.delete else ([], [])
        deletes = self._netlink.pack_alike(RTM_DELROUTE, [0] * len(gone), bare)

        def carry_out() -> dict[RouteKey, KernelError]:
            refused = self._netlink.transact_packed(puts)
            if not failed and not refused:
                held.update(delta.put)
            else:
                self._take(delta.put, put, bodies, flags, refused, failed)
            self._deleted(gone, delta.delete, self._netlink.transact_packed(deletes), failed)
            return failed

        return carry_out

    def _take(
        self,
        wanted: Mapping[RouteKey, Route],
        put: Sequence[RouteKey],
        bodies: Sequence[bytes],
        flags: Sequence[int],
        refused: Mapping[int, int],
        failed: dict[RouteKey, KernelError],
    ) -> None:
        """Of what was put, some was refused. Where a route has the prefix and metric that is not known as
        ours, it is put in its place if it is ours nonetheless, or has gone meanwhile."""
        taken = []
        for place, key in enumerate(put):
            code = refused.get(place, 0)
            if not code:
                self._held[key] = wanted[key]
            elif code == errno.EEXIST and flags[place] & NLM_F_EXCL:
                taken.append(place)
            else:
                self._fail(key, wanted[key], code, failed)
        if not taken:
            return
        holders = self._holders({put[place] for place in taken})
        again = []
        for place in taken:
            holder = holders.get(put[place], RTPROT_L3NET)
            if holder == RTPROT_L3NET:
                again.append(place)
            else:
                failed[put[place]] = _conflict(wanted[put[place]], holder)
        codes = self._netlink.transact_alike(RTM_NEWROUTE, [_PUT] * len(again), [bodies[at] for at in again])
        for count, place in enumerate(again):
            key = put[place]
            if count in codes:
                self._fail(key, wanted[key], codes[count], failed)
            else:
                self._held[key] = wanted[key]

    def _fail(self, key: RouteKey, route: Route, code: int, failed: dict[RouteKey, KernelError]) -> None:
        failed[key] = _refusal(route, code, deleting=False)
        if len(route.next_hops) > 1:  # the kernel may hold some of the next hops
            self._held.pop(key, None)

    def _deleted(
        self,
        keys: Iterable[RouteKey],
        gone: Mapping[RouteKey, Route],
        refused: Mapping[int, int],
        failed: dict[RouteKey, KernelError],
    ) -> None:
        for place, key in enumerate(keys):
            code = refused.get(place, 0)
            if code and code not in (errno.ESRCH, errno.ENOENT):
                failed[key] = _refusal(gone[key], code, deleting=True)
            else:
                self._held.pop(key, None)

    def _holders(self, keys: set[RouteKey]) -> dict[RouteKey, int]:
        """Whose routes these are, by protocol number; somebody else's counts where there are several."""
        found: dict[RouteKey, int] = {}
        for family in {family_of(prefix) for prefix, _ in keys}:
            header = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            for _kind, body in self._netlink.dump(Request(RTM_GETROUTE, 0, header)):
                table, protocol, key = key_of(body)
                if table == RT_TABLE_MAIN and key in keys and found.get(key, RTPROT_L3NET) == RTPROT_L3NET:
                    found[key] = protocol
        return found

    def close(self) -> None:
        self._netlink.close()


def links() -> dict[str, int]:
    """Interface indexes by name, in this thread's namespace."""
    return {name: index for index, name in socket.if_nameindex()}
