"""What the kernel tells of what others did, and what a pass has to look at for it."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from l3net.agent.dirty import Dirty, Marks
from l3net.agent.kernel import KernelSide
from l3net.agent.servicing import Servicing
from l3net.agent.shells import Pods
from l3net.naming import ENVELOPE, VETH_PREFIX
from l3net.ports import (
    ForwardingOff,
    GuardSeen,
    KernelNotice,
    LinkSeen,
    NoticesLost,
    OwnRouteSeen,
    RouteSeen,
    TableSeen,
    WayGone,
)

log = logging.getLogger("l3net.agent")

#: Seconds that a pod's port may be down or off the bridge, as one is while it is made or deleted, before
#: somebody else is taken to have done that.
APART: Final = 0.25


class Noticing:
    """Hears notices (ports.KernelNotices) and marks what they put in doubt."""

    def __init__(self, kernel: KernelSide, services: Servicing, pods: Pods, marks: Marks) -> None:
        self._kernel = kernel
        self._services = services
        self._pods = pods
        self._marks = marks
        self._apart: set[str] = set()
        self._due: asyncio.TimerHandle | None = None

    def heard(self, notice: KernelNotice) -> None:
        """One notice."""
        kernel, mark = self._kernel, self._marks.mark
        match notice:
            case OwnRouteSeen(route, gone):
                key = (route.prefix, route.metric)
                mirror = kernel.mirror.get(key)
                # IPv6 tells of an ECMP route hop by hop: what counts is what a read says.
                held = mirror is not None and key in kernel.desired
                if kernel.changing or (held if gone else mirror != route):
                    mark(Dirty.ROUTES)
            case LinkSeen(name, apart):
                if name is not None and name.startswith(VETH_PREFIX):  # pods come and go: no reason to look
                    if apart is not None:
                        self._port(name, apart=apart)
                else:
                    # A link that goes down takes its IPv4 routes along without a word.
                    mark(Dirty.UNDERLAY | Dirty.BRIDGE | Dirty.ROUTES)
                if name == ENVELOPE:
                    mark(Dirty.FIREWALL)
            case WayGone():
                mark(Dirty.FIREWALL)
            case ForwardingOff():
                log.warning("another program turned forwarding off; it is on again")
                mark(Dirty.BRIDGE)
            case RouteSeen(theirs, gone):
                mark(Dirty.UNDERLAY)
                if theirs in kernel.mirror or (theirs is not None and kernel.changing):
                    # Theirs may have taken the place of ours, which is told of no other way; what is not
                    # known to be gone would be replaced, and theirs with it.
                    mark(Dirty.ROUTES)
                if theirs is not None and gone and kernel.refused.retry(theirs):
                    self._marks.wake()
            case TableSeen(generation):
                self._services.touched(generation)
                mark(Dirty.FIREWALL)
            case GuardSeen():
                self._pods.guard_touched()
            case NoticesLost():
                log.warning("kernel notifications were lost; reading everything again")
                self._services.touched(None)
                self._pods.guard_touched()
                mark(Dirty.ALL)

    def _port(self, name: str, *, apart: bool) -> None:
        """A pod's port has changed: one that stays apart is put back."""
        (self._apart.add if apart else self._apart.discard)(name)
        if self._apart and self._due is None:
            self._due = asyncio.get_running_loop().call_later(APART, self._look)

    def _look(self) -> None:
        self._due = None
        if self._apart:
            self._apart.clear()
            self._marks.mark(Dirty.BRIDGE)
