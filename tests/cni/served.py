"""The agent's CNI side as a program for a process of its own: `python -c AGENT BASE`."""

from __future__ import annotations

AGENT = """
import signal, sys
from ipaddress import ip_network
from pathlib import Path
from l3net.cni.setup import NodeNetwork
from l3net.ipam.ranges import first_address
from l3net.model import BridgePlan
from l3net.shell.kernel.bridge import KernelBridge
from l3net.attach.server import CniServer
base, blocks = Path(sys.argv[1]), [ip_network(each) for each in ("10.244.0.0/20", "fd00:10:244:1::/116")]
server = CniServer(base / "run" / "cni.sock", base / "state")
server.start()
gateways = frozenset((first_address(each), each.prefixlen) for each in blocks)
KernelBridge().apply(BridgePlan("l3net0", "02:6c:33:00:00:01", 1500, gateways))
server.update(NodeNetwork(tuple(blocks), 1500, cool_down=0))
print("ready", flush=True)
signal.pause()
"""
