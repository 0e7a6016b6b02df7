"""Has nftables tell which rules the packets of one flow meet: a table of our own marks them, and goes with
the process that made it, whatever ends it (flag `owner`)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from typing import Final

from l3net.errors import KernelError, L3netError
from l3net.shell.kernel.nftcommand import find_nft

TABLE: Final = "l3net_trace"
#: Packets of the flow that are traced in a second.
RATE: Final = 50
#: Seconds until the table is there, and until what was met last is told.
_SETTLE: Final = 0.5
_LATE: Final = 0.1
_PATIENCE: Final = 5.0


def rules(protocol: str, port: int) -> list[str]:
    """Commands that make the table: packets with this port of the client's, in either direction."""
    matches = {
        "tcp": (f"tcp sport {port}", f"tcp dport {port}"),
        "udp": (f"udp sport {port}", f"udp dport {port}"),
        "icmp": (f"icmp id {port}", f"icmpv6 id {port}"),
    }[protocol]
    commands = [f"add table inet {TABLE} {{ flags owner; }}"]
    for hook in ("prerouting", "output"):
        # Before connection tracking (-200) and raw (-300): what these drop is seen, too.
        commands.append(f"add chain inet {TABLE} {hook} {{ type filter hook {hook} priority -450; }}")
        commands += [
            f"add rule inet {TABLE} {hook} {match} limit rate {RATE}/second meta nftrace set 1"
            for match in matches
        ]
    return commands


#: What is told goes to standard output until standard input ends, as it does when who asks is killed: then
#: the table goes with its owner, and the monitor is ended.
_SCRIPT: Final = '"$0" monitor trace </dev/null & monitor=$!; "$0" -i >/dev/null; kill $monitor; wait'


class NftTrace:
    """Of one flow, from `start` to `stop`. `enter`: words before a command by which it runs in another
    network namespace."""

    def __init__(self, enter: Sequence[str] = ()) -> None:
        self._enter = list(enter)
        self._running: subprocess.Popen[str] | None = None

    def start(self, protocol: str, port: int) -> None:
        """Raises KernelError where nothing can be traced."""
        try:
            self._running = subprocess.Popen(
                [*self._enter, "sh", "-c", _SCRIPT, find_nft()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            assert self._running.stdin is not None  # noqa: S101
            self._running.stdin.write("".join(f"{command}\n" for command in rules(protocol, port)))
            self._running.stdin.flush()
        except (OSError, L3netError) as err:
            self.stop()
            raise KernelError(f"trace with nft: {err}", getattr(err, "errno", 0) or 0) from err
        time.sleep(_SETTLE)

    def stop(self) -> list[str]:
        """Take the table away; what was told, a line each."""
        running, self._running = self._running, None
        if running is None:
            return []
        time.sleep(_LATE)
        try:
            told, _ = running.communicate(timeout=_PATIENCE)
        except (OSError, subprocess.TimeoutExpired):
            running.kill()
            running.wait()
            return []
        return told.splitlines()
