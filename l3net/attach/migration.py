"""Moves the pods of this node from another network to l3net and back, with a journal."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from l3net.attach.migrationstate import NETNS_DIRS, ports_of
from l3net.cni.host_end import alias_of
from l3net.errors import KernelError, L3netError, NotRunningError
from l3net.fib.desired import bridge
from l3net.ipam.lease import Lease, LeaseKey
from l3net.migrating.journal import HANDED_OVER, MOVED, MOVING, Journal
from l3net.migrating.planning import NodePlan
from l3net.model import Address
from l3net.naming import AGENT_SOCKET, BRIDGE, CNI_NETWORK
from l3net.shell.files import cniinstall, journalfile
from l3net.shell.files.leases import SqliteLeases
from l3net.shell.kernel import links, podends, sysctl, takeover
from l3net.shell.kernel.bridge import KernelBridge
from l3net.shell.kernel.namespaces import open_own
from l3net.shell.kernel.netlink import Netlink
from l3net.shell.kernel.removal import attached, leftovers, remove
from l3net.shell.probes.echo import answering
from l3net.shell.sockets.agentsocket import ask

#: Seconds that a command of the operator's may take.
COMMAND_LIMIT: Final = 120.0
_PAUSE: Final = 0.25
#: With which the names of sessions with other nodes begin.
MESH: Final = "mesh:"
#: The nftables table of networks without an agent: no part of this.
_CNI_TABLE: Final = "l3net_cni"

Say = Callable[[str], object]

#: Signals by which a move is stopped, and put back: SIGHUP when the terminal or its ssh session ends.
STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are on this host."""

    state_dir: Path
    run_dir: Path
    conf_dir: Path
    bin_dir: Path
    plugin_dir: Path
    root: Path = podends.ROOT


@dataclass(frozen=True, slots=True)
class Commands:
    """What starts and stops the networks, each run by `sh -c`; empty: somebody else does it."""

    stop_old: str = ""
    start_old: str = ""
    start: str = ""
    stop: str = ""


class MoveError(L3netError):
    """The node could not be moved; what the message says of its state is so."""


