"""The CNI verbs over the lease store and the kernel, for the agent and for the standalone plugin."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from l3net.attach import delegate
from l3net.attach import rules as cnirules
from l3net.attach.answer import error_version, printed, shape_version, translated
from l3net.attach.keylocks import KeyLocks
from l3net.attach.reaper import Reaper
from l3net.cni import failure
from l3net.cni.attach import Attachment, attachment, result_of
from l3net.cni.bridgeconf import parse_resolv_conf
from l3net.cni.check import problems
from l3net.cni.extras import Extras
from l3net.cni.failure import CniError, error_object
from l3net.cni.frame import Answer, Call
from l3net.cni.plan import ALIAS_PREFIX, host_ifname, lease_of_alias
from l3net.cni.request import Request, parse_request
from l3net.cni.result import Result, decode_result, encode_result
from l3net.cni.setup import Setup, asked_addresses, asked_mac, pod_of, sticky_owner
from l3net.cni.versions import version_object
from l3net.errors import KernelError, L3netError
from l3net.faults import Faults
from l3net.ipam.lease import Lease, LeasedAddress, LeaseKey, LeaseStore, LeaseStoreError, Wanted
from l3net.model import BridgePlan
from l3net.naming import BRIDGE, VETH_PREFIX
from l3net.shell.kernel import links
from l3net.shell.kernel.bridge import KernelBridge
from l3net.shell.kernel.conntrack import ConntrackFlush, forget
from l3net.shell.kernel.namespaces import check_sandbox
from l3net.shell.kernel.sandbox import Sandboxes, Wired

log = logging.getLogger(__name__)


class Verbs:
    """Carries out calls. Thread-safe; `sandboxes` gives each thread its own sockets.

    `setup` decides what a call's configuration comes to, `store` where its leases are. With a `reaper` links
    are deleted in batches and with a `flush` connections are forgotten in the background; without, at once.
    """

    def __init__(
        self,
        store: Callable[[Setup], LeaseStore],
        sandboxes: Callable[[], Sandboxes],
        setup: Callable[[Request], Setup],
        reaper: Reaper | None = None,
        flush: ConntrackFlush | None = None,
        faults: Faults | None = None,
    ) -> None:
        self._store = store
        self._sandboxes = sandboxes
        self._setup = setup
        self._reaper = reaper
        self._flush = flush
        self._faults = faults or Faults()
        self._keys = KeyLocks()

    def answer(self, call: Call, netns: int | None, awaited: Callable[[], bool] = lambda: True) -> Answer:
        """Carry out a call. Never raises: a failure is an answer too. `netns` is CNI_NETNS, open.

        `awaited` tells whether the caller still waits: an ADD of one that died meanwhile is not begun,
        for its DEL may have been carried out already.
        """
        try:
            if call.environment.get("CNI_COMMAND") == "VERSION":
                return Answer(0, printed(version_object(shape_version(call.stdin))))
            request = parse_request(call.environment, call.stdin)
            return self._carry_out(request, call, netns, awaited)
        except Exception as err:
            failed = translated(err)
            if failed.code == failure.INTERNAL:
                self._faults.note("CNI call", err, lasting=False)
            log.warning(
                "%s %s %s: code %d: %s",
                call.environment.get("CNI_COMMAND", "?")[:8],
                call.environment.get("CNI_CONTAINERID", "-")[:64],
                call.environment.get("CNI_IFNAME", "-")[:15],
                failed.code,
                failed,
            )
            return Answer(1, printed(error_object(failed, error_version(call.stdin))))

    def _carry_out(
        self, request: Request, call: Call, netns: int | None, awaited: Callable[[], bool]
    ) -> Answer:
        key = key_of(request)
        match request.command:
            case "ADD":
                with self._keys.hold(key):
                    if not awaited():
                        raise CniError(failure.TRY_AGAIN_LATER, "the caller is gone")
                    result, made = self.add(request, key, self._sandbox(request, call, netns))
                return Answer(0, printed(encode_result(merged(request, result), request.version)), made)
            case "DEL":
                with self._keys.hold(key):
                    self.delete(request, key)
            case "CHECK":
                with self._keys.hold(key):
                    self.check(request, key, self._sandbox(request, call, netns))
            case "STATUS":
                self.status(request)
            case "GC":
                self.collect(request)
        return Answer(0)

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

    def add(self, request: Request, key: LeaseKey, netns: int) -> tuple[Result, tuple[int, int]]:
        """Lease, wire, publish; what was done is undone if a later step fails. Raises L3netError.

        Beside the result, what `abandon` knows the attachment by.
        """
        setup = self._with_dns(self._setup(request))
        store, sandboxes, mac = self._store(setup), self._sandboxes(), asked_mac(request)
        with ExitStack() as undo:
            lease, routes = self._addresses(request, setup, store, key, undo)
            wanted = attachment(setup, request, lease, mac, routes)
            if setup.manage_bridge:
                self._make_bridge(setup, lease)
            if wanted.plan.port.pinned:
                addresses = [each.ip for each in wanted.plan.addresses]
                undo.callback(sandboxes.unpin, setup.bridge, addresses)
            wired = self._wire(sandboxes, wanted, netns)
            undo.callback(sandboxes.unwire, wanted.plan.host_ifname)
            if wanted.extras:
                self._put_extras(store, key, wanted.extras, undo)
            result = result_of(
                wanted,
                request.netns,
                *((link.name, link.mac, link.mtu) for link in self._ends(sandboxes, setup, wired)),
            )
            undo.pop_all()
        return result, (lease.sequence, wired.host.index)

    def _addresses(
        self, request: Request, setup: Setup, store: LeaseStore, key: LeaseKey, undo: ExitStack
    ) -> tuple[Lease, Result | None]:
        """The lease, durable before anything is wired, or what the delegate gave."""
        pod = pod_of(request)
        if setup.delegate:
            if self._reaper is not None:
                self._reaper.flush()
            if self._sandboxes().look_port(host_ifname(key)) is not None:
                raise CniError(
                    failure.ALREADY_ATTACHED, f"{key.container_id} {key.ifname} is attached already"
                )
            given = delegate.delegated_addresses(setup.delegate, request)
            undo.callback(delegate.release, setup.delegate, request)
            addresses = tuple(
                LeasedAddress(entry.address.ip, entry.address.network.prefixlen, entry.gateway)
                for entry in given.addresses
            )
            return Lease(key, 0, addresses, pod, request.netns, host_ifname(key)), given
        if not setup.sets:
            return Lease(key, 0, (), pod, request.netns, host_ifname(key)), None
        wanted = Wanted(
            key=key,
            sets=setup.sets,
            asked=asked_addresses(request),
            pod=pod,
            netns=request.netns,
            host_ifname=host_ifname(key),
            cool_down=setup.cool_down,
            sticky_owner=sticky_owner(pod) if setup.sticky else "",
            exclusive=setup.exclusive,
        )
        lease = store.assign(wanted)
        undo.callback(store.release, key, sequence=lease.sequence, event="undo", used=False)
        return lease, None

    def _wire(self, sandboxes: Sandboxes, wanted: Attachment, netns: int) -> Wired:
        try:
            return sandboxes.wire(wanted.plan, netns)
        except CniError as err:
            # the name may belong to an attachment just deleted, whose link waits for its batch
            if err.code != failure.ALREADY_ATTACHED or self._reaper is None:
                raise
            self._reaper.flush()
            return sandboxes.wire(wanted.plan, netns)

    @staticmethod
    def _put_extras(store: LeaseStore, key: LeaseKey, extras: Extras, undo: ExitStack) -> None:
        store.keep_record(key, extras.encode())
        undo.callback(store.drop_record, key)
        cnirules.put(extras)
        undo.callback(cnirules.delete, extras)

    @staticmethod
    def _make_bridge(setup: Setup, lease: Lease) -> None:
        gateways = frozenset(
            (leased.gateway, leased.prefix_length) for leased in lease.addresses if leased.gateway is not None
        )
        plan = BridgePlan(setup.bridge, "", setup.mtu, gateways if setup.is_gateway else frozenset())
        bridge = KernelBridge()
        try:
            bridge.ensure(plan, force_address=setup.force_address, promiscuous=setup.promiscuous)
        finally:
            bridge.close()

    @staticmethod
    def _ends(sandboxes: Sandboxes, setup: Setup, wired: Wired) -> tuple[links.Link, links.Link, links.Link]:
        return sandboxes.bridge_link(setup.bridge), wired.host, wired.pod

    @staticmethod
    def _with_dns(setup: Setup) -> Setup:
        if not setup.resolv_conf:
            return setup
        try:
            found = parse_resolv_conf(Path(setup.resolv_conf).read_text())
        except OSError as err:
            raise CniError(failure.INVALID_CONFIG, f"ipam.resolvConf: {setup.resolv_conf}: {err}") from None
        return replace(setup, dns=found or setup.dns)

    # --- DEL ---------------------------------------------------------------------------------------------

    def delete(self, request: Request, key: LeaseKey) -> None:
        """Idempotent; needs no namespace, no prevResult and no valid ranges. Raises L3netError."""
        setup = self._lenient_setup(request)
        refused = delegate.release(setup.delegate, request) if setup.delegate else None
        self.remove(self._store(setup), key)
        if refused is not None:
            raise refused

    def _lenient_setup(self, request: Request) -> Setup:
        """The setup as far as it can be told: what is attached goes even if the configuration broke since."""
        try:
            return self._setup(request)
        except L3netError:
            return Setup(bridge="")

    def remove(
        self, store: LeaseStore, key: LeaseKey, *, sequence: int | None = None, event: str = "release"
    ) -> Lease | None:
        """Take an attachment's link, rules and lease away, whatever of them is there.

        The port is stopped before its address is free for others. Raises L3netError.
        """
        current = store.find(key)
        if sequence is not None and (current is None or current.sequence != sequence):
            return None  # a newer attachment's by now
        self._unwire(host_ifname(key))
        if current is not None:
            self._unpin(current)
        if record := store.find_record(key):
            cnirules.delete(Extras.decode(record))
            store.drop_record(key)
        lease = store.release(key, sequence=sequence, event=event)
        if lease is not None:
            addresses = [leased.address for leased in lease.addresses]
            if self._flush is not None:
                self._flush.add(addresses)
            else:
                self._forget_now(addresses)
        return lease

    @staticmethod
    def _forget_now(addresses: list[Any]) -> None:
        try:
            forget(addresses)
        except KernelError as err:  # no conntrack in this kernel: nothing to forget
            log.debug("%s", err)

    def _unwire(self, name: str) -> None:
        sandboxes = self._sandboxes()
        if self._reaper is not None:
            self._reaper.doom(sandboxes.host, name)
        else:
            sandboxes.unwire(name)

    def _unpin(self, lease: Lease) -> None:
        """Before the addresses are free for others, whose entries would be taken away."""
        full = [each.address for each in lease.addresses if each.prefix_length == each.address.max_prefixlen]
        if full and lease.host_ifname and lease.store:  # of the node's bridge
            self._sandboxes().unpin(BRIDGE, full)

    # --- CHECK -------------------------------------------------------------------------------------------

    def check(self, request: Request, key: LeaseKey, netns: int) -> None:
        """Nothing to say when all is as ADD left it. Raises CniError 102 with everything that is not."""
        if request.previous is None:
            raise CniError(
                failure.INVALID_CONFIG, "CHECK needs prevResult", "the runtime must pass ADD's result"
            )
        previous = decode_result(request.previous)
        setup = self._setup(request)
        store, sandboxes = self._store(setup), self._sandboxes()
        given: Result | None = None
        if setup.delegate:
            delegate.execute(setup.delegate, request)
            given = previous
            addresses = tuple(
                LeasedAddress(entry.address.ip, entry.address.network.prefixlen, entry.gateway)
                for entry in previous.addresses
                if entry.interface is None or previous.interfaces[entry.interface].name == key.ifname
            )
            lease: Lease | None = Lease(key, 0, addresses)
        else:
            lease = store.find(key) if setup.sets else Lease(key, 0, ())
        if lease is None:
            raise CniError(failure.UNKNOWN_CONTAINER, f"no lease for {key.container_id} {key.ifname}")
        wanted = attachment(setup, request, lease, "", given)
        name = wanted.plan.host_ifname
        found = problems(wanted.plan, previous, sandboxes.look_port(name), sandboxes.look(netns, key.ifname))
        if record := store.find_record(key):
            found += [f"rule {rule} is missing" for rule in cnirules.missing(Extras.decode(record))]
        if found:
            raise CniError(failure.NOT_AS_ADDED, "; ".join(found))

    # --- STATUS ------------------------------------------------------------------------------------------

    def status(self, request: Request) -> None:
        """Whether ADD would work now. Raises CniError 50, or 51 when running pods suffer too.

        That the node's blocks are full is no reason: a runtime makes of any failure that the network is not
        ready (containerd, CRI Status), of that kubelet makes a node that is not ready, and of that the
        controllers make running pods that no service leads to. ADD says so (11), and status and doctor do.
        """
        setup = self._available(request)
        if setup.delegate:
            delegate.forward(setup.delegate, request)
        if not setup.manage_bridge:
            bridge = links.get_link(self._sandboxes().host, setup.bridge)
            if bridge is None or not bridge.up:
                raise CniError(
                    failure.LIMITED_CONNECTIVITY,
                    f"bridge {setup.bridge} is missing or down",
                    "the agent mends it",
                )
        self._has_room(request, setup)

    def _available(self, request: Request) -> Setup:
        try:
            return self._setup(request)
        except CniError as err:
            if err.code == failure.TRY_AGAIN_LATER:
                raise CniError(failure.NOT_AVAILABLE, err.message, err.details) from None
            raise

    def _has_room(self, request: Request, setup: Setup) -> None:
        if not setup.sets:
            return
        store = self._store(setup)
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

    # --- GC ----------------------------------------------------------------------------------------------

    def collect(self, request: Request) -> None:
        """Free everything of this network that is not listed; goes on past failures and raises the first."""
        valid = valid_attachments(request.conf)
        if valid is None:
            return
        setup = self._lenient_setup(request)
        store = self._store(setup)
        leases = {lease.key: lease.sequence for lease in store.leases(request.network)}
        doomed = set(leases) | {key for key, _ in store.records(request.network)}
        doomed |= self._attached(request.network)
        failed: list[Exception] = []
        for key in sorted(doomed):
            if (key.container_id, key.ifname) in valid:
                continue
            try:
                with self._keys.hold(key, 1.0):
                    if key in leases or store.find(key) is None:
                        self.remove(store, key, sequence=leases.get(key), event="gc")
            except L3netError as err:
                failed.append(err)
        if setup.delegate:
            try:
                delegate.forward(setup.delegate, request)
            except L3netError as err:
                failed.append(err)
        if failed:
            raise failed[0]

    def _attached(self, network: str) -> set[LeaseKey]:
        """Attachments of a network as the host ends' aliases tell: also those whose lease is gone."""
        found = set()
        for link in links.all_links(self._sandboxes().host):
            if link.name.startswith(VETH_PREFIX) and link.alias.startswith(ALIAS_PREFIX):
                lease = lease_of_alias(link.alias, link.name)
                if lease is not None and lease.key.network == network:
                    found.add(lease.key)
        return found

    def abandon(self, call: Call, answer: Answer) -> None:
        """Undo an ADD whose answer nobody took, unless another has taken its place. Never raises."""
        try:
            request = parse_request(call.environment, call.stdin)
            if request.command != "ADD":
                return
            key = key_of(request)
            with self._keys.hold(key):
                if self._still(request, key, answer.made):
                    self.delete(request, key)
        except Exception as err:
            log.warning("undo of an abandoned ADD: %s", translated(err))

    def _still(self, request: Request, key: LeaseKey, made: tuple[int, int]) -> bool:
        """Whether an attachment is the very one that was made."""
        sequence, index = made
        if sequence:
            lease = self._store(self._lenient_setup(request)).find(key)
            return lease is not None and lease.sequence == sequence
        link = links.get_link(self._sandboxes().host, host_ifname(key))
        return link is not None and link.index == index


