"""Deletes the links of released attachments in batches: thirty in one go cost what one costs alone.

Deleting a link waits for an RCU grace period with the routing lock held; the members of a device group share
that wait. DEL therefore stops the port, moves the link to the doomed group, and answers.
"""

from __future__ import annotations

import errno
import logging
import threading
from typing import Final

from l3net.errors import KernelError
from l3net.shell import links
from l3net.shell.namespaces import setns
from l3net.shell.netlink import Netlink

log = logging.getLogger(__name__)

#: The device group of links to be deleted ('l3nd' in ASCII).
DOOMED_GROUP: Final = 0x6C336E64
#: Seconds a doomed link may wait for company.
BATCH_DELAY: Final = 0.05


class Reaper:
    """Owns the doomed group of one network namespace. Links a crash left there go at start."""

    def __init__(self, home: int) -> None:
        self._home = home
        self._wanted = threading.Condition()
        self._doomed = 0  # links doomed, ever
        self._reaped = 0  # of those, how many are surely gone
        self._urgent = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="link-reaper", daemon=True)

    def start(self) -> None:
        with self._wanted:
            self._doomed += 1  # whatever a crash left
        self._thread.start()

    def stop(self) -> None:
        with self._wanted:
            self._stopping = True
            self._wanted.notify_all()
        self._thread.join(timeout=10)

    def doom(self, netlink: Netlink, host_ifname: str) -> bool:
        """Stop a port and leave its link to the next batch. False if there is no such link."""
        group = links.set_link(0, links.u32(links.IFLA_GROUP, DOOMED_GROUP), name=host_ifname)
        port = links.set_port(0, host_ifname, state=links.BR_STATE_DISABLED)
        stopped, grouped = netlink.transact([port, group])
        if grouped == errno.ENODEV:
            return False
        if grouped:
            raise KernelError(f"delete {host_ifname}", grouped)
        if stopped:  # no bridge port any more, or the link is down: take it down whatever it is
            netlink.transact([links.set_link(0, up=False, name=host_ifname)])
        with self._wanted:
            idle = self._doomed == self._reaped
            self._doomed += 1
            if idle:  # otherwise it is awake, or will look before it sleeps
                self._wanted.notify_all()
        return True

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything doomed so far is gone; for an ADD that needs the name again."""
        with self._wanted:
            target = self._doomed
            self._urgent = True
            self._wanted.notify_all()
            return self._wanted.wait_for(lambda: self._reaped >= target or self._stopping, timeout)

    def _run(self) -> None:
        setns(self._home)
        with Netlink() as netlink:
            while True:
                with self._wanted:
                    self._wanted.wait_for(lambda: self._doomed > self._reaped or self._stopping)
                    if not self._urgent and not self._stopping:
                        self._wanted.wait_for(lambda: self._urgent or self._stopping, BATCH_DELAY)
                    target, stopping, self._urgent = self._doomed, self._stopping, False
                code = netlink.transact([links.delete_group(DOOMED_GROUP)])[0]
                if code not in (0, errno.ENODEV):
                    log.warning(
                        "delete links of group %#x: %s", DOOMED_GROUP, errno.errorcode.get(code, code)
                    )
                with self._wanted:
                    self._reaped = max(self._reaped, target)
                    self._wanted.notify_all()
                if stopping:
                    return