class NodeMove:
    """`say` must not raise. `timeout` in seconds: how long l3net may take until it serves the node. `mtu`:
    of bridge, in bytes.
    """

    def __init__(self, places: Places, commands: Commands, say: Say, *, timeout: float, mtu: int) -> None:
        self._places, self._commands, self._say = places, commands, say
        self._timeout, self._mtu = timeout, mtu

    def go(self, plan: NodePlan) -> Journal:
        """Move them all. On any failure everything is put back first. Raises MoveError."""
        with Netlink() as netlink:
            home = open_own()
            try:
                return self._go(plan, netlink, home)
            finally:
                os.close(home)

    def _go(self, plan: NodePlan, netlink: Netlink, home: int) -> Journal:
        journal = self._written(plan, netlink, home)
        try:
            heard = answering([each.address for move in plan.moves for each in move.lease.addresses])
            self._take_over(plan, journal, netlink, home)
            self._check_ways(plan, journal, heard, "moved", netlink)
            self._none_since(plan)
            journal = journal.at(HANDED_OVER)
            journalfile.write_journal(self._places.state_dir, journal)
            self._run(self._commands.stop_old, "stop the old network")
            self._start()
            self._check_ways(plan, journal, heard, "served by l3net", netlink)
        except BaseException as err:
            with undisturbed():
                why = "interrupted" if isinstance(err, KeyboardInterrupt) else str(err) or type(err).__name__
                self._say(f"failed: {why}")
                self._say("rolling back")
                self._roll_back(journal, netlink, home, why)
            if isinstance(err, L3netError | OSError | KeyboardInterrupt):
                raise MoveError(f"{why}. Everything is as it was") from err
            self._say("everything is as it was")
            raise
        done = journal.at(MOVED)
        journalfile.write_journal(self._places.state_dir, done)
        return done

    def _written(self, plan: NodePlan, netlink: Netlink, home: int) -> Journal:
        """What is there, on the disk before anything is changed."""
        journal = Journal(
            plan.node,
            MOVING,
            time.time(),
            tuple(podends.pod_before(netlink, each, home, self._places.root) for each in plan.moves),
            tuple(podends.bridge_before(netlink, each) for each in plan.bridges),
            journalfile.aside(plan.aside),
        )
        self._places.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        journalfile.write_journal(self._places.state_dir, journal)
        return journal

    def _take_over(self, plan: NodePlan, journal: Journal, netlink: Netlink, home: int) -> None:
        places = self._places
        cniinstall.install(places.plugin_dir, places.bin_dir, None, Path(), standalone=False)
        cniinstall.put_conflist(places.conf_dir)  # from here on ADD says to try again, until the agent runs
        journalfile.put_aside(places.conf_dir, journal.aside)
        self._say(f"new pods wait for l3net ({places.conf_dir / cniinstall.CONFLIST})")
        stored = self._leases(plan)
        takeover.hold(netlink, journal.pods)
        bridges = KernelBridge(netlink)
        bridges.apply(bridge(plan.node, plan.blocks, self._mtu))
        for before, move in zip(journal.pods, plan.moves, strict=True):
            alias = alias_of(stored[move.lease.key], before.mac)
            try:
                takeover.move(netlink, before, move.lease, alias, home, places.root)
            except KernelError:
                if takeover.alive(netlink, before):
                    raise
                self._say(f"{move.pod} has ended meanwhile")  # a job that is done; the agent frees its lease
                continue
            self._say(f"moved {move.pod} ({', '.join(before.texts)})")
        for each in journal.bridges:
            takeover.take_off(netlink, each)
        takeover.release(netlink, journal.pods)

    def _leases(self, plan: NodePlan) -> Mapping[LeaseKey, Lease]:
        """Into the store, so that the addresses are nobody else's. Raises MoveError."""
        path = self._places.state_dir / "leases.db"
        store = SqliteLeases(path, named=True)
        try:
            for move in plan.moves:
                if not store.adopt(move.lease, event="import", exclusive=True):
                    raise MoveError(f"{path} has given an address of {move.pod} to another")
            found = {lease.key: lease for lease in store.leases(CNI_NETWORK)}
            return {move.lease.key: found[move.lease.key] for move in plan.moves}
        finally:
            store.close()

    def _check_ways(
        self, plan: NodePlan, journal: Journal, heard: set[Address], state: str, netlink: Netlink
    ) -> None:
        """Each pod is led to by l3net's bridge, and answers if it did before. Pods that have ended are passed
        over. Raises MoveError."""
        silent = heard - answering(heard)
        count = 0
        for before, move in zip(journal.pods, plan.moves, strict=True):
            if not takeover.alive(netlink, before):
                silent -= {each.address for each in move.lease.addresses}
                continue
            count += 1
            for leased in move.lease.addresses:
                if (outlet := takeover.outlet(netlink, leased.address)) != BRIDGE:
                    raise MoveError(
                        f"packets to {leased.address} leave by {outlet or 'no interface'}: another route is "
                        "in the way (`ip route get`)"
                    )
        if silent:
            named = ", ".join(sorted(map(str, silent))[:5])
            raise MoveError(f"{len(silent)} addresses answered before and do not now: {named}")
        self._say(f"{count} pods {state}; all addresses that answered do so")

    def _none_since(self, plan: NodePlan) -> None:
        """A pod that the old plugin was making when its configuration was put aside is on a bridge without
        addresses now. Raises MoveError."""
        paths = podends.namespaces((), NETNS_DIRS, self._places.root).values()
        for port in ports_of(paths, self._places.root):
            if not port.ours and any(each.ip in block for each in port.addresses for block in plan.blocks):
                raise MoveError(f"the old network has made a pod meanwhile ({port.netns}): try again")

    def _start(self) -> None:
        """Start l3net, and wait until it serves the node. Raises MoveError."""
        if self._commands.start:
            self._run(self._commands.start, "start l3net")
        else:
            self._say(f"start l3net on this node now; waiting {self._timeout:g} s for it")
        deadline = time.monotonic() + self._timeout
        standing = Standing("l3net's agent does not answer")
        while time.monotonic() < deadline:
            with suppress(NotRunningError):
                standing = standing_of(ask(self._places.run_dir / AGENT_SOCKET, "status"))
                if not standing.lacks:
                    self._say(f"l3net serves the node: {len(standing.up)} sessions are up")
                    return
            time.sleep(_PAUSE)
        if not standing.up:
            raise MoveError(f"{standing.lacks} within {self._timeout:g} s")
        self._say(f"warning: {standing.lacks}; those with {', '.join(standing.up)} are")

    # --- back ----------------------------------------------------------------------------------------------

    def _roll_back(self, journal: Journal, netlink: Netlink, home: int, why: str) -> None:
        """Raises MoveError if even that fails: the journal stays then."""
        try:
            self.put_back(journal, netlink, home)
        except (L3netError, OSError) as err:
            raise MoveError(
                f"{why}. It could not be rolled back: {err}. Mend that, then `l3net migrate node --undo`"
            ) from err

    def undo(self, journal: Journal) -> int:
        """Give the pods back to the old network; the number there were. Raises L3netError."""
        with Netlink() as netlink:
            home = open_own()
            try:
                with undisturbed():
                    return self.put_back(journal, netlink, home)
            finally:
                os.close(home)

    def put_back(self, journal: Journal, netlink: Netlink, home: int) -> int:
        """Everything as the journal has it; what is so already stays."""
        there = {link.index for link in links.all_links(netlink)}
        needed = {each.master for each in journal.pods if each.outer in there}
        for before in journal.bridges:
            if before.name in needed and links.get_link(netlink, before.name) is None:
                raise MoveError(
                    f"bridge {before.name} is gone: `ip link add {before.name} type bridge` first"
                )
        if journal.state != MOVING:
            self._stop()
        for each in journal.bridges:
            takeover.put_on(netlink, each)
        given = [each for each in journal.pods if takeover.back(netlink, each, home, self._places.root)]
        takeover.release(netlink, journal.pods)
        if attached():
            self._say(f"pods that l3net has made are still on {BRIDGE}: delete them")
        else:
            remove([each for each in leftovers() if _CNI_TABLE not in each.what.split()], lambda _what: None)
            sysctl.restore(self._places.run_dir)
        (self._places.conf_dir / cniinstall.CONFLIST).unlink(missing_ok=True)
        journalfile.put_back(self._places.conf_dir, journal.aside)
        if journal.state != MOVING:
            self._run(self._commands.start_old, "start the old network")
        self._forget_leases(journal)  # last: it fails on a full disk, and the old network works by now
        journalfile.forget_journal(self._places.state_dir)
        return len(given)

    def _stop(self) -> None:
        """The agent would put right what is put back."""
        self._run(self._commands.stop, "stop l3net")
        deadline = time.monotonic() + self._timeout
        while cniinstall.agent_answers(self._places.run_dir / AGENT_SOCKET):
            if time.monotonic() > deadline:
                raise MoveError("l3net's agent still runs: stop it (--stop names the command)")
            time.sleep(_PAUSE)

    def _forget_leases(self, journal: Journal) -> None:
        path = self._places.state_dir / "leases.db"
        if not path.exists():
            return
        store = SqliteLeases(path)
        try:
            for each in journal.pods:
                store.release(LeaseKey(CNI_NETWORK, each.container_id, each.ifname))
        finally:
            store.close()

    def _run(self, command: str, what: str) -> None:
        if not command:
            return
        self._say(f"{what}: {command}")
        try:
            done = subprocess.run(
                ["sh", "-c", command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_LIMIT,
                start_new_session=True,  # a Ctrl-C is for us alone
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise MoveError(f"{what}: `{command}` took more than {COMMAND_LIMIT:g} s") from None
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-300:]
            raise MoveError(f"{what}: `{command}` failed ({done.returncode}): {said}")


def _deaf(_number: int, _frame: object) -> None:
    pass


@contextmanager
def undisturbed() -> Iterator[None]:
    """What puts everything back is not to be interrupted itself, as by a second Ctrl-C."""
    # Handlers that do nothing: commands that are run would inherit SIG_IGN, and the daemons that they start.
    before = {each: signal.signal(each, _deaf) for each in STOPPING}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def old_network_back(journal: Journal, conf_dir: Path) -> list[str]:
    """Without any pods: the old network's configuration and its bridges' addresses; what was done. Raises
    L3netError."""
    told = []
    with Netlink() as netlink:
        told += [
            f"{each.name} has its addresses back"
            for each in journal.bridges
            if takeover.put_on(netlink, each)
        ]
    journalfile.put_back(conf_dir, journal.aside)
    told += [f"{conf_dir / old} is back" for old, _ in journal.aside]
    return told


@dataclass(frozen=True, slots=True)
class Standing:
    """What l3net still `lacks` to serve the node, empty if nothing, and the sessions that are up."""

    lacks: str
    up: tuple[str, ...] = ()


def standing_of(status: Mapping[str, Any]) -> Standing:
    """By the agent's status. Sessions with other nodes come up when those are moved too."""
    if not status.get("reconciled"):
        return Standing("l3net's agent has not brought the node to what is declared")
    peers = [each for each in status.get("peers") or () if not str(each["name"]).startswith(MESH)]
    up = tuple(str(each["name"]) for each in peers if each.get("state") == "established")
    down = [str(each["name"]) for each in peers if each.get("state") != "established"]
    return Standing(f"the sessions with {', '.join(down)} are not up" if down else "", up)
