"""What kube-proxy has in the kernel: the tables of its nftables mode, the chain of its others."""

from __future__ import annotations

import subprocess
from typing import Final

from l3net.shell.kernel.nftcommand import find_nft

FAMILIES: Final = ("ip", "ip6")
#: Chain of table nat, in iptables and ipvs mode.
CHAIN: Final = "KUBE-SERVICES"
#: Seconds for nft.
TIMEOUT: Final = 10.0


def kube_proxy_tables() -> str:
    """The first of them as people write it; empty: there is none, or none that can be listed. What iptables
    keeps beside nftables (iptables-legacy) is not seen."""
    tables = _nft("list", "tables").splitlines()
    for family in FAMILIES:
        if f"table {family} kube-proxy" in tables:
            return f"table {family} kube-proxy"
    for family in FAMILIES:
        if f"table {family} nat" in tables and CHAIN in _nft("list", "chain", family, "nat", CHAIN):
            return f"chain {CHAIN} of table {family} nat"
    return ""


def _nft(*arguments: str) -> str:
    """What it says; nothing when it fails."""
    try:
        done = subprocess.run(
            [find_nft(), *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
