"""Deletes an interface while the program is read: DEL begins with it where no agent and no helper runs.

The kernel takes as long for it as Python for the modules of a DEL, and neither waits for the other.
"""

from __future__ import annotations

import errno
import threading

from l3net.errors import KernelError, StillWiredError
from l3net.shell.kernel import links
from l3net.shell.kernel.netlink import Netlink


class Removal:
    """Of one host end, in a thread that begins at once. Stands where a process that stays has its reaper."""

    def __init__(self, host_ifname: str) -> None:
        self._name = host_ifname
        self._code = 0
        self._thread = threading.Thread(target=self._run, name="removal", daemon=True)
        self._thread.start()

    def doom(self, netlink: Netlink, host_ifname: str) -> bool:
        """Wait until the link is gone. False if there was none. Raises StillWiredError."""
        del netlink
        self._thread.join()
        if host_ifname != self._name or self._code not in (0, errno.ENODEV):
            raise StillWiredError(f"delete {host_ifname}", self._code)
        return self._code == 0

    def flush(self) -> bool:
        """Wait until the link is gone, or the kernel has refused that."""
        self._thread.join()
        return self._code in (0, errno.ENODEV)

    def _run(self) -> None:
        try:
            with Netlink() as netlink:
                self._code = netlink.transact([links.delete_named(self._name)])[0]
        except KernelError as err:
            self._code = err.code
