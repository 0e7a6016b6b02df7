"""Composes the plugin's helper, in the child that the first call leaves: see `l3net.attach.helper`."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import syslog
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from l3net.attach.detached import detach
from l3net.cni.bridgeconf import HELPER_IDLE

#: Seconds without a call after which a helper ends.
IDLE: Final = 300.0
#: The variable that goes before the configuration's key for it.
IDLE_VARIABLE: Final = "L3NET_CNI_HELPER_IDLE"


def idle_of(stdin: bytes) -> float:
    """Seconds, as the call that starts a helper says."""
    try:
        said = os.environ.get(IDLE_VARIABLE) or json.loads(stdin).get(HELPER_IDLE)
        return max(float(said), 0.0) if said is not None else IDLE
    except (ValueError, TypeError, AttributeError, RecursionError):
        return IDLE


def serve(lock: int, directory: int, name: str, stdin: bytes) -> None:
    """Be the helper until it ends. `lock` is the file that says so, held; `directory` has the sockets."""
    syslog.closelog()
    detach((lock, directory), "l3net-cni-help")
    syslog.openlog("l3net-cni", syslog.LOG_PID)
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    from l3net.attach.helper import AwaitedReaper, Files, Helper  # noqa: PLC0415 - after the pipes are closed
    from l3net.attach.ipam_verbs import IpamVerbs  # noqa: PLC0415
    from l3net.attach.stores import Stores  # noqa: PLC0415
    from l3net.attach.verbs import Verbs  # noqa: PLC0415
    from l3net.cni.bridgeconf import ipam_setup, own_setup  # noqa: PLC0415
    from l3net.shell.kernel.namespaces import open_own  # noqa: PLC0415
    from l3net.shell.kernel.netlink import Netlink  # noqa: PLC0415
    from l3net.shell.kernel.sandbox import Sandboxes  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    home, stores, local = open_own(), Stores(), threading.local()

    def sandboxes() -> Sandboxes:
        found: Sandboxes | None = getattr(local, "sandboxes", None)
        if found is None:
            found = local.sandboxes = Sandboxes(Netlink(), home)
        return found

    reaper = AwaitedReaper(home)
    reaper.start()
    verbs = Verbs(stores, sandboxes, own_setup, reaper)
    ipam = IpamVerbs(stores, sandboxes, ipam_setup)
    modules = [module.__file__ for word, module in sys.modules.items() if word.partition(".")[0] == "l3net"]
    files = Files([sys.executable, os.path.abspath(sys.argv[0]), *filter(None, modules)])  # noqa: PTH100
    own = Path(f"/proc/self/fd/{directory}/{name}.sock")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGTERM, lambda *_: os.write(writing, b"."))

    def outdated() -> str:
        if changed := files.changed():
            return f"{changed} has changed"
        if replaced := stores.replaced():
            return f"{replaced} is gone, or another"
        return "" if own.exists() else "its socket is gone"

    helper = Helper(lambda call: ipam if call.for_ipam else verbs, outdated, idle_of(stdin))
    syslog.syslog(syslog.LOG_INFO, f"helper {name} takes calls")
    why = helper.run(own, reading)
    with suppress(OSError):
        Path(f"/proc/self/fd/{directory}/{name}.pid").unlink()  # held to the end, and taken by nobody else
    syslog.syslog(syslog.LOG_INFO, f"helper {name} ends after {helper.served} calls: {why}")
