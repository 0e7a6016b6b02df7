"""OpenBGPD (7.7, as Debian builds it) as the far side of sessions.

What it cannot do, and why:

- it keeps no kernel routes: Debian builds it without libmnl, which its FIB on Linux needs;
- RFC 8950 and neighbours by interface: it knows neither;
- forwarding over a restart of its own: its graceful restart capability lists no family (bgpd.conf(5),
  `announce restart`), so that nothing of it is kept when it is killed;
- answering a ROUTE-REFRESH: it refuses those of the families it has negotiated (mended in 7.8).

What has to be written around it: with `local-address` it sets no MD5 key on its listening socket. The next
hop of the other family is an address of the loopback (mended in 8.3); another is told over multihop alone.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from far_side import ROUTER_ID, FarSession, FarSide, Originated, Seen

from l3net.lab import rib_follower
from l3net.lab.host import python
from l3net.lab.routers import openbgpd_program

SOCKET = "/run/openbgpd/bgpd.sock.0"


class OpenBgpd(FarSide):
    """With `fib`, the lab's follower carries its best paths into the kernel."""

    kind = "openbgpd"
    fib = False

    def start(
        self,
        sessions: Iterable[FarSession],
        originated: Iterable[Originated],
        *,
        port: int = 179,
        again: bool = False,
    ) -> None:
        self.start_with(openbgpd_config(list(sessions), list(originated), port))
        if self.fib:
            self.spawn("rib-follower", [*python(), str(Path(rib_follower.__file__)), "openbgpd"])

    def start_with(self, text: str) -> None:
        """Run it with a configuration of the test's own."""
        config = self.write("bgpd.conf", text)
        Path(config).chmod(0o600)  # it refuses a file that others can read
        self.path(SOCKET).unlink(missing_ok=True)
        self.spawn("openbgpd", [openbgpd_program(), "-d", "-v", "-f", config])
        self.wait(lambda: self.control("show", "summary").startswith("Neighbor"), "OpenBGPD")

    def kill(self) -> None:
        """All its processes at once: the others say goodbye to the peers when the first is gone."""
        for name in self.daemons:
            pid = self.host.daemon_pid(name)
            self.run(["kill", f"-{int(signal.SIGKILL)}", "--", f"-{pid}"], check=False)
        self._reap()

    def control(self, *words: str) -> str:
        return self.run(["bgpctl", *words], check=False)

    def path_to(self, prefix: str) -> dict[str, Any] | None:
        """The node's path as its Loc-RIB has it."""
        try:
            rib = json.loads(self.control("-j", "show", "rib", "detail", prefix))["rib"]
        except (ValueError, KeyError):  # it tells nothing at all of a prefix it does not have
            return None
        paths: list[dict[str, Any]] = [each for each in rib if each["prefix"] == prefix]
        return next((each for each in paths if each["neighbor"].get("description") != "LOCAL"), None)

    def seen(self, prefix: str) -> Seen | None:
        path = self.path_to(prefix)
        if path is None:
            return None
        communities = [_numbers(each) for each in path.get("communities", ())]
        return Seen(
            path["exit_nexthop"],
            tuple(map(int, re.findall(r"\d+", path["aspath"]))),
            frozenset([*communities, *path.get("large_communities", ())]),
            path["metric"],
            path["localpref"],
            frozenset(map(_extended, filter(_named, path.get("extended_communities", ())))),
        )

    def refused(self, prefix: str) -> bool:
        """Whether the node has announced a prefix that policy keeps out of the Loc-RIB."""
        try:
            rib = json.loads(self.control("-j", "show", "rib", "table", "Adj-RIB-In"))["rib"]
        except (ValueError, KeyError):
            return False
        return any(each["prefix"] == prefix for each in rib) and self.path_to(prefix) is None

    def stale(self, prefix: str) -> bool:
        return bool((self.path_to(prefix) or {}).get("stale"))

    def notify(self, remote: str) -> None:
        self.run(["bgpctl", "neighbor", remote, "clear"])


_NAMES = {"GRACEFUL_SHUTDOWN": "65535:0", "BLACKHOLE": "65535:666", "NO_EXPORT": "65535:65281"}


def _numbers(community: str) -> str:
    return _NAMES.get(community, community)


def _named(told: str) -> bool:
    """Kinds that it does not know, such as link bandwidth, it tells as a number, and their values wrongly."""
    return not told.startswith("[")


def _extended(told: str) -> str:
    kind, _, value = told.partition(" ")
    return f"{kind}:{value}"


def _tags(one: Originated) -> str:
    words = [f"community {one.community}"] if one.community else []
    for each in one.extended:
        kind, _, value = each.partition(":")
        words.append(f"ext-community {kind} {value}")
    words += [f"nexthop {one.next_hop}"] if one.next_hop else []
    return f" set {{ {' '.join(words)} }}" if words else ""


def openbgpd_config(sessions: list[FarSession], originated: list[Originated], port: int) -> str:
    lines = [f"AS {sessions[0].local_as}", f"router-id {ROUTER_ID}", "connect-retry 1", "holdtime 9"]
    lines += [f"listen on {local} port {port}" for local in sorted({session.local for session in sessions})]
    lines += [f"network {one.prefix}{_tags(one)}" for one in originated]
    told = any(one.next_hop for one in originated)
    for session in sessions:
        lines += [
            f"neighbor {session.remote} {{",
            f" remote-as {session.remote_as}",
            f" port {session.remote_port}",
        ]
        for version in (4, 6):
            lines.append(f" announce IPv{version} {'unicast' if version in session.carried else 'none'}")
        if session.password:
            lines.append(f' tcp md5sig password "{session.password}"')
        else:
            lines.append(f" local-address {session.local}")
        if session.gtsm:
            lines.append(" ttl-security yes")
        if session.multihop is not None or told:
            lines.append(f" multihop {session.multihop or 2}")
        if not session.dials:
            lines.append(" passive")
        if not session.restart_time:
            lines.append(" announce restart no")
        lines.append("}")
    return "\n".join([*lines, "allow from any", "allow to any", "match to any set nexthop no-modify"]) + "\n"
