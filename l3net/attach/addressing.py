"""Addresses for an attachment: leased of a store, or asked of another plugin; and whether there are any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from l3net.attach import delegate
from l3net.attach.undoing import Undoing
from l3net.cni import failure
from l3net.cni.bridgeconf import parse_resolv_conf
from l3net.cni.failure import CniError
from l3net.cni.ifname import host_ifname
from l3net.cni.request import Request
from l3net.cni.result import Result
from l3net.cni.setup import Setup, pod_of, wanted_addresses
from l3net.ipam.lease import Lease, LeasedAddress, LeaseKey, LeaseStore, LeaseStoreError


def leased(request: Request, setup: Setup, store: LeaseStore, key: LeaseKey, undoing: Undoing) -> Lease:
    """A lease, on the disk when this returns; without ranges, one that holds nothing. Raises L3netError."""
    name = host_ifname(key)
    if not setup.sets:
        return Lease(key, 0, (), pod_of(request), request.netns, name)
    lease = store.assign(wanted_addresses(request, setup, key, name))
    undoing.did("lease", lambda: store.release(key, sequence=lease.sequence, event="undo", used=False))
    return lease


def delegated(request: Request, setup: Setup, key: LeaseKey, undoing: Undoing) -> tuple[Lease, Result]:
    """What the plugin named in the configuration gives, as a lease and as it said it. Raises CniError."""
    given = delegate.delegated_addresses(setup.delegate, request)
    undoing.did(f"ADD of {setup.delegate}", lambda: delegate.release(setup.delegate, request))
    return Lease(key, 0, _of(given), pod_of(request), request.netns, host_ifname(key)), given


def delegated_before(previous: Result, key: LeaseKey) -> Lease:
    """What a plugin gave, as the result of ADD tells: for CHECK."""
    return Lease(key, 0, _of(previous, key.ifname))


def _of(result: Result, ifname: str = "") -> tuple[LeasedAddress, ...]:
    """The addresses of a result: all, or those of one interface and of none."""
    return tuple(
        LeasedAddress(entry.address.ip, entry.address.network.prefixlen, entry.gateway)
        for entry in result.addresses
        if not ifname or entry.interface is None or result.interfaces[entry.interface].name == ifname
    )


def with_dns(setup: Setup) -> Setup:
    """With the dns of the file that `ipam.resolvConf` names. Raises CniError 7."""
    if not setup.resolv_conf:
        return setup
    from pathlib import Path  # noqa: PLC0415 - the plugin begins with this module

    try:
        found = parse_resolv_conf(Path(setup.resolv_conf).read_text())
    except OSError as err:
        raise CniError(failure.INVALID_CONFIG, f"ipam.resolvConf: {setup.resolv_conf}: {err}") from None
    return replace(setup, dns=found or setup.dns)


def ensure_room(request: Request, setup: Setup, store_of: Callable[[Setup], LeaseStore]) -> None:
    """Raises CniError 50 where the store takes nothing, or (of ranges that are not the node's) is full."""
    if not setup.sets:
        return
    store = store_of(setup)
    try:
        store.probe()
    except LeaseStoreError as err:
        raise CniError(failure.NOT_AVAILABLE, str(err)) from None
    for each in () if setup.exclusive else setup.sets:
        usage = store.usage(request.network, (each,))
        if usage.leased + usage.cooling >= each.size:
            raise CniError(
                failure.NOT_AVAILABLE,
                f"no address free in {each}: {usage.leased} leased, {usage.cooling} in cool-down",
            )
