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


def bird_config(*, auth: str = "", multihop: bool = False, gateway: bool = True) -> str:
    """BIRD with BFD; `auth` are lines of a BFD interface, `multihop` peers from its loopback addresses."""
    options = f"min rx interval 100 ms; min tx interval 100 ms; multiplier 3; {auth}"
    where = "multihop" if multihop else 'interface "*"'
    parts = [
        "log stderr all; router id 10.90.0.2; protocol device { }",
        f"protocol bfd {{ {where} {{ {options} }}; }}",
    ]
    for version, local, far, prefix in (
        (4, "10.91.0.2" if multihop else "10.90.0.2", "10.90.0.1", "192.168.7.0/24"),
        (6, "fd91::2" if multihop else "fd90::2", "fd90::1", "fd77::/64"),
    ):
        how = "multihop 2" if multihop else "direct"
        parts += [
            f"protocol static s{version} {{ ipv{version}; route {prefix} blackhole; }}",
            f"protocol bgp n{version} {{ local {local} as 65002; neighbor {far} as 65001; {how}; bfd on;"
            " hold time 9; graceful restart on; connect delay time 1; connect retry time 1;"
            f" error wait time 1, 2; ipv{version} {{ import all; export all; next hop self; }}; }}",
        ]
    return "\n".join(parts) + "\n"


class BirdRig(BfdRig):
    """The router runs BIRD instead."""

    def start_bird(self, config: str, *, recover: bool = False) -> None:
        path = self.tor.directory / "bird.conf"
        path.write_text(config)
        self.tor.spawn("bird", ["bird", "-f", *(["-R"] if recover else []), "-c", str(path)])

    def birdc(self, *words: str) -> str:
        return self.tor.run(["birdc", *words]).stdout

    def bird_routes(self) -> set[str]:
        """Prefixes BIRD has from the node."""
        shown = self.birdc("show", "route")
        found, prefix = set(), ""
        for line in shown.splitlines():
            prefix = line.split()[0] if line and not line[0].isspace() else prefix
            if "[n4" in line or "[n6" in line:
                found.add(prefix)
        return found
