"""What the kernel tells of what others did, and what a pass has to look at for it."""

from __future__ import annotations

import logging

from l3net.agent.dirty import Dirty, Marks
from l3net.agent.kernel import KernelSide
from l3net.agent.servicing import Servicing
from l3net.agent.shells import Pods
from l3net.naming import ENVELOPE, VETH_PREFIX
from l3net.ports import GuardSeen, KernelNotice, LinkSeen, NoticesLost, OwnRouteSeen, RouteSeen, TableSeen

log = logging.getLogger("l3net.agent")


class Noticing:
    """Hears notices (ports.KernelNotices) and marks what they put in doubt."""

    def __init__(self, kernel: KernelSide, services: Servicing, pods: Pods, marks: Marks) -> None:
        self._kernel = kernel
        self._services = services
        self._pods = pods
        self._marks = marks

    def heard(self, notice: KernelNotice) -> None:
        """One notice."""
        kernel, mark = self._kernel, self._marks.mark
        match notice:
            case OwnRouteSeen(route, gone):
                key = (route.prefix, route.metric)
                mirror = kernel.mirror.get(key)
                # IPv6 tells of an ECMP route hop by hop: what counts is what a read says.
                if (mirror is not None and key in kernel.desired) if gone else mirror != route:
                    mark(Dirty.ROUTES)
            case LinkSeen(name):
                if name is None or not name.startswith(VETH_PREFIX):  # pods come and go: no reason to look
                    # A link that goes down takes its IPv4 routes along without a word.
                    mark(Dirty.UNDERLAY | Dirty.BRIDGE | Dirty.ROUTES)
                if name == ENVELOPE:
                    mark(Dirty.FIREWALL)
            case RouteSeen(theirs, gone):
                mark(Dirty.UNDERLAY)
                if theirs in kernel.mirror:
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
