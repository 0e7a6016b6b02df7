"""Carries out one call of the plugins without an agent, and leaves the helper for the calls to come.

Light imports only, for a container waits for them.
"""

from __future__ import annotations

import os
import sys
import syslog
from typing import TYPE_CHECKING

from l3net.attach.ipam_verbs import IpamVerbs
from l3net.attach.stores import Stores
from l3net.attach.verbs import Verbs
from l3net.cni.bridgeconf import ipam_setup, own_setup
from l3net.cni.frame import IPAM_PLUGIN, PLUGIN_NAME, Answer, Call
from l3net.late import before_logging, begin_logging, logger
from l3net.shell.kernel.namespaces import open_own
from l3net.shell.kernel.netlink import Netlink
from l3net.shell.kernel.sandbox import Sandboxes

if TYPE_CHECKING:
    from l3net.attach.removal import Removal


log = logger(__name__)


def _to_syslog() -> None:
    from l3net.cli.syslogging import install  # noqa: PLC0415 - few calls log anything

    install()


def leave_helper(start: str, stdin: bytes) -> None:
    """Fork the process that takes the calls to come, as the front asks for: see `l3net.attach.helper`.

    When the call is over, so that it costs the call nothing else, and nothing is open that a child must not
    share, as a database. `start`: descriptors of its lock and of its directory, and its name.
    """
    try:
        child = os.fork()
    except OSError as err:
        log.warning("no helper: fork: %s", err.strerror)
        return
    if child:
        return
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):  # before all else: the runtime waits for the ends of its pipes
            os.dup2(null, standard)
        begin_logging()
        from l3net.cli.cnihelper import serve  # noqa: PLC0415 - the call that leaves it needs none of it

        lock, directory, name = start.split()
        serve(int(lock), int(directory), name, stdin)
    except BaseException as err:
        log.warning("helper: %s: %s", err.__class__.__name__, err)
    finally:
        os._exit(0)


def standalone(call: Call, netns: int | None, removal: Removal | None, *, close: bool) -> Answer:
    """Carry out one call in this process, and close (or leave) what it opened. Never raises."""
    host: list[Sandboxes] = []

    def sandboxes() -> Sandboxes:
        if not host:
            host.append(Sandboxes(Netlink(), open_own()))
        return host[0]

    stores = Stores()
    if call.for_ipam:
        verbs: Verbs = IpamVerbs(stores, sandboxes, ipam_setup)
    else:
        verbs = Verbs(stores, sandboxes, own_setup, removal)
    try:
        return verbs.answer(call, netns)
    finally:
        if close:
            stores.close()
        if removal is not None:
            removal.flush()


def carry_out(environment: dict[str, str], stdin: bytes, removal: Removal | None) -> int:
    """Write the answer to standard output; the exit code. `removal`: of a DEL's interface, under way."""
    before_logging(_to_syslog)
    syslog.openlog(IPAM_PLUGIN if environment[PLUGIN_NAME] == IPAM_PLUGIN else "l3net-cni")
    start = os.environ.pop("L3NET_CNI_HELPER_START", "")
    for descriptor in start.split()[:2]:  # what a call executes has no use for them
        os.set_inheritable(int(descriptor), False)
    netns, code = None, 0
    if path := environment.get("CNI_NETNS"):
        try:
            netns = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as err:
            code = err.errno or 0
    answer = standalone(Call(environment, stdin, code), netns, removal, close=bool(start))
    sys.stdout.buffer.write(answer.stdout)
    sys.stdout.buffer.flush()
    if start:
        leave_helper(start, stdin)
    return answer.exit_code
