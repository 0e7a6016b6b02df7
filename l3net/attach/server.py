"""The agent's side of the CNI socket: accepts the thin client, carries out its calls on a few threads."""

from __future__ import annotations

import array
import contextlib
import errno
import logging
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from l3net.attach import rules as cnirules
from l3net.attach.adopting import Adoption
from l3net.attach.ipam_verbs import IpamVerbs
from l3net.attach.reaper import DOOMED_GROUP, Reaper
from l3net.attach.spool import Spool
from l3net.attach.verbs import Verbs
from l3net.cni import failure
from l3net.cni.adoption import of_store
from l3net.cni.bridgeconf import has_ranges, ipam_setup, own_setup
from l3net.cni.extras import Extras
from l3net.cni.failure import CniError
from l3net.cni.frame import (
    REQUEST_HEADER,
    Answer,
    Call,
    call_length,
    decode_call,
    encode_answer,
)
from l3net.cni.request import Request, parse_request
from l3net.cni.setup import NodeNetwork, Setup, node_ipam_setup, node_setup
from l3net.errors import L3netError, NotRunningError
from l3net.faults import Faults
from l3net.ipam.audit import Look, agreed, look
from l3net.ipam.lease import LeaseKey, Usage
from l3net.ipam.ranges import RangeSet, block_sets
from l3net.ipam.reserved import PoolMissingError
from l3net.model import Prefix
from l3net.naming import LEASE_DB, VETH_PREFIX
from l3net.shell.files.leases import SqliteLeases, boot_id
from l3net.shell.kernel import links
from l3net.shell.kernel.bridge import KernelBridge
from l3net.shell.kernel.conntrack import ConntrackFlush
from l3net.shell.kernel.namespaces import open_own, setns
from l3net.shell.kernel.netlink import Netlink
from l3net.shell.kernel.sandbox import Sandboxes

log = logging.getLogger(__name__)

WORKERS: Final = 8
#: Callers beyond the workers wait in the socket's backlog.
BACKLOG: Final = 512
#: Seconds a client may take to send its call or take its answer.
CLIENT_TIME: Final = 10.0
#: Seconds ADD waits for the agent's first pass.
FIRST_PASS_WAIT: Final = 5.0
#: Seconds between two looks of the audit; what both agree on is freed.
AUDIT_INTERVAL: Final = 60.0
#: Seconds between two looks into the spool while serving.
SPOOL_INTERVAL: Final = 2.0
#: Names of parts in the status.
SPOOL_PART: Final = "spooled deletions"
RULES_PART: Final = "host port rules"

_CREDENTIALS = struct.Struct("=iII")  # struct ucred, unix(7)


