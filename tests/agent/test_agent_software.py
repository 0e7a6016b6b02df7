"""What a peer says that it runs (draft-abraitis-bgp-version-capability), from its OPEN to the commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from node_rig import CONFIGURATION, FRR, NODE, TOR4, Rig

pytestmark = pytest.mark.netns

EXABGP = """
neighbor 10.90.0.1 {
    router-id 10.90.0.2; local-address 10.90.0.2; local-as 65002; peer-as 65001;
    family { ipv4 unicast; }
    capability { software-version enable; }
}
"""
#: Debian 12 has 8.4, which does not know it.
BGPD = Path("/usr/lib/frr/bgpd")
KNOWS = BGPD.exists() and b"capability software-version" in BGPD.read_bytes()


def exabgp(rig: Rig) -> str:
    """Undisturbed, at the far side."""
    file = rig.tor.directory / "exabgp.conf"
    file.write_text(EXABGP)
    environment = {
        **{"exabgp_api_cli": "false", "exabgp_daemon_user": "root"},
        **{"exabgp_tcp_bind": "10.90.0.2", "exabgp_tcp_port": "179"},
    }
    argv = [str(Path(sys.executable).parent / "exabgp"), "server", str(file)]
    rig.tor.spawn("exabgp", argv, environment=environment)
    return "ExaBGP/5.0.15"


def frr(rig: Rig) -> str:
    timers = " neighbor 10.90.0.1 timers connect 1\n"
    rig.start_tor(FRR.replace(timers, f"{timers} neighbor 10.90.0.1 capability software-version\n"))
    said = subprocess.check_output([str(BGPD), "--version"], text=True).split()
    return f"FRRouting/{said[2]}"


@pytest.mark.parametrize(
    "peer",
    [exabgp, pytest.param(frr, marks=pytest.mark.skipif(not KNOWS, reason="needs FRR 9.0 or newer"))],
)
def test_it_is_shown(rig: Rig, peer: object) -> None:
    software = peer(rig)  # type: ignore[operator]
    rig.declare("node.yaml", NODE, CONFIGURATION, TOR4)
    rig.start_speaker()
    rig.start_agent()
    rig.established("10.90.0.2")
    (row,) = rig.asked("neighbors")["neighbors"]
    assert row["negotiated"]["software"] == software
    assert "software-version" in row["negotiated"]["capabilities"]
    run = ["--run-dir", f"/proc/{rig.node.pid}/root/run/l3net"]
    command = [sys.executable, "-m", "l3net.cli.main"]
    told = subprocess.check_output([*command, "version", "--all", *run], text=True)
    assert f"peer tor4 {software}" in " ".join(told.split())
    told = subprocess.check_output([*command, "bgp", "neighbor", "tor4", *run], text=True)
    assert f"peer runs: {software}" in " ".join(told.split())
