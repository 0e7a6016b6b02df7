"""The rig of a node and a router with BFD at both ends: ours, and FRR's bfdd or BIRD's."""

from __future__ import annotations

import json
import sys
from typing import Any

from node_rig import CONFIGURATION, NODE, Rig, peer

FAST = {"minInterval": 100}
ADDRESSES = ("10.90.0.2", "fd90::2")

FRR_BFD = """
hostname tor
bfd
 profile fast
  detect-multiplier 3
  receive-interval 100
  transmit-interval 100
router bgp 65002
 bgp router-id 10.90.0.2
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
 bgp graceful-restart
 neighbor 10.90.0.1 remote-as 65001
 neighbor 10.90.0.1 timers connect 1
 neighbor 10.90.0.1 bfd profile fast
 neighbor fd90::1 remote-as 65001
 neighbor fd90::1 timers connect 1
 neighbor fd90::1 bfd profile fast
 address-family ipv4 unicast
  neighbor 10.90.0.1 activate
  network 192.168.7.0/24
 address-family ipv6 unicast
  neighbor fd90::1 activate
  network fd77::/64
"""

#: The far side goes silent in both directions, its links and daemons staying as they are.
SILENCE = """
table inet silence {
  chain in { type filter hook input priority -400; policy drop; }
  chain out { type filter hook output priority -400; policy drop; }
}
"""
ONLY_BFD = """
table inet silence {
  chain in { type filter hook input priority -400; udp dport { 3784, 4784 } drop; }
  chain out { type filter hook output priority -400; udp dport { 3784, 4784 } drop; }
}
"""
#: Hears nothing, but is heard.
DEAF = """
table inet silence {
  chain in { type filter hook input priority -400; policy drop; }
}
"""


class BfdRig(Rig):
    """With `l3net bfd` beside agent and speaker."""

    def start_bfd(self) -> None:
        self.node.spawn("bfd", [sys.executable, "-m", "l3net.cli.main", "bfd"])

    def start_tor(self, config: str = FRR_BFD) -> None:
        """FRR: zebra, bfdd and bgpd."""
        run = ["-d", "-A", "127.0.0.1"]
        path = self.tor.directory / "bgpd.conf"
        bfd, _, rest = config.partition("router bgp")
        (self.tor.directory / "bfdd.conf").write_text(bfd)
        path.write_text("hostname tor\nrouter bgp" + rest)
        self.tor.run(["zebra", *run])
        self.tor.run(["bfdd", "-d", "-f", str(self.tor.directory / "bfdd.conf")])
        self.tor.run(["bgpd", *run, "-f", str(path)])

    def start(self, **bfd: object) -> None:
        """Everything, with both sessions established and BFD up."""
        self.start_tor()
        self.declare_peers(**bfd)
        self.start_bfd()
        self.start_speaker()
        self.start_agent()
        self.established(*ADDRESSES)
        self.watched(*ADDRESSES)

    def declare_peers(self, **bfd: object) -> None:
        peers = [peer(f"tor{n}", address, bfd={**FAST, **bfd}) for n, address in enumerate(ADDRESSES)]
        self.declare("node.yaml", NODE, CONFIGURATION, *peers)

    def bfd(self, address: str) -> dict[str, Any]:
        """The BFD part of a peer's status."""
        found: dict[str, Any] = self.peers().get(address, {}).get("bfd") or {}
        return found

    def watched(self, *addresses: str) -> None:
        self.until(
            lambda: all(self.bfd(address).get("state") == "Up" for address in addresses), "BFD to be up"
        )

    def tor_bfd(self) -> dict[str, dict[str, Any]]:
        """What FRR says of its BFD sessions, by our address."""
        return {row["peer"]: row for row in json.loads(self.vtysh("show bfd peers json"))}

    def silence(self, rules: str = SILENCE) -> None:
        self.tor.run(["nft", "-f", "-"], text=rules)

    def speak(self) -> None:
        self.tor.run(["nft", "delete", "table", "inet", "silence"])

    def learned(self) -> set[str]:
        """Prefixes of ours in the kernel with a next hop."""
        text = self.kernel("-4 route show proto 108") + self.kernel("-6 route show proto 108")
        return {line.split()[0] for line in text.splitlines() if "via" in line}