class CniServer:
    """Owns the lease store, the reaper and the threads. The thread that calls start() gives the namespace.

    `update` hands over what the agent knows; until the first one ADD waits a little, then answers 11.
    """

    def __init__(
        self,
        socket_path: Path,
        state_dir: Path,
        *,
        workers: int = WORKERS,
        first_pass_wait: float = FIRST_PASS_WAIT,
        audit_interval: float = AUDIT_INTERVAL,
    ) -> None:
        self._path = socket_path
        self._state_dir = state_dir
        self._workers = workers
        self._first_pass_wait = first_pass_wait
        self._audit_interval = audit_interval
        self._seen = Look()
        self._stopping = threading.Event()
        self._network: NodeNetwork | None = None
        self._known = threading.Event()
        self._local = threading.local()
        self.faults = Faults()
        self._spool = Spool(state_dir, self.faults)
        self._adoption: Adoption | None = None
        self._undo = contextlib.ExitStack()
        #: Called, from any thread, with the name of a pool that a pod needs and the node has no block of.
        self.on_missing: Callable[[str], None] = lambda _pool: None

    def start(self) -> None:
        """Open the store, free what a reboot left, listen. Raises LeaseStoreError, KernelError."""
        with contextlib.ExitStack() as undo:
            self._home = open_own()
            undo.callback(os.close, self._home)
            self.leases = SqliteLeases(self._state_dir / LEASE_DB, verify=True, named=True)
            undo.callback(self.leases.close)
            for lease in self.leases.release_other_boots():
                log.info("released %s: made before the last reboot", lease.key)
            self._reaper = Reaper(self._home, self.faults)
            self._reaper.start()
            undo.callback(self._reaper.stop)
            self._adopt()
            flush = ConntrackFlush(self._home, self.faults)
            flush.start()
            undo.callback(flush.stop)
            self.verbs = Verbs(
                lambda _: self.leases, self._sandboxes, self._setup, self._reaper, flush, self.faults
            )
            self.ipam = IpamVerbs(
                lambda _: self.leases, self._sandboxes, self._ipam_setup, None, flush, self.faults
            )
            self._bridge = KernelBridge()
            undo.callback(self._bridge.close)
            with self.faults.contained(SPOOL_PART):
                self.drain_spool()  # before any new call of the same attachments
            keeper = threading.Thread(
                target=self.faults.supervised,
                args=("upkeep of pods", self._keep, self._stopping),
                name="cni-keeper",
                daemon=True,
            )
            keeper.start()
            undo.callback(keeper.join, 10)
            undo.callback(self._stopping.set)
            self._listener = listen(self._path)
            threads = [
                threading.Thread(
                    target=self.faults.supervised,
                    args=("CNI socket", self._accept, self._stopping),
                    name=f"cni-{number}",
                    daemon=True,
                )
                for number in range(self._workers)
            ]
            for thread in threads:
                thread.start()
            undo.callback(self._close_listener, threads)
            self._undo = undo.pop_all()

    def stop(self) -> None:
        """Stop accepting, finish what is under way, close everything."""
        self._undo.close()

    def update(self, network: NodeNetwork) -> None:
        """Exchange what is known of the node, as a whole. In a thread of the namespace.

        What runs with an address of a new block is known before one of it is handed out.
        """
        new = _blocks(network) != (_blocks(self._network) if self._network is not None else ())
        if new:
            self._adopt(network)
        self._network = network
        self._known.set()

    def _adopt(self, network: NodeNetwork | None = None) -> None:
        if self._adoption is None:
            self._adoption = Adoption(self.leases)
        adoption, before = self._adoption, self._adoption.problem
        try:
            adoption.adopt(self._sandboxes().host, _blocks(network) if network is not None else ())
        except L3netError as err:
            adoption.problem = f"cannot tell which addresses running pods have: {err}"
        if adoption.problem and adoption.problem != before:
            log.error("%s", adoption.problem)

    def problems(self) -> list[str]:
        """What an operator has to know of the pods' side."""
        found = []
        if self._adoption is not None:
            found += [f"leases: {each}" for each in self._adoption.conflicts]
            if self._adoption.problem:
                found.append(f"leases: {self._adoption.problem}; no pod can be added")
            with self.faults.contained("asking the lease store"):
                found += self._full()
        found += [f"{fault.part}: {fault.last}" for fault in self.faults.found() if fault.lasting]
        return found

    def _full(self) -> list[str]:
        """A sentence for each family whose blocks have no address left."""
        network, found = self._network, []
        if network is None:
            return []
        open_sets = block_sets(network.blocks, network.reserved)
        pools = [
            (f" of IPPool {pool.name}", block_sets(pool.blocks, network.reserved)) for pool in network.pools
        ]
        for whose, sets in [("", open_sets), *pools]:
            for each in sets:
                usage = self.leases.usage(None, (each,))
                if usage.leased + usage.cooling >= each.size:
                    found.append(
                        f"leases: no address free in {each}{whose}: {usage.leased} leased, {usage.cooling} "
                        "in cool-down; new pods wait until one is, or the node gets another block"
                    )
        return found

    def status(self) -> dict[str, Any]:
        """Figures of the pods' side, from any thread."""
        return {
            "store": self.leases.identity if self._adoption is not None else "",
            "leases": self.attachments(),
            "adopted": self._adoption.adopted if self._adoption is not None else 0,
            "quarantined": self._spool.quarantined(),
            "faults": [
                {"part": fault.part, "count": fault.count, "last": fault.last, "lasting": fault.lasting}
                for fault in self.faults.found()
            ],
        }

    def reattach_ports(self) -> list[str]:
        """Put the host ends of all leases back on the bridge, and what the node knows of them; to be called
        after the bridge was applied."""
        moved: list[str] = []
        if self._network is not None:
            with self.faults.contained("keeping interfaces on the bridge"):
                moved = self._bridge.attach_ports(self._network.bridge, self.leases.leases)
        return moved

    def holds(self, block: Prefix) -> bool:
        """Whether an address of a block is leased; where that cannot be told, it is taken to be."""
        with self.faults.contained("asking the lease store"):
            return self.leases.any_in(block)
        return True

    def attachments(self, block: Prefix | None = None) -> int:
        """How many have addresses, in all or in a block; 0 where that cannot be told."""
        if self._adoption is None:
            return 0
        with self.faults.contained("asking the lease store"):
            return self.leases.count(block)
        return 0

    def usage(self, sets: RangeSet) -> Usage:
        """Leased and cooling addresses of a set, of all networks. Raises LeaseStoreError."""
        return self.leases.usage(None, (sets,))

    def settle(self) -> bool:
        """Wait until the links of all released attachments are gone."""
        return self._reaper.flush()

    def drain_spool(self) -> int:
        """Carry out the DELs that came while no agent served; how many. In a thread of the namespace.

        What cannot be read now is left for the next round, what never can goes into quarantine.
        """
        count = 0
        for each in self._spool.calls(boot_id()):
            try:
                request = parse_request(each.call.environment, each.call.stdin)
            except CniError as err:
                self._spool.set_aside(each.path, f"{err}")
                continue
            key = LeaseKey(request.network, request.container_id, request.ifname)
            lease = self.leases.find(key)
            if lease is None or lease.assigned_clock <= each.at:
                verbs = self.ipam if each.call.for_ipam else self.verbs
                answer = verbs.answer(each.call, None)
                if answer.exit_code:
                    continue  # stays for the next round
                count += 1
            self._spool.remove(each.path)
        return count

    def audit(self) -> Look:
        """One look at leases and links; what it and the last look agree on is freed and returned.

        Of the links without a lease only those are looked at that say they are this store's.
        """
        netlink = self._sandboxes().host
        leases = self.leases.leases()
        found = [
            (link.name, link.index, of_store(link.alias, self.leases.identity))
            for link in links.all_links(netlink)
            if link.name.startswith(VETH_PREFIX) and link.group != DOOMED_GROUP
        ]
        now = look(leases, found)
        both, self._seen = agreed(self._seen, now), now
        with self.faults.each("audit of leases") as contained:
            for key, sequence in both.leases:
                log.warning("audit: releasing %s: its interface is gone", key)
                with contained():
                    self.verbs.remove(self.leases, key, sequence=sequence, event="audit")
        with self.faults.each("audit of interfaces") as contained:
            for name, _ in both.links:
                log.warning("audit: deleting %s: it is of this store and has no lease", name)
                with contained():
                    self._reaper.doom(netlink, name)
        return both

    def mend_rules(self) -> int:
        """Put the rules of attachments back where somebody took them away; of how many attachments."""
        mended = 0
        with self.faults.each(RULES_PART) as contained:
            for key, record in self.leases.records():
                with contained():
                    mended += _mended(key, record)
        return mended

    # --- threads -----------------------------------------------------------------------------------------

    def _enter(self) -> None:
        setns(self._home)

    def _keep(self) -> None:
        """Now and then: the spool, and the audit."""
        self._enter()
        waited = 0.0
        while not self._stopping.wait(SPOOL_INTERVAL):
            waited += SPOOL_INTERVAL
            steps: list[tuple[str, Callable[[], object]]] = [(SPOOL_PART, self.drain_spool)]
            if self._adoption is not None and self._adoption.problem:
                steps.append(("adopting running pods", lambda: self._adopt(self._network)))
            if waited >= self._audit_interval:
                waited = 0.0
                steps += [("audit", self.audit), ("upkeep of host ports", self.mend_rules)]
            for part, step in steps:
                with self.faults.contained(part):
                    step()

    def _sandboxes(self) -> Sandboxes:
        found: Sandboxes | None = getattr(self._local, "sandboxes", None)
        if found is None:
            found = self._local.sandboxes = Sandboxes(Netlink(), self._home)
        return found

    def _setup(self, request: Request) -> Setup:
        self._safe_to_add(request)
        if request.brings_addresses:
            return own_setup(request)
        return self._for_namespace(request, node_setup)

    def _safe_to_add(self, request: Request) -> None:
        """No address is handed out that a running pod may have. Raises CniError 11."""
        if request.command == "ADD" and self._adoption is not None and self._adoption.problem:
            raise CniError(failure.TRY_AGAIN_LATER, self._adoption.problem, "see `l3net status`")

    def _ipam_setup(self, request: Request) -> Setup:
        self._safe_to_add(request)
        if has_ranges(request.conf):
            return ipam_setup(request)
        return self._for_namespace(request, node_ipam_setup)

    def _for_namespace(self, request: Request, setup: Callable[[Request, NodeNetwork], Setup]) -> Setup:
        """Raises CniError 11 while the node has no block of the pool for the pod's namespace, and asks."""
        try:
            return setup(request, self._node(request))
        except PoolMissingError as err:
            self.on_missing(err.pool)
            raise CniError(
                failure.TRY_AGAIN_LATER,
                f"node has no block of IPPool {err.pool} yet, which is for the pod's namespace",
                "in a cluster the agent has asked for one; otherwise add one to the Node",
            ) from None

    def _node(self, request: Request) -> NodeNetwork:
        """What is known of the node. Raises CniError 11.

        ADD and STATUS wait a little for the agent's first pass: kubelet calls a node not ready, and its pods
        with it, when the one STATUS it happens to ask fails.
        """
        wait = self._first_pass_wait if request.command in ("ADD", "STATUS") else 0.0
        if not self._known.wait(wait) or self._network is None:
            raise CniError(
                failure.TRY_AGAIN_LATER, "the agent has not finished its first pass", "see `l3net status`"
            )
        return self._network

    def _close_listener(self, threads: list[threading.Thread]) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(timeout=60)  # what is under way is finished
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        """One worker: it takes a call from the socket itself, which saves a handing over."""
        self._enter()
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError as err:
                if self._stopping.is_set() or err.errno == errno.EINVAL:  # shut down
                    return
                log.warning("CNI socket: %s", err)  # no descriptors, perhaps: they come back
                self._stopping.wait(0.1)
                continue
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(CLIENT_TIME)
                self._converse(connection)
        except (OSError, CniError) as err:
            log.warning("CNI client: %s", err)
        except Exception as err:
            self.faults.note("CNI client", err, lasting=False)

    def _converse(self, connection: socket.socket) -> None:
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        uid = _CREDENTIALS.unpack(packed)[1]
        if uid not in {0, os.geteuid()}:
            raise CniError(failure.BAD_ENVIRONMENT, f"refused a call from uid {uid}")
        frame, netns = receive(connection)
        try:
            call = decode_call(frame)
            verbs = self.ipam if call.for_ipam else self.verbs
            answer = verbs.answer(call, netns, lambda: still_there(connection))
            self._deliver(connection, call, answer)
        finally:
            if netns is not None:
                os.close(netns)

    def _deliver(self, connection: socket.socket, call: Call, answer: Answer) -> None:
        """Send the answer; an ADD whose client is gone has failed as far as the runtime knows: undo it."""
        try:
            connection.sendall(encode_answer(answer))
        except OSError:
            if answer.exit_code == 0:
                (self.ipam if call.for_ipam else self.verbs).abandon(call, answer)
            raise


