"""The plugins without an agent: one process a call, where there is no helper that is warm.

Light imports only, for a container waits for them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import syslog
from pathlib import Path

from l3net.attach.ipam_verbs import IpamVerbs
from l3net.attach.stores import Stores
from l3net.attach.verbs import Verbs
from l3net.cni import failure
from l3net.cni.bridgeconf import ipam_setup, own_setup
from l3net.cni.failure import CniError, error_object
from l3net.cni.frame import IPAM_PLUGIN, PLUGIN_NAME, Answer, Call
from l3net.cni.request import MAX_STDIN
from l3net.shell.kernel.namespaces import open_own
from l3net.shell.kernel.netlink import Netlink
from l3net.shell.kernel.sandbox import Sandboxes


class _Syslog(logging.Handler):
    """libcni drops a failed plugin's standard error, so what is to be kept goes to the system's log."""

    def emit(self, record: logging.LogRecord) -> None:
        syslog.syslog(syslog.LOG_WARNING, self.format(record).replace("\n", " "))


def leave_helper(start: str, stdin: bytes) -> None:
    """Fork the process that takes the calls to come, as the front asks for: see `l3net.attach.helper`.

    When the call is over, so that it costs the call nothing else, and nothing is open that a child must not
    share, as a database. `start`: descriptors of its lock and of its directory, and its name.
    """
    try:
        child = os.fork()
    except OSError as err:
        logging.getLogger(__name__).warning("no helper: fork: %s", err.strerror)
        return
    if child:
        return
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):  # before all else: the runtime waits for the ends of its pipes
            os.dup2(null, standard)
        from l3net.cli.cnihelper import serve  # noqa: PLC0415 - the call that leaves it needs none of it

        lock, directory, name = start.split()
        serve(int(lock), int(directory), name, stdin)
    except BaseException as err:
        logging.getLogger(__name__).warning("helper: %s: %s", err.__class__.__name__, err)
    finally:
        os._exit(0)


def standalone(call: Call, netns: int | None) -> Answer:
    """Carry out one call in this process. Never raises."""
    host: list[Sandboxes] = []

    def sandboxes() -> Sandboxes:
        if not host:
            host.append(Sandboxes(Netlink(), open_own()))
        return host[0]

    stores = Stores()
    verbs = IpamVerbs(stores, sandboxes, ipam_setup) if call.for_ipam else Verbs(stores, sandboxes, own_setup)
    try:
        return verbs.answer(call, netns)
    finally:
        stores.close()


def run() -> int:
    """The program: environment and standard input in, the answer out."""
    wanted = ("CNI_", "TRACE")
    environment = {key: value for key, value in os.environ.items() if key.startswith(wanted)}
    environment[PLUGIN_NAME] = os.environ.get(PLUGIN_NAME, Path(sys.argv[0]).name)
    if not environment.get("CNI_COMMAND"):
        print(f"{environment[PLUGIN_NAME]}: CNI plugin of l3net, CNI 0.1.0 to 1.1.0", file=sys.stderr)  # noqa: T201
        return 0
    logging.getLogger().addHandler(_Syslog())
    syslog.openlog(IPAM_PLUGIN if environment[PLUGIN_NAME] == IPAM_PLUGIN else "l3net-cni")
    stdin = sys.stdin.buffer.read(MAX_STDIN + 1)
    start = os.environ.pop("L3NET_CNI_HELPER_START", "")
    for descriptor in start.split()[:2]:
        os.set_inheritable(int(descriptor), False)  # noqa: FBT003 - nothing that a call executes has to hold them
    netns, code = None, 0
    if path := environment.get("CNI_NETNS"):
        try:
            netns = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as err:
            code = err.errno or 0
    answer = standalone(Call(environment, stdin, code), netns)
    sys.stdout.buffer.write(answer.stdout)
    sys.stdout.buffer.flush()
    if start:
        leave_helper(start, stdin)
    return answer.exit_code


def main() -> None:
    """As `run`; whatever happens, the runtime gets one JSON object and an exit code."""
    try:
        code = run()
    except BaseException as err:
        failed = CniError(failure.INTERNAL, f"unexpected failure: {err.__class__.__name__}")
        with contextlib.suppress(Exception):
            print(json.dumps(error_object(failed, "1.0.0")))  # noqa: T201
            sys.stdout.flush()
        code = 1
    os._exit(code)  # nothing to clean up that the kernel does not


if __name__ == "__main__":
    main()
