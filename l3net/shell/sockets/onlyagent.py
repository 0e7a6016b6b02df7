"""One agent a network namespace: the name of an abstract socket, which lasts as long as its holder does.

An abstract name belongs to the network namespace (unix(7)), as the bridge, the routes and the nftables table
do that two agents would fight over; a lock file belongs to a directory, and each agent may have its own. The
name is anybody's to take, so a holder that could be no agent, for it may not configure the network, is named
and not minded.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from l3net.errors import ConfigError

log = logging.getLogger(__name__)

NAME: Final = "\0l3net-agent"
_CREDENTIALS = struct.Struct("=iII")  # struct ucred, unix(7)
_CAP_NET_ADMIN: Final = 12  # capabilities(7)


@contextlib.contextmanager
def only_agent() -> Iterator[None]:
    """Be the agent of the calling thread's network namespace. Raises ConfigError naming the one there is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as held:
        try:
            held.bind(NAME)
            held.listen(8)
        except OSError:
            pid, uid = _holder()
            if _is_no_agent(pid, uid):
                log.warning(
                    "pid %d (uid %d) holds the abstract socket @%s, by which agents tell of one another, and "
                    "may not configure the network: it is no agent, and is not minded",
                    *(pid, uid, NAME[1:]),
                )
            else:
                who = f"pid {pid}" if pid else "a process that is not seen from here (another container)"
                raise ConfigError(
                    f"an agent runs in this network namespace already: {who}; two would undo each other's "
                    "work, whatever their directories. Stop one of them"
                ) from None
        yield


def _holder() -> tuple[int, int]:
    """Process and user; 0 as process if it is not in our PID namespace, or gone meanwhile."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(NAME)
            packed = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return 0, 0
    pid, uid, _ = _CREDENTIALS.unpack(packed)
    return pid, uid


def _is_no_agent(pid: int, uid: int) -> bool:
    if not pid:
        return uid not in (0, os.geteuid())
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    except (OSError, ValueError, StopIteration):
        return False
    return not effective >> _CAP_NET_ADMIN & 1