def _blocks(network: NodeNetwork) -> tuple[Prefix, ...]:
    """All of the node, those for the pods of some namespaces too."""
    return (*network.blocks, *(block for pool in network.pools for block in pool.blocks))


def still_there(connection: socket.socket) -> bool:
    """Whether the client still waits for its answer: it says nothing more, and hangs up only by dying."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return not poll.poll(0)


def listen(path: Path) -> socket.socket:
    """A listening Unix socket in a 0700 directory; a dead one of a crash is replaced, a live one refused."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
        else:
            raise NotRunningError(f"{path}: another process serves this socket; stop it first")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener


def receive(connection: socket.socket) -> tuple[bytes, int | None]:
    """A whole request frame and the descriptor that came with it. Raises CniError, OSError."""
    descriptors = array.array("i")
    space = socket.CMSG_SPACE(descriptors.itemsize)
    parts, size, wanted = [], 0, REQUEST_HEADER.size
    try:
        header_read = False
        while size < wanted:
            data, ancillary, _, _ = connection.recvmsg(
                max(65536, min(wanted - size, 1 << 20)), space, socket.MSG_CMSG_CLOEXEC
            )
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
            if not data:
                raise CniError(failure.CANNOT_DECODE, "the client hung up before its call was whole")
            parts.append(data)
            size += len(data)
            if not header_read and size >= REQUEST_HEADER.size:
                header_read = True
                parts = [b"".join(parts)]
                wanted += call_length(parts[0])
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    for descriptor in descriptors[1:]:
        os.close(descriptor)
    return b"".join(parts), descriptors[0] if descriptors else None


def _mended(key: LeaseKey, record: str) -> bool:
    """Whether rules of an attachment were missing; they are back then. Raises CniError."""
    try:
        extras = Extras.decode(record)
        if missing := cnirules.missing(extras):
            cnirules.put(extras)
    except Exception as err:
        raise CniError(failure.KERNEL_REFUSED, f"{key.container_id}: {err}") from err
    return bool(missing)
