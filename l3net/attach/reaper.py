"""Deletes the links of released attachments in batches: thirty in one go cost what one costs alone.

Deleting a link waits for an RCU grace period with the routing lock held; the members of a device group share
that wait. DEL therefore stops the port, moves the link to the doomed group, and answers.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from l3net.errors import KernelError
from l3net.faults import Faults
from l3net.shell.kernel import links
from l3net.shell.kernel.namespaces import setns
from l3net.shell.kernel.netlink import Netlink
from l3net.shell.threads import REAL, Started, Threads

#: The device group of links to be deleted ('l3nd' in ASCII).
DOOMED_GROUP: Final = 0x6C336E64
#: Seconds a doomed link may wait for company.
BATCH_DELAY: Final = 0.05
#: The most it waits after failures.
LONGEST_DELAY: Final = 5.0
#: Its name in the status.
PART: Final = "deleting interfaces"


class Reaper:
    """Owns the doomed group of one network namespace. Links a crash left there go at start."""

    def __init__(
        self,
        home: int,
        faults: Faults | None = None,
        threads: Threads = REAL,
        open_in: Callable[[int], Netlink] | None = None,
    ) -> None:
        self._home = home
        self._faults = faults or Faults()
        self._threads = threads
        self._opened = open_in or opened
        self._wanted = threads.condition()
        self._doomed = 0  # links doomed, ever
        self._reaped = 0  # of those, how many are surely gone
        self._urgent = False
        self._stopping = False
        self._stopped = threads.event()
        self._thread: Started | None = None

    def start(self) -> None:
        with self._wanted:
            self._doomed += 1  # whatever a crash left
        self._thread = self._threads.start(self._run, "link-reaper")

    def stop(self) -> None:
        self._stopped.set()
        with self._wanted:
            self._stopping = True
            self._wanted.notify_all()
        if self._thread is not None:
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
            down = netlink.transact([links.set_link(0, up=False, name=host_ifname)])[0]
            if down not in (0, errno.ENODEV):
                raise KernelError(f"stop {host_ifname}", down)
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
        delay = BATCH_DELAY
        while True:
            with self._wanted:
                self._wanted.wait_for(lambda: self._doomed > self._reaped or self._stopping)
                if not self._urgent and not self._stopping:
                    self._wanted.wait_for(lambda: self._urgent or self._stopping, delay)
                target, stopping, self._urgent = self._doomed, self._stopping, False
            try:
                self._reap()
            except Exception as err:  # an overrun socket, a kernel short of memory: the links are still there
                self._faults.note(PART, err)
                if not stopping:
                    delay = min(delay * 2, LONGEST_DELAY)
                    self._stopped.wait(delay)  # also where somebody urges: it would be as futile
                    continue
            else:
                delay = BATCH_DELAY
                self._faults.over(PART)
                with self._wanted:
                    self._reaped = max(self._reaped, target)
                    self._wanted.notify_all()
            if stopping:
                return

    def _reap(self) -> None:
        """Delete what is doomed. A socket for each batch: one that was overrun has nothing to say later."""
        with self._opened(self._home) as netlink:
            code = netlink.transact([links.delete_group(DOOMED_GROUP)])[0]
        if code not in (0, errno.ENODEV):
            raise KernelError(f"delete links of group {DOOMED_GROUP:#x}", code)


def opened(home: int) -> Netlink:
    """A socket in a namespace, which the calling thread enters."""
    setns(home)
    return Netlink()
