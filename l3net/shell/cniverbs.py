"""The CNI verbs over the lease store and the kernel, for the agent and for the standalone plugin."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from l3net.cni import failure
from l3net.cni.check import problems
from l3net.cni.failure import CniError, error_object
from l3net.cni.frame import Answer, Call
from l3net.cni.plan import (
    BridgePort,
    SandboxPlan,
    alias_of,
    assigned,
    host_ifname,
    host_routes,
    interface_address,
    mac_for,
)
from l3net.cni.request import Request, parse_request
from l3net.cni.result import Interface, Result, decode_result, encode_result
from l3net.cni.setup import Setup, asked_addresses, asked_mac, pod_of, sticky_owner
from l3net.cni.versions import SUPPORTED, WHEN_ABSENT, version_object
from l3net.errors import KernelError, L3netError
from l3net.ipam.lease import (
    AddressUnavailableError,
    AlreadyLeasedError,
    ExhaustedError,
    Lease,
    LeaseKey,
    LeaseStore,
    LeaseStoreError,
    Wanted,
)
from l3net.shell.namespaces import check_sandbox
from l3net.shell.reaper import Reaper
from l3net.shell.sandbox import Sandboxes, Wired

log = logging.getLogger(__name__)

#: Seconds a call waits for another one of the same attachment.
KEY_WAIT: Final = 30.0


@dataclass(slots=True)
class KeyLocks:
    """One lock an attachment, so that a DEL that overtakes its ADD waits for it."""

    _held: dict[LeaseKey, tuple[threading.Lock, int]] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def hold(self, key: LeaseKey) -> Iterator[None]:
        with self._guard:
            lock, users = self._held.get(key, (threading.Lock(), 0))
            self._held[key] = (lock, users + 1)
        try:
            if not lock.acquire(timeout=KEY_WAIT):
                raise CniError(
                    failure.TRY_AGAIN_LATER, f"another call for {key.container_id} {key.ifname} is under way"
                )
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._guard:
                lock, users = self._held[key]
                if users == 1:
                    del self._held[key]
                else:
                    self._held[key] = (lock, users - 1)


def translated(error: BaseException) -> CniError:
    """Any failure as the error object the runtime gets; what nobody foresaw is logged with its traceback."""
    match error:
        case CniError():
            return error
        case AlreadyLeasedError():
            return CniError(failure.ALREADY_ATTACHED, str(error), "DEL the attachment first")
        case AddressUnavailableError():
            return CniError(failure.ADDRESS_UNAVAILABLE, str(error))
        case ExhaustedError():
            return CniError(failure.TRY_AGAIN_LATER, str(error))
        case LeaseStoreError():
            return CniError(failure.TRY_AGAIN_LATER if error.try_later else failure.IO_FAILURE, str(error))
        case KernelError():
            return CniError(failure.KERNEL_REFUSED, str(error))
        case L3netError():
            return CniError(failure.INTERNAL, str(error))
        case MemoryError() | OSError():
            return CniError(failure.TRY_AGAIN_LATER, f"{error.__class__.__name__}: {error}")
    log.error("unexpected failure of a CNI call", exc_info=error)
    return CniError(
        failure.INTERNAL, f"unexpected failure: {error.__class__.__name__}", "see the agent's log"
    )


def shape_version(stdin: bytes) -> str:
    """The version to answer a failed call in."""
    try:
        version = json.loads(stdin).get("cniVersion")
    except (ValueError, AttributeError, RecursionError):
        return WHEN_ABSENT
    return version if version in SUPPORTED else WHEN_ABSENT


def printed(value: object) -> bytes:
    return json.dumps(value, indent=None, separators=(",", ":")).encode() + b"\n"


class Verbs:
    """Carries out calls. Thread-safe; `sandboxes` gives each thread its own sockets.

    `setup` decides what a call's configuration comes to (the agent's node, or the configuration's own).
    """

    def __init__(
        self,
        leases: LeaseStore,
        sandboxes: Callable[[], Sandboxes],
        setup: Callable[[Request], Setup],
        reaper: Reaper | None = None,
    ) -> None:
        self._leases = leases
        self._sandboxes = sandboxes
        self._setup = setup
        self._reaper = reaper
        self._keys = KeyLocks()

    def answer(self, call: Call, netns: int | None) -> Answer:
        """Carry out a call. Never raises: a failure is an answer too. `netns` is CNI_NETNS, open."""
        version = WHEN_ABSENT
        try:
            if call.environment.get("CNI_COMMAND") == "VERSION":
                return Answer(0, printed(version_object(shape_version(call.stdin))))
            version = shape_version(call.stdin)
            request = parse_request(call.environment, call.stdin)
            found = self._carry_out(request, call, netns)
            return Answer(0, printed(found) if found is not None else b"")
        except Exception as err:
            failed = translated(err)
            log.warning(
                "%s %s %s: code %d: %s",
                call.environment.get("CNI_COMMAND", "?"),
                call.environment.get("CNI_CONTAINERID", "-")[:64],
                call.environment.get("CNI_IFNAME", "-")[:15],
                failed.code,
                failed,
            )
            return Answer(1, printed(error_object(failed, version)))

    def _carry_out(self, request: Request, call: Call, netns: int | None) -> dict[str, Any] | None:
        key = LeaseKey(request.network, request.container_id, request.ifname)
        match request.command:
            case "ADD":
                with self._keys.hold(key):
                    return encode_result(
                        self.add(request, key, self._sandbox(request, call, netns)), request.version
                    )
            case "DEL":
                with self._keys.hold(key):
                    self.delete(request, key)
            case "CHECK":
                with self._keys.hold(key):
                    self.check(request, key, self._sandbox(request, call, netns))
            case _:
                raise CniError(failure.BAD_ENVIRONMENT, f"{request.command} is not carried out yet")
        return None

    def _sandbox(self, request: Request, call: Call, netns: int | None) -> int:
        if netns is None:
            raise CniError(
                failure.INVALID_NETNS,
                f"cannot open network namespace {request.netns!r}",
                f"errno {call.netns_errno}" if call.netns_errno else "",
            )
        override = request.environment.get("CNI_NETNS_OVERRIDE", "").lower() in {"1", "true", "yes"}
        check_sandbox(netns, request.netns, self._sandboxes().home, own_allowed=override)
        return netns

    # --- ADD ---------------------------------------------------------------------------------------------

    def add(self, request: Request, key: LeaseKey, netns: int) -> Result:
        setup = self._setup(request)
        sandboxes = self._sandboxes()
        pod = pod_of(request)
        wanted = Wanted(
            key=key,
            sets=setup.sets,
            asked=asked_addresses(request),
            pod=pod,
            netns=request.netns,
            host_ifname=host_ifname(key),
            cool_down=setup.cool_down,
            sticky_owner=sticky_owner(pod) if setup.sticky else "",
        )
        mac = asked_mac(request)
        with ExitStack() as undo:
            lease = self._leases.assign(wanted)
            undo.callback(self._leases.release, key, sequence=lease.sequence)
            plan = plan_of(setup, lease, mac)
            wired = self._wire(sandboxes, plan, netns)
            undo.callback(sandboxes.unwire, plan.host_ifname)
            result = result_of(setup, plan, lease, wired, request, sandboxes)
            undo.pop_all()
        return result

    def _wire(self, sandboxes: Sandboxes, plan: SandboxPlan, netns: int) -> Wired:
        try:
            return sandboxes.wire(plan, netns)
        except CniError as err:
            # the name may belong to an attachment just deleted, whose link waits for its batch
            if err.code != failure.ALREADY_ATTACHED or self._reaper is None:
                raise
            self._reaper.flush()
            return sandboxes.wire(plan, netns)

    # --- DEL ---------------------------------------------------------------------------------------------

    def delete(self, request: Request, key: LeaseKey) -> None:
        """Idempotent. The port is stopped before the address is free for others."""
        del request
        self.remove(key)

    def remove(self, key: LeaseKey) -> Lease | None:
        """Take an attachment's link and lease away, whatever of them is there."""
        sandboxes, name = self._sandboxes(), host_ifname(key)
        if self._reaper is not None:
            self._reaper.doom(sandboxes.host, name)
        else:
            sandboxes.unwire(name)
        return self._leases.release(key)

    # --- CHECK -------------------------------------------------------------------------------------------

    def check(self, request: Request, key: LeaseKey, netns: int) -> None:
        """Nothing to say when all is as ADD left it. Raises CniError 102 with everything that is not."""
        if request.previous is None:
            raise CniError(
                failure.INVALID_CONFIG, "CHECK needs prevResult", "the runtime must pass ADD's result"
            )
        previous = decode_result(request.previous)
        lease = self._leases.find(key)
        if lease is None:
            raise CniError(failure.UNKNOWN_CONTAINER, f"no lease for {key.container_id} {key.ifname}")
        plan = plan_of(self._setup(request), lease, "")
        sandboxes = self._sandboxes()
        found = problems(
            plan, previous, sandboxes.look_port(plan.host_ifname), sandboxes.look(netns, key.ifname)
        )
        if found:
            raise CniError(failure.NOT_AS_ADDED, "; ".join(found))


