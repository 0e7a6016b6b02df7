"""The rig with a far side of any kind, a network namespace behind it, and streams of packets across."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from far_sides import FAR_SIDES, AnyFarSide, FarSession
from node_rig import CONFIGURATION, NODE, Rig, brought_up

from l3net.lab.host import Host

STREAM = Path(__file__).with_name("udp_stream.py")
BLOCKS = {4: "10.244.1.0/24", 6: "fd00:10:244:1::/120"}
#: An address of the node inside its block: the gateway of its pods.
IN_BLOCK = {4: "10.244.1.1", 6: "fd00:10:244:1::1"}
NODE_ADDRESS = {4: "10.90.0.1", 6: "fd90::1"}
FAR_ADDRESS = {4: "10.90.0.2", 6: "fd90::2"}
BEHIND = {4: "10.98.0.2", 6: "fd98::2"}
BEHIND_PREFIX = {4: "10.98.0.0/24", 6: "fd98::/64"}
ORIGINATED = {4: "192.168.7.0/24", 6: "fd77::/64"}
TAGGED = {4: "192.168.8.0/24", 6: "fd78::/64"}


def far_session(version: int = 4, **how: Any) -> FarSession:
    """The far side's session with the node, over IPv4 or IPv6."""
    return FarSession(FAR_ADDRESS[version], NODE_ADDRESS[version], **how)


def far_sessions() -> list[FarSession]:
    """One over each."""
    return [far_session(version) for version in (4, 6)]


def configuration(**spec: object) -> dict[str, Any]:
    return {**CONFIGURATION, "spec": {**CONFIGURATION["spec"], **spec}}  # type: ignore[dict-item]


class Stage(Rig):
    """`node`, `tor`, and `behind`: a network namespace that the tor routes to."""

    far: AnyFarSide | None = None

    def up(self) -> None:
        super().up()
        self.tor.run(["ip", "netns", "add", "behind"])
        self._net(self.tor, "link add behind0 type veth peer name eth0")
        self._net(self.tor, "link set behind0 up")
        self.tor.run(["ip", "link", "set", "eth0", "netns", "behind"])
        for template in ("10.98.0.{}/24", "fd98::{}/64 nodad"):
            first, second = (template.format(number).split() for number in (1, 2))
            self.tor.run(["ip", "addr", "add", "dev", "behind0", *first])
            self.tor.run(["ip", "addr", "add", "dev", "eth0", *second], pod="behind")
        for words in ("link set lo up", "link set eth0 up", "route add default via 10.98.0.1"):
            self.tor.run(["ip", *words.split()], pod="behind")
        self.tor.run(["ip", "-6", "route", "add", "default", "via", "fd98::1"], pod="behind")
        for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self.tor.run(["sh", "-c", f"echo 1 >/proc/sys/net/{name}"])

    def serve_node(self) -> None:
        """Speaker and agent, with no peer yet."""
        self.declare("node.yaml", NODE, configuration())
        self.start_speaker()
        self.start_agent()
        self.until(self.status, "the agent")

    def far_side(self, kind: str, pod: str | None = None) -> AnyFarSide:
        self.far = FAR_SIDES[kind](self.tor, pod)
        return self.far

    def clear(self) -> None:
        """No peer, no far side, no route of an earlier test's."""
        self.declare("node.yaml", NODE, configuration())
        (self.manifests / "secret.yaml").unlink(missing_ok=True)
        self.until(lambda: self.peers() == {}, "the peers to go")
        self.until(
            lambda: (
                "neighbor 10." not in self.speaker_config() and "neighbor fd" not in self.speaker_config()
            ),
            "ExaBGP's neighbours to go",
        )
        if self.far is not None:
            self.far.kill()
            self.far = None
        self.until(lambda: not self.learned(), "learned routes to go")

    # --- looking -----------------------------------------------------------------------------------------

    def inside(self, host: Host, path: str) -> Path:
        return Path(f"/proc/{host.pid}/root{path}")

    def speaker_config(self) -> str:
        try:
            return self.inside(self.node, "/run/l3net/exabgp.conf").read_text()
        except FileNotFoundError:
            return ""

    def paths(self) -> dict[str, dict[str, Any]]:
        """What the agent learned, by prefix."""
        return {row["prefix"]: row for row in self.asked("routes").get("routes", ())}

    def learned(self) -> dict[str, str]:
        """Prefix to next hop of the agent's routes in the node's kernel."""
        found = {}
        for version in (4, 6):
            for row in json.loads(self.kernel(f"-{version} -j route show proto 108") or "[]"):
                if "gateway" in row or "via" in row:  # RFC 8950: an IPv4 prefix has its IPv6 gateway in `via`
                    found[row["dst"]] = row.get("gateway") or row["via"]["host"]
        return found

    def counter(self, host: Host, name: str, pod: str | None = None) -> int:
        """A counter of a host's kernel: of /proc/net/netstat, snmp or snmp6 (in our own numbering)."""
        files = ("/proc/net/netstat", "/proc/net/snmp", "/proc/net/snmp6")
        text = host.run(["sh", "-c", f"cat {' '.join(files)}"], pod=pod).stdout
        flat = re.search(rf"^{name}\s+(\d+)$", text, re.MULTILINE)
        if flat:
            return int(flat[1])
        lines = text.splitlines()
        for head, values in pairwise(lines):
            names = head.split()
            if name in names and head.split(":")[0] == values.split(":")[0]:
                return int(values.split()[names.index(name)])
        return 0

    # --- streams -----------------------------------------------------------------------------------------

    def stream(self, version: int, packets: int, rate: int = 1000) -> None:
        """Start a stream each way between the node's address in its block and the one behind the tor."""
        for side, host, pod, here, there in self._ends(version):
            (host.directory / f"{side}.count").unlink(missing_ok=True)
            argv = [sys.executable, "-ISE", str(STREAM), here, there, str(packets), str(rate)]
            host.spawn(side, [*argv, str(host.directory / f"{side}.count")], pod=pod)

    def _ends(self, version: int) -> list[tuple[str, Host, str | None, str, str]]:
        return [
            ("stream-node", self.node, None, IN_BLOCK[version], BEHIND[version]),
            ("stream-behind", self.tor, "behind", BEHIND[version], IN_BLOCK[version]),
        ]

    def streamed(self, version: int, seconds: float) -> dict[str, int]:
        """Packets that did not arrive, by the side that should have received them, once both have ended."""
        ends = self._ends(version)
        files = [host.directory / f"{side}.count" for side, host, *_ in ends]
        self.until(lambda: all(file.exists() for file in files), "the streams to end", seconds)
        found = {}
        for (side, *_), file in zip(ends, files, strict=True):
            sent, received = map(int, file.read_text().split())
            found[side] = sent - received
        return found


@contextmanager
def served_stage() -> Iterator[Stage]:
    """A stage whose node serves, with no peer yet, for all tests of a module; each of them clears it."""
    with brought_up(Stage()) as stage:
        stage.serve_node()
        yield stage
