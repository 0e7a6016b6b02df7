"""The CNI verbs over the lease store and the kernel, for the agent and for the standalone plugin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from l3net.attach import delegate
from l3net.attach import rules as cnirules
from l3net.attach.addressing import delegated, delegated_before, ensure_room, leased, with_dns
from l3net.attach.answer import error_version, printed, shape_version, translated
from l3net.attach.appliers import appliers
from l3net.attach.applying import Applier, Appliers, Place
from l3net.attach.keylocks import KeyLocks
from l3net.attach.rules import Rules
from l3net.attach.timing import ADDRESSES, ALL, CONFIGURATION
from l3net.attach.undoing import Undoing
from l3net.cni import failure
from l3net.cni.bridgeconf import store_of
from l3net.cni.failure import CniError, error_object
from l3net.cni.frame import Answer, Call
from l3net.cni.ifname import host_ifname
from l3net.cni.parts import Held, facts_of
from l3net.cni.plan import plan, result_of
from l3net.cni.request import Request, parse_request, valid_attachments
from l3net.cni.result import Result, decode_result, encode_result, merged
from l3net.cni.setup import Setup, asked_mac
from l3net.cni.versions import version_object
from l3net.errors import KernelError, L3netError
from l3net.faults import Faults
from l3net.ipam.lease import Lease, LeaseKey, LeaseStore
from l3net.late import logger
from l3net.model import Address
from l3net.shell.kernel import links
from l3net.shell.kernel.sandbox import Sandboxes
from l3net.shell.threads import REAL, Threads

if TYPE_CHECKING:  # a plugin begins with this, for each pod where no agent runs
    from l3net.attach.guard import Guard
    from l3net.attach.reaper import Reaper
    from l3net.attach.removal import Removal
    from l3net.cni.present import HostEnd
    from l3net.metering.histogram import Histogram
    from l3net.ports import Admission
    from l3net.shell.kernel.conntrack import Flush

log = logger(__name__)


class Verbs:
    """Carries out calls. Thread-safe; `sandboxes` gives each thread its own sockets.

    `setup` decides what a call's configuration comes to, `store` where its leases are. With a `reaper` links
    are deleted in batches and with a `flush` connections are forgotten in the background; without, at once.
    `admission` is asked before a pod is wired. With a `guard` pods of the node's blocks send from their own
    addresses alone.
    """

    def __init__(
        self,
        store: Callable[[Setup], LeaseStore],
        sandboxes: Callable[[], Sandboxes],
        setup: Callable[[Request], Setup],
        reaper: Reaper | Removal | None = None,
        flush: Flush | None = None,
        faults: Faults | None = None,
        admission: Callable[[], Admission | None] = lambda: None,
        guard: Guard | None = None,
        rules: Rules = cnirules,
        threads: Threads = REAL,
    ) -> None:
        self._rules = rules
        self._admission = admission
        self._store = store
        self._sandboxes = sandboxes
        self._setup = setup
        self._reaper = reaper
        self._flush = flush
        self._faults = faults or Faults()
        self._guard = guard
        self._keys = KeyLocks(threads)
        self._appliers = Appliers(self.appliers(), threads.monotonic)

    @property
    def timings(self) -> Mapping[str, Histogram]:
        """How long the phases of ADD took."""
        return self._appliers.timings.found()

    def appliers(self) -> Sequence[Applier]:
        """Of the parts that these verbs make, in order."""
        return appliers(self._reaper, self._admission, self._guard, self._rules)

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
        key = request.key
        match request.command:
            case "ADD":
                with self._keys.hold(key):
                    if not awaited():
                        raise CniError(failure.TRY_AGAIN_LATER, "the caller is gone")
                    result, made = self.add(request, key, self._sandbox(request, call, netns))
                return Answer(
                    0, printed(encode_result(merged(request.previous, result), request.version)), made
                )
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
        self._sandboxes().check(netns, request.netns, own_allowed=override)
        return netns

    # --- ADD ---------------------------------------------------------------------------------------------

    def add(self, request: Request, key: LeaseKey, netns: int) -> tuple[Result, tuple[int, int]]:
        """Lease, decide the rest, make it; what was done is undone if a later step fails. Raises L3netError.

        Beside the result, what `abandon` knows the attachment by.
        """
        timed = self._appliers.timings.timed
        with timed(CONFIGURATION):
            setup = with_dns(self._setup(request))
        place, mac = Place(key, self._store(setup), self._sandboxes, netns), asked_mac(request)
        with timed(ALL), Undoing() as undoing:
            with timed(ADDRESSES):
                lease, given = self._addresses(request, setup, place, undoing)
            wanted = plan(self._appliers.kinds, facts_of(setup, request, lease, mac, given))
            self._appliers.apply(wanted.parts, place, undoing)
            bridge, host, pod = place.ends(setup.bridge)
            result = result_of(wanted, request.netns, _shown(bridge), _shown(host), _shown(pod))
        return result, (lease.sequence, host.index)

    def _addresses(
        self, request: Request, setup: Setup, place: Place, undoing: Undoing
    ) -> tuple[Lease, Result | None]:
        """The lease, durable before anything is wired, or what the delegate gave."""
        key = place.key
        if not setup.delegate:
            return leased(request, setup, place.store, key, undoing), None
        if self._reaper is not None:
            self._reaper.flush()
        if place.sandboxes().look_port(host_ifname(key)) is not None:
            raise CniError(failure.ALREADY_ATTACHED, f"{key.container_id} {key.ifname} is attached already")
        return delegated(request, setup, key, undoing)

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
            return Setup(bridge="", store=store_of(request.conf))

    def remove(
        self, store: LeaseStore, key: LeaseKey, *, sequence: int | None = None, event: str = "release"
    ) -> Lease | None:
        """Take an attachment's link, rules and lease away, whatever of them is there.

        The port is stopped before its address is free for others. Raises L3netError.
        """
        current, record = store.find_all(key)
        if sequence is not None and (current is None or current.sequence != sequence):
            return None  # a newer attachment's by now
        place = Place(key, store, self._sandboxes, later=True)
        self._appliers.remove(Held(key, current, record), place)
        lease = store.release(key, sequence=sequence, event=event)
        if lease is not None:
            addresses = [leased.address for leased in lease.addresses]
            if self._flush is not None:
                self._flush.add(addresses)
            else:
                _forget_now(addresses)
        return lease

    # --- CHECK -------------------------------------------------------------------------------------------

    def check(self, request: Request, key: LeaseKey, netns: int) -> None:
        """Nothing to say when all is as ADD left it. Raises CniError 102 with everything that is not."""
        if request.previous is None:
            raise CniError(
                failure.INVALID_CONFIG, "CHECK needs prevResult", "the runtime must pass ADD's result"
            )
        previous = decode_result(request.previous)
        setup = self._setup(request)
        place = Place(key, self._store(setup), self._sandboxes, netns)
        given: Result | None = None
        lease: Lease | None = Lease(key, 0, ())
        if setup.delegate:
            delegate.execute(setup.delegate, request)
            given, lease = previous, delegated_before(previous, key)
        elif setup.sets:
            lease = place.store.find(key)
        if lease is None:
            raise CniError(failure.UNKNOWN_CONTAINER, f"no lease for {key.container_id} {key.ifname}")
        record = place.store.find_record(key) or ""
        facts = facts_of(setup, request, lease, given=given, record=record)
        found = self._appliers.missing(plan(self._appliers.kinds, facts).parts, place, previous)
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
        ensure_room(request, setup, self._store)

    def _available(self, request: Request) -> Setup:
        try:
            return self._setup(request)
        except CniError as err:
            if err.code == failure.TRY_AGAIN_LATER:
                raise CniError(failure.NOT_AVAILABLE, err.message, err.details) from None
            raise

    # --- GC ----------------------------------------------------------------------------------------------

    def collect(self, request: Request) -> None:
        """Free everything of this network that is not listed; goes on past failures and raises the first."""
        from l3net.attach.there import present  # noqa: PLC0415

        valid = valid_attachments(request.conf)
        if valid is None:
            return
        setup = self._lenient_setup(request)
        store = self._store(setup)
        there = present(self._host_ends(), store, request.network)
        leases = {lease.key: lease.sequence for lease in there.leases}
        failed: list[Exception] = []
        for key in sorted(there.attachments(request.network)):
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

    def _host_ends(self) -> tuple[HostEnd, ...]:
        """Those whose aliases may tell of attachments whose lease is gone."""
        from l3net.attach.there import host_ends  # noqa: PLC0415

        return host_ends(self._sandboxes().host)

    def abandon(self, call: Call, answer: Answer) -> None:
        """Undo an ADD whose answer nobody took, unless another has taken its place. Never raises."""
        try:
            request = parse_request(call.environment, call.stdin)
            if request.command != "ADD":
                return
            key = request.key
            with self._keys.hold(key):
                if self._still(request, key, answer.made):
                    self.delete(request, key)
        except Exception as err:
            log.warning("undo of an abandoned ADD: %s", translated(err))

    def _still(self, request: Request, key: LeaseKey, made: tuple[int, int]) -> bool:
        """Whether an attachment is the very one that was made, or what is left of it: a DEL of another
        process may have overtaken the ADD, when there was a lease and no link yet."""
        sequence, index = made
        lease = self._store(self._lenient_setup(request)).find(key) if sequence else None
        if lease is not None:
            return lease.sequence == sequence
        link = links.get_link(self._sandboxes().host, host_ifname(key))
        return link is not None and link.index == index


def _shown(link: links.KernelLink) -> tuple[str, str, int]:
    return link.name, link.mac, link.mtu


def _forget_now(addresses: list[Address]) -> None:
    from l3net.shell.kernel.conntrack import forget  # noqa: PLC0415

    try:
        forget(addresses)
    except KernelError as err:  # no conntrack in this kernel: nothing to forget
        log.debug("%s", err)