def plan_of(setup: Setup, lease: Lease, mac: str) -> SandboxPlan:
    """The sandbox a lease leads to under a setup."""
    routes = (host_routes(lease.addresses) if setup.host_routes else ()) + setup.routes
    return SandboxPlan(
        key=lease.key,
        host_ifname=host_ifname(lease.key),
        mac=mac or mac_for(leased.address for leased in lease.addresses),
        mtu=setup.mtu,
        addresses=tuple(interface_address(leased) for leased in lease.addresses),
        routes=routes,
        port=BridgePort(setup.bridge, setup.isolated, setup.hairpin),
        alias=alias_of(lease),
        enabled=setup.enabled,
    )


def result_of(
    setup: Setup, plan: SandboxPlan, lease: Lease, wired: Wired, request: Request, sandboxes: Sandboxes
) -> Result:
    bridge = sandboxes.bridge_link(setup.bridge)
    return Result(
        interfaces=(
            Interface(bridge.name, bridge.mac, mtu=bridge.mtu),
            Interface(plan.host_ifname, wired.host.mac, mtu=wired.host.mtu),
            Interface(plan.key.ifname, wired.pod.mac, request.netns, wired.pod.mtu),
        ),
        addresses=assigned(lease, 2),
        routes=plan.routes,
        dns=setup.dns,
    )