def key_of(request: Request) -> LeaseKey:
    return LeaseKey(request.network, request.container_id, request.ifname)


def valid_attachments(conf: Mapping[str, Any]) -> frozenset[tuple[str, str]] | None:
    """The attachments GC must keep; None if absent. libcni sends them under two names. Raises CniError 7."""
    found = conf.get("cni.dev/valid-attachments", conf.get("cni.dev/attachments"))
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
        raise CniError(failure.INVALID_CONFIG, "cni.dev/valid-attachments is not a list of objects")
    kept = set()
    for each in found:
        container, ifname = each.get("containerID"), each.get("ifname")
        if not isinstance(container, str) or not isinstance(ifname, str) or not container or not ifname:
            # one that cannot be read might be any: better to free nothing than a live address
            raise CniError(
                failure.INVALID_CONFIG, "cni.dev/valid-attachments: containerID or ifname is missing"
            )
        kept.add((container, ifname))
    return frozenset(kept)


def merged(request: Request, result: Result) -> Result:
    """Our result on top of an earlier plugin's in the chain, indices shifted."""
    if request.previous is None:
        return result
    earlier = decode_result(request.previous)
    shift = len(earlier.interfaces)
    ours = tuple(
        replace(entry, interface=entry.interface + shift if entry.interface is not None else None)
        for entry in result.addresses
    )
    return Result(
        earlier.interfaces + result.interfaces,
        earlier.addresses + ours,
        earlier.routes + result.routes,
        result.dns or earlier.dns,
    )
