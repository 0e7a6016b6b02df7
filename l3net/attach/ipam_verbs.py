"""The CNI verbs of the IPAM plugin: addresses for another plugin's interface, nothing in the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from l3net.attach.addressing import ensure_room, with_dns
from l3net.attach.appliers import ElementsApplier
from l3net.attach.applying import Applier
from l3net.attach.verbs import Verbs
from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.cni.frame import Call
from l3net.cni.host_end import assigned
from l3net.cni.request import Request
from l3net.cni.result import Result, decode_result
from l3net.cni.setup import wanted_addresses
from l3net.ipam.lease import LeaseKey

if TYPE_CHECKING:
    from l3net.cni.present import HostEnd


class IpamVerbs(Verbs):
    """Leases without a link: the audit leaves them to DEL and GC."""

    def _sandbox(self, request: Request, call: Call, netns: int | None) -> int:
        del request, call, netns
        return -1  # the main plugin's business

    def add(self, request: Request, key: LeaseKey, netns: int) -> tuple[Result, tuple[int, int]]:
        """An IPAM result: no interfaces, no index. Raises L3netError."""
        del netns
        setup = with_dns(self._setup(request))
        lease = self._store(setup).assign(wanted_addresses(request, setup, key))
        return Result((), assigned(lease, None), setup.routes, setup.dns), (lease.sequence, 0)

    def check(self, request: Request, key: LeaseKey, netns: int) -> None:
        """The lease is there, and holds what prevResult says of it. Raises CniError."""
        del netns
        if request.previous is None:
            raise CniError(failure.INVALID_CONFIG, "CHECK needs prevResult")
        lease = self._store(self._setup(request)).find(key)
        if lease is None:
            raise CniError(failure.UNKNOWN_CONTAINER, f"no lease for {key.container_id} {key.ifname}")
        listed = {entry.address.ip for entry in decode_result(request.previous).addresses}
        if not listed.intersection(leased.address for leased in lease.addresses):
            raise CniError(
                failure.NOT_AS_ADDED, f"prevResult has no address leased to {key.container_id} {key.ifname}"
            )

    def status(self, request: Request) -> None:
        """Whether an address is free. Raises CniError 50."""
        setup = self._available(request)
        ensure_room(request, setup, self._store)

    def appliers(self) -> Sequence[Applier]:
        """The link is the main plugin's."""
        return (ElementsApplier(self._rules),)

    def _host_ends(self) -> tuple[HostEnd, ...]:
        return ()
